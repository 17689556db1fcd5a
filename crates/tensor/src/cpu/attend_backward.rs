//! Attention's gradient in bf16 tiles: one head of keys of one sequence by one thread, blocks of queries over the keys that
//! any of them sees. Scores, softmax and sums are f32.
//!
//! Invariant: blocks of queries follow each other in order, so the bits do not depend on the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use pasture_kernels::Kernels;
use pasture_kernels::gemm::small::{Columns, Rows, View, multiply, steps};

use super::attend_tiles::{self, BLOCK, powers, scores, view, visible_of};
use super::rows;
use crate::Tensor;
use crate::ops::attend::{Attended, Attention, HeadGradients, Part};

/// The keys and values of one head, packed for the products that they are in.
#[derive(Default)]
struct Keys {
    /// Keys as columns of the scores, and values as columns of the slopes.
    turned: [Columns; 2],
    /// Keys as rows along k.
    rows: Columns,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory of one thread that lasts between dispatches.
#[derive(Default)]
struct Scratch {
    keys: Keys,
    rows: Rows,
    columns: Columns,
    /// Shares, then what passes through the scores.
    shares: Vec<f32>,
    slopes: Vec<f32>,
}

/// All heads of queries that share head `kv` of keys, over a sequence's rows.
pub(super) fn group(kernels: &Kernels, past: &Attended, dy: &Tensor, span: &Range<usize>, kv: usize) -> HeadGradients {
    let (dim, shared) = (past.attention.head_dim, past.attention.heads / past.attention.kv_heads);
    let of = kv * dim..(kv + 1) * dim;
    let mut scratch = SCRATCH.take();
    let keys = &mut scratch.keys;
    keys.turned[0].turn(kernels, view(&past.k, span, of.clone()));
    keys.turned[1].turn(kernels, view(&past.v, span, of.clone()));
    keys.rows.pack(kernels, view(&past.k, span, of));
    let mut found = HeadGradients {
        q: (0..shared).map(|_| Part::zeros(span, dim)).collect(),
        k: Part::zeros(span, dim),
        v: Part::zeros(span, dim),
        sinks: vec![0.0; shared],
    };
    for at in 0..shared {
        for first in span.clone().step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(span.end);
            block(kernels, past, dy, (span, &rows), (kv * shared + at, at), &mut found, &mut scratch);
        }
    }
    SCRATCH.set(scratch);
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
    found: &mut HeadGradients,
    scratch: &mut Scratch,
) {
    let (attention, dim) = (&past.attention, past.attention.head_dim);
    let visible = &past.visible[rows.clone()];
    let Some(seen) = attend_tiles::seen(visible) else { return };
    let (width, of) = (seen.len(), head * dim..(head + 1) * dim);
    let (queries, dy) = (view(&past.q, rows, of.clone()), view(dy, rows, of));
    let Scratch { keys, rows: side, columns, shares, slopes } = scratch;
    shares.resize(rows.len() * width, 0.0);
    slopes.resize(rows.len() * width, 0.0);
    let whole = steps(&(0..dim));
    side.pack(kernels, queries);
    multiply(kernels, side, (&keys.turned[0], seen.clone(), whole.clone()), (shares, width), false);
    side.pack(kernels, dy);
    multiply(kernels, side, (&keys.turned[1], seen.clone(), whole), (slopes, width), false);
    let lines = shares.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
    for ((shares, slopes), visible) in lines.zip(visible) {
        let [shares, slopes] = [shares, slopes].map(|line| visible_of(line, visible, &seen));
        found.sinks[at] += through_softmax(kernels, attention, head, shares, slopes);
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

/// Turns a row's visible products into its shares, and the slopes of its shares into those of its products. Returns the
/// gradient of the head's sink.
fn through_softmax(
    kernels: &Kernels,
    attention: &Attention,
    head: usize,
    shares: &mut [f32],
    slopes: &mut [f32],
) -> f32 {
    if shares.is_empty() {
        return 0.0;
    }
    scores(kernels, attention, shares);
    let slope = |score: &f32| attention.softcap.map_or(1.0, |cap| 1.0 - (score / cap) * (score / cap));
    let capped = attention.softcap.map(|_| shares.iter().map(slope).collect::<Vec<f32>>());
    let (sum, own) = powers(kernels, attention, head, shares);
    kernels.scale(shares, 1.0 / sum);
    let mean = rows::dot_above(0.0, shares, slopes);
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
    use crate::ops::attend::{AttendPlan, AttendSpan};
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

    /// Attention as it is defined, in f64.
    fn plain(past: &Attended) -> Tensor {
        let Attention { heads, kv_heads, head_dim: dim, scale, softcap, ref sinks } = past.attention;
        let mut out = Tensor::zeros(past.q.rows(), past.q.cols());
        for (span, row) in past.spans.iter().flat_map(|span| span.clone().map(move |row| (span, row))) {
            for head in 0..heads {
                let (of, kv) = (head * dim, head / (heads / kv_heads) * dim);
                let part = |it: &Tensor, row: usize, at: usize| {
                    it.row(row)[at..at + dim].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
                };
                let query = part(&past.q, row, of);
                let power = |key: usize| {
                    let product: f64 = query.iter().zip(part(&past.k, key, kv)).map(|(a, b)| a * b).sum();
                    let score = product * f64::from(scale);
                    softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()).exp()
                };
                let keys = || past.visible[row].clone().map(|key| span.start + key);
                let sink = sinks.as_ref().map_or(0.0, |sinks| f64::from(sinks.values()[head]).exp());
                let sum = keys().map(power).sum::<f64>() + sink;
                for key in keys() {
                    let out = &mut out.row_mut(row)[of..of + dim];
                    let values = part(&past.v, key, kv);
                    out.iter_mut().zip(values).for_each(|(out, value)| *out += (power(key) / sum * value) as f32);
                }
            }
        }
        out
    }

    fn assert_near(found: &[f32], expected: &[f32], what: &str) {
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
        let off = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
        let size = square(&mut expected.iter().copied());
        assert!((off / size.max(1e-9)).sqrt() < 1.5e-2, "{what}: {off} of {size}");
    }

    #[test]
    fn attention_and_its_gradients_in_tiles_are_those_of_plain_loops_but_for_rounding() {
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
            let (plain, expected) = (plain(&past), reference::attend_backward(&past, &dy));
            for kernels in Kernels::all() {
                let pool = std::sync::Arc::new(pasture_kernels::Pool::with_kernels(2, kernels));
                let spans: Vec<AttendSpan> =
                    past.spans.iter().map(|span| AttendSpan { rows: span.clone(), start: 0, pages: &[] }).collect();
                let plan = AttendPlan { spans, visible: past.visible.clone() };
                let seen = attend_tiles::attend(&pool, (&past.q, &past.k, &past.v), &plan, &past.attention);
                assert_near(seen.values(), plain.values(), &format!("{} {window}", kernels.name()));
                let found = Cpu::new(pool, Precision::Bf16).attend_backward(&past, &dy);
                let of = |it: &crate::ops::attend::AttendGradients| {
                    [it.q.values().to_vec(), it.k.values().to_vec(), it.v.values().to_vec(), it.sinks.clone()]
                };
                for (part, (found, expected)) in of(&found).iter().zip(&of(&expected)).enumerate() {
                    assert_near(found, expected, &format!("{} {window} {part}", kernels.name()));
                }
            }
        }
    }
}
