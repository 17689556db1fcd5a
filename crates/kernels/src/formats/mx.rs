//! What the Open Compute microscaling formats share: 32 elements under a power of two, chosen so that the largest
//! magnitude gets the element's greatest exponent. Elements and packing stand in each format's file.
//! Elements that are still too large are stored as the greatest; an element format without NaN stores it as 0.

use super::small_float::{SmallFloat, e8m0_decode};

/// The code of a block's scale, for elements whose greatest number has the exponent `greatest`.
pub fn scale_code(values: &[f32; 32], greatest: i32) -> u8 {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 0;
    }
    // Numbers beneath the normal ones get the least scale in any case. Infinity gets the exponent 128.
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    (exponent - greatest).clamp(-127, 127).wrapping_add(127) as u8
}

/// A block's scale and codes, by what encodes one element.
pub fn encode(values: &[f32; 32], greatest: i32, element: impl Fn(f32) -> u8) -> (u8, [u8; 32]) {
    let code = scale_code(values, greatest);
    let scale = e8m0_decode(code);
    (code, values.map(|value| element(value / scale)))
}

/// A block's values, by what decodes one element.
pub fn decode(scale: u8, codes: &[u8; 32], element: impl Fn(u8) -> f32) -> [f32; 32] {
    let scale = e8m0_decode(scale);
    codes.map(|code| scale * element(code))
}

/// [`encode`] for float elements.
pub fn encode_floats(values: &[f32; 32], format: SmallFloat) -> (u8, [u8; 32]) {
    encode(values, format.greatest_exponent(), |value| format.encode_saturating(value))
}

/// The table entry's block of a float format: scale, codes as `pack` lays them.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $element:expr, $decode:expr, $pack:expr, $unpack:expr) => {
        $(#[$doc])*
        #[allow(non_camel_case_types)]
        #[repr(C)]
        #[derive(Clone, Copy, Pod, Zeroable)]
        pub struct $name {
            scale: u8,
            codes: [u8; $bytes],
        }

        impl Block<32> for $name {
            fn decode(&self, out: &mut [f32; 32]) {
                *out = mx::decode(self.scale, &$unpack(&self.codes), $decode);
            }
        }

        impl Encode<32> for $name {
            fn encode(values: &[f32; 32], _importance: Option<Importance<'_, 32>>) -> $name {
                let (scale, codes) = mx::encode_floats(values, $element);
                $name { scale, codes: $pack(&codes) }
            }
        }
    };
}
pub(super) use block;
