//! A prompt on its way into another container: as GGUF metadata, or as the files of a Hugging Face folder.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::defaults::SAMPLING_NAMES;
use super::{Prompt, Result};
use crate::gguf::{self, Metadata, Texts};
use crate::tokenizer::Files;

impl Prompt {
    /// The keys of a GGUF file with this prompt; `vocab` is the number of rows of the model's embedding.
    ///
    /// # Errors
    /// When GGUF has no form for the tokenizer, or for texts that end an answer.
    pub fn to_gguf(&self, vocab: usize) -> Result<Vec<(String, gguf::Value)>> {
        let mut keys = match self.tokenizer() {
            Some(tokenizer) => tokenizer.to_gguf(vocab)?,
            None => Vec::new(),
        };
        if !self.stop_strings().is_empty() {
            let what = format!("the texts that end an answer ({:?}) have no key in GGUF", self.stop_strings());
            return Err(crate::error::Error::unsupported("generation_config.json", what).into());
        }
        if let Some(template) = self.template_source() {
            keys.push(("tokenizer.chat_template".to_owned(), gguf::Value::text(template)));
        }
        if let Some(tools) = &self.0.tool_source {
            let names = gguf::Value::Texts(Texts::from_texts(["tool_use"]));
            keys.push(("tokenizer.chat_templates".to_owned(), names));
            keys.push(("tokenizer.chat_template.tool_use".to_owned(), gguf::Value::text(&tools.text)));
        }
        self.add_ends(&mut keys);
        let defaults = self.defaults();
        for (name, key) in SAMPLING_NAMES.iter().map(|(key, name)| (name, key)) {
            let Some(value) = defaults.sampling.get(*name) else { continue };
            let key = format!("general.sampling.{key}");
            match value.as_i64().filter(|_| !value.is_f64()) {
                Some(number) => keys.push((key, gguf::Value::I32(i32::try_from(number).unwrap_or(i32::MAX)))),
                None => keys.push((key, gguf::Value::F32(value.as_f64().unwrap_or_default() as f32))),
            }
        }
        Ok(keys)
    }

    /// Ends that are not the tokenizer's own take the two further keys.
    fn add_ends(&self, keys: &mut Vec<(String, gguf::Value)>) {
        const EOS: &str = "tokenizer.ggml.eos_token_id";
        let own = self.tokenizer().and_then(|tokenizer| tokenizer.eos());
        let mut ends: Vec<u32> = self.stop_ids().to_vec();
        if let Some(own) = own {
            ends.retain(|id| *id != own);
            ends.insert(0, own);
        }
        let names = [EOS, "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
        for (key, id) in names.into_iter().zip(ends) {
            if !keys.iter().any(|(known, _)| known == key) {
                keys.push((key.to_owned(), gguf::Value::U32(id)));
            }
        }
    }

    /// The files of a folder with the prompt that a GGUF file's metadata hold.
    ///
    /// # Errors
    /// When these files have no form for the vocabulary.
    pub fn to_files(&self, metadata: &Metadata) -> Result<Files> {
        let Some(tokenizer) = self.tokenizer() else { return Ok(Vec::new()) };
        let mut files = tokenizer.to_files(metadata)?;
        if let Some(template) = self.template_source() {
            files.push(("chat_template.jinja".to_owned(), template.as_bytes().to_vec()));
        }
        let mut generation: Map<String, Value> = self.defaults().sampling.clone();
        if !generation.is_empty() {
            generation.insert("do_sample".to_owned(), json!(true));
        }
        match self.stop_ids() {
            [] => {}
            [one] => drop(generation.insert("eos_token_id".to_owned(), json!(one))),
            several => drop(generation.insert("eos_token_id".to_owned(), json!(several))),
        }
        if let Some(bos) = tokenizer.bos() {
            generation.insert("bos_token_id".to_owned(), json!(bos));
        }
        let text = serde_json::to_string_pretty(&Value::Object(generation)).expect("a value is always JSON");
        files.push(("generation_config.json".to_owned(), format!("{text}\n").into_bytes()));
        Ok(files)
    }
}
