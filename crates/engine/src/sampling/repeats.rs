//! The steps that look at earlier tokens: repetition, frequency and presence penalties, banned n-grams, DRY.
//! All take time linear in the context. Tokens of the context outside the vocabulary count for nothing.

use super::row::Row;

/// A number for each of a few tokens of a vocabulary, found by id in constant time; kept between steps.
#[derive(Clone, Debug)]
pub struct Marks {
    value: Vec<u32>,
    tokens: Vec<u32>,
}

impl Marks {
    /// No marks on a vocabulary of `vocabulary` tokens.
    pub fn new(vocabulary: usize) -> Self {
        Self { value: vec![0; vocabulary], tokens: Vec::new() }
    }

    /// Replaces the mark of `token` by `change` of it; the result must not be 0.
    fn mark(&mut self, token: u32, change: impl Fn(u32) -> u32) {
        if let Some(value) = self.value.get_mut(token as usize) {
            if *value == 0 {
                self.tokens.push(token);
            }
            *value = change(*value);
        }
    }

    /// Applies `change` to the logits of marked tokens, with their marks, and removes all marks.
    fn apply(&mut self, row: &mut Row, change: impl Fn(f32, u32) -> f32) {
        match row {
            Row::Whole(logits) => {
                for &token in &self.tokens {
                    let logit = &mut logits[token as usize];
                    if *logit > f32::NEG_INFINITY {
                        *logit = change(*logit, self.value[token as usize]);
                    }
                }
            }
            Row::Kept(list) => {
                for candidate in list.iter_mut() {
                    let mark = self.value[candidate.token as usize];
                    if mark > 0 {
                        candidate.logit = change(candidate.logit, mark);
                    }
                }
                list.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
            }
        }
        self.clear();
    }

    fn clear(&mut self) {
        for token in self.tokens.drain(..) {
            self.value[token as usize] = 0;
        }
    }

    fn count(&mut self, context: &[u32]) {
        for &token in context {
            self.mark(token, |count| count.saturating_add(1));
        }
    }
}

/// Divides positive and multiplies negative logits of tokens in `context` by `penalty` (Keskar et al., 2019).
pub fn repetition_penalty(row: &mut Row, context: &[u32], penalty: f64, marks: &mut Marks) {
    let penalty = penalty as f32;
    marks.count(context);
    marks.apply(row, |logit, _| {
        let changed = if logit < 0.0 { logit * penalty } else { logit / penalty };
        changed.clamp(f32::MIN, f32::MAX)
    });
}

/// Takes `penalty` times a token's count in `context` from its logit.
pub fn frequency_penalty(row: &mut Row, context: &[u32], penalty: f64, marks: &mut Marks) {
    marks.count(context);
    marks.apply(row, |logit, count| logit - (penalty * f64::from(count)) as f32);
}

/// Takes `penalty` from the logits of tokens in `context`.
pub fn presence_penalty(row: &mut Row, context: &[u32], penalty: f64, marks: &mut Marks) {
    marks.count(context);
    marks.apply(row, |logit, _| logit - penalty as f32);
}

/// Forbids each token that would repeat a run of `size` tokens of `context`.
pub fn no_repeat_ngram(row: &mut Row, context: &[u32], size: usize, marks: &mut Marks) {
    debug_assert!(size > 0);
    let Some(start) = (context.len() + 1).checked_sub(size) else { return };
    let tail = &context[start..];
    for run in context.windows(size) {
        if run[..size - 1] == *tail {
            marks.mark(run[size - 1], |_| 1);
        }
    }
    marks.apply(row, |_, _| f32::NEG_INFINITY);
}

/// The figures of the DRY penalty.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// Size of the penalty at the shortest penalized repetition.
    pub multiplier: f64,
    /// Growth for each further repeated token.
    pub base: f64,
    /// Repetitions shorter than this are free.
    pub allowed_length: u32,
    /// Tokens that end a repetition.
    pub breakers: Vec<u32>,
}

/// "Don't repeat yourself": a token that would extend a repetition of length L of the context's end loses
/// `multiplier * base^(L - allowed_length)`.
pub fn dry(row: &mut Row, context: &[u32], dry: &Dry, marks: &mut Marks) {
    let is_breaker = |token: &u32| dry.breakers.contains(token);
    let reach = context.iter().rev().take_while(|token| !is_breaker(token)).count() as u32;
    let backwards: Vec<u32> = context.iter().rev().copied().collect();
    for (place, length) in prefix_lengths(&backwards).into_iter().enumerate().skip(1) {
        let length = length.min(reach);
        // `place` tokens before the last one the same run ended, and this token followed it.
        let next = backwards[place - 1];
        if length >= dry.allowed_length && length > 0 && !is_breaker(&next) {
            marks.mark(next, |longest| longest.max(length));
        }
    }
    marks.apply(row, |logit, length| logit - dry_penalty(dry, length));
}

fn dry_penalty(dry: &Dry, length: u32) -> f32 {
    let power = i32::try_from(length - dry.allowed_length).unwrap_or(i32::MAX);
    // A long repetition overflows any base: large and finite is all that matters.
    (dry.multiplier * dry.base.powi(power)).min(1e30) as f32
}

