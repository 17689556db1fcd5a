//! The chain: which steps there are, in which order, and the sampler that runs them on a row of logits.
//! What each step does is in `steps.rs` and `repeats.rs`; no clock and no I/O.
//! Invariant: the same options, seed and logits give the same tokens on every platform.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::grammar::Grammar;

use super::logprobs::{LogProbabilities, log_probabilities};
use super::random::Random;
use super::repeats::{self, Dry, Marks};
use super::row::{Candidate, Row, first_not_finite};
use super::{SamplingError, SamplingOptions, math, steps};

macro_rules! step_kinds {
    ($($kind:ident = $name:literal,)*) => {
        /// A kind of step, as it is named in an order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum StepKind { $(#[doc = $name] #[serde(rename = $name)] $kind,)* }

        impl StepKind {
            /// All kinds, in the default order: corrections of single tokens, temperature, truncations.
            pub const ALL: &[StepKind] = &[$(StepKind::$kind),*];

            /// The name in an order.
            pub fn name(self) -> &'static str {
                match self { $(StepKind::$kind => $name),* }
            }
        }
    };
}

step_kinds! {
    LogitBias = "logit_bias",
    RepetitionPenalty = "repetition_penalty",
    FrequencyPenalty = "frequency_penalty",
    PresencePenalty = "presence_penalty",
    Dry = "dry",
    NoRepeatNgram = "no_repeat_ngram",
    Temperature = "temperature",
    TopNSigma = "top_n_sigma",
    TopK = "top_k",
    TopP = "top_p",
    MinP = "min_p",
    TypicalP = "typical_p",
    EpsilonCutoff = "epsilon_cutoff",
    EtaCutoff = "eta_cutoff",
    Xtc = "xtc",
}

impl StepKind {
    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// All names, in the default order.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|kind| kind.name()).collect()
    }

    /// Whether it also acts when the most probable token is taken.
    fn acts_on_greedy(self) -> bool {
        use StepKind::*;
        matches!(self, LogitBias | RepetitionPenalty | FrequencyPenalty | PresencePenalty | Dry | NoRepeatNgram)
    }
}

/// A step with its figures; see the functions of the same names.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented by the function of its name")]
pub enum Step {
    LogitBias(BTreeMap<u32, f64>),
    RepetitionPenalty(f64),
    FrequencyPenalty(f64),
    PresencePenalty(f64),
    Dry(Dry),
    NoRepeatNgram(usize),
    Temperature(f64),
    TopNSigma(f64),
    TopK(usize),
    TopP(f64),
    MinP(f64),
    TypicalP(f64),
    EpsilonCutoff(f64),
    EtaCutoff(f64),
    Xtc { probability: f64, threshold: f64 },
}

impl Step {
    /// The step of `kind` that `options` ask for; none if they ask for none, or for one without effect.
    pub fn from_options(kind: StepKind, options: &SamplingOptions) -> Option<Self> {
        let unless = |value: Option<f64>, idle: f64| value.filter(|&value| value != idle);
        let whole = |value: Option<u32>| value.filter(|&value| value > 0).map(|value| value as usize);
        match kind {
            StepKind::LogitBias => options.logit_bias.clone().filter(|bias| !bias.is_empty()).map(Step::LogitBias),
            StepKind::RepetitionPenalty => unless(options.repetition_penalty, 1.0).map(Step::RepetitionPenalty),
            StepKind::FrequencyPenalty => unless(options.frequency_penalty, 0.0).map(Step::FrequencyPenalty),
            StepKind::PresencePenalty => unless(options.presence_penalty, 0.0).map(Step::PresencePenalty),
            StepKind::Dry => unless(options.dry_multiplier, 0.0).map(|multiplier| {
                Step::Dry(Dry {
                    multiplier,
                    base: options.dry_base.unwrap_or(1.75),
                    allowed_length: options.dry_allowed_length.unwrap_or(2),
                    breakers: options.dry_breakers.clone().unwrap_or_default(),
                })
            }),
            StepKind::NoRepeatNgram => whole(options.no_repeat_ngram_size).map(Step::NoRepeatNgram),
            StepKind::Temperature => unless(options.temperature, 1.0).map(Step::Temperature),
            StepKind::TopNSigma => options.top_n_sigma.map(Step::TopNSigma),
            StepKind::TopK => whole(options.top_k).map(Step::TopK),
            StepKind::TopP => unless(options.top_p, 1.0).map(Step::TopP),
            StepKind::MinP => unless(options.min_p, 0.0).map(Step::MinP),
            StepKind::TypicalP => unless(options.typical_p, 1.0).map(Step::TypicalP),
            StepKind::EpsilonCutoff => unless(options.epsilon_cutoff, 0.0).map(Step::EpsilonCutoff),
            StepKind::EtaCutoff => unless(options.eta_cutoff, 0.0).map(Step::EtaCutoff),
            StepKind::Xtc => unless(options.xtc_probability, 0.0)
                .map(|probability| Step::Xtc { probability, threshold: options.xtc_threshold.unwrap_or(0.1) }),
        }
    }

