//! Both digests of a file in one reading: SHA-256, by which hubs and receipts know it, and BLAKE3, which is read several
//! times as fast and serves whenever the same file is compared again. Either says that no bit changed.

use std::fmt;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};

use crate::Digest;

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// The BLAKE3 of a file. Only the ledger of this machine holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick([u8; 32]);

/// Both digests of the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// SHA-256.
    pub digest: Digest,
    /// BLAKE3.
    pub quick: Quick,
}

impl Sums {
    /// Those of all that a reader gives; `seen` hears how many bytes each part had, and ends the reading when it says
    /// false.
    ///
    /// # Errors
    /// Those of the reader, and `Interrupted` when `seen` ended it.
    pub fn of_reader(reader: impl Read, seen: &mut dyn FnMut(u64) -> bool) -> io::Result<Sums> {
        let (mut slow, mut fast) = (Context::new(&SHA256), blake3::Hasher::new());
        parts(reader, seen, &mut |part| {
            slow.update(part);
            fast.update(part);
        })?;
        Ok(Sums { digest: Digest::from_ring(&slow.finish()), quick: Quick(*fast.finalize().as_bytes()) })
    }
}

impl Quick {
    /// That of all that a reader gives.
    ///
    /// # Errors
    /// As [`Sums::of_reader`].
    pub fn of_reader(reader: impl Read, seen: &mut dyn FnMut(u64) -> bool) -> io::Result<Quick> {
        let mut sum = blake3::Hasher::new();
        parts(reader, seen, &mut |part| {
            sum.update(part);
        })?;
        Ok(Quick(*sum.finalize().as_bytes()))
    }

    /// Reads 64 hexadecimal digits.
    pub(crate) fn parse(digits: &str) -> Result<Quick, String> {
        // A SHA-256 is written in the same digits.
        Digest::parse_hex(digits).map(|digest| Quick(*digest.bytes()))
    }
}

impl fmt::Display for Quick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hands over what a reader gives, part by part.
pub(crate) fn parts(
    mut reader: impl Read,
    seen: &mut dyn FnMut(u64) -> bool,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        match reader.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                take(&part[..count]);
                if !seen(count as u64) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digests_are_the_known_ones() {
        let sums = Sums::of_reader(&b"abc"[..], &mut |_| true).expect("bytes in memory");
        assert_eq!(sums.digest, Digest::of(b"abc"));
        // From the test vectors of the BLAKE3 team's command b3sum.
        assert_eq!(sums.quick.to_string(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(Quick::of_reader(&b"abc"[..], &mut |_| true).expect("bytes in memory"), sums.quick);
        assert_eq!(Quick::parse(&sums.quick.to_string()), Ok(sums.quick));
        assert!(Quick::parse("x").is_err());
        assert!(Sums::of_reader(&b"abc"[..], &mut |_| false).is_err(), "the watcher ends it");
    }
}
