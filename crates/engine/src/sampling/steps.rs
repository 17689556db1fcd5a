//! The steps that look at one row only: bias, temperature and the truncations.
//! Each one takes a row and narrows it; what depends on earlier tokens is in `repeats.rs`.
//! Every truncation leaves the most probable token.

use std::collections::BTreeMap;

use super::math::{exp, ln};
use super::random::Random;
use super::row::{Candidate, Row};

/// Adds `bias` to the logits of its tokens; tokens outside the vocabulary were refused when the chain was made.
pub fn logit_bias(row: &mut Row, bias: &BTreeMap<u32, f64>) {
    match row {
        Row::Whole(logits) => {
            for (&token, &value) in bias {
                logits[token as usize] += value as f32;
            }
        }
        Row::Kept(list) => {
            for candidate in list {
                candidate.logit += bias.get(&candidate.token).map_or(0.0, |&value| value as f32);
            }
        }
    }
}

/// Divides every logit by `temperature` > 0.
pub fn temperature(row: &mut Row, temperature: f64) {
    let divisor = temperature as f32;
    // A quotient past the largest f32 would be infinite; clamping keeps the order of all that are not clamped.
    row.change(|logit| if logit == f32::NEG_INFINITY { logit } else { (logit / divisor).clamp(f32::MIN, f32::MAX) });
}

/// Keeps the `k` most probable tokens, and those equal to the last of them.
pub fn top_k(row: &mut Row, k: usize) {
    debug_assert!(k > 0);
    if let Some(threshold) = largest_nth(row, k) {
        row.retain_from(threshold);
    }
}

/// The k-th largest logit of the row, or none if it has no more than `k`.
///
/// One pass with a buffer: what is below the k-th largest so far is never stored.
fn largest_nth(row: &Row, k: usize) -> Option<f32> {
    let mut buffer: Vec<f32> = Vec::new();
    let mut limit = k.saturating_mul(2).max(1024);
    let mut threshold = f32::NEG_INFINITY;
    let mut seen = 0_usize;
    row.visit(|candidate| {
        seen += 1;
        if candidate.logit >= threshold {
            buffer.push(candidate.logit);
            if buffer.len() >= limit {
                let (_, nth, _) = buffer.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
                threshold = *nth;
                buffer.retain(|&logit| logit >= threshold);
                limit = limit.max(buffer.len() * 2);
            }
        }
    });
    (seen > k).then(|| *buffer.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1)
}

/// A token with what it is ranked by (larger first) and its weight.
struct Ranked {
    rank: f64,
    token: u32,
    weight: f32,
}

/// The entry, in order of rank, at which the running sum of weights reaches `mass`, or the last one.
///
/// Sorts only as much of the list as it needs. Equal ranks go by token id.
fn cutoff(list: &mut [Ranked], mass: f64) -> Option<(f64, u32)> {
    let order = |a: &Ranked, b: &Ranked| b.rank.total_cmp(&a.rank).then(a.token.cmp(&b.token));
    let mut rest = list;
    let mut size = 64;
    let mut sum = 0.0;
    let mut last = None;
    while !rest.is_empty() {
        let take = size.min(rest.len());
        if take < rest.len() {
            rest.select_nth_unstable_by(take, order);
        }
        let (head, tail) = rest.split_at_mut(take);
        head.sort_unstable_by(order);
        for entry in head {
            sum += f64::from(entry.weight);
            last = Some((entry.rank, entry.token));
            if sum >= mass {
                return last;
            }
        }
        rest = tail;
        size *= 8;
    }
    last
}

/// Keeps the fewest most probable tokens whose probabilities reach `p` (Holtzman et al., 2020).
pub fn top_p(row: &mut Row, p: f64) {
    let Some(mass) = row.mass().filter(|_| p < 1.0) else { return };
    // Tokens below (1 - p) / count weigh less than 1 - p together, so all of them are cut.
    let floor = (1.0 - p) * mass.total / row.count() as f64 * 0.999;
    let mut list = Vec::new();
    row.visit(|Candidate { token, logit }| {
        let weight = mass.weight(logit);
        if f64::from(weight) >= floor {
            // Adding 0 makes -0 and 0 one rank, as they are one logit.
            list.push(Ranked { rank: f64::from(logit) + 0.0, token, weight });
        }
    });
    if let Some((rank, last)) = cutoff(&mut list, p * mass.total) {
        row.retain(|c| f64::from(c.logit) > rank || (f64::from(c.logit) == rank && c.token <= last));
    }
}

