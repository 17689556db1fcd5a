//! Packed weights in a file: written once, mapped by every later load, one copy for several processes.
//!
//! Invariant: a weight out of such a file has the bytes that packing would make. Each one's format, layout, shape and
//! length are compared with the checkpoint's, and one row with its bytes; a file with any difference is not used at all.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;

use pasture_files::durable::Sink;
use pasture_files::packed::{self, Entry, Origin, Packed, Writer};
use pasture_files::size::Size;
use pasture_kernels::linear::{self, Layout};
use pasture_kernels::{Format, Kernels};
use pasture_tensor::{Backend, Weight};

use super::parts::{Found, Parts};
use super::source::{LoadOptions, Source};
use super::{How, build_so, survey};
use crate::error::{Error, Result};
use crate::families::{self, Blueprint};
use crate::names::{Place, Stored};

/// Raised whenever a slot comes to hold other bytes than before although packing stayed the same: when a name table, or
/// how a quantized folder's numbers are joined, changes.
const ARRANGEMENT: u32 = 1;

/// Which packed weights these kernels take: files of the same text serve them.
pub fn packed_layout(kernels: &Kernels) -> String {
    format!("{ARRANGEMENT}.{:016x}", linear::layouts_number(kernels))
}

/// An open file of a model's packed weights.
#[derive(Clone, Debug)]
pub struct Prepared(Arc<Packed>);

impl Prepared {
    /// Maps the file of packed weights that was made of `source` for kernels of that layout.
    ///
    /// # Errors
    /// When it cannot be read, is not whole, or was made of something else.
    pub fn open(path: &Path, source: &str, layout: &str) -> Result<Prepared> {
        let packed = Packed::open(path)?;
        let stale = |what: &str| Error::Unprepared { what: what.to_owned() };
        if packed.origin().source != source {
            return Err(stale("it was made of other files"));
        }
        if packed.origin().layout != layout {
            return Err(stale("it was made for other kernels"));
        }
        packed.bytes().in_large_pages();
        Ok(Prepared(Arc::new(packed)))
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.0.bytes().len() as u64
    }

    /// A weight in the layout that `kernels` compute with; in words what does not fit.
    fn weight(&self, name: &str, format: Format, kernels: &Kernels, rows: usize, cols: usize) -> Result<Weight> {
        let stale = |what: &str| Error::Unprepared { what: format!("{what} {name:?}") };
        let (entry, bytes) = self.0.get(name).ok_or_else(|| stale("it lacks"))?;
        let layout = layout_of(kernels, format, rows, cols);
        let wanted = match layout {
            Layout::Packed => linear::packed_bytes(format, rows, cols),
            Layout::Plain => format.row_bytes(cols) * rows,
        };
        let is_packed = layout == Layout::Packed;
        let fits =
            entry.format == format.name() && entry.packed == is_packed && (entry.rows, entry.cols) == (rows, cols);
        if !fits || bytes.len() != wanted {
            return Err(stale("it has another form of"));
        }
        bytes.prefetch();
        Ok(Weight::new(format, layout, rows, cols, Arc::new(bytes)))
    }
}

/// The layout that loading makes of a weight.
fn layout_of(kernels: &Kernels, format: Format, rows: usize, cols: usize) -> Layout {
    if rows * cols == 0 { Layout::Plain } else { linear::layout_on(kernels, format) }
}

