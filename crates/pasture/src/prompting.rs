//! From a conversation to token ids: template, special tokens and stop rules of a model's files.

use pasture_files::json;
use pasture_files::prompt::template::{Moment, Template};
use pasture_files::tokenizer::Tokenizer;
use pasture_model::Source;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::session::Message;

/// What a model's files say of text.
pub(crate) struct Prompting {
    pub(crate) tokenizer: Option<Tokenizer>,
    template: Option<Template>,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) stop_strings: Vec<String>,
    pub(crate) generation: Value,
}

impl Prompting {
    pub(crate) fn open(source: &Source, fallback: Option<&str>) -> Result<Prompting> {
        let (tensors, folder) = (&source.tensors, source.folder.as_ref());
        let mut tokenizer = tensors.gguf().map(Tokenizer::from_gguf).transpose()?.flatten();
        let mut text =
            tensors.gguf().map(|gguf| gguf.text("tokenizer.chat_template")).transpose()?.flatten().map(str::to_owned);
        let mut generation = Value::Null;
        if let (Some(folder), None) = (folder, tensors.gguf()) {
            tokenizer = Tokenizer::in_folder(folder)?;
            generation = json::read_in(folder, "generation_config.json")?.unwrap_or_default();
            let config = json::read_in(folder, "tokenizer_config.json")?.unwrap_or_default();
            text = config["chat_template"].as_str().map(str::to_owned);
        }
        let template = text.as_deref().or(fallback).map(Template::new).transpose()?;
        let mut stop_ids: Vec<u32> = tokenizer.iter().filter_map(Tokenizer::eos).collect();
        let listed = generation["eos_token_id"].as_array().cloned().unwrap_or(vec![generation["eos_token_id"].clone()]);
        stop_ids.extend(listed.iter().filter_map(Value::as_u64).map(|id| id as u32));
        stop_ids.sort_unstable();
        stop_ids.dedup();
        Ok(Prompting { tokenizer, template, stop_ids, stop_strings: Vec::new(), generation })
    }

    pub(crate) fn ids(&self, messages: &[Message], name: &str) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer.as_ref().ok_or_else(|| Error::NoTokenizer { name: name.to_owned() })?;
        let template = self.template.as_ref().ok_or_else(|| Error::NoTemplate { name: name.to_owned() })?;
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        let context = json!({
            "messages": messages,
            "add_generation_prompt": true,
            "bos_token": token(tokenizer.bos()),
            "eos_token": token(tokenizer.eos()),
        });
        let rendered = template.render(&context, Moment::now())?;
        Ok(tokenizer.encode_marked(&rendered.text, &rendered.plain)?.ids)
    }
}
