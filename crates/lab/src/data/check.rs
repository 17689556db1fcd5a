//! What is wrong with a file of data, each problem by its line: errors keep a row from being learned from, warnings tell
//! of what is learned and perhaps should not be.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::Path;

use pasture_files::data::{self, Content, Turns};
use pasture_files::error::file_name;
use pasture_files::prompt::{Message, Prompt, Role};
use serde::Serialize;

use super::dataset::{Counts, Tally, recognized};
use super::encode::{Encoder, Piece};
use super::error::{Error, Result};
use super::fingerprint::{Digests, fingerprint, near_fingerprint};
use super::options::Options;

/// Problems that are told one by one; the others are counted.
const PROBLEMS_MAX: usize = 1_000;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The row cannot be learned from.
    Error,
    /// It can, and perhaps should not.
    Warning,
}

/// Something wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line at which the row begins, or its number; absent where the file as a whole is meant.
    pub line: Option<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Name of the file, without its folder.
    pub file: String,
    /// The layout by the word of `--kind`; absent where no row could be read.
    pub kind: Option<String>,
    /// What was recognized and why.
    pub recognized: Option<String>,
    /// Whether rows are named by their number, because the file has no lines.
    pub numbered: bool,
    /// Rows that can be learned from.
    pub rows: usize,
    /// The first problems, in the order of the file.
    pub problems: Vec<Problem>,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// Rows that stand there twice.
    pub duplicates: usize,
    /// Rows that differ from others in case, marks and white space alone.
    pub near_duplicates: usize,
    /// Columns without an effect.
    pub unused: Vec<String>,
    /// Digest of the rows in their order.
    pub digest: String,
    /// Digest of the rows in any order.
    pub digest_unordered: String,
    /// Counts of tokens, where a model is known.
    pub counts: Option<Counts>,
}

/// What is carried from row to row.
struct State<'p> {
    prompt: Option<&'p Prompt>,
    options: &'p Options,
    /// Spellings of control tokens that the template or the ends use.
    marks: Vec<String>,
    checked: Checked,
    digests: Digests,
    /// First halves of digests, with the line of the first row.
    seen: HashMap<u128, usize>,
    near: HashMap<u128, usize>,
    tally: Tally,
}

/// Reads every row and names what is wrong; with a model also what only it can say. `progress` is told how many rows were
/// looked at.
///
/// # Errors
/// When the file cannot be read at all, or an option would have no effect.
pub fn check(
    path: &Path,
    prompt: Option<&Prompt>,
    options: &Options,
    progress: &mut dyn FnMut(usize),
) -> Result<Checked> {
    let tokenizer = prompt.and_then(Prompt::tokenizer);
    let vocabulary = options.vocabulary.or(tokenizer.and_then(|tokenizer| u32::try_from(tokenizer.len()).ok()));
    let mut rows = data::open(path, data::Options { vocabulary, layout: options.kind })?;
    let mut state = State::new(file_name(path), rows.is_numbered(), prompt, options);
    let (mut looked_at, mut ahead, mut first) = (0, rows.next(), true);
    while let Some(row) = ahead.take() {
        looked_at += 1;
        progress(looked_at);
        match row {
            Ok(row) => {
                ahead = rows.next();
                let piece = match rows.is_plain_text() {
                    true => Piece { first, last: ahead.is_none() },
                    false => Piece::WHOLE,
                };
                if std::mem::take(&mut first) {
                    options.apply_to(row.content.layout())?;
                }
                state.row(&row, piece);
            }
            Err(fault) => {
                state.fault(fault)?;
                ahead = if rows.go_on() { rows.next() } else { None };
            }
        }
    }
    if looked_at == 0 {
        return Err(Error::Nothing { file: state.checked.file, what: "it has no rows".into() });
    }
    Ok(state.finish(&rows))
}

