//! Just enough HTTP/1.1: one thread for each connection, requests one after another, answers as told or as lied.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::content::Content;
use crate::routes;
use crate::state::{Seen, State};

/// Longest line of a header, and most bytes of a body, that the hub reads.
const LINE_MAX: u64 = 1 << 16;
const BODY_MAX: u64 = 1 << 28;
const STEP: usize = 1 << 16;

/// What a client asks.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `HEAD` …
    pub method: String,
    /// The decoded path, without the query.
    pub path: String,
    /// The query as it came.
    pub query: String,
    /// Names in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it came to the host of large files.
    pub at_store: bool,
}

impl Request {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A decoded value of the query.
    pub fn asked(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| decoded(&value.replace('+', " ")))
    }
}

/// What the body of an answer is.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A part of a file.
    Part {
        /// The file.
        content: Content,
        /// Its first byte.
        from: u64,
        /// One past its last byte.
        to: u64,
    },
    /// One byte again and again.
    Repeat {
        /// Which byte.
        byte: u8,
        /// How often.
        length: u64,
    },
}

/// How an answer goes out other than it should.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    pub cut: Option<u64>,
    pub length: Option<u64>,
    pub extra: u64,
    pub no_length: bool,
    pub silent: bool,
    pub trickle_ms: Option<u64>,
    pub header_cut: Option<usize>,
    pub flip: Option<u64>,
}

/// What the hub answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
    pub(crate) manner: Manner,
}

impl Answer {
    /// An empty answer.
    pub fn new(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Bytes(Vec::new()), manner: Manner::default() }
    }

    /// A JSON answer.
    pub fn json(status: u16, value: &Value) -> Answer {
        Answer::new(status).header("content-type", "application/json").body(value.to_string().as_bytes())
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, bytes: &[u8]) -> Answer {
        self.body = Body::Bytes(bytes.to_vec());
        self
    }

    pub(crate) fn drop_header(&mut self, name: &str) {
        self.headers.retain(|(known, _)| known != name);
    }

    pub(crate) fn length(&self) -> u64 {
        match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Part { from, to, .. } => to - from,
            Body::Repeat { length, .. } => *length,
        }
    }

    /// The whole file instead of its part.
    pub(crate) fn widen(&mut self) {
        if let Body::Part { content, from, to } = &mut self.body {
            (*from, *to) = (0, content.length());
        }
    }

    /// A part that lies one byte further, told or not.
    pub(crate) fn shift(&mut self, told: bool) {
        let Body::Part { content, from, to } = &mut self.body else { return };
        let total = content.length();
        *from = (*from + 1).min(total);
        *to = (*to + 1).min(total);
        if told {
            let range = format!("bytes {from}-{}/{total}", to.saturating_sub(1));
            self.drop_header("content-range");
            self.headers.push(("content-range".into(), range));
        }
    }

    pub(crate) fn other_total(&mut self) {
        for (_, value) in self.headers.iter_mut().filter(|(name, _)| name == "content-range") {
            let bounds = value.split('/').next().unwrap_or_default().to_owned();
            *value = format!("{bounds}/1");
        }
    }

    /// Every size in a listing is one too large.
    pub(crate) fn other_lengths(&mut self) {
        let Body::Bytes(bytes) = &self.body else { return };
        let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
        fn grow(value: &mut Value) {
            match value {
                Value::Object(map) => map.iter_mut().for_each(|(key, value)| match value.as_u64() {
                    Some(size) if key == "size" => *value = (size + 1).into(),
                    _ => grow(value),
                }),
                Value::Array(rows) => rows.iter_mut().for_each(grow),
                _ => {}
            }
        }
        grow(&mut value);
        self.body = Body::Bytes(value.to_string().into_bytes());
    }

    fn read(&self, at: u64, most: usize) -> Vec<u8> {
        match &self.body {
            Body::Bytes(bytes) => bytes[at as usize..].iter().take(most).copied().collect(),
            Body::Part { content, from, to } => {
                let most = most.min((to - from - at) as usize);
                let mut bytes = content.read(from + at, most);
                if let Some(flip) = self.manner.flip.and_then(|flip| flip.checked_sub(from + at))
                    && let Some(byte) = bytes.get_mut(flip as usize)
                {
                    *byte ^= 1;
                }
                bytes
            }
            Body::Repeat { byte, length } => vec![*byte; most.min((length - at) as usize)],
        }
    }
}

