//! Weights of quantized folders, whose numbers lie in several tensors: codes beside their scales, as the publisher's
//! program wrote them. Rows are put together in a number format that keeps both as they are; none is converted.

mod bitsandbytes;
mod fp8;
pub(super) mod mx;
mod mxfp4;

use std::path::PathBuf;

use pasture_files::error::file_name;
use pasture_files::{Bytes, Dtype, Tensors};
use pasture_kernels::Format;
use pasture_kernels::formats::small_float::e8m0_decode;

use super::Unused;
use super::shape::wanted;
use crate::config::{Quantization, Scheme};
use crate::error::{Error, Result};

/// Values per block of the formats with a binary32 scale.
const BLOCK: usize = 64;

/// A weight whose numbers lie in several tensors.
pub(super) struct Joined {
    /// In which its rows are put together.
    pub(super) format: Format,
    /// As if it were one tensor of plain numbers.
    pub(super) shape: Vec<usize>,
    /// The tensors beside the first that it is made of.
    pub(super) used: Vec<String>,
    /// Tensors that belong to it and change nothing here.
    pub(super) aside: Vec<Unused>,
    kind: Kind,
}

/// Codes and scales. Rows are counted through all stacked matrices.
enum Kind {
    Mxfp4(mxfp4::Mxfp4),
    Mx(mx::Mx),
    Fp8(fp8::Fp8),
    FourBit(bitsandbytes::FourBit),
    Int8(bitsandbytes::Int8),
}

/// The tensors of one weight while it is opened.
struct Opening<'a> {
    tensors: &'a Tensors,
    /// The tensor with the codes.
    name: &'a str,
    used: Vec<String>,
    aside: Vec<Unused>,
}

impl Joined {
    /// The weight whose codes are the tensor of that name, if the folder's method keeps it in several tensors.
    pub(super) fn open(tensors: &Tensors, quantization: Option<&Quantization>, name: &str) -> Result<Option<Joined>> {
        let (Some(quantization), Some(entry)) = (quantization, tensors.get(name)) else { return Ok(None) };
        let mut opening = Opening { tensors, name, used: Vec::new(), aside: Vec::new() };
        let (format, shape, kind) = match quantization.scheme {
            Scheme::Mxfp4 if name.ends_with(mxfp4::BLOCKS) => {
                let (shape, made) = mxfp4::open(&mut opening)?;
                (Format::MXFP4, shape, Kind::Mxfp4(made))
            }
            Scheme::Mx(format) if mx::is_one(&opening) => {
                let (shape, made) = mx::open(&mut opening, format)?;
                (format, shape, Kind::Mx(made))
            }
            Scheme::Fp8 { block } if entry.dtype == Dtype::Number(Format::E4M3) => {
                (Format::FP8, entry.shape.clone(), Kind::Fp8(fp8::open(&mut opening, block)?))
            }
            Scheme::FourBit { normal } if entry.dtype == Dtype::U8 || opening.has(".absmax") => {
                let (shape, made) = bitsandbytes::open_four_bit(&mut opening, normal)?;
                (if normal { Format::NF4 } else { Format::FP4 }, shape, Kind::FourBit(made))
            }
            Scheme::Int8 if entry.dtype == Dtype::I8 => {
                (Format::INT8, entry.shape.clone(), Kind::Int8(bitsandbytes::open_int8(&mut opening)?))
            }
            _ => return Ok(None),
        };
        let Opening { used, aside, .. } = opening;
        Ok(Some(Joined { format, shape, used, aside, kind }))
    }

    /// The bytes of some rows in the weight's format, one behind the other; `row` gives each one's number in the file.
    pub(super) fn rows(
        &self,
        rows: usize,
        cols: usize,
        row: impl Fn(usize) -> usize,
    ) -> std::result::Result<Vec<u8>, String> {
        if !cols.is_multiple_of(self.format.block()) {
            let what = format!("has rows of {cols} values, which are not whole blocks of {}", self.format.block());
            return Err(what);
        }
        let bytes = self.format.row_bytes(cols);
        let mut made = vec![0; rows * bytes];
        for (at, out) in made.chunks_exact_mut(bytes.max(1)).enumerate() {
            match &self.kind {
                Kind::Mxfp4(it) => it.row(row(at), cols, out)?,
                Kind::Mx(it) => it.row(row(at), cols, out)?,
                Kind::Fp8(it) => it.row(row(at), cols, out),
                Kind::FourBit(it) => it.row(row(at), cols, out),
                Kind::Int8(it) => it.row(row(at), cols, out),
            }
        }
        Ok(made)
    }
}

