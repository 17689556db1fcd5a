//! Plain loops of the matrix product: preparing activations, and one panel times some tokens.

use half::bf16;

use crate::Format;
use crate::linear::{CodeLayout, Decode, PANEL, PackedKernels, Rows, Section, Tile, TileKernels};

/// Signed 8-bit codes with one scale for each 32 values, chosen so that the largest becomes 127.
pub(crate) fn quantize(x: &[f32], section: &mut [u32]) {
    assert!(x.len().is_multiple_of(32), "8-bit activations come in blocks of 32");
    let layout = CodeLayout::new(x.len());
    assert_eq!(section.len(), layout.words, "words of an 8-bit section");
    for (block, x) in x.chunks_exact(32).enumerate() {
        let codes: &mut [i8] = bytemuck::cast_slice_mut(&mut section[8 * block..8 * block + 8]);
        let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x * inverse).round_ties_even() as i8;
        }
        let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>();
        let sums = [sum(&codes[..16]), sum(&codes[16..])];
        layout.store_sums(block, largest / 127.0, sums, section);
    }
}

/// Pairs of bf16, the earlier value in the lower half.
pub(crate) fn narrow_pairs(x: &[f32], pairs: &mut [u32]) {
    for (pair, x) in pairs.iter_mut().zip(x.chunks(2)) {
        let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
        *pair = bits(x[0]) | x.get(1).map_or(0, |x| bits(*x) << 16);
    }
}

/// 16 rows of `cols` values to `[cols][16]`.
pub(crate) fn interleave(rows: &[f32], cols: usize, panel: &mut [f32]) {
    for (col, out) in panel.chunks_exact_mut(PANEL).enumerate() {
        for (row, out) in out.iter_mut().enumerate() {
            *out = rows[row * cols + col];
        }
    }
}

/// A panel `[cols][16]` of f32 times the f32 section of each record.
pub(crate) fn tile_f32(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let weights: &[[[u8; 4]; PANEL]] = bytemuck::cast_slice(panel);
    multiply(weights, rows, tokens, tile, |weights| weights.map(f32::from_le_bytes));
}

fn tile_f16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let weights: &[[[u8; 2]; PANEL]] = bytemuck::cast_slice(panel);
    multiply(weights, rows, tokens, tile, |weights| weights.map(|bytes| half::f16::from_le_bytes(bytes).to_f32()));
}

fn multiply<W>(weights: &[W], rows: &Rows<'_>, tokens: usize, tile: &mut Tile, value: impl Fn(&W) -> [f32; PANEL]) {
    let section: &[f32] = bytemuck::cast_slice(rows.section(Section::Values));
    for (token, sums) in tile[..tokens].iter_mut().enumerate() {
        *sums = [0.0; PANEL];
        let x = &section[token * rows.layout.stride..][..weights.len()];
        for (x, weights) in x.iter().zip(weights) {
            for (sum, weight) in sums.iter_mut().zip(value(weights)) {
                *sum += weight * x;
            }
        }
    }
}

/// A packed BF16 panel, `[pairs of columns][16][2]`, times the f32 section.
fn tile_bf16(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let section: &[f32] = bytemuck::cast_slice(rows.section(Section::Values));
    let value =
        |x: usize, token: usize| if x < rows.layout.cols { section[token * rows.layout.stride + x] } else { 0.0 };
    pairs(panel, tokens, tile, |pair, token| [value(2 * pair, token), value(2 * pair + 1, token)]);
}

/// A packed BF16 panel times activations that are rounded to bf16 too.
fn tile_bf16_pairs(panel: &[u8], rows: &Rows<'_>, tokens: usize, tile: &mut Tile) {
    let section = rows.section(Section::Pairs);
    let halves = |word: u32| [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)];
    pairs(panel, tokens, tile, |pair, token| halves(section[token * rows.layout.stride + pair]));
}

fn pairs(panel: &[u8], tokens: usize, tile: &mut Tile, x: impl Fn(usize, usize) -> [f32; 2]) {
    let weights: &[[[[u8; 2]; 2]; PANEL]] = bytemuck::cast_slice(panel);
    for (token, sums) in tile[..tokens].iter_mut().enumerate() {
        *sums = [0.0; PANEL];
        for (pair, weights) in weights.iter().enumerate() {
            let x = x(pair, token);
            for (sum, weight) in sums.iter_mut().zip(weights) {
                let [low, high] = weight.map(|bytes| bf16::from_le_bytes(bytes).to_f32());
                *sum += low * x[0];
                *sum += high * x[1];
            }
        }
    }
}

/// A panel of f32 as it is.
pub(crate) fn decode_f32(panel: &[u8], cols: usize, out: &mut [f32]) {
    assert_eq!(out.len(), cols * PANEL, "a decoded panel");
    out.iter_mut().zip(panel.as_chunks::<4>().0).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
}

/// A panel of f16, `[cols][16]`.
pub(crate) fn decode_f16(panel: &[u8], cols: usize, out: &mut [f32]) {
    assert_eq!(out.len(), cols * PANEL, "a decoded panel");
    let values = panel.as_chunks::<2>().0;
    out.iter_mut().zip(values).for_each(|(out, bytes)| *out = half::f16::from_le_bytes(*bytes).to_f32());
}

/// A panel of bf16, `[pairs of columns][16][2]`.
pub(crate) fn decode_bf16(panel: &[u8], cols: usize, out: &mut [f32]) {
    assert_eq!(out.len(), cols * PANEL, "a decoded panel");
    for (pairs, out) in panel.chunks_exact(4 * PANEL).zip(out.chunks_mut(2 * PANEL)) {
        let (even, odd) = out.split_at_mut(PANEL);
        for (row, pair) in pairs.as_chunks::<4>().0.iter().enumerate() {
            let word = u32::from_le_bytes(*pair);
            even[row] = f32::from_bits(word << 16);
            // The last pair may lack its odd column.
            if let Some(odd) = odd.get_mut(row) {
                *odd = f32::from_bits(word & 0xffff_0000);
            }
        }
    }
}

pub(crate) fn packed(format: Format) -> Option<PackedKernels> {
    let float = |tile, decode| {
        let tile = TileKernels::one(tile);
        PackedKernels { fast: (tile, Section::Values), apart: None, exact: Some(tile), decode: Some(decode) }
    };
    Some(match format {
        Format::F32 => float(tile_f32, decode_f32 as Decode),
        Format::F16 => float(tile_f16, decode_f16),
        Format::BF16 => PackedKernels {
            apart: None,
            fast: (TileKernels::one(tile_bf16_pairs), Section::Pairs),
            exact: Some(TileKernels::one(tile_bf16)),
            decode: Some(decode_bf16),
        },
        _ => return None,
    })
}
