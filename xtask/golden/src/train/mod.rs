//! Golden cases of tuning: loss, gradients and whole traces of AdamW, over all weights or an adapter. The test of the
//! model crate compiles this module too, so that it uses nothing else of this program.
//!
//! The optimizer here (`adamw.rs`) is the references' rule for these cases, not the product's.

mod adamw;
mod texts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_files::{Tensors, json};
use pasture_kernels::{Format, Pool};
use pasture_model::{Batch, Decoder, Error, LoadOptions, Source, load, load_adapter};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::tape::{Gradients, Tape};
use pasture_tensor::{Adapter, AdapterSite, Backend, Cpu, Ops, Precision, Weight, WeightId};
use serde_json::Value;

use adamw::{AdamW, Rule};
use texts::floats;
pub use texts::{Text, batches};

/// Losses, absolute (the kit's README, as all limits here).
const LOSS: f32 = 2e-4;
/// Gradients, relative to the tensor's largest entry.
const GRADIENT: f32 = 1e-4;
/// Norms of all gradients, relative.
const NORM: f32 = 1e-3;
/// Weights and adapters after the last step, absolute.
const FINAL: f32 = 2e-4;
/// Logits, absolute and relative.
const LOGITS: f32 = 2e-4;

/// What peft puts before the name of each module.
const WRAPPERS: &str = "base_model.model.";

/// The runs of a case.
#[derive(Debug, Default)]
pub struct Covered {
    /// Those that are right.
    pub passed: Vec<String>,
    /// Those that this program cannot do yet, and why.
    pub open: Vec<String>,
}

/// A step's mean loss, and its gradients.
pub struct Step {
    /// The mean over the tokens that count.
    pub loss: f32,
    /// Of the weights that were asked for.
    pub gradients: Gradients,
}

/// One case on its way.
struct Case<'c> {
    folder: &'c Path,
    facts: Value,
    decoder: Decoder,
    batches: Vec<Vec<Text>>,
}

/// Runs a case: a folder with batches, traces and results.
pub fn run(folder: &Path) -> Result<Covered> {
    let facts = json::read(&folder.join("golden.json"))?;
    let mut covered = Covered::default();
    let Some(base) = facts["base_model"].as_str() else {
        covered.open.push("the case tunes no model of the kit".to_owned());
        return Ok(covered);
    };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let decoder = match load(&Source::open(&folder.join(base))?, &backend, &LoadOptions::default(), &mut |_, _| ()) {
        Err(Error::Architecture { name, .. }) => {
            covered.open.push(name);
            return Ok(covered);
        }
        loaded => loaded?.decoder,
    };
    let batches = batches(&folder.join("batches.safetensors"))?;
    let case = Case { folder, facts, decoder, batches };
    case.full().context("full")?;
    covered.passed.push("full, step 0".to_owned());
    for kind in ["lora", "rslora", "dora"] {
        match load_adapter(&folder.join(kind).join("initial"), &case.decoder) {
            // What is refused is not covered; everything else is a fault.
            Err(Error::Adapter { what, .. }) => covered.open.push(format!("{kind}: the adapter {what}")),
            adapter => {
                case.low_rank(kind, &adapter?).with_context(|| kind.to_owned())?;
                covered.passed.push(kind.to_owned());
            }
        }
    }
    Ok(covered)
}

