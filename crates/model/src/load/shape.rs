//! Which rows of a tensor a slot's rows are, and which shape the tensor must have for it. Sizes come from the spec.

use crate::names::{Order, Part, Place, Row, Stored};
use crate::spec::{AttentionSpec, MixerSpec, Spec};

/// What a slot needs.
#[derive(Clone, Copy)]
pub(crate) struct SlotShape {
    pub(crate) rows: usize,
    /// None for a vector.
    pub(crate) cols: Option<usize>,
}

/// Where a slot's rows lie in a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The slot's first row among those of all slots that share the tensor.
    pub(crate) first: usize,
    /// Rows of all slots that share it.
    pub(crate) total: usize,
    /// Which of several stacked matrices.
    pub(crate) stack: usize,
    /// How many are stacked.
    pub(crate) stacks: usize,
    order: Order,
    head_dim: usize,
    /// The slot's number among those that share the tensor, and how many they are.
    turn: (usize, usize),
}

impl Source {
    /// The place of a slot of `rows` rows in the tensor of a row of the name table.
    pub(crate) fn of(spec: &Spec, place: Place, row: &Row, rows: usize) -> Source {
        let size = |slot: &&'static str| if *slot == place.slot { rows } else { slot_rows(spec, place.layer, slot) };
        let first = row.slots.iter().take_while(|slot| **slot != place.slot).map(&size).sum();
        let total = row.slots.iter().map(size).sum();
        let stacked = matches!(row.stored, Stored::Stacked | Stored::StackedTransposed);
        let (stack, stacks) = match (stacked, place.expert) {
            (true, Some(expert)) => (expert, experts(spec, place.layer)),
            _ => (0, 1),
        };
        let head_dim = attention(spec, place.layer).map_or(1, |attention| attention.head_dim);
        let turn = row.slots.iter().position(|slot| *slot == place.slot).unwrap_or(0);
        Source { first, total, stack, stacks, order: row.order, head_dim, turn: (turn, row.slots.len()) }
    }

    /// The row of the tensor that is row `row` of the slot, counted through all stacked matrices.
    pub(super) fn row(&self, row: usize) -> usize {
        self.stack * self.total + self.within(row)
    }

    /// The same within its own matrix of the stack.
    pub(crate) fn within(&self, row: usize) -> usize {
        match self.order {
            Order::Plain => self.first + row,
            Order::Interleaved => {
                let (head, at, half) = (row / self.head_dim, row % self.head_dim, self.head_dim / 2);
                self.first + head * self.head_dim + if at < half { 2 * at } else { 2 * (at - half) + 1 }
            }
            Order::Alternating => row * self.turn.1 + self.turn.0,
        }
    }

    /// The rows of the slot's matrix that are its own, in order, and the first and the end of those in the tensor.
    pub(super) fn picked(&self, rows: usize) -> (Vec<u32>, std::ops::Range<usize>) {
        let places: Vec<usize> = (0..rows).map(|row| self.row(row)).collect();
        let (first, end) = (places.iter().min().copied().unwrap_or(0), places.iter().max().map_or(0, |last| last + 1));
        (places.iter().map(|place| (place - first) as u32).collect(), first..end)
    }

    /// Whether a tensor of that shape holds the slot.
    pub(super) fn fits(&self, row: &Row, part: Part, slot: SlotShape, shape: &[usize]) -> bool {
        self.shapes(row, part, slot).iter().any(|wanted| wanted == shape)
    }

    /// The usual shape, as messages show it.
    pub(super) fn shown(&self, row: &Row, part: Part, slot: SlotShape) -> String {
        self.shapes(row, part, slot).first().map_or_else(String::new, |shape| wanted(shape))
    }

    /// The shapes that hold the slot; stacked matrices may also be written as one.
    pub(crate) fn shapes(&self, row: &Row, part: Part, slot: SlotShape) -> Vec<Vec<usize>> {
        let Source { total, stacks, .. } = *self;
        match (slot.cols, row.stored) {
            (None, Stored::Plain | Stored::Transposed) => vec![vec![total]],
            (None, Stored::Stacked | Stored::StackedTransposed) => vec![vec![stacks, total]],
            (Some(cols), _) if part == Part::Bias => vec![vec![total, cols]],
            (Some(cols), Stored::Plain) => vec![vec![total, cols]],
            (Some(cols), Stored::Transposed) => vec![vec![cols, total]],
            (Some(cols), Stored::Stacked) => vec![vec![stacks, total, cols], vec![stacks * total, cols]],
            (Some(cols), Stored::StackedTransposed) => vec![vec![stacks, cols, total], vec![stacks * cols, total]],
        }
    }
}

impl SlotShape {
    pub(super) fn shown(self) -> String {
        match self.cols {
            Some(cols) => wanted(&[self.rows, cols]),
            None => wanted(&[self.rows]),
        }
    }
}

/// A shape as messages show it: `256x64`.
pub(super) fn wanted(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    if sizes.is_empty() { "a single value".to_owned() } else { sizes.join("x") }
}

fn mixers(spec: &Spec, layer: Option<usize>) -> impl Iterator<Item = &MixerSpec> {
    layer.and_then(|layer| spec.layers.get(layer)).into_iter().flatten().map(|branch| &branch.mixer)
}

fn attention(spec: &Spec, layer: Option<usize>) -> Option<&AttentionSpec> {
    mixers(spec, layer).find_map(|mixer| match mixer {
        MixerSpec::Attention(attention) => Some(attention),
        _ => None,
    })
}

fn experts(spec: &Spec, layer: Option<usize>) -> usize {
    let count = mixers(spec, layer).find_map(|mixer| match mixer {
        MixerSpec::Experts(experts) => Some(experts.experts),
        _ => None,
    });
    count.unwrap_or(1)
}

/// Rows of a slot that shares a tensor with another.
fn slot_rows(spec: &Spec, layer: Option<usize>, slot: &str) -> usize {
    let rows = mixers(spec, layer).find_map(|mixer| match mixer {
        MixerSpec::Attention(attention) => match slot {
            "attention.q" => Some(attention.heads * attention.head_dim),
            "attention.k" | "attention.v" => Some(attention.kv_heads * attention.head_dim),
            _ => None,
        },
        MixerSpec::Mlp(mlp) => [mlp.slots.gate, mlp.slots.up].contains(&slot).then_some(mlp.width),
        MixerSpec::Experts(experts) => {
            let slots = experts.expert.slots;
            [slots.gate, slots.up].contains(&slot).then_some(experts.expert.width)
        }
    });
    rows.unwrap_or(0)
}
