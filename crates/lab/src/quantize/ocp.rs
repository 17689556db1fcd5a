//! The formats of the Open Compute Project in Hugging Face folders: OFP8 (E4M3, E5M2) and the microscaling formats MXFP8,
//! MXFP6 and MXFP4. Where compressed-tensors has a layout it is that one, which transformers and vLLM read; E5M2 is a kind
//! of number that safetensors has; the others lie as MXFP8 and MXFP6 do, under a method's name of our own.
//!
//! Element formats: OCP OFP8 1.0 and OCP Microscaling Formats (MX) 1.0.

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::Dtype;
use pasture_files::outline::Outline;
use pasture_kernels::Format;
use pasture_model::save::{Content, FolderPlan, Make, Progress, Target, plan_folder};
use pasture_model::{Source, Survey};
use serde_json::{Value, json};

use super::{Errors, Known, Quantized, encode_rows, values_of};
use crate::change::{Error, Result};

/// A format that folders are quantized to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ocp {
    /// Its name: `MXFP4`.
    pub name: &'static str,
    /// What its numbers are.
    pub format: Format,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// As numbers of their own, without scales.
    Plain,
    /// Under a binary32 scale for each row.
    Rows,
    /// Under a power of two for each 32, in compressed-tensors' format of that name.
    Blocks(&'static str),
    /// The same under a name of ours.
    Own,
}

/// All of them, the largest first.
pub const ALL: [Ocp; 7] = [
    Ocp { name: "MXFP8", format: Format::MXFP8_E4M3, layout: Layout::Blocks("mxfp8-quantized") },
    Ocp { name: "MXFP8_E5M2", format: Format::MXFP8_E5M2, layout: Layout::Own },
    Ocp { name: "E4M3", format: Format::E4M3, layout: Layout::Rows },
    Ocp { name: "E5M2", format: Format::E5M2, layout: Layout::Plain },
    Ocp { name: "MXFP6", format: Format::MXFP6_E2M3, layout: Layout::Blocks("mxfp6-pack-quantized") },
    Ocp { name: "MXFP6_E3M2", format: Format::MXFP6_E3M2, layout: Layout::Own },
    Ocp { name: "MXFP4", format: Format::MXFP4_OCP, layout: Layout::Blocks("mxfp4-pack-quantized") },
];

/// Names that people use as well.
const ALIASES: [(&str, &str); 4] =
    [("OFP8", "E4M3"), ("FP8", "E4M3"), ("MXFP8_E4M3", "MXFP8"), ("MXFP6_E2M3", "MXFP6")];

/// Values of a row that share a scale; rows under a scale of their own are read in blocks of 64.
const BLOCK: usize = 32;
const ROW_BLOCK: usize = 64;

/// The format of that name, upper or lower case.
pub fn named(name: &str) -> Option<Ocp> {
    let upper = name.to_ascii_uppercase();
    let full = ALIASES.iter().find(|(short, _)| *short == upper).map_or(upper.as_str(), |(_, full)| full);
    ALL.into_iter().find(|ocp| ocp.name == full)
}

