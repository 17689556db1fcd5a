//! What the program says and how it ends, verb by verb, where no model has to run.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Output};

/// Runs the program in an empty folder with an empty environment and the given variables.
fn pasture_with(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pasture"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .envs(variables.iter().copied())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program that was built runs")
}

/// Checks status, and that both outputs hold what they must.
fn check(variables: &[(&str, &str)], arguments: &[&str], status: i32, out: &str, err: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = pasture_with(folder.path(), variables, arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let shown = format!("{arguments:?}: {:?}\n{stdout}\n{stderr}", output.status);
    assert_eq!(output.status.code(), Some(status), "{shown}");
    assert!(stdout.contains(out), "standard output lacks {out:?}: {shown}");
    assert!(stderr.contains(err), "standard error lacks {err:?}: {shown}");
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let verbs = [
        "chat",
        "generate",
        "tokenize",
        "detokenize",
        "template",
        "show",
        "list",
        "check",
        "logits",
        "config",
        "doctor",
        "completions",
        "man",
    ];
    for verb in verbs {
        check(&[], &[verb, "--help"], 0, "Example", "");
    }
}

#[test]
fn the_status_says_what_was_wrong() {
    for (arguments, status, err) in [
        (&["sing"][..], 2, "unrecognized subcommand"),
        (&["show", "no/such/model.gguf"], 66, "no/such/model.gguf"),
        (&["generate", "x.gguf", "hello", "--top-p", "7"], 2, "at most 1"),
        (&["generate", "x.gguf", "hello", "--system", "x"], 2, "--system"),
        (&["tokenize", "x", "text", "--temperature", "1"], 2, "--temperature"),
        (&["chat", "--image", "x.png"], 69, "--image"),
    ] {
        check(&[], arguments, status, "", err);
    }
}

#[test]
fn a_setting_tells_where_it_is_from() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("pasture.toml"), "top_k = 5\nthreads = 3\n").expect("settings can be written");
    let variables = [("PASTURE_THREADS", "2")];
    let output = pasture_with(folder.path(), &variables, &["config", "--show-origin", "--temperature", "0.5"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for line in ["temperature = 0.5  # flag", "threads = 2  # variable", "top_k = 5  # pasture.toml"] {
        assert!(text.contains(line), "{text} lacks {line:?}");
    }
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("pasture.toml"), "temprature = 0.5\n").expect("settings can be written");
    let output = pasture_with(folder.path(), &[], &["config"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{text}");
    assert!(text.contains("temprature") && text.contains("\"temperature\""), "{text}");
}

#[test]
fn a_wrong_variable_is_an_error_that_names_it() {
    check(&[("PASTURE_TOP_P", "7")], &["config"], 2, "", "PASTURE_TOP_P");
}

#[test]
fn machines_get_one_object() {
    for arguments in [&["config", "--json"][..], &["doctor", "--json"], &["list", "--json"]] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = pasture_with(folder.path(), &[], arguments);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert!(value.is_object() && output.status.success(), "{arguments:?}");
    }
}

#[test]
fn shells_and_man_get_their_pages() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        check(&[], &["completions", shell], 0, "pasture", "");
    }
    check(&[], &["man", "chat"], 0, ".TH", "");
    check(&[], &["man", "sing"], 2, "", "no verb");
}
