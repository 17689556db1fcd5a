//! Packed weights in a file of Pasture's cache, from which a model starts without packing them: written where that is
//! asked for, found where it is there. What such a file is stands in `pasture_model::prepare` and in the store's `packed`.

use std::path::PathBuf;
use std::sync::Arc;

use pasture_files::packed::Origin;
use pasture_model::{Prepared, Source};
use pasture_store::{Environment, packed};
use pasture_tensor::{Backend, Cpu, Precision};

use crate::error::{Error, Result};
use crate::options::{Device, LoadOptions, Prepare};

/// A model's packed weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedFile {
    /// Where they are.
    pub path: PathBuf,
    /// The file's length.
    pub bytes: u64,
    /// Whether it was written just now; it was there otherwise.
    pub is_new: bool,
}

/// Writes a model's packed weights where they are not there yet, so that it starts faster from now on on this machine.
/// Those that are there are compared byte by byte, and written again where one differs.
/// `progress` is told the bytes read and the bytes that there are.
///
/// # Errors
/// When the model is in no file, cannot be loaded, or the disk has no room.
pub fn prepare(
    name: &str,
    source: &Source,
    device: &Device,
    files: &pasture_model::LoadOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PackedFile> {
    let environment = Environment::current();
    let place = Place::of(&environment, source, device)?.ok_or_else(|| Error::Unprepared { name: name.to_owned() })?;
    let held = packed::hold(&environment)?;
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(device.pool().clone(), Precision::Fast));
    // Another process may have written it while this one waited.
    if let Ok(prepared) = place.open()
        && pasture_model::compare_prepared(source, &backend, files, &prepared, progress).is_ok()
    {
        return Ok(PackedFile { path: place.path, bytes: prepared.bytes(), is_new: false });
    }
    let needed = pasture_model::prepared_bytes(source, device.pool().kernels())?;
    let origin = Origin { name: name.to_owned(), source: place.source.clone(), layout: place.layout.clone() };
    packed::write(&held, &place.path, needed, |sink| -> Result<()> {
        Ok(pasture_model::prepare(source, &backend, files, (sink, origin), progress)?)
    })?;
    let bytes = place.open()?.bytes();
    Ok(PackedFile { path: place.path, bytes, is_new: true })
}

/// The packed weights that loading takes, and why those that are there or were asked for are not taken.
pub(crate) fn find(
    name: &str,
    source: &Source,
    device: &Device,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> (Option<Prepared>, Option<String>) {
    // Experts that stay on disk are read where they are.
    if options.prepare == Prepare::Off || options.files.expert_cache.is_some() {
        return (None, None);
    }
    let environment = Environment::current();
    if options.prepare == Prepare::Use && environment.cache().is_none() {
        return (None, None);
    }
    let found = Place::of(&environment, source, device).and_then(|place| {
        let Some(place) = place else { return Ok(None) };
        match (place.open(), options.prepare) {
            (Err(_), Prepare::Auto) => {
                prepare(name, source, device, &options.files, progress)?;
                place.open().map(Some)
            }
            (Err(_), _) if !place.path.exists() => Ok(None),
            (opened, _) => opened.map(Some),
        }
    });
    match found {
        Ok(prepared) => (prepared, None),
        Err(fault) => (None, Some(fault.to_string())),
    }
}

/// Where a model's packed weights are, or would be.
struct Place {
    source: String,
    layout: String,
    path: PathBuf,
}

impl Place {
    /// None for a model that is in no file.
    fn of(environment: &Environment, source: &Source, device: &Device) -> Result<Option<Place>> {
        let files = source.files()?;
        if files.is_empty() {
            return Ok(None);
        }
        let (source, layout) = (packed::source_of(&files)?, pasture_model::packed_layout(device.pool().kernels()));
        let path = packed::path(environment, &source, &layout).ok_or(pasture_store::Error::NoCache)?;
        Ok(Some(Place { source, layout, path }))
    }

    fn open(&self) -> Result<Prepared> {
        Ok(Prepared::open(&self.path, &self.source, &self.layout)?)
    }
}
