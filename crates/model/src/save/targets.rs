//! What a checkpoint of another container will hold: each tensor with the slots whose rows it takes, in which order and
//! layout, and how one is filled. At most one matrix of a stack is in memory.

use pasture_files::Dtype;
use pasture_files::durable::Sink;
use pasture_files::outline::Outline;
use pasture_kernels::Format;
use pasture_tensor::Weight;

use crate::error::{Error, Result};
use crate::load::shape::{SlotShape, Source as Rows};
use crate::load::survey::is_offset;
use crate::load::{Slot, Source, Survey};
use crate::names::{Names, Row, Stored};
use crate::spec::Spec;

/// A tensor to be written.
pub struct Target {
    /// Name, shape, and how its numbers are stored.
    pub outline: Outline,
    /// The slots that fill it.
    pieces: Vec<Piece>,
    /// Rows of one matrix, over all slots that share it.
    total: usize,
    /// Columns; one for a vector.
    cols: usize,
    /// Matrices that are stacked.
    stacks: usize,
    transposed: bool,
    is_vector: bool,
    /// Values that stand for themselves.
    fixed: Option<Vec<f32>>,
}

struct Piece {
    slot: Slot,
    rows: Rows,
    /// Rows of the slot that are left out at its start.
    skip: usize,
    /// Whether its values are a norm's that is stored less one.
    offset: bool,
}

/// The numbers of a model, slot by slot: a checkpoint as it is, or what is made of several.
pub trait Content {
    /// A matrix with its rows in the order in which they are computed with, in plain layout.
    fn matrix(&self, slot: &Slot) -> Result<Weight>;

    /// A vector; an offset norm with one added where `plus_one` says so.
    fn vector(&self, slot: &Slot, plus_one: bool) -> Result<Vec<f32>>;
}

/// A checkpoint's own numbers.
pub struct Own<'a> {
    /// The checkpoint.
    pub source: &'a Source,
    /// Where its slots stand.
    pub survey: &'a Survey,
}

impl Content for Own<'_> {
    fn matrix(&self, slot: &Slot) -> Result<Weight> {
        self.survey.matrix(self.source, slot)
    }

    fn vector(&self, slot: &Slot, plus_one: bool) -> Result<Vec<f32>> {
        let mut values = self.survey.vector(self.source, slot)?;
        if is_offset(&self.survey.spec, slot) && plus_one != self.survey.norms_plus_one() {
            let step = if plus_one { 1.0 } else { -1.0 };
            values.iter_mut().for_each(|value| *value += step);
        }
        Ok(values)
    }
}

/// Turns rows of f32 values into stored numbers: `encode(target, first value's place, values, format)`.
pub type Encode<'a> = &'a dyn Fn(&Target, usize, &[f32], Format, &mut [u8]);

/// Values into a format, without any measure of their importance.
pub fn encode_plainly(_: &Target, _: usize, values: &[f32], format: Format, out: &mut [u8]) {
    format.quantize(values, None, out);
}

/// The tensors under a table's names. Slots whose tensors have a name of that very table keep it.
pub(super) fn targets(spec: &Spec, slots: &[Slot], names: &Names, what: &str) -> Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    for slot in slots {
        let (name, row) = named(slot, names, what)?;
        let rows = Rows::of(spec, slot.place, row, slot.rows);
        let skip = skipped(spec, slot, names);
        let (total, stacks) = (rows.total - skip, rows.stacks);
        let shape = rows.shapes(row, slot.part, SlotShape { rows: slot.rows - skip, cols: slot.cols });
        let mut shape = shape.into_iter().next().unwrap_or_default();
        if skip > 0 {
            shape[0] = total;
        }
        let piece = Piece { slot: slot.clone(), rows, skip, offset: is_offset(spec, slot) };
        // The parts of a tensor come close behind each other, those of stacked experts slot by slot.
        if let Some(target) = targets.iter_mut().rev().take(LOOK_BACK).find(|target| target.outline.name == name) {
            target.pieces.push(piece);
            continue;
        }
        targets.push(Target {
            outline: Outline { name, dtype: Dtype::Number(slot.format), shape },
            pieces: vec![piece],
            total,
            cols: slot.cols.unwrap_or(1),
            stacks,
            transposed: matches!(row.stored, Stored::Transposed | Stored::StackedTransposed),
            is_vector: slot.cols.is_none(),
            fixed: None,
        });
    }
    for target in &mut targets {
        target.pieces.sort_by_key(|piece| (piece.rows.stack, piece.rows.first));
        target.check(what)?;
    }
    Ok(targets)
}

