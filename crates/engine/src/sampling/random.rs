//! The random numbers of sampling: xoshiro256++ seeded through SplitMix64 (Blackman and Vigna).
//! Whole-number arithmetic only: the same seed gives the same numbers on every platform.
//! Not for secrets.

/// A generator with 256 bits of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut mixer)) }
    }

    /// The generator of one of several answers to the same request; choice 0 is `new(seed)`.
    pub fn for_choice(seed: u64, choice: u32) -> Self {
        if choice == 0 {
            return Self::new(seed);
        }
        let mut mixer = u64::from(choice);
        Self::new(seed ^ split_mix(&mut mixer))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s0.wrapping_add(*s3).rotate_left(23).wrapping_add(*s0);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        // xoshiro256++ from the state 1, 2, 3, 4, and SplitMix64 from 1234567, as their authors' programs print them.
        let mut random = Random { state: [1, 2, 3, 4] };
        let wanted = [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386];
        assert_eq!(wanted.map(|_| random.bits()), wanted);
        let mut mixer = 1_234_567;
        let wanted = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!(wanted.map(|_| split_mix(&mut mixer)), wanted);
    }

    #[test]
    fn uniform_numbers_stay_below_one_and_average_a_half() {
        let mut random = Random::new(7);
        let numbers: Vec<f64> = (0..100_000).map(|_| random.uniform()).collect();
        assert!(numbers.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
    }

    #[test]
    fn choices_of_one_request_differ_and_repeat() {
        assert_eq!(Random::for_choice(5, 0), Random::new(5));
        assert_ne!(Random::for_choice(5, 1), Random::for_choice(5, 2));
        assert_eq!(Random::for_choice(5, 3), Random::for_choice(5, 3));
    }
}
