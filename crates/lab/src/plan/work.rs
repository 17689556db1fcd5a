//! What a model asks of a machine: its products with their number formats, its attentions, and what is left; and how long
//! that takes at given rates.

use pasture_kernels::Format;
use pasture_model::Slot;
use pasture_model::spec::{Mask, MixerSpec, Spec};

use pasture_tensor::kv::KvFormat;

use super::machine::Rates;

/// The products, attentions and other values of a model.
#[derive(Clone, Debug)]
pub struct Work {
    products: Vec<Product>,
    attentions: Vec<Looking>,
    /// Operations of a step.
    operations: usize,
    kv: KvFormat,
    /// Values of a row beside products and attention.
    values: usize,
    /// Bytes of all that products read.
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Product {
    format: Format,
    outputs: f64,
    inputs: f64,
    through: Through,
}

/// An attention.
#[derive(Clone, Copy, Debug)]
struct Looking {
    mask: Mask,
    heads: usize,
    head_dim: usize,
}

/// Which rows go through a product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Through {
    /// All.
    All,
    /// Those of which logits are asked.
    Head,
    /// Those whose router chooses it: so many of so many experts for each row.
    Expert { top: usize, of: usize },
}

impl Work {
    /// Of a model whose slots have these formats, and whose keys and values are kept in that one.
    pub fn of(spec: &Spec, slots: &[Slot], format: &dyn Fn(&Slot) -> Format, kv: KvFormat) -> Work {
        let experts = |layer: Option<usize>| {
            let branches = layer.and_then(|layer| spec.layers.get(layer)).into_iter().flatten();
            let mut mixtures = branches.filter_map(|branch| match &branch.mixer {
                MixerSpec::Experts(it) => Some((it.router.top, it.experts)),
                _ => None,
            });
            mixtures.next().unwrap_or((1, 1))
        };
        let tied = spec.head.as_ref().is_some_and(|head| head.tied);
        let (mut products, mut bytes) = (Vec::new(), 0);
        for (slot, cols) in slots.iter().filter_map(|slot| Some((slot, slot.cols?))) {
            let through = match (slot.place.slot, slot.place.expert) {
                ("head", _) => Through::Head,
                ("embed", _) if tied => Through::Head,
                (name, _) if name.starts_with("embed") => continue,
                (_, Some(_)) => {
                    let (top, of) = experts(slot.place.layer);
                    Through::Expert { top, of }
                }
                _ => Through::All,
            };
            let format = format(slot);
            bytes += (format.row_bytes(cols) * slot.rows) as u64;
            products.push(Product { format, outputs: slot.rows as f64, inputs: cols as f64, through });
        }
        let mixers = || spec.layers.iter().flatten().map(|branch| &branch.mixer);
        let attentions = mixers().filter_map(|mixer| match mixer {
            MixerSpec::Attention(it) => Some(Looking { mask: it.mask, heads: it.heads, head_dim: it.head_dim }),
            _ => None,
        });
        let values = mixers().map(|mixer| {
            let inner = match mixer {
                MixerSpec::Attention(it) => 2 * (it.heads + it.kv_heads) * it.head_dim,
                MixerSpec::Mlp(it) => it.width,
                MixerSpec::Experts(it) => it.router.top * (it.expert.width + 2 * spec.hidden),
            };
            3 * spec.hidden + inner
        });
        let (attentions, values) = (attentions.collect(), values.sum());
        let operations = mixers().map(|mixer| match mixer {
            // Queries, keys and values; the look; the result's product.
            MixerSpec::Attention(_) => 3,
            MixerSpec::Mlp(_) => 2,
            // The router, and two products of each expert that is chosen.
            MixerSpec::Experts(it) => 2 + 2 * it.router.top,
        });
        let operations = operations.sum::<usize>() + HEAD_OPERATIONS;
        Work { products, attentions, operations, kv, values, bytes }
    }

    /// How keys and values are kept.
    pub fn kv(&self) -> KvFormat {
        self.kv
    }

    /// The formats of its products.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        let mut formats: Vec<Format> = self.products.iter().map(|product| product.format).collect();
        formats.sort_unstable();
        formats.dedup();
        formats.into_iter()
    }

    /// Values of a row beside products and attention.
    pub fn values_of_row(&self) -> usize {
        self.values
    }

    /// Seconds of a step that makes one token for each of so many sequences, each behind so many tokens. None where some
    /// format was not measured.
    pub fn token_seconds(&self, rates: &Rates, sequences: usize, depth: usize) -> Option<f64> {
        let rows = sequences as f64;
        let attention = rows * self.looks_seconds(rates, 1, depth)?;
        Some(self.products_seconds(rates, rows, rows)? + attention + self.rest_seconds(rates, rows))
    }

    /// Seconds until the first new token of a prompt, behind so many tokens that are known, in steps of at most `chunk`
    /// rows.
    pub fn prompt_seconds(&self, rates: &Rates, tokens: usize, depth: usize, chunk: usize) -> Option<f64> {
        let mut seconds = 0.0;
        for start in (0..tokens).step_by(chunk.max(1)) {
            let rows = chunk.min(tokens - start);
            let is_last = start + rows == tokens;
            let before = depth + start + rows / 2;
            let asked = if is_last { 1.0 } else { 0.0 };
            seconds += self.products_seconds(rates, rows as f64, asked)?;
            seconds += rows as f64 * self.looks_seconds(rates, rows, before)? + self.rest_seconds(rates, rows as f64);
        }
        Some(seconds)
    }

    /// Seconds in which one of so many rows, behind so many tokens, looks at its keys.
    fn looks_seconds(&self, rates: &Rates, rows: usize, before: usize) -> Option<f64> {
        let looks = rates.attention.get(self.kv.name())?;
        let one = |it: &Looking| {
            let keys = (seen(it.mask, before) * it.heads) as f64;
            looks.seconds(rows, keys, keys * it.head_dim as f64)
        };
        Some(self.attentions.iter().map(one).sum())
    }

    fn products_seconds(&self, rates: &Rates, rows: f64, asked: f64) -> Option<f64> {
        let mut seconds = 0.0;
        for product in &self.products {
            let measured = rates.products.get(product.format.name())?;
            // How many of such products are needed, and by how many rows each.
            let (times, rows) = match product.through {
                Through::All => (1.0, rows),
                Through::Head => (if asked > 0.0 { 1.0 } else { 0.0 }, asked),
                Through::Expert { top, of } => {
                    let share = top as f64 / of.max(1) as f64;
                    let chosen = 1.0 - (1.0 - share.min(1.0)).powf(rows);
                    (chosen, rows * share / chosen.max(f64::MIN_POSITIVE))
                }
            };
            let (rows, Product { outputs, inputs, .. }) = (rows.max(1.0), *product);
            let weights = outputs * inputs * measured.seconds(rows, self.bytes);
            seconds += times * (weights + measured.results_seconds(rows, outputs, inputs));
        }
        Some(seconds)
    }

    fn rest_seconds(&self, rates: &Rates, rows: f64) -> f64 {
        let operations = self.operations as f64 * rates.operation_seconds;
        rates.step_seconds + operations + rows * self.values as f64 * rates.value_seconds
    }
}

/// Operations beside those of the layers: the rows that are asked, their norm, and the head.
const HEAD_OPERATIONS: usize = 3;

/// Keys that a row behind so many tokens looks at.
fn seen(mask: Mask, before: usize) -> usize {
    match mask {
        Mask::Window(width) | Mask::Chunk(width) => (before + 1).min(width),
        Mask::Causal | Mask::Full => before + 1,
    }
}
