//! The processor as a backend: the kernels' pool behind the coarse operations; what it does not speed up is the
//! reference's. Products are in `project.rs`, attention in `attend.rs`.
//!
//! Invariant: a row's bits depend on that row alone, so nothing here sums across rows or by the number of threads. Only in
//! bf16 does attention of whole texts (`attend_tiles.rs`) take other loops than that of texts that go on.

mod attend;
mod attend_backward;
mod attend_tiles;
mod backward;
mod project;
mod rows;
mod softmax;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use pasture_kernels::linear::{self, Aligned};
use pasture_kernels::{Format, Kernels, Pool, gemm};

use crate::backend::{Backend, Group, Precision};
use crate::kv::{KvLayer, KvStorage};
use crate::ops::add::Factors;
use crate::ops::attend::{AttendGradients, AttendPlan, Attended, Attention};
use crate::ops::head::LogitRule;
use crate::ops::linear::Linear;
use crate::ops::norm::{Norm, NormGradients};
use crate::ops::project::Epilogue;
use crate::ops::rope::RopeTable;
use crate::{Activation, Layout, Tensor, Weight, reference};

/// Bytes that a worker packs or copies at once.
const CHUNK: usize = 1 << 20;

/// The processor.
pub struct Cpu {
    precision: Precision,
    pool: Arc<Pool>,
    packed: Mutex<project::PackedRows>,
}

impl Cpu {
    /// A backend over a pool of threads.
    pub fn new(pool: Arc<Pool>, precision: Precision) -> Cpu {
        Cpu { precision, pool, packed: Mutex::default() }
    }

    /// A backend over as many threads as asked for, or as this process may use: the processors it is allowed, the
    /// quota of its control group, and `OMP_NUM_THREADS` are upper limits.
    pub fn detect(threads: Option<usize>, precision: Precision) -> Cpu {
        let threads = threads.unwrap_or_else(|| {
            // The system's answer already honors affinity and the quotas of control groups.
            let allowed = std::thread::available_parallelism().map_or(1, usize::from);
            let cap = std::env::var("OMP_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
            cap.filter(|cap| *cap > 0).map_or(allowed, |cap: usize| allowed.min(cap))
        });
        Cpu::new(Arc::new(Pool::new(threads)), precision)
    }

    /// The threads that compute.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn weight<'a>(&self, format: Format, rows: usize, cols: usize, row: &(dyn Fn(usize) -> &'a [u8] + Sync)) -> Weight {
        if linear::layout_on(self.pool.kernels(), format) != Layout::Packed || rows * cols == 0 {
            return reference::weight(format, rows, cols, row);
        }
        let mut bytes = Aligned::zeroed(linear::packed_bytes(format, rows, cols));
        let panel = linear::panel_bytes(format, cols);
        let panels = (CHUNK / panel).max(1);
        self.pool.for_chunks_mut(bytes.as_mut(), panels * panel, |number, out| {
            let first = number * panels;
            linear::pack(format, rows, cols, &|at| row(at), first..first + out.len() / panel, out);
        });
        Weight::new(format, Layout::Packed, rows, cols, Arc::new(bytes))
    }

