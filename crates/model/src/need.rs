//! What a model needs in memory, by its structure and the formats of its numbers alone: weights as the kernels hold
//! them, keys and values, and what one step computes in. The program itself and its tokenizer are not counted here.

use pasture_kernels::linear::{self, Layout};
use pasture_kernels::{Format, Kernels};
use pasture_tensor::kv::{KvFormat, PAGE};

use crate::error::{Error, Result};
use crate::kv::pages_held;
use crate::load::Slot;
use crate::spec::{AttentionSpec, Mask, MixerSpec, Spec};

/// How a model is to run.
#[derive(Clone, Copy)]
pub struct Running {
    /// The kernels that compute.
    pub kernels: &'static Kernels,
    /// Threads.
    pub threads: usize,
    /// Positions of a sequence.
    pub context: usize,
    /// Sequences at once.
    pub sequences: usize,
    /// Rows of a step.
    pub chunk: usize,
    /// How keys and values are stored: a format that [`check_kv`] allows.
    pub kv: KvFormat,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Weights, when all are there.
    pub weights: u64,
    /// Beyond these while they are loaded: the tensor that is read.
    pub loading: u64,
    /// Keys and values of all sequences at their longest.
    pub keys_and_values: u64,
    /// What the largest step computes in.
    pub scratch: u64,
}

impl Need {
    /// Of a model whose slots have these formats.
    pub fn of(spec: &Spec, slots: &[Slot], format: &dyn Fn(&Slot) -> Format, running: &Running) -> Need {
        let (mut weights, mut most) = (0, 0);
        for slot in slots {
            let (stored, held) = slot_bytes(slot, format(slot), running.kernels);
            weights += held;
            most = weights.saturating_add(stored).max(most);
        }
        Need {
            weights,
            loading: most.saturating_sub(weights),
            keys_and_values: pages_bytes(spec, running),
            scratch: scratch_bytes(spec, running),
        }
    }

    /// The most that is held at once.
    pub fn most(&self) -> u64 {
        let runs = self.keys_and_values.saturating_add(self.scratch);
        self.weights.saturating_add(runs.max(self.loading))
    }
}

/// Bytes of a slot in its file, and in memory.
fn slot_bytes(slot: &Slot, format: Format, kernels: &Kernels) -> (u64, u64) {
    let Some(cols) = slot.cols else {
        return (format.row_bytes(slot.rows.next_multiple_of(format.block())) as u64, 4 * slot.rows as u64);
    };
    let stored = (format.row_bytes(cols) * slot.rows) as u64;
    match linear::layout_on(kernels, format) {
        Layout::Packed if slot.rows * cols > 0 => (stored, linear::packed_bytes(format, slot.rows, cols) as u64),
        _ => (stored, stored),
    }
}

fn attentions(spec: &Spec) -> impl Iterator<Item = &AttentionSpec> {
    spec.layers.iter().flatten().filter_map(|branch| match &branch.mixer {
        MixerSpec::Attention(attention) => Some(attention),
        _ => None,
    })
}

/// Positions of a sequence of so many tokens whose keys and values are kept.
fn kept(mask: Mask, tokens: usize) -> usize {
    match mask {
        Mask::Window(width) | Mask::Chunk(width) => tokens.min(width),
        Mask::Causal | Mask::Full => tokens,
    }
}

/// Whether keys and values can be kept in a format.
///
/// # Errors
/// When some layer's heads are not whole blocks of it.
pub fn check_kv(spec: &Spec, format: KvFormat) -> Result<()> {
    let wrong = attentions(spec).find(|attention| !format.fits(attention.head_dim));
    wrong.map_or(Ok(()), |attention| {
        let whole: Vec<&str> =
            KvFormat::ALL.into_iter().filter(|it| it.format().block() == 1).map(KvFormat::name).collect();
        Err(Error::KvBlocks {
            format: format.name(),
            block: format.format().block(),
            head_dim: attention.head_dim,
            choices: whole.join(", "),
        })
    })
}

/// Bytes of keys and values of a sequence of so many tokens, in a format that [`check_kv`] allows.
pub fn kv_bytes(spec: &Spec, tokens: usize, format: KvFormat) -> u64 {
    let one = |it: &AttentionSpec| 2 * format.bytes(it.kv_heads * it.head_dim * kept(it.mask, tokens)) as u64;
    attentions(spec).map(one).sum()
}

