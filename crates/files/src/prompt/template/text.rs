//! Text that remembers which of its bytes came from the inputs. A mark such as `<|im_end|>` is a control token where
//! the template wrote it and plain text where a user did; so every operation here carries the provenance along.

use std::borrow::Borrow;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// A text; cheap to clone, never changed.
#[derive(Clone, Debug)]
pub(super) struct Text {
    text: Rc<str>,
    origin: Origin,
    /// Marked by the `safe` filter: `+` escapes the text beside it, as in the reference.
    safe: bool,
}

/// Where the bytes of a text came from.
#[derive(Clone, Debug)]
enum Origin {
    Template,
    Input,
    /// Ascending, disjoint ranges that came from the inputs.
    Mixed(Rc<[Range<usize>]>),
}

/// What one range costs beside its bytes.
const RANGE_BYTES: usize = size_of::<Range<usize>>();

impl Text {
    /// Text of the template's own.
    pub(super) fn template(text: impl AsRef<str>) -> Self {
        Self { text: Rc::from(text.as_ref()), origin: Origin::Template, safe: false }
    }

    /// Text from the inputs.
    pub(super) fn input(text: impl AsRef<str>) -> Self {
        Self { text: Rc::from(text.as_ref()), origin: Origin::Input, safe: false }
    }

    /// Text from the inputs that an assistant wrote: it opens and closes its own thoughts and calls, and nothing else.
    pub(super) fn answer(text: &str) -> Self {
        const OWN: [&str; 4] = ["<think>", "</think>", "<tool_call>", "</tool_call>"];
        let mut writer = Writer::default();
        let input = Self::input(text);
        let mut done = 0;
        for (at, _) in text.match_indices('<') {
            if let Some(mark) = OWN.into_iter().find(|mark| text[at..].starts_with(mark)) {
                writer.push_part(&input, done..at);
                writer.push(mark);
                done = at + mark.len();
            }
        }
        writer.push_part(&input, done..text.len());
        writer.finish()
    }

    /// Text made out of this one as a whole (upper case, say): input if any of it was.
    pub(super) fn derived(&self, text: impl AsRef<str>) -> Self {
        let derived = if self.has_input() { Self::input(text) } else { Self::template(text) };
        Self { safe: self.safe, ..derived }
    }

    /// This text, marked as safe.
    pub(super) fn marked_safe(self) -> Self {
        Self { safe: true, ..self }
    }

    pub(super) fn is_safe(&self) -> bool {
        self.safe
    }

    pub(super) fn has_input(&self) -> bool {
        !matches!(self.origin, Origin::Template)
    }

    pub(super) fn shared(&self) -> Rc<str> {
        Rc::clone(&self.text)
    }

    /// Bytes that a copy takes.
    pub(super) fn cost(&self) -> usize {
        match &self.origin {
            Origin::Mixed(ranges) => self.text.len() + ranges.len() * RANGE_BYTES,
            _ => self.text.len(),
        }
    }

    /// The part `range` of this text.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        let mut writer = Writer::default();
        writer.push_part(self, range);
        Self { safe: self.safe, ..writer.finish() }
    }

    /// The text with the letters that HTML gives a meaning replaced.
    pub(super) fn escaped(&self) -> Self {
        let mut writer = Writer::default();
        for (at, letter) in self.char_indices() {
            let entity = match letter {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '\'' => "&#39;",
                '"' => "&#34;",
                _ => {
                    writer.push_part(self, at..at + letter.len_utf8());
                    continue;
                }
            };
            let start = writer.len();
            writer.push(entity);
            if self.part(at..at + 1).has_input() {
                writer.mark_from(start);
            }
        }
        writer.finish().marked_safe()
    }

    /// The text for `part`, which is a slice of this very text.
    pub(super) fn slice_of(&self, part: &str) -> Self {
        self.part(self.range_of(part))
    }

    /// Where `part`, a slice of this very text, stands in it.
    pub(super) fn range_of(&self, part: &str) -> Range<usize> {
        let start = part.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        let range = start..start.wrapping_add(part.len());
        assert!(range.start <= range.end && range.end <= self.text.len(), "the part is not of this text");
        range
    }

    /// The ranges within `part` that came from the inputs, relative to the whole text.
    fn input_within(&self, part: Range<usize>) -> Vec<Range<usize>> {
        match &self.origin {
            Origin::Template => Vec::new(),
            Origin::Input => vec![part],
            Origin::Mixed(ranges) => {
                let first = ranges.partition_point(|range| range.end <= part.start);
                ranges[first..]
                    .iter()
                    .take_while(|range| range.start < part.end)
                    .map(|range| range.start.max(part.start)..range.end.min(part.end))
                    .collect()
            }
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.text
    }
}