    /// Applies the step; `context` is all earlier tokens that it may look at.
    pub fn apply(&self, row: &mut Row, context: &[u32], marks: &mut Marks, random: &mut Random) {
        match self {
            Step::LogitBias(bias) => steps::logit_bias(row, bias),
            Step::RepetitionPenalty(penalty) => repeats::repetition_penalty(row, context, *penalty, marks),
            Step::FrequencyPenalty(penalty) => repeats::frequency_penalty(row, context, *penalty, marks),
            Step::PresencePenalty(penalty) => repeats::presence_penalty(row, context, *penalty, marks),
            Step::Dry(dry) => repeats::dry(row, context, dry, marks),
            Step::NoRepeatNgram(size) => repeats::no_repeat_ngram(row, context, *size, marks),
            Step::Temperature(temperature) => steps::temperature(row, *temperature),
            Step::TopNSigma(n) => steps::top_n_sigma(row, *n),
            Step::TopK(k) => steps::top_k(row, *k),
            Step::TopP(p) => steps::top_p(row, *p),
            Step::MinP(p) => steps::min_p(row, *p),
            Step::TypicalP(p) => steps::typical_p(row, *p),
            Step::EpsilonCutoff(epsilon) => steps::epsilon_cutoff(row, *epsilon),
            Step::EtaCutoff(epsilon) => steps::eta_cutoff(row, *epsilon),
            Step::Xtc { probability, threshold } => steps::xtc(row, *probability, *threshold, random),
        }
    }
}

/// State of Mirostat 2: the limit moves so that the mean surprise comes to `tau` bits.
#[derive(Clone, Debug)]
struct Mirostat {
    tau: f64,
    eta: f64,
    limit: f64,
}

impl Mirostat {
    /// Cuts, draws, and learns from the drawn token's surprise among the tokens that were left.
    fn draw(&mut self, row: &mut Row, random: &mut Random) -> Option<Candidate> {
        steps::surprise_limit(row, self.limit);
        let choice = row.draw(random)?;
        let mass = row.mass()?;
        let log_probability = f64::from(choice.logit - mass.largest) - math::ln(mass.total);
        let surprise = -log_probability / std::f64::consts::LN_2;
        self.limit -= self.eta * (surprise - self.tau);
        Some(choice)
    }
}

/// How the token is taken at the end of the chain.
#[derive(Clone, Debug)]
enum Choose {
    MostProbable,
    Draw,
    Mirostat(Mirostat),
}

/// What was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability under the model's own logits; present if `logprobs` was set.
    pub logprob: Option<f32>,
    /// The `logprobs` most probable tokens with theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// The sampler of one sequence.
#[derive(Clone, Debug)]
pub struct Sampler {
    steps: Vec<Step>,
    choose: Choose,
    random: Random,
    marks: Marks,
    look_back: usize,
    logprobs: Option<usize>,
    vocabulary: usize,
    grammar: Option<Grammar>,
}

impl Sampler {
    /// A sampler for rows of `vocabulary` logits. `seed` is used where the options have none.
    ///
    /// # Errors
    /// When a value is outside its range, a biased token outside the vocabulary, or a setting is absent
    /// from the order that the options give.
    pub fn new(options: &SamplingOptions, vocabulary: usize, seed: u64) -> Result<Self, SamplingError> {
        Self::for_choice(options, vocabulary, seed, 0)
    }

