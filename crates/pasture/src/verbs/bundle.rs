//! `pasture bundle`: models in one signed file for another machine, and the check of such a file without unpacking.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_store::bundle::{Base, Bundle, Gathered, Signature, gather, gather_assistant, pack};
use pasture_store::trust::Keys;
use serde_json::{Value, json};

use super::lineage::{of_assistant, short_name};
use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// Pack models into one signed file, or check such a file
#[derive(Args)]
#[command(after_help = "\
The file has everything that a machine without a network needs: weights,
tokenizer, prompt, adapters, card, licence and notice files, receipts, lineage.
An assistant brings its base and its adapters along.
The same models and the same key give the same bytes. Your key is made once, by
`pasture trust init`; whoever unpacks the file trusts its public half.

Examples:
  pasture bundle my-model.gguf -o my-model.pasture
  pasture bundle pirate -o pirate.pasture
  pasture bundle my-model my-adapter -o both.pasture --name kit
  pasture bundle --verify both.pasture")]
pub struct Arguments {
    /// Models, adapters and assistants
    #[arg(required_unless_present = "verify")]
    models: Vec<String>,
    /// The file to write
    #[arg(long, short = 'o', visible_alias = "to", value_name = "FILE", required_unless_present = "verify")]
    output: Option<PathBuf>,
    /// What the bundle is called (default: as its first model)
    #[arg(long, value_name = "NAME", conflicts_with = "verify")]
    name: Option<String>,
    /// Check a bundle: its signature, and every byte of it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["models", "output", "force"])]
    verify: Option<PathBuf>,
    /// Write a bundle that nobody signed, or take one
    #[arg(long)]
    unsigned: bool,
    /// Replace what stands there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let decorated = output::decorated(Settings::resolve(program)?.text("color"));
    match (&arguments.verify, &arguments.output) {
        (Some(file), _) => verify(file, arguments, decorated),
        (None, Some(file)) => write(file, arguments, decorated),
        (None, None) => Err(Failure::new(Status::Usage, "-o FILE says where the bundle goes")),
    }
}

fn write(file: &Path, arguments: &Arguments, decorated: bool) -> Result<(), Failure> {
    model::can_hold(file)?;
    if file.exists() && !arguments.force {
        let what = format!("{file:?} is there already");
        return Err(Failure::new(Status::CannotCreate, what).hint("--force replaces it".to_owned()));
    }
    let keys = keys()?;
    let signer = if arguments.unsigned { None } else { keys.own()? };
    if signer.is_none() && !arguments.unsigned {
        let hint = "`pasture trust init` makes a key, once; --unsigned writes a bundle that nobody signed";
        return Err(Failure::new(Status::Unavailable, "there is no key to sign with").hint(hint.to_owned()));
    }
    let works = arguments.models.iter().map(|text| work(text)).collect::<Result<Vec<_>, _>>()?;
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => works.first().map(|work| work.work.name.clone()).unwrap_or_default(),
    };
    let bar = model::progress("packing", &name, decorated);
    let packed = pack(file, &name, works, signer.as_ref(), &mut |done, all| model::advance(&bar, done, all));
    bar.finish_and_clear();
    packed?;
    let bundle = Bundle::open(file)?;
    told(&bundle, signer.as_ref().map(|_| "own"), arguments.json)
}

/// A model or adapter, or an assistant with its base and its adapters.
fn work(text: &str) -> Result<Gathered, Failure> {
    let name = short_name(text)?;
    let Some(assistant) = model::assistant(Some(text))? else {
        let Place::At(path) = model::place(Some(text))? else {
            let what = "the starter is part of the program: every copy of the program has it";
            return Err(Failure::new(Status::Usage, what));
        };
        return Ok(gather(&path, &name)?);
    };
    let base = match model::place(Some(&assistant.base))? {
        Place::At(path) => Base::at(&path)?,
        // Another version of the program may have another starter.
        Place::Starter => {
            let (source, bytes) = (pasture::Model::starter_source()?, pasture::Model::starter_bytes());
            let metadata =
                source.tensors.gguf().ok_or_else(|| Failure::new(Status::Data, "the starter has no keys"))?;
            Base::of_bytes("starter.gguf", bytes, metadata)?
        }
    };
    Ok(gather_assistant(&name, &assistant, base, of_assistant(&name, &assistant)?)?)
}

fn verify(file: &Path, arguments: &Arguments, decorated: bool) -> Result<(), Failure> {
    let bundle = Bundle::open(file)?;
    let signer = signer(&bundle, arguments.unsigned)?;
    let bar = model::progress("checking", &bundle.manifest.name, decorated);
    let sound = bundle.verify(&mut |done, all| model::advance(&bar, done, all));
    bar.finish_and_clear();
    sound?;
    told(&bundle, signer.as_deref(), arguments.json)
}

/// Who signed a bundle, by the name here; none where that is not asked for.
pub fn signer(bundle: &Bundle, unsigned: bool) -> Result<Option<String>, Failure> {
    match bundle.signature {
        Signature::None if unsigned => Ok(None),
        _ => Ok(Some(bundle.signer(&keys()?)?)),
    }
}

/// The keys of the data folder.
pub fn keys() -> Result<Keys, Failure> {
    let environment = pasture_store::Environment::current();
    let missing =
        || Failure::new(Status::Unavailable, "there is no folder for keys").hint("PASTURE_HOME names one".to_owned());
    environment.data().map(Keys::at).ok_or_else(missing)
}

/// Says what a bundle holds.
fn told(bundle: &Bundle, signer: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let manifest = &bundle.manifest;
    if as_json {
        let key = match bundle.signature {
            Signature::By(key) => Value::from(key.to_string()),
            Signature::None => Value::Null,
        };
        return output::json(&json!({
            "file": bundle.path().display().to_string(), "name": manifest.name, "bytes": bundle.byte_count(),
            "digest": bundle.digest, "signed_by": signer, "key": key, "works": manifest.works, "pieces": manifest.pieces,
        }));
    }
    let signed = signer.map_or_else(|| "nobody signed it".to_owned(), |name| format!("signed by {name:?}"));
    let pieces = output::counted(manifest.pieces.len(), "piece");
    output::line(&format!("{}: {pieces}, {}, {signed}", bundle.path().display(), output::bytes(bundle.byte_count())))?;
    for work in &manifest.works {
        output::line(&format!("  {} ({})", work.name, work.kind.name()))?;
        for line in terms(&work.terms) {
            output::line(&format!("    {line}"))?;
        }
    }
    Ok(())
}

/// The lines of what holds for a work.
fn terms(terms: &Value) -> Vec<String> {
    let list = |key: &str| terms[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let licences: Vec<String> = list("licences").chain(list("unknown")).collect();
    let named = if licences.is_empty() {
        "licence: none is named".to_owned()
    } else {
        format!("licence: {}", licences.join(" + "))
    };
    let asks = list("asks").map(|text| format!("asks: {text}"));
    std::iter::once(named).chain(asks).chain(list("warnings").map(|text| format!("warning: {text}"))).collect()
}
