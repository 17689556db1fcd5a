//! A mixture whose experts have twelve times the bytes of its cache runs in little more memory than the cache takes.
//! One test in a file of its own, since it measures the whole process.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::Arc;

use pasture_files::durable::Sink;
use pasture_files::outline::Outline;
use pasture_files::{Dtype, json, safetensors};
use pasture_kernels::{Format, Pool};
use pasture_model::{Batch, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

const HIDDEN: usize = 64;
const WIDTH: usize = 2048;
const EXPERTS: usize = 32;
const EXPERT_BYTES: usize = 3 * HIDDEN * WIDTH * 4;
const CACHE_BYTES: usize = 5 * EXPERT_BYTES;
/// The dense part, activations, and what the process takes for itself.
const SLACK: usize = 12 << 20;

/// Bytes of this process that are in memory at most, so far.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

/// Writes a mixture of two layers, a little at a time.
fn written(folder: &Path) {
    let case = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/text/mixtral/config.json"));
    let mut config = json::read(case).expect("the case has one");
    (config["intermediate_size"], config["num_local_experts"]) = (WIDTH.into(), EXPERTS.into());
    std::fs::write(folder.join("config.json"), config.to_string()).expect("it can be written");
    let mut shapes = vec![("model.embed_tokens".to_owned(), vec![256, HIDDEN])];
    shapes.extend([("lm_head".to_owned(), vec![256, HIDDEN]), ("model.norm".to_owned(), vec![HIDDEN])]);
    for layer in 0..2 {
        let mut add =
            |name: &str, shape: &[usize]| shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        for name in ["q_proj", "o_proj"] {
            add(&format!("self_attn.{name}"), &[HIDDEN, HIDDEN]);
        }
        for name in ["k_proj", "v_proj"] {
            add(&format!("self_attn.{name}"), &[HIDDEN / 2, HIDDEN]);
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            add(name, &[HIDDEN]);
        }
        add("block_sparse_moe.gate", &[EXPERTS, HIDDEN]);
        for expert in 0..EXPERTS {
            for name in ["w1", "w3"] {
                add(&format!("block_sparse_moe.experts.{expert}.{name}"), &[WIDTH, HIDDEN]);
            }
            add(&format!("block_sparse_moe.experts.{expert}.w2"), &[HIDDEN, WIDTH]);
        }
    }
    let outline = |(name, shape): (String, Vec<usize>)| Outline {
        name: format!("{name}.weight"),
        dtype: Dtype::Number(Format::F32),
        shape,
    };
    let outlines: Vec<Outline> = shapes.into_iter().map(outline).collect();
    let mut state = 7_u32;
    let fill = |outline: &Outline, sink: &mut Sink| {
        let count: usize = outline.shape.iter().product();
        for _ in 0..count / HIDDEN {
            let mut row = Vec::with_capacity(HIDDEN * 4);
            for _ in 0..HIDDEN {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                row.extend(((state >> 8) as f32 / (1 << 26) as f32 - 0.1).to_le_bytes());
            }
            sink.put(&row)?;
        }
        Ok(())
    };
    safetensors::write(&folder.join("model.safetensors"), &[], &outlines, fill).expect("it can be written");
}

#[test]
fn a_mixture_larger_than_its_cache_runs_within_it() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    written(folder.path());
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Arc::new(Pool::new(1)), Precision::Exact));
    let before = peak();
    let options = LoadOptions { expert_cache: Some(CACHE_BYTES as u64), ..LoadOptions::default() };
    let source = Source::open(folder.path()).expect("it opens");
    let decoder = load(&source, &backend, &options, &mut |_, _| ()).expect("it loads").decoder;
    let mut kv = decoder.kv(&*backend, KvFormat::F32);
    let ids: Vec<u32> = (0..128).map(|at| at * 37 % 256).collect();
    let batch = Batch::one(kv.start(), 0, ids.len(), &ids);
    let hidden = decoder.forward(&mut Ops::new(&*backend), &batch, &mut kv).expect("it runs");
    assert!(hidden.rows.values().iter().all(|value| value.is_finite()));
    let counts = decoder.expert_cache().expect("its experts are on disk").counts();
    assert!(counts.read_bytes as usize > 4 * CACHE_BYTES, "most experts were used: {counts:?}");
    assert!(counts.held_bytes_max as usize <= CACHE_BYTES, "{counts:?}");
    let grown = peak() - before;
    assert!(grown < CACHE_BYTES + SLACK, "{grown} bytes for a cache of {CACHE_BYTES}");
}
