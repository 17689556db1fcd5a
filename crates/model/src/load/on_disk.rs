//! Experts that stay on disk: each slot is found and its shape compared as for the others, but only its place is kept.

use std::sync::Arc;

use pasture_files::extent::Extents;

use super::parts::{Found, Parts};
use super::shape::SlotShape;
use crate::error::{Error, Result};
use crate::expert_cache::{ExpertCache, ExpertOnDisk, LinearOnDisk, OnDisk, StoredOrder};
use crate::names::{Order, Part, Place, Stored};
use crate::sites::Kind;
use crate::spec::{ExpertsSpec, MixerSpec, Spec};

/// What the experts of all layers share.
pub(crate) struct Disk {
    pub(super) cache: Arc<ExpertCache>,
    extents: Extents,
}

impl Disk {
    /// None where experts come into memory like all weights.
    pub(super) fn new(spec: &Spec, bytes_max: Option<u64>) -> Result<Option<Disk>> {
        let Some(bytes_max) = bytes_max else { return Ok(None) };
        let mixture = |mixer: &MixerSpec| matches!(mixer, MixerSpec::Experts(_));
        if !spec.layers.iter().flatten().any(|branch| mixture(&branch.mixer)) {
            return Err(Error::ExpertCache {
                what: "this model has none, so an expert cache has no effect".to_owned(),
            });
        }
        Ok(Some(Disk { cache: Arc::new(ExpertCache::new(bytes_max)), extents: Extents::default() }))
    }
}

impl Parts<'_> {
    /// A layer's experts where they stay on disk.
    pub(super) fn experts_on_disk(&mut self, it: &ExpertsSpec, layer: usize) -> Result<Option<OnDisk>> {
        let Some(cache) = self.disk.as_ref().map(|disk| disk.cache.clone()) else { return Ok(None) };
        let (spec, slots) = (&it.expert, it.expert.slots);
        let hidden = self.spec.hidden;
        let mut experts = Vec::with_capacity(it.experts);
        for expert in 0..it.experts {
            let mut one =
                |slot, rows, cols| self.linear_on_disk(Place::expert(slot, layer, expert), rows, cols, spec.bias);
            let gate = spec.gated.then(|| one(slots.gate, spec.width, hidden)).transpose()?;
            let (up, down) = (one(slots.up, spec.width, hidden)?, one(slots.down, hidden, spec.width)?);
            let found = ExpertOnDisk { gate, up, down };
            let (bytes, limit) = (found.bytes(), cache.bytes_max());
            if bytes > limit {
                let what = format!("one has {bytes} bytes, and the expert cache of {limit} does not hold it");
                return Err(Error::ExpertCache { what });
            }
            experts.push(found);
        }
        Ok(Some(OnDisk { layer, experts, cache }))
    }

    fn linear_on_disk(&mut self, place: Place, rows: usize, cols: usize, bias: bool) -> Result<LinearOnDisk> {
        let found = self.find(place, Part::Weight, SlotShape { rows, cols: Some(cols) })?;
        let refused = |what: &str| Error::ExpertCache { what: format!("tensor {:?} {what}", found.name) };
        if found.joined.is_some() {
            return Err(refused("is put together from codes and scales that lie apart"));
        }
        let disk = self.disk.as_mut().expect("the caller has one");
        let extent = disk.extents.of(self.tensors, &found.name)?;
        let extent = extent.ok_or_else(|| refused("does not lie in a safetensors or GGUF file as it is needed"))?;
        let (bytes, order) =
            place_of(&found, rows, cols).ok_or_else(|| refused("is stored in blocks along its outputs"))?;
        let format = found.format;
        self.finish(&found.name, format.row_bytes(cols) * rows);
        let bias = if bias { Some(self.parameter_vector(place, Part::Bias, rows)?) } else { None };
        let site = self.site(place, rows, cols, Kind::Expert);
        Ok(LinearOnDisk { extent, format, rows, cols, bytes, order, bias, site })
    }
}

/// The bytes of the tensor that hold the slot, and how its rows lie in them; none where they cannot be turned.
fn place_of(found: &Found, rows: usize, cols: usize) -> Option<(std::ops::Range<u64>, StoredOrder)> {
    let (format, source) = (found.format, &found.source);
    let (picked, places) = source.picked(rows);
    if matches!(found.row.stored, Stored::Plain | Stored::Stacked) {
        let row_bytes = format.row_bytes(cols) as u64;
        let bytes = places.start as u64 * row_bytes..places.end as u64 * row_bytes;
        let order = if found.row.order == Order::Plain { StoredOrder::Rows } else { StoredOrder::Picked(picked) };
        return Some((bytes, order));
    }
    if format.block() != 1 {
        return None;
    }
    let (size, total) = (format.block_bytes(), source.total);
    let matrix = (cols * total * size) as u64;
    let first = source.stack as u64 * matrix;
    let columns = (0..rows).map(|row| source.within(row) as u32).collect();
    Some((first..first + matrix, StoredOrder::Turned { total, size, columns }))
}
