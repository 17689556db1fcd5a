//! Measuring a change: one text through the model before and after, window by window side by side, then tasks; and how
//! fast a model reads and answers. Every way of changing a model measures with these functions; `files.rs` begins with files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pasture_engine::{Engine, EngineOptions, Request, Runner, Speculation, Usage};

use super::{Divergence, Level, Measures, Perplexity, Receipt, Score, Unmeasured, digest_of};
use crate::evaluate::statistics::{SEED, bootstrap, mean, mean_stderr};
use crate::evaluate::{self, Ask, Differences, Error, Options, Result, Subject, Task, windows};

/// A text of several kinds (prose, a sum, code, a letter, a table, other languages), for changes that bring none.
pub const TEXT: &str = include_str!("text.txt");

/// Its name in receipts.
pub const TEXT_NAME: &str = "built-in text";

/// Tokens of a window at most.
const WINDOW: usize = 512;

/// What a quick measurement gives to its text; its tasks and its speed take about as long.
const QUICK_TEXT: Duration = Duration::from_secs(60);

/// Rows of a task in a quick measurement.
const QUICK_ROWS: usize = 50;

/// New tokens that are timed.
const TIMED_TOKENS: usize = 32;
/// Tokens of the prompt that warms up, and that tells how long a longer one would take.
const WARM_TOKENS: usize = 32;
/// What reading a prompt may take; where a whole window would take longer, a shorter prompt is timed.
const QUICK_PROMPT: Duration = Duration::from_secs(10);
/// Runs of which the middle one is told, while they take no longer than [`QUICK_PROMPT`] together.
const RUNS: usize = 3;

/// A model before or after a change.
#[derive(Clone)]
pub struct Side {
    /// The model.
    pub subject: Subject,
    /// Bytes of its weights, where they are known.
    pub bytes: Option<u64>,
}

/// What two models are compared by.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Its name.
    pub name: String,
    /// What it says.
    pub words: Words,
}

/// What a text says.
#[derive(Clone, Debug, PartialEq)]
pub enum Words {
    /// Words, of which each model makes tokens and windows.
    Text(String),
    /// Tokens of both models, of each list of which the last are scored.
    Tokens(Vec<Ask>),
}

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Plan<'p> {
    /// How much.
    pub level: Level,
    /// A text; [`TEXT`] where absent.
    pub text: Option<&'p Text>,
    /// The most tokens of the text that are used; all where absent.
    pub tokens_max: Option<usize>,
    /// Tasks that both models do.
    pub tasks: &'p [Task],
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// How much was measured.
    pub level: Level,
    /// Figures of the model before.
    pub before: Measures,
    /// Figures of the model after.
    pub after: Measures,
    /// What was not measured, and why.
    pub unmeasured: Vec<Unmeasured>,
}

impl Receipt {
    /// The receipt with what was measured.
    #[must_use]
    pub fn with(mut self, measured: Measured) -> Receipt {
        (self.level, self.before, self.after) = (measured.level, measured.before, measured.after);
        self.unmeasured.extend(measured.unmeasured);
        self
    }
}

