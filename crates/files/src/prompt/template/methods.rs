//! Methods of texts, maps and lists, as Python has them and as far as a sandbox lets them be called: none changes its
//! value. What they cut out of a text keeps its provenance.

use super::budget::Budget;
use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::format;
use super::machine::Machine;
use super::python_text::{is_space, lines};
use super::text::{Text, Writer};
use super::value::{SeqKind, Value};

const OF_TEXT: [&str; 38] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
];
const OF_DICT: [&str; 5] = ["copy", "get", "items", "keys", "values"];
const OF_SEQ: [&str; 3] = ["copy", "count", "index"];

/// Where padding goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// Whether values of this type have a method called `name`.
pub(super) fn exists(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => OF_TEXT.contains(&name) || matches!(name, "swapcase" | "zfill"),
        Value::Dict(_) => OF_DICT.contains(&name),
        Value::Seq(seq) => matches!(seq.kind, SeqKind::List | SeqKind::Tuple) && OF_SEQ.contains(&name),
        _ => false,
    }
}

impl Machine<'_> {
    /// `value.name(arguments)`.
    pub(super) fn call_method(&mut self, value: &Value, name: &str, arguments: &Arguments) -> Outcome<Value> {
        self.budget.steps(1)?;
        match value {
            Value::Str(text) => {
                // No method takes more than a few passes over its text.
                self.budget.bytes(text.cost())?;
                self.text_method(text, name, arguments)
            }
            Value::Dict(dict) => match name {
                "get" => {
                    arguments.check(&["key", "default"])?;
                    let found = dict.get(arguments.need(0, "key")?);
                    Ok(found.or(arguments.get(1, "default")).cloned().unwrap_or(Value::None))
                }
                "items" => self.pairs(value),
                "keys" => Value::seq(&self.budget, SeqKind::View, dict.iter().map(|(key, _)| key.clone()).collect()),
                "values" => {
                    Value::seq(&self.budget, SeqKind::View, dict.iter().map(|(_, item)| item.clone()).collect())
                }
                _ => Ok(value.clone()),
            },
            Value::Seq(seq) if name == "count" || name == "index" => {
                let wanted = arguments.need(0, "value")?;
                let mut count = 0;
                for (place, item) in seq.items.iter().enumerate() {
                    self.budget.steps(1)?;
                    if item.equals(wanted, &self.budget)? {
                        if name == "index" {
                            return Ok(Value::Int(place as i128));
                        }
                        count += 1;
                    }
                }
                if name == "count" {
                    Ok(Value::Int(count))
                } else {
                    Err(Fault::runtime("the value is not in the list"))
                }
            }
            Value::Loop(place) => self.loop_method(*place, name, arguments),
            other => Ok(other.clone()),
        }
    }

    fn loop_method(&mut self, place: usize, name: &str, arguments: &Arguments) -> Outcome<Value> {
        let state = self.loops.get_mut(place).ok_or_else(|| Fault::runtime("the loop has ended"))?;
        if name == "cycle" {
            let values = &arguments.positional;
            let at = state.index.checked_rem(values.len()).ok_or_else(|| Fault::runtime("cycle needs a value"))?;
            return Ok(values[at].clone());
        }
        let now = arguments.positional.clone();
        let before = state.last_changed.replace(now.clone());
        let Some(before) = before.filter(|before| before.len() == now.len()) else { return Ok(Value::Bool(true)) };
        for (a, b) in before.iter().zip(&now) {
            if !a.equals(b, &self.budget)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }

    fn text_method(&self, text: &Text, name: &str, arguments: &Arguments) -> Outcome<Value> {
        let budget = &self.budget;
        let padded = |side| {
            let fill = match arguments.get(1, "fillchar") {
                None => ' ',
                Some(_) => single(arguments.text(1, "fillchar")?)?,
            };
            pad(text, arguments.int(0, "width", 0)?, fill, side, budget).map(Value::Str)
        };
        let cased = |cased: String| {
            budget.bytes(cased.len())?;
            Ok(Value::Str(text.derived(cased)))
        };
        match name {
            "strip" | "lstrip" | "rstrip" => strip(text, name, arguments),
            "split" | "rsplit" => self.split(text, name == "rsplit", arguments),
            "splitlines" => {
                let parts = lines(text, arguments.flag(0, "keepends"));
                self.parts(text, parts)
            }
            "startswith" | "endswith" => affix(text, name == "startswith", arguments),
            "removeprefix" => {
                Ok(Value::Str(text.slice_of(text.strip_prefix(arguments.text(0, "prefix")?).unwrap_or(text))))
            }
            "removesuffix" => {
                Ok(Value::Str(text.slice_of(text.strip_suffix(arguments.text(0, "suffix")?).unwrap_or(text))))
            }
            "upper" => cased(text.to_uppercase()),
            "lower" | "casefold" => cased(text.to_lowercase()),
            "capitalize" => cased(capitalize(text)),
            "title" => cased(title(text)),
            "swapcase" => cased(text.chars().map(swapped).collect()),
            "replace" => {
                arguments.check(&["old", "new", "count"])?;
                let [old, new] = [arguments.need(0, "old")?, arguments.need(1, "new")?];
                let (Value::Str(old), Value::Str(new)) = (old, new) else {
                    return Err(Fault::runtime("replace takes two texts"));
                };
                replace(text, old, new, arguments.int(2, "count", -1)?, budget).map(Value::Str)
            }
            "find" | "rfind" | "index" | "count" => find(text, name, arguments),
            "join" => self.join_values(text, arguments.need(0, "iterable")?),
            "format" => format::braces(text, arguments, budget).map(Value::Str),
            "partition" | "rpartition" => self.partition(text, name == "rpartition", arguments.text(0, "sep")?),
            "ljust" => padded(Side::Right),
            "rjust" => padded(Side::Left),
            "center" => padded(Side::Both),
            "zfill" => {
                let sign = usize::from(text.starts_with(['-', '+']));
                let rest = pad(
                    &text.part(sign..text.len()),
                    arguments.int(0, "width", 0)? - sign as i128,
                    '0',
                    Side::Left,
                    budget,
                )?;
                let mut out = Writer::default();
                out.push_part(text, 0..sign);
                out.push_text(&rest);
                Ok(Value::Str(out.finish()))
            }
            "expandtabs" => {
                let width = usize::try_from(arguments.int(0, "tabsize", 8)?.clamp(0, 64)).unwrap_or(0);
                cased(expand_tabs(text, width, budget)?)
            }
            _ => Ok(Value::Bool(is(text, name))),
        }
    }

    fn parts(&self, text: &Text, parts: Vec<&str>) -> Outcome<Value> {
        self.budget.slots(parts.len())?;
        self.list(parts.into_iter().map(|part| Value::Str(text.slice_of(part))).collect())
    }

    fn split(&self, text: &Text, from_end: bool, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["sep", "maxsplit"])?;
        let limit = usize::try_from(arguments.int(1, "maxsplit", -1)?).unwrap_or(usize::MAX);
        let separator = match arguments.get(0, "sep") {
            None | Some(Value::None) => None,
            Some(_) => Some(arguments.text(0, "sep")?),
        };
        let Some(separator) = separator else {
            return self.parts(text, words(text, limit, from_end));
        };
        if separator.is_empty() {
            return Err(Fault::runtime("cannot split at an empty text"));
        }
        self.budget.slots(text.matches(separator).count())?;
        let limit = limit.saturating_add(1);
        let parts = if from_end {
            let mut parts: Vec<&str> = text.rsplitn(limit, separator).collect();
            parts.reverse();
            parts
        } else {
            text.splitn(limit, separator).collect()
        };
        self.parts(text, parts)
    }

    fn partition(&self, text: &Text, last: bool, separator: &str) -> Outcome<Value> {
        let found = if last { text.rfind(separator) } else { text.find(separator) };
        let (whole, end) = (text.len(), text.len());
        let cuts = match found {
            Some(at) => [0..at, at..at + separator.len(), at + separator.len()..end],
            None if last => [0..0, 0..0, 0..whole],
            None => [0..whole, end..end, end..end],
        };
        let parts = cuts.into_iter().map(|cut| Value::Str(text.part(cut))).collect();
        Value::seq(&self.budget, SeqKind::Tuple, parts)
    }

    fn join_values(&self, between: &Text, values: &Value) -> Outcome<Value> {
        let mut out = Writer::default();
        for (place, item) in values.iterate(&self.budget)?.iter().enumerate() {
            let Value::Str(item) = item else { return Err(item.refuse("cannot be joined")) };
            self.budget.bytes(between.cost().saturating_add(item.cost()))?;
            if place > 0 {
                out.push_text(between);
            }
            out.push_text(item);
        }
        Ok(Value::Str(out.finish()))
    }
}

