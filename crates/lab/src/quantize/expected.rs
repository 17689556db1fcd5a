//! What a model's own weights say of the inputs of its matrices, where a text's were not measured: the stream begins as
//! the embedding's rows, norms divide it by its size and multiply it by their factors, and each branch adds what its
//! last matrix makes of what this one reads. Every row of the embedding counts alike, and branches have nothing to do
//! with each other; yet how the stream goes together is found well.
//! Invariant: the matrices of a layer are read once for all of the layer, and no text is needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use pasture_kernels::Pool;
use pasture_model::names::{Part, Place};
use pasture_model::save::{Content, Target};
use pasture_model::spec::{AttentionSpec, Branch, From, MixerSpec, MlpSpec, NormKind, NormSpec, Spec};
use pasture_model::{Slot, Survey};
use pasture_tensor::{Activation, Cpu, Precision, Tensor, Weight};

use super::importance::{Importance, Inputs};
use super::products::Products;

/// Rows that an expectation counts as, when it is asked how far its correlations are to be trusted.
const ROWS: f32 = 1024.0;

/// Rows of the embedding that stand for all of it.
const TOKENS: usize = 4096;

/// Experts of a layer that stand for all of them.
const EXPERTS: usize = 4;

/// What is left of the square of a value when attention takes the mean of many.
const MIXED: f32 = 0.25;

/// How much of their values two heads have in common, for looking at the same tokens.
const ALIKE: f32 = 0.5;

/// Expectations of one model.
pub struct Expected<'a> {
    content: &'a dyn Content,
    spec: &'a Spec,
    slots: BTreeMap<(Place, Part), &'a Slot>,
    measured: Measured<'a>,
    backend: Cpu,
    stream: Mutex<Option<Stream>>,
}

/// The squares that were measured, by the places of their matrices.
type Measured<'a> = BTreeMap<Place, &'a Inputs>;

/// The stream in a layer and behind it.
struct Stream {
    layer: usize,
    branches: Vec<Reads>,
    out: Products,
}

/// What the matrices of a branch read.
struct Reads {
    first: Products,
    /// What the last one reads, of each expert that was looked at.
    last: BTreeMap<Place, Products>,
}

