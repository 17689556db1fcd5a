//! Checkpoints: one safetensors file for each, with all that a run needs to go on as if nothing had happened. Written
//! beside its final name, made durable, then named; the last ones stay. A SHA-256 over everything finds damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pasture_files::outline::Outline;
use pasture_files::{Dtype, Tensors, durable, error::file_name, safetensors};
use pasture_kernels::Format;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::events::{Found, Point};
use super::optimizer::Moment;
use super::trained::Tensor;

/// What decides a run, by name: recipe, digests, the model's shape. A run goes on only with the same.
pub type Identity = BTreeMap<String, String>;

/// Where a run stands, beside its numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Steps that are done, skipped ones included: the place in the data and of every random number follows from it.
    pub step: usize,
    /// Steps that changed something.
    pub changed: u32,
    /// Steps that were skipped.
    pub skipped: usize,
    /// How many of the last steps in a row were skipped.
    pub bad: usize,
    /// Measurements, by the steps before them.
    pub evaluations: Vec<(usize, Found)>,
    /// The best held-out loss and its step.
    pub best: Option<(usize, f64)>,
    /// Evaluations since the best.
    pub stale: usize,
    /// Whether the run is over, by its end or an early stop.
    pub over: bool,
}

/// All that a checkpoint holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Where the run stands.
    pub state: State,
    /// Every step so far.
    pub log: Vec<Point>,
    /// Values of each trained tensor.
    pub values: Vec<Vec<f32>>,
    /// Moments of each trained tensor.
    pub moments: Vec<[Moment; 2]>,
}

const STATE: &str = "state";
const IDENTITY: &str = "identity";
const DIGEST: &str = "sha256";
const LOG: &str = "log";
const MOMENTS: [&str; 2] = ["mean", "square"];

/// The file of a step.
pub fn path(folder: &Path, step: usize) -> PathBuf {
    folder.join(format!("step-{step:08}.safetensors"))
}

/// The checkpoints of a folder, the newest first.
pub fn list(folder: &Path) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let step = |path: &PathBuf| file_name(path).strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut all: Vec<(usize, PathBuf)> = entries.filter_map(|path| Some((step(&path)?, path))).collect();
    all.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    all
}

/// Removes what a writer that was killed left behind, and checkpoints beyond the newest `kept`.
pub fn clean(folder: &Path, kept: usize) {
    let leftovers = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let leftovers = leftovers.filter(|path| file_name(path).starts_with('.') && file_name(path).ends_with(".part"));
    let old = list(folder).into_iter().skip(kept).map(|(_, path)| path);
    // What cannot be removed costs room and nothing else.
    leftovers.chain(old).for_each(|path| drop(durable::remove(&path)));
}

/// A tensor of the file.
struct Part<'c> {
    outline: Outline,
    bytes: std::borrow::Cow<'c, [u8]>,
}

fn part<'c>(name: String, dtype: Dtype, shape: Vec<usize>, bytes: &'c [u8]) -> Part<'c> {
    Part { outline: Outline { name, dtype, shape }, bytes: bytes.into() }
}

fn floats<'c>(name: String, values: &'c [f32]) -> Part<'c> {
    part(name, Dtype::Number(Format::F32), vec![values.len()], bytemuck::cast_slice(values))
}

fn parts<'c>(checkpoint: &'c Checkpoint, tensors: &[Tensor]) -> Vec<Part<'c>> {
    let log: Vec<u8> =
        checkpoint.log.iter().flat_map(|p| [p.loss, p.norm, p.rate, p.tokens]).flat_map(f64::to_le_bytes).collect();
    let shape = vec![checkpoint.log.len(), 4];
    let mut all = vec![Part { outline: Outline { name: LOG.to_owned(), dtype: Dtype::F64, shape }, bytes: log.into() }];
    for (at, tensor) in tensors.iter().enumerate() {
        all.push(floats(format!("value/{}", tensor.name), &checkpoint.values[at]));
        for (kind, moment) in MOMENTS.iter().zip(checkpoint.moments.get(at).into_iter().flatten()) {
            match moment {
                Moment::Floats(values) => all.push(floats(format!("{kind}/{}", tensor.name), values)),
                Moment::Bytes { codes, scales } => {
                    all.push(part(format!("{kind}.codes/{}", tensor.name), Dtype::U8, vec![codes.len()], codes));
                    all.push(floats(format!("{kind}.scales/{}", tensor.name), scales));
                }
            }
        }
    }
    all
}

/// Writes a checkpoint, and returns when it is durable.
///
/// # Errors
/// When it cannot be written; what was there before still is.
pub fn save(file: &Path, identity: &Identity, checkpoint: &Checkpoint, tensors: &[Tensor]) -> Result<()> {
    let parts = parts(checkpoint, tensors);
    let text = |value: serde_json::Result<String>| value.expect("texts and finite numbers are JSON");
    let (state, identity) = (text(serde_json::to_string(&checkpoint.state)), text(serde_json::to_string(identity)));
    let digest = digest(&state, &identity, parts.iter().map(|part| (&part.outline, &*part.bytes)));
    let metadata = [(STATE, state), (IDENTITY, identity), (DIGEST, digest)];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    let outlines: Vec<Outline> = parts.iter().map(|part| part.outline.clone()).collect();
    let bytes: BTreeMap<&str, &[u8]> = parts.iter().map(|part| (part.outline.name.as_str(), &*part.bytes)).collect();
    safetensors::write(file, &metadata, &outlines, |outline, sink| sink.put(bytes[outline.name.as_str()]))?;
    Ok(())
}

