//! Adapters from files: a folder as peft writes it, or a GGUF file (`gguf.rs`). A folder's description stands in `adapter_config.json` (`settings.rs`), its
//! low-rank pairs, and lengths of output rows (DoRA), in `adapter_model.safetensors`. An adapter that this decoder cannot run exactly is refused.

mod combine;
mod gguf;
mod save;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;

use pasture_files::folder::Folder;
use pasture_files::{Entry, Tensors, json};
use pasture_kernels::Format;
use pasture_tensor::{Adapter, AdapterSite, Vector, Weight};

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::sites::{Kind, Module};
pub use combine::combine_adapters;
pub use save::{AdapterFacts, save_adapter};
use settings::Settings;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What peft puts before the name of each module.
const WRAPPERS: &str = "base_model.model.";

/// Bytes of the numbers in an adapter's folder.
///
/// # Errors
/// When it is none.
pub fn adapter_bytes(folder: &Path) -> Result<u64> {
    let folder = Folder::open(folder)?;
    let missing = || Error::Missing { folder: folder.name().into(), wanted: format!("{WEIGHTS:?}") };
    let tensors = Tensors::open(&folder.find(WEIGHTS)?.ok_or_else(missing)?)?;
    Ok(tensors.names().filter_map(|name| tensors.byte_count(name)).sum())
}

/// Reads an adapter for a model that is loaded: the folder, its `adapter_model.safetensors`, or a GGUF file.
pub fn load_adapter(path: &Path, decoder: &Decoder) -> Result<Adapter> {
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) {
        return gguf::load(path, decoder);
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let folder = Folder::open(folder)?;
    let missing = |wanted: &str| Error::Missing { folder: folder.name().into(), wanted: format!("{wanted:?}") };
    let description = json::read_in(&folder, CONFIG)?.ok_or_else(|| missing(CONFIG))?;
    let settings = Settings::read(&description).map_err(|what| fault(CONFIG, what))?;
    let weights = folder.find(WEIGHTS)?.ok_or_else(|| missing(WEIGHTS))?;
    let tensors = Tensors::open(&weights)?;
    let mut modules: BTreeMap<&str, Pair> = BTreeMap::new();
    for name in tensors.names() {
        let (module, half) = half(name).map_err(|what| fault(WEIGHTS, what))?;
        let pair = modules.entry(module).or_default();
        match half {
            Half::A => pair.a = Some(name),
            Half::B => pair.b = Some(name),
            Half::Magnitude => pair.magnitude = Some(name),
        }
    }
    settings.check_targets(modules.keys().copied()).map_err(|what| fault(CONFIG, what))?;
    let site =
        |(module, pair): (&str, Pair)| Ok((module.to_owned(), site(decoder, &settings, &tensors, module, pair)?));
    Ok(Adapter::new(modules.into_iter().map(site).collect::<Result<_>>()?))
}

/// The names of a module's tensors.
#[derive(Default)]
struct Pair<'t> {
    a: Option<&'t str>,
    b: Option<&'t str>,
    magnitude: Option<&'t str>,
}

#[derive(Clone, Copy)]
enum Half {
    A,
    B,
    Magnitude,
}

/// The endings of a module's tensors.
const ENDINGS: [(&str, Half); 3] =
    [(".lora_A.weight", Half::A), (".lora_B.weight", Half::B), (".lora_magnitude_vector", Half::Magnitude)];

/// The module of a tensor, and which of its tensors it is.
fn half(name: &str) -> std::result::Result<(&str, Half), String> {
    let strange = || {
        let endings = ENDINGS.map(|(ending, _)| format!("\"…{ending}\"")).join(", ");
        format!("holds {name:?}, but only {endings} can be used")
    };
    let inner = name.strip_prefix(WRAPPERS).ok_or_else(strange)?;
    let find = |(ending, half): &(&str, Half)| Some((inner.strip_suffix(ending)?, *half));
    ENDINGS.iter().find_map(find).ok_or_else(strange)
}

fn site(decoder: &Decoder, settings: &Settings, tensors: &Tensors, module: &str, pair: Pair) -> Result<AdapterSite> {
    let known = decoder.sites().get(module);
    let known = known.ok_or_else(|| fault(WEIGHTS, format!("changes {module:?}, which this model does not have")))?;
    if known.kind == Kind::Head {
        let what = format!("changes {module:?}, the output head, beside which no adapter can stand yet");
        return Err(fault(WEIGHTS, what));
    }
    let (rank, scale) = settings.rank_and_scale(module).map_err(|what| fault(CONFIG, what))?;
    let Module { outputs, inputs, .. } = *known;
    let half = |name: Option<&str>, letter: &str, shape: [usize; 2]| match name {
        Some(name) => weight(decoder, tensors, name, shape),
        None => Err(fault(WEIGHTS, format!("has no lora_{letter} for {module:?}"))),
    };
    let site = AdapterSite::new(half(pair.a, "A", [rank, inputs])?, half(pair.b, "B", [outputs, rank])?, scale);
    match (settings.magnitudes(), pair.magnitude) {
        (false, None) => Ok(site),
        (true, Some(name)) => {
            let mut lengths = vec![0.0; outputs];
            let entry = tensors.get(name).expect("it is one of the file's names");
            check_shape(WEIGHTS, name, &entry.shape, &[outputs])?;
            format(WEIGHTS, name, entry)?.dequantize(&tensors.bytes(name)?, &mut lengths);
            Ok(site.with_magnitude(Vector::new(lengths)))
        }
        (true, None) => Err(fault(WEIGHTS, format!("has no lora_magnitude_vector for {module:?}"))),
        (false, Some(name)) => Err(fault(WEIGHTS, format!("holds {name:?}, but \"use_dora\" in {CONFIG} is not true"))),
    }
}

fn weight(decoder: &Decoder, tensors: &Tensors, name: &str, [rows, cols]: [usize; 2]) -> Result<Weight> {
    let entry = tensors.get(name).expect("it is one of the file's names");
    check_shape(WEIGHTS, name, &entry.shape, &[rows, cols])?;
    let format = format(WEIGHTS, name, entry)?;
    let (bytes, row_bytes) = (tensors.bytes(name)?, format.row_bytes(cols));
    Ok(decoder.backend().weight(format, rows, cols, &|row| &bytes[row * row_bytes..][..row_bytes]))
}

fn check_shape(file: &str, name: &str, found: &[usize], wanted: &[usize]) -> Result<()> {
    let shown = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    if found == wanted {
        return Ok(());
    }
    Err(Error::Shape { name: name.to_owned(), file: file.into(), found: shown(found), wanted: shown(wanted) })
}

fn format(file: &str, name: &str, entry: &Entry) -> Result<Format> {
    let found = || entry.dtype.name().to_owned();
    entry.dtype.format().ok_or_else(|| Error::Dtype { name: name.to_owned(), file: file.into(), found: found() })
}

fn fault(file: &str, what: impl Into<String>) -> Error {
    Error::Adapter { file: file.into(), what: what.into() }
}
