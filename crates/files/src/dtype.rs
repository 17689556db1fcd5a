//! What one stored value is, over all containers: the number formats that kernels compute with, and the plain integer
//! and exotic kinds that containers may hold besides. Every byte count of a tensor is made here, checked.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;

use pasture_kernels::Format;

use crate::size::{Overflow, Size};

/// The kind of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// A format that kernels multiply with.
    Number(Format),
    /// Signed 8 bits.
    I8,
    /// Signed 16 bits.
    I16,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
    /// Unsigned 8 bits.
    U8,
    /// Unsigned 16 bits.
    U16,
    /// Unsigned 32 bits.
    U32,
    /// Unsigned 64 bits.
    U64,
    /// IEEE 754 binary64.
    F64,
    /// One byte, 0 or 1.
    Bool,
    /// Two binary32: real and imaginary part.
    C64,
    /// Powers of two: the scales of Open Compute's MX formats.
    E8M0,
    /// FP8 with 4 exponent bits, no infinities and no negative zero.
    E4M3Fnuz,
    /// FP8 with 5 exponent bits, no infinities and no negative zero.
    E5M2Fnuz,
    /// FP6 with 2 exponent bits, packed.
    E2M3,
    /// FP6 with 3 exponent bits, packed.
    E3M2,
    /// FP4 with 2 exponent bits, two to a byte.
    E2M1,
}

impl Dtype {
    /// The name the field uses: GGUF's for block formats, safetensors' for the others.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Number(format) => format.name(),
            Dtype::I8 => "I8",
            Dtype::I16 => "I16",
            Dtype::I32 => "I32",
            Dtype::I64 => "I64",
            Dtype::U8 => "U8",
            Dtype::U16 => "U16",
            Dtype::U32 => "U32",
            Dtype::U64 => "U64",
            Dtype::F64 => "F64",
            Dtype::Bool => "BOOL",
            Dtype::C64 => "C64",
            Dtype::E8M0 => "F8_E8M0",
            Dtype::E4M3Fnuz => "F8_E4M3FNUZ",
            Dtype::E5M2Fnuz => "F8_E5M2FNUZ",
            Dtype::E2M3 => "F6_E2M3",
            Dtype::E3M2 => "F6_E3M2",
            Dtype::E2M1 => "F4",
        }
    }

    /// The format to compute with, where there is one.
    pub fn format(self) -> Option<Format> {
        match self {
            Dtype::Number(format) => Some(format),
            _ => None,
        }
    }

    /// Values per block and bits per block.
    fn block(self) -> (usize, u64) {
        match self {
            Dtype::Number(format) => (format.block(), (format.block_bytes() as u64).saturating_mul(8)),
            Dtype::E2M1 => (1, 4),
            Dtype::E2M3 | Dtype::E3M2 => (1, 6),
            Dtype::I8 | Dtype::U8 | Dtype::Bool | Dtype::E8M0 | Dtype::E4M3Fnuz | Dtype::E5M2Fnuz => (1, 8),
            Dtype::I16 | Dtype::U16 => (1, 16),
            Dtype::I32 | Dtype::U32 => (1, 32),
            Dtype::I64 | Dtype::U64 | Dtype::F64 | Dtype::C64 => (1, 64),
        }
    }

    /// Bytes of a tensor of that shape (outermost dimension first). Rows must be whole blocks, and the whole must be
    /// whole bytes.
    pub fn byte_count(self, shape: &[usize]) -> Result<Size, Overflow> {
        let (block, bits) = self.block();
        let columns = Size::of(shape.last().copied().unwrap_or(1));
        columns.div_exact(Size::of(block))?;
        let blocks = Size::product(shape)?.div_exact(Size::of(block))?;
        // Bits first would refuse tensors whose bytes still fit; only the packed kinds need them.
        if bits.is_multiple_of(8) {
            return blocks.mul(Size::new(bits).div_exact(Size::new(8))?);
        }
        blocks.mul(Size::new(bits))?.div_exact(Size::new(8))
    }

    /// The kind with that type number in GGUF files. Types that were removed from GGUF have none.
    pub fn from_ggml_type(number: u32) -> Option<Dtype> {
        match number {
            24 => Some(Dtype::I8),
            25 => Some(Dtype::I16),
            26 => Some(Dtype::I32),
            27 => Some(Dtype::I64),
            28 => Some(Dtype::F64),
            _ => Format::from_ggml_type(number).map(Dtype::Number),
        }
    }

    /// The type number in GGUF files, where GGUF has the kind.
    pub fn ggml_type(self) -> Option<u32> {
        match self {
            Dtype::Number(format) => format.ggml_type(),
            Dtype::I8 => Some(24),
            Dtype::I16 => Some(25),
            Dtype::I32 => Some(26),
            Dtype::I64 => Some(27),
            Dtype::F64 => Some(28),
            _ => None,
        }
    }

    /// The kind of that name in a safetensors header. Upper case only, as the format has it.
    pub fn from_safetensors(name: &str) -> Option<Dtype> {
        SAFETENSORS.iter().find(|row| row.0 == name).and_then(|row| match row.1 {
            Kind::Plain(dtype) => Some(dtype),
            Kind::Format(format) => Format::from_name(format).map(Dtype::Number),
        })
    }

    /// The name in a safetensors header, where the format has the kind.
    pub fn safetensors_name(self) -> Option<&'static str> {
        let row = SAFETENSORS.iter().find(|row| match row.1 {
            Kind::Plain(dtype) => dtype == self,
            Kind::Format(name) => self.format().is_some_and(|format| format.name() == name),
        })?;
        Some(row.0)
    }
}

