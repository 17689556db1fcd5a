//! Measures attention of one shape behind many tokens: rows that were read and rows that are made.
//! `cargo run --release -p pasture-tensor --example attend -- [threads] [depth] [kv format] [heads] [kv heads] [head dim] [rows]`

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use pasture_tensor::kv::{KvFormat, KvLayer, PAGE};
use pasture_tensor::ops::attend::{AttendPlan, AttendSpan, Attention};
use pasture_tensor::{Cpu, Ops, Precision, Tensor};

/// Bytes of the keys and values of all layers, which take turns: more than caches hold.
const BYTES: usize = 256 << 20;

/// Rows at once: of a prompt, of an answer with guesses, of an answer.
const ROWS: [usize; 4] = [512, 64, 8, 1];

struct Measure<'a> {
    ops: Ops<'a>,
    attention: Attention,
    layers: Vec<KvLayer>,
    pages: Vec<u32>,
}

impl Measure<'_> {
    /// How long one layer takes for the rows at these positions, which see so many keys before them.
    fn attend(&mut self, layer: usize, positions: Range<usize>, before: usize) -> Duration {
        let Measure { ops, attention, layers, pages } = self;
        let rows = positions.len();
        let values = |heads: usize, salt: usize| {
            let cols = heads * attention.head_dim;
            let value = |at: usize| ((at * 7919 + salt) % 1999) as f32 / 1000.0 - 1.0;
            Tensor::new(rows, cols, (0..rows * cols).map(value).collect())
        };
        let [q, k, v] = [(attention.heads, 1), (attention.kv_heads, 2), (attention.kv_heads, 3)]
            .map(|(heads, salt)| values(heads, salt));
        let spans = vec![AttendSpan { rows: 0..rows, start: positions.start, pages }];
        let plan = AttendPlan { spans, visible: positions.map(|at| at.saturating_sub(before)..at + 1).collect() };
        let start = Instant::now();
        black_box(ops.attend(&q, &k, &v, &mut layers[layer], &plan, attention));
        start.elapsed()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (threads, depth) = (number(0, 1), number(1, 4096));
    let format =
        arguments.get(2).map_or(Some(KvFormat::F16), |name| KvFormat::from_name(name)).ok_or("no such format")?;
    let (heads, kv_heads, head_dim) = (number(3, 32), number(4, 8), number(5, 64));
    let backend = Cpu::detect(Some(threads), Precision::Fast);
    let attention =
        Attention { heads, kv_heads, head_dim, scale: (head_dim as f32).powf(-0.5), softcap: None, sinks: None };
    let pages: Vec<u32> = (0..(depth + ROWS[0]).div_ceil(PAGE) as u32).collect();
    let count = BYTES.div_ceil(2 * pages.len() * PAGE * format.bytes(kv_heads * head_dim));
    let mut layers: Vec<KvLayer> = (0..count).map(|_| KvLayer::new(kv_heads, head_dim, format)).collect();
    assert!(layers.iter_mut().all(|layer| layer.resize(pages.len())), "no memory for {} pages", pages.len());
    let mut measure = Measure { ops: Ops::new(&backend), attention, layers, pages };
    for layer in 0..count {
        measure.attend(layer, 0..depth.max(1), 0);
    }
    let only = number(6, 0);
    for rows in ROWS.into_iter().filter(|rows| only == 0 || only == *rows) {
        let rounds = if rows == 1 { 8 * count } else { count };
        let times =
            (0..rounds).map(|round| measure.attend(round % count, depth..depth + rows, usize::MAX).as_secs_f64());
        let mut times: Vec<f64> = times.collect();
        times.sort_by(f64::total_cmp);
        let middle = times[times.len() / 2];
        let operations = 4 * heads * head_dim * (depth + 1..depth + rows + 1).sum::<usize>();
        println!(
            "{rows:>4} rows behind {depth} {:>8.3} ms a row {:>6.1} GFLOP/s",
            1e3 * middle / rows as f64,
            operations as f64 / middle / 1e9
        );
    }
    Ok(())
}
