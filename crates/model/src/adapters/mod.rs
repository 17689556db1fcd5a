//! Adapters from files: a folder as peft writes it. Its description stands in `adapter_config.json` (`settings.rs`), its
//! low-rank pairs in `adapter_model.safetensors`. An adapter that this decoder cannot run exactly is refused.

mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pasture_files::folder::Folder;
use pasture_files::{Tensors, json};
use pasture_tensor::{Adapter, AdapterSite, Weight};

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::sites::{Kind, Module};
use settings::Settings;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// What peft puts before the name of each module.
const WRAPPERS: &str = "base_model.model.";

/// Reads an adapter for a model that is loaded: the folder, or its `adapter_model.safetensors`.
pub fn load_adapter(path: &Path, decoder: &Decoder) -> Result<Adapter> {
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
        }
    }
    settings.check_targets(modules.keys().copied()).map_err(|what| fault(CONFIG, what))?;
    let site =
        |(module, pair): (&str, Pair)| Ok((module.to_owned(), site(decoder, &settings, &tensors, module, pair)?));
    Ok(Adapter::new(modules.into_iter().map(site).collect::<Result<_>>()?))
}

/// The names of a module's two tensors.
#[derive(Default)]
struct Pair<'t> {
    a: Option<&'t str>,
    b: Option<&'t str>,
}

enum Half {
    A,
    B,
}

/// The module of a tensor, and which of its two it is.
fn half(name: &str) -> std::result::Result<(&str, Half), String> {
    let strange = || format!("holds {name:?}, but only \"….lora_A.weight\" and \"….lora_B.weight\" can be used");
    let inner = name.strip_prefix(WRAPPERS).ok_or_else(strange)?;
    let a = inner.strip_suffix(".lora_A.weight").map(|module| (module, Half::A));
    a.or_else(|| inner.strip_suffix(".lora_B.weight").map(|module| (module, Half::B))).ok_or_else(strange)
}

fn site(decoder: &Decoder, settings: &Settings, tensors: &Tensors, module: &str, pair: Pair) -> Result<AdapterSite> {
    let known = decoder.sites().get(module);
    let known = known.ok_or_else(|| fault(WEIGHTS, format!("changes {module:?}, which this model does not have")))?;
    let refused = match known.kind {
        Kind::Dense => None,
        Kind::Expert => Some("an expert"),
        Kind::Head => Some("the output head"),
    };
    if let Some(kind) = refused {
        return Err(fault(WEIGHTS, format!("changes {module:?}, {kind}, beside which no adapter can stand yet")));
    }
    let (rank, scale) = settings.rank_and_scale(module).map_err(|what| fault(CONFIG, what))?;
    let Module { outputs, inputs, .. } = *known;
    let half = |name: Option<&str>, letter: &str, shape: [usize; 2]| match name {
        Some(name) => weight(decoder, tensors, name, shape),
        None => Err(fault(WEIGHTS, format!("has no lora_{letter} for {module:?}"))),
    };
    Ok(AdapterSite { a: half(pair.a, "A", [rank, inputs])?, b: half(pair.b, "B", [outputs, rank])?, scale })
}

fn weight(decoder: &Decoder, tensors: &Tensors, name: &str, [rows, cols]: [usize; 2]) -> Result<Weight> {
    let (file, name) = (PathBuf::from(WEIGHTS), name.to_owned());
    let entry = tensors.get(&name).expect("it is one of the file's names");
    if entry.shape != [rows, cols] {
        let found = entry.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        return Err(Error::Shape { name, file, found, wanted: format!("{rows}x{cols}") });
    }
    let Some(format) = entry.dtype.format() else {
        return Err(Error::Dtype { name, file, found: entry.dtype.name().to_owned() });
    };
    let (bytes, row_bytes) = (tensors.bytes(&name)?, format.row_bytes(cols));
    Ok(decoder.backend().weight(format, rows, cols, &|row| &bytes[row * row_bytes..][..row_bytes]))
}

fn fault(file: &str, what: impl Into<String>) -> Error {
    Error::Adapter { file: file.into(), what: what.into() }
}
