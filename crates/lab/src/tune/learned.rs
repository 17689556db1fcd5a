//! What is learned: texts, pairs of answers or judged answers, and the loss of a batch of them with its gradients.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use pasture_tensor::WeightId;
use pasture_tensor::tape::Gradients;

use super::error::{Error, Result};
use super::events::Found;
use super::pass::Pass;
use super::plan::Plan;
use super::preference::{Answer, Valued, Weights, judged, pair};
use super::recipe::Loss;
use crate::data::{self, Example, Judged, Preference};
use crate::evaluate::Ask;

/// Data that is ready to be learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// One text, or two whose losses are compared.
    texts: Vec<Vec<Example>>,
    /// Whether each judged answer is wanted; none where samples are not judged.
    desirable: Vec<bool>,
    kind: Kind,
}

/// What samples are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Texts to go on with.
    #[default]
    Texts,
    /// A better and a worse answer.
    Pairs,
    /// An answer that is wanted or not, and another prompt's answer behind the same prompt, by which the distance to the
    /// reference is estimated.
    Judged,
}

impl Samples {
    /// Texts.
    pub fn of_texts(texts: Vec<Example>) -> Samples {
        Samples { texts: texts.into_iter().map(|text| vec![text]).collect(), desirable: Vec::new(), kind: Kind::Texts }
    }

    /// Pairs of answers.
    pub fn of_pairs(pairs: Vec<Preference>) -> Samples {
        let texts = pairs.iter().map(|pair| pair.examples().to_vec()).collect();
        Samples { texts, desirable: Vec::new(), kind: Kind::Pairs }
    }

    /// Judged answers. Each is paired with the next one's answer behind its own prompt.
    pub fn of_judged(all: Vec<Judged>) -> Samples {
        let other = |at: usize| {
            let completion = all[(at + 1) % all.len()].completion.clone();
            Judged { completion, ..all[at].clone() }.example()
        };
        let texts = (0..all.len()).map(|at| vec![all[at].example(), other(at)]).collect();
        Samples { texts, desirable: all.iter().map(|one| one.desirable).collect(), kind: Kind::Judged }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What they are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The tokens of each.
    pub fn lengths(&self) -> Vec<usize> {
        self.texts.iter().map(|texts| texts.iter().map(|text| text.ids.len()).sum()).collect()
    }

    /// The samples of these numbers alone.
    pub fn only(&self, numbers: &[usize]) -> Samples {
        let desirable = numbers.iter().filter_map(|at| self.desirable.get(*at).copied()).collect();
        Samples { texts: numbers.iter().map(|at| self.texts[*at].clone()).collect(), desirable, kind: self.kind }
    }

    /// What is learned of them, to be scored: each run of targets behind what stands before it. Of pairs it is the better
    /// answer, of judged ones those that are wanted.
    pub fn asks(&self) -> Vec<Ask> {
        let wanted = self.texts.iter().enumerate().filter(|(at, _)| self.desirable.get(*at) != Some(&false));
        let texts = wanted.filter_map(|(group, texts)| Some((group, texts.first()?)));
        texts.flat_map(|(group, text)| runs(&text.trained).map(move |run| (group, text, run))).map(asked).collect()
    }

    fn texts_of(&self, numbers: &[usize]) -> Vec<&Example> {
        numbers.iter().flat_map(|at| &self.texts[*at]).collect()
    }

    /// Targets of texts.
    fn targets(&self, numbers: &[usize]) -> usize {
        numbers.iter().flat_map(|at| &self.texts[*at]).map(Example::targets).sum()
    }
}

/// Runs of targets. The first token is none.
fn runs(trained: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let is_target = |at: &usize| *at > 0 && trained.get(*at) == Some(&true);
    let first = (1..trained.len()).filter(move |at| is_target(at) && !is_target(&(at - 1)));
    first.map(move |start| start..(start..).find(|at| !is_target(at)).unwrap_or(start))
}

fn asked((group, text, run): (usize, &Example, Range<usize>)) -> Ask {
    Ask { ids: text.ids[..run.end].to_vec(), scored: run.len(), group }
}

impl From<data::Samples> for Samples {
    fn from(samples: data::Samples) -> Samples {
        match samples {
            data::Samples::Examples(texts) => Samples::of_texts(texts),
            data::Samples::Preferences(pairs) => Samples::of_pairs(pairs),
            data::Samples::Judged(all) => Samples::of_judged(all),
        }
    }
}

/// The loss.
pub struct Learned {
    loss: Loss,
    weights: Weights,
    /// Log-probabilities by the base of each sample's two texts: of those that are learned, and of those held out.
    references: [Vec<[f64; 2]>; 2],
}

/// Samples that the reference runs at once.
const AT_ONCE: usize = 4;

impl Learned {
    /// The loss of a plan.
    pub fn new(plan: &Plan) -> Learned {
        Learned { loss: plan.loss, weights: plan.weights, references: [Vec::new(), Vec::new()] }
    }

