//! Sizes that belong together and must fit each other: heads of queries, of keys and values, and their width.

use super::{Config, Container};
use crate::error::Result;

/// The heads of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

impl Heads {
    /// The usual factor of scores: one over the root of a head's width.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

impl Config {
    /// The heads; without `num_key_value_heads` as many as of queries, without `head_dim` their share of the width.
    pub fn heads(&self) -> Result<Heads> {
        self.heads_or(None, None)
    }

    /// The heads, where the reference has numbers of its own for absent keys. GGUF knows only the usual rule.
    pub fn heads_or(&self, kv_heads: Option<usize>, head_dim: Option<usize>) -> Result<Heads> {
        let heads = self.need("num_attention_heads")?;
        self.heads_of(heads, kv_heads, head_dim)
    }

    /// The same where the reference has a number for the heads of queries too, and published files leave it out.
    pub fn heads_or_all(&self, heads: usize, kv_heads: usize, head_dim: usize) -> Result<Heads> {
        let heads = match self.container() {
            Container::HuggingFace => self.or("num_attention_heads", heads)?,
            _ => self.need("num_attention_heads")?,
        };
        self.heads_of(heads, Some(kv_heads), Some(head_dim))
    }

    fn heads_of(&self, heads: usize, kv_heads: Option<usize>, head_dim: Option<usize>) -> Result<Heads> {
        let own = self.container() == Container::HuggingFace;
        let (kv_default, dim_default) = (kv_heads.filter(|_| own), head_dim.filter(|_| own));
        let hidden: usize = self.need("hidden_size")?;
        let kv_heads = self.or("num_key_value_heads", kv_default.unwrap_or(heads))?;
        if !heads.is_multiple_of(kv_heads) {
            let what = format!("is {kv_heads}, which does not divide the {heads} heads of queries");
            return Err(self.fault("num_key_value_heads", what));
        }
        let head_dim = match self.get("head_dim")?.or(dim_default) {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let what = format!("is {heads}, which does not divide the width {hidden}, and \"head_dim\" is missing");
                return Err(self.fault("num_attention_heads", what));
            }
        };
        Ok(Heads { heads, kv_heads, head_dim })
    }

    /// The heads where keys and values have as many as queries and each its share of the width.
    pub fn plain_heads(&self) -> Result<Heads> {
        let hidden: usize = self.need("hidden_size")?;
        let heads: usize = self.need("num_attention_heads")?;
        if !hidden.is_multiple_of(heads) {
            let what = format!("is {heads}, which does not divide the width {hidden}");
            return Err(self.fault("num_attention_heads", what));
        }
        Ok(Heads { heads, kv_heads: heads, head_dim: hidden / heads })
    }
}
