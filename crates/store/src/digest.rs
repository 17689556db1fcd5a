//! A SHA-256 digest as a value: whatever a file says becomes 32 bytes or an error, so that no text from a manifest
//! ever becomes part of a path.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use pasture_files::error::quoted;
use ring::digest::{Context, SHA256};

use crate::sums::parts;

/// The file beside a model that says what a change did to it.
const RECEIPT: &str = "receipt.json";

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Reads `sha256:` and 64 lower-case hexadecimal digits, and nothing else.
    pub fn parse(text: &str) -> Result<Digest, String> {
        let fault = || format!("{} is no digest: \"sha256:\" and 64 digits of 0-9a-f make one", quoted(text));
        let digits = text.strip_prefix("sha256:").ok_or_else(fault)?;
        let pairs: &[[u8; 2]] = digits.as_bytes().as_chunks().0;
        if digits.len() != 64 || pairs.len() != 32 {
            return Err(fault());
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low).ok_or_else(fault)?;
        }
        Ok(Digest(bytes))
    }

    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(ring::digest::digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The digest of all that a reader gives; `seen` hears how many bytes each part had, and ends the reading when it
    /// says false.
    ///
    /// # Errors
    /// Those of the reader, and `Interrupted` when `seen` ended it.
    pub fn of_reader(reader: impl Read, seen: &mut dyn FnMut(u64) -> bool) -> io::Result<Digest> {
        let mut context = Context::new(&SHA256);
        parts(reader, seen, &mut |part| context.update(part))?;
        Ok(Digest::from_ring(&context.finish()))
    }

    /// The digest of a file, or of a folder: that of the list of its files, sorted by name, each with its own digest;
    /// hidden files, receipts and folders inside are not part of it. The same that receipts name.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn of_path(path: &Path, seen: &mut dyn FnMut(u64) -> bool) -> Result<Digest, pasture_files::Error> {
        let fault = |source| pasture_files::Error::read(path, source);
        if !path.is_dir() {
            return Digest::of_reader(File::open(path).map_err(fault)?, seen).map_err(fault);
        }
        Digest::of_folder(path, &mut |file| Digest::of_path(file, seen))
    }

    /// The digest of a folder whose files' digests somebody else finds.
    pub(crate) fn of_folder<E: From<pasture_files::Error>>(
        path: &Path,
        of_file: &mut dyn FnMut(&Path) -> Result<Digest, E>,
    ) -> Result<Digest, E> {
        let fault = |source| pasture_files::Error::read(path, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(fault)? {
            let name = entry.map_err(fault)?.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && name != RECEIPT && path.join(&name).is_file() {
                names.push(name);
            }
        }
        names.sort();
        let mut list = String::new();
        for name in names {
            list.push_str(&format!("{} {name}\n", of_file(&path.join(&name))?));
        }
        Ok(Digest::of(list.as_bytes()))
    }

    /// Reads 64 lower-case hexadecimal digits, and nothing else.
    pub fn parse_hex(digits: &str) -> Result<Digest, String> {
        Digest::parse(&format!("sha256:{digits}"))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A finished digest of ring's; that of no other length than SHA-256's is ever handed here.
    pub(crate) fn from_ring(digest: &ring::digest::Digest) -> Digest {
        Digest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Its 64 hexadecimal digits, by which hubs know a large file.
    pub fn hexadecimal(&self) -> String {
        Hexadecimal(&self.0).to_string()
    }

    /// The name of the blob's file in Ollama's folder.
    pub fn blob_name(&self) -> String {
        format!("sha256-{}", Hexadecimal(&self.0))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

struct Hexadecimal<'a>(&'a [u8]);

impl fmt::Display for Hexadecimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", Hexadecimal(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_digest_is_a_digest() {
        let good = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(Digest::parse(&good).unwrap().to_string(), good);
        assert_eq!(Digest::parse(&good).unwrap().blob_name(), good.replace(':', "-"));
        let digits = "a".repeat(64);
        let bad = [
            String::new(),
            "sha256:".into(),
            digits.clone(),
            format!("sha256-{digits}"),
            format!("SHA256:{digits}"),
            format!("sha512:{digits}"),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "g".repeat(64)),
            format!("sha256:{digits}a"),
            format!("sha256:{digits}\n"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{}é", &digits[2..]),
            format!("sha256:../../../{}", &digits[9..]),
        ];
        for text in bad {
            assert!(Digest::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_folder_is_the_list_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("b", "two"), ("a", "one"), (RECEIPT, "{}"), (".hidden", "x")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut bytes = 0;
        let found = Digest::of_path(folder.path(), &mut |count| {
            bytes += count;
            true
        });
        let list = format!("{} a\n{} b\n", Digest::of(b"one"), Digest::of(b"two"));
        assert_eq!((found.unwrap(), bytes), (Digest::of(list.as_bytes()), 6));
        assert!(Digest::of_path(&folder.path().join("a"), &mut |_| false).is_err());
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let known = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b""), Digest::parse(known).unwrap());
    }
}
