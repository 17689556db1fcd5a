//! Python's `random.Random(seed).sample`, which picks the worked examples of lm-evaluation-harness: the same seed must
//! pick the same rows. A Mersenne Twister (MT19937) seeded by its reference's `init_by_array`.

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// Python's generator of random numbers.
pub struct Random {
    state: [u32; SIZE],
    at: usize,
}

impl Random {
    /// The generator of a whole number.
    pub fn new(seed: u64) -> Random {
        let key: Vec<u32> = if seed >> 32 == 0 { vec![seed as u32] } else { vec![seed as u32, (seed >> 32) as u32] };
        let mut state = [0_u32; SIZE];
        state[0] = 19_650_218;
        for at in 1..SIZE {
            state[at] = scramble(state[at - 1], 1_812_433_253).wrapping_add(at as u32);
        }
        let (mut i, mut j) = (1, 0);
        for _ in 0..SIZE.max(key.len()) {
            state[i] = (state[i] ^ scramble(state[i - 1], 1_664_525)).wrapping_add(key[j]).wrapping_add(j as u32);
            (i, j) = (i + 1, (j + 1) % key.len());
            if i == SIZE {
                (state[0], i) = (state[SIZE - 1], 1);
            }
        }
        for _ in 1..SIZE {
            state[i] = (state[i] ^ scramble(state[i - 1], 1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i == SIZE {
                (state[0], i) = (state[SIZE - 1], 1);
            }
        }
        state[0] = 0x8000_0000;
        Random { state, at: SIZE }
    }

    fn next(&mut self) -> u32 {
        if self.at == SIZE {
            for at in 0..SIZE {
                let y = (self.state[at] & 0x8000_0000) | (self.state[(at + 1) % SIZE] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[at] = self.state[(at + MIDDLE) % SIZE] ^ (y >> 1) ^ odd;
            }
            self.at = 0;
        }
        let mut y = self.state[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number below `end`, which is not zero: as many bits as `end` has, until they are below it.
    fn below(&mut self, end: usize) -> usize {
        let bits = usize::BITS - end.leading_zeros();
        assert!(0 < bits && bits <= 32, "a list in memory is shorter");
        loop {
            let drawn = (self.next() >> (32 - bits)) as usize;
            if drawn < end {
                return drawn;
            }
        }
    }

    /// `count` different places of a list of `len`.
    ///
    /// # Panics
    /// When the list is shorter than `count`.
    pub fn sample(&mut self, len: usize, count: usize) -> Vec<usize> {
        assert!(count <= len, "a sample is no larger than its list");
        // Python keeps a list for small ones and a set for large ones, and draws differently.
        let mut limit = 21;
        if count > 5 {
            limit += 4_usize.pow((((count * 3) as f64).ln() / 4_f64.ln()).ceil() as u32);
        }
        if len <= limit {
            let mut pool: Vec<usize> = (0..len).collect();
            let mut pick = |done: usize| {
                let at = self.below(len - done);
                let picked = pool[at];
                pool[at] = pool[len - done - 1];
                picked
            };
            return (0..count).map(&mut pick).collect();
        }
        let mut picked: Vec<usize> = Vec::with_capacity(count);
        while picked.len() < count {
            let at = self.below(len);
            if !picked.contains(&at) {
                picked.push(at);
            }
        }
        picked
    }
}

fn scramble(before: u32, factor: u32) -> u32 {
    (before ^ (before >> 30)).wrapping_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_python() {
        // random.Random(seed), then sample(range(len), count) one after the other; Python 3.11
        let mut random = Random::new(1234);
        for (len, count, wanted) in PYTHON_1234 {
            assert_eq!(random.sample(*len, *count), *wanted, "{len} {count}");
        }
        let mut random = Random::new(1 << 40);
        assert_eq!(random.sample(1000, 3), PYTHON_2_40);
    }

    const PYTHON_1234: &[(usize, usize, &[usize])] = &[
        (10, 3, &[7, 1, 0]),
        (10, 3, &[1, 0, 9]),
        (21, 5, &[3, 11, 7, 0, 17]),
        (22, 5, &[0, 11, 20, 19, 15]),
        (1000, 5, &[630, 474, 152, 93, 187]),
        (100, 8, &[91, 14, 1, 64, 62, 31, 8, 85]),
        (85, 8, &[69, 59, 8, 76, 11, 65, 74, 5]),
        (86, 8, &[34, 71, 8, 82, 38, 61, 45, 31]),
        (7000, 6, &[5369, 1638, 3714, 4343, 5451, 158]),
        (5, 5, &[4, 0, 3, 1, 2]),
    ];
    const PYTHON_2_40: [usize; 3] = [106, 361, 686];
}
