//! `/NAME/resolve/REVISION/PATH`: the bytes of a file, whole or a range of them, with its digest and commit.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Answered, Lending, Refused, blocking};
use crate::limits;

/// Bytes that are read at once.
const STEP: usize = 1 << 20;
/// Steps that wait for the client.
const STEPS: usize = 2;

pub(super) async fn resolve(lending: &Lending, path: &str, head: &Head) -> Answered {
    let (name, rest) = path.trim_start_matches('/').split_once("/resolve/").unwrap_or((path, ""));
    lending.may_read(&head.headers, name)?;
    // A revision may have slashes: the shortest that has the file counts.
    let cuts: Vec<usize> = rest.match_indices('/').map(|(at, _)| at).collect();
    for cut in cuts {
        let (registry, name) = (lending.registry.clone(), name.to_owned());
        let (revision, path) = (rest[..cut].to_owned(), rest[cut + 1..].to_owned());
        let found = blocking(move || Ok(registry.entry(&name, &revision, &path)?)).await?;
        if let Some((commit, entry)) = found {
            let mut response = send(head, entry.blob, entry.bytes, entry.etag.as_deref()).await?;
            if let Ok(commit) = HeaderValue::from_str(&commit) {
                response.headers_mut().insert("x-repo-commit", commit);
            }
            return Ok(response);
        }
    }
    let revision = rest.split('/').next().unwrap_or_default();
    match lending.registry.commit(name, revision)? {
        Some(_) => Err(Refused(StatusCode::NOT_FOUND, "EntryNotFound", "there is no such file".to_owned())),
        None => Err(Refused(StatusCode::NOT_FOUND, "RevisionNotFound", "there is no such revision".to_owned())),
    }
}

/// A file, or the range of it that is asked for. It is never shown by a browser, whatever it holds.
pub(super) async fn send(head: &Head, path: PathBuf, total: u64, etag: Option<&str>) -> Answered {
    let tag = etag.map(|etag| format!("\"{etag}\""));
    let range = range(&head.headers, total, tag.as_deref());
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    let (from, to) = match range {
        None => (0, total),
        Some(Ok((from, to))) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            place(&mut response, &format!("bytes {from}-{}/{total}", to - 1));
            (from, to)
        }
        Some(Err(())) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            place(&mut response, &format!("bytes */{total}"));
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if head.method == Method::HEAD || from == to {
        return Ok(response);
    }
    let opened = blocking(move || {
        let failed = |fault| Refused::from(pasture_store::Error::from(pasture_files::Error::read(&path, fault)));
        let mut file = File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(from)).map_err(failed)?;
        Ok(file)
    });
    let file = opened.await?;
    let (sender, parts) = channel(STEPS);
    tokio::spawn(pump(file, to - from, sender));
    *response.body_mut() = Body::from_stream(Parts(parts));
    Ok(response)
}

fn place(response: &mut Response, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
}

/// The one range that is asked for, as its first byte and one past its last; an error where it lies outside. Several
/// ranges, and one of another version of the file, count as none.
fn range(headers: &HeaderMap, total: u64, tag: Option<&str>) -> Option<Result<(u64, u64), ()>> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|wanted| Some(wanted) != tag) {
        return None;
    }
    let (first, last) = text(header::RANGE)?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        return Some(if count == 0 || total == 0 { Err(()) } else { Ok((total.saturating_sub(count), total)) });
    }
    let from: u64 = first.parse().ok()?;
    let to = if last.is_empty() { total } else { last.parse::<u64>().ok()?.saturating_add(1).min(total) };
    Some(if from < to { Ok((from, to)) } else { Err(()) })
}

async fn pump(mut file: File, mut left: u64, parts: Sender<std::io::Result<Bytes>>) {
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(STEP).min(STEP);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            let result = file.read_exact(&mut bytes);
            (file, result.map(|()| Bytes::from(bytes)))
        });
        let Ok((back, part)) = read.await else { return };
        (file, left) = (back, left - length as u64);
        let failed = part.is_err();
        // A client that is gone, or reads too slowly, gets no more.
        if parts.send_timeout(part, limits::READ_TIME).await.is_err() || failed {
            return;
        }
    }
}

struct Parts(Receiver<std::io::Result<Bytes>>);

impl futures_core::Stream for Parts {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_inside_the_file_or_refused() {
        let check = |text: &'static str, wanted: Option<Result<(u64, u64), ()>>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            assert_eq!(range(&headers, 10, None), wanted, "{text}");
        };
        check("bytes=0-3", Some(Ok((0, 4))));
        check("bytes=4-", Some(Ok((4, 10))));
        check("bytes=-3", Some(Ok((7, 10))));
        check("bytes=8-99", Some(Ok((8, 10))));
        check("bytes=-99", Some(Ok((0, 10))));
        check("bytes=10-", Some(Err(())));
        check("bytes=5-4", Some(Err(())));
        check("bytes=-0", Some(Err(())));
        check("bytes=0-18446744073709551615", Some(Ok((0, 10))));
        check("bytes=0-1,3-4", None);
        check("lines=0-1", None);
        check("bytes=x-1", None);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole_file() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-3"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(range(&headers, 10, Some("\"a\"")), Some(Ok((0, 4))));
        assert_eq!(range(&headers, 10, Some("\"b\"")), None);
    }
}
