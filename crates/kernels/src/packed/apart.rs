//! Panels taken apart: codes as bytes and factors as f32, so that many tokens share the work of unpacking them.

use std::marker::PhantomData;

use super::{Block, Codes, Group, Lanes};
use crate::linear::PANEL;

/// Words of 16 rows: a line of a group.
const LINE: usize = 4 * PANEL;

/// A format's panel taken apart: for 32 columns eight lines of codes, then the scales and the minima.
pub(super) struct Apart<C>(PhantomData<C>);

impl<C: Codes> Apart<C> {
    /// The line of the first factors of both halves, which may be the same.
    const SCALES: [usize; 2] = [8, 8 + C::HALVES as usize];
    const MINIMA: [usize; 2] = [Self::SCALES[1] + 1, Self::SCALES[1] + 1 + C::HALVES as usize];
}

impl<C: Codes> Codes for Apart<C> {
    const COLS: usize = 32;
    const BYTES: usize = LINE * if C::MINIMA { Self::MINIMA[1] + 1 } else { Self::SCALES[1] + 1 };
    const HALVES: bool = C::HALVES;
    const MINIMA: bool = C::MINIMA;
    const ZERO: Option<u32> = C::ZERO;
    const LARGEST: usize = C::LARGEST;
    type Head<L: Lanes> = ();

    #[inline(always)]
    unsafe fn head<L: Lanes>(_block: Block<L>) {}

    #[inline(always)]
    unsafe fn group<L: Lanes>(block: Block<L>, _head: &(), _group: usize) -> Group<L> {
        let lanes = block.lanes;
        // SAFETY: the caller's promise; every line is inside the block.
        let factor = |line: usize| lanes.as_floats(unsafe { block.load(LINE * line) });
        let mut codes = [lanes.word(0); 8];
        for (line, codes) in codes.iter_mut().enumerate() {
            // SAFETY: as above.
            *codes = unsafe { block.load(LINE * line) };
        }
        let minima = if C::MINIMA { Self::MINIMA.map(factor) } else { [lanes.splat(0.0); 2] };
        Group { codes, scales: Self::SCALES.map(factor), minima }
    }
}

/// f32s (and words in their place) of 32 columns of a panel that is taken apart; none where that does not pay: it does
/// where a block of 256 columns has its codes' bits in two places or two factors for a group, and with any such block
/// where two panels are multiplied at once (docs/log.md).
pub(super) fn words<C: Codes>(two: bool) -> Option<usize> {
    let pays = C::HALVES || (C::COLS == 256 && (two || C::LARGEST == 31));
    pays.then_some(Apart::<C>::BYTES / size_of::<f32>())
}

/// Takes a packed panel apart. To be inlined where the features of `L` are on.
#[inline(always)]
pub(crate) fn take<L: Lanes, C: Codes>(lanes: L, panel: &[u8], cols: usize, out: &mut [f32]) {
    let words = Apart::<C>::BYTES / size_of::<f32>();
    assert!(cols.is_multiple_of(C::COLS) && panel.len() == cols / C::COLS * C::BYTES, "a panel of {cols} columns");
    assert_eq!(out.len(), cols / 32 * words, "a panel taken apart");
    for (block, out) in panel.chunks_exact(C::BYTES).zip(out.chunks_exact_mut(C::COLS / 32 * words)) {
        for part in 0..PANEL / L::ROWS {
            let block = Block { lanes, bytes: block.as_ptr(), part };
            // SAFETY: the block is whole.
            let head = unsafe { C::head(block) };
            for (at, out) in out.chunks_exact_mut(words).enumerate() {
                // SAFETY: as above.
                let group = unsafe { C::group(block, &head, at) };
                let mut put =
                    |line: usize, floats| lanes.store(&mut out[line * PANEL + part * L::ROWS..][..L::ROWS], floats);
                group.codes.into_iter().enumerate().for_each(|(line, codes)| put(line, lanes.as_floats(codes)));
                for half in 0..1 + usize::from(C::HALVES) {
                    put(Apart::<C>::SCALES[half], group.scales[half]);
                    if C::MINIMA {
                        put(Apart::<C>::MINIMA[half], group.minima[half]);
                    }
                }
            }
        }
    }
}