fn single(text: &str) -> Outcome<char> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(Fault::runtime("the fill must be one letter")),
    }
}

fn strip(text: &Text, name: &str, arguments: &Arguments) -> Outcome<Value> {
    arguments.check(&["chars"])?;
    let letters = match arguments.get(0, "chars") {
        None | Some(Value::None) => None,
        Some(_) => Some(arguments.text(0, "chars")?),
    };
    let gone = |letter: char| letters.map_or_else(|| is_space(letter), |letters| letters.contains(letter));
    let mut left: &str = text;
    if name != "rstrip" {
        left = left.trim_start_matches(gone);
    }
    if name != "lstrip" {
        left = left.trim_end_matches(gone);
    }
    Ok(Value::Str(text.slice_of(left)))
}

fn affix(text: &Text, at_start: bool, arguments: &Arguments) -> Outcome<Value> {
    arguments.check(&["affix"])?;
    let wanted = arguments.need(0, "affix")?;
    let holds = |affix: &Value| {
        let affix = affix.as_str().ok_or_else(|| affix.refuse("is not a text"))?;
        Ok(if at_start { text.starts_with(affix) } else { text.ends_with(affix) })
    };
    let found = match wanted {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => {
            seq.items.iter().map(holds).collect::<Outcome<Vec<bool>>>()?.contains(&true)
        }
        one => holds(one)?,
    };
    Ok(Value::Bool(found))
}

