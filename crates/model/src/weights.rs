//! A decoder's trainable numbers: read by name, and put in their place after a step. A weight keeps its identity, so that
//! a list of parameters, a tie and an optimizer's state stay what they are.

use std::collections::HashMap;
use std::sync::Arc;

use pasture_kernels::Format;
use pasture_tensor::ops::experts::Expert;
use pasture_tensor::{Backend, Linear, Norm, Vector, Weight, WeightId};

use crate::decoder::Decoder;
use crate::mixers::{Held, Mixer};

/// A weight in its place.
enum Slot<'s> {
    Matrix(&'s mut Weight),
    Vector(&'s mut Vector),
}

impl Decoder {
    /// Puts new numbers in the place of the weights for which `values` has some, row after row in f32, and leaves the rest.
    /// Such a weight is f32 from then on. Asserts that a weight's size stays, and that no tape of this decoder is alive.
    pub fn set_parameters(&mut self, values: &mut dyn FnMut(WeightId) -> Option<Vec<f32>>) {
        let backend = self.backend.clone();
        let (mut matrices, mut vectors) = (HashMap::new(), HashMap::new());
        self.each_weight(&mut |slot| match slot {
            Slot::Matrix(weight) => {
                let made = matrices
                    .entry(weight.id())
                    .or_insert_with(|| Some(replaced(&*backend, weight, values(weight.id())?)));
                *weight = made.clone().unwrap_or_else(|| weight.clone());
            }
            Slot::Vector(vector) => {
                let made = vectors.entry(vector.id()).or_insert_with(|| Some(vector.replaced(values(vector.id())?)));
                *vector = made.clone().unwrap_or_else(|| vector.clone());
            }
        });
    }

    /// All weights by identity; no number is copied.
    pub(crate) fn weights(&mut self) -> (HashMap<WeightId, Weight>, HashMap<WeightId, Vector>) {
        let (mut matrices, mut vectors) = (HashMap::new(), HashMap::new());
        self.each_weight(&mut |slot| match slot {
            Slot::Matrix(weight) => drop(matrices.insert(weight.id(), weight.clone())),
            Slot::Vector(vector) => drop(vectors.insert(vector.id(), vector.clone())),
        });
        (matrices, vectors)
    }

    /// Lets the numbers of the weights that `wanted` names be changed, one weight at a time, so that no second copy of all
    /// of them is made. They are f32 from then on; what [`Decoder::set_parameters`] asserts holds here too.
    pub fn change_parameters(
        &mut self,
        wanted: &dyn Fn(WeightId) -> bool,
        change: &mut dyn FnMut(WeightId, &mut Vec<f32>),
    ) {
        let backend = self.backend.clone();
        let (mut matrices, mut vectors) = (HashMap::new(), HashMap::new());
        self.each_weight(&mut |slot| match slot {
            Slot::Matrix(weight) if wanted(weight.id()) => {
                let made = matrices.entry(weight.id()).or_insert_with(|| {
                    let mut values = weight.values();
                    change(weight.id(), &mut values);
                    replaced(&*backend, weight, values)
                });
                *weight = made.clone();
            }
            Slot::Vector(vector) if wanted(vector.id()) => {
                let made = vectors.entry(vector.id()).or_insert_with(|| {
                    let mut values = vector.values().to_vec();
                    change(vector.id(), &mut values);
                    vector.replaced(values)
                });
                *vector = made.clone();
            }
            _ => {}
        });
    }

    /// Keeps the linear layers' weights in another number format from now on; embedding and head stay as they are. Needs
    /// the decoder for itself, as [`Decoder::set_parameters`].
    ///
    /// # Errors
    /// With a module's name, when its rows are not whole blocks of the format; nothing is changed then.
    pub fn store_linears(&mut self, format: Format) -> std::result::Result<(), String> {
        let mut uneven = None;
        self.each_linear(&mut |linear| {
            if !linear.weight.cols().is_multiple_of(format.block()) {
                uneven.get_or_insert_with(|| linear.site.tensor.to_string());
            }
        });
        if let Some(module) = uneven {
            return Err(module);
        }
        let mut linears = std::collections::HashSet::new();
        self.each_linear(&mut |linear| linears.extend([linear.weight.id()]));
        let backend = self.backend.clone();
        self.each_weight(&mut |slot| match slot {
            Slot::Matrix(weight) if linears.contains(&weight.id()) => *weight = stored(&*backend, weight, format),
            _ => {}
        });
        Ok(())
    }

    /// The numbers of the parameters that `wanted` names, in f32. As [`Decoder::set_parameters`] it needs the decoder for
    /// itself.
    pub fn parameter_values(&mut self, wanted: &dyn Fn(WeightId) -> bool) -> HashMap<WeightId, Vec<f32>> {
        let mut found = HashMap::new();
        self.each_weight(&mut |slot| match slot {
            Slot::Matrix(weight) if wanted(weight.id()) => {
                found.entry(weight.id()).or_insert_with(|| weight.values());
            }
            Slot::Vector(vector) if wanted(vector.id()) => {
                found.entry(vector.id()).or_insert_with(|| vector.values().to_vec());
            }
            _ => {}
        });
        found
    }

    /// The length of each row of a module's tensor: what the magnitudes of an adapter without effect are. None where
    /// the model has no such module.
    pub fn row_lengths(&self, module: &str) -> Option<Vec<f32>> {
        let mut lengths = vec![0.0; self.sites.get(module)?.outputs];
        self.each_linear(&mut |linear| {
            if &*linear.site.tensor == module {
                let rows = lengths[linear.site.rows.clone()].iter_mut();
                rows.zip(linear.weight.row_squares()).for_each(|(length, squares)| *length = squares.sqrt() as f32);
            }
        });
        Some(lengths)
    }

    fn each_linear(&self, visit: &mut dyn FnMut(&Linear)) {
        for branch in self.layers.iter().flat_map(|layer| &layer.0) {
            match &branch.mixer {
                Mixer::Attention(it) => [&it.q, &it.k, &it.v, &it.o].into_iter().for_each(&mut *visit),
                Mixer::Mlp(it) => it.gate.iter().chain([&it.up, &it.down]).for_each(&mut *visit),
                Mixer::Experts(it) => {
                    visit(&it.router);
                    if let Held::InMemory(experts) = &it.experts {
                        let experts = experts.iter();
                        experts.for_each(|one| one.gate.iter().chain([&one.up, &one.down]).for_each(&mut *visit));
                    }
                    it.shared.iter().for_each(|one| one.gate.iter().chain([&one.up, &one.down]).for_each(&mut *visit));
                }
            }
        }
    }

    fn each_weight(&mut self, visit: &mut dyn FnMut(Slot)) {
        visit(Slot::Matrix(&mut self.embed.table));
        let tables = self.embed.positions.iter_mut().chain(&mut self.embed.types);
        tables.for_each(|table| visit(Slot::Matrix(table)));
        self.embed.norm.iter_mut().for_each(|norm| each_of_norm(norm, visit));
        for layer in &mut self.layers {
            let layer = Arc::get_mut(layer).expect("no tape of this decoder is alive");
            for branch in &mut layer.0 {
                let norms = branch.pre.iter_mut().chain(&mut branch.post).chain(&mut branch.after);
                norms.for_each(|norm| each_of_norm(norm, visit));
                each_of_mixer(&mut branch.mixer, visit);
            }
        }
        self.norm.iter_mut().for_each(|norm| each_of_norm(norm, visit));
        self.head.iter_mut().for_each(|head| each_of_linear(head, visit));
    }
}

fn each_of_mixer(mixer: &mut Mixer, visit: &mut dyn FnMut(Slot)) {
    match mixer {
        Mixer::Attention(it) => {
            [&mut it.q, &mut it.k, &mut it.v, &mut it.o].into_iter().for_each(|linear| each_of_linear(linear, visit));
            if let Some(norms) = &mut it.norms {
                each_of_norm(&mut norms.q, visit);
                each_of_norm(&mut norms.k, visit);
            }
            it.shape.sinks.iter_mut().for_each(|sinks| visit(Slot::Vector(sinks)));
        }
        Mixer::Mlp(it) => {
            let linears = it.gate.iter_mut().chain([&mut it.up, &mut it.down]);
            linears.for_each(|linear| each_of_linear(linear, visit));
        }
        Mixer::Experts(it) => {
            each_of_linear(&mut it.router, visit);
            // Experts on disk are read, never tuned.
            if let Held::InMemory(experts) = &mut it.experts {
                for Expert { gate, up, down } in experts {
                    gate.iter_mut().chain([up, down]).for_each(|linear| each_of_linear(linear, visit));
                }
            }
            if let Some(shared) = &mut it.shared {
                let linears = shared.gate.iter_mut().chain([&mut shared.up, &mut shared.down]);
                linears.for_each(|linear| each_of_linear(linear, visit));
            }
        }
    }
}

fn each_of_linear(linear: &mut Linear, visit: &mut dyn FnMut(Slot)) {
    visit(Slot::Matrix(&mut linear.weight));
    linear.bias.iter_mut().for_each(|bias| visit(Slot::Vector(bias)));
}

fn each_of_norm(norm: &mut Norm, visit: &mut dyn FnMut(Slot)) {
    norm.weight.iter_mut().chain(&mut norm.bias).for_each(|vector| visit(Slot::Vector(vector)));
}

fn replaced(backend: &dyn Backend, weight: &Weight, values: Vec<f32>) -> Weight {
    let (rows, cols) = (weight.rows(), weight.cols());
    assert_eq!(values.len(), rows * cols, "a weight keeps its size");
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    let width = cols * size_of::<f32>();
    let made = backend.weight(Format::F32, rows, cols, &|row| &bytes[row * width..][..width]);
    made.with_id_of(weight)
}

/// A weight's numbers in another format; its name stays.
fn stored(backend: &dyn Backend, weight: &Weight, format: Format) -> Weight {
    let width = format.row_bytes(weight.cols());
    let mut bytes = vec![0; weight.rows() * width];
    let mut values = vec![0.0; weight.cols()];
    for (row, out) in bytes.chunks_exact_mut(width.max(1)).enumerate() {
        weight.row_values(row, &mut values);
        format.quantize(&values, None, out);
    }
    let made = backend.weight(format, weight.rows(), weight.cols(), &|row| &bytes[row * width..][..width]);
    made.with_id_of(weight)
}
