//! Adapters in GGUF files, as llama.cpp's converter writes them: `adapter.lora.alpha`, and for each tensor of the model's
//! GGUF file the pair `.lora_a` and `.lora_b`. They find the same modules as a folder does, whichever file the model is from.

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::Tensors;
use pasture_tensor::{Adapter, AdapterSite, Weight};

use super::{check_shape, fault, format};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::load::shape::Source;
use crate::names::{self, Names, Part, Place, fill};
use crate::sites::Kind;

/// Keys of `adapter.` that are read, or only say what the adapter is for.
const KEYS: [&str; 4] = ["adapter.type", "adapter.lora.alpha", "adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// A pair's tensors, by their names.
#[derive(Default)]
struct Pair<'t> {
    a: Option<&'t str>,
    b: Option<&'t str>,
}

/// Reads the adapter.
pub(super) fn load(path: &Path, decoder: &Decoder) -> Result<Adapter> {
    let tensors = Tensors::open(path)?;
    let file = tensors.name().to_owned();
    let gguf = decoder.sites().gguf();
    let alpha = alpha(&tensors, &file, gguf.words)?;
    let mut pairs: BTreeMap<&str, Pair> = BTreeMap::new();
    for name in tensors.names() {
        let strange =
            || fault(&file, format!("holds {name:?}, but only \"….weight.lora_a\" and \"….lora_b\" can be used"));
        match (name.strip_suffix(".lora_a"), name.strip_suffix(".lora_b")) {
            (Some(of), _) => pairs.entry(of).or_default().a = Some(name),
            (_, Some(of)) => pairs.entry(of).or_default().b = Some(name),
            (None, None) => return Err(strange()),
        }
    }
    if pairs.is_empty() {
        return Err(fault(&file, "holds no pair of tensors"));
    }
    let own = gguf.own.map(|own| own(decoder.spec())).unwrap_or_default();
    let shared = names::gguf(&own);
    let mut sites = BTreeMap::new();
    for (of, pair) in pairs {
        let (Some(a), Some(b)) = (pair.a, pair.b) else {
            let half = if pair.a.is_none() { "lora_a" } else { "lora_b" };
            return Err(fault(&file, format!("has no {half} for {of:?}")));
        };
        let place = find(decoder, &own, &shared, of);
        let Some((module, source, outputs, inputs)) = place else {
            let what = format!("changes {of:?}, beside which this model can have no adapter");
            return Err(fault(&file, what));
        };
        let rank = tensors.get(a).and_then(|entry| entry.shape.first().copied()).unwrap_or(0);
        if rank == 0 || rank > super::settings::RANK_MAX {
            return Err(fault(&file, format!("has a pair of rank {rank} for {of:?}")));
        }
        let a = matrix(decoder, &tensors, a, [rank, inputs], &|row| row)?;
        let b = matrix(decoder, &tensors, b, [outputs, rank], &|row| source.within(row))?;
        let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f32 };
        sites.insert(module, AdapterSite::new(a, b, scale));
    }
    Ok(Adapter::new(sites))
}

/// What the file says of itself; it must be a low-rank adapter of this family.
fn alpha(tensors: &Tensors, file: &str, architectures: &[&str]) -> Result<f32> {
    let Some(metadata) = tensors.gguf() else { return Err(fault(file, "is no GGUF file")) };
    let says = |key: &str, wanted: &[&str]| -> Result<()> {
        match metadata.text(key)? {
            Some(word) if wanted.contains(&word) => Ok(()),
            other => {
                let (found, wanted) = (other.unwrap_or_default(), wanted.join("\" or \""));
                Err(fault(file, format!("has {key:?} \"{found}\", but \"{wanted}\" can be used here")))
            }
        }
    };
    says("general.type", &["adapter"])?;
    says("adapter.type", &["lora"])?;
    says("general.architecture", architectures)?;
    if let Some((key, _)) = metadata.iter().find(|(key, _)| key.starts_with("adapter.") && !KEYS.contains(key)) {
        return Err(fault(file, format!("has {key:?}, which cannot be used here")));
    }
    let alpha = metadata.float("adapter.lora.alpha")?.filter(|alpha| alpha.is_finite());
    alpha.ok_or_else(|| fault(file, "needs a finite number as \"adapter.lora.alpha\""))
}

/// The module of a tensor of the model's GGUF file, where its rows lie there, and the module's outputs and inputs.
fn find(decoder: &Decoder, own: &Names, shared: &Names, tensor: &str) -> Option<(String, Source, usize, usize)> {
    let (row, part, layer, expert) = shared.find(tensor)?;
    let slot = *row.slots.first()?;
    if part != Part::Weight || expert.is_some() {
        return None;
    }
    let place = Place { slot, layer, expert };
    let same = own.filling(slot).filter(|other| other.slots == row.slots);
    let (module, known) = same.map(|other| fill(&other.module, place)).find_map(|module| {
        let known = *decoder.sites().get(&module)?;
        Some((module, known))
    })?;
    let source = Source::of(decoder.spec(), place, row, if row.slots.len() == 1 { known.outputs } else { 0 });
    (known.kind == Kind::Dense).then_some((module, source, known.outputs, known.inputs))
}

/// A matrix whose rows stand in the file in another order.
fn matrix(
    decoder: &Decoder,
    tensors: &Tensors,
    name: &str,
    [rows, cols]: [usize; 2],
    at: &(dyn Fn(usize) -> usize + Sync),
) -> Result<Weight> {
    let entry = tensors.get(name).expect("it is one of the file's names");
    check_shape(tensors.name(), name, &entry.shape, &[rows, cols])?;
    let format = format(tensors.name(), name, entry)?;
    let (bytes, row_bytes) = (tensors.bytes(name)?, format.row_bytes(cols));
    Ok(decoder.backend().weight(format, rows, cols, &|row| &bytes[at(row) * row_bytes..][..row_bytes]))
}
