//! Rows that do not stand one on each line: the elements of a JSON list, found without reading the whole list, and the
//! records of CSV. Both count lines and bound the length of a row.
#![forbid(unsafe_code)]

use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{Error, Result};
use super::{Input, ROW_BYTES_MAX};
use crate::error::quoted;

/// The most columns of a CSV file.
const COLUMNS_MAX: usize = 1_024;

/// Single bytes with the number of their line.
struct Letters {
    input: Input,
    line: usize,
}

impl Letters {
    fn peek(&mut self, file: &str) -> Result<Option<u8>> {
        let head = self.input.fill_buf().map_err(|fault| crate::Error::read(Path::new(file), fault))?;
        Ok(head.first().copied())
    }

    fn next(&mut self, file: &str) -> Result<Option<u8>> {
        let letter = self.peek(file)?;
        if let Some(letter) = letter {
            self.input.consume(1);
            self.line += usize::from(letter == b'\n');
        }
        Ok(letter)
    }

    fn after_space(&mut self, file: &str) -> Result<Option<u8>> {
        loop {
            let letter = self.next(file)?;
            if letter.is_none_or(|letter| !letter.is_ascii_whitespace()) {
                return Ok(letter);
            }
        }
    }

    fn fault(&self, file: &str, what: impl Into<String>) -> Error {
        Error::Row { file: file.into(), line: self.line, what: what.into() }
    }

    fn push(&self, buffer: &mut Vec<u8>, letter: u8, file: &str) -> Result<()> {
        if buffer.len() >= ROW_BYTES_MAX {
            return Err(self.fault(file, format!("the row is longer than {ROW_BYTES_MAX} bytes")));
        }
        buffer.push(letter);
        Ok(())
    }
}

/// The elements of one JSON list.
pub(super) struct Elements {
    letters: Letters,
    started: bool,
    ended: bool,
    after_comma: bool,
    buffer: Vec<u8>,
}

impl Elements {
    pub(super) fn new(input: Input) -> Self {
        Self {
            letters: Letters { input, line: 1 },
            started: false,
            ended: false,
            after_comma: false,
            buffer: Vec::new(),
        }
    }

    /// The bytes of the next element and the line at which it begins. What they mean is for the JSON reader to say.
    pub(super) fn next(&mut self, file: &str) -> Result<Option<(usize, &[u8])>> {
        if self.ended {
            return Ok(None);
        }
        if !self.started {
            self.started = true;
            if self.letters.after_space(file)? != Some(b'[') {
                return Err(self.letters.fault(file, "a list of rows is expected"));
            }
        }
        let first = self.letters.after_space(file)?;
        let line = self.letters.line;
        self.buffer.clear();
        let (mut depth, mut in_text, mut escaped, mut comma) = (0_usize, false, false, false);
        let mut next = first;
        loop {
            let Some(letter) = next else { return Err(self.letters.fault(file, "the list of rows is cut off")) };
            match letter {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth > 0 => depth -= 1,
                b']' => {
                    self.end(file)?;
                    break;
                }
                b',' if depth == 0 => {
                    comma = true;
                    break;
                }
                _ => {}
            }
            self.letters.push(&mut self.buffer, letter, file)?;
            next = self.letters.next(file)?;
        }
        let expected = std::mem::replace(&mut self.after_comma, comma);
        if self.ended && !expected && self.buffer.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        Ok(Some((line, &self.buffer)))
    }

    fn end(&mut self, file: &str) -> Result<()> {
        self.ended = true;
        match self.letters.after_space(file)? {
            None => Ok(()),
            Some(_) => Err(self.letters.fault(file, "something stands behind the list of rows")),
        }
    }
}

/// The records of CSV, under the names of its first line.
pub(super) struct Records {
    letters: Letters,
    separator: u8,
    names: Option<Vec<String>>,
    /// Whether the last record was read to its end, whatever is wrong with it.
    pub(super) is_whole: bool,
}