/// Measures what a change did to quality. Without a model before, only the one after is measured. `watch` is told what is
/// measured, how much is done, and how much there is.
///
/// # Errors
/// When a model cannot be run. What cannot be measured for another reason is named in the result.
pub fn measure(
    before: Option<&Side>,
    after: &Side,
    plan: &Plan,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Measured> {
    let mut measured = Measured { level: plan.level, ..Measured::default() };
    measured.before.bytes = before.and_then(|side| side.bytes);
    measured.after.bytes = after.bytes;
    if plan.level == Level::None {
        let all = ["perplexity", "divergence"].into_iter().chain(plan.tasks.iter().map(|task| task.name.as_str()));
        all.for_each(|what| measured.leave(what, LEVEL_NONE));
        return Ok(measured);
    }
    if before.is_none() {
        measured.leave("before", "there is no model before");
    }
    text(before, after, plan, &mut measured, watch)?;
    for task in plan.tasks {
        run_task(before, after, task, &mut measured, watch)?;
    }
    Ok(measured)
}

impl Measured {
    /// Notes that something was not measured, and why.
    pub fn leave(&mut self, what: &str, reason: impl Into<String>) {
        self.unmeasured.push(Unmeasured { what: what.to_owned(), reason: reason.into() });
    }
}

/// The windows of the text as a model's tokens, `tokens_max` of them at most, how many tokens the text has, and how many a
/// window.
fn windows_of(side: &Side, text: Option<&Text>, tokens_max: Option<usize>) -> Result<(Vec<Ask>, usize, usize)> {
    let text = match text.map(|text| &text.words) {
        None => TEXT,
        Some(Words::Text(text)) => text,
        Some(Words::Tokens(asks)) => {
            let mut left = tokens_max.unwrap_or(usize::MAX);
            let fits = |ask: &&Ask| {
                left = left.saturating_sub(ask.scored);
                left > 0
            };
            // The first one is measured, however long it is.
            let count = 1 + asks.iter().take_while(fits).count();
            let (all, size) = (asks.iter().map(|ask| ask.scored).sum(), asks.iter().map(|ask| ask.ids.len()).max());
            return Ok((asks.iter().take(count).cloned().collect(), all, size.unwrap_or(0)));
        }
    };
    let tokenizer = side.subject.tokenizer()?;
    let mut ids = tokenizer.encode(text, pasture_files::tokenizer::Specials::AsText)?;
    let all = ids.len();
    ids.truncate(tokens_max.unwrap_or(all));
    let prefix = tokenizer.bos().or(tokenizer.eos()).or(ids.first().copied()).unwrap_or(0);
    let size = WINDOW.min(side.subject.context());
    Ok((windows(&ids, prefix, size, size), all, size))
}

fn text(
    before: Option<&Side>,
    after: &Side,
    plan: &Plan,
    measured: &mut Measured,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<()> {
    let name = plan.text.map_or(TEXT_NAME, |text| text.name.as_str());
    let (asks, tokens, size) = match windows_of(after, plan.text, plan.tokens_max) {
        Ok(found) => found,
        Err(Error::NoTokenizer) => {
            let reason = "the model came without a tokenizer";
            ["perplexity", "divergence"].into_iter().for_each(|what| measured.leave(what, reason));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if asks.is_empty() {
        ["perplexity", "divergence"].into_iter().for_each(|what| measured.leave(what, "the text has no tokens"));
        return Ok(());
    }
    if let Some(most) = plan.tokens_max.filter(|most| *most < tokens) {
        measured.leave("rest of the text", format!("the first {most} of {tokens} tokens were asked for"));
    }
    let began = Instant::now();
    let (total, level) = (asks.len(), plan.level);
    // One window is measured however long it takes.
    let mut go_on = |done: usize| {
        watch("text", done, total);
        level == Level::Full || done == 0 || began.elapsed() < QUICK_TEXT
    };
    let pair = before.filter(|before| before.subject.vocab() == after.subject.vocab());
    let pair =
        pair.filter(|before| windows_of(before, plan.text, plan.tokens_max).is_ok_and(|(same, ..)| same == asks));
    let Some(before) = pair else {
        if before.is_some() {
            measured.leave("divergence", "the models do not have the same tokens");
            measured.leave("perplexity before", "the model before has other tokens, so the figures do not compare");
        }
        let said = evaluate::likelihoods(&after.subject, &asks, &mut go_on)?;
        let logprobs: Vec<f32> = said.iter().flat_map(|said| said.logprobs.clone()).collect();
        measured.after.perplexity = Some(perplexity(&logprobs, name, &asks, size));
        return Ok(());
    };
    let found = evaluate::differences(&before.subject, &after.subject, &asks, &mut go_on)?;
    let all: usize = asks.iter().map(|ask| ask.scored).sum();
    if found.kl.len() < all {
        let reason = format!("the level is quick: {} of {all} tokens were measured in its time", found.kl.len());
        measured.leave("rest of the text", reason);
    }
    measured.before.perplexity = Some(perplexity(&found.parent, name, &asks, size));
    measured.after.perplexity = Some(perplexity(&found.model, name, &asks, size));
    measured.after.divergence = Some(divergence(&found));
    Ok(())
}

/// What differences say in a few figures.
///
/// # Panics
/// When there are none.
pub fn divergence(found: &Differences) -> Divergence {
    assert!(!found.kl.is_empty(), "a text has tokens");
    let kl: Vec<f64> = found.kl.iter().map(|kl| f64::from(*kl)).collect();
    let mut sorted = kl.clone();
    sorted.sort_by(f64::total_cmp);
    let agree = found.agree.iter().filter(|same| **same).count() as f64;
    Divergence {
        kl: mean(&kl),
        stderr: mean_stderr(&kl).unwrap_or(0.0),
        kl_p99: sorted[((sorted.len() - 1) as f64 * 0.99).round() as usize],
        kl_max: sorted[sorted.len() - 1],
        top1: agree / kl.len() as f64,
        tokens: kl.len() as u64,
    }
}

/// Tokens that are drawn together when the error is estimated: neighbors are not independent.
const BLOCK: usize = 64;

fn perplexity(logprobs: &[f32], name: &str, asks: &[Ask], size: usize) -> Perplexity {
    let nll: Vec<f64> = logprobs.iter().map(|logprob| -f64::from(*logprob)).collect();
    let value = mean(&nll).exp();
    let blocks: Vec<(f64, f64)> = nll.chunks(BLOCK).map(|block| (block.iter().sum(), block.len() as f64)).collect();
    let found = bootstrap(blocks.len(), SEED, &mut |chosen| {
        let sum = chosen.iter().fold((0.0, 0.0), |sum, at| (sum.0 + blocks[*at].0, sum.1 + blocks[*at].1));
        sum.0 / sum.1
    });
    let scored: Vec<u8> = asks
        .iter()
        .flat_map(|ask| &ask.ids[ask.ids.len() - ask.scored..])
        .take(logprobs.len())
        .flat_map(|id| id.to_le_bytes())
        .collect();
    Perplexity {
        value,
        stderr: found.map_or(0.0, |found| found.stderr * value),
        tokens: logprobs.len() as u64,
        window: size,
        stride: size,
        text: name.to_owned(),
        digest: digest_of(&scored),
    }
}

fn run_task(
    before: Option<&Side>,
    after: &Side,
    task: &Task,
    measured: &mut Measured,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<()> {
    let limit = (measured.level == Level::Quick).then_some(QUICK_ROWS);
    if limit.is_some_and(|limit| limit < task.rows.len()) {
        let reason = format!("the level is quick: the first {QUICK_ROWS} of {} rows were asked", task.rows.len());
        measured.leave(&format!("rest of {}", task.name), reason);
    }
    let options = Options { limit, ..Options::default() };
    let mut of_side = |side: &Side, measures: &mut Measures| -> Result<()> {
        let report = evaluate::run(&side.subject, task, &options, &mut |done, total| {
            watch(&task.name, done, total);
            true
        })?;
        for metric in report.metrics {
            let score = Score {
                value: metric.value,
                stderr: metric.stderr,
                samples: report.samples as u64,
                higher_is_better: metric.higher_is_better,
            };
            measures.tasks.insert(format!("{}/{}", task.name, metric.name), score);
        }
        Ok(())
    };
    if let Some(before) = before {
        of_side(before, &mut measured.before)?;
    }
    of_side(after, &mut measured.after)
}

/// Why nothing is measured where nobody asked for it.
pub(super) const LEVEL_NONE: &str = "the level is none";

/// How fast a model reads a prompt and makes new tokens, in tokens a second: the middle of up to three runs after one to
/// warm up. The ids do not matter for it. Where a window of text would take longer than ten seconds, a short prompt is timed.
///
/// # Errors
/// When the model cannot be run.
pub fn speed(subject: &Subject, measures: &mut Measures) -> Result<()> {
    let runner = Runner::new(subject.decoder().clone(), subject.kv_format());
    // Tokens with a step each: how a text of no meaning repeats itself says nothing.
    let options = EngineOptions { speculation: Speculation::Off, ..EngineOptions::default() };
    let engine = Engine::start(Box::new(runner), None, options)?;
    let room = subject.context().saturating_sub(TIMED_TOKENS).max(1);
    let warm = answer(&engine, subject, 0, WARM_TOKENS.min(room), 2)?;
    let window = WINDOW.min(room);
    let foreseen = warm.prompt_time.mul_f64(window as f64 / warm.prompt_tokens.max(1) as f64);
    let prompt = if foreseen > QUICK_PROMPT { WARM_TOKENS.min(room) } else { window };
    let (began, mut reading, mut making) = (Instant::now(), Vec::new(), Vec::new());
    for run in 1..=RUNS {
        let usage = answer(&engine, subject, run, prompt, TIMED_TOKENS.min(subject.context() - prompt).max(1))?;
        let rate = |tokens: usize, time: Duration| {
            Some(tokens as f64 / time.as_secs_f64()).filter(|rate| tokens > 0 && rate.is_finite())
        };
        reading.extend(rate(usage.prompt_tokens - usage.cached_tokens, usage.prompt_time));
        making.extend(rate(usage.new_tokens.saturating_sub(1), usage.new_time));
        if began.elapsed() > QUICK_PROMPT {
            break;
        }
    }
    (measures.prompt_tokens_per_second, measures.new_tokens_per_second) = (middle(reading), middle(making));
    Ok(())
}

/// One answer to a prompt that no other run has.
fn answer(engine: &Engine, subject: &Subject, run: usize, prompt: usize, tokens: usize) -> Result<Usage> {
    let vocab = subject.vocab();
    let mut request = Request::new((0..prompt).map(|at| ((at * 7 + run * 31 + 1) % vocab) as u32).collect());
    request.sampling.temperature = Some(0.0);
    request.max_tokens = Some(tokens);
    request.adapter = subject.adapter().map(Arc::clone);
    Ok(engine.submit(request)?.answer()?.usage)
}

/// The middle one of some figures.
fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
