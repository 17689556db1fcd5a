//! Runs a compiled pattern over a text. The stack of choices is a list, so that no text is too long for it.

use std::ops::Range;

use super::super::error::{Error, Result};
use super::{Class, Op, Pattern};

/// Real patterns take fewer than ten steps for a byte.
const STEPS_A_BYTE: u64 = 128;
const STEPS_FREE: u64 = 20_000;

/// A choice to come back to.
#[derive(Clone, Copy)]
enum Choice {
    /// Goes on with an instruction at a place.
    At { op: u32, at: usize },
    /// Gives back one character of a repetition, down to `low`.
    Shorter { op: u32, low: usize, at: usize },
}

struct Machine<'a> {
    pattern: &'a Pattern,
    text: &'a str,
    steps: u64,
    choices: Vec<Choice>,
}

impl Pattern {
    /// Calls `each` with the matches from left to right; they do not overlap.
    pub(in super::super) fn each_match(&self, text: &str, mut each: impl FnMut(Range<usize>)) -> Result<()> {
        let steps = STEPS_FREE + STEPS_A_BYTE * text.len() as u64;
        let mut machine = Machine { pattern: self, text, steps, choices: Vec::new() };
        let (mut at, mut last) = (0, None);
        while at <= text.len() {
            let end = machine.match_at(0, at)?;
            // An empty match right behind the last one is not reported.
            if let Some(end) = end
                && (end > at || last != Some(at))
            {
                each(at..end);
                last = Some(end);
                if end > at {
                    at = end;
                    continue;
                }
            }
            match text[at..].chars().next() {
                Some(character) => at += character.len_utf8(),
                None => break,
            }
        }
        Ok(())
    }
}

impl Machine<'_> {
    /// The end of the match that starts at `at` with instruction `op`.
    fn match_at(&mut self, op: u32, at: usize) -> Result<Option<usize>> {
        let floor = self.choices.len();
        let (mut op, mut at) = (op, at);
        loop {
            self.steps = self.steps.checked_sub(1).ok_or(Error::TooManySteps)?;
            let next = match self.pattern.ops[op as usize] {
                Op::Done => {
                    self.choices.truncate(floor);
                    return Ok(Some(at));
                }
                Op::One(class) => self.one(class, at).map(|at| (op + 1, at)),
                Op::Many { class, least, most, gives_back } => {
                    self.many(op, at, class, least, most, gives_back)?.map(|at| (op + 1, at))
                }
                Op::Fork { first, second } => {
                    self.choices.push(Choice::At { op: second, at });
                    Some((first, at))
                }
                Op::Jump(to) => Some((to, at)),
                Op::Ahead { wanted, end } => {
                    let found = self.match_at(op + 1, at)?.is_some();
                    (found == wanted).then_some((end, at))
                }
                Op::Behind { wanted, class } => {
                    let before = self.text[..at].chars().next_back();
                    let found = before.is_some_and(|character| self.class(class).contains(character));
                    (found == wanted).then_some((op + 1, at))
                }
                Op::Start => (at == 0).then_some((op + 1, at)),
                Op::End => (at == self.text.len()).then_some((op + 1, at)),
            };
            match next.or_else(|| self.back(floor)) {
                Some(place) => (op, at) = place,
                None => return Ok(None),
            }
        }
    }

    fn class(&self, class: u16) -> &Class {
        &self.pattern.classes[class as usize]
    }

    fn one(&self, class: u16, at: usize) -> Option<usize> {
        let character = self.text[at..].chars().next()?;
        self.class(class).contains(character).then(|| at + character.len_utf8())
    }

    fn many(
        &mut self,
        op: u32,
        start: usize,
        class: u16,
        least: u32,
        most: u32,
        gives_back: bool,
    ) -> Result<Option<usize>> {
        let (mut at, mut count, mut low) = (start, 0, start);
        while count < most {
            let Some(end) = self.one(class, at) else { break };
            at = end;
            count += 1;
            if count == least {
                low = at;
            }
        }
        self.steps = self.steps.checked_sub(count.into()).ok_or(Error::TooManySteps)?;
        if count < least {
            return Ok(None);
        }
        if gives_back && at > low {
            self.choices.push(Choice::Shorter { op: op + 1, low, at });
        }
        Ok(Some(at))
    }

    /// The latest choice above `floor`.
    fn back(&mut self, floor: usize) -> Option<(u32, usize)> {
        if self.choices.len() <= floor {
            return None;
        }
        match self.choices.pop()? {
            Choice::At { op, at } => Some((op, at)),
            Choice::Shorter { op, low, at } => {
                let shorter = at - self.text[..at].chars().next_back().map_or(1, char::len_utf8);
                if shorter > low {
                    self.choices.push(Choice::Shorter { op, low, at: shorter });
                }
                Some((op, shorter))
            }
        }
    }
}
