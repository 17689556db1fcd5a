//! Filters on texts and single values, as the reference engine defines them; filters on sequences are in
//! `sequence_filters`. A filter that this file does not know is a fault that names it.

use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::json;
use super::machine::Machine;
use super::methods;
use super::python_text::{is_line_end, is_space, lines, to_text};
use super::syntax::Step;
use super::text::{Text, Writer};
use super::value::Value;

impl<'p> Machine<'p> {
    /// `value | step`.
    pub(super) fn filter(&mut self, value: Value, step: &'p Step) -> Outcome<Value> {
        let arguments = self.arguments(&step.arguments)?;
        self.filter_by_name(&step.name, value, &arguments)
    }

    /// The filter called `name`; `map` comes here too.
    pub(super) fn filter_by_name(&mut self, name: &str, value: Value, arguments: &Arguments) -> Outcome<Value> {
        self.budget.steps(1)?;
        match name {
            "default" | "d" => {
                arguments.check(&["default_value", "boolean"])?;
                let missing = value.is_undefined() || (arguments.flag(1, "boolean") && !value.is_true());
                let default = || arguments.get(0, "default_value").cloned().unwrap_or_else(|| Value::str(""));
                Ok(if missing { default() } else { value })
            }
            "tojson" => json::dump(&value, &json::Style::from_arguments(arguments)?, &self.budget).map(Value::Str),
            "string" => to_text(&value, &self.budget).map(Value::Str),
            "safe" => to_text(&value, &self.budget).map(|text| Value::Str(text.marked_safe())),
            "length" | "count" => self.length(&value).map(|length| Value::Int(length as i128)),
            "int" => self.int_filter(&value, arguments),
            "float" => self.float_filter(&value, arguments),
            "abs" => match (&value, value.as_int()) {
                (Value::Float(number), _) => Ok(Value::Float(number.abs())),
                (_, Some(number)) => Ok(Value::Int(number.saturating_abs())),
                _ => Err(value.refuse("has no absolute value")),
            },
            "round" => round(&value, arguments),
            "attr" => {
                let name = arguments.text(0, "name")?;
                match self.own_attribute(&value, name)? {
                    Some(found) => Ok(found),
                    None if name.starts_with("__") => Err(Fault::runtime(format!(
                        "access to {name:?} of a value of type {} is unsafe",
                        value.type_name()
                    ))),
                    None => Ok(Value::undefined(name)),
                }
            }
            _ => match self.text_filter(name, &value, arguments)? {
                Some(text) => Ok(Value::Str(text)),
                None => self.sequence_filter(name, value, arguments),
            },
        }
    }

    /// Filters that turn their input into text first.
    fn text_filter(&mut self, name: &str, value: &Value, arguments: &Arguments) -> Outcome<Option<Text>> {
        const NAMES: [&str; 14] = [
            "trim",
            "upper",
            "lower",
            "capitalize",
            "title",
            "replace",
            "indent",
            "center",
            "truncate",
            "e",
            "escape",
            "forceescape",
            "format",
            "wordcount",
        ];
        if !NAMES.contains(&name) {
            return Ok(None);
        }
        let text = to_text(value, &self.budget)?;
        self.budget.bytes(text.len().saturating_mul(2))?;
        Ok(Some(match name {
            "trim" => match arguments.get(0, "chars") {
                None | Some(Value::None) => text.slice_of(text.trim_matches(is_space)),
                Some(letters) => {
                    let letters = to_text(letters, &self.budget)?;
                    text.slice_of(text.trim_matches(|letter| letters.contains(letter)))
                }
            },
            "upper" => text.derived(text.to_uppercase()),
            "lower" => text.derived(text.to_lowercase()),
            "capitalize" => text.derived(methods::capitalize(&text)),
            "title" => text.derived(title(&text)),
            "replace" => {
                let old = to_text(arguments.need(0, "old")?, &self.budget)?;
                let new = to_text(arguments.need(1, "new")?, &self.budget)?;
                let count = match arguments.get(2, "count") {
                    None | Some(Value::None) => -1,
                    Some(_) => arguments.int(2, "count", -1)?,
                };
                methods::replace(&text, &old, &new, count, &self.budget)?
            }
            "indent" => self.indent(&text, arguments)?,
            "center" => methods::pad(&text, arguments.int(0, "width", 80)?, ' ', methods::Side::Both, &self.budget)?,
            "truncate" => truncate(&text, arguments)?,
            "e" | "escape" | "forceescape" => {
                self.budget.bytes(text.len().saturating_mul(5))?;
                if text.is_safe() { text } else { text.escaped() }
            }
            "format" => super::format::percent_arguments(&text, arguments, &self.budget)?,
            _ => {
                let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
                Text::template(words.filter(|word| !word.is_empty()).count().to_string())
            }
        }))
    }

    pub(super) fn length(&self, value: &Value) -> Outcome<usize> {
        match value {
            Value::Undefined(_) => Ok(0),
            Value::Str(text) => {
                self.budget.bytes(text.len())?;
                Ok(text.chars().count())
            }
            Value::Seq(seq) => Ok(seq.items.len()),
            Value::Dict(dict) => Ok(dict.len()),
            other => Err(other.refuse("has no length")),
        }
    }

