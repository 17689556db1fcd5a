//! Number formats: how rows of weights are stored. One file per format owns its block, quantizer, dequantizer
//! and scalar dot; this file owns the closed list and the table through which every other crate asks.

mod bf16;
pub mod bitsandbytes;
mod block;
mod codebook;
mod e4m3;
mod e5m2;
mod f16;
mod f32;
mod fp4;
mod fp8;
mod int8;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod iq_grids;
mod iq_search;
mod k_scales;
mod lanes;
mod mx;
mod mxfp4;
mod mxfp6;
mod mxfp8;
mod mxint8;
mod nf4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_k;
pub mod recode;
mod search;
mod settle;
pub mod small_float;
mod tq1_0;
mod tq2_0;

use recode::Window;

pub use mxfp4::from_pairs as mxfp4_from_pairs;

/// Values, how their inputs go together, and the whole blocks they were stored in.
pub type Recode = fn(values: &[f32], windows: &[Window], blocks: &mut [u8]);

/// Values to whole blocks.
pub type Quantize = fn(values: &[f32], importance: Option<Weights<'_>>, out: &mut [u8]);

/// How much each value of a row matters.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    /// One weight per value.
    pub values: &'a [f32],
    /// Whether they were measured rather than expected; a search by a measure is worth more time.
    pub measured: bool,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use codebook::NONLINEAR;

/// How one number format is stored and converted. One constant per format file.
#[derive(Clone, Copy)]
pub struct Traits {
    /// The name the field uses, as in `Q4_K`.
    pub name: &'static str,
    /// Values per block.
    pub block: usize,
    /// Bytes per block.
    pub bytes: usize,
    /// The type number in GGUF files, where the format has one.
    pub ggml_type: Option<u32>,
    /// Whole blocks to values. `bytes.len() / self.bytes * self.block == out.len()`.
    pub dequantize: fn(bytes: &[u8], out: &mut [f32]),
    /// Values to whole blocks, with one importance weight per value where a search can use it.
    pub quantize: Option<Quantize>,
    /// Chooses the codes of whole blocks again, their scales as they are, where values have a code each.
    pub recode: Option<Recode>,
    /// Sum of the products of whole blocks with `x`, in f32: the oracle of every faster product.
    pub dot: fn(bytes: &[u8], x: &[f32]) -> f32,
}

macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident => $traits:path,)*) => {
        /// A number format of stored weights.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Format { $($(#[$doc])* $variant,)* }

        impl Format {
            /// Every format, in the order of the list.
            pub const ALL: &[Format] = &[$(Format::$variant,)*];

            /// The format's table entry.
            pub fn traits(self) -> &'static Traits {
                match self { $(Format::$variant => &$traits,)* }
            }
        }
    };
}

formats! {
    /// IEEE 754 binary32.
    F32 => f32::TRAITS,
    /// IEEE 754 binary16.
    F16 => f16::TRAITS,
    /// The upper half of binary32.
    BF16 => bf16::TRAITS,
    /// 32 bytes under a scale.
    Q8_0 => q8_0::TRAITS,
    /// 32 four-bit codes under a scale.
    Q4_0 => q4_0::TRAITS,
    /// 32 four-bit codes under a scale and a minimum.
    Q4_1 => q4_1::TRAITS,
    /// 32 five-bit codes under a scale.
    Q5_0 => q5_0::TRAITS,
    /// 32 five-bit codes under a scale and a minimum.
    Q5_1 => q5_1::TRAITS,
    /// 256 two-bit codes, scales and minima per 16.
    Q2_K => q2_k::TRAITS,
    /// 256 three-bit codes, scales per 16.
    Q3_K => q3_k::TRAITS,
    /// 256 four-bit codes, scales and minima per 32.
    Q4_K => q4_k::TRAITS,
    /// 256 five-bit codes, scales and minima per 32.
    Q5_K => q5_k::TRAITS,
    /// 256 six-bit codes, scales per 16.
    Q6_K => q6_k::TRAITS,
    /// 256 bytes under a scale, with their sums per 16.
    Q8_K => q8_k::TRAITS,
    /// 32 four-bit codes of uneven levels under a scale.
    IQ4_NL => iq4_nl::TRAITS,
    /// 256 four-bit codes of uneven levels, scales per 32.
    IQ4_XS => iq4_xs::TRAITS,
    /// 256 values of a ternary grid, scales per 32.
    IQ1_S => iq1_s::TRAITS,
    /// 256 values of a ternary grid, scales per 16.
    IQ1_M => iq1_m::TRAITS,
    /// 256 values of a grid of 256, scales per 32.
    IQ2_XXS => iq2_xxs::TRAITS,
    /// 256 values of a grid of 512, scales per 16.
    IQ2_XS => iq2_xs::TRAITS,
    /// 256 values of a grid of 1024, scales per 16.
    IQ2_S => iq2_s::TRAITS,
    /// 256 values of a grid of 256 fours, scales per 32.
    IQ3_XXS => iq3_xxs::TRAITS,
    /// 256 values of a grid of 512 fours, scales per 32.
    IQ3_S => iq3_s::TRAITS,
    /// 128 signs under a scale.
    Q1_0 => q1_0::TRAITS,
    /// 64 two-bit codes under a scale.
    Q2_0 => q2_0::TRAITS,
    /// 256 ternary codes, five to a byte, under a scale.
    TQ1_0 => tq1_0::TRAITS,
    /// 256 ternary codes of two bits under a scale.
    TQ2_0 => tq2_0::TRAITS,
    /// 64 quantiles of a normal distribution under their largest magnitude.
    NF4 => nf4::TRAITS,
    /// 64 four-bit floats of bitsandbytes under their largest magnitude.
    FP4 => fp4::TRAITS,
    /// 64 signed bytes under the magnitude that 127 stands for.
    INT8 => int8::TRAITS,
    /// 64 E4M3 under a binary32 scale.
    FP8 => fp8::TRAITS,
    /// Eight-bit float with four exponent bits.
    E4M3 => e4m3::TRAITS,
    /// Eight-bit float with five exponent bits.
    E5M2 => e5m2::TRAITS,
    /// 32 E4M3 under a power of two.
    MXFP8_E4M3 => mxfp8::E4M3_TRAITS,
    /// 32 E5M2 under a power of two.
    MXFP8_E5M2 => mxfp8::E5M2_TRAITS,
    /// 32 six-bit floats with two exponent bits under a power of two.
    MXFP6_E2M3 => mxfp6::E2M3_TRAITS,
    /// 32 six-bit floats with three exponent bits under a power of two.
    MXFP6_E3M2 => mxfp6::E3M2_TRAITS,
    /// 32 four-bit floats under a power of two, as GGUF lays them out.
    MXFP4 => mxfp4::TRAITS,
    /// 32 four-bit floats under a power of two, neighbors sharing a byte.
    MXFP4_OCP => mxfp4::OCP_TRAITS,
    /// 32 bytes under a power of two.
    MXINT8 => mxint8::TRAITS,
    /// 64 four-bit floats, eight-bit float scales per 16.
    NVFP4 => nvfp4::TRAITS,
}

