//! Reads a checkpoint slot by slot: finds the tensor by the name table, checks its shape, undoes what the file's
//! layout did, and hands the stored numbers to the backend. Nothing is converted; one tensor is in flight at a time.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use pasture_files::error::file_name;
use pasture_files::{Bytes, Tensors};
use pasture_kernels::Format;
use pasture_tensor::ops::linear::Site;
use pasture_tensor::{Backend, Layout, Linear, Norm, Vector, Weight, WeightId};

use super::Unused;
use super::joined::Joined;
use super::joined::mx::PACKED;
use super::on_disk::Disk;
use super::prepared::Packing;
use super::shape::{SlotShape, Source, wanted};
use super::survey::Slot;
use crate::config::{Quantization, Scheme};
use crate::error::{Error, Result};
use crate::names::{Names, Part, Place, Row, Stored};
use crate::sites::{Kind, Module, Parameter, Sites};
use crate::spec::{NormKind, NormSpec, Spec};

/// A checkpoint while it is read.
pub(crate) struct Parts<'a> {
    pub(super) tensors: &'a Tensors,
    pub(super) quantization: Option<&'a Quantization>,
    /// Where experts stay on disk.
    pub(super) disk: Option<Disk>,
    /// The names in this file.
    pub(super) names: &'a Names,
    /// The family's own names, by which adapters call its modules.
    pub(super) own: &'a Names,
    pub(super) spec: &'a Spec,
    pub(super) backend: &'a dyn Backend,
    pub(super) packing: Packing<'a>,
    pub(super) progress: &'a mut dyn FnMut(u64, u64),
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) used: HashSet<String>,
    /// Tensors that belong to a quantized weight and change nothing.
    pub(super) aside: Vec<Unused>,
    pub(super) norms: HashMap<Place, Norm>,
    pub(super) sites: Sites,
    pub(super) parameters: Vec<Parameter>,
    /// Where each slot stands, where that is all that is asked for.
    pub(super) survey: Option<Vec<Slot>>,
    /// Whether there is no checkpoint: slots get their tensors' first names.
    pub(super) fresh: bool,
}

/// A slot's tensor, found.
pub(super) struct Found<'a> {
    pub(super) name: String,
    pub(super) row: &'a Row,
    pub(super) format: Format,
    pub(super) source: Source,
    bytes: Bytes,
    /// For a weight whose numbers lie in several tensors.
    pub(super) joined: Option<Joined>,
}

impl Found<'_> {
    /// The bytes of a row of a weight that is stored row after row.
    pub(super) fn plain_row(&self, row: usize, cols: usize) -> &[u8] {
        let row_bytes = self.format.row_bytes(cols);
        &self.bytes[self.source.row(row) * row_bytes..][..row_bytes]
    }
}

impl<'a> Parts<'a> {
    /// A module's weight and bias with its place in the checkpoint.
    pub(crate) fn linear(&mut self, place: Place, outputs: usize, inputs: usize, bias: bool) -> Result<Linear> {
        let weight = self.matrix(place, outputs, inputs)?;
        let bias = if bias { Some(self.parameter_vector(place, Part::Bias, outputs)?) } else { None };
        let kind = match (place.slot, place.expert) {
            (_, Some(_)) => Kind::Expert,
            ("head", None) => Kind::Head,
            (_, None) => Kind::Dense,
        };
        Ok(Linear { weight, bias, site: self.site(place, outputs, inputs, kind) })
    }

    /// A weight of `[rows, cols]` in its stored format.
    pub(crate) fn matrix(&mut self, place: Place, rows: usize, cols: usize) -> Result<Weight> {
        let slot = SlotShape { rows, cols: Some(cols) };
        let found = self.find(place, Part::Weight, slot)?;
        if self.survey.is_some() {
            return Ok(Weight::new(found.format, Layout::Plain, rows, cols, Arc::new([])));
        }
        let weight = match self.ready(place, &found, rows, cols)? {
            Some(weight) => weight,
            None => self.packed_now(&found, rows, cols)?,
        };
        self.finish(&found.name, found.format.row_bytes(cols) * rows);
        self.note(place, Part::Weight, rows, weight.id());
        self.handed_on(place, weight)
    }

    /// A weight as the backend takes it, made of its tensor's bytes.
    fn packed_now(&self, found: &Found, rows: usize, cols: usize) -> Result<Weight> {
        let Found { format, source, bytes, .. } = found;
        bytes.prefetch();
        let made = match (&found.joined, found.row.stored) {
            (None, Stored::Plain | Stored::Stacked) => None,
            (None, Stored::Transposed | Stored::StackedTransposed) => Some(self.turn(found, rows, cols)?),
            (Some(joined), Stored::Plain | Stored::Stacked) => {
                let made = joined.rows(rows, cols, |row| source.row(row));
                Some(made.map_err(|what| self.unreadable(&found.name, what))?)
            }
            (Some(_), _) => {
                let what = "has scales along its outputs, which no format here keeps".to_owned();
                return Err(self.unreadable(&found.name, what));
            }
        };
        let row_bytes = format.row_bytes(cols);
        Ok(match &made {
            None => self.backend.weight(*format, rows, cols, &|row| found.plain_row(row, cols)),
            Some(made) => self.backend.weight(*format, rows, cols, &|row| &made[row * row_bytes..][..row_bytes]),
        })
    }

