//! What files hold: bytes, or a pattern that is made while it is sent, so that large files cost no memory.

use std::sync::Arc;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// The content of a file.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes as they are.
    Bytes(Arc<[u8]>),
    /// Bytes that follow from a seed and their place.
    Made {
        /// Which pattern.
        seed: u64,
        /// How many bytes.
        length: u64,
    },
    /// So many zeros, which cost nothing to make.
    Zeros(u64),
}

/// Bytes that are made at once.
const STEP: usize = 1 << 16;

impl Content {
    /// Bytes as they are.
    pub fn of(bytes: impl AsRef<[u8]>) -> Content {
        Content::Bytes(bytes.as_ref().into())
    }

    /// How long it is.
    pub fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Made { length, .. } | Content::Zeros(length) => *length,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.length() == 0
    }

    /// The bytes from `from`, at most so many.
    pub fn read(&self, from: u64, most: usize) -> Vec<u8> {
        let end = from.saturating_add(most as u64).min(self.length());
        match self {
            Content::Bytes(bytes) => bytes[from as usize..end as usize].to_vec(),
            Content::Zeros(_) => vec![0; (end - from) as usize],
            Content::Made { seed, .. } => {
                let mut made = Vec::with_capacity((end - from) as usize);
                let mut at = from;
                while at < end {
                    let word = mixed(seed ^ (at / 8)).to_le_bytes();
                    let inside = (at % 8) as usize;
                    let take = (8 - inside).min((end - at) as usize);
                    made.extend_from_slice(&word[inside..inside + take]);
                    at += take as u64;
                }
                made
            }
        }
    }

    fn feed(&self, context: &mut Context) {
        let mut at = 0;
        while at < self.length() {
            let bytes = self.read(at, STEP);
            context.update(&bytes);
            at += bytes.len() as u64;
        }
    }
}

/// A well-mixed word for a place (the finalizer of SplitMix64).
fn mixed(place: u64) -> u64 {
    let mut word = place.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The SHA-256 of a content, as large files have it.
pub fn sha256(content: &Content) -> String {
    let mut context = Context::new(&SHA256);
    content.feed(&mut context);
    hex(context.finish().as_ref())
}

/// The digest under which git keeps a content, as small files have it.
pub fn git_sha1(content: &Content) -> String {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(format!("blob {}\0", content.length()).as_bytes());
    content.feed(&mut context);
    hex(context.finish().as_ref())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
