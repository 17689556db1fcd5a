//! Collects what a model's files say about prompts: templates, special tokens, ends and defaults, from a Hugging Face
//! folder or from GGUF metadata. What is made of it is in `mod`.
#![forbid(unsafe_code)]

use serde_json::Value;

use super::defaults::{Defaults, Ends, ids};
use super::error::{Error, Result};
use super::template::SOURCE_BYTES_MAX;
use crate::folder::Folder;
use crate::gguf::Metadata;
use crate::size::Size;
use crate::tokenizer::Tokenizer;
use crate::{error, json};

/// A template as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// `default`, `tool_use`, ….
    pub(super) name: String,
    pub(super) text: String,
    /// The file that it is from.
    pub(super) file: String,
}

/// All that was found.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) templates: Vec<Source>,
    /// Special tokens under the names that templates use (`bos_token`), spelled out.
    pub(super) tokens: Vec<(String, String)>,
    pub(super) ends: Ends,
    pub(super) defaults: Defaults,
    pub(super) notes: Vec<String>,
}

/// The most templates that one model names.
const TEMPLATES_MAX: usize = 64;

const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl Sources {
    /// Reads a folder as Hugging Face lays it out.
    pub(super) fn from_folder(folder: &Folder) -> Result<Sources> {
        let mut sources = Sources { tokenizer: Tokenizer::in_folder(folder)?, ..Sources::default() };
        sources.standalone_templates(folder)?;
        let config = "tokenizer_config.json";
        if let Some(value) = json::read_in(folder, config)? {
            if !value.is_object() {
                return Err(error::Error::invalid(config, "an object is expected").into());
            }
            if let Some(template) = value.get("chat_template") {
                sources.add_templates(template, config)?;
            }
            sources.add_tokens(&value, config)?;
        }
        let map = "special_tokens_map.json";
        if let Some(value) = json::read_in(folder, map)? {
            sources.add_tokens(&value, map)?;
        }
        let generation = "generation_config.json";
        if let Some(value) = json::read_in(folder, generation)? {
            let (defaults, ends) = Defaults::from_generation_config(&value, generation)?;
            sources.defaults = defaults;
            sources.add_ends(&ends.ids, generation);
            sources.ends.texts = ends.texts;
        }
        if let Some(value) = json::read_in(folder, "config.json")? {
            for part in [Some(&value), value.get("text_config")].into_iter().flatten() {
                if let Some(end) = part.get("eos_token_id") {
                    let found = ids(end, "eos_token_id", "config.json")?;
                    sources.add_ends(&found, "config.json");
                }
            }
        }
        sources.add_tokenizers_own();
        Ok(sources)
    }

    /// Reads the metadata of a GGUF file.
    pub(super) fn from_gguf(metadata: &Metadata) -> Result<Sources> {
        let defaults = Defaults::from_gguf(metadata)?;
        let mut sources = Sources { tokenizer: Tokenizer::from_gguf(metadata)?, defaults, ..Sources::default() };
        const TEMPLATE: &str = "tokenizer.chat_template";
        let mut add = |name: &str, key: &str| -> Result<()> {
            if let Some(text) = metadata.text(key)? {
                sources.push(Source { name: name.into(), text: text.into(), file: format!("GGUF key {key:?}") })?;
            }
            Ok(())
        };
        add("default", TEMPLATE)?;
        if let Some(names) = metadata.texts("tokenizer.chat_templates")? {
            for name in names.iter().take(TEMPLATES_MAX) {
                let name = String::from_utf8_lossy(name);
                add(&name, &format!("{TEMPLATE}.{name}"))?;
            }
        }
        for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
            let key = format!("tokenizer.ggml.{key}");
            if let Some(id) = metadata.count(&key)? {
                let id = u32::try_from(id).map_err(|_| metadata.invalid(&key, "is no token id"))?;
                sources.add_ends(&[id], &key);
            }
        }
        sources.add_tokenizers_own();
        Ok(sources)
    }

    /// `chat_template.jinja`, further ones in their folder, and `chat_template.json`.
    fn standalone_templates(&mut self, folder: &Folder) -> Result<()> {
        self.add_file(folder, "chat_template.jinja", "default")?;
        let further = "additional_chat_templates";
        if folder.path().join(further).is_dir() {
            let further = Folder::open(&folder.path().join(further))?;
            if !further.path().starts_with(folder.path()) {
                return Err(error::Error::unsupported(further.name(), "it is a link out of the model's folder").into());
            }
            for name in further.names()? {
                if let Some(stem) = name.strip_suffix(".jinja") {
                    self.add_file(&further, &name, stem)?;
                }
            }
        }
        if let Some(value) = json::read_in(folder, "chat_template.json")? {
            let template = value.get("chat_template").unwrap_or(&value);
            self.add_templates(template, "chat_template.json")?;
        }
        Ok(())
    }

    fn add_file(&mut self, folder: &Folder, file: &str, name: &str) -> Result<()> {
        let Some(bytes) = folder.read(file, Size::new(SOURCE_BYTES_MAX as u64))? else { return Ok(()) };
        let text = String::from_utf8(bytes).map_err(|_| error::Error::invalid(file, "it is not UTF-8"))?;
        self.push(Source { name: name.into(), text, file: file.into() })
    }

    /// A text, or a list of named texts.
    fn add_templates(&mut self, template: &Value, file: &str) -> Result<()> {
        let wrong = |what: &str| Error::File(error::Error::invalid(file, format!("\"chat_template\" {what}")));
        match template {
            Value::Null => Ok(()),
            Value::String(text) => self.push(Source { name: "default".into(), text: text.clone(), file: file.into() }),
            Value::Array(list) => list.iter().try_for_each(|named| {
                let (name, text) = (named["name"].as_str(), named["template"].as_str());
                let (name, text) = name.zip(text).ok_or_else(|| wrong("has a part without a name or a template"))?;
                self.push(Source { name: name.into(), text: text.into(), file: file.into() })
            }),
            Value::Object(named) => named.iter().try_for_each(|(name, text)| {
                let text = text.as_str().ok_or_else(|| wrong("has a part that is no text"))?;
                self.push(Source { name: name.clone(), text: text.into(), file: file.into() })
            }),
            _ => Err(wrong("is neither a text nor a list of named texts")),
        }
    }

    /// Keeps the first template of each name.
    fn push(&mut self, source: Source) -> Result<()> {
        match self.templates.iter().find(|known| known.name == source.name) {
            Some(known) if known.text != source.text => {
                self.notes
                    .push(format!("template {:?} of {} is used, {} has another", known.name, known.file, source.file));
            }
            Some(_) => {}
            None if self.templates.len() >= TEMPLATES_MAX => {
                let what = format!("there are more than {TEMPLATES_MAX} chat templates");
                return Err(error::Error::invalid(source.file, what).into());
            }
            None => self.templates.push(source),
        }
        Ok(())
    }

    /// Special tokens as texts, or as objects with their `content`.
    fn add_tokens(&mut self, config: &Value, file: &str) -> Result<()> {
        for key in TOKENS {
            let text = match config.get(key) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text,
                Some(Value::Object(token)) => match token.get("content") {
                    Some(Value::String(text)) => text,
                    _ => return Err(error::Error::invalid(file, format!("{key:?} has no \"content\"")).into()),
                },
                Some(_) => return Err(error::Error::invalid(file, format!("{key:?} is no text")).into()),
            };
            if !self.tokens.iter().any(|(known, _)| known == key) {
                self.tokens.push((key.into(), text.clone()));
            }
        }
        Ok(())
    }

    fn add_ends(&mut self, ids: &[u32], source: &str) {
        for &id in ids {
            if self.tokenizer.as_ref().is_some_and(|tokenizer| id as usize >= tokenizer.len()) {
                self.notes.push(format!("end token {id} of {source} is outside the vocabulary and can never come"));
            }
            if !self.ends.ids.contains(&id) {
                self.ends.ids.push(id);
            }
        }
    }

    /// What the tokenizer itself knows, where no file said more.
    fn add_tokenizers_own(&mut self) {
        let Some(tokenizer) = self.tokenizer.clone() else { return };
        let named = self.tokens.iter().find(|(key, _)| key == "eos_token").map(|(_, text)| tokenizer.id(text));
        // Where a file names the token, what the tokenizer guesses does not count.
        let end = named.unwrap_or_else(|| tokenizer.eos());
        self.add_ends(end.as_slice(), "the tokenizer");
        let roles = [
            ("bos_token", tokenizer.bos()),
            ("eos_token", tokenizer.eos()),
            ("unk_token", tokenizer.unknown()),
            ("pad_token", tokenizer.pad()),
        ];
        let has_files = !self.tokens.is_empty();
        for (key, id) in roles {
            let known = has_files || self.tokens.iter().any(|(known, _)| known == key);
            if let (false, Some(text)) = (known, id.and_then(|id| tokenizer.token(id))) {
                self.tokens.push((key.into(), text));
            }
        }
    }
}
