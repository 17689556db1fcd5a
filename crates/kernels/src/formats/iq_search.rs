//! The searches of the IQ formats of three bits and fewer: signs, the entries of a grid that are nearest by weighted
//! squares, and the scales under which they are. No layouts here; grids and levels stand in their files.
//!
//! An entry's error is a sum over its positions, so a table for each half of an entry makes it the sum of two lookups;
//! entries with the same upper half are tried only where that half alone costs less than the best so far.

use std::sync::OnceLock;

use super::block::Importance;

/// Values of a block.
pub const BLOCK: usize = 256;

/// How many scales of a group are tried.
const TRIES: usize = 11;

/// The scale with the least error makes all products of a row smaller: with few levels, by a tenth. So the last scale goes
/// most of the way to the one under which the values' own size is kept, as a power of how much larger that is. What a
/// model says is nearer then (`docs/log.md`).
const WAY: f32 = 0.85;

/// Below this magnitude a group counts as zero.
const ZERO: f32 = 1e-15;

/// A grid: each entry packs `SIDE` level numbers, the first in the lowest bits.
pub struct Grid {
    /// The entries.
    pub entries: &'static [u16],
    /// What the level numbers stand for, ascending; those that no entry has are left out.
    pub levels: &'static [f32],
    /// Bits of a level number.
    pub bits: usize,
    /// Where its entries are.
    pub places: &'static OnceLock<Places>,
}

/// Where the entries of a grid are.
pub struct Places {
    /// Which entry a packed list of level numbers is.
    of: Vec<u16>,
    /// Upper halves, each with the entries that have it: those before the next one's.
    runs: Vec<(usize, usize)>,
}

/// No entry.
const NONE: u16 = u16::MAX;
/// In a list of entries: it is of the second grid.
pub const SECOND: u16 = 1 << 15;

impl Grid {
    /// Level numbers of an entry: four of three bits, or eight of two.
    const fn side(&self) -> usize {
        if self.bits == 3 { 4 } else { 8 }
    }

    /// Upper and lower half of an entry.
    fn halves(&self, entry: u16) -> (usize, usize) {
        let bits = self.bits * self.side() / 2;
        (usize::from(entry) >> bits, usize::from(entry) & ((1 << bits) - 1))
    }

    fn places(&self) -> &Places {
        self.places.get_or_init(|| {
            let mut places = Places { of: vec![NONE; 1 << (self.bits * self.side())], runs: Vec::new() };
            for (at, entry) in self.entries.iter().enumerate() {
                places.of[usize::from(*entry)] = at as u16;
                let (high, _) = self.halves(*entry);
                if places.runs.last().is_none_or(|(last, _)| *last != high) {
                    places.runs.push((high, at));
                }
            }
            places
        })
    }

    /// The entry that is nearest to as many values as it has levels, under a scale.
    fn nearest(&self, values: &[f32], weights: &[f32], scale: f32) -> u16 {
        let mut costs = [[f32::INFINITY; 8]; 8];
        let mut free = 0usize;
        for (at, ((value, weight), costs)) in values.iter().zip(weights).zip(&mut costs).enumerate() {
            let (mut best, mut least) = (0, f32::INFINITY);
            for (number, level) in self.levels.iter().enumerate() {
                let distance = value - scale * level;
                costs[number] = weight * (distance * distance);
                if costs[number] < least {
                    (best, least) = (number, costs[number]);
                }
            }
            free |= best << (self.bits * at);
        }
        // Where the nearest levels are an entry, no other is nearer.
        let places = self.places();
        let place = places.of[free];
        if place != NONE { place } else { self.cheapest(&places.runs, &costs[..self.side()]) }
    }

    /// The entry whose levels cost least together, the first of equals.
    fn cheapest(&self, runs: &[(usize, usize)], costs: &[[f32; 8]]) -> u16 {
        let [low, high] = self.tables(costs);
        let (mut best, mut least) = (0, f32::INFINITY);
        for (at, (upper, start)) in runs.iter().enumerate() {
            if high[*upper] >= least {
                continue;
            }
            let end = runs.get(at + 1).map_or(self.entries.len(), |(_, start)| *start);
            for (at, entry) in self.entries[*start..end].iter().enumerate() {
                let cost = high[*upper] + low[self.halves(*entry).1];
                if cost < least {
                    (best, least) = ((start + at) as u16, cost);
                }
            }
        }
        best
    }

    /// What each lower and each upper half of an entry costs.
    fn tables(&self, costs: &[[f32; 8]]) -> [[f32; 256]; 2] {
        let mut tables = [[0.0f32; 256]; 2];
        for (table, costs) in tables.iter_mut().zip(costs.chunks(self.side() / 2)) {
            for (at, costs) in costs.iter().enumerate() {
                let place = self.bits * at;
                // From the highest level number down, so that what the others are made of is still there.
                for number in (0..1usize << self.bits).rev() {
                    for low in 0..1 << place {
                        table[number << place | low] = table[low] + costs[number];
                    }
                }
            }
        }
        tables
    }

