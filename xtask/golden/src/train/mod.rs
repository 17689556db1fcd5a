//! Golden cases of tuning: loss, gradients and whole traces of AdamW, over all weights or an adapter. The test of the
//! model crate compiles this module too, so that it uses nothing else of this program.
//!
//! The optimizer here (`adamw.rs`) is the references' rule for these cases, not the product's.

mod adamw;
mod four_bit;
mod preference;
mod texts;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use pasture_files::{Tensors, json};
use pasture_kernels::{Format, Pool};
use pasture_model::spec::MixerSpec;
use pasture_model::{Batch, Decoder, Error, Hidden, LoadOptions, Parameter, Source, load, load_adapter};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::ops::experts::balance;
use pasture_tensor::tape::{Gradients, Tape};
use pasture_tensor::{Adapter, AdapterSite, Backend, Cpu, Ops, Precision, Tensor, Vector, Weight, WeightId};
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
    base: Source,
    backend: Arc<dyn Backend>,
    decoder: Decoder,
    batches: Vec<Vec<Text>>,
}

/// Runs a case: a folder with batches, traces and results.
pub fn run(folder: &Path) -> Result<Covered> {
    let facts = json::read(&folder.join("golden.json"))?;
    let mut covered = Covered::default();
    if !facts["qlora"].is_null() {
        four_bit::check(folder).context("a step on NF4")?;
        covered.passed.push("a step on NF4".to_owned());
        return Ok(covered);
    }
    let Some(base) = facts["base_model"].as_str() else {
        covered.open.push("the case tunes no model of the kit".to_owned());
        return Ok(covered);
    };
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let source = Source::open(&folder.join(base))?;
    let decoder = match load(&source, &backend, &LoadOptions::default(), &mut |_, _| ()) {
        Err(Error::Architecture { name, .. }) => {
            covered.open.push(name);
            return Ok(covered);
        }
        loaded => loaded?.decoder,
    };
    let batches = batches(&folder.join("batches.safetensors"))?;
    let case = Case { folder, facts, base: source, backend, decoder, batches };
    case.full().context("full, step 0")?;
    case.full_trace().context("full")?;
    covered.passed.push("full".to_owned());
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
    if !case.facts["aux_loss_case"].is_null() {
        case.balance().context("router auxiliary loss")?;
        covered.passed.push("router auxiliary loss".to_owned());
    }
    if folder.join("dpo").is_dir() {
        preference::check(&case).context("preferences")?;
        covered.passed.push("preferences".to_owned());
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
        let mut gradients = Whole::default();
        for parameter in parameters {
            gradients.put(parameter, found.gradients.weight(parameter.weight).context("a weight without a gradient")?);
        }
        check_gradients(&expected, &gradients.tensors)
    }

    /// The whole trace over all weights. The layers are remembered by their inputs alone; what that changes is nothing.
    fn full_trace(&self) -> Result<()> {
        let mut decoder = load(&self.base, &self.backend, &LoadOptions::default(), &mut |_, _| ())?.decoder;
        let facts = &self.facts["runs"]["full"];
        let parameters = decoder.parameters().to_vec();
        let mut values = Whole::default();
        let found = decoder.parameter_values(&|_| true);
        parameters.iter().for_each(|parameter| values.put(parameter, &found[&parameter.weight]));
        let mut optimizer = AdamW::new(Rule::read(&self.facts["hyperparameters"], facts)?);
        for (at, traced) in facts["trace"].as_array().context("no trace")?.iter().enumerate() {
            let trainable = parameters.iter().map(|parameter| parameter.weight);
            let parts: Vec<_> = self.batches[at % self.batches.len()].iter().map(|text| (text, None)).collect();
            let found = step(&decoder, &parts, Tape::new(trainable).replaying())?;
            let mut gradients = Whole::default();
            for parameter in &parameters {
                gradients
                    .put(parameter, found.gradients.weight(parameter.weight).context("a weight without a gradient")?);
            }
            let norm = optimizer.step(&mut values.tensors, &gradients.tensors);
            check_trace(at, traced, found.loss, norm)?;
            let of = |id| parameters.iter().find(|parameter| parameter.weight == id).map(|it| values.part(it));
            decoder.set_parameters(&mut |id| of(id));
        }
        let expected = Tensors::open(&self.folder.join("full_final.safetensors"))?;
        for name in expected.names() {
            // A tied head is stored twice, and is a parameter once.
            let tied = (name == "lm_head.weight" && facts["tied"] == true).then_some("model.embed_tokens.weight");
            let found = values.tensors.get(tied.unwrap_or(name)).with_context(|| format!("no parameter {name}"))?;
            close(found, &floats(&expected, name)?, FINAL).with_context(|| format!("final {name}"))?;
        }
        for (batch, loss) in facts["final_loss_per_batch"].as_array().context("no final losses")?.iter().enumerate() {
            let parts: Vec<_> = self.batches[batch].iter().map(|text| (text, None)).collect();
            let found = step(&decoder, &parts, Tape::new([]))?.loss;
            close(&[found], &[number(loss)?], LOSS).with_context(|| format!("final loss of batch {batch}"))?;
        }
        Ok(())
    }

    /// The loss with the routers' own part, whose gradients are known before any layer is run again.
    fn balance(&self) -> Result<()> {
        let facts = &self.facts["aux_loss_case"];
        let weight = number(&facts["router_aux_loss_coef"])?;
        let texts = &self.batches[facts["batch"].as_u64().context("no batch")? as usize];
        let routers = self.decoder.parameters().iter().filter(|parameter| parameter.tensor.ends_with(".gate.weight"));
        let routers: Vec<_> = routers.collect();
        for replays in [false, true] {
            let tape = Tape::new(routers.iter().map(|parameter| parameter.weight));
            let (batch, mut kv) = flat(&self.decoder, texts.iter().map(|text| (text, None)));
            let targets: Vec<Option<u32>> = texts.iter().flat_map(|text| text.targets.iter().copied()).collect();
            let counted = targets.iter().flatten().count() as f32;
            let mut ops = Ops::with_tape(&*self.backend, if replays { tape.replaying() } else { tape });
            let hidden = self.decoder.forward(&mut ops, &batch, &mut kv)?;
            let (head, spec) =
                self.decoder.head().zip(self.decoder.spec().head.as_ref()).context("a model without a head")?;
            let loss = ops.head_loss(&hidden.rows, head, spec.rule, &targets);
            let logits: Vec<&Tensor> = hidden.routers.iter().map(|(_, logits)| logits).collect();
            let (uneven, slopes) = balance(&logits, self.facts_top(&hidden)?);
            close(&[uneven], &[number(&facts["aux_loss"])?], LOSS)?;
            close(&[loss.values()[0] / counted + weight * uneven], &[number(&facts["total_loss"])?], LOSS)?;
            let mut seeds = vec![(&loss, Tensor::new(1, 1, vec![1.0 / counted]))];
            let scaled = |slope: Tensor| {
                let values = slope.values().iter().map(|slope| weight * slope).collect();
                Tensor::new(slope.rows(), slope.cols(), values)
            };
            seeds.extend(logits.into_iter().zip(slopes.into_iter().map(scaled)));
            let tape = ops.into_tape().context("these operations have a tape")?;
            let gradients = tape.backward_from(&*self.backend, seeds);
            let expected = self.folder.join(facts["router_grads"].as_str().context("no gradients")?);
            let of =
                |parameter: &&Parameter| Some((parameter.tensor.clone(), gradients.weight(parameter.weight)?.to_vec()));
            check_gradients(&Tensors::open(&expected)?, &routers.iter().filter_map(of).collect())?;
        }
        Ok(())
    }

    /// Experts per row.
    fn facts_top(&self, hidden: &Hidden) -> Result<usize> {
        let experts = self.decoder.spec().layers.iter().flatten().find_map(|branch| match &branch.mixer {
            MixerSpec::Experts(experts) => Some(experts.router.top),
            _ => None,
        });
        ensure!(!hidden.routers.is_empty(), "no router's logits");
        experts.context("a model without experts")
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
            check_trace(at, traced, found.loss, norm)?;
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
        step(&self.decoder, &parts, Tape::new(train))
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

/// The mean loss over all texts, and the gradients of the weights that the tape trains.
pub fn step(decoder: &Decoder, parts: &[(&Text, Option<&Arc<Adapter>>)], tape: Tape) -> Result<Step> {
    let (batch, mut kv) = flat(decoder, parts.iter().copied());
    let targets: Vec<Option<u32>> = parts.iter().flat_map(|(text, _)| text.targets.iter().copied()).collect();
    let counted = targets.iter().flatten().count() as f32;
    let backend = decoder.backend().clone();
    let mut ops = Ops::with_tape(&*backend, tape);
    let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
    let (head, spec) = decoder.head().zip(decoder.spec().head.as_ref()).context("a model without a head")?;
    let loss = ops.head_loss(&hidden.rows, head, spec.rule, &targets);
    let tape = ops.into_tape().context("these operations have a tape")?;
    let gradients = tape.backward(&*backend, &loss, 1.0 / counted);
    Ok(Step { loss: loss.values()[0] / counted, gradients })
}

/// The names of an adapter's parts in peft's files, with the names of their gradients.
pub fn ids(adapter: &Adapter) -> BTreeMap<String, WeightId> {
    let matrices = matrices(adapter, WRAPPERS).map(|(name, weight)| (name, weight.id()));
    matrices.chain(lengths(adapter, WRAPPERS).map(|(name, lengths)| (name, lengths.id()))).collect()
}

fn named(adapter: &Adapter, before: &str) -> BTreeMap<String, Vec<f32>> {
    let matrices = matrices(adapter, before).map(|(name, weight)| (name, values(weight)));
    matrices.chain(lengths(adapter, before).map(|(name, lengths)| (name, lengths.values().to_vec()))).collect()
}

fn matrices<'a>(adapter: &'a Adapter, before: &'a str) -> impl Iterator<Item = (String, &'a Weight)> {
    adapter.sites().iter().flat_map(move |(module, site)| {
        [("A", &site.a), ("B", &site.b)].map(|(half, weight)| (format!("{before}{module}.lora_{half}.weight"), weight))
    })
}

fn lengths<'a>(adapter: &'a Adapter, before: &'a str) -> impl Iterator<Item = (String, &'a Vector)> {
    adapter.sites().iter().filter_map(move |(module, site)| {
        let magnitude = site.magnitude.as_ref()?;
        Some((format!("{before}{module}.lora_magnitude_vector.weight"), &magnitude.lengths))
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
        let made = AdapterSite::new(a, b, site.scale);
        let lengths = values.get(&format!("{WRAPPERS}{module}.lora_magnitude_vector.weight"));
        let made = match lengths {
            Some(lengths) => made.with_magnitude(Vector::new(lengths.clone())),
            None => made,
        };
        (module.clone(), made)
    };
    Adapter::new(like.sites().iter().map(site).collect())
}

/// Tensors of the checkpoint, put together from the parameters that are parts of them.
#[derive(Default)]
struct Whole {
    tensors: BTreeMap<String, Vec<f32>>,
    cols: BTreeMap<String, usize>,
}

impl Whole {
    fn put(&mut self, parameter: &Parameter, part: &[f32]) {
        let (rows, cols) = (&parameter.rows, part.len() / parameter.rows.len());
        self.cols.insert(parameter.tensor.clone(), cols);
        let whole = self.tensors.entry(parameter.tensor.clone()).or_default();
        whole.resize(whole.len().max(rows.end * cols), 0.0);
        whole[rows.start * cols..rows.end * cols].copy_from_slice(part);
    }

    fn part(&self, parameter: &Parameter) -> Vec<f32> {
        let (rows, cols) = (&parameter.rows, self.cols[&parameter.tensor]);
        self.tensors[&parameter.tensor][rows.start * cols..rows.end * cols].to_vec()
    }
}

fn check_trace(at: usize, traced: &Value, loss: f32, norm: f32) -> Result<()> {
    let expected = number(&traced["grad_norm"])?;
    close(&[loss], &[number(&traced["loss"])?], LOSS).with_context(|| format!("loss of step {at}"))?;
    close(&[norm], &[expected], NORM * expected).with_context(|| format!("norm of step {at}"))
}

/// Compares all gradients of a file, no more and no less.
fn check_gradients(expected: &Tensors, found: &BTreeMap<String, Vec<f32>>) -> Result<()> {
    let wanted = expected.names().filter(|name| name.starts_with("grad.")).count();
    ensure!(found.len() == wanted, "{} gradients, not {wanted}", found.len());
    check_some_gradients(expected, "grad.", found)
}

fn check_some_gradients(expected: &Tensors, before: &str, found: &BTreeMap<String, Vec<f32>>) -> Result<()> {
    for (name, found) in found {
        let name = format!("{before}{name}");
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
