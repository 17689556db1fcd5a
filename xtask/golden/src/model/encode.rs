//! Golden cases of encoders: padded texts side by side. Each is run alone and all in one batch; hidden rows are compared
//! layer by layer, and what follows a text is no row of ours. Vectors are compared as the case's own files ask for them,
//! and by every pooling that the case has results of.

use anyhow::{Context as _, Result, ensure};
use pasture_model::{Batch, Decoder, EmbedRules, Pooling, normalize};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Ops, Tensor};

use super::play::{Golden, close_to_largest};

/// A vector points where the reference's does.
const COSINE: f64 = 0.99999;

/// One text of a case.
struct Text {
    ids: Vec<u32>,
    types: Vec<u32>,
}

/// Runs every text of a case alone and with the others.
pub fn check(decoder: &Decoder, golden: &Golden, rules: &EmbedRules) -> Result<()> {
    let own = (rules.pooling, rules.normalize);
    ensure!(own == (Some(Pooling::Cls), Some(true)), "the case's files ask for {own:?}, not for normalized cls");
    let texts = texts(golden)?;
    for at in 0..texts.len() {
        check_batch(decoder, golden, &texts, &[at]).with_context(|| format!("text {at} alone"))?;
    }
    let all: Vec<usize> = (0..texts.len()).rev().collect();
    check_batch(decoder, golden, &texts, &all).context("all texts in one batch")
}

fn texts(golden: &Golden) -> Result<Vec<Text>> {
    let listed = |name: &str| golden.integers(name);
    let (ids, mask) = listed("input_ids").zip(listed("attention_mask")).context("no texts")?;
    let types = listed("token_type_ids").unwrap_or_else(|| vec![0; ids.len()]);
    let width = golden.shape("input_ids").and_then(|shape| shape.get(1)).copied().context("texts without a width")?;
    let text = |at: usize| {
        let count = mask[at..at + width].iter().filter(|seen| **seen == 1).count();
        let part = |list: &[i32]| list[at..at + count].iter().map(|id| *id as u32).collect();
        Text { ids: part(&ids), types: part(&types) }
    };
    Ok((0..ids.len()).step_by(width).map(text).collect())
}

fn check_batch(decoder: &Decoder, golden: &Golden, texts: &[Text], chosen: &[usize]) -> Result<()> {
    let backend = decoder.backend().clone();
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let mut batch = Batch::default();
    for at in chosen {
        let Text { ids, types } = &texts[*at];
        batch.push(kv.start(), 0, ids.len(), ids, None);
        batch.see_all();
        batch.types.extend(types);
    }
    batch.outputs = (0..=decoder.spec().layers.len()).collect();
    let hidden = decoder.forward(&mut Ops::new(&*backend), &batch, &mut kv)?;
    let spans = || batch.spans.iter().zip(chosen);
    let last = ("last_hidden_state".to_owned(), &hidden.rows);
    let layers = hidden.outputs.iter().map(|(layer, rows)| (format!("hidden.{layer}"), rows));
    for (name, rows) in layers.chain([last]) {
        let expected = golden.values(&name).with_context(|| format!("the case has no {name}"))?;
        let width = expected.len() / texts.len();
        for (span, at) in spans() {
            let found = &rows.values()[span.rows.start * rows.cols()..span.rows.end * rows.cols()];
            let expected = &expected[at * width..][..found.len()];
            close_to_largest(found, expected).with_context(|| format!("{name} of text {at}"))?;
        }
    }
    let rows: Vec<_> = batch.spans.iter().map(|span| span.rows.clone()).collect();
    for (pooling, name) in [(Pooling::Cls, "cls"), (Pooling::Mean, "mean")] {
        let mut vectors = decoder.pool(&mut Ops::new(&*backend), &hidden.rows, &rows, pooling);
        check_vectors(&vectors, golden, name, chosen)?;
        normalize(&mut vectors);
        check_vectors(&vectors, golden, &format!("{name}_normalized"), chosen)?;
    }
    Ok(())
}

/// Direction and length of each vector.
fn check_vectors(vectors: &Tensor, golden: &Golden, name: &str, chosen: &[usize]) -> Result<()> {
    let expected = golden.values(name).with_context(|| format!("the case has no {name}"))?;
    for (row, at) in chosen.iter().enumerate() {
        let (found, expected) = (vectors.row(row), &expected[at * vectors.cols()..][..vectors.cols()]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let lengths = (dot(found, found).sqrt(), dot(expected, expected).sqrt());
        let cosine = dot(found, expected) / (lengths.0 * lengths.1);
        ensure!(cosine >= COSINE, "{name} of text {at}: cosine {cosine}");
        ensure!((lengths.0 / lengths.1 - 1.0).abs() < 1e-4, "{name} of text {at}: lengths {lengths:?}");
    }
    Ok(())
}
