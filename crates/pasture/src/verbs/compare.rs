//! `pasture compare`: whether the second of two models is better, judged on the same samples in pairs. A folder with an
//! adapter stands for the first model with that adapter beside its weights.

use std::path::Path;

use clap::Args;
use pasture::lab::evaluate::{self, Comparison, Subject, compare, decide};
use serde_json::json;

use super::eval::{Asking, Bar, with_adapter};
use super::model::{self, Opened};
use crate::exit::{Failure, Status};
use crate::output;
use crate::settings::{Given, RunFlags};

/// Say whether one of two models is better
#[derive(Args)]
#[command(after_help = "\
A difference counts where its chance between equal models is below 5 %: McNemar's
exact test for right and wrong, else resampled differences of the same samples.
Without a task, a text that is part of the program is used.

Examples:
  pasture compare my-model my-model.Q4_K_M.gguf
  pasture compare my-model my-adapter held-out.txt questions.jsonl
  pasture compare a b questions.jsonl --require better")]
pub struct Arguments {
    /// The model to compare with
    a: String,
    /// The model that may be better; a folder with an adapter is A with it
    b: String,
    /// Files of questions or texts, as `pasture eval` takes them
    tasks: Vec<String>,
    #[command(flatten)]
    asking: Asking,
    /// Fail unless B is better, or unless it is not worse
    #[arg(long, value_name = "VERDICT", value_parser = ["better", "not-worse"])]
    require: Option<String>,
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

pub fn run(arguments: &Arguments, program: &Given) -> Result<(), Failure> {
    let tasks = arguments.asking.tasks(&arguments.tasks)?;
    let given = program.clone().and(&arguments.running.0);
    let Opened { model, settings, .. } = model::open(Some(&arguments.a), &given, arguments.exact, arguments.strict)?;
    let a = model.subject();
    let b = second(arguments, &given, &a)?;
    let bar = Bar::new(output::decorated(settings.text("color")));
    let mut options = arguments.asking.options();
    // Windows of both hold the same tokens.
    let window = a.context().min(b.context());
    options.window = Some(options.window.unwrap_or(window).min(window));
    let side = |name: &str, subject: &Subject| {
        evaluate::evaluate(name, subject, &tasks, &options, &mut |task, done, total| {
            bar.show(&format!("{name}: {task}"), done, total);
        })
    };
    let of_a = side(&arguments.a, &a)?;
    let of_b = side(&arguments.b, &b)?;
    bar.clear();
    let mut found: Vec<Comparison> = Vec::new();
    for (a, b) in of_a.tasks.iter().zip(&of_b.tasks) {
        found.extend(compare(a, b)?);
    }
    let verdict = decide(&found);
    let sentence = verdict.sentence(&arguments.b);
    if arguments.json {
        let object = json!({"a": of_a, "b": of_b, "comparisons": found, "verdict": verdict, "sentence": sentence});
        output::json(&object)?;
    } else {
        for comparison in &found {
            output::line(&comparison.to_string())?;
        }
        output::line(&format!("verdict: {sentence}"))?;
    }
    require(arguments, verdict)
}

fn second(arguments: &Arguments, given: &Given, a: &Subject) -> Result<Subject, Failure> {
    let folder = Path::new(&arguments.b);
    if folder.join("adapter_config.json").is_file() {
        return with_adapter(a.clone(), Some(folder));
    }
    Ok(model::open(Some(&arguments.b), given, arguments.exact, arguments.strict)?.model.subject())
}

fn require(arguments: &Arguments, verdict: evaluate::Verdict) -> Result<(), Failure> {
    use evaluate::Verdict::{Better, Mixed, Worse};
    let met = match arguments.require.as_deref() {
        Some("better") => verdict == Better,
        Some(_) => !matches!(verdict, Worse | Mixed),
        None => true,
    };
    let wanted = arguments.require.as_deref().unwrap_or_default();
    let what = format!("--require {wanted} is not met: {}", verdict.sentence(&arguments.b));
    if met { Ok(()) } else { Err(Failure::new(Status::Failed, what)) }
}
