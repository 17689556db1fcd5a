//! Conversations: the messages so far, the settings of the next answer, and the iterator that brings it.
//! Invariant: an answer that never came leaves the messages as they were; one that was stopped is kept as far as it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Event, Finish, Request, Stream, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::handle::Model;

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who said it: `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of that role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into() }
    }
}

/// What the last answer took, and how full the context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Tokens of the whole conversation as it was sent.
    pub prompt_tokens: usize,
    /// Of these, tokens that were known from before and not computed again.
    pub cached_tokens: usize,
    /// Tokens of the answer.
    pub new_tokens: usize,
    /// Tokens that were proposed and computed before they were chosen.
    pub proposed_tokens: usize,
    /// Of these, tokens that were right.
    pub accepted_tokens: usize,
    /// Until the first token.
    pub prompt_time: Duration,
    /// From the first token to the last.
    pub new_time: Duration,
    /// Why the answer ended.
    pub finish: Finish,
    /// Tokens in use after the answer.
    pub context_used: usize,
    /// Tokens that the context holds.
    pub context_limit: usize,
}

/// A conversation with a model.
///
/// Settings that are not made are those of the model's own files.
/// What was computed for earlier messages is kept, so that a new message costs only itself.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
/// let model = pasture::Model::load(file)?;
/// let mut talk = model.session().temperature(0.0);
/// for piece in talk.say("My name is Anna.") {
///     print!("{}", piece?);
/// }
/// let answer = talk.say("What is my name?").text()?;
/// assert_eq!(answer, "Your name is Anna.");
/// assert_eq!(talk.messages().len(), 4);
/// # Ok(())
/// # }
/// ```
pub struct Session {
    model: Model,
    messages: Vec<Message>,
    sampling: SamplingOptions,
    max_tokens: Option<usize>,
    stops: Vec<String>,
    cancel: Arc<AtomicBool>,
    /// Answers begun, so that a fixed seed still makes another answer the second time.
    answers: u64,
    /// The seed where the settings have none.
    seed: u64,
    stats: Option<Stats>,
}

impl Session {
    pub(crate) fn new(model: Model) -> Session {
        let (cancel, seed) = (Arc::new(AtomicBool::new(false)), crate::handle::any_seed());
        let (messages, stops, sampling) = (Vec::new(), Vec::new(), SamplingOptions::default());
        Session { model, messages, sampling, max_tokens: None, stops, cancel, answers: 0, seed, stats: None }
    }

    /// Sets the system message.
    #[must_use]
    pub fn system(mut self, text: impl Into<String>) -> Session {
        self.set_system(Some(text.into()));
        self
    }

