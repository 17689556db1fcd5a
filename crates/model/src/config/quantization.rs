//! How the weights of a published folder were quantized: `quantization_config` of `config.json`, read as strictly as all
//! keys. What it says of activations changes nothing here: they are not rounded as the publisher's program rounds them.

use pasture_files::error::quoted;
use pasture_kernels::Format;
use serde_json::Value;

use super::{Config, read};
use crate::error::Result;

/// How a checkpoint's weights were quantized by whoever published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// The method's name in the file.
    pub method: String,
    /// How the numbers lie in the tensors.
    pub scheme: Scheme,
    /// Whether there may be scales for keys and values in eight bits, which are not kept so here.
    pub kv_scales: bool,
}

/// How the numbers of quantized weights lie in the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Blocks and power-of-two scales in two tensors.
    Mxfp4,
    /// E4M3 with scales of the tensor or of each row, or of each block of so many rows and columns.
    Fp8 {
        /// Rows and columns of a block.
        block: Option<[usize; 2]>,
    },
    /// Elements of that microscaling format, and a power of two for each 32 of a row in a tensor of its own.
    Mx(Format),
    /// Codes in blocks of a flattened tensor, with their largest magnitudes, which may be quantized once more.
    FourBit {
        /// NF4, else FP4.
        normal: bool,
    },
    /// Signed bytes with the largest magnitude of each row.
    Int8,
}

/// The key.
const KEY: &str = "quantization_config";

/// What to take where a method is not read.
const INSTEAD: &str =
    "weights quantized so are not read; take the unquantized safetensors folder or a GGUF file of this model";

/// Methods that are known and not read, as the file and as people call them.
const REFUSED: &[(&str, &str)] = &[
    ("gptq", "GPTQ"),
    ("awq", "AWQ"),
    ("aqlm", "AQLM"),
    ("hqq", "HQQ"),
    ("quanto", "Quanto"),
    ("eetq", "EETQ"),
    ("exl2", "EXL2"),
    ("exl3", "EXL3"),
    ("higgs", "HIGGS"),
    ("vptq", "VPTQ"),
    ("spqr", "SpQR"),
    ("bitnet", "BitNet"),
    ("torchao", "torchao"),
    ("auto-round", "AutoRound"),
    ("intel/auto-round", "AutoRound"),
    ("fp_quant", "FP-Quant"),
    ("quark", "Quark"),
    ("modelopt", "ModelOpt"),
];

/// Methods that are read.
const READ: [&str; 6] = ["mxfp4", "fp8", "fbgemm_fp8", "compressed-tensors", "bitsandbytes", "pasture"];

impl Quantization {
    /// The method and the numbers, for people.
    pub fn describe(&self) -> String {
        let what = match self.scheme {
            Scheme::Mxfp4 => "MXFP4 blocks under powers of two".to_owned(),
            Scheme::Fp8 { block: None } => "E4M3 under a scale of the tensor or of each row".to_owned(),
            Scheme::Fp8 { block: Some([rows, cols]) } => format!("E4M3 under a scale for each {rows}x{cols}"),
            Scheme::Mx(format) => format!("{} under a power of two for each 32", format.name()),
            Scheme::FourBit { normal: true } => "NF4".to_owned(),
            Scheme::FourBit { normal: false } => "FP4".to_owned(),
            Scheme::Int8 => "INT8 under a scale for each row".to_owned(),
        };
        format!("{}: {what}", self.method)
    }
}

impl Config {
    /// How the weights were quantized, if they were; what is not read is refused by name.
    pub fn quantization(&self) -> Result<Option<Quantization>> {
        if let Some(found) = self.value("quantization") {
            let of = if found.get("group_size").is_some() { "the method of MLX" } else { "not known here" };
            return Err(self.fault("quantization", format!("is {of}: {INSTEAD}")));
        }
        let Some(value) = self.value(KEY) else { return Ok(None) };
        if !value.is_object() {
            return Err(self.fault(KEY, format!("is {}, it should be an object", read::shown(value))));
        }
        let named: Option<String> = self.inner("quant_method")?;
        let old = value.get("load_in_4bit").or(value.get("load_in_8bit"));
        let method = match named {
            Some(method) => method,
            None if old.is_some() => "bitsandbytes".to_owned(),
            None if value.get("group_size").is_some() && value.get("bits").is_some() => {
                return Err(self.fault(KEY, format!("has no method, as files of MLX have: {INSTEAD}")));
            }
            None => return Err(self.fault(KEY, format!("has the method \"unnamed\": {INSTEAD}"))),
        };
        let scheme = match method.as_str() {
            "mxfp4" => Scheme::Mxfp4,
            "fp8" => self.fp8()?,
            "fbgemm_fp8" => Scheme::Fp8 { block: None },
            "compressed-tensors" => self.compressed()?,
            "bitsandbytes" => self.bitsandbytes()?,
            "pasture" => self.own()?,
            _ => return Err(self.refused_method(&method)),
        };
        let kv_scales = self.value("quantization_config.kv_cache_scheme").is_some();
        Ok(Some(Quantization { method, scheme, kv_scales }))
    }

    fn refused_method(&self, method: &str) -> crate::Error {
        let what = match REFUSED.iter().find(|(name, _)| *name == method) {
            Some((_, title)) => format!("has the method {method:?} ({title}): {INSTEAD}"),
            None => format!("has the method {}, read are {}: {INSTEAD}", quoted(method), READ.join(", ")),
        };
        self.fault(KEY, what)
    }

