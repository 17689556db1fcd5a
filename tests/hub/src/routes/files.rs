//! `/NAME/resolve/REVISION/PATH`: small files at once, large ones by a redirect to the other host; ranges of both.

use super::{is_known, refuse, visible};
use crate::content::Content;
use crate::http::{Answer, Body, Request};
use crate::repo::Gate;
use crate::state::State;

pub(crate) fn answer(state: &State, request: &Request) -> Option<Answer> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    if let Some(digest) = request.path.strip_prefix("/large/") {
        return Some(large(state, request, digest));
    }
    let (name, rest) = request.path.strip_prefix('/')?.split_once("/resolve/")?;
    let repo = match visible(state, request, name) {
        Ok(repo) => repo,
        Err(answer) => return Some(*answer),
    };
    let known = ["main", "refs/pr/1", repo.commit.as_str()];
    let path = known.iter().find_map(|revision| rest.strip_prefix(revision)?.strip_prefix('/'));
    let Some(path) = path else { return Some(refuse(404, "RevisionNotFound")) };
    if repo.gate == Gate::Gated && !is_known(state, request) {
        let status = if request.header("authorization").is_some() { 403 } else { 401 };
        return Some(refuse(status, "GatedRepo"));
    }
    let Some(file) = repo.files.get(path) else { return Some(refuse(404, "EntryNotFound")) };
    let etag = format!("\"{}\"", if file.large { &file.sha256 } else { &file.oid });
    let answer = match file.large {
        true => Answer::new(302)
            .header("location", &format!("http://{}/large/{}?signed=yes", state.store, file.sha256))
            .header("x-linked-etag", &etag)
            .header("x-linked-size", &file.content.length().to_string()),
        false => part(request, &file.content, &etag),
    };
    Some(answer.header("x-repo-commit", &repo.commit))
}

fn large(state: &State, request: &Request, digest: &str) -> Answer {
    let repos = state.repos();
    let mut files = repos.values().flat_map(|repo| repo.files.values());
    match files.find(|file| file.large && file.sha256 == digest) {
        // A host of its own has tags of its own.
        Some(file) => part(request, &file.content, &format!("\"s3-{}\"", &digest[..8])),
        None => Answer::new(404),
    }
}

/// The file, or the range that is asked for.
pub(crate) fn part(request: &Request, content: &Content, etag: &str) -> Answer {
    let total = content.length();
    let answer = |status, from, to| {
        let mut answer = Answer::new(status).header("accept-ranges", "bytes").header("etag", etag);
        answer.body = Body::Part { content: content.clone(), from, to };
        answer
    };
    let fits = request.header("if-range").is_none_or(|wanted| wanted == etag);
    let asked = request.header("range").filter(|_| fits).and_then(|text| text.strip_prefix("bytes="));
    let Some((from, last)) = asked.and_then(|text| text.split_once('-')) else { return answer(200, 0, total) };
    let (from, last) = (from.parse::<u64>().ok(), last.parse::<u64>().ok());
    let Some(from) = from.filter(|from| *from < total) else {
        return Answer::new(416).header("content-range", &format!("bytes */{total}"));
    };
    let to = last.map_or(total, |last| (last + 1).min(total));
    answer(206, from, to).header("content-range", &format!("bytes {from}-{}/{total}", to - 1))
}
