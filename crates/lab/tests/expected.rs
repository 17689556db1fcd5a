//! What a model's own weights say of its inputs is near what a text shows, near enough to choose codes by.
#![forbid(unsafe_code)]

use std::path::Path;

use pasture_kernels::Format;
use pasture_kernels::formats::recode::WINDOW;
use pasture_lab::quantize::calibrate::calibrate;
use pasture_lab::quantize::expected::Expected;
use pasture_lab::quantize::importance::{Importance, Inputs};
use pasture_model::save::{Own, Target, plan_gguf};
use pasture_model::{Source, survey};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The mean products of inputs, window by window.
fn products(inputs: &Inputs) -> Vec<Vec<f64>> {
    let squares = inputs.weights();
    let mut left = &inputs.correlations[..];
    let window = |squares: &[f32]| {
        let n = squares.len();
        let mut found = vec![0.0; n * (n - 1) / 2];
        let (bytes, rest) = left.split_at(Format::F16.row_bytes(found.len()));
        left = rest;
        Format::F16.dequantize(bytes, &mut found);
        let mut products = vec![0.0; n * n];
        for a in 0..n {
            products[a * n + a] = f64::from(squares[a]);
            for b in 0..a {
                let product = f64::from(found[a * (a - 1) / 2 + b] * (squares[a] * squares[b]).sqrt());
                (products[a * n + b], products[b * n + a]) = (product, product);
            }
        }
        products
    };
    squares.chunks(WINDOW).map(window).collect()
}

/// The mean square of what some rows' rounding does to the outputs, where the codes are chosen by some inputs or none.
fn error(values: &[f32], seen: &[Vec<f64>], known: Option<&Inputs>) -> f64 {
    let format = Format::Q4_K;
    let width = seen.iter().map(|window| window.len().isqrt()).sum();
    let windows = known.map_or_else(Vec::new, Inputs::windows);
    let (mut bytes, mut back, mut sum) = (vec![0; format.row_bytes(width)], vec![0.0; width], 0.0);
    for row in values.chunks_exact(width).step_by(8) {
        format.quantize(row, None, &mut bytes);
        if !windows.is_empty() {
            format.recode(row, &windows, &mut bytes);
        }
        format.dequantize(&bytes, &mut back);
        let errors: Vec<f64> = row.iter().zip(&back).map(|(value, back)| f64::from(value - back)).collect();
        for (products, errors) in seen.iter().zip(errors.chunks(WINDOW)) {
            for (products, error) in products.chunks_exact(errors.len()).zip(errors) {
                sum += error * products.iter().zip(errors).map(|(product, other)| product * other).sum::<f64>();
            }
        }
    }
    sum
}

/// How much of a tensor's error is left: by what was expected, and by what was measured.
fn left(target: &Target, content: &Own<'_>, expected: &Expected<'_>, measured: &Importance) -> [f64; 2] {
    let values = target.read(0, content, true).expect("its values");
    let seen = measured.of(&target.outline.name, 0).expect("every matrix has inputs");
    let expected = expected.of(target, 0).unwrap_or_else(|| panic!("no inputs of {}", target.outline.name));
    let products = products(seen);
    let plain = error(&values, &products, None);
    [&expected, seen].map(|inputs| error(&values, &products, Some(inputs)) / plain)
}

#[test]
fn weights_tell_how_inputs_go_together() {
    let source = Source::open(&Path::new(ROOT).join("starter/starter.gguf")).expect("the starter opens");
    let survey = survey(&source).expect("its tensors are known");
    let text = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("a text");
    let measured = calibrate(&source, &text, 4096, 2).expect("it runs");
    let (own, plan) = (Own { source: &source, survey: &survey }, plan_gguf(&source, &survey).expect("it has a plan"));
    let expected = Expected::new(&own, &survey, &plan.targets, None, 2);
    let by_squares = squares_alone(&measured, &plan.targets);
    let beside = Expected::new(&own, &survey, &plan.targets, Some(&by_squares), 2);
    let in_layers = |target: &&Target| !target.is_vector() && target.slots().all(|slot| slot.place.layer.is_some());
    for target in plan.targets.iter().filter(in_layers) {
        let name = &target.outline.name;
        let [alone, wanted] = left(target, &own, &expected, &measured);
        let [squares, _] = left(target, &own, &beside, &measured);
        println!("{name}: {alone:.3} by weights, {squares:.3} with measured squares, {wanted:.3} by the text itself");
        // Between the matrices of a feed-forward part each input is taken on its own.
        let most = if name.contains("ffn_down") { 1.0 } else { 0.75 };
        assert!(alone <= most && squares <= most, "{name}: {alone}, {squares}");
        assert!(wanted < alone && wanted < squares, "{name}: {wanted} of {alone} and {squares}");
    }
}

/// What a file of llama.cpp's says.
fn squares_alone(measured: &Importance, targets: &[Target]) -> Importance {
    let mut squares = Importance::default();
    for target in targets {
        let name = &target.outline.name;
        let Some(inputs) = measured.of(name, 0) else { continue };
        squares.insert(name.clone(), vec![Inputs { correlations: Vec::new(), ..inputs.clone() }]);
    }
    squares
}