    fn int_filter(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        arguments.check(&["default", "base"])?;
        let default = arguments.get(0, "default").cloned().unwrap_or(Value::Int(0));
        let base = u32::try_from(arguments.int(1, "base", 10)?).unwrap_or(0);
        if !(2..=36).contains(&base) {
            return Err(Fault::runtime("the base of a number must be 2 to 36"));
        }
        let from_float = |number: f64| {
            let fits = number.is_finite() && number.abs() < 1e37;
            if fits { Some(Value::Int(number.trunc() as i128)) } else { None }
        };
        Ok(match value {
            Value::Undefined(_) => return Err(value.refuse("")),
            Value::Float(number) => from_float(*number).unwrap_or(default),
            Value::Str(text) => {
                self.budget.bytes(text.len())?;
                let text = text.trim_matches(is_space).replace('_', "");
                match i128::from_str_radix(&text, base) {
                    Ok(number) => Value::Int(number),
                    Err(_) => text.parse().ok().and_then(from_float).unwrap_or(default),
                }
            }
            other => other.as_int().map_or(default, Value::Int),
        })
    }

    fn float_filter(&self, value: &Value, arguments: &Arguments) -> Outcome<Value> {
        let default = arguments.get(0, "default").cloned().unwrap_or(Value::Float(0.0));
        Ok(match value {
            Value::Undefined(_) => return Err(value.refuse("")),
            Value::Str(text) => {
                self.budget.bytes(text.len())?;
                text.trim_matches(is_space).parse().map_or(default, Value::Float)
            }
            other => other.as_float().map_or(default, Value::Float),
        })
    }

    fn indent(&self, text: &Text, arguments: &Arguments) -> Outcome<Text> {
        arguments.check(&["width", "first", "blank"])?;
        let indention = match arguments.get(0, "width") {
            Some(Value::Str(text)) => text.to_string(),
            _ => {
                let width = usize::try_from(arguments.int(0, "width", 4)?.max(0)).unwrap_or(usize::MAX);
                self.budget.bytes(width)?;
                " ".repeat(width)
            }
        };
        let mut parts = lines(text, false);
        // The reference adds a line end before it splits, so that a trailing one is kept.
        if text.is_empty() || text.ends_with(is_line_end) {
            parts.push(&text[text.len()..]);
        }
        self.budget.bytes(parts.len().saturating_mul(indention.len() + 1).saturating_add(text.cost()))?;
        let blank = arguments.flag(2, "blank");
        let mut out = Writer::default();
        for (place, line) in parts.iter().enumerate() {
            if place > 0 {
                out.push("\n");
            }
            let wanted = if place == 0 { arguments.flag(1, "first") } else { blank || !line.is_empty() };
            if wanted {
                out.push(&indention);
            }
            out.push_part(text, text.range_of(line));
        }
        Ok(out.finish())
    }
}

/// Capital letters after white space, hyphens and opening brackets only.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at_start = true;
    for letter in text.chars() {
        if is_space(letter) || matches!(letter, '-' | '(' | '{' | '[' | '<') {
            out.push(letter);
            at_start = true;
        } else if at_start {
            out.extend(letter.to_uppercase());
            at_start = false;
        } else {
            out.extend(letter.to_lowercase());
        }
    }
    out
}

fn truncate(text: &Text, arguments: &Arguments) -> Outcome<Text> {
    arguments.check(&["length", "killwords", "end", "leeway"])?;
    let length = usize::try_from(arguments.int(0, "length", 255)?).unwrap_or(0);
    let leeway = usize::try_from(arguments.int(3, "leeway", 5)?).unwrap_or(0);
    let end = match arguments.get(2, "end") {
        None => "...",
        Some(_) => arguments.text(2, "end")?,
    };
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.clone());
    }
    let keep = length.checked_sub(end.chars().count());
    let keep = keep.ok_or_else(|| Fault::runtime("the length of truncate is below that of its end mark"))?;
    let head = &text[..text.char_indices().nth(keep).map_or(text.len(), |(at, _)| at)];
    let head = if arguments.flag(1, "killwords") { head } else { head.rsplit_once(' ').map_or(head, |cut| cut.0) };
    let mut out = Writer::default();
    out.push_part(text, text.range_of(head));
    out.push(end);
    Ok(out.finish())
}

fn round(value: &Value, arguments: &Arguments) -> Outcome<Value> {
    arguments.check(&["precision", "method"])?;
    let number = value.as_float().ok_or_else(|| value.refuse("cannot be rounded"))?;
    let precision = i32::try_from(arguments.int(0, "precision", 0)?.clamp(-400, 400)).unwrap_or(0);
    let method = match arguments.get(1, "method") {
        None => "common",
        Some(_) => arguments.text(1, "method")?,
    };
    let scale = 10_f64.powi(precision);
    Ok(match method {
        // Printing rounds the exact binary value half to even, which is what Python's `round` does.
        "common" if precision >= 0 && number.is_finite() => {
            let digits = usize::try_from(precision.min(330)).unwrap_or(0);
            match (value.as_int(), format!("{number:.digits$}").parse()) {
                (Some(integer), _) => Value::Int(integer),
                (None, Ok(rounded)) => Value::Float(rounded),
                (None, Err(_)) => Value::Float(number),
            }
        }
        "common" => Value::Float((number * scale).round_ties_even() / scale),
        "ceil" => Value::Float((number * scale).ceil() / scale),
        "floor" => Value::Float((number * scale).floor() / scale),
        other => return Err(Fault::runtime(format!("round has no method {other:?}"))),
    })
}
