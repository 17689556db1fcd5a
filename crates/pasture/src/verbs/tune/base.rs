//! The base model of a run: its weights on a backend that computes in f32, and its prompt.

use std::sync::Arc;

use pasture_files::prompt::Prompt;
use pasture_kernels::Pool;
use pasture_lab::receipt::{Input, digest, digest_of};
use pasture_lab::tune::output::Origin;
use pasture_model::{Decoder, Loaded, Source};
use pasture_tensor::{Backend, Cpu, Precision};

use super::super::model::{self, Place};
use super::super::show::license;
use crate::exit::Failure;

/// A base model.
pub struct Base {
    /// Its weights.
    pub decoder: Arc<Decoder>,
    /// What computes.
    pub backend: Arc<dyn Backend>,
    /// Its files.
    pub source: Source,
    /// Its prompt object.
    pub prompt: Prompt,
    family: &'static str,
    license: Option<String>,
    digest: Input,
    place: Place,
}

/// What computes.
pub struct Compute {
    /// Threads; as many as the machine has processors where absent.
    pub threads: Option<usize>,
    /// Numbers of products.
    pub precision: Precision,
}

impl Base {
    /// Loads a model for training.
    pub fn open(name: &str, compute: Compute, strict: bool, decorated: bool) -> Result<Base, Failure> {
        let Compute { threads, precision } = compute;
        let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(threads)), precision));
        let place = model::place(Some(name))?;
        let source = match &place {
            Place::At(path) => Source::open(path)?,
            Place::Starter => pasture::Model::starter_source()?,
        };
        let bar = model::bar(name, decorated);
        let loaded = pasture_model::load(&source, &backend, &model::file_options(strict), &mut |done, total| {
            model::advance(&bar, done, total);
        });
        bar.finish_and_clear();
        let Loaded { decoder, family, .. } = loaded?;
        let prompt = pasture::prompt_of(&source, family)?;
        let license = license::name(&license::find(&source)?);
        let digest = match &place {
            Place::At(path) => digest(path)?,
            Place::Starter => {
                let bytes = pasture::Model::starter_bytes();
                Input { name: "starter".to_owned(), digest: digest_of(bytes), bytes: bytes.len() as u64 }
            }
        };
        Ok(Base { decoder: Arc::new(decoder), backend, source, prompt, family: family.name, license, digest, place })
    }

    /// Positions that the model has.
    pub fn context(&self) -> usize {
        self.decoder.spec().context
    }

    /// Where its files are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where a run of this base comes from.
    pub fn origin(&self, name: &str, data: Vec<Input>, samples: [usize; 2]) -> Origin {
        let base_name = match &self.place {
            Place::At(path) if path.to_string_lossy() == name => {
                path.canonicalize().unwrap_or_else(|_| path.clone()).display().to_string()
            }
            _ => name.to_owned(),
        };
        Origin {
            base: self.digest.clone(),
            base_name,
            family: self.family.to_owned(),
            license: self.license.clone(),
            data,
            samples,
        }
    }
}
