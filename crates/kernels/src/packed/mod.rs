//! Packed block formats times 8-bit activations: the loops and the formats, written once over the vectors of an
//! instruction set ([`Lanes`]).
//!
//! A format says how its codes, scales and minima come out of a packed block ([`Codes`]). Invariant: a (row, token)
//! pair sums its blocks in order in its own accumulator, at every tile width; so it has the same bits on every set.

mod apart;
mod blocks;
mod lanes;
mod operations;
mod super_blocks;

pub(crate) use apart::take;
pub(crate) use lanes::Lanes;
pub(crate) use operations::{compiled, operations};

use crate::Format;
use crate::linear::{Apart, CodeLayout, PANEL, PackedKernels, Rows, Section, TOKENS, Tile, TileKernels};

/// How far ahead of the weights at work the nearest cache is asked for them, in bytes.
const NEAR: usize = 2 << 10;

/// How far ahead the cache behind it is asked, in bytes: it can wait for more lines at once than the nearest one, and
/// what it has in time the nearest one gets in time.
const FAR: usize = 8 << 10;

/// A block of 16 rows, and which of their parts is at work: rows `part · L::ROWS ..`.
#[derive(Clone, Copy)]
pub(crate) struct Block<L> {
    lanes: L,
    bytes: *const u8,
    part: usize,
}

/// 32 columns of some rows.
#[derive(Clone, Copy)]
pub(crate) struct Group<L: Lanes, W = <L as Lanes>::Words> {
    /// Unsigned codes: four columns of each row in a vector. Or as products take them.
    codes: [W; 8],
    /// The factor of the first and the last 16 columns' codes; equal where a format has one for all 32.
    scales: [L::Floats; 2],
    /// What is taken away from each value, likewise.
    minima: [L::Floats; 2],
}

impl<L: Lanes> Group<L> {
    /// The codes as products take them. Written out: a loop would go through memory.
    #[inline(always)]
    fn ready<C: Codes>(self, lanes: L) -> Group<L, L::Ready> {
        let [a, b, c, d, e, f, g, h] = self.codes;
        let (a, b, c, d) = (lanes.ready::<C>(a), lanes.ready::<C>(b), lanes.ready::<C>(c), lanes.ready::<C>(d));
        let (e, f, g, h) = (lanes.ready::<C>(e), lanes.ready::<C>(f), lanes.ready::<C>(g), lanes.ready::<C>(h));
        Group { codes: [a, b, c, d, e, f, g, h], scales: self.scales, minima: self.minima }
    }
}

/// A packed format. A value is `scale · (code - zero) - minimum`.
pub(crate) trait Codes {
    /// Columns of a block.
    const COLS: usize;
    /// Bytes of a block of 16 rows.
    const BYTES: usize;
    /// Scales (and minima) belong to 16 columns, not to 32.
    const HALVES: bool;
    /// There are minima.
    const MINIMA: bool;
    /// The power of two that is the code of zero; none where code zero is zero.
    const ZERO: Option<u32>;
    /// The largest code; where zero is 128, how far the farthest code is from it.
    const LARGEST: usize;
    /// What all groups of a block need.
    type Head<L: Lanes>: Copy;

    /// # Safety
    /// `block` points to [`Codes::BYTES`] readable bytes.
    unsafe fn head<L: Lanes>(block: Block<L>) -> Self::Head<L>;

    /// Columns `32 · group ..` of the block.
    ///
    /// # Safety
    /// As for [`Codes::head`].
    unsafe fn group<L: Lanes>(block: Block<L>, head: &Self::Head<L>, group: usize) -> Group<L>;
}

/// The loops as an instruction set compiles them.
pub(crate) trait Compiled {
    /// Packed panels times the 8-bit section of each record.
    fn tiles<C: Codes>() -> TileKernels;
    /// A packed panel to `[cols][16]` f32.
    fn decode<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]);
    /// A packed panel taken apart ([`apart`]).
    fn take<C: Codes>(panel: &[u8], cols: usize, out: &mut [f32]);
}

