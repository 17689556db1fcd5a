//! Running a task: questions become tokens, tokens become log-likelihoods or answers, and these become metrics as
//! lm-evaluation-harness computes them.

use std::sync::Arc;
use std::time::Instant;

use pasture_engine::{Engine, EngineOptions, Request, Runner, Text};
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::likelihood::{Ask, Said, continuation, likelihoods, windows};
use super::report::{Metric, Report, TaskReport, TextDetail};
use super::statistics::{SEED, bootstrap};
use super::subject::Subject;
use super::task::{Kind, Measure, Row, Task};

/// How a task is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Rows at most, from the first.
    pub limit: Option<usize>,
    /// Tokens that a window of a text holds; the context where absent.
    pub window: Option<usize>,
    /// Tokens from one window to the next; the window where absent.
    pub stride: Option<usize>,
}

/// Runs tasks one after the other. `watch` is told the task, what of it is done, and what there is.
///
/// # Errors
/// When a row cannot be asked, or the model cannot be run.
pub fn evaluate(
    name: &str,
    subject: &Subject,
    tasks: &[Task],
    options: &Options,
    watch: &mut dyn FnMut(&str, usize, usize),
) -> Result<Report> {
    let mut report = Report { model: name.to_owned(), ..Report::default() };
    for task in tasks {
        let mut of_task = |done: usize, total: usize| {
            watch(&task.name, done, total);
            true
        };
        report.tasks.push(run(subject, task, options, &mut of_task)?);
    }
    Ok(report)
}

