//! The forms in which tasks are published, as their files are: recognized by the fields of the first row, or named. The
//! prompts are those of lm-evaluation-harness.

mod fields;
mod own;
mod published;

use std::path::Path;

use pasture_files::data;
use pasture_files::error::file_name;
use serde_json::Value;

use super::error::{Error, Result};
use super::task::{Kind, Pick, Row, Task};
use fields::Fields;

/// The seed that picks worked examples in lm-evaluation-harness.
const SHOTS_SEED: u64 = 1234;

/// A form of task files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text whose likelihood is measured.
    Text,
    /// `question`, four `choices`, `answer`.
    Mmlu,
    /// `activity_label`, `ctx_a`, `ctx_b`, `endings`, `label`.
    Hellaswag,
    /// `question`, `choices` with labels, `answerKey`.
    Arc,
    /// `question` and an `answer` that ends in `#### number`.
    Gsm8k,
    /// Pasture's own: `prompt`, `answer`, perhaps `choices`.
    Own,
}

impl Form {
    /// All forms by name, with what their rows look like.
    pub const ALL: [(&'static str, Form, &'static str); 6] = [
        ("text", Form::Text, "a .txt or .md file, or rows with \"text\" or \"page\": perplexity"),
        (
            "mmlu",
            Form::Mmlu,
            "rows with \"question\", four \"choices\", \"answer\"; or CSV of six columns without names",
        ),
        ("hellaswag", Form::Hellaswag, "rows with \"activity_label\", \"ctx_a\", \"ctx_b\", \"endings\", \"label\""),
        ("arc", Form::Arc, "rows with \"question\", \"choices\" of texts and labels, \"answerKey\""),
        ("gsm8k", Form::Gsm8k, "rows with \"question\" and \"answer\" that ends in \"#### number\""),
        (
            "own",
            Form::Own,
            "rows with \"prompt\", \"answer\" and perhaps \"choices\"; docs/guide/eval.md has all fields",
        ),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Form::ALL.iter().find(|(_, form, _)| *form == self).map_or("", |(name, _, _)| name)
    }

    /// The form of a name.
    pub fn of_name(name: &str) -> Option<Form> {
        Form::ALL.iter().find(|(known, _, _)| *known == name).map(|(_, form, _)| *form)
    }
}

/// Opens a task: a file, or `FORM:FILE` where the form is named.
///
/// # Errors
/// When there is no such file, or its rows have no known form.
pub fn open(task: &str) -> Result<Task> {
    let named = task.split_once(':').and_then(|(form, file)| Some((Form::of_name(form)?, file)));
    if let (None, Some(form)) = (named, Form::of_name(task))
        && !Path::new(task).exists()
    {
        let what =
            format!("it is a form and no file; no data comes with Pasture: give your file as {}:FILE", form.name());
        return Err(Error::Task { task: task.to_owned(), what });
    }
    match named {
        Some((form, file)) => open_as(Path::new(file), Some(form)),
        None => open_as(Path::new(task), None),
    }
}

/// Opens a file whose form is named, or recognized by its first row.
///
/// # Errors
/// When the file cannot be read, or its rows do not have the form.
pub fn open_as(path: &Path, form: Option<Form>) -> Result<Task> {
    let name = task_name(path);
    let is_text = path.extension().is_some_and(|ending| ending == "txt" || ending == "md");
    if is_text && form.is_none_or(|form| form == Form::Text) {
        return text_file(path, name);
    }
    let file = file_name(path);
    let values: Vec<(usize, Value)> = data::values(path)?.collect::<data::Result<_>>()?;
    let lower = file.to_ascii_lowercase();
    let ending = lower.strip_suffix(".gz").unwrap_or(&lower);
    let values = if ending.ends_with(".csv") || ending.ends_with(".tsv") { with_names(values) } else { values };
    let Some((line, first)) = values.first() else {
        return Err(Error::Task { task: name, what: "its file has no rows".into() });
    };
    let form = match form {
        Some(form) => form,
        None => recognize(first).ok_or_else(|| unknown(&file, *line, first))?,
    };
    let rows = values.iter().map(|(line, value)| Fields::new(&file, *line, value));
    if form == Form::Own {
        return own::read(name, rows.collect::<Result<_>>()?);
    }
    let rows: Vec<Row> = rows.map(|row| published::read(form, &name, &row?)).collect::<Result<_>>()?;
    let (kind, shots, pick) = published::settings(form);
    Ok(Task { name, form, kind, rows, pool: None, shots, pick, delimiter: " ".into(), between: "\n\n".into() })
}

