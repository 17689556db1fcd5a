//! What a run leaves in its folder: the adapter as peft reads it, the recipe, the receipt and a model card.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use pasture_files::durable;
use pasture_model::save::save_tuned;
use pasture_model::{AdapterFacts, Source, save_adapter};
use serde_json::json;

use super::checkpoint::{Identity, State};
use super::error::Result;
use super::events::{Found, Reason};
use super::learned::{Kind, Samples};
use super::plan::Plan;
use super::recipe::{Loss, Method};
use super::run::Outcome;
use crate::receipt::{Change, Input, Level, Measured, Measures, Perplexity, Receipt, Text, Unmeasured, Words};

/// Where a run comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The base model's files.
    pub base: Input,
    /// What others load the base by: a name or a path.
    pub base_name: String,
    /// The family of its page.
    pub family: String,
    /// The licence that its files name.
    pub license: Option<String>,
    /// The files of the data.
    pub data: Vec<Input>,
    /// Samples that are learned, and held out.
    pub samples: [usize; 2],
}

/// What decides a run: each key of its recipe, its base, its data and how that was split.
pub fn identity(plan: &Plan, origin: &Origin) -> Identity {
    let recipe = plan.recipe.to_json();
    let keys = recipe.as_object().into_iter().flatten();
    let mut identity: Identity = keys.map(|(key, value)| (format!("recipe: {key}"), value.to_string())).collect();
    let mut add = |key: &str, value: String| drop(identity.insert(key.to_owned(), value));
    add("base model", origin.base.digest.clone());
    add("data", origin.data.iter().map(|data| data.digest.as_str()).collect::<Vec<_>>().join(" "));
    add("samples", origin.samples.map(|count| count.to_string()).join(" learned, ") + " held out");
    add("steps", plan.steps.to_string());
    identity
}

/// Writes the adapter or the model, the recipe and the card. `source` is what the base was loaded from. Gives the receipt,
/// which the caller writes last: where it is, the rest is.
///
/// # Errors
/// When a file cannot be written, or a folder cannot say something of the model.
pub fn write(folder: &Path, outcome: &mut Outcome, plan: &Plan, origin: &Origin, source: &Source) -> Result<Receipt> {
    if let Some(adapter) = outcome.trained.adapter() {
        let facts = AdapterFacts {
            base: origin.base_name.clone(),
            rank_stabilized: plan.recipe.method == Method::Rslora,
            dropout: plan.recipe.dropout.unwrap_or(0.0),
        };
        save_adapter(folder, adapter, outcome.decoder.sites(), &facts)?;
    } else {
        let decoder = Arc::get_mut(&mut outcome.decoder).expect("a model that is tuned whole is held by its run alone");
        save_tuned(source, decoder, folder, &mut |_, _| {})?;
    }
    let put = |name: &str, text: String| durable::write_file(&folder.join(name), |sink| sink.put(text.as_bytes()));
    put("recipe.toml", plan.recipe.to_toml())?;
    put("README.md", card(plan, origin, outcome))?;
    Ok(receipt(outcome, plan, origin))
}

/// The held-out part as a text by which base and result are compared: what is learned of it. None where it has nothing.
pub fn held_out_text(held_out: &Samples) -> Option<Text> {
    let asks = held_out.asks();
    let name = match held_out.kind() {
        Kind::Texts => held_out_name(held_out.len()),
        Kind::Pairs => format!("better answers of {} pairs held out of the data", held_out.len()),
        Kind::Judged => format!("wanted answers among {} held out of the data", held_out.len()),
    };
    (!asks.is_empty()).then_some(Text { name, words: Words::Tokens(asks) })
}

fn held_out_name(count: usize) -> String {
    format!("{count} samples held out of the data, answers only")
}

/// Adds what was measured of base and result. Where that was by the held-out part, the run's own perplexity stays, which is
/// of all of it.
#[must_use]
pub fn with_measured(receipt: Receipt, measured: Measured, by_held_out: bool) -> Receipt {
    let own = [receipt.before.clone(), receipt.after.clone()];
    let is_whole = own.iter().all(|side| side.perplexity.is_some());
    let mut receipt = receipt.with(measured);
    for (side, own) in [&mut receipt.before, &mut receipt.after].into_iter().zip(own) {
        side.tasks.extend(own.tasks);
        if side.perplexity.is_none() || (by_held_out && is_whole) {
            side.perplexity = own.perplexity;
        }
    }
    if receipt.after.perplexity.is_some() {
        receipt.unmeasured.retain(|left| left.what != "perplexity");
    }
    receipt
}

