//! The rule by which the kit's traces were made: AdamW (Loshchilov & Hutter, arXiv 1711.05101) with a warm-up, a cosine
//! and a limit on the norm of all gradients. For comparison with traces only.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A run's constants.
pub(super) struct Rule {
    rate: f64,
    betas: [f64; 2],
    eps: f64,
    decay: f64,
    steps: f64,
    warmup: f64,
    norm_max: f64,
}

impl Rule {
    /// From the case's constants and its run's.
    pub(super) fn read(shared: &Value, run: &Value) -> Result<Rule> {
        let number = |value: &Value| value.as_f64().with_context(|| format!("{value} where a number should be"));
        let of = |key: &str| number(&shared[key]).with_context(|| key.to_owned());
        Ok(Rule {
            rate: number(&run["lr"])?,
            betas: [number(&shared["betas"][0])?, number(&shared["betas"][1])?],
            eps: of("eps")?,
            decay: of("weight_decay")?,
            steps: of("steps")?,
            warmup: of("warmup_steps")?,
            norm_max: of("max_grad_norm")?,
        })
    }

    fn rate(&self, step: f64) -> f64 {
        if step < self.warmup {
            return self.rate * (step + 1.0) / (self.warmup + 1.0);
        }
        let part = (step - self.warmup) / (self.steps - self.warmup);
        self.rate * 0.5 * (1.0 + (std::f64::consts::PI * part).cos())
    }
}

/// The optimizer with its moments.
pub(super) struct AdamW {
    rule: Rule,
    done: i32,
    moments: BTreeMap<String, Vec<[f64; 2]>>,
}

impl AdamW {
    pub(super) fn new(rule: Rule) -> AdamW {
        AdamW { rule, done: 0, moments: BTreeMap::new() }
    }

    /// Changes all values by their gradients. Returns the norm of all gradients before it was limited.
    pub(super) fn step(
        &mut self,
        values: &mut BTreeMap<String, Vec<f32>>,
        gradients: &BTreeMap<String, Vec<f32>>,
    ) -> f32 {
        let Rule { betas: [first, second], eps, decay, norm_max, .. } = self.rule;
        let squares = gradients.values().flatten().map(|gradient| f64::from(*gradient) * f64::from(*gradient));
        let norm = squares.sum::<f64>().sqrt();
        let limit = (norm_max / (norm + 1e-6)).min(1.0);
        let rate = self.rule.rate(f64::from(self.done));
        self.done += 1;
        let (whole, root) = (1.0 - first.powi(self.done), (1.0 - second.powi(self.done)).sqrt());
        for (name, values) in values {
            let gradients = &gradients[name];
            let moments = self.moments.entry(name.clone()).or_insert_with(|| vec![[0.0; 2]; values.len()]);
            for ((value, gradient), [mean, square]) in values.iter_mut().zip(gradients).zip(moments) {
                let gradient = f64::from(*gradient) * limit;
                *mean = first * *mean + (1.0 - first) * gradient;
                *square = second * *square + (1.0 - second) * gradient * gradient;
                let decayed = f64::from(*value) * (1.0 - rate * decay);
                *value = (decayed - rate / whole * *mean / (square.sqrt() / root + eps)) as f32;
            }
        }
        norm as f32
    }
}