    /// The sampler of answer number `choice` to a request with several; choice 0 is [`Sampler::new`].
    ///
    /// # Errors
    /// As [`Sampler::new`].
    pub fn for_choice(
        options: &SamplingOptions,
        vocabulary: usize,
        seed: u64,
        choice: u32,
    ) -> Result<Self, SamplingError> {
        options.check()?;
        if let Some(&token) = options.logit_bias.iter().flatten().map(|(token, _)| token).next_back()
            && token as usize >= vocabulary
        {
            return Err(SamplingError::BiasOutside { token, vocabulary });
        }
        let order = options.samplers.as_deref().unwrap_or(StepKind::ALL);
        for &kind in StepKind::ALL {
            let greedy_temperature = kind == StepKind::Temperature && options.is_greedy();
            if !order.contains(&kind) && !greedy_temperature && Step::from_options(kind, options).is_some() {
                return Err(SamplingError::NotInOrder { name: kind.name() });
            }
        }
        let greedy = options.is_greedy();
        let used = order.iter().filter(|kind| !greedy || kind.acts_on_greedy());
        let choose = match options.mirostat_tau {
            _ if greedy => Choose::MostProbable,
            Some(tau) => Choose::Mirostat(Mirostat { tau, eta: options.mirostat_eta.unwrap_or(0.1), limit: 2.0 * tau }),
            None => Choose::Draw,
        };
        Ok(Self {
            steps: used.filter_map(|&kind| Step::from_options(kind, options)).collect(),
            choose,
            random: Random::for_choice(options.seed.unwrap_or(seed), choice),
            marks: Marks::new(vocabulary),
            look_back: options.repeat_last_n.map_or(usize::MAX, |n| n as usize),
            logprobs: options.logprobs.map(|n| n as usize),
            vocabulary,
            grammar: None,
        })
    }

    /// Takes only what the grammar allows. Its mask goes before all steps.
    pub fn within(mut self, grammar: Option<Grammar>) -> Self {
        self.grammar = grammar;
        self
    }

    /// Whether the grammar is complete, so that nothing more may come.
    pub fn is_complete(&self) -> bool {
        self.grammar.as_ref().is_some_and(Grammar::is_complete)
    }

    /// The steps in the order in which they are run.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Chooses a token from `logits`, which are changed; `context` is the prompt and all tokens so far.
    ///
    /// # Errors
    /// When a logit is no finite number, or the steps leave no token.
    ///
    /// # Panics
    /// When the row has another length than the vocabulary.
    pub fn sample(&mut self, logits: &mut [f32], context: &[u32]) -> Result<Choice, SamplingError> {
        assert_eq!(logits.len(), self.vocabulary, "a row of logits is as long as the vocabulary");
        if let Some((token, value)) = first_not_finite(logits) {
            return Err(SamplingError::NotFinite { token, value });
        }
        let report = self.logprobs.map(|count| log_probabilities(logits, count));
        let penalized = &context[context.len().saturating_sub(self.look_back)..];
        if let Some(grammar) = &mut self.grammar {
            grammar.mask(logits)?;
        }
        let mut row = Row::Whole(logits);
        for step in &self.steps {
            let context = if matches!(step, Step::NoRepeatNgram(_)) { context } else { penalized };
            step.apply(&mut row, context, &mut self.marks, &mut self.random);
        }
        let choice = match &mut self.choose {
            Choose::MostProbable => row.best(),
            Choose::Draw => row.draw(&mut self.random),
            Choose::Mirostat(mirostat) => mirostat.draw(&mut row, &mut self.random),
        };
        let token = choice.ok_or(SamplingError::NothingLeft)?.token;
        if let Some(grammar) = &mut self.grammar {
            grammar.push(token)?;
        }
        let logprob = report.as_ref().map(|report| report.of(token));
        Ok(Choice { token, logprob, top: report.map_or_else(Vec::new, LogProbabilities::into_top) })
    }
}