/// No layer's tensors are further apart.
const LOOK_BACK: usize = 64;

/// GGUF files begin the table of positions with the first that is used.
fn skipped(spec: &Spec, slot: &Slot, names: &Names) -> usize {
    let first = spec.embed.positions.map_or(0, |positions| positions.first);
    if slot.place.slot == "embed.positions" && names.norms_plus_one { first } else { 0 }
}

/// The tensor of a slot: under the name that it has now, if the table knows it, else under the table's first.
fn named<'n>(slot: &Slot, names: &'n Names, what: &str) -> Result<(String, &'n Row)> {
    let mut candidates = names.candidates(slot.place, slot.part);
    let kept = names.candidates(slot.place, slot.part).find(|(name, _)| *name == slot.tensor);
    kept.or_else(|| candidates.next()).ok_or_else(|| Error::CannotExpress {
        container: what.to_owned(),
        what: format!("{}{} (tensor {:?})", slot.place, slot.part.ending(), slot.tensor),
    })
}

impl Target {
    /// A tensor of given values.
    pub(super) fn fixed(name: &str, values: Vec<f32>) -> Target {
        let outline = Outline { name: name.to_owned(), dtype: Dtype::Number(Format::F32), shape: vec![values.len()] };
        let total = values.len();
        let fixed = Some(values);
        Target { outline, pieces: Vec::new(), total, cols: 1, stacks: 1, transposed: false, is_vector: true, fixed }
    }

    /// Every row must come from a slot.
    fn check(&self, what: &str) -> Result<()> {
        let rows: usize = self.pieces.iter().map(|piece| piece.slot.rows - piece.skip).sum();
        if rows == self.total * self.stacks {
            return Ok(());
        }
        let what_is_short = format!("{:?}: {rows} of its {} rows", self.outline.name, self.total * self.stacks);
        Err(Error::CannotExpress { container: what.to_owned(), what: what_is_short })
    }

    /// The bytes of given values; none where slots fill the tensor.
    pub(super) fn fixed_bytes(&self) -> Vec<u8> {
        self.fixed.iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The slots that fill it.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().map(|piece| &piece.slot)
    }

    /// Whether it holds a vector, or one for each expert.
    pub fn is_vector(&self) -> bool {
        self.is_vector
    }

    /// Values of one stored row.
    pub fn row_len(&self) -> usize {
        self.outline.shape.last().copied().unwrap_or(1)
    }

    /// Matrices that are stacked in it.
    pub fn stacks(&self) -> usize {
        self.stacks
    }

    /// Rows of each of its matrices.
    pub fn rows(&self) -> usize {
        self.total
    }

    /// The format of its numbers.
    pub fn format(&self) -> Format {
        self.outline.dtype.format().unwrap_or(Format::F32)
    }

    /// The one format of its slots as they are stored now; none where they differ.
    pub fn stored(&self) -> Option<Format> {
        let first = self.pieces.first().map(|piece| piece.slot.format)?;
        self.pieces.iter().all(|piece| piece.slot.format == first).then_some(first)
    }

    /// Whether rows lie in the file as they are computed with.
    pub fn is_transposed(&self) -> bool {
        self.transposed
    }

    /// Puts the tensor's bytes.
    pub fn fill(
        &self,
        content: &dyn Content,
        plus_one: bool,
        encode: Encode<'_>,
        sink: &mut Sink,
    ) -> pasture_files::Result<()> {
        let outside = |error: Error| self.outside(error);
        if let Some(values) = &self.fixed {
            return put(sink, values);
        }
        for stack in 0..self.stacks {
            let pieces = self.pieces.iter().filter(|piece| piece.rows.stack == stack);
            if self.is_vector {
                let values = self.vector(pieces, content, plus_one).map_err(outside)?;
                self.put_values(stack, &values, encode, sink)?;
                continue;
            }
            let read = |piece: &Piece| Ok((piece.rows, piece.skip, content.matrix(&piece.slot)?));
            let parts: Vec<(Rows, usize, Weight)> = pieces.map(read).collect::<Result<_>>().map_err(outside)?;
            if parts.iter().all(|(_, _, weight)| weight.format() == self.format()) && !self.turns_blocks() {
                self.put_stored(&parts, sink)?;
            } else {
                let values = self.values(&parts);
                self.put_values(stack, &values, encode, sink)?;
            }
        }
        Ok(())
    }

