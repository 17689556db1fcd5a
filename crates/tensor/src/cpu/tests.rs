//! The backend's claims: every operation it speeds up gives what the reference gives, on every instruction set and team.

use pasture_kernels::Kernels;

use super::*;
use crate::kv::{KvFormat, PAGE};
use crate::ops::attend::AttendSpan;
use crate::ops::linear::Site;
use crate::ops::project::HeadEpilogue;
use crate::{Ops, Vector};

/// f32 sums in another order: a few units of the last place of the largest terms.
const TOLERANCE: f32 = 2e-5;

struct Plain;

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn precision(&self) -> Precision {
        Precision::Exact
    }
}

/// Numbers in -1..1 that look random and are the same everywhere.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn tensor(seed: u64, rows: usize, cols: usize) -> Tensor {
    Tensor::new(rows, cols, numbers(seed, rows * cols))
}

fn weight(backend: &dyn Backend, format: Format, seed: u64, rows: usize, cols: usize) -> Weight {
    let mut bytes = vec![0; rows * format.row_bytes(cols)];
    format.quantize(&numbers(seed, rows * cols), None, &mut bytes);
    let row = format.row_bytes(cols);
    backend.weight(format, rows, cols, &|at| &bytes[at * row..][..row])
}

fn linear(backend: &dyn Backend, format: Format, seed: u64, rows: usize, cols: usize, bias: bool) -> Linear {
    let site = Site { tensor: "layer.weight".into(), rows: 0..rows };
    let bias = bias.then(|| Vector::new(numbers(seed + 100, rows)));
    Linear { weight: weight(backend, format, seed, rows, cols), bias, site }
}

/// Every instruction set, alone and with teams.
fn backends() -> impl Iterator<Item = Cpu> {
    Kernels::all().iter().flat_map(|kernels| {
        [1, 2].map(|threads| Cpu::new(Arc::new(Pool::with_kernels(threads, kernels)), Precision::Exact))
    })
}

fn check_same(claim: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!((found.rows(), found.cols()), (expected.rows(), expected.cols()), "{claim}");
    let largest = expected.values().iter().fold(1.0_f32, |largest, x| largest.max(x.abs()));
    for (at, (found, expected)) in found.values().iter().zip(expected.values()).enumerate() {
        assert!((found - expected).abs() <= TOLERANCE * largest, "{claim}: value {at} is {found} not {expected}");
    }
}

/// Runs `work` with each backend and compares each of its results with the reference's.
fn check_all(claim: &str, work: impl Fn(&dyn Backend) -> Vec<Tensor>) {
    let expected = work(&Plain);
    for cpu in backends() {
        let found = work(&cpu);
        assert_eq!(found.len(), expected.len());
        let claim = format!("{claim} on {} x{}", cpu.pool.kernels().name(), cpu.pool.threads());
        found.iter().zip(&expected).for_each(|(found, expected)| check_same(&claim, found, expected));
    }
}

fn norms(width: usize) -> Vec<Norm> {
    let vector = |seed| Some(Vector::new(numbers(seed, width)));
    let norm = |centered, weight, bias, offset| Norm { centered, weight, bias, eps: 1e-5, offset };
    vec![
        norm(false, None, None, 0.0),
        norm(false, vector(1), None, 1.0),
        norm(false, vector(1), vector(2), 0.0),
        norm(true, vector(1), vector(2), 0.0),
        norm(true, None, None, 0.0),
    ]
}

fn formats(cols: usize) -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(move |format| format.can_quantize() && cols.is_multiple_of(format.block()))
}

#[test]
fn rows_of_a_table_are_the_table_rows() {
    for format in formats(256) {
        check_all(format.name(), |backend| {
            vec![backend.embed(&weight(backend, format, 3, 37, 256), &[0, 36, 5, 5, 17, 16, 15])]
        });
    }
    check_all("odd", |backend| vec![backend.embed(&weight(backend, Format::BF16, 3, 5, 7), &[4, 0])]);
}

