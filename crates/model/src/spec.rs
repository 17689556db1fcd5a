//! The blueprint of a model: plain data, written by a family's page from a checkpoint's sizes. It has no weights,
//! no files and no arithmetic.

use pasture_tensor::Activation;
use pasture_tensor::ops::experts::Router;
use pasture_tensor::ops::head::LogitRule;

use crate::rope::RopeSpec;

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Positions the model was made for.
    pub context: usize,
    /// What turns ids into the first stream.
    pub embed: EmbedSpec,
    /// The branches of each layer.
    pub layers: Vec<Vec<Branch>>,
    /// After the last layer.
    pub norm: Option<NormSpec>,
    /// What turns rows into logits; none for an encoder.
    pub head: Option<HeadSpec>,
}

impl Spec {
    /// Which of several sets of rotary factors a sequence of that length has. Where it changes, keys and values of the
    /// earlier rows no longer hold: the sequence must be run again from its start.
    pub fn rope_regime(&self, length: usize) -> usize {
        let attentions = self.layers.iter().flatten().filter_map(|branch| match &branch.mixer {
            MixerSpec::Attention(attention) => attention.rope.as_ref(),
            _ => None,
        });
        attentions.map(|rope| rope.regime(length)).max().unwrap_or(0)
    }
}

/// The embedding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedSpec {
    /// Multiplies the embedding.
    pub scale: Option<f32>,
    /// Learned positions.
    pub positions: Option<Positions>,
    /// Entries of a table of segment types.
    pub types: Option<usize>,
    /// After the sum.
    pub norm: Option<NormSpec>,
}

/// A table of learned positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positions {
    /// Rows of the table.
    pub rows: usize,
    /// The row of position 0.
    pub first: usize,
}

/// The output head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadSpec {
    /// Whether it is the embedding table.
    pub tied: bool,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows the product.
    pub rule: LogitRule,
}

/// One residual branch: `stream = after(stream + gate · post(mixer(pre(from))))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// What it reads.
    pub from: From,
    /// Before the mixer.
    pub pre: Option<NormSpec>,
    /// What mixes.
    pub mixer: MixerSpec,
    /// After the mixer.
    pub post: Option<NormSpec>,
    /// Multiplies what is added.
    pub gate: f32,
    /// After the sum.
    pub after: Option<NormSpec>,
}

impl Branch {
    /// The usual branch: a norm, a mixer, a sum.
    pub fn new(pre: NormSpec, mixer: MixerSpec) -> Branch {
        Branch { from: From::Stream, pre: Some(pre), mixer, post: None, gate: 1.0, after: None }
    }
}

/// What a branch reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The stream as the branches before it left it.
    Stream,
    /// The stream as it entered the layer.
    LayerInput,
}

/// A norm.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// The slot of its parameters; branches that share a norm name one slot.
    pub slot: &'static str,
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean of squares.
    pub eps: f32,
}

/// Which norm, and what it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// RMS norm with a factor.
    Rms,
    /// RMS norm whose stored factor is one less than the factor.
    RmsOffset,
    /// RMS norm without parameters.
    RmsPlain,
    /// Layer norm with a factor.
    Layer,
    /// Layer norm with a factor and a bias.
    LayerBias,
}

/// What a branch does.
#[derive(Clone, Debug, PartialEq)]
pub enum MixerSpec {
    /// Rows look at each other.
    Attention(AttentionSpec),
    /// Each row on its own.
    Mlp(MlpSpec),
    /// Each row through the experts that a router chooses.
    Experts(ExpertsSpec),
}

/// Attention.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// Multiplies each product of a query and a key.
    pub scale: f32,
    /// Which keys a row may see.
    pub mask: Mask,
    /// How positions turn queries and keys.
    pub rope: Option<RopeSpec>,
    /// Which of its products have a bias.
    pub bias: Biases,
    /// Norms of queries and keys.
    pub qk_norm: Option<QkNorm>,
    /// Soft limit of the scores.
    pub softcap: Option<f32>,
    /// Hard limit of queries, keys and values.
    pub clamp: Option<f32>,
    /// One more score per head that takes weight and gives no value.
    pub sinks: bool,
    /// Queries grow with their position.
    pub growth: Option<QueryGrowth>,
}

/// Which products of an attention have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Biases {
    /// None.
    None,
    /// Queries, keys and values.
    Qkv,
    /// These and the output.
    All,
}

/// Norms of queries and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct QkNorm {
    /// Of queries.
    pub q: NormSpec,
    /// Of keys.
    pub k: NormSpec,
    /// Over each head, or over all heads of a row.
    pub over: NormOver,
    /// Whether the rotation comes before the norm.
    pub after_rope: bool,
}

/// What a norm of queries or keys runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOver {
    /// Each head.
    Head,
    /// All heads of a row.
    Row,
}

/// Queries at `position` are multiplied by `1 + factor · ln(1 + floor(position / every))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryGrowth {
    /// How fast they grow.
    pub factor: f32,
    /// Positions of one step.
    pub every: usize,
    /// Added to the position.
    pub shift: usize,
}

/// Which keys a row may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Those up to its own.
    Causal,
    /// The last so many up to its own.
    Window(usize),
    /// Those up to its own in its own chunk of so many.
    Chunk(usize),
    /// All of its sequence.
    Full,
}

impl Mask {
    /// The first position that a row at `position` sees. Later rows see none before it.
    pub fn lowest(self, position: usize) -> usize {
        match self {
            Mask::Causal | Mask::Full => 0,
            Mask::Window(width) => (position + 1).saturating_sub(width),
            Mask::Chunk(width) => position / width * width,
        }
    }
}

/// A feed-forward part.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Slots of its products: gate, up, down.
    pub slots: MlpSlots,
    /// Values between.
    pub width: usize,
    /// The activation.
    pub activation: Activation,
    /// Whether the activation gates a second product.
    pub gated: bool,
    /// Whether its products have a bias.
    pub bias: bool,
}

/// The slots of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlpSlots {
    /// The gate's product.
    pub gate: &'static str,
    /// The product up.
    pub up: &'static str,
    /// The product down.
    pub down: &'static str,
}

/// The slots of a layer's one feed-forward part.
pub const MLP: MlpSlots = MlpSlots { gate: "mlp.gate", up: "mlp.up", down: "mlp.down" };

/// The slots of each expert of a layer.
pub const EXPERT: MlpSlots = MlpSlots { gate: "expert.gate", up: "expert.up", down: "expert.down" };

/// The slots of the one that every row goes through, beside its experts.
pub const SHARED: MlpSlots = MlpSlots { gate: "shared.gate", up: "shared.up", down: "shared.down" };

/// A mixture of experts.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsSpec {
    /// How many there are.
    pub experts: usize,
    /// How rows choose.
    pub router: Router,
    /// Whether the router has a bias.
    pub router_bias: bool,
    /// What each expert is.
    pub expert: MlpSpec,
    /// What every row goes through as well; its output is added to that of the experts.
    pub shared: Option<MlpSpec>,
}
