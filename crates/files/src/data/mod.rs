//! Rows of data for training and evaluation: JSONL, JSON lists, CSV, Parquet and plain text, each row checked and named
//! by its line. What a row becomes in a prompt is not here.
//!
//! Reading is closed: a row of no known layout, a field of the wrong kind or a second layout in one file is an error.
//! Memory is that of one row, which is bounded.
#![forbid(unsafe_code)]

mod error;
mod layout;
mod lines;
mod parquet;
mod recognize;
mod records;
mod tokens;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;

pub use error::{Error, Result};
pub use layout::{Content, Layout, Turns};

use crate::error::file_name;
use crate::prompt::Message;
use lines::Lines;
use parquet::Parquet;
use records::{Elements, Records};

/// The longest row: 8 MiB.
pub const ROW_BYTES_MAX: usize = 8 << 20;

/// Ids at or above this are refused where no vocabulary is known.
pub const TOKEN_MAX: u32 = 1 << 24;

/// The longest piece of a plain text file that becomes one row.
const TEXT_ROW_BYTES: usize = 1 << 20;

/// Names of columns without an effect that are kept for the report.
const UNUSED_MAX: usize = 64;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line of the file at which it begins, from 1; of a Parquet file the number of the row.
    pub line: usize,
    /// What is learned from.
    pub content: Content,
    /// How much it counts, where the row says so.
    pub weight: Option<f64>,
}

/// What is known from elsewhere when rows are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many token ids the model has.
    pub vocabulary: Option<u32>,
    /// The layout that the user asked for; recognized by the fields where absent.
    pub layout: Option<Layout>,
}

/// What a file holds, after every row was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The layout of all rows.
    pub layout: Layout,
    /// How many rows there are.
    pub rows: usize,
    /// How many assistant's turns, completions or texts are learned from.
    pub answers: usize,
    /// Columns that have no effect, in the order in which they were met.
    pub unused: Vec<String>,
}

/// Reads the rows of a file, one after the other.
pub struct Rows {
    file: String,
    source: Source,
    options: Options,
    layout: Option<Layout>,
    unused: Vec<String>,
    rows: usize,
    done: bool,
    /// Whether the fault of the last row lies within it, so that the next one can be read.
    within: bool,
}

type Input = Box<dyn BufRead>;

enum Source {
    Lines(Lines),
    Elements(Elements),
    Records(Records),
    Text(Lines),
    Parquet(Box<Parquet>),
}

/// Opens a file of rows. Its ending says what it is: `.jsonl`, `.json`, `.csv`, `.tsv`, `.txt`, `.md`, each also with
/// `.gz`; Parquet is known by its first letters; any other file is read as one JSON object a line.
pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Rows> {
    let path = path.as_ref();
    let file = file_name(path);
    // Asked before it is opened: opening a pipe would wait.
    if !std::fs::metadata(path).map_err(|fault| crate::Error::read(path, fault))?.is_file() {
        return Err(crate::Error::unsupported(file, "it is no regular file; give one file of rows").into());
    }
    let mut opened = File::open(path).map_err(|fault| crate::Error::read(path, fault))?;
    let mut first = Vec::new();
    let head = opened.by_ref().take(4).read_to_end(&mut first).and_then(|_| opened.rewind());
    head.map_err(|fault| crate::Error::read(path, fault))?;
    if first == b"PAR1" {
        let parquet = Parquet::open(opened, &file)?;
        let unused = parquet.unused.clone();
        return Ok(Rows::new(&file, Source::Parquet(Box::new(parquet)), options, unused));
    }
    read(opened, &file, options)
}

