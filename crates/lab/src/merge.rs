//! Joining: adapters into a base, and models with each other. Every matrix is made when it is written, so that no more
//! than one of each model is in memory. The sum of an adapter is that of peft's `merge_and_unload`.

use std::path::Path;

use pasture_model::save::{Content, Own, difference};
use pasture_model::{Error as ModelError, Slot, Source, Survey, load_adapter, survey};
use pasture_tensor::{Adapter, AdapterSite, Weight};

use crate::change::{Error, Result};

/// An adapter and how much of it is added.
pub struct Part {
    /// The adapter.
    pub adapter: Adapter,
    /// Its share; 1 is all of it.
    pub share: f32,
}

/// A base with adapters that are added to it.
pub struct WithAdapters<'a> {
    source: &'a Source,
    survey: &'a Survey,
    parts: Vec<Part>,
}

impl<'a> WithAdapters<'a> {
    /// Reads adapters for a base.
    ///
    /// # Errors
    /// When one is not for this base, or changes what cannot be merged.
    pub fn open(source: &'a Source, survey: &'a Survey, adapters: &[(&Path, f32)]) -> Result<WithAdapters<'a>> {
        let open =
            |(path, share): &(&Path, f32)| Ok(Part { adapter: load_adapter(path, &survey.decoder)?, share: *share });
        WithAdapters::of(source, survey, adapters.iter().map(open).collect::<Result<Vec<_>>>()?)
    }

    /// A base with adapters that are there already.
    ///
    /// # Errors
    /// When one changes what cannot be merged.
    pub fn of(source: &'a Source, survey: &'a Survey, parts: Vec<Part>) -> Result<WithAdapters<'a>> {
        let modules: Vec<String> = survey.slots.iter().filter_map(|slot| Some(survey.module(slot)?.0)).collect();
        for name in parts.iter().flat_map(|part| part.adapter.sites().keys()) {
            if !modules.contains(name) {
                return Err(Error::Ask(format!("the adapter changes {name:?}, which the base's files do not hold")));
            }
        }
        Ok(WithAdapters { source, survey, parts })
    }
}

impl Content for WithAdapters<'_> {
    fn matrix(&self, slot: &Slot) -> pasture_model::Result<Weight> {
        let own = Own { source: self.source, survey: self.survey }.matrix(slot)?;
        let Some((module, rows)) = self.survey.module(slot) else { return Ok(own) };
        let touching = || self.parts.iter().filter_map(|part| Some((part.adapter.site(&module)?, part.share)));
        if touching().next().is_none() {
            return Ok(own);
        }
        let base = values(&own);
        let mut sum = base.clone();
        for (site, share) in touching() {
            add(&base, &mut sum, own.cols(), &rows, site, share);
        }
        Ok(Weight::from_values(own.rows(), own.cols(), &sum))
    }

    fn vector(&self, slot: &Slot, plus_one: bool) -> pasture_model::Result<Vec<f32>> {
        Own { source: self.source, survey: self.survey }.vector(slot, plus_one)
    }
}

/// All values, row after row.
fn values(weight: &Weight) -> Vec<f32> {
    let mut values = vec![0.0; weight.rows() * weight.cols()];
    let rows = values.chunks_exact_mut(weight.cols()).enumerate();
    rows.for_each(|(row, out)| weight.row_values(row, out));
    values
}

/// Adds what an adapter changes: `share · (W' − W)` with `W' = W + s·BA`, each row of the length that it says, if any.
fn add(base: &[f32], sum: &mut [f32], cols: usize, rows: &[usize], site: &AdapterSite, share: f32) {
    let (a, rank) = (values(&site.a), site.a.rows());
    let (mut b, mut changed) = (vec![0.0; rank], vec![0.0f32; cols]);
    for ((old, sum), of_site) in base.chunks_exact(cols).zip(sum.chunks_exact_mut(cols)).zip(rows) {
        site.b.row_values(*of_site, &mut b);
        changed.fill(0.0);
        for (factor, a) in b.iter().zip(a.chunks_exact(cols)) {
            changed.iter_mut().zip(a).for_each(|(changed, a)| *changed += factor * a);
        }
        changed.iter_mut().zip(old).for_each(|(changed, old)| *changed = old + site.scale * *changed);
        if let Some(magnitude) = &site.magnitude {
            let norm = changed.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
            let factor = magnitude.lengths.values()[*of_site] / norm.max(f32::MIN_POSITIVE);
            changed.iter_mut().for_each(|value| *value *= factor);
        }
        for ((sum, changed), old) in sum.iter_mut().zip(&changed).zip(old) {
            *sum += share * (changed - old);
        }
    }
}

