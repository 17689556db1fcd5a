//! The prompt object: chat template, tokenizer, special tokens, stop rules and generation defaults of a model, as one
//! value that trainer, evaluator, chat and server share. Sampling and parsing of answers are not here.
//!
//! What is printed for a conversation is decided by the template alone, and marks in messages stay text.
#![forbid(unsafe_code)]

pub mod answer;
mod carry;
mod conversation;
mod defaults;
mod error;
mod preamble;
mod render;
mod sources;
pub mod template;
mod trained;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

pub use conversation::{Conversation, Message, Role, ToolCall};
pub use defaults::Defaults;
pub use error::{Error, Result};
pub use preamble::Preamble;
pub use template::{Rendered, Template};

use answer::AnswerFormat;
use conversation::Layout;
use sources::{Source, Sources};

use crate::folder::{self, Folder};
use crate::gguf::{self, Gguf, Metadata};
use crate::tokenizer::Tokenizer;

/// A chat template for models whose files have none. It is handed down, because it belongs to a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Whose template it is, for notes.
    pub name: String,
    /// The template.
    pub template: String,
}

/// Everything about prompts of one model; cheap to clone.
#[derive(Clone, Debug)]
pub struct Prompt(Arc<Inner>);

/// A conversation as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The text that the template wrote.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// For each token whether it is the assistant's, end marks of its turns included. All false where the conversation
    /// ends with the prompt for an answer.
    pub trained: Vec<bool>,
}

#[derive(Clone, Debug)]
struct Inner {
    tokenizer: Option<Tokenizer>,
    source: Option<Source>,
    tool_source: Option<Source>,
    template: Option<Template>,
    tool_template: Option<Template>,
    is_fallback: bool,
    tokens: Vec<(String, String)>,
    stop_ids: Vec<u32>,
    stop_strings: Vec<String>,
    defaults: Defaults,
    layout: Layout,
    notes: Vec<String>,
    preamble: Option<Preamble>,
    answers: OnceLock<AnswerFormat>,
}

