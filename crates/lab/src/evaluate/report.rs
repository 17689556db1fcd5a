//! What a run found: metrics with their uncertainty, and every sample behind them. Printed as a table, or as JSON with
//! stable names.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::statistics::{mean, mean_stderr};

/// 97.5th percentile of the normal distribution.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// What was found of a model.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The model.
    pub model: String,
    /// One for each task.
    pub tasks: Vec<TaskReport>,
    /// How far it is from a parent, where one was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<Against>,
}

/// What was found in one task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub task: String,
    /// The form of its rows.
    pub form: &'static str,
    /// Rows that were asked.
    pub samples: usize,
    /// Rows that there are.
    pub of: usize,
    /// Worked examples before each question.
    pub shots: usize,
    /// How it was asked: windows, stop texts, tokens.
    pub settings: Value,
    /// Its metrics.
    pub metrics: Vec<Metric>,
    /// Tokens that were run or made, without what was shared.
    pub tokens: u64,
    /// Seconds that it took.
    pub seconds: f64,
    /// Every sample: its line, prompt, answer and scores.
    #[serde(skip)]
    pub records: Vec<Value>,
    /// Log-probabilities of a text's tokens, for comparing two models.
    #[serde(skip)]
    pub text: Option<TextDetail>,
}

/// The likelihood of texts, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextDetail {
    /// For each text, the tokens that were scored.
    pub ids: Vec<Vec<u32>>,
    /// For each text, their log-probabilities.
    pub logprobs: Vec<Vec<f32>>,
    /// For each text, its bytes.
    pub bytes: Vec<u64>,
}

/// One figure with its uncertainty.
#[derive(Clone, Debug, Serialize)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its standard error; none of one sample.
    pub stderr: Option<f64>,
    /// Where it lies with 95 % confidence.
    pub interval: Option<(f64, f64)>,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Whether it is the one that decides.
    pub primary: bool,
    /// The score of each sample, where the figure is their mean.
    #[serde(skip)]
    pub scores: Vec<f64>,
}

/// How far a model's predictions are from its parent's, over a task's text.
#[derive(Clone, Debug, Serialize)]
pub struct Against {
    /// The parent.
    pub parent: String,
    /// The text.
    pub task: String,
    /// The figures.
    #[serde(flatten)]
    pub divergence: crate::receipt::Divergence,
}

impl Metric {
    /// The mean of scores of which more is better.
    pub fn of_scores(name: impl Into<String>, scores: Vec<f64>, primary: bool) -> Metric {
        let (value, stderr) = (mean(&scores), mean_stderr(&scores));
        let interval = stderr.map(|stderr| (value - NORMAL_95 * stderr, value + NORMAL_95 * stderr));
        Metric { name: name.into(), value, stderr, interval, higher_is_better: true, primary, scores }
    }
}

impl TaskReport {
    /// The metric that decides.
    pub fn primary(&self) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.primary)
    }

    /// A metric by its name.
    pub fn metric(&self, name: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tasks.iter().try_for_each(|task| write!(f, "{task}"))?;
        self.against.iter().try_for_each(|against| write!(f, "{against}"))
    }
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.samples < self.of { format!(" of {}", self.of) } else { String::new() };
        let shots = if self.shots > 0 { format!(", {} shots", self.shots) } else { String::new() };
        writeln!(f, "{} ({}): {}{part} samples{shots}", self.task, self.form, self.samples)?;
        let width = self.metrics.iter().map(|metric| metric.name.len()).max().unwrap_or(0);
        for metric in &self.metrics {
            write!(f, "  {:<width$}  {:>9}", metric.name, figure(metric.value))?;
            if let Some(stderr) = metric.stderr {
                write!(f, " ± {}", figure(stderr))?;
            }
            if let Some((low, high)) = metric.interval {
                write!(f, "   95 %: {} to {}", figure(low), figure(high))?;
            }
            writeln!(f, "{}", if metric.higher_is_better { "" } else { "   (less is better)" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Against {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.divergence;
        writeln!(f, "{} against {}: {} tokens", self.task, self.parent, found.tokens)?;
        writeln!(f, "  KL               {:>9} ± {}", figure(found.kl), figure(found.stderr))?;
        writeln!(f, "  KL, 99 % below   {:>9}", figure(found.kl_p99))?;
        writeln!(f, "  KL, largest      {:>9}", figure(found.kl_max))?;
        writeln!(f, "  same first token {:>9}", format!("{:.2} %", found.top1 * 100.0))
    }
}

/// Four decimals, or an exponent where they would show nothing.
pub fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 5e-4 || value.abs() >= 1e7 {
        format!("{value:.2e}")
    } else {
        format!("{value:.4}")
    }
}
