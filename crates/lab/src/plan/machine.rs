//! How fast this machine is, by our own kernels: products of each number format with few and many rows, attention, the
//! reading of memory. Measured once and kept in a file; what was measured on another processor, or by another version,
//! does not count.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pasture_files::{durable, json};
use pasture_kernels::linear::{self, Finish, Input, Product, Prologue};
use pasture_kernels::{Format, Pool};
use pasture_tensor::kv::{KvFormat, PAGE};
use pasture_tensor::ops::attend::{AttendPlan, AttendSpan, Attention};
use pasture_tensor::{Backend, Cpu, Precision, Tensor, Weight};
use serde::{Deserialize, Serialize};

use super::work::Work;
use crate::receipt::processor;

/// The version of the program that measures.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Rows with which products are measured.
pub const ROWS: [usize; 4] = [1, 4, 16, 128];

/// Bytes of weights, or of keys and values, that do not stay in a processor's caches: several times what most have, as
/// some of what is read again and again stays even in a smaller one.
const FAR_BYTES: usize = 256 << 20;
/// Bytes of weights that do.
const NEAR_BYTES: usize = 2 << 20;

/// Shape of the measured weights.
const OUTPUTS: usize = 4096;
const INPUTS: usize = 2048;
/// Outputs whose results are measured with many rows.
const MANY_OUTPUTS: usize = 1024;

/// Seconds that one look at the far weights may take.
const TIME_MAX: f64 = 0.02;

/// How fast a machine is with some kernels and threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// The kernels.
    pub kernels: String,
    /// Threads.
    pub threads: usize,
    /// Bytes a second that all threads together read from memory.
    pub read_bytes_per_second: f64,
    /// Products, by the name of the weights' format.
    pub products: BTreeMap<String, Products>,
    /// Attention, by the name of how keys and values are kept.
    pub attention: BTreeMap<String, Looks>,
    /// Seconds of an operation over nothing: the threads begin together and wait for each other.
    pub operation_seconds: f64,
    /// Seconds of a step beside its operations, whatever its rows.
    pub step_seconds: f64,
    /// Seconds for a value of a row that is neither product nor attention.
    pub value_seconds: f64,
}

/// What a row's look at a key takes, with one head: of a row alone, and of one of many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looks {
    /// Seconds for a key, whatever its values.
    pub key_seconds: [f64; 2],
    /// Seconds for each of its values.
    pub value_seconds: [f64; 2],
}

impl Looks {
    /// Seconds of so many looks at keys that have so many values together.
    pub fn seconds(&self, rows: usize, keys: f64, values: f64) -> f64 {
        let many = usize::from(rows >= FEW_ROWS);
        keys * self.key_seconds[many] + values * self.value_seconds[many]
    }
}

/// Rows below which attention goes row by row.
const FEW_ROWS: usize = 32;

/// Products with weights of one format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Products {
    /// Seconds for a weight that lies in a cache, with one row.
    pub near_seconds: f64,
    /// Seconds for a weight that is read from memory, with each of [`ROWS`].
    pub far_seconds: [f64; ROWS.len()],
    /// Seconds for a result beside its weights, of a row alone and of one of many.
    pub result_seconds: [f64; 2],
}

impl Products {
    /// Seconds for a weight with so many rows, where all weights have so many bytes.
    pub fn seconds(&self, rows: f64, bytes: u64) -> f64 {
        let far = self.far(rows);
        let far_one = self.far_seconds[0];
        // In between, by the logarithm of the size.
        let (near, wide) = ((NEAR_BYTES as f64).log2(), (FAR_BYTES as f64).log2());
        let share = ((bytes.max(1) as f64).log2() - near) / (wide - near);
        let saved = (far_one - self.near_seconds).max(0.0) * (1.0 - share.clamp(0.0, 1.0));
        // What a cache saves is the reading, which many rows share.
        (far - saved).max(far * self.near_seconds.min(far_one) / far_one)
    }