/// Writes a folder whose linear layers have the format. Embedding, head, routers, experts that are stacked in one tensor,
/// and rows that are no whole blocks keep what they have.
///
/// # Errors
/// When no layer can have it, config.json has no way to say something of the model, or a file cannot be written.
pub fn write(
    source: &Source,
    survey: &Survey,
    content: &dyn Content,
    to: &Path,
    ocp: Ocp,
    threads: usize,
    progress: Progress<'_>,
) -> Result<Quantized> {
    let errors = Errors::default();
    let mut plan = plan_folder(source, survey)?;
    let (chosen, ignored) = chosen(&plan, ocp);
    if chosen.is_empty() {
        return Err(Error::Ask(format!("no layer of the model has rows that are whole blocks of {}", ocp.name)));
    }
    let values = plan.targets.iter().map(values_of).sum::<usize>();
    let fallbacks = plan.targets.iter().filter(|target| is_linear(target)).count() - chosen.len();
    let mut formats: BTreeMap<&'static str, usize> = BTreeMap::from([(ocp.format.name(), chosen.len())]);
    for (at, target) in plan.targets.iter().enumerate().filter(|(_, target)| !target.is_vector()) {
        if !chosen.contains(&at) {
            *formats.entry(target.format().name()).or_default() += 1;
        }
    }
    for at in &chosen {
        match ocp.layout {
            Layout::Plain => plan.targets[*at].outline.dtype = Dtype::Number(ocp.format),
            Layout::Rows => {
                let parts = rows(&plan.targets[*at], &errors);
                plan.store_as(*at, parts);
            }
            Layout::Blocks(_) | Layout::Own => {
                let parts = blocks(&plan.targets[*at], ocp.format, threads, &errors);
                plan.store_as(*at, parts);
            }
        }
    }
    if let Some(says) = config(ocp, &ignored) {
        plan.config["quantization_config"] = says;
    }
    let bytes = plan.byte_count();
    plan.write(to, None, content, &errors.encoder(threads), progress)?;
    let bits = bytes as f64 * 8.0 / values.max(1) as f64;
    Ok(Quantized { file: to.to_owned(), bytes, bits, errors: errors.relative(), formats, fallbacks })
}

/// Whether it is the matrix of a linear layer, as one tensor.
fn is_linear(target: &Target) -> bool {
    let whole = !target.is_vector() && target.stacks() == 1 && !target.is_transposed();
    let slot = target.slots().next().map_or("", |slot| slot.place.slot);
    whole
        && target.outline.name.ends_with(".weight")
        && !slot.starts_with("embed")
        && slot != "head"
        && slot != "router"
}

/// The places of the matrices that get the format, and the modules of the linear layers that do not.
fn chosen(plan: &FolderPlan<'_>, ocp: Ocp) -> (Vec<usize>, Vec<String>) {
    let block = match ocp.layout {
        Layout::Plain => 1,
        Layout::Rows => ROW_BLOCK,
        Layout::Blocks(_) | Layout::Own => BLOCK,
    };
    let fits = |target: &Target| is_linear(target) && target.row_len().is_multiple_of(block);
    let chosen = plan.targets.iter().enumerate().filter(|(_, target)| fits(target)).map(|(at, _)| at).collect();
    let slot = |target: &Target| target.slots().next().map_or("", |slot| slot.place.slot);
    let other = |target: &&Target| !target.is_vector() && !fits(target) && !slot(target).starts_with("embed");
    let module = |target: &Target| target.outline.name.strip_suffix(".weight").map(str::to_owned);
    let mut ignored: Vec<String> = plan.targets.iter().filter(other).filter_map(module).collect();
    // A head that is tied to the embedding has no tensor, and is a linear layer of the program that reads it.
    if !ignored.iter().any(|name| name == "lm_head") {
        ignored.push("lm_head".to_owned());
    }
    (chosen, ignored)
}

/// Codes of E4M3 and the scale of each row.
fn rows<'e>(target: &Target, errors: &'e Errors) -> Vec<(Outline, Make<'e>)> {
    let Outline { name, shape, .. } = target.outline.clone();
    let codes = Outline { name: name.clone(), dtype: Dtype::Number(Format::E4M3), shape: shape.clone() };
    let scales = Outline { name: format!("{name}_scale"), dtype: Dtype::Number(Format::F32), shape: vec![shape[0], 1] };
    let encode = move |values: &[f32], cols: usize| {
        let mut out = vec![0; values.len()];
        let (mut scaled, mut back, mut sums) = (vec![0.0; cols], vec![0.0; cols], (0.0, 0.0));
        for (row, out) in values.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
            let scale = scale_of(row);
            scaled.iter_mut().zip(row).for_each(|(scaled, value)| *scaled = value / scale);
            Format::E4M3.quantize(&scaled, None, out);
            Format::E4M3.dequantize(out, &mut back);
            for (value, back) in row.iter().zip(&back) {
                sums.0 += f64::from(value - back * scale).powi(2);
                sums.1 += f64::from(*value).powi(2);
            }
        }
        errors.note(&name, sums);
        out
    };
    let scale = |values: &[f32], cols: usize| {
        values.chunks_exact(cols).flat_map(|row| scale_of(row).to_le_bytes()).collect::<Vec<u8>>()
    };
    vec![(codes, Box::new(encode)), (scales, Box::new(scale))]
}