    fn layouts(&self) -> Option<&'static Kernels> {
        Some(self.pool.kernels())
    }

    fn embed(&self, table: &Weight, ids: &[u32]) -> Tensor {
        rows::map(&self.pool, ids.len(), table.cols(), |at, out| table.row_values(ids[at] as usize, out))
    }

    fn norm(&self, x: &Tensor, norm: &Norm, width: usize) -> Tensor {
        let kernels = self.pool.kernels();
        rows::map(&self.pool, x.rows(), x.cols(), |at, out| rows::norm(kernels, norm, width, x.row(at), out))
    }

    fn grouped(&self, x: &Tensor, groups: &[Group]) -> Tensor {
        if self.precision == Precision::Bf16 {
            return project::paired(self, x, groups, project::Side::Outputs, None);
        }
        project::grouped(self, x, groups)
    }

    fn grouped_input(&self, dy: &Tensor, groups: &[Group], onto: Option<Tensor>) -> Tensor {
        if self.precision == Precision::Bf16 {
            return project::paired(self, dy, groups, project::Side::Inputs, onto);
        }
        project::grouped_input(self, dy, groups, onto)
    }

    fn grouped_add(&self, x: &Tensor, groups: &[Group], scale: f32, y: &mut Tensor) {
        project::grouped_add(self, x, groups, scale, y);
    }

    fn product_beside(&self, x: &Tensor, weight: &Weight, narrow: &Tensor, other: &Weight, scale: f32) -> Tensor {
        if self.precision == Precision::Bf16 {
            return project::paired_beside(self, x, weight, (narrow, other, scale), project::Side::Outputs, None);
        }
        reference::product_beside(self, x, weight, (narrow, other, scale))
    }

    fn input_beside(&self, dy: &Tensor, weight: &Weight, beside: (&Tensor, &Weight), onto: Option<Tensor>) -> Tensor {
        if self.precision == Precision::Bf16 {
            let (narrow, other) = beside;
            return project::paired_beside(self, dy, weight, (narrow, other, 1.0), project::Side::Inputs, onto);
        }
        reference::input_beside(self, dy, weight, beside, onto)
    }

    fn outer(&self, dy: &Tensor, x: &Tensor, rows: Range<usize>, sum: &mut [f32]) {
        let (kernels, cols) = (self.pool.kernels(), x.cols());
        assert_eq!(sum.len(), dy.cols() * cols, "a gradient has the weight's shape");
        if self.precision == Precision::Bf16 {
            let [dy, x] = [dy, x].map(|it| &it.values()[rows.start * it.cols()..rows.end * it.cols()]);
            return gemm::outer(&self.pool, dy, x, rows.len(), sum);
        }
        rows::each(&self.pool, sum, cols, |output, sum| {
            rows.clone().for_each(|row| kernels.add(sum, dy.row(row)[output], x.row(row)));
        });
    }

    fn gate_backward(&self, gate: &Tensor, up: &Tensor, dy: &Tensor, activation: Activation) -> [Tensor; 2] {
        backward::gate(self, gate, up, dy, activation)
    }

    fn norm_backward(&self, x: &Tensor, dy: &Tensor, norm: &Norm, width: usize, trained: bool) -> NormGradients {
        backward::norm(&self.pool, x, dy, norm, width, trained)
    }

    fn target_logs(&self, raw: &mut Tensor, targets: &[u32], rule: LogitRule, slopes: bool) -> Vec<f64> {
        backward::target_logs(self, raw, targets, rule, slopes)
    }

    fn attend_backward(&self, past: &Attended, dy: &Tensor) -> AttendGradients {
        backward::attend(&self.pool, self.precision, past, dy)
    }

    fn rope(&self, x: &Tensor, head_dim: usize, table: &RopeTable) -> Tensor {
        let kernels = self.pool.kernels();
        rows::map_from(&self.pool, x, |at, out| rows::rope(kernels, head_dim, table, at, out))
    }

    fn activate(&self, x: &Tensor, activation: Activation) -> Tensor {
        let kernels = self.pool.kernels();
        rows::map_from(&self.pool, x, |_, out| kernels.activate(activation, out))
    }

    fn gate(&self, gate: &Tensor, up: &Tensor, activation: Activation) -> Tensor {
        let kernels = self.pool.kernels();
        let make = |at: usize, out: &mut [f32]| {
            out.copy_from_slice(gate.row(at));
            kernels.gate(activation, out, up.row(at));
        };
        match self.precision {
            Precision::Bf16 => project::made(self, gate.rows(), gate.cols(), make),
            Precision::Exact | Precision::Fast => rows::map(&self.pool, gate.rows(), gate.cols(), make),
        }
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Tensor {
        let kernels = self.pool.kernels();
        rows::map_from(&self.pool, a, |at, out| kernels.add(out, scale, b.row(at)))
    }

    fn scale(&self, x: &Tensor, factors: &Factors) -> Tensor {
        let kernels = self.pool.kernels();
        rows::map_from(&self.pool, x, |at, out| kernels.scale(out, factors.of(at)))
    }

    fn attend(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        layer: &mut KvLayer,
        plan: &AttendPlan,
        attention: &Attention,
    ) -> Tensor {
        attend::write(self.pool.kernels(), k, v, layer, plan);
        // Tiles take keys and values as they come, so not where they are stored in fewer bits.
        let plain = matches!(layer.storage, KvStorage::F32 { .. }) && plan.spans.iter().all(|span| span.start == 0);
        if self.precision == Precision::Bf16 && plain && q.cols() > 0 {
            return attend_tiles::attend(&self.pool, (q, k, v), plan, attention);
        }
        attend::attend(&self.pool, q, layer, plan, attention)
    }

    fn together(&self, pieces: &mut [&mut (dyn FnMut() + Send)]) {
        self.pool.for_chunks_mut(pieces, 1, |_, piece| piece[0]());
    }

    fn project(
        &self,
        x: &Tensor,
        norm: Option<&Norm>,
        linears: &[&Linear],
        epilogue: &Epilogue,
    ) -> Option<Vec<Tensor>> {
        (self.precision != Precision::Bf16).then(|| project::project(self, x, norm, linears, epilogue))
    }

    fn project_add(&self, x: &Tensor, linear: &Linear, scale: f32, stream: &Tensor) -> Option<Tensor> {
        (self.precision != Precision::Bf16).then(|| project::project_add(self, x, linear, scale, stream))
    }
}

#[cfg(test)]
mod tests;