    /// A vector's values.
    pub(crate) fn vector(&mut self, place: Place, part: Part, len: usize) -> Result<Vec<f32>> {
        let found = self.find(place, part, SlotShape { rows: len, cols: None })?;
        if self.fresh {
            return Ok(vec![0.0; len]);
        }
        found.bytes.prefetch();
        let mut all = vec![0.0; found.source.total];
        let row_bytes = found.format.row_bytes(all.len());
        found.format.dequantize(&found.bytes[found.source.stack * row_bytes..][..row_bytes], &mut all);
        self.finish(&found.name, row_bytes);
        Ok((0..len).map(|at| all[found.source.within(at)]).collect())
    }

    /// A vector that can be trained.
    pub(crate) fn parameter_vector(&mut self, place: Place, part: Part, len: usize) -> Result<Vector> {
        let values = self.vector(place, part, len)?;
        Ok(self.noted(place, part, values))
    }

    fn noted(&mut self, place: Place, part: Part, values: Vec<f32>) -> Vector {
        let vector = Vector::new(values);
        self.note(place, part, vector.values().len(), vector.id());
        vector
    }

    /// Adds a weight to the parameters, by its name in the family's own checkpoints.
    fn note(&mut self, place: Place, part: Part, rows: usize, weight: WeightId) {
        let row = self.own_row(place);
        let tensor = row.and_then(|row| row.tensor(part, place)).unwrap_or_else(|| format!("{place}{}", part.ending()));
        let first = row.map_or(0, |row| {
            let source = Source::of(self.spec, place, row, rows);
            source.stack * source.total + source.first
        });
        self.parameters.push(Parameter { tensor, rows: first..first + rows, weight });
    }

