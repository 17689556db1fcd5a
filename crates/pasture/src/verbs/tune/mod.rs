//! `pasture tune`: trains an adapter, or the model itself, on data. The run is the lab's; here are its files, its flags and
//! how it is shown.

mod base;
mod data;
mod flags;
mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use pasture_files::durable;
use pasture_files::prompt::template::Moment;
use pasture_lab::export::Form;
use pasture_lab::receipt::{Asked, Input, Made};
use pasture_lab::tune::events::Reason;
use pasture_lab::tune::{self, Job, Plan, Questions, Recipe, Samples, output::Origin};
use pasture_model::Source;
use pasture_store::lineage::{Kind, Role};
use toml::Table;

use super::history::{Parent, Record};
use super::receipt;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Measuring, Settings};
use base::{Base, Compute};
use data::Data;
use flags::RecipeFlags;
use told::Told;

/// Train an adapter, or a whole model, on data
#[derive(Args)]
#[command(after_help = "\
A recipe is a TOML file with the keys of the flags below \"Recipe\", with
underscores: rank = 16. Flags win over it. What is resolved stands in recipe.toml
beside the result.

Ctrl-C writes a checkpoint and ends; the same command with --resume goes on, and
gives the bits that an uninterrupted run gives.

Examples:
  pasture tune my-model.gguf pirate.jsonl --out pirate
  pasture tune my-model.gguf pirate.jsonl --recipe recipe.toml --dry-run
  pasture tune my-model.gguf pirate.jsonl --out pirate --resume")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// The data to learn from
    data: PathBuf,
    /// The folder of the result (default: the data's name with -tuned)
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A file with the recipe's keys
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Train a model of random weights from this config.json; MODEL gives tokenizer and chat template
    #[arg(long, value_name = "CONFIG")]
    from_scratch: Option<PathBuf>,
    /// Go on with a run that was interrupted
    #[arg(long)]
    resume: bool,
    /// Print the resolved recipe, and what the run will need
    #[arg(long)]
    dry_run: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object for each thing that happens
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    recipe_flags: RecipeFlags,
    #[command(flatten)]
    measuring: Measuring,
    /// Threads that compute; the result does not depend on them (default: the processors at hand)
    #[arg(long, short = 't', value_name = "N", env = "PASTURE_THREADS", hide_env_values = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let settings = Settings::resolve(&program.clone().and(&arguments.measuring.receipt.0))?;
    let folder = arguments.out.clone().unwrap_or_else(|| default_folder(&arguments.data));
    let mut recipe = recipe(arguments)?;
    if recipe.now.is_none() {
        recipe.now = Some(first_day(&folder, arguments.resume));
    }
    let decorated = output::decorated(settings.text("color"));
    let threads = arguments.threads.map(usize::from).or(settings.whole("threads"));
    let compute = Compute { threads, precision: recipe.precision.precision() };
    let model = match &arguments.from_scratch {
        Some(config) => begin(&arguments.model, config, &folder, recipe.seed)?,
        None => arguments.model.clone(),
    };
    let base = Base::open(&model, compute, arguments.strict, decorated)?;
    let Data { samples, held_out, facts, input } = data::read(&arguments.data, &base.prompt, base.context(), &recipe)?;
    let plan = tune::plan(&recipe, base.context(), &samples)?;
    if arguments.dry_run {
        if arguments.measuring.require.is_some() {
            return Err(Failure::new(
                Status::Usage,
                "`--require` has no effect together with `--dry-run`: there is no result",
            ));
        }
        return dry_run(&plan, base, &samples, arguments.json);
    }
    told::data(&facts);
    let origin = base.origin(&model, vec![input], [samples.len(), held_out.len()]);
    let mut asked = arguments.measuring.asked(&settings, threads.unwrap_or_else(processors))?;
    let by_held_out = asked.text.is_none() && !held_out.is_empty();
    asked.text = asked.text.or_else(|| tune::output::held_out_text(&held_out));
    train(arguments, base, Prepared { plan, samples, held_out, folder, origin, asked, by_held_out }, decorated)
}

/// The day on which a run began: templates may print it, and a run that goes on has the same texts.
fn first_day(folder: &Path, resume: bool) -> String {
    let began = std::fs::read_to_string(folder.join("recipe.toml")).ok().filter(|_| resume);
    let began = began.and_then(|text| Recipe::parse(&text).ok()?.now);
    began.unwrap_or_else(|| Moment::now().to_date())
}

/// What a run begins with, beside the model.
struct Prepared {
    plan: Plan,
    samples: Samples,
    held_out: Samples,
    folder: PathBuf,
    origin: Origin,
    asked: Asked,
    /// Whether base and result are compared by what is held out.
    by_held_out: bool,
}