/// The digest of all that a checkpoint says, by the names of its tensors.
fn digest<'p>(state: &str, identity: &str, parts: impl Iterator<Item = (&'p Outline, &'p [u8])>) -> String {
    let describe = |outline: &Outline| format!("{} {} {:?}", outline.name, outline.dtype.name(), outline.shape);
    let parts: BTreeMap<String, &[u8]> = parts.map(|(outline, bytes)| (describe(outline), bytes)).collect();
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    [state, identity].into_iter().for_each(|text| add(text.as_bytes()));
    for (name, bytes) in parts {
        add(name.as_bytes());
        add(bytes);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A checkpoint's file, opened and found to be whole.
pub struct Opened {
    /// What the run was.
    pub identity: Identity,
    /// Where it stood.
    pub state: State,
    tensors: Tensors,
}

/// Opens a checkpoint and compares its digest.
///
/// # Errors
/// In words, when it is damaged or none.
pub fn open(file: &Path) -> std::result::Result<Opened, String> {
    let name = file_name(file);
    let tensors = Tensors::open(file).map_err(|fault| fault.to_string())?;
    let find = |key: &str| {
        let found = tensors.metadata().iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| format!("{name:?} has no {key:?}"))
    };
    let (state, identity, wanted) = (find(STATE)?, find(IDENTITY)?, find(DIGEST)?);
    let outlines = tensors.outlines();
    let bytes = outlines.iter().map(|outline| tensors.bytes(&outline.name)).collect::<pasture_files::Result<Vec<_>>>();
    let bytes = bytes.map_err(|fault| fault.to_string())?;
    if digest(state, identity, outlines.iter().zip(bytes.iter().map(|bytes| &bytes[..]))) != wanted {
        return Err(format!("{name:?} is damaged: its content is not what was written"));
    }
    let strange = |fault: serde_json::Error| format!("{name:?}: {fault}");
    let (state, identity) =
        (serde_json::from_str(state).map_err(strange)?, serde_json::from_str(identity).map_err(strange)?);
    Ok(Opened { identity, state, tensors })
}

impl Opened {
    /// The numbers of the checkpoint, which has the given tensors.
    ///
    /// # Errors
    /// In words, when a tensor is not there or has another size.
    pub fn read(&self, tensors: &[Tensor]) -> std::result::Result<Checkpoint, String> {
        let log = self.bytes(LOG)?;
        let number = |eight: &[u8]| f64::from_le_bytes(eight.try_into().expect("eight bytes"));
        let log = log.chunks_exact(32).map(|point| {
            let [loss, norm, rate, tokens] = [0, 8, 16, 24].map(|at| number(&point[at..at + 8]));
            Point { loss, norm, rate, tokens }
        });
        let mut checkpoint = Checkpoint { state: self.state.clone(), log: log.collect(), ..Checkpoint::default() };
        for tensor in tensors {
            let values = self.floats(&format!("value/{}", tensor.name))?;
            if values.len() != tensor.len() {
                return Err(format!("{:?} has {} values, not {}", tensor.name, values.len(), tensor.len()));
            }
            checkpoint.values.push(values);
            if let [Some(mean), Some(square)] = MOMENTS.map(|kind| self.moment(kind, &tensor.name)) {
                checkpoint.moments.push([mean?, square?]);
            }
        }
        Ok(checkpoint)
    }

    fn moment(&self, kind: &str, name: &str) -> Option<std::result::Result<Moment, String>> {
        let (plain, codes) = (format!("{kind}/{name}"), format!("{kind}.codes/{name}"));
        if self.tensors.get(&plain).is_some() {
            return Some(self.floats(&plain).map(Moment::Floats));
        }
        self.tensors.get(&codes)?;
        let scales = self.floats(&format!("{kind}.scales/{name}"));
        Some(self.bytes(&codes).and_then(|codes| Ok(Moment::Bytes { codes: codes.to_vec(), scales: scales? })))
    }

    fn bytes(&self, name: &str) -> std::result::Result<pasture_files::Bytes, String> {
        if self.tensors.get(name).is_none() {
            return Err(format!("{:?} has no {name:?}", self.tensors.name()));
        }
        self.tensors.bytes(name).map_err(|fault| fault.to_string())
    }

    fn floats(&self, name: &str) -> std::result::Result<Vec<f32>, String> {
        let bytes = self.bytes(name)?;
        Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect())
    }
}

/// What differs between two runs: the first key, with both values.
pub fn difference(then: &Identity, now: &Identity) -> Option<String> {
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let shown = |value: Option<&String>| value.map_or_else(|| "not set".to_owned(), |value| format!("{value:?}"));
    let differs = keys.into_iter().find(|key| then.get(*key) != now.get(*key))?;
    Some(format!("{differs:?} was {} and is now {}", shown(then.get(differs)), shown(now.get(differs))))
}

/// The newest whole checkpoint of a run that was the same; with notes on those that are damaged.
///
/// # Errors
/// When the run was another, or every checkpoint is damaged.
pub fn newest(folder: &Path, identity: &Identity, tensors: &[Tensor]) -> Result<(Option<Checkpoint>, Vec<String>)> {
    let mut notes = Vec::new();
    for (step, file) in list(folder) {
        let opened = match open(&file) {
            Ok(opened) => opened,
            Err(what) => {
                notes.push(format!("the checkpoint of step {step} cannot be used: {what}"));
                continue;
            }
        };
        if let Some(what) = difference(&opened.identity, identity) {
            return Err(Error::Resume { folder: folder.to_owned(), what });
        }
        match opened.read(tensors) {
            Ok(checkpoint) => return Ok((Some(checkpoint), notes)),
            Err(what) => notes.push(format!("the checkpoint of step {step} cannot be used: {what}")),
        }
    }
    if notes.is_empty() {
        return Ok((None, notes));
    }
    Err(Error::Damaged { folder: folder.to_owned(), what: notes.join("; ") })
}
