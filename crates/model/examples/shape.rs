//! Writes a GGUF file of the shape of a model of a billion parameters, with numbers that mean nothing, for measurements
//! of `speed.rs`: `cargo run --release -p pasture-model --example shape -- FILE FORMAT`.

use std::error::Error;
use std::path::Path;

use pasture_files::durable::Sink;
use pasture_files::gguf::{self, Metadata, Value};
use pasture_files::outline::Outline;
use pasture_kernels::Format;

const LAYERS: usize = 16;
const HIDDEN: usize = 2048;
const WIDTH: usize = 8192;
const VOCAB: usize = 128_256;
const KV: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, format] = &arguments[..] else { return Err("a file's name and a format, such as Q8_0".into()) };
    write(Path::new(file), Format::from_name(format).ok_or("a format such as Q8_0 or Q4_K")?)
}

fn write(path: &Path, format: Format) -> Result<(), Box<dyn Error>> {
    let mut metadata = Metadata::new("model.gguf");
    metadata.insert("general.architecture", Value::text("llama"))?;
    for (key, value) in [
        ("context_length", 4096),
        ("embedding_length", HIDDEN),
        ("block_count", LAYERS),
        ("feed_forward_length", WIDTH),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 8),
        ("rope.dimension_count", 64),
        ("vocab_size", VOCAB),
    ] {
        metadata.insert(format!("llama.{key}"), Value::U32(value as u32))?;
    }
    metadata.insert("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))?;
    let mut outlines = vec![outline("token_embd", &[VOCAB, HIDDEN], format), outline("output_norm", &[HIDDEN], format)];
    for layer in 0..LAYERS {
        for (name, rows, cols) in [
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", KV, HIDDEN),
            ("attn_v", KV, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", WIDTH, HIDDEN),
            ("ffn_up", WIDTH, HIDDEN),
            ("ffn_down", HIDDEN, WIDTH),
        ] {
            outlines.push(outline(&format!("blk.{layer}.{name}"), &[rows, cols], format));
        }
        outlines.push(outline(&format!("blk.{layer}.attn_norm"), &[HIDDEN], format));
        outlines.push(outline(&format!("blk.{layer}.ffn_norm"), &[HIDDEN], format));
    }
    let mut state = 1_u64;
    let mut fill = |outline: &Outline, sink: &mut Sink| {
        let cols = *outline.shape.last().expect("a tensor has a shape");
        let format = outline.dtype.format().expect("it was made with one");
        let mut bytes = vec![0; format.row_bytes(cols)];
        let mut row = |bytes: &mut [u8]| {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.05
            };
            let values: Vec<f32> =
                (0..cols).map(|_| next() + if outline.shape.len() == 1 { 1.0 } else { 0.0 }).collect();
            format.quantize(&values, None, bytes);
        };
        // One row again and again: a search for the best blocks of each would take long and measure nothing.
        row(&mut bytes);
        let rows: usize = outline.shape.iter().rev().skip(1).product();
        (0..rows).try_for_each(|_| sink.put(&bytes))
    };
    gguf::write(path, &metadata, &outlines, &mut fill)?;
    Ok(())
}

fn outline(name: &str, shape: &[usize], format: Format) -> Outline {
    let format = if shape.len() == 1 { Format::F32 } else { format };
    Outline { name: format!("{name}.weight"), dtype: pasture_files::Dtype::Number(format), shape: shape.to_vec() }
}
