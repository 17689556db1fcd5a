//! Requests: redirects followed by hand, the token only to the host that it is for, every wait bounded, every metadata
//! answer capped. What may be tried again is told apart from what may not.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pasture_files::folder;
use pasture_files::size::Size;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Proxy};

use super::error::{Error, Result};
use super::network::{Network, Proxies};
use super::ranges::TRICKLE;
use super::url::Url;

const REDIRECTS_MAX: usize = 5;
/// Most bytes of an answer that is no file.
pub(crate) const METADATA_BYTES_MAX: u64 = 8 << 20;
const HEADER_BYTES_MAX: usize = 64 << 10;
const CERTIFICATES_BYTES_MAX: Size = Size::new(8 << 20);
/// Connections to one host that are kept for the next request.
const IDLE_MAX: usize = 8;

/// Why a request gave nothing of use.
pub(crate) enum Fault {
    /// The host asks to come back later.
    Busy(Option<Duration>, String),
    /// Something broke; it may work again.
    Broken(String),
    /// It will not work again either.
    Final(Error),
}

/// What a host answered, after redirects.
pub(crate) struct Reply {
    /// 200, 206, or a refusal.
    pub status: u16,
    /// Where the answer came from.
    pub url: Url,
    headers: ureq::http::HeaderMap,
    body: ureq::Body,
}

impl Reply {
    /// An answer that came from there.
    pub fn of(url: &Url, response: ureq::http::Response<ureq::Body>) -> Reply {
        let (parts, body) = response.into_parts();
        Reply { status: parts.status.as_u16(), url: url.clone(), headers: parts.headers, body }
    }

    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body, to be read as it comes.
    pub fn body(self) -> impl Read {
        self.body.into_reader()
    }
}

/// Sends requests with the user's settings.
pub(crate) struct Client {
    plain: Agent,
    secure: Agent,
    pub network: Network,
}

impl Client {
    /// A client for that network.
    pub fn new(network: &Network) -> Result<Client> {
        let roots = match &network.certificates {
            None => RootCerts::WebPki,
            Some(path) => {
                let name = || "SSL_CERT_FILE".to_owned();
                let bytes = folder::read_file(path, CERTIFICATES_BYTES_MAX)
                    .map_err(|fault| Error::Setting { name: name(), why: format!("cannot be used: {fault}") })?;
                let items = ureq::tls::parse_pem(&bytes).filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                });
                let certificates: Vec<Certificate<'static>> = items.collect();
                if certificates.is_empty() {
                    let why = "names a file without certificates in PEM form".to_owned();
                    return Err(Error::Setting { name: name(), why });
                }
                RootCerts::new_with_certs(&certificates)
            }
        };
        let agent = |proxy: Option<Proxy>| {
            let tls = TlsConfig::builder()
                .root_certs(roots.clone())
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .build();
            let stall = network.patience.stall;
            Agent::config_builder()
                .tls_config(tls)
                .proxy(proxy)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(stall))
                .timeout_resolve(Some(stall))
                .timeout_recv_response(Some(stall))
                .timeout_per_read(Some(stall))
                .timeout_per_write(Some(stall))
                .max_response_header_size(HEADER_BYTES_MAX)
                .max_idle_connections(2 * IDLE_MAX)
                .max_idle_connections_per_host(IDLE_MAX)
                .user_agent(concat!("pasture/", env!("CARGO_PKG_VERSION")))
                .build()
                .new_agent()
        };
        let Proxies { http, https, none_for } = &network.proxies;
        let proxy =
            |text: &Option<String>, name: &str| text.as_deref().map(|text| proxy(text, none_for, name)).transpose();
        let (plain, secure) = (agent(proxy(http, "HTTP_PROXY")?), agent(proxy(https, "HTTPS_PROXY")?));
        Ok(Client { plain, secure, network: network.clone() })
    }

    /// What sends requests to an address: each scheme has its proxy.
    pub fn agent(&self, url: &Url) -> &Agent {
        if url.is_secure() { &self.secure } else { &self.plain }
    }

    /// Sends one request and follows redirects. `kept` headers go along everywhere, the token only to the hub.
    pub fn send(&self, url: &Url, kept: &[(&str, &str)]) -> Result<Reply, Fault> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let agent = self.agent(&url);
            // Compressed bytes would count as others than the file's.
            let mut request = agent.get(url.text()).header("accept-encoding", "identity");
            for (name, value) in kept {
                request = request.header(*name, *value);
            }
            let is_asked = kept.iter().any(|(name, _)| *name == "authorization");
            if let Some(token) =
                self.network.token.as_ref().filter(|_| !is_asked && url.is_same_host(&self.network.endpoint))
            {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|fault| broken(&fault, &self.network))?;
            let reply = Reply::of(&url, response);
            match reply.status {
                301 | 302 | 303 | 307 | 308 => {
                    let place =
                        reply.header("location").ok_or_else(|| Fault::Broken("a redirect without a place".into()))?;
                    let next = url.follow(place).map_err(|why| Fault::Broken(format!("its answer {why}")))?;
                    // What was made for one host is for that host only.
                    if is_asked && !next.is_same_host(&url) {
                        let without: Vec<_> =
                            kept.iter().copied().filter(|(name, _)| *name != "authorization").collect();
                        return self.send(&next, &without);
                    }
                    url = next;
                }
                429 | 503 => return Err(busy(&reply)),
                status if status >= 500 => return Err(Fault::Broken(format!("status {status}"))),
                _ => return Ok(reply),
            }
        }
        Err(Fault::Broken(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// Does something again while that may help.
    pub fn patiently<T>(&self, url: &Url, what: &str, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T> {
        let mut failed = 0;
        loop {
            let (pause, why) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Fault::Final(error)) => return Err(error),
                Err(Fault::Busy(pause, why)) => (pause, why),
                Err(Fault::Broken(why)) => (None, why),
            };
            failed += 1;
            let patience = &self.network.patience;
            let pause = pause.unwrap_or(patience.pause * 2_u32.saturating_pow(failed - 1));
            if failed >= patience.tries || pause > patience.wait_max {
                return Err(Error::Network { host: url.host().to_owned(), what: what.to_owned(), why });
            }
            std::thread::sleep(pause);
        }
    }

    /// The JSON that is at an address; `refused` says what a status other than 200 means.
    pub fn json(&self, url: &Url, what: &str, refused: impl Fn(&Reply) -> Error) -> Result<Value> {
        let read = |bytes: Vec<u8>| pasture_files::json::parse(&bytes, "the answer").map_err(|fault| fault.to_string());
        self.small(url, what, "application/json", refused, read)
    }

    /// What `read` makes of the bytes at an address, which are no more than those of an answer that is no file.
    pub fn small<T>(
        &self,
        url: &Url,
        what: &str,
        kind: &str,
        refused: impl Fn(&Reply) -> Error,
        read: impl Fn(Vec<u8>) -> Result<T, String>,
    ) -> Result<T> {
        if self.network.offline {
            return Err(Error::Offline { what: what.to_owned() });
        }
        self.patiently(url, what, || {
            let reply = self.send(url, &[("accept", kind)])?;
            let unsound = |why: String| {
                Fault::Final(Error::Answer { host: reply.url.host().to_owned(), what: what.to_owned(), why })
            };
            if reply.status != 200 {
                return Err(Fault::Final(refused(&reply)));
            }
            if let Some(coding) = reply.header("content-encoding").filter(|coding| *coding != "identity") {
                return Err(unsound(format!("it is compressed as {coding:?}, which nobody asked for")));
            }
            let host = reply.url.host().to_owned();
            let bytes = capped(reply, what, self.network.patience.stall)?;
            read(bytes).map_err(|why| Fault::Final(Error::Answer { host, what: what.to_owned(), why }))
        })
    }
}

