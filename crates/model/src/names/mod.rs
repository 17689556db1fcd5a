//! The name table of a checkpoint: which tensor, or which rows of one, fills which slot. It reads both ways: loading,
//! saving, adapters and sharding use the same rows. Slots of a layer: `attention.{norm, q, k, v, o, q_norm, k_norm,
//! sinks, post_norm, output_norm}`, `mlp.{norm, gate, up, down, post_norm, output_norm}`, the same of `residual`,
//! `experts.norm`, `router`, `{expert, shared}.{gate, up, down}`; of the model: `embed`, `embed.{positions, types,
//! norm}`, `norm`, `head`.

mod gguf;
mod meta;
mod place;
mod template;

use std::borrow::Cow;

pub use gguf::gguf;
pub use meta::meta;
pub use place::{Part, Place};
pub(crate) use template::fill;

/// Where a slot's numbers stand in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The module's name with `{layer}` and `{expert}` in place of numbers; `.weight` and `.bias` follow in the file.
    pub module: Cow<'static, str>,
    /// The slots it fills. Several slots share a fused tensor: their rows lie behind each other.
    pub slots: Vec<&'static str>,
    /// How the rows of a slot are stored.
    pub order: Order,
    /// How the tensor is laid out.
    pub stored: Stored,
    /// Full names of the weight and the bias, where they are not the module's with `.weight` and `.bias`.
    pub exact: Option<Exact>,
}

/// Names of tensors that do not follow the usual endings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The weight.
    pub weight: Cow<'static, str>,
    /// The bias.
    pub bias: Option<Cow<'static, str>>,
}

/// The order of a slot's rows in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are computed with.
    Plain,
    /// The rows of each head alternate between the two halves that turn together.
    Interleaved,
    /// The rows of the slots that share the tensor alternate: the first of each, then the second of each.
    Alternating,
}

/// How a tensor is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// `[outputs, inputs]`.
    Plain,
    /// `[inputs, outputs]`.
    Transposed,
    /// All experts in one tensor, each `[outputs, inputs]`.
    Stacked,
    /// All experts in one tensor, each `[inputs, outputs]`.
    StackedTransposed,
}

/// A tensor that a file may have and no slot takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The tensor's whole name with `{layer}` and `{expert}` in place of numbers.
    pub tensor: Cow<'static, str>,
    /// Why nothing is lost.
    pub reason: &'static str,
}

/// The name table of one kind of checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Rows; where two fill one slot, the first whose tensor is in the file counts.
    pub rows: Vec<Row>,
    /// Tensors without a slot.
    pub ignored: Vec<Ignored>,
    /// Beginnings of the names of all tensors of parts that stand beside the model, and why they are left out.
    pub beside: &'static [(&'static str, &'static str)],
    /// What all names may begin with, besides nothing.
    pub prefixes: &'static [&'static str],
    /// How GGUF files of this family store the rows of queries and keys.
    pub gguf_order: GgufOrder,
    /// What modules of GGUF files hold in this family, where the shared table has several rows for a module or a slot.
    pub gguf_slots: &'static [(&'static str, &'static [&'static str])],
    /// Whether norms that are stored less one have the one added in the file.
    pub norms_plus_one: bool,
}

/// How GGUF files of a family store the rows of queries and keys: some families' converters reorder them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GgufOrder {
    /// As they are computed with.
    #[default]
    Plain,
    /// Pairs that turn together are neighbors.
    Interleaved,
}

/// A row of one module and one slot.
pub fn row(module: &'static str, slot: &'static str) -> Row {
    fused(module, &[slot])
}

/// A row of one module whose rows are those of several slots behind each other.
pub fn fused(module: &'static str, slots: &[&'static str]) -> Row {
    Row {
        module: Cow::Borrowed(module),
        slots: slots.to_vec(),
        order: Order::Plain,
        stored: Stored::Plain,
        exact: None,
    }
}

/// A tensor without a slot.
pub const fn ignored(tensor: &'static str, reason: &'static str) -> Ignored {
    Ignored { tensor: Cow::Borrowed(tensor), reason }
}

impl Row {
    /// The same row with interleaved heads.
    pub fn interleaved(self) -> Row {
        Row { order: Order::Interleaved, ..self }
    }

    /// The same row whose slots take turns.
    pub fn alternating(self) -> Row {
        Row { order: Order::Alternating, ..self }
    }

    /// The same row of a tensor in another layout.
    pub fn stored(self, stored: Stored) -> Row {
        Row { stored, ..self }
    }

    /// The same row with full names of its tensors.
    pub fn exact(self, weight: &'static str, bias: Option<&'static str>) -> Row {
        let exact = Exact { weight: Cow::Borrowed(weight), bias: bias.map(Cow::Borrowed) };
        Row { exact: Some(exact), ..self }
    }