/// Runs a task. `watch` is told what is done and what there is, and says whether to go on; a text that is stopped is
/// judged by what was done, other tasks are run whole.
///
/// # Errors
/// When a row cannot be asked, or the model cannot be run.
pub fn run(
    subject: &Subject,
    task: &Task,
    options: &Options,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<TaskReport> {
    let began = Instant::now();
    let count = options.limit.unwrap_or(usize::MAX).min(task.rows.len());
    let rows = &task.rows[..count];
    let mut report = TaskReport {
        task: task.name.clone(),
        form: task.form.name(),
        samples: count,
        of: task.rows.len(),
        shots: task.shots,
        settings: Value::Null,
        metrics: Vec::new(),
        tokens: 0,
        seconds: 0.0,
        records: Vec::new(),
        text: None,
    };
    if rows.is_empty() {
        return Err(Error::Task { task: task.name.clone(), what: "there is no row to ask; the limit is 0".into() });
    }
    let prompts = task.prompts(count).map_err(|what| Error::Task { task: task.name.clone(), what })?;
    match &task.kind {
        Kind::Choice { primary } => choose(subject, task, rows, &prompts, primary, &mut report, watch)?,
        Kind::Generate { until, max_tokens, measures } => {
            let answers = generate(subject, task, &prompts, until, *max_tokens, &mut report, watch)?;
            report.settings = json!({"until": until, "max_tokens": max_tokens});
            score(task, rows, &prompts, &answers, measures, &mut report)?;
        }
        Kind::Text => text(subject, rows, options, &mut report, watch)?,
    }
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

/// Which choice is the most likely, by itself and by its number of characters.
fn choose(
    subject: &Subject,
    task: &Task,
    rows: &[Row],
    prompts: &[String],
    primary: &str,
    report: &mut TaskReport,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<()> {
    let mut asks: Vec<Ask> = Vec::new();
    for (number, (row, prompt)) in rows.iter().zip(prompts).enumerate() {
        for choice in &row.choices {
            let ask = continuation(subject, prompt, &format!("{}{choice}", task.delimiter), number);
            asks.push(ask.map_err(|fault| at_row(task, row, fault))?);
        }
    }
    report.tokens = asks.iter().map(|ask| ask.ids.len() as u64 - 1).sum();
    let total = asks.len();
    let said = likelihoods(subject, &asks, &mut |done| {
        watch(done, total);
        true
    })?;
    let (mut rest, mut acc, mut acc_norm) = (said.as_slice(), Vec::new(), Vec::new());
    for (row, prompt) in rows.iter().zip(prompts) {
        let (own, others) = rest.split_at(row.choices.len());
        rest = others;
        let sums: Vec<f64> = own.iter().map(Said::sum).collect();
        let normed: Vec<f64> =
            sums.iter().zip(&row.choices).map(|(sum, choice)| sum / choice.chars().count() as f64).collect();
        let (best, best_normed) = (largest(&sums), largest(&normed));
        acc.push(f64::from(best == row.gold));
        acc_norm.push(f64::from(best_normed == row.gold));
        report.records.push(json!({
            "line": row.line, "prompt": prompt, "choices": row.choices, "right": row.gold,
            "loglikelihoods": sums, "chosen": best, "chosen_norm": best_normed,
            "acc": acc.last(), "acc_norm": acc_norm.last(),
        }));
    }
    report.settings = json!({"normalized_by": "characters"});
    report.metrics = vec![
        Metric::of_scores("acc", acc, primary == "acc"),
        Metric::of_scores("acc_norm", acc_norm, primary == "acc_norm"),
    ];
    Ok(())
}

/// The first of the largest values, as numpy's `argmax`.
fn largest(values: &[f64]) -> usize {
    let best = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, best)
}

/// The most probable answers, up to a stop text or so many tokens. Prompts that leave no room lose their beginning.
fn generate(
    subject: &Subject,
    task: &Task,
    prompts: &[String],
    until: &[String],
    max_tokens: usize,
    report: &mut TaskReport,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Vec<String>> {
    let fault = |what: String| Error::Task { task: task.name.clone(), what };
    let Some(room) = subject.context().checked_sub(max_tokens).filter(|room| *room > 0) else {
        let what = format!("answers of {max_tokens} tokens leave no room in the context of {}", subject.context());
        return Err(fault(format!("{what}; set \"max_tokens\" in its file or --max-tokens")));
    };
    let tokenizer = subject.tokenizer()?.clone();
    let stop_ids: Vec<u32> = tokenizer.eos().into_iter().collect();
    let runner = Runner::new(subject.decoder().clone(), subject.kv_format());
    let options = EngineOptions { context: Some(subject.context()), ..EngineOptions::default() };
    let engine = Engine::start(Box::new(runner), Some(Arc::new(tokenizer) as Arc<dyn Text>), options)?;
    let mut streams = Vec::new();
    for prompt in prompts {
        let ids = subject.encode(prompt)?;
        let mut request = Request::new(ids[ids.len().saturating_sub(room)..].to_vec());
        request.sampling.temperature = Some(0.0);
        request.max_tokens = Some(max_tokens);
        request.stop_ids = stop_ids.clone();
        request.stops = until.to_vec();
        request.adapter = subject.adapter().cloned();
        report.tokens += request.ids.len() as u64;
        streams.push(engine.submit(request)?);
    }
    let mut answers = Vec::new();
    for stream in streams {
        watch(answers.len(), prompts.len());
        let answer = stream.answer()?;
        report.tokens += answer.ids.len() as u64;
        answers.push(answer.text);
    }
    watch(answers.len(), prompts.len());
    Ok(answers)
}

fn score(
    task: &Task,
    rows: &[Row],
    prompts: &[String],
    answers: &[String],
    measures: &[Measure],
    report: &mut TaskReport,
) -> Result<()> {
    let mut scores: Vec<Vec<f64>> = vec![Vec::new(); measures.len()];
    for ((row, prompt), answer) in rows.iter().zip(prompts).zip(answers) {
        let mut record = json!({"line": row.line, "prompt": prompt, "answer": answer, "right": row.right});
        for (measure, scores) in measures.iter().zip(&mut scores) {
            let extracted = measure.extract.apply(answer);
            let score = measure.scorer.score(&extracted, &row.right);
            let score = score.map_err(|what| at_row(task, row, Error::Task { task: String::new(), what }))?;
            record[&measure.name] = json!({"extracted": extracted, "score": score});
            scores.push(score);
        }
        report.records.push(record);
    }
    let last = measures.len().saturating_sub(1);
    let named = measures.iter().zip(scores).enumerate();
    report.metrics =
        named.map(|(at, (measure, scores))| Metric::of_scores(measure.name.as_str(), scores, at == last)).collect();
    Ok(())
}

/// Tokens of a block that is drawn as one: neighbors are not independent.
pub(crate) const BLOCK: usize = 64;

/// Fewer documents than these are no sample of documents; their tokens are drawn in blocks.
const DOCUMENTS_MIN: usize = 8;

/// How likely texts are, as lm-evaluation-harness's `loglikelihood_rolling`.
fn text(
    subject: &Subject,
    rows: &[Row],
    options: &Options,
    report: &mut TaskReport,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<()> {
    let size = options.window.unwrap_or(usize::MAX).min(subject.context());
    let stride = options.stride.unwrap_or(size).clamp(1, size);
    let (mut asks, mut owners, mut detail) = (Vec::new(), Vec::new(), TextDetail::default());
    for (number, row) in rows.iter().enumerate() {
        let (ids, prefix) = subject.text_ids(&row.query)?;
        for ask in windows(&ids, prefix, size, stride) {
            owners.push(number);
            asks.push(Ask { group: asks.len(), ..ask });
        }
        detail.bytes.push(row.query.len() as u64);
    }
    let total = asks.len();
    let said = likelihoods(subject, &asks, &mut |done| watch(done, total))?;
    (detail.ids, detail.logprobs) = (vec![Vec::new(); rows.len()], vec![Vec::new(); rows.len()]);
    for ((ask, said), owner) in asks.iter().zip(&said).zip(&owners) {
        detail.ids[*owner].extend_from_slice(&ask.ids[ask.ids.len() - said.logprobs.len()..]);
        detail.logprobs[*owner].extend_from_slice(&said.logprobs);
        report.tokens += ask.ids.len() as u64 - 1;
    }
    let ended = said.iter().all(|said| !said.logprobs.is_empty());
    let words = rows.iter().map(|row| words(&row.query)).sum();
    report.metrics = perplexities(&detail, ended.then_some(words));
    report.settings = json!({"window": size, "stride": stride, "windows": total});
    for (at, row) in rows.iter().enumerate() {
        let sum: f64 = detail.logprobs[at].iter().map(|logprob| f64::from(*logprob)).sum();
        let tokens = detail.logprobs[at].len();
        report
            .records
            .push(json!({"line": row.line, "loglikelihood": sum, "tokens": tokens, "bytes": row.query.len()}));
    }
    report.text = Some(detail);
    Ok(())
}

/// Python's `len(re.split(r"\s+", text))`: runs of white space, and one.
fn words(text: &str) -> u64 {
    let (mut count, mut inside) = (1, false);
    for letter in text.chars() {
        let space = letter.is_whitespace();
        count += u64::from(space && !inside);
        inside = space;
    }
    count
}

/// Perplexity over tokens, words and bytes; only over tokens where the text was not scored to its end.
fn perplexities(detail: &TextDetail, words: Option<u64>) -> Vec<Metric> {
    let all: Vec<f32> = detail.logprobs.concat();
    let nll: f64 = all.iter().map(|logprob| -f64::from(*logprob)).sum();
    let tokens = all.len().max(1) as f64;
    let units: Vec<(f64, f64)> = if detail.logprobs.len() >= DOCUMENTS_MIN {
        detail.logprobs.iter().map(|logprobs| unit(logprobs)).collect()
    } else {
        all.chunks(BLOCK).map(unit).collect()
    };
    let found = bootstrap(units.len(), SEED, &mut |chosen| {
        let sum = chosen.iter().fold((0.0, 0.0), |sum, at| (sum.0 + units[*at].0, sum.1 + units[*at].1));
        sum.0 / f64::max(sum.1, 1.0)
    });
    let metric = |name: &str, per: f64, primary: bool, shown: &dyn Fn(f64) -> f64| {
        let value = shown(nll / per);
        let scale = tokens / per;
        let interval = found.map(|found| (shown(found.interval.0 * scale), shown(found.interval.1 * scale)));
        // A perplexity's error is that of its logarithm times itself.
        let slope = if name == "bits_per_byte" { 1.0 / std::f64::consts::LN_2 } else { value };
        let stderr = found.map(|found| found.stderr * scale * slope);
        Metric { name: name.to_owned(), value, stderr, interval, higher_is_better: false, primary, scores: Vec::new() }
    };
    let mut metrics = vec![metric("perplexity", tokens, true, &f64::exp)];
    if let Some(words) = words {
        let bytes = detail.bytes.iter().sum::<u64>() as f64;
        metrics.push(metric("word_perplexity", words as f64, false, &f64::exp));
        metrics.push(metric("byte_perplexity", bytes, false, &f64::exp));
        metrics.push(metric("bits_per_byte", bytes, false, &|nats| nats / std::f64::consts::LN_2));
    }
    metrics
}

fn unit(logprobs: &[f32]) -> (f64, f64) {
    (logprobs.iter().map(|logprob| -f64::from(*logprob)).sum(), logprobs.len() as f64)
}

fn at_row(task: &Task, row: &Row, fault: Error) -> Error {
    match fault {
        Error::Task { what, .. } => Error::Row { file: task.name.clone(), line: row.line, what },
        other => other,
    }
}