/// Reads rows from anywhere; `file` names them in errors, and its ending says what they are.
pub fn read(input: impl Read + 'static, file: &str, options: Options) -> Result<Rows> {
    let name = file.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let mut input: Input = Box::new(BufReader::with_capacity(1 << 16, input));
    let peek = |input: &mut Input, count: usize| -> Result<Vec<u8>> {
        let head = input.fill_buf().map_err(|fault| crate::Error::read(Path::new(file), fault))?;
        Ok(head[..head.len().min(count)].to_vec())
    };
    if peek(&mut input, 2)? == [0x1f, 0x8b] {
        input = Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input)));
    }
    let refuse = |what: &str| Err(crate::Error::unsupported(file, what).into());
    match peek(&mut input, 4)?.as_slice() {
        [b'P', b'A', b'R', b'1'] => return refuse("Parquet is read from a file of its own, neither packed nor piped"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return refuse("it is UTF-16; convert it to UTF-8"),
        [0xef, 0xbb, 0xbf, ..] => input.consume(3),
        _ => {}
    }
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let source = match ending {
        "csv" => Source::Records(Records::new(input, b',')),
        "tsv" => Source::Records(Records::new(input, b'\t')),
        "txt" | "md" => Source::Text(Lines::new(input)),
        "json" if first_letter(&mut input, file)? == Some(b'[') => Source::Elements(Elements::new(input)),
        _ => Source::Lines(Lines::new(input)),
    };
    Ok(Rows::new(file, source, options, Vec::new()))
}

/// The first byte that is no white space, left in place; white space before it is consumed only where the buffer ends.
fn first_letter(input: &mut Input, file: &str) -> Result<Option<u8>> {
    let head = input.fill_buf().map_err(|fault| crate::Error::read(Path::new(file), fault))?;
    Ok(head.iter().copied().find(|byte| !byte.is_ascii_whitespace()))
}

/// Reads and checks every row of a file.
pub fn check(path: impl AsRef<Path>, options: Options) -> Result<Summary> {
    let mut rows = open(path, options)?;
    let mut answers = 0;
    for row in rows.by_ref() {
        answers += row?.content.answers();
    }
    rows.summary(answers)
}

impl Rows {
    fn new(file: &str, source: Source, options: Options, unused: Vec<String>) -> Rows {
        Rows { file: file.into(), source, options, layout: None, unused, rows: 0, done: false, within: false }
    }

    /// The layout of the rows, once one was read.
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// Whether the rows are pieces of one plain text.
    pub fn is_plain_text(&self) -> bool {
        matches!(self.source, Source::Text(_))
    }

    /// Whether rows are named by their number, because the file has no lines.
    pub fn is_numbered(&self) -> bool {
        matches!(self.source, Source::Parquet(_))
    }

    /// Goes on behind a row that is wrong; false where what follows cannot be told from it.
    pub fn go_on(&mut self) -> bool {
        self.done = self.done && !self.within;
        !self.done
    }

    /// Columns met so far that have no effect.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// What was read, once nothing is left; a file without rows is an error.
    pub fn summary(self, answers: usize) -> Result<Summary> {
        let Some(layout) = self.layout else {
            return Err(crate::Error::invalid(self.file, "it has no rows").into());
        };
        Ok(Summary { layout, rows: self.rows, answers, unused: self.unused })
    }