#[test]
fn products_are_the_references() {
    for (tokens, rows, cols) in [(1, 37, 256), (7, 16, 512), (35, 50, 256), (3, 5, 7), (2, 1, 96)] {
        for format in formats(cols) {
            check_all(&format!("{} {tokens} {rows} {cols}", format.name()), |backend| {
                let weights = [1, 2].map(|seed| weight(backend, format, seed, rows, cols));
                let x = tensor(9, tokens, cols);
                let split = tokens / 3;
                let groups = [(0..split, &weights[1]), (split..tokens, &weights[0])];
                let groups: Vec<Group> = groups.into_iter().map(|(rows, weight)| Group { rows, weight }).collect();
                let y = backend.grouped(&x, &groups);
                let dx = backend.grouped_input(&tensor(4, tokens, rows), &groups, None);
                let mut sum = numbers(8, rows * cols);
                backend.outer(&tensor(4, tokens, rows), &x, split..tokens, &mut sum);
                vec![y, dx, Tensor::new(rows, cols, sum)]
            });
        }
    }
}

#[test]
fn elementwise_operations_are_the_references() {
    for (rows, cols) in [(1, 24), (3, 160), (200, 120)] {
        let (x, y) = (tensor(1, rows, cols), tensor(2, rows, cols));
        let angles = numbers(5, rows * 4);
        let table = RopeTable {
            half: 4,
            cos: Arc::new(angles.iter().map(|angle| angle.cos()).collect()),
            sin: Arc::new(angles.iter().map(|angle| angle.sin()).collect()),
        };
        check_all(&format!("elementwise {rows} {cols}"), |backend| {
            let mut found = vec![
                backend.add(&x, &y, 0.3),
                backend.scale(&x, &Factors::All(0.5)),
                backend.scale(&x, &Factors::Rows(numbers(3, rows))),
                backend.clamp(&x, 0.4),
                backend.rope(&x, 8, &table),
                backend.gather(&x, &[0, rows as u32 - 1]),
            ];
            let activations = [
                Activation::Silu,
                Activation::Gelu,
                Activation::GeluTanh,
                Activation::GeluQuick,
                Activation::Relu,
                Activation::ReluSquared,
                Activation::Tanh,
                Activation::SoftCap(0.7),
                Activation::SwishLimited { slope: 1.702, limit: 0.9 },
            ];
            for activation in activations {
                found.push(backend.activate(&x, activation));
                found.push(backend.gate(&x, &y, activation));
            }
            for width in [cols, 8] {
                found.extend(norms(width).iter().map(|norm| backend.norm(&x, norm, width)));
            }
            found
        });
    }
}

#[test]
fn projections_are_the_composed_operations() {
    for (tokens, cols) in [(1, 256), (19, 96)] {
        for norm in norms(cols).into_iter().map(Some).chain([None]) {
            check_all(&format!("project {tokens} {cols}"), |backend| {
                let x = tensor(6, tokens, cols);
                let linears = [(Format::Q8_0, 32, true), (Format::F16, 32, true), (Format::Q4_0, 48, false)];
                let linears = linears.map(|(format, rows, bias)| linear(backend, format, 8, rows, cols, bias));
                let [q, k, v] = &linears;
                let norm = norm.as_ref();
                let mut ops = Ops::new(backend);
                let mut found = ops.project(&x, norm, &[q, k, v], &Epilogue::Plain);
                found.extend(ops.project(&x, norm, &[q, k], &Epilogue::Gated(Activation::Silu)));
                found.extend(ops.project(&x, norm, &[v], &Epilogue::Activated(Activation::Gelu)));
                let heads = heads(tokens);
                let epilogues =
                    [heads.epilogue(true), heads.epilogue(false), HeadEpilogue { rope: None, ..heads.epilogue(true) }];
                found.extend(ops.project(&x, norm, &[q, k, v], &Epilogue::Heads(epilogues.to_vec())));
                let stream = tensor(11, tokens, 48);
                found.push(ops.project_add(&x, v, 0.7, &stream));
                found.push(ops.project_add(
                    &x,
                    &Linear { bias: Some(Vector::new(numbers(3, 48))), ..v.clone() },
                    1.0,
                    &stream,
                ));
                found
            });
        }
    }
}

struct Heads {
    norm: Norm,
    table: RopeTable,
    factors: Factors,
}

impl Heads {
    fn epilogue(&self, late: bool) -> HeadEpilogue<'_> {
        HeadEpilogue {
            head_dim: 16,
            clamp: late.then_some(1.5),
            norm: (!late).then_some((&self.norm, 16)),
            rope: Some(&self.table),
            late_norm: late.then_some((&self.norm, 16)),
            factors: late.then_some(&self.factors),
        }
    }
}

