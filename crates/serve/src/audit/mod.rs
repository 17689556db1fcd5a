//! The audit log: JSON lines, each with the SHA-256 of the line before it, written by a thread of its own and brought
//! to disk before the next ones. While it cannot be written, no request is answered.
//! Invariant: a line that was written is never changed; what clients wrote is a JSON text, so no line can be forged.

mod check;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::moment::{rfc3339, since_1970};
use crate::random::hex;
pub use check::{Checked, verify};

/// How long it is waited before writing is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Longest line that is read back; the longest body stands escaped in one.
const LINE_BYTES: u64 = 64 << 20;

/// What the first line of a file has as the digest of the line before it.
const NONE: [u8; 32] = [0; 32];

/// A log that is being written.
pub struct Audit {
    lines: Mutex<Option<Sender<Value>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failed: Arc<AtomicBool>,
    prompts: bool,
}

/// Whether prompts stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// They do.
    Told,
    /// They do not.
    LeftOut,
}

impl Audit {
    /// Goes on with a file, or makes it. What was there is never changed; a line that a crash cut short is ended.
    ///
    /// # Errors
    /// When the file cannot be opened or its last line cannot be read.
    pub fn open(path: &Path, prompts: Prompts) -> Result<Audit, String> {
        let fail = |error: std::io::Error| format!("cannot write the audit log {}: {error}", path.display());
        let mut writer = Writer::open(path).map_err(fail)?;
        writer.begin().map_err(fail)?;
        let (lines, receiver) = channel();
        let failed = Arc::new(AtomicBool::new(false));
        let flag = failed.clone();
        let thread = std::thread::Builder::new().name("pasture-audit".to_owned());
        let thread = thread.spawn(move || writer.run(&receiver, &flag)).map_err(fail)?;
        Ok(Audit {
            lines: Mutex::new(Some(lines)),
            thread: Mutex::new(Some(thread)),
            failed,
            prompts: prompts == Prompts::Told,
        })
    }

    /// Are prompts wanted?
    pub fn wants_prompts(&self) -> bool {
        self.prompts
    }

    /// Can it be written?
    pub fn works(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Hands a line to the thread that writes.
    pub fn tell(&self, line: Value) {
        if let Some(lines) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // The thread ends only after this sender is gone.
            let _ = lines.send(line);
        }
    }
}

impl Audit {
    /// Waits until all is written; what is told later is lost.
    pub fn finish(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    /// Digest of the last line.
    last: [u8; 32],
    /// Whether the last line has no end.
    torn: bool,
    /// Where the last whole batch ends.
    end: u64,
}

impl Writer {
    fn open(path: &Path) -> std::io::Result<Writer> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let end = file.seek(SeekFrom::End(0))?;
        let (line, torn) = last_line(&mut file, end)?;
        let last = line.map_or(NONE, |line| Sha256::digest(line).into());
        Ok(Writer { path: path.to_owned(), file, last, torn, end })
    }

    /// Says that the log goes on here.
    fn begin(&mut self) -> std::io::Result<()> {
        let torn = std::mem::take(&mut self.torn);
        if torn {
            self.file.write_all(b"\n")?;
            self.end += 1;
        }
        let begins = json!({"when": rfc3339(since_1970()), "event": "start", "after_a_cut": torn});
        self.put(&[begins])
    }

    fn run(&mut self, lines: &Receiver<Value>, failed: &AtomicBool) {
        let mut waiting: Vec<Value> = Vec::new();
        let mut ended = false;
        while !ended || !waiting.is_empty() {
            match lines.recv_timeout(AGAIN) {
                Ok(line) => waiting.push(line),
                Err(RecvTimeoutError::Disconnected) => ended = true,
                Err(RecvTimeoutError::Timeout) if waiting.is_empty() => continue,
                Err(RecvTimeoutError::Timeout) => {}
            }
            waiting.extend(lines.try_iter());
            match self.put(&waiting) {
                Ok(()) => {
                    waiting.clear();
                    failed.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    if !failed.swap(true, Ordering::Relaxed) {
                        eprintln!("error: cannot write the audit log {}: {error}", self.path.display());
                    }
                    // At the end nobody would come back to write them.
                    if ended {
                        eprintln!("error: {} lines of the audit log are lost", waiting.len());
                        return;
                    }
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Writes lines and brings them to disk; all of them, or none.
    fn put(&mut self, lines: &[Value]) -> std::io::Result<()> {
        let mut text = String::new();
        let mut last = self.last;
        for line in lines {
            let mut whole = json!({"prev": hex(&last)});
            if let (Some(whole), Some(line)) = (whole.as_object_mut(), line.as_object()) {
                whole.extend(line.clone());
            }
            let line = whole.to_string();
            last = Sha256::digest(line.as_bytes()).into();
            text += &line;
            text.push('\n');
        }
        let wrote = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = wrote {
            // A part of the batch may be there; the next try begins where this one did.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.end += text.len() as u64;
        self.last = last;
        Ok(())
    }
}

/// The last line of a file without its end, and whether that end is missing.
fn last_line(file: &mut File, end: u64) -> std::io::Result<(Option<Vec<u8>>, bool)> {
    if end == 0 {
        return Ok((None, false));
    }
    let begin = end.saturating_sub(LINE_BYTES);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LINE_BYTES).read_to_end(&mut bytes)?;
    let torn = bytes.pop_if(|byte| *byte == b'\n').is_none();
    let start = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if start == 0 && begin > 0 {
        return Err(std::io::Error::other("its last line is longer than any that this program writes"));
    }
    Ok((Some(bytes.split_off(start)), torn))
}
