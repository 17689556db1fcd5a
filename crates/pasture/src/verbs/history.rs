//! What every result says of where it comes from: its ancestors with their steps, and the licence and notice files that go
//! along. The store knows how it is written; here it is gathered from what a verb began with.

use std::path::Path;

use pasture_files::error::file_name;
use pasture_lab::export::{Form, History};
use pasture_lab::receipt::Receipt;
use pasture_store::licence::Terms;
use pasture_store::lineage::{self, Kind, Lineage, Role, Texts};
use serde_json::{Value, json};

use super::lineage::of;
use super::model::Place;
use crate::exit::Failure;

/// A work that a verb begins with, and the digest of its files.
pub struct Parent<'a> {
    /// Where it is.
    pub place: &'a Place,
    /// Its digest.
    pub digest: String,
    /// What it is there for.
    pub role: Role,
}

/// The history of a result that is about to be made.
pub struct Record {
    lineage: Lineage,
    texts: Texts,
}

impl Record {
    /// Gathers what the parents say. `recipe` is what the verb was asked for.
    pub fn begin(result: &Path, kind: Kind, parents: &[Parent<'_>], recipe: Value) -> Result<Record, Failure> {
        let mut known = Vec::new();
        let mut texts = Texts::default();
        for parent in parents {
            let mut lineage = of(parent.place)?;
            lineage.work_mut().digest = Some(parent.digest.clone());
            if let Place::At(path) = parent.place {
                texts.join(&Texts::of_path(path)?, &lineage.work().name);
            }
            known.push((lineage, parent.role));
        }
        let lineage = Lineage::derive(&file_name(result), kind, &known, recipe, Value::Null);
        let terms = lineage.terms();
        texts.add_notices(&terms);
        // That an ancestor names no licence is told where somebody asks.
        for warning in (Terms { silent: Vec::new(), ..terms }).warnings() {
            eprintln!("note: terms: {warning}");
        }
        Ok(Record { lineage, texts })
    }

    /// The keys of a GGUF file that say so.
    pub fn keys(&self) -> History {
        History(lineage::keys(&self.lineage, &self.texts))
    }

    /// Says so in a result's folder: record, card, licence and notice files. A GGUF file has its keys already.
    pub fn finish(mut self, result: &Path, form: Form, receipt: Option<&Receipt>) -> Result<(), Failure> {
        if form == Form::Gguf {
            return Ok(());
        }
        if let (Some(receipt), Some(step)) = (receipt, &mut self.lineage.work_mut().step) {
            step.figures = json!({"before": receipt.before, "after": receipt.after});
        }
        Ok(lineage::write_folder(result, &self.lineage, &self.texts)?)
    }
}
