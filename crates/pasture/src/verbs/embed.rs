//! `pasture embed`: vectors of texts, made as the model's own files say.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::{EmbedOptions, Embeddings, Model, Pooling, TextPrompt};
use serde_json::{Value, json};

use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, RunFlags};

/// Turn texts into vectors, for search and comparison
#[derive(Args)]
#[command(after_help = "\
Pooling, normalization, prompts and the longest text are those of the model's
own files (modules.json and what it names; pooling_type of a GGUF file).
Without --json a line has one text's numbers.

Examples:
  pasture embed my-encoder \"Sheep graze in the mornings.\" --json
  pasture embed my-encoder --query \"when do sheep eat?\"
  pasture embed my-encoder --file lines.txt --truncate
  pasture embed my-decoder --ids 1,2,3 --ids 4,5 --pooling last --normalize")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// The texts; one that begins with a dash goes behind --
    #[arg(conflicts_with_all = ["ids", "file"])]
    texts: Vec<String>,
    /// Read texts from a file, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    file: Option<PathBuf>,
    /// Token ids of one text, between commas, taken as they are; may be given several times
    #[arg(long, value_name = "ID,ID")]
    ids: Vec<String>,
    /// Put the prompt of this name, from the model's files, before each text
    #[arg(long, value_name = "NAME", conflicts_with_all = ["query", "no_prompt", "ids"])]
    prompt: Option<String>,
    /// The texts are questions: the same as --prompt query
    #[arg(long, conflicts_with_all = ["no_prompt", "ids"])]
    query: bool,
    /// Leave out the prompt that the model's files put before each text
    #[arg(long, conflicts_with = "ids")]
    no_prompt: bool,
    /// Which rows become the vector (default: as the model's files say)
    #[arg(long, value_name = "WORD")]
    pooling: Option<Word>,
    /// Make vectors one long, so that products are cosines (default: as the model's files say)
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    normalize: Option<Choice>,
    /// Cut texts that are too long at their end
    #[arg(long)]
    truncate: bool,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object: vectors, tokens, and how they were made
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum Word {
    Cls,
    Mean,
    Last,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Choice {
    Yes,
    No,
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.texts.is_empty() && arguments.file.is_none() && arguments.ids.is_empty() {
        let hint = "texts stand behind the model, in a file with --file FILE, or as token ids with --ids 1,2,3";
        return Err(Failure::new(Status::Usage, "there is no text to embed").hint(hint.to_owned()));
    }
    let ids = arguments.ids.iter().map(|ids| model::ids(ids)).collect::<Result<Vec<_>, _>>()?;
    let texts = texts(arguments)?;
    let given = program.clone().and(&arguments.running.0);
    let Opened { model, settings, .. } =
        model::open(Some(&arguments.model), &given, arguments.exact, arguments.strict)?;
    if model.has_adapter() {
        let what = format!("{:?} has adapters, and vectors are made by a model without one", arguments.model);
        return Err(Failure::new(Status::Unavailable, what).hint("embed with the model that it is made of".to_owned()));
    }
    known_keys(&model, arguments.strict)?;
    if arguments.no_prompt && model.embed_rules()?.default_prompt.is_none() {
        return Err(Failure::new(Status::Usage, "`--no-prompt` has no effect: this model puts nothing before texts"));
    }
    let options = options(arguments);
    let bar = bar(texts.len().max(ids.len()), output::decorated(settings.text("color")));
    let mut advance = |done: usize| bar.set_position(done as u64);
    let made = match ids.is_empty() {
        true => model.embed_with(&texts, &options, &mut advance),
        false => model.embed_ids(ids, &options, &mut advance),
    };
    bar.finish_and_clear();
    let made = made?;
    if arguments.json {
        return output::json(&object(&made));
    }
    made.vectors
        .iter()
        .try_for_each(|vector| output::line(&vector.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")))
}

/// The texts of the command line or of the file.
fn texts(arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let Some(file) = &arguments.file else { return Ok(arguments.texts.clone()) };
    let all = model::text(None, Some(file))?;
    let lines: Vec<String> = all.lines().map(str::to_owned).collect();
    if let Some(empty) = lines.iter().position(|line| line.trim().is_empty()) {
        return Err(Failure::new(
            Status::Data,
            format!("line {} of {file:?} is empty: each line is a text", empty + 1),
        ));
    }
    if lines.is_empty() {
        return Err(Failure::new(Status::Data, format!("{file:?} has no lines, so there is nothing to embed")));
    }
    Ok(lines)
}

fn options(arguments: &Arguments) -> EmbedOptions {
    let prompt = match (&arguments.prompt, arguments.query, arguments.no_prompt) {
        (Some(name), ..) => TextPrompt::Named(name.clone()),
        (None, true, _) => TextPrompt::Named("query".to_owned()),
        (None, false, true) => TextPrompt::Nothing,
        (None, false, false) => TextPrompt::Usual,
    };
    let pooling = arguments.pooling.map(|word| match word {
        Word::Cls => Pooling::Cls,
        Word::Mean => Pooling::Mean,
        Word::Last => Pooling::Last,
    });
    let normalize = arguments.normalize.map(|choice| choice == Choice::Yes);
    EmbedOptions { pooling, normalize, prompt, truncate: arguments.truncate }
}

/// Keys of the files about embedding that nobody knows: named, and refused where asked.
fn known_keys(model: &Model, strict: bool) -> Result<(), Failure> {
    for key in &model.embed_rules()?.unknown {
        if strict {
            return Err(Failure::new(Status::Data, format!("{key:?} is a key that nobody knows")));
        }
        eprintln!("note: key {key:?} has no effect: nobody knows it");
    }
    Ok(())
}

fn bar(texts: usize, decorated: bool) -> ProgressBar {
    let target = if decorated { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("embedding {bar:30} {pos}/{len} {eta}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(texts as u64), target).with_style(style)
}

fn object(made: &Embeddings) -> Value {
    let vector = |vector: &Vec<f32>| vector.iter().map(|value| number(*value)).collect::<Vec<Value>>();
    json!({
        "dimensions": made.vectors.first().map_or(0, Vec::len),
        "pooling": made.pooling.name(),
        "normalized": made.normalized,
        "prompt": made.prompt,
        "tokens": made.tokens,
        "truncated": made.truncated,
        "embeddings": made.vectors.iter().map(vector).collect::<Vec<_>>(),
    })
}

/// A number with the digits that tell it from other f32 values, and no more.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
