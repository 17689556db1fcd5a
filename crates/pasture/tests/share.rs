//! A model passed on: a derivative of three steps (tune → merge → quantize) keeps the licence and the lineage of its base in
//! `show`, in its card and in a bundle; a bundle of models or of a tuned assistant answers the same elsewhere, without a
//! network, and a changed one is refused.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
            .env("PASTURE_RECEIPT", "none")
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

    /// A base under the Llama 3.2 licence, and an adapter of it.
    fn with_adapter() -> Machine {
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
        let tune = ["tune", "base", "data.jsonl", "--out", "adapter", "--steps", "4", "--batch", "4", "--rank", "2"];
        machine.says(&[&tune[..], &["--learning-rate", "0.02", "--report=false", "--held-out", "0"]].concat());
        machine
    }

    /// The same, and what two more steps make of it.
    fn with_derivative() -> Machine {
        let machine = Machine::with_adapter();
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

/// What a model answers in a conversation of one question.
fn chatted(machine: &Machine, mut command: Command, model: &str) -> Vec<u8> {
    command.args(["chat", model]).current_dir(machine.home.path()).env_clear().env("HOME", machine.home.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program that was built runs");
    child.stdin.take().expect("a pipe").write_all(b"What is the ship called?\n").expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && !output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_tuned_assistant_answers_the_same_elsewhere_without_a_network() {
    let (here, there, stranger) = (Machine::with_adapter(), Machine::new(), Machine::new());
    fs::write(here.path("ship.txt"), "The ship is called Wool.\n").expect("a document can be written");
    let file = "base = \"base\"\nsystem = \"You are a pirate.\"\nstop = [\"zzz\"]\ndocuments = [\"ship.txt\"]\n\
                adapters = [{ path = \"adapter\", weight = 8 }]\n[settings]\ntemperature = 0\nmax_tokens = 12\n";
    fs::write(here.path("pirate.toml"), file).expect("an assistant can be written");
    here.says(&["create", "pirate", "-f", "pirate.toml"]);
    let answer = chatted(&here, program(), "pirate");
    let plain = file.replace("adapters = [{ path = \"adapter\", weight = 8 }]\n", "");
    fs::write(here.path("plain.toml"), plain).expect("an assistant can be written");
    here.says(&["create", "plain", "-f", "plain.toml"]);
    assert!(answer != chatted(&here, program(), "plain"), "the adapter changes the answer");
    let key = here.json(&["trust", "init"])["key"].as_str().expect("a key").to_owned();
    here.says(&["bundle", "pirate", "--to", "pirate.pasture"]);
    here.says(&["bundle", "pirate", "-o", "same.pasture"]);
    let bytes = fs::read(here.path("pirate.pasture")).expect("a bundle");
    assert!(bytes == fs::read(here.path("same.pasture")).expect("a bundle"), "the same input gives the same bytes");
    // A signature that nobody here knows is refused by its key, and a flipped byte by its piece.
    fs::write(there.path("pirate.pasture"), &bytes).expect("the bundle can be carried");
    let (status, told) = there.refuses(&["unbundle", "pirate.pasture"]);
    assert!(status == Some(65) && told.contains(&key) && !there.path(".local").exists(), "{status:?} {told}");
    there.says(&["trust", "add", "here", &key]);
    let manifest = there.json(&["bundle", "--verify", "pirate.pasture"]);
    check_flipped(&there, &bytes, &manifest);
    let output = there.run_by(program_alone(), &["unbundle", "pirate.pasture"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(answer, chatted(&there, program_alone(), "pirate"));
    // A file that is named as a model is unpacked, and is the assistant.
    stranger.says(&["trust", "add", "here", &key]);
    fs::write(stranger.path("pirate.pasture"), &bytes).expect("the bundle can be carried");
    assert_eq!(answer, chatted(&stranger, program_alone(), "pirate.pasture"));
    // Its paths count from its folder, and what it was made of and what that asks came along.
    let folder = there.path(".local/share/pasture/works/pirate");
    let text = fs::read_to_string(folder.join("assistant.toml")).expect("the assistant's own file");
    assert!(text.contains("adapters/0") && text.contains("Wool") && !text.contains("/base"), "{text}");
    for (file, part) in
        [("NOTICE", "Llama 3.2 is licensed"), ("LICENSE", "LLAMA 3.2"), ("README.md", "adapter: adapter")]
    {
        assert!(fs::read_to_string(folder.join(file)).expect(file).contains(part), "{file}");
    }
    let lineage = there.json(&["lineage", "pirate"]);
    assert_eq!(lineage, here.json(&["lineage", "pirate"]));
    let works = lineage["works"].as_array().expect("a list of works");
    let names: Vec<&str> = works.iter().filter_map(|work| work["name"].as_str()).collect();
    assert_eq!((names, &lineage["licences"][0]["id"]), (vec!["pirate", "adapter", "base"], &Value::from("llama3.2")));
    assert_eq!((&works[0]["step"]["kind"], &works[0]["step"]["recipe"]["max_tokens"]), (&"create".into(), &12.into()));
    // From there it goes on: packed again it is the same assistant.
    there.says(&["trust", "init"]);
    there.says(&["bundle", "pirate", "-o", "again.pasture"]);
    let again = there.json(&["bundle", "--verify", "again.pasture"]);
    assert_eq!(again["pieces"], manifest["pieces"]);
    let (status, told) = there.refuses(&["quantize", "pirate", "small.gguf", "--type", "Q4_0"]);
    assert!(status == Some(2) && told.contains("is an assistant"), "{status:?} {told}");
}

/// One flipped bit in a weight, in the adapter and in the assistant's own file: each is refused by the piece's name.
fn check_flipped(machine: &Machine, bytes: &[u8], manifest: &Value) {
    let ends: Vec<u64> = manifest["pieces"].as_array().expect("pieces").iter().map(end).collect();
    let start = bytes.len() as u64 - ends.last().expect("a piece").next_multiple_of(64);
    for (piece, end) in manifest["pieces"].as_array().expect("pieces").iter().zip(ends) {
        let path = piece["path"].as_str().expect("a path");
        if !["/model.safetensors", "/adapters/0/adapter_model.safetensors", "/assistant.toml"]
            .iter()
            .any(|one| path.ends_with(one))
        {
            continue;
        }
        let mut bent = bytes.to_vec();
        bent[usize::try_from(start + end - 1).expect("it fits")] ^= 1;
        fs::write(machine.path("bent.pasture"), bent).expect("a changed bundle can be written");
        for verb in
            [&["bundle", "--verify", "bent.pasture"][..], &["unbundle", "bent.pasture"], &["chat", "bent.pasture"]]
        {
            let (status, told) = machine.refuses(verb);
            assert!(status == Some(65) && told.contains(path), "{verb:?} {path}: {status:?} {told}");
        }
    }
}

/// Where a piece ends, counted from the first.
fn end(piece: &Value) -> u64 {
    piece["offset"].as_u64().expect("an offset") + piece["bytes"].as_u64().expect("a length")
}

#[test]
fn an_assistant_of_the_starter_goes_with_its_model() {
    let (here, there) = (Machine::new(), Machine::new());
    fs::write(here.path("a.toml"), "base = \"starter\"\n[settings]\ntemperature = 0\nmax_tokens = 8\n")
        .expect("a file");
    here.says(&["create", "grazer", "-f", "a.toml"]);
    here.says(&["bundle", "grazer", "-o", "grazer.pasture", "--unsigned"]);
    fs::copy(here.path("grazer.pasture"), there.path("grazer.pasture")).expect("the bundle can be carried");
    there.says(&["unbundle", "grazer.pasture", "--unsigned"]);
    assert_eq!(chatted(&here, program(), "grazer"), chatted(&there, program(), "grazer"));
    assert!(there.says(&["list"]).contains("grazer"));
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