/// The body of an answer that is no file.
pub(crate) fn capped(reply: Reply, what: &str, stall: Duration) -> Result<Vec<u8>, Fault> {
    let host = reply.url.host().to_owned();
    let mut body = reply.body();
    let (mut bytes, mut part) = (Vec::new(), vec![0; 64 << 10]);
    let (mut since, mut before) = (Instant::now(), 0);
    loop {
        let read = body.read(&mut part).map_err(|fault| Fault::Broken(format!("it breaks off: {fault}")))?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&part[..read]);
        if bytes.len() as u64 > METADATA_BYTES_MAX {
            let why = format!("it is longer than {METADATA_BYTES_MAX} bytes");
            return Err(Fault::Final(Error::Answer { host, what: what.to_owned(), why }));
        }
        if since.elapsed() >= stall {
            let came = bytes.len() - before;
            if (came as u64) < TRICKLE {
                return Err(Fault::Broken(format!("only {came} bytes came in {} s", stall.as_secs_f32())));
            }
            (since, before) = (Instant::now(), bytes.len());
        }
    }
}

/// Why a host that asks to come back later gave nothing.
pub(crate) fn busy(reply: &Reply) -> Fault {
    let seconds = reply.header("retry-after").and_then(|text| text.trim().parse::<u64>().ok());
    let after = seconds.map_or(String::new(), |seconds| format!(", to come back after {seconds} s"));
    Fault::Busy(seconds.map(Duration::from_secs), format!("status {}{after}", reply.status))
}

/// Why a request without an answer gave nothing.
pub(crate) fn broken(fault: &ureq::Error, network: &Network) -> Fault {
    Fault::Broken(match fault {
        ureq::Error::Timeout(_) => format!("nothing came for {} s", network.patience.stall.as_secs_f32()),
        ureq::Error::HostNotFound => "its name is not known here; is there a network, or a proxy to set?".to_owned(),
        fault => fault.to_string(),
    })
}

fn proxy(text: &str, none_for: &[String], name: &str) -> Result<Proxy> {
    let fault = |_| Error::Setting { name: name.to_owned(), why: format!("is no proxy's address: {text:?}") };
    let parsed = Proxy::new(text).map_err(fault)?;
    let mut builder = Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(user) = parsed.username() {
        builder = builder.username(user);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    let builder = none_for.iter().filter(|host| !host.is_empty()).fold(builder, |builder, host| builder.no_proxy(host));
    builder.build().map_err(fault)
}
