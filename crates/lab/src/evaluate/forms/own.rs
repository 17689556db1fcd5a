//! Pasture's own form of tasks: rows with a prompt and its answer, behind an optional first row with the task's settings.
//! A field or a setting that has no effect is refused.

use pasture_files::nearest::likely;
use serde_json::Value;

use super::super::error::{Error, Result};
use super::super::extract::Extract;
use super::super::scorers::{self, Rules, Scorer, pattern};
use super::super::task::{Kind, Measure, Pick, Row, Task};
use super::fields::Fields;
use super::published::MAX_TOKENS;
use super::{Form, SHOTS_SEED};

const SETTINGS: [&str; 17] = [
    "name",
    "description",
    "delimiter",
    "between",
    "shots",
    "pick",
    "seed",
    "metric",
    "until",
    "max_tokens",
    "scorers",
    "extract",
    "extract_last",
    "tolerance",
    "ignore_case",
    "ignore_punctuation",
    "remove",
];

const ROW: [&str; 5] = ["prompt", "choices", "answer", "description", "id"];

/// Reads the rows of a file that is called `name`.
pub(super) fn read(name: String, rows: Vec<Fields>) -> Result<Task> {
    let settings = rows.first().and_then(|row| row.inner("task"));
    let rows = &rows[usize::from(settings.is_some())..];
    let Some(first) = rows.first() else {
        return Err(Error::Task { task: name, what: "its file has settings and no rows".into() });
    };
    let chooses = first.get("choices").is_some();
    let mut task = Task {
        name,
        form: Form::Own,
        kind: if chooses { Kind::Choice { primary: "acc" } } else { generate(None)? },
        rows: Vec::new(),
        pool: None,
        shots: 0,
        pick: Pick::First,
        delimiter: " ".into(),
        between: "\n\n".into(),
    };
    let mut description = String::new();
    if let Some(settings) = &settings {
        description = apply(settings, &mut task, chooses)?;
    }
    task.rows = rows.iter().map(|fields| row(fields, &description, chooses)).collect::<Result<_>>()?;
    Ok(task)
}

fn row(row: &Fields, description: &str, chooses: bool) -> Result<Row> {
    refuse_others(row, &ROW, "field")?;
    let own = match row.get("description") {
        Some(_) => row.text("description")?,
        None => description,
    };
    let mut read =
        Row { line: row.line(), description: own.to_owned(), query: row.text("prompt")?.to_owned(), ..Row::default() };
    if row.get("choices").is_some() != chooses {
        return Err(row.fault("some rows have \"choices\" and others do not; give them files of their own"));
    }
    if !chooses {
        read.right = match row.get("answer") {
            Some(Value::Array(_)) => row.texts("answer")?,
            Some(Value::Number(number)) => vec![number.to_string()],
            _ => vec![row.text("answer")?.to_owned()],
        };
        return Ok(read);
    }
    read.choices = row.texts("choices")?;
    let gold = match row.get("answer") {
        Some(Value::String(text)) => read.choices.iter().position(|choice| choice == text),
        _ => Some(row.whole("answer")?).filter(|gold| *gold < read.choices.len()),
    };
    read.gold = gold.ok_or_else(|| row.fault("\"answer\" is none of the choices, nor the place of one from 0"))?;
    Ok(read)
}

/// Sets what the settings say, and gives the description.
fn apply(settings: &Fields, task: &mut Task, chooses: bool) -> Result<String> {
    refuse_others(settings, &SETTINGS, "setting")?;
    let text = |name: &str| settings.get(name).map(|_| settings.text(name).map(str::to_owned)).transpose();
    if let Some(name) = text("name")? {
        task.name = name;
    }
    if let Some(delimiter) = text("delimiter")? {
        task.delimiter = delimiter;
    }
    if let Some(between) = text("between")? {
        task.between = between;
    }
    if settings.get("shots").is_some() {
        task.shots = settings.whole("shots")?;
    }
    let seed = if settings.get("seed").is_some() { settings.whole("seed")? as u64 } else { SHOTS_SEED };
    task.pick = match text("pick")?.as_deref() {
        None if settings.get("seed").is_some() => return Err(settings.fault("\"seed\" needs \"pick\": \"random\"")),
        None | Some("first") => Pick::First,
        Some("random") => Pick::Random(seed),
        Some(other) => return Err(settings.fault(format!("\"pick\" is {other:?}, known are first and random"))),
    };
    let metric = text("metric")?;
    if chooses {
        let idle = ["until", "max_tokens", "scorers", "extract", "extract_last", "tolerance", "ignore_case"];
        let idle = idle.iter().chain(&["ignore_punctuation", "remove"]).find(|name| settings.get(name).is_some());
        if let Some(name) = idle {
            return Err(settings.fault(format!("{name:?} has no effect where there are choices")));
        }
        task.kind = match metric.as_deref() {
            None | Some("acc") => Kind::Choice { primary: "acc" },
            Some("acc_norm") => Kind::Choice { primary: "acc_norm" },
            Some(other) => return Err(settings.fault(format!("\"metric\" is {other:?}, known are acc and acc_norm"))),
        };
    } else {
        if metric.is_some() {
            return Err(
                settings.fault("\"metric\" has an effect only where there are choices; \"scorers\" names these")
            );
        }
        task.kind = generate(Some(settings))?;
    }
    Ok(text("description")?.unwrap_or_default())
}

