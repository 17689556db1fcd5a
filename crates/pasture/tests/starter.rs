//! The starter answers as its recipe computed: same prompt ids, same likeliest answers, through the program.
//! Holds file reading, tokenizer, template, forward and sampling together; says nothing about speed.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn starter(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter").join(name)
}

fn pasture(arguments: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pasture")).args(arguments).output().expect("the program that was built runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("`--json` prints one object")
}

fn check_cases(check: impl Fn(&str, &Value)) {
    let text = std::fs::read(starter("expected.json")).expect("the expected answers can be read");
    let expected: Value = serde_json::from_slice(&text).expect("the expected answers are JSON");
    let cases = expected["cases"].as_array().expect("a list of cases");
    assert!(cases.len() >= 10);
    let model = starter("starter.gguf");
    for case in cases {
        check(model.to_str().expect("the path is UTF-8"), case);
    }
}

fn list(ids: &Value) -> String {
    let ids: Vec<String> = ids.as_array().expect("a list of ids").iter().map(Value::to_string).collect();
    ids.join(",")
}

#[test]
fn a_conversation_becomes_the_ids_that_it_was_trained_as() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    check_cases(|model, case| {
        let file = folder.path().join("messages.json");
        let request = serde_json::json!({"messages": case["messages"], "add_generation_prompt": true});
        std::fs::write(&file, request.to_string()).expect("the messages can be written");
        let file = file.to_str().expect("the path is UTF-8");
        let shown = pasture(&["template", model, "--messages", file, "--json"]);
        assert_eq!(list(&shown["ids"]), list(&case["prompt_ids"]), "{}", case["messages"]);
    });
}

#[test]
fn the_likeliest_answers_are_those_of_the_recipe() {
    check_cases(|model, case| {
        let (prompt, count) =
            (list(&case["prompt_ids"]), case["ids"].as_array().expect("a list of ids").len().to_string());
        let shared = ["--max-tokens", &count, "--temperature", "0", "--ignore-eos", "--exact", "--json"];
        for chunk in ["1", "16", "512"] {
            let mut arguments = vec!["generate", model, "--ids", &prompt, "--chunk", chunk];
            arguments.extend(shared);
            let answer = pasture(&arguments);
            assert_eq!(list(&answer["ids"]), list(&case["ids"]), "{} in chunks of {chunk}", case["messages"]);
        }
    });
}

#[test]
fn ids_become_the_text_of_the_answer() {
    check_cases(|model, case| {
        let text = case["text"].as_str().expect("a text");
        let shown = pasture(&["tokenize", model, text, "--json"]);
        assert_eq!(shown["decoded"], *text, "{text:?}");
    });
}
