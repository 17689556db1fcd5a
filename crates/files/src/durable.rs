//! Writing a file so that a reader sees the old one or the whole of the next, whatever fails in between: temporary
//! file beside it, `fsync`, rename, `fsync` of the folder. The only place that creates or renames files.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::size::Size;

/// Writes the file at `path` in one step: `fill` puts its content, then it appears under its name, complete and
/// durable. When anything fails, what stood there before still stands and nothing is left beside it.
pub fn write_file(path: &Path, fill: impl FnOnce(&mut Sink) -> Result<()>) -> Result<()> {
    let (file, temporary) = create_beside(path)?;
    let mut leftover = Leftover(Some(temporary));
    let mut sink = Sink { file: BufWriter::with_capacity(BUFFER, file), path: path.to_owned(), written: Size::ZERO };
    fill(&mut sink)?;
    let file = sink.file.into_inner().map_err(|fault| Error::write(path, fault.into_error()))?;
    let temporary = leftover.0.take().expect("it was put there above");
    publish(&file, &temporary, path)
}

/// Gives a complete temporary file its name: `fsync`, rename, `fsync` of the folder. Both paths must lie in one
/// folder. The temporary file is removed when it cannot be renamed.
pub fn publish(file: &File, temporary: &Path, path: &Path) -> Result<()> {
    let mut leftover = Leftover(Some(temporary.to_owned()));
    file.sync_all().map_err(|fault| Error::write(path, fault))?;
    fs::rename(temporary, path).map_err(|fault| Error::write(path, fault))?;
    leftover.0 = None;
    sync_folder(parent(path))
}

/// Removes a file durably; one that is not there is removed already.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(parent(path)),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(fault) => Err(Error::write(path, fault)),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let open = File::open(folder).map_err(|fault| Error::write(folder, fault))?;
    open.sync_all().map_err(|fault| Error::write(folder, fault))
}

/// A file that grows at its end, for logs whose last lines may be lost; made where there is none.
pub fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|fault| Error::write(path, fault))
}

/// An empty temporary file in the folder of `path`, under a name nobody else has. Readers skip names that begin with
/// a dot; whoever finds one that is old may delete it.
pub fn create_beside(path: &Path) -> Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(NAME_KEPT).collect();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = parent(path).join(format!(".{name}.{}.{count}.part", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            // Left by a dead process that had our number: take the next name.
            Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(fault) => return Err(Error::write(path, fault)),
        }
    }
}

const BUFFER: usize = 1 << 20;

/// Characters of the final name in the temporary one: together they stay under the 255 bytes a name may have.
const NAME_KEPT: usize = 40;

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Where the content of a file goes while it is written. Counts the bytes and names the file in errors.
pub struct Sink {
    file: BufWriter<File>,
    path: PathBuf,
    written: Size,
}

impl Sink {
    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|fault| Error::write(&self.path, fault))?;
        self.count(bytes.len())
    }

    /// Appends zeros until the length is a multiple of `alignment`.
    pub fn pad(&mut self, alignment: Size) -> Result<()> {
        let overflow = |overflow| Error::overflow(&crate::error::file_name(&self.path), "its length")(overflow);
        let end = self.written.round_up(alignment).map_err(overflow)?;
        let count = end.sub(self.written).and_then(Size::to_usize).map_err(overflow)?;
        self.put(&vec![0; count])
    }

    /// Bytes put so far.
    pub fn written(&self) -> Size {
        self.written
    }

    fn count(&mut self, length: usize) -> Result<()> {
        let name = crate::error::file_name(&self.path);
        self.written = self.written.add(Size::of(length)).map_err(Error::overflow(&name, "its length"))?;
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.count(written).map_err(std::io::Error::other)?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Removes a temporary file unless it got its name.
struct Leftover(Option<PathBuf>);

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // What failed before is the error worth telling.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_file(&path, |sink| sink.put(b"old")).unwrap();
        let fault = write_file(&path, |sink| {
            sink.put(b"half of the next")?;
            Err(Error::invalid("a.bin", "the source ended"))
        });
        assert!(fault.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_mapped_file_keeps_its_bytes_when_its_name_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_file(&path, |sink| sink.put(&[1; 10_000])).unwrap();
        let mapped = crate::Bytes::map(&File::open(&path).unwrap()).unwrap();
        write_file(&path, |sink| sink.put(b"short")).unwrap();
        assert!(mapped.iter().all(|&byte| byte == 1));
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn padding_reaches_the_alignment_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_file(&path, |sink| {
            sink.pad(Size::new(32))?;
            sink.put(b"abc")?;
            sink.pad(Size::new(32))?;
            assert_eq!(sink.written(), Size::new(32));
            sink.pad(Size::new(32))
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 32);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let fault = write_file(&folder.path().join("no/a.bin"), |_| Ok(())).unwrap_err();
        assert!(fault.to_string().contains("\"a.bin\""), "{fault}");
    }
}