/// What loading does with files of packed weights.
#[derive(Clone, Copy)]
pub(crate) enum Packing<'a> {
    /// Nothing: weights are packed into memory.
    Memory,
    /// Weights come out of one.
    Read(&'a Prepared),
    /// Weights go into one, and none stays in memory.
    Write(&'a dyn Fn(Entry, &[u8]) -> Result<()>),
}

impl Parts<'_> {
    /// A weight out of the file of packed weights, where there is one.
    pub(super) fn ready(&self, place: Place, found: &Found, rows: usize, cols: usize) -> Result<Option<Weight>> {
        let (Packing::Read(prepared), Some(kernels)) = (&self.packing, self.backend.layouts()) else {
            return Ok(None);
        };
        let name = place.to_string();
        let weight = prepared.weight(&name, found.format, kernels, rows, cols)?;
        let is_as_stored = found.joined.is_none() && matches!(found.row.stored, Stored::Plain | Stored::Stacked);
        if is_as_stored && rows * cols > 0 {
            // Neither the first nor the last, which stay where they are when rows are put in another order.
            let row = (rows / 3) | usize::from(rows > 1);
            let mut plain = vec![0; found.format.row_bytes(cols)];
            linear::unpack_row(&weight.matrix(), row, &mut plain);
            if plain != found.plain_row(row, cols) {
                return Err(Error::Unprepared { what: format!("it has other numbers in {name:?} than the model") });
            }
        }
        Ok(Some(weight))
    }

    /// Hands a weight on to the file that is written, and keeps its name only.
    pub(super) fn handed_on(&self, place: Place, weight: Weight) -> Result<Weight> {
        let Packing::Write(put) = self.packing else { return Ok(weight) };
        let entry = Entry {
            name: place.to_string(),
            format: weight.format().name().to_owned(),
            packed: weight.layout() == Layout::Packed,
            rows: weight.rows(),
            cols: weight.cols(),
        };
        put(entry, weight.bytes())?;
        let (format, rows, cols) = (weight.format(), weight.rows(), weight.cols());
        Ok(Weight::new(format, Layout::Plain, rows, cols, Arc::new([])).with_id_of(&weight))
    }
}

/// Bytes that a model's file of packed weights has at most.
///
/// # Errors
/// When a slot cannot be filled.
pub fn prepared_bytes(source: &Source, kernels: &Kernels) -> Result<Size> {
    let slots = survey(source)?.slots;
    let matrices = slots.iter().filter_map(|slot| Some((slot, slot.cols?)));
    Ok(packed::bytes_needed(matrices.map(|(slot, cols)| match layout_of(kernels, slot.format, slot.rows, cols) {
        Layout::Packed => linear::packed_bytes(slot.format, slot.rows, cols) as u64,
        Layout::Plain => (slot.format.row_bytes(cols) * slot.rows) as u64,
    })))
}

/// Writes a model's packed weights, one weight in memory at a time. `progress` is told the bytes read and the bytes that
/// there are.
///
/// # Errors
/// As loading it, and when the file cannot be written.
pub fn prepare(
    source: &Source,
    backend: &Arc<dyn Backend>,
    options: &LoadOptions,
    (sink, origin): (&mut Sink, Origin),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let writer = RefCell::new(Writer::new(sink)?);
    each(source, backend, options, &|entry, bytes| Ok(writer.borrow_mut().put(entry, bytes)?), progress)?;
    Ok(writer.into_inner().finish(origin)?)
}

/// Compares every byte of a model's packed weights with what packing makes of its files.
///
/// # Errors
/// As loading it, and [`Error::Unprepared`] when one differs.
pub fn compare_prepared(
    source: &Source,
    backend: &Arc<dyn Backend>,
    options: &LoadOptions,
    prepared: &Prepared,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let count = Cell::new(0);
    let compare = |entry: Entry, bytes: &[u8]| {
        count.set(count.get() + 1);
        match prepared.0.get(&entry.name) {
            Some((found, kept)) if *found == entry && kept[..] == *bytes => Ok(()),
            _ => Err(Error::Unprepared { what: format!("{:?} differs", entry.name) }),
        }
    };
    each(source, backend, options, &compare, progress)?;
    match count.get() == prepared.0.count() {
        true => Ok(()),
        false => Err(Error::Unprepared { what: "it has more weights".to_owned() }),
    }
}

/// Hands out a model's weights as they lie in memory, one after the other.
fn each(
    source: &Source,
    backend: &Arc<dyn Backend>,
    options: &LoadOptions,
    put: &dyn Fn(Entry, &[u8]) -> Result<()>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let Blueprint { spec, names, quantization, report, .. } = families::blueprint(&source.config)?;
    source.known_keys(&report, options.unknown)?;
    let how = How { quantization: quantization.as_ref(), expert_cache: None, packing: Packing::Write(put) };
    build_so(&source.tensors, how, &spec, &names, backend.clone(), progress).map(drop)
}