/// A text being put together.
#[derive(Debug, Default)]
pub(super) struct Writer {
    text: String,
    input: Vec<Range<usize>>,
}

impl Writer {
    /// Adds text of the template's own.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds a text with its provenance.
    pub(super) fn push_text(&mut self, text: &Text) {
        self.push_part(text, 0..text.len());
    }

    /// Adds a part of a text with its provenance.
    pub(super) fn push_part(&mut self, text: &Text, part: Range<usize>) {
        let (start, offset) = (self.text.len(), part.start);
        for range in text.input_within(part.clone()) {
            self.add_range(start + range.start - offset..start + range.end - offset);
        }
        self.text.push_str(&text.text[part]);
    }

    /// The plain string, for writing what is the template's own.
    pub(super) fn raw(&mut self) -> &mut String {
        &mut self.text
    }

    /// Says that all that was written since `start` came from the inputs.
    pub(super) fn mark_from(&mut self, start: usize) {
        self.add_range(start..self.text.len());
    }

    fn add_range(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.input.last_mut() {
            Some(last) if last.end >= range.start => last.end = range.end.max(last.end),
            _ => self.input.push(range),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The text.
    pub(super) fn finish(self) -> Text {
        let origin = match self.input.as_slice() {
            [] => Origin::Template,
            [only] if only.len() == self.text.len() => Origin::Input,
            _ => Origin::Mixed(self.input.into()),
        };
        Text { text: self.text.into(), origin, safe: false }
    }

    /// The string and the ranges of it that came from the inputs.
    pub(super) fn into_parts(self) -> (String, Vec<Range<usize>>) {
        (self.text, self.input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed() -> Text {
        let mut writer = Writer::default();
        writer.push("<|user|>");
        writer.push_text(&Text::input(" hi <|end|> "));
        writer.push("<|end|>");
        writer.finish()
    }

    fn marked(text: &Text) -> Vec<&str> {
        text.input_within(0..text.len()).into_iter().map(|range| &text[range]).collect()
    }

    #[test]
    fn a_part_keeps_what_was_input() {
        let text = mixed();
        assert_eq!(marked(&text), [" hi <|end|> "]);
        assert_eq!(marked(&text.part(0..12)), [" hi "]);
        assert_eq!(marked(&text.part(9..11)), ["hi"]);
        assert_eq!(marked(&text.part(0..8)), [""; 0]);
        assert_eq!(marked(&text.slice_of(text.trim_end_matches("<|end|>"))), [" hi <|end|> "]);
    }

    #[test]
    fn an_answer_may_think_and_call_but_not_end_its_turn() {
        let text = Text::answer("<think>a</think>b<|im_end|>");
        assert_eq!(marked(&text), ["a", "b<|im_end|>"]);
    }

    #[test]
    fn neighbors_join() {
        let mut writer = Writer::default();
        writer.push_text(&Text::input("a"));
        writer.push_text(&Text::input("b"));
        writer.push("c");
        assert_eq!(writer.into_parts().1.first(), Some(&(0..2)));
    }
}
