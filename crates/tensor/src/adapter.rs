//! Low-rank adapters beside frozen weights: `y += scale · (x Aᵀ) Bᵀ` (Hu et al., arXiv 2106.09685). Which rows of
//! a batch take which adapter is said by routes; the product itself is in `ops/linear.rs`. With a magnitude, each output
//! row of the changed weight has a length of its own (Liu et al., arXiv 2402.09353).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Backend, Vector, Weight, WeightId};

/// The low-rank pair at one tensor of the checkpoint.
#[derive(Clone)]
pub struct AdapterSite {
    /// `[rank, inputs]`.
    pub a: Weight,
    /// `[outputs, rank]`, where outputs are those of the checkpoint's whole tensor.
    pub b: Weight,
    /// `alpha / rank`, or `alpha / √rank` for rank-stabilized adapters.
    pub scale: f32,
    /// The length of each output row of `weight + scale · b · a`; none leaves the lengths as they come.
    pub magnitude: Option<Magnitude>,
    /// What training drops of the pair's inputs.
    pub dropout: Option<Dropout>,
}

/// A share of an adapter's inputs that is dropped, the rest scaled up so that the mean stays (Srivastava et al., JMLR 15).
/// Which ones follows from the seed, the row and the column alone, so that a layer that is run again drops the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share, at least 0 and below 1.
    pub share: f32,
    /// Another for each batch and site.
    pub seed: u64,
}

impl Dropout {
    /// Drops values of the row `number`.
    pub(crate) fn apply(&self, number: usize, values: &mut [f32]) {
        let scale = 1.0 / (1.0 - self.share);
        let limit = (f64::from(self.share) * (1u64 << 53) as f64) as u64;
        let row = mixed(self.seed ^ (number as u64).wrapping_mul(0xd134_2543_de82_ef95));
        for (col, value) in values.iter_mut().enumerate() {
            let drawn = mixed(row ^ (col as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11;
            *value *= if drawn < limit { 0.0 } else { scale };
        }
    }
}

/// The mixer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Lengths of output rows, trained beside the pair.
#[derive(Clone)]
pub struct Magnitude {
    /// One length per output of the checkpoint's whole tensor.
    pub lengths: Vector,
    /// The norms of the changed rows, for each weight beside which the site stands. A site with other numbers is another.
    norms: Arc<Mutex<BTreeMap<WeightId, Arc<Vec<f32>>>>>,
}

impl Magnitude {
    /// Lengths whose rows' norms are not known yet.
    pub fn new(lengths: Vector) -> Magnitude {
        Magnitude { lengths, norms: Arc::default() }
    }

    /// Lengths beside a weight whose rows' norms are taken as given, as a gradient takes them.
    #[cfg(test)]
    pub(crate) fn with_norms(lengths: Vector, weight: WeightId, norms: Vec<f32>) -> Magnitude {
        let norms = Arc::new(Mutex::new(BTreeMap::from([(weight, Arc::new(norms))])));
        Magnitude { lengths, norms }
    }
}

impl AdapterSite {
    /// A low-rank pair without a magnitude. Asserts that both share one rank.
    pub fn new(a: Weight, b: Weight, scale: f32) -> AdapterSite {
        assert_eq!(a.rows(), b.cols(), "one rank");
        AdapterSite { a, b, scale, magnitude: None, dropout: None }
    }

    /// The same pair with the lengths of its output rows.
    pub fn with_magnitude(self, lengths: Vector) -> AdapterSite {
        assert_eq!(lengths.values().len(), self.b.rows(), "a length for each output");
        AdapterSite { magnitude: Some(Magnitude::new(lengths)), ..self }
    }

    /// The same site, dropping some of its inputs.
    pub fn with_dropout(self, dropout: Dropout) -> AdapterSite {
        AdapterSite { dropout: Some(dropout), ..self }
    }

    /// Norms of the rows of `weight + scale · b[outputs] · a`, where the site has a magnitude:
    /// `‖W‖² + 2s (W·Aᵀ)·B + s² B·(A·Aᵀ)·Bᵀ`, so that the sum of both weights is never made.
    pub(crate) fn norms(
        &self,
        backend: &dyn Backend,
        weight: &Weight,
        outputs: &Range<usize>,
    ) -> Option<Arc<Vec<f32>>> {
        let magnitude = self.magnitude.as_ref()?;
        let known = || magnitude.norms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(norms) = known().get(&weight.id()) {
            return Some(norms.clone());
        }
        let norms = Arc::new(self.row_norms(backend, weight, outputs));
        known().insert(weight.id(), norms.clone());
        Some(norms)
    }

    fn row_norms(&self, backend: &dyn Backend, weight: &Weight, outputs: &Range<usize>) -> Vec<f32> {
        let (rank, scale) = (self.a.rows(), f64::from(self.scale));
        let mut a = crate::Tensor::zeros(rank, self.a.cols());
        (0..rank).for_each(|row| self.a.row_values(row, a.row_mut(row)));
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        let inner: Vec<f64> = (0..rank * rank).map(|at| dot(a.row(at / rank), a.row(at % rank))).collect();
        // `[rank, outputs]`.
        let crossed = backend.grouped(&a, &[crate::backend::Group { rows: 0..rank, weight }]);
        let mut b = vec![0.0; rank];
        let norm = |(at, squares): (usize, &f64)| {
            self.b.row_values(outputs.start + at, &mut b);
            let cross: f64 = (0..rank).map(|r| f64::from(crossed.row(r)[at]) * f64::from(b[r])).sum();
            let own =
                |r: usize| (0..rank).map(|c| inner[r * rank + c] * f64::from(b[c])).sum::<f64>() * f64::from(b[r]);
            let own: f64 = (0..rank).map(own).sum();
            (squares + 2.0 * scale * cross + scale * scale * own).max(0.0).sqrt() as f32
        };
        weight.row_squares().iter().enumerate().map(norm).collect()
    }
}

/// An adapter: one low-rank pair for each tensor of the checkpoint it changes, by that tensor's name.
#[derive(Clone)]
pub struct Adapter {
    id: u64,
    sites: BTreeMap<String, AdapterSite>,
}

impl Default for Adapter {
    /// One that changes nothing.
    fn default() -> Adapter {
        Adapter::new(BTreeMap::new())
    }
}

impl Adapter {
    /// An adapter of the given sites. Asserts that the two matrices of each site share one rank.
    pub fn new(sites: BTreeMap<String, AdapterSite>) -> Adapter {
        for (name, site) in &sites {
            assert_eq!(site.a.rows(), site.b.cols(), "rank of {name}");
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Adapter { id: NEXT.fetch_add(1, Ordering::Relaxed), sites }
    }

    /// A number that no other adapter of this program has, now or later; clones, which hold the same numbers, share it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The pair at a tensor of the checkpoint.
    pub fn site(&self, tensor: &str) -> Option<&AdapterSite> {
        self.sites.get(tensor)
    }

    /// All sites by name.
    pub fn sites(&self) -> &BTreeMap<String, AdapterSite> {
        &self.sites
    }
}

/// Rows of a batch that take an adapter.
#[derive(Clone)]
pub struct Route {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// What they take.
    pub adapter: Arc<Adapter>,
}
