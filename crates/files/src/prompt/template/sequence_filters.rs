//! Filters on sequences and maps, as the reference engine defines them. What Python returns lazily is made at once.

use std::cmp::Ordering;
use std::rc::Rc;

use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::machine::Machine;
use super::python_text::to_text;
use super::text::{Text, Writer};
use super::value::{SeqKind, Value};

impl Machine<'_> {
    /// The sequence filter called `name`.
    pub(super) fn sequence_filter(&mut self, name: &str, value: Value, arguments: &Arguments) -> Outcome<Value> {
        match name {
            "list" => {
                let items = value.iterate(&self.budget)?;
                self.list(items)
            }
            "join" => self.join(&value, arguments),
            "first" => Ok(value.iterate(&self.budget)?.into_iter().next().unwrap_or_else(|| Value::undefined("first"))),
            "last" => Ok(value.iterate(&self.budget)?.pop().unwrap_or_else(|| Value::undefined("last"))),
            "reverse" => {
                if let Value::Str(text) = &value {
                    self.budget.bytes(text.cost())?;
                    let mut out = Writer::default();
                    text.char_indices().rev().for_each(|(at, letter)| out.push_part(text, at..at + letter.len_utf8()));
                    return Ok(Value::Str(out.finish()));
                }
                let mut items = value.iterate(&self.budget)?;
                items.reverse();
                self.iterator(items)
            }
            "items" => match &value {
                Value::Undefined(_) => self.iterator(Vec::new()),
                Value::Dict(_) => self.pairs(&value),
                other => Err(other.refuse("has no items")),
            },
            "map" => self.map(&value, arguments),
            "select" | "reject" => self.select(&value, arguments, None, name == "select"),
            "selectattr" | "rejectattr" => {
                let attribute = arguments.need(0, "attribute")?.clone();
                self.select(&value, arguments, Some(attribute), name == "selectattr")
            }
            "sort" => self.sort(&value, arguments),
            "unique" => self.unique(&value, arguments),
            "min" | "max" => self.extreme(&value, arguments, name == "max"),
            "sum" => self.sum(&value, arguments),
            "groupby" => self.group(&value, arguments),
            "dictsort" => self.dict_sort(&value, arguments),
            "batch" => self.batch(&value, arguments),
            "slice" => self.slices(&value, arguments),
            _ => Err(Fault::runtime(format!("there is no filter called {name:?}"))),
        }
    }

    /// The pairs of a map as two-tuples.
    pub(super) fn pairs(&self, value: &Value) -> Outcome<Value> {
        let Value::Dict(dict) = value else { return Err(value.refuse("has no items")) };
        let pairs =
            dict.iter().map(|(key, item)| Value::seq(&self.budget, SeqKind::Tuple, vec![key.clone(), item.clone()]));
        Value::seq(&self.budget, SeqKind::View, pairs.collect::<Outcome<_>>()?)
    }

    /// `item.a.b.0` for the attribute path of a filter; digits are places.
    fn path(&self, item: &Value, path: &Value) -> Outcome<Value> {
        let Some(text) = path.as_str() else { return self.item(item, path) };
        self.budget.steps(1)?;
        text.split('.').try_fold(item.clone(), |value, part| {
            let key = part.parse::<i64>().map_or_else(|_| Value::str(part), |place| Value::Int(i128::from(place)));
            self.item(&value, &key)
        })
    }

    /// The key by which `item` is ordered: an attribute when asked for, without case unless asked for.
    fn sort_key(&self, item: &Value, attribute: Option<&Value>, case_sensitive: bool) -> Outcome<Value> {
        let key = match attribute {
            None | Some(Value::None) => item.clone(),
            Some(Value::Str(paths)) if paths.contains(',') => {
                let keys = paths.split(',').map(|path| self.sort_key(item, Some(&Value::str(path)), case_sensitive));
                return Value::seq(&self.budget, SeqKind::Tuple, keys.collect::<Outcome<_>>()?);
            }
            Some(path) => self.path(item, path)?,
        };
        match &key {
            Value::Str(text) if !case_sensitive => {
                self.budget.bytes(text.len())?;
                Ok(Value::str(text.to_lowercase()))
            }
            _ => Ok(key),
        }
    }

    fn join(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["d", "attribute"])?;
        let between = arguments.get(0, "d").map_or(Ok(Text::template("")), |d| to_text(d, &self.budget))?;
        let mut out = Writer::default();
        for (place, item) in value.iterate(&self.budget)?.iter().enumerate() {
            let item = match arguments.get(1, "attribute") {
                Some(path) if !matches!(path, Value::None) => &self.path(item, path)?,
                _ => item,
            };
            if place > 0 {
                self.budget.bytes(between.cost())?;
                out.push_text(&between);
            }
            out.push_text(&to_text(item, &self.budget)?);
        }
        Ok(Value::Str(out.finish()))
    }

    fn map(&mut self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        let items = value.iterate(&self.budget)?;
        let mut made = Vec::with_capacity(items.len());
        if let Some((_, path)) = arguments.named.iter().find(|(name, _)| &**name == "attribute") {
            let default = arguments.named.iter().find(|(name, _)| &**name == "default");
            for item in &items {
                let found = self.path(item, path)?;
                made.push(match default {
                    Some((_, default)) if found.is_undefined() => default.clone(),
                    _ => found,
                });
            }
        } else {
            let name = Rc::<str>::from(arguments.text(0, "filter")?);
            let rest = Arguments { positional: arguments.positional[1..].to_vec(), named: arguments.named.clone() };
            for item in items {
                made.push(self.filter_by_name(&name, item, &rest)?);
            }
        }
        self.iterator(made)
    }

    /// `select`, `reject` and their attribute forms; without a test, what is true.
    fn select(&mut self, value: &Value, arguments: &Arguments, attribute: Option<Value>, keep: bool) -> Outcome<Value> {
        let skip = usize::from(attribute.is_some());
        let test = arguments.positional.get(skip).cloned();
        let rest = Arguments {
            positional: arguments.positional.iter().skip(skip + 1).cloned().collect(),
            named: arguments.named.clone(),
        };
        let mut kept = Vec::new();
        for item in value.iterate(&self.budget)? {
            let subject = attribute.as_ref().map_or_else(|| Ok(item.clone()), |path| self.path(&item, path))?;
            let holds = match &test {
                None => subject.is_true(),
                Some(test) => {
                    let name = test.as_str().ok_or_else(|| test.refuse("is not the name of a test"))?;
                    self.test(name, &subject, &rest)?
                }
            };
            if holds == keep {
                kept.push(item);
            }
        }
        self.iterator(kept)
    }

    /// Sorts stably by the keys; the first pair without an order is the fault.
    fn sorted(&self, mut keyed: Vec<(Value, Value)>, reverse: bool) -> Outcome<Vec<Value>> {
        let mut fault = None;
        keyed.sort_by(|(a, _), (b, _)| {
            if fault.is_some() {
                return Ordering::Equal;
            }
            let order = self.budget.steps(1).and_then(|()| a.compare(b, &self.budget)).unwrap_or_else(|found| {
                fault = Some(found);
                Ordering::Equal
            });
            if reverse { order.reverse() } else { order }
        });
        match fault {
            Some(fault) => Err(fault),
            None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
        }
    }

    fn keyed(&self, items: Vec<Value>, attribute: Option<&Value>, case: bool) -> Outcome<Vec<(Value, Value)>> {
        items.into_iter().map(|item| Ok((self.sort_key(&item, attribute, case)?, item))).collect()
    }

    fn sort(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["reverse", "case_sensitive", "attribute"])?;
        let items = value.iterate(&self.budget)?;
        let keyed = self.keyed(items, arguments.get(2, "attribute"), arguments.flag(1, "case_sensitive"))?;
        let sorted = self.sorted(keyed, arguments.flag(0, "reverse"))?;
        self.list(sorted)
    }

    fn unique(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["case_sensitive", "attribute"])?;
        let items = value.iterate(&self.budget)?;
        let mut seen: Vec<Value> = Vec::new();
        let mut kept = Vec::new();
        for (key, item) in self.keyed(items, arguments.get(1, "attribute"), arguments.flag(0, "case_sensitive"))? {
            let mut known = false;
            for other in &seen {
                self.budget.steps(1)?;
                known = known || key.equals(other, &self.budget)?;
            }
            if !known {
                seen.push(key);
                kept.push(item);
            }
        }
        self.iterator(kept)
    }

    fn extreme(&self, value: &Value, arguments: &Arguments, largest: bool) -> Outcome<Value> {
        arguments.check(&["case_sensitive", "attribute"])?;
        let items = value.iterate(&self.budget)?;
        let mut best: Option<(Value, Value)> = None;
        for (key, item) in self.keyed(items, arguments.get(1, "attribute"), arguments.flag(0, "case_sensitive"))? {
            let better = match &best {
                None => true,
                Some((held, _)) => {
                    let order = key.compare(held, &self.budget)?;
                    if largest { order.is_gt() } else { order.is_lt() }
                }
            };
            if better {
                best = Some((key, item));
            }
        }
        Ok(best.map_or_else(|| Value::undefined("the extreme of nothing"), |(_, item)| item))
    }

    fn sum(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["attribute", "start"])?;
        let mut total = arguments.get(1, "start").cloned().unwrap_or(Value::Int(0));
        for item in value.iterate(&self.budget)? {
            let item = match arguments.get(0, "attribute") {
                Some(path) if !matches!(path, Value::None) => self.path(&item, path)?,
                _ => item,
            };
            let add = super::syntax::Arithmetic::Add;
            total = super::operators::arithmetic(add, &total, &item, &self.budget)?;
        }
        Ok(total)
    }

    /// Tuples of (key, items), ordered by key.
    fn group(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["attribute", "default", "case_sensitive"])?;
        let path = arguments.need(0, "attribute")?;
        let mut keyed = Vec::new();
        for item in value.iterate(&self.budget)? {
            let mut key = self.path(&item, path)?;
            if let (true, Some(default)) = (key.is_undefined(), arguments.get(1, "default")) {
                key = default.clone();
            }
            let pair = Value::seq(&self.budget, SeqKind::Tuple, vec![key.clone(), item])?;
            keyed.push((self.sort_key(&key, None, arguments.flag(2, "case_sensitive"))?, pair));
        }
        let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
        for pair in self.sorted(keyed, false)? {
            let Value::Seq(pair) = pair else { continue };
            let (key, item) = (pair.items[0].clone(), pair.items[1].clone());
            let same = match groups.last() {
                Some((held, _)) => {
                    let case = arguments.flag(2, "case_sensitive");
                    let (a, b) = (self.sort_key(held, None, case)?, self.sort_key(&key, None, case)?);
                    a.equals(&b, &self.budget)?
                }
                None => false,
            };
            match groups.last_mut() {
                Some((_, items)) if same => items.push(item),
                _ => groups.push((key, vec![item])),
            }
        }
        let groups = groups.into_iter().map(|(key, items)| {
            let items = self.list(items)?;
            Value::seq(&self.budget, SeqKind::Tuple, vec![key, items])
        });
        let groups = groups.collect::<Outcome<_>>()?;
        self.list(groups)
    }

    fn dict_sort(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["case_sensitive", "by", "reverse"])?;
        let place = match arguments.get(1, "by") {
            None => 0,
            Some(_) => match arguments.text(1, "by")? {
                "key" => 0,
                "value" => 1,
                _ => return Err(Fault::runtime("dictsort sorts by \"key\" or \"value\"")),
            },
        };
        let items = self.pairs(value)?.iterate(&self.budget)?;
        let keyed = self.keyed(items, Some(&Value::Int(place)), arguments.flag(0, "case_sensitive"))?;
        let sorted = self.sorted(keyed, arguments.flag(2, "reverse"))?;
        self.list(sorted)
    }

    fn batch(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["linecount", "fill_with"])?;
        let size = usize::try_from(arguments.int(0, "linecount", 0)?).unwrap_or(0);
        if size == 0 {
            return Err(Fault::runtime("batch needs a size of at least 1"));
        }
        let items = value.iterate(&self.budget)?;
        let mut batches = Vec::new();
        for part in items.chunks(size) {
            let mut part = part.to_vec();
            if let Some(fill) = arguments.get(1, "fill_with").filter(|fill| !matches!(fill, Value::None)) {
                self.budget.slots(size - part.len())?;
                part.resize(size, fill.clone());
            }
            batches.push(self.list(part)?);
        }
        self.iterator(batches)
    }

    fn slices(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["slices", "fill_with"])?;
        let count = usize::try_from(arguments.int(0, "slices", 0)?).unwrap_or(0);
        if count == 0 {
            return Err(Fault::runtime("slice needs at least 1 part"));
        }
        self.budget.slots(count)?;
        let items = value.iterate(&self.budget)?;
        let (each, longer) = (items.len() / count, items.len() % count);
        let mut parts = Vec::new();
        let mut start = 0;
        for place in 0..count {
            let end = start + each + usize::from(place < longer);
            let mut part = items[start..end].to_vec();
            if let Some(fill) = arguments.get(1, "fill_with").filter(|fill| !matches!(fill, Value::None))
                && place >= longer
            {
                part.push(fill.clone());
            }
            parts.push(self.list(part)?);
            start = end;
        }
        self.iterator(parts)
    }
}