enum Kind {
    Plain(Dtype),
    Format(&'static str),
}

const SAFETENSORS: &[(&str, Kind)] = &[
    ("F32", Kind::Format("F32")),
    ("F16", Kind::Format("F16")),
    ("BF16", Kind::Format("BF16")),
    ("F8_E4M3", Kind::Format("E4M3")),
    ("F8_E5M2", Kind::Format("E5M2")),
    ("F64", Kind::Plain(Dtype::F64)),
    ("I64", Kind::Plain(Dtype::I64)),
    ("U64", Kind::Plain(Dtype::U64)),
    ("I32", Kind::Plain(Dtype::I32)),
    ("U32", Kind::Plain(Dtype::U32)),
    ("I16", Kind::Plain(Dtype::I16)),
    ("U16", Kind::Plain(Dtype::U16)),
    ("I8", Kind::Plain(Dtype::I8)),
    ("U8", Kind::Plain(Dtype::U8)),
    ("BOOL", Kind::Plain(Dtype::Bool)),
    ("C64", Kind::Plain(Dtype::C64)),
    ("F8_E8M0", Kind::Plain(Dtype::E8M0)),
    ("F8_E4M3FNUZ", Kind::Plain(Dtype::E4M3Fnuz)),
    ("F8_E5M2FNUZ", Kind::Plain(Dtype::E5M2Fnuz)),
    ("F6_E2M3", Kind::Plain(Dtype::E2M3)),
    ("F6_E3M2", Kind::Plain(Dtype::E3M2)),
    ("F4", Kind::Plain(Dtype::E2M1)),
];

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dtype: Dtype, shape: &[usize], wanted: Result<u64, Overflow>) {
        assert_eq!(dtype.byte_count(shape).map(Size::get), wanted, "{dtype} {shape:?}");
    }

    #[test]
    fn byte_counts_are_exact_or_an_error() {
        let f32 = Dtype::Number(Format::F32);
        check(f32, &[], Ok(4));
        check(f32, &[2, 3], Ok(24));
        check(f32, &[2, 0, 3], Ok(0));
        check(f32, &[usize::MAX, 1], Err(Overflow::TooLarge));
        check(f32, &[1 << 32, 1 << 32], Err(Overflow::TooLarge));
        check(Dtype::E2M1, &[3, 2], Ok(3));
        check(Dtype::E2M1, &[3], Err(Overflow::NotWhole));
        check(Dtype::E2M3, &[4], Ok(3));
        check(Dtype::C64, &[4], Ok(32));
    }

    #[test]
    fn rows_are_whole_blocks() {
        for &format in Format::ALL {
            let block = format.block();
            check(Dtype::Number(format), &[3, 2 * block], Ok(6 * format.block_bytes() as u64));
            if block > 1 {
                check(Dtype::Number(format), &[block, block + 1], Err(Overflow::NotWhole));
            }
        }
    }

    #[test]
    fn numbers_and_names_read_both_ways() {
        for number in 0..300 {
            if let Some(dtype) = Dtype::from_ggml_type(number) {
                assert_eq!(dtype.ggml_type(), Some(number));
            }
        }
        for (name, _) in SAFETENSORS {
            let dtype = Dtype::from_safetensors(name).unwrap();
            assert_eq!(dtype.safetensors_name(), Some(*name));
        }
        for number in [0, 1, 2, 3, 6, 7, 8].into_iter().chain(10..=30).chain([34, 35]).chain(39..=42) {
            assert!(Dtype::from_ggml_type(number).is_some(), "GGUF type {number}");
        }
        // Removed types, and those that only products use.
        for number in [4, 5, 9, 31, 32, 33, 36, 37, 38] {
            assert_eq!(Dtype::from_ggml_type(number), None, "GGUF type {number}");
        }
        assert_eq!(Dtype::from_safetensors("f32"), None);
    }
}