impl Opening<'_> {
    fn has(&self, ending: &str) -> bool {
        self.tensors.get(&format!("{}{ending}", self.name)).is_some()
    }

    /// The shape of the codes.
    fn shape(&self) -> &[usize] {
        self.tensors.get(self.name).map_or(&[], |entry| &entry.shape)
    }

    fn codes(&self) -> Result<Bytes> {
        Ok(self.tensors.bytes(self.name)?)
    }

    /// The error for a tensor; `what` ends the sentence.
    fn fault(&self, name: &str, what: impl Into<String>) -> Error {
        Error::Quantized { name: name.to_owned(), file: self.file(name), what: what.into() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.tensors.file_of(name).map_or_else(|| self.tensors.name().to_owned(), file_name).into()
    }

    /// A tensor beside the codes, which must be there.
    fn beside(&mut self, name: &str, shape: &str) -> Result<Bytes> {
        if self.tensors.get(name).is_none() {
            let file = self.file(self.name);
            return Err(Error::NoTensor { name: name.to_owned(), file, wanted: shape.to_owned() });
        }
        self.used.push(name.to_owned());
        Ok(self.tensors.bytes(name)?)
    }

    /// Refuses a tensor of a shape that is none of some.
    fn shaped(&self, name: &str, shapes: &[Vec<usize>]) -> Result<()> {
        match self.tensors.get(name).map(|entry| &entry.shape) {
            Some(found) if !shapes.contains(found) => {
                let wanted_shape = shapes.first().map_or_else(String::new, |shape| wanted(shape));
                let (name, file) = (name.to_owned(), self.file(name));
                Err(Error::Shape { name, file, found: wanted(found), wanted: wanted_shape })
            }
            _ => Ok(()),
        }
    }

    /// A tensor of finite numbers beside the codes, whose shape must be one of some.
    fn numbers(&mut self, name: &str, shapes: &[Vec<usize>]) -> Result<Vec<f32>> {
        let shown = shapes.first().map_or_else(String::new, |shape| wanted(shape));
        let bytes = self.beside(name, &shown)?;
        let Some(entry) = self.tensors.get(name) else { return Ok(Vec::new()) };
        self.shaped(name, shapes)?;
        let mut values = vec![0.0; entry.shape.iter().product()];
        match (entry.dtype, entry.dtype.format()) {
            (Dtype::E8M0, _) => values.iter_mut().zip(&bytes[..]).for_each(|(value, code)| *value = e8m0_decode(*code)),
            (_, Some(format @ (Format::F32 | Format::F16 | Format::BF16))) => format.dequantize(&bytes, &mut values),
            _ => return Err(self.fault(name, format!("is {}, scales are F32, F16 or BF16", entry.dtype))),
        }
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.fault(name, format!("holds {} as number {at}, scales are finite", values[at]))),
            None => Ok(values),
        }
    }

    /// Notes a tensor that changes nothing, if it is there.
    fn leave(&mut self, name: String, reason: &'static str) {
        if self.tensors.get(&name).is_some() {
            self.aside.push(Unused { tensor: name, reason });
        }
    }
}

/// How the names of tensors end that hold scales, or say how a weight is stored, by the method's scheme.
fn endings(scheme: Scheme) -> &'static [&'static str] {
    match scheme {
        Scheme::Mxfp4 => &["_scales"],
        Scheme::Mx(_) => &["_scale"],
        Scheme::Fp8 { .. } => &["_scale_inv", "_scale", "_scale_ub"],
        Scheme::FourBit { .. } => &[
            ".absmax",
            ".quant_map",
            ".nested_absmax",
            ".nested_quant_map",
            ".bitsandbytes__nf4",
            ".bitsandbytes__fp4",
        ],
        Scheme::Int8 => &[".SCB", ".weight_format"],
    }
}

/// How many numbers a checkpoint's weights are: scales do not count, and two codes in a byte are two. Only headers are
/// read.
pub fn parameters(tensors: &Tensors, quantization: Option<&Quantization>) -> u64 {
    let scheme = quantization.map(|quantization| quantization.scheme);
    let beside = |name: &str| scheme.is_some_and(|scheme| endings(scheme).iter().any(|ending| name.ends_with(ending)));
    // Bits of a number where several share a byte.
    let bits = |name: &str, entry: &pasture_files::Entry| match scheme {
        Some(Scheme::Mxfp4) => name.ends_with(mxfp4::BLOCKS).then_some(4),
        Some(Scheme::FourBit { .. }) => tensors.get(&format!("{name}.absmax")).map(|_| 4),
        Some(Scheme::Mx(format)) if entry.dtype == Dtype::U8 => Some((format.block_bytes() as u64 - 1) / 4),
        _ => None,
    };
    let count = |(name, entry): (&str, &pasture_files::Entry)| match bits(name, entry) {
        Some(bits) => 8 * tensors.byte_count(name).unwrap_or(0) / bits,
        None => entry.shape.iter().map(|dim| *dim as u64).product(),
    };
    tensors.iter().filter(|(name, _)| !beside(name)).map(count).sum()
}

/// Tensors that only other methods of quantization have: the end of the name, and the method.
const FOREIGN: &[(&str, &str)] = &[
    (".qweight", "GPTQ or AWQ"),
    (".q_weight", "EXL2"),
    (".trellis", "EXL3"),
    (".codebooks", "AQLM"),
    (".W_q", "HQQ"),
    (".weight_packed", "compressed-tensors in fewer bits than 8"),
];

/// Refuses a file whose tensors are those of a method that is not read, whatever its configuration says.
pub(super) fn refuse_foreign(tensors: &Tensors, quantization: Option<&Quantization>) -> Result<()> {
    let packed = quantization.is_some_and(|it| matches!(it.scheme, Scheme::Mx(_)));
    let is_ours = |ending: &str| packed && ending.ends_with(mx::PACKED);
    let method = |name: &str| FOREIGN.iter().find(|(ending, _)| name.ends_with(ending) && !is_ours(ending));
    let Some((name, (_, method))) = tensors.names().find_map(|name| Some((name, method(name)?))) else { return Ok(()) };
    let file = tensors.file_of(name).map_or_else(|| tensors.name().to_owned(), file_name).into();
    let what = format!(
        "is quantized by {method}, which is not read; take the unquantized safetensors folder or a GGUF file of this model"
    );
    Err(Error::Quantized { name: name.to_owned(), file, what })
}
