//! Added tokens: texts that become one id before the model sees the rest, and the marks among them that control a
//! model. What a user writes must not become such a mark; `Specials` and the ranges of `encode_marked` see to that.

use std::collections::HashMap;
use std::ops::Range;

use super::error::{Result, invalid, quoted};
use super::vocabulary::{IDS_MAX, TOKEN_BYTES_MAX};

/// Added tokens in published files number at most some thousands.
const ADDED_MAX: usize = 1 << 17;

/// One added token, as tokenizer.json lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) content: String,
    /// A control token: left out of decoded text when marks are hidden.
    pub(super) special: bool,
    /// Matched in the normalized text instead of the raw one.
    pub(super) normalized: bool,
    /// Only where no word character touches it.
    pub(super) single_word: bool,
    /// Swallows white space before it.
    pub(super) left_strip: bool,
    /// Swallows white space after it.
    pub(super) right_strip: bool,
}

impl Added {
    pub(super) fn control(id: u32, content: impl Into<String>) -> Self {
        Added { id, content: content.into(), special: true, ..Added::default() }
    }

    pub(super) fn text(id: u32, content: impl Into<String>) -> Self {
        Added { id, content: content.into(), ..Added::default() }
    }

    /// Whether users' text must not become this token: every special token, and the marks of turns, thoughts and
    /// tools that some files list as ordinary added tokens.
    pub(super) fn is_mark(&self) -> bool {
        const BARS: [char; 2] = ['|', '｜'];
        const MARKS: [&str; 8] = [
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "<tool_response>",
            "</tool_response>",
            "<tools>",
            "</tools>",
        ];
        let text = self.content.trim();
        self.special
            || MARKS.contains(&text)
            || (text.len() > 3
                && text.starts_with('<')
                && text.ends_with('>')
                && (text[1..].starts_with(BARS) || text[..text.len() - 1].ends_with(BARS))
                && !text.contains(char::is_whitespace))
            || matches!(text, "<s>" | "</s>" | "<unk>" | "<pad>" | "<bos>" | "<eos>")
    }
}

#[derive(Clone, Default)]
struct Node {
    /// Sorted by byte.
    children: Vec<(u8, u32)>,
    /// Of a text that ends here.
    value: Option<u32>,
}

/// Byte trie over texts; finds the longest that starts a slice.
#[derive(Clone, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    first: Vec<bool>,
}

impl Trie {
    pub(super) fn insert(&mut self, text: &[u8], value: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
            self.first = vec![false; 256];
        }
        let Some(&first) = text.first() else { return };
        self.first[first as usize] = true;
        let mut node = 0;
        for &byte in text {
            node = match self.nodes[node].children.binary_search_by_key(&byte, |child| child.0) {
                Ok(at) => self.nodes[node].children[at].1 as usize,
                Err(at) => {
                    let child = self.nodes.len();
                    self.nodes[node].children.insert(at, (byte, child as u32));
                    self.nodes.push(Node::default());
                    child
                }
            };
        }
        self.nodes[node].value.get_or_insert(value);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether a text starts with this byte.
    pub(super) fn starts_with(&self, byte: u8) -> bool {
        self.first.get(byte as usize).copied().unwrap_or(false)
    }

    /// Length and value of the longest text that `bytes` starts with.
    pub(super) fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        if !self.starts_with(*bytes.first()?) {
            return None;
        }
        let mut found = None;
        let mut node = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let Ok(child) = self.nodes[node].children.binary_search_by_key(byte, |child| child.0) else { break };
            node = self.nodes[node].children[child].1 as usize;
            if let Some(value) = self.nodes[node].value {
                found = Some((at + 1, value));
            }
        }
        found
    }
}

/// All added tokens of a tokenizer.
#[derive(Clone, Default)]
pub(super) struct AddedTokens {
    list: Vec<Added>,
    by_id: HashMap<u32, u32>,
    by_content: HashMap<String, u32>,
    raw: Trie,
    normalized: Trie,
}

/// A stretch of text: still text, or an added token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Text for the model; the offset of its first byte in the text that was split.
    Text(&'a str, usize),
    /// An added token and the offset of what follows it.
    Token(u32, usize),
}

/// In which text a match is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Raw,
    Normalized,
}

impl AddedTokens {
    /// Adds a token; a second entry with the same text keeps the first one's id only if they agree.
    pub(super) fn push(&mut self, added: Added) -> Result<()> {
        let shown = quoted(&added.content);
        if added.content.is_empty() || added.content.len() > TOKEN_BYTES_MAX {
            let wanted = format!("1 to {TOKEN_BYTES_MAX} bytes");
            return Err(invalid(
                format!("added token {}", added.id),
                format!("{} bytes long", added.content.len()),
                wanted,
            ));
        }
        if added.id >= IDS_MAX || self.list.len() >= ADDED_MAX {
            return Err(invalid(
                format!("the id of added token {shown}"),
                added.id.to_string(),
                format!("less than {IDS_MAX}"),
            ));
        }
        if let Some(&former) = self.by_content.get(&added.content) {
            let former = &mut self.list[former as usize];
            if former.id != added.id {
                let found = format!("listed with the ids {} and {}", former.id, added.id);
                return Err(invalid(format!("added token {shown}"), found, "one id"));
            }
            *former = added;
            return Ok(());
        }
        if let Some(&former) = self.by_id.get(&added.id) {
            let found = format!("given to {} and {shown}", quoted(&self.list[former as usize].content));
            return Err(invalid(format!("added token id {}", added.id), found, "one text"));
        }
        let place = self.list.len() as u32;
        self.by_id.insert(added.id, place);
        self.by_content.insert(added.content.clone(), place);
        self.list.push(added);
        Ok(())
    }