    /// The row of the family's own table for a slot: the one whose tensor was read, if this is such a file.
    fn own_row(&self, place: Place) -> Option<&'a Row> {
        let own = self.own;
        let same_table = std::ptr::eq(self.names, own);
        let read =
            |row: &&Row| !same_table || row.tensor(Part::Weight, place).is_some_and(|name| self.used.contains(&name));
        own.filling(place.slot).find(read).or_else(|| own.filling(place.slot).next())
    }

    /// A norm with its parameters; branches that share one get the same.
    pub(crate) fn norm(&mut self, spec: &NormSpec, layer: Option<usize>, width: usize) -> Result<Norm> {
        let place = Place { slot: spec.slot, layer, expert: None };
        if let Some(norm) = self.norms.get(&place) {
            return Ok(norm.clone());
        }
        let mut norm = Norm { centered: false, weight: None, bias: None, eps: spec.eps, offset: 0.0 };
        if spec.kind != NormKind::RmsPlain {
            let mut weight = self.vector(place, Part::Weight, width)?;
            if spec.kind == NormKind::RmsOffset {
                norm.offset = 1.0;
                if self.names.norms_plus_one {
                    weight.iter_mut().for_each(|weight| *weight -= 1.0);
                }
            }
            norm.weight = Some(self.noted(place, Part::Weight, weight));
        }
        norm.centered = matches!(spec.kind, NormKind::Layer | NormKind::LayerBias);
        if spec.kind == NormKind::LayerBias {
            norm.bias = Some(self.parameter_vector(place, Part::Bias, width)?);
        }
        self.norms.insert(place, norm.clone());
        Ok(norm)
    }

    /// A module's place in the family's own checkpoints.
    pub(crate) fn site(&mut self, place: Place, outputs: usize, inputs: usize, kind: Kind) -> Site {
        let Some(row) = self.own_row(place) else {
            return Site { tensor: place.to_string().into(), rows: 0..outputs };
        };
        let tensor: Arc<str> = crate::names::fill(&row.module, place).into();
        let source = Source::of(self.spec, place, row, outputs);
        if matches!(row.stored, Stored::Plain | Stored::Transposed) {
            self.sites.add(tensor.clone(), Module { outputs: source.total, inputs, kind });
        }
        Site { tensor, rows: source.first..source.first + outputs }
    }

    /// The first candidate in the file whose shape fits; a candidate of another shape is an error, as is none.
    pub(super) fn find(&mut self, place: Place, part: Part, slot: SlotShape) -> Result<Found<'a>> {
        let (names, tensors): (&'a Names, &'a Tensors) = (self.names, self.tensors);
        if self.fresh {
            return self.named(place, part, slot);
        }
        let mut misfit = None;
        for (name, row) in names.candidates(place, part) {
            let name = self.packed(name, part);
            let Some(entry) = tensors.get(&name) else { continue };
            let source = Source::of(self.spec, place, row, slot.rows);
            let joined = match (part, slot.cols) {
                (Part::Weight, Some(_)) => Joined::open(tensors, self.quantization, &name)?,
                _ => None,
            };
            let shape = joined.as_ref().map_or(&entry.shape, |joined| &joined.shape);
            if source.fits(row, part, slot, shape) {
                let found = entry.dtype.name().to_owned();
                let unusable = || Error::Dtype { name: name.clone(), file: self.file(&name), found };
                let own = joined.as_ref().map(|joined| joined.format);
                let format = own.or(entry.dtype.format()).ok_or_else(unusable)?;
                let bytes = tensors.bytes(&name)?;
                self.used.insert(name.clone());
                joined.iter().for_each(|joined| self.add_beside(joined));
                if let Some(slots) = &mut self.survey {
                    let slot = Slot { place, part, rows: slot.rows, cols: slot.cols, tensor: name.clone(), format };
                    slots.push(slot);
                }
                return Ok(Found { name, row, format, source, bytes, joined });
            }
            let needs = source.shown(row, part, slot);
            misfit.get_or_insert((name, wanted(shape), needs));
        }
        Err(match misfit {
            Some((name, found, wanted)) => Error::Shape { file: self.file(&name), name, found, wanted },
            None => self.missing(place, part, slot),
        })
    }

    /// The name of a weight whose codes share bytes, where the file has it so.
    fn packed(&self, name: String, part: Part) -> String {
        let may = part == Part::Weight && self.quantization.is_some_and(|it| matches!(it.scheme, Scheme::Mx(_)));
        if !may || self.tensors.get(&name).is_some() { name } else { name + PACKED }
    }

    /// A slot without a checkpoint: nothing of it is there but its name.
    fn named(&mut self, place: Place, part: Part, slot: SlotShape) -> Result<Found<'a>> {
        let names: &'a Names = self.names;
        let Some((name, row)) = names.candidates(place, part).next() else {
            return Err(self.missing(place, part, slot));
        };
        let format = Format::F32;
        let survey = self.survey.get_or_insert_with(Vec::new);
        survey.push(Slot { place, part, rows: slot.rows, cols: slot.cols, tensor: name.clone(), format });
        self.used.insert(name.clone());
        let source = Source::of(self.spec, place, row, slot.rows);
        Ok(Found { name, row, format, source, bytes: Bytes::from(Vec::new()), joined: None })
    }

    /// Counts the other tensors of a weight as read.
    fn add_beside(&mut self, joined: &Joined) {
        self.used.extend(joined.used.iter().cloned());
        for unused in &joined.aside {
            if !self.aside.contains(unused) {
                self.aside.push(unused.clone());
            }
        }
    }

    fn unreadable(&self, name: &str, what: String) -> Error {
        Error::Quantized { name: name.to_owned(), file: self.file(name), what }
    }

    fn missing(&self, place: Place, part: Part, slot: SlotShape) -> Error {
        let wanted = slot.shown();
        let name = self.names.candidates(place, part).next().map(|(name, _)| name);
        let name = name.unwrap_or_else(|| format!("for {place}{}", part.ending()));
        Error::NoTensor { name, file: PathBuf::from(self.tensors.name()), wanted }
    }

    /// The name of the file that holds a tensor.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.tensors.file_of(name).map_or_else(|| self.tensors.name().to_owned(), file_name).into()
    }

    /// The rows of a slot out of a tensor that is stored `[inputs, outputs]`.
    fn turn(&self, found: &Found, rows: usize, cols: usize) -> Result<Vec<u8>> {
        let format = found.format;
        if format.block() != 1 {
            let what = format!("{} in blocks along its outputs", format.name());
            return Err(Error::Dtype { name: found.name.clone(), file: self.file(&found.name), found: what });
        }
        let size = format.block_bytes();
        let mut turned = Vec::with_capacity(rows * cols * size);
        let before = found.source.stack * cols;
        for row in (0..rows).map(|row| found.source.within(row)) {
            for col in 0..cols {
                let at = ((before + col) * found.source.total + row) * size;
                turned.extend_from_slice(&found.bytes[at..at + size]);
            }
        }
        Ok(turned)
    }

    pub(super) fn finish(&mut self, name: &str, bytes: usize) {
        self.tensors.release(name);
        self.done = (self.done + bytes as u64).min(self.total);
        (self.progress)(self.done, self.total);
    }
}