impl<'a> Expected<'a> {
    /// Of the numbers that will be stored. Where the squares of inputs were measured, these are taken.
    pub fn new(
        content: &'a dyn Content,
        survey: &'a Survey,
        targets: &[Target],
        measured: Option<&'a Importance>,
        threads: usize,
    ) -> Expected<'a> {
        let slots = survey.slots.iter().map(|slot| ((slot.place, slot.part), slot)).collect();
        let places = targets.iter().flat_map(|target| target.slots().map(move |slot| (target, slot.place)));
        let own = |(target, place): (&Target, Place)| {
            let stack = place.expert.filter(|_| target.stacks() > 1).unwrap_or(0);
            let inputs = measured?.of(&target.outline.name, stack)?;
            (!target.is_vector() && inputs.squares.len() == target.row_len()).then_some((place, inputs))
        };
        let measured = places.filter_map(own).collect();
        let backend = Cpu::new(Arc::new(Pool::new(threads)), Precision::Exact);
        Expected { content, spec: &survey.spec, slots, measured, backend, stream: Mutex::default() }
    }

    /// The inputs of matrix `stack` of a tensor; none for an embedding, and where numbers cannot be read, of which
    /// their own tensor will tell.
    pub fn of(&self, target: &Target, stack: usize) -> Option<Inputs> {
        let is_own = |slot: &&Slot| slot.place.expert.is_none_or(|expert| expert == stack || target.stacks() == 1);
        let place = target.slots().find(is_own)?.place;
        let found = match place.layer {
            Some(layer) => self.in_layer(layer, |stream| self.read(stream, place)),
            None if place.slot == "head" => self.in_layer(self.spec.layers.len().checked_sub(1)?, |stream| {
                Some(self.normed(stream.out.clone(), self.spec.norm.as_ref()?, None))
            }),
            None => None,
        }?;
        let inputs = self.seen(found, place).inputs(ROWS);
        (inputs.squares.len() == target.row_len()).then_some(inputs)
    }

    /// The layer's stream, from where it was looked at last.
    fn in_layer(&self, layer: usize, read: impl FnOnce(&Stream) -> Option<Products>) -> Option<Products> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = match stream.take().filter(|stream| stream.layer <= layer) {
            Some(found) => found,
            None => self.layer(0, self.embedded()?),
        };
        while found.layer < layer {
            found = self.layer(found.layer + 1, found.out);
        }
        let read = read(&found);
        *stream = Some(found);
        read
    }

    fn read(&self, stream: &Stream, place: Place) -> Option<Products> {
        let of_mlp = |mlp: &MlpSpec, reads: &Reads| match place.slot {
            slot if slot == mlp.slots.down => {
                reads.last.get(&place).cloned().or_else(|| self.between(mlp, &reads.first, place))
            }
            slot if slot == mlp.slots.up || slot == mlp.slots.gate => Some(reads.first.clone()),
            _ => None,
        };
        let of_branch = |(branch, reads): (&Branch, &Reads)| match &branch.mixer {
            MixerSpec::Attention(_) if place.slot == "attention.o" => reads.last.get(&place).cloned(),
            MixerSpec::Attention(_) => place.slot.starts_with("attention.").then(|| reads.first.clone()),
            MixerSpec::Mlp(mlp) => of_mlp(mlp, reads),
            MixerSpec::Experts(experts) => {
                of_mlp(&experts.expert, reads).or_else(|| of_mlp(experts.shared.as_ref()?, reads))
            }
        };
        self.spec.layers[stream.layer].iter().zip(&stream.branches).find_map(of_branch)
    }

    /// These products with the squares that were measured, if they were.
    fn seen(&self, products: Products, place: Place) -> Products {
        match self.measured.get(&place) {
            Some(inputs) => products.with_squares(&inputs.weights()),
            None => products,
        }
    }

    fn matrix(&self, place: Place) -> Option<Weight> {
        self.content.matrix(self.slots.get(&(place, Part::Weight))?).ok()
    }

    /// The first stream.
    fn embedded(&self) -> Option<Products> {
        let table = |slot: &'static str| {
            let table = self.matrix(Place::model(slot))?;
            let count = TOKENS.min(table.rows());
            let (mut values, mut row) = (Tensor::zeros(table.cols(), count), vec![0.0; table.cols()]);
            for at in 0..count {
                table.row_values(at * table.rows() / count, &mut row);
                values.values_mut().iter_mut().skip(at).step_by(count).zip(&row).for_each(|(to, value)| *to = *value);
            }
            Some(Products::of_columns(&self.backend, &values))
        };
        let it = &self.spec.embed;
        let mut stream = table("embed")?.times(it.scale.unwrap_or(1.0));
        if let Some(positions) = it.positions.and_then(|_| table("embed.positions")) {
            stream = stream.and(&positions);
        }
        Some(it.norm.iter().fold(stream, |stream, norm| self.normed(stream, norm, None)))
    }

    /// A norm of values: their mean square becomes 1 before its factors.
    fn normed(&self, stream: Products, norm: &NormSpec, layer: Option<usize>) -> Products {
        let vector = |part: Part| {
            let slot = self.slots.get(&(Place { slot: norm.slot, layer, expert: None }, part))?;
            self.content.vector(slot, norm.kind == NormKind::RmsOffset).ok()
        };
        let squares = stream.squares();
        let mean = squares.iter().sum::<f32>() / squares.len().max(1) as f32;
        let size = if mean > 0.0 { mean.sqrt().recip() } else { 0.0 };
        let mut factors = vector(Part::Weight).unwrap_or_else(|| vec![1.0; squares.len()]);
        factors.iter_mut().for_each(|factor| *factor *= size);
        let normed = stream.scaled(&factors);
        match vector(Part::Bias) {
            Some(bias) => normed.with_bias(&bias),
            None => normed,
        }
    }

    /// A layer whose stream begins so.
    fn layer(&self, layer: usize, start: Products) -> Stream {
        let (mut out, mut branches) = (start.clone(), Vec::new());
        for branch in &self.spec.layers[layer] {
            let from = if branch.from == From::LayerInput { &start } else { &out };
            let norm = |stream: Products, norm: &NormSpec| self.normed(stream, norm, Some(layer));
            let first = branch.pre.iter().fold(from.clone(), norm);
            let (last, made) = self.mixed(&branch.mixer, &first, layer);
            if let Some(made) = made {
                out = out.and(&branch.post.iter().fold(made, norm).times(branch.gate));
            }
            out = branch.after.iter().fold(out, norm);
            branches.push(Reads { first, last });
        }
        Stream { layer, branches, out }
    }

    /// What the last matrices of a mixer read, and what they make of it.
    fn mixed(
        &self,
        mixer: &MixerSpec,
        first: &Products,
        layer: usize,
    ) -> (BTreeMap<Place, Products>, Option<Products>) {
        let (mut last, mut made) = (BTreeMap::new(), None::<Products>);
        let mut add = |place: Place, reads: Option<Products>, share: f32| {
            let Some((reads, weight)) = reads.zip(self.matrix(place)) else { return };
            let more = reads.behind(&self.backend, &weight).times(share);
            made = Some(match made.take() {
                Some(sum) => sum.and(&more),
                None => more,
            });
            last.insert(place, reads);
        };
        let mut add_mlp = |mlp: &MlpSpec, expert: Option<usize>, share: f32| {
            let place = Place { slot: mlp.slots.down, layer: Some(layer), expert };
            add(place, self.between(mlp, first, place), share);
        };
        match mixer {
            MixerSpec::Attention(attention) => {
                let place = Place::layer("attention.o", layer);
                add(place, self.attended(attention, first, layer).map(|reads| self.seen(reads, place)), 1.0);
            }
            MixerSpec::Mlp(mlp) => add_mlp(mlp, None, 1.0),
            MixerSpec::Experts(experts) => {
                // A row takes the mean of its experts' outputs, which have nothing to do with each other.
                let count = EXPERTS.min(experts.experts);
                let share = (1.0 / (count * experts.router.top.max(1)) as f32).sqrt();
                (0..count).for_each(|at| add_mlp(&experts.expert, Some(at * experts.experts / count), share));
                experts.shared.iter().for_each(|shared| add_mlp(shared, None, 1.0));
            }
        }
        (last, made)
    }

    /// Between the matrices of a feed-forward part values go each on its own.
    fn between(&self, mlp: &MlpSpec, first: &Products, place: Place) -> Option<Products> {
        if let Some(inputs) = self.measured.get(&place) {
            return Some(Products::Alone(inputs.weights()));
        }
        let squares = |slot| {
            let place = Place { slot, ..place };
            Some(self.seen(first.clone(), place).squares_behind(&self.backend, &self.matrix(place)?))
        };
        let up = squares(mlp.slots.up)?;
        if !mlp.gated {
            return Some(Products::Alone(up.iter().map(|square| activated(mlp.activation, *square)).collect()));
        }
        let gates = squares(mlp.slots.gate)?;
        Some(Products::Alone(up.iter().zip(gates).map(|(up, gate)| up * activated(mlp.activation, gate)).collect()))
    }

    /// The inputs of an attention's output: each head's are means of what its values' matrix makes of the input.
    fn attended(&self, attention: &AttentionSpec, first: &Products, layer: usize) -> Option<Products> {
        let place = Place::layer("attention.v", layer);
        let (weight, size) = (self.matrix(place)?, attention.head_dim);
        let group = attention.heads / attention.kv_heads.max(1);
        if size == 0 || group * attention.kv_heads != attention.heads || weight.rows() != attention.kv_heads * size {
            return None;
        }
        let fill = |at: usize, row: &mut [f32]| weight.row_values(at / size / group * size + at % size, row);
        let values = self.seen(first.clone(), place).behind_rows(&self.backend, attention.heads * size, fill);
        Some(values.shared(|a, b| if a / size == b / size { MIXED } else { MIXED * ALIKE }))
    }
}

/// The mean square of an activation over normally distributed values of that mean square.
fn activated(activation: Activation, square: f32) -> f32 {
    let deviation = square.sqrt();
    let points = (-16..=16).map(|step| step as f32 * 0.25);
    let (sum, all) = points.fold((0.0, 0.0), |(sum, all), point| {
        let density = (-0.5 * point * point).exp();
        (sum + density * activation.of(deviation * point).powi(2), all + density)
    });
    sum / all
}