    /// Seconds of the results of so many outputs and inputs, beyond what a weight's own seconds count of them already.
    pub fn results_seconds(&self, rows: f64, outputs: f64, inputs: f64) -> f64 {
        let [one, many] = self.result_seconds;
        let last = ROWS[ROWS.len() - 1] as f64;
        let share = ((rows - 1.0) / (last - 1.0)).clamp(0.0, 1.0);
        rows * outputs * (one + (many - one) * share) * (1.0 - inputs / INPUTS as f64).max(0.0)
    }

    fn far(&self, rows: f64) -> f64 {
        let points: Vec<(f64, f64)> = ROWS.iter().map(|rows| *rows as f64).zip(self.far_seconds).collect();
        let (last_rows, last) = points[points.len() - 1];
        if rows >= last_rows {
            return last * rows / last_rows;
        }
        let between = points.windows(2).find(|pair| rows <= pair[1].0);
        between.map_or(last, |pair| {
            let [(low, at_low), (high, at_high)] = [pair[0], pair[1]];
            at_low + (at_high - at_low) * ((rows - low) / (high - low)).max(0.0)
        })
    }
}

/// What is kept of all measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    version: String,
    processor: String,
    rates: Vec<Rates>,
}

impl Kept {
    /// What is in a file, as far as it is this processor's and this version's.
    pub fn read(path: &Path) -> Kept {
        let this = Kept { version: VERSION.into(), processor: processor().unwrap_or_default(), rates: Vec::new() };
        let read = json::read(path).ok().and_then(|value| serde_json::from_value::<Kept>(value).ok());
        read.filter(|kept| kept.version == this.version && kept.processor == this.processor).unwrap_or(this)
    }

    /// The rates with these kernels and so many threads.
    pub fn rates(&self, kernels: &str, threads: usize) -> Option<&Rates> {
        self.rates.iter().find(|rates| rates.kernels == kernels && rates.threads == threads)
    }

    /// Puts rates in the place of those with the same kernels and threads.
    pub fn put(&mut self, rates: Rates) {
        self.rates.retain(|other| other.kernels != rates.kernels || other.threads != rates.threads);
        self.rates.push(rates);
    }

    /// Writes the file, and its folder where there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> pasture_files::Result<()> {
        let text = serde_json::to_string_pretty(self).expect("names are texts, and times finite");
        if let Some(folder) = path.parent() {
            durable::create_folders_on(&durable::Disk, folder)?;
        }
        durable::write_file(path, |sink| sink.put(text.as_bytes()))
    }
}

impl Rates {
    /// Measures all but products, which [`Rates::add`] measures as they are needed.
    pub fn measure(pool: &Arc<Pool>) -> Rates {
        Rates {
            kernels: pool.kernels().name().to_owned(),
            threads: pool.threads(),
            read_bytes_per_second: read_rate(pool.threads()),
            products: BTreeMap::new(),
            attention: BTreeMap::new(),
            operation_seconds: operation_seconds(pool),
            step_seconds: 0.0,
            value_seconds: 0.0,
        }
    }

    /// Whether attention over keys and values in a format was measured.
    pub fn looks(&self, kv: KvFormat) -> bool {
        self.attention.contains_key(kv.name())
    }

    /// Measures attention over keys and values in a format.
    pub fn add_looks(&mut self, pool: &Arc<Pool>, kv: KvFormat) {
        let cpu = Cpu::new(pool.clone(), Precision::Fast);
        self.attention.insert(kv.name().to_owned(), looks(&cpu, kv));
    }

    /// Whether products of a format were measured.
    pub fn knows(&self, format: Format) -> bool {
        self.products.contains_key(format.name())
    }

    /// Measures the products of a format.
    pub fn add(&mut self, pool: &Arc<Pool>, format: Format) {
        let cpu = Cpu::new(pool.clone(), Precision::Fast);
        self.products.insert(format.name().to_owned(), products(&cpu, format, self.operation_seconds));
    }

