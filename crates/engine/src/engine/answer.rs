//! One answer in the making: its ids, its sampler, its text, and the events it sends.
//! Which rows run when is the scheduler's matter; keys and values are `compute.rs`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use pasture_model::SequenceId;
use pasture_tensor::Adapter;

use crate::error::{Error, Result};
use crate::request::{Ending, Event, Finish, Opening, Piece, Usage};
use crate::sampling::{Sampler, StopMatcher};
use crate::speculate::Guess;
use crate::speculate::pace::Pace;
use crate::text::{Pieces, Text};

/// Tokens of the prompt that may change how the text after them begins.
const TOKENS_BEFORE: usize = 8;

/// Where a request's events go, and who is told of them.
pub(super) struct Events {
    /// Dropped before `wake`: who is woken last finds the end.
    sender: Sender<Result<Event>>,
    wake: Wake,
}

struct Wake(Option<Arc<dyn Fn() + Send + Sync>>);

impl Wake {
    fn call(&self) {
        self.0.iter().for_each(|wake| wake());
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.call();
    }
}

impl Events {
    pub(super) fn new(sender: Sender<Result<Event>>, wake: Option<Arc<dyn Fn() + Send + Sync>>) -> Events {
        Events { sender, wake: Wake(wake) }
    }

    /// Sends an event; a receiver that is gone has cancelled the request already.
    fn send(&self, event: Result<Event>) {
        let _ = self.sender.send(event);
        self.wake.call();
    }
}

/// What the answers to one request share.
pub(super) struct Job {
    pub(super) events: Events,
    /// The caller's flag.
    pub(super) cancel: Arc<AtomicBool>,
    /// The stream's flag.
    pub(super) dropped: Arc<AtomicBool>,
    pub(super) stop_ids: Vec<u32>,
    pub(super) matcher: StopMatcher,
    pub(super) text: Option<Arc<dyn Text>>,
    pub(super) opening: Opening,
    pub(super) shown: Arc<[u32]>,
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens of prompt and answer at most.
    pub(super) longest: usize,
    /// Whether it is the context that sets `longest`.
    pub(super) fills_context: bool,
    /// Whose it is.
    pub(super) owner: u64,
    /// Who may use what it computes.
    pub(super) scope: Arc<str>,
    pub(super) adapter: Option<Arc<Adapter>>,
}

impl Job {
    pub(super) fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.dropped.load(Ordering::Relaxed)
    }

    /// Sends the error that ends all answers.
    pub(super) fn fail(&self, error: &Error) {
        self.events.send(Err(error.clone()));
    }
}

/// A token that was chosen.
pub(super) struct Chosen {
    pub(super) piece: Piece,
    /// Why the answer ends with it, if it does.
    pub(super) finish: Option<Finish>,
    /// Whether it is the one that was proposed, so that the row after it counts.
    pub(super) expected: bool,
}

/// One answer in the making.
pub(super) struct Sequence {
    pub(super) job: Arc<Job>,
    pub(super) answer: u32,
    /// Prompt and new tokens.
    pub(super) ids: Vec<u32>,
    /// Where its keys and values are; none before its first step, and after it was made to start over.
    pub(super) kv: Option<SequenceId>,
    /// Tokens of the prompt that needed no computing; known from its first step on.
    pub(super) cached: Option<usize>,
    /// What its pages depend on besides the tokens.
    pub(super) root: Arc<[u8]>,
    /// What is proposed for its next step.
    pub(super) guess: Guess,
    /// How often proposals were right.
    pub(super) pace: Pace,
    /// Tokens that were proposed, and those that were right.
    pub(super) speculated: (usize, usize),
    sampler: Sampler,
    /// Samplers of the answers that begin when the prompt has been run.
    others: Vec<Sampler>,
    matcher: StopMatcher,
    pieces: Option<Box<dyn Pieces>>,
    started: Option<Instant>,
    first: Option<Instant>,
}

impl Sequence {
    /// The first answer to a job, with the samplers of all.
    pub(super) fn new(job: Arc<Job>, ids: Vec<u32>, mut samplers: Vec<Sampler>) -> Sequence {
        let others = samplers.split_off(1);
        let sampler = samplers.pop().expect("a request asks for at least one answer");
        Sequence::begin(job, 0, ids, sampler, others)
    }

