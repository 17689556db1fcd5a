//! From unpickled values to named tensors: finds the dictionary of tensors, below one of the usual wrappers where it is
//! not at the top, joins the names of nested dictionaries with dots, and checks each tensor against its storage.

use std::collections::HashSet;

use super::Checkpoint;
use super::fault::Fault;
use super::machine::Unpickled;
use super::records::{Records, element_bytes};
use super::value::Value;
use super::view::{self, Part, Tensor};
use crate::error::quoted;

/// Keys under which training programs keep the tensors of the model, beside optimizer state and counters.
const WRAPPERS: &[&str] = &["state_dict", "model_state_dict", "model", "module"];
/// Dictionaries in dictionaries.
const DEPTH_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 1024;

/// The named tensors of a checkpoint.
pub(super) fn tensors(unpickled: &Unpickled<'_>, records: &Records<'_>) -> Result<Checkpoint, Fault> {
    let Value::Dict(root) = unpickled.root else {
        return Err(Fault::Layout("it holds no dictionary of tensors; save a model's state_dict()".into()));
    };
    let mut walk = Walk { unpickled, records, tensors: Vec::new(), left_out: Vec::new(), names: HashSet::new() };
    let (wrapper, inner) = walk.unwrap(root)?;
    let mut visited = HashSet::from([root, inner]);
    walk.dict(inner, "", &mut visited, 1)?;
    let Walk { tensors, left_out, .. } = walk;
    if tensors.is_empty() {
        return Err(Fault::Layout("it holds no tensors".into()));
    }
    Ok(Checkpoint { tensors, wrapper, left_out })
}

struct Walk<'w> {
    unpickled: &'w Unpickled<'w>,
    records: &'w Records<'w>,
    tensors: Vec<Tensor>,
    left_out: Vec<String>,
    names: HashSet<String>,
}

impl Walk<'_> {
    fn key(&self, key: Value) -> Result<&str, Fault> {
        let name = match key {
            Value::Text(name) => self.unpickled.text(name),
            _ => {
                return Err(Fault::Layout(
                    "a key of its dictionaries is no text, so a tensor would have no name".into(),
                ));
            }
        };
        if name.is_empty() || name.contains('\0') {
            return Err(Fault::Layout(format!("the key {} names no tensor", quoted(name))));
        }
        Ok(name)
    }

    /// The dictionary that holds the model, and the key it stands under. A root that holds a tensor is the model.
    fn unwrap(&mut self, root: u32) -> Result<(Option<String>, u32), Fault> {
        let items = self.unpickled.arena.dict_items(root);
        if items.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
            return Ok((None, root));
        }
        let mut found: Option<(&str, u32)> = None;
        for &(key, value) in items {
            let (name, Value::Dict(dict)) = (self.key(key)?, value) else { continue };
            if !WRAPPERS.contains(&name) {
                continue;
            }
            if let Some((other, _)) = found {
                let both = format!("{} and {}", quoted(other), quoted(name));
                return Err(Fault::Layout(format!("it holds two models, {both}; save the one you mean")));
            }
            found = Some((name, dict));
        }
        let Some((wrapper, inner)) = found else { return Ok((None, root)) };
        let wrapper = wrapper.to_owned();
        for &(key, _) in items {
            let name = self.key(key)?;
            if name != wrapper {
                let name = shown(name);
                self.left_out.push(name);
            }
        }
        Ok((Some(wrapper), inner))
    }

    /// Adds the tensors of one dictionary, and of those in it. Each dictionary is walked once: one that stands in two
    /// places, or in itself, is refused, which also bounds the work.
    fn dict(&mut self, dict: u32, prefix: &str, visited: &mut HashSet<u32>, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Layout(format!("its dictionaries are nested more than {DEPTH_MAX} deep")));
        }
        let unpickled = self.unpickled;
        for &(key, value) in unpickled.arena.dict_items(dict) {
            let key = self.key(key)?;
            let name = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
            if name.len() > NAME_BYTES_MAX {
                return Err(Fault::Layout(format!(
                    "a name of {} bytes, at most {NAME_BYTES_MAX} are read",
                    name.len()
                )));
            }
            match value {
                Value::Dict(inner) if visited.insert(inner) => self.dict(inner, &name, visited, depth + 1)?,
                Value::Dict(_) => {
                    return Err(Fault::Layout(format!(
                        "its dictionary {} stands in two places or in itself",
                        quoted(&name)
                    )));
                }
                Value::Tensor(view) => self.tensor(name, view)?,
                _ => self.left_out.push(shown(&name)),
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: String, view: u32) -> Result<(), Fault> {
        if !self.names.insert(name.clone()) {
            return Err(Fault::tensor(&name, "stands twice"));
        }
        let arena = &self.unpickled.arena;
        let view = &arena.views[view as usize];
        let storage = &arena.storages[view.storage as usize];
        let key = self.unpickled.text(storage.key);
        // A view of no values may have a storage without a record only in files that PyTorch does not write.
        let record = self.records.record(key).ok_or_else(|| Fault::tensor(&name, "has no storage"))?;
        let width = element_bytes(view.dtype);
        let reach = view::reach(view, record.bytes().len() / width).map_err(|what| Fault::tensor(&name, what))?;
        let bytes = record.bytes().slice(reach.start * width..reach.end * width);
        let bytes = bytes.ok_or_else(|| Fault::tensor(&name, "lies outside the file"))?;
        self.tensors.push(Tensor::of_view(name, view, Part { bytes, record: record.clone() }));
        Ok(())
    }
}

/// A key as reports show it: bounded, since the file chose it.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}
