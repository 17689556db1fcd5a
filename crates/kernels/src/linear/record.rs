//! Prepared activations: for each token one record of 32-bit words with the forms that the weights of a dispatch need.
//!
//! Invariant: a record depends on its own token only.

use std::cell::Cell;

use bytemuck::{Pod, Zeroable};

use super::{Input, Prologue, TOKENS};
use crate::isa::Kernels;
use crate::pool::Pool;

/// Products of numbers that one thread is done with before another could come to help: some two microseconds.
const ALONE: usize = 150_000;

/// Words of a cache line.
const LINE: usize = 16;

/// A form in which kernels read activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// f32.
    Values,
    /// Pairs of bf16 in a word, the earlier column in the lower half.
    Pairs,
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "no kernel of this processor reads codes")
    )]
    /// Signed 8-bit codes, one f32 scale for each 32, and the sums of the codes.
    Codes,
}

/// Where the sections of a record lie, in words. A section that no weight of the dispatch reads has no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordLayout {
    pub(crate) cols: usize,
    values: Option<usize>,
    pairs: Option<usize>,
    codes: Option<usize>,
    /// Words from a token's record to the next one's.
    pub(crate) stride: usize,
}

/// Where the parts of an 8-bit section lie, in words from its start, for `cols` columns (whole blocks of 32).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodeLayout {
    /// f32 scales, one for each 32 columns; codes start at word zero.
    pub(crate) scales: usize,
    /// i32 sums of 32 codes, **negated**: a kernel shifts them into the accumulator to undo the weights' zero point.
    pub(crate) sums: usize,
    /// i32 sums of 16 codes, negated likewise.
    pub(crate) halves: usize,
    /// The sums of 32 codes (not negated) times their scale, as f32, for formats with minima.
    pub(crate) float_sums: usize,
    /// The same of 16 codes.
    pub(crate) float_halves: usize,
    /// Words of the whole section.
    pub(crate) words: usize,
}

impl CodeLayout {
    pub(crate) fn new(cols: usize) -> CodeLayout {
        let (scales, blocks) = (cols / 4, cols / 32);
        let sums = scales + blocks;
        let halves = sums + blocks;
        let float_sums = halves + 2 * blocks;
        let float_halves = float_sums + blocks;
        CodeLayout { scales, sums, halves, float_sums, float_halves, words: float_halves + 2 * blocks }
    }

    /// Stores the numbers that go with block `at`: its scale, and the sums of its first and last 16 codes.
    pub(crate) fn store_sums(&self, at: usize, scale: f32, [low, high]: [i32; 2], section: &mut [u32]) {
        let negated = |sum: i32| (-sum).cast_unsigned();
        let scaled = |sum: i32| (scale * sum as f32).to_bits();
        section[self.scales + at] = scale.to_bits();
        section[self.sums + at] = negated(low + high);
        section[self.halves + 2 * at] = negated(low);
        section[self.halves + 2 * at + 1] = negated(high);
        section[self.float_sums + at] = scaled(low + high);
        section[self.float_halves + 2 * at] = scaled(low);
        section[self.float_halves + 2 * at + 1] = scaled(high);
    }
}

impl RecordLayout {
    fn new(cols: usize, sections: impl Iterator<Item = Section>) -> RecordLayout {
        let (mut values, mut pairs, mut codes) = (None, None, None);
        for section in sections {
            let place = match section {
                Section::Values => &mut values,
                Section::Pairs => &mut pairs,
                Section::Codes => &mut codes,
            };
            *place = Some(0);
        }
        let mut end = 0;
        let sizes = [(&mut values, cols), (&mut pairs, cols.div_ceil(2)), (&mut codes, CodeLayout::new(cols).words)];
        for (place, words) in sizes {
            if let Some(start) = place {
                *start = end;
                end += words.next_multiple_of(LINE);
            }
        }
        // An odd number of cache lines keeps the records of a tile out of each other's cache sets.
        let stride = if (end / LINE).is_multiple_of(2) { end + LINE } else { end };
        RecordLayout { cols, values, pairs, codes, stride }
    }

    /// Rows of f32 as they are.
    pub(crate) fn of_values(cols: usize) -> RecordLayout {
        RecordLayout { cols, values: Some(0), pairs: None, codes: None, stride: cols }
    }