impl Prompt {
    /// Opens the prompt of a model's folder or GGUF file. For another file the folder that it is in counts.
    pub fn open(path: impl AsRef<Path>, fallback: Option<&Fallback>) -> Result<Prompt> {
        let path = path.as_ref();
        if path.is_dir() {
            return Prompt::in_folder(&Folder::open(path)?, fallback);
        }
        let bytes = folder::map_file(path)?;
        if gguf::recognizes(&bytes) {
            let gguf = Gguf::parse(&bytes, &crate::error::file_name(path))?;
            return Prompt::from_gguf(&gguf.metadata, fallback);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Prompt::in_folder(&Folder::open(parent)?, fallback)
    }

    /// The prompt of a model's folder: of its JSON files, or else of the first GGUF file in it.
    pub fn in_folder(folder: &Folder, fallback: Option<&Fallback>) -> Result<Prompt> {
        const OWN: [&str; 4] = ["tokenizer_config.json", "tokenizer.json", "chat_template.jinja", "config.json"];
        let mut own = false;
        for name in OWN {
            own = own || folder.find(name)?.is_some();
        }
        let names = folder.names()?;
        if let (false, Some(name)) = (own, names.iter().find(|name| name.ends_with(".gguf")))
            && let Some(bytes) = folder.map(name)?
        {
            return Prompt::from_gguf(&Gguf::parse(&bytes, name)?.metadata, fallback);
        }
        Prompt::build(Sources::from_folder(folder)?, fallback)
    }

    /// The prompt in a GGUF file's metadata.
    pub fn from_gguf(metadata: &Metadata, fallback: Option<&Fallback>) -> Result<Prompt> {
        Prompt::build(Sources::from_gguf(metadata)?, fallback)
    }

    fn build(sources: Sources, fallback: Option<&Fallback>) -> Result<Prompt> {
        let Sources { tokenizer, templates, tokens, ends, defaults, mut notes } = sources;
        let of = |name: &str| templates.iter().find(|source| source.name == name);
        let own = of("default").or(templates.first().filter(|_| templates.len() == 1)).cloned();
        let handed = fallback.map(|fallback| Source {
            name: fallback.name.clone(),
            text: fallback.template.clone(),
            file: format!("the built-in template of {}", fallback.name),
        });
        let is_fallback = own.is_none() && handed.is_some();
        let source = own.or(handed);
        let compile = |source: &Source| {
            Template::new(&source.text).map_err(|fault| Error::Source { file: source.file.clone(), source: fault })
        };
        let template = source.as_ref().map(compile).transpose()?;
        let tool_source = of("tool_use").cloned();
        let tool_template = tool_source.as_ref().map(compile).transpose()?;
        match &source {
            Some(source) if is_fallback => {
                notes.push(format!("no chat template in the files; {} is used", source.file))
            }
            // The usual one is no news; where it is from, `template_origin` says.
            Some(source) if source.name == "default" => {}
            Some(source) => notes.push(format!("chat template: {:?} of {}", source.name, source.file)),
            None => notes.push("no chat template: completion only".into()),
        }
        if tool_template.is_some() {
            notes.push("conversations with tools use the template \"tool_use\"".into());
        }
        if source.as_ref().is_some_and(|source| source.text.contains(is_direction_mark)) {
            notes.push(
                "the chat template has marks that change the direction of text; look at it before you trust it".into(),
            );
        }
        let mut inner = Inner {
            tokenizer,
            source,
            tool_source,
            template,
            tool_template,
            is_fallback,
            tokens,
            stop_ids: ends.ids,
            stop_strings: ends.texts,
            defaults,
            layout: Layout::default(),
            notes,
            preamble: None,
            answers: OnceLock::new(),
        };
        inner.probe_layout();
        inner.add_turn_end();
        Ok(Prompt(Arc::new(inner)))
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.0.tokenizer.as_ref()
    }

    /// Whether there is a chat template.
    pub fn has_template(&self) -> bool {
        self.0.template.is_some()
    }

    /// The source of the chat template.
    pub fn template_source(&self) -> Option<&str> {
        self.0.source.as_ref().map(|source| source.text.as_str())
    }

    /// Where the chat template is from: a file, or whose built-in one it is.
    pub fn template_origin(&self) -> Option<&str> {
        self.0.source.as_ref().map(|source| source.file.as_str())
    }

    /// SHA-256 of the chat template's source, in hexadecimal.
    pub fn template_hash(&self) -> Option<String> {
        let digest = Sha256::digest(self.template_source()?.as_bytes());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.0.stop_ids
    }

    /// Texts that end an answer.
    pub fn stop_strings(&self) -> &[String] {
        &self.0.stop_strings
    }

    /// What the files say about sampling.
    pub fn defaults(&self) -> &Defaults {
        &self.0.defaults
    }

    /// How the model writes thoughts and calls of tools, found out by asking its template.
    pub fn answer_format(&self) -> &AnswerFormat {
        self.0.answers.get_or_init(|| self.0.probe_answers())
    }

    /// What was chosen and why, for people.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// A conversation as text, with the ranges that came from its messages. It needs no tokenizer.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered> {
        self.0.render(&self.whole(conversation))
    }

    /// A conversation as tokens. No begin token is added to what a model's own template wrote, as in the reference; a
    /// built-in template gets the tokenizer's.
    pub fn conversation(&self, conversation: &Conversation) -> Result<Encoded> {
        let inner = &*self.0;
        let conversation = &*self.whole(conversation);
        let rendered = inner.render(conversation)?;
        let tokenizer = inner.tokenizer.as_ref().ok_or(Error::NoTokenizer)?;
        let encoding = tokenizer.encode_marked(&rendered.text, &rendered.plain)?;
        let mut trained = vec![false; encoding.ids.len()];
        if !conversation.add_generation_prompt {
            let answers = inner.answers(conversation, &rendered)?;
            trained = inner.mask(&encoding, &answers, &rendered.text);
        }
        let mut ids = encoding.ids;
        let begin = tokenizer.bos().filter(|bos| inner.is_fallback && tokenizer.adds_bos() && ids.first() != Some(bos));
        if let Some(begin) = begin {
            ids.insert(0, begin);
            trained.insert(0, false);
        }
        Ok(Encoded { text: rendered.text, ids, trained })
    }
}

impl Inner {
    fn add_turn_end(&mut self) {
        let Some(id) = self.probe_turn_end() else { return };
        if self.stop_ids.contains(&id) {
            return;
        }
        let spelled = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(id)).unwrap_or_default();
        self.notes.push(format!("{spelled} ends an answer too: the template writes it behind each"));
        self.stop_ids.push(id);
    }
}

fn is_direction_mark(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
