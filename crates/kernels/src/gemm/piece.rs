//! A piece of a result, some rows and columns of it, by one worker: tile after tile, what stands beside the product too.

use std::ops::Range;

use super::source::Source;
use super::{BLOCK, Out, PANEL, PANELS, Side, TALL, WIDE, Work, reserve};
use crate::isa::Kernels;
use crate::pool::Stripe;

/// A product whose rows' side is prepared.
#[derive(Clone, Copy)]
pub(super) struct Part<'p> {
    pub(super) work: &'p Work,
    pub(super) source: &'p Source<'p>,
    pub(super) words: &'p [u32],
}

/// Memory of one worker that lasts between dispatches.
#[derive(Default)]
pub(super) struct Scratch {
    /// Panels of a product, and of what stands beside it.
    panels: [Vec<u32>; 2],
    values: Vec<f32>,
    turned: Vec<f32>,
}

/// Where a piece's results go: a row of them is the piece's columns.
pub(super) trait Results {
    fn rows(&mut self, rows: Range<usize>) -> impl Iterator<Item = &mut [f32]>;
}

impl Results for Stripe<'_, f32> {
    fn rows(&mut self, rows: Range<usize>) -> impl Iterator<Item = &mut [f32]> {
        Stripe::rows_mut(self, rows)
    }
}

/// Rows from `first` on, with all their columns.
pub(super) struct WholeRows<'o> {
    pub(super) first: usize,
    pub(super) cols: usize,
    pub(super) values: &'o mut [f32],
}

impl Results for WholeRows<'_> {
    fn rows(&mut self, rows: Range<usize>) -> impl Iterator<Item = &mut [f32]> {
        let places = (rows.start - self.first) * self.cols..(rows.end - self.first) * self.cols;
        self.values[places].chunks_exact_mut(self.cols)
    }
}

/// A block of a part's steps: results are written or added when it has passed.
#[derive(Clone)]
struct Block<'p> {
    part: Part<'p>,
    steps: Range<usize>,
}

impl<'p> Part<'p> {
    fn blocks(self) -> impl Iterator<Item = Block<'p>> {
        let end = self.work.steps;
        (0..end).step_by(BLOCK).map(move |first| Block { part: self, steps: first..end.min(first + BLOCK) })
    }
}

/// A block's panels of some columns: as they are stored, or decoded in memory.
struct Panels<'m> {
    block: &'m Block<'m>,
    first: usize,
    count: usize,
    memory: &'m [u32],
}

impl Panels<'_> {
    /// Past the last panel its neighbor is read, and what comes of it is not used.
    fn panel(&self, number: usize) -> &[u32] {
        let (number, steps) = (number.min(self.count - 1), &self.block.steps);
        let stored = self.block.part.source.words(self.first + number, steps);
        stored.unwrap_or_else(|| &self.memory[number * steps.len() * PANEL..][..steps.len() * PANEL])
    }

    fn four(&self, first: usize) -> [&[u32]; PANELS] {
        std::array::from_fn(|at| self.panel(first + at))
    }
}

impl Block<'_> {
    /// From a row on.
    fn side(&self, row: usize) -> Side<'_> {
        let Work { row: stride, step: width, later, .. } = *self.part.work;
        Side { words: &self.part.words[row * stride + self.steps.start * width..], row: stride, step: width, later }
    }

    /// By what results are multiplied before they are added; none where they are written.
    fn adds(&self) -> Option<f32> {
        self.part.work.adds.or((self.steps.start > 0).then_some(1.0))
    }

    fn panels<'m>(
        &'m self,
        kernels: &Kernels,
        cols: &Range<usize>,
        (memory, values, turned): (&'m mut Vec<u32>, &mut Vec<f32>, &mut Vec<f32>),
    ) -> Panels<'m> {
        let (source, first, count) = (self.part.source, cols.start / PANEL, cols.len().div_ceil(PANEL));
        let memory = match source.words(first, &self.steps) {
            Some(_) => &mut [],
            None => {
                let memory = reserve(memory, count * self.steps.len() * PANEL);
                source.fill(kernels, self.steps.clone(), cols.clone(), memory, (values, turned));
                memory
            }
        };
        Panels { block: self, first, count, memory }
    }
}