    /// Gives an id to a token, whatever had it before. A text that is there under another id keeps that one.
    pub(super) fn replace(&mut self, added: Added) -> Result<()> {
        if self.by_content.get(&added.content).is_some_and(|&place| self.list[place as usize].id != added.id) {
            return Ok(());
        }
        let Some(&place) = self.by_id.get(&added.id) else { return self.push(added) };
        let former = std::mem::replace(&mut self.list[place as usize], added);
        self.by_content.remove(&former.content);
        self.by_content.insert(self.list[place as usize].content.clone(), place);
        Ok(())
    }

    /// Builds the tries. `normalize` is applied to the tokens that are matched in normalized text.
    pub(super) fn build(&mut self, mut normalize: impl FnMut(&str) -> Result<String>) -> Result<()> {
        for (place, added) in self.list.iter().enumerate() {
            if added.normalized {
                let text = normalize(&added.content)?;
                // A text that normalizes to nothing would match everywhere.
                self.normalized.insert(text.as_bytes(), place as u32);
            } else {
                self.raw.insert(added.content.as_bytes(), place as u32);
            }
        }
        Ok(())
    }

    /// Whether some tokens are looked for in normalized text.
    pub(super) fn has_normalized(&self) -> bool {
        !self.normalized.is_empty()
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Added> {
        self.by_id.get(&id).map(|&place| &self.list[place as usize])
    }

    pub(super) fn by_content(&self, content: &str) -> Option<&Added> {
        self.by_content.get(content).map(|&place| &self.list[place as usize])
    }

    /// Lets the tokens that `which` picks swallow white space after them.
    pub(super) fn strip_right(&mut self, which: impl Fn(&Added) -> bool) {
        self.list.iter_mut().filter(|added| which(added)).for_each(|added| added.right_strip = true);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Added> {
        self.list.iter()
    }

    /// Splits `text` at added tokens. `allowed` says whether a mark may stand at a range of `text`.
    pub(super) fn split<'a>(
        &self,
        text: &'a str,
        stage: Stage,
        allowed: impl Fn(Range<usize>) -> bool,
        mut each: impl FnMut(Part<'a>) -> Result<()>,
    ) -> Result<()> {
        let trie = if stage == Stage::Raw { &self.raw } else { &self.normalized };
        let (mut done, mut at) = (0, 0);
        while !trie.is_empty() && at < text.len() {
            if !trie.starts_with(text.as_bytes()[at]) {
                at += 1;
                continue;
            }
            let Some((len, place)) = trie.longest(&text.as_bytes()[at..]) else {
                at += 1;
                continue;
            };
            let added = &self.list[place as usize];
            let end = at + len;
            if (added.is_mark() && !allowed(at..end)) || (added.single_word && touches_word(text, at, end)) {
                // The reference looks on behind a match that it refuses.
                at = if added.is_mark() { at + 1 } else { end };
                continue;
            }
            let start = if added.left_strip { done + text[done..at].trim_end().len() } else { at };
            let stop = if added.right_strip { text.len() - text[end..].trim_start().len() } else { end };
            if start > done {
                each(Part::Text(&text[done..start], done))?;
            }
            each(Part::Token(added.id, stop))?;
            (done, at) = (stop, stop);
        }
        if done < text.len() {
            each(Part::Text(&text[done..], done))?;
        }
        Ok(())
    }
}

fn touches_word(text: &str, start: usize, end: usize) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    text[..start].chars().next_back().is_some_and(is_word) || text[end..].chars().next().is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &[Added], text: &str, marks: bool, expect: &[Part<'_>]) {
        let mut added = AddedTokens::default();
        for token in tokens {
            added.push(token.clone()).unwrap();
        }
        added.build(|text| Ok(text.to_owned())).unwrap();
        let mut parts = Vec::new();
        added
            .split(
                text,
                Stage::Raw,
                |_| marks,
                |part| {
                    parts.push(part);
                    Ok(())
                },
            )
            .unwrap();
        assert_eq!(parts, expect, "{text:?}");
    }

    #[test]
    fn the_longest_added_token_is_taken_and_marks_only_where_allowed() {
        let tokens = [Added::control(9, "<|end|>"), Added::text(1, "  "), Added::text(2, "   ")];
        check(&tokens, "a   b", false, &[Part::Text("a", 0), Part::Token(2, 4), Part::Text("b", 4)]);
        check(&tokens, "a<|end|>", true, &[Part::Text("a", 0), Part::Token(9, 8)]);
        check(&tokens, "a<|end|>", false, &[Part::Text("a<|end|>", 0)]);
        let strip = [Added { right_strip: true, left_strip: true, ..Added::control(3, "<s>") }];
        check(&strip, "a <s>  b", true, &[Part::Text("a", 0), Part::Token(3, 7), Part::Text("b", 7)]);
        let word = [Added { single_word: true, ..Added::text(4, "cat") }];
        check(&word, "cats cat", true, &[Part::Text("cats ", 0), Part::Token(4, 8)]);
    }
}
