//! What the engine computes with: anything that turns batches into logits. A model on its device is one; tests have
//! others. The rule by which a sequence's length changes its rotary angles is here as well.

use pasture_model::spec::{MixerSpec, Spec};
use pasture_model::{Batch, Kv, Result, Scaling};
use pasture_tensor::Tensor;

/// Turns batches into logits.
pub trait Forward: Send {
    /// Entries of the vocabulary.
    fn vocab(&self) -> usize;

    /// Positions that a sequence may have.
    fn context(&self) -> usize;

    /// How a sequence's length changes its angles.
    fn rope_rule(&self) -> RopeRule;

    /// Positions that rows see back at most, in every layer; none where some layer sees all.
    fn window(&self) -> Option<usize> {
        None
    }

    /// Bytes of the keys and values of one page of tokens; 0 where that is not known.
    fn page_bytes(&self) -> usize {
        0
    }

    /// Empty memory for keys and values.
    fn kv(&self) -> Kv;

    /// Runs a batch, and gives the logits of the named rows, in the host's memory.
    ///
    /// # Errors
    /// When the batch cannot be run; its sequences are ended then.
    fn logits(&mut self, batch: &Batch, kv: &mut Kv, rows: &[u32]) -> Result<Tensor>;
}

/// So many times its original length may a sequence have whose angles stretch with it.
const STRETCH_MAX: usize = 8;

/// How a sequence's length changes its rotary angles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeRule {
    /// It does not.
    Fixed,
    /// Past so many positions other factors hold, for keys and values alike: the sequence is run again.
    Switch(usize),
    /// Past so many positions every row has its own angles; what was computed stays.
    Grows(usize),
}

impl RopeRule {
    /// The rule of a model.
    pub fn of(spec: &Spec) -> RopeRule {
        let branches = spec.layers.iter().flatten();
        let ropes = branches.filter_map(|branch| match &branch.mixer {
            MixerSpec::Attention(attention) => attention.rope.as_ref(),
            _ => None,
        });
        let mut rules = ropes.map(|rope| match rope.scaling {
            Scaling::PerDimension { original, .. } => RopeRule::Switch(original),
            Scaling::DynamicNtk { original, .. } => RopeRule::Grows(original),
            _ => RopeRule::Fixed,
        });
        rules.find(|rule| *rule != RopeRule::Fixed).unwrap_or(RopeRule::Fixed)
    }

    /// Positions that a sequence may have in a model made for `context`.
    pub fn context(self, context: usize) -> usize {
        match self {
            // Its angles stretch with the sequence, at any length; the figure is a stop for runaway answers.
            RopeRule::Grows(original) => context.max(original.saturating_mul(STRETCH_MAX)),
            _ => context,
        }
    }

    /// From which position rows of a sequence must run one by one.
    pub fn alone_from(self, prompt: usize) -> usize {
        match self {
            RopeRule::Grows(original) => original.max(prompt),
            _ => usize::MAX,
        }
    }

    /// The length that selects the angles of the rows from `start` on, of a sequence with `known` tokens that began
    /// with a prompt of `prompt`.
    pub fn length(self, prompt: usize, known: usize, start: usize) -> usize {
        match self {
            RopeRule::Fixed | RopeRule::Switch(_) => known,
            RopeRule::Grows(_) if start < self.alone_from(prompt) => prompt,
            RopeRule::Grows(_) => start + 1,
        }
    }

    /// Whether a sequence that becomes `known` tokens long must be run again from its start.
    pub fn restarts(self, known: usize) -> bool {
        matches!(self, RopeRule::Switch(original) if known == original + 1)
    }

    /// The regime in which the rows of a sequence with `known` tokens are computed, and up to which position: what is
    /// computed there is the same in all sequences of that regime.
    pub fn regime(self, prompt: usize, known: usize) -> (u64, usize) {
        match self {
            RopeRule::Fixed => (0, usize::MAX),
            RopeRule::Switch(original) => (u64::from(known > original), usize::MAX),
            RopeRule::Grows(original) if prompt <= original => (0, original),
            RopeRule::Grows(_) => (prompt as u64, prompt),
        }
    }
}