/// How models are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The weighted mean.
    Linear,
    /// Along the arc between two models, the share of the second (Shoemake 1985).
    Slerp {
        /// 0 is the first, 1 the second.
        at: f32,
    },
    /// Of each difference from the base the largest share is kept, signs are elected, agreeing values are averaged
    /// (Yadav et al., arXiv 2306.01708).
    Ties {
        /// The share of values that is kept.
        density: f32,
    },
    /// Of each difference from the base values are dropped at random and the rest is scaled up (Yu et al., arXiv
    /// 2311.03099).
    Dare {
        /// The share of values that is kept.
        density: f32,
        /// Chooses the values.
        seed: u64,
    },
}

/// Several models of one structure, joined.
pub struct Joined<'a> {
    models: Vec<(&'a Source, Survey)>,
    weights: Vec<f32>,
    method: Method,
}

impl<'a> Joined<'a> {
    /// Joins models; for [`Method::Ties`] and [`Method::Dare`] the first is the base and has no weight.
    ///
    /// # Errors
    /// When they are not of one structure, or the method takes another number of models.
    pub fn open(sources: &[&'a Source], weights: &[f32], method: Method) -> Result<Joined<'a>> {
        let models = sources.iter().map(|source| Ok((*source, survey(source)?))).collect::<Result<Vec<_>>>()?;
        let wrong = |what: &str| Err(Error::Ask(what.to_owned()));
        let counted = match method {
            Method::Ties { .. } | Method::Dare { .. } => models.len().saturating_sub(1),
            _ => models.len(),
        };
        match method {
            Method::Slerp { at } if models.len() != 2 || !(0.0..=1.0).contains(&at) => {
                return wrong("slerp takes two models and a place between 0 and 1");
            }
            Method::Ties { density } | Method::Dare { density, .. }
                if !(0.0..=1.0).contains(&density) || density == 0.0 =>
            {
                return wrong("a density is above 0 and at most 1");
            }
            _ if models.len() < 2 => return wrong("joining takes two models or more"),
            _ if weights.len() != counted && !matches!(method, Method::Slerp { .. }) => {
                return wrong("there should be a weight for each model but the base");
            }
            Method::Linear if weights.iter().sum::<f32>() == 0.0 => {
                return wrong("the weights of a mean may not sum to 0");
            }
            _ => {}
        }
        let (_, first) = &models[0];
        for (source, other) in &models[1..] {
            let differs = difference(&first.spec, &other.spec).or_else(|| {
                let same = first.slots.len() == other.slots.len();
                (!same).then(|| "the number of its tensors".to_owned())
            });
            if let Some(what) = differs {
                let name = source.tensors.name();
                return Err(Error::Ask(format!("{name:?} cannot be joined: it differs from the first in {what}")));
            }
        }
        Ok(Joined { models, weights: weights.to_vec(), method })
    }

    /// Where the first model's slots stand.
    pub fn survey(&self) -> &Survey {
        &self.models[0].1
    }

    fn join(&self, slot: &Slot, values: Vec<Vec<f32>>) -> Vec<f32> {
        match self.method {
            Method::Linear => {
                let total: f32 = self.weights.iter().sum();
                let mut sum = vec![0.0; values[0].len()];
                for (values, weight) in values.iter().zip(&self.weights) {
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight / total * value);
                }
                sum
            }
            Method::Slerp { at } => slerp(&values[0], &values[1], at),
            Method::Ties { density } => ties(&values, &self.weights, density),
            Method::Dare { density, seed } => {
                // Each tensor has numbers of its own, whatever the order of writing.
                let seed =
                    slot.tensor.bytes().fold(seed, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
                dare(&values, &self.weights, density, seed ^ (slot.place.expert.unwrap_or(0) as u64) << 32)
            }
        }
    }

    /// The same slot in another model: its file may have other names.
    fn slot(&self, model: usize, slot: &Slot) -> pasture_model::Result<&Slot> {
        let found = self.models[model].1.slots.iter().find(|it| it.place == slot.place && it.part == slot.part);
        found
            .ok_or_else(|| ModelError::CannotExpress { container: "a model to join".into(), what: slot.tensor.clone() })
    }
}

impl Content for Joined<'_> {
    fn matrix(&self, slot: &Slot) -> pasture_model::Result<Weight> {
        let read = |(at, (source, survey)): (usize, &(&Source, Survey))| {
            Ok(values(&survey.matrix(source, self.slot(at, slot)?)?))
        };
        let all = self.models.iter().enumerate().map(read).collect::<pasture_model::Result<Vec<_>>>()?;
        Ok(Weight::from_values(slot.rows, slot.cols.unwrap_or(1), &self.join(slot, all)))
    }

    fn vector(&self, slot: &Slot, plus_one: bool) -> pasture_model::Result<Vec<f32>> {
        let read = |(at, (source, survey)): (usize, &(&Source, Survey))| {
            Own { source, survey }.vector(self.slot(at, slot)?, plus_one)
        };
        let all = self.models.iter().enumerate().map(read).collect::<pasture_model::Result<Vec<_>>>()?;
        Ok(self.join(slot, all))
    }
}

/// Nearly parallel tensors are joined on the straight line: the arc's factors lose their digits there.
const PARALLEL: f64 = 0.9995;

fn slerp(one: &[f32], other: &[f32], at: f32) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    let cosine = if lengths > 0.0 { dot(one, other) / lengths } else { 1.0 };
    let at = f64::from(at);
    let (first, second) = if cosine.abs() > PARALLEL {
        (1.0 - at, at)
    } else {
        let angle = cosine.acos();
        (((1.0 - at) * angle).sin() / angle.sin(), (at * angle).sin() / angle.sin())
    };
    one.iter().zip(other).map(|(a, b)| (first * f64::from(*a) + second * f64::from(*b)) as f32).collect()
}

