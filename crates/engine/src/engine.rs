//! The engine's handle: checks requests, hands them to the one thread that computes, and gives back their streams.
//! What that thread does is in `compute.rs`; cheap clones of the handle may be used from any thread.

mod answer;
mod compute;
mod verify;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use pasture_tensor::kv::PAGE;

use crate::error::{Error, Result};
use crate::forward::Forward;
use crate::request::{Request, Stream};
use crate::sampling::{Sampler, StopMatcher};
use crate::scheduler::{Counts, Limits};
use crate::speculate::{Propose, Speculation, Speculator};
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
    /// Where absent: enough for four full contexts, or for all that run at once where `kv_bytes` says how much memory
    /// there is.
    pub pages: Option<usize>,
    /// Bytes that keys and values may take, where `pages` says nothing: fewer pages than would be enough then, and a
    /// shorter context where `context` says nothing.
    pub kv_bytes: Option<u64>,
    /// Pages at most that are kept for prompts to come while no answer needs them. Where absent: one full context, and no
    /// more than a gigabyte.
    pub cached: Option<usize>,
    /// Whether tokens are proposed before they are chosen. The answers do not depend on it.
    pub speculation: Speculation,
}

/// Rows of prompts that a step gathers: weights are read once for so many, and more are not computed faster.
const PROMPT_ROWS: usize = 128;

/// Rows up to which a step is filled with proposed tokens.
const PROPOSAL_ROWS: usize = 16;

/// Bytes that kept pages take at most where nothing is said.
const CACHED_BYTES: usize = 1 << 30;

fn cached(context: usize, page_bytes: usize) -> usize {
    context.div_ceil(PAGE).min(CACHED_BYTES / page_bytes.max(1))
}

/// What an engine holds and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Pages and sequences.
    pub now: Counts,
    /// Steps that were run.
    pub steps: u64,
    /// Rows that were computed.
    pub rows: u64,
    /// Tokens of prompts that were known already and not computed.
    pub cached_tokens: u64,
    /// Sequences that gave up their pages to older ones and start over.
    pub preempted: u64,
    /// Tokens that were proposed and computed before they were chosen.
    pub proposed_tokens: u64,
    /// Of these, tokens that were right.
    pub accepted_tokens: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            step_tokens: 512,
            running: 64,
            context: None,
            pages: None,
            kv_bytes: None,
            cached: None,
            speculation: Speculation::default(),
        }
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
    page_bytes: usize,
    text: Option<Arc<dyn Text>>,
    counts: Arc<Mutex<EngineCounts>>,
}

impl Engine {
    /// Starts the thread that computes. `text` turns tokens into text; without it answers are token ids only.
    ///
    /// # Errors
    /// When an option cannot be met, or the system gives no thread.
    pub fn start(forward: Box<dyn Forward>, text: Option<Arc<dyn Text>>, options: EngineOptions) -> Result<Engine> {
        Engine::start_with(forward, None, text, options)
    }

    /// As [`Engine::start`], with another source of proposals beside the sequences' own texts.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_with(
        forward: Box<dyn Forward>,
        mut draft: Option<Box<dyn Propose>>,
        text: Option<Arc<dyn Text>>,
        options: EngineOptions,
    ) -> Result<Engine> {
        let numbers = [
            ("step_tokens", Some(options.step_tokens)),
            ("running", Some(options.running)),
            ("context", options.context),
            ("pages", options.pages),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(Error::Zero { name });
        }
        let page_bytes = forward.page_bytes() + draft.as_ref().map_or(0, |draft| draft.page_bytes());
        let fit = options.kv_bytes.map(|bytes| bytes / page_bytes.max(1) as u64);
        let fit = fit.map_or(usize::MAX, |pages| usize::try_from(pages).unwrap_or(usize::MAX).max(1));
        // Where rows see all, a sequence can be no longer than the memory for its keys and values.
        let holds = if forward.window().is_none() { fit.saturating_mul(PAGE) } else { usize::MAX };
        let context = options.context.unwrap_or(forward.context().min(holds));
        if context > forward.context() {
            return Err(pasture_model::Error::Context { wanted: context, limit: forward.context() }.into());
        }
        let full = if options.kv_bytes.is_some() { options.running.max(4) } else { 4 };
        let all = context.div_ceil(PAGE).saturating_mul(full);
        let pages = options.pages.unwrap_or(all.min(fit));
        let limits = Limits {
            pages,
            cached: options.cached.unwrap_or_else(|| cached(context, page_bytes)),
            page_tokens: PAGE,
            step_tokens: options.step_tokens,
            prompt_tokens: PROMPT_ROWS,
            running: options.running,
            window: forward.window(),
            proposal_rows: PROPOSAL_ROWS,
        };
        let (commands, receiver) = channel();
        let counts: Arc<Mutex<EngineCounts>> = Arc::default();
        let vocab = forward.vocab();
        draft.iter_mut().for_each(|draft| draft.limit(pages));
        let shared = Shared { commands, vocab, context, limits, page_bytes, text, counts: counts.clone() };
        let thread = std::thread::Builder::new().name("pasture-compute".to_owned());
        let compute = Compute::new(forward, Speculator::new(options.speculation, draft), limits, receiver, counts);
        thread.spawn(move || compute.run()).map_err(|error| Error::Thread { message: error.to_string() })?;
        Ok(Engine { shared: Arc::new(shared) })
    }

    /// Hands in a request. Its events come through the stream, which cancels it when dropped.
    ///
    /// # Errors
    /// When the request can be seen to be impossible: a full context, an unknown token, a setting out of range.
    pub fn submit(&self, request: Request) -> Result<Stream> {
        let (sequence, stream) = self.sequence(request)?;
        self.shared.commands.send(Command::Submit(vec![sequence])).map_err(|_| Error::Stopped)?;
        Ok(stream)
    }

    /// Hands in several requests at once: no step lies between them, so none is answered before the last has come.
    /// Their streams stand in the same order. Keys and values must still be found for each; who finds none waits.
    ///
    /// # Errors
    /// As for one request; if one of them is impossible, none is handed in.
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<Vec<Stream>> {
        let all = requests.into_iter().map(|request| self.sequence(request)).collect::<Result<Vec<_>>>()?;
        let (sequences, streams) = all.into_iter().unzip();
        self.shared.commands.send(Command::Submit(sequences)).map_err(|_| Error::Stopped)?;
        Ok(streams)
    }

    /// A request as the thread takes it, and the stream of its events.
    fn sequence(&self, request: Request) -> Result<(Sequence, Stream)> {
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
            owner,
            scope,
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
            owner: crate::prefix::owner(&owner),
            scope,
            adapter,
        });
        Ok((Sequence::new(job, ids, samplers), Stream::new(events, dropped, answers)))
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

    /// What is held and what was done, as of the last step.
    pub fn counts(&self) -> EngineCounts {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Positions that a sequence may have.
    pub fn context(&self) -> usize {
        self.shared.context
    }

    /// Bytes that keys and values take at most.
    pub fn kv_bytes(&self) -> u64 {
        (self.shared.limits.pages as u64).saturating_mul(self.shared.page_bytes as u64)
    }

    /// Entries of the vocabulary.
    pub fn vocab(&self) -> usize {
        self.shared.vocab
    }
}