fn train(arguments: &Arguments, base: Base, prepared: Prepared, decorated: bool) -> Result<(), Failure> {
    let Prepared { plan, samples, held_out, folder, origin, asked, by_held_out } = prepared;
    std::fs::create_dir_all(&folder)
        .map_err(|fault| Failure::new(Status::CannotCreate, format!("cannot make the folder {folder:?}: {fault}")))?;
    durable::write_file(&folder.join("recipe.toml"), |sink| sink.put(plan.recipe.to_toml().as_bytes()))?;
    let stop = on_signals()?;
    let title = format!("{} on {}", origin.base.name, origin.data.first().map_or("", |data| &data.name));
    let mut told = Told::new(&folder, &title, &plan, arguments.json, decorated);
    let record = record(&folder, (arguments.from_scratch.is_none()).then_some(&base), &plan, &origin)?;
    let Base { decoder, backend, prompt, source, .. } = base;
    let recipe = &plan.recipe;
    let questions =
        Questions { prompt: &prompt, texts: recipe.samples.clone(), tokens: recipe.sample_tokens.unwrap_or(64) };
    let job = Job {
        decoder,
        backend,
        samples,
        held_out,
        identity: tune::output::identity(&plan, &origin),
        plan: plan.clone(),
        checkpoints: Some(folder.join("checkpoints")),
        resume: arguments.resume,
        voice: Some(&questions),
        stop: &stop,
    };
    let mut outcome = tune::run(job, &mut |event| told.tell(event))?;
    told.finish(&outcome.log, &outcome.state.evaluations);
    let (reason, unsaved) = (outcome.reason, outcome.unsaved.take());
    if reason == Reason::Interrupted {
        return unsaved.map_or(Ok(()), |what| Err(Failure::new(Status::CannotCreate, what)));
    }
    let receipt = tune::output::write(&folder, &mut outcome, &plan, &origin, &source)?;
    // What was trained, its moments and its gradients make room for what is measured.
    drop(outcome);
    let measured = if recipe.adapts() {
        receipt::measured(&source, Made::Adapter(&folder), &asked, decorated)?
    } else {
        receipt::measured(&source, Made::Model(&Source::open(&folder)?), &asked, decorated)?
    };
    let receipt = tune::output::with_measured(receipt, measured, by_held_out);
    arguments.measuring.finish(receipt, &folder, |receipt| {
        record.finish(&folder, Form::Folder, Some(receipt))?;
        if arguments.json {
            return output::json(&receipt::with_figures(serde_json::json!({"event": "measured"}), receipt));
        }
        Ok(())
    })
}

/// The processors at hand.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What the result will say of where it comes from. Random weights come from nobody.
fn record(folder: &Path, base: Option<&Base>, plan: &Plan, origin: &Origin) -> Result<Record, Failure> {
    let mut asked = plan.recipe.to_json();
    let data = |data: &Input| serde_json::json!({"name": data.name, "digest": data.digest});
    asked["data"] = origin.data.iter().map(data).collect();
    let digest = || origin.base.digest.clone();
    let parents: Vec<_> =
        base.iter().map(|base| Parent { place: base.place(), digest: digest(), role: Role::Base }).collect();
    Record::begin(folder, Kind::Tune, &parents, asked)
}

/// The learning rate of a model that knows nothing, where the recipe does not say.
const FROM_SCRATCH_RATE: f64 = 1e-3;

/// Makes a model of random weights from a configuration, with the tokenizer and prompt of another; a run that goes on
/// finds it. Gives its folder's name.
fn begin(prompt: &str, config: &Path, folder: &Path, seed: u64) -> Result<String, Failure> {
    let initial = folder.join("initial");
    if !initial.join("config.json").is_file() {
        let config = pasture_files::json::read(config)?;
        let prompt = super::model::source(Some(prompt))?;
        pasture_model::save::write_fresh(&config, &prompt, &initial, seed)?;
    }
    Ok(initial.display().to_string())
}

/// The recipe of a file, and of flags over it.
fn recipe(arguments: &Arguments) -> Result<Recipe, Failure> {
    let (mut table, flags) = (Table::new(), &arguments.recipe_flags.0);
    if let Some(file) = &arguments.recipe {
        let text = super::model::text(None, Some(file))?;
        let parsed = text.parse::<Table>();
        table = parsed.map_err(|fault| Failure::new(Status::Config, format!("{file:?} is no TOML: {fault}")))?;
    }
    // One of two keys that exclude each other wins over the file's other one.
    for (given, beaten) in [("steps", "epochs"), ("epochs", "steps")] {
        if flags.contains_key(given) && !flags.contains_key(beaten) {
            table.remove(beaten);
        }
    }
    table.extend(flags.clone());
    if arguments.from_scratch.is_some() {
        // A model that knows nothing is trained whole, and takes larger steps.
        let method = table.entry("method").or_insert_with(|| "full".into());
        if method.as_str() != Some("full") {
            return Err(Failure::new(Status::Usage, "a model from scratch is trained whole: method \"full\""));
        }
        table.entry("learning_rate").or_insert(FROM_SCRATCH_RATE.into());
    }
    Ok(Recipe::from_table(table)?)
}

fn default_folder(data: &Path) -> PathBuf {
    let stem = data.file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(format!("{stem}-tuned"))
}

/// A flag that the first interrupt sets; the second one ends the program at once.
fn on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first signal finds the flag unset, and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

fn dry_run(plan: &Plan, base: Base, samples: &Samples, json: bool) -> Result<(), Failure> {
    let need = tune::probe(base.decoder, &base.backend, plan, samples)?;
    if json {
        let value = serde_json::json!({
            "recipe": plan.recipe.to_json(), "steps": plan.steps,
            "memory_bytes": need.memory_bytes, "seconds": need.seconds,
        });
        return output::json(&value);
    }
    output::print(&plan.recipe.to_toml())?;
    output::line(&format!("\n# {} steps over {} samples", plan.steps, samples.len()))?;
    if let Some(bytes) = need.memory_bytes {
        output::line(&format!("# memory: about {}", output::bytes(bytes)))?;
    }
    let time = indicatif::HumanDuration(std::time::Duration::from_secs_f64(need.seconds.clamp(0.0, 1e9)));
    output::line(&format!("# time: about {time}, measured over one batch"))
}
