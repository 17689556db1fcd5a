//! Several adapters as one: their pairs side by side at each module, so that the sum of their products is one product.

use std::collections::{BTreeMap, BTreeSet};

use pasture_tensor::{Adapter, AdapterSite, Weight};

use super::fault;
use crate::error::Result;

/// The sum of adapters, each counting by its weight. One adapter with the weight 1 stays as it is.
///
/// # Errors
/// When an adapter with magnitudes (DoRA) should be weighed, or added to another: its sum is no low-rank pair.
pub fn combine_adapters(adapters: &[(&Adapter, f32)]) -> Result<Adapter> {
    if let [(adapter, 1.0)] = adapters {
        return Ok((*adapter).clone());
    }
    let stretched = |adapter: &Adapter| adapter.sites().values().any(|site| site.magnitude.is_some());
    if adapters.iter().any(|(adapter, _)| stretched(adapter)) {
        let what = "has \"use_dora\": such an adapter stands alone and with the weight 1; merge it first";
        return Err(fault(super::CONFIG, what));
    }
    let names: BTreeSet<&String> = adapters.iter().flat_map(|(adapter, _)| adapter.sites().keys()).collect();
    let joined = |name: &String| {
        let parts: Vec<(&AdapterSite, f32)> =
            adapters.iter().filter_map(|(adapter, weight)| Some((adapter.site(name)?, *weight))).collect();
        (name.clone(), join(&parts))
    };
    let sites: BTreeMap<String, AdapterSite> = names.into_iter().map(joined).collect();
    Ok(Adapter::new(sites))
}

/// Rows of A below each other, columns of B beside each other, with scales and weights in B.
fn join(parts: &[(&AdapterSite, f32)]) -> AdapterSite {
    let (rows, rank) = (parts[0].0.b.rows(), parts.iter().map(|(site, _)| site.a.rows()).sum());
    let a: Vec<f32> = parts.iter().flat_map(|(site, _)| site.a.values()).collect();
    let mut b = vec![0.0; rows * rank];
    let mut first = 0;
    for (site, weight) in parts {
        let own = site.b.cols();
        for (row, values) in site.b.values().chunks_exact(own).enumerate() {
            let out = &mut b[row * rank + first..][..own];
            out.iter_mut().zip(values).for_each(|(out, value)| *out = value * site.scale * weight);
        }
        first += own;
    }
    let cols = parts[0].0.a.cols();
    AdapterSite::new(Weight::from_values(rank, cols, &a), Weight::from_values(rows, rank, &b), 1.0)
}
