//! A smaller model that proposes tokens for others: loading it, and whether its ids mean the same as theirs.

use std::sync::Arc;

use pasture_engine::{Forward, ModelDraft, Propose, Runner};
use pasture_files::tokenizer::Tokenizer;
use pasture_model::{Decoder, Loaded, Source};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Precision};

use crate::error::{Error, Result};
use crate::handle::prompt_of;
use crate::options::Device;

/// Ids that only one of two vocabularies may have: some are padded to a round number.
const PADDED: usize = 1024;

/// A smaller model that proposes tokens for others. Clones share the weights.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
/// use pasture::{Device, Draft, LoadOptions, Model};
///
/// let device = Device::new(Some(1));
/// let draft = Draft::load(file, &device)?;
/// let options = LoadOptions { device: Some(device), draft: Some(draft), ..LoadOptions::default() };
/// let model = Model::open_with(file, &options)?;
/// # assert!(!model.chat("What is GGUF?")?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Draft(Arc<Inner>);

struct Inner {
    name: String,
    decoder: Arc<Decoder>,
    tokenizer: Option<Tokenizer>,
    device: Device,
    bytes: u64,
}

impl Draft {
    /// Loads a draft for models that run on the same processor.
    ///
    /// # Errors
    /// As [`crate::Model::load`].
    pub fn load(name: impl AsRef<str>, device: &Device) -> Result<Draft> {
        let found = pasture_store::resolve(name.as_ref())?;
        Draft::from_source(name.as_ref(), &Source::open(&found.path)?, device, &mut |_, _| {})
    }

    /// Loads a draft whose files are open already.
    ///
    /// # Errors
    /// As [`crate::Model::load`].
    pub fn from_source(
        name: &str,
        source: &Source,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Draft> {
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(device.pool().clone(), Precision::Fast));
        let files = pasture_model::LoadOptions::default();
        let Loaded { decoder, family, .. } = pasture_model::load(source, &backend, &files, progress)?;
        let tokenizer = prompt_of(source, family)?.tokenizer().cloned();
        let bytes = source.tensors.names().filter_map(|name| source.tensors.byte_count(name)).sum();
        let (name, decoder, device) = (name.to_owned(), Arc::new(decoder), device.clone());
        Ok(Draft(Arc::new(Inner { name, decoder, tokenizer, device, bytes })))
    }

    /// The name that it was loaded by.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes of its tensors.
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// The processor that it runs on.
    pub(crate) fn device(&self) -> &Device {
        &self.0.device
    }

    /// Whether it can propose tokens for a model with this tokenizer.
    pub(crate) fn check(&self, name: &str, tokenizer: Option<&Tokenizer>) -> Result<()> {
        let what = match (tokenizer, &self.0.tokenizer) {
            (Some(own), Some(other)) => difference(own, other),
            _ => Some("without a tokenizer of both nothing says what their ids mean".to_owned()),
        };
        what.map_or(Ok(()), |what| Err(Error::Draft { draft: self.0.name.clone(), name: name.to_owned(), what }))
    }

    /// The draft at work for one model, whose vocabulary has so many entries.
    pub(crate) fn proposer(&self, vocab: usize) -> Box<dyn Propose> {
        let runner = Runner::new(self.0.decoder.clone(), KvFormat::F16).in_turns(self.0.device.turns().clone());
        let forward: Box<dyn Forward> = Box::new(runner);
        Box::new(ModelDraft::new(forward, vocab))
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Draft {:?}", self.0.name)
    }
}

/// The first id whose token is another, or how much longer one vocabulary is.
fn difference(own: &Tokenizer, draft: &Tokenizer) -> Option<String> {
    let (own_len, draft_len) = (own.len(), draft.len());
    let first = (0..own_len.min(draft_len) as u32).find(|id| own.token(*id) != draft.token(*id));
    let spelled =
        |tokenizer: &Tokenizer, id| tokenizer.token(id).map_or("nothing".to_owned(), |text| format!("{text:?}"));
    match first {
        Some(id) => Some(format!("token id {id} is {} there and {} here", spelled(draft, id), spelled(own, id))),
        None if own_len.abs_diff(draft_len) > PADDED => {
            Some(format!("its vocabulary has {draft_len} tokens and this model's has {own_len}"))
        }
        None => None,
    }
}
