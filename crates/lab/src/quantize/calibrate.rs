//! Measuring importance: a model runs over a text, and a processor that watches sums what reaches each weight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pasture_files::tokenizer::Specials;
use pasture_kernels::formats::recode::WINDOW as COLUMNS;
use pasture_kernels::{Format, Pool};
use pasture_model::save::plan_gguf;
use pasture_model::{LoadOptions, Source, load, survey};
use pasture_tensor::backend::Group;
use pasture_tensor::kv::{KvFormat, KvLayer};
use pasture_tensor::ops::attend::{AttendPlan, Attention};
use pasture_tensor::ops::head::LogitRule;
use pasture_tensor::ops::norm::Norm;
use pasture_tensor::ops::rope::RopeTable;
use pasture_tensor::{Activation, Backend, Cpu, Precision, Tensor, Weight, WeightId};

use super::importance::{Importance, Inputs, WINDOW};
use super::products::Products;
use crate::change::{Error, Result};
use crate::evaluate::{Subject, likelihoods, windows};

/// Runs a model over a text and sums what reaches each of its matrices.
///
/// # Errors
/// When the model cannot be run or came without a tokenizer.
pub fn calibrate(source: &Source, text: &str, tokens_max: usize, threads: usize) -> Result<Importance> {
    let watching =
        Arc::new(Watching { inner: Cpu::new(Arc::new(Pool::new(threads)), Precision::Exact), seen: Mutex::default() });
    let backend: Arc<dyn Backend> = watching.clone();
    let decoder = load(source, &backend, &LoadOptions::default(), &mut |_, _| {})?.decoder;
    let weights: Vec<WeightId> = decoder.parameters().iter().map(|parameter| parameter.weight).collect();
    let tokenizer =
        crate::change::tokenizer(source)?.ok_or_else(|| Error::Ask("the model came without a tokenizer".to_owned()))?;
    let mut ids = tokenizer.encode(text, Specials::AsText).map_err(|error| Error::Ask(error.to_string()))?;
    ids.truncate(tokens_max);
    let subject = Subject::new(Arc::new(decoder), None, KvFormat::F32);
    let window = WINDOW.min(subject.context().saturating_sub(1)).max(2);
    let prefix = tokenizer.bos().or(tokenizer.eos()).unwrap_or(0);
    likelihoods(&subject, &windows(&ids, prefix, window, window), &mut |_| true)?;
    let seen = watching.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let survey = survey(source)?;
    // Parameters come in the order of slots.
    let by_slot: BTreeMap<_, WeightId> = survey.slots.iter().map(|slot| (slot.place, slot.part)).zip(weights).collect();
    let mut found = Importance::default();
    for target in plan_gguf(source, &survey)?.targets.iter().filter(|target| !target.is_vector()) {
        let mut stacks: Vec<Inputs> = vec![Inputs::default(); target.stacks()];
        for slot in target.slots() {
            let Some(own) = by_slot.get(&(slot.place, slot.part)).and_then(|id| seen.get(id)) else { continue };
            // Slots that share rows have the same inputs.
            if let Some(stack) = stacks.get_mut(slot.place.expert.filter(|_| target.stacks() > 1).unwrap_or(0)) {
                *stack = own.inputs();
            }
        }
        let width = target.row_len();
        stacks
            .iter_mut()
            .filter(|inputs| inputs.squares.is_empty())
            .for_each(|inputs| inputs.squares = vec![0.0; width]);
        if stacks.iter().any(|inputs| inputs.rows > 0.0) {
            found.insert(target.outline.name.clone(), stacks);
        }
    }
    Ok(found)
}

/// What reached a weight: how many rows, and for each window of columns the sums of the products of its columns.
#[derive(Default)]
struct Seen {
    rows: usize,
    products: Vec<Vec<f32>>,
}

impl Seen {
    fn inputs(&self) -> Inputs {
        let rows = self.rows.max(1) as f32;
        let mean = |products: &Vec<f32>| products.iter().map(|sum| sum / rows).collect();
        Products::Together(self.products.iter().map(mean).collect()).inputs(self.rows as f32)
    }
}

/// A processor that sums the products of what reaches each weight.
struct Watching {
    inner: Cpu,
    seen: Mutex<BTreeMap<WeightId, Seen>>,
}

impl Watching {
    fn note(&self, x: &Tensor, groups: &[Group]) {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            let seen = all.entry(group.weight.id()).or_default();
            seen.rows += group.rows.len();
            seen.products.resize_with(x.cols().div_ceil(COLUMNS), Vec::new);
            for (products, start) in seen.products.iter_mut().zip((0..).step_by(COLUMNS)) {
                let width = COLUMNS.min(x.cols() - start);
                let of_row = |row: usize| x.row(row)[start..start + width].iter().copied();
                let part = Tensor::new(group.rows.len(), width, group.rows.clone().flat_map(of_row).collect());
                products.resize(width * width, 0.0);
                self.inner.outer(&part, &part, 0..group.rows.len(), products);
            }
        }
    }
}

impl Backend for Watching {
    fn name(&self) -> &'static str {
        "watching"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }

    fn weight<'a>(&self, format: Format, rows: usize, cols: usize, row: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
        self.inner.weight(format, rows, cols, row)
    }

    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        self.note(x, groups);
        self.inner.grouped(x, groups)
    }

    // What takes time beside the products; the rest runs as the reference does.

    fn norm(&self, x: &Tensor, norm: &Norm, width: usize) -> Tensor {
        self.inner.norm(x, norm, width)
    }

    fn rope(&self, x: &Tensor, head_dim: usize, table: &RopeTable) -> Tensor {
        self.inner.rope(x, head_dim, table)
    }

    fn gate(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Tensor {
        self.inner.gate(gate, up, activation)
    }

    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        layer: &mut KvLayer,
        plan: &AttendPlan,
        attention: &Attention,
    ) -> Tensor {
        self.inner.attend(q, k, v, layer, plan, attention)
    }

    fn target_logs(&self, raw: &mut Tensor, targets: &[u32], rule: LogitRule, slopes: bool) -> Vec<f64> {
        self.inner.target_logs(raw, targets, rule, slopes)
    }
}
