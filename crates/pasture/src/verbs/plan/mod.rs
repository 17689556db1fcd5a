//! `pasture plan`: what a model needs here and how fast it will be, before any weight is read, and which type of it fits
//! this machine best. The machine is measured once; the arithmetic is the lab's, what is printed is in `told.rs`.

mod actual;
mod told;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use etcetera::BaseStrategy;
use pasture::lab::plan::{self, Candidate, Choice, Kept, Rates, Work};
use pasture::lab::receipt::Memory;
use pasture::{LoadOptions, Model};
use pasture_kernels::{Kernels, Pool};
use pasture_model::{Running, Source, families, survey};
use pasture_store::Error as StoreError;
use pasture_tensor::kv::KvFormat;

use super::bench::measure::{self, Test, What, spread};
use super::model::{self, STARTER};
use crate::exit::Failure;
use crate::output;
use crate::settings::{Given, RunFlags, Settings};
pub use actual::{Actual, Foresight, memory_text, unmeasured};
pub use told::short;
use told::{Row, Told};

/// Positions of a sequence where nothing is said.
const CONTEXT: usize = 4096;
/// Rows of a step where nothing is said.
const CHUNK: usize = 512;
/// Tokens of the prompt whose speed is told.
pub const PROMPT: usize = 512;

/// Say what a model needs here, how fast it will be, and which type fits best
#[derive(Args)]
#[command(after_help = "\
No weight is read. The machine is measured once, which takes a few seconds: how fast
our own kernels multiply with each number format and read from memory. Types are
those that `pasture quantize` can make of the model; of a name in the cache with
several files, the files that are there. `pasture bench` measures what really is.

Examples:
  pasture plan my-model.gguf
  pasture plan my-model.gguf --context 32768
  pasture plan my-model --measure --json")]
pub struct Arguments {
    /// A file, a folder, an assistant, or a name from a cache (default: the starter)
    model: Option<String>,
    /// Measure the machine anew
    #[arg(long)]
    measure: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunFlags,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(&program.clone().and(&arguments.running.0))?;
    settings.refuse_flag("prepare", "here", "a plan loads no weights; a prepared model takes the same memory")?;
    settings.refuse_flag("expert_cache", "here", "a plan is for a model whose weights are all in memory")?;
    is_here(arguments.model.as_deref())?;
    let assistant = model::assistant(arguments.model.as_deref())?;
    let name = assistant.as_ref().map(|assistant| assistant.base.as_str()).or(arguments.model.as_deref());
    let sources = sources(name)?;
    let context = context(&settings, &sources[0].1)?;
    let running = running(&settings, context);
    pasture_model::check_kv(&families::blueprint(&sources[0].1.config)?.spec, running.kv)?;
    let mut rows = Vec::new();
    for (label, source) in &sources {
        rows.push((label.clone(), plan::as_it_is(&survey(source)?, &running)));
    }
    let mut note = None;
    if let [(_, source)] = sources.as_slice() {
        match plan::made_smaller(source, &survey(source)?, &running) {
            Ok(made) => rows.extend(made.into_iter().map(|made| (made.label().to_owned(), made))),
            Err(error) => note = Some(format!("no other type is planned: {error}")),
        }
    }
    let program_bytes = program_bytes(&sources[0].1)?;
    let rates = rates(&settings, &running, arguments.measure, rows.iter().map(|(_, candidate)| candidate))?;
    let free = Memory::Free.bytes();
    let rows: Vec<Row> = rows
        .into_iter()
        .map(|(label, candidate)| Row::of(label, candidate, &rates, &running, program_bytes, free))
        .collect();
    let choices: Vec<Choice> = rows.iter().map(Row::choice).collect();
    let told = Told {
        name: arguments.model.clone().unwrap_or_else(|| STARTER.to_owned()),
        parameters: pasture_model::parameters(
            &sources[0].1.tensors,
            families::blueprint(&sources[0].1.config)?.quantization.as_ref(),
        ),
        best: plan::best(&choices),
        can_make: sources.len() == 1,
        rows,
        running,
        rates,
        free,
        program_bytes,
        note,
    };
    if arguments.json { output::json(&told.object()) } else { output::print(&told.text()) }
}

