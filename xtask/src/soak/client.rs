//! The small client of the soak: a request, its whole answer, and when its parts came.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// An answer.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Head and body as they came.
    pub body: String,
    /// Until the first part of a stream's events, or the head where there is none.
    pub first: Duration,
    /// Whether the head has `Retry-After` in whole seconds.
    pub retry_after: bool,
}

/// A connection that waits no longer than a minute.
pub fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The text of a request.
pub fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// Asks for a page.
pub fn get(address: &str, path: &str) -> Result<Answer> {
    ask(address, &request("GET", path, ""))
}

/// Sends a request and reads to the end.
pub fn ask(address: &str, text: &str) -> Result<Answer> {
    let began = Instant::now();
    let mut stream = connect(address)?;
    stream.write_all(text.as_bytes())?;
    let (mut bytes, mut part) = (Vec::new(), [0; 16 << 10]);
    let mut first = None;
    loop {
        let read = stream.read(&mut part)?;
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..read]);
        // A stream's first event with text comes after the role or the empty beginning.
        if first.is_none() && (bytes.windows(6).any(|six| six == b"data: ") || !bytes.starts_with(b"HTTP/1.1 200")) {
            first = Some(began.elapsed());
        }
    }
    let body = String::from_utf8_lossy(&bytes).into_owned();
    let status = body.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no answer")?;
    let retry = body.lines().find_map(|line| line.strip_prefix("retry-after: "));
    let retry_after = retry.is_some_and(|seconds| seconds.trim().parse::<u64>().is_ok());
    Ok(Answer { status, first: first.unwrap_or_else(|| began.elapsed()), retry_after, body })
}

/// Random numbers with a seed: xorshift.
pub struct Random(pub u64);

impl Random {
    /// A number below another.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

/// The value below which so many of a hundred lie, in milliseconds.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}
