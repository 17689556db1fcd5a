//! Which tokens of a rendered conversation the assistant wrote, for training. The template says it itself with
//! `{% generation %}`; otherwise it is found by comparing renderings with and without the assistant's turn.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::Inner;
use super::conversation::{Conversation, Message, Role};
use super::error::{Error, Result};
use super::template::Rendered;
use crate::tokenizer::Encoding;

/// A letter of the private use area: no answer begins or ends with it.
const SENTINEL: &str = "\u{f8f0}\u{f8f1}";

impl Inner {
    /// The byte ranges that the assistant wrote, end marks of its turns included.
    pub(super) fn answers(&self, conversation: &Conversation, rendered: &Rendered) -> Result<Vec<Range<usize>>> {
        let places = conversation.messages.iter().enumerate();
        let turns = places.filter(|(_, message)| message.role == Role::Assistant);
        if self.template_for(conversation)?.has_generation() {
            return generation_ranges(turns.map(|(_, message)| message), rendered);
        }
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (place, message) in turns {
            if !message.trained {
                continue;
            }
            let found = self.answer(conversation, place, &rendered.text);
            let after = ranges.last().map_or(0, |last| last.end);
            let range = found.filter(|range| range.start < range.end && range.start >= after);
            ranges.push(range.ok_or_else(|| {
                Error::Message {
                    number: place + 1,
                    what:
                        "the template does not show which part of the prompt it becomes, so it cannot be trained on; \
                       give it \"weight\": 0, or a template with {% generation %}"
                            .into(),
                }
            })?);
        }
        Ok(ranges)
    }

    /// The range of one assistant's turn in `whole`.
    fn answer(&self, conversation: &Conversation, place: usize, whole: &str) -> Option<Range<usize>> {
        let part = |turns: usize, add_generation_prompt| {
            let messages = conversation.messages[..turns].to_vec();
            let part = Conversation { messages, add_generation_prompt, ..conversation.clone() };
            self.render_unchecked(&part).ok().map(|rendered| rendered.text)
        };
        // The prompt to which this turn would be the answer, and the whole text up to this turn.
        let before = (place > 0).then(|| part(place, false)).flatten().filter(|before| whole.starts_with(before));
        let asked = before.as_ref().and_then(|_| part(place, true));
        let start = before.zip(asked).and_then(|(before, asked)| {
            let start = common_prefix(whole, &asked);
            // The header of the turn must have been met, or the start would lie before it.
            (start > before.len() || asked.len() == before.len()).then_some(start)
        });
        let until = part(place + 1, false).filter(|until| whole.starts_with(until));
        if let (Some(start), Some(until)) = (start, &until) {
            return Some(start..until.len());
        }
        let replaced = self.replaced(conversation, place, whole)?;
        let end = until.map_or_else(|| replaced.end + self.mark_at(&whole[replaced.end..]), |until| until.len());
        Some(start.unwrap_or(replaced.start)..end)
    }

    /// What changes in `whole` when the turn says something else.
    fn replaced(&self, conversation: &Conversation, place: usize, whole: &str) -> Option<Range<usize>> {
        let mut other = conversation.clone();
        other.messages[place] = Message::new(Role::Assistant, SENTINEL);
        let other = self.render_unchecked(&other).ok()?.text;
        let start = common_prefix(whole, &other);
        let most = whole.len().min(other.len()) - start;
        let pairs = whole.bytes().rev().zip(other.bytes().rev()).take(most);
        let same = pairs.take_while(|(a, b)| a == b).count();
        let mut end = whole.len() - same;
        while !whole.is_char_boundary(end) {
            end += 1;
        }
        (other[start..].starts_with(SENTINEL) || start < end).then_some(start..end)
    }

    /// The length of the end mark at the start of `text`, white space before it included; 0 where there is none.
    fn mark_at(&self, text: &str) -> usize {
        let spaces = text.len() - text.trim_start().len();
        let tokens = self.stop_ids.iter().filter_map(|id| self.tokenizer.as_ref()?.token(*id));
        let lengths = tokens.filter(|mark| text.trim_start().starts_with(mark.as_str())).map(|mark| mark.len());
        lengths.max().map_or(0, |length| spaces + length)
    }

    /// Whether each token is learned from. White space behind the end mark of a turn is the template's.
    pub(super) fn mask(&self, encoding: &Encoding, answers: &[Range<usize>], text: &str) -> Vec<bool> {
        let mut trained = vec![false; encoding.ids.len()];
        let mut first = 0;
        for answer in answers {
            let mut last_end = None;
            let starts = |at: usize| if at == 0 { 0 } else { encoding.ends[at - 1] };
            while first < trained.len() && encoding.ends[first] <= answer.start {
                first += 1;
            }
            let mut at = first;
            while at < trained.len() && starts(at) < answer.end {
                trained[at] = true;
                if self.stop_ids.contains(&encoding.ids[at]) {
                    last_end = Some(at);
                }
                at += 1;
            }
            if let Some(last) = last_end.filter(|last| text[encoding.ends[*last]..answer.end].trim().is_empty()) {
                trained[last + 1..at].fill(false);
            }
            first = at;
        }
        trained
    }
}

/// The ranges of `{% generation %}`, one for each turn; a turn that is not trained on loses its range.
fn generation_ranges<'m>(turns: impl Iterator<Item = &'m Message>, rendered: &Rendered) -> Result<Vec<Range<usize>>> {
    let turns: Vec<bool> = turns.map(|message| message.trained).collect();
    if turns.iter().all(|trained| *trained) {
        return Ok(rendered.generation.clone());
    }
    if turns.len() != rendered.generation.len() {
        let what = "the template marks another number of answers than there are, so single ones cannot be left out";
        return Err(Error::Conversation(what.into()));
    }
    let kept = rendered.generation.iter().zip(turns).filter(|(_, trained)| *trained);
    Ok(kept.map(|(range, _)| range.clone()).collect())
}

fn common_prefix(a: &str, b: &str) -> usize {
    let mut length = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !a.is_char_boundary(length) {
        length -= 1;
    }
    length
}
