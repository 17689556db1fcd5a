//! Where panels come from and who multiplies them: packed panels directly or, for many tokens, taken apart; everything
//! else decoded to f32 first.

use std::cell::Cell;

use super::layout::{Layout, Matrix, PANEL, unpack_from_panel};
use super::record::{Rows, Section};
use super::{Precision, TOKENS, Tile, Tiles};
use crate::Format;
use crate::isa::Kernels;

/// Bytes of weights that a worker claims at once: they stay in its L2 cache while all tokens pass.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are worth a claim, which takes a cache line from another processor: of a small matrix each worker claims
/// so much, or its even share, though that leaves less to balance with.
const WORTH_BYTES: usize = 128 << 10;
/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// A packed panel of `cols` columns to `[cols][16]` f32.
pub(crate) type Decode = fn(panel: &[u8], cols: usize, out: &mut [f32]);

/// `tile[token][row] = panel · x` for one panel of 16 rows and up to 16 tokens.
type TileKernel = fn(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile);

/// The same for two panels in one pass over the records.
type PairKernel = fn(panels: [&[u8]; 2], rows: &Rows<'_>, tokens: usize, tiles: &mut Tiles);

/// The fewest tokens for which two panels are taken at once: fewer wait for memory anyway.
const PAIR: usize = 5;

/// The products of panels. Each result has the same bits by either loop.
#[derive(Clone, Copy)]
pub(crate) struct TileKernels {
    pub(crate) one: TileKernel,
    /// Where that is faster.
    pub(crate) two: Option<PairKernel>,
}

impl TileKernels {
    pub(crate) const fn one(one: TileKernel) -> TileKernels {
        TileKernels { one, two: None }
    }
}

/// How panels are taken apart for many tokens: what a token would unpack is unpacked once.
#[derive(Clone, Copy)]
pub(crate) struct Apart {
    pub(crate) take: Decode,
    /// f32s of 32 columns of a panel.
    pub(crate) words: usize,
    /// Their product, with the bits that [`PackedKernels::fast`] gives.
    pub(crate) tiles: TileKernels,
}

/// The fewest tokens for which panels are taken apart.
const MANY: usize = 3 * TOKENS;

/// What an instruction set has for a packed format.
#[derive(Clone, Copy)]
pub(crate) struct PackedKernels {
    /// The product in [`Precision::Fast`] and the activations it reads.
    pub(crate) fast: (TileKernels, Section),
    /// The same for many tokens, where the packed form costs each of them something.
    pub(crate) apart: Option<Apart>,
    /// The product with f32 activations straight from the packed panel, where that needs no decoding.
    pub(crate) exact: Option<TileKernels>,
    /// A packed panel to `[cols][16]` f32, the values that the format's `dequantize` gives.
    pub(crate) decode: Option<Decode>,
}

/// Scratch memory of one worker.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) first: PanelScratch,
    pub(crate) second: PanelScratch,
}

/// Memory for decoded panels.
#[derive(Default)]
pub(crate) struct PanelScratch {
    panels: Vec<f32>,
    rows: Vec<f32>,
    bytes: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Lends the worker's scratch memory, which it keeps between dispatches.
pub(crate) fn with_panels(work: impl FnOnce(&mut Scratch)) {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    work(&mut scratch);
    SCRATCH.set(Some(scratch));
}

#[derive(Clone, Copy)]
enum Way {
    /// The kernel reads the packed panel.
    Direct(TileKernels, Section),
    /// Panels are taken apart, then multiplied.
    Apart(Apart),
    /// Panels are decoded to f32, then multiplied.
    Decoded(Option<Decode>),
}

/// A weight and the way in which it is multiplied.
pub(crate) struct Source<'a> {
    matrix: Matrix<'a>,
    kernels: &'static Kernels,
    way: Way,
}