impl Records {
    pub(super) fn new(input: Input, separator: u8) -> Self {
        Self { letters: Letters { input, line: 1 }, separator, names: None, is_whole: false }
    }

    /// The next record as an object of texts, and the line at which it begins. Empty fields are left out.
    pub(super) fn next(&mut self, file: &str) -> Result<Option<(usize, Map<String, Value>)>> {
        self.is_whole = false;
        if self.names.is_none() {
            let Some((_, names)) = self.record(file)? else { return Ok(None) };
            for (place, name) in names.iter().enumerate() {
                if names[..place].contains(name) {
                    return Err(self.letters.fault(file, format!("the column {} stands twice", quoted(name))));
                }
            }
            self.names = Some(names);
        }
        let Some((line, fields)) = self.record(file)? else { return Ok(None) };
        self.is_whole = true;
        let names = self.names.as_deref().unwrap_or_default();
        if fields.len() != names.len() {
            let what = format!("{} fields, the first line names {} columns", fields.len(), names.len());
            return Err(Error::Row { file: file.into(), line, what });
        }
        let pairs = names.iter().cloned().zip(fields).filter(|(_, field)| !field.is_empty());
        Ok(Some((line, pairs.map(|(name, field)| (name, Value::String(field))).collect())))
    }

    /// The fields of the next record that is not blank.
    pub(super) fn record(&mut self, file: &str) -> Result<Option<(usize, Vec<String>)>> {
        loop {
            let line = self.letters.line;
            let Some(fields) = self.fields(file)? else { return Ok(None) };
            if fields.iter().all(|field| field.trim_ascii().is_empty()) && fields.len() <= 1 {
                continue;
            }
            let texts = fields.into_iter().map(|field| {
                String::from_utf8(field).map_err(|_| Error::Row {
                    file: file.into(),
                    line,
                    what: "it is not UTF-8".into(),
                })
            });
            return Ok(Some((line, texts.collect::<Result<_>>()?)));
        }
    }

    fn fields(&mut self, file: &str) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(mut letter) = self.letters.next(file)? else { return Ok(None) };
        let mut fields = vec![Vec::new()];
        let (mut size, mut quoted_field) = (0_usize, false);
        loop {
            size += 1;
            if size > ROW_BYTES_MAX || fields.len() > COLUMNS_MAX {
                let what = format!("the row has more than {ROW_BYTES_MAX} bytes or {COLUMNS_MAX} columns");
                return Err(self.letters.fault(file, what));
            }
            let field = fields.last_mut().expect("there is always a field");
            match letter {
                b'"' if field.is_empty() && !quoted_field => {
                    quoted_field = true;
                    size += self.quoted(file)?.map(|text| field.extend(text)).map_or(0, |()| field.len());
                }
                _ if letter == self.separator => {
                    quoted_field = false;
                    fields.push(Vec::new());
                }
                b'\n' => return Ok(Some(fields)),
                b'\r' if self.letters.peek(file)?.is_none_or(|next| next == b'\n') => {}
                _ if quoted_field => return Err(self.letters.fault(file, "something stands behind a closing quote")),
                b'\0' => return Err(self.letters.fault(file, "it has a NUL, which no text has")),
                other => field.push(other),
            }
            match self.letters.next(file)? {
                Some(next) => letter = next,
                None => return Ok(Some(fields)),
            }
        }
    }

    /// The rest of a quoted field; two quotes stand for one.
    fn quoted(&mut self, file: &str) -> Result<Option<Vec<u8>>> {
        let started = self.letters.line;
        let mut field = Vec::new();
        loop {
            match self.letters.next(file)? {
                Some(b'"') if self.letters.peek(file)? == Some(b'"') => {
                    self.letters.next(file)?;
                    self.letters.push(&mut field, b'"', file)?;
                }
                Some(b'"') => return Ok(Some(field)),
                Some(letter) => self.letters.push(&mut field, letter, file)?,
                None => {
                    let what = "a quote is not closed".to_owned();
                    return Err(Error::Row { file: file.into(), line: started, what });
                }
            }
        }
    }
}
