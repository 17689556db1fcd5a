//! A SHA-256 digest as a value: whatever a file says becomes 32 bytes or an error, so that no text from a manifest
//! ever becomes part of a path.

use std::fmt;

use pasture_files::error::quoted;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
        Digest(Sha256::digest(bytes).into())
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
    fn the_digest_of_nothing_is_the_known_one() {
        let known = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b""), Digest::parse(known).unwrap());
    }
}
