//! `pasture lineage`: what a model was made from, by which steps, and what holds for it because of that.

use std::path::{Path, PathBuf};

use clap::Args;
use pasture_files::durable;
use pasture_store::Assistant;
use pasture_store::licence::{self, Terms};
use pasture_store::lineage::{self, Lineage, Work};
use serde_json::{Value, json};

use super::model::{self, Place};
use crate::exit::{Failure, Status};
use crate::output;

/// Show what a model was made from, and what that asks of whoever passes it on
#[derive(Args)]
#[command(after_help = "\
Each result of tune, merge, quantize and export says where it comes from: in
pasture.json and the card of a folder, in the keys of a GGUF file. Of other
models the card, the keys or a receipt tell what they can. What the licences ask
is a summary and no legal advice.

Examples:
  pasture lineage my-model.gguf
  pasture lineage pirate --svg pirate.svg
  pasture lineage my-model --json")]
pub struct Arguments {
    /// A file, a folder, an adapter, an assistant, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// Write the tree as a drawing
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let lineage = match model::assistant(Some(&arguments.model))? {
        Some(assistant) => of_assistant(&short_name(&arguments.model)?, &assistant)?,
        None => of(&model::place(Some(&arguments.model))?)?,
    };
    if arguments.json {
        let mut object = terms_object(&lineage.terms());
        object["works"] = serde_json::to_value(lineage.works()).expect("a lineage has text keys");
        return output::json(&object);
    }
    if let Some(file) = &arguments.svg {
        model::can_hold(file)?;
        let drawn = lineage::svg(&lineage);
        durable::write_file(file, |sink| sink.put(drawn.as_bytes()))?;
        return output::line(&format!("{}: {}", file.display(), output::counted(lineage.works().len(), "work")));
    }
    output::print(&lineage::tree(&lineage))
}

/// Terms for machines: licences that are known here, names of others, what is asked, what to look out for.
pub fn terms_object(terms: &Terms) -> Value {
    let licences =
        terms.licences.iter().map(|licence| json!({"id": licence.id, "name": licence.name, "source": licence.source}));
    let asks = terms.obligations();
    let asks = asks.iter().map(|row| json!({"kind": row.kind, "text": row.text, "licence": row.licence.id}));
    json!({
        "licences": licences.collect::<Vec<_>>(), "unknown": terms.unknown, "asks": asks.collect::<Vec<_>>(),
        "warnings": terms.warnings(),
    })
}

/// The lineage of a model that was found.
pub fn of(place: &Place) -> Result<Lineage, Failure> {
    match place {
        Place::At(path) => Ok(lineage::of_path(path)?),
        Place::Starter => starter(),
    }
}

/// The lineage of an assistant under a name.
pub fn of_assistant(name: &str, assistant: &Assistant) -> Result<Lineage, Failure> {
    let base = of(&model::place(Some(&assistant.base))?)?;
    Ok(lineage::of_assistant(name, assistant, base)?)
}

/// What holds for an assistant: the terms of its base, of its adapters, and those that it names itself. No weight is read.
pub fn terms_of_assistant(assistant: &Assistant) -> Result<Terms, Failure> {
    let mut terms = of(&model::place(Some(&assistant.base))?)?.terms();
    for beside in &assistant.adapters {
        terms.join(&lineage::of_path(Path::new(&beside.path))?.terms());
    }
    if let Some(text) = &assistant.license {
        licence::named(text).into_iter().chain(licence::of_text(text)).for_each(|licence| terms.add(licence));
    }
    Ok(terms)
}

fn starter() -> Result<Lineage, Failure> {
    let source = pasture::Model::starter_source()?;
    let digest = Some(pasture_lab::receipt::digest_of(pasture::Model::starter_bytes()));
    let mut lineage = match source.tensors.gguf() {
        Some(metadata) => lineage::of_gguf(metadata, "starter")?,
        None => Lineage::root(Work {
            name: "starter".to_owned(),
            digest: None,
            origin: None,
            licences: Vec::new(),
            step: None,
        }),
    };
    lineage.work_mut().digest = digest;
    Ok(lineage)
}

/// A name without folders and endings, for a result that has none yet.
pub fn short_name(text: &str) -> Result<String, Failure> {
    let last = Path::new(text.trim_end_matches('/')).file_name().map(|name| name.to_string_lossy().into_owned());
    let last = last.unwrap_or_default();
    let stem = last.strip_suffix(".gguf").or_else(|| last.strip_suffix(".toml")).unwrap_or(&last);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' };
    let name: String = stem.chars().map(plain).collect();
    let name = name.trim_matches(['-', '.']).to_owned();
    match name.is_empty() {
        true => Err(Failure::new(
            Status::Usage,
            format!("{text:?} gives no name; call the model by a path that ends in one"),
        )),
        false => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        for (text, wanted) in [
            ("models/my-model.gguf", "my-model"),
            ("owner/name:Q4_K_M", "name-Q4_K_M"),
            ("pirate/", "pirate"),
            ("a b.gguf", "a-b"),
        ] {
            assert_eq!(short_name(text).expect(text), wanted);
        }
        assert!(short_name("..").is_err());
    }
}
