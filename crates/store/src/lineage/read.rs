//! What a model's files say of where it comes from: our own record, else what its card, its keys or a receipt name.

use std::path::Path;

use pasture_files::error::file_name;
use pasture_files::folder::{self, Folder};
use pasture_files::gguf::Metadata;
use pasture_files::size::Size;
use pasture_files::{Tensors, json};
use serde_json::{Value, json};

use super::{FILE, KEY, Kind, Lineage, PARENTS_MAX, Parent, Role, Step, Work};
use crate::Digest;
use crate::assistant::{Assistant, digest_of};
use crate::error::Result;
use crate::licence::{self, Statement};
use crate::name::Name;

const FILE_BYTES_MAX: u64 = 4 << 20;
const RECEIPT_BYTES_MAX: u64 = 64 << 20;

/// The lineage of a model or adapter: its file or folder.
///
/// # Errors
/// When a file that is there cannot be read, or is no record.
pub fn of_path(path: &Path) -> Result<Lineage> {
    let name = repository_of(path).unwrap_or_else(|| file_name(path));
    if path.is_dir() {
        return told_by(receipt(path)?, of_folder(&Folder::open(path)?, &name)?);
    }
    if licence::is_gguf(path) {
        let tensors = Tensors::open(path)?;
        if let Some(metadata) = tensors.gguf() {
            let found = of_gguf(metadata, &name)?;
            return told_by(receipt(path)?, called(found, &name, &licence::beside(path)?));
        }
    }
    Ok(Lineage::root(named(&name, &[])))
}

/// The lineage of an assistant under a name: made of its base, whose own lineage is given, and of its adapters. Files of a
/// cache that are named by their digests are not read for it.
///
/// # Errors
/// When a file that is there cannot be read, or is no record.
pub fn of_assistant(name: &str, assistant: &Assistant, mut base: Lineage) -> Result<Lineage> {
    let path = Path::new(&assistant.base);
    let is_made = base.work().step.as_ref().is_some_and(|step| step.kind == Kind::Create);
    let mut lineage = match is_made && assistant.base.ends_with("/.") {
        // It came in the folder of its base, whose record is its own.
        true => base,
        false => {
            if base.work().digest.is_none() && path.exists() {
                base.work_mut().digest = Some(digest(path)?);
            }
            let mut parents = vec![(base, Role::Base)];
            for beside in &assistant.adapters {
                let path = Path::new(&beside.path);
                let mut adapter = of_path(path)?;
                adapter.work_mut().digest = Some(digest(path)?);
                parents.push((adapter, Role::Adapter));
            }
            let mut recipe = assistant.settings.clone();
            if !assistant.adapters.is_empty() {
                let weights = assistant.adapters.iter().map(|beside| beside.weight);
                recipe.insert("adapter_weights".to_owned(), json!(weights.collect::<Vec<_>>()));
            }
            Lineage::derive(name, Kind::Create, &parents, Value::Object(recipe), Value::Null)
        }
    };
    let work = lineage.work_mut();
    work.name = name.to_owned();
    for licence in assistant.license.iter().flat_map(|text| licences_in(text)) {
        if !work.licences.contains(&licence) {
            work.licences.push(licence);
        }
    }
    Ok(lineage)
}

/// What the name or the text of a licence says that it is.
fn licences_in(text: &str) -> Vec<String> {
    let known = licence::of_text(text).into_iter().map(|licence| licence.id.clone()).collect();
    let is_word = text.len() <= super::NAME_BYTES_MAX && !text.chars().any(char::is_control);
    match licence::named(text) {
        Some(licence) => vec![licence.id.clone()],
        None if is_word => vec![text.to_owned()],
        None => known,
    }
}

/// The digest by which a lineage knows a file or folder.
fn digest(path: &Path) -> Result<String> {
    let found = match path.is_dir() {
        true => Digest::of_folder(path, &mut |file| digest_of(file))?,
        false => digest_of(path)?,
    };
    Ok(found.to_string())
}

/// The receipt beside a result; none where there is none.
fn receipt(path: &Path) -> Result<Option<Value>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(if path.is_dir() { "/receipt.json" } else { ".receipt.json" });
    let beside = Path::new(&beside);
    match beside.is_file() {
        true => Ok(Some(json::parse(&folder::read_file(beside, Size::new(RECEIPT_BYTES_MAX))?, &file_name(beside))?)),
        false => Ok(None),
    }
}

/// Adds what a receipt tells: the figures of the last step, or the step itself where nothing else says it.
fn told_by(receipt: Option<Value>, mut lineage: Lineage) -> Result<Lineage> {
    let Some(receipt) = receipt else { return Ok(lineage) };
    let figures = json!({"before": receipt["before"], "after": receipt["after"]});
    if let Some(step) = &mut lineage.works[0].step {
        // Beside an assistant's file lies the receipt of its base.
        if step.figures.is_null() && step.kind != Kind::Create {
            step.figures = figures;
        }
        return Ok(lineage);
    }
    let kind = match receipt["change"].as_str() {
        Some("tune") => Kind::Tune,
        Some("merge") => Kind::Merge,
        Some("quantize") => Kind::Quantize,
        _ => return Ok(lineage),
    };
    let good = |text: &str| text.len() <= super::NAME_BYTES_MAX && !text.chars().any(char::is_control);
    let bases = receipt["base"].as_array().into_iter().flatten().filter_map(|base| {
        let digest = base["digest"].as_str().filter(|digest| good(digest)).map(str::to_owned);
        Some(Work { digest, ..named(base["name"].as_str().filter(|name| good(name))?, &[]) })
    });
    let bases: Vec<Work> = bases.take(PARENTS_MAX).collect();
    let role = |at: usize| if at == 0 { Role::Base } else { Role::Model };
    let from = (0..bases.len()).map(|at| Parent { work: at + 1, role: role(at) }).collect();
    lineage.works[0].step = Some(Step { kind, from, recipe: receipt["recipe"].clone(), figures });
    lineage.works.extend(bases);
    Ok(lineage)
}