/// The whole of a text file as one row, as it stands.
fn text_file(path: &Path, name: String) -> Result<Task> {
    let bytes = pasture_files::folder::read_file(path, pasture_files::size::Size::new(1 << 30))?;
    let query = String::from_utf8(bytes).map_err(|fault| {
        let at = fault.utf8_error().valid_up_to();
        Error::Task { task: name.clone(), what: format!("its file is not UTF-8: byte {at} begins no character") }
    })?;
    if query.trim().is_empty() {
        return Err(Error::Task { task: name, what: "its file has no text".into() });
    }
    Ok(of_texts(name, vec![query]))
}

/// Texts as a task.
///
/// # Panics
/// When there are none.
pub fn of_texts(name: String, texts: Vec<String>) -> Task {
    assert!(!texts.is_empty(), "a task has rows");
    let (kind, shots, pick) = (Kind::Text, 0, Pick::First);
    let rows = texts.into_iter().zip(1..).map(|(query, line)| Row { line, query, ..Row::default() }).collect();
    let empty = String::new;
    Task { name, form: Form::Text, kind, rows, pool: None, shots, pick, delimiter: empty(), between: empty() }
}

/// The file's name without its endings.
fn task_name(path: &Path) -> String {
    let file = file_name(path);
    let known = [".gz", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".md"];
    let mut name = file.as_str();
    while let Some(shorter) = known.iter().find_map(|ending| name.strip_suffix(ending)) {
        name = shorter;
    }
    if name.is_empty() { file } else { name.to_owned() }
}

/// Rows of CSV get the names of the first line; the six columns of MMLU's own files have none.
fn with_names(values: Vec<(usize, Value)>) -> Vec<(usize, Value)> {
    let Some((_, Value::Array(first))) = values.first() else { return values };
    let is_answer = |field: &Value| matches!(field.as_str(), Some("A" | "B" | "C" | "D"));
    let names: Vec<String> = match first.as_slice() {
        [_, _, _, _, _, answer] if is_answer(answer) => {
            ["question", "A", "B", "C", "D", "answer"].map(str::to_owned).to_vec()
        }
        names => names.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect(),
    };
    let skip = usize::from(!matches!(first.as_slice(), [_, _, _, _, _, answer] if is_answer(answer)));
    let named = |(line, value): (usize, Value)| match value {
        Value::Array(fields) => (line, Value::Object(names.iter().cloned().zip(fields).collect())),
        other => (line, other),
    };
    values.into_iter().skip(skip).map(named).collect()
}

fn recognize(row: &Value) -> Option<Form> {
    let has = |names: &[&str]| names.iter().all(|name| row.get(name).is_some());
    if has(&["task"]) || has(&["prompt", "answer"]) {
        Some(Form::Own)
    } else if has(&["endings", "ctx_a"]) {
        Some(Form::Hellaswag)
    } else if has(&["choices", "answerKey"]) || row.pointer("/question/stem").is_some() {
        Some(Form::Arc)
    } else if has(&["question", "choices", "answer"]) || has(&["question", "A", "B", "C", "D", "answer"]) {
        Some(Form::Mmlu)
    } else if has(&["question", "answer"]) && row["answer"].as_str().is_some_and(|answer| answer.contains("####")) {
        Some(Form::Gsm8k)
    } else if has(&["text"]) || has(&["page"]) {
        Some(Form::Text)
    } else {
        None
    }
}

fn unknown(file: &str, line: usize, row: &Value) -> Error {
    let names: Vec<String> = row.as_object().map_or(Vec::new(), |row| row.keys().take(8).cloned().collect());
    let forms = Form::ALL.map(|(name, _, rows)| format!("{name}: {rows}")).join("; ");
    let what = format!("no form of tasks has the fields {names:?}; known are {forms}; FORM:FILE names one");
    Error::Row { file: file.to_owned(), line, what }
}
