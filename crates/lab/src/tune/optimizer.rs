//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) with its moments in f32 or in blocks of 8 bits (Dettmers et al.,
//! arXiv 2110.02861). Values are changed one by one, so that neither threads nor batches have a say in the bits.

use pasture_kernels::formats::bitsandbytes::{
    dequantize_eight_bit, dynamic_levels, dynamic_levels_unsigned, quantize_eight_bit,
};

use pasture_tensor::Backend;

use super::recipe::Optimizer;

/// Values that share one scale.
const BLOCK: usize = 256;

/// Values of a tensor that one thread takes at once. The bits of a norm depend on it.
const PIECE: usize = 64 * BLOCK;

/// Tensors of fewer values keep their moments in f32, as the reference implementation does: they are small, and norms
/// and biases suffer most from rounding.
const SMALL: usize = 4096;

/// AdamW's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the divisor.
    pub epsilon: f64,
    /// Pull to zero, times the rate.
    pub decay: f64,
}

/// The optimizer with the moments of all trained tensors.
pub struct AdamW {
    constants: Constants,
    tensors: Vec<[Moment; 2]>,
    levels: [[f32; 256]; 2],
    done: u32,
}

/// One moment of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// A value each.
    Floats(Vec<f32>),
    /// A code each and a scale for each block.
    Bytes {
        /// Which of the levels.
        codes: Vec<u8>,
        /// Multiply the levels.
        scales: Vec<f32>,
    },
}

impl Moment {
    fn zero(kind: Optimizer, len: usize, zero: u8) -> Moment {
        match kind {
            Optimizer::Adamw8bit if len >= SMALL => {
                Moment::Bytes { codes: vec![zero; len], scales: vec![0.0; len.div_ceil(BLOCK)] }
            }
            _ => Moment::Floats(vec![0.0; len]),
        }
    }

    /// The same moment, piece by piece.
    fn pieces(&mut self) -> Box<dyn Iterator<Item = MomentPiece<'_>> + '_> {
        match self {
            Moment::Floats(values) => Box::new(values.chunks_mut(PIECE).map(MomentPiece::Floats)),
            Moment::Bytes { codes, scales } => {
                let pieces = codes.chunks_mut(PIECE).zip(scales.chunks_mut(PIECE / BLOCK));
                Box::new(pieces.map(|(codes, scales)| MomentPiece::Bytes { codes, scales }))
            }
        }
    }
}

/// A piece of a moment: whole blocks of it.
enum MomentPiece<'m> {
    Floats(&'m mut [f32]),
    Bytes { codes: &'m mut [u8], scales: &'m mut [f32] },
}

impl MomentPiece<'_> {
    fn read(&self, levels: &[f32; 256], from: usize, out: &mut [f32]) {
        match self {
            MomentPiece::Floats(values) => out.copy_from_slice(&values[from..from + out.len()]),
            MomentPiece::Bytes { codes, scales } => {
                let scale = &scales[from / BLOCK..][..1];
                dequantize_eight_bit(levels, &codes[from..from + out.len()], scale, BLOCK, out);
            }
        }
    }

    fn write(&mut self, levels: &[f32; 256], from: usize, values: &[f32]) {
        match self {
            MomentPiece::Floats(all) => all[from..from + values.len()].copy_from_slice(values),
            MomentPiece::Bytes { codes, scales } => {
                let (codes, scales) = (&mut codes[from..from + values.len()], &mut scales[from / BLOCK..][..1]);
                quantize_eight_bit(levels, values, BLOCK, codes, scales);
                if levels[0] == 0.0 {
                    // A square that became zero would divide by epsilon alone: rows of a table that are seen rarely
                    // would be thrown far away. The least level is too large for them, which only slows them.
                    let lost = codes.iter_mut().zip(values).filter(|(code, value)| **code == 0 && **value > 0.0);
                    lost.for_each(|(code, _)| *code = 1);
                }
            }
        }
    }
}

/// What one step does to every value.
#[derive(Clone, Copy)]
pub struct Move {
    /// The learning rate.
    pub rate: f64,
    /// Multiplies every gradient: the limit of their norm.
    pub limit: f64,
}

impl AdamW {
    /// An optimizer of tensors with so many values each.
    pub fn new(kind: Optimizer, constants: Constants, lens: impl Iterator<Item = usize>) -> AdamW {
        let levels = [dynamic_levels(), dynamic_levels_unsigned()];
        let zeros = levels.each_ref().map(|levels| levels.iter().position(|level| *level == 0.0).unwrap_or(0) as u8);
        let tensors = lens.map(|len| zeros.map(|zero| Moment::zero(kind, len, zero))).collect();
        AdamW { constants, tensors, levels, done: 0 }
    }