    fn begin(job: Arc<Job>, answer: u32, ids: Vec<u32>, sampler: Sampler, others: Vec<Sampler>) -> Sequence {
        let matcher = job.matcher.clone();
        let before = match job.opening {
            Opening::Anew => &[],
            Opening::GoesOn => &ids[job.prompt.saturating_sub(TOKENS_BEFORE)..job.prompt],
        };
        let pieces = job.text.as_ref().map(|text| text.start(before, &job.shown));
        let (kv, cached, started, first) = (None, None, None, None);
        let (root, guess, pace, speculated) = (Arc::from([]), Guess::default(), Pace::default(), (0, 0));
        Sequence {
            job,
            answer,
            ids,
            kv,
            cached,
            root,
            guess,
            pace,
            speculated,
            sampler,
            others,
            matcher,
            pieces,
            started,
            first,
        }
    }

    /// Whether its next token is its own, and no answer begins with it.
    pub(super) fn is_single(&self) -> bool {
        self.others.is_empty()
    }

    /// The answers that begin where this one's prompt ends; none after the first call.
    pub(super) fn split(&mut self) -> Vec<Sequence> {
        let samplers = std::mem::take(&mut self.others).into_iter().zip(1..);
        samplers
            .map(|(sampler, answer)| Sequence {
                cached: self.cached,
                root: self.root.clone(),
                started: self.started,
                ..Sequence::begin(self.job.clone(), answer, self.ids.clone(), sampler, Vec::new())
            })
            .collect()
    }

    /// Notes that a step with its rows begins.
    pub(super) fn start_clock(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// Chooses the next token from its logits. It is to be sent.
    ///
    /// # Errors
    /// When no token can be chosen.
    pub(super) fn choose(&mut self, logits: &mut [f32], now: Instant) -> Result<Chosen> {
        let choice = self.sampler.sample(logits, &self.ids)?;
        let id = choice.token;
        self.first.get_or_insert(now);
        self.ids.push(id);
        let ends = self.job.stop_ids.contains(&id);
        let raw = match &mut self.pieces {
            Some(pieces) if !ends => pieces.push(id),
            _ => String::new(),
        };
        let (text, stopped) = self.matcher.push(&raw);
        let piece = Piece { answer: self.answer, id, text, logprob: choice.logprob, top: choice.top };
        let expected = self.guess.compare(id, &mut self.pace);
        let finish = match stopped {
            _ if ends => Some(Finish::StopId(id)),
            Some(stopped) => Some(Finish::StopString(stopped.stop)),
            None if self.sampler.is_complete() => Some(Finish::Complete),
            None if self.ids.len() < self.job.longest => None,
            None if self.job.fills_context => Some(Finish::ContextFull),
            None => Some(Finish::MaxTokens),
        };
        Ok(Chosen { piece, finish, expected })
    }

    /// Sends a token.
    pub(super) fn tell(&self, piece: Piece) {
        self.send(Event::Piece(piece));
    }

    /// Sends the end of the answer.
    pub(super) fn finish(&mut self, mut finish: Finish, now: Instant) {
        let mut text = String::new();
        if !matches!(finish, Finish::StopString(_)) {
            let rest = self.pieces.as_mut().map_or_else(String::new, |pieces| pieces.finish());
            let (certain, stopped) = self.matcher.push(&rest);
            text = certain;
            match stopped {
                Some(stopped) => finish = Finish::StopString(stopped.stop),
                None => text.push_str(&self.matcher.finish()),
            }
        }
        let usage = self.usage(now);
        self.send(Event::Ending(Ending { answer: self.answer, finish, text, usage }));
    }

    fn usage(&self, now: Instant) -> Usage {
        let since = |from: Option<Instant>, to: Instant| from.map_or(Duration::ZERO, |from| to - from);
        Usage {
            prompt_tokens: self.job.prompt,
            cached_tokens: self.cached.unwrap_or(0),
            new_tokens: self.ids.len() - self.job.prompt,
            proposed_tokens: self.speculated.0,
            accepted_tokens: self.speculated.1,
            prompt_time: since(self.started, self.first.unwrap_or(now)),
            new_time: since(self.first, now),
        }
    }

    fn send(&self, event: Event) {
        self.job.events.send(Ok(event));
    }
}
