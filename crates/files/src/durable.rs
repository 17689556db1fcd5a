//! Writing a file so that a reader sees the old one or the whole of the next, whatever fails in between: temporary
//! file beside it, `fsync`, rename, `fsync` of the folder. The only place that creates, renames or removes files. What
//! it asks of a disk is the trait [`Fs`], so that tests can play every loss of power.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::size::Size;

/// What the sequence asks of a disk. [`Disk`] is the system's.
pub trait Fs {
    /// Makes an empty file; one that is there is an error.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Makes the content of a file durable that another handle wrote.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name, in place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or link.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder whose parent is there.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a symbolic link; what has the name is an error.
    fn link(&self, target: &Path, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is written.
pub trait Output: Write {
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

impl Output for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The system's disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Fs for Disk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        OpenOptions::new().write(true).create_new(true).open(path).map(|file| Box::new(file) as Box<dyn Output>)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(unix)]
    fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::unix::fs::symlink(target, path)
    }

    #[cfg(not(unix))]
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }
}

/// Writes the file at `path` in one step: `fill` puts its content, then it appears under its name, complete and
/// durable. When anything fails, what stood there before still stands and nothing is left beside it.
pub fn write_file(path: &Path, fill: impl FnOnce(&mut Sink) -> Result<()>) -> Result<()> {
    write_file_on(&Disk, path, fill)
}

/// [`write_file`] on a disk.
pub fn write_file_on(disk: &dyn Fs, path: &Path, fill: impl FnOnce(&mut Sink) -> Result<()>) -> Result<()> {
    let (file, temporary) = beside(path, |temporary| disk.create_new(temporary))?;
    let mut leftover = Leftover { disk, path: Some(temporary) };
    let mut sink = Sink { file: BufWriter::with_capacity(BUFFER, file), path: path.to_owned(), written: Size::ZERO };
    fill(&mut sink)?;
    let mut file = sink.file.into_inner().map_err(|fault| Error::write(path, fault.into_error()))?;
    file.sync().map_err(|fault| Error::write(path, fault))?;
    drop(file);
    let temporary = leftover.path.take().expect("it was put there above");
    named(disk, &temporary, path)
}

/// Gives a complete temporary file its name: `fsync`, rename, `fsync` of the folder. Both paths must lie in one
/// folder. The temporary file is removed when it cannot be renamed.
pub fn publish(file: &File, temporary: &Path, path: &Path) -> Result<()> {
    let mut leftover = Leftover { disk: &Disk, path: Some(temporary.to_owned()) };
    file.sync_all().map_err(|fault| Error::write(path, fault))?;
    leftover.path = None;
    named(&Disk, temporary, path)
}

/// Gives a complete file, which another handle wrote, its final name: `fsync`, rename, `fsync` of the folders. What
/// cannot be renamed stays as it was.
pub fn rename_on(disk: &dyn Fs, from: &Path, to: &Path) -> Result<()> {
    disk.sync_file(from).and_then(|()| disk.rename(from, to)).map_err(|fault| Error::write(to, fault))?;
    sync_folder_on(disk, parent(to))?;
    if parent(from) == parent(to) { Ok(()) } else { sync_folder_on(disk, parent(from)) }
}

/// Gives a folder another name in the same parent, durably.
pub fn rename_folder_on(disk: &dyn Fs, from: &Path, to: &Path) -> Result<()> {
    disk.rename(from, to).map_err(|fault| Error::write(from, fault))?;
    sync_folder_on(disk, parent(to))
}

/// Makes a link of that name to `target`, in place of what has the name, in one step.
pub fn link_on(disk: &dyn Fs, target: &Path, path: &Path) -> Result<()> {
    let ((), temporary) = beside(path, |temporary| disk.link(target, temporary))?;
    named(disk, &temporary, path)
}

/// Makes a folder and those above it, each durable; one that is there is made already.
pub fn create_folders_on(disk: &dyn Fs, folder: &Path) -> Result<()> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|folder| *folder != Path::new("") && !folder.is_dir()).collect();
    for folder in missing.into_iter().rev() {
        match disk.create_folder(folder) {
            Ok(()) => {}
            // Another process was faster.
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
            Err(fault) => return Err(Error::write(folder, fault)),
        }
        sync_folder_on(disk, parent(folder))?;
    }
    Ok(())
}

/// The rename and what makes it durable.
fn named(disk: &dyn Fs, temporary: &Path, path: &Path) -> Result<()> {
    let mut leftover = Leftover { disk, path: Some(temporary.to_owned()) };
    disk.rename(temporary, path).map_err(|fault| Error::write(path, fault))?;
    leftover.path = None;
    sync_folder_on(disk, parent(path))
}

/// Removes a file durably; one that is not there is removed already.
pub fn remove(path: &Path) -> Result<()> {
    remove_on(&Disk, path)
}

/// [`remove`] on a disk.
pub fn remove_on(disk: &dyn Fs, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Ok(()) => sync_folder_on(disk, parent(path)),
        Err(fault) if fault.kind() == ErrorKind::NotFound => Ok(()),
        Err(fault) => Err(Error::write(path, fault)),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    sync_folder_on(&Disk, folder)
}

/// [`sync_folder`] on a disk.
pub fn sync_folder_on(disk: &dyn Fs, folder: &Path) -> Result<()> {
    disk.sync_folder(folder).map_err(|fault| Error::write(folder, fault))
}

/// A file that grows at its end, for logs whose last lines may be lost and downloads that go on; made where there is
/// none.
pub fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).open(path).map_err(|fault| Error::write(path, fault))
}

/// A file that stays open to be written at any place, made where there is none: the partial file of a download, or a
/// lock. What it holds gets its name by [`rename_on`].
pub fn open_partial(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(|fault| Error::write(path, fault))
}

/// An empty temporary file in the folder of `path`, under a name nobody else has. Readers skip names that begin with
/// a dot; whoever finds one that is old may delete it.
pub fn create_beside(path: &Path) -> Result<(File, PathBuf)> {
    beside(path, |temporary| OpenOptions::new().write(true).create_new(true).open(temporary))
}

fn beside<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(T, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(NAME_KEPT).collect();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = parent(path).join(format!(".{name}.{}.{count}.part", std::process::id()));
        match make(&temporary) {
            Ok(made) => return Ok((made, temporary)),
            // Left by a dead process that had our number: take the next name.
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => {}
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
    file: BufWriter<Box<dyn Output>>,
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
struct Leftover<'d> {
    disk: &'d dyn Fs,
    path: Option<PathBuf>,
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What failed before is the error worth telling.
            let _ = self.disk.remove(path);
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
