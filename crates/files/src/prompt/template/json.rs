//! `tojson` as Hugging Face's renderer defines it: Python's `json.dumps` without HTML escapes. Texts from the inputs
//! keep their provenance.

use std::fmt::Write as _;

use super::budget::Budget;
use super::expression::Arguments;
use super::fault::{Fault, Outcome};
use super::python_text::float;
use super::text::{Text, Writer};
use super::value::Value;

/// How the JSON is laid out.
pub(super) struct Style {
    indent: Option<String>,
    between: String,
    after_key: String,
    sort_keys: bool,
    ascii: bool,
}

/// The widest indentation that is written.
const INDENT_MAX: i128 = 64;

impl Style {
    /// The arguments of `tojson(ensure_ascii, indent, separators, sort_keys)`.
    pub(super) fn from_arguments(arguments: &Arguments) -> Outcome<Self> {
        arguments.check(&["ensure_ascii", "indent", "separators", "sort_keys"])?;
        let indent = match arguments.get(1, "indent") {
            None | Some(Value::None) => None,
            Some(Value::Str(text)) if text.len() <= INDENT_MAX as usize => Some(text.to_string()),
            Some(value) => {
                let width = value.as_int().ok_or_else(|| value.refuse("is not an indentation"))?;
                if width > INDENT_MAX {
                    return Err(Fault::runtime(format!("an indentation of {width}, at most {INDENT_MAX} is written")));
                }
                Some(" ".repeat(usize::try_from(width).unwrap_or(0)))
            }
        };
        let (between, after_key) = match arguments.get(2, "separators") {
            None | Some(Value::None) => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
            Some(Value::Seq(pair)) => match pair.items.as_slice() {
                [Value::Str(between), Value::Str(after)] => (between.to_string(), after.to_string()),
                _ => return Err(Fault::runtime("the separators of tojson are two texts")),
            },
            Some(other) => return Err(other.refuse("is no pair of separators")),
        };
        Ok(Self {
            indent,
            between,
            after_key,
            sort_keys: arguments.flag(3, "sort_keys"),
            ascii: arguments.flag(0, "ensure_ascii"),
        })
    }
}

/// `json.dumps(value)`, paid for.
pub(super) fn dump(value: &Value, style: &Style, budget: &Budget) -> Outcome<Text> {
    budget.steps(value.weight())?;
    let mut dumper = Dumper { style, budget, out: Writer::default(), level: 0 };
    dumper.value(value)?;
    Ok(dumper.out.finish())
}

struct Dumper<'a> {
    style: &'a Style,
    budget: &'a Budget,
    out: Writer,
    level: usize,
}

impl Dumper<'_> {
    fn value(&mut self, value: &Value) -> Outcome<()> {
        self.budget.bytes(32)?;
        match value {
            Value::None => self.out.push("null"),
            Value::Bool(flag) => self.out.push(if *flag { "true" } else { "false" }),
            Value::Int(number) => _ = write!(self.out.raw(), "{number}"),
            Value::Float(number) => self.out.push(&number_text(*number)),
            Value::Str(text) => self.text(text)?,
            Value::Seq(seq) => {
                let items = seq.items.iter().map(|item| (None, item));
                self.container('[', ']', items)?;
            }
            Value::Dict(dict) => {
                let mut pairs = Vec::with_capacity(dict.len());
                for (key, value) in dict.iter() {
                    pairs.push((Some(key_text(key)?), value));
                }
                if self.style.sort_keys {
                    pairs.sort_by(|(a, _), (b, _)| a.as_deref().cmp(&b.as_deref()));
                }
                self.container('{', '}', pairs.into_iter())?;
            }
            Value::Undefined(_) => return Err(value.refuse("")),
            other => return Err(other.refuse("is no JSON")),
        }
        Ok(())
    }

    fn container<'v>(
        &mut self,
        open: char,
        close: char,
        items: impl Iterator<Item = (Option<Text>, &'v Value)>,
    ) -> Outcome<()> {
        self.out.raw().push(open);
        self.level += 1;
        let mut empty = true;
        for (key, item) in items {
            if !empty {
                self.budget.bytes(self.style.between.len())?;
                self.out.push(&self.style.between);
            }
            empty = false;
            self.line()?;
            if let Some(key) = key {
                self.text(&key)?;
                self.budget.bytes(self.style.after_key.len())?;
                self.out.push(&self.style.after_key);
            }
            self.value(item)?;
        }
        self.level -= 1;
        if !empty {
            self.line()?;
        }
        self.out.raw().push(close);
        Ok(())
    }

    fn line(&mut self) -> Outcome<()> {
        let Some(indent) = &self.style.indent else { return Ok(()) };
        self.budget.bytes(1 + indent.len() * self.level)?;
        self.out.raw().push('\n');
        (0..self.level).for_each(|_| self.out.push(indent));
        Ok(())
    }

    fn text(&mut self, text: &Text) -> Outcome<()> {
        self.budget.bytes(text.cost().saturating_add(16))?;
        self.out.raw().push('"');
        let start = self.out.len();
        for letter in text.chars() {
            let out = self.out.raw();
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                letter if letter < ' ' || (self.style.ascii && !(' '..='~').contains(&letter)) => {
                    self.budget.bytes(12)?;
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        _ = write!(out, "\\u{unit:04x}");
                    }
                }
                letter => out.push(letter),
            }
        }
        // A text that is only partly from the inputs is treated as input as a whole.
        if text.has_input() {
            self.out.mark_from(start);
        }
        self.out.raw().push('"');
        Ok(())
    }
}

fn number_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".into()
    } else if number.is_infinite() {
        if number < 0.0 { "-Infinity".into() } else { "Infinity".into() }
    } else {
        float(number)
    }
}

fn key_text(key: &Value) -> Outcome<Text> {
    Ok(match key {
        Value::Str(text) => text.clone(),
        Value::None => Text::template("null"),
        Value::Bool(flag) => Text::template(if *flag { "true" } else { "false" }),
        Value::Int(number) => Text::template(number.to_string()),
        Value::Float(number) => Text::template(number_text(*number)),
        other => return Err(other.refuse("cannot be a key of JSON")),
    })
}
