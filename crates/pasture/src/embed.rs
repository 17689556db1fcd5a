//! Texts to vectors: the model's own pooling, normalization, prompts and longest text, unless the caller says otherwise.
//! What neither says is refused, and no text is cut unless asked.

use pasture_engine::Embedding;
use pasture_files::tokenizer::Specials;
use pasture_model::{EmbedRules, Pooling};

use crate::error::{Error, Result};
use crate::handle::Model;

/// How to embed. What is absent is as the model's files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Which rows become the vector.
    pub pooling: Option<Pooling>,
    /// Whether vectors are made one long.
    pub normalize: Option<bool>,
    /// What stands before each text.
    pub prompt: TextPrompt,
    /// Whether a text that is too long is cut at its end; it is an error otherwise.
    pub truncate: bool,
}

/// What stands before each text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TextPrompt {
    /// The prompt that the model's files put there, if any.
    #[default]
    Usual,
    /// The one of that name in the model's files.
    Named(String),
    /// Nothing.
    Nothing,
}

/// Vectors of texts, and how they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One vector for each text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of each text, with its prompt and special tokens, as it was run.
    pub tokens: Vec<usize>,
    /// Which texts were cut.
    pub truncated: Vec<bool>,
    /// Which rows became the vectors.
    pub pooling: Pooling,
    /// Whether the vectors are one long.
    pub normalized: bool,
    /// The name of the prompt that stood before each text.
    pub prompt: Option<String>,
}

impl Model {
    /// One vector for each text, made as the model's files say.
    ///
    /// # Errors
    /// When they do not say how, there is no tokenizer, or a text is empty or too long.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Vec<f32>>> {
        Ok(self.embed_with(texts, &EmbedOptions::default(), &mut |_| {})?.vectors)
    }

    /// One vector for each text, with options; `progress` is told the texts that are done.
    ///
    /// # Errors
    /// As [`Model::embed`]; also when the model's files have no such prompt.
    pub fn embed_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Embeddings> {
        let (rules, tokenizer) = (self.embed_rules()?, self.tokenizer()?);
        let (prompt, before) = self.text_prompt(rules, &options.prompt)?;
        let ids = texts.iter().map(|text| {
            let text = format!("{before}{}", text.as_ref());
            let text = if rules.lowercase { text.to_lowercase() } else { text };
            Ok(tokenizer.encode_with_special(&text, Specials::AsText)?)
        });
        let ids = ids.collect::<Result<Vec<Vec<u32>>>>()?;
        let how = self.embedding(rules, options)?;
        if rules.leaves_prompt_out && !before.is_empty() && how.pooling == Pooling::Mean {
            let what = "this model's mean leaves the rows of the prompt out (\"include_prompt\" is false), which is not known here; embed without a prompt";
            return Err(Error::Embedding(what.to_owned()));
        }
        self.embed_all(ids, tokenizer.after(), how, options.truncate, prompt, progress)
    }

    /// One vector for each text of token ids, which are taken as they are: without a prompt or special tokens.
    ///
    /// # Errors
    /// When the model's files do not say how, an id is past the vocabulary, or a text is empty or too long; also when
    /// the options name a prompt.
    pub fn embed_ids(
        &self,
        ids: Vec<Vec<u32>>,
        options: &EmbedOptions,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Embeddings> {
        if options.prompt != TextPrompt::Usual {
            return Err(Error::Embedding("token ids are taken as they are: a prompt has no effect".to_owned()));
        }
        let how = self.embedding(self.embed_rules()?, options)?;
        self.embed_all(ids, &[], how, options.truncate, None, progress)
    }

    /// Tokens that a text may have.
    ///
    /// # Errors
    /// When the model's files ask for something that is not known here.
    pub fn embed_limit(&self) -> Result<usize> {
        let context = self.engine().context();
        Ok(self.embed_rules()?.tokens_max.map_or(context, |limit| limit.min(context)))
    }

    /// Name and text of what stands before each text.
    fn text_prompt<'r>(&self, rules: &'r EmbedRules, asked: &TextPrompt) -> Result<(Option<String>, &'r str)> {
        let name = match asked {
            TextPrompt::Nothing => None,
            TextPrompt::Usual => rules.default_prompt.as_ref(),
            TextPrompt::Named(name) => Some(name),
        };
        let Some(name) = name else { return Ok((None, "")) };
        let unknown = || {
            let known: Vec<String> = rules.prompts.keys().map(|name| format!("{name:?}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::NoPrompt { name: self.name().to_owned(), prompt: name.clone(), known }
        };
        let text = rules.prompts.get(name).ok_or_else(unknown)?;
        Ok((Some(name.clone()), text))
    }

    fn embedding(&self, rules: &EmbedRules, options: &EmbedOptions) -> Result<Embedding> {
        let pooling = options.pooling.or(rules.pooling);
        let pooling = pooling.ok_or_else(|| Error::NoPooling { name: self.name().to_owned() })?;
        Ok(Embedding { pooling, normalize: options.normalize.or(rules.normalize).unwrap_or(false) })
    }

    /// `after` are the tokens that stay at the end of a text that is cut.
    fn embed_all(
        &self,
        mut ids: Vec<Vec<u32>>,
        after: &[u32],
        how: Embedding,
        truncate: bool,
        prompt: Option<String>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Embeddings> {
        let limit = self.embed_limit()?;
        let mut truncated = Vec::with_capacity(ids.len());
        for (at, ids) in ids.iter_mut().enumerate() {
            let (text, tokens) = (at + 1, ids.len());
            if tokens == 0 {
                return Err(Error::EmptyText { text });
            }
            if tokens > limit && (!truncate || after.len() >= limit) {
                return Err(Error::TextTooLong { text, tokens, limit });
            }
            if tokens > limit {
                ids.truncate(limit - after.len());
                ids.extend_from_slice(after);
            }
            truncated.push(tokens > limit);
        }
        let parts: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let vectors = self.vectors(&parts, how, progress)?;
        Ok(Embeddings {
            vectors: (0..vectors.rows()).map(|at| vectors.row(at).to_vec()).collect(),
            tokens: ids.iter().map(Vec::len).collect(),
            truncated,
            pooling: how.pooling,
            normalized: how.normalize,
            prompt,
        })
    }
}
