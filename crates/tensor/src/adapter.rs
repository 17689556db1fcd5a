//! Low-rank adapters beside frozen weights: `y += scale · (x Aᵀ) Bᵀ` (Hu et al., arXiv 2106.09685). Which rows of
//! a batch take which adapter is said by routes; the product itself is in `ops/linear.rs`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::Weight;

/// The low-rank pair at one tensor of the checkpoint.
#[derive(Clone)]
pub struct AdapterSite {
    /// `[rank, inputs]`.
    pub a: Weight,
    /// `[outputs, rank]`, where outputs are those of the checkpoint's whole tensor.
    pub b: Weight,
    /// `alpha / rank`, or `alpha / √rank` for rank-stabilized adapters.
    pub scale: f32,
}

/// An adapter: one low-rank pair for each tensor of the checkpoint it changes, by that tensor's name.
#[derive(Clone, Default)]
pub struct Adapter {
    sites: BTreeMap<String, AdapterSite>,
}

impl Adapter {
    /// An adapter of the given sites. Asserts that the two matrices of each site share one rank.
    pub fn new(sites: BTreeMap<String, AdapterSite>) -> Adapter {
        for (name, site) in &sites {
            assert_eq!(site.a.rows(), site.b.cols(), "rank of {name}");
        }
        Adapter { sites }
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