/// What a set has for a block format.
pub(crate) fn kernels<S: Compiled>(format: Format) -> Option<PackedKernels> {
    Some(match format {
        Format::Q8_0 => of::<S, blocks::Q8_0>(),
        Format::Q4_0 => of::<S, blocks::Q4_0>(),
        Format::Q4_1 => of::<S, blocks::Q4_1>(),
        Format::Q5_0 => of::<S, blocks::Q5_0>(),
        Format::Q5_1 => of::<S, blocks::Q5_1>(),
        Format::IQ4_NL => of::<S, blocks::IQ4_NL>(),
        Format::MXFP4 => of::<S, blocks::MXFP4>(),
        Format::Q2_K => of::<S, super_blocks::Q2_K>(),
        Format::Q3_K => of::<S, super_blocks::Q3_K>(),
        Format::Q4_K => of::<S, super_blocks::Q4_K>(),
        Format::Q5_K => of::<S, super_blocks::Q5_K>(),
        Format::Q6_K => of::<S, super_blocks::Q6_K>(),
        Format::IQ4_XS => of::<S, super_blocks::IQ4_XS>(),
        _ => return None,
    })
}

fn of<S: Compiled, C: Codes>() -> PackedKernels {
    let (tiles, apart) = (S::tiles::<C>(), S::tiles::<apart::Apart<C>>);
    let words = apart::words::<C>(tiles.two.is_some());
    let apart = words.map(|words| Apart { take: S::take::<C>, words, tiles: apart() });
    PackedKernels { fast: (tiles, Section::Codes), apart, exact: None, decode: Some(S::decode::<C>) }
}

/// A packed panel times the 8-bit section of each record. To be inlined where the features of `L` are on.
#[inline(always)]
pub(crate) fn one<L: Lanes, C: Codes>(lanes: L, panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    match tokens {
        1 => multiply::<L, C, 1, 1>(lanes, [panel], rows, [tile]),
        2 => multiply::<L, C, 2, 1>(lanes, [panel], rows, [tile]),
        3 => multiply::<L, C, 3, 1>(lanes, [panel], rows, [tile]),
        4 => multiply::<L, C, 4, 1>(lanes, [panel], rows, [tile]),
        5..=8 => multiply::<L, C, 8, 1>(lanes, [panel], rows, [tile]),
        _ => multiply::<L, C, 16, 1>(lanes, [panel], rows, [tile]),
    }
}

/// Two packed panels likewise: a word of activations is loaded once for both.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only AVX-512 has the registers"))]
#[inline(always)]
pub(crate) fn two<L: Lanes, C: Codes>(
    lanes: L,
    panels: [&[u8]; 2],
    rows: &Rows<'_>,
    tokens: usize,
    tiles: &mut [Tile; 2],
) {
    // As many tokens as the registers hold sums of; a block of 256 columns takes too long to unpack for so few.
    match tokens {
        _ if C::COLS == 32 && C::HALVES => passes::<L, C, 4>(lanes, panels, rows, tokens, tiles),
        _ if C::COLS == 32 => passes::<L, C, 8>(lanes, panels, rows, tokens, tiles),
        ..=8 => passes::<L, C, 8>(lanes, panels, rows, tokens, tiles),
        _ => passes::<L, C, 16>(lanes, panels, rows, tokens, tiles),
    }
}

/// Two panels and `T` tokens at a time.
#[inline(always)]
fn passes<L: Lanes, C: Codes, const T: usize>(
    lanes: L,
    panels: [&[u8]; 2],
    rows: &Rows<'_>,
    tokens: usize,
    [first, second]: &mut [Tile; 2],
) {
    for start in (0..tokens).step_by(T) {
        let tiles = [&mut first[start..], &mut second[start..]];
        multiply::<L, C, T, 2>(lanes, panels, &rows.from(start), tiles);
    }
}