    /// An error while its numbers are read, as one of its file.
    pub(super) fn outside(&self, error: Error) -> pasture_files::Error {
        match error {
            Error::File(error) => error,
            other => pasture_files::Error::unsupported(self.outline.name.as_str(), other.to_string()),
        }
    }

    fn turns_blocks(&self) -> bool {
        self.transposed && self.format().block() != 1
    }

    /// The values of one matrix of the stack as they are to be stored, row after row.
    pub fn read(&self, stack: usize, content: &dyn Content, plus_one: bool) -> Result<Vec<f32>> {
        let pieces = self.pieces.iter().filter(|piece| piece.rows.stack == stack);
        if self.is_vector {
            return self.vector(pieces, content, plus_one);
        }
        let read = |piece: &Piece| Ok((piece.rows, piece.skip, content.matrix(&piece.slot)?));
        let parts: Vec<(Rows, usize, Weight)> = pieces.map(read).collect::<Result<_>>()?;
        Ok(self.values(&parts))
    }

    fn vector<'p>(
        &self,
        pieces: impl Iterator<Item = &'p Piece>,
        content: &dyn Content,
        plus_one: bool,
    ) -> Result<Vec<f32>> {
        let mut values = vec![0.0; self.total];
        for piece in pieces {
            let found = content.vector(&piece.slot, plus_one && piece.offset)?;
            for (at, value) in found.into_iter().enumerate() {
                values[piece.rows.within(at)] = value;
            }
        }
        Ok(values)
    }

    /// Stored rows in their places, and turned where the file has them so.
    fn put_stored(&self, parts: &[(Rows, usize, Weight)], sink: &mut Sink) -> pasture_files::Result<()> {
        let row_bytes = self.format().row_bytes(self.cols);
        let mut out = vec![0; self.total * row_bytes];
        for (rows, skip, weight) in parts {
            for at in *skip..weight.rows() {
                let to = (rows.within(at) - skip) * row_bytes;
                out[to..to + row_bytes].copy_from_slice(&weight.bytes()[at * row_bytes..][..row_bytes]);
            }
        }
        if !self.transposed {
            return sink.put(&out);
        }
        let size = self.format().block_bytes();
        let mut turned = Vec::with_capacity(out.len());
        for col in 0..self.cols {
            for row in 0..self.total {
                turned.extend_from_slice(&out[(row * self.cols + col) * size..][..size]);
            }
        }
        sink.put(&turned)
    }

    fn values(&self, parts: &[(Rows, usize, Weight)]) -> Vec<f32> {
        let mut values = vec![0.0; self.total * self.cols];
        for (rows, skip, weight) in parts {
            for at in *skip..weight.rows() {
                let to = (rows.within(at) - skip) * self.cols;
                weight.row_values(at, &mut values[to..to + self.cols]);
            }
        }
        if !self.transposed {
            return values;
        }
        (0..self.cols)
            .flat_map(|col| (0..self.total).map(move |row| (row, col)))
            .map(|(row, col)| values[row * self.cols + col])
            .collect()
    }

    fn put_values(
        &self,
        stack: usize,
        values: &[f32],
        encode: Encode<'_>,
        sink: &mut Sink,
    ) -> pasture_files::Result<()> {
        if self.format() == Format::F32 {
            return put(sink, values);
        }
        let format = self.format();
        let mut bytes = vec![0; values.len() / format.block() * format.block_bytes()];
        encode(self, stack * values.len(), values, format, &mut bytes);
        sink.put(&bytes)
    }
}

fn put(sink: &mut Sink, values: &[f32]) -> pasture_files::Result<()> {
    for values in values.chunks(1 << 14) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        sink.put(&bytes)?;
    }
    Ok(())
}
