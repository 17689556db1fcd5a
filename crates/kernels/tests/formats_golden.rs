//! Every number format against the reference kit: decoded values, stored bytes, and how much a search loses.
//! The kit is found by `PASTURE_KIT` or beside the workspace; without it each test says `skipped: no kit`.

mod kit;

use kit::Golden;
use pasture_kernels::Format;

/// Fused multiply-add may move the last bits of a decoded value.
const DECODE_TOLERANCE: f64 = 1e-6;
/// A search may lose this much more than the reference's.
const SEARCH_SLACK: f64 = 1.02;
/// The reference prints its losses with six decimals.
const LOSS_ROUNDING: f64 = 1e-6;

fn decoded(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / format.block_bytes() * format.block()];
    format.dequantize(bytes, &mut out);
    out
}

fn encoded(format: Format, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut out = vec![0; format.row_bytes(values.len())];
    format.quantize(values, importance, &mut out);
    out
}

fn check_decode(golden: &Golden, format: Format, bytes: &str, wanted: &str) {
    let (bytes, _) = golden.bytes(bytes);
    let (wanted_values, _) = golden.floats(wanted);
    let found = decoded(format, &bytes);
    assert_eq!(found.len(), wanted_values.len(), "{wanted}");
    for (at, (found, wanted_value)) in found.iter().zip(&wanted_values).enumerate() {
        let close = f64::from((found - wanted_value).abs()) <= DECODE_TOLERANCE * f64::from(wanted_value.abs());
        let same = found == wanted_value || (found.is_nan() && wanted_value.is_nan());
        assert!(close || same, "{wanted}[{at}]: {found} instead of {wanted_value}");
    }
}

/// Relative root mean square error, weighted.
fn loss(values: &[f32], found: &[f32], weights: &[f32]) -> f64 {
    let (mut error, mut power) = (0.0, 0.0);
    for ((value, found), weight) in values.iter().zip(found).zip(weights) {
        error += f64::from(*weight) * (f64::from(*value) - f64::from(*found)).powi(2);
        power += f64::from(*weight) * f64::from(*value).powi(2);
    }
    if power == 0.0 { error.sqrt() } else { (error / power).sqrt() }
}

fn check_loss(label: &str, found: f64, wanted: f64, failures: &mut Vec<String>) {
    if std::env::var_os("PASTURE_PRINT_LOSS").is_some() {
        println!("{label}: {found:.6} against {wanted:.6}");
    }
    if found > wanted * SEARCH_SLACK + LOSS_ROUNDING {
        failures.push(format!("{label}: loses {found:.6}, the reference {wanted:.6}"));
    }
}

const SEARCHED: &[Format] = &[
    Format::Q2_K,
    Format::Q3_K,
    Format::Q4_K,
    Format::Q5_K,
    Format::Q6_K,
    Format::IQ4_NL,
    Format::IQ4_XS,
    Format::IQ3_S,
    Format::IQ3_XXS,
    Format::IQ2_S,
    Format::IQ2_XS,
    Format::IQ2_XXS,
    Format::IQ1_S,
    Format::IQ1_M,
    Format::NVFP4,
];

const BYTE_EQUAL: &[Format] = &[
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q8_0,
    Format::F16,
    Format::BF16,
    Format::MXFP4,
    Format::TQ1_0,
    Format::TQ2_0,
];

#[test]
fn stored_blocks_decode_to_the_reference_values() {
    let Some(golden) = Golden::open("formats/gguf_quants") else { return };
    for name in golden.facts["types"].as_object().unwrap().keys() {
        let format = Format::from_name(name).unwrap_or_else(|| panic!("there is no {name}"));
        let facts = &golden.facts["types"][name];
        assert_eq!(facts["ggml_type"].as_u64(), format.ggml_type().map(u64::from), "{name}");
        assert_eq!(facts["block_elements"], format.block(), "{name}");
        assert_eq!(facts["block_bytes"], format.block_bytes(), "{name}");
        let judged = BYTE_EQUAL.contains(&format) || SEARCHED.contains(&format);
        assert_eq!(format.can_quantize(), judged, "{name} is stored, so its bytes or its loss are compared");
        let source = ["c_bytes", "c_imatrix_bytes", "py_bytes"].map(|source| format!("{name}.{source}"));
        let source = source.iter().find(|source| golden.has(source)).unwrap();
        check_decode(&golden, format, source, &format!("{name}.dequant"));
        if golden.has(&format!("{name}.random_bytes")) {
            check_decode(&golden, format, &format!("{name}.random_bytes"), &format!("{name}.random_dequant"));
        }
    }
}