impl Case<'_> {
    /// The first step over all weights: the model has them by name, and every one has its gradient.
    fn full(&self) -> Result<()> {
        let parameters = self.decoder.parameters();
        let found = self.step(0, None, parameters.iter().map(|parameter| parameter.weight))?;
        close(&[found.loss], &[number(&self.facts["runs"]["full"]["trace"][0]["loss"])?], LOSS).context("loss")?;
        let expected = Tensors::open(&self.folder.join("full_step0.safetensors"))?;
        let mut gradients: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        for parameter in parameters {
            let part = found.gradients.weight(parameter.weight).context("a weight without a gradient")?;
            let whole = gradients.entry(&parameter.tensor).or_default();
            let cols = part.len() / parameter.rows.len();
            whole.resize(whole.len().max(parameter.rows.end * cols), 0.0);
            whole[parameter.rows.start * cols..parameter.rows.end * cols].copy_from_slice(part);
        }
        check_gradients(&expected, &gradients)
    }

    /// The whole trace of an adapter, and what the tuned one computes.
    fn low_rank(&self, kind: &str, initial: &Adapter) -> Result<()> {
        let results = Tensors::open(&self.folder.join(kind).join("golden.safetensors"))?;
        let facts = &self.facts["runs"][kind];
        self.check_logits(&results, "initial_adapter", initial)?;
        let rule = Rule::read(&self.facts["hyperparameters"], facts)?;
        let (mut optimizer, mut values) = (AdamW::new(rule), named(initial, WRAPPERS));
        for (at, traced) in facts["trace"].as_array().context("no trace")?.iter().enumerate() {
            let adapter = Arc::new(rebuilt(&self.decoder, initial, &values));
            let trainable = ids(&adapter);
            let found = self.step(at % self.batches.len(), Some(&adapter), trainable.values().copied())?;
            let gradient = |(name, id): (&String, &WeightId)| {
                let gradient = found.gradients.weight(*id).context("a matrix without a gradient")?;
                Ok((name.clone(), gradient.to_vec()))
            };
            let gradients: BTreeMap<String, Vec<f32>> = trainable.iter().map(gradient).collect::<Result<_>>()?;
            if at == 0 {
                check_gradients(&results, &gradients)?;
            }
            let norm = optimizer.step(&mut values, &gradients);
            let expected = number(&traced["grad_norm"])?;
            close(&[found.loss], &[number(&traced["loss"])?], LOSS).with_context(|| format!("loss of step {at}"))?;
            close(&[norm], &[expected], NORM * expected).with_context(|| format!("norm of step {at}"))?;
        }
        self.check_end(kind, &results, &rebuilt(&self.decoder, initial, &values))
    }

    fn check_end(&self, kind: &str, results: &Tensors, tuned: &Adapter) -> Result<()> {
        let expected = load_adapter(&self.folder.join(kind).join("final"), &self.decoder)?;
        let (found, expected_values) = (named(tuned, ""), named(&expected, ""));
        ensure!(found.len() == expected_values.len(), "{} matrices, not {}", found.len(), expected_values.len());
        for (name, found) in &found {
            close(found, &expected_values[name], FINAL).with_context(|| format!("final {name}"))?;
        }
        let tuned = Arc::new(tuned.clone());
        let losses = self.facts["runs"][kind]["final_loss_per_batch"].as_array().context("no final losses")?;
        for (batch, loss) in losses.iter().enumerate() {
            let found = self.step(batch, Some(&tuned), std::iter::empty())?.loss;
            close(&[found], &[number(loss)?], LOSS).with_context(|| format!("final loss of batch {batch}"))?;
        }
        self.check_logits(results, "final_adapter", &expected)?;
        // An adapter beside the weights is the weights with the adapter merged in.
        self.check_logits(results, "merged", &expected)
    }

    fn step(
        &self,
        batch: usize,
        adapter: Option<&Arc<Adapter>>,
        train: impl Iterator<Item = WeightId>,
    ) -> Result<Step> {
        let parts: Vec<_> = self.batches[batch].iter().map(|text| (text, adapter)).collect();
        step(&self.decoder, &parts, train)
    }

    /// Logits of the first batch; the references' rows go on where a text has ended.
    fn check_logits(&self, results: &Tensors, name: &str, adapter: &Adapter) -> Result<()> {
        let name = format!("batch0.logits_{name}");
        let expected = floats(results, &name)?;
        let adapter = Arc::new(adapter.clone());
        let (batch, mut kv) = flat(&self.decoder, self.batches[0].iter().map(|text| (text, Some(&adapter))));
        let backend = self.decoder.backend().clone();
        let mut ops = Ops::new(&*backend);
        let hidden = self.decoder.forward(&mut ops, &batch, &mut kv)?;
        let logits = self.decoder.logits(&mut ops, &hidden.rows)?;
        let whole = expected.len() / batch.spans.len();
        for (span, expected) in batch.spans.iter().zip(expected.chunks_exact(whole)) {
            let found = &logits.values()[span.rows.start * logits.cols()..span.rows.end * logits.cols()];
            let far = |(found, expected): (&f32, &f32)| !within(*found, *expected, LOGITS + LOGITS * expected.abs());
            if let Some(at) = found.iter().zip(expected).position(far) {
                bail!("{name}: {} at {at}, not {}", found[at], expected[at]);
            }
        }
        Ok(())
    }
}

/// A batch of new sequences in memory of its own.
fn flat<'t>(
    decoder: &Decoder,
    parts: impl Iterator<Item = (&'t Text, Option<&'t Arc<Adapter>>)>,
) -> (Batch, pasture_model::Kv) {
    let mut kv = decoder.kv(&**decoder.backend(), KvFormat::F32);
    let mut batch = Batch::default();
    for (text, adapter) in parts {
        batch.push(kv.start(), 0, text.ids.len(), &text.ids, adapter.cloned());
    }
    (batch, kv)
}