/// What is asked where answers are written.
fn generate(settings: Option<&Fields>) -> Result<Kind> {
    let get = |name: &str| settings.and_then(|settings| settings.get(name).map(|_| *settings));
    let texts = |name: &str| get(name).map(|settings| settings.texts(name)).transpose();
    let flag = |name: &str| match get(name) {
        None => Ok(false),
        Some(settings) => {
            let value = settings.get(name).and_then(Value::as_bool);
            value.ok_or_else(|| settings.fault(format!("{name:?} is neither true nor false")))
        }
    };
    let regex = |name: &str| {
        let read = |settings: Fields| pattern(settings.text(name)?).map_err(|what| settings.fault(what));
        get(name).map(read).transpose()
    };
    let (until, max_tokens) = (texts("until")?.unwrap_or_else(|| vec!["\n\n".into()]), get("max_tokens"));
    let max_tokens = max_tokens.map_or(Ok(MAX_TOKENS), |settings| settings.whole("max_tokens"))?;
    let extract = match (regex("extract")?, regex("extract_last")?, get("extract")) {
        (Some(_), Some(_), Some(settings)) => {
            return Err(settings.fault("\"extract\" and \"extract_last\" exclude each other"));
        }
        (Some(first), _, _) => Extract::First(first),
        (_, Some(last), _) => Extract::Last(last),
        _ => Extract::Whole,
    };
    let mut remove = Vec::new();
    for text in texts("remove")?.unwrap_or_default() {
        let read = pattern(&text);
        remove.push(
            read.map_err(|what| settings.map_or_else(|| nowhere(&what), |settings| settings.fault(what.clone())))?,
        );
    }
    let rules = Rules {
        remove,
        ignore_case: flag("ignore_case")?,
        ignore_punctuation: flag("ignore_punctuation")?,
        trim: true,
    };
    let tolerance = match get("tolerance") {
        None => 1e-6,
        Some(settings) => {
            let value = settings.get("tolerance").and_then(Value::as_f64).filter(|value| *value >= 0.0);
            value.ok_or_else(|| settings.fault("\"tolerance\" is no number from 0"))?
        }
    };
    let names = texts("scorers")?.unwrap_or_else(|| vec!["exact".into()]);
    let named = |name: &String| {
        let scorer = match name.as_str() {
            "exact" => Scorer::Exact(rules.clone()),
            "regex" => Scorer::Regex,
            "numeric" => Scorer::Numeric(tolerance),
            "f1" => Scorer::F1,
            "rouge-l" => Scorer::RougeL,
            "json" => Scorer::Json,
            other => {
                let what = format!("{other:?} is no scorer; known are {}", scorers::NAMES.join(", "));
                return Err(settings.map_or_else(|| nowhere(&what), |settings| settings.fault(what.clone())));
            }
        };
        Ok(Measure { name: name.clone(), extract: extract.clone(), scorer })
    };
    let measures = names.iter().map(named).collect::<Result<Vec<_>>>()?;
    match (measures.is_empty(), settings) {
        (true, Some(settings)) => Err(settings.fault("\"scorers\" is empty")),
        _ => Ok(Kind::Generate { until, max_tokens, measures }),
    }
}

fn nowhere(what: &str) -> Error {
    Error::Task { task: "own".into(), what: what.to_owned() }
}

fn refuse_others(fields: &Fields, known: &[&'static str], kind: &str) -> Result<()> {
    let Some(other) = fields.keys().find(|key| !known.contains(key)) else { return Ok(()) };
    let near = likely(other, known.iter().copied()).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    Err(fields.fault(format!("{other:?} is no {kind} of a task and would have no effect{near}")))
}
