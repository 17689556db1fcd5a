//! Small floats, Open Compute's blocks and the bitsandbytes layouts against the reference kit, bit for bit.
//! The kit is found by `PASTURE_KIT` or beside the workspace; without it each test says `skipped: no kit`.

mod kit;

use half::{bf16, f16};
use kit::Golden;
use pasture_kernels::Format;
use pasture_kernels::formats::bitsandbytes::{self, Doubled, FP4, NF4};
use pasture_kernels::formats::small_float::{self, SmallFloat};

const SMALL: &[(&str, SmallFloat)] = &[
    ("e4m3fn", small_float::E4M3),
    ("e5m2", small_float::E5M2),
    ("e4m3fnuz", small_float::E4M3_FNUZ),
    ("e5m2fnuz", small_float::E5M2_FNUZ),
    ("e2m3", small_float::E2M3),
    ("e3m2", small_float::E3M2),
    ("e2m1", small_float::E2M1),
];

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

fn check_values(label: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{label}");
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!(same(*found, *wanted), "{label}[{at}]: {found} instead of {wanted}");
    }
}

fn check_codes(label: &str, x: &[f32], found: impl Fn(f32) -> u8, wanted: &[u8]) {
    for (x, wanted) in x.iter().zip(wanted) {
        assert_eq!(found(*x), *wanted, "{label} of {x:e}");
    }
}

#[test]
fn every_code_of_a_small_float_has_its_value() {
    let Some(golden) = Golden::open("formats/float_tables") else { return };
    for (name, format) in SMALL {
        let (wanted, _) = golden.floats(&format!("{name}.table"));
        let found: Vec<f32> = (0..wanted.len()).map(|code| format.decode(code as u8)).collect();
        check_values(name, &found, &wanted);
        let max = golden.facts["formats"][name]["max"].as_f64().unwrap();
        assert_eq!(f64::from(format.max()), max, "{name}");
    }
    let (wanted, _) = golden.floats("e8m0.table");
    check_values("e8m0", &(0..=255).map(small_float::e8m0_decode).collect::<Vec<_>>(), &wanted);
}

#[test]
fn every_value_gets_the_nearest_code() {
    let Some(golden) = Golden::open("formats/float_tables") else { return };
    for (name, format) in SMALL {
        let (x, _) = golden.floats(&format!("{name}.x"));
        let (codes, _) = golden.bytes(&format!("{name}.codes"));
        let (saturating, _) = golden.bytes(&format!("{name}.codes_saturating"));
        // Formats of numbers only have no code for NaN.
        let finite_only = golden.facts["formats"][name]["nan_codes"].as_array().unwrap().is_empty();
        let kept: Vec<usize> = (0..x.len()).filter(|at| !(finite_only && x[*at].is_nan())).collect();
        let x: Vec<f32> = kept.iter().map(|at| x[*at]).collect();
        let pick = |codes: &[u8]| kept.iter().map(|at| codes[*at]).collect::<Vec<u8>>();
        check_codes(name, &x, |x| format.encode(x), &pick(&codes));
        check_codes(&format!("{name} saturating"), &x, |x| format.encode_saturating(x), &pick(&saturating));
    }
    let (x, _) = golden.floats("e8m0.x");
    check_codes("e8m0", &x, small_float::e8m0_encode, &golden.bytes("e8m0.codes").0);
    let (saturating, _) = golden.bytes("e8m0.codes_saturating");
    check_codes("e8m0 saturating", &x, small_float::e8m0_encode_saturating, &saturating);
}

#[test]
fn half_floats_round_to_nearest_even() {
    let Some(golden) = Golden::open("formats/float_tables") else { return };
    let (x, _) = golden.floats("half.x");
    for (name, format) in [("half.f16_bits", Format::F16), ("half.bf16_bits", Format::BF16)] {
        let (wanted, _) = golden.bytes(name);
        let mut found = vec![0; wanted.len()];
        format.quantize(&x, None, &mut found);
        for ((x, found), wanted) in x.iter().zip(found.as_chunks::<2>().0).zip(wanted.as_chunks::<2>().0) {
            let nan = |bytes: [u8; 2]| match format {
                Format::F16 => f16::from_le_bytes(bytes).is_nan(),
                _ => bf16::from_le_bytes(bytes).is_nan(),
            };
            // Which NaN is not said.
            assert!(found == wanted || (nan(*found) && nan(*wanted)), "{name} of {x:e}: {found:?} not {wanted:?}");
        }
    }
}

