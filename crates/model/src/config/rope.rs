//! Rotary positions as configurations write them: base, share of a head that turns, and the kind of scaling with its
//! own keys. The formulas are in `crate::rope`.

use pasture_files::error::quoted;
use pasture_files::nearest::by_nearness;

use super::{Config, read};
use crate::error::Result;
use crate::rope::{RopeSpec, Scaling, yarn_attention};

/// What a reference takes where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeDefaults {
    /// The base of the frequencies.
    pub theta: f32,
    /// The share of a head that turns.
    pub partial: f32,
}

impl Default for RopeDefaults {
    /// The defaults of most references.
    fn default() -> RopeDefaults {
        RopeDefaults { theta: 10_000.0, partial: 1.0 }
    }
}

/// The published name of [`Scaling::ByWavelength`].
pub(crate) const BY_WAVELENGTH: &str = "llama3";

/// The key of queries that grow with their position.
pub(crate) const GROWTH: &str = "llama_4_scaling_beta";

const TYPES: [&str; 7] = ["default", "linear", "dynamic", "yarn", BY_WAVELENGTH, "longrope", "su"];

impl Config {
    /// The rotary positions of heads of this width.
    pub fn rope(&self, head_dim: usize, defaults: RopeDefaults) -> Result<RopeSpec> {
        let dims = self.rope_dims(head_dim, defaults.partial)?;
        let base = self.or("rope_theta", defaults.theta)?;
        let scaling = if self.has("rope_scaling") { self.rope_scaling(dims, base)? } else { Scaling::None };
        Ok(RopeSpec { dims, base, scaling })
    }

    /// How many dimensions of a head turn: an even number of them.
    fn rope_dims(&self, head_dim: usize, partial: f32) -> Result<usize> {
        let counted: Option<usize> = self.get("rotary_dim")?;
        let (key, dims) = match counted {
            Some(dims) => ("rotary_dim", dims),
            None => {
                let share = self.or("partial_rotary_factor", partial)?;
                let key = if self.has("partial_rotary_factor") { "partial_rotary_factor" } else { "head_dim" };
                // The reference rounds down; a share that is not exact in binary (0.4 of 80) must not lose a dimension.
                (key, (head_dim as f64 * f64::from(share) + 1e-4).floor() as usize)
            }
        };
        if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
            let what =
                format!("makes {dims} of {head_dim} dimensions of a head turn, which should be an even number of them");
            return Err(self.fault(key, what));
        }
        Ok(dims)
    }

    fn rope_scaling(&self, dims: usize, base: f32) -> Result<Scaling> {
        if let Some(value) = self.value("rope_scaling").filter(|value| !value.is_object()) {
            return Err(self.fault("rope_scaling", format!("is {}, it should be an object", read::shown(value))));
        }
        let old: Option<String> = self.get("rope_scaling.type")?;
        let kind: Option<String> = self.get("rope_scaling.rope_type")?;
        let kind =
            kind.or(old).ok_or_else(|| self.fault("rope_scaling.rope_type", "is missing, it should be a text"))?;
        match kind.as_str() {
            "default" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor: self.need("rope_scaling.factor")? }),
            "dynamic" => self.dynamic(dims),
            "yarn" => self.yarn(base),
            BY_WAVELENGTH => self.by_wavelength(),
            "longrope" | "su" => self.per_dimension(dims),
            _ => {
                let known = by_nearness(&kind, TYPES.into_iter()).join(", ");
                let what = format!("is {}, which is no kind of scaling known here; known are {known}", quoted(&kind));
                Err(self.fault("rope_scaling.rope_type", what))
            }
        }
    }

    fn dynamic(&self, dims: usize) -> Result<Scaling> {
        if dims <= 2 {
            return Err(
                self.fault("rope_scaling.rope_type", "is \"dynamic\", which needs more than 2 turning dimensions")
            );
        }
        let original = self.need("max_position_embeddings")?;
        Ok(Scaling::DynamicNtk { factor: self.need("rope_scaling.factor")?, original })
    }

    fn yarn(&self, base: f32) -> Result<Scaling> {
        if base <= 1.0 {
            return Err(self.fault("rope_theta", format!("is {base}, with yarn it should be above 1")));
        }
        let factor = self.need("rope_scaling.factor")?;
        let original = match self.get("rope_scaling.original_max_position_embeddings")? {
            Some(original) => original,
            None => self.need("max_position_embeddings")?,
        };
        let scales: (Option<f32>, Option<f32>) =
            (self.get("rope_scaling.mscale")?, self.get("rope_scaling.mscale_all_dim")?);
        let attention = match (self.get("rope_scaling.attention_factor")?, scales) {
            (Some(attention), _) => attention,
            // The reference counts a zero as absent.
            (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => {
                yarn_attention(factor, one) / yarn_attention(factor, all)
            }
            (None, _) => yarn_attention(factor, 1.0),
        };
        let beta_fast = self.or("rope_scaling.beta_fast", 32.0)?;
        let beta_slow = self.or("rope_scaling.beta_slow", 1.0)?;
        let truncate = self.or("rope_scaling.truncate", true)?;
        Ok(Scaling::Yarn { factor, original, beta_fast, beta_slow, attention, truncate })
    }

    fn by_wavelength(&self) -> Result<Scaling> {
        let low: f32 = self.need("rope_scaling.low_freq_factor")?;
        let high: f32 = self.need("rope_scaling.high_freq_factor")?;
        if high < low {
            let what = format!("is {high}, it should not be below the {low} of \"low_freq_factor\"");
            return Err(self.fault("rope_scaling.high_freq_factor", what));
        }
        let original = self.need("rope_scaling.original_max_position_embeddings")?;
        Ok(Scaling::ByWavelength { factor: self.need("rope_scaling.factor")?, low, high, original })
    }

    fn per_dimension(&self, dims: usize) -> Result<Scaling> {
        let list = |path: &str| -> Result<Vec<f32>> {
            let list: Vec<f32> = self.need(path)?;
            let wrong = || self.fault(path, format!("has {} numbers, it should have {}", list.len(), dims / 2));
            if list.len() == dims / 2 { Ok(list) } else { Err(wrong()) }
        };
        let (short, long) = (list("rope_scaling.short_factor")?, list("rope_scaling.long_factor")?);
        let positions: usize = self.need("max_position_embeddings")?;
        let inner: Option<usize> = self.get("rope_scaling.original_max_position_embeddings")?;
        let outer: Option<usize> = self.get("original_max_position_embeddings")?;
        let original = outer.or(inner);
        let stretch = match original {
            Some(original) => positions as f32 / original as f32,
            None => self.need("rope_scaling.factor")?,
        };
        self.get::<f32>("rope_scaling.factor")?;
        let original = original.unwrap_or(positions);
        let usual = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (original as f32).ln()).sqrt() };
        let attention = self.or("rope_scaling.attention_factor", usual)?;
        let short_attention = self.or("rope_scaling.short_mscale", attention)?;
        let long_attention = self.or("rope_scaling.long_mscale", attention)?;
        Ok(Scaling::PerDimension { short, long, original, short_attention, long_attention })
    }
}
