//! Codes chosen by how inputs go together: what is lost in the output, and values and products of any bits.

use pasture_kernels::Format;
use pasture_kernels::formats::recode::{WINDOW, Window};

const COLS: usize = 2 * WINDOW;

/// Numbers that look normally distributed and are the same everywhere.
fn normal(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 40) as f32 / (1u32 << 24) as f32
    };
    (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}

/// Inputs of which nine tenths are common to sixteen neighbors, with strengths of their own.
fn inputs(count: usize, state: &mut u64) -> Vec<Vec<f32>> {
    let strength = |at: usize| 0.2 + (at * 37 % 101) as f32 / 50.0;
    let row = |state: &mut u64| {
        let mut common = 0.0;
        let one = |at: usize| {
            if at.is_multiple_of(16) {
                common = normal(state);
            }
            strength(at) * (3.0 * common + normal(state))
        };
        (0..COLS).map(one).collect()
    };
    (0..count).map(|_| row(state)).collect()
}

/// How the inputs of each window go together.
fn windows(inputs: &[Vec<f32>]) -> Vec<Window> {
    let of = |start: usize| {
        let mean = |a: usize, b: usize| inputs.iter().map(|row| row[start + a] * row[start + b]).sum::<f32>();
        let squares: Vec<f32> = (0..WINDOW).map(|at| mean(at, at)).collect();
        let pairs = (0..WINDOW).flat_map(|a| (0..a).map(move |b| (a, b)));
        let found: Vec<f32> = pairs.map(|(a, b)| 0.95 * mean(a, b) / (squares[a] * squares[b]).sqrt()).collect();
        Window::new(&squares, found.into_iter())
    };
    (0..COLS).step_by(WINDOW).map(of).collect()
}

/// What a row's error makes of an output, squared and summed.
fn lost(inputs: &[Vec<f32>], values: &[f32], format: Format, bytes: &[u8]) -> f64 {
    let mut back = vec![0.0; COLS];
    format.dequantize(bytes, &mut back);
    let wrong = |row: &Vec<f32>| {
        let each = row.iter().zip(values.iter().zip(&back));
        each.map(|(input, (value, back))| f64::from(*input) * f64::from(back - value)).sum::<f64>().powi(2)
    };
    inputs.iter().map(wrong).sum()
}

fn recoded() -> impl Iterator<Item = Format> {
    Format::ALL.iter().copied().filter(|format| format.can_recode())
}

#[test]
fn outputs_of_other_inputs_lose_less() {
    let mut state = 7;
    let (seen, others) = (inputs(600, &mut state), inputs(200, &mut state));
    let windows = windows(&seen);
    assert_eq!(recoded().count(), 13, "formats whose values have a code each");
    for format in recoded() {
        let (mut before, mut after) = (0.0, 0.0);
        for _ in 0..4 {
            let values: Vec<f32> = (0..COLS).map(|_| 0.03 * normal(&mut state)).collect();
            let mut bytes = vec![0; format.row_bytes(COLS)];
            format.quantize(&values, None, &mut bytes);
            before += lost(&others, &values, format, &bytes);
            format.recode(&values, &windows, &mut bytes);
            after += lost(&others, &values, format, &bytes);
        }
        assert!(after < 0.5 * before, "{}: {after} after {before}", format.name());
    }
}

#[test]
fn inputs_that_go_apart_keep_the_nearest_codes() {
    let mut state = 11;
    let squares: Vec<f32> = (0..WINDOW).map(|_| normal(&mut state).abs()).collect();
    let apart = || Window::new(&squares, vec![0.0; WINDOW * (WINDOW - 1) / 2].into_iter());
    for format in recoded() {
        let values: Vec<f32> = (0..COLS).map(|_| normal(&mut state)).collect();
        let (mut bytes, mut before, mut after) = (vec![0; format.row_bytes(COLS)], vec![0.0; COLS], vec![0.0; COLS]);
        format.quantize(&values, None, &mut bytes);
        format.dequantize(&bytes, &mut before);
        format.recode(&values, &[apart(), apart()], &mut bytes);
        format.dequantize(&bytes, &mut after);
        for (at, value) in values.iter().enumerate() {
            let (was, is) = ((before[at] - value).abs(), (after[at] - value).abs());
            assert!(is <= was + 1e-5, "{}, value {at}: {is} after {was}", format.name());
        }
    }
}

#[test]
fn any_bits_are_survived() {
    let mut state = 3u64;
    let mut any = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        f32::from_bits((state >> 32) as u32)
    };
    let squares: Vec<f32> = (0..WINDOW).map(|_| any()).collect();
    let pairs: Vec<f32> = (0..WINDOW * (WINDOW - 1) / 2).map(|_| any()).collect();
    let windows = [Window::new(&squares, pairs.iter().copied()), Window::new(&[1.0; WINDOW], pairs.iter().copied())];
    let (odd, plain): (Vec<f32>, Vec<f32>) =
        ((0..COLS).map(|_| any()).collect(), (0..COLS).map(|at| at as f32).collect());
    for (format, values) in recoded().flat_map(|format| [(format, &odd), (format, &plain)]) {
        let (mut bytes, mut back) = (vec![0; format.row_bytes(COLS)], vec![0.0; COLS]);
        format.quantize(values, None, &mut bytes);
        format.recode(values, &windows, &mut bytes);
        format.dequantize(&bytes, &mut back);
        assert!(std::ptr::eq(values, &odd) || back.iter().all(|value| value.is_finite()), "{}", format.name());
    }
}
