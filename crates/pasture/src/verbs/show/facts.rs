//! What can be said of a model without reading its weights: structure, number formats, memory, prompt, licence.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pasture_files::prompt::Prompt;
use pasture_model::Source;
use pasture_model::config::Report;
use pasture_model::families;
use pasture_model::spec::Spec;
use pasture_store::licence::{Statement, Terms};
use pasture_tensor::kv::KvFormat;
use serde_json::{Value, json};

use super::super::lineage;
use super::{license, model};
use crate::exit::{Failure, Status};
use crate::output::{bytes, count};

/// Everything that `show` tells.
pub struct Facts {
    name: String,
    files: usize,
    family: &'static str,
    architecture: String,
    /// The model's structure.
    pub spec: Spec,
    /// How the publisher's program quantized the weights, with what the numbers are.
    quantization: Option<String>,
    /// How keys and values would be kept.
    kv: KvFormat,
    report: Report,
    parameters: u64,
    weights: u64,
    beside: Beside,
    /// Tensors and bytes of each number format.
    formats: BTreeMap<&'static str, (usize, u64)>,
    prompt: Prompt,
    license: Vec<Statement>,
    /// Its terms and those of its ancestors.
    pub terms: Terms,
    /// What a mixture's experts cost where they stay on disk, or why they cannot.
    experts: Option<Result<Experts, String>>,
}

/// A mixture's experts on disk.
struct Experts {
    bytes: u64,
    /// Bytes read for a token of which no expert is in memory.
    a_token: u64,
    /// Bytes a second of one timed read, where it was asked for.
    measured: Option<f64>,
}

/// Bytes of the timed read.
const TIMED_BYTES: u64 = 256 << 20;

impl Experts {
    fn of(source: &Source, timed: bool) -> Result<Experts, String> {
        let told = |error: pasture_model::Error| error.to_string();
        let decoder = model::hollow_mixture(source).map_err(told)?.decoder;
        let measured = timed.then(|| decoder.time_expert_reads(TIMED_BYTES)).transpose().map_err(told)?;
        Ok(Experts {
            bytes: decoder.expert_bytes(),
            a_token: decoder.expert_bytes_a_token().unwrap_or(0),
            measured: measured.map(|(bytes, time)| bytes as f64 / time.as_secs_f64().max(1e-9)),
        })
    }

    /// One line for people.
    fn text(&self) -> String {
        let Experts { bytes: all, a_token, measured } = self;
        let tokens = |speed: f64| speed / (*a_token).max(1) as f64;
        let read =
            format!("{} in all; with --expert-cache SIZE at most {} are read a token", bytes(*all), bytes(*a_token));
        match measured {
            Some(speed) => format!(
                "{read}: {:.2} tokens/s at the {:.2} GB/s of one timed read, which the system may have had in memory",
                tokens(*speed),
                speed / 1e9
            ),
            None => format!("{read}: {:.2} tokens/s at 1 GB/s; --time-disk measures", tokens(1e9)),
        }
    }
}

/// Tensors of parts beside the model, which are left out.
#[derive(Default)]
struct Beside {
    reason: &'static str,
    tensors: usize,
    bytes: u64,
}

impl Beside {
    fn add(&mut self, reason: &'static str, stored: u64) {
        self.reason = reason;
        self.tensors += 1;
        self.bytes += stored;
    }

    fn note(&self) -> Option<String> {
        let Beside { reason, tensors, bytes: stored } = self;
        (*tensors > 0).then(|| format!("{reason}; {tensors} tensors with {} are left out", bytes(*stored)))
    }
}

impl Facts {
    /// Reads headers, configuration and prompt.
    pub fn gather(name: Option<&str>, source: &Source, strict: bool, time_disk: bool) -> Result<Facts, Failure> {
        let families::Blueprint { family, spec, names, quantization, report } = families::blueprint(&source.config)?;
        if strict {
            report.strict(&source.config)?;
        }
        let experts = model::mixes(&spec).then(|| Experts::of(source, time_disk));
        if time_disk && experts.is_none() {
            return Err(Failure::new(Status::Usage, "`--time-disk` has no effect: this model has no experts"));
        }
        let parameters = pasture_model::parameters(&source.tensors, quantization.as_ref());
        let (mut weights, mut beside) = (0u64, Beside::default());
        let mut formats = BTreeMap::new();
        for (name, entry) in source.tensors.iter() {
            let stored = source.tensors.byte_count(name).unwrap_or(0);
            match names.beside.iter().find(|(part, _)| name.starts_with(part)) {
                Some((_, reason)) => beside.add(reason, stored),
                None => weights += stored,
            }
            let (tensors, bytes) = formats.entry(entry.dtype.name()).or_insert((0, 0));
            *tensors += 1;
            *bytes += stored;
        }
        Ok(Facts {
            // A name from a cache says more than the file's, which may be a checksum.
            name: match name.filter(|name| !std::path::Path::new(name).exists()) {
                Some(name) => name.to_owned(),
                None => source.tensors.name().to_owned(),
            },
            files: source.tensors.files().len(),
            family: family.name,
            architecture: source.config.architecture().unwrap_or(family.name).to_owned(),
            prompt: pasture::prompt_of(source, family)?,
            license: license::find(source)?,
            terms: lineage::of(&model::place(name)?)?.terms(),
            experts,
            spec,
            quantization: quantization.map(|quantization| quantization.describe()),
            kv: KvFormat::F16,
            report,
            parameters,
            weights,
            beside,
            formats,
        })
    }

