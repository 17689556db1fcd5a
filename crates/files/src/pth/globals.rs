//! The closed list of names that a checkpoint's pickle may use. Naming one calls nothing: the machine knows what each
//! builds. A name outside the list ends the reading.

use pasture_kernels::Format;

use crate::Dtype;

/// One name on the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    Size,
    /// A storage class. None: bytes without a kind.
    StorageType(Option<Dtype>),
    Dtype(Dtype),
}

const NUMBERS: &[(&str, &str, Dtype)] = &[
    ("FloatStorage", "float32", Dtype::Number(Format::F32)),
    ("HalfStorage", "float16", Dtype::Number(Format::F16)),
    ("BFloat16Storage", "bfloat16", Dtype::Number(Format::BF16)),
    ("DoubleStorage", "float64", Dtype::F64),
    ("LongStorage", "int64", Dtype::I64),
    ("IntStorage", "int32", Dtype::I32),
    ("ShortStorage", "int16", Dtype::I16),
    ("CharStorage", "int8", Dtype::I8),
    ("ByteStorage", "uint8", Dtype::U8),
    ("BoolStorage", "bool", Dtype::Bool),
    ("ComplexFloatStorage", "complex64", Dtype::C64),
];

/// Kinds without a storage class: PyTorch keeps them as bytes and names the kind in the tensor.
const NUMBERS_AS_BYTES: &[(&str, Dtype)] = &[
    ("uint16", Dtype::U16),
    ("uint32", Dtype::U32),
    ("uint64", Dtype::U64),
    ("float8_e8m0fnu", Dtype::E8M0),
    ("float8_e4m3fnuz", Dtype::E4M3Fnuz),
    ("float8_e5m2fnuz", Dtype::E5M2Fnuz),
];

/// As above, in formats that are known by name once the table of formats has them.
const FORMATS_AS_BYTES: &[(&str, &str)] = &[("float8_e4m3fn", "E4M3"), ("float8_e5m2", "E5M2")];

impl Global {
    /// The entry for a module and a name; None is a refusal.
    pub fn find(module: &str, name: &str) -> Option<Global> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor") => Some(Global::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensorV2),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Global::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
            ("torch", "Size") => Some(Global::Size),
            ("torch.storage" | "torch", "UntypedStorage") => Some(Global::StorageType(None)),
            ("torch" | "torch.storage" | "torch.cuda", _) => numbers(module, name),
            _ => None,
        }
    }
}

fn numbers(module: &str, name: &str) -> Option<Global> {
    if let Some(row) = NUMBERS.iter().find(|row| row.0 == name) {
        return Some(Global::StorageType(Some(row.2)));
    }
    if module != "torch" {
        return None;
    }
    let plain = NUMBERS.iter().map(|row| (row.1, row.2)).chain(NUMBERS_AS_BYTES.iter().copied());
    let format = |row: &&(&str, &str)| row.0 == name;
    let by_format = || FORMATS_AS_BYTES.iter().find(format).and_then(|row| Format::from_name(row.1)).map(Dtype::Number);
    plain.into_iter().find(|row| row.0 == name).map(|row| row.1).or_else(by_format).map(Global::Dtype)
}
