//! `pasture merge`: adapters into a base, or models with each other, with a receipt of what that did.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pasture_lab::change::Error;
use pasture_lab::export::{self, Form, History};
use pasture_lab::merge::{Joined, Method, WithAdapters};
use pasture_lab::quantize::{self, mixture};
use pasture_lab::receipt::{self, Change, Input, Receipt};
use pasture_model::save::Content;
use pasture_model::{Source, Survey, survey};
use pasture_store::lineage::{Kind, Role};
use serde_json::{Value, json};

use super::export::can_make;
use super::history::{Parent, Record};
use super::model::{self, Place};
use super::receipt as verb;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Measuring, Settings};

/// Join adapters into a model, or models with each other
#[derive(Args)]
#[command(after_help = "\
An adapter or model may have a share behind it, as in pirate=0.5. Matrices of a
quantized base are rounded again, and the receipt has the error of each.

Examples:
  pasture merge my-model --adapter pirate --to my-pirate
  pasture merge my-model --adapter pirate=0.7 --adapter polite=0.3 --to both.gguf
  pasture merge my-model --adapter pirate --to small.gguf --type Q4_K_M
  pasture merge one --with other=0.5 --share 0.5 --to mean
  pasture merge one --with other --method slerp --at 0.4 --to between
  pasture merge base --with tuned=1 --with other=1 --method ties --density 0.5 --to joined")]
pub struct Arguments {
    /// The model that begins; for ties and dare the common base
    model: String,
    /// An adapter folder, and its share (may be repeated)
    #[arg(long = "adapter", value_name = "FOLDER[=SHARE]", value_parser = shared, conflicts_with = "with")]
    adapters: Vec<(String, f32)>,
    /// Another model, and its share (may be repeated)
    #[arg(long = "with", value_name = "MODEL[=SHARE]", value_parser = shared)]
    with: Vec<(String, f32)>,
    /// How models are joined
    #[arg(long, value_name = "METHOD", requires = "with")]
    method: Option<Wanted>,
    /// The share of the first model in a linear join (default: 1)
    #[arg(long, value_name = "SHARE", requires = "with")]
    share: Option<f32>,
    /// Where between the two models of a slerp: 0 is the first, 1 the second (default: 0.5)
    #[arg(long, value_name = "PLACE", requires = "with")]
    at: Option<f32>,
    /// The share of changes that ties and dare keep (default: 0.5)
    #[arg(long, value_name = "SHARE", requires = "with")]
    density: Option<f32>,
    /// Chooses what dare drops (default: 0)
    #[arg(long, value_name = "N", requires = "with")]
    seed: Option<u64>,
    /// Where it goes: a folder, or a file that ends in .gguf
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Quantize the result, as `pasture quantize` does
    #[arg(long = "type", value_name = "TYPE", value_parser = mixture::named)]
    mixture: Option<mixture::Mixture>,
    #[command(flatten)]
    measuring: Measuring,
    /// Replace what stands there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Ways to join models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// The weighted mean
    Linear,
    /// Along the arc between two models
    Slerp,
    /// The largest changes from a base, where signs agree
    Ties,
    /// Random changes from a base, scaled up
    Dare,
}

/// A name with a share behind it.
fn shared(text: &str) -> Result<(String, f32), String> {
    let Some((name, share)) = text.rsplit_once('=') else { return Ok((text.to_owned(), 1.0)) };
    let share = share.parse::<f32>().ok().filter(|share| share.is_finite());
    Ok((name.to_owned(), share.ok_or("a number behind =, such as pirate=0.5")?))
}

impl Arguments {
    fn method(&self) -> Result<Method, Failure> {
        let wanted = self.method.unwrap_or(Wanted::Linear);
        let idle = [
            ("--share", self.share.is_some() && wanted != Wanted::Linear),
            ("--at", self.at.is_some() && wanted != Wanted::Slerp),
            ("--density", self.density.is_some() && !matches!(wanted, Wanted::Ties | Wanted::Dare)),
            ("--seed", self.seed.is_some() && wanted != Wanted::Dare),
        ];
        if let Some((flag, _)) = idle.iter().find(|(_, idle)| *idle) {
            return Err(Failure::new(Status::Usage, format!("{flag} has no effect on {wanted:?}").to_lowercase()));
        }
        let density = self.density.unwrap_or(0.5);
        Ok(match wanted {
            Wanted::Linear => Method::Linear,
            Wanted::Slerp => Method::Slerp { at: self.at.unwrap_or(0.5) },
            Wanted::Ties => Method::Ties { density },
            Wanted::Dare => Method::Dare { density, seed: self.seed.unwrap_or(0) },
        })
    }

