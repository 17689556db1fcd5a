//! The verb `tune` as a program: killed at random moments it goes on to the same bits; signals end it with a checkpoint;
//! what it trained whole or from a configuration alone runs.
//!
//! PASTURE_KILLS says how often it is killed. Where strace is installed and PASTURE_KILLS is set, it is also killed at
//! every system call by which a checkpoint is written.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 2048, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    "hidden_act": "silu", "rope_theta": 10000.0}"#;

/// Kills where nobody says how many.
const KILLS: u64 = 3;

fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../starter/starter.gguf")
}

/// A folder with data, a configuration and a small model that was made from it.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary folder");
    let line = |at: usize| format!("{{\"text\": \"line {at} says {} and {}\"}}\n", at * 7 % 13, at % 5);
    let data: String = (0..24).map(line).collect();
    fs::write(place.path().join("data.jsonl"), data).expect("the data can be written");
    fs::write(place.path().join("config.json"), CONFIG).expect("the configuration can be written");
    let starter = starter();
    let scratch = ["--from-scratch", "config.json", "--steps", "2", "--batch", "4", "--held-out", "0"];
    let output = pasture(
        place.path(),
        &[&[starter.to_str().expect("UTF-8"), "data.jsonl", "--out", "base"], &scratch[..]].concat(),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place
}

/// The program, which would ask what this test's own variable means; what it makes is measured where a flag says so.
fn program(place: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pasture"));
    command.current_dir(place).env_remove("PASTURE_KILLS").env("PASTURE_RECEIPT", "none");
    command
}

fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = program(place);
    command.arg("tune").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn pasture(place: &Path, arguments: &[&str]) -> Output {
    command(place, arguments).output().expect("the program that was built runs")
}

const RUN: [&str; 17] = [
    "base",
    "data.jsonl",
    "--rank",
    "2",
    "--steps",
    "40",
    "--batch",
    "4",
    "--checkpoint-every",
    "4",
    "--evaluate-every",
    "0",
    "--learning-rate",
    "0.01",
    "--held-out",
    "0.1",
    "--report=false",
];

fn result(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("adapter_model.safetensors")).expect("an adapter was written")
}

