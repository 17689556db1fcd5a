//! The values a template computes with, as Python has them: what is true, equal, ordered and printable. Building a
//! container records its depth and its weight (nodes counted with repetition), so that walking it can be paid for
//! before it starts and no walk recurses deeper than the limit.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use super::budget::{Budget, DEPTH_MAX};
use super::fault::{Fault, FaultKind, Outcome};
use super::text::Text;

/// One value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A name or attribute that is not there; the text says which.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    /// An index into the machine's namespaces: they are the only values that change, and may hold themselves.
    Namespace(usize),
    /// An index into the machine's macros.
    Macro(usize),
    /// An index into the machine's loops.
    Loop(usize),
    /// A global function by name.
    Function(&'static str),
    /// A method of a value, not yet called.
    Method(Rc<(Value, Rc<str>)>),
}

/// What Python would call a [`Seq`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeqKind {
    List,
    Tuple,
    /// The keys, values or items of a dict.
    View,
    /// What `map`, `select` and their like return: true even when empty.
    Iterator,
}

/// A sequence; never changed after it is made.
#[derive(Debug)]
pub(super) struct Seq {
    pub(super) kind: SeqKind,
    pub(super) items: Vec<Value>,
    weight: u64,
    depth: usize,
}

/// An insertion-ordered map; never changed after it is made.
#[derive(Debug, Default)]
pub(super) struct Dict {
    entries: Vec<(Value, Value)>,
    index: Option<HashMap<Key, usize>>,
    weight: u64,
    depth: usize,
}

/// A hashable value, in the form in which equal keys are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    None,
    Int(i128),
    Float(u64),
    Str(Rc<str>),
    Tuple(Vec<Key>),
}

/// The largest tuple that can be a key.
const TUPLE_KEY_WEIGHT_MAX: u64 = 256;
/// Below this size a map is searched from the front.
const INDEX_FROM: usize = 12;

impl Value {
    /// A text of the template's own.
    pub(super) fn str(text: impl AsRef<str>) -> Self {
        Value::Str(Text::template(text))
    }

    pub(super) fn undefined(name: impl AsRef<str>) -> Self {
        Value::Undefined(Rc::from(name.as_ref()))
    }

    /// A sequence of `items`, paid for and checked for depth.
    pub(super) fn seq(budget: &Budget, kind: SeqKind, items: Vec<Value>) -> Outcome<Self> {
        budget.slots(items.len())?;
        let (weight, depth) = measure(items.iter());
        check_depth(depth)?;
        Ok(Value::Seq(Rc::new(Seq { kind, items, weight, depth })))
    }

    pub(super) fn list(budget: &Budget, items: Vec<Value>) -> Outcome<Self> {
        Self::seq(budget, SeqKind::List, items)
    }

    /// A map of `pairs`; a later equal key replaces the value and keeps the place, as in Python.
    pub(super) fn dict(budget: &Budget, pairs: impl IntoIterator<Item = (Value, Value)>) -> Outcome<Self> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            budget.slots(2)?;
            dict.insert(key, value)?;
        }
        let (weight, depth) = measure(dict.entries.iter().flat_map(|(key, value)| [key, value]));
        check_depth(depth)?;
        (dict.weight, dict.depth) = (weight, depth);
        Ok(Value::Dict(Rc::new(dict)))
    }

    /// Nodes inside this value, counted as often as a walk would meet them.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Value::Seq(seq) => seq.weight,
            Value::Dict(dict) => dict.weight,
            Value::Str(text) => 1 + text.len() as u64 / 64,
            _ => 1,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Value::Seq(seq) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::Method(method) => method.0.depth() + 1,
            _ => 0,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(flag) => *flag,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Str(text) => !text.is_empty(),
            Value::Seq(seq) => seq.kind == SeqKind::Iterator || !seq.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            _ => true,
        }
    }

    /// The Python name of the type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "undefined",
            Value::None => "none",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple => "tuple",
                SeqKind::View => "view",
                SeqKind::Iterator => "iterator",
            },
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "namespace",
            Value::Macro(_) => "macro",
            Value::Loop(_) => "loop",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value as an integer, where Python has one (bools count).
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Bool(flag) => Some(i128::from(*flag)),
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The value as a float, where it is a number.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(number) => Some(*number),
            other => other.as_int().map(|number| number as f64),
        }
    }

    /// The fault for using an undefined value, or for a wrong type.
    pub(super) fn refuse(&self, what: &str) -> Box<Fault> {
        match self {
            Value::Undefined(name) => Fault::runtime(format!("{name:?} is undefined")),
            other => Fault::runtime(format!("a value of type {} {what}", other.type_name())),
        }
    }

    /// The items that a loop over this value meets.
    pub(super) fn iterate(&self, budget: &Budget) -> Outcome<Vec<Value>> {
        match self {
            Value::Undefined(_) => Ok(Vec::new()),
            Value::Seq(seq) => {
                budget.slots(seq.items.len())?;
                Ok(seq.items.clone())
            }
            Value::Dict(dict) => {
                budget.slots(dict.entries.len())?;
                Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            Value::Str(text) => {
                budget.slots(text.len())?;
                let letters = text.char_indices();
                Ok(letters.map(|(at, letter)| Value::Str(text.part(at..at + letter.len_utf8()))).collect())
            }
            other => Err(other.refuse("cannot be looped over")),
        }
    }

    /// Python's `==`.
    pub(super) fn equals(&self, other: &Value, budget: &Budget) -> Outcome<bool> {
        budget.steps(self.weight().min(other.weight()))?;
        Ok(equal(self, other))
    }

    /// Python's `<` family; types without an order are a fault.
    pub(super) fn compare(&self, other: &Value, budget: &Budget) -> Outcome<Ordering> {
        budget.steps(self.weight().min(other.weight()))?;
        order(self, other)
    }
}

