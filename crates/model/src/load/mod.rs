//! From files to a model that runs. Loading is closed: every tensor of the file fills a slot or is known to be of no
//! use, every slot is filled by a tensor of its shape, or the error names what does not fit.

mod assemble;
mod joined;
mod on_disk;
mod parts;
mod prepared;
pub(crate) mod shape;
mod source;
pub(crate) mod survey;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pasture_files::Tensors;
use pasture_tensor::Backend;

use crate::config::Quantization;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::names::{self, Names, Part, Place};
use crate::sites::Sites;
use crate::spec::Spec;
pub use joined::parameters;
use parts::Parts;
use prepared::Packing;
pub use prepared::{Prepared, compare_prepared, packed_layout, prepare, prepared_bytes};
pub use source::{LoadOptions, Loaded, Source, UnknownKeys, load};
pub use survey::{Slot, Survey, survey};

/// A tensor of the file that fills no slot, and why nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Its name.
    pub tensor: String,
    /// Why it may be left out.
    pub reason: &'static str,
}

/// Fills a spec with a checkpoint's weights. `own` is the family's table; for GGUF files and original checkpoints the
/// shared ones take its place. `progress` is told the bytes read and the bytes there are.
pub fn build(
    tensors: &Tensors,
    spec: &Spec,
    own: &Names,
    backend: Arc<dyn Backend>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Decoder, Vec<Unused>)> {
    build_quantized(tensors, None, spec, own, backend, progress)
}

/// The same of a folder whose configuration says how its weights were quantized.
pub fn build_quantized(
    tensors: &Tensors,
    quantization: Option<&Quantization>,
    spec: &Spec,
    own: &Names,
    backend: Arc<dyn Backend>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Decoder, Vec<Unused>)> {
    let how = How { quantization, expert_cache: None, packing: Packing::Memory };
    build_so(tensors, how, spec, own, backend, progress)
}

/// How weights lie in the files, and which stay there.
#[derive(Clone, Copy)]
pub(crate) struct How<'a> {
    pub(crate) quantization: Option<&'a Quantization>,
    /// Bytes of experts in memory, where they stay on disk.
    pub(crate) expert_cache: Option<u64>,
    /// Whether weights come out of a file of packed ones, or go into one.
    pub(crate) packing: Packing<'a>,
}

pub(crate) fn build_so(
    tensors: &Tensors,
    how: How,
    spec: &Spec,
    own: &Names,
    backend: Arc<dyn Backend>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Decoder, Vec<Unused>)> {
    joined::refuse_foreign(tensors, how.quantization)?;
    let shared = shared_names(tensors, own);
    let total = tensors.names().filter_map(|name| tensors.byte_count(name)).sum();
    let mut parts = Parts {
        tensors,
        quantization: how.quantization,
        disk: on_disk::Disk::new(spec, how.expert_cache)?,
        names: shared.as_ref().unwrap_or(own),
        own,
        spec,
        backend: &*backend,
        packing: how.packing,
        progress,
        done: 0,
        total,
        used: HashSet::new(),
        aside: Vec::new(),
        norms: HashMap::new(),
        sites: Sites::default(),
        parameters: Vec::new(),
        survey: None,
        fresh: false,
    };
    let decoder = assemble::assemble(spec, &mut parts, backend.clone())?;
    let unused = unused(&parts)?;
    (parts.progress)(total, total);
    Ok((decoder, unused))
}

/// The table that files of several families share, where this is such a file.
fn shared_names(tensors: &Tensors, own: &Names) -> Option<Names> {
    if tensors.gguf().is_some() {
        return Some(names::gguf(own));
    }
    let meta = names::meta();
    let original = meta.candidates(Place::model("embed"), Part::Weight).any(|(name, _)| tensors.get(&name).is_some());
    original.then_some(meta)
}

/// Tensors that fill no slot; one that is not known to be of no use is an error.
fn unused(parts: &Parts) -> Result<Vec<Unused>> {
    let aside: HashSet<&str> = parts.aside.iter().map(|unused| unused.tensor.as_str()).collect();
    let left = parts.tensors.names().filter(|name| !parts.used.contains(*name) && !aside.contains(name));
    let left = left.map(|name| {
        let reason = match parts.names.reason(name) {
            Some(reason) => Some(reason),
            None if is_kv_scale(parts, name) => Some("keys and values are not kept in eight bits here"),
            None if beside_the_model(parts, name) => Some("stands beside the model: it has no name of its parts"),
            None => tied_copy(parts, name)?,
        };
        let extra = || Error::ExtraTensor { name: name.to_owned(), file: parts.file(name) };
        Ok(Unused { tensor: name.to_owned(), reason: reason.ok_or_else(extra)? })
    });
    parts.aside.iter().cloned().map(Ok).chain(left).collect()
}

/// Whether a tensor is a scale of keys or values in eight bits, in a folder that says it has some.
fn is_kv_scale(parts: &Parts, name: &str) -> bool {
    let may = parts.quantization.is_some_and(|quantization| quantization.kv_scales);
    may && [".k_scale", ".v_scale"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a tensor is other state that PyTorch saved with the model, by a name unlike any of the model's.
fn beside_the_model(parts: &Parts, name: &str) -> bool {
    let first = |name: &str| name.split('.').next().map(str::to_owned);
    let own = parts.names.rows.iter().map(|row| &*row.module);
    let mut own = own.chain(parts.names.ignored.iter().map(|ignored| &*ignored.tensor));
    parts.tensors.is_pytorch() && !own.any(|own| first(own) == first(name))
}

/// The reason for a head that stands in the file although the model's is its embedding: it must be the same.
fn tied_copy(parts: &Parts, name: &str) -> Result<Option<&'static str>> {
    let is_tied = parts.spec.head.as_ref().is_some_and(|head| head.tied);
    let is_head = parts.names.candidates(Place::model("head"), Part::Weight).any(|(head, _)| head == name);
    if !is_tied || !is_head {
        return Ok(None);
    }
    let (embed, place) = (Place::model("embed"), |name: &String| parts.used.contains(name));
    let embed = parts.names.candidates(embed, Part::Weight).map(|(embed, _)| embed).find(place);
    let Some(embed) = embed else { return Ok(None) };
    if parts.tensors.bytes(name)?[..] == parts.tensors.bytes(&embed)?[..] {
        return Ok(Some("a copy of the embedding, to which the head is tied"));
    }
    Err(Error::Untied { name: name.to_owned(), embed, file: parts.file(name) })
}
