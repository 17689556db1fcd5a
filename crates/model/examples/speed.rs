//! Measures a model: loading, prompt tokens a second, generated tokens a second.
//! `cargo run --release -p pasture-model --example speed -- FILE [threads] [prompt] [generated] [sequences]`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pasture_model::{Batch, LoadOptions, Source, load};
use pasture_tensor::kv::KvFormat;
use pasture_tensor::{Backend, Cpu, Ops, Precision};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let path = arguments.first().ok_or("the first argument is the model's file or folder")?;
    let (threads, prompt, generated, sequences) = (number(1, 0), number(2, 128), number(3, 32), number(4, 1));
    let start = Instant::now();
    let backend: Arc<dyn Backend> = Arc::new(Cpu::detect((threads > 0).then_some(threads), Precision::Fast));
    let loaded = load(&Source::open(Path::new(path))?, &backend, &LoadOptions::default(), &mut |_, _| ())?;
    println!("loaded in {:.2} s", start.elapsed().as_secs_f64());
    let decoder = &loaded.decoder;
    let mut kv = decoder.kv(&*backend, KvFormat::F16);
    let mut ops = Ops::new(&*backend);
    let vocab = decoder.spec().vocab as u32;
    let names: Vec<_> = (0..sequences).map(|_| kv.start()).collect();
    for round in 0..2 {
        let start = Instant::now();
        for name in &names {
            let ids: Vec<u32> = (0..prompt as u32).map(|at| (at * 7919 + 13) % vocab).collect();
            let hidden = decoder.forward(&mut ops, &Batch::one(*name, 0, prompt, &ids), &mut kv)?;
            let last = ops.gather(&hidden.rows, &[prompt as u32 - 1]);
            std::hint::black_box(decoder.logits(&mut ops, &last)?);
        }
        println!("prompt    {:>8.1} tokens/s", (prompt * sequences) as f64 / start.elapsed().as_secs_f64());
        let mut times = Vec::new();
        for at in prompt..prompt + generated {
            let start = Instant::now();
            let mut batch = Batch::default();
            names.iter().for_each(|name| batch.push(*name, at, at + 1, &[(at as u32 * 31) % vocab], None));
            let hidden = decoder.forward(&mut ops, &batch, &mut kv)?;
            std::hint::black_box(decoder.logits(&mut ops, &hidden.rows)?);
            times.push(start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let rate = |time: f64| sequences as f64 / time;
        println!(
            "generated {:>8.1} tokens/s (median {:.1}, best {:.1})",
            (generated * sequences) as f64 / times.iter().sum::<f64>(),
            rate(times[times.len() / 2]),
            rate(times[0])
        );
        if round == 0 {
            names.iter().for_each(|name| kv.truncate(*name, 0));
        }
    }
    Ok(())
}