/// A plan fetches nothing: what is not here is told.
fn is_here(name: Option<&str>) -> Result<(), Failure> {
    let Some(name) = name.filter(|name| *name != STARTER) else { return Ok(()) };
    match pasture_store::resolve(name) {
        Err(error @ (StoreError::NotFound { .. } | StoreError::Unusable { .. })) => {
            let hint = "a plan fetches nothing; `pasture search` says of models on the hub whether they fit";
            Err(Failure::from(error).hint(hint.to_owned()))
        }
        _ => Ok(()),
    }
}

/// The model's files, or each of several that a name may mean. Nothing is fetched.
fn sources(name: Option<&str>) -> Result<Vec<(String, Source)>, Failure> {
    let own = |source| vec![("as it is".to_owned(), source)];
    let Some(name) = name else { return Ok(own(Model::starter_source()?)) };
    is_here(Some(name))?;
    match pasture_store::resolve(name) {
        Err(StoreError::Ambiguous { choices, .. }) => {
            let one = |choice: &String| -> Result<(String, Source), Failure> {
                let label = choice.rsplit(':').next().unwrap_or(choice).to_owned();
                Ok((label, Source::open(&pasture_store::resolve(choice)?.path)?))
            };
            let mut sources = choices.iter().map(one).collect::<Result<Vec<_>, _>>()?;
            let bytes = |source: &Source| -> u64 {
                source.tensors.names().filter_map(|name| source.tensors.byte_count(name)).sum()
            };
            sources.sort_by_key(|(_, source)| std::cmp::Reverse(bytes(source)));
            Ok(sources)
        }
        Err(StoreError::NotFound { .. }) if name == STARTER => Ok(own(Model::starter_source()?)),
        _ => Ok(own(model::source(Some(name))?)),
    }
}

fn context(settings: &Settings, source: &Source) -> Result<usize, Failure> {
    let limit = families::blueprint(&source.config)?.spec.context;
    let context = settings.whole("context").unwrap_or(CONTEXT.min(limit));
    if context > limit {
        return Err(pasture_model::Error::Context { wanted: context, limit }.into());
    }
    Ok(context)
}

/// A model that runs one sequence of so many positions.
pub fn running(settings: &Settings, context: usize) -> Running {
    Running {
        kernels: Kernels::get(),
        threads: threads(settings),
        context,
        sequences: 1,
        chunk: settings.whole("chunk").unwrap_or(CHUNK),
        kv: settings.kv_type().unwrap_or(KvFormat::F16),
    }
}

