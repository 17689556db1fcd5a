//! From a recipe and what is known of model and data to numbers: every default is decided here, once.

use super::error::{Error, Result};
use super::learned::{Kind, Samples, check_kind};
use super::optimizer::Constants;
use super::order::Order;
use super::preference::Weights;
use super::recipe::{Grouping, LENGTH, Loss, Method, Optimizer, Recipe, Schedule};
use super::schedule::Rates;
use crate::data::{self, Batching};

/// The share of the data that is held out where the recipe does not say.
pub const HELD_OUT: f64 = 0.05;

/// A recipe with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The recipe without an open key.
    pub recipe: Recipe,
    /// What is learned.
    pub loss: Loss,
    /// What the losses of preferences leave open.
    pub weights: Weights,
    /// Steps in all.
    pub steps: usize,
    /// The largest rate.
    pub learning_rate: f64,
    /// Its course.
    pub rates: Rates,
    /// AdamW's constants.
    pub constants: Constants,
    /// The largest norm of all gradients, 0 for none.
    pub clip: f64,
    /// How the data becomes steps.
    pub order: Order,
    /// Steps between evaluations, 0 for none before the end.
    pub evaluate_every: usize,
    /// Steps between samples, 0 for none before the end.
    pub sample_every: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Checkpoints that stay.
    pub kept: usize,
    /// Tokens that are measured at once.
    pub measure_tokens: usize,
}

/// Steps between checkpoints at most, where the recipe does not say.
const CHECKPOINT_MOST: usize = 200;

/// Closes a recipe over a model's context and the samples to learn from.
///
/// # Errors
/// When recipe and data do not fit together, or there is nothing to learn from.
pub fn plan(recipe: &Recipe, context: usize, samples: &Samples) -> Result<Plan> {
    let mut recipe = recipe.clone();
    let loss = recipe.loss.unwrap_or(match samples.kind() {
        Kind::Texts => Loss::Sft,
        Kind::Pairs => Loss::Dpo,
        Kind::Judged => Loss::Kto,
    });
    check_kind(loss, samples.kind())?;
    recipe.loss = Some(loss);
    if samples.is_empty() {
        return Err(Error::data("has no sample to learn from"));
    }
    if samples.kind() == Kind::Judged && samples.len() < 2 {
        return Err(Error::data("has one judged answer, but this loss compares at least two"));
    }
    recipe.length.get_or_insert(context.min(LENGTH));
    recipe.held_out.get_or_insert(HELD_OUT);
    if recipe.batch_tokens.is_none() {
        recipe.batch.get_or_insert(8);
    }
    let batching = Batching {
        grouping: match recipe.grouping {
            Grouping::Plain => data::Grouping::Plain,
            Grouping::Buckets => data::Grouping::Buckets,
            Grouping::Packed => data::Grouping::Packed,
        },
        samples_max: recipe.batch.unwrap_or(usize::MAX),
        tokens_max: recipe.batch_tokens.unwrap_or(usize::MAX),
    };
    let order = Order { batching, accumulate: *recipe.accumulate.get_or_insert(1), seed: recipe.seed };
    let steps = match recipe.steps {
        Some(steps) => steps,
        None => order.steps(&samples.lengths(), *recipe.epochs.get_or_insert(3.0)),
    };
    close(&mut recipe, loss, steps);
    let measure_tokens = samples.lengths().iter().max().copied().unwrap_or(0).max(512);
    Ok(numbers(recipe, loss, steps, order, measure_tokens))
}

/// Decides every key that is still open.
fn close(recipe: &mut Recipe, loss: Loss, steps: usize) {
    if recipe.adapts() {
        let rank = *recipe.rank.get_or_insert(16);
        recipe.alpha.get_or_insert(2.0 * rank as f32);
        recipe.dropout.get_or_insert(0.0);
    }
    let rate = match (recipe.method, loss) {
        (Method::Full, Loss::Sft) => 2e-5,
        (Method::Full, _) => 5e-7,
        (_, Loss::Sft) => 2e-4,
        (_, _) => 5e-6,
    };
    recipe.learning_rate.get_or_insert(rate);
    recipe.beta1.get_or_insert(0.9);
    recipe.beta2.get_or_insert(0.999);
    recipe.epsilon.get_or_insert(1e-8);
    recipe.weight_decay.get_or_insert(0.0);
    recipe.clip.get_or_insert(1.0);
    recipe.warmup.get_or_insert(0.03);
    if recipe.schedule == Schedule::Wsd {
        recipe.decay.get_or_insert(0.2);
    }
    if recipe.schedule != Schedule::Constant {
        recipe.rate_min.get_or_insert(0.0);
    }
    recipe.evaluate_every.get_or_insert((steps / 10).max(1));
    recipe.sample_every.get_or_insert(recipe.evaluate_every.unwrap_or(0));
    recipe.sample_tokens.get_or_insert(64);
    recipe.checkpoint_every.get_or_insert((steps / 5).clamp(1, CHECKPOINT_MOST));
    recipe.checkpoints_kept.get_or_insert(2);
    if loss != Loss::Sft {
        recipe.preference_beta.get_or_insert(0.1);
    }
    if loss == Loss::Dpo {
        recipe.label_smoothing.get_or_insert(0.0);
    }
    if loss == Loss::Kto {
        recipe.desirable_weight.get_or_insert(1.0);
        recipe.undesirable_weight.get_or_insert(1.0);
    }
    recipe.tensorboard.get_or_insert(true);
    recipe.report.get_or_insert(true);
}

/// The numbers of a recipe without an open key.
fn numbers(recipe: Recipe, loss: Loss, steps: usize, order: Order, measure_tokens: usize) -> Plan {
    let of = |value: Option<f64>| value.unwrap_or_default();
    let warmup = of(recipe.warmup);
    let warmup = if warmup < 1.0 { warmup * steps as f64 } else { warmup };
    Plan {
        loss,
        weights: Weights {
            beta: of(recipe.preference_beta),
            smoothing: of(recipe.label_smoothing),
            desirable: [of(recipe.desirable_weight), of(recipe.undesirable_weight)],
        },
        steps,
        learning_rate: of(recipe.learning_rate),
        rates: Rates {
            schedule: recipe.schedule,
            warmup: warmup.round() as usize,
            steps,
            decay: of(recipe.decay),
            min: of(recipe.rate_min),
        },
        constants: Constants {
            betas: [of(recipe.beta1), of(recipe.beta2)],
            epsilon: of(recipe.epsilon),
            decay: of(recipe.weight_decay),
        },
        clip: of(recipe.clip),
        order,
        evaluate_every: recipe.evaluate_every.unwrap_or(0),
        sample_every: recipe.sample_every.unwrap_or(0),
        checkpoint_every: recipe.checkpoint_every.unwrap_or(steps),
        kept: recipe.checkpoints_kept.unwrap_or(2),
        measure_tokens,
        recipe,
    }
}

/// Bytes that a trained value takes beside itself: its gradient and its moments.
pub fn bytes_a_value(optimizer: Optimizer) -> usize {
    match optimizer {
        Optimizer::Adamw => 4 + 8,
        Optimizer::Adamw8bit => 4 + 2,
    }
}
