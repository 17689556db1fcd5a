//! Attention's gradient in bf16 tiles: one head of keys of one sequence by one thread, blocks of queries over the keys that
//! any of them sees. Scores, softmax and sums are f32.
//!
//! Invariant: blocks of queries follow each other in order, so the bits do not depend on the number of threads.

use std::ops::Range;

use pasture_kernels::Kernels;
use pasture_kernels::elementwise::Activation;
use pasture_kernels::gemm::small::{Columns, Rows, View, multiply, steps};

use crate::Tensor;
use crate::ops::attend::{Attended, Attention, HeadGradients, Part, dot};

/// Queries of a block.
const BLOCK: usize = 64;

/// Keys begin at a whole panel.
const PANEL: usize = 16;

/// The keys and values of one head, packed for the products that they are in.
#[derive(Default)]
struct Keys {
    /// Keys as columns of the scores, and values as columns of the slopes.
    turned: [Columns; 2],
    /// Keys as rows along k.
    rows: Columns,
}

/// Memory of one head's walk.
#[derive(Default)]
struct Scratch {
    rows: Rows,
    columns: Columns,
    /// Shares, then what passes through the scores.
    shares: Vec<f32>,
    slopes: Vec<f32>,
}

fn view<'a>(tensor: &'a Tensor, rows: &Range<usize>, cols: Range<usize>) -> View<'a> {
    let values = &tensor.values()[rows.start * tensor.cols() + cols.start..];
    View { values, stride: tensor.cols(), rows: rows.len(), cols: cols.len() }
}

/// All heads of queries that share head `kv` of keys, over a sequence's rows.
pub(super) fn group(kernels: &Kernels, past: &Attended, dy: &Tensor, span: &Range<usize>, kv: usize) -> HeadGradients {
    let (dim, shared) = (past.attention.head_dim, past.attention.heads / past.attention.kv_heads);
    let of = kv * dim..(kv + 1) * dim;
    let mut keys = Keys::default();
    keys.turned[0].turn(kernels, view(&past.k, span, of.clone()));
    keys.turned[1].turn(kernels, view(&past.v, span, of.clone()));
    keys.rows.pack(kernels, view(&past.k, span, of));
    let mut found = HeadGradients {
        q: (0..shared).map(|_| Part::zeros(span, dim)).collect(),
        k: Part::zeros(span, dim),
        v: Part::zeros(span, dim),
        sinks: vec![0.0; shared],
    };
    let mut scratch = Scratch::default();
    for at in 0..shared {
        for first in span.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(span.end);
            block(kernels, past, dy, (span, &rows), (kv * shared + at, at), &keys, &mut found, &mut scratch);
        }
    }
    found
}

/// Some rows of one head of queries. With `p` the softmax of the scores: `dv += pᵀ dy`, `dp = dy vᵀ`,
/// `ds = p · (dp - Σ p dp)`, `dq = ds k`, `dk += dsᵀ q`.
#[allow(clippy::too_many_arguments)]
fn block(
    kernels: &Kernels,
    past: &Attended,
    dy: &Tensor,
    (span, rows): (&Range<usize>, &Range<usize>),
    (head, at): (usize, usize),
    keys: &Keys,
    found: &mut HeadGradients,
    scratch: &mut Scratch,
) {
    let (attention, dim) = (&past.attention, past.attention.head_dim);
    let visible = &past.visible[rows.clone()];
    let seen = visible.iter().filter(|range| !range.is_empty());
    let (low, high) = seen.fold((usize::MAX, 0), |(low, high), range| (low.min(range.start), high.max(range.end)));
    if high == 0 {
        return;
    }
    let seen = low / PANEL * PANEL..high;
    let (width, of) = (seen.len(), head * dim..(head + 1) * dim);
    let (queries, dy) = (view(&past.q, rows, of.clone()), view(dy, rows, of));
    let Scratch { rows: side, columns, shares, slopes } = scratch;
    shares.resize(rows.len() * width, 0.0);
    slopes.resize(rows.len() * width, 0.0);
    let whole = steps(&(0..dim));
    side.pack(kernels, queries);
    multiply(kernels, side, (&keys.turned[0], seen.clone(), whole.clone()), (shares, width), false);
    side.pack(kernels, dy);
    multiply(kernels, side, (&keys.turned[1], seen.clone(), whole), (slopes, width), false);
    let lines = shares.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
    for ((shares, slopes), range) in lines.zip(visible) {
        let range = range.start.saturating_sub(seen.start)..range.end.saturating_sub(seen.start);
        found.sinks[at] += through_softmax(kernels, attention, head, &range, shares, slopes);
    }
    let square = |values| View { values, stride: width, rows: rows.len(), cols: width };
    let (all, few) = (0..dim, steps(&(0..rows.len())));
    let into = |part: &mut Part| seen.start * dim..(part.values.len()).min(seen.end * dim);
    side.turn(kernels, square(shares));
    columns.pack(kernels, dy);
    let place = into(&mut found.v);
    multiply(kernels, side, (columns, all.clone(), few.clone()), (&mut found.v.values[place], dim), true);
    side.turn(kernels, square(slopes));
    columns.pack(kernels, queries);
    let place = into(&mut found.k);
    multiply(kernels, side, (columns, all.clone(), few), (&mut found.k.values[place], dim), true);
    side.pack(kernels, square(slopes));
    let out = &mut found.q[at].values[(rows.start - span.start) * dim..(rows.end - span.start) * dim];
    multiply(kernels, side, (&keys.rows, all, steps(&seen)), (out, dim), false);
}

