//! Changing a model: adapters merged into its weights, fewer bits for them, and the files of what came out.
//! `model.merge(&adapter)?.quantize("Q4_K_M")?.save("small.gguf")?`; each step is a model that can be asked and measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pasture_lab::export::{self, Form, History};
use pasture_lab::merge::{Part, WithAdapters};
use pasture_lab::quantize::{self, Errors, mixture};
use pasture_lab::receipt::{self, Asked, Change, Input, Level, Made, Receipt, measure_files};
use pasture_model::save::Content;
use pasture_model::{Source, Survey, combine_adapters, survey};
use serde_json::{Value, json};

use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::handle::{Files, Model};
use crate::options::{LoadOptions, Prepare};

/// What was done to a model whose files are not written yet.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    /// Adapters that belong to the weights, and how much of each.
    merged: Vec<(Arc<pasture_tensor::Adapter>, f32)>,
    /// The type that the weights have now, where it was changed.
    quantized: Option<Quantized>,
}

#[derive(Clone)]
struct Quantized {
    /// What it was made from.
    base: Base,
    /// The file until it is saved.
    file: Arc<Scratch>,
    recipe: Value,
}

/// The files that a chain of changes begins with, and what a receipt says of them.
#[derive(Clone)]
struct Base {
    files: Files,
    input: Input,
}

impl Files {
    /// Opens them again.
    fn source(&self) -> Result<Source> {
        match self {
            Files::At(path) => Ok(Source::open(path)?),
            Files::Starter => Model::starter_source(),
            Files::Elsewhere => Err(Error::Change("the model came without files, so none are made of it".to_owned())),
        }
    }
}

/// A file that goes when nobody needs it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that cannot be removed lies where the system keeps temporary files.
        drop(pasture_files::durable::remove(&self.0));
    }
}

impl Scratch {
    fn new() -> Scratch {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Scratch(
            std::env::temp_dir().join(format!("pasture-{process}-{number}-{:016x}.gguf", crate::handle::any_seed())),
        )
    }
}

impl Model {
    /// The model with an adapter in its weights. The answers are computed with the adapter beside them, which is the same
    /// sum; [`Model::save`] and [`Model::quantize`] write it into the numbers. Several may be merged, one after the other.
    ///
    /// ```
    /// # fn main() -> pasture::Result<()> {
    /// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
    /// # let place = std::env::temp_dir().join(format!("pasture-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&place).expect("a folder");
    /// # let data = place.join("pirate.jsonl");
    /// # std::fs::write(&data, "{\"prompt\": \"Who are you?\", \"completion\": \"A pirate!\"}\n".repeat(4)).expect("a file");
    /// # let to = place.join("pirate-q4.gguf");
    /// use pasture::lab::receipt::Level;
    /// use pasture::{Model, Tune};
    ///
    /// let model = Model::load(file)?;
    /// let adapter = Tune::lora(&model).rank(2).set("steps", 1).set("held_out", 0.0).run(&data)?;
    /// let small = model.merge(&adapter)?.quantize("Q4_K_M")?; // models, as any other
    /// println!("{}", small.chat("Who are you?")?);
    /// let receipt = small.save_measured(&to, Level::None)?; // `save` measures quality and speed
    /// println!("{receipt}");
    /// # std::fs::remove_dir_all(&place).expect("it is there");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When an adapter that was not merged stands beside the weights, the weights are in fewer bits already, or adapters
    /// with magnitudes (DoRA) should be added to others.
    pub fn merge(&self, adapter: &Adapter) -> Result<Model> {
        self.merge_share(adapter, 1.0)
    }

    /// The model with a share of an adapter in its weights; 1 is all of it.
    ///
    /// # Errors
    /// As [`Model::merge`].
    pub fn merge_share(&self, adapter: &Adapter, share: f32) -> Result<Model> {
        if self.has_adapter() && self.pending().merged.is_empty() {
            let what = "an adapter stands beside the weights already; begin with the model without it";
            return Err(Error::Change(what.to_owned()));
        }
        if self.pending().quantized.is_some() {
            let what = "the weights are in fewer bits already, and would be rounded twice; merge before that";
            return Err(Error::Change(what.to_owned()));
        }
        let mut pending = self.pending().clone();
        pending.merged.push((adapter.weights(), share));
        let parts: Vec<(&pasture_tensor::Adapter, f32)> =
            pending.merged.iter().map(|(adapter, share)| (&**adapter, *share)).collect();
        let sum = combine_adapters(&parts)?;
        Ok(self.with_weights(Arc::new(sum)).with_pending(pending))
    }