    /// Begins a step; [`AdamW::change`] follows for every tensor.
    pub fn begin(&mut self) {
        self.done += 1;
    }

    /// Steps so far.
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Changes a tensor's values by their gradients.
    pub fn change(&mut self, backend: &dyn Backend, tensor: usize, values: &mut [f32], gradients: &[f32], step: Move) {
        let pace = self.pace(step);
        let ([mean, square], levels) = (&mut self.tensors[tensor], &self.levels);
        let moments = mean.pieces().zip(square.pieces());
        let pieces = values.chunks_mut(PIECE).zip(gradients.chunks(PIECE)).zip(moments);
        let mut pieces: Vec<_> = pieces
            .map(|((values, gradients), (mut mean, mut square))| {
                move || pace.change(levels, values, gradients, [&mut mean, &mut square])
            })
            .collect();
        let mut pieces: Vec<_> = pieces.iter_mut().map(|piece| piece as &mut (dyn FnMut() + Send)).collect();
        backend.together(&mut pieces);
    }

    fn pace(&self, step: Move) -> Pace {
        let Constants { betas, epsilon, decay } = self.constants;
        let whole = 1.0 - betas[0].powi(self.done as i32);
        let root = (1.0 - betas[1].powi(self.done as i32)).sqrt();
        Pace {
            keep: (1.0 - step.rate * decay) as f32,
            rate: (step.rate / whole) as f32,
            limit: step.limit as f32,
            root: (1.0 / root) as f32,
            epsilon: epsilon as f32,
            betas: betas.map(|beta| beta as f32),
            rests: betas.map(|beta| (1.0 - beta) as f32),
        }
    }

    /// The moments of each tensor, for a checkpoint.
    pub fn moments(&self) -> &[[Moment; 2]] {
        &self.tensors
    }

    /// Puts what a checkpoint has; false where it has moments of another kind or number.
    pub fn restore(&mut self, done: u32, moments: Vec<[Moment; 2]>) -> bool {
        let same = |(own, other): (&Moment, &Moment)| match (own, other) {
            (Moment::Floats(own), Moment::Floats(other)) => own.len() == other.len(),
            (Moment::Bytes { codes: own, .. }, Moment::Bytes { codes: other, scales }) => {
                own.len() == other.len() && scales.len() == own.len().div_ceil(BLOCK)
            }
            _ => false,
        };
        let fits = self.tensors.len() == moments.len()
            && self.tensors.iter().flatten().zip(moments.iter().flatten()).all(same);
        if fits {
            (self.done, self.tensors) = (done, moments);
        }
        fits
    }
}

/// One step's constants.
#[derive(Clone, Copy)]
struct Pace {
    keep: f32,
    rate: f32,
    limit: f32,
    root: f32,
    epsilon: f32,
    betas: [f32; 2],
    rests: [f32; 2],
}

impl Pace {
    /// Changes a piece of a tensor, block by block.
    fn change(
        self,
        levels: &[[f32; 256]; 2],
        values: &mut [f32],
        gradients: &[f32],
        [mean, square]: [&mut MomentPiece<'_>; 2],
    ) {
        let Pace { keep, rate, limit, root, epsilon, betas, rests } = self;
        let (mut means, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
        let blocks = values.chunks_mut(BLOCK).zip(gradients.chunks(BLOCK));
        for (number, (values, gradients)) in blocks.enumerate() {
            let (from, means, squares) = (number * BLOCK, &mut means[..values.len()], &mut squares[..values.len()]);
            mean.read(&levels[0], from, means);
            square.read(&levels[1], from, squares);
            let moments = means.iter_mut().zip(squares.iter_mut());
            for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
                let gradient = gradient * limit;
                *mean = betas[0] * *mean + rests[0] * gradient;
                *square = betas[1] * *square + rests[1] * gradient * gradient;
                *value = *value * keep - rate * *mean / (square.sqrt() * root + epsilon);
            }
            mean.write(&levels[0], from, means);
            square.write(&levels[1], from, squares);
        }
    }
}

/// The norm of all gradients. Squares are summed in f64: pieces, side by side, then these in their order.
pub fn norm<'g>(backend: &dyn Backend, gradients: impl Iterator<Item = &'g [f32]>) -> f64 {
    let squares = |values: &[f32]| {
        let mut sums = [0.0; 8];
        for some in values.chunks(sums.len()) {
            sums.iter_mut().zip(some).for_each(|(sum, value)| *sum += f64::from(*value) * f64::from(*value));
        }
        sums.iter().sum::<f64>()
    };
    let mut sums: Vec<(&[f32], f64)> = gradients.flat_map(|all| all.chunks(PIECE)).map(|piece| (piece, 0.0)).collect();
    let mut pieces: Vec<_> = sums.iter_mut().map(|(piece, sum)| move || *sum = squares(piece)).collect();
    let mut pieces: Vec<_> = pieces.iter_mut().map(|piece| piece as &mut (dyn FnMut() + Send)).collect();
    backend.together(&mut pieces);
    sums.iter().map(|(_, sum)| sum).sum::<f64>().sqrt()
}

