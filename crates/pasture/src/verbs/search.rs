//! `pasture search`: what the hub has under some words, how large it is, on which terms, and whether it fits here.

use clap::Args;
use pasture::lab::receipt::Memory;
use pasture_store::pull::{Hit, Hub, Network};
use serde_json::json;

use crate::exit::Failure;
use crate::output;

/// Search the hub for models
#[derive(Args)]
#[command(after_help = "\
The most downloaded come first. Sizes are those of 16 and 32 bit weights, where
the hub knows them; of GGUF models, what four bits a weight would need. Whether
that fits is judged by the memory that is free now.

Examples:
  pasture search gemma 2b
  pasture search granite --limit 50 --json")]
pub struct Arguments {
    /// Words of its name
    #[arg(required = true)]
    words: Vec<String>,
    /// How many to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let hub = Hub::new(&Network::current()?)?;
    let words = arguments.words.join(" ");
    let hits = hub.search(&words, usize::from(arguments.limit))?;
    let free = Memory::Free.bytes();
    if arguments.json {
        let rows: Vec<_> = hits
            .iter()
            .map(|hit| {
                json!({"name": hit.repo, "downloads": hit.downloads, "parameters": hit.parameters,
                       "bytes": size(hit), "license": hit.license, "gated": hit.gated, "gguf": hit.gguf,
                       "fits": fits(hit, free)})
            })
            .collect();
        return output::json(&json!({"models": rows}));
    }
    if hits.is_empty() {
        eprintln!("the hub has no model with {words:?} in its name");
        return Ok(());
    }
    let width = hits.iter().map(|hit| hit.repo.len()).max().unwrap_or(0);
    let license = |hit: &Hit| hit.license.clone().unwrap_or_else(|| "-".into());
    let terms = hits.iter().map(|hit| license(hit).chars().count()).max().unwrap_or(0);
    output::line(&format!(
        "{:<width$}  {:>10}  {:>9}  {:<5}  {:<terms$}  {:<5}  downloads",
        "name", "size", "weights", "fits", "licence", "gated"
    ))?;
    for hit in &hits {
        let bytes = size(hit).map_or("-".to_owned(), output::bytes);
        let count = hit.parameters.map_or("-".to_owned(), output::count);
        let fits = fits(hit, free).map_or("-", |fits| if fits { "yes" } else { "no" });
        let gated = if hit.gated { "yes" } else { "no" };
        let (name, license, downloads) = (&hit.repo, license(hit), output::count(hit.downloads));
        output::line(&format!(
            "{name:<width$}  {bytes:>10}  {count:>9}  {fits:<5}  {license:<terms$}  {gated:<5}  {downloads}"
        ))?;
    }
    Ok(())
}

/// Bytes that a pull would take, as near as the hub says.
fn size(hit: &Hit) -> Option<u64> {
    // Four bits and a half for each weight, and some tensors in more.
    let in_four_bits = |count: u64| count.checked_mul(5).map(|bits| bits / 8);
    if hit.gguf { hit.parameters.and_then(in_four_bits) } else { hit.bytes }
}

fn fits(hit: &Hit, free: Option<u64>) -> Option<bool> {
    Some(pasture_store::pull::fits(size(hit)?, Some(free?)))
}
