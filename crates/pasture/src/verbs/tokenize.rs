//! `pasture tokenize`: text to tokens.

use std::path::PathBuf;

use clap::Args;
use pasture_files::tokenizer::{Shown, Specials};
use serde_json::json;

use super::model;
use crate::exit::Failure;
use crate::output;

/// Turn text into tokens
#[derive(Args)]
#[command(after_help = "\
Marks such as <|im_end|> in the text stay text without --parse-special.

Examples:
  pasture tokenize my-model.gguf \"Hello there!\"
  pasture tokenize tokenizer.json --file book.txt --json")]
pub struct Arguments {
    /// A model, or a tokenizer file
    model: String,
    /// The text (default: standard input)
    #[arg(allow_hyphen_values = true, value_parser = model::text_argument)]
    text: Option<String>,
    /// Read the text from a file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Marks in the text become control tokens
    #[arg(long)]
    parse_special: bool,
    /// Add the tokens that the model expects around a text, such as the one that begins it
    #[arg(long)]
    add_special: bool,
    /// Print one JSON object: ids, tokens, decoded
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let tokenizer = model::tokenizer(&arguments.model)?;
    let text = model::text(arguments.text.as_deref(), arguments.file.as_deref())?;
    let specials = if arguments.parse_special { Specials::Parse } else { Specials::AsText };
    let ids = match arguments.add_special {
        true => tokenizer.encode_with_special(&text, specials)?,
        false => tokenizer.encode(&text, specials)?,
    };
    let spelled = |id: &u32| tokenizer.token(*id).unwrap_or_default();
    if arguments.json {
        let tokens: Vec<String> = ids.iter().map(spelled).collect();
        let decoded = tokenizer.decode(&ids, Shown::Show)?;
        return output::json(&json!({"ids": ids, "tokens": tokens, "decoded": decoded}));
    }
    for id in &ids {
        output::line(&format!("{id:>7}  {:?}", spelled(id)))?;
    }
    Ok(())
}