    /// Bytes of keys and values of a sequence of so many tokens.
    fn kv_bytes(&self, tokens: usize) -> u64 {
        pasture_model::kv_bytes(&self.spec, tokens, self.kv)
    }

    /// Keys and values are kept in that format, if one is set and the model can.
    pub fn keep_in(&mut self, kv: Option<KvFormat>) {
        self.kv = kv.filter(|kv| pasture_model::check_kv(&self.spec, *kv).is_ok()).unwrap_or(self.kv);
    }

    /// For machines.
    pub fn object(&self) -> Value {
        let formats: serde_json::Map<String, Value> = self
            .formats
            .iter()
            .map(|(name, (tensors, bytes))| ((*name).to_owned(), json!({"tensors": tensors, "bytes": bytes})))
            .collect();
        let ignored: Vec<Value> =
            self.report.ignored.iter().map(|one| json!({"key": one.key, "reason": one.reason})).collect();
        json!({
            "name": self.name,
            "files": self.files,
            "family": self.family,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "formats": formats,
            "quantization": self.quantization,
            "layers": self.spec.layers.len(),
            "hidden": self.spec.hidden,
            "vocabulary": self.spec.vocab,
            "context_tokens": self.spec.context,
            "memory": {
                "weights_bytes": self.weights,
                "kv_type": self.kv.name(),
                "kv_bytes_per_1000_tokens": self.kv_bytes(1000),
                "kv_bytes_full_context": self.kv_bytes(self.spec.context),
            },
            "experts": self.experts.as_ref().map(|experts| match experts {
                Ok(experts) => json!({
                    "bytes": experts.bytes,
                    "read_bytes_per_token_max": experts.a_token,
                    "measured_bytes_per_second": experts.measured.map(f64::round),
                }),
                Err(why) => json!({"not_on_disk": why}),
            }),
            "tokenizer": self.prompt.tokenizer().is_some(),
            "template": self.prompt.template_origin().map(|origin| json!({
                "from": origin,
                "sha256": self.prompt.template_hash(),
                "source": self.prompt.template_source(),
            })),
            "notes": self.beside.note().iter().chain(self.prompt.notes()).collect::<Vec<_>>(),
            "license": license::object(&self.license, &self.terms),
            "unknown_keys": self.report.unknown,
            "ignored_keys": ignored,
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<13} {value}");
        };
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        line("name", format!("{} ({files})", self.name));
        line("architecture", format!("{} ({})", self.architecture, self.family));
        line("parameters", count(self.parameters));
        let formats: Vec<String> = self
            .formats
            .iter()
            .map(|(name, (tensors, of))| format!("{name} {tensors} tensors, {}", bytes(*of)))
            .collect();
        line("formats", formats.join("; "));
        if let Some(quantization) = &self.quantization {
            line("quantization", quantization.clone());
        }
        let spec = &self.spec;
        line("shape", format!("{} layers, {} wide, vocabulary {}", spec.layers.len(), spec.hidden, spec.vocab));
        line("context", format!("{} tokens", spec.context));
        let (some, full) = (self.kv_bytes(1000), self.kv_bytes(spec.context));
        let kv = format!("{} for each 1000 tokens, {} for a full context", bytes(some), bytes(full));
        line("memory", format!("{} of weights; keys and values in {}: {kv}", bytes(self.weights), self.kv.name()));
        match &self.experts {
            Some(Ok(experts)) => line("experts", experts.text()),
            Some(Err(why)) => line("experts", why.clone()),
            None => {}
        }
        match (self.prompt.template_origin(), self.prompt.template_hash()) {
            (Some(origin), Some(hash)) => line("template", format!("{origin} (sha256 {}…)", &hash[..16])),
            _ => line("template", "none: it goes on with texts and holds no conversations".into()),
        }
        if self.prompt.tokenizer().is_none() {
            line("tokenizer", "none: it takes and gives token ids".into());
        }
        self.beside.note().iter().chain(self.prompt.notes()).for_each(|note| line("note", note.clone()));
        license::lines(&self.license, &self.terms).into_iter().for_each(|(title, text)| line(title, text));
        for key in &self.report.unknown {
            line("unknown key", format!("{key:?} has no effect: no page knows it"));
        }
        text
    }
}
