//! A loaded model as the server takes it, and what the program lends the server: loading by name, embedding, scoring,
//! adapters from a folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture::engine::Adapter;
use pasture::{Draft, EmbedOptions, Error, Model, TextPrompt};
use pasture_serve::{Failed, Loader, Scored, Served, Texts, Vectors, Work};
use pasture_store::Assistant;

use crate::exit::Failure;
use crate::settings::Given;
use crate::verbs::model::{self, Crowd, Place};

/// Opens models, those of the command line and those that requests name.
pub struct Opener {
    pub given: Given,
    pub exact: bool,
    pub strict: bool,
    pub crowd: Crowd,
    /// The folder of adapters that may be loaded later.
    pub adapters: Option<PathBuf>,
}

impl Opener {
    /// Loads what the command line or a cache calls `name`; requests will call it `public`.
    pub fn open(&self, name: &str, public: String) -> Result<(Served, Model), Failure> {
        self.open_in(name, public, &self.crowd)
    }

    fn open_in(&self, name: &str, public: String, crowd: &Crowd) -> Result<(Served, Model), Failure> {
        let opened = model::open_for(Some(name), &self.given, self.exact, self.strict, Some(crowd))?;
        let model = opened.model;
        let (whole, context) = (model.decoder().spec().context, model.engine().context());
        if context < whole && opened.settings.whole("context").is_none() {
            eprintln!("note: {public:?} has a context of {context} tokens here, not {whole}: --memory allows more");
        }
        let weights = match &opened.place {
            Place::At(path) => pasture_store::resolve(&path.to_string_lossy()).map_or(0, |found| found.bytes),
            Place::Starter => Model::starter_bytes().len() as u64,
        };
        let weights = weights.saturating_add(crowd.draft.as_ref().map_or(0, Draft::bytes));
        let weights = weights.saturating_add(opened.assistant.as_ref().map_or(0, Assistant::adapter_bytes));
        let served = Served {
            engine: model.engine().clone(),
            prompt: model.prompt().clone(),
            defaults: model.sampling_defaults().clone(),
            family: model.family().name,
            bytes: weights.saturating_add(model.engine().kv_bytes()),
            work: Arc::new(Beside { name: public.clone(), adapters: self.adapters.clone(), model: model.clone() }),
            adapter: model.adapter(),
            name: public,
        };
        Ok((served, model))
    }
}

impl Loader for Opener {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            pasture_store::list().unwrap_or_default().into_iter().map(|found| found.name).collect();
        names.dedup();
        names
    }

    fn bytes(&self, name: &str) -> Result<u64, Failed> {
        let here = |error: &dyn std::fmt::Display| Failed::Here(error.to_string());
        let assistant = pasture::find_assistant(name).map_err(|error| here(&error))?;
        let weights = match assistant.as_ref().map_or(name, |assistant| assistant.base.as_str()) {
            model::STARTER if pasture_store::resolve(model::STARTER).is_err() => Model::starter_bytes().len() as u64,
            base => pasture_store::resolve(base).map_err(|error| here(&error))?.bytes,
        };
        let adapters = assistant.as_ref().map_or(0, Assistant::adapter_bytes);
        Ok(weights.saturating_add(adapters).saturating_add(self.crowd.kv_bytes))
    }

    fn load(&self, name: &str) -> Result<Served, Failed> {
        // Its tokenizer may be another than the draft's, which is the named models'.
        let crowd = Crowd { draft: None, ..self.crowd.clone() };
        self.open_in(name, name.to_owned(), &crowd)
            .map(|(served, _)| served)
            .map_err(|failure| Failed::Here(failure.to_string()))
    }
}

/// The name that models' files give to the prompt for questions.
const QUERY: &str = "query";

/// The work of a model beside its engine's thread.
struct Beside {
    /// The name by which requests ask. The model's own may be a path, which no client is told.
    name: String,
    adapters: Option<PathBuf>,
    model: Model,
}

impl Work for Beside {
    fn embed(&self, texts: Texts, truncate: bool, normalize: Option<bool>) -> Result<Vectors, Failed> {
        let options = EmbedOptions { truncate, normalize, ..EmbedOptions::default() };
        let made = match texts {
            Texts::Plain(texts) => self.model.embed_with(&texts, &options, &mut |_| {}),
            Texts::Questions(texts) => {
                let has_query = self.model.embed_rules().is_ok_and(|rules| rules.prompts.contains_key(QUERY));
                let prompt = if has_query { TextPrompt::Named(QUERY.to_owned()) } else { TextPrompt::Usual };
                self.model.embed_with(&texts, &EmbedOptions { prompt, ..options }, &mut |_| {})
            }
            Texts::Ids(ids) => self.model.embed_ids(ids, &options, &mut |_| {}),
        };
        let made = made.map_err(|error| failed(error, &self.name))?;
        Ok(Vectors { tokens: made.tokens.iter().sum(), vectors: made.vectors })
    }

    fn score(&self, ids: &[u32], adapter: Option<&Arc<Adapter>>, top: usize) -> Result<Vec<Scored>, Failed> {
        let model = adapter.map_or_else(|| self.model.clone(), |adapter| self.model.with_weights(adapter.clone()));
        model.prompt_logprobs(ids, top).map_err(|error| failed(error, &self.name))
    }

    fn adapter(&self, name: &str) -> Result<Arc<Adapter>, Failed> {
        let folder = self.adapters.as_ref().ok_or_else(|| {
            Failed::Asked("no folder of adapters was named when the server was started: --adapters".to_owned())
        })?;
        if !self.adapters().iter().any(|other| other == name) {
            return Err(Failed::Asked(format!("there is no adapter {name:?} in the server's folder")));
        }
        let adapter = pasture::Adapter::load(folder.join(name), &self.model);
        Ok(adapter.map_err(|error| Failed::Here(error.to_string()))?.weights())
    }

    fn adapters(&self) -> Vec<String> {
        let entries = self.adapters.iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
        let is_adapter = |path: &Path| {
            path.join("adapter_config.json").is_file() || path.extension().is_some_and(|ending| ending == "gguf")
        };
        let found = entries.filter(|entry| is_adapter(&entry.path()));
        let mut names: Vec<String> = found.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// What the client can change, and what not.
fn failed(error: Error, name: &str) -> Failed {
    use pasture::model::Error as M;
    let name = name.to_owned();
    let error = match error {
        Error::NoPooling { .. } => Error::NoPooling { name },
        Error::NoTokenizer { .. } => Error::NoTokenizer { name },
        other => other,
    };
    match &error {
        // It may name files and their folder.
        Error::Embedding(what) => {
            eprintln!("note: a model cannot embed: {what:?}");
            Failed::Asked("this model cannot embed: its files ask for something that is not known here".to_owned())
        }
        Error::NoPooling { .. } | Error::TextTooLong { .. } | Error::EmptyText { .. } | Error::NoTokenizer { .. } => {
            Failed::Asked(error.to_string())
        }
        Error::Model(M::Token { .. } | M::Context { .. } | M::NoHead) => Failed::Asked(error.to_string()),
        Error::Engine(pasture::engine::Error::EmptyPrompt) => Failed::Asked(error.to_string()),
        _ => Failed::Here(error.to_string()),
    }
}
