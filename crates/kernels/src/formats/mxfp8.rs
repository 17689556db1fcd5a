//! MXFP8: 32 FP8 elements under a power of two, the scale's byte first, in its two kinds, E4M3 and E5M2.

use bytemuck::{Pod, Zeroable};

use super::Traits;
use super::block::{Block, Encode, Importance, read_write};
use super::mx;
use super::small_float::{E4M3, E5M2};
use super::{e4m3, e5m2};

pub const E4M3_TRAITS: Traits = read_write::<MXFP8_E4M3, 32>("MXFP8_E4M3", None);
pub const E5M2_TRAITS: Traits = read_write::<MXFP8_E5M2, 32>("MXFP8_E5M2", None);

mx::block! {
    /// A block of E4M3.
    MXFP8_E4M3, 32, E4M3, |code| e4m3::VALUES[usize::from(code)], same, same
}

mx::block! {
    /// A block of E5M2.
    MXFP8_E5M2, 32, E5M2, |code| e5m2::VALUES[usize::from(code)], same, same
}

fn same(codes: &[u8; 32]) -> [u8; 32] {
    *codes
}