fn measure<'v>(values: impl Iterator<Item = &'v Value>) -> (u64, usize) {
    values.fold((1, 1), |(weight, depth), value| (weight.saturating_add(value.weight()), depth.max(value.depth() + 1)))
}

fn check_depth(depth: usize) -> Outcome<()> {
    if depth > DEPTH_MAX {
        return Err(Fault::new(FaultKind::Budget, format!("a value nests deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => **a == **b,
        (Value::Seq(a), Value::Seq(b)) => {
            a.kind == b.kind && a.items.len() == b.items.len() && a.items.iter().zip(&b.items).all(|(x, y)| equal(x, y))
        }
        (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len()
                && a.entries.iter().all(|(key, value)| b.get(key).is_some_and(|found| equal(value, found)))
        }
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Loop(a), Value::Loop(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((left.as_float(), right.as_float()), (Some(a), Some(b)) if a == b),
        },
    }
}

fn order(left: &Value, right: &Value) -> Outcome<Ordering> {
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => Ok((**a).cmp(&**b)),
        (Value::Seq(a), Value::Seq(b)) if a.kind == b.kind => {
            for (x, y) in a.items.iter().zip(&b.items) {
                if !equal(x, y) {
                    return order(x, y);
                }
            }
            Ok(a.items.len().cmp(&b.items.len()))
        }
        _ => {
            if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
                return Ok(a.cmp(&b));
            }
            if let (Some(a), Some(b)) = (left.as_float(), right.as_float()) {
                return Ok(a.partial_cmp(&b).unwrap_or(Ordering::Equal));
            }
            for side in [left, right] {
                if side.is_undefined() {
                    return Err(side.refuse(""));
                }
            }
            Err(Fault::runtime(format!("{} and {} have no order", left.type_name(), right.type_name())))
        }
    }
}

impl Key {
    /// Fails for what Python calls unhashable.
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::None => Some(Key::None),
            Value::Str(text) => Some(Key::Str(text.shared())),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e18 => Some(Key::Int(*number as i128)),
            Value::Float(number) => Some(Key::Float(number.to_bits())),
            // Only small tuples are keys: hashing one walks it, and sharing can make the walk exponential.
            Value::Seq(seq) if seq.kind == SeqKind::Tuple && seq.weight <= TUPLE_KEY_WEIGHT_MAX => {
                Some(Key::Tuple(seq.items.iter().map(Key::of).collect::<Option<_>>()?))
            }
            other => other.as_int().map(Key::Int),
        }
    }
}

impl Dict {
    fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        let hashed = Key::of(&key).ok_or_else(|| key.refuse("cannot be a key"))?;
        if let Some(place) = self.position(&key, &hashed) {
            self.entries[place].1 = value;
            return Ok(());
        }
        self.entries.push((key, value));
        match &mut self.index {
            Some(index) => {
                index.insert(hashed, self.entries.len() - 1);
            }
            None if self.entries.len() > INDEX_FROM => {
                let keys = self.entries.iter().enumerate();
                self.index = Some(keys.filter_map(|(place, (key, _))| Some((Key::of(key)?, place))).collect());
            }
            None => {}
        }
        Ok(())
    }

    fn position(&self, key: &Value, hashed: &Key) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(hashed).copied(),
            None => self.entries.iter().position(|(candidate, _)| equal(candidate, key)),
        }
    }

    pub(super) fn get(&self, key: &Value) -> Option<&Value> {
        let place = self.position(key, &Key::of(key)?)?;
        Some(&self.entries[place].1)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The pairs in the order they were put in.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Value, Value)> {
        self.entries.iter()
    }
}

/// Whether texts of the inputs are the template's own (special tokens, roles) or a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Template,
    Input,
}

/// The value of parsed JSON. The depth is that of the parser's own limit.
pub(super) fn from_json(budget: &Budget, json: &serde_json::Value, trust: Trust) -> Outcome<Value> {
    let text = |text: &str| -> Outcome<Value> {
        budget.bytes(text.len())?;
        Ok(Value::Str(if trust == Trust::Input { Text::input(text) } else { Text::template(text) }))
    };
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Int(i128::from(integer)),
            (_, Some(integer)) => Value::Int(i128::from(integer)),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(string) => text(string)?,
        serde_json::Value::Array(items) => {
            budget.enter()?;
            let items = items.iter().map(|item| from_json(budget, item, trust)).collect::<Outcome<Vec<_>>>();
            budget.leave();
            Value::list(budget, items?)?
        }
        serde_json::Value::Object(fields) => {
            budget.enter()?;
            let speaks = fields.get("role").is_some_and(|role| role == "assistant");
            let pairs = fields.iter().map(|(key, value)| {
                // A role is a word of the protocol, and templates build marks of it: `<|` + role + `|>`.
                let word = key == "role" && value.as_str().is_some_and(is_word);
                let trust = if word { Trust::Template } else { trust };
                if let (true, Trust::Input, serde_json::Value::String(said)) = (speaks, trust, value) {
                    budget.bytes(said.len().saturating_mul(2))?;
                    return Ok((text(key)?, Value::Str(Text::answer(said))));
                }
                Ok((text(key)?, from_json(budget, value, trust)?))
            });
            let pairs = pairs.collect::<Outcome<Vec<_>>>();
            budget.leave();
            Value::dict(budget, pairs?)?
        }
    })
}

/// A short word that cannot hold a mark.
fn is_word(text: &str) -> bool {
    text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