    /// Layer and expert in the full name of one of its tensors.
    fn read(&self, part: Part, tensor: &str) -> Option<(Option<usize>, Option<usize>)> {
        match (&self.exact, part) {
            (None, part) => template::read(&self.module, tensor.strip_suffix(part.ending())?),
            (Some(exact), Part::Weight) => template::read(&exact.weight, tensor),
            (Some(exact), Part::Bias) => template::read(exact.bias.as_deref()?, tensor),
        }
    }

    /// The full name of one of its tensors, without a prefix.
    pub fn tensor(&self, part: Part, place: Place) -> Option<String> {
        match (&self.exact, part) {
            (None, part) => Some(format!("{}{}", template::fill(&self.module, place), part.ending())),
            (Some(exact), Part::Weight) => Some(template::fill(&exact.weight, place)),
            (Some(exact), Part::Bias) => exact.bias.as_deref().map(|bias| template::fill(bias, place)),
        }
    }
}

impl Names {
    /// A table of the given rows.
    pub fn new(rows: Vec<Row>) -> Names {
        Names { rows, ..Names::default() }
    }

    /// The same table with tensors that no slot takes.
    pub fn ignoring(self, ignored: &[Ignored]) -> Names {
        Names { ignored: ignored.to_vec(), ..self }
    }

    /// The same table whose names may begin with one of the given words.
    pub fn prefixed(self, prefixes: &'static [&'static str]) -> Names {
        Names { prefixes, ..self }
    }

    /// The same table for a family whose GGUF files store pairs of queries and keys as neighbors.
    pub fn gguf_interleaved(self) -> Names {
        Names { gguf_order: GgufOrder::Interleaved, ..self }
    }

    /// The same table for a family whose GGUF files keep queries and keys as they are.
    pub fn gguf_plain(self) -> Names {
        Names { gguf_order: GgufOrder::Plain, ..self }
    }

    /// The same table for a family whose GGUF files have these slots in these modules.
    pub fn gguf_slots(self, gguf_slots: &'static [(&'static str, &'static [&'static str])]) -> Names {
        Names { gguf_slots, ..self }
    }

    /// The same table for a model that is one part of a checkpoint: its names begin with `part`, and those of the parts
    /// `beside` it are left out.
    pub fn within(mut self, part: &str, beside: &'static [(&'static str, &'static str)]) -> Names {
        let longer = |name: &mut Cow<'static, str>| *name = Cow::Owned(format!("{part}{name}"));
        for row in &mut self.rows {
            longer(&mut row.module);
            if let Some(exact) = &mut row.exact {
                longer(&mut exact.weight);
                exact.bias.as_mut().map(longer);
            }
        }
        self.ignored.iter_mut().for_each(|row| longer(&mut row.tensor));
        Names { beside, ..self }
    }

    /// The rows that may fill a slot.
    pub fn filling(&self, slot: &'static str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.slots.contains(&slot))
    }

    /// All full names under which a part of a slot may stand, the usual one first, with their rows.
    pub fn candidates(&self, place: Place, part: Part) -> impl Iterator<Item = (String, &Row)> {
        let named = self.filling(place.slot).filter_map(move |row| Some((row.tensor(part, place)?, row)));
        named.flat_map(|(name, row)| {
            let prefixed: Vec<String> = self.prefixes.iter().map(|prefix| format!("{prefix}{name}")).collect();
            std::iter::once(name).chain(prefixed).map(move |name| (name, row))
        })
    }

    /// What a tensor of that name fills: its row, and which part, layer and expert it is.
    pub fn find(&self, tensor: &str) -> Option<(&Row, Part, Option<usize>, Option<usize>)> {
        let bare = std::iter::once(tensor).chain(self.prefixes.iter().filter_map(|it| tensor.strip_prefix(it)));
        bare.flat_map(|name| self.rows.iter().map(move |row| (name, row))).find_map(|(name, row)| {
            let read = |part| row.read(part, name).map(|(layer, expert)| (row, part, layer, expert));
            read(Part::Weight).or_else(|| read(Part::Bias))
        })
    }

    /// Why no slot takes a tensor, if the table knows it.
    pub fn reason(&self, tensor: &str) -> Option<&'static str> {
        let bare = self.prefixes.iter().find_map(|prefix| tensor.strip_prefix(prefix)).unwrap_or(tensor);
        let fits = |row: &&Ignored| template::matches(&row.tensor, bare) || template::matches(&row.tensor, tensor);
        let beside = || self.beside.iter().find(|(part, _)| tensor.starts_with(part)).map(|(_, reason)| *reason);
        self.ignored.iter().find(fits).map(|row| row.reason).or_else(beside)
    }
}