    /// Adds an entry's sums of weighted products with the values and with itself.
    fn sums(&self, entry: u16, values: &[f32], weights: &[f32], sums: &mut (f32, f32)) {
        let packed = usize::from(self.entries[usize::from(entry)]);
        for (at, (value, weight)) in values.iter().zip(weights).enumerate() {
            let level = self.levels[packed >> (self.bits * at) & ((1 << self.bits) - 1)];
            sums.0 += weight * value * level;
            sums.1 += weight * level * level;
        }
    }
}

/// Where the signs of values stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    /// A bit for each.
    Free,
    /// Seven bits for eight values, of which an even number is negative.
    Even,
    /// In the grid's levels.
    Levels,
}

/// A format: its grids, how its scales count, and where its signs are.
pub struct Kind {
    /// The grid, or two between which is chosen.
    pub grids: &'static [Grid],
    /// Values that are of the same grid.
    pub share: usize,
    /// Values under a scale number.
    pub group: usize,
    /// The highest scale number.
    pub numbers: u8,
    /// What a scale number counts: `(number + 1/2) · step`.
    pub step: f32,
    /// Where signs are.
    pub signs: Signs,
    /// The tries of a group's scale: its largest magnitude as this many of the highest level, and from try to try more.
    pub tries: (f32, f32),
    /// How much larger at most the last scale becomes for the values' size.
    pub larger: f32,
}

/// A block before it is laid out.
pub struct Found {
    /// What all scales are multiplied with.
    pub scale: f32,
    /// Scale numbers, one for each group.
    pub numbers: [u8; 16],
    /// Grid entries, in order.
    pub entries: [u16; 64],
    /// Sign bits of each eight values.
    pub signs: [u8; 32],
}

impl Found {
    /// Four times the seven sign bits that are stored where the eighth follows from them.
    pub fn seven_bits(&self, group: usize) -> u32 {
        (0..4).map(|at| u32::from(self.signs[4 * group + at] & 127) << (7 * at)).sum()
    }
}

/// Values without the signs that are stored apart, and the weights of their errors. Where signs have a parity a magnitude
/// may be negative.
struct Values {
    magnitudes: [f32; BLOCK],
    weights: [f32; BLOCK],
    signs: [u8; 32],
}

impl Values {
    fn of(values: &[f32; BLOCK], importance: Option<Importance<'_, BLOCK>>, kind: Signs) -> Values {
        let square = values.iter().map(|value| value * value).sum::<f32>() * 2.0 / BLOCK as f32;
        let mut found = Values { magnitudes: values.map(f32::abs), weights: [0.0; BLOCK], signs: [0; 32] };
        for (at, (weight, value)) in found.weights.iter_mut().zip(values).enumerate() {
            let given = importance.as_ref().map_or(1.0, |given| given.weights[at]);
            *weight = given * (square + value * value).sqrt();
        }
        if kind == Signs::Levels {
            found.magnitudes = *values;
            return found;
        }
        for (at, signs) in found.signs.iter_mut().enumerate() {
            let eight = 8 * at..8 * at + 8;
            for (bit, value) in values[eight.clone()].iter().enumerate() {
                *signs |= u8::from(*value < 0.0) << bit;
            }
            if kind == Signs::Even && signs.count_ones() % 2 == 1 {
                let cost = |at: &usize| found.weights[*at] * found.magnitudes[*at] * found.magnitudes[*at];
                let least = eight.clone().min_by(|a, b| cost(a).total_cmp(&cost(b))).unwrap_or(eight.start);
                *signs ^= 1 << (least - eight.start);
                found.magnitudes[least] = -found.magnitudes[least];
            }
        }
        found
    }
}

impl Kind {
    /// A format of one grid of magnitudes, with scale numbers of four bits.
    pub const fn of_magnitudes(grids: &'static [Grid], group: usize, step: f32, signs: Signs) -> Kind {
        Kind { grids, share: group, group, numbers: 15, step, signs, tries: (0.7, 0.07), larger: 1.08 }
    }

    /// A format of two grids of ternary levels, with scale numbers of three bits that count odd.
    pub const fn of_levels(grids: &'static [Grid], share: usize, group: usize) -> Kind {
        Kind { grids, share, group, numbers: 7, step: 2.0, signs: Signs::Levels, tries: (0.8, 0.16), larger: 1.16 }
    }

    /// What a scale number counts.
    fn counts(&self, number: u8) -> f32 {
        (f32::from(number) + 0.5) * self.step
    }

