//! Flags that say what is measured of a result.

use std::path::PathBuf;

use clap::Args;
use pasture_lab::receipt::Requirements;

use super::ReceiptFlags;

/// What is measured of a result.
#[derive(Args)]
pub struct Measuring {
    /// Measure perplexity and divergence over this text (default: one that is part of the program)
    #[arg(long, value_name = "TEXT")]
    pub measure: Option<PathBuf>,
    /// The most tokens of a text that are used (default: 16384; all of it with --receipt full)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..))]
    pub tokens: Option<u32>,
    /// Conditions that the result must meet, such as kl<0.02,ppl<+1%
    #[arg(long, value_name = "CONDITIONS", value_parser = conditions)]
    pub require: Option<Conditions>,
    #[command(flatten)]
    pub receipt: ReceiptFlags,
}

/// Conditions with the words that they were written in.
#[derive(Clone)]
pub struct Conditions {
    /// The words.
    pub text: String,
    /// What they ask.
    pub require: Requirements,
}

/// Reads conditions.
fn conditions(text: &str) -> Result<Conditions, String> {
    Ok(Conditions { text: text.to_owned(), require: text.parse()? })
}
