//! The values that an unpickled checkpoint consists of: numbers, texts, containers, storages and tensors, in one arena.
//! Values refer to each other by index, so that a pickle that contains itself can neither recurse nor leak, and the
//! arena counts what it holds against a limit.

use super::fault::Fault;
use super::globals::Global;
use crate::Dtype;

/// One value on the stack, in the memo or in a container. Texts and large numbers are ranges of the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A number of more than eight bytes, little-endian: only the legacy form's magic number is one.
    Long(Span),
    Text(Span),
    Tuple(u32),
    List(u32),
    Dict(u32),
    Global(Global),
    Storage(u32),
    Tensor(u32),
}

/// A range of the pickle's bytes; a pickle is shorter than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub start: u32,
    pub length: u32,
}

/// What a persistent id names: a run of equal values kept outside the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Storage {
    pub key: Span,
    /// None for bytes without a kind, which the tensors on them give.
    pub dtype: Option<Dtype>,
    /// Values, or bytes where there is no kind.
    pub count: u64,
}

/// A view of a storage. All counts are of values, none is checked against the storage yet.
#[derive(Debug)]
pub(super) struct View {
    pub storage: u32,
    pub dtype: Dtype,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// Values that containers may hold in all, so that a few megabytes of pickle cannot ask for gigabytes.
const HELD_MAX: usize = 1 << 20;
/// Containers, storages and tensors in all.
const NODES_MAX: usize = 1 << 19;

/// Everything a pickle made.
#[derive(Debug, Default)]
pub(super) struct Arena {
    tuples: Vec<Box<[Value]>>,
    lists: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub views: Vec<View>,
    held: usize,
}

impl Arena {
    /// Counts `values` more held values and one more node.
    fn charge(&mut self, at: usize, values: usize) -> Result<(), Fault> {
        self.held += values;
        let nodes = self.tuples.len() + self.lists.len() + self.dicts.len() + self.storages.len() + self.views.len();
        if self.held > HELD_MAX || nodes >= NODES_MAX {
            return Err(Fault::pickle(at, "it builds more values than a checkpoint of tensors has"));
        }
        Ok(())
    }

    pub fn tuple(&mut self, at: usize, items: &[Value]) -> Result<Value, Fault> {
        self.charge(at, items.len())?;
        self.tuples.push(items.into());
        Ok(Value::Tuple(last(&self.tuples)))
    }

    pub fn list(&mut self, at: usize) -> Result<Value, Fault> {
        self.charge(at, 0)?;
        self.lists.push(Vec::new());
        Ok(Value::List(last(&self.lists)))
    }

    pub fn dict(&mut self, at: usize) -> Result<Value, Fault> {
        self.charge(at, 0)?;
        self.dicts.push(Vec::new());
        Ok(Value::Dict(last(&self.dicts)))
    }

    pub fn storage(&mut self, at: usize, storage: Storage) -> Result<Value, Fault> {
        self.charge(at, 0)?;
        self.storages.push(storage);
        Ok(Value::Storage(last(&self.storages)))
    }

    pub fn view(&mut self, at: usize, view: View) -> Result<Value, Fault> {
        self.charge(at, view.shape.len() * 2)?;
        self.views.push(view);
        Ok(Value::Tensor(last(&self.views)))
    }

    pub fn append(&mut self, at: usize, list: u32, items: &[Value]) -> Result<(), Fault> {
        self.charge(at, items.len())?;
        self.lists[list as usize].extend_from_slice(items);
        Ok(())
    }

    /// Adds `items`, keys and values in turn.
    pub fn insert(&mut self, at: usize, dict: u32, items: &[Value]) -> Result<(), Fault> {
        self.charge(at, items.len())?;
        if !items.len().is_multiple_of(2) {
            return Err(Fault::pickle(at, "a key without a value"));
        }
        self.dicts[dict as usize].extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    pub fn tuple_items(&self, tuple: u32) -> &[Value] {
        &self.tuples[tuple as usize]
    }

    pub fn list_items(&self, list: u32) -> &[Value] {
        &self.lists[list as usize]
    }

    /// Keys and values in the order of the pickle; a key may stand twice.
    pub fn dict_items(&self, dict: u32) -> &[(Value, Value)] {
        &self.dicts[dict as usize]
    }
}

fn last<T>(nodes: &[T]) -> u32 {
    // NODES_MAX is far below u32::MAX.
    (nodes.len() - 1) as u32
}