    /// The model with its weights in a type or mixture of fewer bits, as llama.cpp names them: `Q4_K_M`, `Q8_0`. It is
    /// written into a temporary file, and loaded as this one was.
    ///
    /// # Errors
    /// When there is no such type, GGUF cannot say all of the model, or the file cannot be written.
    pub fn quantize(&self, name: &str) -> Result<Model> {
        let mixture = mixture::named(name).map_err(Error::Change)?;
        self.check_whole()?;
        if self.pending().quantized.is_some() {
            return Err(Error::Change("the weights are in fewer bits already".to_owned()));
        }
        let (base, source) = (self.base()?, self.files().source()?);
        let file = Arc::new(Scratch::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = quantize::Options {
            mixture,
            tensors: Vec::new(),
            bits: None,
            importance: None,
            threads,
            history: History::default(),
        };
        let made = {
            let survey = survey(&source)?;
            let content = self.content(&source, &survey)?;
            quantize::quantize_content(&source, &survey, &content, &file.0, &options, &mut |_, _| {})?
        };
        let small = Source::open(&file.0)?;
        // The file goes with the model: nothing is to be kept of it.
        let load_options = LoadOptions { prepare: Prepare::Off, ..self.options().clone() };
        let model = Model::from_source(self.name(), &small, &load_options, &mut |_, _| {})?;
        let merged = self.pending().merged.clone();
        let recipe = made.recipe(&options);
        Ok(model.with_pending(Pending { merged, quantized: Some(Quantized { base, file, recipe }) }))
    }

    /// Writes the model: into a GGUF file where the path ends so, else into a folder. A receipt beside it says from what it
    /// was made and what that did to quality and speed, as far as about two minutes allow.
    ///
    /// # Errors
    /// When an adapter that was not merged stands beside the weights, the model is an assistant, or something is there
    /// already, or a file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Receipt> {
        self.save_measured(path, Level::Quick)
    }

    /// Writes the model, and measures as much as `level` says.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_measured(&self, path: impl AsRef<Path>, level: Level) -> Result<Receipt> {
        let path = path.as_ref();
        self.check_whole()?;
        if path.exists() {
            return Err(Error::Change(format!("{} is there already", path.display())));
        }
        let parts: Vec<f32> = self.pending().merged.iter().map(|(_, share)| *share).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (change, base, recipe) = match &self.pending().quantized {
            Some(Quantized { base, file, recipe }) => {
                if Form::of(path) != Form::Gguf {
                    return Err(Error::Change("weights in fewer bits go into a file that ends in .gguf".to_owned()));
                }
                copy(&file.0, path)?;
                let mut recipe = recipe.clone();
                recipe["merged_shares"] = json!(parts);
                (Change::Quantize, base.clone(), recipe)
            }
            None => {
                let (base, source) = (self.base()?, self.files().source()?);
                let errors = Errors::default();
                {
                    let survey = survey(&source)?;
                    let (content, encode) = (self.content(&source, &survey)?, errors.encoder(threads));
                    let options = export::Options::default();
                    export::write(&source, &survey, &content, &encode, path, &options, &mut |_, _| {})?;
                }
                let recipe = json!({ "merged_shares": parts, "relative_rms_error_by_tensor": errors.relative() });
                (Change::Merge, base, recipe)
            }
        };
        let asked = Asked { level, text: None, tokens_max: None, threads };
        let measured =
            measure_files(&base.files.source()?, Made::Model(&Source::open(path)?), &asked, &mut |_, _, _| {})?;
        let receipt = Receipt::new(change, vec![base.input], recipe).with(measured);
        receipt.write(path)?;
        Ok(receipt)
    }

    /// Refuses what its files could not say.
    fn check_whole(&self) -> Result<()> {
        let what = if self.is_assistant() {
            "an assistant is no weights; change and save its base"
        } else if self.has_adapter() && self.pending().merged.is_empty() {
            "an adapter stands beside the weights; `merge` puts it into them, or save the adapter"
        } else {
            return Ok(());
        };
        Err(Error::Change(what.to_owned()))
    }

    /// What a chain of changes begins with.
    fn base(&self) -> Result<Base> {
        Ok(Base { files: self.files().clone(), input: self.input()? })
    }

    fn input(&self) -> Result<Input> {
        match self.files() {
            Files::At(path) => Ok(receipt::digest(path)?),
            Files::Starter | Files::Elsewhere => {
                let bytes = Model::starter_bytes();
                let name = self.name().to_owned();
                Ok(Input { name, digest: receipt::digest_of(bytes), bytes: bytes.len() as u64 })
            }
        }
    }

    fn content<'a>(&self, source: &'a Source, survey: &'a Survey) -> Result<impl Content + 'a> {
        let part = |(adapter, share): &(Arc<pasture_tensor::Adapter>, f32)| Part {
            adapter: pasture_tensor::Adapter::clone(adapter),
            share: *share,
        };
        Ok(WithAdapters::of(source, survey, self.pending().merged.iter().map(part).collect())?)
    }
}

/// Copies a file so that it is there whole or not at all.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut file = std::fs::File::open(from).map_err(|fault| pasture_files::Error::read(from, fault))?;
    pasture_files::durable::write_file(to, |sink| {
        let mut part = vec![0; 1 << 20];
        loop {
            let count = std::io::Read::read(&mut file, &mut part);
            match count.map_err(|fault| pasture_files::Error::read(from, fault))? {
                0 => return Ok(()),
                count => sink.put(&part[..count])?,
            }
        }
    })?;
    Ok(())
}