    fn recipe(&self, method: Option<Method>, made: Value) -> Value {
        let list = |list: &[(String, f32)]| list.iter().map(|(name, share)| json!([name, share])).collect::<Vec<_>>();
        json!({
            "adapters": list(&self.adapters), "models": list(&self.with), "share": self.share,
            "method": method.map(|method| format!("{method:?}")), "result": made,
        })
    }
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let form = Form::of(&arguments.to);
    if arguments.adapters.is_empty() && arguments.with.is_empty() {
        let what = "nothing to join: name an adapter or another model";
        return Err(Failure::new(Status::Usage, what).hint("--adapter FOLDER, or --with MODEL".to_owned()));
    }
    if arguments.mixture.is_some() && form != Form::Gguf {
        return Err(Failure::new(Status::Usage, "--type needs a result that ends in .gguf"));
    }
    can_make(&arguments.to, form, arguments.force)?;
    let method = if arguments.with.is_empty() { None } else { Some(arguments.method()?) };
    let settings = Settings::resolve(&program.clone().and(&arguments.measuring.receipt.0))?;
    let threads =
        settings.whole("threads").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (asked, decorated) =
        (arguments.measuring.asked(&settings, threads)?, output::decorated(settings.text("color")));
    let place = model::place(Some(&arguments.model))?;
    let source = model::source(Some(&arguments.model))?;
    let (bases, record) = began(arguments, &place, method)?;
    let history = record.keys();
    let bar = model::progress("merging", &arguments.model, decorated);
    let mut progress = |done, total| model::advance(&bar, done, total);
    let made = match method {
        None => {
            let survey = survey(&source)?;
            let adapters: Vec<(&Path, f32)> =
                arguments.adapters.iter().map(|(path, share)| (Path::new(path), *share)).collect();
            let content = WithAdapters::open(&source, &survey, &adapters)?;
            write(arguments, &source, &survey, &content, (threads, history), &mut progress)?
        }
        Some(method) => {
            let others = arguments.with.iter().map(|(name, _)| model::source(Some(name)));
            let others = others.collect::<Result<Vec<_>, Failure>>()?;
            let sources: Vec<&Source> = std::iter::once(&source).chain(&others).collect();
            let first = (method == Method::Linear).then(|| arguments.share.unwrap_or(1.0));
            let weights: Vec<f32> = first.into_iter().chain(arguments.with.iter().map(|(_, share)| *share)).collect();
            let content = Joined::open(&sources, &weights, method)?;
            write(arguments, &source, content.survey(), &content, (threads, history), &mut progress)?
        }
    };
    bar.finish_and_clear();
    let receipt = Receipt::new(Change::Merge, bases, arguments.recipe(method, made.recipe));
    let receipt =
        receipt.with(verb::measured(&source, receipt::Made::Model(&Source::open(&arguments.to)?), &asked, decorated)?);
    arguments.measuring.finish(receipt, &arguments.to, |receipt| {
        record.finish(&arguments.to, form, Some(receipt))?;
        let to = arguments.to.display().to_string();
        if arguments.json {
            return output::json(&verb::with_figures(json!({"to": to, "tensor_bytes": made.bytes}), receipt));
        }
        output::line(&format!("{to}: {}", output::bytes(made.bytes)))
    })
}

/// The models and adapters that it begins with, and what the result will say of where it comes from.
fn began(arguments: &Arguments, place: &Place, method: Option<Method>) -> Result<(Vec<Input>, Record), Failure> {
    let mut bases = vec![verb::base(place, &arguments.model)?];
    let mut others = Vec::new();
    for (path, _) in &arguments.adapters {
        bases.push(receipt::digest(Path::new(path))?);
        others.push((Place::At(PathBuf::from(path)), Role::Adapter));
    }
    for (name, _) in &arguments.with {
        let other = model::place(Some(name))?;
        bases.push(verb::base(&other, name)?);
        others.push((other, Role::Model));
    }
    let places = std::iter::once((place, Role::Base)).chain(others.iter().map(|(other, role)| (other, *role)));
    let parents = places.zip(&bases).map(|((place, role), base)| Parent { place, digest: base.digest.clone(), role });
    let parents: Vec<Parent<'_>> = parents.collect();
    let asked = arguments.recipe(method, Value::Null);
    let record = Record::begin(&arguments.to, Kind::Merge, &parents, asked)?;
    Ok((bases, record))
}

/// What was written, for the receipt.
struct Made {
    bytes: u64,
    recipe: Value,
}

/// Writes the numbers: into a folder, or into a GGUF file, whose blocks are made again and measured.
fn write(
    arguments: &Arguments,
    source: &Source,
    survey: &Survey,
    content: &dyn Content,
    (threads, history): (usize, History),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, Error> {
    if let Some(mixture) = arguments.mixture {
        let options =
            quantize::Options { mixture, tensors: Vec::new(), bits: None, importance: None, threads, history };
        let made = quantize::quantize_content(source, survey, content, &arguments.to, &options, progress)?;
        return Ok(Made { bytes: made.bytes, recipe: made.recipe(&options) });
    }
    let errors = quantize::Errors::default();
    let encode = errors.encoder(threads);
    let options = export::Options { history, ..export::Options::default() };
    let made = export::write(source, survey, content, &encode, &arguments.to, &options, progress)?;
    Ok(Made { bytes: made.bytes, recipe: json!({ "relative_rms_error_by_tensor": errors.relative() }) })
}
