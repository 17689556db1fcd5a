//! What is asked of an engine and what comes back: a request, its events, and the stream that brings them.
//! Dropping the stream cancels the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::Poll;
use std::time::Duration;

use pasture_tensor::Adapter;

use crate::error::{Error, Result};
use crate::grammar::Grammar;
use crate::sampling::SamplingOptions;

/// What to compute. Made by [`Request::new`]; all else has a default that asks for nothing.
#[derive(Clone)]
pub struct Request {
    /// The prompt.
    pub ids: Vec<u32>,
    /// How tokens are chosen. Without a temperature the model's own distribution is sampled.
    pub sampling: SamplingOptions,
    /// The seed where `sampling` has none.
    pub seed: u64,
    /// New tokens at most; without it the answer may fill the context.
    pub max_tokens: Option<usize>,
    /// Token ids that end an answer. Empty where an end token may be chosen like any other.
    pub stop_ids: Vec<u32>,
    /// Texts that end an answer; they are not part of it.
    pub stops: Vec<String>,
    /// Whether the text begins anew.
    pub opening: Opening,
    /// How many answers.
    pub answers: u32,
    /// Whose it is: owners have equal shares of the engine.
    pub owner: Arc<str>,
    /// Requests of one scope use what others of it have computed for a prompt that begins in the same way. How long an
    /// answer takes tells what is known, so strangers are in different scopes.
    pub scope: Arc<str>,
    /// What the rows take beside the weights.
    pub adapter: Option<Arc<Adapter>>,
    /// Set by the caller, from any thread, to end the request within a step.
    pub cancel: Arc<AtomicBool>,
    /// What the answers must look like.
    pub grammar: Option<Grammar>,
    /// Control tokens whose spelling is part of the text; all others are hidden.
    pub shown: Arc<[u32]>,
    /// Called after each event, and once when no more will come, on the thread that computes: it must return at once.
    /// For callers that cannot wait in [`Stream::next`] and ask [`Stream::poll_event`] instead.
    pub wake: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Request {
    /// A request for one answer to a prompt.
    pub fn new(ids: Vec<u32>) -> Request {
        Request {
            ids,
            sampling: SamplingOptions::default(),
            seed: 0,
            max_tokens: None,
            stop_ids: Vec::new(),
            stops: Vec::new(),
            opening: Opening::Anew,
            answers: 1,
            owner: Arc::from(""),
            scope: Arc::from(""),
            adapter: None,
            cancel: Arc::new(AtomicBool::new(false)),
            grammar: None,
            shown: Arc::new([]),
            wake: None,
        }
    }
}

/// How the text of an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// As a text of its own: an answer in a conversation.
    Anew,
    /// As the prompt's continuation, with the space between.
    GoesOn,
}

/// A new token.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Which of the answers.
    pub answer: u32,
    /// The token; an end token as well.
    pub id: u32,
    /// The text that is now certain: whole characters, and no start of a stop string. Often empty, and always
    /// without a tokenizer.
    pub text: String,
    /// The logarithm of the token's probability, if `logprobs` was set.
    pub logprob: Option<f32>,
    /// The most probable tokens with theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of the request's end tokens came.
    StopId(u32),
    /// One of the request's stop strings came; this one.
    StopString(usize),
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// What was asked for is complete: the grammar allows nothing more.
    Complete,
    /// The context is full.
    ContextFull,
    /// The request was cancelled.
    Cancelled,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were known from before and not computed.
    pub cached_tokens: usize,
    /// New tokens.
    pub new_tokens: usize,
    /// Tokens that were proposed and had a row before they were chosen.
    pub proposed_tokens: usize,
    /// Of these, tokens that were right, so that no step of their own was needed.
    pub accepted_tokens: usize,
    /// From the request's first step to its first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub new_time: Duration,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Which of the answers.
    pub answer: u32,
    /// Why it ended.
    pub finish: Finish,
    /// The rest of its text.
    pub text: String,
    /// What it took.
    pub usage: Usage,
}

/// What a request's stream brings.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new token of one of the answers.
    Piece(Piece),
    /// An answer's end.
    Ending(Ending),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The new tokens.
    pub ids: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Logarithms of the tokens' probabilities, if they were asked for.
    pub logprobs: Vec<f32>,
    /// For each token the most probable ones, if they were asked for.
    pub top: Vec<Vec<(u32, f32)>>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub usage: Usage,
}

/// The events of a request as they happen. Dropping it cancels the request.
pub struct Stream {
    events: Receiver<Result<Event>>,
    /// Not the request's own flag, which may serve the caller's next request too.
    cancel: Arc<AtomicBool>,
    left: u32,
}

impl Stream {
    pub(crate) fn new(events: Receiver<Result<Event>>, cancel: Arc<AtomicBool>, answers: u32) -> Stream {
        Stream { events, cancel, left: answers }
    }

    /// Ends the request within a step; its answers then end as [`Finish::Cancelled`].
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The next event if there is one by now; none after the last answer's end, or an error.
    pub fn poll_event(&mut self) -> Poll<Option<Result<Event>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match self.events.try_recv() {
            Ok(event) => Poll::Ready(Some(self.note(event))),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(Some(self.note(Err(Error::Stopped)))),
        }
    }

    /// Counts an answer that ended.
    fn note(&mut self, event: Result<Event>) -> Result<Event> {
        match &event {
            Ok(Event::Piece(_)) => {}
            Ok(Event::Ending(_)) => self.left -= 1,
            Err(_) => self.left = 0,
        }
        event
    }

    /// Waits for all answers, in their order.
    ///
    /// # Errors
    /// The first error of the request.
    pub fn answers(self) -> Result<Vec<Answer>> {
        let empty = Answer {
            ids: Vec::new(),
            text: String::new(),
            logprobs: Vec::new(),
            top: Vec::new(),
            finish: Finish::Cancelled,
            usage: Usage::default(),
        };
        let mut answers = vec![empty; self.left as usize];
        for event in self {
            match event? {
                Event::Piece(piece) => {
                    let answer = &mut answers[piece.answer as usize];
                    answer.ids.push(piece.id);
                    answer.text.push_str(&piece.text);
                    if let Some(logprob) = piece.logprob {
                        answer.logprobs.push(logprob);
                        answer.top.push(piece.top);
                    }
                }
                Event::Ending(ending) => {
                    let answer = &mut answers[ending.answer as usize];
                    answer.text.push_str(&ending.text);
                    (answer.finish, answer.usage) = (ending.finish, ending.usage);
                }
            }
        }
        Ok(answers)
    }

    /// Waits for the first answer.
    ///
    /// # Errors
    /// The first error of the request.
    pub fn answer(self) -> Result<Answer> {
        Ok(self.answers()?.swap_remove(0))
    }
}

impl Iterator for Stream {
    type Item = Result<Event>;

    /// Waits for the next event; none after the last answer's end, or an error.
    fn next(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            return None;
        }
        let event = self.events.recv().unwrap_or(Err(Error::Stopped));
        Some(self.note(event))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}