fn heads(tokens: usize) -> Heads {
    let angles = numbers(5, tokens * 8);
    let table = RopeTable {
        half: 8,
        cos: Arc::new(angles.iter().map(|angle| angle.cos()).collect()),
        sin: Arc::new(angles.iter().map(|angle| angle.sin()).collect()),
    };
    Heads { norm: norms(16).swap_remove(1), table, factors: Factors::Rows(numbers(2, tokens)) }
}

/// Two sequences, the second with a past; `window` bounds how far back a row sees.
struct Case {
    attention: Attention,
    format: KvFormat,
    window: Option<usize>,
}

impl Case {
    fn sequences() -> [(Range<usize>, Vec<u32>); 2] {
        [(0..70, vec![4, 1, 7]), (0..45, vec![0, 6])]
    }

    fn layer(&self, backend: &dyn Backend) -> KvLayer {
        let mut layer = backend.kv_layer(self.attention.kv_heads, self.attention.head_dim, self.format);
        assert!(backend.kv_resize(&mut layer, 8));
        // What was never written must not matter.
        match &mut layer.storage {
            crate::kv::KvStorage::F32 { keys, values } => [keys, values].map(|all| all.fill(f32::NAN)),
            crate::kv::KvStorage::F16 { keys, values } => [keys, values].map(|all| all.fill(half::f16::NAN)),
            // Every byte of a page of blocks 0xff: scales that are no numbers.
            crate::kv::KvStorage::Blocks { keys, values, .. } => [keys, values].map(|all| all.fill(0xff)),
            crate::kv::KvStorage::Device(_) => unreachable!("the processor's pages are in the host's memory"),
        };
        layer
    }