    fn start(&self, section: Section) -> usize {
        let place = match section {
            Section::Values => self.values,
            Section::Pairs => self.pairs,
            Section::Codes => self.codes,
        };
        place.expect("a kernel reads only sections it asked for")
    }

    fn fill(&self, kernels: &Kernels, input: &Input<'_>, token: usize, record: &mut [u32]) {
        let x = &input.values[token * self.cols..][..self.cols];
        with_row(self.cols, |normed| {
            let x = match input.prologue {
                Prologue::None => x,
                Prologue::RmsNorm { weight, offset, epsilon } => {
                    kernels.rms_norm(x, weight, offset, epsilon, normed);
                    normed
                }
                Prologue::LayerNorm { weight, offset, bias, epsilon } => {
                    kernels.layer_norm(x, weight, offset, bias, epsilon, normed);
                    normed
                }
            };
            if let Some(start) = self.values {
                record[start..start + self.cols].copy_from_slice(bytemuck::cast_slice(x));
            }
            if let Some(start) = self.pairs {
                (kernels.narrow_pairs)(x, &mut record[start..start + self.cols.div_ceil(2)]);
            }
            if let Some(start) = self.codes {
                (kernels.quantize)(x, &mut record[start..start + CodeLayout::new(self.cols).words]);
            }
        });
    }
}

/// The records of a dispatch, from some token on. Records for a whole tile beyond the last token can be read.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) layout: &'a RecordLayout,
    /// Whether earlier rows met the same panels just before, which lie in a cache then.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "other sets pass all panels alike"))]
    pub(crate) again: bool,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(words: &'a [u32], layout: &'a RecordLayout) -> Rows<'a> {
        Rows { words, layout, again: false }
    }

    /// The records from `token` on.
    pub(crate) fn from(&self, token: usize) -> Rows<'a> {
        Rows { words: &self.words[token * self.layout.stride..], layout: self.layout, again: token > 0 }
    }

    /// The words from a section's start in the first record on; the next record's are `stride` further.
    pub(crate) fn section(&self, section: Section) -> &'a [u32] {
        &self.words[self.layout.start(section)..]
    }
}

/// A cache line of words: records start at one.
#[repr(C, align(64))]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Line([u32; LINE]);

thread_local! {
    /// The records of the dispatch that this thread leads.
    static RECORDS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// The normed row of the token at work.
    static ROW: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

fn with_row(cols: usize, work: impl FnOnce(&mut [f32])) {
    let mut row = ROW.take();
    if row.len() < cols {
        row.resize(cols, 0.0);
    }
    work(&mut row[..cols]);
    ROW.set(row);
}

/// How many records some tokens take: a tile kernel may read a whole tile of them, and its results for tokens that are
/// not there are not used. One to four tokens have kernels of their own, which read no more than theirs.
fn records(tokens: usize) -> usize {
    match tokens % TOKENS {
        0..=4 => tokens,
        _ => tokens.next_multiple_of(TOKENS),
    }
}

/// One dispatch: prepares the record of each token once, then runs `work` on the workers with all of them; on the
/// calling thread alone where there are only few `products` of numbers.
pub(crate) fn with_records(
    pool: &Pool,
    input: &Input<'_>,
    products: usize,
    sections: impl Iterator<Item = Section>,
    work: impl Fn(&Rows<'_>) + Sync,
) {
    let (tokens, kernels) = (input.tokens(), pool.kernels());
    let layout = RecordLayout::new(input.cols, sections);
    let words = records(tokens) * layout.stride;
    let mut lines = RECORDS.take();
    if lines.len() < words / LINE {
        lines.resize(words / LINE, Line::zeroed());
    }
    let scratch: &mut [u32] = bytemuck::cast_slice_mut(&mut lines[..words / LINE]);
    let prepare = |token: usize, record: &mut [u32]| {
        if token < tokens {
            layout.fill(kernels, input, token, record);
        }
    };
    if products < ALONE {
        scratch.chunks_exact_mut(layout.stride).enumerate().for_each(|(token, record)| prepare(token, record));
        work(&Rows::new(scratch, &layout));
    } else {
        pool.prepare_then(scratch, layout.stride, prepare, |_, words| work(&Rows::new(words, &layout)));
    }
    RECORDS.set(lines);
}
