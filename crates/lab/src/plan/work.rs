//! What a model asks of a machine: its products with their number formats, its attentions, and what is left; and how long
//! that takes at given rates.

use pasture_kernels::Format;
use pasture_model::Slot;
use pasture_model::spec::{Mask, MixerSpec, Spec};

use super::machine::Rates;

/// The products, attentions and other values of a model.
#[derive(Clone, Debug)]
pub struct Work {
    products: Vec<Product>,
    attentions: Vec<(Mask, usize)>,
    branches: usize,
    /// Values of a row beside products and attention.
    values: usize,
    /// Bytes of all that products read.
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Product {
    format: Format,
    weights: f64,
    through: Through,
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
    /// Of a model whose slots have these formats.
    pub fn of(spec: &Spec, slots: &[Slot], format: &dyn Fn(&Slot) -> Format) -> Work {
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
            products.push(Product { format, weights: (slot.rows * cols) as f64, through });
        }
        let mixers = || spec.layers.iter().flatten().map(|branch| &branch.mixer);
        let attentions = mixers().filter_map(|mixer| match mixer {
            MixerSpec::Attention(it) => Some((it.mask, it.heads * it.head_dim)),
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
        Work { products, attentions, branches: mixers().count(), values, bytes }
    }

    /// The formats of its products.
    pub fn formats(&self) -> impl Iterator<Item = Format> {
        let mut formats: Vec<Format> = self.products.iter().map(|product| product.format).collect();
        formats.sort_unstable();
        formats.dedup();
        formats.into_iter()
    }

    /// Branches of all layers.
    pub fn branches(&self) -> usize {
        self.branches
    }

    /// Values of a row beside products and attention.
    pub fn values_of_row(&self) -> usize {
        self.values
    }

    /// Seconds of a step that makes one token for each of so many sequences, each behind so many tokens. None where some
    /// format was not measured.
    pub fn token_seconds(&self, rates: &Rates, sequences: usize, depth: usize) -> Option<f64> {
        let rows = sequences as f64;
        let seen: f64 = self.attentions.iter().map(|(mask, width)| (seen(*mask, depth) * width) as f64).sum();
        let attention = rows * seen * rates.attend_seconds[0];
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
            let keys: f64 = self.attentions.iter().map(|(mask, width)| (seen(*mask, before) * width) as f64).sum();
            let attend = if rows < FEW_ROWS { rates.attend_seconds[0] } else { rates.attend_seconds[1] };
            let asked = if is_last { 1.0 } else { 0.0 };
            seconds += self.products_seconds(rates, rows as f64, asked)?;
            seconds += rows as f64 * keys * attend + self.rest_seconds(rates, rows as f64);
        }
        Some(seconds)
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
            seconds += times * product.weights * measured.seconds(rows.max(1.0), self.bytes);
        }
        Some(seconds)
    }

    fn rest_seconds(&self, rates: &Rates, rows: f64) -> f64 {
        self.branches as f64 * rates.branch_seconds + rows * self.values as f64 * rates.value_seconds
    }
}

/// Rows below which attention goes row by row.
const FEW_ROWS: usize = 32;

/// Keys that a row behind so many tokens looks at.
fn seen(mask: Mask, before: usize) -> usize {
    match mask {
        Mask::Window(width) | Mask::Chunk(width) => (before + 1).min(width),
        Mask::Causal | Mask::Full => before + 1,
    }
}
