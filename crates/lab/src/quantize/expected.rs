//! What a model's own weights say of the inputs of its matrices, where none were measured. A norm leaves values of mean
//! square 1 and multiplies them by its factor; what a matrix makes of these is what the next one reads. So the values'
//! matrix says how the inputs of an attention's output go together, which takes most of the error away that these have.
//! Invariant: no more than the matrices of one branch are read for one matrix, and no text is needed.

use std::collections::BTreeMap;

use pasture_kernels::Format;
use pasture_kernels::formats::recode::WINDOW;
use pasture_model::names::{Part, Place};
use pasture_model::save::{Content, Target};
use pasture_model::spec::{AttentionSpec, Branch, MixerSpec, MlpSpec, NormKind, NormSpec};
use pasture_model::{Slot, Survey};
use pasture_tensor::Weight;

use super::importance::Inputs;

/// Rows that an expectation counts as, when it is asked how far its correlations are to be trusted.
const ROWS: f32 = 4.0 * WINDOW as f32;

/// Expectations of one model.
pub struct Expected<'a> {
    content: &'a dyn Content,
    layers: &'a [Vec<Branch>],
    slots: BTreeMap<(Place, Part), &'a Slot>,
}

impl<'a> Expected<'a> {
    /// Of the numbers that will be stored.
    pub fn new(content: &'a dyn Content, survey: &'a Survey) -> Expected<'a> {
        let slots = survey.slots.iter().map(|slot| ((slot.place, slot.part), slot)).collect();
        Expected { content, layers: &survey.spec.layers, slots }
    }

    /// The inputs of matrix `stack` of a tensor; none where its layer does not begin with a norm, for what stands in no
    /// layer, and where numbers cannot be read, of which their own tensor will tell.
    pub fn of(&self, target: &Target, stack: usize) -> Option<Inputs> {
        let is_own = |slot: &&Slot| slot.place.expert.is_none_or(|expert| expert == stack || target.stacks() == 1);
        let place = target.slots().find(is_own)?.place;
        let found = self.layers.get(place.layer?)?.iter().find_map(|branch| self.of_branch(branch, place))?;
        (found.squares.len() == target.row_len()).then_some(found)
    }

    fn of_branch(&self, branch: &Branch, place: Place) -> Option<Inputs> {
        let normed = || self.normed(branch.pre.as_ref()?, place);
        let of_mlp = |mlp: &MlpSpec| match place.slot {
            slot if slot == mlp.slots.down => self.between(mlp, &normed()?, place),
            slot if slot == mlp.slots.up || slot == mlp.slots.gate => normed(),
            _ => None,
        };
        let squares = match &branch.mixer {
            MixerSpec::Attention(attention) if place.slot == "attention.o" => {
                return self.attended(attention, &normed()?, place);
            }
            MixerSpec::Attention(_) if place.slot.starts_with("attention.") => normed(),
            MixerSpec::Attention(_) => None,
            MixerSpec::Mlp(mlp) => of_mlp(mlp),
            MixerSpec::Experts(experts) => of_mlp(&experts.expert).or_else(|| of_mlp(experts.shared.as_ref()?)),
        }?;
        Some(Inputs { squares: squares.iter().map(|square| square * ROWS).collect(), rows: ROWS, correlations: vec![] })
    }

    /// Mean squares of what a norm gives.
    fn normed(&self, norm: &NormSpec, place: Place) -> Option<Vec<f32>> {
        let vector = |part: Part| {
            let slot = self.slots.get(&(Place { slot: norm.slot, layer: place.layer, expert: None }, part))?;
            self.content.vector(slot, norm.kind == NormKind::RmsOffset).ok()
        };
        let mut squares: Vec<f32> = match norm.kind {
            NormKind::RmsPlain => return None,
            _ => vector(Part::Weight)?.iter().map(|factor| factor * factor).collect(),
        };
        if norm.kind == NormKind::LayerBias {
            squares.iter_mut().zip(vector(Part::Bias)?).for_each(|(square, bias)| *square += bias * bias);
        }
        Some(squares)
    }

    fn matrix(&self, slot: &'static str, place: Place) -> Option<Weight> {
        let slot = self.slots.get(&(Place { slot, ..place }, Part::Weight))?;
        self.content.matrix(slot).ok()
    }

    /// Mean squares between the matrices of a feed-forward part: those of a gate's product by those of the other.
    fn between(&self, mlp: &MlpSpec, normed: &[f32], place: Place) -> Option<Vec<f32>> {
        let squares = |slot| {
            let (weight, mut row) = (self.matrix(slot, place)?, vec![0.0; normed.len()]);
            let of_row = |at| {
                weight.row_values(at, &mut row);
                row.iter_mut().zip(normed).for_each(|(weight, square)| *weight *= square.sqrt());
                product(&row, &row)
            };
            Some((0..weight.rows()).map(of_row).collect::<Vec<f32>>())
        };
        let mut found = squares(mlp.slots.up)?;
        if mlp.gated {
            found.iter_mut().zip(squares(mlp.slots.gate)?).for_each(|(up, gate)| *up *= gate);
        }
        Some(found)
    }

    /// The inputs of an attention's output: each head's are mixtures of what its values' matrix makes of the input.
    /// Heads go apart, since each looks elsewhere.
    fn attended(&self, attention: &AttentionSpec, normed: &[f32], place: Place) -> Option<Inputs> {
        let (weight, size) = (self.matrix("attention.v", place)?, attention.head_dim);
        let group = attention.heads / attention.kv_heads.max(1);
        if size == 0 || group * attention.kv_heads != attention.heads || weight.rows() != attention.kv_heads * size {
            return None;
        }
        let of_head = |head: usize| -> Vec<f32> {
            let scaled = |at: usize| -> Vec<f32> {
                let mut row = vec![0.0; normed.len()];
                weight.row_values(head * size + at, &mut row);
                row.iter().zip(normed).map(|(weight, square)| weight * square.sqrt()).collect()
            };
            let rows: Vec<Vec<f32>> = (0..size).map(scaled).collect();
            rows.iter().flat_map(|a| rows.iter().map(|b| product(a, b))).collect()
        };
        let heads: Vec<Vec<f32>> = (0..attention.kv_heads).map(of_head).collect();
        let mean = |a: usize, b: usize| heads[a / size / group][a % size * size + b % size];
        let squares: Vec<f32> = (0..attention.heads * size).map(|at| mean(at, at)).collect();
        let correlation = |a: usize, b: usize| {
            let length = (squares[a] * squares[b]).sqrt();
            if a / size == b / size && length > 0.0 { mean(a, b) / length } else { 0.0 }
        };
        let pairs = (0..squares.len()).flat_map(|a| (a / WINDOW * WINDOW..a).map(move |b| (a, b)));
        let found: Vec<f32> = pairs.map(|(a, b)| correlation(a, b)).collect();
        let mut correlations = vec![0; Format::F16.row_bytes(found.len())];
        Format::F16.quantize(&found, None, &mut correlations);
        Some(Inputs { squares: squares.iter().map(|square| square * ROWS).collect(), rows: ROWS, correlations })
    }
}

/// The sum of the products, in eight interleaved lanes.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum()
}
