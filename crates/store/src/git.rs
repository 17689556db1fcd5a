//! Digests as git has them, by which hubs know small files and commits: SHA-1, whose collisions are nobody's guarantee here.

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

/// A digest in the making.
pub(crate) struct Sha1(Context);

impl Sha1 {
    /// Of any text.
    pub fn new() -> Sha1 {
        Sha1(Context::new(&SHA1_FOR_LEGACY_USE_ONLY))
    }

    /// Of a file of that length, whose bytes follow.
    pub fn of_file(bytes: u64) -> Sha1 {
        let mut sum = Sha1::new();
        sum.update(format!("blob {bytes}\0").as_bytes());
        sum
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// 40 lower-case hexadecimal digits.
    pub fn digits(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The digest under which git keeps a file of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut sum = Sha1::of_file(bytes.len() as u64);
    sum.update(bytes);
    sum.digits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_nothing_is_gits() {
        assert_eq!(digest(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(digest(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
