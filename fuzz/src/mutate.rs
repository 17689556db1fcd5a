//! Changes to an input: bits, interesting numbers, pieces moved, numbers and words of text replaced, two inputs joined.
//! Pure: everything follows from the seed.

/// A small generator of numbers (SplitMix64), so that a run can be repeated from its seed.
pub struct Chance(u64);

const INTERESTING: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    127,
    128,
    255,
    256,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffe0,
    u64::MAX,
];
const NUMBERS: [&str; 12] = [
    "0",
    "-1",
    "1e309",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e-400",
    "null",
    "[]",
    "{}",
    "\"\"",
    "true",
];
const PIECES: [&str; 16] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "\\u0000",
    "\\ud800",
    "\"",
    "[[[[[[[[",
    "{\"a\":",
    "\u{202e}",
    "\u{0}",
    "<|im_start|>",
    "(a+)+$",
    "../",
    "\n",
    ",",
];

impl Chance {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or zero.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A changed copy of one of the inputs, at most `bytes_max` long.
pub fn mutate(chance: &mut Chance, inputs: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
    let mut bytes = inputs[chance.below(inputs.len())].clone();
    let changes = 1 + chance.below(4) + if chance.below(8) == 0 { 12 } else { 0 };
    for _ in 0..changes {
        change(chance, &mut bytes, inputs);
    }
    bytes.truncate(bytes_max);
    bytes
}

fn change(chance: &mut Chance, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    // Headers stand in front: half of all changes go there.
    let reach = if chance.below(2) == 0 { bytes.len().min(256) } else { bytes.len() };
    let at = chance.below(reach);
    match chance.below(11) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
        1 if !bytes.is_empty() => bytes[at] = chance.next() as u8,
        2 | 3 => number(chance, bytes, at),
        4 => {
            let end = (at + 1 + chance.below(16)).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => bytes.truncate(at),
        6 => {
            let from = chance.below(bytes.len());
            let piece: Vec<u8> = bytes[from..(from + 1 + chance.below(64)).min(bytes.len())].to_vec();
            for _ in 0..1 + chance.below(3) {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        7 => {
            let other = &inputs[chance.below(inputs.len())];
            let from = chance.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 => digits(chance, bytes, at),
        9 => {
            let piece = chance.pick(&PIECES);
            bytes.splice(at..at, piece.bytes());
        }
        _ => {
            let (piece, times) = (chance.pick(&PIECES), 1 << chance.below(9));
            bytes.splice(at..at, piece.repeat(times).bytes());
        }
    }
}

/// Writes an interesting number, little-endian, over 1, 2, 4 or 8 bytes.
fn number(chance: &mut Chance, bytes: &mut [u8], at: usize) {
    let width = 1 << chance.below(4);
    let value = chance.pick(&INTERESTING).wrapping_add(chance.below(3) as u64).wrapping_sub(1).to_le_bytes();
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&value[..width]);
    }
}

/// Replaces the first decimal number after `at`.
fn digits(chance: &mut Chance, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i) else { return };
    let length = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    let with = chance.pick(&NUMBERS);
    bytes.splice(start..start + length, with.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_again_and_they_stay_small() {
        let inputs = vec![b"{\"a\": 12}".to_vec(), Vec::new(), vec![0; 300]];
        let (mut one, mut two) = (Chance::new(7), Chance::new(7));
        let mut changed = 0;
        for _ in 0..2000 {
            let first = mutate(&mut one, &inputs, 400);
            assert_eq!(first, mutate(&mut two, &inputs, 400));
            assert!(first.len() <= 400);
            changed += usize::from(!inputs.contains(&first));
        }
        assert!(changed > 1500, "only {changed} of 2000 inputs were changed");
    }
}
