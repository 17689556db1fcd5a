//! A text, or token ids, to go on with: settings, then the whole answer or a stream of it. No template is involved.

use pasture_engine::sampling::SamplingOptions;
use pasture_engine::{Answer, Finish, Opening, Request, Stream};
use pasture_files::tokenizer::Specials;

use crate::error::{Error, Result};
use crate::handle::Model;

/// New tokens where nothing else is said.
const NEW_TOKENS: usize = 256;

/// Something to go on with.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
/// let model = pasture::Model::load(file)?;
/// let text = model.completion("A token is")?.temperature(0.0).max_tokens(12).text()?;
/// println!("A token is{text}");
/// # Ok(())
/// # }
/// ```
pub struct Completion {
    model: Model,
    request: Request,
}

impl Completion {
    pub(crate) fn of_text(model: Model, prompt: &str) -> Result<Completion> {
        let ids = model.tokenizer()?.encode_with_special(prompt, Specials::AsText)?;
        Ok(Completion::of_ids(model, ids))
    }

    pub(crate) fn of_ids(model: Model, ids: Vec<u32>) -> Completion {
        let room = model.engine().context().saturating_sub(ids.len());
        let request = Request {
            max_tokens: (room >= NEW_TOKENS).then_some(NEW_TOKENS),
            stop_ids: model.stop_ids().to_vec(),
            opening: Opening::GoesOn,
            seed: crate::handle::any_seed(),
            adapter: model.adapter(),
            ..Request::new(ids)
        };
        Completion { model, request }
    }

    /// Sets the temperature: 0 takes the most probable token, 1 samples as trained.
    #[must_use]
    pub fn temperature(mut self, temperature: f64) -> Completion {
        self.request.sampling.temperature = Some(temperature);
        self
    }

    /// Sets the seed of the random numbers.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Completion {
        self.request.sampling.seed = Some(seed);
        self
    }

    /// Sets all settings of sampling at once; those that are absent are the model's.
    #[must_use]
    pub fn sampling(mut self, sampling: SamplingOptions) -> Completion {
        self.request.sampling = sampling;
        self
    }

    /// Makes at most so many new tokens.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Completion {
        self.request.max_tokens = Some(tokens);
        self
    }

    /// Ends before this text.
    #[must_use]
    pub fn stop(mut self, text: impl Into<String>) -> Completion {
        self.request.stops.push(text.into());
        self
    }

    /// Lets end tokens be chosen like any others.
    #[must_use]
    pub fn ignore_end(mut self) -> Completion {
        self.request.stop_ids.clear();
        self
    }

    /// Makes so many answers, which share the prompt.
    #[must_use]
    pub fn answers(mut self, answers: u32) -> Completion {
        self.request.answers = answers;
        self
    }

    /// What will be asked of the engine.
    pub fn request(&self) -> Request {
        let sampling = self.request.sampling.clone().or(self.model.sampling_defaults().clone());
        Request { sampling, ..self.request.clone() }
    }

    /// Starts; the events come as they happen.
    ///
    /// # Errors
    /// When the request is impossible.
    pub fn stream(&self) -> Result<Stream> {
        Ok(self.model.engine().submit(self.request())?)
    }

    /// Waits for the answers: tokens, text, and how they ended.
    ///
    /// # Errors
    /// When an answer cannot be made.
    pub fn run(&self) -> Result<Vec<Answer>> {
        Ok(self.stream()?.answers()?)
    }

    /// Waits for the text of the first answer.
    ///
    /// # Errors
    /// When the answer cannot be made, or does not fit into the context.
    pub fn text(&self) -> Result<String> {
        let answer = self.run()?.swap_remove(0);
        if answer.finish == Finish::ContextFull {
            let (prompt, new) = (answer.usage.prompt_tokens, answer.usage.new_tokens);
            return Err(Error::AnswerCut { prompt, new, limit: self.model.engine().context() });
        }
        Ok(answer.text)
    }
}
