//! A GGUF checkpoint in several files: `NAME-00001-of-00003.gguf` and so on, in one folder. The first part has the
//! metadata; each part says its number, the number of parts and the number of all tensors, and all must agree.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::{Gguf, Metadata};
use crate::error::{Error, Result};
use crate::folder::Folder;
use crate::mmap::Bytes;

pub(super) const NUMBER_KEY: &str = "split.no";
pub(super) const COUNT_KEY: &str = "split.count";
pub(super) const TENSORS_KEY: &str = "split.tensors.count";

/// One part of a split file.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
    pub(crate) gguf: Gguf,
}

/// The name of a part: its numbers begin at 1 there and at 0 in the metadata.
pub(super) fn part_name(stem: &str, index: u64, count: u64) -> String {
    format!("{stem}-{:05}-of-{count:05}.gguf", index.saturating_add(1))
}

/// The stem of a part's name, its index from 0, and the number of parts; none for names of another form.
pub(super) fn parse_name(name: &str) -> Option<(&str, u64, u64)> {
    let rest = name.strip_suffix(".gguf")?;
    let (rest, count) = rest.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(number) || !digits(count) {
        return None;
    }
    Some((stem, number.parse::<u64>().ok()?.checked_sub(1)?, count.parse().ok()?))
}

/// The first part among the names of GGUF files, where all of them are parts of one checkpoint.
pub(crate) fn whole_of(names: &[&str]) -> Option<String> {
    let (stem, _, count) = parse_name(names.first()?)?;
    let same = |name: &&str| parse_name(name).is_some_and(|found| found.0 == stem && found.2 == count);
    names.iter().all(same).then(|| part_name(stem, 0, count))
}

/// How many parts a file says it belongs to; one where it says nothing.
pub(crate) fn part_count(metadata: &Metadata) -> Result<u64> {
    match metadata.count(COUNT_KEY)? {
        None => Ok(1),
        Some(0) => Err(metadata.invalid(COUNT_KEY, "is 0, a checkpoint has at least one part")),
        Some(count) => Ok(count),
    }
}

/// Opens all parts of the checkpoint that `name`, a file of the folder, is a part of. A file that is not split is its
/// own only part.
pub(crate) fn open_parts(folder: &Folder, name: &str, bytes: Bytes) -> Result<Vec<Part>> {
    let gguf = Gguf::parse(&bytes, name)?;
    let count = part_count(&gguf.metadata)?;
    if count == 1 {
        check_total(&gguf, gguf.tensors.len())?;
        return Ok(vec![Part { name: name.to_owned(), bytes, gguf }]);
    }
    let named = parse_name(name).filter(|named| named.2 == count);
    let (stem, _, _) = named.ok_or_else(|| {
        let what = format!("it is one of {count} parts, which is not what its name says; parts must keep their names");
        Error::invalid(name, what)
    })?;
    // Part by part, so that a false count ends at the first name that is not there.
    let mut parts: Vec<Part> = Vec::new();
    for index in 0..count {
        let name = part_name(stem, index, count);
        let bytes = folder.map(&name)?.ok_or_else(|| folder.missing(format!("{name:?}, part of a split GGUF")))?;
        let gguf = Gguf::parse(&bytes, &name)?;
        check_part(&gguf, index, count)?;
        parts.push(Part { name, bytes, gguf });
    }
    let total = parts.iter().fold(0usize, |total, part| total.saturating_add(part.gguf.tensors.len()));
    for part in &parts {
        check_total(&part.gguf, total)?;
    }
    Ok(parts)
}

fn check_part(gguf: &Gguf, index: u64, count: u64) -> Result<()> {
    let metadata = &gguf.metadata;
    for (key, wanted) in [(NUMBER_KEY, index), (COUNT_KEY, count)] {
        let found = metadata.count(key)?.ok_or_else(|| metadata.missing(key))?;
        if found != wanted {
            return Err(metadata.invalid(key, &format!("is {found}, by the file's name it should be {wanted}")));
        }
    }
    Ok(())
}

fn check_total(gguf: &Gguf, total: usize) -> Result<()> {
    match gguf.metadata.count(TENSORS_KEY)? {
        Some(said) if usize::try_from(said) != Ok(total) => {
            Err(gguf.metadata.invalid(TENSORS_KEY, &format!("is {said}, all parts together have {total} tensors")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_read_both_ways() {
        let check = |name: &str, wanted| assert_eq!(parse_name(name), wanted, "{name}");
        check("m-00001-of-00002.gguf", Some(("m", 0, 2)));
        check("a-b-Q4_K-00003-of-00003.gguf", Some(("a-b-Q4_K", 2, 3)));
        check("m-00000-of-00002.gguf", None);
        check("m-1-of-2.gguf", None);
        check("m-00001-of-00002.bin", None);
        check("m.gguf", None);
        assert_eq!(part_name("m", 0, 2), "m-00001-of-00002.gguf");
    }

    #[test]
    fn parts_of_two_checkpoints_are_no_whole() {
        let check = |names: &[&str], wanted: Option<&str>| assert_eq!(whole_of(names).as_deref(), wanted);
        check(&["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"], Some("m-00001-of-00002.gguf"));
        check(&["m-00002-of-00002.gguf"], Some("m-00001-of-00002.gguf"));
        check(&["m-00001-of-00002.gguf", "n-00002-of-00002.gguf"], None);
        check(&["m-00001-of-00002.gguf", "m.gguf"], None);
        check(&["m.gguf"], None);
        check(&[], None);
    }
}
