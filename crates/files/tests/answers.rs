//! Answers taken apart: marks of every kind, whole and letter by letter, and formats found by asking templates.
#![allow(clippy::unwrap_used, reason = "a test may")]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::fs;

use pasture_files::prompt::Prompt;
use pasture_files::prompt::answer::{AnswerFormat, CallForm, Calls, Marks, Said};

fn calls(open: &str, close: &str, form: CallForm) -> AnswerFormat {
    let calls = Calls { open: open.into(), between: None, close: close.into(), form };
    AnswerFormat { calls: Some(calls), ..AnswerFormat::default() }
}

fn objects(open: &str, close: &str) -> AnswerFormat {
    calls(open, close, CallForm::Object("arguments".into()))
}

fn thinking() -> AnswerFormat {
    AnswerFormat {
        reasoning: Some(Marks { open: "<think>".into(), close: "</think>".into() }),
        ..objects("<tool_call>\n", "\n</tool_call>")
    }
}

/// Thoughts, text, and calls as `name(arguments)`, joined.
fn joined(said: Vec<Said>) -> (String, String, Vec<String>) {
    let mut all = (String::new(), String::new(), Vec::new());
    for said in said {
        match said {
            Said::Reasoning(text) => all.0.push_str(&text),
            Said::Text(text) => all.1.push_str(&text),
            Said::Call { name, arguments } => all.2.push(format!("{name}({arguments})")),
        }
    }
    all
}

/// An answer means the same in one piece and letter by letter.
fn check(format: &AnswerFormat, prompt: &str, answer: &str, wanted: (&str, &str, &[&str])) {
    let tools = vec!["look".to_owned()];
    let whole = joined(format.parser(prompt, tools.clone()).whole(answer));
    let calls: Vec<String> = wanted.2.iter().map(|call| (*call).to_owned()).collect();
    assert_eq!(whole, (wanted.0.to_owned(), wanted.1.to_owned(), calls), "{answer}");
    let mut parser = format.parser(prompt, tools);
    let mut said = Vec::new();
    answer.chars().for_each(|letter| said.extend(parser.push(&letter.to_string())));
    said.extend(parser.finish());
    assert_eq!(joined(said), whole, "letter by letter: {answer}");
}

#[test]
fn thoughts_are_told_from_text() {
    let format = thinking();
    check(&format, "", "<think>\nhm, 1 < 2\n</think>\n\nYes.", ("\nhm, 1 < 2", "Yes.", &[]));
    check(&format, "assistant\n<think>\n", "hm\n</think>\n\nYes.", ("hm", "Yes.", &[]));
    check(&format, "", "Yes, <thinking> is text.", ("", "Yes, <thinking> is text.", &[]));
    check(&format, "", "<think>cut of", ("cut of", "", &[]));
    check(&format, "", "<thi", ("", "<thi", &[]));
    check(&format, "", "\n Hello", ("", "\n Hello", &[]));
}

#[test]
fn calls_are_told_from_text() {
    let call = "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"a } sky\"}}\n</tool_call>";
    let made = "look({\"at\":\"a } sky\"})";
    check(&thinking(), "", call, ("", "", &[made]));
    check(&thinking(), "", &format!("I look.\n{call}\n{call}"), ("", "I look.", &[made, made]));
    check(&thinking(), "", &format!("<think>hm</think>\n{call}"), ("hm", "", &[made]));
    check(&thinking(), "", "<tool_call>\nno JSON", ("", "<tool_call>\nno JSON", &[]));
    check(&thinking(), "", "<tool_call>\n{\"name\": \"look\"", ("", "<tool_call>\n{\"name\": \"look\"", &[]));
    check(&thinking(), "", "a <tool_ b", ("", "a <tool_ b", &[]));
    let list = "[TOOL_CALLS][{\"name\": \"look\", \"arguments\": {}}, {\"name\": \"look\", \"arguments\": {\"a\": 1}}]";
    check(&objects("[TOOL_CALLS][", "]"), "", list, ("", "", &["look({})", "look({\"a\":1})"]));
    let named = calls("[TOOL_CALLS]", "", CallForm::Named("[ARGS]".into()));
    let two = "Hm.[TOOL_CALLS]look[ARGS]{\"a\": 1}[TOOL_CALLS]look[ARGS]{}";
    check(&named, "", two, ("", "Hm.", &["look({\"a\":1})", "look({})"]));
}

#[test]
fn a_call_without_marks_is_known_by_its_tool() {
    let bare = calls("", "", CallForm::Object("parameters".into()));
    check(&bare, "", "{\"name\": \"look\", \"parameters\": {\"a\": 1}}", ("", "", &["look({\"a\":1})"]));
    check(
        &bare,
        "",
        "{\"name\": \"other\", \"parameters\": {}}",
        ("", "{\"name\": \"other\", \"parameters\": {}}", &[]),
    );
    check(&bare, "", "{\"a\": 1} is an object", ("", "{\"a\": 1} is an object", &[]));
    check(&bare, "", "Hello {\"name\": \"look\"}", ("", "Hello {\"name\": \"look\"}", &[]));
}

#[test]
fn channels_say_whose_a_part_is() {
    let format = AnswerFormat { channels: true, ..calls("", "", CallForm::Named(String::new())) };
    let answer = "<|channel|>analysis<|message|>hm < 2<|end|><|start|>assistant<|channel|>final<|message|>Yes.";
    check(&format, "", answer, ("hm < 2", "Yes.", &[]));
    let call = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.look \
                <|constrain|>json<|message|>{\"a\": 1}<|call|>";
    check(&format, "", call, ("hm", "", &["look({\"a\":1})"]));
    let other = " to=functions.look<|channel|>commentary json<|message|>{}<|call|>";
    check(&format, "", other, ("", "", &["look({})"]));
    check(&format, "", "plain text", ("", "plain text", &[]));
}

#[test]
fn a_templates_way_of_calling_is_found_by_asking_it() {
    let Some(kit) = kit::folder(".") else { return };
    let format = |template: &str| {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = kit.join("hostile/model/valid/tokenizer.json");
        fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
        let source = fs::read_to_string(kit.join("assets/chat-templates").join(template)).unwrap();
        fs::write(folder.path().join("chat_template.jinja"), source).unwrap();
        Prompt::open(folder.path(), None).unwrap().answer_format().clone()
    };
    let object = || CallForm::Object("arguments".into());
    let hermes = format("llama.cpp/Qwen-Qwen2.5-7B-Instruct.jinja").calls.unwrap();
    assert_eq!((hermes.open.as_str(), hermes.close.as_str()), ("<tool_call>\n", "\n</tool_call>"));
    assert_eq!(hermes.form, object());
    assert_eq!(hermes.between.as_deref(), Some("\n</tool_call>\n<tool_call>\n"));
    let list = format("llama.cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja").calls.unwrap();
    assert_eq!((list.open.as_str(), list.form.clone()), ("[TOOL_CALLS][", object()));
    assert!(list.close.starts_with(']'), "{list:?}");
    let thinks = format("llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja").reasoning.unwrap();
    assert_eq!((thinks.open.as_str(), thinks.close.as_str()), ("<think>", "</think>"));
    let plain = format("chujiezheng/chatml.jinja");
    assert!(plain.reasoning.is_none() && !plain.channels, "{plain:?}");
}
