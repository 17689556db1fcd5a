//! Losses of preferences: from the log-probabilities of answers to a loss, and how it changes with each of them. All in
//! f64 and without the model, so that each formula can be held against its paper.

use super::recipe::Loss;

/// What the formulas leave open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// How strongly the policy is held to the reference, or preferences pull.
    pub beta: f64,
    /// The share of pairs thought to be the wrong way round.
    pub smoothing: f64,
    /// How much wanted and unwanted answers count in `kto`.
    pub desirable: [f64; 2],
}

/// An answer's log-probability by the policy and by the reference, and its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// By what is trained.
    pub policy: f64,
    /// By the model before; of no use where a loss has no reference.
    pub reference: f64,
    /// Tokens of the answer.
    pub tokens: usize,
}

/// The loss of one sample, with its slopes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Valued {
    /// The loss.
    pub loss: f64,
    /// How it changes with each answer's log-probability by the policy.
    pub slopes: [f64; 2],
    /// Whether the better answer is ahead.
    pub right: bool,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `log σ(x)`, safe for large values of either sign.
fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// The loss of a pair: the better answer, then the worse. `loss` is one of those over pairs.
pub fn pair(loss: Loss, weights: &Weights, [better, worse]: [Answer; 2]) -> Valued {
    let gain = |answer: Answer| answer.policy - answer.reference;
    let mean = |answer: Answer| gain(answer) / answer.tokens.max(1) as f64;
    let Weights { beta, smoothing, .. } = *weights;
    let margin = beta * (gain(better) - gain(worse));
    let (value, slope, per) = match loss {
        Loss::Ipo => {
            let far = mean(better) - mean(worse) - 1.0 / (2.0 * beta);
            (far * far, 2.0 * far, [better, worse].map(|answer| answer.tokens.max(1) as f64))
        }
        Loss::Hinge => ((1.0 - margin).max(0.0), if margin < 1.0 { -beta } else { 0.0 }, [1.0; 2]),
        Loss::Orpo => return odds(beta, better, worse),
        _ => {
            let value = -(1.0 - smoothing) * log_sigmoid(margin) - smoothing * log_sigmoid(-margin);
            (value, beta * (smoothing * sigmoid(margin) - (1.0 - smoothing) * sigmoid(-margin)), [1.0; 2])
        }
    };
    Valued { loss: value, slopes: [slope / per[0], -slope / per[1]], right: margin > 0.0 }
}

/// `-mean log p(better) - beta · log σ(log odds(better) - log odds(worse))`, of means over tokens.
fn odds(beta: f64, better: Answer, worse: Answer) -> Valued {
    let mean = |answer: Answer| (answer.policy / answer.tokens.max(1) as f64).min(-1e-12);
    // log(p / (1 - p)) has the slope 1 / (1 - p) in log p.
    let log_odds = |mean: f64| (mean - (-mean.exp_m1()).ln(), -1.0 / mean.exp_m1());
    let ((up, up_slope), (down, down_slope)) = (log_odds(mean(better)), log_odds(mean(worse)));
    let ratio = up - down;
    let pull = -beta * sigmoid(-ratio);
    let per = [better, worse].map(|answer| answer.tokens.max(1) as f64);
    Valued {
        loss: -mean(better) - beta * log_sigmoid(ratio),
        slopes: [(-1.0 + pull * up_slope) / per[0], -pull * down_slope / per[1]],
        right: ratio > 0.0,
    }
}

/// The loss of one judged answer; `far` is how far the policy is from the reference (their divergence, at least 0).
pub fn judged(weights: &Weights, answer: Answer, desirable: bool, far: f64) -> Valued {
    let gain = answer.policy - answer.reference;
    let (sign, weight) = if desirable { (1.0, weights.desirable[0]) } else { (-1.0, weights.desirable[1]) };
    let value = sigmoid(sign * weights.beta * (gain - far));
    let slope = -weight * sign * weights.beta * value * (1.0 - value);
    Valued { loss: weight * (1.0 - value), slopes: [slope, 0.0], right: (gain > far) == desirable }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: Weights = Weights { beta: 0.1, smoothing: 0.0, desirable: [1.0, 1.0] };

    /// The kit's first pair (`train/llama3/dpo`).
    const PAIR: [Answer; 2] = [
        Answer { policy: -102.848_571_777_343_75, reference: -107.339_462_280_273_44, tokens: 13 },
        Answer { policy: -108.839_851_379_394_53, reference: -106.168_571_472_167_97, tokens: 14 },
    ];

    #[test]
    fn the_kits_pair_has_its_losses() {
        let smoothed = Weights { smoothing: 0.1, ..WEIGHTS };
        for (loss, weights, wanted) in [
            (Loss::Dpo, WEIGHTS, 0.397_834_122_180_938_7),
            (Loss::Dpo, smoothed, 0.469_455_808_401_107_8),
            (Loss::Ipo, WEIGHTS, 19.924_982_070_922_85),
            (Loss::Hinge, WEIGHTS, 0.283_782_958_984_375),
        ] {
            let found = pair(loss, &weights, PAIR).loss;
            assert!((found - wanted).abs() < 1e-5 * wanted, "{loss:?}: {found}, not {wanted}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_losses() {
        let weights = Weights { beta: 0.3, smoothing: 0.0, desirable: [1.5, 0.7] };
        let moved = |at: usize, by: f64| {
            let mut pair = PAIR;
            pair[at].policy += by;
            pair
        };
        for loss in [Loss::Dpo, Loss::Ipo, Loss::Hinge, Loss::Orpo] {
            let found = pair(loss, &weights, PAIR).slopes;
            for (at, found) in found.into_iter().enumerate() {
                let [up, down] = [1e-4, -1e-4].map(|by| pair(loss, &weights, moved(at, by)).loss);
                let expected = (up - down) / 2e-4;
                assert!((found - expected).abs() < 1e-6, "{loss:?} of {at}: {found} not {expected}");
            }
        }
        for (desirable, far) in [(true, 0.0), (false, 0.5), (true, 2.0)] {
            let found = judged(&weights, PAIR[0], desirable, far).slopes[0];
            let [up, down] = [1e-4, -1e-4].map(|by| judged(&weights, moved(0, by)[0], desirable, far).loss);
            assert!((found - (up - down) / 2e-4).abs() < 1e-6);
        }
    }

    #[test]
    fn extreme_answers_have_finite_losses() {
        let far = [Answer { policy: -1e6, ..PAIR[0] }, Answer { policy: 0.0, ..PAIR[1] }];
        for loss in [Loss::Dpo, Loss::Ipo, Loss::Hinge, Loss::Orpo] {
            let Valued { loss: value, slopes, .. } = pair(loss, &WEIGHTS, far);
            assert!(value.is_finite() && slopes.iter().all(|slope| slope.is_finite()), "{loss:?}: {value} {slopes:?}");
        }
    }
}
