//! What configurations say of layers: the masks of each, which products have a bias, and how experts are counted.

use pasture_files::error::quoted;
use pasture_files::nearest::by_nearness;

use super::Config;
use crate::error::Result;
use crate::spec::{Biases, ExpertsSpec, Mask};

const LAYER_TYPES: [&str; 3] = ["full_attention", "sliding_attention", "chunked_attention"];

impl Config {
    /// Which products of an attention have a bias. Only tensors show one of the output alone.
    pub fn biases(&self) -> Result<Biases> {
        let inner = self.or("attention_bias", false)?;
        match (inner, self.or("attention_out_bias", inner)?) {
            (false, false) => Ok(Biases::None),
            (true, false) => Ok(Biases::Qkv),
            (true, true) => Ok(Biases::All),
            (false, true) => {
                Err(self.fault("attention_out_bias", "is true where queries, keys and values have no bias"))
            }
        }
    }

    /// The mask of each layer: what `layer_types` says, else the page's rule. `local` is that of the layers which do
    /// not see all.
    pub fn masks(&self, layers: usize, local: Mask, rule: impl Fn(usize) -> Mask) -> Result<Vec<Mask>> {
        let Some(types) = self.get::<Vec<String>>("layer_types")? else { return Ok((0..layers).map(rule).collect()) };
        if types.len() != layers {
            return Err(self.fault("layer_types", format!("has {} entries for {layers} layers", types.len())));
        }
        let mask = |kind: &String| match kind.as_str() {
            "full_attention" => Ok(Mask::Causal),
            "sliding_attention" if !matches!(local, Mask::Chunk(_)) => Ok(local),
            "chunked_attention" if matches!(local, Mask::Chunk(_)) => Ok(local),
            _ => {
                let known = by_nearness(kind, LAYER_TYPES.into_iter()).join(", ");
                Err(self.fault("layer_types", format!("names the kind {}; known are {known}", quoted(kind))))
            }
        };
        types.iter().map(mask).collect()
    }

    /// Which layers turn queries and keys: what `no_rope_layers` says (1 turns, 0 does not), else all but the last of
    /// every so many.
    pub fn rope_layers(&self, layers: usize) -> Result<Vec<bool>> {
        let every: usize = self.or("no_rope_layer_interval", 4)?;
        let listed: Vec<usize> = self.or("no_rope_layers", Vec::new())?;
        if listed.is_empty() {
            return Ok((1..=layers).map(|layer| !layer.is_multiple_of(every)).collect());
        }
        if listed.len() < layers {
            return Err(self.fault("no_rope_layers", format!("has {} entries for {layers} layers", listed.len())));
        }
        Ok(listed.iter().take(layers).map(|turns| *turns == 1).collect())
    }

    /// Refuses experts of which none, or more than there are, would be chosen.
    pub fn check_experts(&self, spec: &ExpertsSpec) -> Result<()> {
        let (experts, top) = (spec.experts, spec.router.top);
        if top == 0 || top > experts {
            let what = format!("is {top}, it should be from 1 to the {experts} experts that there are");
            return Err(self.fault("num_experts_per_tok", what));
        }
        Ok(())
    }

    /// Positions that are left of a table of them behind its first rows.
    pub fn context_behind(&self, rows: usize, first: usize) -> Result<usize> {
        let too_few =
            || self.fault("max_position_embeddings", format!("is {rows}, of which the first {first} are no positions"));
        rows.checked_sub(first).filter(|left| *left > 0).ok_or_else(too_few)
    }
}
