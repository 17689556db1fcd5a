//! Both sides of a comparison: `pasture bench` and the peer's own program, each in a process of its own with the file opened
//! anew.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::root;

/// What one run measures, in tokens a second.
#[derive(Clone, Copy)]
pub enum Test {
    /// Reading a prompt of so many tokens behind known ones.
    Prefill { tokens: usize, depth: usize },
    /// Making so many tokens behind known ones.
    Decode { tokens: usize, depth: usize },
    /// Making so many tokens of several answers, all together, that share what stands before them.
    Many { tokens: usize, sequences: usize, depth: usize },
}

impl Test {
    /// As it stands in the table.
    pub fn name(self) -> String {
        let behind = |depth: usize| if depth == 0 { String::new() } else { format!(" behind {depth}") };
        match self {
            Self::Prefill { tokens, depth } => format!("prefill {tokens}{}", behind(depth)),
            Self::Decode { tokens, depth } => format!("decode {tokens}{}", behind(depth)),
            Self::Many { tokens, sequences, depth } => format!("decode {tokens} x {sequences}{}", behind(depth)),
        }
    }
}

/// Our program.
pub struct Ours {
    pub program: PathBuf,
    pub threads: usize,
}

/// One run of ours.
pub struct Run {
    pub tokens_per_second: f64,
    /// Processor, kernels and threads.
    pub machine: String,
}

impl Ours {
    /// One run after one to warm up.
    pub fn run(&self, model: &Path, test: Test) -> Result<Run> {
        let (kind, [prompt, tokens, depth, batch]) = match test {
            Test::Prefill { tokens, depth } => ("prefill", [tokens, 0, depth, 1]),
            Test::Decode { tokens, depth } => ("decode", [0, tokens, depth, 1]),
            Test::Many { tokens, sequences, depth } => ("decode", [0, tokens, depth, sequences]),
        };
        let mut command = Command::new(&self.program);
        command.arg("bench").arg(model).args(["--json", "--runs", "1", "--prompt", &prompt.to_string()]);
        command.args(["--tokens", &tokens.to_string(), "--depth", &depth.to_string()]);
        command.args(["--batch", &batch.to_string(), "--threads", &self.threads.to_string()]);
        let told = json(&mut command)?;
        let test = told["tests"].as_array().and_then(|tests| tests.iter().find(|test| test["test"] == kind));
        let rate = test.and_then(|test| test["tokens_per_second"]["median"].as_f64());
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        let (processor, kernels) = (text(&told["machine"]["processor"]), text(&told["kernels"]));
        let machine = format!("{processor}, {kernels}, {} threads", self.threads);
        Ok(Run { tokens_per_second: rate.context("`bench` tells no rate")?, machine })
    }
}

/// Whom we are compared with.
pub enum Peer {
    /// The folder of `llama-bench` and `llama-batched-bench`.
    Llama(PathBuf),
    /// A Python with torch and transformers.
    Torch(PathBuf),
}

impl Peer {
    /// The peer of a name, at a path or among the programs of this machine.
    pub fn find(name: &str, path: Option<PathBuf>) -> Result<Peer> {
        match name {
            "llama.cpp" => {
                let folder = path.or_else(|| folder_of("llama-bench"));
                let folder = folder.context("`--peer FOLDER` with llama-bench in it is needed; PATH has none")?;
                ensure!(folder.join("llama-bench").is_file(), "no llama-bench in {}", folder.display());
                Ok(Self::Llama(folder))
            }
            "torch" => Ok(Self::Torch(path.unwrap_or_else(|| "python3".into()))),
            _ => bail!("unknown peer {name:?}: there are llama.cpp and torch"),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Llama(_) => "llama.cpp",
            Self::Torch(_) => "torch",
        }
    }

    /// Tokens a second of one run.
    pub fn run(&self, model: &Path, test: Test, threads: usize) -> Result<f64> {
        match self {
            Self::Llama(folder) => llama(folder, model, test, threads),
            Self::Torch(python) => {
                let Test::Prefill { tokens, depth: 0 } = test else {
                    bail!("torch is asked for prompts without a depth; give `--tokens 0` and no `--sequences`")
                };
                let mut command = Command::new(python);
                command.arg(root().join("xtask/src/bench/peer_torch.py")).arg(model);
                command.args([tokens.to_string(), threads.to_string()]);
                json(&mut command)?["tokens_per_second"].as_f64().context("the peer tells no rate")
            }
        }
    }
}

/// Flash attention and f16 keys and values, the peer's fastest; the rest is the peer's default.
fn llama(folder: &Path, model: &Path, test: Test, threads: usize) -> Result<f64> {
    let threads = threads.to_string();
    let start = |program: &str| {
        let mut command = Command::new(folder.join(program));
        command.arg("-m").arg(model).args(["-t", &threads, "-fa", "on"]);
        command.env("LD_LIBRARY_PATH", folder);
        command
    };
    let (key, told) = match test {
        Test::Prefill { tokens, depth } | Test::Decode { tokens, depth } => {
            let (tokens, depth) = (tokens.to_string(), depth.to_string());
            let counts = if matches!(test, Test::Prefill { .. }) { [&*tokens, "0"] } else { ["0", &*tokens] };
            let mut command = start("llama-bench");
            command.args(["-p", counts[0], "-n", counts[1], "-d", &depth, "-r", "1", "-o", "json"]);
            ("avg_ts", json(&mut command)?)
        }
        Test::Many { tokens, sequences, depth } => {
            let mut command = start("llama-batched-bench");
            let context = depth + sequences * (tokens + 1) + 64;
            command.args(["-npp", &depth.to_string(), "-ntg", &tokens.to_string(), "-npl", &sequences.to_string()]);
            command.args(["-pps", "-c", &context.to_string(), "--output-format", "jsonl"]);
            ("speed_tg", json(&mut command)?)
        }
    };
    let row = if told.is_array() { &told[0] } else { &told };
    row[key].as_f64().with_context(|| format!("the peer tells no {key}"))
}

/// What a program prints: all of it, or the line of it that is JSON.
fn json(command: &mut Command) -> Result<Value> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {error}");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok().filter(Value::is_object));
    let found = serde_json::from_str(&text).ok().or_else(|| lines.next_back());
    found.with_context(|| format!("{command:?} printed no JSON"))
}

/// The folder of a program that the shell would find.
fn folder_of(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|folder| folder.join(program).is_file())
}