    /// The block nearest to some values by weighted squares, as far as the tries of its scales find it.
    pub fn encode(&self, values: &[f32; BLOCK], importance: Option<Importance<'_, BLOCK>>) -> Found {
        let values = Values::of(values, importance, self.signs);
        let mut found = Found { scale: 0.0, numbers: [0; 16], entries: [0; 64], signs: values.signs };
        let (groups, side) = (BLOCK / self.group, self.side());
        let mut scales = [0.0f32; 16];
        for (at, scale) in scales.iter_mut().enumerate().take(groups) {
            *scale = self.scale(&values, at);
        }
        let largest = scales.iter().fold(0.0f32, |largest, scale| largest.max(*scale));
        if !(largest > ZERO && largest.is_finite()) {
            return found;
        }
        let power: f32 =
            values.magnitudes.iter().zip(&values.weights).map(|(value, weight)| weight * value * value).sum();
        let (mut scale, mut larger) = (rounded(largest / self.counts(self.numbers)), 1.0);
        for _ in 0..2 {
            let mut sums = (0.0, 0.0);
            for (at, fit) in scales.iter_mut().enumerate().take(groups) {
                let entries = &mut found.entries[at * self.group / side..][..self.group / side];
                let (number, own) = self.choose(&values, at, (scale, *fit), entries);
                *fit = if own.0 > 0.0 && own.1 > 0.0 { own.0 / own.1 } else { *fit };
                found.numbers[at] = number;
                let counts = self.counts(number);
                sums = (sums.0 + counts * own.0, sums.1 + counts * counts * own.1);
            }
            if sums.1 > 0.0 && sums.0 > 0.0 {
                scale = rounded(sums.0 / sums.1);
                larger = (power / (scale * sums.0)).clamp(1.0, self.larger);
            }
            let is_same = scale == found.scale;
            found.scale = scale;
            if is_same {
                break;
            }
        }
        found.scale = rounded(found.scale * larger.powf(WAY));
        found
    }

    /// Values of an entry.
    fn side(&self) -> usize {
        self.grids[0].side()
    }

    /// The entries nearest to a group under a scale, and their sums of weighted products with the values and with
    /// themselves. Of two grids each share of the values gets the nearer one.
    fn place(&self, values: &Values, group: usize, scale: f32, entries: &mut [u16]) -> (f32, f32) {
        let (side, mut all) = (self.side(), (0.0, 0.0));
        let range = group * self.group..(group + 1) * self.group;
        let shares = values.magnitudes[range.clone()].chunks(self.share).zip(values.weights[range].chunks(self.share));
        for ((values, weights), entries) in shares.zip(entries.chunks_mut(self.share / side)) {
            let (mut best, mut least) = ((0.0, 0.0), f32::INFINITY);
            for (mark, grid) in [0, SECOND].into_iter().zip(self.grids) {
                let (mut sums, mut tried) = ((0.0, 0.0), [0u16; 8]);
                for (at, (values, weights)) in values.chunks(side).zip(weights.chunks(side)).enumerate() {
                    tried[at] = grid.nearest(values, weights, scale);
                    grid.sums(tried[at], values, weights, &mut sums);
                }
                // The error, less what no entry changes.
                let cost = scale * (scale * sums.1 - 2.0 * sums.0);
                if cost < least || mark == 0 {
                    (best, least) = (sums, cost);
                    entries.iter_mut().zip(tried).for_each(|(entry, tried)| *entry = tried | mark);
                }
            }
            all = (all.0 + best.0, all.1 + best.1);
        }
        all
    }

    /// The scale of a group under which the grid is nearest to its values.
    fn scale(&self, values: &Values, group: usize) -> f32 {
        let range = group * self.group..(group + 1) * self.group;
        let largest = values.magnitudes[range].iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if !(largest > ZERO && largest.is_finite()) {
            return 0.0;
        }
        let highest = self.grids.iter().filter_map(|grid| grid.levels.last()).fold(0.0f32, |a, b| a.max(*b));
        let (mut best, mut best_gain, mut entries) = (0.0, 0.0, [0; 8]);
        for attempt in 0..TRIES {
            let scale = largest / (highest * (self.tries.0 + self.tries.1 * attempt as f32));
            let sums = self.place(values, group, scale, &mut entries[..self.group / self.side()]);
            // The fit lowers the error by this much.
            if sums.1 > 0.0 && sums.0 > 0.0 && sums.0 * sums.0 > best_gain * sums.1 {
                (best, best_gain) = (sums.0 / sums.1, sums.0 * sums.0 / sums.1);
            }
        }
        best
    }

    /// The scale number of a group, of those next to the one that its own fit asks for, under which the grid is nearest;
    /// its entries; and their sums of weighted products with the values and with themselves.
    fn choose(&self, values: &Values, group: usize, (scale, fit): (f32, f32), entries: &mut [u16]) -> (u8, (f32, f32)) {
        let highest = self.numbers;
        let wanted = (fit / (scale * self.step) - 0.5).round_ties_even().clamp(0.0, f32::from(highest)) as u8;
        let (mut chosen, mut least, mut sums_of_chosen) = (wanted, f32::INFINITY, (0.0, 0.0));
        let mut tried = [0u16; 8];
        for number in [wanted, wanted.saturating_sub(1), (wanted + 1).min(highest)] {
            let step = scale * self.counts(number);
            let sums = self.place(values, group, step, &mut tried[..entries.len()]);
            let cost = step * (step * sums.1 - 2.0 * sums.0);
            if cost < least {
                (chosen, least, sums_of_chosen) = (number, cost, sums);
                entries.copy_from_slice(&tried[..entries.len()]);
            }
        }
        (chosen, sums_of_chosen)
    }
}

/// As a binary16 holds it.
fn rounded(scale: f32) -> f32 {
    half::f16::from_f32(scale).to_f32()
}
