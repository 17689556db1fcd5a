//! A loaded model: opening it by name, asking it, and handles to the floors below. Clones share the weights.
//! How a conversation goes is in `session.rs`, how a text goes on in `completion.rs`.

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use pasture_engine::sampling::{SamplingError, SamplingOptions};
use pasture_engine::{Embedding, Engine, EngineOptions, Logits, Runner, Scored, Text};
use pasture_files::Bytes;
use pasture_files::prompt::{Conversation, Defaults, Fallback, Prompt, Role};
use pasture_files::tokenizer::Tokenizer;
use pasture_lab::evaluate::Subject;
use pasture_model::config::Report;
use pasture_model::families::{self, Family};
use pasture_model::{Decoder, EmbedRules, Loaded, Source, Unused};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Adapter, Backend, Cpu, Precision, Tensor};
use serde_json::Value;

use crate::assistant::Manner;
use crate::change::Pending;
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::evaluation::Evaluation;
use crate::options::{Device, LoadOptions};
use crate::session::{Message, Session};

/// The small model that is part of this library. A constant would be written into the program once for each use.
static STARTER: &[u8] = include_bytes!("../../../starter/starter.gguf");

/// A model that can be talked to. Clones are cheap and share everything.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
/// use pasture::Model;
///
/// let model = Model::load(file)?;
/// println!("{}", model.chat("What is GGUF?")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    /// What its answers take beside the weights.
    adapter: Option<Arc<Adapter>>,
    /// What an assistant changes of it.
    manner: Option<Arc<Manner>>,
    /// What was done to it that its files do not say.
    pending: Arc<Pending>,
}

/// Where a model's files are.
#[derive(Clone, Debug)]
pub(crate) enum Files {
    /// A file or a folder.
    At(PathBuf),
    /// In this library.
    Starter,
    /// In the caller's memory.
    Elsewhere,
}

struct Inner {
    name: String,
    files: Files,
    options: LoadOptions,
    engine: Engine,
    decoder: Arc<Decoder>,
    family: &'static Family,
    report: Report,
    unused: Vec<Unused>,
    unprepared: Option<String>,
    prompt: Prompt,
    defaults: SamplingOptions,
    kv: KvFormat,
    chunk: usize,
    /// What the files say of embedding, or why they cannot be followed: no other verb minds.
    embedding: std::result::Result<EmbedRules, String>,
}

impl Model {
    /// Loads a model: a file, a folder, or a name from the Hugging Face cache or Ollama's folder on this machine.
    ///
    /// # Errors
    /// When there is no such model, a file is broken, or it holds something that this version does not know.
    pub fn load(name: impl AsRef<str>) -> Result<Model> {
        Model::open_with(name, &LoadOptions::default())
    }

