//! A run: steps over the data from where it stands to its end, with measurements, samples and checkpoints on the way.
//! Invariant: what a step does depends on the recipe, the data, the base and its number, never on the clock, on threads or
//! on how often the run was interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pasture_model::Decoder;
use pasture_tensor::Backend;

use super::checkpoint::{self, Checkpoint, Identity, State};
use super::error::{Error, Result};
use super::events::{Event, Found, Point, Reason};
use super::learned::{Learned, Samples};
use super::optimizer::{AdamW, Move, limit, norm};
use super::order::{Order, Step, mixed};
use super::pass::Pass;
use super::plan::Plan;
use super::sample::Voice;
use super::trained::Trained;

/// Skipped steps in a row after which a run stops.
const BAD_MAX: usize = 3;

/// Everything that a run needs.
pub struct Job<'j> {
    /// The base model; full tuning needs it for itself.
    pub decoder: Arc<Decoder>,
    /// What computes.
    pub backend: Arc<dyn Backend>,
    /// What is learned.
    pub samples: Samples,
    /// What is measured.
    pub held_out: Samples,
    /// The resolved settings.
    pub plan: Plan,
    /// What decides the run, for going on with it.
    pub identity: Identity,
    /// Where checkpoints are; none for a run that cannot be gone on with.
    pub checkpoints: Option<PathBuf>,
    /// Whether to go on with a run that is there.
    pub resume: bool,
    /// Who answers questions with the model as it is.
    pub voice: Option<&'j dyn Voice>,
    /// Set from any thread to end the run with a checkpoint.
    pub stop: &'j AtomicBool,
}

/// What came of a run.
pub struct Outcome {
    /// Why it ended.
    pub reason: Reason,
    /// The model; after full tuning with its tuned weights.
    pub decoder: Arc<Decoder>,
    /// What was trained.
    pub trained: Trained,
    /// Where it stands.
    pub state: State,
    /// Every step.
    pub log: Vec<Point>,
    /// What could not be written, if the last state could not.
    pub unsaved: Option<String>,
}

struct Run<'j> {
    job: Job<'j>,
    trained: Trained,
    optimizer: AdamW,
    order: Order,
    lengths: Vec<usize>,
    learned: Learned,
    state: State,
    log: Vec<Point>,
    /// Why the newest checkpoint could not be written, until one can.
    unsaved: Option<String>,
    /// The step of the newest durable checkpoint.
    saved: Option<usize>,
    tell: &'j mut dyn FnMut(&Event),
}

/// Trains.
///
/// # Errors
/// When there is nothing to train or to learn from, the model cannot run, a run that is there was another, or numbers
/// are no longer finite.
pub fn run(mut job: Job, tell: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    let trained = Trained::of(&job.plan.recipe, &mut job.decoder)?;
    let (order, lengths) = (job.plan.order, job.samples.lengths());
    let lens: Vec<usize> = trained.tensors().iter().map(|tensor| tensor.len()).collect();
    let optimizer = AdamW::new(job.plan.recipe.optimizer, job.plan.constants, lens.into_iter());
    let (state, log) = (State::default(), Vec::new());
    let learned = Learned::new(&job.plan);
    let mut run =
        Run { job, trained, optimizer, order, lengths, learned, state, log, unsaved: None, saved: None, tell };
    run.begin()?;
    let reason = run.steps()?;
    run.end(reason)
}