/// One byte per code, from a block's packed codes: the lowest bits first, neighbors next to each other.
fn unpacked(bytes: &[u8], bits: usize) -> Vec<u8> {
    let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
    (0..bytes.len() * 8 / bits).map(|code| (0..bits).fold(0, |sum, at| sum | bit(code * bits + at) << at)).collect()
}

#[test]
fn open_compute_blocks_are_the_reference_bit_for_bit() {
    let Some(golden) = Golden::open("formats/mx") else { return };
    let (x, _) = golden.floats("x");
    for (name, format, bits) in [
        ("mxfp8_e4m3", Format::MXFP8_E4M3, 8),
        ("mxfp8_e5m2", Format::MXFP8_E5M2, 8),
        ("mxfp6_e2m3", Format::MXFP6_E2M3, 6),
        ("mxfp6_e3m2", Format::MXFP6_E3M2, 6),
        ("mxfp4_e2m1", Format::MXFP4_OCP, 4),
        ("mxint8", Format::MXINT8, 8),
    ] {
        let (scales, _) = golden.bytes(&format!("{name}.scales"));
        let (codes, _) = golden.bytes(&format!("{name}.codes"));
        let mut stored = vec![0; format.row_bytes(x.len())];
        format.quantize(&x, None, &mut stored);
        for (at, block) in stored.chunks(format.block_bytes()).enumerate() {
            assert_eq!(block[0], scales[at], "{name} block {at}");
            assert_eq!(unpacked(&block[1..], bits), &codes[32 * at..][..32], "{name} block {at}");
        }
        let mut found = vec![0.0; x.len()];
        format.dequantize(&stored, &mut found);
        // By value: integers have no negative zero.
        assert_eq!(found, golden.floats(&format!("{name}.dequant")).0, "{name}");
    }
}

#[test]
fn blocks_with_scales_apart_become_ggufs() {
    let Some(golden) = Golden::open("formats/mx") else { return };
    let (scales, _) = golden.bytes("mxfp4_e2m1.scales");
    let (pairs, _) = golden.bytes("mxfp4_packed_gptoss");
    let blocks: Vec<u8> = scales
        .iter()
        .zip(pairs.as_chunks::<16>().0)
        .flat_map(|(scale, pairs)| pasture_kernels::formats::mxfp4_from_pairs(*scale, pairs))
        .collect();
    let (wanted, _) = golden.floats("mxfp4_e2m1.dequant");
    let mut found = vec![0.0; wanted.len()];
    Format::MXFP4.dequantize(&blocks, &mut found);
    check_values("gpt-oss", &found, &wanted);
}

#[test]
fn nf4_codes_and_scales_are_those_of_bitsandbytes() {
    let Some(golden) = Golden::open("train/nf4") else { return };
    let table = golden.facts["table"].as_array().unwrap();
    let table: Vec<f32> = table.iter().map(|level| level.as_f64().unwrap() as f32).collect();
    assert_eq!(NF4.levels.to_vec(), table);
    for name in ["normal", "edge", "ragged"] {
        let (x, _) = golden.floats(&format!("{name}.x"));
        for block in [64, 128] {
            let case = format!("{name}.b{block}");
            let (packed, (absmax, _)) =
                (golden.bytes(&format!("{case}.packed")).0, golden.floats(&format!("{case}.absmax")));
            let (mut codes, mut scales) = (vec![0; packed.len()], vec![0.0; absmax.len()]);
            bitsandbytes::quantize_four_bit(&NF4, &x, block, &mut codes, &mut scales);
            check_values(&case, &scales, &absmax);
            assert!(codes == packed, "{case}");
            let mut found = vec![0.0; x.len()];
            bitsandbytes::dequantize_four_bit(&NF4, &codes, &scales, block, &mut found);
            let (wanted, _) = golden.floats(&format!("{case}.dequant"));
            assert_eq!(found, wanted, "{case}");
            if block == 64 && x.len().is_multiple_of(64) {
                check_blocks(&case, &x, &codes, &scales, &wanted);
            }
        }
    }
}

