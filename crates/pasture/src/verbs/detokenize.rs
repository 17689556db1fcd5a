//! `pasture detokenize`: tokens to text.

use clap::Args;
use pasture_files::tokenizer::Shown;
use serde_json::json;

use super::model;
use crate::exit::{Failure, Status};
use crate::output;

/// Turn token ids into text
#[derive(Args)]
#[command(after_help = "Example:\n  pasture detokenize my-model.gguf --ids 1,2,3")]
pub struct Arguments {
    /// A model, or a tokenizer file
    model: String,
    /// Token ids, between commas
    #[arg(long, value_name = "ID,ID", required = true)]
    ids: String,
    /// Leave control tokens out
    #[arg(long)]
    hide_special: bool,
    /// Print one JSON object: text, tokens
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let tokenizer = model::tokenizer(&arguments.model)?;
    let ids = model::ids(&arguments.ids)?;
    let (length, past) = (tokenizer.len(), |id: &&u32| tokenizer.token(**id).is_none());
    if let Some(id) = ids.iter().find(past) {
        return Err(Failure::new(Status::Usage, format!("no token has the id {id}; there are {length} tokens")));
    }
    let shown = if arguments.hide_special { Shown::Hide } else { Shown::Show };
    let text = tokenizer.decode(&ids, shown)?;
    if arguments.json {
        let tokens: Vec<String> = ids.iter().map(|id| tokenizer.token(*id).unwrap_or_default()).collect();
        return output::json(&json!({"text": text, "tokens": tokens}));
    }
    output::line(&text)
}
