//! One row of logits while it is being narrowed: the whole vocabulary, then only the tokens that are left.
//! The steps that change it are in `steps.rs` and `repeats.rs`.
//! Invariant: tokens stay in ascending order, and a forbidden token is -inf or absent.

use super::math::{exp, ln, weight_sum};
use super::random::Random;

/// A token that may still be chosen, with its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Token id.
    pub token: u32,
    /// Its logit after the steps so far; finite.
    pub logit: f32,
}

/// The tokens that may still be chosen.
#[derive(Debug, PartialEq)]
pub enum Row<'a> {
    /// Every token of the vocabulary, logit by id; -inf where forbidden.
    Whole(&'a mut [f32]),
    /// The tokens that are left, ids ascending.
    Kept(Vec<Candidate>),
}

/// Tokens per block when a token is drawn from a whole row: one block is walked again, not the row.
const DRAW_BLOCK: usize = 1024;

/// Softmax figures of a row.
#[derive(Clone, Copy, Debug)]
pub struct Mass {
    /// The largest logit.
    pub largest: f32,
    /// Sum of e^(logit - largest).
    pub total: f64,
}

impl Mass {
    /// e^(logit - largest): the probability times `total`.
    pub fn weight(&self, logit: f32) -> f32 {
        exp(logit - self.largest)
    }

    /// The logit at which the probability is `probability`.
    pub fn logit_of(&self, probability: f64) -> f64 {
        f64::from(self.largest) + ln(self.total) + ln(probability)
    }
}

impl Row<'_> {
    /// Calls `visit` for every token that is left, ids ascending.
    pub fn visit(&self, mut visit: impl FnMut(Candidate)) {
        match self {
            Row::Whole(logits) => {
                for (token, &logit) in logits.iter().enumerate() {
                    if logit > f32::NEG_INFINITY {
                        visit(Candidate { token: token as u32, logit });
                    }
                }
            }
            Row::Kept(list) => list.iter().copied().for_each(visit),
        }
    }

    /// Keeps the tokens for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(Candidate) -> bool) {
        if let Row::Kept(list) = self {
            list.retain(|&candidate| keep(candidate));
            return;
        }
        let mut list = Vec::new();
        self.visit(|candidate| {
            if keep(candidate) {
                list.push(candidate);
            }
        });
        *self = Row::Kept(list);
    }

    /// Keeps the tokens whose logit is at least `threshold`.
    pub fn retain_from(&mut self, threshold: f32) {
        self.retain(|candidate| candidate.logit >= threshold);
    }

    /// Applies `change` to every logit that is left.
    pub fn change(&mut self, change: impl Fn(f32) -> f32) {
        match self {
            Row::Whole(logits) => logits.iter_mut().for_each(|logit| *logit = change(*logit)),
            Row::Kept(list) => list.iter_mut().for_each(|candidate| candidate.logit = change(candidate.logit)),
        }
    }

    /// How many tokens are left.
    pub fn count(&self) -> usize {
        match self {
            Row::Whole(logits) => logits.iter().filter(|&&logit| logit > f32::NEG_INFINITY).count(),
            Row::Kept(list) => list.len(),
        }
    }

    /// The most probable token, the lowest id among equals; none when nothing is left.
    pub fn best(&self) -> Option<Candidate> {
        if let Row::Whole(logits) = self {
            let token = largest_index(logits)?;
            return (logits[token] > f32::NEG_INFINITY)
                .then(|| Candidate { token: token as u32, logit: logits[token] });
        }
        let mut best: Option<Candidate> = None;
        self.visit(|candidate| {
            if best.is_none_or(|b| candidate.logit > b.logit) {
                best = Some(candidate);
            }
        });
        best
    }

    /// Softmax figures; none when nothing is left.
    pub fn mass(&self) -> Option<Mass> {
        let largest = self.best()?.logit;
        let total = match self {
            Row::Whole(logits) => weight_sum(logits, largest),
            Row::Kept(list) => list.iter().map(|candidate| f64::from(exp(candidate.logit - largest))).sum(),
        };
        Some(Mass { largest, total })
    }

    /// Entropy of the row's distribution in nats.
    pub fn entropy(&self, mass: &Mass) -> f64 {
        let mut weighted = 0.0;
        self.visit(|candidate| {
            let below = candidate.logit - mass.largest;
            weighted += f64::from(exp(below)) * f64::from(below);
        });
        ln(mass.total) - weighted / mass.total
    }

    /// Draws a token with the row's probabilities, using one number of `random`; none when nothing is left.
    pub fn draw(&self, random: &mut Random) -> Option<Candidate> {
        let largest = self.best()?.logit;
        match self {
            Row::Whole(logits) => draw_whole(logits, largest, random),
            Row::Kept(list) => {
                let total: f64 = list.iter().map(|candidate| f64::from(exp(candidate.logit - largest))).sum();
                walk(list.iter().copied(), largest, random.uniform() * total)
            }
        }
    }

    /// The probability of each token of a vocabulary of `vocabulary` tokens.
    pub fn probabilities(&self, vocabulary: usize) -> Vec<f32> {
        let mut probabilities = vec![0.0; vocabulary];
        if let Some(mass) = self.mass() {
            self.visit(|c| probabilities[c.token as usize] = (f64::from(mass.weight(c.logit)) / mass.total) as f32);
        }
        probabilities
    }
}

