//! Answers of a given shape: a JSON schema, a regular expression, one of some texts, or a grammar becomes a mask over
//! the vocabulary before each token. Limits are checked before anything is compiled, and the mask is a function of the
//! shape and the tokens so far alone: the same request masks the same tokens everywhere. Choosing is in `sampling`.

mod formats;
mod gbnf;
mod limits;
mod schema;

use std::collections::HashMap;
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, TokenParser};
use pasture_files::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::sampling::SamplingError;

/// Longest shape, in bytes.
pub const SHAPE_BYTES_MAX: usize = 256 << 10;
/// Compiling takes no longer.
const COMPILE_TIME: Duration = Duration::from_millis(250);
/// How often [`COMPILE_TIME`] where checks are slow.
const SLOW: u32 = if cfg!(debug_assertions) { 40 } else { 1 };
/// Shapes that are kept compiled for a model, and the bytes of their sources together.
const KEPT: (usize, usize) = (64, 4 << 20);
/// States of a compiled shape's lexer: one or two kilobytes each, so 64 MiB.
const STATES: usize = 32_000;

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A JSON object, whatever is in it.
    JsonObject,
    /// A JSON document that this schema accepts.
    JsonSchema(Value),
    /// A text that this regular expression matches from its first letter to its last.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in llama.cpp's notation; the answer is its `root`.
    Gbnf(String),
    /// A grammar in Lark's notation, as llguidance reads it; the answer is its `start`.
    Lark(String),
}

/// Why a shape cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GrammarError(pub String);

/// Makes grammars for one model. The trie of its vocabulary is built once; clones share it.
#[derive(Clone)]
pub struct Grammars(Arc<Inner>);

struct Inner {
    factory: ParserFactory,
    kept: Mutex<HashMap<String, TokenParser>>,
}

/// What one answer may still become.
pub struct Grammar(Matcher);

impl Grammars {
    /// For a vocabulary of `vocab` rows of logits, whose answers end with one of `ends`.
    ///
    /// # Errors
    /// When the vocabulary cannot be used for this.
    pub fn new(tokenizer: &Tokenizer, vocab: usize, ends: &[u32]) -> Result<Grammars, GrammarError> {
        let word = |id: u32| match tokenizer.is_special(id) || ends.contains(&id) {
            // The byte 255 is in no text: a control token is taken only where a grammar names it.
            true => [b"\xff", tokenizer.token(id).unwrap_or_default().as_bytes()].concat(),
            false => tokenizer.token_bytes(id).unwrap_or_default(),
        };
        let count = u32::try_from(vocab).map_err(|_| GrammarError("the vocabulary is too large".into()))?;
        let mut words: Vec<Vec<u8>> = (0..count).map(word).collect();
        let ends: Vec<u32> = ends.iter().copied().filter(|id| *id < count).collect();
        // Without an end token one is made up past the vocabulary, so that it is never chosen.
        let end = ends.first().copied().unwrap_or(count);
        if end == count {
            words.push(b"\xff<|end|>".to_vec());
        }
        let build = move || {
            let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
            let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
            let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            let mut factory = ParserFactory::new_simple(&env).map_err(|error| error.to_string())?;
            factory.quiet();
            let limits = factory.limits_mut();
            (limits.verbose_errors, limits.max_lexer_states) = (false, STATES);
            Ok(factory)
        };
        let built = guarded(build);
        let factory = built.map_err(|what| GrammarError(format!("the vocabulary takes no grammar: {what}")))?;
        Ok(Grammars(Arc::new(Inner { factory, kept: Mutex::new(HashMap::new()) })))
    }

