//! `pasture quantize`: a model in fewer bits, with a receipt of what that did.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_kernels::Format;
use pasture_lab::change::Error;
use pasture_lab::export::Form;
use pasture_lab::quantize::calibrate::calibrate;
use pasture_lab::quantize::importance::Importance;
use pasture_lab::quantize::ocp::{self, Ocp};
use pasture_lab::quantize::search::least_bits;
use pasture_lab::quantize::{Options, Quantized, mixture, quantize};
use pasture_lab::receipt::{self, Asked, Change, Input, Level, Made, Receipt, Text, Words, measure_quality};
use pasture_model::save::Own;
use pasture_model::{Source, survey};
use pasture_store::lineage::{Kind, Role};
use serde_json::json;

use super::export::can_make;
use super::history::{Parent, Record};
use super::model::{self, Place};
use super::receipt as verb;
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Measuring, Settings};

/// Store a model's weights in fewer bits, and measure what that does
#[derive(Args)]
#[command(after_help = "\
Types are those of llama.cpp: F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0
Q4_K_M Q4_K_S IQ4_NL IQ4_XS Q4_1 Q4_0 MXFP4_MOE NVFP4 Q3_K_L Q3_K_M Q3_K_S IQ3_M
IQ3_S IQ3_XS IQ3_XXS Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S Q2_0 Q1_0
TQ2_0 TQ1_0; those of IQ1 need --calibrate or --imatrix. A folder of safetensors
takes those of the Open Compute Project: MXFP8 MXFP8_E5M2 E4M3 E5M2 MXFP6
MXFP6_E3M2 MXFP4. A receipt is written beside the result.

Examples:
  pasture quantize my-model small.gguf --type Q4_K_M
  pasture quantize my-model small.gguf --type Q4_K_M --calibrate text.txt
  pasture quantize my-model my-model-mxfp4 --type MXFP4
  pasture quantize my-model small.gguf --target 4.5bpw --imatrix i.gguf
  pasture quantize my-model small.gguf --target kl=0.01 --measure text.txt
  pasture quantize my-model small.gguf --type Q5_K_M --tensor \"output*=Q8_0\"
  pasture quantize my-model small.gguf --type Q4_0 --measure text.txt --require kl<0.05")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// What to write: a GGUF file, or a folder for the types of the Open Compute Project
    file: PathBuf,
    /// The mixture of formats (default: Q4_K_M)
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Option<String>,
    /// A size to reach instead, such as 4.5bpw: bits where they take away most of the error; or a divergence over the
    /// text of --measure, such as kl=0.01, with the fewest bits
    #[arg(long, value_name = "SIZE|kl=NATS", value_parser = goal)]
    target: Option<Goal>,
    /// A format for the matrices whose GGUF name matches, * for anything (may be repeated)
    #[arg(long = "tensor", value_name = "PATTERN=TYPE", value_parser = tensor)]
    tensors: Vec<(String, Format)>,
    /// Importance of inputs, a GGUF file as llama.cpp writes it
    #[arg(long, value_name = "FILE", conflicts_with = "calibrate")]
    imatrix: Option<PathBuf>,
    /// Measure the importance of inputs over a text
    #[arg(long, value_name = "TEXT")]
    calibrate: Option<PathBuf>,
    /// Keep the measured importance as a GGUF file
    #[arg(long, value_name = "FILE", requires = "calibrate")]
    save_imatrix: Option<PathBuf>,
    #[command(flatten)]
    measuring: Measuring,
    /// Replace what stands there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a file is to reach in place of a mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// Bits for each weight.
    Bits(f64),
    /// Nats of divergence from the model before, at most.
    Divergence(f64),
}

/// `4.5bpw`, 4.5, or `kl=0.01`.
fn goal(text: &str) -> Result<Goal, String> {
    let number = |text: &str| text.parse::<f64>().ok();
    let found = match text.strip_prefix("kl=") {
        Some(nats) => number(nats).filter(|nats| *nats > 0.0 && nats.is_finite()).map(Goal::Divergence),
        None => {
            number(text.strip_suffix("bpw").unwrap_or(text)).filter(|bits| (1.0..=32.0).contains(bits)).map(Goal::Bits)
        }
    };
    found.ok_or_else(|| "bits for each weight, such as 4.5bpw, or nats of divergence, such as kl=0.01".to_owned())
}

/// The name of a mixture, or of a format for folders.
fn kind(text: &str) -> Result<String, String> {
    match (mixture::named(text), ocp::named(text)) {
        (Err(what), None) => Err(what),
        _ => Ok(text.to_ascii_uppercase()),
    }
}