    /// Loads a model with options.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open_with(name: impl AsRef<str>, options: &LoadOptions) -> Result<Model> {
        Model::open_with_progress(name, options, &mut |_, _| {})
    }

    /// Loads a model; `progress` is told the bytes that are read and the bytes that there are.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn open_with_progress(
        name: impl AsRef<str>,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        if let Some(assistant) = crate::assistant::find_assistant(name.as_ref())? {
            return Model::from_assistant(name.as_ref(), &assistant, options, progress);
        }
        let found = pasture_store::resolve(name.as_ref())?;
        let source = Source::open(&found.path)?;
        Model::from_source(name.as_ref(), &source, options, progress)
    }

    /// The small model that is part of this library: real, tiny, and wrong about much.
    ///
    /// # Errors
    /// When the system gives no thread or no memory.
    pub fn starter() -> Result<Model> {
        Model::starter_with(&LoadOptions::default())
    }

    /// The small model with options.
    ///
    /// # Errors
    /// As [`Model::starter`].
    pub fn starter_with(options: &LoadOptions) -> Result<Model> {
        let source = Model::starter_source()?;
        Model::from_files("starter", &source, Files::Starter, options, &mut |_, _| {})
    }

    /// The files of the small model.
    ///
    /// # Errors
    /// When the system gives no memory.
    pub fn starter_source() -> Result<Source> {
        Ok(Source::of_gguf_bytes("starter.gguf", Bytes::from(STARTER.to_vec()))?)
    }

    /// The bytes of the small model's file.
    pub fn starter_bytes() -> &'static [u8] {
        STARTER
    }

    /// Loads a model whose files are open already.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_source(
        name: &str,
        source: &Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        let file = source.tensors.gguf().and_then(|_| source.tensors.files().first());
        let at = file.map(PathBuf::as_path).or(source.folder.as_ref().map(|folder| folder.path()));
        let files = at.map_or(Files::Elsewhere, |at| Files::At(at.to_owned()));
        Model::from_files(name, source, files, options, progress)
    }

    fn from_files(
        name: &str,
        source: &Source,
        files: Files,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        let device = options.device.clone().or_else(|| options.draft.as_ref().map(|draft| draft.device().clone()));
        let device = device.unwrap_or_else(|| Device::new(options.threads));
        if let Some(draft) = &options.draft {
            draft.check(name, prompt_of(source, families::find(&source.config)?)?.tokenizer())?;
        }
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(device.pool().clone(), options.precision));
        let (prepared, unprepared) = crate::prepare::find(name, source, &device, options, progress);
        let files_options = pasture_model::LoadOptions { prepared, ..options.files.clone() };
        let loaded = pasture_model::load(source, &backend, &files_options, progress)?;
        let unprepared = unprepared.or(loaded.unprepared);
        let Loaded { decoder, family, report, unused, .. } = loaded;
        let decoder = Arc::new(decoder);
        let kv = options.kv.unwrap_or(match options.precision {
            Precision::Exact | Precision::Bf16 => KvFormat::F32,
            Precision::Fast => KvFormat::F16,
        });
        pasture_model::check_kv(decoder.spec(), kv)?;
        let prompt = prompt_of(source, family)?;
        let embedding = EmbedRules::of(source, decoder.spec().hidden).map_err(|error| error.to_string());
        let defaults = sampling(prompt.defaults())?;
        let text = prompt.tokenizer().map(|tokenizer| Arc::new(tokenizer.clone()) as Arc<dyn Text>);
        let plain = EngineOptions::default();
        let chunk = options.chunk.unwrap_or(plain.step_tokens);
        let running = options.running.unwrap_or(plain.running);
        let LoadOptions { context, kv_bytes, pages, cached, speculation, .. } = options.clone();
        let engine_options =
            EngineOptions { step_tokens: chunk, running, context, pages, kv_bytes, cached, speculation };
        let runner = Runner::new(decoder.clone(), kv).in_turns(device.turns().clone());
        let draft = options.draft.as_ref().map(|draft| draft.proposer(decoder.spec().vocab));
        let engine = Engine::start_with(Box::new(runner), draft, text, engine_options)?;
        let (name, options) = (name.to_owned(), LoadOptions { device: Some(device), ..options.clone() });
        let inner = Inner {
            name,
            files,
            options,
            engine,
            decoder,
            family,
            report,
            unused,
            unprepared,
            prompt,
            defaults,
            kv,
            chunk,
            embedding,
        };
        Ok(Model { inner: Arc::new(inner), adapter: None, manner: None, pending: Arc::default() })
    }

    /// Asks one question and waits for the answer.
    ///
    /// # Errors
    /// When the answer cannot be made, or does not fit into the context.
    pub fn chat(&self, text: impl Into<String>) -> Result<String> {
        self.session().say(text).text()
    }

    /// Begins a conversation.
    pub fn session(&self) -> Session {
        Session::new(self.clone())
    }

    /// Goes on with a text, without a template, for at most 256 tokens; [`Model::completion`] has settings.
    ///
    /// # Errors
    /// When the text cannot be continued, or the context is full.
    pub fn generate(&self, prompt: &str) -> Result<String> {
        self.completion(prompt)?.text()
    }

    /// A text to go on with, and how.
    ///
    /// # Errors
    /// When the model came without a tokenizer.
    pub fn completion(&self, prompt: &str) -> Result<Completion> {
        Completion::of_text(self.clone(), prompt)
    }

    /// Token ids to go on with, and how.
    pub fn completion_of_ids(&self, ids: Vec<u32>) -> Completion {
        Completion::of_ids(self.clone(), ids)
    }

    /// Logits of every position of `ids`, and the outputs of the asked layers; 0 is the embedding.
    ///
    /// # Errors
    /// When there are no ids, one is past the vocabulary, or the context is full.
    pub fn logits(&self, ids: &[u32], outputs: &[usize]) -> Result<Logits> {
        let Inner { decoder, kv, chunk, .. } = &*self.inner;
        if ids.is_empty() {
            return Err(pasture_engine::Error::EmptyPrompt.into());
        }
        Ok(pasture_engine::logits_with(decoder, self.adapter.as_ref(), *kv, ids, *chunk, outputs)?)
    }

    /// For each of `ids` but the first its log-probability after those before it, and the `top` most probable tokens.
    ///
    /// # Errors
    /// When there are no ids, one is past the vocabulary, or the context is full.
    pub fn prompt_logprobs(&self, ids: &[u32], top: usize) -> Result<Vec<Scored>> {
        let Inner { decoder, kv, chunk, .. } = &*self.inner;
        if ids.is_empty() {
            return Err(pasture_engine::Error::EmptyPrompt.into());
        }
        Ok(pasture_engine::prompt_logprobs(decoder, *kv, ids, *chunk, top, self.adapter.as_ref())?)
    }

    /// What the model's files say of embedding.
    ///
    /// # Errors
    /// When they ask for something that is not known here.
    pub fn embed_rules(&self) -> Result<&EmbedRules> {
        self.inner.embedding.as_ref().map_err(|what| Error::Embedding(what.clone()))
    }

    /// Vectors of token ids, `[texts, hidden]`.
    pub(crate) fn vectors(&self, ids: &[&[u32]], how: Embedding, progress: &mut dyn FnMut(usize)) -> Result<Tensor> {
        let Inner { decoder, kv, chunk, .. } = &*self.inner;
        Ok(pasture_engine::embed(decoder, *kv, ids, *chunk, how, progress)?)
    }

    /// The model as it is measured.
    pub fn subject(&self) -> Subject {
        let Inner { decoder, prompt, kv, engine, .. } = &*self.inner;
        let subject = Subject::new(decoder.clone(), prompt.tokenizer().cloned(), *kv).with_context(engine.context());
        match &self.adapter {
            Some(adapter) => subject.with_adapter(adapter.clone()),
            None => subject,
        }
    }

    /// A task to measure the model with: a file, or `FORM:FILE`.
    ///
    /// # Errors
    /// When there is no such file, or its rows have no known form.
    pub fn eval(&self, task: &str) -> Result<Evaluation> {
        Evaluation::open(self.clone(), task)
    }

    /// Whether its answers take an adapter beside the weights.
    pub fn has_adapter(&self) -> bool {
        self.adapter.is_some()
    }

    /// What its answers take beside the weights.
    pub fn adapter(&self) -> Option<Arc<Adapter>> {
        self.adapter.clone()
    }

    pub(crate) fn with_inner(&self, adapter: Arc<Adapter>) -> Model {
        let (inner, manner) = (self.inner.clone(), self.manner.clone());
        Model { inner, adapter: Some(adapter), manner, pending: Arc::default() }
    }

    pub(crate) fn with_pending(&self, pending: Pending) -> Model {
        Model { pending: Arc::new(pending), ..self.clone() }
    }

    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    pub(crate) fn is_assistant(&self) -> bool {
        self.manner.is_some()
    }

    pub(crate) fn files(&self) -> &Files {
        &self.inner.files
    }

    /// How it was loaded, with the processor that it has.
    pub(crate) fn options(&self) -> &LoadOptions {
        &self.inner.options
    }

    pub(crate) fn with_manner(&self, manner: Arc<Manner>) -> Model {
        Model { manner: Some(manner), ..self.clone() }
    }

    /// The name that it was loaded by.
    pub fn name(&self) -> &str {
        self.manner.as_ref().map_or(&self.inner.name, |manner| &manner.name)
    }

    /// The thread that computes: requests of token ids, several answers, log-probabilities.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// The weights, ready to run.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.inner.decoder
    }

    /// The page that says how models of its family are built.
    pub fn family(&self) -> &'static Family {
        self.inner.family
    }

    /// Keys of the configuration that had no use, and why.
    pub fn report(&self) -> &Report {
        &self.inner.report
    }

    /// Tensors that had no use, and why.
    pub fn unused_tensors(&self) -> &[Unused] {
        &self.inner.unused
    }

    /// Why a file of packed weights that is there is not used, or why none was written although that was asked for.
    pub fn unprepared(&self) -> Option<&str> {
        self.inner.unprepared.as_deref()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.prompt.tokenizer().ok_or_else(|| Error::NoTokenizer { name: self.inner.name.clone() })
    }

    /// The settings of sampling in the model's own files.
    pub fn sampling_defaults(&self) -> &SamplingOptions {
        self.manner.as_ref().map_or(&self.inner.defaults, |manner| &manner.defaults)
    }

    /// The most new tokens that the model's files ask for, where they leave room after a prompt so long.
    pub(crate) fn default_max_tokens(&self, prompt: usize) -> Option<usize> {
        let tokens = usize::try_from(self.prompt().defaults().max_new_tokens?).ok()?;
        (tokens > 0 && prompt.saturating_add(tokens) <= self.inner.engine.context()).then_some(tokens)
    }

    /// Token ids that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        self.prompt().stop_ids()
    }

    /// Texts that end an answer.
    pub fn stop_strings(&self) -> &[String] {
        self.prompt().stop_strings()
    }

    /// Template, special tokens, stop rules and defaults of the model's files.
    pub fn prompt(&self) -> &Prompt {
        self.manner.as_ref().map_or(&self.inner.prompt, |manner| &manner.prompt)
    }

    /// The token ids that a conversation becomes, with the opening of an answer.
    ///
    /// # Errors
    /// When there is no tokenizer, a role is unknown, or the template refuses the conversation.
    pub fn conversation_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.tokenizer()?;
        let message = |message: &Message| {
            let role = Role::from_name(&message.role).ok_or_else(|| Error::Role { role: message.role.clone() })?;
            Ok(pasture_files::prompt::Message::new(role, message.content.as_str()))
        };
        let conversation = Conversation::to_answer(messages.iter().map(message).collect::<Result<_>>()?);
        Ok(self.prompt().conversation(&conversation)?.ids)
    }
}

