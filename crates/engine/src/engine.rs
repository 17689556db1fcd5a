//! The engine's handle: checks requests, hands them to the one thread that computes, and gives back their streams.
//! What that thread does is in `compute.rs`; cheap clones of the handle may be used from any thread.

mod answer;
mod compute;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use pasture_tensor::kv::PAGE;

use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::request::{Request, Stream};
use crate::sampling::{Sampler, StopMatcher};
use crate::scheduler::Limits;
use crate::text::Text;
use answer::{Events, Job, Sequence};
use compute::{Command, Compute};

/// How an engine divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Rows of one step: the largest part of a prompt that runs at once.
    pub step_tokens: usize,
    /// Answers that are made at once; others wait.
    pub running: usize,
    /// Positions that a sequence may have; the model's own number where absent.
    pub context: Option<usize>,
    /// Pages of keys and values that all sequences may take, of [`PAGE`] tokens each. Memory is taken as it is needed.
    /// Where absent: enough for four full contexts.
    pub pages: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions { step_tokens: 512, running: 64, context: None, pages: None }
    }
}

/// A model that answers requests, on a thread of its own. Clones are the same engine; the thread ends with the last.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Sender<Command>,
    vocab: usize,
    context: usize,
    limits: Limits,
    text: Option<Arc<dyn Text>>,
    prefixes: AtomicU64,
}

/// Names a conversation of which the engine keeps what it computed, so that the next request computes only what is
/// new. Forgotten with its last clone, or when the memory is needed.
#[derive(Clone)]
pub struct Prefix(Arc<PrefixName>);

struct PrefixName {
    number: u64,
    commands: Sender<Command>,
}

impl Prefix {
    fn number(&self) -> u64 {
        self.0.number
    }
}

impl Drop for PrefixName {
    fn drop(&mut self) {
        // An engine that is gone has forgotten already.
        let _ = self.commands.send(Command::Forget(self.number));
    }
}

impl Engine {
    /// Starts the thread that computes. `text` turns tokens into text; without it answers are token ids only.
    ///
    /// # Errors
    /// When an option cannot be met, or the system gives no thread.
    pub fn start(forward: Box<dyn Forward>, text: Option<Arc<dyn Text>>, options: EngineOptions) -> Result<Engine> {
        let numbers = [
            ("step_tokens", Some(options.step_tokens)),
            ("running", Some(options.running)),
            ("context", options.context),
            ("pages", options.pages),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(Error::Zero { name });
        }
        let context = options.context.unwrap_or(forward.context());
        if context > forward.context() {
            return Err(pasture_model::Error::Context { wanted: context, limit: forward.context() }.into());
        }
        let pages = options.pages.unwrap_or(context.div_ceil(PAGE).saturating_mul(4));
        let limits = Limits {
            pages,
            page_tokens: PAGE,
            step_tokens: options.step_tokens,
            running: options.running,
            window: forward.window(),
        };
        let (commands, receiver) = channel();
        let shared = Shared { commands, vocab: forward.vocab(), context, limits, text, prefixes: AtomicU64::new(0) };
        let thread = std::thread::Builder::new().name("pasture-compute".to_owned());
        let compute = Compute::new(forward, limits, receiver);
        thread.spawn(move || compute.run()).map_err(|error| Error::Thread { message: error.to_string() })?;
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// Hands in a request. Its events come through the stream, which cancels it when dropped.
    ///
    /// # Errors
    /// When the request can be seen to be impossible: a full context, an unknown token, a setting out of range.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        let longest = self.check(&request)?;
        let fills_context = request.max_tokens.is_none();
        let Request {
            ids,
            sampling,
            seed,
            stop_ids,
            stops,
            opening,
            answers,
            prefix,
            adapter,
            cancel,
            grammar,
            shown,
            wake,
            max_tokens: _,
        } = request;
        let matcher = StopMatcher::new(&stops)?;
        let samplers = (0..answers).map(|answer| Sampler::for_choice(&sampling, self.shared.vocab, seed, answer));
        let samplers = samplers.map(|sampler| sampler.map(|sampler| sampler.within(grammar.clone())));
        let samplers: Vec<Sampler> = samplers.collect::<std::result::Result<_, _>>()?;
        let (sender, events) = channel();
        let dropped = Arc::new(AtomicBool::new(false));
        let job = Arc::new(Job {
            events: Events::new(sender, wake),
            cancel,
            dropped: dropped.clone(),
            stop_ids,
            matcher,
            text: self.shared.text.clone(),
            opening,
            shown,
            prompt: ids.len(),
            longest,
            fills_context,
            prefix: prefix.as_ref().map(Prefix::number),
            adapter,
        });
        let sequence = Sequence::new(job, ids, samplers);
        self.shared.commands.send(Command::Submit(Box::new(sequence))).map_err(|_| Error::Stopped)?;
        Ok(Stream::new(events, dropped, answers))
    }

    /// The most tokens that the request's sequences may have.
    fn check(&self, request: &Request) -> Result<usize> {
        let Shared { vocab, context, limits, text, .. } = &*self.shared;
        if request.ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if request.answers == 0 || request.max_tokens == Some(0) {
            return Err(Error::Zero { name: if request.answers == 0 { "answers" } else { "max_tokens" } });
        }
        if let Some(&id) = request.ids.iter().find(|id| **id as usize >= *vocab) {
            return Err(Error::Token { id, vocab: *vocab });
        }
        if !request.stops.is_empty() && text.is_none() {
            return Err(Error::NoTokenizer { what: "a stop string" });
        }
        let (prompt, limit) = (request.ids.len(), *context);
        let new = request.max_tokens.unwrap_or(1);
        if prompt.checked_add(new).is_none_or(|longest| longest > limit) {
            return Err(Error::ContextFull { prompt, new, limit });
        }
        let longest = request.max_tokens.map_or(limit, |new| prompt + new);
        let (needed, pages) = (limits.pages_for(longest), limits.pages);
        if needed > pages {
            return Err(Error::Pages { needed, pages });
        }
        Ok(longest)
    }

    /// A name under which the engine keeps what it computes for a conversation.
    pub fn prefix(&self) -> Prefix {
        let number = self.shared.prefixes.fetch_add(1, Ordering::Relaxed);
        Prefix(Arc::new(PrefixName { number, commands: self.shared.commands.clone() }))
    }

    /// Positions that a sequence may have.
    pub fn context(&self) -> usize {
        self.shared.context
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.shared.vocab
    }
}
