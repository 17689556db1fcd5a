//! What `bench` prints: a heading that says what ran on what, a table, and the same as one JSON object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pasture::lab::quantize::mixture;
use pasture::lab::receipt::Machine;
use pasture_files::gguf::Value as Stored;
use pasture_kernels::Kernels;
use pasture_model::{Running, Source};
use serde_json::{Value, json};

use super::super::plan::{Foreseen, memory_text, short, unmeasured};
use super::measure::{Figures, Test, What, spread};
use crate::exit::Failure;
use crate::output::{bytes, count, counted};

/// What a model's files say of it.
pub struct Heading {
    /// The name of its mixture or method, or the format that most of its bytes have.
    pub format: String,
    /// Bytes of each number format.
    pub formats: BTreeMap<&'static str, u64>,
    /// Weights.
    pub parameters: u64,
}

impl Heading {
    /// Of a model's files.
    pub fn of(source: &Source) -> Result<Heading, Failure> {
        let quantization = pasture_model::families::blueprint(&source.config)?.quantization;
        let mut formats = BTreeMap::new();
        for (name, entry) in source.tensors.iter() {
            *formats.entry(entry.dtype.name()).or_insert(0) += source.tensors.byte_count(name).unwrap_or(0);
        }
        let most = formats.iter().max_by_key(|(_, bytes)| **bytes).map_or("no numbers", |(name, _)| *name);
        let numbered = source.tensors.gguf().and_then(|metadata| match metadata.get("general.file_type") {
            Some(Stored::U32(number)) => mixture::ALL.iter().find(|mixture| mixture.number == *number),
            _ => None,
        });
        let format = match (&quantization, numbered) {
            (Some(quantization), _) => quantization.describe(),
            (None, Some(mixture)) => mixture.name.to_owned(),
            (None, None) => most.to_owned(),
        };
        let parameters = pasture_model::parameters(&source.tensors, quantization.as_ref());
        Ok(Heading { format, formats, parameters })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.formats.values().sum()
    }
}

/// Everything that is told.
pub struct Told {
    pub name: String,
    pub heading: Heading,
    pub threads: usize,
    pub kv: String,
    pub exact: bool,
    pub adapters: usize,
    pub chunk: usize,
    pub runs: u32,
    pub load_seconds: f64,
    pub memory_peak: Option<u64>,
    pub measured: Vec<(Test, Figures)>,
    pub planned: Option<Foreseen>,
}

impl Told {
    /// For people.
    pub fn text(&self) -> String {
        let Told { name, heading, threads, kv, .. } = self;
        let isa = Kernels::get().name();
        let mut text = format!(
            "{name}: {}, {} weights, {}\n{isa} kernels, {}, keys and values in {kv}",
            heading.format,
            count(heading.parameters),
            bytes(heading.bytes()),
            counted(*threads, "thread"),
        );
        if self.exact {
            text.push_str(", exact");
        }
        if self.adapters > 0 {
            let _ = write!(text, ", {} beside the weights", counted(self.adapters, "adapter"));
        }
        let names: Vec<String> = self.measured.iter().map(|(test, _)| test.name()).collect();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max("test".len());
        let planned = |what: String| if self.planned.is_some() { format!("  {what:>9}") } else { String::new() };
        let _ = write!(text, "\n\n{:<width$}  {:>10}  {:>20}", "test", "tokens/s", "least-most");
        let _ = writeln!(text, "{}  {:>12}", planned("planned".into()), "first token");
        for ((test, figures), name) in self.measured.iter().zip(names) {
            let rate = spread(&figures.tokens_per_second).unwrap_or_default();
            let first = spread(&figures.first_token_seconds).unwrap_or_default();
            let range = format!("{}-{}", short(rate.1), short(rate.2));
            let foreseen = planned(self.foreseen(test).map_or("-".into(), short));
            let _ = write!(text, "{name:<width$}  {:>10}  {range:>20}{foreseen}", short(rate.0));
            let _ = writeln!(text, "  {:>10} s", short(first.0));
        }
        let peak = self.memory_peak.map_or("an unknown amount of memory".to_owned(), bytes);
        let runs = counted(self.runs as usize, "run");
        let foreseen = self.planned.as_ref().map(|planned| format!(" ({} planned)", bytes(planned.memory_bytes())));
        let (foreseen, loaded) = (foreseen.unwrap_or_default(), short(self.load_seconds));
        let _ = writeln!(text, "\nmedian of {runs}; loaded in {loaded} s; held {peak} at the most{foreseen}");
        text
    }

    /// What was planned beside what was measured.
    pub fn beside(&self, running: &Running) -> String {
        let Some(planned) = &self.planned else {
            let knows_none = self.exact || self.adapters > 0;
            let none = "nothing is planned: no plan knows of --exact or of adapters";
            return if knows_none { none.to_owned() } else { unmeasured(running) };
        };
        let memory = self.memory_peak.map(|held| memory_text((planned.memory_bytes(), held)));
        let tests = self.measured.iter().filter_map(|(test, figures)| {
            let (planned, (measured, ..)) = (self.foreseen(test)?, spread(&figures.tokens_per_second)?);
            let ratio = short(planned / measured);
            Some(format!("{} {} and {} tokens/s ({ratio})", test.name(), short(planned), short(measured)))
        });
        format!("planned and measured: {}", memory.into_iter().chain(tests).collect::<Vec<_>>().join("; "))
    }

    /// Tokens a second of a test as they are planned.
    fn foreseen(&self, test: &Test) -> Option<f64> {
        let planned = self.planned.as_ref()?;
        match test.what {
            What::Prefill { tokens } => planned.prefill_rate(tokens, test.depth, self.chunk),
            What::Decode { tokens, batch } => planned.decode_rate(batch, test.depth + tokens / 2),
        }
    }

    /// For machines.
    pub fn object(&self) -> Value {
        let row = |(test, figures): &(Test, Figures)| row(test, figures, self.foreseen(test));
        let tests: Vec<Value> = self.measured.iter().map(row).collect();
        json!({
            "name": self.name,
            "format": self.heading.format,
            "formats": self.heading.formats,
            "parameters": self.heading.parameters,
            "bytes": self.heading.bytes(),
            "version": env!("CARGO_PKG_VERSION"),
            "machine": Machine::this(),
            "kernels": Kernels::get().name(),
            "threads": self.threads,
            "kv_type": self.kv,
            "exact": self.exact,
            "adapters": self.adapters,
            "chunk": self.chunk,
            "runs": self.runs,
            "load_seconds": self.load_seconds,
            "memory_peak_bytes": self.memory_peak,
            "memory_planned_bytes": self.planned.as_ref().map(Foreseen::memory_bytes),
            "tests": tests,
        })
    }
}

fn row(test: &Test, figures: &Figures, planned: Option<f64>) -> Value {
    let kind = match test.what {
        What::Prefill { .. } => "prefill",
        What::Decode { .. } => "decode",
    };
    let all = |figures: &[f64]| {
        let (median, least, most) = spread(figures).unwrap_or_default();
        json!({"median": median, "least": least, "most": most, "runs": figures})
    };
    json!({
        "test": kind,
        "tokens": test.what.tokens(),
        "depth": test.depth,
        "batch": test.sequences(),
        "tokens_per_second": all(&figures.tokens_per_second),
        "planned_tokens_per_second": planned,
        "first_token_seconds": all(&figures.first_token_seconds),
    })
}