    /// Computes the reference's log-probabilities, where the loss compares with it.
    ///
    /// # Errors
    /// When the model cannot run a sample.
    pub fn prepare(
        &mut self,
        base: &Pass,
        samples: &Samples,
        held_out: &Samples,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        if matches!(self.loss, Loss::Sft | Loss::Orpo) {
            return Ok(());
        }
        let (mut done, all) = (0, samples.len() + held_out.len());
        for (at, samples) in [samples, held_out].into_iter().enumerate() {
            let numbers: Vec<usize> = (0..samples.len()).collect();
            for part in numbers.chunks(AT_ONCE) {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let losses = base.losses(&samples.texts_of(part))?;
                self.references[at].extend(losses.chunks_exact(2).map(|two| [-two[0], -two[1]]));
                done += part.len();
                tell(done, all);
            }
        }
        Ok(())
    }

    /// By what a step's loss is divided: the targets of texts, or the samples of preferences.
    pub fn count(&self, samples: &Samples, step: &[Vec<usize>]) -> f64 {
        let count = match self.loss {
            Loss::Sft => step.iter().map(|batch| samples.targets(batch)).sum(),
            _ => step.iter().map(Vec::len).sum::<usize>(),
        };
        count.max(1) as f64
    }

    /// The sum of a batch's losses, and the gradients of that sum divided by `count`.
    ///
    /// # Errors
    /// When the model cannot run the batch.
    pub fn gradients(
        &self,
        pass: &Pass,
        samples: &Samples,
        batch: &[usize],
        train: Vec<WeightId>,
        count: f64,
    ) -> Result<(f64, Gradients)> {
        let (loss, gradients) = match self.loss {
            Loss::Sft => pass.sum(&samples.texts_of(batch), train, (1.0 / count) as f32)?,
            Loss::Kto => {
                let far = self.distance(pass, samples, batch)?;
                let texts: Vec<&Example> = batch.iter().map(|at| &samples.texts[*at][0]).collect();
                let slopes = |sums: &[f64]| {
                    let valued: Vec<Valued> =
                        batch.iter().zip(sums).map(|(at, sum)| self.judge(samples, 0, *at, *sum, far)).collect();
                    let slopes = valued.iter().map(|one| (-one.slopes[0] / count) as f32).collect();
                    (valued.iter().map(|one| one.loss).sum::<f64>(), slopes)
                };
                pass.each(&texts, train, slopes)?
            }
            _ => {
                let slopes = |sums: &[f64]| {
                    let two = batch.iter().zip(sums.chunks_exact(2));
                    let valued: Vec<Valued> = two.map(|(at, two)| self.compare(samples, 0, *at, two)).collect();
                    let slopes = valued.iter().flat_map(|one| one.slopes).map(|slope| (-slope / count) as f32);
                    (valued.iter().map(|one| one.loss).sum::<f64>(), slopes.collect())
                };
                pass.each(&samples.texts_of(batch), train, slopes)?
            }
        };
        Ok((loss, gradients))
    }

    /// A pair's loss from the negative log-probabilities of its texts. `part` says whose references: 0 of those that are
    /// learned, 1 of those held out.
    fn compare(&self, samples: &Samples, part: usize, at: usize, losses: &[f64]) -> Valued {
        let references = self.references[part].get(at).copied().unwrap_or_default();
        let answer = |text: usize| Answer {
            policy: -losses[text],
            reference: references[text],
            tokens: samples.texts[at][text].targets(),
        };
        pair(self.loss, &self.weights, [answer(0), answer(1)])
    }

    fn judge(&self, samples: &Samples, part: usize, at: usize, loss: f64, far: f64) -> Valued {
        let reference = self.references[part][at][0];
        let answer = Answer { policy: -loss, reference, tokens: samples.texts[at][0].targets() };
        judged(&self.weights, answer, samples.desirable[at], far)
    }

    /// How far the policy is from the reference: the mean over a batch of answers that do not belong to their prompts.
    fn distance(&self, pass: &Pass, samples: &Samples, batch: &[usize]) -> Result<f64> {
        let texts: Vec<&Example> = batch.iter().map(|at| &samples.texts[*at][1]).collect();
        let losses = pass.losses(&texts)?;
        let gains = batch.iter().zip(losses).map(|(at, loss)| -loss - self.references[0][*at][1]);
        Ok((gains.sum::<f64>() / batch.len() as f64).max(0.0))
    }