/// Goes on until the run is through, however often it ends before.
fn finish(place: &Path, out: &str) -> Vec<u8> {
    let output = pasture(place, &[&RUN[..], &["--out", out, "--resume"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    result(&place.join(out))
}

fn kill(mut child: Child, after: Duration) {
    std::thread::sleep(after);
    // One that is through already is as good.
    drop(child.kill());
    child.wait().expect("it ended");
}

#[test]
fn a_run_that_is_killed_at_random_moments_comes_to_the_same_bits() {
    let place = place();
    let begin = std::time::Instant::now();
    let output = pasture(place.path(), &[&RUN[..], &["--out", "whole"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (wanted, length) = (result(&place.path().join("whole")), begin.elapsed());
    let kills = std::env::var("PASTURE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for number in 0..kills {
        // Moments spread over the run by the golden ratio: the same in each test.
        let share = (number + 1) as f64 * 0.618_034 % 1.0;
        let child = command(place.path(), &[&RUN[..], &["--out", "killed", "--resume"]].concat()).spawn();
        kill(child.expect("it starts"), length.mul_f64(share));
        if number % 2 == 0 {
            assert!(finish(place.path(), "killed") == wanted, "killed after {share:.2} of the run");
            fs::remove_dir_all(place.path().join("killed")).expect("the folder can be removed");
        }
    }
    let has_strace =
        Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if std::env::var_os("PASTURE_KILLS").is_none() || !has_strace {
        println!("skipped: system calls (PASTURE_KILLS is not set, or there is no strace)");
        return;
    }
    kill_at_calls(place.path(), &wanted);
}

/// System calls by which a checkpoint becomes durable.
const CALLS: [&str; 5] = ["write", "fsync", "rename", "unlink", "openat"];

/// Calls of a kind after which the rest of a run is like what came before.
const CALLS_MAX: usize = 60;

fn kill_at_calls(place: &Path, wanted: &[u8]) {
    for call in CALLS {
        for number in 1..=CALLS_MAX {
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            strace.arg(env!("CARGO_BIN_EXE_pasture")).arg("tune").args(RUN).args(["--out", "traced", "--resume"]);
            strace.current_dir(place).stdin(Stdio::null()).env_remove("PASTURE_KILLS").env("PASTURE_RECEIPT", "none");
            let output = strace.output().expect("strace runs");
            let through = output.status.success();
            assert!(finish(place, "traced") == *wanted, "{call} number {number}");
            fs::remove_dir_all(place.join("traced")).expect("the folder can be removed");
            if through {
                break;
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_with_a_checkpoint_and_status_0() {
    let place = place();
    let long = RUN.map(|argument| if argument == "40" { "4000" } else { argument });
    let child = command(place.path(), &[&long[..], &["--out", "run"]].concat()).spawn().expect("it starts");
    let folder = place.path().join("run/checkpoints");
    let mut waited = 0;
    while fs::read_dir(&folder).is_err() && waited < 600 {
        std::thread::sleep(Duration::from_millis(50));
        waited += 1;
    }
    let id = child.id().to_string();
    Command::new("kill").args(["-TERM", &id]).status().expect("a signal is sent");
    let output = child.wait_with_output().expect("it ended");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("--resume goes on"), "{errors}");
    assert!(fs::read_dir(&folder).expect("checkpoints").count() >= 1);
}

#[test]
fn an_adapter_changes_answers_and_weights_that_were_trained_whole_run() {
    let place = place();
    let lineage = fs::read(place.path().join("base/pasture.json")).expect("what was trained says where it comes from");
    let lineage: serde_json::Value = serde_json::from_slice(&lineage).expect("JSON");
    assert_eq!(lineage["works"].as_array().map(Vec::len), Some(1), "random weights are nobody's work: {lineage}");
    let run = |arguments: &[&str]| {
        let output = program(place.path()).args(arguments).output();
        let output = output.expect("the program that was built runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run(&[&["tune"], &RUN[..], &["--out", "adapter", "--method", "dora"]].concat());
    run(&[
        "tune",
        "base",
        "data.jsonl",
        "--out",
        "whole",
        "--method",
        "full",
        "--steps",
        "4",
        "--learning-rate",
        "0.01",
    ]);
    let logits = |model: &str, more: &[&str]| {
        run(&[&["logits", model, "--ids", "5,6,7,8", "--out", "logits.safetensors", "--exact"], more].concat());
        fs::read(place.path().join("logits.safetensors")).expect("the logits were written")
    };
    let plain = logits("base", &[]);
    assert!(plain != logits("base", &["--adapter", "adapter"]), "the adapter has an effect");
    assert!(plain == logits("base", &[]), "and leaves the model as it is");
    assert!(plain != logits("whole", &[]));
    run(&["tune", "base", "data.jsonl", "--out", "other", "--rank", "3", "--steps", "4", "--learning-rate", "0.01"]);
    let one = logits("base", &["--adapter", "other"]);
    assert!(one != logits("base", &["--adapter", "other=0.5", "--adapter", "other=0.25"]));
    let answer =
        run(&["generate", "base", "line 3", "--adapter", "other", "--temperature", "0", "--max-tokens", "4", "--json"]);
    assert!(!answer.is_empty());
}

#[test]
fn what_changes_a_model_says_what_that_did_to_quality_and_speed() {
    let place = place();
    let run = |arguments: &[&str], wanted: i32| {
        let output = program(place.path()).args(arguments).output().expect("the program that was built runs");
        assert_eq!(output.status.code(), Some(wanted), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let receipt = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(place.path().join(file)).expect("a receipt")).expect("JSON")
    };
    let is_measured = |told: &serde_json::Value, figure: &str| {
        [&told["before"], &told["after"]].iter().all(|side| side[figure].as_f64().is_some_and(|rate| rate > 0.0))
    };
    let tuned = run(&[&["tune"], &RUN[..], &["--out", "adapter", "--receipt", "quick", "--json"]].concat(), 0);
    let last: serde_json::Value = serde_json::from_str(tuned.lines().last().expect("a line")).expect("JSON");
    let kept = receipt("adapter/receipt.json");
    assert_eq!(
        (&last["event"], &last["before"], &last["after"]),
        (&"measured".into(), &kept["before"], &kept["after"])
    );
    assert!(is_measured(&kept, "new_tokens_per_second") && is_measured(&kept, "prompt_tokens_per_second"), "{kept}");
    let (text, moved) = (&kept["after"]["perplexity"]["text"], &kept["after"]["divergence"]);
    assert!(text.as_str().is_some_and(|text| text.contains("held out")), "{kept}");
    assert!(moved["kl"].as_f64().is_some_and(|kl| kl > 0.0) && moved["tokens"].as_u64() > Some(0), "{kept}");
    assert!(is_measured(&kept, "bytes"), "{kept}");
    let few = ["tune", "base", "data.jsonl", "--rank", "3", "--steps", "2", "--report=false", "--out"];
    let with = |more: &[&'static str], wanted| run(&[&few[..], more].concat(), wanted);
    with(&["near", "--require", "kl<9,ppl<+900%"], 0);
    assert_eq!(receipt("near/receipt.json")["required"], "kl<9,ppl<+900%");
    with(&["far", "--require", "kl<0", "--measure", "data.jsonl", "--tokens", "64"], 1);
    assert!(!place.path().join("far/receipt.json").exists(), "a result that is worse than asked has no receipt");
    with(&["none", "--require", "kl<9", "--dry-run"], 2);
    with(&["none", "--require", "kl<9", "--receipt", "none"], 2);
    let quantize =
        ["quantize", "base", "small.gguf", "--type", "Q8_0", "--tokens", "64", "--receipt", "full", "--json"];
    let told: serde_json::Value = serde_json::from_str(&run(&quantize, 0)).expect("JSON");
    let kept = receipt("small.gguf.receipt.json");
    for name in ["level", "before", "after", "unmeasured"] {
        assert_eq!(told[name], kept[name], "{name}");
    }
    assert_eq!((&kept["level"], &kept["after"]["divergence"]["tokens"]), (&"full".into(), &64.into()));
    assert!(is_measured(&kept, "new_tokens_per_second") && is_measured(&kept, "bytes"), "{kept}");
    assert!(kept["before"]["perplexity"]["value"].is_number(), "{kept}");
    let shown = run(&["show", "small.gguf"], 0);
    assert!(shown.contains("new tokens/s: ") && shown.contains("rest of the text"), "{shown}");
    let merge = ["merge", "base", "--adapter", "adapter", "--to", "merged", "--json"];
    let told: serde_json::Value = serde_json::from_str(&run(&merge, 0)).expect("JSON");
    let left = told["unmeasured"].as_array().expect("a list").iter().map(|left| left["what"].as_str());
    assert_eq!(left.collect::<Option<Vec<_>>>().expect("words"), ["perplexity", "divergence", "speed before", "speed"]);
    // What needs a figure goes before the variable, and not before the flag.
    run(&["quantize", "base", "next.gguf", "--type", "Q8_0", "--tokens", "32", "--require", "kl<9"], 0);
    run(&["quantize", "base", "no.gguf", "--require", "kl<9", "--receipt", "none"], 2);
}
