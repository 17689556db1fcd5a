//! A task with its settings, for one model: `model.eval("task.jsonl")?.limit(200).run()?`. What tasks are and how they are
//! scored is a floor below.

use std::path::Path;
use std::sync::Arc;

use pasture_lab::evaluate::{self, Options, Report, Task};

use crate::error::Result;
use crate::handle::Model;

/// A task that a model is about to do.
///
/// ```
/// # fn main() -> pasture::Result<()> {
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
/// # let (file, task) = (format!("{folder}starter/starter.gguf"), format!("{folder}README.md"));
/// use pasture::Model;
///
/// let model = Model::load(file)?;
/// let report = model.eval(&task)?.window(128).run()?; // a file of questions, or a text
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Evaluation {
    model: Model,
    task: Task,
    options: Options,
    adapter: Option<Arc<pasture_tensor::Adapter>>,
}

impl Evaluation {
    pub(crate) fn open(model: Model, task: &str) -> Result<Evaluation> {
        Ok(Evaluation { model, task: evaluate::open(task)?, options: Options::default(), adapter: None })
    }

    /// Asks the first `rows` only.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Evaluation {
        self.options.limit = Some(rows);
        self
    }

    /// Puts so many worked examples before each question.
    ///
    /// # Errors
    /// When the rows are texts.
    pub fn shots(mut self, shots: usize) -> Result<Evaluation> {
        self.task = self.task.with_shots(shots)?;
        Ok(self)
    }

    /// Takes worked examples from another file.
    ///
    /// # Errors
    /// When the file cannot be read, or has another form.
    pub fn shots_from(mut self, file: &str) -> Result<Evaluation> {
        self.task = self.task.with_pool(evaluate::open(file)?)?;
        Ok(self)
    }

    /// Lets an answer have so many tokens at most.
    ///
    /// # Errors
    /// When no answers are written.
    pub fn max_tokens(mut self, tokens: usize) -> Result<Evaluation> {
        self.task = self.task.with_max_tokens(tokens)?;
        Ok(self)
    }

    /// Gives a text's windows so many tokens.
    #[must_use]
    pub fn window(mut self, tokens: usize) -> Evaluation {
        self.options.window = Some(tokens);
        self
    }

    /// Puts an adapter beside the weights; nothing is merged.
    ///
    /// # Errors
    /// When it cannot be read, or is not for this model.
    pub fn adapter(mut self, folder: impl AsRef<Path>) -> Result<Evaluation> {
        self.adapter = Some(Arc::new(pasture_model::load_adapter(folder.as_ref(), self.model.decoder())?));
        Ok(self)
    }

    /// Runs it.
    ///
    /// # Errors
    /// When a row cannot be asked, or the model cannot be run.
    pub fn run(&self) -> Result<Report> {
        let subject = self.model.subject();
        let subject = match &self.adapter {
            Some(adapter) => subject.with_adapter(adapter.clone()),
            None => subject,
        };
        let tasks = std::slice::from_ref(&self.task);
        Ok(evaluate::evaluate(self.model.name(), &subject, tasks, &self.options, &mut |_, _, _| {})?)
    }
}
