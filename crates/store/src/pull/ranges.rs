//! Ranges of one file from a host that may lie: what comes is compared with what was asked before a byte is used.

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::error::Error;
use super::http::{Client, Fault, Reply};
use super::url::Url;

/// Bytes in a stall's time below which a connection counts as stalled.
pub(crate) const TRICKLE: u64 = 1024;
const STEP: usize = 256 << 10;

/// What a refusal means for the user.
pub(crate) type Refused<'a> = &'a (dyn Fn(&Reply) -> Error + Sync);

/// What takes bytes, each part with its place in the file.
pub(crate) type Put<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Fault>;

/// A file on a host.
pub(crate) struct Source<'a> {
    /// Where it is asked for; a redirect may lead elsewhere.
    pub url: Url,
    /// Its length.
    pub size: u64,
    /// Its path, for messages.
    pub what: &'a str,
    /// A header for the host itself, such as a registry's own token.
    pub authorization: Option<String>,
    /// What a status such as 401, 403 or 404 means.
    pub refused: Refused<'a>,
}

/// Reads ranges of a source.
pub(crate) struct Ranges<'a> {
    pub client: &'a Client,
    pub source: &'a Source<'a>,
    /// Where the last redirect led, with the tag of what is there.
    direct: Mutex<Option<(Url, Option<String>)>>,
}

/// How a range did not come.
pub(crate) enum Missed {
    /// As every request.
    Fault(Fault),
    /// The host sends whole files only.
    NoRanges,
}

impl From<Fault> for Missed {
    fn from(fault: Fault) -> Missed {
        Missed::Fault(fault)
    }
}

fn broken(why: impl Into<String>) -> Fault {
    Fault::Broken(why.into())
}

impl<'a> Ranges<'a> {
    /// Ranges of a source.
    pub fn new(client: &'a Client, source: &'a Source<'a>) -> Ranges<'a> {
        Ranges { client, source, direct: Mutex::new(None) }
    }

    /// Gives the bytes from `at` to `to` to `put`, which gets each with its place; `at` moves on with them.
    pub fn read(&self, at: &mut u64, to: u64, put: Put<'_>) -> Result<(), Missed> {
        let direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let forget = || *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let range = format!("bytes={at}-{}", to - 1);
        let is_conditional = direct.as_ref().is_some_and(|(_, tag)| tag.is_some());
        let reply = self.ask(direct.as_ref(), &range).inspect_err(|_| forget())?;
        match reply.status {
            206 => {
                self.compare(&reply, *at, to)?;
                let tag = reply.header("etag").filter(|tag| tag.starts_with('"')).map(str::to_owned);
                *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some((reply.url.clone(), tag));
                Ok(self.copy(reply, at, to, put)?)
            }
            // What is there is not what was there before; or ranges are not known.
            200 if is_conditional => {
                forget();
                Err(broken("the file changed while it was read").into())
            }
            200 if *at == 0 && to == self.source.size => Ok(self.whole(reply, at, put)?),
            200 => Err(Missed::NoRanges),
            416 => Err(broken(format!("it has no bytes {at} to {to}, although the listing says so")).into()),
            401 | 403 | 404 | 410 if direct.is_some() => {
                forget();
                Err(broken(format!("status {}, its address may have expired", reply.status)).into())
            }
            _ => Err(Fault::Final((self.source.refused)(&reply)).into()),
        }
    }

    /// The whole file from its beginning, from a host without ranges.
    pub fn read_whole(&self, at: &mut u64, put: Put<'_>) -> Result<(), Fault> {
        *at = 0;
        let reply = self.client.send(&self.source.url, &self.headers(None))?;
        match reply.status {
            200 => self.whole(reply, at, put),
            _ => Err(Fault::Final((self.source.refused)(&reply))),
        }
    }

    fn headers<'h>(&'h self, range: Option<&'h str>) -> Vec<(&'h str, &'h str)> {
        let authorization = self.source.authorization.as_deref().map(|value| ("authorization", value));
        range.map(|range| ("range", range)).into_iter().chain(authorization).collect()
    }

    fn ask(&self, direct: Option<&(Url, Option<String>)>, range: &str) -> Result<Reply, Fault> {
        let (url, tag) = match direct {
            Some((url, tag)) => (url, tag.as_deref()),
            None => (&self.source.url, None),
        };
        let mut headers = self.headers(Some(range));
        if !url.is_same_host(&self.source.url) {
            headers.retain(|(name, _)| *name != "authorization");
        }
        headers.extend(tag.map(|tag| ("if-range", tag)));
        self.client.send(url, &headers)
    }

    /// An answer with a part must say that it is the part that was asked for, and as long.
    fn compare(&self, reply: &Reply, at: u64, to: u64) -> Result<(), Fault> {
        let wanted = format!("bytes {at}-{}/{}", to - 1, self.source.size);
        match reply.header("content-range") {
            Some(range) if range.trim() == wanted => {}
            Some(range) => return Err(broken(format!("it sends {range:?} where {wanted:?} was asked for"))),
            None => return Err(broken("it sends a part and does not say which")),
        }
        self.length(reply, to - at)
    }

    fn length(&self, reply: &Reply, wanted: u64) -> Result<(), Fault> {
        if let Some(coding) = reply.header("content-encoding").filter(|coding| *coding != "identity") {
            return Err(broken(format!("it is compressed as {coding:?}, which nobody asked for")));
        }
        match reply.header("content-length").map(|text| text.trim().parse::<u64>()) {
            Some(Ok(length)) if length != wanted => {
                Err(broken(format!("it sends {length} bytes where {wanted} were asked for")))
            }
            Some(Err(_)) => Err(broken("its length is no number")),
            _ => Ok(()),
        }
    }

    fn whole(&self, reply: Reply, at: &mut u64, put: Put<'_>) -> Result<(), Fault> {
        self.length(&reply, self.source.size)?;
        self.copy(reply, at, self.source.size, put)
    }

    fn copy(&self, reply: Reply, at: &mut u64, to: u64, put: Put<'_>) -> Result<(), Fault> {
        let stall = self.client.network.patience.stall;
        let mut body = reply.body();
        let mut buffer = vec![0; STEP.min(usize::try_from(to - *at).unwrap_or(STEP).max(1))];
        let (mut since, mut came) = (Instant::now(), 0);
        while *at < to {
            let room = usize::try_from(to - *at).unwrap_or(STEP).min(buffer.len());
            let read = body.read(&mut buffer[..room]).map_err(|fault| broken(format!("it breaks off: {fault}")))?;
            if read == 0 {
                return Err(broken(format!("it ends {} bytes early", to - *at)));
            }
            put(*at, &buffer[..read])?;
            *at += read as u64;
            came += read as u64;
            if since.elapsed() >= stall {
                if came < TRICKLE && *at < to {
                    return Err(broken(format!("only {came} bytes came in {} s", stall.as_secs_f32())));
                }
                (since, came) = (Instant::now(), 0);
            }
        }
        // Reads on to the end that was told, so that the connection can serve again.
        match body.read(&mut buffer[..1]) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(broken("it sends more than was asked for")),
        }
    }
}