/// Keeps the tokens at least `p` times as probable as the most probable one (Nguyen et al., 2024).
pub fn min_p(row: &mut Row, p: f64) {
    if let Some(best) = row.best().filter(|_| p > 0.0) {
        row.retain_from((f64::from(best.logit) + ln(p)) as f32);
    }
}

/// Keeps the tokens whose surprise is nearest to the entropy until they weigh `p` (Meister et al., 2023);
/// tokens as near as the last one stay.
pub fn typical_p(row: &mut Row, p: f64) {
    let Some(mass) = row.mass().filter(|_| p < 1.0) else { return };
    let entropy = row.entropy(&mass);
    let log_total = ln(mass.total);
    let nearness = |logit: f32| -(log_total - f64::from(logit - mass.largest) - entropy).abs();
    let mut list = Vec::new();
    row.visit(|Candidate { token, logit }| {
        list.push(Ranked { rank: nearness(logit), token, weight: mass.weight(logit) });
    });
    if let Some((rank, _)) = cutoff(&mut list, p * mass.total) {
        row.retain(|candidate| nearness(candidate.logit) >= rank);
    }
}

/// Cuts the tokens less probable than `epsilon` (Hewitt et al., 2022).
pub fn epsilon_cutoff(row: &mut Row, epsilon: f64) {
    let Some(mass) = row.mass().filter(|_| epsilon > 0.0) else { return };
    row.retain_from((mass.logit_of(epsilon) as f32).min(mass.largest));
}

/// Cuts the tokens less probable than min(epsilon, sqrt(epsilon) * e^-entropy) (Hewitt et al., 2022).
pub fn eta_cutoff(row: &mut Row, epsilon: f64) {
    let Some(mass) = row.mass().filter(|_| epsilon > 0.0) else { return };
    let eta = epsilon.min(epsilon.sqrt() * f64::from(exp(-row.entropy(&mass) as f32)));
    row.retain_from((mass.logit_of(eta) as f32).min(mass.largest));
}

/// Keeps the tokens within `n` standard deviations of the largest logit (Tang et al., 2024).
///
/// The deviation is that of all logits that are left, divided by their number (not number - 1).
pub fn top_n_sigma(row: &mut Row, n: f64) {
    let Some(best) = row.best() else { return };
    let (mut count, mut sum) = (0.0_f64, 0.0_f64);
    row.visit(|candidate| {
        count += 1.0;
        sum += f64::from(candidate.logit);
    });
    let mean = sum / count;
    let mut squares = 0.0;
    row.visit(|candidate| squares += (f64::from(candidate.logit) - mean).powi(2));
    row.retain_from((f64::from(best.logit) - n * (squares / count).sqrt()) as f32);
}

/// Exclude top choices: with `probability`, cuts all but the least probable of the tokens that have at least
/// `threshold`. One number of `random` is used whether it acts or not.
pub fn xtc(row: &mut Row, probability: f64, threshold: f64, random: &mut Random) {
    let acts = random.uniform() < probability;
    let Some(mass) = row.mass().filter(|_| acts) else { return };
    let floor = mass.logit_of(threshold) as f32;
    let mut above: Vec<Candidate> = Vec::new();
    row.visit(|candidate| {
        if candidate.logit >= floor {
            above.push(candidate);
        }
    });
    // Of equals the highest id stays.
    let Some(stays) = above.iter().copied().min_by(|a, b| a.logit.total_cmp(&b.logit).then(b.token.cmp(&a.token)))
    else {
        return;
    };
    row.retain(|candidate| candidate.logit < floor || candidate.token == stays.token);
}