fn find(text: &Text, name: &str, arguments: &Arguments) -> Outcome<Value> {
    arguments.check(&["sub"])?;
    let part = arguments.text(0, "sub")?;
    if name == "count" {
        return Ok(Value::Int(text.matches(part).count() as i128));
    }
    let found = if name == "rfind" { text.rfind(part) } else { text.find(part) };
    match found {
        Some(at) => Ok(Value::Int(text[..at].chars().count() as i128)),
        None if name == "index" => Err(Fault::runtime("the part is not in the text")),
        None => Ok(Value::Int(-1)),
    }
}

/// The words between white space; past the limit the rest is one word.
fn words(text: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = if from_end { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) };
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut.filter(|_| found.len() < limit) else {
            // What is left is one word, without the white space at its far end.
            found.push(if from_end { rest.trim_start_matches(is_space) } else { rest.trim_end_matches(is_space) });
            break;
        };
        if from_end {
            found.push(rest[cut..].trim_start_matches(is_space));
            rest = rest[..cut].trim_end_matches(is_space);
        } else {
            found.push(&rest[..cut]);
            rest = rest[cut..].trim_start_matches(is_space);
        }
    }
    // A limited split from the front keeps the white space at the end of its last word.
    if !from_end
        && found.len() > limit
        && let Some(last) = found.last_mut()
    {
        let start = last.as_ptr().addr() - text.as_ptr().addr();
        *last = &text[start..];
    }
    if from_end {
        if found.len() > limit
            && let Some(last) = found.last_mut()
        {
            let end = last.as_ptr().addr() - text.as_ptr().addr() + last.len();
            *last = &text[..end];
        }
        found.reverse();
    }
    found.retain(|word| !word.is_empty());
    found
}

/// `str.capitalize()`.
pub(super) fn capitalize(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect())
}

/// `str.title()`: a capital after anything that is no letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for letter in text.chars() {
        if inside {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
        inside = letter.is_alphabetic();
    }
    out
}

fn swapped(letter: char) -> char {
    let mut other: [Option<char>; 2] = [None, None];
    if letter.is_uppercase() {
        other.iter_mut().zip(letter.to_lowercase()).for_each(|(slot, letter)| *slot = Some(letter));
    } else {
        other.iter_mut().zip(letter.to_uppercase()).for_each(|(slot, letter)| *slot = Some(letter));
    }
    match other {
        [Some(one), None] => one,
        _ => letter,
    }
}

/// `str.replace(old, new, count)`.
pub(super) fn replace(text: &Text, old: &Text, new: &Text, count: i128, budget: &Budget) -> Outcome<Text> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    budget.bytes(text.cost())?;
    let mut out = Writer::default();
    let mut done = 0;
    // An empty `old` matches before every letter and at the end, as in Python.
    for (at, found) in text.match_indices(&**old).take(limit) {
        budget.bytes(new.cost().saturating_add(16))?;
        out.push_part(text, done..at);
        out.push_text(new);
        done = at + found.len();
    }
    out.push_part(text, done..text.len());
    Ok(out.finish())
}

/// `ljust`, `rjust`, `center`.
pub(super) fn pad(text: &Text, width: i128, fill: char, side: Side, budget: &Budget) -> Outcome<Text> {
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    budget.bytes(text.cost())?;
    let missing = width.saturating_sub(text.chars().count());
    budget.bytes(missing.saturating_mul(fill.len_utf8()))?;
    let before = match side {
        Side::Left => missing,
        Side::Right => 0,
        Side::Both => missing / 2 + (missing & width & 1),
    };
    let fill = String::from(fill);
    let mut out = Writer::default();
    out.push(&fill.repeat(before));
    out.push_text(text);
    out.push(&fill.repeat(missing - before));
    Ok(out.finish())
}

fn expand_tabs(text: &str, width: usize, budget: &Budget) -> Outcome<String> {
    budget.bytes(text.matches('\t').count().saturating_mul(width))?;
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for letter in text.chars() {
        match letter {
            '\t' => {
                let spaces = if width == 0 { 0 } else { width - column % width };
                out.push_str(&" ".repeat(spaces));
                column += spaces;
            }
            other => {
                out.push(other);
                column = if matches!(other, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

/// The questions that a text answers with yes or no.
fn is(text: &str, name: &str) -> bool {
    let all = |holds: fn(char) -> bool| !text.is_empty() && text.chars().all(holds);
    let cases = || (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "islower" => cases() == (true, false),
        "isupper" => cases() == (false, true),
        "istitle" => title(text) == text && text.chars().any(char::is_alphabetic),
        _ => false,
    }
}