/// The lineage that a GGUF file's keys tell.
pub fn of_gguf(metadata: &Metadata, name: &str) -> Result<Lineage> {
    let statements = licence::of_gguf(metadata);
    if let Some(text) = metadata.text(KEY)? {
        return Ok(called(Lineage::parse(text.as_bytes(), name)?, name, &statements));
    }
    let text = |key: String| metadata.text(&key).ok().flatten().map(str::to_owned);
    let count = metadata.count("general.base_model.count").ok().flatten().unwrap_or(0).min(PARENTS_MAX as u64);
    let base = |at: u64| {
        let name = text(format!("general.base_model.{at}.name"))?;
        let address = text(format!("general.base_model.{at}.repo_url"));
        let repository = address.and_then(|address| repository_in(&address)).or_else(|| {
            let owner = text(format!("general.base_model.{at}.organization"))?;
            Some(format!("{owner}/{}", name.rsplit('/').next()?))
        });
        Some(repository.unwrap_or(name))
    };
    Ok(made_from(named(name, &statements), &(0..count).filter_map(base).collect::<Vec<_>>(), Kind::Unknown))
}

fn of_folder(folder: &Folder, name: &str) -> Result<Lineage> {
    let statements = licence::of_folder(folder)?;
    if let Some(bytes) = folder.read(FILE, Size::new(FILE_BYTES_MAX))? {
        return Ok(called(Lineage::parse(&bytes, FILE)?, name, &statements));
    }
    let card = folder.read("README.md", Size::new(FILE_BYTES_MAX))?.unwrap_or_default();
    let card = String::from_utf8_lossy(&card).into_owned();
    let head = licence::front_matter(&card).unwrap_or_default();
    let mut bases = licence::values(head, "base_model");
    let relation = licence::values(head, "base_model_relation");
    let mut kind = match relation.first().map(String::as_str) {
        Some("quantized") => Kind::Quantize,
        Some("merge") => Kind::Merge,
        Some("finetune" | "adapter") => Kind::Tune,
        _ => Kind::Unknown,
    };
    if bases.is_empty()
        && let Some(config) = json::read_in(folder, "adapter_config.json")?
        && let Some(base) = config["base_model_name_or_path"].as_str()
    {
        bases.push(if Path::new(base).is_absolute() { file_name(Path::new(base)) } else { base.to_owned() });
        kind = Kind::Tune;
    }
    bases.retain(|base| base.len() <= super::NAME_BYTES_MAX && !base.chars().any(char::is_control));
    bases.truncate(PARENTS_MAX);
    Ok(made_from(named(name, &statements), &bases, kind))
}

/// The repository that a path in a Hugging Face cache belongs to.
pub fn repository_of(path: &Path) -> Option<String> {
    let real = path.canonicalize().ok();
    let of = |path: &Path| path.iter().rev().find_map(|part| Name::of_hub(part.to_str()?));
    of(path).or_else(|| of(real.as_deref()?))
}

/// `owner/name` at the end of a repository's address.
fn repository_in(address: &str) -> Option<String> {
    let mut parts = address.trim_end_matches('/').rsplit('/');
    let (name, owner) = (parts.next()?, parts.next()?);
    let repository = format!("{owner}/{name}");
    Name::parse(&repository).ok().map(|_| repository)
}

fn named(name: &str, statements: &[Statement]) -> Work {
    let licences = statements.iter().map(|row| row.named.clone());
    let origin = (name.contains('/') && Name::parse(name).is_ok()).then(|| name.to_owned());
    Work { name: name.to_owned(), digest: None, origin, licences: licences.collect(), step: None }
}

fn made_from(work: Work, bases: &[String], kind: Kind) -> Lineage {
    let mut lineage = Lineage::root(work);
    if bases.is_empty() {
        return lineage;
    }
    let role = |at: usize| if at == 0 { Role::Base } else { Role::Model };
    let from = (0..bases.len()).map(|at| Parent { work: at + 1, role: role(at) }).collect();
    lineage.works[0].step = Some(Step { kind, from, recipe: Value::Null, figures: Value::Null });
    lineage.works.extend(bases.iter().map(|base| named(base, &[])));
    lineage
}

/// Our own record under the name that the file has now, with what its files say of its licence now.
fn called(mut lineage: Lineage, name: &str, statements: &[Statement]) -> Lineage {
    let found = named(name, statements);
    // A card of ours names the licences of all ancestors, joined by a sign: that says nothing new.
    let told = |name: &str| lineage.works.iter().any(|work| work.licences.iter().any(|there| there == name));
    let more: Vec<String> = found.licences.into_iter().filter(|licence| !licence.split('+').all(&told)).collect();
    let work = lineage.work_mut();
    work.name = found.name;
    work.origin = found.origin.or(work.origin.take());
    for licence in more {
        if !work.licences.contains(&licence) {
            work.licences.push(licence);
        }
    }
    lineage
}