impl<'p> State<'p> {
    fn new(file: String, numbered: bool, prompt: Option<&'p Prompt>, options: &'p Options) -> State<'p> {
        let checked = Checked {
            file,
            kind: None,
            recognized: None,
            numbered,
            rows: 0,
            problems: Vec::new(),
            errors: 0,
            warnings: 0,
            duplicates: 0,
            near_duplicates: 0,
            unused: Vec::new(),
            digest: String::new(),
            digest_unordered: String::new(),
            counts: None,
        };
        let (seen, near) = (HashMap::new(), HashMap::new());
        let marks = prompt.map(marks).unwrap_or_default();
        State { prompt, options, marks, checked, digests: Digests::default(), seen, near, tally: Tally::default() }
    }

    fn tell(&mut self, line: Option<usize>, severity: Severity, what: String) {
        match severity {
            Severity::Error => self.checked.errors += 1,
            Severity::Warning => self.checked.warnings += 1,
        }
        if self.checked.problems.len() < PROBLEMS_MAX {
            self.checked.problems.push(Problem { line, severity, what });
        }
    }

    /// A row that cannot be read; a file that cannot be read is an error.
    fn fault(&mut self, fault: data::Error) -> Result<()> {
        let (line, what) = match fault {
            data::Error::Row { line, what, .. } => (line, what),
            data::Error::Record { row, what, .. } => (row, what),
            other => return Err(other.into()),
        };
        self.tell(Some(line), Severity::Error, what);
        Ok(())
    }

    fn row(&mut self, row: &data::Row, piece: Piece) {
        let word = if self.checked.numbered { "row" } else { "line" };
        let digest = fingerprint(&row.content);
        self.digests.add(&digest);
        if let Some(first) = repeated(&mut self.seen, &digest, row.line) {
            self.checked.duplicates += 1;
            self.tell(Some(row.line), Severity::Warning, format!("the same as {word} {first}"));
        } else if let Some(first) = repeated(&mut self.near, &near_fingerprint(&row.content), row.line) {
            self.checked.near_duplicates += 1;
            let what = format!("nearly the same as {word} {first}: only case, marks or white space differ");
            self.tell(Some(row.line), Severity::Warning, what);
        }
        for what in order(&row.content) {
            self.tell(Some(row.line), Severity::Warning, what);
        }
        match self.encoded(row, piece) {
            Ok(()) => self.checked.rows += 1,
            Err(what) => self.tell(Some(row.line), Severity::Error, what),
        }
    }

    /// What the model says of a row.
    fn encoded(&mut self, row: &data::Row, piece: Piece) -> Result<(), String> {
        if row.weight.is_some_and(|weight| weight != 0.0 && weight != 1.0) {
            return Err("its \"weight\" is neither 0 nor 1, which alone are known in training".into());
        }
        let Some(prompt) = self.prompt else {
            return if says_nothing(&row.content) { Err("an answer is empty".into()) } else { Ok(()) };
        };
        let said = texts(&row.content);
        for mark in self.marks.clone() {
            if said.iter().any(|text| text.contains(&mark)) {
                let what = format!("a text has {mark:?}, which stays text and becomes no control token");
                self.tell(Some(row.line), Severity::Warning, what);
            }
        }
        let encoder = Encoder::new(prompt, self.options).ok_or("the model has no tokenizer")?;
        let samples = encoder.samples(&row.content, piece)?;
        let unknown = prompt.tokenizer().and_then(|tokenizer| tokenizer.unknown());
        let count = samples.iter().map(|sample| unknown.map_or(0, |id| sample.count(id))).sum::<usize>();
        if count > 0 && !matches!(row.content, Content::Tokens { .. }) {
            let what = format!("the tokenizer does not know {count} of its tokens");
            self.tell(Some(row.line), Severity::Warning, what);
        }
        samples.iter().for_each(|sample| self.tally.add(sample));
        Ok(())
    }

    fn finish(mut self, rows: &data::Rows) -> Checked {
        let layout = rows.layout();
        self.checked.kind = layout.map(|layout| layout.kind().to_owned());
        self.checked.recognized = layout.map(|layout| recognized(layout, self.options, self.prompt));
        self.checked.unused = rows.unused().to_vec();
        self.checked.digest = self.digests.ordered();
        self.checked.digest_unordered = self.digests.unordered();
        self.checked.counts = self.prompt.map(|_| self.tally.counts());
        self.checked
    }
}

/// The line of the first row with a digest, where this is not the first.
fn repeated(seen: &mut HashMap<u128, usize>, digest: &[u8; 32], line: usize) -> Option<usize> {
    let half = u128::from_le_bytes(digest[..16].try_into().expect("a digest has 32 bytes"));
    match seen.entry(half) {
        std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
        std::collections::hash_map::Entry::Vacant(place) => {
            place.insert(line);
            None
        }
    }
}