    /// Takes what a measured model needed beyond its products and attention for the rest that every model has: the
    /// seconds of a new token, and those of a prompt.
    pub fn calibrate(&mut self, work: &Work, chunk: usize, token: (usize, f64), prompt: (usize, f64)) {
        (self.step_seconds, self.value_seconds) = (0.0, 0.0);
        let (Some(of_token), Some(of_prompt)) =
            (work.token_seconds(self, 1, token.0), work.prompt_seconds(self, prompt.0, 0, chunk))
        else {
            return;
        };
        let (token_rest, prompt_rest) = (token.1 - of_token, prompt.1 - of_prompt);
        let values = work.values_of_row() as f64;
        let rows = prompt.0.saturating_sub(1).max(1) as f64;
        self.value_seconds = ((prompt_rest - token_rest) / (rows * values)).max(0.0);
        self.step_seconds = (token_rest - values * self.value_seconds).max(0.0);
    }
}

/// The middle of some runs' seconds, after one that does not count; of one run where that takes long.
fn middle(runs: usize, mut run: impl FnMut()) -> f64 {
    let begun = Instant::now();
    run();
    let runs = if begun.elapsed().as_secs_f64() > TIME_MAX { 1 } else { runs };
    let mut seconds: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Bytes a second of threads that add up numbers which no cache holds.
fn read_rate(threads: usize) -> f64 {
    let numbers: Vec<u64> = vec![1; 256 << 17];
    let share = numbers.len().div_ceil(threads.max(1));
    let seconds = middle(3, || {
        std::thread::scope(|scope| {
            for part in numbers.chunks(share) {
                scope.spawn(move || black_box(part.iter().fold(0u64, |sum, number| sum.wrapping_add(*number))));
            }
        });
    });
    (numbers.len() * 8) as f64 / seconds
}

/// Some numbers around zero.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

/// Seconds of a product of few weights beside its weights: what one of eight times as many outputs does not take eight
/// times.
fn operation_seconds(pool: &Arc<Pool>) -> f64 {
    const COLS: usize = 64;
    let (few, many) = (256, 2048);
    let (row, x) = (vec![0; Format::F32.row_bytes(COLS)], numbers(COLS));
    let mut out = vec![0.0; many];
    let mut time = |outputs: usize| {
        let cpu = Cpu::new(pool.clone(), Precision::Fast);
        let weight = cpu.weight(Format::F32, outputs, COLS, &|_| &row[..]);
        middle(201, || {
            let input = Input { values: &x, cols: COLS, prologue: Prologue::None };
            let out = &mut out[..outputs];
            let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Store, out };
            linear::project(pool, linear::Precision::Fast, &input, &mut [product]);
        })
    };
    let (of_few, of_many) = (time(few), time(many));
    let slope = (of_many - of_few).max(0.0) / (many - few) as f64;
    (of_few - slope * few as f64).max(0.0)
}