/// The held-out part's figures before the first step and after the last.
fn measured(state: &State) -> [Option<Found>; 2] {
    let before = state.evaluations.first().filter(|(step, _)| *step == 0);
    let after = state.evaluations.last().filter(|(step, _)| *step == state.step && *step > 0);
    [before, after].map(|found| found.map(|(_, found)| *found))
}

fn receipt(outcome: &Outcome, plan: &Plan, origin: &Origin) -> Receipt {
    let mut receipt = Receipt::new(Change::Tune, vec![origin.base.clone()], plan.recipe.to_json());
    receipt.data.clone_from(&origin.data);
    receipt.level = Level::Quick;
    let [before, after] = measured(&outcome.state).map(|found| found.map(|found| measures(plan, origin, found)));
    let measured = before.is_some() && after.is_some();
    (receipt.before, receipt.after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let mut leave = |what: &str, reason: &str| {
        receipt.unmeasured.push(Unmeasured { what: what.to_owned(), reason: reason.to_owned() });
    };
    if !measured {
        leave("held-out loss", "nothing was held out, or the run was ended before");
    }
    leave("tasks", "tuning measures its held-out part only; pasture eval and pasture compare measure tasks");
    receipt
}

fn measures(plan: &Plan, origin: &Origin, found: Found) -> Measures {
    let mut measures = Measures::default();
    let digest = origin.data.first().map(|data| data.digest.clone()).unwrap_or_default();
    if plan.loss == Loss::Sft {
        let value = found.loss.exp();
        let length = plan.recipe.length.unwrap_or(0);
        measures.perplexity = Some(Perplexity {
            value,
            stderr: value * found.stderr,
            tokens: found.count as u64,
            window: length,
            stride: length,
            text: held_out_name(origin.samples[1]),
            digest,
        });
        return measures;
    }
    let score = |value: f64, stderr: Option<f64>, higher_is_better: bool| crate::receipt::Score {
        value,
        stderr,
        samples: found.count as u64,
        higher_is_better,
    };
    measures.tasks.insert("held-out preferences/loss".to_owned(), score(found.loss, Some(found.stderr), false));
    if let Some(right) = found.right {
        let stderr = (right * (1.0 - right) / found.count.max(1) as f64).sqrt();
        measures.tasks.insert("held-out preferences/right".to_owned(), score(right, Some(stderr), true));
    }
    measures
}

fn card(plan: &Plan, origin: &Origin, outcome: &Outcome) -> String {
    let mut text = String::from("---\n");
    let mut head = |key: &str, value: &str| text.push_str(&format!("{key}: {}\n", json!(value)));
    head("base_model", &origin.base_name);
    head("library_name", if plan.recipe.adapts() { "peft" } else { "transformers" });
    head("pipeline_tag", "text-generation");
    if let Some(license) = &origin.license {
        head("license", license);
    }
    text.push_str("tags:\n- pasture\n---\n\n");
    let kind = if plan.recipe.adapts() { "An adapter for" } else { "A tuned copy of" };
    let _ = writeln!(text, "# {kind} {}\n", origin.base.name);
    let _ = writeln!(text, "| | |\n|---|---|");
    let mut row = |key: &str, value: String| text.push_str(&format!("| {key} | {value} |\n"));
    row("base", format!("{} (`{}`)", origin.base.name, origin.base.digest));
    row("family", origin.family.clone());
    row(
        "licence of the base",
        origin.license.clone().unwrap_or_else(|| "no licence is stated by its files".to_owned()),
    );
    for data in &origin.data {
        row("data", format!("{} (`{}`)", data.name, data.digest));
    }
    row("samples", format!("{} learned, {} held out", origin.samples[0], origin.samples[1]));
    row("steps", format!("{} of {}, {} skipped", outcome.state.step, plan.steps, outcome.state.skipped));
    if outcome.reason == Reason::EarlyStop {
        row("ended", "early: the held-out loss did not get better".to_owned());
    }
    for (when, found) in ["before", "after"].iter().zip(measured(&outcome.state)) {
        let shown =
            found.map_or_else(|| "not measured".to_owned(), |found| format!("{:.4} ± {:.4}", found.loss, found.stderr));
        row(&format!("held-out loss {when}"), shown);
    }
    let _ = writeln!(text, "\nMade by `pasture tune`; `recipe.toml` has every setting, `receipt.json` every figure.");
    text
}