/// What the greatest number of E4M3 stands for in a row.
fn scale_of(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 448.0;
    if scale.is_normal() { scale } else { 1.0 }
}

/// Codes of a microscaling format and the scale of each block.
fn blocks<'e>(target: &Target, format: Format, threads: usize, errors: &'e Errors) -> Vec<(Outline, Make<'e>)> {
    let Outline { name, shape, .. } = target.outline.clone();
    let (size, groups) = (format.block_bytes(), shape[1] / BLOCK);
    let (codes, dtype) = match format {
        Format::MXFP8_E4M3 => (name.clone(), Dtype::Number(Format::E4M3)),
        Format::MXFP8_E5M2 => (name.clone(), Dtype::Number(Format::E5M2)),
        _ => (format!("{name}_packed"), Dtype::U8),
    };
    let codes = Outline { name: codes, dtype, shape: vec![shape[0], groups * (size - 1)] };
    let scales = Outline { name: format!("{name}_scale"), dtype: Dtype::U8, shape: vec![shape[0], groups] };
    let encoded = move |values: &[f32], cols: usize| {
        let mut out = vec![0; values.len() / BLOCK * size];
        let sums = encode_rows(values, cols, format, &Known::default(), threads, &mut out);
        (out, sums)
    };
    // The first byte of a block is its scale.
    let of_codes = move |values: &[f32], cols: usize| {
        let (out, sums) = encoded(values, cols);
        errors.note(&name, sums);
        out.chunks_exact(size).flat_map(|block| &block[1..]).copied().collect::<Vec<u8>>()
    };
    let of_scales = move |values: &[f32], cols: usize| {
        encoded(values, cols).0.chunks_exact(size).map(|block| block[0]).collect::<Vec<u8>>()
    };
    vec![(codes, Box::new(of_codes)), (scales, Box::new(of_scales))]
}

/// What config.json says of the weights.
fn config(ocp: Ocp, ignored: &[String]) -> Option<Value> {
    let (format, weights) = match ocp.layout {
        Layout::Plain => return None,
        Layout::Own => {
            return Some(json!({ "quant_method": "pasture", "format": ocp.format.name(), "ignore": ignored }));
        }
        Layout::Rows => {
            let weights =
                json!({ "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": true, "dynamic": false });
            ("float-quantized", weights)
        }
        Layout::Blocks(name) => {
            let bits = (ocp.format.block_bytes() - 1) * 8 / BLOCK;
            let weights = json!({
                "num_bits": bits, "type": "float", "strategy": "group", "group_size": BLOCK, "symmetric": true,
                "dynamic": false, "scale_dtype": "torch.uint8",
            });
            (name, weights)
        }
    };
    Some(json!({
        "quant_method": "compressed-tensors", "format": format, "quantization_status": "compressed",
        "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } }, "ignore": ignored,
    }))
}

impl Quantized {
    /// What a receipt keeps of the way into a folder.
    pub fn folder_recipe(&self, ocp: Ocp) -> Value {
        json!({
            "type": ocp.name, "bits_per_weight": self.bits, "matrices_by_format": self.formats,
            "layers_left_as_they_are": self.fallbacks, "relative_rms_error_by_tensor": self.errors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_names() {
        for (name, wanted) in [("mxfp4", "MXFP4"), ("OFP8", "E4M3"), ("MXFP6_E3M2", "MXFP6_E3M2"), ("fp8", "E4M3")] {
            assert_eq!(named(name).map(|ocp| ocp.name), Some(wanted));
        }
        assert_eq!(named("MXFP5"), None);
    }
}
