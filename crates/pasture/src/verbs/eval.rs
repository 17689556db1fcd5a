//! `pasture eval`: perplexity, choices and written answers of a model, and how far it is from a parent. The measuring is
//! the lab's; here are the flags, the bars and what is printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pasture::lab::evaluate::{self, Against, Form, Kind, Options, Report, Subject, Task, differences, windows};
use pasture::lab::receipt;
use pasture_files::durable;
use serde_json::{Value, json};

use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, RunFlags};

/// Measure a model with texts and tasks
#[derive(Args)]
#[command(after_help = "\
A task is a file whose form its rows say, or FORM:FILE; --forms lists the forms.
Without a task, --against compares over a text that is part of the program.

Examples:
  pasture eval my-model text.txt
  pasture eval my-model questions.jsonl --limit 200 --json
  pasture eval my-model mmlu_test.jsonl --shots 5 --shots-from mmlu_dev.jsonl
  pasture eval my-model.Q4_K_M.gguf --against my-model text.txt")]
pub struct Arguments {
    /// A file, a folder, or a name from a Hugging Face cache or Ollama folder
    #[arg(required_unless_present = "forms")]
    model: Option<String>,
    /// Files of questions or texts
    #[arg(required_unless_present_any = ["forms", "against"])]
    tasks: Vec<String>,
    /// List the forms of task files
    #[arg(long, exclusive = true)]
    forms: bool,
    /// Also compare the predictions with this model's, over the tasks that are texts
    #[arg(long, value_name = "PARENT")]
    against: Option<String>,
    /// Put an adapter beside the weights
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
    /// Write every sample with its scores, one JSON object a line
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Compute in f32, with activations that are not quantized
    #[arg(long)]
    exact: bool,
    /// Refuse configuration keys that nobody knows
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: RunFlags,
}

/// How tasks are asked.
#[derive(Args, Default)]
pub struct Asking {
    /// Ask the first rows of each task only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Worked examples before each question
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Take worked examples from this file
    #[arg(long, value_name = "FILE")]
    shots_from: Option<String>,
    /// New tokens of a written answer at most
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Tokens that a window of a text holds
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Tokens from one window to the next
    #[arg(long, value_name = "N")]
    stride: Option<usize>,
}

impl Asking {
    /// The tasks with these settings; the built-in text where none are named.
    pub fn tasks(&self, names: &[String]) -> Result<Vec<Task>, Failure> {
        let mut tasks = names.iter().map(|name| evaluate::open(name)).collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            // Paragraph by paragraph, so that models with other tokens have pairs to be judged by.
            let paragraphs = receipt::TEXT.split("\n\n").map(str::to_owned).collect();
            tasks.push(evaluate::of_texts(receipt::TEXT_NAME.to_owned(), paragraphs));
        }
        let pool = self.shots_from.as_deref().map(evaluate::open).transpose()?;
        let asked = |task: &Task| !matches!(task.kind, Kind::Text);
        let written = |task: &Task| matches!(task.kind, Kind::Generate { .. });
        if let Some(shots) = self.shots {
            tasks = each(tasks, "--shots", asked, |task| task.with_shots(shots))?;
        }
        if let Some(pool) = pool {
            tasks = each(tasks, "--shots-from", asked, |task| task.with_pool(pool.clone()))?;
        }
        if let Some(tokens) = self.max_tokens {
            tasks = each(tasks, "--max-tokens", written, |task| task.with_max_tokens(tokens))?;
        }
        let idle = [("--window", self.window), ("--stride", self.stride)];
        if let Some((flag, _)) = idle.iter().find(|(_, value)| value.is_some())
            && !tasks.iter().any(|task| matches!(task.kind, Kind::Text))
        {
            return Err(Failure::new(Status::Usage, format!("{flag} has no effect: none of the tasks is a text")));
        }
        for (flag, value) in idle.iter().chain(&[("--limit", self.limit)]) {
            if *value == Some(0) {
                return Err(Failure::new(Status::Usage, format!("{flag} is 0, but it must be at least 1")));
            }
        }
        Ok(tasks)
    }

    /// How they are run.
    pub fn options(&self) -> Options {
        Options { limit: self.limit, window: self.window, stride: self.stride }
    }
}

