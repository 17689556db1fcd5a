//! The files beside a tokenizer: tokenizer_config.json, special_tokens_map.json and added_tokens.json. They name the
//! tokens of roles, add tokens, and say whether a sequence begins and ends with one.

use serde_json::{Map, Value};

use super::added::Added;
use super::error::{Error, Result, invalid, quoted};
use super::{Inner, Slot, Template, json};
use crate::folder::Folder;
use crate::json::read_in;

/// What the files say.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) added: Vec<Added>,
    roles: Vec<(&'static str, String)>,
    adds_bos: Option<bool>,
    adds_eos: Option<bool>,
    /// The name of the tokenizer's class, without `Fast`.
    pub(super) class: String,
    pub(super) lowercase: bool,
}

const ROLES: [&str; 7] = ["bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token"];

impl Settings {
    pub(super) fn read(folder: &Folder) -> Result<Settings> {
        let mut settings = Settings { lowercase: true, ..Settings::default() };
        if let Some(config) = object(folder, "tokenizer_config.json")? {
            settings.read_config(&config)?;
        }
        if let Some(map) = object(folder, "special_tokens_map.json")? {
            settings.read_roles(&map);
        }
        if let Some(map) = object(folder, "added_tokens.json")? {
            for (content, id) in &map {
                let id = number(id, content)?;
                if settings.added.iter().all(|added| added.id != id) {
                    let is_role = settings.roles.iter().any(|(_, name)| name == content);
                    let token = if is_role { Added::control(id, content) } else { Added::text(id, content) };
                    settings.added.push(token);
                }
            }
        }
        Ok(settings)
    }

    fn read_config(&mut self, config: &Map<String, Value>) -> Result<()> {
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        self.class = class.trim_end_matches("Fast").to_owned();
        self.adds_bos = config.get("add_bos_token").and_then(Value::as_bool);
        self.adds_eos = config.get("add_eos_token").and_then(Value::as_bool);
        self.lowercase = config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(true);
        self.read_roles(config);
        let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") else { return Ok(()) };
        for (id, token) in tokens {
            let id = id.parse::<u32>().map_err(|_| invalid("a key of added_tokens_decoder", quoted(id), "an id"))?;
            self.added.push(json::added_token(token, Some(id))?);
        }
        self.added.sort_by_key(|added| added.id);
        Ok(())
    }

    fn read_roles(&mut self, map: &Map<String, Value>) {
        for role in ROLES {
            let value = map.get(role);
            let text = value.and_then(Value::as_str).or_else(|| value?.get("content")?.as_str());
            if let Some(text) = text
                && self.roles.iter().all(|(known, _)| *known != role)
            {
                self.roles.push((role, text.to_owned()));
            }
        }
    }

    /// Applies what was read. `replaces` says that the tokenizer's own file lists no added tokens, so that these may
    /// take the place of its ordinary ones.
    pub(super) fn apply(&self, inner: &mut Inner, replaces: bool) -> Result<()> {
        if replaces {
            for added in &self.added {
                self.add(inner, added)?;
            }
            inner.vocabulary.check_dense(inner.vocabulary.tokens())?;
        }
        let named = |role: &str| {
            let (_, name) = self.roles.iter().find(|(known, _)| *known == role)?;
            let added = inner.added.by_content(name).map(|added| added.id);
            added.or_else(|| inner.vocabulary.find(name.as_bytes()))
        };
        let roles = &mut inner.roles;
        roles.bos = named("bos_token").or(roles.bos);
        roles.eos = named("eos_token").or(roles.eos);
        roles.pad = named("pad_token").or(roles.pad);
        roles.unknown = roles.unknown.or_else(|| named("unk_token"));
        self.frame(inner, replaces);
        Ok(())
    }

    fn add(&self, inner: &mut Inner, added: &Added) -> Result<()> {
        let content = added.content.as_bytes();
        match inner.vocabulary.get(added.id) {
            None => inner.vocabulary.insert(added.id, content, super::vocabulary::Reach::ByIdOnly)?,
            Some(bytes) if bytes == content => {}
            Some(_) => inner.vocabulary.rename(added.id, content)?,
        }
        inner.added.replace(added.clone())
    }

    /// What stands around a text. A tokenizer.json says it itself, except to the classes that overrule it.
    fn frame(&self, inner: &mut Inner, replaces: bool) {
        let overrules = matches!(self.class.as_str(), "LlamaTokenizer" | "GemmaTokenizer" | "CodeLlamaTokenizer");
        let is_overruled = overrules && self.adds_bos.is_some();
        if !replaces && !is_overruled {
            return;
        }
        let has_sentence_piece = inner.unknown_surface.is_some();
        let is_byte_level = matches!(self.class.as_str(), "GPT2Tokenizer" | "PreTrainedTokenizer");
        let (bos, eos) = match self.class.as_str() {
            "T5Tokenizer" => (false, true),
            _ if has_sentence_piece => (true, false),
            _ => (!inner.template.before.is_empty() && !is_byte_level, false),
        };
        let template = &mut inner.template;
        let token = |wanted: bool, id: Option<u32>| id.filter(|_| wanted).into_iter().collect::<Vec<u32>>();
        template.before = token(self.adds_bos.unwrap_or(bos), inner.roles.bos);
        template.after = token(self.adds_eos.unwrap_or(eos), inner.roles.eos);
        if let Template { before, after, pair: Some(pair) } = template {
            let around = |text: Slot| {
                let (before, after) = (before.iter().copied(), after.iter().copied());
                before.map(Slot::Token).chain([text]).chain(after.map(Slot::Token)).collect::<Vec<Slot>>()
            };
            *pair = [around(Slot::First), around(Slot::Second)].concat();
        }
    }

    /// SentencePiece models whose classes give the pieces other ids than the file has.
    pub(super) fn check_ids(&self) -> Result<()> {
        let shifted =
            ["XLMRobertaTokenizer", "CamembertTokenizer", "MBartTokenizer", "MBart50Tokenizer", "BarthezTokenizer"];
        if shifted.contains(&self.class.as_str()) {
            let name = format!("{} without tokenizer.json (its ids are not those of the model file)", self.class);
            return Err(Error::Unsupported { what: "tokenizer class", name });
        }
        Ok(())
    }
}

fn object(folder: &Folder, name: &str) -> Result<Option<Map<String, Value>>> {
    match read_in(folder, name)? {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(crate::error::Error::invalid(name, "it is no JSON object").into()),
    }
}

fn number(id: &Value, content: &str) -> Result<u32> {
    let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
    number
        .ok_or_else(|| invalid(format!("the id of added token {}", quoted(content)), quoted(&id.to_string()), "an id"))
}
