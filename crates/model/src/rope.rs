//! Which angles a position has: the frequencies of rotary positions and every published way of scaling them.
//!
//! All arithmetic is in f32 where the reference implementation's is, so that long contexts agree with it.

use std::f32::consts::TAU;
use std::sync::Arc;

use pasture_tensor::RopeTable;

/// Rotary positions of one kind of layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Leading dimensions of each head that turn.
    pub dims: usize,
    /// The base of the frequencies.
    pub base: f32,
    /// How frequencies change for longer contexts.
    pub scaling: Scaling,
}

/// How frequencies change for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// They do not.
    None,
    /// All are divided (Chen et al., arXiv 2306.15595).
    Linear {
        /// By this.
        factor: f32,
    },
    /// The base grows with the sequence once it is longer than `original`.
    DynamicNtk {
        /// How fast.
        factor: f32,
        /// Positions the model was trained with.
        original: usize,
    },
    /// Low frequencies are divided, high ones stay, a ramp between (Peng et al., arXiv 2309.00071).
    Yarn {
        /// By this.
        factor: f32,
        /// Positions the model was trained with.
        original: usize,
        /// Rotations over the original context above which a frequency stays.
        beta_fast: f32,
        /// Rotations below which it is divided.
        beta_slow: f32,
        /// Multiplies cosines and sines.
        attention: f32,
        /// Whether the ramp's ends are whole dimensions.
        truncate: bool,
    },
    /// Long wavelengths are divided, short ones stay.
    ByWavelength {
        /// By this.
        factor: f32,
        /// Wavelengths above `original / low` are divided.
        low: f32,
        /// Wavelengths below `original / high` stay.
        high: f32,
        /// Positions the model was trained with.
        original: usize,
    },
    /// Each frequency has its own divisor, one list for short and one for long sequences (LongRoPE,
    /// Ding et al., arXiv 2402.13753).
    PerDimension {
        /// Divisors while the sequence is at most `original` long.
        short: Vec<f32>,
        /// Divisors once it is longer.
        long: Vec<f32>,
        /// Where they change.
        original: usize,
        /// Multiplies cosines and sines of short sequences.
        short_attention: f32,
        /// Multiplies cosines and sines of long sequences.
        long_attention: f32,
    },
}

impl RopeSpec {
    /// Angles per position of each pair, and the factor of cosines and sines, for a sequence of `length` positions.
    pub fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let plain = |base: f32| -> Vec<f32> {
            (0..self.dims / 2).map(|pair| 1.0 / base.powf((2 * pair) as f32 / self.dims as f32)).collect()
        };
        match &self.scaling {
            Scaling::None => (plain(self.base), 1.0),
            Scaling::Linear { factor } => (plain(self.base).iter().map(|f| f / factor).collect(), 1.0),
            Scaling::DynamicNtk { factor, original } => {
                let stretch = factor * length.max(*original) as f32 / *original as f32 - (factor - 1.0);
                let power = self.dims as f32 / (self.dims as f32 - 2.0);
                (plain(self.base * stretch.powf(power)), 1.0)
            }
            Scaling::Yarn { factor, original, beta_fast, beta_slow, attention, truncate } => {
                let ramp = self.yarn_ramp(*original as f32, *beta_fast, *beta_slow, *truncate);
                let mix = |(f, stay): (&f32, f32)| f / factor * (1.0 - stay) + f * stay;
                (plain(self.base).iter().zip(ramp).map(mix).collect(), *attention)
            }
            Scaling::ByWavelength { factor, low, high, original } => {
                let original = *original as f32;
                let scale = |f: &f32| {
                    let wavelength = TAU / f;
                    if wavelength > original / low {
                        f / factor
                    } else if wavelength < original / high {
                        *f
                    } else {
                        // Where both are equal, only that one wavelength comes here.
                        let smooth = (original / wavelength - low) / (high - low).max(f32::MIN_POSITIVE);
                        (1.0 - smooth) * f / factor + smooth * f
                    }
                };
                (plain(self.base).iter().map(scale).collect(), 1.0)
            }
            Scaling::PerDimension { short, long, original, short_attention, long_attention } => {
                let (divisors, attention) =
                    if length > *original { (long, long_attention) } else { (short, short_attention) };
                let powers = (0..self.dims / 2).map(|pair| self.base.powf((2 * pair) as f32 / self.dims as f32));
                (divisors.iter().zip(powers).map(|(divisor, power)| 1.0 / (divisor * power)).collect(), *attention)
            }
        }
    }

    /// The length that the model was first trained for, where the scaling depends on it.
    pub fn original(&self) -> Option<usize> {
        match &self.scaling {
            Scaling::None | Scaling::Linear { .. } => None,
            Scaling::DynamicNtk { original, .. }
            | Scaling::Yarn { original, .. }
            | Scaling::ByWavelength { original, .. }
            | Scaling::PerDimension { original, .. } => Some(*original),
        }
    }

    /// Which of several sets of factors a sequence of that length has.
    pub fn regime(&self, length: usize) -> usize {
        match &self.scaling {
            Scaling::PerDimension { original, .. } => usize::from(length > *original),
            _ => 0,
        }
    }

    /// How much of each frequency stays.
    fn yarn_ramp(&self, original: f32, beta_fast: f32, beta_slow: f32, truncate: bool) -> Vec<f32> {
        let dims = self.dims as f32;
        let dimension = |rotations: f32| dims * (original / (rotations * TAU)).ln() / (2.0 * self.base.ln());
        let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        (0..self.dims / 2).map(|pair| 1.0 - ((pair as f32 - low) / (high - low)).clamp(0.0, 1.0)).collect()
    }

    /// Cosines and sines for rows at the given positions of sequences of the given lengths.
    pub fn table(&self, rows: impl Iterator<Item = (usize, usize)>) -> RopeTable {
        let half = self.dims / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        let mut known: Option<(usize, (Vec<f32>, f32))> = None;
        for (position, length) in rows {
            if known.as_ref().is_none_or(|(of, _)| *of != length) {
                known = Some((length, self.frequencies(length)));
            }
            let Some((_, (frequencies, attention))) = &known else { unreachable!("it was just made") };
            for frequency in frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push((angle.cos() as f32) * attention);
                sin.push((angle.sin() as f32) * attention);
            }
        }
        RopeTable { half, cos: Arc::new(cos), sin: Arc::new(sin) }
    }
}

/// The factor of cosines and sines that belongs to a stretched context: `0.1 · scale · ln(factor) + 1`.
pub fn yarn_attention(factor: f32, scale: f32) -> f32 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}