/// `%2F` and the like as the bytes they stand for.
pub(crate) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Answers requests of one connection until it ends.
pub(crate) fn converse(stream: TcpStream, state: &State) {
    let at_store = stream.local_addr().is_ok_and(|address| address == state.store);
    let _ = stream.set_nodelay(true);
    let Ok(reading) = stream.try_clone() else { return };
    let mut reader = BufReader::new(reading);
    let mut stream = stream;
    while let Some(mut request) = read_request(&mut reader, &mut stream) {
        request.at_store = at_store;
        if request.method == "CONNECT" {
            // As a proxy: whatever host is meant, this hub answers.
            if stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").is_err() {
                break;
            }
            continue;
        }
        let mut answer = routes::answer(state, &request);
        if let Some(lie) = state.lie_for(&request.path, &request.method) {
            answer = lie.tell(answer, &request);
        }
        let index = remember(state, &request, answer.status);
        if send(&mut stream, state, &request, &answer, index).is_err() || state.stopped.load(Ordering::Relaxed) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn remember(state: &State, request: &Request, status: u16) -> usize {
    let text = |name: &str| request.header(name).map(str::to_owned);
    let mut seen = state.seen();
    seen.push(Seen {
        method: request.method.clone(),
        path: request.path.clone(),
        at_store: request.at_store,
        range: text("range"),
        authorization: text("authorization"),
        encoding: text("accept-encoding"),
        status,
        sent: 0,
    });
    seen.len() - 1
}

fn read_request(reader: &mut BufReader<TcpStream>, stream: &mut TcpStream) -> Option<Request> {
    let mut line = || {
        let mut text = Vec::new();
        let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut text).ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&text).trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let text = line()?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':')?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    // A proxy is asked for whole addresses.
    let target = target
        .strip_prefix("http://")
        .map_or(target.clone(), |rest| rest.find('/').map_or("/".to_owned(), |at| rest[at..].to_owned()));
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request { method, path: decoded(path), query: query.to_owned(), headers, ..Request::default() };
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        request.body = chunked(reader)?;
    } else {
        let length: u64 = request.header("content-length").unwrap_or("0").parse().ok()?;
        reader.by_ref().take(length.min(BODY_MAX)).read_to_end(&mut request.body).ok()?;
    }
    Some(request)
}

fn chunked(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(LINE_MAX).read_line(&mut line).ok()?;
        let length = u64::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
        reader.by_ref().take(length.min(BODY_MAX)).read_to_end(&mut body).ok()?;
        line.clear();
        reader.by_ref().take(LINE_MAX).read_line(&mut line).ok()?;
        if length == 0 {
            return Some(body);
        }
    }
}

fn send(
    stream: &mut TcpStream,
    state: &State,
    request: &Request,
    answer: &Answer,
    index: usize,
) -> std::io::Result<()> {
    let ended = || std::io::Error::other("the connection ends here");
    let manner = &answer.manner;
    let mut head = format!("HTTP/1.1 {} Told\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = manner.length.unwrap_or(answer.length());
    head += &if manner.no_length { "connection: close\r\n".into() } else { format!("content-length: {length}\r\n") };
    head += "\r\n";
    if let Some(cut) = manner.header_cut {
        stream.write_all(&head.as_bytes()[..cut])?;
        return Err(ended());
    }
    stream.write_all(head.as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    if manner.silent {
        while !state.stopped.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(20));
        }
        return Err(ended());
    }
    let end = manner.cut.unwrap_or(answer.length()).min(answer.length());
    let began = Instant::now();
    let mut at = 0;
    while at < end {
        let step = if manner.trickle_ms.is_some() { 1 } else { STEP };
        let bytes = answer.read(at, step.min((end - at) as usize));
        stream.write_all(&bytes)?;
        at += bytes.len() as u64;
        if let Some(seen) = state.seen().get_mut(index) {
            seen.sent += bytes.len() as u64;
        }
        wait(state, manner, began, at)?;
    }
    for _ in 0..manner.extra {
        stream.write_all(b"x")?;
    }
    if manner.cut.is_some_and(|cut| cut < length) || manner.no_length {
        return Err(ended());
    }
    Ok(())
}

fn wait(state: &State, manner: &Manner, began: Instant, sent: u64) -> std::io::Result<()> {
    if state.stopped.load(Ordering::Relaxed) {
        return Err(std::io::Error::other("the hub stops"));
    }
    if let Some(pause) = manner.trickle_ms {
        sleep(Duration::from_millis(pause));
    }
    let pace = state.pace.load(Ordering::Relaxed);
    if pace > 0 {
        let due = Duration::from_secs_f64(sent as f64 / pace as f64);
        sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(())
}
