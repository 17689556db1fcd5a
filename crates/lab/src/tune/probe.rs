//! What a run will need, found by running its largest batch once: nothing is changed or written.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use pasture_model::Decoder;
use pasture_tensor::Backend;

use super::error::Result;
use super::learned::{Learned, Samples};
use super::pass::Pass;
use super::plan::{Plan, bytes_a_value};
use super::trained::Trained;
use crate::receipt::Memory;

/// What a run will need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Bytes of memory at the most; none where the system does not tell what a program holds.
    pub memory_bytes: Option<u64>,
    /// Seconds of training, without measurements and checkpoints.
    pub seconds: f64,
    /// Values that are trained.
    pub trained: usize,
}

/// Runs one batch, and reckons from it.
///
/// # Errors
/// As a run's first step.
pub fn probe(mut decoder: Arc<Decoder>, backend: &Arc<dyn Backend>, plan: &Plan, samples: &Samples) -> Result<Probe> {
    let trained = Trained::of(&plan.recipe, &mut decoder)?;
    let mut learned = Learned::new(plan);
    let lengths = samples.lengths();
    let tokens = |batch: &Vec<usize>| batch.iter().map(|at| lengths[*at]).sum::<usize>();
    let batches: Vec<Vec<usize>> = plan.order.epoch(&lengths, 0).into_iter().flatten().collect();
    let largest = batches.iter().max_by_key(|batch| tokens(batch)).cloned().unwrap_or_default();
    let few = samples.only(&largest);
    let pass =
        Pass { decoder: &decoder, backend: &**backend, adapter: trained.adapter(), recompute: plan.recipe.recompute };
    learned.prepare(&pass, &few, &Samples::default(), &AtomicBool::new(false), &mut |_, _| {})?;
    let numbers: Vec<usize> = (0..few.len()).collect();
    let count = learned.count(&few, std::slice::from_ref(&numbers));
    let begin = Instant::now();
    drop(learned.gradients(&pass, &few, &numbers, trained.ids(), count)?);
    let seconds = begin.elapsed().as_secs_f64();
    let all: usize = batches.iter().map(tokens).sum();
    let passes = plan.steps as f64 * plan.order.accumulate as f64 / batches.len().max(1) as f64;
    // A checkpoint holds a second copy of values and moments while it is written.
    let each = 2 * (bytes_a_value(plan.recipe.optimizer) + 4) as u64;
    Ok(Probe {
        memory_bytes: Memory::HeldMost.bytes().map(|bytes| bytes + each * trained.len() as u64),
        seconds: seconds * passes * all as f64 / tokens(&largest).max(1) as f64,
        trained: trained.len(),
    })
}