/// The format's blocks hold the same codes and scales.
fn check_blocks(case: &str, x: &[f32], codes: &[u8], scales: &[f32], wanted: &[f32]) {
    let mut blocks = vec![0; Format::NF4.row_bytes(x.len())];
    Format::NF4.quantize(x, None, &mut blocks);
    let mut gathered = vec![0; blocks.len()];
    bitsandbytes::nf4_blocks(codes, scales, &mut gathered);
    assert_eq!(blocks, gathered, "{case}");
    let mut found = vec![0.0; x.len()];
    Format::NF4.dequantize(&blocks, &mut found);
    assert_eq!(found, wanted, "{case}");
}

#[test]
fn scales_quantized_once_more_give_the_reference_values() {
    let Some(golden) = Golden::open("train/nf4") else { return };
    let (levels, _) = golden.floats("double.state2_code");
    let levels: &[f32; 256] = levels.as_slice().try_into().unwrap();
    let ((codes, _), (scales, _), (offset, _)) =
        (golden.bytes("double.absmax_codes"), golden.floats("double.state2_absmax"), golden.floats("double.offset"));
    let doubled = Doubled { codes: &codes, levels, scales: &scales, block: 256, offset: offset[0] };
    let mut absmax = vec![0.0; codes.len()];
    doubled.dequantize(&mut absmax);
    let (packed, _) = golden.bytes("double.packed");
    let (wanted, _) = golden.floats("double.dequant");
    let mut found = vec![0.0; wanted.len()];
    bitsandbytes::dequantize_four_bit(&NF4, &packed, &absmax, 64, &mut found);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() <= 1e-6 * wanted.abs(), "{found} instead of {wanted}");
    }
}

#[test]
fn eight_bit_levels_are_the_dynamic_ones() {
    let Some(golden) = Golden::open("train/nf4") else { return };
    let (levels, _) = golden.floats("int8_dynamic.code");
    let levels: &[f32; 256] = levels.as_slice().try_into().unwrap();
    for (found, wanted) in bitsandbytes::dynamic_levels().iter().zip(levels) {
        // The reference adds parts up in f32.
        assert!((found - wanted).abs() <= 1.2e-7 * wanted.abs(), "{found} instead of {wanted}");
    }
    let ((x, _), (wanted, _)) = (golden.floats("normal.x"), golden.bytes("int8_dynamic.codes"));
    let (absmax, _) = golden.floats("int8_dynamic.absmax");
    let (mut codes, mut scales) = (vec![0; x.len()], vec![0.0; absmax.len()]);
    bitsandbytes::quantize_eight_bit(levels, &x, x.len() / absmax.len(), &mut codes, &mut scales);
    check_values("scales", &scales, &absmax);
    let mut others = 0;
    for (at, (found, wanted)) in codes.iter().zip(&wanted).enumerate() {
        let scaled = x[at] / absmax[at * absmax.len() / x.len()];
        let distance = |code: u8| (levels[usize::from(code)] - scaled).abs();
        // The reference looks scaled values up in a table, so it may miss the nearest level where two are as near.
        assert!(found == wanted || distance(*found) <= distance(*wanted), "value {at}: {found} instead of {wanted}");
        others += usize::from(found != wanted);
    }
    assert!(others * 200 < codes.len(), "{others} codes are not the reference's");
    let mut found = vec![0.0; x.len()];
    bitsandbytes::dequantize_eight_bit(levels, &wanted, &scales, x.len() / absmax.len(), &mut found);
    check_values("values", &found, &golden.floats("int8_dynamic.dequant").0);
}

#[test]
fn fp4_codes_and_scales_are_those_of_bitsandbytes() {
    let Some(golden) = Golden::open("train/nf4") else { return };
    assert_eq!(FP4.levels.to_vec(), golden.floats("fp4.code").0);
    let ((x, _), (absmax, _), (packed, _)) =
        (golden.floats("normal.x"), golden.floats("fp4.absmax"), golden.bytes("fp4.packed"));
    let (mut codes, mut scales) = (vec![0; packed.len()], vec![0.0; absmax.len()]);
    bitsandbytes::quantize_four_bit(&FP4, &x, x.len() / absmax.len(), &mut codes, &mut scales);
    assert!(codes == packed && scales == absmax);
    let mut found = vec![0.0; x.len()];
    bitsandbytes::dequantize_four_bit(&FP4, &codes, &scales, x.len() / absmax.len(), &mut found);
    assert_eq!(found, golden.floats("fp4.dequant").0);
}
