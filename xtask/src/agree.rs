//! Our GGUF files in llama.cpp: small cases of the kit are exported, and both programs' logits compared by token ids.
//! Optional, and no part of CI: it needs a Python with the package llama-cpp-python.

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
    let (mut kit, mut python) = (None, "python3".to_owned());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().with_context(|| format!("`{argument}` needs a value"))?;
        match argument.as_str() {
            "--kit" => kit = Some(PathBuf::from(value)),
            "--python" => python.clone_from(value),
            _ => bail!("unknown argument {argument:?}"),
        }
    }
    let kit = kit.context("`--kit DIR` is needed")?.join("golden");
    let program = built("pasture", true)?;
    let work = std::env::temp_dir().join(format!("pasture-agree-{}", std::process::id()));
    let mut far = Vec::new();
    for (case, changes) in CASES {
        let apart = apart(&program, &kit.join(case), changes, &work, &python).with_context(|| case.to_owned())?;
        println!("{case}: relative RMS {apart:.2e}");
        if apart > CLOSE {
            far.push(case);
        }
        std::fs::remove_dir_all(&work)?;
    }
    ensure!(far.is_empty(), "further than {CLOSE} from llama.cpp: {}", far.join(", "));
    Ok(())
}

fn apart(program: &Path, case: &Path, changes: &[(&str, &str)], work: &Path, python: &str) -> Result<f64> {
    std::fs::create_dir_all(work)?;
    let mut config = std::fs::read_to_string(case.join("config.json"))?;
    for (from, to) in changes {
        ensure!(config.contains(from), "its configuration has no {from}");
        config = config.replace(from, to);
    }
    std::fs::write(work.join("config.json"), config)?;
    std::fs::copy(case.join("model.safetensors"), work.join("model.safetensors"))?;
    let place = |name: &str| work.join(name).display().to_string();
    let (folder, file, ours) = (work.display().to_string(), place("model.gguf"), place("ours.safetensors"));
    let quiet = |arguments: &[&str]| -> Result<()> {
        let status = Command::new(program).args(arguments).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "`pasture {}` failed", arguments.join(" "));
        Ok(())
    };
    quiet(&["export", &folder, "--to", &file, "--dtype", "f32"])?;
    quiet(&["logits", &file, "--ids", IDS, "--out", &ours, "--exact"])?;
    let script = root().join("xtask/agree/their_logits.py");
    let output = Command::new(python).arg(script).args([&file, &ours, IDS]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "llama.cpp did not answer");
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
