//! Requests that bring something: JSON, lines of JSON, and pieces of files. The token goes to the hub alone; what the hub
//! says of another host, and headers for it, go to that host alone.

use std::io::Read;

use serde_json::Value;

use super::error::{Error, Result};
use crate::pull::http::{self, Client, Fault};
use crate::pull::url::Url;
use crate::pull::{Error as Broken, Network};

/// Longest text of a refusal that is told.
const TOLD_MAX: usize = 300;

/// A hub to bring things to.
pub(super) struct Wire {
    client: Client,
}

/// An answer to something that was brought.
pub(super) struct Reply {
    pub status: u16,
    pub etag: Option<String>,
    body: Vec<u8>,
}

impl Reply {
    /// What a refusal says, in one line.
    pub fn why(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let json: Option<Value> = serde_json::from_slice(&self.body).ok();
        let said =
            json.as_ref().and_then(|json| json.get("error").or(json.get("message"))?.as_str().map(str::to_owned));
        let said: String = said
            .unwrap_or_else(|| text.into_owned())
            .chars()
            .filter(|letter| !letter.is_control())
            .take(TOLD_MAX)
            .collect();
        format!("status {}{}{said}", self.status, if said.is_empty() { "" } else { ", " })
    }

    /// The answer as JSON.
    pub fn json(&self, host: &str, what: &str) -> Result<Value> {
        let unsound = |fault: pasture_files::Error| Broken::Answer {
            host: host.to_owned(),
            what: what.to_owned(),
            why: fault.to_string(),
        };
        Ok(pasture_files::json::parse(&self.body, "the answer").map_err(unsound)?)
    }
}

/// What is sent.
pub(super) enum Sent<'a> {
    /// Bytes of that media type.
    Bytes(&'a str, &'a [u8]),
    /// So many bytes, opened anew for each try.
    Piece(u64, &'a dyn Fn() -> Result<Box<dyn Read>>),
}

impl Wire {
    pub fn new(network: &Network) -> Result<Wire> {
        Ok(Wire { client: Client::new(network)? })
    }

    /// The hub's host.
    pub fn host(&self) -> String {
        self.client.network.endpoint.host().to_owned()
    }

    /// An address of the hub.
    pub fn at(&self, path: &str) -> Url {
        self.client.network.endpoint.with(path)
    }

    /// An address that an answer of the hub names.
    pub fn named(&self, text: &str, what: &str) -> Result<Url> {
        let unsound = |why: String| Broken::Answer { host: self.host(), what: what.to_owned(), why };
        Ok(self.client.network.endpoint.follow(text).map_err(unsound)?)
    }

    /// Refuses early what cannot go on.
    pub fn check(&self, what: &str) -> Result<()> {
        if self.client.network.offline {
            return Err(Broken::Offline { what: what.to_owned() }.into());
        }
        match self.client.network.token {
            Some(_) => Ok(()),
            None => Err(Error::NoToken { host: self.host() }),
        }
    }

    /// What is at an address of the hub, as JSON; none where there is nothing.
    pub fn get(&self, path: &str, what: &str) -> Result<Option<Value>> {
        let url = self.at(path);
        let reply = self.client.patiently(&url, what, || {
            let reply = self.client.send(&url, &[("accept", "application/json")])?;
            let status = reply.status;
            Ok((status, http::capped(reply, what, self.client.network.patience.stall)?))
        })?;
        let (status, body) = reply;
        let reply = Reply { status, etag: None, body };
        match status {
            200 => reply.json(&self.host(), what).map(Some),
            404 => Ok(None),
            _ => Err(Error::Refused { host: self.host(), what: what.to_owned(), why: reply.why() }),
        }
    }

    /// Brings something to an address, again where that may help. `headers` are what the hub asked to send there.
    pub fn bring(
        &self,
        put: bool,
        url: &Url,
        headers: &[(String, String)],
        sent: &Sent<'_>,
        what: &str,
    ) -> Result<Reply> {
        // An error of reading our own file cannot pass through the network's.
        let mut ours = None;
        let done = self.client.patiently(url, what, || {
            let agent = self.client.agent(url);
            let mut request = if put { agent.put(url.text()) } else { agent.post(url.text()) };
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let own = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
            let token = self.client.network.token.as_ref();
            if let Some(token) = token.filter(|_| !own && url.is_same_host(&self.client.network.endpoint)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answered = match sent {
                Sent::Bytes(kind, bytes) => request.header("content-type", *kind).send(*bytes),
                Sent::Piece(length, open) => match open() {
                    Ok(mut piece) => {
                        let request = request.header("content-length", length.to_string());
                        request.send(ureq::SendBody::from_reader(&mut piece))
                    }
                    Err(error) => {
                        ours = Some(error);
                        return Ok(Reply { status: 0, etag: None, body: Vec::new() });
                    }
                },
            };
            let answered = answered.map_err(|fault| http::broken(&fault, &self.client.network))?;
            let reply = http::Reply::of(url, answered);
            if matches!(reply.status, 429 | 503) {
                return Err(http::busy(&reply));
            }
            let (status, etag) = (reply.status, reply.header("etag").map(str::to_owned));
            let body = http::capped(reply, what, self.client.network.patience.stall)?;
            let reply = Reply { status, etag, body };
            match status {
                500.. => Err(Fault::Broken(reply.why())),
                _ => Ok(reply),
            }
        })?;
        match ours {
            Some(error) => Err(error),
            None => Ok(done),
        }
    }

    /// Brings something and refuses an answer that is no success.
    pub fn brought(
        &self,
        put: bool,
        url: &Url,
        headers: &[(String, String)],
        sent: &Sent<'_>,
        what: &str,
    ) -> Result<Reply> {
        let reply = self.bring(put, url, headers, sent, what)?;
        match reply.status {
            200..=299 => Ok(reply),
            _ => Err(Error::Refused { host: url.host().to_owned(), what: what.to_owned(), why: reply.why() }),
        }
    }
}
