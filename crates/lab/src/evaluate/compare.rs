//! Whether one of two models is better: both answered the same samples, so their differences are judged in pairs.
//! Right or wrong is judged by McNemar's exact test, all else by resampling the differences.

use std::fmt;

use serde::Serialize;

use super::error::{Error, Result};
use super::report::{Metric, TaskReport, TextDetail, figure};
use super::run::BLOCK;
use super::statistics::{SEED, bootstrap, mcnemar, mean};

/// Differences whose chance is smaller count as shown.
const CHANCE: f64 = 0.05;

/// What two models' results on one metric say.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The task.
    pub task: String,
    /// The metric.
    pub metric: String,
    /// Whether it is the one that decides.
    pub primary: bool,
    /// The first model's figure.
    pub a: f64,
    /// The second model's.
    pub b: f64,
    /// What the second is better by, in the figure's units; negative where it is worse.
    pub gain: f64,
    /// Where that gain lies with 95 % confidence.
    pub interval: Option<(f64, f64)>,
    /// The chance of a difference at least so large between equal models.
    pub p: Option<f64>,
    /// How it was judged.
    pub test: &'static str,
    /// Pairs that were compared.
    pub pairs: usize,
    /// What that means.
    pub verdict: Verdict,
}

/// Whether the second model is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is.
    Better,
    /// It is worse.
    Worse,
    /// No difference is shown.
    Undecided,
    /// Better in some tasks and worse in others.
    Mixed,
}

/// Compares what two models did in the same task, metric by metric.
///
/// # Errors
/// When the reports are not of the same samples.
pub fn compare(a: &TaskReport, b: &TaskReport) -> Result<Vec<Comparison>> {
    if (&a.task, a.samples, a.shots) != (&b.task, b.samples, b.shots) {
        let what = format!("{} samples of {:?} and {} of {:?}", a.samples, a.task, b.samples, b.task);
        return Err(Error::Unlike { what: format!("their reports are not of the same samples: {what}") });
    }
    if let (Some(of_a), Some(of_b)) = (&a.text, &b.text) {
        return Ok(vec![texts(&a.task, of_a, of_b)]);
    }
    let pairs = a.metrics.iter().filter_map(|metric| Some((metric, b.metric(&metric.name)?)));
    Ok(pairs.map(|(of_a, of_b)| scores(&a.task, of_a, of_b)).collect())
}

/// What the deciding metrics say together.
pub fn decide(comparisons: &[Comparison]) -> Verdict {
    let any = |verdict| comparisons.iter().any(|found| found.primary && found.verdict == verdict);
    match (any(Verdict::Better), any(Verdict::Worse)) {
        (true, true) => Verdict::Mixed,
        (true, false) => Verdict::Better,
        (false, true) => Verdict::Worse,
        (false, false) => Verdict::Undecided,
    }
}

fn verdict(gain: f64, p: Option<f64>) -> Verdict {
    match p {
        Some(p) if p < CHANCE && gain > 0.0 => Verdict::Better,
        Some(p) if p < CHANCE && gain < 0.0 => Verdict::Worse,
        _ => Verdict::Undecided,
    }
}

fn scores(task: &str, a: &Metric, b: &Metric) -> Comparison {
    let sign = if a.higher_is_better { 1.0 } else { -1.0 };
    let gains: Vec<f64> = a.scores.iter().zip(&b.scores).map(|(a, b)| sign * (b - a)).collect();
    let found = bootstrap(gains.len(), SEED, &mut |chosen| {
        chosen.iter().map(|at| gains[*at]).sum::<f64>() / chosen.len() as f64
    });
    let binary = a.scores.iter().chain(&b.scores).all(|score| *score == 0.0 || *score == 1.0);
    let count = |wanted: f64| gains.iter().filter(|gain| **gain == wanted).count() as u64;
    let p = match binary {
        true => Some(mcnemar(count(-1.0), count(1.0))),
        false => found.map(|found| two_sided(found.below_zero)),
    };
    let gain = mean(&gains);
    Comparison {
        task: task.to_owned(),
        metric: a.name.clone(),
        primary: a.primary,
        a: a.value,
        b: b.value,
        gain,
        interval: found.map(|found| found.interval),
        p,
        test: if binary { "McNemar, exact" } else { "paired bootstrap" },
        pairs: gains.len(),
        verdict: verdict(gain, p),
    }
}

/// Twice the smaller side; never below what so many resamples can show.
fn two_sided(below: f64) -> f64 {
    let smallest = 1.0 / super::statistics::RESAMPLES as f64;
    (2.0 * below.min(1.0 - below)).max(smallest)
}