impl Format {
    /// The name the field uses, as in `Q4_K`.
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// The format of that name, upper or lower case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The type number in GGUF files, where the format has one.
    pub fn ggml_type(self) -> Option<u32> {
        self.traits().ggml_type
    }

    /// The format with that GGUF type number.
    pub fn from_ggml_type(number: u32) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.ggml_type() == Some(number))
    }

    /// Values per block.
    pub fn block(self) -> usize {
        self.traits().block
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.traits().bytes
    }

    /// Bytes of a row of `cols` values. Asserts that the row is whole blocks.
    pub fn row_bytes(self, cols: usize) -> usize {
        assert!(cols.is_multiple_of(self.block()), "a row of {cols} is not whole {} blocks", self.name());
        cols / self.block() * self.block_bytes()
    }

    /// Whether values can be stored in this format (a few are only read).
    pub fn can_quantize(self) -> bool {
        self.traits().quantize.is_some()
    }

    /// Whole blocks to values.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), self.row_bytes(out.len()));
        (self.traits().dequantize)(bytes, out);
    }

    /// Values to whole blocks. Asserts [`Format::can_quantize`].
    pub fn quantize(self, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
        self.quantize_by(values, importance.map(|values| Weights { values, measured: true }), out);
    }

    /// The same by weights that may be expected only.
    pub fn quantize_by(self, values: &[f32], importance: Option<Weights<'_>>, out: &mut [u8]) {
        assert_eq!(out.len(), self.row_bytes(values.len()));
        assert!(importance.is_none_or(|weights| weights.values.len() == values.len()));
        let quantize = self.traits().quantize.expect("the caller asked can_quantize");
        quantize(values, importance, out);
    }

    /// Whether [`Format::recode`] can choose codes of this format.
    pub fn can_recode(self) -> bool {
        self.traits().recode.is_some()
    }

    /// Chooses the codes of a stored row again, its scales as they are, for what the windows of its inputs say of how
    /// these go together. Asserts [`Format::can_recode`], and windows of whole blocks that make up the row.
    pub fn recode(self, values: &[f32], windows: &[Window], bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.row_bytes(values.len()));
        assert_eq!(windows.iter().map(Window::len).sum::<usize>(), values.len(), "windows make up the row");
        assert!(windows.iter().all(|window| window.len().is_multiple_of(self.block())), "windows are whole blocks");
        let recode = self.traits().recode.expect("the caller asked can_recode");
        recode(values, windows, bytes);
    }

    /// Sum of the products of a stored row with `x`, in f32.
    pub fn dot(self, bytes: &[u8], x: &[f32]) -> f32 {
        assert_eq!(bytes.len(), self.row_bytes(x.len()));
        (self.traits().dot)(bytes, x)
    }
}