/// Turns a row's products into its shares, and the slopes of its shares into those of its products; zeros outside of the
/// visible range. Returns the gradient of the head's sink.
fn through_softmax(
    kernels: &Kernels,
    attention: &Attention,
    head: usize,
    visible: &Range<usize>,
    shares: &mut [f32],
    slopes: &mut [f32],
) -> f32 {
    for line in [&mut *shares, &mut *slopes] {
        line[..visible.start].fill(0.0);
        line[visible.end.max(visible.start)..].fill(0.0);
    }
    if visible.is_empty() {
        return 0.0;
    }
    let (shares, slopes) = (&mut shares[visible.clone()], &mut slopes[visible.clone()]);
    kernels.scale(shares, attention.scale);
    let capped = attention.softcap.map(|cap| {
        kernels.activate(Activation::SoftCap(cap), shares);
        shares.iter().map(|score| 1.0 - (score / cap) * (score / cap)).collect::<Vec<f32>>()
    });
    let sink = attention.sinks.as_ref().map(|sinks| sinks.values()[head]);
    let largest = kernels.maximum(shares).max(sink.unwrap_or(f32::NEG_INFINITY));
    let own = sink.map_or(0.0, |sink| (sink - largest).exp());
    let sum = kernels.exp_sum(shares, largest) + own;
    kernels.scale(shares, 1.0 / sum);
    let mean = dot(shares, slopes);
    for (slope, share) in slopes.iter_mut().zip(&*shares) {
        *slope = attention.scale * share * (*slope - mean);
    }
    if let Some(capped) = capped {
        kernels.multiply(slopes, &capped);
    }
    -own / sum * mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::{Backend, Cpu, Precision, Vector};

    /// Numbers in -1..1 that look random and are the same everywhere.
    fn numbers(rows: usize, cols: usize, seed: u32) -> Tensor {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        Tensor::new(rows, cols, (0..rows * cols).map(|_| next()).collect())
    }

    #[test]
    fn gradients_in_tiles_are_those_of_the_plain_loops_but_for_rounding() {
        for (heads, kv_heads, dim, softcap, sinks, window) in
            [(4, 2, 16, None, false, 999), (2, 2, 24, Some(2.0), true, 40), (3, 1, 8, None, true, 1)]
        {
            // Sequences longer than a block, shorter than a panel, and one whose rows all see each other.
            let spans = [0..150, 150..157, 157..200];
            let visible = spans.iter().flat_map(|span| {
                let len = span.len();
                (0..len).map(move |at| if len == 43 { 0..43 } else { (at + 1_usize).saturating_sub(window)..at + 1 })
            });
            let sinks = sinks.then(|| Vector::new((0..heads).map(|head| head as f32 * 0.5).collect()));
            let attention = Attention { heads, kv_heads, head_dim: dim, scale: 0.3, softcap, sinks };
            let (q, k, v) =
                (numbers(200, heads * dim, 1), numbers(200, kv_heads * dim, 2), numbers(200, kv_heads * dim, 3));
            let past = Attended { q, k, v, spans: spans.to_vec(), visible: visible.collect(), attention };
            let dy = numbers(200, heads * dim, 4);
            let expected = reference::attend_backward(&past, &dy);
            for kernels in Kernels::all() {
                let pool = std::sync::Arc::new(pasture_kernels::Pool::with_kernels(2, kernels));
                let found = Cpu::new(pool, Precision::Bf16).attend_backward(&past, &dy);
                let of = |it: &crate::ops::attend::AttendGradients| {
                    [it.q.values().to_vec(), it.k.values().to_vec(), it.v.values().to_vec(), it.sinks.clone()]
                };
                for (part, (found, expected)) in of(&found).iter().zip(&of(&expected)).enumerate() {
                    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
                    let off = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
                    let size = square(&mut expected.iter().copied());
                    assert!(
                        (off / size.max(1e-9)).sqrt() < 1.5e-2,
                        "{} {window} {part}: {off} of {size}",
                        kernels.name()
                    );
                }
            }
        }
    }
}
