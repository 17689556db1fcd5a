//! Text as Python makes it: `str()` and `repr()` of values, float notation, white space and line ends. No evaluation.

use std::fmt::Write as _;

use super::budget::Budget;
use super::fault::Outcome;
use super::text::{Text, Writer};
use super::value::{SeqKind, Value};

/// What `str.strip()` and `str.isspace()` take for white space.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// What `str.splitlines()` takes for the end of a line ("\r\n" counts once).
pub(super) fn is_line_end(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.splitlines(keepends)`.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if !is_line_end(letter) {
            continue;
        }
        let mut end = at + letter.len_utf8();
        if letter == '\r' && letters.peek().is_some_and(|(_, next)| *next == '\n') {
            letters.next();
            end += 1;
        }
        found.push(&text[start..if keep_ends { end } else { at }]);
        start = end;
    }
    if start < text.len() {
        found.push(&text[start..]);
    }
    found
}

/// `str(value)`, paid for.
pub(super) fn to_text(value: &Value, budget: &Budget) -> Outcome<Text> {
    match value {
        Value::Str(text) => {
            budget.bytes(text.cost())?;
            Ok(text.clone())
        }
        Value::Undefined(_) => Ok(Text::template("")),
        Value::Seq(_) | Value::Dict(_) => {
            // A walk costs steps by weight; the text itself is at most a small multiple of what it prints.
            budget.steps(value.weight())?;
            let mut text = Writer::default();
            repr(value, budget, &mut text)?;
            Ok(text.finish())
        }
        scalar => {
            let mut text = Writer::default();
            repr(scalar, budget, &mut text)?;
            Ok(text.finish())
        }
    }
}

/// `repr(value)` appended to `out`.
pub(super) fn repr(value: &Value, budget: &Budget, out: &mut Writer) -> Outcome<()> {
    let before = out.len();
    match value {
        Value::Undefined(_) => out.push("Undefined"),
        Value::None => out.push("None"),
        Value::Bool(flag) => out.push(if *flag { "True" } else { "False" }),
        Value::Int(number) => _ = write!(out.raw(), "{number}"),
        Value::Float(number) => out.push(&float(*number)),
        Value::Str(text) => {
            budget.bytes(text.len().saturating_mul(2))?;
            let start = out.len();
            quote(text, out.raw());
            if text.has_input() {
                out.mark_from(start);
            }
        }
        Value::Seq(seq) => {
            let (open, close) = match seq.kind {
                SeqKind::Tuple => ("(", if seq.items.len() == 1 { ",)" } else { ")" }),
                SeqKind::View => ("dict_items([", "])"),
                SeqKind::List | SeqKind::Iterator => ("[", "]"),
            };
            out.push(open);
            for (place, item) in seq.items.iter().enumerate() {
                out.push(if place == 0 { "" } else { ", " });
                repr(item, budget, out)?;
            }
            out.push(close);
        }
        Value::Dict(dict) => {
            out.push("{");
            for (place, (key, item)) in dict.iter().enumerate() {
                out.push(if place == 0 { "" } else { ", " });
                repr(key, budget, out)?;
                out.push(": ");
                repr(item, budget, out)?;
            }
            out.push("}");
        }
        other => _ = write!(out.raw(), "<{}>", other.type_name()),
    }
    if !matches!(value, Value::Seq(_) | Value::Dict(_)) {
        budget.bytes(out.len() - before)?;
    }
    Ok(())
}

/// `repr(str)`: single quotes unless only those occur in the text.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter == mark => {
                out.push('\\');
                out.push(letter);
            }
            letter if is_printable(letter) => out.push(letter),
            letter => {
                let code = letter as u32;
                _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// `str.isprintable()` for one letter, by the blocks that occur in practice: controls, separators, formats, private use.
fn is_printable(letter: char) -> bool {
    !(letter.is_control()
        || (letter != ' ' && letter.is_whitespace())
        || matches!(letter as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff
            | 0xe0000..=0xe0fff | 0xf0000..))
}

/// `repr(float)`: the shortest digits, in scientific form below 1e-4 and from 1e16.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number < 0.0 { "-inf".into() } else { "inf".into() };
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    let mut plain = format!("{number}");
    if !plain.contains('.') {
        plain.push_str(".0");
    }
    plain
}