impl<'a> Source<'a> {
    pub(crate) fn new(
        kernels: &'static Kernels,
        precision: Precision,
        matrix: Matrix<'a>,
        tokens: usize,
    ) -> Source<'a> {
        let packed = match matrix.layout {
            Layout::Plain => None,
            Layout::Packed => (kernels.packed)(matrix.format),
        };
        let way = match (packed, precision) {
            (Some(PackedKernels { apart: Some(apart), .. }), Precision::Fast) if tokens >= MANY => Way::Apart(apart),
            (Some(packed), Precision::Fast) => Way::Direct(packed.fast.0, packed.fast.1),
            (Some(PackedKernels { exact: Some(tile), .. }), Precision::Exact) => Way::Direct(tile, Section::Values),
            (Some(PackedKernels { decode, .. }), Precision::Exact) => Way::Decoded(decode),
            (None, _) => Way::Decoded(None),
        };
        Source { matrix, kernels, way }
    }

    /// The activations that the product reads.
    pub(crate) fn section(&self) -> Section {
        match self.way {
            Way::Direct(_, section) => section,
            Way::Apart(_) => Section::Codes,
            Way::Decoded(_) => Section::Values,
        }
    }

    /// Values of the weight.
    pub(crate) fn values(&self) -> usize {
        self.matrix.rows * self.matrix.cols
    }

    /// How many rows a worker claims at once: enough to fill its share of the cache, few enough to share the work.
    pub(crate) fn stripe(&self, threads: usize) -> usize {
        let panel = match self.way {
            Way::Direct(..) => self.matrix.bytes.len() / self.matrix.rows.div_ceil(PANEL).max(1),
            Way::Apart(Apart { words, .. }) => self.matrix.cols / 32 * words * size_of::<f32>(),
            Way::Decoded(_) => self.matrix.cols * PANEL * size_of::<f32>(),
        };
        let panels = self.matrix.rows.div_ceil(PANEL);
        let share = panels.div_ceil(4 * threads).max((WORTH_BYTES / panel.max(1)).min(panels.div_ceil(threads)));
        let panels = (CHUNK_BYTES / panel.max(1)).max(2).clamp(1, share.max(1));
        // Pairs stay together.
        (if panels > 1 { panels / 2 * 2 } else { panels }) * PANEL
    }

    /// Makes the panels of `rows` rows from `first` on ready. `first` is the first row of a panel.
    pub(crate) fn open<'s>(&'s self, first: usize, rows: usize, scratch: &'s mut PanelScratch) -> Panels<'s> {
        debug_assert!(first.is_multiple_of(PANEL) && first + rows <= self.matrix.rows);
        let numbers = first / PANEL..(first + rows).div_ceil(PANEL);
        match self.way {
            Way::Direct(tile, _) => {
                let bytes = self.matrix.bytes.len() / self.matrix.rows.div_ceil(PANEL);
                Panels { bytes: &self.matrix.bytes[numbers.start * bytes..numbers.end * bytes], panel: bytes, tile }
            }
            Way::Apart(Apart { take, words, tiles }) => {
                let (cols, values) = (self.matrix.cols, self.matrix.cols / 32 * words);
                let start = grow(&mut scratch.panels, numbers.len() * values);
                let out = &mut scratch.panels[start..][..numbers.len() * values];
                for (number, out) in numbers.zip(out.chunks_exact_mut(values)) {
                    take(self.matrix.panel(number), cols, out);
                }
                Panels { bytes: bytemuck::cast_slice(out), panel: values * size_of::<f32>(), tile: tiles }
            }
            Way::Decoded(decode) => {
                let values = self.matrix.cols * PANEL;
                let start = grow(&mut scratch.panels, numbers.len() * values);
                for (at, number) in numbers.clone().enumerate() {
                    self.decode(decode, number, start + at * values, scratch);
                }
                let bytes = bytemuck::cast_slice(&scratch.panels[start..][..numbers.len() * values]);
                Panels { bytes, panel: values * size_of::<f32>(), tile: self.kernels.tile_f32 }
            }
        }
    }

    fn decode(&self, decode: Option<Decode>, number: usize, at: usize, scratch: &mut PanelScratch) {
        let (format, cols) = (self.matrix.format, self.matrix.cols);
        let PanelScratch { panels, rows, bytes } = scratch;
        let out = &mut panels[at..at + cols * PANEL];
        if let Some(decode) = decode {
            return decode(self.matrix.panel(number), cols, out);
        }
        grow(rows, cols * PANEL);
        let rows = &mut rows[..cols * PANEL];
        for (row, values) in rows.chunks_exact_mut(cols).enumerate() {
            if number * PANEL + row >= self.matrix.rows {
                values.fill(0.0);
                continue;
            }
            match self.matrix.layout {
                Layout::Plain => dequantize(format, self.matrix.plain_row(number * PANEL + row), values),
                Layout::Packed => {
                    bytes.resize(format.row_bytes(cols), 0);
                    unpack_from_panel(format, self.matrix.panel(number), row, bytes);
                    dequantize(format, bytes, values);
                }
            }
        }
        (self.kernels.interleave)(rows, cols, out);
    }
}

fn dequantize(format: Format, bytes: &[u8], values: &mut [f32]) {
    format.dequantize(bytes, values);
}

/// Makes room for so many values from the beginning of a cache line on, and says where that is: a vector that lies
/// across two lines costs two loads.
fn grow(values: &mut Vec<f32>, len: usize) -> usize {
    let line = LINE_BYTES / size_of::<f32>();
    if values.len() < len + line {
        values.resize(len + line, 0.0);
    }
    values.as_ptr().align_offset(LINE_BYTES).min(line)
}

/// Panels that are ready to be multiplied.
pub(crate) struct Panels<'a> {
    bytes: &'a [u8],
    panel: usize,
    tile: TileKernels,
}

impl Panels<'_> {
    /// Multiplies one panel, or two, from `first` on with the first `tokens` records of `rows`.
    pub(crate) fn multiply(&self, first: usize, count: usize, rows: &Rows<'_>, tokens: usize, tiles: &mut Tiles) {
        let panel = |number: usize| &self.bytes[number * self.panel..][..self.panel];
        match self.tile.two {
            Some(two) if count == 2 && tokens >= PAIR => two([panel(first), panel(first + 1)], rows, tokens, tiles),
            _ => {
                for (at, tile) in tiles[..count].iter_mut().enumerate() {
                    (self.tile.one)(panel(first + at), rows, tokens, tile);
                }
            }
        }
    }
}
