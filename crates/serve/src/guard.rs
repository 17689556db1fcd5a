//! Who may ask: rules against browsers' attacks (Host, Origin), and the key. Every route needs the key but those that
//! the table of routes says are open; what is no route needs it as well.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::caller::Caller;
use crate::keys::same;
use crate::limits;
use crate::moment::since_1970;
use crate::refusal::{Refusal, Style, Why};
use crate::routes::{Access, table};
use crate::state::Server;
use crate::visit::Visit;

/// What is said where an address needs a key.
pub const PUBLIC_NEEDS_KEY: &str = "an address that others can reach needs a key";

/// A key, of which only a digest is kept.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of a text; none where it is empty or could not stand in a header.
    pub fn new(text: &str) -> Option<Key> {
        let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Key(Sha256::digest(text.as_bytes()).into()))
    }

    /// Is it that one? Digests are compared in a time that does not depend on where they differ.
    fn is(&self, text: &str) -> bool {
        same(&self.0, &Sha256::digest(text.as_bytes()).into())
    }
}

/// Can an address be reached from this machine only?
pub fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

/// Stands before every route.
pub async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let row = matched.and_then(|path| table().iter().find(|row| row.path == path));
    let (name, style) = row.map_or_else(|| ("none", style_of(request.uri().path())), |row| (row.path, row.style));
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut visit = Visit::new(request.method().as_str(), request.uri().path());
    let verdict = check(&server, &request, row.map(|row| row.access), &mut visit);
    let visit = Arc::new(visit);
    let mut response = match verdict {
        Err(refusal) => refusal.response(style),
        Ok(Verdict::Preflight) => preflight(),
        Ok(Verdict::Pass) => visit.clone().scope(next.run(request)).await,
    };
    let why = response.extensions().get::<Why>().map(|why| why.0);
    visit.answered(response.status().as_u16(), why);
    if let Some(origin) = origin.filter(|origin| is_listed(&server, origin)) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    server.metrics.answered(name, response.status().as_u16());
    response
}

/// How errors look where there is no route.
fn style_of(path: &str) -> Style {
    if path.starts_with("/api/") { Style::Ollama } else { Style::OpenAi }
}

enum Verdict {
    Pass,
    /// A browser asks whether a listed page may ask.
    Preflight,
}

fn check(server: &Server, request: &Request, access: Option<Access>, visit: &mut Visit) -> Result<Verdict, Refusal> {
    let headers = request.headers();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let is_open = access == Some(Access::Open);
    if !is_open {
        visit.audit = server.options.audit.clone();
        if !server.is_told() {
            return Err(Refusal::untold());
        }
    }
    if path > limits::PATH_BYTES {
        let message = format!("the path is longer than {} bytes", limits::PATH_BYTES);
        return Err(Refusal::new(StatusCode::URI_TOO_LONG, "path_too_long", message));
    }
    check_host(server, request)?;
    if let Some(origin) = headers.get(header::ORIGIN) {
        let listed = is_listed(server, origin);
        if !listed && !is_own(origin, headers) {
            let message = "pages of this origin may not ask; --cors ORIGIN lists one";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "origin_not_allowed", message));
        }
        if listed && request.method() == Method::OPTIONS {
            return Ok(Verdict::Preflight);
        }
    }
    // What the registry lets in without a key: an upload that has a ticket, and reading where that is open.
    let is_lent = || server.options.registry.as_ref().is_some_and(|lending| lending.is_open(request));
    if is_open || (access.is_none() && is_lent()) {
        return Ok(Verdict::Pass);
    }
    let caller = identify(server, headers, visit)?;
    visit.caller = Some(caller.clone());
    let needed = match access {
        Some(Access::Scope(scope)) => Some(scope),
        _ => None,
    };
    if let Some(scope) = needed.filter(|scope| !caller.scopes.has(*scope)) {
        return Err(Refusal::without(scope));
    }
    if let Some(account) = &visit.account {
        account.request(since_1970())?;
    }
    Ok(Verdict::Pass)
}

/// Whose key it is. Where the server has no key, everybody is local, whatever key a client brings along.
fn identify(server: &Server, headers: &HeaderMap, visit: &mut Visit) -> Result<Caller, Refusal> {
    let options = &server.options;
    let refuse = |message: &str| Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
    if let Some(text) = given(headers) {
        if options.control.as_ref().is_some_and(|key| key.is(text)) {
            return Ok(Caller::control());
        }
        if options.key.as_ref().is_some_and(|key| key.is(text)) {
            return Ok(Caller::local());
        }
        if let Some(known) = options.keys.as_ref().and_then(|keys| keys.find(text)) {
            if known.expired {
                visit.caller = Some(known.caller);
                return Err(refuse("this key has come to its end"));
            }
            (visit.models, visit.account) = (known.models, Some(known.account));
            return Ok(known.caller);
        }
    }
    if options.key.is_some() || options.keys.as_ref().is_some_and(|keys| keys.any()) {
        return Err(refuse("a key is needed: Authorization: Bearer KEY"));
    }
    Ok(Caller::local())
}

/// The key of a request, as OpenAI's or Anthropic's clients send it.
fn given(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then_some(key.trim());
    }
    headers.get("x-api-key")?.to_str().ok()
}

/// On loopback a name that is not this machine's was made to point here by somebody else's page.
fn check_host(server: &Server, request: &Request) -> Result<(), Refusal> {
    if !server.options.loopback {
        return Ok(());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let good = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()).is_some_and(|host| is_local(&host)),
        _ => false,
    };
    let good = good && request.uri().authority().is_none_or(is_local);
    if good {
        return Ok(());
    }
    let message = "this server answers to localhost, 127.0.0.1 and [::1] only";
    Err(Refusal::new(StatusCode::FORBIDDEN, "host_not_allowed", message))
}

fn is_local(authority: &Authority) -> bool {
    let host = authority.host();
    let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let user = authority.as_str().contains('@');
    !user && (host.eq_ignore_ascii_case("localhost") || plain.parse().is_ok_and(is_loopback))
}

/// Is the origin the server itself?
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin =
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://").or(origin.strip_prefix("https://")));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

fn is_listed(server: &Server, origin: &HeaderValue) -> bool {
    server.options.origins.iter().any(|listed| origin.as_bytes() == listed.as_bytes())
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type, x-api-key")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
