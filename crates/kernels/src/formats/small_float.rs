//! Floats of eight bits and fewer: OFP8 E4M3 and E5M2, their variants without infinities, FP6, FP4, and the powers of
//! two that scale blocks. One code is one byte here; packing belongs to the block formats.
//! Rounding is to nearest even, from the binary32 number itself.

/// What a format keeps codes for besides numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// The greatest exponent means infinity or NaN, as in IEEE 754.
    TopExponent,
    /// Only the code of all ones is NaN.
    AllOnes,
    /// The code of negative zero is NaN.
    NegativeZero,
    /// Numbers only.
    Nothing,
}

/// A float format of at most eight bits: a sign, exponent bits, mantissa bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallFloat {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

/// OFP8 with four exponent bits: up to 448, NaN, no infinity (`F8_E4M3`).
pub const E4M3: SmallFloat = SmallFloat::new(4, 3, 7, Special::AllOnes);
/// OFP8 with five exponent bits: up to 57344, infinities and NaN (`F8_E5M2`).
pub const E5M2: SmallFloat = SmallFloat::new(5, 2, 15, Special::TopExponent);
/// Four exponent bits, up to 240, neither infinity nor negative zero.
pub const E4M3_FNUZ: SmallFloat = SmallFloat::new(4, 3, 8, Special::NegativeZero);
/// Five exponent bits, up to 57344, neither infinity nor negative zero.
pub const E5M2_FNUZ: SmallFloat = SmallFloat::new(5, 2, 16, Special::NegativeZero);
/// FP6 with two exponent bits: up to 7.5.
pub const E2M3: SmallFloat = SmallFloat::new(2, 3, 1, Special::Nothing);
/// FP6 with three exponent bits: up to 28.
pub const E3M2: SmallFloat = SmallFloat::new(3, 2, 3, Special::Nothing);
/// FP4: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
pub const E2M1: SmallFloat = SmallFloat::new(2, 1, 1, Special::Nothing);

impl SmallFloat {
    const fn new(exponent_bits: u32, mantissa_bits: u32, bias: i32, special: Special) -> SmallFloat {
        SmallFloat { exponent_bits, mantissa_bits, bias, special }
    }

    const fn sign(self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The code of the greatest number.
    const fn highest(self) -> u8 {
        match self.special {
            Special::TopExponent => self.infinity() - 1,
            Special::AllOnes => self.sign() - 2,
            Special::NegativeZero | Special::Nothing => self.sign() - 1,
        }
    }

    const fn infinity(self) -> u8 {
        ((1 << self.exponent_bits) - 1) << self.mantissa_bits
    }

    /// The greatest number.
    pub const fn max(self) -> f32 {
        self.decode(self.highest())
    }

    /// The exponent of the greatest number: blocks are scaled so that theirs is the same.
    pub const fn greatest_exponent(self) -> i32 {
        (self.highest() >> self.mantissa_bits) as i32 - self.bias
    }

    /// The number that a code stands for. Bits above the format's are ignored.
    pub const fn decode(self, code: u8) -> f32 {
        let magnitude = code & (self.sign() - 1);
        let negative = code & self.sign() != 0;
        match self.special {
            Special::TopExponent if magnitude > self.infinity() => return f32::NAN,
            Special::TopExponent if magnitude == self.infinity() => {
                return if negative { f32::NEG_INFINITY } else { f32::INFINITY };
            }
            Special::AllOnes if magnitude == self.sign() - 1 => return f32::NAN,
            Special::NegativeZero if negative && magnitude == 0 => return f32::NAN,
            _ => {}
        }
        let exponent = (magnitude >> self.mantissa_bits) as i32;
        let mantissa = magnitude & ((1 << self.mantissa_bits) - 1);
        // Without an exponent there is no hidden bit, and the least exponent counts.
        let (exponent, mantissa) =
            if exponent == 0 { (1, mantissa) } else { (exponent, mantissa | 1 << self.mantissa_bits) };
        let value = mantissa as f32 * power_of_two(exponent - self.bias - self.mantissa_bits as i32);
        if negative { -value } else { value }
    }

    /// The nearest code. What is too large becomes infinity, or NaN, or the greatest number, by what the format has.
    pub fn encode(self, value: f32) -> u8 {
        if value.is_nan() {
            return self.nan(value);
        }
        let code = self.round(value.abs());
        if code <= u32::from(self.highest()) {
            // A format without negative zero has NaN there.
            let signed = value.is_sign_negative() && (code != 0 || self.special != Special::NegativeZero);
            return code as u8 | if signed { self.sign() } else { 0 };
        }
        let sign = if value < 0.0 { self.sign() } else { 0 };
        match self.special {
            Special::TopExponent => sign | self.infinity(),
            Special::AllOnes => sign | (self.sign() - 1),
            Special::NegativeZero => self.sign(),
            Special::Nothing => sign | self.highest(),
        }
    }

    /// The nearest code, where what is too large becomes the greatest number. NaN stays NaN where the format has it.
    pub fn encode_saturating(self, value: f32) -> u8 {
        // Clamp keeps NaN.
        self.encode(value.clamp(-self.max(), self.max()))
    }

    /// The code of a magnitude, beyond the greatest code where it is too large.
    fn round(self, magnitude: f32) -> u32 {
        if magnitude.is_infinite() {
            return u32::MAX;
        }
        let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(1 - self.bias);
        let steps = (magnitude / power_of_two(exponent - self.mantissa_bits as i32)).round_ties_even() as u32;
        // The hidden bit of `steps` adds one to the exponent field; so does rounding up to the next power.
        (((exponent + self.bias - 1) as u32) << self.mantissa_bits) + steps
    }

    fn nan(self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { self.sign() } else { 0 };
        match self.special {
            Special::TopExponent => sign | self.infinity() | 1 << (self.mantissa_bits - 1),
            Special::AllOnes => sign | (self.sign() - 1),
            Special::NegativeZero => self.sign(),
            // There is no code for it: zero.
            Special::Nothing => 0,
        }
    }
}

const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The code of a NaN scale.
pub const E8M0_NAN: u8 = 255;

/// The scale that a code stands for: `2^(code - 127)`.
pub fn e8m0_decode(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 22),
        E8M0_NAN => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// The code of the nearest power of two, halves upward; NaN for what is not above 0 and for what is too large.
pub fn e8m0_encode(value: f32) -> u8 {
    if value.is_nan() || value <= 0.0 {
        return E8M0_NAN;
    }
    let bits = value.to_bits();
    if bits < 1 << 23 {
        // Beneath the normal numbers all above 2^-127 count as 2^-126, as the reference has it.
        return u8::from(bits > 1 << 22);
    }
    ((bits + (1 << 22)) >> 23).min(u32::from(E8M0_NAN)) as u8
}

/// The code of the nearest power of two, where what is too large becomes `2^127`.
pub fn e8m0_encode_saturating(value: f32) -> u8 {
    if value > 0.0 { e8m0_encode(value).min(E8M0_NAN - 1) } else { E8M0_NAN }
}

/// Every value of an eight-bit format.
pub(super) const fn table(format: SmallFloat) -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = format.decode(code as u8);
        code += 1;
    }
    table
}
