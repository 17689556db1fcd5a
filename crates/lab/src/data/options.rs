//! How rows become samples: what is learned, how texts are understood, how long a sample may be.
#![forbid(unsafe_code)]

use pasture_files::data::Layout;
use pasture_files::prompt::template::Moment;

use super::error::{Error, Result};

/// Which tokens are learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrainOn {
    /// The assistant's turns and completions with their ends; texts as a whole.
    #[default]
    Answers,
    /// The last answer of each conversation.
    Last,
    /// Every token, prompts too.
    All,
}

/// What a prompt of plain text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Prompts {
    /// A user's turn where the model has a chat template, text to go on with where it has none.
    #[default]
    Auto,
    /// A user's turn; the answer is the assistant's.
    Chat,
    /// Text; the answer goes on with it.
    Raw,
}

/// How rows are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The layout of the rows; recognized where absent.
    pub kind: Option<Layout>,
    /// Which tokens are learned.
    pub train_on: TrainOn,
    /// What a prompt of plain text is.
    pub prompts: Prompts,
    /// Tokens that a sample may have.
    pub length_max: usize,
    /// Whether a longer sample is cut. Plain text is never cut: it becomes several samples.
    pub truncate: bool,
    /// Whether rows that cannot be learned from are left out, which is told, instead of being an error.
    pub skip_bad: bool,
    /// What templates print as today's date; the clock's at the first row where absent.
    pub now: Option<Moment>,
    /// Ids that the model has, for rows of ids; the tokenizer's where absent.
    pub vocabulary: Option<u32>,
}

impl Options {
    /// Everything as by default, for a model that holds so many positions.
    pub fn new(length_max: usize) -> Options {
        Options {
            kind: None,
            train_on: TrainOn::default(),
            prompts: Prompts::default(),
            length_max,
            truncate: false,
            skip_bad: false,
            now: None,
            vocabulary: None,
        }
    }

    /// Refuses what would have no effect on rows of a layout.
    pub(super) fn apply_to(&self, layout: Layout) -> Result<()> {
        let idle = |option: &str| Err(Error::Idle { option: option.into(), layout });
        let judged = matches!(layout, Layout::Preference | Layout::Judged);
        match self.train_on {
            TrainOn::All if judged => return idle("--train-on all"),
            TrainOn::Last if !matches!(layout, Layout::Chat | Layout::ShareGpt) => return idle("--train-on last"),
            _ => {}
        }
        let has_prompts = judged || layout == Layout::Pair;
        match self.prompts {
            Prompts::Chat if !has_prompts => idle("--prompts chat"),
            Prompts::Raw if !has_prompts => idle("--prompts raw"),
            _ => Ok(()),
        }
    }
}
