//! A model's files, opened and described, before any weight is read; and the verb that reads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pasture_files::folder::Folder;
use pasture_files::{Bytes, Tensors};
use pasture_tensor::Backend;

use super::prepared::{Packing, Prepared};
use super::{How, Unused, build_so};
use crate::config::{Config, Report};
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::families::{self, Family};

/// A checkpoint with its configuration.
pub struct Source {
    /// Its tensors.
    pub tensors: Tensors,
    /// Its configuration.
    pub config: Config,
    /// Where its other files are; none for a checkpoint in memory.
    pub folder: Option<Folder>,
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What to do with keys of the configuration that nobody knows.
    pub unknown: UnknownKeys,
    /// Keeps a mixture's experts on disk, and so many bytes of the latest used in memory; all are in memory where absent.
    pub expert_cache: Option<u64>,
    /// The model's packed weights in a file, where there is one.
    pub prepared: Option<Prepared>,
}

/// What to do with keys of a configuration that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are listed in the report.
    #[default]
    Report,
    /// They are an error.
    Refuse,
}

/// A loaded model.
pub struct Loaded {
    /// What runs.
    pub decoder: Decoder,
    /// Its family's page.
    pub family: &'static Family,
    /// Keys of the configuration that had no use.
    pub report: Report,
    /// Tensors that had no use.
    pub unused: Vec<Unused>,
    /// Why the file of packed weights was of no use, where one was given and its weights are in memory instead.
    pub unprepared: Option<String>,
}

impl Source {
    /// Opens a folder, or one file of a checkpoint: nothing but headers is read.
    pub fn open(path: &Path) -> Result<Source> {
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().filter(|up| *up != Path::new("")).unwrap_or(Path::new("."))
        };
        let (tensors, folder) = (Tensors::open(path)?, Folder::open(folder)?);
        let config = Config::open(&tensors, &folder)?;
        Ok(Source { tensors, config, folder: Some(folder) })
    }

    /// Opens a GGUF checkpoint whose whole content is in memory. `name` is what messages call it.
    pub fn of_gguf_bytes(name: &str, bytes: Bytes) -> Result<Source> {
        let tensors = Tensors::open_gguf_bytes(name, bytes)?;
        let metadata = tensors.gguf().ok_or_else(|| pasture_files::Error::invalid(name, "it is no GGUF file"))?;
        let config = Config::from_gguf(metadata, &tensors)?;
        Ok(Source { tensors, config, folder: None })
    }

    /// Refuses keys of the configuration that nobody knows, where that is asked for.
    pub(super) fn known_keys(&self, report: &Report, unknown: UnknownKeys) -> Result<()> {
        match (unknown, report.unknown.first()) {
            (UnknownKeys::Refuse, Some(key)) => {
                Err(self.config.fault(key, "is a key that nobody knows; loading without \"strict\" leaves it out"))
            }
            _ => Ok(()),
        }
    }

    /// The files that say what a model is and hold its weights, by their real paths; none of a checkpoint in memory.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let named = match self.tensors.gguf() {
            Some(_) => None,
            None => folder.find(self.config.file())?,
        };
        let real = |path: &PathBuf| path.canonicalize().map_err(|fault| pasture_files::Error::read(path, fault).into());
        self.tensors.files().iter().chain(&named).map(real).collect()
    }
}

/// Reads a model's weights onto a device. `progress` is told the bytes read and the bytes there are.
pub fn load(
    source: &Source,
    backend: &Arc<dyn Backend>,
    options: &LoadOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Loaded> {
    let families::Blueprint { family, spec, names, quantization, report } = families::blueprint(&source.config)?;
    source.known_keys(&report, options.unknown)?;
    let mut build = |packing: Packing<'_>| {
        let how = How { quantization: quantization.as_ref(), expert_cache: options.expert_cache, packing };
        build_so(&source.tensors, how, &spec, &names, backend.clone(), progress)
    };
    let mut unprepared = None;
    let built = match &options.prepared {
        None => build(Packing::Memory),
        Some(prepared) => match build(Packing::Read(prepared)) {
            Err(Error::Unprepared { what }) => {
                unprepared = Some(what);
                build(Packing::Memory)
            }
            built => built,
        },
    };
    let (mut decoder, unused) = built?;
    decoder.sites.called(family.gguf, family.names);
    Ok(Loaded { decoder, family, report, unused, unprepared })
}