/// The prompt of a model's files, or its family's template where they have none.
///
/// # Errors
/// When a file of the prompt is broken, or the folder has a tokenizer's settings and no tokenizer.
pub fn prompt_of(source: &Source, family: &Family) -> Result<Prompt> {
    let fallback =
        family.fallback.map(|template| Fallback { name: family.name.to_owned(), template: template.to_owned() });
    match (source.tensors.gguf(), &source.folder) {
        (None, Some(folder)) => {
            let prompt = Prompt::in_folder(folder, fallback.as_ref())?;
            const SETTINGS: &str = "tokenizer_config.json";
            // Such a model had a tokenizer: a file is missing, and the settings would have no effect.
            if prompt.tokenizer().is_none() && folder.find(SETTINGS)?.is_some() {
                let what =
                    format!("tokenizer (tokenizer.json, tokenizer.model, tekken.json), although {SETTINGS:?} is there");
                return Err(folder.missing(what).into());
            }
            Ok(prompt)
        }
        (Some(metadata), _) => Ok(Prompt::from_gguf(metadata, fallback.as_ref())?),
        (None, None) => unreachable!("a checkpoint in memory is a GGUF file"),
    }
}

/// The settings of sampling in a model's files; a file that asks for no sampling gets the most probable token.
fn sampling(defaults: &Defaults) -> Result<SamplingOptions> {
    let mut config = defaults.sampling.clone();
    if defaults.greedy {
        config.insert("do_sample".to_owned(), Value::Bool(false));
    }
    let engine = |error: SamplingError| Error::from(pasture_engine::Error::from(error));
    let mut options = SamplingOptions::from_generation_config(&Value::Object(config)).map_err(engine)?;
    if !defaults.greedy {
        // GGUF files have settings that a generation_config.json has no names for.
        for (name, value) in &defaults.sampling {
            options.set(name, value).map_err(engine)?;
        }
    }
    Ok(options)
}

/// A seed that nobody chose.
pub(crate) fn any_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