impl Run<'_> {
    fn begin(&mut self) -> Result<()> {
        let there = self.job.checkpoints.clone().filter(|folder| !checkpoint::list(folder).is_empty());
        if let (Some(folder), false) = (&there, self.job.resume) {
            return Err(Error::Exists { folder: folder.parent().unwrap_or(folder).to_owned() });
        }
        // References are the base's, before anything is restored.
        self.prepare()?;
        if let Some(folder) = &there {
            self.restore(folder)?;
            checkpoint::clean(folder, self.job.plan.kept);
        }
        (self.tell)(&Event::Started {
            step: self.state.step,
            steps: self.job.plan.steps,
            samples: self.job.samples.len(),
            held_out: self.job.held_out.len(),
            trained: self.trained.len(),
        });
        if self.state.step == 0 {
            self.evaluate()?;
        }
        Ok(())
    }

    fn restore(&mut self, folder: &Path) -> Result<()> {
        let (found, notes) = checkpoint::newest(folder, &self.job.identity, self.trained.tensors())?;
        notes.into_iter().for_each(|text| (self.tell)(&Event::Note { text }));
        let Some(found) = found else { return Ok(()) };
        if !self.optimizer.restore(found.state.changed, found.moments) {
            let what = "the optimizer's state is of another kind".to_owned();
            return Err(Error::Resume { folder: folder.to_owned(), what });
        }
        let mut values = found.values;
        self.trained.change(&mut self.job.decoder, &mut |at, own| *own = std::mem::take(&mut values[at]));
        self.saved = Some(found.state.step);
        (self.state, self.log) = (found.state, found.log);
        Ok(())
    }

    /// Log-probabilities by the model as it is before the first step, where the loss compares with it.
    fn prepare(&mut self) -> Result<()> {
        let Run { job, learned, tell, .. } = self;
        let pass = Pass { decoder: &job.decoder, backend: &*job.backend, adapter: None, recompute: false };
        learned
            .prepare(&pass, &job.samples, &job.held_out, job.stop, &mut |done, of| tell(&Event::Prepared { done, of }))
    }

    fn steps(&mut self) -> Result<Reason> {
        if self.state.over {
            return Ok(Reason::Done);
        }
        let mut place = Place::at(&self.order, &self.lengths, self.state.step);
        let mut clock = Clock::new();
        if self.state.step > 0 && self.due(self.job.plan.evaluate_every) {
            // Only where the run was ended before this measurement was complete.
            self.evaluate()?;
        }
        while self.state.step < self.job.plan.steps {
            let step = place.next(&self.order, &self.lengths);
            let Some(point) = self.step(&step)? else { return Ok(Reason::Interrupted) };
            self.log.push(point);
            self.state.step += 1;
            clock.done(point.tokens);
            self.told(&point, place.epoch(), &clock);
            self.check_finite()?;
            if self.due(self.job.plan.evaluate_every) {
                self.evaluate()?;
            }
            if self.due(self.job.plan.sample_every) {
                self.sample();
            }
            if self.is_stale() {
                self.state.over = true;
                return Ok(Reason::EarlyStop);
            }
            if self.due(self.job.plan.checkpoint_every) && self.state.step < self.job.plan.steps {
                self.save();
            }
            // What is measured and saved is not training.
            clock.pause();
        }
        self.state.over = true;
        Ok(Reason::Done)
    }

    fn due(&self, every: usize) -> bool {
        every > 0 && self.state.step.is_multiple_of(every)
    }

    /// One step; none if someone asked for an end before it was complete, so that nothing of it counts.
    fn step(&mut self, step: &Step) -> Result<Option<Point>> {
        let Run { job, trained, learned, .. } = self;
        let ids = trained.ids();
        let count = learned.count(&job.samples, step);
        let (mut sums, mut loss): (Vec<Vec<f32>>, f64) = (Vec::new(), 0.0);
        let (share, first) = (job.plan.recipe.dropout.unwrap_or(0.0), self.state.step * job.plan.order.accumulate);
        for (number, batch) in step.iter().enumerate() {
            if job.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let adapter = trained.dropping(share, mixed(job.plan.recipe.seed, (first + number) as u64));
            let recompute = job.plan.recipe.recompute;
            let pass = Pass { decoder: &job.decoder, backend: &*job.backend, adapter: adapter.as_ref(), recompute };
            let (part, mut gradients) = learned.gradients(&pass, &job.samples, batch, ids.clone(), count)?;
            loss += part / count;
            let taken = ids.iter().zip(trained.tensors());
            let taken = taken.map(|(id, tensor)| gradients.take_weight(*id).unwrap_or_else(|| vec![0.0; tensor.len()]));
            if sums.is_empty() {
                sums = taken.collect();
            } else {
                sums.iter_mut()
                    .zip(taken)
                    .for_each(|(sum, more)| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more));
            }
        }
        let rate = job.plan.learning_rate * job.plan.rates.at(self.state.step);
        let norm = norm(&*job.backend, sums.iter().map(Vec::as_slice));
        let tokens = step.iter().flatten().map(|at| self.lengths[*at]).sum::<usize>() as f64;
        let point = Point { loss, norm, rate, tokens };
        if loss.is_finite() && norm.is_finite() {
            self.change(&sums, Move { rate, limit: limit(norm, self.job.plan.clip) });
            self.state.bad = 0;
        } else {
            self.state.bad += 1;
            self.state.skipped += 1;
        }
        Ok(Some(point))
    }

    fn change(&mut self, gradients: &[Vec<f32>], step: Move) {
        let Run { trained, optimizer, job, .. } = self;
        optimizer.begin();
        let backend = job.backend.clone();
        trained.change(&mut job.decoder, &mut |at, values| {
            optimizer.change(&*backend, at, values, &gradients[at], step);
        });
        self.state.changed = self.optimizer.done();
    }

    fn check_finite(&mut self) -> Result<()> {
        if self.state.bad < BAD_MAX {
            return Ok(());
        }
        let saved = match self.saved {
            Some(step) => format!("the checkpoint of step {step} is kept"),
            None => "there is no checkpoint before".to_owned(),
        };
        Err(Error::NotFinite { step: self.state.step, times: self.state.bad, saved })
    }

    fn told(&mut self, point: &Point, epoch: f64, clock: &Clock) {
        let (step, steps) = (self.state.step, self.job.plan.steps);
        let finite = |value: f64| value.is_finite().then_some(value);
        (self.tell)(&Event::Step {
            step,
            steps,
            epoch,
            loss: finite(point.loss),
            norm: finite(point.norm),
            rate: point.rate,
            skipped: self.state.bad > 0,
            tokens_per_second: clock.tokens_per_second(),
            seconds_left: clock.seconds_a_step() * (steps - step) as f64,
        });
    }

    fn is_evaluated(&self) -> bool {
        self.state.evaluations.last().is_some_and(|(step, _)| *step == self.state.step)
    }

    fn evaluate(&mut self) -> Result<()> {
        if self.job.held_out.is_empty() || self.is_evaluated() {
            return Ok(());
        }
        let Run { job, trained, learned, .. } = self;
        let pass = Pass {
            decoder: &job.decoder,
            backend: &*job.backend,
            adapter: trained.adapter(),
            recompute: job.plan.recipe.recompute,
        };
        let Some(found) = learned.measure(&pass, &job.held_out, job.plan.measure_tokens, job.stop)? else {
            return Ok(());
        };
        self.keep(found);
        (self.tell)(&Event::Evaluated { step: self.state.step, found });
        Ok(())
    }

    fn keep(&mut self, found: Found) {
        let step = self.state.step;
        self.state.evaluations.push((step, found));
        if self.state.best.is_none_or(|(_, best)| found.loss < best) {
            self.state.best = Some((step, found.loss));
            self.state.stale = 0;
        } else {
            self.state.stale += 1;
        }
    }

    fn is_stale(&self) -> bool {
        self.job.plan.recipe.patience > 0 && self.state.stale >= self.job.plan.recipe.patience
    }

    fn sample(&mut self) {
        let Some(voice) = self.job.voice else { return };
        let step = self.state.step;
        let Run { job, trained, .. } = self;
        let pass = Pass { decoder: &job.decoder, backend: &*job.backend, adapter: trained.adapter(), recompute: false };
        for (prompt, text) in voice.answers(&pass) {
            (self.tell)(&match text {
                Ok(text) => Event::Sample { step, prompt, text },
                Err(what) => Event::Note { text: format!("no sample for {prompt:?}: {what}") },
            });
        }
    }

    /// Writes a checkpoint. One that cannot be written does not end the run: the next interval tries again.
    fn save(&mut self) {
        let Some(folder) = self.job.checkpoints.clone() else { return };
        if self.saved == Some(self.state.step) {
            return;
        }
        let step = self.state.step;
        let checkpoint = Checkpoint {
            state: self.state.clone(),
            log: self.log.clone(),
            values: self.trained.values(&mut self.job.decoder),
            moments: self.optimizer.moments().to_vec(),
        };
        let file = checkpoint::path(&folder, step);
        let made = std::fs::create_dir_all(&folder).map_err(|fault| pasture_files::Error::write(&folder, fault).into());
        match made.and_then(|()| checkpoint::save(&file, &self.job.identity, &checkpoint, self.trained.tensors())) {
            Ok(()) => {
                (self.saved, self.unsaved) = (Some(step), None);
                checkpoint::clean(&folder, self.job.plan.kept);
                (self.tell)(&Event::Saved { step, file: file.display().to_string() });
            }
            Err(fault) => {
                let what = format!("the checkpoint of step {step} could not be written: {fault}");
                (self.tell)(&Event::Note { text: format!("{what}; the next interval tries again") });
                self.unsaved = Some(what);
            }
        }
    }

    fn end(mut self, mut reason: Reason) -> Result<Outcome> {
        if reason != Reason::Interrupted {
            self.evaluate()?;
            if !self.is_evaluated() && !self.job.held_out.is_empty() {
                // Someone asked for an end within the last measurement: it is made when the run goes on.
                (reason, self.state.over) = (Reason::Interrupted, false);
            }
        }
        if reason == Reason::Interrupted {
            self.save();
        } else {
            if !self.due(self.job.plan.sample_every) {
                self.sample();
            }
            self.save();
        }
        let (step, skipped) = (self.state.step, self.state.skipped);
        (self.tell)(&Event::Ended { step, reason, skipped });
        let Run { job, trained, state, log, unsaved, .. } = self;
        Ok(Outcome { reason, decoder: job.decoder, trained, state, log, unsaved })
    }
}

