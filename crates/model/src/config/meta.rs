//! Meta's `params.json`. What it leaves out, and the reference program takes from elsewhere, is concluded here: the
//! vocabulary from the embedding, the feed-forward width by the reference's formula.

use pasture_files::Tensors;
use serde_json::{Value, json};

use super::rope::BY_WAVELENGTH;
use super::{Config, Container};
use crate::error::Result;

/// The embedding's name in Meta's checkpoints.
pub(super) const EMBEDDING: &str = "tok_embeddings.weight";

/// The name in `params.json` and Hugging Face's.
const NAMES: [(&str, &str); 10] = [
    ("dim", "hidden_size"),
    ("hidden_dim", "intermediate_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("n_kv_heads", "num_key_value_heads"),
    ("head_dim", "head_dim"),
    ("norm_eps", "rms_norm_eps"),
    ("rope_theta", "rope_theta"),
    ("vocab_size", "vocab_size"),
    ("max_seq_len", "max_position_embeddings"),
];

impl Config {
    /// The configuration in Meta's `params.json`, completed from the checkpoint's tensors.
    pub fn from_meta(file: &str, value: Value, tensors: &Tensors) -> Result<Config> {
        let mut config = Config::over(file, Container::Meta, value)?;
        for (from, to) in NAMES {
            if let Some(value) = config.values.remove(from) {
                config.values.insert(to.to_owned(), value);
                config.origins.insert(to.to_owned(), from.to_owned());
            }
        }
        if config.value("vocab_size").is_none_or(|size| *size == -1)
            && let Some(rows) = tensors.get(EMBEDDING).and_then(|entry| entry.shape.first())
        {
            config.derive("vocab_size", *rows);
        }
        config.derive("tie_word_embeddings", tensors.get("output.weight").is_none());
        config.add_scaling()?;
        config.add_width()?;
        config.add_context()?;
        Ok(config)
    }

    /// `use_scaled_rope` stands for numbers that the reference program has in its code.
    fn add_scaling(&mut self) -> Result<()> {
        if self.or("use_scaled_rope", false)? {
            let factor = self.or("rope_scaling_factor", 8.0f32)?;
            let high = self.or("rope_high_freq_factor", 4.0f32)?;
            let scaling = json!({
                "rope_type": BY_WAVELENGTH, "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high,
                "original_max_position_embeddings": 8192,
            });
            self.derive("rope_scaling", scaling);
        }
        Ok(())
    }

    /// Two thirds of four times the width, times a factor, rounded up to a multiple.
    fn add_width(&mut self) -> Result<()> {
        let factor: Option<f64> = self.get("ffn_dim_multiplier")?;
        let multiple = self.or("multiple_of", 256usize)?;
        if self.has("intermediate_size") {
            return Ok(());
        }
        let hidden: usize = self.need("hidden_size")?;
        let plain = 2 * 4 * hidden / 3;
        let width = factor.map_or(plain, |factor| (factor * plain as f64) as usize);
        self.derive("intermediate_size", width.div_ceil(multiple) * multiple);
        Ok(())
    }

    /// The length of training is in no file. It limits prompts and changes no number, so that what the releases
    /// had is taken: the first had 2048 positions and an eps of 1e-6, the second 4096, the third 8192 and its own
    /// base, those with scaled positions 131072.
    fn add_context(&mut self) -> Result<()> {
        if self.has("max_position_embeddings") {
            return Ok(());
        }
        let positions = match (self.has("rope_scaling"), self.has("rope_theta"), self.get::<f32>("rms_norm_eps")?) {
            (true, ..) => 131_072,
            (false, true, _) => 8_192,
            (false, false, Some(eps)) if eps < 5e-6 => 2_048,
            _ => 4_096,
        };
        self.derive("max_position_embeddings", positions);
        Ok(())
    }
}
