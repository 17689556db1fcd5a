//! MXFP6: 32 FP6 elements under a power of two, the scale's byte first, in its two kinds, E2M3 and E3M2.
//! The codes are one string of bits, code `j` in bits `6 j..6 j + 6` from the lowest bit of the first byte.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, read_write};
use super::mx;
use super::small_float::{E2M3, E3M2};

pub const E2M3_TRAITS: Traits = read_write::<MXFP6_E2M3, 32>("MXFP6_E2M3", None);
pub const E3M2_TRAITS: Traits = read_write::<MXFP6_E3M2, 32>("MXFP6_E3M2", None);

mx::block! {
    /// A block of E2M3.
    MXFP6_E2M3, 24, E2M3, |code| E2M3.decode(code), pack, unpack
}

mx::block! {
    /// A block of E3M2.
    MXFP6_E3M2, 24, E3M2, |code| E3M2.decode(code), pack, unpack
}

fn pack(codes: &[u8; 32]) -> [u8; 24] {
    let (fours, _) = codes.as_chunks::<4>();
    let mut bytes = [0; 24];
    for (bytes, fours) in bytes.as_chunks_mut::<3>().0.iter_mut().zip(fours) {
        let [a, b, c, d] = *fours;
        *bytes = [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2];
    }
    bytes
}

fn unpack(bytes: &[u8; 24]) -> [u8; 32] {
    let mut codes = [0; 32];
    for (codes, bytes) in codes.as_chunks_mut::<4>().0.iter_mut().zip(bytes.as_chunks::<3>().0) {
        let [a, b, c] = *bytes;
        *codes = [a & 63, (a >> 6 | b << 2) & 63, (b >> 4 | c << 4) & 63, c >> 2];
    }
    codes
}
