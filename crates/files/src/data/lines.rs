//! Lines of bounded length with their numbers. LF and CR LF end a line; nothing else does.
#![forbid(unsafe_code)]

use std::io::{BufRead, Read};
use std::path::Path;

use super::error::{Error, Result};
use super::{Input, ROW_BYTES_MAX};

/// A reader of lines.
pub(super) struct Lines {
    input: Input,
    line: usize,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(input: Input) -> Self {
        Self { input, line: 0, buffer: Vec::new() }
    }

    /// The next line and its number, without its end.
    pub(super) fn next(&mut self, file: &str) -> Result<Option<(usize, &[u8])>> {
        self.buffer.clear();
        let mut limited = self.input.by_ref().take(ROW_BYTES_MAX as u64 + 2);
        let read = limited.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|fault| crate::Error::read(Path::new(file), fault))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        if self.buffer.len() > ROW_BYTES_MAX {
            let what = format!("the row is longer than {ROW_BYTES_MAX} bytes");
            return Err(Error::Row { file: file.into(), line: self.line, what });
        }
        Ok(Some((self.line, &self.buffer)))
    }
}