#[test]
fn plain_quantizers_store_the_reference_bytes() {
    let Some(golden) = Golden::open("formats/gguf_quants") else { return };
    let (values, cols) = golden.floats("x");
    for &format in BYTE_EQUAL {
        let source = ["c_bytes", "py_bytes"].map(|source| format!("{}.{source}", format.name()));
        let (wanted, row_bytes) = golden.bytes(source.iter().find(|source| golden.has(source)).unwrap());
        for (row, (values, wanted)) in values.chunks(cols).zip(wanted.chunks(row_bytes)).enumerate() {
            assert!(encoded(format, values, None) == wanted, "{} row {row}", format.name());
        }
    }
}

#[test]
fn searches_lose_no_more_than_the_reference() {
    let Some(golden) = Golden::open("formats/gguf_quants") else { return };
    let (values, cols) = golden.floats("x");
    let even = vec![1.0; cols];
    let mut failures = Vec::new();
    for &format in SEARCHED {
        let wanted = &golden.facts["types"][format.name()]["relative_rmse_per_row"];
        for (row, values) in values.chunks(cols).enumerate() {
            let found = loss(values, &decoded(format, &encoded(format, values, None)), &even);
            check_loss(&format!("{} row {row}", format.name()), found, wanted[row].as_f64().unwrap(), &mut failures);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn searches_by_importance_lose_no_more_than_the_reference() {
    let Some(golden) = Golden::open("formats/gguf_quants") else { return };
    let (values, cols) = golden.floats("x");
    let (importance, _) = golden.floats("imatrix");
    let mut failures = Vec::new();
    for &format in Format::ALL.iter().filter(|format| format.can_quantize()) {
        let source = format!("{}.c_imatrix_bytes", format.name());
        if !golden.has(&source) {
            continue;
        }
        let (bytes, row_bytes) = golden.bytes(&source);
        for (row, (values, bytes)) in values.chunks(cols).zip(bytes.chunks(row_bytes)).enumerate() {
            let found = decoded(format, &encoded(format, values, Some(&importance)));
            let (found, wanted) =
                (loss(values, &found, &importance), loss(values, &decoded(format, bytes), &importance));
            check_loss(&format!("{} row {row} by importance", format.name()), found, wanted, &mut failures);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Bit patterns that look random and are the same everywhere.
fn patterns(len: usize) -> Vec<u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    std::iter::repeat_with(step).take(len).collect()
}

#[test]
fn any_bits_are_read_and_any_values_are_stored() {
    let (blocks, rows) = (4, 200);
    for &format in Format::ALL {
        let cols = format.block() * blocks;
        let bytes: Vec<u8> = patterns(rows * format.row_bytes(cols)).into_iter().map(|pattern| pattern as u8).collect();
        for row in bytes.chunks_exact(format.row_bytes(cols)) {
            let values = decoded(format, row);
            let dot = f64::from(format.dot(row, &vec![1.0; cols]));
            let sum: f64 = values.iter().map(|value| f64::from(*value)).sum();
            let size: f64 = values.iter().map(|value| f64::from(value.abs())).sum();
            if size < f64::from(f32::MAX) {
                assert!((dot - sum).abs() <= 1e-6 * size, "{}: {dot} instead of {sum}", format.name());
            }
        }
        if !format.can_quantize() {
            continue;
        }
        let values: Vec<f32> = patterns(rows * cols).into_iter().map(f32::from_bits).collect();
        let importance: Vec<f32> = patterns(cols).into_iter().map(|pattern| f32::from_bits(pattern).abs()).collect();
        for row in values.chunks_exact(cols) {
            decoded(format, &encoded(format, row, None));
            decoded(format, &encoded(format, row, Some(&importance)));
        }
    }
}

/// A stored row by hand: bytes after the scale of 1.0, and the values they stand for.
fn check_by_hand(format: Format, codes: &[u8], values: impl Fn(usize) -> f32) {
    let bytes: Vec<u8> = [0x00, 0x3c].iter().chain(codes).copied().collect();
    let wanted: Vec<f32> = (0..format.block()).map(values).collect();
    assert_eq!(decoded(format, &bytes), wanted, "{}", format.name());
    assert_eq!(encoded(format, &wanted, None), bytes, "{}", format.name());
}

#[test]
fn formats_that_the_kit_lacks_are_as_their_bits_say() {
    // Every third value from the first is positive; the others are negative.
    let signs: Vec<u8> =
        (0..16).map(|byte| (0..8).fold(0, |bits, at| bits | u8::from((8 * byte + at) % 3 == 0) << at)).collect();
    check_by_hand(Format::Q1_0, &signs, |at| if at % 3 == 0 { 1.0 } else { -1.0 });
    // 0, 1, -1, 0 in every byte.
    check_by_hand(Format::Q2_0, &[0b01_00_10_01; 16], |at| [0.0, 1.0, -1.0, 0.0][at % 4]);
}