    /// Measures samples without changing anything; none if someone asked for an end before all were run. Batches have
    /// about `tokens` tokens.
    ///
    /// # Errors
    /// When the model cannot run a sample.
    pub fn measure(&self, pass: &Pass, samples: &Samples, tokens: usize, stop: &AtomicBool) -> Result<Option<Found>> {
        let (mut values, mut right): (Vec<[f64; 2]>, usize) = (Vec::new(), 0);
        for batch in in_order(&samples.lengths(), tokens) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let losses = pass.losses(&samples.texts_of(&batch))?;
            let width = losses.len() / batch.len();
            for (at, losses) in batch.into_iter().zip(losses.chunks_exact(width)) {
                let valued = match self.loss {
                    Loss::Sft => {
                        values.push([losses[0], samples.targets(&[at]) as f64]);
                        continue;
                    }
                    // Over the held-out part the distance is not estimated: it only shifts what is wanted.
                    Loss::Kto => self.judge(samples, 1, at, losses[0], 0.0),
                    _ => self.compare(samples, 1, at, losses),
                };
                values.push([valued.loss, 1.0]);
                right += usize::from(valued.right);
            }
        }
        let (loss, stderr, count) = mean(&values);
        let right = (self.loss != Loss::Sft).then(|| right as f64 / samples.len() as f64);
        Ok(Some(Found { loss, stderr, count: count as usize, right }))
    }
}

/// Batches of neighbors with at most so many tokens, or one sample.
fn in_order(lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let (mut batches, mut sum): (Vec<Vec<usize>>, usize) = (Vec::new(), 0);
    for (at, length) in lengths.iter().enumerate() {
        match batches.last_mut() {
            Some(batch) if sum + length <= tokens => batch.push(at),
            _ => {
                batches.push(vec![at]);
                sum = 0;
            }
        }
        sum += length;
    }
    batches
}

/// The mean of sums over their counts, its standard error (samples are independent, tokens within one are not), and the
/// count.
fn mean(values: &[[f64; 2]]) -> (f64, f64, f64) {
    let [sum, count] = values.iter().fold([0.0, 0.0], |all, one| [all[0] + one[0], all[1] + one[1]]);
    let (mean, samples) = (sum / count.max(1.0), values.len() as f64);
    let spread: f64 = values.iter().map(|[sum, count]| (sum - mean * count).powi(2)).sum();
    let stderr = if samples > 1.0 { (spread * samples / (samples - 1.0)).sqrt() / count.max(1.0) } else { 0.0 };
    (mean, stderr, count)
}

/// Says that a loss needs other data.
///
/// # Errors
/// When it does.
pub fn check_kind(loss: Loss, kind: Kind) -> Result<()> {
    let (wanted, words) = match loss {
        Loss::Sft => (Kind::Texts, "texts or conversations"),
        Loss::Kto => (Kind::Judged, "judged answers"),
        _ => (Kind::Pairs, "preferences: a better and a worse answer"),
    };
    if kind == wanted {
        return Ok(());
    }
    let found = match kind {
        Kind::Texts => "texts",
        Kind::Pairs => "preferences",
        Kind::Judged => "judged answers",
    };
    Err(Error::data(format!("holds {found}, but this loss learns from {words}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ids: &[u32], trained: &[u8]) -> Example {
        Example { ids: ids.to_vec(), trained: trained.iter().map(|trained| *trained == 1).collect() }
    }

    fn ask(ids: &[u32], scored: usize, group: usize) -> Ask {
        Ask { ids: ids.to_vec(), scored, group }
    }

    #[test]
    fn each_run_of_targets_is_asked_behind_what_stands_before_it() {
        let texts =
            vec![text(&[1, 2, 3, 4, 5, 6], &[1, 0, 1, 1, 0, 1]), text(&[7, 8], &[0, 0]), text(&[9, 3], &[1, 1])];
        let wanted = [ask(&[1, 2, 3, 4], 2, 0), ask(&[1, 2, 3, 4, 5, 6], 1, 0), ask(&[9, 3], 1, 2)];
        assert_eq!(Samples::of_texts(texts).asks(), wanted);
    }

    #[test]
    fn of_judged_answers_the_wanted_are_asked_and_of_pairs_the_better() {
        let judged = |completion, desirable| Judged { prompt: vec![1, 2], completion, desirable };
        let all = Samples::of_judged(vec![judged(vec![3], false), judged(vec![4, 5], true)]);
        assert_eq!(all.asks(), [ask(&[1, 2, 4, 5], 2, 1)]);
        let pair = Preference { prompt: vec![1], chosen: vec![2, 3], rejected: vec![4] };
        assert_eq!(Samples::of_pairs(vec![pair]).asks(), [ask(&[1, 2, 3], 2, 0)]);
    }
}