fn tensor(text: &str) -> Result<(String, Format), String> {
    let (pattern, name) = text.rsplit_once('=').ok_or("a pattern, = and a type, such as output*=Q8_0")?;
    let format = Format::from_name(name).filter(|format| format.can_quantize() && format.ggml_type().is_some());
    let format = format.ok_or_else(|| format!("{name:?} is no type of single tensors that can be written"))?;
    Ok((pattern.to_owned(), format))
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let form = Form::of(&arguments.file);
    let kind = arguments.kind.as_deref().unwrap_or("Q4_K_M");
    let folder = if form == Form::Folder { Some(folder_format(arguments, kind)?) } else { None };
    can_make(&arguments.file, form, arguments.force)?;
    let settings = Settings::resolve(&program.clone().and(&arguments.measuring.receipt.0))?;
    let threads =
        settings.whole("threads").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let asked = arguments.measuring.asked(&settings, threads)?;
    let place = model::place(Some(&arguments.model))?;
    let source = model::source(Some(&arguments.model))?;
    let began = verb::base(&place, &arguments.model)?;
    let record = record(arguments, &place, &began)?;
    let decorated = output::decorated(settings.text("color"));
    if let Some(ocp) = folder {
        let made = into_folder(arguments, &source, ocp, threads, decorated)?;
        let receipt = Receipt::new(Change::Quantize, vec![began], made.folder_recipe(ocp));
        let receipt =
            receipt.with(verb::measured(&source, Made::Model(&Source::open(&arguments.file)?), &asked, decorated)?);
        return arguments.measuring.finish(receipt, &arguments.file, |receipt| {
            record.finish(&arguments.file, form, Some(receipt))?;
            say(arguments, &made, receipt)
        });
    }
    let importance = importance(arguments, &source, threads)?;
    let mut options = Options {
        mixture: mixture::named(kind).map_err(|what| Failure::new(Status::Usage, what))?,
        tensors: arguments.tensors.clone(),
        bits: None,
        importance: importance.as_ref(),
        threads,
        history: record.keys(),
    };
    options.bits = match arguments.target {
        None => None,
        Some(Goal::Bits(bits)) => Some(bits),
        Some(Goal::Divergence(highest)) => Some(searched(arguments, &source, &mut options, highest, decorated)?),
    };
    let made = written(arguments, &source, &arguments.file, &options, decorated)?;
    let mut receipt = Receipt::new(Change::Quantize, vec![began], made.recipe(&options));
    for text in [&arguments.calibrate, &arguments.imatrix].into_iter().flatten() {
        receipt.data.push(receipt::digest(text)?);
    }
    let receipt =
        receipt.with(verb::measured(&source, Made::Model(&Source::open(&arguments.file)?), &asked, decorated)?);
    arguments.measuring.finish(receipt, &arguments.file, |receipt| say(arguments, &made, receipt))
}

/// What a folder is quantized to. Flags that have no effect on one are refused.
fn folder_format(arguments: &Arguments, kind: &str) -> Result<Ocp, Failure> {
    let idle = [
        ("--target", arguments.target.is_some()),
        ("--tensor", !arguments.tensors.is_empty()),
        ("--imatrix", arguments.imatrix.is_some()),
        ("--calibrate", arguments.calibrate.is_some()),
    ];
    if let Some((flag, _)) = idle.iter().find(|(_, given)| *given) {
        let what = format!("{flag} has no effect on a folder; name a file that ends in .gguf");
        return Err(Failure::new(Status::Usage, what));
    }
    ocp::named(kind).ok_or_else(|| {
        let names = ocp::ALL.map(|ocp| ocp.name).join(", ");
        let what = format!("a folder cannot have the type {kind}; name a file that ends in .gguf, or one of {names}");
        Failure::new(Status::Usage, what)
    })
}

fn into_folder(
    arguments: &Arguments,
    source: &Source,
    ocp: Ocp,
    threads: usize,
    decorated: bool,
) -> pasture_lab::change::Result<Quantized> {
    let bar = model::progress("quantizing", &arguments.model, decorated);
    let survey = survey(source)?;
    let content = Own { source, survey: &survey };
    let mut progress = |done, total| model::advance(&bar, done, total);
    let made = ocp::write(source, &survey, &content, &arguments.file, ocp, threads, &mut progress);
    bar.finish_and_clear();
    made
}

