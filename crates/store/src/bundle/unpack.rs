//! Taking a bundle apart: each piece is written beside its place, checked, and gets its name; the works get theirs when all
//! of their pieces are there. What an interrupted run has written is checked and kept.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use pasture_files::durable;
use pasture_files::folder::is_plain;
use pasture_files::size::Size;
use sha2::{Digest as _, Sha256};

use super::pack::hex;
use super::{Bundle, Piece, Work, wrong};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::is_name;
use crate::repository::is_leftover;

/// The file in a work's folder that says which bundle it came from.
const MARK: &str = ".bundle";
/// How the folder of a work is called until it is whole.
const PARTIAL: &str = ".partial";

/// A work that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// What a model is opened by: the folder, or a file in it.
    pub opens: PathBuf,
    /// Whether it was there already, from this very bundle.
    pub was_there: bool,
}

/// The folder of unpacked works in the data folder.
pub(crate) const WORKS: &str = "works";
/// A mark is two short lines.
const MARK_BYTES_MAX: Size = Size::new(4096);

/// The bundle that a folder is from, and the file in it that is opened; nothing where it has no mark.
fn mark(folder: &Path) -> (String, String) {
    let bytes = pasture_files::folder::read_file(&folder.join(MARK), MARK_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    let mut lines = text.lines().map(str::to_owned);
    (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
}

/// Whether a folder is a work that was unpacked.
pub(crate) fn is_work(folder: &Path) -> bool {
    folder.join(MARK).is_file()
}

/// An unpacked work of that name: what a model is opened by.
pub fn find(environment: &Environment, name: &str) -> Option<PathBuf> {
    // A folder that is being filled or removed has a mark too.
    let name = Some(name).filter(|name| is_name(name) && !is_leftover(name))?;
    let folder = environment.data()?.join(WORKS).join(name);
    let (bundle, file) = mark(&folder);
    match file.as_str() {
        _ if bundle.is_empty() => None,
        "" => Some(folder),
        file => Some(folder.join(Some(file).filter(|file| is_plain(file))?)),
    }
}

/// Names of all unpacked works, in alphabetical order.
pub fn names(environment: &Environment) -> Vec<String> {
    let Some(folder) = environment.data().map(|data| data.join(WORKS)) else { return Vec::new() };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| find(environment, name).is_some()).collect();
    names.sort();
    names
}

/// What an unpacking is told of its way.
type Progress<'a> = &'a mut dyn FnMut(u64, u64);

impl Bundle {
    /// Writes all works below `to`, each into a folder of its name. One that is there from this bundle stays; one from
    /// elsewhere is an error. A run that was interrupted goes on.
    ///
    /// # Errors
    /// The first piece that is not what was packed, a folder that is taken, or what the system refuses.
    pub fn unpack(&self, to: &Path, progress: Progress<'_>) -> Result<Vec<Unpacked>> {
        crate::durable::folder(to)?;
        let (all, mut done) = (self.byte_count(), 0);
        // What cannot be is told before anything is written.
        for work in &self.manifest.works {
            self.there(to, work)?;
        }
        let mut found = Vec::new();
        for work in &self.manifest.works {
            let folder = to.join(&work.name);
            let opens = work.file.as_ref().map_or_else(|| folder.clone(), |file| folder.join(file));
            let was_there = self.there(to, work)?;
            if !was_there {
                self.work(to, work, &mut |more| {
                    done += more;
                    progress(done, all);
                })?;
            }
            found.push(Unpacked { name: work.name.clone(), folder, opens, was_there });
        }
        Ok(found)
    }

    /// Unpacks into Pasture's own folder.
    ///
    /// # Errors
    /// As [`Bundle::unpack`], and where there is no such folder.
    pub fn unpack_named(&self, environment: &Environment, progress: Progress<'_>) -> Result<Vec<Unpacked>> {
        let data = environment.data().ok_or_else(|| wrong(self.path(), "there is no folder for Pasture's data"))?;
        self.unpack(&data.join(WORKS), progress)
    }

    /// Whether a work's folder is there from this bundle.
    fn there(&self, to: &Path, work: &Work) -> Result<bool> {
        let folder = to.join(&work.name);
        if std::fs::symlink_metadata(&folder).is_err() {
            return Ok(false);
        }
        match mark(&folder).0 == self.digest {
            true => Ok(true),
            false => Err(Error::Taken { path: folder, name: work.name.clone() }),
        }
    }

    fn work(&self, to: &Path, work: &Work, count: &mut dyn FnMut(u64)) -> Result<()> {
        let partial = to.join(format!("{}{PARTIAL}", work.name));
        // What another bundle left half done is of no use here.
        if mark(&partial).0 != self.digest && partial.exists() {
            remove_folder(&partial)?;
        }
        crate::durable::folder(&partial)?;
        sweep(&partial)?;
        let opens = work.file.as_deref().unwrap_or_default();
        durable::write_file(&partial.join(MARK), |sink| sink.put(format!("{}\n{opens}\n", self.digest).as_bytes()))?;
        for piece in &self.manifest.pieces {
            let Some(rest) = piece.path.strip_prefix(work.name.as_str()).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            self.piece(piece, &partial.join(rest), count)?;
        }
        // A folder is published as a file is: what is in it is durable, its name comes last.
        let whole = File::open(&partial).map_err(|fault| pasture_files::Error::read(&partial, fault))?;
        durable::publish(&whole, &partial, &to.join(&work.name))?;
        Ok(())
    }

    /// Writes one piece, unless it is there and right.
    fn piece(&self, piece: &Piece, path: &Path, count: &mut dyn FnMut(u64)) -> Result<()> {
        if let Some(folder) = path.parent() {
            crate::durable::folder(folder)?;
        }
        let whole = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == piece.bytes);
        if whole && digest(path)? == piece.sha256 {
            count(piece.bytes);
            return Ok(());
        }
        let (mut file, temporary) = durable::create_beside(path)?;
        let written = self.read(piece, &mut |part| {
            count(part.len() as u64);
            file.write_all(part).map_err(|fault| pasture_files::Error::write(path, fault).into())
        });
        match written {
            Ok(()) => Ok(durable::publish(&file, &temporary, path)?),
            Err(fault) => {
                // What failed before is the error worth telling.
                let _ = durable::remove(&temporary);
                Err(fault)
            }
        }
    }

    /// Whether files below `to` are what this bundle holds: nothing is written.
    ///
    /// # Errors
    /// The first file that differs or is missing.
    pub fn compare(&self, to: &Path) -> Result<()> {
        for piece in &self.manifest.pieces {
            let path = to.join(&piece.path);
            if !path.is_file() || digest(&path)? != piece.sha256 {
                return Err(wrong(self.path(), format!("{:?} was changed after it was unpacked", piece.path)));
            }
        }
        Ok(())
    }
}

/// Removes the temporary files of a run that was killed.
fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|fault| pasture_files::Error::read(folder, fault))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".part") {
            durable::remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(|fault| pasture_files::Error::write(folder, fault).into())
}

fn digest(path: &Path) -> Result<String> {
    let fault = |fault| pasture_files::Error::read(path, fault);
    let (mut file, mut hasher, mut part) = (File::open(path).map_err(fault)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut part).map_err(fault)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&part[..count]);
    }
}