#[inline(always)]
fn multiply<L: Lanes, C: Codes, const T: usize, const P: usize>(
    lanes: L,
    panels: [&[u8]; P],
    rows: &Rows<'_>,
    tiles: [&mut [[f32; PANEL]]; P],
) {
    let (words, stride, cols) = (rows.section(Section::Codes), rows.layout.stride, rows.layout.cols);
    let (layout, blocks) = (CodeLayout::new(cols), cols / C::COLS);
    let whole = |panel: &&[u8]| panel.len() == blocks * C::BYTES;
    assert!(cols.is_multiple_of(C::COLS) && panels.iter().all(whole), "panels of {cols} columns");
    assert!((T - 1) * stride + layout.words <= words.len() && T <= TOKENS, "records of {T} tokens");
    let bytes = C::BYTES / (C::COLS / 32);
    // Of two panels each asks a panel further, so that what they ask for follows on without a gap.
    let far = FAR + (P - 1) * blocks * C::BYTES;
    let mut sums = L::parts([[lanes.splat(0.0); P]; T]);
    let parts = sums.as_mut();
    assert_eq!(parts.len(), PANEL / L::ROWS, "a part for each vector of a panel's rows");
    for number in 0..blocks {
        let starts = panels.map(|panel| panel.as_ptr().wrapping_add(number * C::BYTES));
        let block = |panel: usize, part| Block { lanes, bytes: starts[panel], part };
        // SAFETY: blocks below `blocks` are inside each panel, and a group's codes, scales and sums inside each of the
        // `T` records, as asserted.
        unsafe {
            let mut heads = L::parts([C::head(block(0, 0)); P]);
            let heads = heads.as_mut();
            for (part, heads) in heads.iter_mut().enumerate() {
                for (panel, head) in heads.iter_mut().enumerate() {
                    *head = C::head(block(panel, part));
                }
            }
            for at in 0..C::COLS / 32 {
                for start in starts {
                    for offset in (0..bytes).step_by(64) {
                        let line = start.wrapping_add(at * bytes + offset);
                        lanes.prefetch(line.wrapping_add(NEAR), line.wrapping_add(far));
                    }
                }
                for (part, sums) in parts.iter_mut().enumerate() {
                    // The second is not read where there is one panel.
                    let first = C::group(block(0, part), &heads[part][0], at).ready::<C>(lanes);
                    let second = match P {
                        2 => C::group(block(1, part), &heads[part][1], at).ready::<C>(lanes),
                        _ => first,
                    };
                    let groups = [&first, &second];
                    let at = number * (C::COLS / 32) + at;
                    for (first, sums) in sums.chunks_exact_mut(const { at_once::<L>(T) }).enumerate() {
                        let records = Records { first: words.as_ptr().add(first * sums.len() * stride), stride };
                        match const { at_once::<L>(T) } {
                            1 => add_groups::<L, C, 1, P>(lanes, sums, groups, records, &layout, at),
                            2 => add_groups::<L, C, 2, P>(lanes, sums, groups, records, &layout, at),
                            3 => add_groups::<L, C, 3, P>(lanes, sums, groups, records, &layout, at),
                            4 => add_groups::<L, C, 4, P>(lanes, sums, groups, records, &layout, at),
                            _ => add_groups::<L, C, 8, P>(lanes, sums, groups, records, &layout, at),
                        }
                    }
                }
            }
        }
    }
    for (panel, tile) in tiles.into_iter().enumerate() {
        for (part, sums) in parts.iter().enumerate() {
            for (sums, out) in sums.iter().zip(&mut *tile) {
                lanes.store(&mut out[part * L::ROWS..][..L::ROWS], sums[panel]);
            }
        }
    }
}

/// How many of a tile's tokens are multiplied side by side: so many that no product waits for the one before it, and no
/// more than the registers hold sums of. A divisor of the tile's tokens.
const fn at_once<L: Lanes>(tokens: usize) -> usize {
    match tokens {
        _ if !L::MANY => 1,
        ..=4 => tokens,
        _ => 8,
    }
}

/// Where the records of some tokens begin.
#[derive(Clone, Copy)]
pub(crate) struct Records {
    first: *const u32,
    /// Words from one to the next.
    stride: usize,
}

impl Records {
    /// A token's words from one on.
    ///
    /// # Safety
    /// The token has a record, and it has the word.
    #[inline(always)]
    pub(crate) unsafe fn words(self, token: usize, at: usize) -> *const u32 {
        // SAFETY: the caller's promise.
        unsafe { self.first.add(token * self.stride + at) }
    }

    /// A word of a token.
    ///
    /// # Safety
    /// As for [`Records::words`].
    #[inline(always)]
    pub(crate) unsafe fn word(self, token: usize, at: usize) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { *self.words(token, at) }
    }
}