/// The threads that compute.
pub fn threads(settings: &Settings) -> usize {
    settings.whole("threads").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// What the program holds with a model's headers, tokenizer and template, and nothing else of it.
pub fn program_bytes(source: &Source) -> Result<u64, Failure> {
    let _prompt = pasture::prompt_of(source, families::find(&source.config)?)?;
    Ok(Memory::Held.bytes().unwrap_or(0))
}

/// Where the machine's figures are kept.
fn file() -> Option<PathBuf> {
    let folders = etcetera::choose_base_strategy().ok()?;
    Some(folders.cache_dir().join("pasture").join("machine.json"))
}

/// What a plan says of a run on a machine that was measured before.
pub struct Foreseen {
    candidate: Candidate,
    rates: Rates,
    program_bytes: u64,
}

impl Foreseen {
    /// A candidate's; none where some figure of it was not measured yet.
    fn of(rates: Rates, candidate: Candidate, program_bytes: u64) -> Option<Foreseen> {
        let knows = candidate.work.formats().all(|format| rates.knows(format)) && rates.looks(candidate.work.kv());
        knows.then_some(Foreseen { candidate, rates, program_bytes })
    }

    /// Bytes of memory at the most.
    pub fn memory_bytes(&self) -> u64 {
        self.candidate.need.most().saturating_add(self.program_bytes)
    }

    /// Tokens a second of a prompt behind so many tokens.
    pub fn prefill_rate(&self, tokens: usize, depth: usize, chunk: usize) -> Option<f64> {
        Some(tokens as f64 / self.candidate.work.prompt_seconds(&self.rates, tokens, depth, chunk)?)
    }

    /// Tokens a second of so many answers, each behind so many tokens, all together.
    pub fn decode_rate(&self, answers: usize, depth: usize) -> Option<f64> {
        Some(answers as f64 / self.candidate.work.token_seconds(&self.rates, answers, depth)?)
    }
}

/// What a plan says of a model as it is; none where the machine, or a number format of it, was not measured yet.
pub fn foreseen(source: &Source, running: &Running) -> Result<Option<Foreseen>, Failure> {
    pasture_model::check_kv(&families::blueprint(&source.config)?.spec, running.kv)?;
    let Some(rates) = known(running.threads) else { return Ok(None) };
    Ok(Foreseen::of(rates, plan::as_it_is(&survey(source)?, running), program_bytes(source)?))
}

/// What was measured of the machine with so many threads, where it was.
fn known(threads: usize) -> Option<Rates> {
    Kept::read(&file()?).rates(Kernels::get().name(), threads).cloned()
}

/// The machine's figures for all formats of these candidates: what is missing is measured and kept.
fn rates<'c>(
    settings: &Settings,
    running: &Running,
    anew: bool,
    candidates: impl Iterator<Item = &'c Candidate>,
) -> Result<Rates, Failure> {
    let threads = running.threads;
    let starter = Model::starter_source()?;
    let found = survey(&starter)?;
    let starter_work = Work::of(&found.spec, &found.slots, &|slot| slot.format, KvFormat::F16);
    let mut formats: Vec<_> = candidates.flat_map(|candidate| candidate.work.formats()).collect();
    formats.extend(starter_work.formats());
    formats.sort_unstable();
    formats.dedup();
    let old = known(threads).filter(|_| !anew);
    let mut kept = vec![KvFormat::F16, running.kv];
    kept.dedup();
    let is_known =
        |rates: &&Rates| formats.iter().all(|format| rates.knows(*format)) && kept.iter().all(|kv| rates.looks(*kv));
    if let Some(rates) = old.as_ref().filter(is_known) {
        return Ok(rates.clone());
    }
    let bar = super::bench::bar(output::decorated(settings.text("color")));
    bar.set_message("measuring this machine");
    let pool = Arc::new(Pool::new(threads));
    let is_new = old.is_none();
    let mut rates = old.unwrap_or_else(|| Rates::measure(&pool));
    formats.retain(|format| !rates.knows(*format));
    for (at, format) in formats.iter().enumerate() {
        bar.set_length(formats.len() as u64);
        bar.set_position(at as u64);
        rates.add(&pool, *format);
    }
    kept.retain(|kv| !rates.looks(*kv));
    kept.iter().for_each(|kv| rates.add_looks(&pool, *kv));
    drop(pool);
    if is_new {
        calibrate(&mut rates, &starter, &starter_work, threads)?;
    }
    bar.finish_and_clear();
    keep(&rates);
    Ok(rates)
}

/// Runs the small model through the engine: what it takes beyond products and attention, other models take as well.
fn calibrate(rates: &mut Rates, source: &Source, work: &Work, threads: usize) -> Result<(), Failure> {
    let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
    let model = Model::from_source(STARTER, source, &options, &mut |_, _| {})?;
    let (prompt, tokens) = (256, 64);
    let middle = |what, first: bool| -> Result<f64, Failure> {
        let test = Test { what, depth: 0 };
        measure::once(&model, &test, 0)?;
        let runs = (1..=5).map(|run| measure::once(&model, &test, run)).collect::<Result<Vec<_>, _>>()?;
        let seconds: Vec<f64> =
            runs.iter().map(|run| if first { run.first_token_seconds } else { 1.0 / run.tokens_per_second }).collect();
        Ok(spread(&seconds).unwrap_or_default().0)
    };
    let token = middle(What::Decode { tokens, batch: 1 }, false)?;
    let first = middle(What::Prefill { tokens: prompt }, true)?;
    rates.calibrate(work, CHUNK, (tokens / 2, token), (prompt, first));
    Ok(())
}

/// Keeps figures for the next time; where that cannot be, the next time measures again.
fn keep(rates: &Rates) {
    let Some(file) = file() else { return };
    let mut kept = Kept::read(&file);
    kept.put(rates.clone());
    if let Err(error) = kept.write(&file) {
        eprintln!("note: what was measured of this machine is not kept: {error}");
    }
}