/// For each place the length of the longest run from there that equals the start of `text` (the Z function).
fn prefix_lengths(text: &[u32]) -> Vec<u32> {
    let mut lengths = vec![0_u32; text.len()];
    let (mut left, mut right) = (0, 0);
    for place in 1..text.len() {
        let mut length = if place < right { (lengths[place - left] as usize).min(right - place) } else { 0 };
        while place + length < text.len() && text[length] == text[place + length] {
            length += 1;
        }
        if place + length > right {
            (left, right) = (place, place + length);
        }
        lengths[place] = length as u32;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits after the step on eight zeros, once over the whole row and once over a list of its tokens.
    fn check(wanted: &[(u32, f32)], step: impl Fn(&mut Row, &mut Marks)) {
        let mut logits = [0.0_f32; 8];
        let mut list = Row::Whole(&mut logits.clone());
        list.retain(|_| true);
        for row in [&mut Row::Whole(&mut logits), &mut list] {
            let mut marks = Marks::new(8);
            step(row, &mut marks);
            assert!(marks.tokens.is_empty() && marks.value.iter().all(|&v| v == 0), "marks are left");
            let mut changed = Vec::new();
            let mut seen = [false; 8];
            row.visit(|c| {
                seen[c.token as usize] = true;
                if c.logit != 0.0 {
                    changed.push((c.token, c.logit));
                }
            });
            changed.extend((0..8).filter(|&t| !seen[t as usize]).map(|t| (t, f32::NEG_INFINITY)));
            changed.sort_by_key(|c| c.0);
            assert_eq!(changed, wanted);
        }
    }

    fn plain(multiplier: f64, breakers: &[u32]) -> Dry {
        Dry { multiplier, base: 2.0, allowed_length: 2, breakers: breakers.to_vec() }
    }

    #[test]
    fn dry_grows_with_the_length_of_the_repetition() {
        // The end "1 2" came once before, followed by 3: length 2 is the shortest that counts.
        check(&[(3, -0.5)], |row, marks| dry(row, &[1, 2, 3, 4, 1, 2], &plain(0.5, &[]), marks));
        // "0 1 2" repeats: one token longer, twice the penalty.
        check(&[(3, -1.0)], |row, marks| dry(row, &[0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[]), marks));
        // The longest repetition of each next token counts.
        check(&[(3, -1.0), (4, -0.5)], |row, marks| {
            dry(row, &[5, 1, 2, 4, 0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[]), marks);
        });
        check(&[], |row, marks| dry(row, &[2, 3, 4, 1, 2], &plain(0.5, &[]), marks));
        check(&[], |row, marks| dry(row, &[], &plain(0.5, &[]), marks));
    }

    #[test]
    fn dry_stops_at_breakers() {
        check(&[(3, -0.5)], |row, marks| dry(row, &[0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[0]), marks));
        check(&[], |row, marks| dry(row, &[0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[1]), marks));
        check(&[], |row, marks| dry(row, &[0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[2]), marks));
        check(&[], |row, marks| dry(row, &[0, 1, 2, 3, 0, 1, 2], &plain(0.5, &[3]), marks));
    }

    #[test]
    fn dry_stays_finite_on_a_long_repetition() {
        let context: Vec<u32> = vec![1; 5000];
        check(&[(1, -1e30)], |row, marks| dry(row, &context, &plain(0.5, &[]), marks));
    }

    #[test]
    fn banned_runs_are_found_at_every_size() {
        let context = [1, 2, 3, 1, 2];
        let inf = f32::NEG_INFINITY;
        check(&[(1, inf), (2, inf), (3, inf)], |row, marks| no_repeat_ngram(row, &context, 1, marks));
        check(&[(3, inf)], |row, marks| no_repeat_ngram(row, &context, 2, marks));
        check(&[(3, inf)], |row, marks| no_repeat_ngram(row, &context, 3, marks));
        check(&[], |row, marks| no_repeat_ngram(row, &context, 4, marks));
        check(&[], |row, marks| no_repeat_ngram(row, &context, 9, marks));
        check(&[], |row, marks| no_repeat_ngram(row, &[], 2, marks));
    }

    #[test]
    fn penalties_count_and_ignore_ids_outside_the_vocabulary() {
        let context = [1, 1, 6, 900];
        check(&[(1, -1.0), (6, -0.5)], |row, marks| frequency_penalty(row, &context, 0.5, marks));
        check(&[(1, -0.5), (6, -0.5)], |row, marks| presence_penalty(row, &context, 0.5, marks));
    }

    #[test]
    fn prefix_lengths_equal_the_plain_count() {
        for text in [&[1, 1, 1, 1][..], &[1, 2, 1, 2, 1], &[1, 2, 3], &[], &[1, 1, 2, 1, 1, 2, 1, 1, 1]] {
            let plain: Vec<u32> = (0..text.len())
                .map(
                    |i| if i == 0 { 0 } else { text.iter().zip(&text[i..]).take_while(|(a, b)| a == b).count() as u32 },
                )
                .collect();
            assert_eq!(prefix_lengths(text), plain);
        }
    }
}