/// The mean loss over all texts, and the gradients of the given weights.
pub fn step(
    decoder: &Decoder,
    parts: &[(&Text, Option<&Arc<Adapter>>)],
    trainable: impl Iterator<Item = WeightId>,
) -> Result<Step> {
    let (batch, mut kv) = flat(decoder, parts.iter().copied());
    let targets: Vec<Option<u32>> = parts.iter().flat_map(|(text, _)| text.targets.iter().copied()).collect();
    let counted = targets.iter().flatten().count() as f32;
    let backend = decoder.backend().clone();
    let mut ops = Ops::with_tape(&*backend, Tape::new(trainable));
    let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
    let (head, spec) = decoder.head().zip(decoder.spec().head.as_ref()).context("a model without a head")?;
    let loss = ops.head_loss(&hidden.rows, head, spec.rule, &targets);
    let tape = ops.into_tape().context("these operations have a tape")?;
    let gradients = tape.backward(&*backend, &loss, 1.0 / counted);
    Ok(Step { loss: loss.values()[0] / counted, gradients })
}

/// The names of an adapter's matrices in peft's files, with the names of their gradients.
pub fn ids(adapter: &Adapter) -> BTreeMap<String, WeightId> {
    matrices(adapter, WRAPPERS).map(|(name, weight)| (name, weight.id())).collect()
}

fn named(adapter: &Adapter, before: &str) -> BTreeMap<String, Vec<f32>> {
    matrices(adapter, before).map(|(name, weight)| (name, values(weight))).collect()
}

fn matrices<'a>(adapter: &'a Adapter, before: &'a str) -> impl Iterator<Item = (String, &'a Weight)> {
    adapter.sites().iter().flat_map(move |(module, site)| {
        [("A", &site.a), ("B", &site.b)].map(|(half, weight)| (format!("{before}{module}.lora_{half}.weight"), weight))
    })
}

fn values(weight: &Weight) -> Vec<f32> {
    let mut values = vec![0.0; weight.rows() * weight.cols()];
    values.chunks_exact_mut(weight.cols()).enumerate().for_each(|(row, out)| weight.row_values(row, out));
    values
}

/// The adapter with other numbers, as the backend holds them.
fn rebuilt(decoder: &Decoder, like: &Adapter, values: &BTreeMap<String, Vec<f32>>) -> Adapter {
    let matrix = |name: String, like: &Weight| {
        let mut bytes = vec![0; like.rows() * like.cols() * 4];
        Format::F32.quantize(&values[&name], None, &mut bytes);
        let width = like.cols() * 4;
        decoder.backend().weight(Format::F32, like.rows(), like.cols(), &|row| &bytes[row * width..][..width])
    };
    let site = |(module, site): (&String, &AdapterSite)| {
        let a = matrix(format!("{WRAPPERS}{module}.lora_A.weight"), &site.a);
        let b = matrix(format!("{WRAPPERS}{module}.lora_B.weight"), &site.b);
        (module.clone(), AdapterSite { a, b, scale: site.scale })
    };
    Adapter::new(like.sites().iter().map(site).collect())
}

/// Compares all gradients of a file, no more and no less.
fn check_gradients<K: AsRef<str> + Ord>(expected: &Tensors, found: &BTreeMap<K, Vec<f32>>) -> Result<()> {
    let wanted = expected.names().filter(|name| name.starts_with("grad.")).count();
    ensure!(found.len() == wanted, "{} gradients, not {wanted}", found.len());
    for (name, found) in found {
        let name = format!("grad.{}", name.as_ref());
        let expected = floats(expected, &name)?;
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        close(found, &expected, GRADIENT * largest).context(name)?;
    }
    Ok(())
}

fn close(found: &[f32], expected: &[f32], limit: f32) -> Result<()> {
    ensure!(found.len() == expected.len(), "{} values, not {}", found.len(), expected.len());
    let far = |(found, expected): (&f32, &f32)| !within(*found, *expected, limit);
    match found.iter().zip(expected).position(far) {
        Some(at) => bail!("{} at {at}, not {} (limit {limit})", found[at], expected[at]),
        None => Ok(()),
    }
}

/// Whether two values are that close; one that is no number never is.
pub fn within(found: f32, expected: f32, limit: f32) -> bool {
    (found - expected).abs() <= limit
}

fn number(value: &Value) -> Result<f32> {
    value.as_f64().map(|value| value as f32).with_context(|| format!("{value} where a number should be"))
}
