//! Vectors of texts: several texts side by side in one batch, a longer one alone, in parts where no row sees what
//! follows it. The vectors do not depend on how the texts were divided.

use std::ops::Range;

use pasture_model::spec::{Mask, MixerSpec, Spec};
use pasture_model::{Batch, Decoder, Kv, Pooling, Result, normalize};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Ops, Tensor};

use crate::forward::RopeRule;

/// How texts become vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Which of a text's rows become its vector.
    pub pooling: Pooling,
    /// Whether vectors are made one long.
    pub normalize: bool,
}

/// One vector for each text of token ids, `[texts, hidden]`. At most `chunk` rows run at once, but for a text whose rows
/// all see each other. `progress` is told the texts that are done.
///
/// # Errors
/// When an id is past the vocabulary, or a text is longer than the context.
///
/// # Panics
/// When `chunk` is zero or a text has no ids.
pub fn embed(
    decoder: &Decoder,
    format: KvFormat,
    texts: &[&[u32]],
    chunk: usize,
    how: Embedding,
    progress: &mut dyn FnMut(usize),
) -> Result<Tensor> {
    assert!(chunk > 0 && texts.iter().all(|text| !text.is_empty()), "there is something to run");
    let limit = RopeRule::of(decoder.spec()).context(decoder.spec().context);
    if let Some(long) = texts.iter().map(|text| text.len()).find(|len| *len > limit) {
        return Err(pasture_model::Error::Context { wanted: long, limit });
    }
    let mut kv = decoder.kv(&**decoder.backend(), format);
    let whole = sees_ahead(decoder.spec());
    let (mut values, mut done) = (Vec::with_capacity(texts.len() * decoder.spec().hidden), 0);
    while done < texts.len() {
        let some = together(&texts[done..], chunk);
        let part = &texts[done..done + some];
        let vectors = match part {
            [text] if !whole && text.len() > chunk => in_parts(decoder, &mut kv, text, chunk, how.pooling)?,
            _ => side_by_side(decoder, &mut kv, part, how.pooling)?,
        };
        values.extend_from_slice(vectors.values());
        done += some;
        progress(done);
    }
    let mut vectors = Tensor::new(texts.len(), decoder.spec().hidden, values);
    if how.normalize {
        normalize(&mut vectors);
    }
    Ok(vectors)
}

/// Whether rows see what follows them, so that a text cannot be run in parts.
fn sees_ahead(spec: &Spec) -> bool {
    let full = |mixer: &MixerSpec| matches!(mixer, MixerSpec::Attention(attention) if attention.mask == Mask::Full);
    spec.layers.iter().flatten().any(|branch| full(&branch.mixer))
}

/// How many of the texts run in one batch: at least one.
fn together(texts: &[&[u32]], chunk: usize) -> usize {
    let mut rows = 0;
    let fits = texts.iter().take_while(|text| {
        rows += text.len();
        rows <= chunk
    });
    fits.count().max(1)
}

fn side_by_side(decoder: &Decoder, kv: &mut Kv, texts: &[&[u32]], pooling: Pooling) -> Result<Tensor> {
    let mut batch = Batch::default();
    for text in texts {
        batch.push(kv.start(), 0, text.len(), text, None);
    }
    let mut ops = Ops::new(&**decoder.backend());
    let hidden = decoder.forward(&mut ops, &batch, kv)?;
    batch.spans.iter().for_each(|span| kv.end(span.sequence));
    let rows: Vec<Range<usize>> = batch.spans.iter().map(|span| span.rows.clone()).collect();
    Ok(decoder.pool(&mut ops, &hidden.rows, &rows, pooling))
}

fn in_parts(decoder: &Decoder, kv: &mut Kv, text: &[u32], chunk: usize, pooling: Pooling) -> Result<Tensor> {
    let mut ops = Ops::new(&**decoder.backend());
    let sequence = kv.start();
    let mut rows = Vec::new();
    for (part, start) in text.chunks(chunk).zip((0..).step_by(chunk)) {
        let hidden = decoder.forward(&mut ops, &Batch::one(sequence, start, text.len(), part), kv)?;
        kv.release(sequence, start + part.len());
        rows.extend(decoder.backend().download(&hidden.rows));
    }
    kv.end(sequence);
    let rows = Tensor::new(text.len(), decoder.spec().hidden, rows);
    let all = 0..text.len();
    Ok(decoder.pool(&mut ops, &rows, std::slice::from_ref(&all), pooling))
}
