//! Our files in other programs: small cases of the kit are exported to GGUF, and llama.cpp's logits compared with ours by
//! token ids; adapters go to peft and back (`adapters.rs`); and what quantized activations change (`divergence.rs`).
//! Optional, and no part of CI: it needs a Python with the packages llama-cpp-python and, for adapters, peft.

mod adapters;
mod divergence;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{built, root};

/// Cases, and keys of their configuration that GGUF needs to be otherwise.
const CASES: [(&str, &[(&str, &str)]); 14] = [
    ("text/llama2", &[]),
    ("text/llama3", &[]),
    ("text/llama31_rope", &[]),
    ("text/gemma1", &[]),
    // GGUF has the factor of scores of the published models.
    ("text/gemma2", &[("\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 16")]),
    ("text/gemma3_text", &[("\"query_pre_attn_scalar\": 24", "\"query_pre_attn_scalar\": 16")]),
    ("text/phi2", &[]),
    ("text/phi3", &[]),
    ("text/mixtral", &[]),
    ("text/dbrx", &[]),
    ("text/olmo2", &[]),
    ("text/qwen2", &[]),
    ("text/qwen3", &[]),
    ("arctic/arctic", &[]),
];

const IDS: &str = "1,7,3,5,9,20,30,40,50,60,11,12";

/// An engine that rounds activations to 8 bits is within this of one that does not (the kit's README).
const CLOSE: f64 = 3e-2;

/// Compares every case; one that is further away than that is an error.
pub fn run(arguments: &[String]) -> Result<()> {
    let (mut kit, mut python, mut adapters) = (None, "python3".to_owned(), false);
    let (mut program, mut text, mut models) = (None, None, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("`{argument}` needs a value"));
        match argument.as_str() {
            "--kit" => kit = Some(PathBuf::from(value()?)),
            "--python" => python.clone_from(value()?),
            "--adapters" => adapters = true,
            "--program" => program = Some(PathBuf::from(value()?)),
            "--divergence" => text = Some(value()?.clone()),
            "--model" => models.push(value()?.clone()),
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    let program = program.map_or_else(|| built("pasture", true), Ok)?;
    let work = std::env::temp_dir().join(format!("pasture-agree-{}", std::process::id()));
    let tools = Tools { program, python, work };
    std::fs::create_dir_all(&tools.work)?;
    let kit = || kit.as_deref().context("`--kit DIR` is needed");
    let compared = match text {
        Some(text) => divergence::run(&tools, &models, &text),
        None if adapters => kit().and_then(|kit| adapters::run(&tools, kit)),
        None => kit().and_then(|kit| files(&tools, &kit.join("golden"))),
    };
    std::fs::remove_dir_all(&tools.work)?;
    compared
}

/// The programs that are compared, and a folder for what they write.
struct Tools {
    program: PathBuf,
    python: String,
    work: PathBuf,
}

impl Tools {
    fn place(&self, name: &str) -> String {
        self.work.join(name).display().to_string()
    }

    /// What our program prints.
    fn ours(&self, arguments: &[&str]) -> Result<String> {
        said(Command::new(&self.program).args(arguments), &format!("pasture {}", arguments.join(" ")))
    }

    /// What a script beside these sources prints.
    fn theirs(&self, script: &str, arguments: &[&str]) -> Result<String> {
        said(Command::new(&self.python).arg(root().join("xtask/agree").join(script)).args(arguments), script)
    }
}

fn said(command: &mut Command, name: &str) -> Result<String> {
    let output = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {name}"))?;
    ensure!(output.status.success(), "`{name}` failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Each case, and an error that names those that are too far apart.
fn files(tools: &Tools, golden: &Path) -> Result<()> {
    let mut far = Vec::new();
    for (case, changes) in CASES {
        let apart = apart(tools, &golden.join(case), changes).with_context(|| case.to_owned())?;
        println!("{case}: relative RMS {apart:.2e}");
        if apart > CLOSE {
            far.push(case);
        }
    }
    ensure!(far.is_empty(), "further than {CLOSE} from llama.cpp: {}", far.join(", "));
    Ok(())
}

fn apart(tools: &Tools, case: &Path, changes: &[(&str, &str)]) -> Result<f64> {
    let mut config = std::fs::read_to_string(case.join("config.json"))?;
    for (from, to) in changes {
        ensure!(config.contains(from), "its configuration has no {from}");
        config = config.replace(from, to);
    }
    let folder = tools.work.join("case");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("config.json"), config)?;
    std::fs::copy(case.join("model.safetensors"), folder.join("model.safetensors"))?;
    let (file, ours) = (tools.place("model.gguf"), tools.place("ours.safetensors"));
    tools.ours(&["export", &tools.place("case"), "--to", &file, "--dtype", "f32", "--force"])?;
    tools.ours(&["logits", &file, "--ids", IDS, "--out", &ours, "--exact"])?;
    Ok(tools.theirs("their_logits.py", &[&file, &ours, IDS])?.parse()?)
}