/// A place in the data.
struct Place {
    epoch: u64,
    steps: std::vec::IntoIter<Step>,
    len: usize,
}

impl Place {
    /// The place before a step that counts from 0.
    fn at(order: &Order, lengths: &[usize], step: usize) -> Place {
        let (mut epoch, mut left) = (0, step);
        loop {
            let steps = order.epoch(lengths, epoch);
            let len = steps.len();
            if left < len {
                let mut steps = steps.into_iter();
                steps.by_ref().take(left).for_each(drop);
                return Place { epoch, steps, len };
            }
            left -= len;
            epoch += 1;
        }
    }

    fn next(&mut self, order: &Order, lengths: &[usize]) -> Step {
        loop {
            if let Some(step) = self.steps.next() {
                return step;
            }
            self.epoch += 1;
            let steps = order.epoch(lengths, self.epoch);
            (self.len, self.steps) = (steps.len(), steps.into_iter());
        }
    }

    fn epoch(&self) -> f64 {
        self.epoch as f64 + (self.len - self.steps.len()) as f64 / self.len as f64
    }
}

/// Speed over the last steps, without the time of measurements.
struct Clock {
    since: Instant,
    last: std::collections::VecDeque<(f64, f64)>,
}

/// Steps over which speed is told.
const CLOCKED: usize = 20;

impl Clock {
    fn new() -> Clock {
        Clock { since: Instant::now(), last: std::collections::VecDeque::new() }
    }

    fn done(&mut self, tokens: f64) {
        self.last.push_back((tokens, self.since.elapsed().as_secs_f64()));
        if self.last.len() > CLOCKED {
            self.last.pop_front();
        }
    }

    fn pause(&mut self) {
        self.since = Instant::now();
    }

    fn tokens_per_second(&self) -> f64 {
        let (tokens, seconds) = self.last.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        tokens / f64::max(seconds, 1e-9)
    }

    fn seconds_a_step(&self) -> f64 {
        self.last.iter().map(|(_, seconds)| seconds).sum::<f64>() / self.last.len().max(1) as f64
    }
}
