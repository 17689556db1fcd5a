//! A tensor's place in its file, to be read there piece by piece: explicit positioned reads, which fail as errors where a
//! file was cut or a disk is broken, and take no memory but the caller's. The mapped bytes are not touched.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result, quoted};
use crate::folder;
use crate::tensors::Tensors;

/// Files of a checkpoint that are open for positioned reads, each once.
#[derive(Debug, Default)]
pub struct Extents {
    files: HashMap<PathBuf, Arc<File>>,
}

/// A tensor's place in its file.
#[derive(Clone, Debug)]
pub struct Extent {
    file: Arc<File>,
    path: PathBuf,
    start: u64,
    length: u64,
}

impl Extents {
    /// The place of a tensor. None where its bytes do not lie in a file as they are wanted: gathered ones, or those of a
    /// checkpoint in memory.
    ///
    /// # Errors
    /// When there is no such tensor, or its file cannot be opened or has become shorter.
    pub fn of(&mut self, tensors: &Tensors, name: &str) -> Result<Option<Extent>> {
        let Some((path, start, length)) = tensors.stored_at(name)? else { return Ok(None) };
        let file = match self.files.get(path) {
            Some(file) => file.clone(),
            None => {
                let file = Arc::new(folder::open_named(path)?);
                self.files.insert(path.to_owned(), file.clone());
                file
            }
        };
        let bytes = file.metadata().map_err(|fault| Error::read(path, fault))?.len();
        if start.checked_add(length).is_none_or(|end| end > bytes) {
            let what = format!("tensor {} lies outside the file: it has become shorter", quoted(name));
            return Err(Error::invalid(crate::error::file_name(path), what));
        }
        Ok(Some(Extent { file, path: path.to_owned(), start, length }))
    }
}

impl Extent {
    /// How many bytes the tensor has.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads the tensor's bytes from `offset` on, as many as `out` has room for.
    ///
    /// # Errors
    /// When the system cannot read them, or the file ends before.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|end| *end <= self.length);
        assert!(end.is_some(), "a read stays inside its tensor");
        read_at(&self.file, out, self.start + offset).map_err(|fault| Error::read(&self.path, fault))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !out.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_read(file, out, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out = &mut out[count..];
        offset += count as u64;
    }
    Ok(())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::outline::Outline;
    use crate::{Dtype, safetensors};
    use pasture_kernels::Format;

    #[test]
    fn reads_are_those_of_the_map_and_a_cut_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        let outline = |name: &str| Outline { name: name.into(), dtype: Dtype::Number(Format::F32), shape: vec![8] };
        let outlines = [outline("a"), outline("b")];
        safetensors::write(&path, &[], &outlines, |outline, sink| {
            sink.put(&(0..32).map(|at| at + outline.name.as_bytes()[0]).collect::<Vec<u8>>())
        })
        .unwrap();
        let tensors = Tensors::open(&path).unwrap();
        let mut extents = Extents::default();
        for name in ["a", "b"] {
            let extent = extents.of(&tensors, name).unwrap().unwrap();
            let mut found = [0; 9];
            extent.read(7, &mut found).unwrap();
            assert_eq!(found, tensors.bytes(name).unwrap()[7..16]);
        }
        let extent = extents.of(&tensors, "b").unwrap().unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        let error = extent.read(20, &mut [0; 12]).unwrap_err().to_string();
        assert!(error.contains("m.safetensors"), "{error}");
        assert!(extents.of(&tensors, "b").unwrap_err().to_string().contains("has become shorter"));
    }
}
