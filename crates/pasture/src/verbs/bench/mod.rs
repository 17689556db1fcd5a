//! `pasture bench`: how fast a model runs on this machine, through the engine that answers conversations and requests.
//! What is asked of the engine and timed is in `measure.rs`, what is printed in `told.rs`.

pub mod measure;
mod told;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::engine::Speculation;
use pasture::lab::receipt::Memory;
use pasture::{LoadOptions, Model};
use pasture_model::Source;
use pasture_tensor::kv::PAGE;

use super::model::{self, Opened};
use super::plan::{self, Foreseen};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{AdapterFlags, Given, RunFlags, Settings};
use measure::{Figures, Test, What};
use told::Heading;

/// Prompts that are read where nothing is said.
const PROMPT: usize = 512;
/// Tokens that are made where nothing is said.
const TOKENS: usize = 128;
/// Rows of a step where nothing is said.
const CHUNK: usize = 512;

/// Measure how fast a model runs here
#[derive(Args)]
#[command(after_help = "\
Prefill reads a prompt, decode makes tokens one after the other, and at depth both
begin behind so many tokens. Each is run once to warm up and then --runs times; the
figures are the median, the least and the most. Text is random tokens, and the most
probable token is taken. What else the machine does at the same time counts as well.

Examples:
  pasture bench my-model.gguf
  pasture bench my-model.gguf --prompt 128,512 --tokens 32 --runs 3
  pasture bench my-model.gguf --depth 0,4096
  pasture bench my-model.gguf --prompt 0 --batch 1,4,16 --json")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a cache (default: the starter)
    model: Option<String>,
    /// Reads prompts of so many tokens; 0 reads none (default: 512, or what the context holds)
    #[arg(short, long, visible_alias = "n-prompt", value_name = "N,N", value_delimiter = ',', value_parser = count())]
    prompt: Vec<u32>,
    /// Makes so many tokens; 0 makes none (default: 128, or what the context holds)
    #[arg(short = 'n', long, visible_alias = "n-gen", value_name = "N,N", value_delimiter = ',', value_parser = count())]
    tokens: Vec<u32>,
    /// Begins behind so many tokens that are known already
    #[arg(short, long, visible_alias = "n-depth", value_name = "N,N", value_delimiter = ',', default_value = "0")]
    #[arg(value_parser = count())]
    depth: Vec<u32>,
    /// Makes the tokens of so many answers at once
    #[arg(long, visible_alias = "parallel", value_name = "N,N", value_delimiter = ',', default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Runs each so many times
    #[arg(short, long, visible_alias = "repetitions", value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Counts the first run as well, without one to warm up
    #[arg(long)]
    no_warmup: bool,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Also say how far the plan was right, or that there is none
    #[arg(long)]
    verbose: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: AdapterFlags,
    #[command(flatten)]
    running: RunFlags,
}

fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=1 << 24)
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let given = program.clone().and(&arguments.running.0);
    let before = Settings::resolve(&given)?;
    let chunk = before.whole("chunk").unwrap_or(CHUNK);
    let (mut tests, mut heading, mut planned) = (Vec::new(), None, None);
    let name = arguments.model.as_deref();
    let opened = model::open_so(name, &given, arguments.exact, arguments.strict, &mut |source, options| {
        let spec = pasture_model::families::blueprint(&source.config)?.spec;
        tests = wanted(arguments, options.context.unwrap_or(spec.context), chunk)?;
        heading = Some(Heading::of(source)?);
        room(&tests, options);
        planned = foreseen(arguments, source, &before, &tests, options)?;
        Ok(())
    })?;
    let Opened { model, settings, load_time, .. } = opened;
    let model = model::adapted(model, &arguments.adapters)?;
    let Some(heading) = heading else { unreachable!("a model is loaded from its files") };
    let bar = bar(output::decorated(settings.text("color")));
    let mut measured = Vec::new();
    for test in tests {
        measured.push((test, measured_test(&model, &test, arguments, &bar)?));
    }
    bar.finish_and_clear();
    let threads = plan::threads(&settings);
    let told = told::Told {
        name: model.name().to_owned(),
        heading,
        threads,
        kv: settings.text("kv_type").unwrap_or(if arguments.exact { "f32" } else { "f16" }).to_owned(),
        exact: arguments.exact,
        adapters: arguments.adapters.adapters.len(),
        chunk,
        runs: arguments.runs,
        load_seconds: load_time.as_secs_f64(),
        memory_peak: Memory::HeldMost.bytes(),
        measured,
        planned,
    };
    if arguments.verbose {
        eprintln!("{}", told.beside(&plan::running(&settings, 1)));
    }
    if arguments.json { output::json(&told.object()) } else { output::print(&told.text()) }
}