/// What comes together: a block of the product, and with its last one the first of what stands beside it.
fn phases<'p>(product: Part<'p>, beside: Option<Part<'p>>) -> Vec<(Block<'p>, Option<Block<'p>>)> {
    let mut phases: Vec<_> = product.blocks().map(|block| (block, None)).collect();
    let mut beside = beside.into_iter().flat_map(Part::blocks);
    if let Some((_, also)) = phases.last_mut() {
        *also = beside.next();
    }
    phases.extend(beside.map(|block| (block, None)));
    phases
}

/// Computes some rows and columns of the result. The columns begin at a panel and, where they are a weight's inputs, at a
/// stored block.
pub(super) fn piece<R: Results>(
    kernels: &Kernels,
    (product, beside): (Part<'_>, Option<Part<'_>>),
    (rows, cols): (Range<usize>, Range<usize>),
    scratch: &mut Scratch,
    out: &mut R,
) {
    let phases = phases(product, beside);
    let width = beside.iter().map(|beside| beside.source.span()).fold(product.source.span(), usize::max);
    let span = |first: usize| first..cols.end.min(first + width);
    // A block of the rows' side meets all columns before the next one comes.
    for (number, (block, also)) in phases.iter().enumerate() {
        for first in cols.clone().step_by(width) {
            let next = match first + width < cols.end {
                true => Some((block, span(first + width))),
                false => phases.get(number + 1).map(|(next, _)| (next, span(cols.start))),
            };
            let Scratch { panels: [memory, other], values, turned } = &mut *scratch;
            let panels = block.panels(kernels, &span(first), (memory, values, turned));
            let also = also.as_ref().map(|block| block.panels(kernels, &span(first), (other, values, turned)));
            let part = first - cols.start..span(first).end - cols.start;
            tiles(kernels, [Some(&panels), also.as_ref()], (rows.clone(), part), next, out);
        }
    }
}

/// The tiles of some rows and of all columns of the panels, which are `cols` of the results.
fn tiles<R: Results>(
    kernels: &Kernels,
    panels: [Option<&Panels<'_>>; 2],
    (rows, cols): (Range<usize>, Range<usize>),
    next: Option<(&Block<'_>, Range<usize>)>,
    out: &mut R,
) {
    if cols.len() <= PANEL {
        for row in rows.clone().step_by(TALL) {
            let some = row..rows.end.min(row + TALL);
            for panels in panels.into_iter().flatten() {
                let mut parts: [&mut [f32]; TALL] = Default::default();
                let out = Out::new(&mut parts, out.rows(some.clone()), &cols, panels.block.adds());
                (kernels.pairs.tall)(panels.block.side(row), panels.panel(0), out);
            }
        }
        return;
    }
    let (groups, of_group) = (cols.len().div_ceil(PANELS * PANEL), rows.len().div_ceil(WIDE));
    // A group's block of steps stays in a near cache while all rows pass.
    for group in 0..groups {
        let four = panels.map(|panels| panels.map(|panels| (panels.block, panels.four(group * PANELS))));
        let part = cols.start + group * PANELS * PANEL..cols.end.min(cols.start + (group + 1) * PANELS * PANEL);
        for (at, row) in rows.clone().step_by(WIDE).enumerate() {
            let some = row..rows.end.min(row + WIDE);
            // While the tile is computed, a share of what the next ones read comes nearer.
            if let Some((block, cols)) = &next {
                block.part.source.fetch(&block.steps, cols, (group * of_group + at, groups * of_group));
            }
            for (block, panels) in four.iter().flatten() {
                let mut parts: [&mut [f32]; WIDE] = Default::default();
                let out = Out::new(&mut parts, out.rows(some.clone()), &part, block.adds());
                (kernels.pairs.wide)(block.side(row), *panels, out);
            }
        }
    }
}