    /// Sets the temperature: 0 takes the most probable token, 1 samples as trained.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Session {
        self.sampling.temperature = Some(temperature);
        self
    }

    /// Sets the seed of the random numbers; the same conversation then gets the same answers.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Session {
        self.sampling.seed = Some(seed);
        self
    }

    /// Lets an answer have at most so many tokens.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Session {
        self.max_tokens = Some(tokens);
        self
    }

    /// Ends answers before this text.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Session {
        self.stops.push(text.into());
        self
    }

    /// Sets all settings of sampling at once; those that are absent are the model's.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOptions) -> Session {
        self.sampling = sampling;
        self
    }

    /// Sets or removes the system message.
    pub fn set_system(&mut self, text: Option<String>) {
        if self.messages.first().is_some_and(|first| first.role == "system") {
            self.messages.remove(0);
        }
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// The system message.
    pub fn system_message(&self) -> Option<&str> {
        self.messages.first().filter(|first| first.role == "system").map(|first| first.content.as_str())
    }

    /// Sets all settings of sampling at once; those that are absent are the model's.
    pub fn set_sampling(&mut self, sampling: SamplingOptions) {
        self.sampling = sampling;
    }

    /// Sets one setting of sampling by its name, or removes it with `null`.
    ///
    /// # Errors
    /// When there is no such setting, or the value is outside its range.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        self.sampling.set(name, value).map_err(|error| Error::Engine(error.into()))
    }

    /// The settings of sampling that were made here.
    pub fn sampling_options(&self) -> &SamplingOptions {
        &self.sampling
    }

    /// Sets or removes the most tokens of an answer.
    pub fn set_max_tokens(&mut self, tokens: Option<usize>) {
        self.max_tokens = tokens;
    }

    /// Sets the texts before which answers end.
    pub fn set_stops(&mut self, stops: Vec<String>) {
        self.stops = stops;
    }

    /// What was said so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Goes on from another conversation.
    pub fn set_messages(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        self.stats = None;
    }

    /// Takes back the last question and what followed it. False where there is none.
    pub fn undo(&mut self) -> bool {
        let last = self.messages.iter().rposition(|message| message.role == "user");
        last.is_some_and(|last| {
            self.messages.truncate(last);
            true
        })
    }

    /// Forgets the oldest question and what followed it, to make room. False where there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let mut questions = (0..self.messages.len()).filter(|at| self.messages[*at].role == "user");
        let Some(first) = questions.next() else { return false };
        let second = questions.next().unwrap_or(self.messages.len());
        self.messages.drain(first..second);
        true
    }

    /// Set from any thread to stop the answer that is being made; the conversation is kept. The next answer clears it.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancel.clone()
    }

    /// What the last answer took.
    pub fn stats(&self) -> Option<Stats> {
        self.stats
    }

    /// Tokens of the conversation as it would be sent now, with the opening of an answer.
    ///
    /// # Errors
    /// When the model's template refuses the conversation.
    pub fn tokens(&self) -> Result<usize> {
        Ok(self.model.conversation_ids(&self.messages)?.len())
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Says something; the answer comes piece by piece. Dropping the iterator stops it.
    pub fn say(&mut self, text: impl Into<String>) -> Reply<'_> {
        let before = self.messages.clone();
        self.messages.push(Message::new("user", text));
        self.reply(before)
    }

    /// Throws the last answer away and makes another one. If none comes, the old one stays.
    pub fn regenerate(&mut self) -> Reply<'_> {
        let before = self.messages.clone();
        match self.messages.iter().rposition(|message| message.role == "user") {
            Some(last) => self.messages.truncate(last + 1),
            None => return self.refuse(Error::NoQuestion),
        }
        self.reply(before)
    }

    /// Answers the messages as they stand; the last one is a question.
    pub fn answer(&mut self) -> Reply<'_> {
        let before = self.messages.clone();
        self.reply(before)
    }

    fn reply(&mut self, before: Vec<Message>) -> Reply<'_> {
        self.cancel.store(false, Ordering::Relaxed);
        match self.submit() {
            Ok(stream) => Reply { session: self, stream: Some(stream), before, text: String::new(), error: None },
            Err(error) => {
                self.messages = before;
                self.refuse(error)
            }
        }
    }

    fn refuse(&mut self, error: Error) -> Reply<'_> {
        let before = self.messages.clone();
        Reply { session: self, stream: None, before, text: String::new(), error: Some(error) }
    }

    fn submit(&mut self) -> Result<Stream> {
        let ids = self.model.conversation_ids(&self.messages)?;
        let mut sampling = self.sampling.clone().or(self.model.sampling_defaults().clone());
        sampling.seed = Some(sampling.seed.unwrap_or(self.seed).wrapping_add(self.answers));
        self.answers += 1;
        let request = Request {
            sampling,
            max_tokens: self.max_tokens.or(self.model.default_max_tokens(ids.len())),
            stop_ids: self.model.stop_ids().to_vec(),
            stops: self.model.stop_strings().iter().chain(&self.stops).cloned().collect(),
            cancel: self.cancel.clone(),
            adapter: self.model.adapter(),
            ..Request::new(ids)
        };
        Ok(self.model.engine().submit(request)?)
    }

    fn note(&mut self, finish: Finish, usage: Usage) {
        let Usage { prompt_tokens, cached_tokens, new_tokens, proposed_tokens, accepted_tokens, prompt_time, new_time } =
            usage;
        let (context_used, context_limit) = (prompt_tokens + new_tokens, self.model.engine().context());
        self.stats = Some(Stats {
            prompt_tokens,
            cached_tokens,
            new_tokens,
            proposed_tokens,
            accepted_tokens,
            prompt_time,
            new_time,
            finish,
            context_used,
            context_limit,
        });
    }
}

/// An answer, piece by piece: whole characters, never a part of one.
///
/// An answer that fills the context ends with the error that says so; what came is kept in the conversation.
pub struct Reply<'a> {
    session: &'a mut Session,
    stream: Option<Stream>,
    /// The messages to go back to if nothing comes.
    before: Vec<Message>,
    text: String,
    error: Option<Error>,
}

impl Reply<'_> {
    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When the answer cannot be made, or does not fit into the context.
    pub fn text(mut self) -> Result<String> {
        for piece in &mut self {
            piece?;
        }
        Ok(std::mem::take(&mut self.text))
    }

    /// Stops the answer within a step.
    pub fn stop(&self) {
        self.session.cancel.store(true, Ordering::Relaxed);
    }

    /// The answer is over: the conversation takes what came.
    fn close(&mut self, finish: Finish, usage: Usage) {
        self.stream = None;
        self.session.note(finish, usage);
        if finish == Finish::ContextFull {
            let Usage { prompt_tokens: prompt, new_tokens: new, .. } = usage;
            self.error = Some(Error::AnswerCut { prompt, new, limit: self.session.model.engine().context() });
        }
        let nothing = self.text.is_empty() && finish == Finish::Cancelled;
        self.keep(nothing);
    }

    fn keep(&mut self, nothing: bool) {
        match nothing {
            true => self.session.messages = std::mem::take(&mut self.before),
            false => self.session.messages.push(Message::new("assistant", self.text.clone())),
        }
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        while let Some(stream) = &mut self.stream {
            let text = match stream.next() {
                Some(Ok(Event::Piece(piece))) => {
                    self.text.push_str(&piece.text);
                    piece.text
                }
                Some(Ok(Event::Ending(ending))) => {
                    self.text.push_str(&ending.text);
                    self.close(ending.finish, ending.usage);
                    ending.text
                }
                Some(Err(error)) => {
                    self.stream = None;
                    self.keep(self.text.is_empty());
                    return Some(Err(error.into()));
                }
                None => return None,
            };
            if !text.is_empty() {
                return Some(Ok(text));
            }
        }
        self.error.take().map(Err)
    }
}

impl Drop for Reply<'_> {
    /// What came of an answer that nobody waits for is kept.
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            drop(stream);
            self.keep(self.text.is_empty());
        }
    }
}
