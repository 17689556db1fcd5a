//! Files of data from files of data: parted into what is learned and what is held out, and without rows that stand there
//! twice. Rows are read anew for each file that is written, so that none stays in memory.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::Path;

use pasture_files::data::{self, Content, Layout};
use pasture_files::durable;
use pasture_files::error::file_name;
use serde::Serialize;

use super::error::{Error, Result};
use super::fingerprint::{canonical, fingerprint, near_fingerprint};
use super::split::{Key, held_out};

/// Groups of equal rows that are told one by one.
const GROUPS_MAX: usize = 1_000;

/// How a file was parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parted {
    /// Rows to learn from.
    pub kept: usize,
    /// Rows that are held out.
    pub held_out: usize,
}

/// Which rows stand in a file twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deduplicated {
    /// All rows.
    pub rows: usize,
    /// Rows that are equal to one before.
    pub duplicates: usize,
    /// Rows that differ from one before in case, marks and white space alone.
    pub near_duplicates: usize,
    /// For the first rows that repeat one: its line and that of the row which it repeats.
    pub pairs: Vec<(usize, usize)>,
    /// Rows that stay.
    pub kept: usize,
}

/// Whether rows that are nearly the same count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// Every letter.
    Exact,
    /// Words alone.
    Words,
}

/// Parts the rows of a file: `share` of them are held out, by seed and content. `into` are the files to be written as
/// JSONL: what is learned, what is held out.
///
/// # Errors
/// At the first row that cannot be read, and when a file cannot be written.
pub fn split(path: &Path, kind: Option<Layout>, share: f64, seed: u64, into: Option<[&Path; 2]>) -> Result<Parted> {
    let mut keys = Vec::new();
    each(path, kind, &mut |_, content| {
        keys.push(Key::new(&fingerprint(content), 0));
        Ok(())
    })?;
    let held = held_out(&keys, share, seed);
    let out = held.iter().filter(|held| **held).count();
    for (file, side) in into.into_iter().flatten().zip([false, true]) {
        let mut place = 0;
        write(path, kind, file, &mut |_| {
            place += 1;
            held[place - 1] == side
        })?;
    }
    Ok(Parted { kept: held.len() - out, held_out: out })
}

/// Looks for rows that repeat one before; `into` is the file to be written without them, as JSONL.
///
/// # Errors
/// At the first row that cannot be read, and when the file cannot be written.
pub fn deduplicate(path: &Path, kind: Option<Layout>, same: Sameness, into: Option<&Path>) -> Result<Deduplicated> {
    let mut found = Deduplicated::default();
    let (mut exact, mut near) = (std::collections::HashMap::new(), std::collections::HashMap::new());
    let mut dropped = HashSet::new();
    each(path, kind, &mut |line, content| {
        let place = found.rows;
        found.rows += 1;
        let (whole, words) = (fingerprint(content), near_fingerprint(content));
        let (equal, like) = (exact.get(&whole).copied(), near.get(&words).copied());
        exact.entry(whole).or_insert(line);
        near.entry(words).or_insert(line);
        found.duplicates += usize::from(equal.is_some());
        found.near_duplicates += usize::from(equal.is_none() && like.is_some());
        let first = equal.or(like.filter(|_| same == Sameness::Words));
        if first.is_some() {
            dropped.insert(place);
        }
        if let Some(first) = equal.or(like).filter(|_| found.pairs.len() < GROUPS_MAX) {
            found.pairs.push((line, first));
        }
        Ok(())
    })?;
    found.kept = found.rows - dropped.len();
    if let Some(file) = into {
        let mut place = 0;
        write(path, kind, file, &mut |_| {
            place += 1;
            !dropped.contains(&(place - 1))
        })?;
    }
    Ok(found)
}

/// Hands every row with its line over.
fn each(
    path: &Path,
    kind: Option<Layout>,
    take: &mut dyn FnMut(usize, &Content) -> pasture_files::Result<()>,
) -> Result<()> {
    let rows = data::open(path, data::Options { layout: kind, vocabulary: None })?;
    if rows.is_plain_text() {
        let what = "plain text has no rows; tuning itself holds pieces of it out";
        return Err(Error::Nothing { file: file_name(path), what: what.into() });
    }
    let mut any = false;
    for row in rows {
        let row = row?;
        any = true;
        take(row.line, &row.content)?;
    }
    if any { Ok(()) } else { Err(Error::Nothing { file: file_name(path), what: "it has no rows".into() }) }
}

/// Writes the rows that are wanted.
fn write(path: &Path, kind: Option<Layout>, into: &Path, wanted: &mut dyn FnMut(&Content) -> bool) -> Result<()> {
    let written = durable::write_file(into, |sink| {
        let put = &mut |_: usize, content: &Content| match wanted(content) {
            true => sink.put(format!("{}\n", canonical(content)).as_bytes()),
            false => Ok(()),
        };
        // The rows were read before; a file that changed meanwhile is told as such.
        each(path, kind, put).map_err(|fault| match fault {
            Error::File(fault) => fault,
            other => pasture_files::Error::invalid(file_name(path), other.to_string()),
        })
    });
    Ok(written?)
}
