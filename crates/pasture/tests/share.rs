//! A model passed on: a derivative of three steps (tune → merge → quantize) keeps the licence and the lineage of its base in
//! `show`, in its card and in a bundle; a bundle answers the same elsewhere, without a network, and a changed one is refused.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf")
}

/// A machine: a home of its own, and nothing else.
struct Machine {
    home: tempfile::TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine { home: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_by(Command::new(env!("CARGO_BIN_EXE_pasture")), arguments)
    }

    fn run_by(&self, mut command: Command, arguments: &[&str]) -> Output {
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("the program that was built runs")
    }

    /// What a command that must succeed says.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?}\n{errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.says(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).expect(&text)
    }

    /// What a command that must fail says, and its status.
    fn refuses(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A base under the Llama 3.2 licence, and what three steps make of it.
    fn with_derivative() -> Machine {
        let machine = Machine::new();
        let starter = starter();
        machine.says(&["export", starter.to_str().expect("UTF-8"), "--to", "base"]);
        let card = "---\nlicense: llama3.2\n---\n# A base\n";
        fs::write(machine.path("base/README.md"), card).expect("a card can be written");
        fs::remove_file(machine.path("base/pasture.json")).expect("the record of the export was there");
        fs::write(machine.path("base/LICENSE"), "LLAMA 3.2 COMMUNITY LICENSE AGREEMENT\n")
            .expect("a licence can be written");
        let line = |at: usize| format!("{{\"text\": \"line {at} says {} and {}\"}}\n", at * 7 % 13, at % 5);
        fs::write(machine.path("data.jsonl"), (0..8).map(line).collect::<String>()).expect("data can be written");
        let tune = ["tune", "base", "data.jsonl", "--out", "adapter", "--steps", "2", "--batch", "2", "--rank", "2"];
        machine.says(&[&tune[..], &["--report=false", "--held-out", "0"]].concat());
        machine.says(&["merge", "base", "--adapter", "adapter", "--to", "merged"]);
        machine.says(&["quantize", "merged", "small.gguf", "--type", "Q4_0"]);
        machine
    }
}

const ATTRIBUTION: &str = "show \"Built with Llama\"";

#[test]
fn three_steps_keep_licence_and_lineage() {
    let machine = Machine::with_derivative();
    let lineage = machine.json(&["lineage", "small.gguf"]);
    let works = lineage["works"].as_array().expect("a list of works");
    let names: Vec<&str> = works.iter().filter_map(|work| work["name"].as_str()).collect();
    assert_eq!(names, ["small.gguf", "merged", "adapter", "base"]);
    let steps: Vec<&str> = works.iter().filter_map(|work| work["step"]["kind"].as_str()).collect();
    assert_eq!(steps, ["quantize", "merge", "tune"]);
    assert_eq!(works[2]["step"]["recipe"]["rank"], 2);
    assert_eq!(works[1]["digest"].as_str().map(str::len), Some(71));
    assert_eq!(lineage["licences"][0]["id"], "llama3.2");
    // What lineage writes into a file is no unknown key.
    machine.says(&["show", "small.gguf", "--strict"]);
    // In `show`, in the cards, and beside the weights.
    for model in ["small.gguf", "merged", "adapter"] {
        let shown = machine.says(&["show", model]);
        assert!(shown.contains(ATTRIBUTION), "{model}: {shown}");
    }
    for folder in ["merged", "adapter"] {
        let card = fs::read_to_string(machine.path(folder).join("README.md")).expect("a card");
        for part in ["license: \"llama3.2\"", "base_model:\n- \"base\"", ATTRIBUTION, "- holds: Llama 3.2"] {
            assert!(card.contains(part), "{folder} lacks {part}: {card}");
        }
        for (file, part) in [("NOTICE", "Llama 3.2 is licensed under"), ("LICENSE", "LLAMA 3.2 COMMUNITY")] {
            let text = fs::read_to_string(machine.path(folder).join(file)).expect(file);
            assert!(text.contains(part), "{folder}/{file}: {text}");
        }
    }
    // A GGUF file has no files beside it: an export writes them out again.
    machine.says(&["export", "small.gguf", "--to", "again"]);
    let notice = fs::read_to_string(machine.path("again/NOTICE")).expect("the notice came along");
    assert!(notice.contains("Llama 3.2 is licensed under"), "{notice}");
    assert_eq!(machine.json(&["lineage", "again"])["works"].as_array().map(Vec::len), Some(5));
    let drawn = machine.says(&["lineage", "small.gguf", "--svg", "small.svg"]);
    assert_eq!(drawn, "small.svg: 4 works\n");
    assert!(fs::read_to_string(machine.path("small.svg")).expect("a drawing").starts_with("<svg "));
}