/// Says what came out.
fn say(arguments: &Arguments, made: &Quantized, receipt: &Receipt) -> Result<(), Failure> {
    if arguments.json {
        let told = json!({
            "file": arguments.file.display().to_string(), "tensor_bytes": made.bytes, "bits_per_weight": made.bits,
            "matrices_by_format": made.formats,
        });
        return output::json(&verb::with_figures(told, receipt));
    }
    let formats: Vec<String> = made.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let (bytes, file) = (output::bytes(made.bytes), arguments.file.display());
    output::line(&format!("{file}: {bytes}, {:.2} bits per weight; matrices: {}", made.bits, formats.join(", ")))
}

fn written(
    arguments: &Arguments,
    source: &Source,
    to: &Path,
    options: &Options<'_>,
    decorated: bool,
) -> pasture_lab::change::Result<Quantized> {
    let bar = model::progress("quantizing", &arguments.model, decorated);
    let made = quantize(source, to, options, &mut |done, total| model::advance(&bar, done, total));
    bar.finish_and_clear();
    made
}

/// The fewest bits with which the divergence over the text of `--measure` is low enough. Files that are tried stand
/// beside the result and are removed.
fn searched(
    arguments: &Arguments,
    source: &Source,
    options: &mut Options<'_>,
    highest: f64,
    decorated: bool,
) -> Result<f64, Failure> {
    let Some(path) = &arguments.measuring.measure else {
        let what = "a divergence is measured over a text: `--target kl=…` needs `--measure TEXT`";
        return Err(Failure::new(Status::Usage, what));
    };
    let (name, text) = (pasture_files::error::file_name(path), verb::text_of(path)?);
    let mut trial = arguments.file.as_os_str().to_owned();
    trial.push(".trial.gguf");
    let trial = PathBuf::from(trial);
    let (text, tokens_max) = (Some(Text { name, words: Words::Text(text) }), Some(arguments.measuring.tokens()));
    let asked = Asked { level: Level::Full, text, tokens_max, threads: options.threads };
    let found = least_bits(highest, &mut |bits| {
        options.bits = Some(bits);
        match written(arguments, source, &trial, options, decorated) {
            Err(Error::Bits { .. }) => return Ok(f64::INFINITY),
            made => made?,
        };
        let measured = measure_quality(source, Made::Model(&Source::open(&trial)?), &asked, &mut |_, _, _| {})?;
        let divergence = measured.after.divergence.map_or(f64::INFINITY, |found| found.kl);
        eprintln!("{bits:.2} bits per weight: divergence {divergence:.6}");
        Ok(divergence)
    });
    if trial.is_file() {
        pasture_files::durable::remove(&trial)?;
    }
    let (bits, least) = found?;
    if least > highest {
        let what = format!("a divergence of {highest} cannot be reached over this text; {bits} bits have {least:.6}");
        return Err(Failure::new(Status::Failed, what).hint("a larger type has more: --type F16".to_owned()));
    }
    Ok(bits)
}

/// What the file will say of where it comes from.
fn record(arguments: &Arguments, place: &Place, base: &Input) -> Result<Record, Failure> {
    let asked = json!({
        "type": arguments.kind.as_deref().unwrap_or("Q4_K_M"), "target": arguments.target.map(|goal| match goal {
            Goal::Bits(bits) => json!(bits),
            Goal::Divergence(nats) => json!({"kl": nats}),
        }),
        "tensors": arguments.tensors.iter().map(|(pattern, format)| json!([pattern, format.name()])).collect::<Vec<_>>(),
    });
    let parent = Parent { place, digest: base.digest.clone(), role: Role::Base };
    Record::begin(&arguments.file, Kind::Quantize, &[parent], asked)
}

fn importance(arguments: &Arguments, source: &Source, threads: usize) -> Result<Option<Importance>, Failure> {
    if let Some(file) = &arguments.imatrix {
        return Ok(Some(Importance::read(file)?));
    }
    let Some(file) = &arguments.calibrate else { return Ok(None) };
    let found = calibrate(source, &verb::text_of(file)?, arguments.measuring.tokens(), threads)?;
    if let Some(to) = &arguments.save_imatrix {
        found.write(to, &pasture_files::error::file_name(file))?;
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_patterns_are_read() {
        assert_eq!((goal("4.5bpw"), goal("kl=0.01")), (Ok(Goal::Bits(4.5)), Ok(Goal::Divergence(0.01))));
        for wrong in ["0.2bpw", "kl", "kl=", "kl=0", "kl=nan", "ppl=1"] {
            assert!(goal(wrong).is_err(), "{wrong}");
        }
        assert_eq!(tensor("output*=q8_0"), Ok(("output*".to_owned(), Format::Q8_0)));
        assert!(tensor("output").is_err() && tensor("a=IQ9_S").is_err());
    }
}
