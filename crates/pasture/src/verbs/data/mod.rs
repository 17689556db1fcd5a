//! `pasture data`: what a file of data to learn from holds, what a model makes of it, and what is wrong with it. Each
//! action has its file; here are the flags that they share.

mod check;
mod files;
mod show;

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::data::{Layout, Options, Prompts, TrainOn};
use pasture_files::prompt::Prompt;
use pasture_files::prompt::template::Moment;
use pasture_model::families;

use super::{model, template};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, Settings};

/// See what is learned from a file of data, and what is wrong with it
#[derive(Args)]
#[command(after_help = "\
Data is JSONL, JSON, CSV, Parquet or plain text, each also with .gz but Parquet.
Rows are known by their fields: messages (OpenAI), conversations (ShareGPT),
instruction and output (Alpaca), prompt and completion, chosen and rejected,
prompt with completion and label, text, input_ids. Where several fit, --kind
says which.

Examples:
  pasture data show my-model.gguf train.jsonl
  pasture data show my-model.gguf train.jsonl --row 3 --json
  pasture data check train.jsonl
  pasture data check train.jsonl my-model.gguf
  pasture data split train.jsonl --held-out 0.1 --into split
  pasture data dedup train.jsonl --into once.jsonl")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What can be asked of data.
#[derive(Subcommand)]
enum Action {
    Show(show::Arguments),
    Check(check::Arguments),
    Split(files::SplitArguments),
    Dedup(files::DedupArguments),
}

/// How rows become tokens.
#[derive(Args)]
struct Reading {
    #[command(flatten)]
    kind: KindFlag,
    /// Which tokens are learned
    #[arg(long, value_name = "WHICH", default_value = "answers")]
    train_on: Learned,
    /// What a prompt of plain text is: a user's turn (chat), or text to go on with (raw)
    #[arg(long, value_name = "HOW", default_value = "auto")]
    prompts: Way,
    /// Tokens that a sample may have (default: the model's context)
    #[arg(long, value_name = "N")]
    length: Option<usize>,
    /// Cut longer samples at their end
    #[arg(long)]
    truncate: bool,
    /// The day that the template believes it is (default: today)
    #[arg(long, value_name = "YYYY-MM-DD")]
    now: Option<String>,
}

/// The layout of rows.
#[derive(Args)]
struct KindFlag {
    /// What the rows are (default: what their fields say): chat, sharegpt, alpaca, pair, preference, judged, text, tokens
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<Layout>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Learned {
    /// Answers with their ends; texts as a whole
    Answers,
    /// The last answer of a conversation
    Last,
    /// Everything
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    /// As the model was made: chat where it has a template
    Auto,
    /// A user's turn
    Chat,
    /// Text to go on with
    Raw,
}

fn kind(word: &str) -> Result<Layout, String> {
    Layout::of_kind(word).ok_or_else(|| {
        let known: Vec<&str> = Layout::kinds().collect();
        format!("known are {}", known.join(", "))
    })
}

/// Runs the action that was asked for.
pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let color = Settings::resolve(program)?.text("color").map(str::to_owned);
    match &arguments.action {
        Action::Show(arguments) => show::run(arguments, color.as_deref()),
        Action::Check(arguments) => check::run(arguments, color.as_deref()),
        Action::Split(arguments) => files::split(arguments),
        Action::Dedup(arguments) => files::dedup(arguments),
    }
}

impl Reading {
    /// The options for a model, or for none.
    fn options(&self, named: Option<&str>) -> Result<Options, Failure> {
        // A tokenizer without a configuration has no context.
        let source = named.and_then(|name| model::source(Some(name)).ok());
        let spec = source.and_then(|source| families::blueprint(&source.config).ok()).map(|blueprint| blueprint.spec);
        let context = spec.as_ref().map_or(usize::MAX, |spec| spec.context);
        let now = self.now.as_deref().map(template::day).transpose()?;
        if self.length.is_some_and(|length| length < 2) {
            return Err(Failure::new(Status::Usage, "`--length` needs 2 tokens at least: one predicts the other"));
        }
        Ok(Options {
            kind: self.kind.kind,
            train_on: match self.train_on {
                Learned::Answers => TrainOn::Answers,
                Learned::Last => TrainOn::Last,
                Learned::All => TrainOn::All,
            },
            prompts: match self.prompts {
                Way::Auto => Prompts::Auto,
                Way::Chat => Prompts::Chat,
                Way::Raw => Prompts::Raw,
            },
            truncate: self.truncate,
            now: now.or_else(|| Some(Moment::now())),
            vocabulary: spec.and_then(|spec| u32::try_from(spec.vocab).ok()),
            ..Options::new(self.length.unwrap_or(context))
        })
    }

    /// The first flag that only a model gives an effect.
    fn idle_without_model(&self) -> Option<&'static str> {
        [
            (!matches!(self.train_on, Learned::Answers), "--train-on"),
            (!matches!(self.prompts, Way::Auto), "--prompts"),
            (self.length.is_some(), "--length"),
            (self.truncate, "--truncate"),
            (self.now.is_some(), "--now"),
        ]
        .into_iter()
        .find_map(|(given, flag)| given.then_some(flag))
    }
}

/// The prompt object of a model.
fn prompt(name: &str) -> Result<Prompt, Failure> {
    model::prompt(&model::place(Some(name))?)
}

/// Progress over the rows of a file.
fn bar(path: &Path, color: Option<&str>) -> ProgressBar {
    let target =
        if output::decorated(color) { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("reading {msg}: {pos} rows, {per_sec}");
    let bar = ProgressBar::with_draw_target(None, target).with_message(pasture_files::error::file_name(path));
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Letters that would move the cursor or change its color are spelled out.
fn printable(text: &str) -> String {
    let spelled = |letter: char| match letter {
        '\n' | '\t' => letter.to_string(),
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(spelled).collect()
}