/// Texts: nats of each token where both have the same tokens, else bits of each byte, text by text.
fn texts(task: &str, a: &TextDetail, b: &TextDetail) -> Comparison {
    let same = a.ids == b.ids;
    // Pairs of (what the first needs, what the second needs, in how many tokens or bytes).
    let units: Vec<(f64, f64, f64)> = if same {
        let pairs: Vec<(f64, f64)> = a.logprobs.concat().iter().zip(&b.logprobs.concat()).map(nats).collect();
        let block = |pairs: &[(f64, f64)]| {
            (pairs.iter().map(|pair| pair.0).sum(), pairs.iter().map(|pair| pair.1).sum(), pairs.len() as f64)
        };
        pairs.chunks(BLOCK).map(block).collect()
    } else {
        let total = |logprobs: &[f32]| logprobs.iter().map(|logprob| -f64::from(*logprob)).sum::<f64>();
        let texts = a.logprobs.iter().zip(&b.logprobs).zip(&a.bytes);
        texts.map(|((a, b), bytes)| (total(a), total(b), *bytes as f64 * std::f64::consts::LN_2)).collect()
    };
    let sum = units.iter().fold((0.0, 0.0, 0.0), |sum, unit| (sum.0 + unit.0, sum.1 + unit.1, sum.2 + unit.2));
    let (of_a, of_b) = (sum.0 / sum.2, sum.1 / sum.2);
    let found = bootstrap(units.len(), SEED, &mut |chosen| {
        let sum = chosen.iter().fold((0.0, 0.0), |sum, at| (sum.0 + units[*at].0 - units[*at].1, sum.1 + units[*at].2));
        sum.0 / sum.1
    });
    let (p, gain) = (found.map(|found| two_sided(found.below_zero)), of_a - of_b);
    let shown = |value: f64| if same { value.exp() } else { value };
    Comparison {
        task: task.to_owned(),
        metric: if same { "perplexity" } else { "bits_per_byte" }.to_owned(),
        primary: true,
        a: shown(of_a),
        b: shown(of_b),
        gain,
        interval: found.map(|found| found.interval),
        p,
        test: if same { "paired bootstrap of nats per token, in blocks of 64" } else { "paired bootstrap of texts" },
        pairs: units.len(),
        verdict: verdict(gain, p),
    }
}

fn nats((a, b): (&f32, &f32)) -> (f64, f64) {
    (-f64::from(*a), -f64::from(*b))
}

impl Verdict {
    /// What it means of a model of that name.
    pub fn sentence(self, b: &str) -> String {
        match self {
            Verdict::Better => format!("{b} is better"),
            Verdict::Worse => format!("{b} is worse"),
            Verdict::Undecided => "no difference is shown".to_owned(),
            Verdict::Mixed => format!("{b} is better in some tasks and worse in others"),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} -> {}", self.task, self.metric, figure(self.a), figure(self.b))?;
        let unit = if self.metric == "perplexity" { " nats per token" } else { "" };
        write!(f, ", gain {}{unit}", figure(self.gain))?;
        if let Some((low, high)) = self.interval {
            write!(f, " (95 %: {} to {})", figure(low), figure(high))?;
        }
        match self.p {
            Some(p) => write!(f, ", p = {}", figure(p)),
            None => write!(f, ", too few samples to judge"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(scores: &[f64]) -> TaskReport {
        TaskReport {
            task: "t".into(),
            form: "own",
            samples: scores.len(),
            of: scores.len(),
            shots: 0,
            settings: serde_json::Value::Null,
            metrics: vec![Metric::of_scores("acc", scores.to_vec(), true)],
            tokens: 0,
            seconds: 0.0,
            records: Vec::new(),
            text: None,
        }
    }

    #[test]
    fn a_difference_counts_only_where_it_is_shown() {
        let (low, high) = ([0.0; 20], [1.0; 20]);
        let mut one = low;
        one[3] = 1.0;
        for (a, b, wanted) in [
            (low, high, Verdict::Better),
            (high, low, Verdict::Worse),
            (low, low, Verdict::Undecided),
            (low, one, Verdict::Undecided),
        ] {
            let found = compare(&report(&a), &report(&b)).unwrap();
            assert_eq!((found[0].verdict, decide(&found)), (wanted, wanted));
        }
        let steps: Vec<f64> = (0..40).map(|at| 0.1 + f64::from(at % 3) / 100.0).collect();
        let found = compare(&report(&[0.0; 40]), &report(&steps)).unwrap().remove(0);
        assert_eq!((found.verdict, found.test), (Verdict::Better, "paired bootstrap"));
        assert!(compare(&report(&low), &report(&steps)).is_err());
    }

    #[test]
    fn texts_are_paired_by_token_or_by_text() {
        let detail = |ids: u32, logprob: f32| TextDetail {
            ids: vec![vec![ids; 640]],
            logprobs: vec![(0..640).map(|at| logprob - (at % 5) as f32 / 10.0).collect()],
            bytes: vec![2000],
        };
        let of = |detail| TaskReport { text: Some(detail), metrics: Vec::new(), ..report(&[0.0]) };
        let found = compare(&of(detail(1, -2.0)), &of(detail(1, -1.9))).unwrap().remove(0);
        assert_eq!((found.metric.as_str(), found.verdict), ("perplexity", Verdict::Better));
        assert!((found.gain - 0.1).abs() < 1e-5 && found.pairs == 10, "{found:?}");
        let found = compare(&of(detail(1, -2.0)), &of(detail(2, -1.9))).unwrap().remove(0);
        assert_eq!((found.metric.as_str(), found.verdict, found.p), ("bits_per_byte", Verdict::Undecided, None));
    }
}