/// What a model says to one question, token by token.
fn answer(machine: &Machine, command: Command, model: &str) -> Vec<u8> {
    let output =
        machine.run_by(command, &["generate", model, "A token is", "--temperature", "0", "--max-tokens", "12"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pasture"))
}

/// The program in a namespace without a network; the program as it is where this machine makes none.
fn program_alone() -> Command {
    let can = Command::new("unshare").args(["-r", "-n", "true"]).output().is_ok_and(|output| output.status.success());
    if !can {
        println!("skipped: no network namespace here; the answer is compared without one");
        return program();
    }
    let mut command = Command::new("unshare");
    command.args(["-r", "-n", env!("CARGO_BIN_EXE_pasture")]);
    command
}

#[test]
fn a_bundle_answers_the_same_elsewhere_without_a_network() {
    let (here, there) = (Machine::with_derivative(), Machine::new());
    let key = here.json(&["trust", "init"])["key"].as_str().expect("a key").to_owned();
    here.says(&["bundle", "small.gguf", "base", "adapter", "-o", "kit.pasture", "--name", "kit"]);
    here.says(&["bundle", "small.gguf", "base", "adapter", "-o", "same.pasture", "--name", "kit"]);
    let bytes = fs::read(here.path("kit.pasture")).expect("a bundle");
    assert!(bytes == fs::read(here.path("same.pasture")).expect("a bundle"), "the same input gives the same bytes");
    fs::write(there.path("kit.pasture"), &bytes).expect("the bundle can be carried");
    // A key that nobody here knows is named, and nothing is written.
    let (status, told) = there.refuses(&["unbundle", "kit.pasture"]);
    assert!(status == Some(65) && told.contains(&key), "{status:?} {told}");
    assert!(!there.path(".local").exists());
    there.says(&["trust", "add", "here", &key]);
    assert!(there.says(&["bundle", "--verify", "kit.pasture"]).contains("signed by \"here\""));
    let output = there.run_by(program_alone(), &["unbundle", "kit.pasture"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (ours, theirs) in [("small.gguf", "small"), ("base", "base")] {
        assert_eq!(answer(&here, program(), ours), answer(&there, program_alone(), theirs), "{ours}");
    }
    // Lineage and licence came along.
    assert!(there.says(&["show", "small"]).contains(ATTRIBUTION));
    assert_eq!(there.json(&["lineage", "small"])["works"].as_array().map(Vec::len), Some(4));
    assert_eq!(there.json(&["lineage", "adapter"])["licences"][0]["id"], "llama3.2");
    // Once more changes nothing.
    assert!(there.says(&["unbundle", "kit.pasture"]).contains("was there already"));
    let manifest = there.json(&["bundle", "--verify", "kit.pasture"]);
    assert_eq!(manifest["works"][0]["terms"]["licences"][0], "llama3.2");
}

#[test]
fn a_bundle_that_was_changed_is_refused_at_a_hundred_places() {
    let machine = Machine::new();
    machine.says(&["trust", "init"]);
    fs::copy(starter(), machine.path("starter.gguf")).expect("the starter can be copied");
    machine.says(&["bundle", "starter.gguf", "-o", "whole.pasture"]);
    let bytes = fs::read(machine.path("whole.pasture")).expect("a bundle");
    let mut state = 20_260_101_u64;
    for _ in 0..100 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(state >> 20).unwrap_or(0) % bytes.len();
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (state % 8);
        fs::write(machine.path("bent.pasture"), bent).expect("a changed bundle can be written");
        let (status, told) = machine.refuses(&["bundle", "--verify", "bent.pasture"]);
        assert!(status == Some(65) && told.contains("bent.pasture"), "byte {at}: {status:?} {told}");
    }
    let (_, told) = machine.refuses(&["unbundle", "bent.pasture"]);
    assert!(told.contains("bent.pasture"), "{told}");
}

#[test]
fn a_bundle_is_run_by_its_file() {
    let machine = Machine::new();
    machine.says(&["trust", "init"]);
    fs::copy(starter(), machine.path("grazer.gguf")).expect("the starter can be copied");
    machine.says(&["bundle", "grazer.gguf", "-o", "grazer.pasture"]);
    let ask = ["generate", "grazer.pasture", "A token is", "--temperature", "0", "--max-tokens", "4"];
    let first = machine.run(&ask);
    let told = String::from_utf8_lossy(&first.stderr).into_owned();
    assert!(first.status.success() && told.contains("unpacked"), "{told}");
    let second = machine.run(&ask);
    assert_eq!(first.stdout, second.stdout);
    assert!(!String::from_utf8_lossy(&second.stderr).contains("unpacked"));
}
