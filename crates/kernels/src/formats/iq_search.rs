//! The searches of the IQ2 and IQ3 formats: signs, the entries of a grid that are nearest by weighted squares, and the
//! scales under which they are. No layouts here; grids and levels stand in their files.
//!
//! An entry's error is a sum over its positions, so a table for each half of an entry makes it the sum of two lookups.

use std::sync::OnceLock;

use super::block::Importance;

/// Values of a block.
pub const BLOCK: usize = 256;

/// The tries of a group's scale: its largest magnitude as this share of the highest level.
const FIRST: f32 = 0.7;
const STEP: f32 = 0.07;
const TRIES: usize = 11;

/// The scale with the least error makes all products of a row smaller: with few levels, by a tenth. So the last scale goes
/// most of the way to the one under which the values' own size is kept, as a power of how much larger that is, which
/// counts as this at most. What a model says is nearer then (`docs/log.md`).
const WAY: f32 = 0.85;
const LARGER_MOST: f32 = 1.08;

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
    /// Which entry a packed list of level numbers is.
    pub places: &'static OnceLock<Vec<u16>>,
}

/// No entry.
const NONE: u16 = u16::MAX;

impl Grid {
    /// Level numbers of an entry: four of three bits, or eight of two.
    const fn side(&self) -> usize {
        if self.bits == 3 { 4 } else { 8 }
    }

    fn places(&self) -> &[u16] {
        self.places.get_or_init(|| {
            let mut places = vec![NONE; 1 << (self.bits * self.side())];
            for (at, entry) in self.entries.iter().enumerate() {
                places[usize::from(*entry)] = at as u16;
            }
            places
        })
    }

    /// The entry that is nearest to as many values as it has levels, under a scale.
    fn nearest(&self, values: &[f32], weights: &[f32], scale: f32) -> u16 {
        let (half, mask) = (self.side() / 2, (1usize << (self.bits * self.side() / 2)) - 1);
        let mut tables = [[0.0f32; 256]; 2];
        let mut free = 0usize;
        for (at, (value, weight)) in values.iter().zip(weights).enumerate() {
            let (table, place) = (&mut tables[at / half], self.bits * (at % half));
            let (mut best, mut least) = (0, f32::INFINITY);
            let known = 1 << place;
            let mut costs = [f32::INFINITY; 8];
            for (number, level) in self.levels.iter().enumerate() {
                let distance = value - scale * level;
                costs[number] = weight * (distance * distance);
                if costs[number] < least {
                    (best, least) = (number, costs[number]);
                }
            }
            free |= best << (self.bits * at);
            // From the highest level number down, so that what the others are made of is still there.
            for number in (0..1usize << self.bits).rev() {
                for low in 0..known {
                    table[number << place | low] = table[low] + costs[number];
                }
            }
        }
        // Where the nearest levels are an entry, no other is nearer.
        let place = self.places()[free];
        if place != NONE {
            return place;
        }
        let [low, high] = &tables;
        let (mut best, mut least) = (0, f32::INFINITY);
        for (at, entry) in self.entries.iter().enumerate() {
            let cost = low[usize::from(*entry) & mask & 255] + high[usize::from(*entry) >> (self.bits * half) & 255];
            if cost < least {
                (best, least) = (at as u16, cost);
            }
        }
        best
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

/// A format: its grid, how its scales count, and where signs have a parity.
pub struct Kind {
    /// The grid.
    pub grid: Grid,
    /// Values under a scale of four bits.
    pub group: usize,
    /// What a scale number counts: `(number + 1/2) · step`.
    pub step: f32,
    /// Whether each eight values have an even number of negatives.
    pub even: bool,
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

/// Magnitudes with the weights of their errors. Where signs have a parity a magnitude may be negative.
struct Values {
    magnitudes: [f32; BLOCK],
    weights: [f32; BLOCK],
    signs: [u8; 32],
}

impl Values {
    fn of(values: &[f32; BLOCK], importance: Option<Importance<'_, BLOCK>>, even: bool) -> Values {
        let square = values.iter().map(|value| value * value).sum::<f32>() * 2.0 / BLOCK as f32;
        let mut found = Values { magnitudes: values.map(f32::abs), weights: [0.0; BLOCK], signs: [0; 32] };
        for (at, (weight, value)) in found.weights.iter_mut().zip(values).enumerate() {
            let given = importance.as_ref().map_or(1.0, |given| given.weights[at]);
            *weight = given * (square + value * value).sqrt();
        }
        for (at, signs) in found.signs.iter_mut().enumerate() {
            let eight = 8 * at..8 * at + 8;
            for (bit, value) in values[eight.clone()].iter().enumerate() {
                *signs |= u8::from(*value < 0.0) << bit;
            }
            if even && signs.count_ones() % 2 == 1 {
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
    /// What a scale number counts.
    fn counts(&self, number: u8) -> f32 {
        (f32::from(number) + 0.5) * self.step
    }

    /// The block nearest to some values by weighted squares, as far as the tries of its scales find it.
    pub fn encode(&self, values: &[f32; BLOCK], importance: Option<Importance<'_, BLOCK>>) -> Found {
        let values = Values::of(values, importance, self.even);
        let mut found = Found { scale: 0.0, numbers: [0; 16], entries: [0; 64], signs: values.signs };
        let (groups, side) = (BLOCK / self.group, self.grid.side());
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
        let (mut scale, mut larger) = (rounded(largest / self.counts(15)), 1.0);
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
                larger = (power / (scale * sums.0)).clamp(1.0, LARGER_MOST);
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

    /// Calls `each` with the place, values and weights of each entry of a group.
    fn each(&self, values: &Values, group: usize, mut each: impl FnMut(usize, &[f32], &[f32])) {
        let (range, side) = (group * self.group..(group + 1) * self.group, self.grid.side());
        let parts = values.magnitudes[range.clone()].chunks(side).zip(values.weights[range].chunks(side));
        parts.enumerate().for_each(|(at, (values, weights))| each(at, values, weights));
    }

    /// The scale of a group under which the grid is nearest to its values.
    fn scale(&self, values: &Values, group: usize) -> f32 {
        let range = group * self.group..(group + 1) * self.group;
        let largest = values.magnitudes[range].iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if !(largest > ZERO && largest.is_finite()) {
            return 0.0;
        }
        let highest = self.grid.levels.last().copied().unwrap_or(1.0);
        let (mut best, mut best_gain) = (0.0, 0.0);
        for attempt in 0..TRIES {
            let scale = largest / (highest * (FIRST + STEP * attempt as f32));
            let mut sums = (0.0, 0.0);
            self.each(values, group, |_, values, weights| {
                let entry = self.grid.nearest(values, weights, scale);
                self.grid.sums(entry, values, weights, &mut sums);
            });
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
        let wanted = (fit / (scale * self.step) - 0.5).round_ties_even().clamp(0.0, 15.0) as u8;
        let (mut chosen, mut least, mut sums_of_chosen) = (wanted, f32::INFINITY, (0.0, 0.0));
        let mut tried = [0u16; 8];
        for number in [wanted, wanted.saturating_sub(1), (wanted + 1).min(15)] {
            let (step, mut sums) = (scale * self.counts(number), (0.0, 0.0));
            self.each(values, group, |at, values, weights| {
                tried[at] = self.grid.nearest(values, weights, step);
                self.grid.sums(tried[at], values, weights, &mut sums);
            });
            // The error, less what no entry changes.
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
