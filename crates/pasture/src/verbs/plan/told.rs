//! What `plan` prints: a table of types with what each needs and how fast it will be, and the best of them.

use std::fmt::Write as _;

use pasture::lab::plan::{Candidate, Choice, ENOUGH, Rates, Reason};
use pasture::lab::receipt::Machine;
use pasture_model::Running;
use serde_json::{Value, json};

use super::PROMPT;
use crate::output::{bytes, count, counted};

/// A candidate with what is predicted of it.
pub struct Row {
    label: String,
    candidate: Candidate,
    memory: u64,
    fits: Option<bool>,
    prompt: usize,
    prompt_seconds: f64,
    token_seconds: f64,
    token_seconds_at_context: f64,
}

impl Row {
    /// Reckons.
    pub fn of(
        label: String,
        candidate: Candidate,
        rates: &Rates,
        running: &Running,
        program_bytes: u64,
        free: Option<u64>,
    ) -> Row {
        let prompt = PROMPT.min(running.context.saturating_sub(1)).max(1);
        let work = &candidate.work;
        let memory = candidate.need.most().saturating_add(program_bytes);
        Row {
            prompt,
            prompt_seconds: work.prompt_seconds(rates, prompt, 0, running.chunk).unwrap_or(f64::NAN),
            token_seconds: work.token_seconds(rates, 1, 0).unwrap_or(f64::NAN),
            token_seconds_at_context: work.token_seconds(rates, 1, running.context - 1).unwrap_or(f64::NAN),
            memory,
            fits: free.map(|free| memory <= free),
            label,
            candidate,
        }
    }

    /// What it is chosen by.
    pub fn choice(&self) -> Choice {
        let name = self.candidate.mixture.map_or(self.label.as_str(), |mixture| mixture.name);
        Choice {
            fits: self.fits != Some(false),
            tokens_per_second: 1.0 / self.token_seconds,
            bits: self.candidate.bits,
            liking: pasture_store::pull::liking(name),
        }
    }
}

/// Everything that is told.
pub struct Told {
    pub name: String,
    pub parameters: u64,
    pub rows: Vec<Row>,
    pub best: Option<(usize, Reason)>,
    /// Whether the other rows are types that `quantize` makes.
    pub can_make: bool,
    pub running: Running,
    pub rates: Rates,
    pub free: Option<u64>,
    pub program_bytes: u64,
    pub note: Option<String>,
}

impl Told {
    /// For people.
    pub fn text(&self) -> String {
        let Told { name, running, rates, .. } = self;
        let kv = running.kv.name();
        let free = self.free.map_or("an unknown amount".to_owned(), bytes);
        let first = &self.rows[0];
        let mut text = format!(
            "{name}: {} weights\n{} kernels, {}; {:.1} GB/s read from memory, {free} of memory free\n",
            count(self.parameters),
            rates.kernels,
            counted(rates.threads, "thread"),
            rates.read_bytes_per_second / 1e9,
        );
        let keys = bytes(first.candidate.need.keys_and_values);
        let _ = writeln!(text, "context of {} tokens: {keys} of keys and values in {kv}\n", running.context);
        let width = self.rows.iter().map(|row| row.label.len()).max().unwrap_or(0).max("type".len());
        let depth = format!("at {}", running.context);
        let prefill = format!("prefill {}", first.prompt);
        let _ = writeln!(
            text,
            "{:<width$}  {:>5}  {:>10}  {:>10}  {prefill:>12}  {:>11}  {:>9}  {depth:>9}  fits",
            "type", "bits", "size", "memory", "first token", "decode"
        );
        for row in &self.rows {
            let fits = row.fits.map_or("-", |fits| if fits { "yes" } else { "no" });
            let _ = writeln!(
                text,
                "{:<width$}  {:>5.2}  {:>10}  {:>10}  {:>10}/s  {:>9} s  {:>7}/s  {:>7}/s  {fits}",
                row.label,
                row.candidate.bits,
                bytes(row.candidate.bytes),
                bytes(row.memory),
                short(row.prompt as f64 / row.prompt_seconds),
                short(row.prompt_seconds),
                short(1.0 / row.token_seconds),
                short(1.0 / row.token_seconds_at_context),
            );
        }
        let _ = writeln!(text, "\n{}", self.advice());
        if let Some(note) = &self.note {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// Which is the best, and why.
    fn advice(&self) -> String {
        let Some((at, reason)) = self.best else {
            let least = self.rows.iter().map(|row| row.memory).min().unwrap_or(0);
            let free = self.free.unwrap_or(0);
            return format!("none fits: the smallest needs {}, and {} are free", bytes(least), bytes(free));
        };
        let row = &self.rows[at];
        let why = match reason {
            Reason::FastEnough => {
                format!("of those that fit and make {ENOUGH:.0} tokens a second, it keeps the most of each weight")
            }
            Reason::Liked => {
                format!(
                    "it fits; none of four bits or more makes {ENOUGH:.0} tokens a second, and this is the usual trade of size and quality"
                )
            }
            Reason::Smallest => "it is the smallest that fits".to_owned(),
        };
        let made = row.candidate.mixture.filter(|_| self.can_make);
        let how = made.map(|mixture| {
            format!("\n`pasture quantize {} --type {} --to FILE.gguf` makes it", self.name, mixture.name)
        });
        format!("best here: {}: {why}{}", row.label, how.unwrap_or_default())
    }

    /// For machines.
    pub fn object(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({
            "name": self.name,
            "parameters": self.parameters,
            "machine": Machine::this(),
            "kernels": self.rates.kernels,
            "threads": self.rates.threads,
            "kv_type": self.running.kv.name(),
            "context_tokens": self.running.context,
            "chunk": self.running.chunk,
            "memory_free_bytes": self.free,
            "program_bytes": self.program_bytes,
            "read_bytes_per_second": self.rates.read_bytes_per_second,
            "candidates": rows,
            "best": self.best.map(|(at, _)| self.rows[at].label.clone()),
            "advice": self.advice(),
            "note": self.note,
        })
    }
}

fn row(row: &Row) -> Value {
    let need = &row.candidate.need;
    json!({
        "type": row.label,
        "bits_per_weight": row.candidate.bits,
        "bytes": row.candidate.bytes,
        "memory_bytes": {
            "all": row.memory,
            "weights": need.weights,
            "loading": need.loading,
            "keys_and_values": need.keys_and_values,
            "scratch": need.scratch,
        },
        "fits": row.fits,
        "prompt_tokens": row.prompt,
        "prefill_tokens_per_second": row.prompt as f64 / row.prompt_seconds,
        "first_token_seconds": row.prompt_seconds,
        "decode_tokens_per_second": 1.0 / row.token_seconds,
        "decode_at_context_tokens_per_second": 1.0 / row.token_seconds_at_context,
    })
}

/// A figure with three digits or all before its point.
pub fn short(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 10.0 => format!("{figure:.1}"),
        figure if figure >= 1.0 => format!("{figure:.2}"),
        figure => format!("{figure:.4}"),
    }
}
