//! Encoding takes time linear in the text, whatever the text: pathological ones of two lengths are compared. The time
//! is that of this thread on its processor, so that other programs do not matter.

#![allow(clippy::unwrap_used)]
#[path = "../../../tests/kit.rs"]
mod kit;

use std::fs;
use std::path::Path;

use pasture_files::tokenizer::{Specials, Tokenizer};

/// Doubling a text may cost this much; twice would be exact, the rest is for caches and logarithms.
const FACTOR: f64 = 2.3;
/// A text of one of these lengths is doubled. Where a length crosses the size at which memory comes from the system
/// page by page, the doubled text pays for that too; then the next length decides.
const LENGTHS: [usize; 4] = [40 << 10, 96 << 10, 64 << 10, 160 << 10];

/// Repeated until the text is long enough.
const PATTERNS: [&str; 16] = [
    " ",
    "a",
    "\n",
    " \n",
    "A",
    "0",
    "'",
    "ab",
    "👩\u{200d}",
    "e\u{301}\u{302}",
    "\u{300}",
    "中",
    "▁",
    "<|",
    "'s",
    "\u{fdfa}",
];
/// Nanoseconds that this thread has run. The system brings its account up to date when a thread yields.
fn thread_time() -> Option<u64> {
    std::thread::yield_now();
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok()
}

/// Nanoseconds of one encoding: the best of three averages.
fn measure(tokenizer: &Tokenizer, text: &str) -> Option<u64> {
    let run = |_| {
        let (started, mut runs) = (thread_time()?, 0);
        loop {
            tokenizer.encode(text, Specials::Parse).unwrap();
            runs += 1;
            let took = thread_time()? - started;
            if took > 2_000_000 || runs == 64 {
                return Some(took / runs);
            }
        }
    };
    (0..3).map(run).collect::<Option<Vec<u64>>>()?.into_iter().min()
}

fn check(kit: &Path, name: &str) {
    let tokenizer = Tokenizer::open(kit.join(name)).unwrap();
    let mut slowest = 0.0f64;
    for pattern in PATTERNS {
        let text = |length: usize| pattern.repeat(length / pattern.len()) + "!";
        let mut factor = f64::INFINITY;
        for bytes in LENGTHS {
            let times = measure(&tokenizer, &text(bytes)).zip(measure(&tokenizer, &text(2 * bytes)));
            let Some((once, twice)) = times else {
                println!("skipped: no thread times here");
                return;
            };
            slowest = slowest.max(twice as f64 / 1e3 / (2 * bytes) as f64);
            // Below a tenth of a millisecond the clock decides.
            factor = if twice < 100_000 { 0.0 } else { twice as f64 / once as f64 };
            if factor < FACTOR {
                break;
            }
        }
        assert!(factor < FACTOR, "{name}: {pattern:?} twice as long takes {factor:.2} times as long");
    }
    println!("{name}: at least {:.1} MB/s", 1.0 / slowest);
}

#[test]
fn twice_the_text_takes_twice_the_time() {
    let Some(kit) = kit::folder("assets/tokenizers") else { return };
    for name in [
        "hf/phi-2/tokenizer.json",
        "hf/phi-3-mini/tokenizer.json",
        "hf/bert-base-uncased/tokenizer.json",
        "hf/clip/tokenizer.json",
        "spm/torchtune-m/m.model",
        "tiktoken/cl100k_base.tiktoken",
    ] {
        check(&kit, name);
    }
}