    /// The beginning of an answer of that shape.
    ///
    /// # Errors
    /// When the shape is beyond the limits, uses what is not supported, or contradicts itself.
    pub fn compile(&self, shape: &Shape) -> Result<Grammar, GrammarError> {
        let top = shape.top()?;
        let key = serde_json::to_string(&top).map_err(|error| GrammarError(error.to_string()))?;
        if let Some(parser) = self.kept().get(&key) {
            return Ok(Grammar::of(parser));
        }
        let parser = self.create(top)?;
        let grammar = Grammar::of(&parser);
        let mut kept = self.kept();
        let bytes: usize = kept.keys().map(String::len).sum();
        if kept.len() >= KEPT.0 || bytes + key.len() > KEPT.1 {
            kept.clear();
        }
        kept.insert(key, parser);
        Ok(grammar)
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, TokenParser>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles on a thread of its own, so that the wait has an end; its fuel and sizes have limits too.
    fn create(&self, top: TopLevelGrammar) -> Result<TokenParser, GrammarError> {
        let (sender, made) = channel();
        let inner = self.0.clone();
        let compile = move || {
            let made = guarded(|| inner.factory.create_parser(top).map_err(|error| error.to_string()));
            // Nobody waits any more: it took too long.
            let _ = sender.send(made);
        };
        let thread = std::thread::Builder::new().name("pasture-grammar".to_owned());
        thread.spawn(compile).map_err(|error| GrammarError(format!("no thread to compile on: {error}")))?;
        match made.recv_timeout(COMPILE_TIME * SLOW) {
            Ok(Ok(parser)) => Ok(parser),
            Ok(Err(what)) => Err(GrammarError(limits::cut(&what))),
            Err(RecvTimeoutError::Timeout) => {
                let most = COMPILE_TIME.as_millis();
                Err(GrammarError(format!("it takes more than {most} ms to compile; ask for something simpler")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(GrammarError("it cannot be compiled".into())),
        }
    }
}

/// A panic of the library is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let work = std::panic::AssertUnwindSafe(work);
    std::panic::catch_unwind(work).unwrap_or_else(|_| Err("it cannot be compiled".into()))
}

impl Shape {
    /// The shape as the library takes it, after all checks.
    fn top(&self) -> Result<TopLevelGrammar, GrammarError> {
        match self {
            Shape::JsonObject => Ok(TopLevelGrammar::from_json_schema(schema::spaced(json!({"type": "object"})))),
            Shape::JsonSchema(schema) => Ok(TopLevelGrammar::from_json_schema(schema::checked(schema)?)),
            Shape::Regex(regex) => {
                limits::text(regex, "the regular expression")?;
                Ok(TopLevelGrammar::from_regex(regex))
            }
            Shape::Choice(texts) => choice(texts).map(TopLevelGrammar::from_lark),
            Shape::Gbnf(source) => {
                limits::text(source, "the grammar")?;
                gbnf::to_lark(source).map(TopLevelGrammar::from_lark).map_err(GrammarError)
            }
            Shape::Lark(source) => {
                limits::text(source, "the grammar")?;
                Ok(TopLevelGrammar::from_lark(source.clone()))
            }
        }
    }
}

fn choice(texts: &[String]) -> Result<String, GrammarError> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(GrammarError("a choice needs at least one text, and none of them empty".into()));
    }
    if texts.iter().map(String::len).sum::<usize>() > SHAPE_BYTES_MAX {
        return Err(GrammarError(format!("the texts of a choice are longer than {} KiB", SHAPE_BYTES_MAX >> 10)));
    }
    let texts: Vec<String> = texts.iter().map(|text| gbnf::quoted(text)).collect();
    Ok(format!("start: CHOICE\nCHOICE: {}\n", texts.join(" | ")))
}

/// A text in the quotation marks of [`Shape::Lark`], for callers that write such a grammar.
pub fn lark_text(text: &str) -> String {
    gbnf::quoted(text)
}

/// A JSON schema as a value inside [`Shape::Lark`].
///
/// # Errors
/// As for [`Shape::JsonSchema`].
pub fn lark_json(schema: &Value) -> Result<String, GrammarError> {
    Ok(format!("%json {}", schema::checked(schema)?))
}

impl Grammar {
    fn of(parser: &TokenParser) -> Grammar {
        Grammar(Matcher::new(Ok(parser.deep_clone())))
    }

    /// Forbids in a row of logits what the grammar does not allow next.
    ///
    /// # Errors
    /// When the next step is beyond the limits.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), SamplingError> {
        let mask = self.0.compute_mask_or_eos().map_err(|error| failed(&error.to_string()))?;
        for (id, logit) in logits.iter_mut().enumerate() {
            if !mask.is_allowed(id as u32) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Goes on with a token that the mask allowed.
    ///
    /// # Errors
    /// When it was not allowed.
    pub fn push(&mut self, token: u32) -> Result<(), SamplingError> {
        self.0.consume_token(token).map_err(|error| failed(&error.to_string()))
    }

    /// Whether nothing more may come.
    pub fn is_complete(&self) -> bool {
        self.0.is_stopped()
    }
}

fn failed(what: &str) -> SamplingError {
    SamplingError::Grammar(limits::cut(what))
}

impl Clone for Grammar {
    fn clone(&self) -> Self {
        Grammar(self.0.deep_clone())
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("complete", &self.is_complete()).finish()
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("kept", &self.kept().len()).finish()
    }
}