fn draw_whole(logits: &[f32], largest: f32, random: &mut Random) -> Option<Candidate> {
    let blocks: Vec<f64> = logits.chunks(DRAW_BLOCK).map(|block| weight_sum(block, largest)).collect();
    let mut target = random.uniform() * blocks.iter().sum::<f64>();
    // The last block with any weight takes what rounding leaves over.
    let last = blocks.iter().rposition(|&sum| sum > 0.0)?;
    let mut chosen = last;
    for (index, &sum) in blocks.iter().enumerate().take(last) {
        if target < sum {
            chosen = index;
            break;
        }
        target -= sum;
    }
    let first = chosen * DRAW_BLOCK;
    let block = &logits[first..logits.len().min(first + DRAW_BLOCK)];
    let candidates = block.iter().enumerate();
    walk(candidates.map(|(i, &logit)| Candidate { token: (first + i) as u32, logit }), largest, target)
}

/// The first token at which the running sum of weights passes `target`, or the last one that has any weight.
fn walk(candidates: impl Iterator<Item = Candidate>, largest: f32, mut target: f64) -> Option<Candidate> {
    let mut last = None;
    for candidate in candidates {
        let weight = f64::from(exp(candidate.logit - largest));
        if weight > 0.0 {
            last = Some(candidate);
            if target < weight {
                return last;
            }
            target -= weight;
        }
    }
    last
}

/// Index of the largest value, the first among equals; none for an empty row. NaN is never the largest.
pub fn largest_index(logits: &[f32]) -> Option<usize> {
    const BLOCK: usize = 256;
    let mut best = (f32::NEG_INFINITY, 0);
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (chunks, rest) = block.as_chunks::<16>();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        let largest = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
        if largest > best.0 {
            best = (largest, index * BLOCK);
        }
    }
    let from = logits.get(best.1..)?;
    from.iter().position(|&value| value == best.0).map(|within| best.1 + within)
}

/// The first logit that is no finite number, with its token.
pub fn first_not_finite(logits: &[f32]) -> Option<(usize, f32)> {
    // 0 * x is 0 for a finite x and NaN otherwise; a sum of them in lanes needs no branch.
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value * 0.0;
        }
    }
    let clean = lanes.iter().all(|&lane| lane == 0.0) && rest.iter().all(|value| value.is_finite());
    if clean { None } else { logits.iter().position(|value| !value.is_finite()).map(|i| (i, logits[i])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_found_wherever_it_stands_and_ties_take_the_first() {
        for length in [1, 15, 16, 17, 255, 256, 257, 1000] {
            for place in [0, length / 2, length - 1] {
                let mut row = vec![-1.0_f32; length];
                row[place] = 3.0;
                assert_eq!(largest_index(&row), Some(place), "length {length}");
                row[length - 1] = 3.0;
                assert_eq!(largest_index(&row), Some(place), "length {length}, two equal");
            }
        }
        assert_eq!(largest_index(&[]), None);
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_stands() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 15, 16, 99] {
                let mut row = vec![1.0_f32; 100];
                assert_eq!(first_not_finite(&row), None);
                row[place] = bad;
                assert_eq!(first_not_finite(&row).map(|(i, _)| i), Some(place));
            }
        }
    }

    #[test]
    fn drawing_follows_the_probabilities_from_a_whole_row_and_from_a_list() {
        // 3000 tokens: three of weight, in different blocks, the rest forbidden.
        let mut logits = vec![f32::NEG_INFINITY; 3000];
        for (token, weight) in [(5, 1.0_f32), (1500, 2.0), (2999, 5.0)] {
            logits[token] = weight.ln();
        }
        let mut copy = logits.clone();
        let whole = Row::Whole(&mut copy);
        let mut kept = Row::Whole(&mut logits);
        kept.retain(|_| true);
        for row in [whole, kept] {
            let mut counts = [0_u32; 3];
            let mut random = Random::new(11);
            for _ in 0..8000 {
                match row.draw(&mut random).map(|c| c.token) {
                    Some(5) => counts[0] += 1,
                    Some(1500) => counts[1] += 1,
                    Some(2999) => counts[2] += 1,
                    other => panic!("drew {other:?}"),
                }
            }
            // Five standard deviations of a binomial of 8000.
            for (count, share) in counts.iter().zip([0.125_f64, 0.25, 0.625]) {
                let spread = 5.0 * (8000.0 * share * (1.0 - share)).sqrt();
                assert!((f64::from(*count) - 8000.0 * share).abs() < spread, "{counts:?}");
            }
        }
    }
}
