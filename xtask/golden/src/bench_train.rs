//! `cargo xtask bench --train MODEL --peer PYTHON`: steps of LoRA beside torch's and peft's (`peer_lora.py`), each run in a
//! process of its own, ours and the peer's in turns: tokens a second, and the peak of resident memory.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_lab::tune::optimizer::{AdamW, Constants, Move, limit, norm};
use pasture_lab::tune::{Recipe, Trained};
use pasture_model::{Batch, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::tape::Tape;
use pasture_tensor::{Backend, Cpu, Ops, Precision};
use serde_json::{Value, json};

const PEER: &str = include_str!("peer_lora.py");

/// What is measured.
struct Plan {
    model: PathBuf,
    peer: Option<PathBuf>,
    /// The peer's model, where it cannot read ours.
    peer_model: Option<PathBuf>,
    tokens: usize,
    rank: usize,
    threads: usize,
    steps: usize,
    runs: usize,
    again: bool,
    alone: bool,
}

/// Runs the plan that the arguments after `--train` describe.
pub fn run(arguments: &[String]) -> Result<()> {
    let plan = plan(arguments)?;
    if plan.alone {
        println!("{}", steps(&plan)?);
        return Ok(());
    }
    let peer = plan.peer.as_ref().context("`--peer PYTHON` is needed: a figure without a peer says nothing")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        let own = std::env::current_exe()?;
        ours.push(child(Command::new(own).args(["bench", "--train"]).args(arguments).args(["--alone", "1"]))?);
        let model = plan.peer_model.as_ref().unwrap_or(&plan.model);
        let numbers = [plan.tokens, plan.rank, plan.threads, plan.steps, usize::from(plan.again)];
        theirs.push(child(
            Command::new(peer).args(["-c", PEER]).arg(model).args(numbers.map(|number| number.to_string())),
        )?);
    }
    print(&plan, &ours, &theirs)
}

fn plan(arguments: &[String]) -> Result<Plan> {
    let mut words = arguments.iter();
    let model = words.next().context("`--train MODEL` needs a model")?.into();
    let mut plan = Plan {
        model,
        peer: None,
        peer_model: None,
        tokens: 512,
        rank: 16,
        threads: 2,
        steps: 3,
        runs: 2,
        again: false,
        alone: false,
    };
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("`{word}` needs a value"))?;
        let number = || value.parse::<usize>().with_context(|| format!("{value:?} is no count"));
        match word.as_str() {
            "--peer" => plan.peer = Some(value.into()),
            "--peer-model" => plan.peer_model = Some(value.into()),
            "--tokens" => plan.tokens = number()?,
            "--rank" => plan.rank = number()?,
            "--threads" => plan.threads = number()?,
            "--steps" => plan.steps = number()?,
            "--runs" => plan.runs = number()?,
            "--again" => plan.again = number()? > 0,
            "--alone" => plan.alone = number()? > 0,
            _ => bail!("unknown argument {word:?}"),
        }
    }
    ensure!(plan.steps > 1 && plan.runs > 0, "the first step warms up, so at least two are needed");
    Ok(plan)
}