    /// Rows `rows[i]` of each sequence, in one batch.
    fn run(&self, backend: &dyn Backend, layer: &mut KvLayer, rows: [Range<usize>; 2]) -> Tensor {
        let Attention { heads, kv_heads, head_dim, .. } = self.attention;
        let sequences = Case::sequences();
        let all = |seed: u64, heads: usize| {
            let mut values = Vec::new();
            for (at, rows) in rows.iter().enumerate() {
                let cols = heads * head_dim;
                let sequence = numbers(seed + at as u64, 70 * cols);
                values.extend_from_slice(&sequence[rows.start * cols..rows.end * cols]);
            }
            Tensor::new(values.len() / (heads * head_dim), heads * head_dim, values)
        };
        let first = rows[0].len();
        let spans = [0..first, first..first + rows[1].len()];
        let spans: Vec<AttendSpan> = spans
            .into_iter()
            .zip(&rows)
            .zip(&sequences)
            .map(|((batch, rows), (_, pages))| AttendSpan { rows: batch, start: rows.start, pages })
            .collect();
        let lower = |position: usize| self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let visible = rows.iter().flat_map(Clone::clone).map(|at| lower(at)..at + 1).collect();
        let plan = AttendPlan { spans, visible };
        backend.attend(&all(1, heads), &all(21, kv_heads), &all(31, kv_heads), layer, &plan, &self.attention)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (heads, kv_heads, head_dim) in [(4, 4, 16), (8, 2, 64), (6, 1, 20), (3, 3, 80), (2, 2, 96), (4, 1, 128)] {
        for format in KvFormat::ALL.into_iter().filter(|format| format.fits(head_dim)) {
            for (softcap, sinks, window) in [(None, false, None), (Some(0.8), true, Some(9)), (None, true, Some(40))] {
                let sinks = sinks.then(|| Vector::new(numbers(77, heads)));
                let attention = Attention { heads, kv_heads, head_dim, scale: 0.3, softcap, sinks };
                cases.push(Case { attention, format, window });
            }
        }
    }
    cases
}

#[test]
fn attention_is_the_references() {
    for case in cases() {
        let [(first, _), (second, _)] = Case::sequences();
        check_all("attend", |backend| {
            let mut layer = case.layer(backend);
            let whole = case.run(backend, &mut layer, [first.clone(), 0..30]);
            let decode = case.run(backend, &mut layer, [first.end - 1..first.end, 30..second.end]);
            vec![whole, decode]
        });
    }
}

#[test]
fn attention_has_the_same_bits_however_it_is_cut() {
    for case in cases() {
        for kernels in Kernels::all() {
            let cpu = |threads| Cpu::new(Arc::new(Pool::with_kernels(threads, kernels)), Precision::Exact);
            let (alone, team) = (cpu(1), cpu(3));
            let mut layer = case.layer(&alone);
            let whole = case.run(&alone, &mut layer, [0..70, 0..0]);
            let mut layer = case.layer(&team);
            for cut in [0..1, 1..2, 2..33, 33..34, 34..69, 69..70] {
                let part = case.run(&team, &mut layer, [cut.clone(), 0..0]);
                for (row, at) in cut.enumerate() {
                    assert_eq!(part.row(row), whole.row(at), "row {at} on {}", kernels.name());
                }
            }
        }
    }
    assert_eq!(PAGE % pasture_kernels::attend::SLOT_GROUP, 0);
}

#[test]
fn attention_over_many_pages_has_the_same_bits_however_it_is_cut() {
    const TOKENS: usize = 1100;
    let pages: Vec<u32> = (0..TOKENS.div_ceil(PAGE) as u32).rev().collect();
    let sinks = Some(Vector::new(numbers(77, 4)));
    let attention = Attention { heads: 4, kv_heads: 2, head_dim: 32, scale: 0.3, softcap: None, sinks };
    for (format, window) in [(KvFormat::F16, None), (KvFormat::F32, Some(500)), (KvFormat::Q8_0, None)] {
        for kernels in Kernels::all() {
            let cpu = |threads| Cpu::new(Arc::new(Pool::with_kernels(threads, kernels)), Precision::Exact);
            let run = |backend: &Cpu, layer: &mut KvLayer, rows: Range<usize>| {
                let all = |seed, cols| {
                    let values = numbers(seed, TOKENS * cols)[rows.start * cols..rows.end * cols].to_vec();
                    Tensor::new(rows.len(), cols, values)
                };
                let lower = |at: usize| window.map_or(0, |window| (at + 1).saturating_sub(window));
                let spans = vec![AttendSpan { rows: 0..rows.len(), start: rows.start, pages: &pages }];
                let plan = AttendPlan { spans, visible: rows.clone().map(|at| lower(at)..at + 1).collect() };
                backend.attend(&all(1, 128), &all(2, 64), &all(3, 64), layer, &plan, &attention)
            };
            let layer = |backend: &Cpu| {
                let mut layer = backend.kv_layer(2, 32, format);
                assert!(backend.kv_resize(&mut layer, pages.len()));
                layer
            };
            let (alone, team) = (cpu(1), cpu(3));
            let whole = run(&alone, &mut layer(&alone), 0..TOKENS);
            let mut cut = layer(&team);
            for rows in [0..5, 5..300, 300..301, 301..516, 516..700, 700..1024, 1024..1026, 1026..TOKENS] {
                let part = run(&team, &mut cut, rows.clone());
                for (row, at) in rows.enumerate() {
                    assert_eq!(part.row(row), whole.row(at), "row {at} on {} in {format:?}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn rows_that_are_packed_where_they_are_made_give_the_bits_of_rows_that_are_packed_later() {
    for kernels in Kernels::all() {
        let cpu = Cpu::new(Arc::new(Pool::with_kernels(2, kernels)), Precision::Bf16);
        let again = |x: &Tensor| Tensor::new(x.rows(), x.cols(), x.values().to_vec());
        for (rows, cols) in [(1, 3), (7, 40), (30, 257)] {
            let [gate, up, dy] = [1, 2, 3].map(|seed| tensor(seed, rows, cols));
            let square = weight(&cpu, Format::BF16, 4, cols, cols);
            let product = |x: &Tensor| cpu.grouped(x, &[Group::whole(x, &square)]).into_values();
            let gradient = |x: &Tensor| cpu.grouped_input(x, &[Group::whole(x, &square)], None).into_values();
            let gated = cpu.gate(&gate, &up, Activation::Silu);
            assert_eq!(product(&gated), product(&again(&gated)), "{} {rows} {cols}, gated", kernels.name());
            let [_, d_up] = cpu.gate_backward(&gate, &up, &dy, Activation::Silu);
            assert_eq!(gradient(&d_up), gradient(&again(&d_up)), "{} {rows} {cols}, a gate's", kernels.name());
            let targets: Vec<u32> = (0..rows).map(|row| (row % cols) as u32).collect();
            let mut slopes = tensor(5, rows, cols);
            cpu.target_logs(&mut slopes, &targets, LogitRule::default(), true);
            assert_eq!(gradient(&slopes), gradient(&again(&slopes)), "{} {rows} {cols}, a head's", kernels.name());
            // What is changed afterwards is packed anew.
            slopes.values_mut()[0] += 1.0;
            assert_eq!(gradient(&slopes), gradient(&again(&slopes)), "{} {rows} {cols}, changed", kernels.name());
        }
    }
}