/// Mirostat, version 2 (Basu et al., 2021): cuts tokens whose surprise is above `limit`, in bits.
pub fn surprise_limit(row: &mut Row, limit: f64) {
    let Some(mass) = row.mass() else { return };
    let floor = f64::from(mass.largest) + ln(mass.total) - limit * std::f64::consts::LN_2;
    row.retain_from((floor as f32).min(mass.largest));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of the given probabilities.
    fn logits_of(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    fn check_kept(probabilities: &[f64], step: impl Fn(&mut Row), wanted: &[u32]) {
        let mut logits = logits_of(probabilities);
        let mut list = Row::Whole(&mut logits.clone()).into_list();
        for row in [&mut Row::Whole(&mut logits), &mut list] {
            step(row);
            let mut kept = Vec::new();
            row.visit(|candidate| kept.push(candidate.token));
            assert_eq!(kept, wanted, "of {probabilities:?}");
        }
    }

    impl Row<'_> {
        fn into_list(mut self) -> Row<'static> {
            self.retain(|_| true);
            match self {
                Row::Kept(list) => Row::Kept(list),
                Row::Whole(_) => unreachable!("retain leaves a list"),
            }
        }
    }

    const FIVE: [f64; 5] = [0.1, 0.4, 0.05, 0.3, 0.15];

    #[test]
    fn truncations_keep_what_their_papers_say() {
        check_kept(&FIVE, |row| top_k(row, 2), &[1, 3]);
        check_kept(&[0.25; 4], |row| top_k(row, 2), &[0, 1, 2, 3]);
        check_kept(&FIVE, |row| top_p(row, 0.65), &[1, 3]);
        check_kept(&FIVE, |row| top_p(row, 0.75), &[1, 3, 4]);
        check_kept(&FIVE, |row| top_p(row, 0.0001), &[1]);
        check_kept(&FIVE, |row| min_p(row, 0.3), &[1, 3, 4]);
        check_kept(&FIVE, |row| epsilon_cutoff(row, 0.12), &[1, 3, 4]);
        check_kept(&FIVE, |row| epsilon_cutoff(row, 0.9), &[1]);
        // Two equal tokens of 1/2 have 1 bit of surprise each, and one of the row is the entropy.
        check_kept(&[0.5, 0.25, 0.25], |row| surprise_limit(row, 1.5), &[0]);
        check_kept(&[0.5, 0.25, 0.25], |row| surprise_limit(row, 2.5), &[0, 1, 2]);
        check_kept(&[0.5, 0.25, 0.25], |row| surprise_limit(row, 0.1), &[0]);
    }

    #[test]
    fn xtc_keeps_the_least_probable_of_the_top_choices() {
        let always = |threshold| move |row: &mut Row| xtc(row, 1.0, threshold, &mut Random::new(1));
        check_kept(&FIVE, always(0.12), &[0, 2, 4]);
        check_kept(&FIVE, always(0.2), &[0, 2, 3, 4]);
        check_kept(&FIVE, always(0.45), &[0, 1, 2, 3, 4]);
        check_kept(&FIVE, |row| xtc(row, 0.0, 0.1, &mut Random::new(1)), &[0, 1, 2, 3, 4]);
    }

    #[test]
    fn top_n_sigma_measures_from_the_largest_logit() {
        // Logits 0, 2, 4, 6: mean 3, deviation sqrt(5) = 2.236.
        let check = |n: f64, wanted: usize| {
            let mut logits = [0.0_f32, 2.0, 4.0, 6.0];
            let mut row = Row::Whole(&mut logits);
            top_n_sigma(&mut row, n);
            assert_eq!(row.count(), wanted, "n = {n}");
        };
        check(0.5, 1);
        check(1.0, 2);
        check(1.8, 3);
        check(3.0, 4);
    }

    #[test]
    fn a_long_row_is_cut_like_a_sorted_one() {
        let mut random = Random::new(3);
        let logits: Vec<f32> = (0..50_000).map(|_| (random.uniform() * 20.0 - 10.0) as f32).collect();
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let total: f64 = sorted.iter().map(|&l| f64::from(l - sorted[0]).exp()).sum();
        for p in [0.1, 0.5, 0.9, 0.999] {
            let mut copy = logits.clone();
            let mut row = Row::Whole(&mut copy);
            top_p(&mut row, p);
            let mut sum = 0.0;
            let below = sorted.iter().take_while(|&&l| {
                sum += f64::from(l - sorted[0]).exp();
                sum < p * total
            });
            let wanted = below.count() + 1;
            assert!(row.count().abs_diff(wanted) <= 1, "p {p}: {} kept, not {wanted}", row.count());
        }
        for k in [1, 40, 1000, 20_000] {
            let mut copy = logits.clone();
            let mut row = Row::Whole(&mut copy);
            top_k(&mut row, k);
            let wanted = sorted.iter().filter(|&&l| l >= sorted[k - 1]).count();
            assert_eq!(row.count(), wanted);
        }
    }

    #[test]
    fn temperature_never_makes_a_logit_infinite() {
        let mut logits = [3e38_f32, -3e38, 1.0, f32::NEG_INFINITY];
        temperature(&mut Row::Whole(&mut logits), 0.001);
        assert!(logits[..3].iter().all(|logit| logit.is_finite()) && logits[3] == f32::NEG_INFINITY);
    }
}