    fn inner<T: super::FromValue>(&self, key: &str) -> Result<Option<T>> {
        self.get(&format!("{KEY}.{key}"))
    }

    fn fp8(&self) -> Result<Scheme> {
        self.only("quantization_config.fmt", "e4m3".to_owned())?;
        Ok(Scheme::Fp8 { block: self.block("weight_block_size", self.inner("weight_block_size")?)? })
    }

    fn block(&self, key: &str, found: Option<Vec<usize>>) -> Result<Option<[usize; 2]>> {
        match found.as_deref() {
            None => Ok(None),
            Some(&[rows, cols]) if rows > 0 && cols > 0 && cols.is_multiple_of(64) => Ok(Some([rows, cols])),
            Some(_) => {
                let what = "should be the rows and columns of a block, columns a multiple of 64";
                Err(self.fault(&format!("{KEY}.{key}"), what))
            }
        }
    }

    fn compressed(&self) -> Result<Scheme> {
        let format: Option<String> = self.inner("format")?;
        let path = format!("{KEY}.config_groups");
        self.used.borrow_mut().insert(path.clone());
        let blocks = match format.as_deref() {
            None | Some("float-quantized" | "naive-quantized") => None,
            Some("mxfp8-quantized") => Some(Format::MXFP8_E4M3),
            Some("mxfp6-pack-quantized") => Some(Format::MXFP6_E2M3),
            Some("mxfp4-pack-quantized") => Some(Format::MXFP4),
            Some(other) => {
                let known = "float-quantized, mxfp8-quantized, mxfp6-pack-quantized and mxfp4-pack-quantized are";
                let what = format!("is {}, only {known} read; {INSTEAD}", quoted(other));
                return Err(self.fault("quantization_config.format", what));
            }
        };
        for other in ["sparsity_config", "transform_config"] {
            let path = format!("{KEY}.{other}");
            let dense = |it: &Value| {
                it.as_object().is_some_and(|it| it.get("format").map_or(it.is_empty(), |format| format == "dense"))
            };
            if self.value(&path).is_some_and(|found| !dense(found)) {
                return Err(
                    self.fault(&path, format!("changes the weights in a way that is not known here: {INSTEAD}"))
                );
            }
            self.used.borrow_mut().insert(path);
        }
        let Some(groups) = self.value(&path).and_then(Value::as_object).filter(|groups| !groups.is_empty()) else {
            return Err(self.fault(&path, "is missing, it should say how weights were quantized"));
        };
        let mut block = None;
        for (name, group) in groups {
            let group = group.get("weights").unwrap_or(&Value::Null);
            let number = |key: &str| group.get(key).and_then(Value::as_u64);
            let word = |key: &str| group.get(key).and_then(Value::as_str).unwrap_or("");
            let bits = blocks.map_or(8, |format| (format.block_bytes() as u64 - 1) / 4);
            let plain = number("num_bits") == Some(bits) && word("type") == "float";
            let symmetric = group.get("symmetric").is_none_or(|it| it == true);
            if blocks.is_some() {
                if !plain || !symmetric || word("strategy") != "group" || number("group_size") != Some(32) {
                    let what = format!("is not of symmetric weights in {bits}-bit floats by groups of 32");
                    return Err(self.fault(&format!("{path}.{name}"), format!("{what}: {INSTEAD}")));
                }
                continue;
            }
            if !plain || !symmetric || !["tensor", "channel", "block"].contains(&word("strategy")) {
                let what = "is not of symmetric weights in 8-bit floats by tensor, channel or block";
                return Err(self.fault(&format!("{path}.{name}"), format!("{what}: {INSTEAD}")));
            }
            if word("strategy") == "block" {
                let sizes = group.get("block_structure").and_then(<Vec<usize> as super::FromValue>::from_value);
                block = self.block(&format!("config_groups.{name}"), Some(sizes.unwrap_or_default()))?;
            }
        }
        Ok(blocks.map_or(Scheme::Fp8 { block }, Scheme::Mx))
    }

    /// Formats for whose folders no other program has a layout.
    fn own(&self) -> Result<Scheme> {
        let format: Option<String> = self.inner("format")?;
        let known = [Format::MXFP8_E5M2, Format::MXFP6_E3M2];
        let found = format.as_deref().and_then(Format::from_name).filter(|format| known.contains(format));
        let names = known.map(Format::name).join(", ");
        found
            .map(Scheme::Mx)
            .ok_or_else(|| self.fault("quantization_config.format", format!("should be one of {names}")))
    }

    fn bitsandbytes(&self) -> Result<Scheme> {
        let four = self.inner("load_in_4bit")?.unwrap_or(false);
        let eight = self.inner("load_in_8bit")?.unwrap_or(false);
        let kind: Option<String> = self.inner("bnb_4bit_quant_type")?;
        match (four, eight, kind.as_deref()) {
            (true, false, Some("nf4")) => Ok(Scheme::FourBit { normal: true }),
            (true, false, Some("fp4") | None) => Ok(Scheme::FourBit { normal: false }),
            (true, false, Some(kind)) => {
                let what = format!("is {}, known are nf4 and fp4", quoted(kind));
                Err(self.fault("quantization_config.bnb_4bit_quant_type", what))
            }
            (false, true, _) => Ok(Scheme::Int8),
            _ => Err(self.fault(KEY, "should load in 4 bits or in 8, by \"load_in_4bit\" or \"load_in_8bit\"")),
        }
    }
}
