//! `pasture data show`: the tokens of one row, and which of them are learned.

use std::path::PathBuf;

use clap::Args;
use pasture::data::{self, Read, Reader, Sample};
use pasture_files::prompt::Prompt;
use pasture_files::tokenizer::{Shown, Tokenizer};
use serde_json::{Value, json};

use super::Reading;
use crate::exit::{Failure, Status};
use crate::output;

/// Show the tokens of a row, with what is learned in color
#[derive(Args)]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    model: String,
    /// The data
    data: PathBuf,
    /// The row, from 1
    #[arg(long, value_name = "N", default_value = "1")]
    row: usize,
    #[command(flatten)]
    reading: Reading,
    /// One line for each token
    #[arg(long, conflicts_with = "json")]
    list: bool,
    /// Print one JSON object: line, kind, samples with ids and trained
    #[arg(long)]
    json: bool,
}

/// Green: what is learned.
const LEARNED: [&str; 2] = ["\u{1b}[32m", "\u{1b}[0m"];
/// Where there is no color.
const MARKED: [&str; 2] = ["⟦", "⟧"];

pub fn run(arguments: &Arguments, color: Option<&str>) -> Result<(), Failure> {
    let prompt = super::prompt(&arguments.model)?;
    let options = arguments.reading.options(Some(&arguments.model))?;
    let read = find(arguments, &prompt, &options)?;
    let recognized = data::recognized(read.layout, &options, Some(&prompt));
    let samples: Vec<Value> = read.samples.iter().map(as_json).collect();
    if arguments.json {
        return output::json(&json!({
            "line": read.line,
            "kind": read.layout.kind(),
            "recognized": recognized,
            "samples": samples,
        }));
    }
    output::line(&format!("recognized: {recognized}"))?;
    let tokenizer = prompt.tokenizer().ok_or(pasture_files::prompt::Error::NoTokenizer)?;
    let marks = if output::colored(color) { LEARNED } else { MARKED };
    let pieces = read.samples.len();
    for (place, sample) in read.samples.iter().enumerate() {
        let piece = if pieces > 1 { format!(", piece {} of {pieces}", place + 1) } else { String::new() };
        for (name, ids, trained) in parts(sample) {
            let learned = trained.iter().filter(|trained| **trained).count();
            let tokens = output::counted(ids.len(), "token");
            output::line(&format!("\nline {}{piece}{name}: {tokens}, {learned} learned\n", read.line))?;
            match arguments.list {
                true => list(tokenizer, &ids, &trained)?,
                false => output::line(&text(tokenizer, &ids, &trained, marks))?,
            }
        }
    }
    if read.samples.is_empty() {
        output::line("its weight is 0: nothing is learned from it")?;
    }
    Ok(())
}

/// The row that was asked for. Rows before it may be wrong.
fn find(arguments: &Arguments, prompt: &Prompt, options: &data::Options) -> Result<Read, Failure> {
    let mut reader = Reader::open(&arguments.data, prompt, options)?;
    let mut row = 0;
    while let Some(read) = reader.next() {
        row += 1;
        match read {
            Ok(read) if row == arguments.row => return Ok(read),
            Ok(_) => {}
            Err(fault) if row == arguments.row => return Err(fault.into()),
            Err(fault) => {
                if !reader.go_on() {
                    return Err(fault.into());
                }
            }
        }
    }
    let what = format!("there is no row {}: the file has {}", arguments.row, output::counted(row, "row"));
    Err(Failure::new(Status::Usage, what))
}

fn as_json(sample: &Sample) -> Value {
    match sample {
        Sample::Example(example) => json!({"ids": example.ids, "trained": example.trained}),
        Sample::Preference(pair) => json!({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}),
        Sample::Judged(judged) => {
            json!({"prompt": judged.prompt, "completion": judged.completion, "label": judged.desirable})
        }
    }
}

/// The texts of a sample with their names.
fn parts(sample: &Sample) -> Vec<(&'static str, Vec<u32>, Vec<bool>)> {
    match sample {
        Sample::Example(example) => vec![("", example.ids.clone(), example.trained.clone())],
        Sample::Preference(pair) => {
            let [chosen, rejected] = pair.examples();
            vec![(", chosen", chosen.ids, chosen.trained), (", rejected", rejected.ids, rejected.trained)]
        }
        Sample::Judged(judged) => {
            let example = judged.example();
            let name = if judged.desirable { ", wanted" } else { ", not wanted" };
            vec![(name, example.ids, example.trained)]
        }
    }
}

/// The tokens as text, with what is learned between marks.
fn text(tokenizer: &Tokenizer, ids: &[u32], trained: &[bool], [open, close]: [&str; 2]) -> String {
    let mut stream = tokenizer.stream_with(Shown::Show);
    let (mut shown, mut inside) = (String::new(), false);
    for (id, &trained) in ids.iter().zip(trained) {
        if trained != inside {
            shown.push_str(&super::printable(&stream.finish()));
            stream = tokenizer.stream_with(Shown::Show);
            shown.push_str(if trained { open } else { close });
            inside = trained;
        }
        shown.push_str(&super::printable(&stream.push(*id)));
    }
    shown.push_str(&super::printable(&stream.finish()));
    if inside {
        shown.push_str(close);
    }
    shown
}

fn list(tokenizer: &Tokenizer, ids: &[u32], trained: &[bool]) -> Result<(), Failure> {
    output::line("    id  learned  token")?;
    for (id, trained) in ids.iter().zip(trained) {
        let token = tokenizer.token(*id).unwrap_or_default();
        output::line(&format!("{id:>6}  {:<7}  {token:?}", if *trained { "yes" } else { "" }))?;
    }
    Ok(())
}