/// What is measured, in the order in which it is told. All of it fits into the context.
fn wanted(arguments: &Arguments, context: usize, chunk: usize) -> Result<Vec<Test>, Failure> {
    let usual = |asked: &[u32], usual: usize| match asked {
        // What nobody asked for gives way where the context is short.
        [] => vec![usual.min(context.saturating_sub(measure::BESIDE))],
        asked => asked.iter().map(|count| *count as usize).collect(),
    };
    let (prompts, tokens) = (usual(&arguments.prompt, PROMPT), usual(&arguments.tokens, TOKENS));
    let mut tests = Vec::new();
    for depth in arguments.depth.iter().map(|depth| *depth as usize) {
        let prefill = prompts.iter().map(|tokens| What::Prefill { tokens: *tokens });
        let batches = arguments.batch.iter().map(|batch| *batch as usize);
        let decode =
            tokens.iter().flat_map(|tokens| batches.clone().map(|batch| What::Decode { tokens: *tokens, batch }));
        let all = prefill.chain(decode).filter(|what| what.tokens() > 0);
        tests.extend(all.map(|what| Test { what, depth }));
    }
    if tests.is_empty() {
        let hint = "--prompt N reads prompts, --tokens N makes tokens";
        return Err(Failure::new(Status::Usage, "there is nothing to measure").hint(hint.to_owned()));
    }
    if let Some(test) = tests.iter().find(|test| test.longest() > context) {
        let (longest, name) = (test.longest(), test.name());
        let what = format!("{name:?} takes {longest} positions, and the context has {context}");
        return Err(Failure::new(Status::Usage, what));
    }
    if let Some(test) = tests.iter().find(|test| test.sequences() > chunk) {
        let sequences = test.sequences();
        let what = format!("{sequences} answers cannot be made at once: a step has {chunk} rows");
        return Err(Failure::new(Status::Usage, what).hint("--chunk N allows more".to_owned()));
    }
    Ok(tests)
}

/// Memory for keys and values as the tests need it: what they find known stays, nothing else does.
fn room(tests: &[Test], options: &mut LoadOptions) {
    let depth = tests.iter().map(|test| test.depth).max().unwrap_or(0);
    let most = |of: fn(&Test) -> usize| tests.iter().map(of).max().unwrap_or(1);
    let kept = depth.div_ceil(PAGE);
    options.pages = Some(kept + most(|test| test.sequences() * test.longest().div_ceil(PAGE)));
    options.cached = Some(kept);
    options.running = Some(most(Test::sequences));
    // What repeats in random tokens says nothing of texts: each token is measured with a step of its own.
    options.speculation = Speculation::Off;
}

/// What `pasture plan` says of it, where the machine was measured and a plan is made for such a run.
fn foreseen(
    arguments: &Arguments,
    source: &Source,
    settings: &Settings,
    tests: &[Test],
    options: &LoadOptions,
) -> Result<Option<Foreseen>, Failure> {
    if arguments.exact || !arguments.adapters.adapters.is_empty() || options.files.expert_cache.is_some() {
        return Ok(None);
    }
    // Answers made at once share the tokens that they begin behind, so that they hold no more than one of so many.
    let held = |test: &Test| test.depth + test.sequences() * (test.longest() - test.depth);
    let running = plan::running(settings, tests.iter().map(held).max().unwrap_or(1));
    plan::foreseen(source, &running)
}

/// The runs of a test.
fn measured_test(model: &Model, test: &Test, arguments: &Arguments, bar: &ProgressBar) -> Result<Figures, Failure> {
    bar.set_length(u64::from(arguments.runs));
    bar.set_position(0);
    bar.set_message(format!("{}: warming up", test.name()));
    measure::prepare(model, test)?;
    if !arguments.no_warmup {
        measure::once(model, test, 0)?;
    }
    bar.set_message(test.name());
    let mut figures = Figures::default();
    for run in 1..=u64::from(arguments.runs) {
        figures.add(measure::once(model, test, run)?);
        bar.set_position(run);
    }
    Ok(figures)
}

/// A bar of runs; hidden where decoration is not wanted.
pub fn bar(decorated: bool) -> ProgressBar {
    let target = if decorated { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), target).with_style(style)
}
