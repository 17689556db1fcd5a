//! Which samples are held out: decided for each by a hash of its content and a seed, so that it stays as it is when rows
//! are added, removed or moved.
#![forbid(unsafe_code)]

use sha2::{Digest as _, Sha256};

use super::fingerprint::Fingerprint;

/// What decides whether a sample is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    row: u64,
    piece: u64,
}

impl Key {
    /// The key of a piece of a row.
    pub fn new(row: &Fingerprint, piece: u64) -> Key {
        let first: [u8; 8] = row[..8].try_into().expect("a digest has 32 bytes");
        Key { row: u64::from_le_bytes(first), piece }
    }

    /// A number that is as likely anywhere.
    fn draw(self, seed: u64) -> u64 {
        let mut hasher = Sha256::new();
        [seed, self.row, self.piece].iter().for_each(|part| hasher.update(part.to_le_bytes()));
        let digest: [u8; 32] = hasher.finalize().into();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
    }
}

/// For each key whether it is held out: about `share` of them, the same for equal keys. Of two different keys or more,
/// one at least is on either side, unless the share is 0.
pub fn held_out(keys: &[Key], share: f64, seed: u64) -> Vec<bool> {
    let share = share.clamp(0.0, 1.0);
    let bound = share * (u64::MAX as f64);
    let draws: Vec<u64> = keys.iter().map(|key| key.draw(seed)).collect();
    let (least, most) = (draws.iter().min().copied(), draws.iter().max().copied());
    let held = |draw: &u64| {
        let first = share > 0.0 && Some(*draw) == least;
        let last = Some(*draw) == most;
        ((*draw as f64) < bound || first) && (!last || least == most && share >= 1.0)
    };
    draws.iter().map(held).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u64) -> Vec<Key> {
        (0..count).map(|row| Key { row, piece: 0 }).collect()
    }

    #[test]
    fn the_share_is_about_what_was_asked_for() {
        for (share, least, most) in [(0.0, 0, 0), (0.01, 60, 140), (0.1, 900, 1100), (0.5, 4800, 5200)] {
            let held = held_out(&keys(10_000), share, 3).iter().filter(|held| **held).count();
            assert!((least..=most).contains(&held), "{share}: {held}");
        }
    }

    #[test]
    fn a_sample_stays_on_its_side_when_others_come() {
        let (few, many) = (held_out(&keys(1000), 0.1, 3), held_out(&keys(2000), 0.1, 3));
        assert_eq!(few[..], many[..1000]);
        assert_ne!(few, held_out(&keys(1000), 0.1, 4));
        let twice = [keys(10), keys(10)].concat();
        let held = held_out(&twice, 0.5, 3);
        assert_eq!(held[..10], held[10..]);
    }

    #[test]
    fn a_few_samples_have_both_sides() {
        for count in 2..8 {
            for share in [0.01, 0.99] {
                let held = held_out(&keys(count), share, 3);
                assert!(held.contains(&true) && held.contains(&false), "{count} {share}");
            }
        }
        assert_eq!(held_out(&keys(1), 0.5, 3), [false]);
        assert!(held_out(&[], 0.5, 3).is_empty());
    }
}
