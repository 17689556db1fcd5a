//! What was planned of a run, beside what it took: kept from before a model is loaded until its run is over.

use pasture::Stats;
use pasture::lab::plan;
use pasture::lab::receipt::Memory;
use pasture_kernels::Kernels;
use pasture_model::{Running, Source, Survey, survey};

use super::{Foreseen, known, program_bytes, running, short};
use crate::exit::Failure;
use crate::output::{bytes, counted};
use crate::settings::Settings;

/// What a plan needs to know of a model, read before its weights are.
pub struct Foresight {
    survey: Survey,
    program_bytes: u64,
    running: Running,
}

/// Seconds as planned and as they were, and the tokens of that time.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    tokens: usize,
    planned: f64,
    actual: f64,
}

/// The answers of a conversation beside its plan.
pub struct Actual {
    foresight: Foresight,
    prompts: Spent,
    answers: Spent,
    /// The most tokens that the conversation had.
    longest: usize,
    /// Tokens that were proposed, of which no plan knows, and those that were right.
    proposed: (usize, usize),
}

impl Foresight {
    /// Reads what the files say.
    pub fn of(source: &Source, settings: &Settings) -> Result<Foresight, Failure> {
        let survey = survey(source)?;
        let running = running(settings, 1);
        pasture_model::check_kv(&survey.spec, running.kv)?;
        Ok(Foresight { survey, program_bytes: program_bytes(source)?, running })
    }

    /// The plan of a sequence of so many tokens; none where this machine was not measured for it.
    fn at(&self, context: usize) -> Option<Foreseen> {
        let running = Running { context: context.max(1), ..self.running };
        Foreseen::of(known(running.threads)?, plan::as_it_is(&self.survey, &running), self.program_bytes)
    }
}

impl Actual {
    /// A conversation that begins.
    pub fn new(foresight: Foresight) -> Actual {
        let (prompts, answers) = (Spent::default(), Spent::default());
        Actual { foresight, prompts, answers, longest: 0, proposed: (0, 0) }
    }

    /// An answer was made.
    pub fn add(&mut self, stats: &Stats) {
        let Some(foreseen) = self.foresight.at(stats.context_used) else { return };
        self.longest = self.longest.max(stats.context_used);
        self.proposed.0 += stats.proposed_tokens;
        self.proposed.1 += stats.accepted_tokens;
        let read = stats.prompt_tokens.saturating_sub(stats.cached_tokens);
        let rate = foreseen.prefill_rate(read, stats.cached_tokens, self.foresight.running.chunk);
        self.prompts.add(read, rate, stats.prompt_time.as_secs_f64());
        let more = stats.new_tokens.saturating_sub(1);
        let rate = foreseen.decode_rate(1, stats.prompt_tokens + more / 2);
        self.answers.add(more, rate, stats.new_time.as_secs_f64());
    }

    /// The two beside each other.
    pub fn text(&self) -> String {
        if self.longest == 0 {
            return match known(self.foresight.running.threads) {
                Some(_) if self.foresight.at(1).is_some() => "planned and actual: nothing was asked".to_owned(),
                _ => unmeasured(&self.foresight.running),
            };
        }
        let memory = self.foresight.at(self.longest).map(|foreseen| foreseen.memory_bytes());
        let mut parts: Vec<String> = memory.zip(Memory::HeldMost.bytes()).map(memory_text).into_iter().collect();
        let rates = [("prompts", &self.prompts), ("answers", &self.answers)];
        parts.extend(rates.into_iter().filter_map(|(name, spent)| Some(format!("{name} {}", spent.text()?))));
        let (proposed, right) = self.proposed;
        if proposed > 0 {
            parts
                .push(format!("{right} of {} were right, which no plan knows of", counted(proposed, "proposed token")));
        }
        format!("planned and actual: {}", parts.join("; "))
    }
}

impl Spent {
    fn add(&mut self, tokens: usize, rate: Option<f64>, seconds: f64) {
        let Some(rate) = rate.filter(|rate| *rate > 0.0 && tokens > 0) else { return };
        self.tokens += tokens;
        self.planned += tokens as f64 / rate;
        self.actual += seconds;
    }

    fn text(&self) -> Option<String> {
        let all = (self.tokens > 0 && self.planned > 0.0 && self.actual > 0.0).then_some(self.tokens as f64)?;
        let (planned, actual) = (all / self.planned, all / self.actual);
        Some(format!("{} and {} tokens/s ({})", short(planned), short(actual), short(planned / actual)))
    }
}

/// Planned and held bytes.
pub fn memory_text((planned, held): (u64, u64)) -> String {
    format!("memory {} and {} ({})", bytes(planned), bytes(held), short(planned as f64 / held.max(1) as f64))
}

/// A machine that was not measured for such a run.
pub fn unmeasured(running: &Running) -> String {
    format!(
        "nothing is planned: this machine was not measured for such a run with {} kernels and {}; `pasture plan MODEL --measure` does and keeps the figures",
        Kernels::get().name(),
        counted(running.threads, "thread"),
    )
}