/// What gradients are multiplied by so that their norm is at most `clip`; a clip of 0 is no limit.
pub fn limit(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pasture_tensor::{Cpu, Precision};

    const CONSTANTS: Constants = Constants { betas: [0.9, 0.95], epsilon: 1e-8, decay: 0.1 };

    fn cpu() -> Cpu {
        Cpu::detect(Some(2), Precision::Exact)
    }

    #[test]
    fn threads_have_no_say_in_the_bits() {
        let lens = 3 * PIECE + 77;
        let gradients: Vec<f32> = (0..lens).map(|at| ((at * 37 % 101) as f32 / 50.0) - 1.0).collect();
        for kind in [Optimizer::Adamw, Optimizer::Adamw8bit] {
            let [one, three] = [1, 3].map(|threads| {
                let backend = Cpu::detect(Some(threads), Precision::Exact);
                let (mut optimizer, mut values) = (AdamW::new(kind, CONSTANTS, [lens].into_iter()), vec![0.1; lens]);
                for _ in 0..3 {
                    optimizer.begin();
                    optimizer.change(&backend, 0, &mut values, &gradients, Move { rate: 0.01, limit: 0.5 });
                }
                (values, norm(&backend, [gradients.as_slice()].into_iter()))
            });
            assert!(one == three && one.0.iter().all(|value| *value != 0.1), "{kind:?}");
        }
    }

    /// Values of a bowl's floor reached from far away.
    fn descend(kind: Optimizer, steps: usize) -> f64 {
        let floor: Vec<f32> = (0..SMALL).map(|at| ((at * 37 % 101) as f32 / 50.0) - 1.0).collect();
        let mut values = vec![0.0; SMALL];
        let constants = Constants { decay: 0.0, ..CONSTANTS };
        let mut optimizer = AdamW::new(kind, constants, [SMALL].into_iter());
        for step in 0..steps {
            let gradients: Vec<f32> = values.iter().zip(&floor).map(|(value, floor)| value - floor).collect();
            optimizer.begin();
            let rate = 0.05 * (1.0 - step as f64 / steps as f64);
            optimizer.change(&cpu(), 0, &mut values, &gradients, Move { rate, limit: 1.0 });
        }
        let far = values.iter().zip(&floor).map(|(value, floor)| f64::from(value - floor).powi(2)).sum::<f64>();
        (far / SMALL as f64).sqrt()
    }

    #[test]
    fn moments_in_8_bits_reach_the_floor_as_those_in_f32_do() {
        let (floats, bytes) = (descend(Optimizer::Adamw, 300), descend(Optimizer::Adamw8bit, 300));
        assert!(floats < 1e-3 && bytes < 1e-2, "{floats} {bytes}");
    }

    #[test]
    fn small_tensors_keep_f32() {
        let optimizer = AdamW::new(Optimizer::Adamw8bit, CONSTANTS, [SMALL - 1, SMALL].into_iter());
        assert!(matches!(optimizer.moments()[0][0], Moment::Floats(_)));
        assert!(matches!(optimizer.moments()[1][1], Moment::Bytes { .. }));
    }

    #[test]
    fn the_norm_is_limited_and_a_clip_of_zero_is_none() {
        let found = norm(&cpu(), [[3.0_f32].as_slice(), &[4.0]].into_iter());
        assert!((found - 5.0).abs() < 1e-12);
        let many = vec![0.5; 2 * PIECE + 3];
        assert!((norm(&cpu(), [many.as_slice()].into_iter()) - (many.len() as f64 / 4.0).sqrt()).abs() < 1e-9);
        assert!((limit(5.0, 1.0) - 0.2).abs() < 1e-6);
        assert!(limit(0.5, 1.0) == 1.0 && limit(5.0, 0.0) == 1.0);
    }
}