/// Products, where an operation over nothing takes so many seconds.
fn products(cpu: &Cpu, format: Format, operation_seconds: f64) -> Products {
    let mut row = vec![0; format.row_bytes(INPUTS)];
    if format.can_quantize() {
        format.quantize(&numbers(INPUTS), None, &mut row);
    }
    let weight = |outputs| cpu.weight(format, outputs, INPUTS, &|_| &row[..]);
    let x = numbers(INPUTS * ROWS[ROWS.len() - 1]);
    let mut out = vec![0.0; OUTPUTS * ROWS[ROWS.len() - 1]];
    let mut time = |weights: &[Weight], runs, rows| {
        let all: usize = weights.iter().map(|weight| weight.rows() * weight.cols()).sum();
        let seconds = middle(runs, || {
            for weight in weights {
                let out = &mut out[..rows * weight.rows()];
                let input = Input { values: &x[..rows * INPUTS], cols: INPUTS, prologue: Prologue::None };
                let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Store, out };
                linear::project(cpu.pool(), linear::Precision::Fast, &input, &mut [product]);
            }
        });
        seconds / all as f64
    };
    let near = weight((NEAR_BYTES / row.len()).clamp(16, OUTPUTS));
    let near_seconds = time(std::slice::from_ref(&near), 9, 1);
    // A format that is slow to decode reads no memory to speak of: a part says as much as all.
    let in_time = TIME_MAX / (near_seconds * (OUTPUTS * INPUTS) as f64);
    let count = FAR_BYTES.div_ceil(row.len() * OUTPUTS).min(in_time as usize).max(1);
    let far: Vec<Weight> = (0..count).map(|_| weight(OUTPUTS)).collect();
    let [one, four, sixteen, many] = ROWS;
    let far_seconds = [time(&far, 5, one), time(&far, 3, four), time(&far, 3, sixteen), time(&far[..1], 3, many)];
    let result_seconds = [(2 * OUTPUTS, one, near_seconds), (MANY_OUTPUTS, many, far_seconds[3])]
        .map(|(outputs, rows, of_weight)| result_seconds(cpu, format, outputs, rows, of_weight, operation_seconds));
    Products { near_seconds, far_seconds, result_seconds }
}

/// Seconds of a result beside its weights, by what rows of few weights take longer than long ones do. A weight of long
/// rows with so many rows of input takes `of_weight` seconds.
fn result_seconds(
    cpu: &Cpu,
    format: Format,
    outputs: usize,
    rows: usize,
    of_weight: f64,
    operation_seconds: f64,
) -> f64 {
    let cols = format.block().max(64);
    let mut row = vec![0; format.row_bytes(cols)];
    if format.can_quantize() {
        format.quantize(&numbers(cols), None, &mut row);
    }
    let weight = cpu.weight(format, outputs, cols, &|_| &row[..]);
    let (x, mut out) = (numbers(cols * rows), vec![0.0; outputs * rows]);
    let seconds = middle(21, || {
        let input = Input { values: &x, cols, prologue: Prologue::None };
        let product = Product { weight: weight.matrix(), bias: None, finish: Finish::Store, out: &mut out };
        linear::project(cpu.pool(), linear::Precision::Fast, &input, &mut [product]);
    });
    let beside = (seconds - operation_seconds) / outputs as f64 - cols as f64 * of_weight;
    // The long rows' figure has its own share of a result in it.
    (beside / (1.0 - cols as f64 / INPUTS as f64) / rows as f64).max(0.0)
}

/// Looks at keys of few and of more values: what they take alike is a key's.
fn looks(cpu: &Cpu, kv: KvFormat) -> Looks {
    let (few, more) = if kv.format().block() == 1 { (16, 64) } else { (32, 128) };
    let both = [1, MANY_ROWS].map(|rows| {
        let [of_few, of_more] = [few, more].map(|head_dim| look_seconds(cpu, kv, head_dim, rows));
        let value = (of_more - of_few).max(0.0) / (more - few) as f64;
        ((of_few - few as f64 * value).max(0.0), value)
    });
    Looks { key_seconds: both.map(|both| both.0), value_seconds: both.map(|both| both.1) }
}

/// Rows of a prompt that look at their keys together.
const MANY_ROWS: usize = 512;

