//! Ollama's folder: `manifests/HOST/OWNER/NAME/TAG` lists layers by digest, `blobs/sha256-…` holds them; the layer of
//! the model is a GGUF file. Read only. A digest becomes a path only as a parsed value.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use pasture_files::error::file_name;
use pasture_files::folder::{self, is_plain};
use pasture_files::json;
use pasture_files::size::Size;
use serde_json::Value;

use crate::digest::Digest;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::name::Name;
use crate::repository::below;
use crate::{Found, Layer, Origin};

const MANIFEST_BYTES_MAX: Size = Size::new(1 << 20);
const LAYERS_MAX: usize = 64;
/// Manifests that are listed at most.
const NAMES_MAX: usize = 65_536;
const TYPE: &str = "application/vnd.ollama.image.";

/// The model of that name; none where no folder has its manifest.
pub(crate) fn find(environment: &Environment, name: &Name) -> Result<Option<Found>> {
    let place = manifest(environment, name);
    place.map(|(root, manifest)| found(&root, &manifest, name.text())).transpose()
}

/// Folder and manifest of that name.
pub(crate) fn manifest(environment: &Environment, name: &Name) -> Option<(PathBuf, PathBuf)> {
    let path: PathBuf = name.ollama_path()?.iter().collect();
    let rows = environment.ollama().iter().map(|root| (root.clone(), root.join("manifests").join(&path)));
    rows.into_iter().find(|(_, manifest)| manifest.is_file())
}

/// Digests of all blobs that a manifest names, with its configuration.
pub(crate) fn digests(manifest: &Path) -> Result<Vec<Digest>> {
    let name = file_name(manifest);
    let value = json::parse(&folder::read_file(manifest, MANIFEST_BYTES_MAX)?, "manifest of Ollama")?;
    let layers = value.get("layers").and_then(Value::as_array);
    let invalid = |what: String| Error::from(pasture_files::Error::invalid(name.as_str(), what));
    let layers = layers.ok_or_else(|| invalid("it has no list of layers".into()))?;
    let config = value.get("config").filter(|config| config.get("digest").is_some());
    let digest = |row: &Value| Digest::parse(row.get("digest").and_then(Value::as_str).unwrap_or_default());
    layers.iter().chain(config).map(|row| digest(row).map_err(invalid)).collect()
}

/// Digests that any manifest of a folder names, but for one manifest.
pub(crate) fn all_digests(root: &Path, except: Option<&Path>) -> Result<BTreeSet<Digest>> {
    let mut all = BTreeSet::new();
    for (path, _) in below(&root.join("manifests")) {
        if Some(path.as_path()) != except && !file_name(&path).starts_with('.') {
            all.extend(digests(&path)?);
        }
    }
    Ok(all)
}

/// Every model whose manifest and blob are good.
pub(crate) fn list(environment: &Environment) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for text in names(environment) {
        all.extend(find(environment, &Name::parse(&text)?).ok().flatten());
    }
    Ok(all)
}

/// Names of all manifests, in alphabetical order.
pub(crate) fn names(environment: &Environment) -> Vec<String> {
    let mut names = Vec::new();
    for root in environment.ollama() {
        let mut paths = vec![(root.join("manifests"), Vec::new())];
        while let Some((folder, parts)) = paths.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Some(name) = entry.file_name().to_str().filter(|name| is_plain(name)).map(str::to_owned) else {
                    continue;
                };
                let mut parts: Vec<String> = parts.clone();
                parts.push(name);
                match <[String; 4]>::try_from(parts) {
                    Ok(parts) => names.extend(readable(&parts)),
                    Err(parts) if parts.len() < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                        paths.push((entry.path(), parts));
                    }
                    Err(_) => {}
                }
                if names.len() > NAMES_MAX {
                    return names;
                }
            }
        }
    }
    names.sort();
    names.dedup();
    names
}

/// A manifest's name where users can write it.
fn readable(parts: &[String; 4]) -> Option<String> {
    let text = Name::of_ollama(parts);
    Name::parse(&text).is_ok_and(|name| name.ollama_path().as_ref() == Some(parts)).then_some(text)
}

fn found(root: &Path, manifest: &Path, name: &str) -> Result<Found> {
    let unusable = |what: String| Error::Unusable { name: name.to_owned(), place: "Ollama's folder".into(), what };
    let text = folder::read_file(manifest, MANIFEST_BYTES_MAX)?;
    let value = json::parse(&text, "manifest of Ollama")?;
    if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err(unusable("its manifest is not of version 2, the only one that is read".into()));
    }
    let rows = value.get("layers").and_then(Value::as_array);
    let rows = rows.filter(|rows| !rows.is_empty() && rows.len() <= LAYERS_MAX);
    let rows = rows.ok_or_else(|| unusable(format!("its manifest has no list of 1 to {LAYERS_MAX} layers")))?;
    let layers = rows.iter().map(|row| layer(root, row)).collect::<Result<Vec<Layer>, String>>().map_err(unusable)?;
    let (models, layers): (Vec<Layer>, Vec<Layer>) = layers.into_iter().partition(|layer| layer.kind == "model");
    let [model] = models.as_slice() else {
        let what = format!("it has {} layers of a GGUF model, exactly one is read", models.len());
        return Err(unusable(what));
    };
    if layers.iter().any(|layer| layer.kind == "adapter") {
        return Err(unusable("it is a model with an adapter on top; name the model itself and the adapter".into()));
    }
    let (path, bytes) = (model.path.clone(), model.bytes);
    Ok(Found { name: name.to_owned(), origin: Origin::Ollama, path, bytes, format: "GGUF", layers })
}

/// One layer, whose blob must be there and as long as the manifest says.
fn layer(root: &Path, row: &Value) -> Result<Layer, String> {
    let text = |key: &str| row.get(key).and_then(Value::as_str).ok_or_else(|| format!("a layer has no text {key:?}"));
    let digest = Digest::parse(text("digest")?)?;
    let kind = text("mediaType")?;
    let kind = kind.strip_prefix(TYPE).unwrap_or(kind).to_owned();
    let wanted = row.get("size").and_then(Value::as_u64).ok_or_else(|| format!("the layer {digest} has no size"))?;
    if row.get("urls").is_some() {
        return Err(format!("the layer {digest} is kept elsewhere, and only this machine is read"));
    }
    let path = root.join("blobs").join(digest.blob_name());
    let metadata = fs::metadata(&path).map_err(|_| format!("its blob {digest} is not there; pull the model again"))?;
    let stays = fs::canonicalize(root).and_then(|root| Ok(fs::canonicalize(&path)?.starts_with(root)));
    if !stays.unwrap_or(false) {
        return Err(format!("its blob {digest} is a link out of the folder; give the path of the real file"));
    }
    if !metadata.is_file() || metadata.len() != wanted {
        let found = metadata.len();
        return Err(format!("its blob {digest} has {found} bytes instead of {wanted}; pull the model again"));
    }
    Ok(Layer { kind, path, bytes: wanted })
}