/// Control tokens that would matter in a text: those that the template writes and those that end an answer.
fn marks(prompt: &Prompt) -> Vec<String> {
    let Some(tokenizer) = prompt.tokenizer() else { return Vec::new() };
    let template = prompt.template_source().unwrap_or_default();
    let ends = [tokenizer.bos(), tokenizer.eos()].into_iter().flatten().chain(prompt.stop_ids().iter().copied());
    let ends: Vec<u32> = ends.collect();
    let ids = (0..u32::try_from(tokenizer.len()).unwrap_or(0)).filter(|id| tokenizer.is_special(*id));
    let found = ids.filter_map(|id| Some((id, tokenizer.token(id)?)));
    let used = found.filter(|(id, mark)| mark.len() > 2 && (ends.contains(id) || template.contains(mark.as_str())));
    used.map(|(_, mark)| mark).collect()
}

/// The parts of a row that are texts or turns.
fn sides(content: &Content) -> Vec<&Turns> {
    match content {
        Content::Pair { prompt, completion } | Content::Judged { prompt, completion, .. } => vec![prompt, completion],
        Content::Preference { prompt, chosen, rejected } => prompt.iter().chain([chosen, rejected]).collect(),
        Content::Chat { .. } | Content::Text(_) | Content::Tokens { .. } => Vec::new(),
    }
}

/// All texts of a row.
fn texts(content: &Content) -> Vec<&str> {
    let mut found = Vec::new();
    match content {
        Content::Text(text) => found.push(text.as_str()),
        Content::Chat { messages, .. } => found.extend(messages.iter().map(|message| message.content.as_str())),
        _ => {}
    }
    for side in sides(content) {
        match side {
            Turns::Text(text) => found.push(text),
            Turns::Messages(messages) => found.extend(messages.iter().map(|message| message.content.as_str())),
        }
    }
    found
}

fn says_nothing(content: &Content) -> bool {
    let silent = |message: &Message| {
        message.role == Role::Assistant
            && message.trained
            && message.content.trim().is_empty()
            && message.tool_calls.is_empty()
    };
    let blank = |side: &Turns| match side {
        Turns::Text(text) => text.trim().is_empty(),
        Turns::Messages(messages) => messages.iter().any(silent),
    };
    match content {
        Content::Chat { messages, .. } => messages.iter().any(silent),
        Content::Pair { completion, .. } | Content::Judged { completion, .. } => blank(completion),
        Content::Preference { chosen, rejected, .. } => blank(chosen) || blank(rejected),
        Content::Text(text) => text.trim().is_empty(),
        Content::Tokens { .. } => false,
    }
}

/// What is unusual in the order of a conversation's turns.
fn order(content: &Content) -> Vec<String> {
    let Content::Chat { messages, .. } = content else { return Vec::new() };
    let mut found = Vec::new();
    let mut before: Option<&Message> = None;
    for (place, message) in messages.iter().enumerate() {
        let number = place + 1;
        let last = before.map(|before| before.role);
        let called = before.is_some_and(|before| !before.tool_calls.is_empty());
        let what = match (message.role, last) {
            (Role::System | Role::Developer, Some(Role::User | Role::Assistant | Role::Tool)) => {
                Some("the system speaks in the middle of the conversation")
            }
            (Role::User, Some(Role::User)) => Some("the user speaks twice in a row"),
            (Role::Assistant, Some(Role::Assistant)) => Some("the assistant speaks twice in a row"),
            (Role::Assistant, None | Some(Role::System | Role::Developer)) => {
                Some("the assistant speaks before the user")
            }
            (Role::Tool, Some(Role::Tool)) => None,
            (Role::Tool, _) if !called => Some("a tool answers that nobody called"),
            _ => None,
        };
        found.extend(what.map(|what| format!("message {number}: {what}")));
        before = Some(message);
    }
    if let Some(last) = before.filter(|last| last.role != Role::Assistant) {
        found.push(format!("the last message is the {}'s: nothing is learned from it", last.role.name()));
    }
    found
}
