//! Which layout a row has: by its fields, or by what the user says. Known: OpenAI messages, ShareGPT, Alpaca, prompt and
//! completion, preferences, judged answers, text, token ids. Where several fit, none is chosen.
#![forbid(unsafe_code)]

use serde_json::{Map, Value};

use super::layout::Layout;
use crate::error::quoted;

/// A layout with the fields that make it, and further ones that it uses.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) layout: Layout,
    pub(super) makes: &'static [&'static str],
    pub(super) uses: &'static [&'static str],
}

const fn shape_of(layout: Layout, makes: &'static [&'static str], uses: &'static [&'static str]) -> Shape {
    Shape { layout, makes, uses }
}

const SHAPES: [Shape; 9] = [
    shape_of(Layout::Chat, &["messages"], &["tools"]),
    shape_of(Layout::ShareGpt, &["conversations"], &["system", "tools"]),
    shape_of(Layout::Preference, &["chosen"], &["prompt", "rejected"]),
    shape_of(Layout::Preference, &["rejected"], &["prompt", "chosen"]),
    shape_of(Layout::Pair, &["prompt", "completion"], &[]),
    shape_of(Layout::Judged, &["prompt", "completion", "label"], &[]),
    shape_of(Layout::Alpaca, &["instruction", "output"], &["input", "system"]),
    shape_of(Layout::Tokens, &["input_ids"], &["labels", "attention_mask"]),
    shape_of(Layout::Text, &["text"], &[]),
];

/// Fields that are looked at in every layout.
const EVERYWHERE: [&str; 5] = ["weight", "image", "images", "audio", "video"];

const KINDS: [(Layout, &str); 8] = [
    (Layout::Chat, "chat"),
    (Layout::ShareGpt, "sharegpt"),
    (Layout::Alpaca, "alpaca"),
    (Layout::Pair, "pair"),
    (Layout::Preference, "preference"),
    (Layout::Judged, "judged"),
    (Layout::Text, "text"),
    (Layout::Tokens, "tokens"),
];

impl Layout {
    /// The word by which a user asks for the layout.
    pub fn kind(self) -> &'static str {
        KINDS.iter().find(|(layout, _)| *layout == self).map_or("text", |(_, word)| word)
    }

    /// The layout of a word.
    pub fn of_kind(word: &str) -> Option<Layout> {
        KINDS.iter().find(|(_, known)| *known == word).map(|(layout, _)| *layout)
    }

    /// All words by which layouts are asked for.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(_, word)| *word)
    }

    /// The fields by which rows of this layout are told from others.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Layout::Preference => &["chosen", "rejected"],
            other => SHAPES.iter().find(|shape| shape.layout == other).map_or(&[], |shape| shape.makes),
        }
    }
}

/// Whether any layout looks at a field.
pub(super) fn is_known(field: &str) -> bool {
    EVERYWHERE.contains(&field)
        || SHAPES.iter().any(|shape| shape.makes.contains(&field) || shape.uses.contains(&field))
}

/// Whether an answer is wanted, where the value says so.
pub(super) fn label(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(label) => Some(*label),
        // CSV has texts alone.
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The layout of a row; the error says what was found, and what to do where several layouts fit.
pub(super) fn shape(row: &Map<String, Value>, asked: Option<Layout>) -> Result<Shape, String> {
    let has = |shape: &&Shape| shape.makes.iter().all(|name| row.contains_key(*name));
    if let Some(asked) = asked {
        let found = SHAPES.iter().filter(|shape| shape.layout == asked).find(has);
        return found.copied().ok_or_else(|| {
            format!("it has not the fields of --kind {}: {}", asked.kind(), listed(asked.fields(), "and"))
        });
    }
    let mut fit: Vec<&Shape> = Vec::new();
    for shape in SHAPES.iter().filter(has) {
        if !fit.iter().any(|known| known.layout == shape.layout) {
            fit.push(shape);
        }
    }
    // A label that is true or false makes a judged answer of a completion; another label is some column.
    if fit.iter().any(|shape| shape.layout == Layout::Judged) {
        let other = if label(&row["label"]).is_some() { Layout::Pair } else { Layout::Judged };
        fit.retain(|shape| shape.layout != other);
    }
    if fit.len() > 1 {
        // A field that is there and empty is none, as columns of tables have it.
        let full = |shape: &Shape| shape.makes.iter().all(|name| !row[*name].is_null());
        let filled: Vec<&Shape> = fit.iter().copied().filter(|shape| full(shape)).collect();
        fit = if filled.is_empty() { fit } else { filled };
    }
    match fit.as_slice() {
        [one] => Ok(**one),
        [] => {
            let names: Vec<String> = row.keys().take(8).map(|name| quoted(name)).collect();
            Err(format!(
                "no known layout has the fields {}; expected \"messages\", \"conversations\", \"instruction\" and \
                 \"output\", \"prompt\" and \"completion\", \"chosen\" and \"rejected\", \"text\" or \"input_ids\"",
                names.join(", ")
            ))
        }
        several => {
            let read = |shape: &&Shape| format!("--kind {} ({})", shape.layout.kind(), listed(shape.makes, "and"));
            let ways: Vec<String> = several.iter().map(read).collect();
            Err(format!("it can be read in {} ways; choose one: {}", ways.len(), ways.join(" or ")))
        }
    }
}

fn listed(names: &[&str], last: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        Some((end, start)) if !start.is_empty() => format!("{} {last} {end}", start.join(", ")),
        _ => quoted.concat(),
    }
}