    /// The next row as a value, or a piece of plain text.
    fn next_value(&mut self) -> Result<Option<(usize, Value)>> {
        self.within = false;
        let (line, text) = match &mut self.source {
            Source::Lines(lines) => loop {
                let Some((line, text)) = lines.next(&self.file)? else { return Ok(None) };
                if text.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    break (line, text);
                }
            },
            Source::Elements(elements) => match elements.next(&self.file)? {
                Some(found) => found,
                None => return Ok(None),
            },
            Source::Records(records) => {
                let found = records.next(&self.file);
                self.within = records.is_whole;
                return Ok(found?.map(|(line, fields)| (line, Value::Object(fields))));
            }
            Source::Parquet(parquet) => {
                let found = parquet.next(&self.file)?;
                self.within = true;
                return Ok(found.map(|(row, fields)| (row, Value::Object(fields))));
            }
            Source::Text(lines) => {
                let text = next_text(lines, &self.file)?;
                return Ok(text.map(|(line, text)| (line, Value::String(text))));
            }
        };
        self.within = true;
        error::parsed(text, &self.file, line).map(|value| Some((line, value)))
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        let Some((line, value)) = self.next_value()? else { return Ok(None) };
        let (content, weight, unused) = match value {
            Value::String(text) if self.is_plain_text() => (Content::Text(text), None, Vec::new()),
            value => {
                let vocabulary = self.options.vocabulary.unwrap_or(TOKEN_MAX);
                let read = layout::read(&value, vocabulary, self.options.layout);
                let read = read.map_err(|what| self.fault(line, what))?;
                (read.content, read.weight, read.unused)
            }
        };
        let layout = content.layout();
        match self.layout {
            Some(known) if known != layout => {
                let what = format!("a row of {}, the rows before it are {}", layout.name(), known.name());
                return Err(self.fault(line, what));
            }
            _ => self.layout = Some(layout),
        }
        for name in unused {
            if self.unused.len() < UNUSED_MAX && !self.unused.contains(&name) {
                self.unused.push(name);
            }
        }
        self.rows += 1;
        Ok(Some(Row { line, content, weight }))
    }

    fn fault(&self, line: usize, what: String) -> Error {
        let file = self.file.clone();
        match self.source {
            Source::Parquet(_) => Error::Record { file, row: line, what },
            _ => Error::Row { file, line, what },
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    /// The next row; nothing more comes after an error.
    fn next(&mut self) -> Option<Result<Row>> {
        if self.done {
            return None;
        }
        let row = self.next_row().transpose();
        self.done = !matches!(row, Some(Ok(_)));
        row
    }
}

/// The rows of a file with their lines, whatever their layout: for tasks, whose forms are not those of training.
pub struct Values(Rows);

/// Opens a file of rows whose layout is for the caller to know; a record of CSV is a list of texts, the first included.
pub fn values(path: impl AsRef<Path>) -> Result<Values> {
    open(path, Options::default()).map(Values)
}

impl Iterator for Values {
    type Item = Result<(usize, Value)>;

    /// The next row and its line; nothing more comes after an error.
    fn next(&mut self) -> Option<Result<(usize, Value)>> {
        if self.0.done {
            return None;
        }
        let row = match &mut self.0.source {
            Source::Records(records) => {
                let record = records.record(&self.0.file);
                let list =
                    |(line, fields): (usize, Vec<String>)| (line, fields.into_iter().map(Value::String).collect());
                record.map(|record| record.map(list))
            }
            _ => self.0.next_value(),
        };
        self.0.done = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}

/// Lines of plain text up to the size of a row.
fn next_text(lines: &mut Lines, file: &str) -> Result<Option<(usize, String)>> {
    let mut text = String::new();
    let mut first = None;
    while text.len() < TEXT_ROW_BYTES {
        let Some((line, bytes)) = lines.next(file)? else { break };
        let fault = |_| Error::Row { file: file.into(), line, what: "it is not UTF-8".into() };
        let piece = std::str::from_utf8(bytes).map_err(fault)?;
        if piece.contains('\0') {
            return Err(Error::Row { file: file.into(), line, what: "it has a NUL, which no text has".into() });
        }
        match first {
            Some(_) => text.push('\n'),
            // Blank lines at the start are nobody's text.
            None if piece.trim().is_empty() => continue,
            None => first = Some(line),
        }
        text.push_str(piece);
    }
    Ok(first.map(|line| (line, text)))
}

impl Content {
    /// How many answers are learned from.
    pub fn answers(&self) -> usize {
        match self {
            Content::Chat { messages, .. } => messages.iter().filter(|message| is_learned(message)).count(),
            _ => 1,
        }
    }
}

fn is_learned(message: &Message) -> bool {
    message.role == crate::prompt::Role::Assistant && message.trained
}
