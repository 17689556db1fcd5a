//! Published forms: the fields of their rows, and the prompts that lm-evaluation-harness makes of them.

use serde_json::Value;

use super::super::error::Result;
use super::super::extract::Extract;
use super::super::scorers::{Rules, Scorer, pattern};
use super::super::task::{Kind, Measure, Pick, Row};
use super::fields::Fields;
use super::{Form, SHOTS_SEED};

/// New tokens at most of an answer, where a task does not say.
pub(super) const MAX_TOKENS: usize = 256;

/// What is asked, how many worked examples there are, and which.
pub(super) fn settings(form: Form) -> (Kind, usize, Pick) {
    match form {
        Form::Mmlu => (Kind::Choice { primary: "acc" }, 0, Pick::First),
        Form::Hellaswag | Form::Arc => (Kind::Choice { primary: "acc_norm" }, 0, Pick::Random(SHOTS_SEED)),
        Form::Gsm8k => (gsm8k_kind(), 5, Pick::Random(SHOTS_SEED)),
        Form::Text | Form::Own => (Kind::Text, 0, Pick::First),
    }
}

/// Reads a row.
pub(super) fn read(form: Form, task: &str, row: &Fields) -> Result<Row> {
    let read = match form {
        Form::Mmlu => mmlu(task, row),
        Form::Hellaswag => hellaswag(row),
        Form::Arc => arc(row),
        Form::Gsm8k => gsm8k(row),
        Form::Text | Form::Own => text(row),
    }?;
    if !read.choices.is_empty() && read.gold >= read.choices.len() {
        return Err(row.fault(format!(
            "the right choice is number {}, and there are {}",
            read.gold,
            read.choices.len()
        )));
    }
    Ok(Row { line: row.line(), ..read })
}

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

fn mmlu(task: &str, row: &Fields) -> Result<Row> {
    let choices = match row.get("choices") {
        Some(_) => row.texts("choices")?,
        None => LETTERS.iter().map(|letter| row.text(letter).map(str::to_owned)).collect::<Result<_>>()?,
    };
    let [a, b, c, d] = choices.as_slice() else {
        return Err(row.fault(format!("it has {} choices, MMLU has four", choices.len())));
    };
    let gold = match row.get("answer").and_then(Value::as_str).map(str::trim) {
        Some(letter) if LETTERS.contains(&letter) => LETTERS.iter().position(|known| *known == letter).unwrap_or(0),
        _ => row.whole("answer")?,
    };
    let subject = match row.get("subject").and_then(Value::as_str).filter(|subject| !subject.is_empty()) {
        Some(subject) => subject,
        None => ["_test", "_dev", "_val"].iter().find_map(|ending| task.strip_suffix(ending)).unwrap_or(task),
    };
    let subject = subject.replace('_', " ");
    Ok(Row {
        description: format!("The following are multiple choice questions (with answers) about {subject}.\n\n"),
        query: format!("{}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:", row.text("question")?.trim()),
        choices: LETTERS.map(str::to_owned).to_vec(),
        gold,
        ..Row::default()
    })
}

fn hellaswag(row: &Fields) -> Result<Row> {
    let (label, first, second) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
    let query = cleaned(&format!("{label}: {first} {}", capitalized(second)));
    let choices = row.texts("endings")?.iter().map(|ending| cleaned(ending)).collect();
    Ok(Row { query, choices, gold: row.whole("label")?, ..Row::default() })
}

/// The first letter large, the others small.
fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    first + &letters.as_str().to_lowercase()
}

/// Without the marks that WikiHow left: titles, and what stands in brackets on one line.
fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let (mut kept, mut rest) = (String::new(), text.as_str());
    while let Some(open) = rest.find('[') {
        let close = rest[open..].find(']').filter(|close| !rest[open..open + close].contains('\n'));
        let (piece, next) = match close {
            Some(close) => (&rest[..open], &rest[open + close + 1..]),
            None => rest.split_at(open + 1),
        };
        kept.push_str(piece);
        rest = next;
    }
    kept.push_str(rest);
    kept.replace("  ", " ")
}

fn arc(row: &Fields) -> Result<Row> {
    // ai2's own files keep the choices inside the question; the Hub's keep them beside it.
    let (stem, place) = match row.inner("question") {
        Some(question) => (question.text("stem")?.to_owned(), question),
        None => (row.text("question")?.to_owned(), *row),
    };
    let (texts, labels) = match place.inner("choices") {
        Some(choices) => (choices.texts("text")?, choices.texts("label")?),
        None => pairs(&place, row)?,
    };
    let key = row.text("answerKey")?;
    let gold = labels.iter().position(|label| label == key);
    let gold = gold.ok_or_else(|| row.fault(format!("\"answerKey\" is {key:?}, and the labels are {labels:?}")))?;
    if texts.len() != labels.len() {
        return Err(row.fault(format!("it has {} texts of choices and {} labels", texts.len(), labels.len())));
    }
    Ok(Row { query: format!("Question: {stem}\nAnswer:"), choices: texts, gold, ..Row::default() })
}

/// Choices as a list of objects with `text` and `label`.
fn pairs(place: &Fields, row: &Fields) -> Result<(Vec<String>, Vec<String>)> {
    let wrong = || row.fault("\"choices\" is missing or has no texts with labels");
    let list = place.get("choices").and_then(Value::as_array).ok_or_else(wrong)?;
    let one = |choice: &Value| Some((choice["text"].as_str()?.to_owned(), choice["label"].as_str()?.to_owned()));
    list.iter().map(|choice| one(choice).ok_or_else(wrong)).collect()
}

fn gsm8k(row: &Fields) -> Result<Row> {
    let query = format!("Question: {}\nAnswer:", row.text("question")?);
    Ok(Row { query, right: vec![row.text("answer")?.to_owned()], ..Row::default() })
}

fn gsm8k_kind() -> Kind {
    let known = |text: &str| pattern(text).expect("a pattern of ours is one");
    let remove = [",", "\\$", "(?s).*#### ", "\\.$"].map(known).to_vec();
    let scorer = Scorer::Exact(Rules { remove, ignore_case: true, ..Rules::default() });
    let measure = |name: &str, extract| Measure { name: name.to_owned(), extract, scorer: scorer.clone() };
    Kind::Generate {
        until: ["Question:", "</s>", "<|im_end|>"].map(str::to_owned).to_vec(),
        max_tokens: MAX_TOKENS,
        measures: vec![
            measure("exact_match,strict-match", Extract::First(known("#### (\\-?[0-9\\.\\,]+)"))),
            measure("exact_match,flexible-extract", Extract::Last(known("(-?[$0-9.,]{2,})|(-?[0-9]+)"))),
        ],
    }
}

fn text(row: &Fields) -> Result<Row> {
    let name = if row.get("text").is_some() { "text" } else { "page" };
    Ok(Row { query: row.text(name)?.to_owned(), ..Row::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_lose_the_marks_of_wikihow() {
        // re.sub("\\[.*?\\]", "", text) and the other steps, in Python 3.11
        for (text, wanted) in [
            (" [header] How to [title] Do it [step] now", " How to. Do it now"),
            ("a [b", "a [b"),
            ("a [b\n] c", "a [b\n] c"),
            ("a [[b] c]  d", "a c] d"),
        ] {
            assert_eq!(cleaned(text), wanted, "{text:?}");
        }
        assert_eq!((capitalized("then HE goes"), capitalized("")), ("Then he goes".to_owned(), String::new()));
    }
}