/// Differences of the models from the base.
fn differences(values: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let of = |model: &Vec<f32>| model.iter().zip(&values[0]).map(|(value, base)| value - base).collect();
    values[1..].iter().map(of).collect()
}

fn ties(values: &[Vec<f32>], weights: &[f32], density: f32) -> Vec<f32> {
    let mut differences = differences(values);
    for difference in &mut differences {
        let kept = ((difference.len() as f32 * density).ceil() as usize).clamp(1, difference.len().max(1));
        let mut sizes: Vec<f32> = difference.iter().map(|value| value.abs()).collect();
        sizes.sort_unstable_by(|a, b| b.total_cmp(a));
        let least = sizes.get(kept - 1).copied().unwrap_or(0.0);
        difference.iter_mut().filter(|value| value.abs() < least).for_each(|value| *value = 0.0);
    }
    let one = |(at, base): (usize, &f32)| {
        let parts = || differences.iter().zip(weights).map(|(difference, weight)| (difference[at], *weight));
        let elected = parts().map(|(value, weight)| value * weight).sum::<f32>();
        let agreeing = || parts().filter(|(value, weight)| value * weight * elected > 0.0);
        let total: f32 = agreeing().map(|(_, weight)| weight).sum();
        let sum: f32 = agreeing().map(|(value, weight)| value * weight).sum();
        if total == 0.0 { *base } else { base + sum / total }
    };
    values[0].iter().enumerate().map(one).collect()
}

fn dare(values: &[Vec<f32>], weights: &[f32], density: f32, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    // Xorshift (Marsaglia 2003): only which values are dropped depends on it.
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut sum = values[0].clone();
    for (difference, weight) in differences(values).iter().zip(weights) {
        for (sum, value) in sum.iter_mut().zip(difference) {
            if random() < density {
                *sum += weight * value / density;
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arc_ends_in_its_models_and_keeps_lengths_between() {
        let (one, other) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        assert!(
            slerp(&one, &other, 0.0) == one
                && slerp(&one, &other, 1.0).iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-6)
        );
        let middle = slerp(&one, &other, 0.5);
        assert!((middle[0].hypot(middle[1]) - 1.0).abs() < 1e-6);
        assert_eq!(slerp(&[2.0], &[4.0], 0.25), [2.5]);
    }

    #[test]
    fn signs_are_elected_and_small_changes_trimmed() {
        // Differences: +4 −1 0.1, and +2 +3 0.2; half of each is kept.
        let values = [vec![0.0; 3], vec![4.0, -1.0, 0.1], vec![2.0, 3.0, 0.2]];
        assert_eq!(ties(&values, &[1.0, 1.0], 0.6), [3.0, 3.0, 0.0]);
        assert_eq!(ties(&values, &[1.0, 1.0], 1.0)[1], 3.0);
    }

    #[test]
    fn what_is_dropped_is_made_up_for_on_average() {
        let values = [vec![0.0; 10_000], vec![1.0; 10_000]];
        let found = dare(&values, &[1.0], 0.5, 7);
        assert!(found.iter().all(|value| *value == 0.0 || *value == 2.0));
        let mean = found.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(dare(&values, &[1.0], 1.0, 7), values[1]);
    }
}