fn child(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    ensure!(output.status.success(), "a run failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.trim().lines().last().unwrap_or_default()).context("a run gave no JSON")
}

fn print(plan: &Plan, ours: &[Value], theirs: &[Value]) -> Result<()> {
    let rate = |run: &Value, key: &str| -> Result<f64> {
        let mut seconds: Vec<f64> = numbers(&run[key])?.split_off(1);
        seconds.sort_by(f64::total_cmp);
        Ok(plan.tokens as f64 / seconds[seconds.len() / 2])
    };
    let peak = |run: &Value| run["peak"].as_f64().map(|peak| peak / f64::from(1 << 30)).context("no peak");
    let name = plan.model.file_name().unwrap_or_default().to_string_lossy();
    let (tokens, rank, threads) = (plan.tokens, plan.rank, plan.threads);
    println!("{name}: LoRA of rank {rank}, {tokens} tokens, {threads} threads, {} runs in turns", plan.runs);
    println!("{:<22} {:>24} {:>24} {:>22}", "", "pasture", "torch + peft", "ratio of each pair");
    row("tokens/s", ours, theirs, &|run| rate(run, "seconds"))?;
    // On a machine that others use, time of the processor says more than time of the clock.
    row("tokens/s of processor", ours, theirs, &|run| rate(run, "busy"))?;
    row("peak GiB", ours, theirs, &peak)?;
    let last = |runs: &[Value]| runs.last().map(|run| run["losses"].to_string()).unwrap_or_default();
    println!("losses: ours {}, the peer's {}", last(ours), last(theirs));
    Ok(())
}

fn row(what: &str, ours: &[Value], theirs: &[Value], of: &dyn Fn(&Value) -> Result<f64>) -> Result<()> {
    let [a, b] = [ours, theirs].map(|runs| runs.iter().map(of).collect::<Result<Vec<f64>>>());
    let (a, b) = (a?, b?);
    let ratios = a.iter().zip(&b).map(|(a, b)| a / b).collect();
    println!("{what:<22} {:>24} {:>24} {:>22}", spread(a), spread(b), spread(ratios));
    Ok(())
}

fn numbers(list: &Value) -> Result<Vec<f64>> {
    let list = list.as_array().context("no list of numbers")?;
    list.iter().map(|number| number.as_f64().context("no number")).collect()
}

/// Our steps, in this process: what `pasture tune` does with one sample.
fn steps(plan: &Plan) -> Result<Value> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::detect(Some(plan.threads), Precision::Bf16));
    let decoder = load(&Source::open(&plan.model)?, &backend, &LoadOptions::default(), &mut |_, _| {})?.decoder;
    let mut decoder = Arc::new(decoder);
    let vocab = decoder.spec().vocab as u32;
    let ids: Vec<u32> = (0..plan.tokens as u32).map(|at| 1 + at * 7919 % (vocab - 1)).collect();
    let targets: Vec<Option<u32>> = ids[1..].iter().map(|id| Some(*id)).chain([None]).collect();
    let recipe = Recipe { rank: Some(plan.rank), ..Recipe::default() };
    let mut trained = Trained::of(&recipe, &mut decoder)?;
    let constants = Constants { betas: [0.9, 0.999], epsilon: 1e-8, decay: 0.01 };
    let lens = trained.tensors().iter().map(|tensor| tensor.len());
    let mut optimizer = AdamW::new(recipe.optimizer, constants, lens);
    let (mut seconds, mut used, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.steps {
        let (start, before) = (Instant::now(), busy()?);
        let (wanted, adapter) = (trained.ids(), trained.adapter().cloned());
        let tape = Tape::new(wanted.iter().copied());
        let mut ops = Ops::with_tape(&*backend, if plan.again { tape.replaying() } else { tape });
        let mut kv = decoder.kv(&*backend, KvFormat::F32);
        let mut batch = Batch::default();
        batch.push(kv.start(), 0, ids.len(), &ids, adapter);
        let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
        let (head, spec) = decoder.head().zip(decoder.spec().head.as_ref()).context("a model without a head")?;
        let loss = ops.head_loss(&hidden.rows, head, spec.rule, &targets);
        let counted = (plan.tokens - 1) as f32;
        losses.push(loss.values()[0] / counted);
        let tape = ops.into_tape().context("these operations have a tape")?;
        let gradients = tape.backward(&*backend, &loss, 1.0 / counted);
        let found = wanted.iter().map(|id| gradients.weight(*id).context("a matrix without a gradient"));
        let found = found.collect::<Result<Vec<_>>>()?;
        let step = Move { rate: 1e-4, limit: limit(norm(&*backend, found.iter().copied()), 1.0) };
        // It holds the adapter, whose values are changed where they are if nobody does.
        drop(batch);
        optimizer.begin();
        trained.change(&mut decoder, &mut |at, values| optimizer.change(&*backend, at, values, found[at], step));
        seconds.push(start.elapsed().as_secs_f64());
        used.push(busy()? - before);
    }
    Ok(json!({"seconds": seconds, "busy": used, "losses": losses, "peak": peak()?, "trained": trained.len()}))
}

/// Seconds that all threads of this process have been on a processor.
fn busy() -> Result<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds = text.split(' ').next().context("an empty schedstat")?;
        sum += nanoseconds.parse::<f64>()? / 1e9;
    }
    Ok(sum)
}

/// The most memory this process has had, in bytes.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let size = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
    Ok(size * 1024)
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    format!("{median:.2} ({:.2}-{:.2})", values[0], values[values.len() - 1])
}
