//! In which order samples are learned, and which stand in one batch: a pure function of lengths, seed and epoch, so that
//! a run that was stopped goes on at the same batch. A batch is a list of samples; they never see each other in it.
#![forbid(unsafe_code)]

/// How samples come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// As they come.
    Plain,
    /// Of similar length.
    Buckets,
    /// As many as fill the tokens of a batch.
    Packed,
}

/// The limits of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batching {
    /// How samples come together.
    pub grouping: Grouping,
    /// Samples that a batch may have.
    pub samples_max: usize,
    /// Tokens that a batch may have; a longer sample stands alone.
    pub tokens_max: usize,
}

/// Packs that are open at once: the more, the fuller they become, and the further a sample moves from its place.
const OPEN_PACKS: usize = 32;
/// Batches' worth of samples that are sorted by length together.
const BUCKET_BATCHES: usize = 16;

/// A stream of numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, all with the same chance as far as 64 bits allow.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for place in (1..items.len()).rev() {
            items.swap(place, self.below(place + 1));
        }
    }
}

/// The order of `count` samples in an epoch, from 0.
pub fn order(count: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    stream(seed, epoch).shuffle(&mut order);
    order
}

fn stream(seed: u64, epoch: u64) -> Numbers {
    let mixed = Numbers::new(seed).draw() ^ epoch.wrapping_mul(0xd134_2543_de82_ef95);
    Numbers::new(mixed)
}

/// The batches of an epoch, each a list of samples' numbers. `lengths` are the samples' tokens. Every sample is in
/// exactly one batch.
pub fn batches(lengths: &[usize], batching: &Batching, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut order = order(lengths.len(), seed, epoch);
    match batching.grouping {
        Grouping::Plain => filled(&order, lengths, batching),
        Grouping::Packed => packed(&order, lengths, batching),
        Grouping::Buckets => {
            let bucket = batching.samples_max.clamp(1, 1 << 16) * BUCKET_BATCHES;
            for samples in order.chunks_mut(bucket) {
                samples.sort_by_key(|sample| lengths[*sample]);
            }
            let mut batches = filled(&order, lengths, batching);
            // Another stream than the one that shuffled the samples.
            stream(!seed, epoch).shuffle(&mut batches);
            batches
        }
    }
}

/// Batches in the order of the samples.
fn filled(order: &[usize], lengths: &[usize], batching: &Batching) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let (mut open, mut tokens) = (Vec::new(), 0_usize);
    for &sample in order {
        let full = open.len() >= batching.samples_max || tokens.saturating_add(lengths[sample]) > batching.tokens_max;
        if full && !open.is_empty() {
            batches.push(std::mem::take(&mut open));
            tokens = 0;
        }
        tokens += lengths[sample];
        open.push(sample);
    }
    batches.extend(Some(open).filter(|open| !open.is_empty()));
    batches
}

/// Batches that are filled as well as it goes: each sample goes where it leaves the least room; where it fits nowhere,
/// the fullest of too many open batches is closed.
fn packed(order: &[usize], lengths: &[usize], batching: &Batching) -> Vec<Vec<usize>> {
    let mut batches = Vec::new();
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    for &sample in order {
        let length = lengths[sample];
        let fits = |(tokens, pack): &(usize, Vec<usize>)| {
            pack.len() < batching.samples_max && tokens.saturating_add(length) <= batching.tokens_max
        };
        let best = (0..open.len()).filter(|place| fits(&open[*place])).max_by_key(|place| open[*place].0);
        if let Some(place) = best {
            open[place].0 += length;
            open[place].1.push(sample);
            continue;
        }
        if open.len() == OPEN_PACKS {
            let fullest = (0..open.len()).max_by_key(|place| open[*place].0).unwrap_or(0);
            batches.push(open.remove(fullest).1);
        }
        open.push((length, vec![sample]));
    }
    batches.extend(open.into_iter().map(|(_, pack)| pack));
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Vec<usize> {
        let mut numbers = Numbers::new(7);
        (0..1000).map(|_| 1 + numbers.below(200)).collect()
    }

    fn batching(grouping: Grouping) -> Batching {
        Batching { grouping, samples_max: 16, tokens_max: 512 }
    }

    #[test]
    fn every_sample_is_in_one_batch_within_its_limits() {
        let lengths = lengths();
        for grouping in [Grouping::Plain, Grouping::Buckets, Grouping::Packed] {
            let batches = batches(&lengths, &batching(grouping), 1, 0);
            let mut seen: Vec<usize> = batches.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..1000).collect::<Vec<_>>(), "{grouping:?}");
            for batch in &batches {
                let tokens: usize = batch.iter().map(|sample| lengths[*sample]).sum();
                assert!(!batch.is_empty() && batch.len() <= 16 && tokens <= 512, "{grouping:?}: {batch:?}");
            }
        }
    }

    #[test]
    fn an_order_is_that_of_its_seed_and_epoch() {
        let lengths = lengths();
        for grouping in [Grouping::Plain, Grouping::Buckets, Grouping::Packed] {
            let of = |seed, epoch| batches(&lengths, &batching(grouping), seed, epoch);
            assert_eq!(of(1, 0), of(1, 0));
            assert_ne!(of(1, 0), of(1, 1));
            assert_ne!(of(1, 0), of(2, 0));
        }
    }

    #[test]
    fn packs_are_full_and_buckets_even() {
        let lengths = lengths();
        let total: usize = lengths.iter().sum();
        let packs = batches(&lengths, &batching(Grouping::Packed), 1, 0);
        let filled = total as f64 / (packs.len() * 512) as f64;
        assert!(filled > 0.95, "{filled}");
        let spread = |grouping| {
            let batches = batches(&lengths, &batching(grouping), 1, 0);
            let of = |batch: &Vec<usize>| {
                let lengths = batch.iter().map(|sample| lengths[*sample]);
                lengths.clone().max().unwrap() - lengths.min().unwrap()
            };
            batches.iter().map(of).sum::<usize>() / batches.len()
        };
        assert!(spread(Grouping::Buckets) * 4 < spread(Grouping::Plain));
    }

    #[test]
    fn a_sample_that_is_too_long_stands_alone() {
        for grouping in [Grouping::Plain, Grouping::Buckets, Grouping::Packed] {
            let batches = batches(&[10, 1000, 10], &batching(grouping), 1, 0);
            assert!(batches.contains(&vec![1]), "{grouping:?}: {batches:?}");
        }
        assert!(batches(&[], &batching(Grouping::Packed), 1, 0).is_empty());
    }
}
