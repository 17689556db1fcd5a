//! Assistants as models: the base with its adapters, and a prompt object with what stands before every conversation. What
//! an assistant's file holds and where it is kept is in `pasture-store`.

use std::path::Path;
use std::sync::Arc;

use pasture_engine::sampling::SamplingOptions;
use pasture_files::prompt::{self, Preamble, Prompt, Role};
use pasture_model::Source;
use pasture_store::{Assistant, Origin, assistant};
use serde_json::Value;

use crate::adapter::Adapter;
use crate::error::{Error, Result};
use crate::handle::Model;
use crate::options::LoadOptions;

/// What an assistant changes of its base.
pub(crate) struct Manner {
    pub(crate) name: String,
    pub(crate) prompt: Prompt,
    pub(crate) defaults: SamplingOptions,
}

/// Settings of an assistant that are not sampling: the longest answer and the context, in tokens.
const LENGTHS: [&str; 2] = ["max_tokens", "context"];

/// Whether an assistant may have a setting of that name and value.
///
/// # Errors
/// In words: the name is not known, with the nearest that is, or the value is outside its range.
pub fn check_assistant_setting(name: &str, value: &Value) -> std::result::Result<(), String> {
    if LENGTHS.contains(&name) {
        let good = value.as_u64().is_some_and(|number| (1..=1 << 32).contains(&number));
        return if good { Ok(()) } else { Err(format!("{name} is {value}, but it must be a whole number above 0")) };
    }
    if name == "logprobs" {
        return Err("logprobs belongs to a request, not to an assistant".into());
    }
    SamplingOptions::default().set(name, value).map_err(|error| error.to_string())
}

/// What stands before the conversations of an assistant.
pub fn preamble_of(assistant: &Assistant) -> Preamble {
    let example = |turn: &assistant::Example| {
        let role = if turn.role == "user" { Role::User } else { Role::Assistant };
        prompt::Message::new(role, turn.content.as_str())
    };
    Preamble {
        documents: assistant.documents.iter().map(|one| (one.name.clone(), one.text.clone())).collect(),
        system: assistant.system.clone(),
        examples: assistant.messages.iter().map(example).collect(),
        tools: assistant.tools.clone(),
        stops: assistant.stop.clone(),
        max_new_tokens: assistant.settings.get("max_tokens").and_then(Value::as_u64),
    }
}

impl Model {
    /// Loads an assistant's base, puts its adapters beside the weights, and what it says before every conversation.
    ///
    /// # Errors
    /// When there is no such base, an adapter is not for it, or a part is not the one that the assistant was made of.
    pub fn from_assistant(
        name: &str,
        assistant: &Assistant,
        options: &LoadOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model> {
        let changed = assistant.changed();
        if !changed.is_empty() {
            return Err(Error::Changed { name: name.to_owned(), what: changed.join("; ") });
        }
        let mut options = options.clone();
        let context = assistant.settings.get("context").and_then(Value::as_u64);
        options.context = options.context.or(context.and_then(|context| usize::try_from(context).ok()));
        let base = match pasture_store::resolve(&assistant.base) {
            Ok(found) => Model::from_source(name, &Source::open(&found.path)?, &options, progress)?,
            Err(pasture_store::Error::NotFound { .. }) if assistant.base == "starter" => Model::starter_with(&options)?,
            Err(error) => return Err(error.into()),
        };
        base.with_assistant(name, assistant)
    }

    /// The same weights as an assistant that they are the base of.
    ///
    /// # Errors
    /// When an adapter is not for this model, or a setting is outside its range.
    pub fn with_assistant(&self, name: &str, assistant: &Assistant) -> Result<Model> {
        let adapters = assistant.adapters.iter();
        let adapters: Vec<(Adapter, f32)> =
            adapters.map(|one| Ok((Adapter::load(&one.path, self)?, one.weight as f32))).collect::<Result<_>>()?;
        let model = if adapters.is_empty() { self.clone() } else { self.with_all(&adapters)? };
        let mut own = SamplingOptions::default();
        for (setting, value) in &assistant.settings {
            if !LENGTHS.contains(&setting.as_str()) {
                own.set(setting, value).map_err(|error| Error::Engine(error.into()))?;
            }
        }
        let prompt = self.prompt().with_preamble(preamble_of(assistant));
        let defaults = own.or(self.sampling_defaults().clone());
        Ok(model.with_manner(Arc::new(Manner { name: name.to_owned(), prompt, defaults })))
    }
}

/// The assistant of that name: the user's, or the one that came with a model from a hub or in a bundle; none where the
/// name is a model's.
///
/// # Errors
/// When its file says something that is not known.
pub fn find_assistant(name: &str) -> Result<Option<Assistant>> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Assistant::in_folder(path, &check_assistant_setting)?);
    }
    if path.exists() {
        return Ok(None);
    }
    let environment = pasture_store::Environment::current();
    match pasture_store::resolve_in(&environment, name) {
        Ok(found) if found.origin == Origin::Assistant => {
            Ok(assistant::find(&environment, name, &check_assistant_setting)?)
        }
        Ok(found) => match assistant::folder_of(&found) {
            Some(folder) => Ok(Assistant::in_folder(&folder, &check_assistant_setting)?),
            None => Ok(None),
        },
        // That there is no such model is told by whoever opens it.
        Err(_) => Ok(None),
    }
}
