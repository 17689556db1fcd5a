//! The kit's step on weights in NF4 (Dettmers et al., arXiv 2305.14314): its base model with the named modules quantized
//! in blocks over the flattened weight, and an adapter beside them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use pasture_files::{Tensors, json};
use pasture_kernels::{Format, Pool};
use pasture_model::{Decoder, LoadOptions, Source, load, load_adapter};
use pasture_tensor::tape::Tape;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

use super::texts::batches;
use super::{LOGITS, LOSS, check_some_gradients, close, flat, ids, number, step};

/// The modules that are quantized.
const MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

pub(super) fn check(folder: &Path) -> Result<()> {
    let (facts, results) =
        (json::read(&folder.join("golden.json"))?, Tensors::open(&folder.join("golden.safetensors"))?);
    let decoder = quantized(&folder.join("../../text/llama3"))?;
    let adapter = Arc::new(load_adapter(&folder.join("../llama3/rslora/initial"), &decoder)?);
    let texts = batches(&folder.join("../llama3/batches.safetensors"))?.swap_remove(0);
    let parts: Vec<_> = texts.iter().map(|text| (text, Some(&adapter))).collect();
    let found = step(&decoder, &parts, Tape::new(ids(&adapter).into_values()))?;
    close(&[found.loss], &[number(&facts["qlora"]["loss"])?], LOSS).context("loss")?;
    let of = |(name, id)| Ok((name, found.gradients.weight(id).context("a matrix without a gradient")?.to_vec()));
    let gradients = ids(&adapter).into_iter().map(of).collect::<Result<_>>()?;
    check_some_gradients(&results, "qlora.grad.", &gradients)?;
    let (batch, mut kv) = flat(&decoder, parts.iter().copied());
    let mut ops = Ops::new(&**decoder.backend());
    let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
    let logits = decoder.logits(&mut ops, &hidden.rows)?;
    let expected = super::texts::floats(&results, "qlora.batch0.logits")?;
    for (span, expected) in batch.spans.iter().zip(expected.chunks_exact(expected.len() / texts.len())) {
        let found = &logits.values()[span.rows.start * logits.cols()..span.rows.end * logits.cols()];
        close(found, &expected[..found.len()], LOGITS * 8.0).context("logits")?;
    }
    Ok(())
}

/// The base model with each module's numbers as NF4 gives them back.
fn quantized(base: &Path) -> Result<Decoder> {
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let mut decoder = load(&Source::open(base)?, &backend, &LoadOptions::default(), &mut |_, _| ())?.decoder;
    let named = |tensor: &str| MODULES.iter().any(|module| tensor.ends_with(&format!(".{module}.weight")));
    let wanted: Vec<_> = decoder.parameters().iter().filter(|it| named(&it.tensor)).map(|it| it.weight).collect();
    let mut values = decoder.parameter_values(&|id| wanted.contains(&id));
    for values in values.values_mut() {
        let mut bytes = vec![0; Format::NF4.row_bytes(values.len())];
        Format::NF4.quantize(values, None, &mut bytes);
        Format::NF4.dequantize(&bytes, values);
    }
    decoder.set_parameters(&mut |id| values.remove(&id));
    Ok(decoder)
}