/// A group of each panel times a group of the records of `T` tokens.
///
/// # Safety
/// There are so many records with the parts of `layout`, which has more than `at` blocks.
#[inline(always)]
unsafe fn add_groups<L: Lanes, C: Codes, const T: usize, const P: usize>(
    lanes: L,
    sums: &mut [[L::Floats; P]],
    groups: [&Group<L, L::Ready>; 2],
    records: Records,
    layout: &CodeLayout,
    at: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let float = |token: usize, at: usize| lanes.splat(f32::from_bits(records.word(token, at)));
        let mut products = [[lanes.splat(0.0); P]; T];
        let codes = [&groups[0].codes, &groups[1].codes];
        if C::HALVES {
            let halves = layout.halves + 2 * at;
            let low = lanes.dots::<C, 4, T, P>(starts::<L, C, T>(records, halves), codes, 0, (records, 8 * at));
            let high =
                lanes.dots::<C, 4, T, P>(starts::<L, C, T>(records, halves + 1), codes, 4, (records, 8 * at + 4));
            for token in 0..T {
                for panel in 0..P {
                    let product = lanes.multiply(lanes.float(low[token][panel]), groups[panel].scales[0]);
                    products[token][panel] =
                        lanes.multiply_add(lanes.float(high[token][panel]), groups[panel].scales[1], product);
                }
            }
        } else {
            let starts = starts::<L, C, T>(records, layout.sums + at);
            let all = lanes.dots::<C, 8, T, P>(starts, codes, 0, (records, 8 * at));
            for token in 0..T {
                for panel in 0..P {
                    products[token][panel] = lanes.multiply(lanes.float(all[token][panel]), groups[panel].scales[0]);
                }
            }
        }
        for (token, sums) in sums.iter_mut().enumerate().take(T) {
            let scale = float(token, layout.scales + at);
            for panel in 0..P {
                sums[panel] = lanes.multiply_add(products[token][panel], scale, sums[panel]);
            }
            if C::MINIMA {
                let of_half = |half| float(token, layout.float_halves + 2 * at + half);
                let minima =
                    if C::HALVES { [of_half(0), of_half(1)] } else { [float(token, layout.float_sums + at); 2] };
                for panel in 0..P {
                    sums[panel] = lanes.multiply_take(groups[panel].minima[0], minima[0], sums[panel]);
                    if C::HALVES {
                        sums[panel] = lanes.multiply_take(groups[panel].minima[1], minima[1], sums[panel]);
                    }
                }
            }
        }
    }
}

/// The accumulators' starts: what the codes' zero point will add, taken away. The negated sums of the activations' codes
/// are the records' words `at`.
///
/// # Safety
/// There are `T` records with that word.
#[inline(always)]
unsafe fn starts<L: Lanes, C: Codes, const T: usize>(records: Records, at: usize) -> [u32; T] {
    let mut starts = [0; T];
    match C::ZERO {
        Some(shift) if !(shift == 7 && L::SIGNED) => {
            for (token, start) in starts.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *start = unsafe { records.word(token, at) } << shift;
            }
        }
        _ => {}
    }
    starts
}

/// A packed panel to `[cols][16]` f32: exactly the values that the format's own decoder gives. To be inlined where the
/// features of `L` are on.
#[inline(always)]
pub(crate) fn decode<L: Lanes, C: Codes>(lanes: L, panel: &[u8], cols: usize, out: &mut [f32]) {
    assert!(cols.is_multiple_of(C::COLS) && panel.len() == cols / C::COLS * C::BYTES, "a panel of {cols} columns");
    assert_eq!(out.len(), cols * PANEL, "a decoded panel");
    for (block, out) in panel.chunks_exact(C::BYTES).zip(out.chunks_exact_mut(C::COLS * PANEL)) {
        for part in 0..PANEL / L::ROWS {
            decode_part::<L, C>(Block { lanes, bytes: block.as_ptr(), part }, out);
        }
    }
}

#[inline(always)]
fn decode_part<L: Lanes, C: Codes>(block: Block<L>, out: &mut [f32]) {
    let lanes = block.lanes;
    let zero = lanes.splat(C::ZERO.map_or(0.0, |shift| (1_u32 << shift) as f32));
    // SAFETY: `decode` gives whole blocks.
    let head = unsafe { C::head(block) };
    for (at, out) in out.chunks_exact_mut(32 * PANEL).enumerate() {
        // SAFETY: as above.
        let group = unsafe { C::group(block, &head, at) };
        for (col, out) in out.chunks_exact_mut(PANEL).enumerate() {
            let code = block.lanes.float(block.byte(group.codes[col / 4], col % 4));
            let half = if C::HALVES { col / 16 } else { 0 };
            let mut value = lanes.multiply(group.scales[half], lanes.subtract(code, zero));
            if C::MINIMA {
                value = lanes.subtract(value, group.minima[half]);
            }
            lanes.store(&mut out[block.part * L::ROWS..][..L::ROWS], value);
        }
    }
}
