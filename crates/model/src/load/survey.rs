//! Where every slot of a model stands in its checkpoint, and one slot at a time out of it. Only headers are read for
//! the survey; saving, merging and quantizing stream by it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use pasture_kernels::Format;
use pasture_tensor::{Backend, Precision, Weight};

use super::parts::Parts;
use super::{Source, Unused, assemble, shared_names, unused};
use crate::config::{Config, Quantization, Report};
use crate::decoder::Decoder;
use crate::error::Result;
use crate::families::{self, Blueprint, Family};
use crate::names::{Names, Part, Place};
use crate::sites::Sites;
use crate::spec::{MixerSpec, NormKind, Spec};

/// A matrix or vector that a model needs, and the tensor of the checkpoint that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Where in the model.
    pub place: Place,
    /// Weight or bias.
    pub part: Part,
    /// Rows, or the length of a vector.
    pub rows: usize,
    /// Columns; none for a vector.
    pub cols: Option<usize>,
    /// The checkpoint's tensor, which may hold other slots too.
    pub tensor: String,
    /// How its numbers are stored there.
    pub format: Format,
}

/// A checkpoint, compared with what its model needs.
pub struct Survey {
    /// Its family's page.
    pub family: &'static Family,
    /// The model's structure.
    pub spec: Spec,
    /// How its weights were quantized, where the configuration says so.
    pub quantization: Option<Quantization>,
    /// The family's own names.
    pub own: Names,
    /// Names in this file.
    pub names: Names,
    /// Every slot, in the order in which a model is put together. A tied head is no slot.
    pub slots: Vec<Slot>,
    /// Tensors that fill no slot.
    pub unused: Vec<Unused>,
    /// Keys of the configuration that had no use.
    pub report: Report,
    /// The model without its weights: what adapters are compared with.
    pub decoder: Decoder,
}

/// A backend that keeps rows as they are stored.
struct Plain;

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }
}

/// Finds every slot of a checkpoint; no weight is read.
pub fn survey(source: &Source) -> Result<Survey> {
    let Blueprint { family, spec, names: own, quantization, report } = families::blueprint(&source.config)?;
    let names = shared_names(&source.tensors, &own).unwrap_or_else(|| own.clone());
    super::joined::refuse_foreign(&source.tensors, quantization.as_ref())?;
    let (decoder, slots, unused) = {
        let mut quiet = |_, _| ();
        let mut parts = parts(source, quantization.as_ref(), &spec, &names, &own, &mut quiet);
        parts.survey = Some(Vec::new());
        let mut decoder = assemble::assemble(&spec, &mut parts, Arc::new(Plain))?;
        decoder.sites.called(family.gguf, family.names);
        let unused = unused(&parts)?;
        (decoder, parts.survey.take().unwrap_or_default(), unused)
    };
    Ok(Survey { family, spec, quantization, own, names, slots, unused, report, decoder })
}

/// The slots of a model of which there is a configuration only, by its family's own names.
pub(crate) fn fresh(config: &Config, any: &Source) -> Result<Survey> {
    let Blueprint { family, spec, names: own, quantization, report } = families::blueprint(config)?;
    let (slots, decoder) = {
        let mut quiet = |_, _| ();
        let mut parts = parts(any, None, &spec, &own, &own, &mut quiet);
        (parts.survey, parts.fresh) = (Some(Vec::new()), true);
        let decoder = assemble::assemble(&spec, &mut parts, Arc::new(Plain))?;
        (parts.survey.take().unwrap_or_default(), decoder)
    };
    Ok(Survey { family, spec, quantization, names: own.clone(), own, slots, unused: Vec::new(), report, decoder })
}

fn parts<'a>(
    source: &'a Source,
    quantization: Option<&'a Quantization>,
    spec: &'a Spec,
    names: &'a Names,
    own: &'a Names,
    progress: &'a mut dyn FnMut(u64, u64),
) -> Parts<'a> {
    Parts {
        tensors: &source.tensors,
        quantization,
        disk: None,
        names,
        own,
        spec,
        backend: &Plain,
        packing: super::prepared::Packing::Memory,
        progress,
        done: 0,
        total: 0,
        used: HashSet::new(),
        aside: Vec::new(),
        norms: HashMap::new(),
        sites: Sites::default(),
        parameters: Vec::new(),
        survey: None,
        fresh: false,
    }
}

impl Survey {
    fn parts<'a>(&'a self, source: &'a Source, progress: &'a mut dyn FnMut(u64, u64)) -> Parts<'a> {
        parts(source, self.quantization.as_ref(), &self.spec, &self.names, &self.own, progress)
    }

    /// Reads a matrix: its rows in the order in which they are computed with, as they are stored.
    pub fn matrix(&self, source: &Source, slot: &Slot) -> Result<Weight> {
        let cols = slot.cols.expect("the slot is a matrix");
        self.parts(source, &mut |_, _| ()).matrix(slot.place, slot.rows, cols)
    }

    /// Reads a vector. Norms that are stored less one are as the file has them: [`Survey::norms_plus_one`].
    pub fn vector(&self, source: &Source, slot: &Slot) -> Result<Vec<f32>> {
        self.parts(source, &mut |_, _| ()).vector(slot.place, slot.part, slot.rows)
    }

    /// The module of the family's own checkpoints that a slot is a part of, and the row of it that each of its rows is:
    /// where an adapter's numbers for it stand.
    pub fn module(&self, slot: &Slot) -> Option<(String, Vec<usize>)> {
        let row = self.own.filling(slot.place.slot).next()?;
        let rows = super::shape::Source::of(&self.spec, slot.place, row, slot.rows);
        Some((crate::names::fill(&row.module, slot.place), (0..slot.rows).map(|at| rows.within(at)).collect()))
    }

    /// Whether offset norms have the one added in this file.
    pub fn norms_plus_one(&self) -> bool {
        self.names.norms_plus_one
    }
}

/// Whether a slot is a norm whose stored factor is one less than the factor.
pub(crate) fn is_offset(spec: &Spec, slot: &Slot) -> bool {
    if slot.part != Part::Weight || slot.cols.is_some() {
        return false;
    }
    let branches = || spec.layers.iter().flatten();
    let around = branches().flat_map(|branch| [&branch.pre, &branch.post, &branch.after]).flatten();
    let heads = branches().filter_map(|branch| match &branch.mixer {
        MixerSpec::Attention(attention) => attention.qk_norm.as_ref(),
        _ => None,
    });
    let all = around.chain(&spec.norm).chain(&spec.embed.norm).chain(heads.flat_map(|norms| [&norms.q, &norms.k]));
    all.into_iter().any(|norm| norm.slot == slot.place.slot && norm.kind == NormKind::RmsOffset)
}