/// Bytes of the pages that are there when all sequences are at their longest.
fn pages_bytes(spec: &Spec, running: &Running) -> u64 {
    let one = |it: &AttentionSpec| {
        // A step's rows join before those that left the window are given back.
        let seen = match kept(it.mask, running.context) {
            all if all == running.context => all,
            seen => running.context.min(seen + running.chunk + PAGE),
        };
        let pages = pages_held(running.sequences * seen.div_ceil(PAGE));
        2 * running.kv.bytes(it.kv_heads * it.head_dim * PAGE * pages) as u64
    };
    attentions(spec).map(one).sum()
}

/// Bytes of what the largest step computes in, by what is alive at once in the layers' loop.
fn scratch_bytes(spec: &Spec, running: &Running) -> u64 {
    let rows = running.chunk.min(running.context).max(running.sequences);
    let hidden = spec.hidden;
    let branch = |mixer: &MixerSpec| match mixer {
        // Values of a row: the stream before and after, queries, keys, values, results.
        MixerSpec::Attention(it) => {
            let (q, kv) = (it.heads * it.head_dim, it.kv_heads * it.head_dim);
            (2 * hidden + 2 * q + 2 * kv, q.max(hidden))
        }
        MixerSpec::Mlp(it) => (3 * hidden + it.width, it.width.max(hidden)),
        // Each row goes through several, whose results are gathered before they are added.
        MixerSpec::Experts(it) => (3 * hidden + it.router.top * (2 * hidden + it.expert.width), it.expert.width),
    };
    let all = spec.layers.iter().flatten().map(|branch_spec| branch(&branch_spec.mixer));
    // A row that is prepared for a product takes a byte and a quarter a value, or two where it goes in bf16.
    let row = all.map(|(values, widest)| 4 * values + 2 * widest).max().unwrap_or(0);
    let heads = attentions(spec).map(|it| it.heads / it.kv_heads.max(1)).max().unwrap_or(0);
    let scores = running.threads * 8 * heads * running.context * 4;
    let logits = running.sequences * spec.vocab * 4;
    (rows * row + scores + 2 * logits) as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use pasture_kernels::Pool;
    use pasture_tensor::{Backend, Cpu, Precision};

    use super::*;
    use crate::{LoadOptions, Source, load, survey};

    #[test]
    fn what_is_reckoned_is_what_is_held() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
        let source = Source::open(Path::new(file)).expect("the starter's file");
        let found = survey(&source).expect("every slot is there");
        let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Fast));
        let loaded = load(&source, &backend, &LoadOptions::default(), &mut |_, _| {});
        let mut decoder = loaded.expect("it loads").decoder;
        let need_in = |context, kv| {
            let kernels = Kernels::get();
            let running = Running { kernels, threads: 1, context, sequences: 2, chunk: 64, kv };
            Need::of(&found.spec, &found.slots, &|slot| slot.format, &running)
        };
        let need = |context| need_in(context, KvFormat::F16);
        for (context, format) in KvFormat::ALL.into_iter().flat_map(|format| [1, 100, 1000].map(|it| (it, format))) {
            let mut kv = decoder.kv(&*backend, format);
            for _ in 0..2 {
                let sequence = kv.start();
                kv.extend(&*backend, sequence, 0, context).expect("memory for some pages");
            }
            let reckoned = need_in(context, format).keys_and_values;
            assert_eq!(reckoned, kv.bytes(format) as u64, "{context} tokens in {}", format.name());
        }
        let (matrices, vectors) = decoder.weights();
        let matrices: usize = matrices.values().map(|weight| weight.bytes().len()).sum();
        let vectors: usize = vectors.values().map(|vector| 4 * vector.values().len()).sum();
        assert_eq!(need(1).weights, (matrices + vectors) as u64);
        assert!(need(1000).most() > need(1).most() && need(1).most() > need(1).weights);
    }

    #[test]
    fn heads_that_are_no_whole_blocks_are_refused_by_name() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../starter/starter.gguf");
        let mut spec = survey(&Source::open(Path::new(file)).expect("the starter's file")).expect("its slots").spec;
        KvFormat::ALL.into_iter().for_each(|format| check_kv(&spec, format).expect("heads of 32"));
        for branch in spec.layers.iter_mut().flatten() {
            if let MixerSpec::Attention(attention) = &mut branch.mixer {
                attention.head_dim = 80;
            }
        }
        check_kv(&spec, KvFormat::BF16).expect("it has no blocks");
        let error = check_kv(&spec, KvFormat::Q4_0).expect_err("80 values are two and a half blocks").to_string();
        assert!(["q4_0", "32", "80", "f32, f16, bf16"].iter().all(|part| error.contains(part)), "{error}");
    }
}
