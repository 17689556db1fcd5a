//! Attention: queries, keys and values in one dispatch, then the look at the pages. The plan of visible keys is made
//! from the mask, the rows' positions and their reach.

use std::ops::Range;

use pasture_tensor::kv::{KvFormat, PAGE};
use pasture_tensor::ops::add::Factors;
use pasture_tensor::ops::attend::{self, AttendPlan, AttendSpan};
use pasture_tensor::ops::project::{Epilogue, HeadEpilogue};
use pasture_tensor::{Linear, Norm, Ops, RopeTable, Tensor};

use super::{Mixed, Pages};
use crate::decoder::Step;
use crate::spec::{Mask, NormOver, QueryGrowth};

/// An attention's weights and shape.
pub(crate) struct Attention {
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) norms: Option<QkNorms>,
    pub(crate) shape: attend::Attention,
    pub(crate) mask: Mask,
    pub(crate) clamp: Option<f32>,
    pub(crate) growth: Option<QueryGrowth>,
    /// Which of the decoder's rotations.
    pub(crate) rope: Option<usize>,
    /// Which of the layers that keep keys and values.
    pub(crate) kv_layer: usize,
}

/// Norms of queries and keys.
pub(crate) struct QkNorms {
    pub(crate) q: Norm,
    pub(crate) k: Norm,
    pub(crate) over: NormOver,
    pub(crate) after_rope: bool,
}

impl Attention {
    pub(crate) fn mix<'m>(
        &'m self,
        ops: &mut Ops,
        x: &Tensor,
        pre: Option<&Norm>,
        step: &mut Step,
        pages: &mut Pages,
    ) -> Mixed<'m> {
        let growth = self.growth.map(|growth| Factors::Rows(step.positions().map(|at| growth.at(at)).collect()));
        let rope = self.rope.map(|rope| &step.ropes[rope]);
        let heads = vec![
            HeadEpilogue {
                factors: growth.as_ref(),
                ..self.head(rope, self.norms.as_ref().map(|norms| &norms.q), &self.q)
            },
            self.head(rope, self.norms.as_ref().map(|norms| &norms.k), &self.k),
            self.head(None, None, &self.v),
        ];
        let made = ops.project(x, pre, &[&self.q, &self.k, &self.v], &Epilogue::Heads(heads));
        let [q, k, v] = &made[..] else { unreachable!("one output for each product") };
        let y = match pages {
            Pages::Kept(kv) => {
                let (layer, tables) = kv.layer_mut(self.kv_layer);
                let plan = plan(self.mask, step, |at| tables.pages(step.batch.spans[at].sequence));
                ops.attend(q, k, v, layer, &plan, &self.shape)
            }
            Pages::Fresh => {
                let numbers = numbered(step);
                let mut layer = ops.backend().kv_layer(self.shape.kv_heads, self.shape.head_dim, KvFormat::F32);
                let count = numbers.iter().map(Vec::len).sum();
                assert!(ops.backend().kv_resize(&mut layer, count), "memory for the keys of one layer");
                ops.attend(q, k, v, &mut layer, &plan(self.mask, step, |at| &numbers[at]), &self.shape)
            }
        };
        Mixed::Product(y, &self.o)
    }

    /// What follows one of the three products.
    fn head<'h>(&self, rope: Option<&'h RopeTable>, norm: Option<&'h Norm>, linear: &Linear) -> HeadEpilogue<'h> {
        let head_dim = self.shape.head_dim;
        let (over, after_rope) = self.norms.as_ref().map_or((NormOver::Head, false), |it| (it.over, it.after_rope));
        let width = match over {
            NormOver::Head => head_dim,
            NormOver::Row => linear.weight.rows(),
        };
        let norm = norm.map(|norm| (norm, width));
        HeadEpilogue {
            head_dim,
            clamp: self.clamp,
            norm: norm.filter(|_| !after_rope),
            rope,
            late_norm: norm.filter(|_| after_rope),
            factors: None,
        }
    }
}

/// Pages for each span of a step, by number, for memory that holds nothing else.
fn numbered(step: &Step) -> Vec<Vec<u32>> {
    let mut next = 0;
    let mut take = |rows: usize| {
        let first = next;
        next += rows.div_ceil(PAGE) as u32;
        (first..next).collect()
    };
    step.batch.spans.iter().map(|span| take(span.rows.len())).collect()
}

/// The keys that each row of the step looks at.
fn plan<'p>(mask: Mask, step: &Step, pages: impl Fn(usize) -> &'p [u32]) -> AttendPlan<'p> {
    let spans = step.batch.spans.iter().enumerate().map(|(at, span)| AttendSpan {
        rows: span.rows.clone(),
        start: span.start,
        pages: pages(at),
    });
    let visible = step.batch.spans.iter().flat_map(|span| {
        let end = span.start + span.rows.len();
        span.rows.clone().map(move |row| {
            let position = span.start + row - span.rows.start;
            visible(mask, position, step.batch.reach[row], end)
        })
    });
    AttendPlan { spans: spans.collect(), visible: visible.collect() }
}

/// The positions that a row sees, of a sequence whose rows end at `end`.
fn visible(mask: Mask, position: usize, reach: usize, end: usize) -> Range<usize> {
    let above = if mask == Mask::Full { end } else { reach };
    mask.lowest(position)..above
}

impl QueryGrowth {
    /// The factor of a query.
    fn at(self, position: usize) -> f32 {
        let steps = ((position + self.shift) / self.every) as f32;
        1.0 + self.factor * (1.0 + steps).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_bounds_the_keys_below_and_the_reach_bounds_them_above() {
        for (mask, position, reach, expected) in [
            (Mask::Causal, 0, 1, 0..1),
            (Mask::Causal, 9, 10, 0..10),
            (Mask::Causal, 4, 8, 0..8),
            (Mask::Window(4), 2, 3, 0..3),
            (Mask::Window(4), 9, 10, 6..10),
            (Mask::Chunk(8), 7, 8, 0..8),
            (Mask::Chunk(8), 8, 9, 8..9),
            (Mask::Full, 3, 4, 0..20),
        ] {
            assert_eq!(visible(mask, position, reach, 20), expected, "{mask:?} at {position}");
        }
    }
}