/// Changes the tasks that a flag is for, of which there must be one.
fn each(
    tasks: Vec<Task>,
    flag: &str,
    fits: impl Fn(&Task) -> bool,
    change: impl Fn(Task) -> evaluate::Result<Task>,
) -> Result<Vec<Task>, Failure> {
    if !tasks.iter().any(&fits) {
        let what = format!("{flag} has no effect: none of the tasks is one that it is for");
        return Err(Failure::new(Status::Usage, what));
    }
    let one = |task: Task| if fits(&task) { change(task) } else { Ok(task) };
    Ok(tasks.into_iter().map(one).collect::<evaluate::Result<_>>()?)
}

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    if arguments.forms {
        return forms();
    }
    if let Some(file) = &arguments.samples {
        model::can_hold(file)?;
    }
    let tasks = arguments.asking.tasks(&arguments.tasks)?;
    let given = program.clone().and(&arguments.running.0);
    let name = arguments.model.as_deref();
    let Opened { model, settings, assistant, .. } = model::open(name, &given, arguments.exact, arguments.strict)?;
    model::tell_idle(assistant.as_ref());
    let subject = with_adapter(model.subject(), arguments.adapter.as_deref())?;
    let bar = Bar::new(output::decorated(settings.text("color")));
    let options = arguments.asking.options();
    let mut report = evaluate::evaluate(model.name(), &subject, &tasks, &options, &mut |task, done, total| {
        bar.show(task, done, total);
    })?;
    if let Some(parent) = &arguments.against {
        let opened = model::open(Some(parent), &given, arguments.exact, arguments.strict)?;
        report.against = against(parent, &opened.model.subject(), &subject, &tasks, &options, &bar)?;
    }
    bar.clear();
    if let Some(file) = &arguments.samples {
        write_samples(file, &report)?;
    }
    if !arguments.json {
        return output::print(&report.to_string());
    }
    output::json(&serde_json::to_value(&report).expect("a report has text keys"))
}

/// A model with an adapter beside its weights.
pub fn with_adapter(subject: Subject, folder: Option<&Path>) -> Result<Subject, Failure> {
    let Some(folder) = folder else { return Ok(subject) };
    let adapter = pasture_model::load_adapter(folder, subject.decoder())?;
    Ok(subject.with_adapter(Arc::new(adapter)))
}

fn against(
    name: &str,
    parent: &Subject,
    subject: &Subject,
    tasks: &[Task],
    options: &Options,
    bar: &Bar,
) -> Result<Vec<Against>, Failure> {
    let mut found = Vec::new();
    for task in tasks.iter().filter(|task| matches!(task.kind, Kind::Text)) {
        let size = options.window.unwrap_or(usize::MAX).min(subject.context()).min(parent.context());
        let stride = options.stride.unwrap_or(size).clamp(1, size);
        let count = options.limit.unwrap_or(usize::MAX).min(task.rows.len());
        let mut asks = Vec::new();
        for row in &task.rows[..count] {
            let [of_model, of_parent] = [subject, parent].map(|subject| subject.text_ids(&row.query));
            let ((ids, prefix), other) = (of_model?, of_parent?);
            if (&ids, prefix) != (&other.0, other.1) {
                let what = format!("the model and {name:?} have different tokens, so their predictions do not compare");
                return Err(Failure::new(Status::Usage, what));
            }
            asks.extend(windows(&ids, prefix, size, stride));
        }
        let compared = differences(parent, subject, &asks, &mut |done| {
            bar.show(&format!("{} against {name}", task.name), done, asks.len());
            true
        })?;
        let divergence = receipt::divergence(&compared);
        found.push(Against { parent: name.to_owned(), task: task.name.clone(), divergence });
    }
    if found.is_empty() {
        let what = "--against compares over texts, and none of the tasks is one; name a text, or no task";
        return Err(Failure::new(Status::Usage, what));
    }
    Ok(found)
}

fn write_samples(file: &Path, report: &Report) -> Result<(), Failure> {
    durable::write_file(file, |sink| {
        for task in &report.tasks {
            for record in &task.records {
                let mut row = json!({"task": task.task});
                if let (Value::Object(row), Value::Object(record)) = (&mut row, record) {
                    row.extend(record.clone());
                }
                sink.put(format!("{row}\n").as_bytes())?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn forms() -> Result<(), Failure> {
    let lines = Form::ALL.map(|(name, _, rows)| format!("{name:<10} {rows}"));
    output::line(&lines.join("\n"))
}

/// A bar for the task that runs.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar, hidden where decoration is not wanted.
    pub fn new(decorated: bool) -> Bar {
        let target = if decorated { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(ProgressBar::with_draw_target(Some(0), target).with_style(style))
    }

    /// Shows how far a task is.
    pub fn show(&self, task: &str, done: usize, total: usize) {
        self.0.set_message(task.to_owned());
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }
}