/// Seconds of a head's look at a key, of so many rows in a batch. As in a model of 8B: four query heads share one of
/// keys.
fn look_seconds(cpu: &Cpu, kv: KvFormat, head_dim: usize, rows: usize) -> f64 {
    const KEYS: usize = 2048;
    let attention = Attention { heads: 32, kv_heads: 8, head_dim, scale: 0.125, softcap: None, sinks: None };
    let (wide, narrow) = (attention.heads * head_dim, attention.kv_heads * head_dim);
    let [q, k, v] = [wide, narrow, narrow].map(|width| Tensor::new(rows, width, numbers(rows * width)));
    // A row alone waits for memory, as layer after layer is another place; many share what is read.
    let layers = if rows == 1 { FAR_BYTES / (2 * KEYS * kv.bytes(narrow)) } else { 1 };
    let mut layers: Vec<_> = (0..layers)
        .map(|_| cpu.kv_layer(attention.kv_heads, head_dim, kv))
        .filter_map(|mut layer| cpu.kv_resize(&mut layer, KEYS / PAGE).then_some(layer))
        .collect();
    let (pages, start): (Vec<u32>, _) = ((0..(KEYS / PAGE) as u32).collect(), KEYS - rows);
    let visible: Vec<_> = (0..rows).map(|row| 0..start + row + 1).collect();
    let keys: usize = visible.iter().map(ExactSizeIterator::len).sum();
    let plan = AttendPlan { spans: vec![AttendSpan { rows: 0..rows, start, pages: &pages }], visible };
    let count = layers.len().max(1);
    let seconds = middle(3, || {
        for layer in &mut layers {
            black_box(cpu.attend(&q, &k, &v, layer, &plan, &attention));
        }
    });
    seconds / (count * keys * attention.heads) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: Products =
        Products { near_seconds: 1.0, far_seconds: [3.0, 4.0, 8.0, 64.0], result_seconds: [1.0, 0.5] };

    #[test]
    fn rows_between_measured_ones_take_times_between_theirs() {
        let far = 1 << 40;
        for (rows, seconds) in [(1.0, 3.0), (2.5, 3.5), (4.0, 4.0), (10.0, 6.0), (128.0, 64.0), (512.0, 256.0)] {
            assert_eq!(MEASURED.seconds(rows, far), seconds, "{rows} rows");
        }
    }

    #[test]
    fn short_rows_cost_their_results_and_long_ones_only_their_weights() {
        assert_eq!(MEASURED.results_seconds(1.0, 10.0, 0.0), 10.0);
        assert_eq!(MEASURED.results_seconds(128.0, 1.0, 1024.0), 32.0);
        assert_eq!(MEASURED.results_seconds(1.0, 10.0, 4096.0), 0.0);
        let looks = Looks { key_seconds: [1.0, 2.0], value_seconds: [3.0, 4.0] };
        assert_eq!((looks.seconds(1, 5.0, 7.0), looks.seconds(64, 5.0, 7.0)), (26.0, 38.0));
    }

    #[test]
    fn a_cache_saves_the_reading_and_no_more() {
        assert_eq!(MEASURED.seconds(1.0, 1000), 1.0);
        assert_eq!(MEASURED.seconds(128.0, 1000), 62.0);
        let between = MEASURED.seconds(1.0, 16 << 20);
        assert!(1.0 < between && between < 3.0, "{between}");
    }

    #[test]
    fn what_another_processor_measured_does_not_count() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("machine.json");
        let rates = Rates {
            kernels: "scalar".into(),
            threads: 2,
            read_bytes_per_second: 1.0,
            products: BTreeMap::from([("Q8_0".to_owned(), MEASURED)]),
            attention: BTreeMap::from([(
                "f16".to_owned(),
                Looks { key_seconds: [1.0, 2.0], value_seconds: [3.0, 4.0] },
            )]),
            operation_seconds: 0.5,
            step_seconds: 0.125,
            value_seconds: 0.25,
        };
        let mut kept = Kept::read(&path);
        assert_eq!(kept.rates("scalar", 2), None, "there is no file yet");
        kept.put(rates.clone());
        kept.put(rates.clone());
        kept.write(&path).expect("it can be written");
        let kept = Kept::read(&path);
        assert_eq!((kept.rates("scalar", 2), kept.rates("scalar", 1)), (Some(&rates), None));
        Kept { processor: "another".into(), ..kept.clone() }.write(&path).expect("it can be written");
        assert_eq!(Kept::read(&path).rates("scalar", 2), None);
        std::fs::write(&path, "{").expect("it can be written");
        assert_eq!(Kept::read(&path).rates("scalar", 2), None, "a broken file is none");
    }
}
