//! A decoder on its device, as the engine computes with it, and the whole logits of given ids for programs and tests.

use std::sync::Arc;

use pasture_model::{Batch, Decoder, Kv, Result};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Adapter, Ops, Tensor};

use crate::forward::{Forward, RopeRule};
use crate::sampling::logprobs::log_probabilities;
use crate::turns::Turns;

/// A decoder with the format of its keys and values.
pub struct Runner {
    decoder: Arc<Decoder>,
    format: KvFormat,
    turns: Option<Turns>,
}

impl Runner {
    /// A decoder that stores its keys and values in `format`.
    pub fn new(decoder: Arc<Decoder>, format: KvFormat) -> Runner {
        Runner { decoder, format, turns: None }
    }

    /// The same on a processor that others use as well: each step waits for its turn.
    pub fn in_turns(self, turns: Turns) -> Runner {
        Runner { turns: Some(turns), ..self }
    }
}

impl Forward for Runner {
    fn vocab(&self) -> usize {
        self.decoder.spec().vocab
    }

    fn context(&self) -> usize {
        context(&self.decoder)
    }

    fn rope_rule(&self) -> RopeRule {
        RopeRule::of(self.decoder.spec())
    }

    fn window(&self) -> Option<usize> {
        self.kv().window()
    }

    fn page_bytes(&self) -> usize {
        self.kv().page_bytes(self.format)
    }

    fn kv(&self) -> Kv {
        self.decoder.kv(&**self.decoder.backend(), self.format)
    }

    fn logits(&mut self, batch: &Batch, kv: &mut Kv, rows: &[u32]) -> Result<Tensor> {
        let _turn = self.turns.as_ref().map(Turns::take);
        let backend = self.decoder.backend().clone();
        let mut ops = Ops::new(&*backend);
        let hidden = self.decoder.forward(&mut ops, batch, kv)?;
        if rows.is_empty() {
            return Ok(Tensor::zeros(0, self.vocab()));
        }
        let asked = ops.gather(&hidden.rows, rows);
        let logits = self.decoder.logits(&mut ops, &asked)?;
        Ok(match logits.device_memory() {
            None => logits,
            Some(_) => Tensor::new(logits.rows(), logits.cols(), backend.download(&logits)),
        })
    }
}

fn context(decoder: &Decoder) -> usize {
    RopeRule::of(decoder.spec()).context(decoder.spec().context)
}

/// What [`logits`] computes.
pub struct Logits {
    /// Logits of every position, `[ids, vocabulary]`.
    pub rows: Tensor,
    /// The outputs that were asked for, `[ids, hidden]` each; 0 is the embedding, `n` the output of the n-th layer.
    pub outputs: Vec<(usize, Tensor)>,
}

/// Runs `ids` in parts of at most `chunk`, and gives the logits of every position and the asked layers' outputs.
///
/// # Errors
/// When an id is past the vocabulary, the ids are longer than the context, or the model has no output head.
///
/// # Panics
/// When `chunk` is zero or there are no ids.
pub fn logits(decoder: &Decoder, format: KvFormat, ids: &[u32], chunk: usize, outputs: &[usize]) -> Result<Logits> {
    logits_with(decoder, None, format, ids, chunk, outputs)
}

/// As [`logits`], with an adapter beside the weights.
///
/// # Errors
/// As [`logits`].
///
/// # Panics
/// As [`logits`].
pub fn logits_with(
    decoder: &Decoder,
    adapter: Option<&Arc<Adapter>>,
    format: KvFormat,
    ids: &[u32],
    chunk: usize,
    outputs: &[usize],
) -> Result<Logits> {
    assert!(!ids.is_empty() && chunk > 0, "there is something to run");
    let limit = context(decoder);
    if ids.len() > limit {
        return Err(pasture_model::Error::Context { wanted: ids.len(), limit });
    }
    let backend = decoder.backend().clone();
    let mut ops = Ops::new(&*backend);
    let mut kv = decoder.kv(&*backend, format);
    let sequence = kv.start();
    let mut rows = Vec::with_capacity(ids.len() * decoder.spec().vocab);
    let mut layers: Vec<(usize, Vec<f32>)> = outputs.iter().map(|layer| (*layer, Vec::new())).collect();
    for (part, start) in ids.chunks(chunk).zip((0..).step_by(chunk)) {
        let mut batch = Batch::default();
        batch.push(sequence, start, ids.len(), part, adapter.cloned());
        batch.outputs = outputs.to_vec();
        let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
        kv.release(sequence, start + part.len());
        let logits = decoder.logits(&mut ops, &hidden.rows)?;
        rows.extend(backend.download(&logits));
        for (layer, output) in &hidden.outputs {
            let wanted = layers.iter_mut().filter(|(asked, _)| asked == layer);
            wanted.for_each(|(_, values)| values.extend(backend.download(output)));
        }
    }
    let tensor = |values: Vec<f32>| Tensor::new(ids.len(), values.len() / ids.len(), values);
    let outputs = layers.into_iter().map(|(layer, values)| (layer, tensor(values))).collect();
    Ok(Logits { rows: tensor(rows), outputs })
}

/// For each of `ids` but the first: the logarithm of its probability after those before it, and those of the `top` most
/// probable tokens, best first; with an adapter beside the weights, if one is given. Runs in parts of at most `chunk` rows and never holds the logits of more.
///
/// # Errors
/// When an id is past the vocabulary, the ids are longer than the context, or the model has no output head.
///
/// # Panics
/// When `chunk` is zero or there are no ids.
pub fn prompt_logprobs(
    decoder: &Decoder,
    format: KvFormat,
    ids: &[u32],
    chunk: usize,
    top: usize,
    adapter: Option<&Arc<Adapter>>,
) -> Result<Vec<Scored>> {
    assert!(!ids.is_empty() && chunk > 0, "there is something to run");
    let limit = context(decoder);
    if ids.len() > limit {
        return Err(pasture_model::Error::Context { wanted: ids.len(), limit });
    }
    let backend = decoder.backend().clone();
    let mut ops = Ops::new(&*backend);
    let mut kv = decoder.kv(&*backend, format);
    let sequence = kv.start();
    let mut scored = Vec::with_capacity(ids.len() - 1);
    for (part, start) in ids.chunks(chunk).zip((0..).step_by(chunk)) {
        let mut batch = Batch::default();
        batch.push(sequence, start, ids.len(), part, adapter.cloned());
        let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
        kv.release(sequence, start + part.len());
        let logits = backend.download(&decoder.logits(&mut ops, &hidden.rows)?);
        let next = &ids[start + 1..];
        for (row, id) in logits.chunks(decoder.spec().vocab).zip(next) {
            let report = log_probabilities(row, top);
            scored.push(Scored { logprob: report.of(*id), top: report.into_top() });
        }
    }
    Ok(scored)
}

/// A token of a prompt under the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The logarithm of its probability.
    pub logprob: f32,
    /// The most probable tokens at its place with theirs, best first.
    pub top: Vec<(u32, f32)>,
}
