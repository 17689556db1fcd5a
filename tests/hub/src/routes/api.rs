//! `/api/models…`: what a repository is and has, and the search.

use serde_json::{Value, json};

use super::{is_known, refuse, visible};
use crate::http::{Answer, Request};
use crate::repo::Repo;
use crate::state::State;

pub(crate) fn answer(state: &State, request: &Request) -> Option<Answer> {
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    if request.path == "/api/whoami-v2" && reading {
        return Some(match is_known(state, request) {
            true => Answer::json(200, &json!({"type": "user", "name": "tester", "auth": {}})),
            false => refuse(401, "InvalidToken"),
        });
    }
    let rest = request.path.strip_prefix("/api/models").filter(|_| reading)?;
    let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
        return Some(search(state, request));
    };
    let parts: Vec<&str> = rest.split('/').collect();
    let (name, rest) = match parts.as_slice() {
        [owner, name, rest @ ..] => (format!("{owner}/{name}"), rest),
        [name] => ((*name).to_owned(), &[] as &[&str]),
        [] => return None,
    };
    let repo = match visible(state, request, &name) {
        Ok(repo) => repo,
        Err(answer) => return Some(*answer),
    };
    let known = |revision: &str| revision == "main" || revision == repo.commit || revision == "refs/pr/1";
    Some(match rest {
        [] => info(&repo, request),
        ["revision", revision @ ..] if known(&revision.join("/")) => info(&repo, request),
        ["tree", revision @ ..] if known(&revision.join("/")) => {
            let recursive = request.asked("recursive").is_some_and(|text| text.eq_ignore_ascii_case("true"));
            Answer::json(200, &repo.tree(recursive))
        }
        ["revision" | "tree", ..] => refuse(404, "RevisionNotFound"),
        _ => return None,
    })
}

fn info(repo: &Repo, request: &Request) -> Answer {
    let with_blobs = request.asked("blobs").is_some_and(|text| !text.eq_ignore_ascii_case("false"));
    Answer::json(200, &repo.info(with_blobs))
}

fn search(state: &State, request: &Request) -> Answer {
    let words = request.asked("search").unwrap_or_default().to_lowercase();
    let limit = request.asked("limit").and_then(|text| text.parse().ok()).unwrap_or(1000);
    let repos = state.repos();
    let found = repos.values().filter(|repo| words.split(' ').all(|word| repo.name.to_lowercase().contains(word)));
    let rows: Vec<Value> = found.take(limit).map(|repo| repo.info(false)).collect();
    Answer::json(200, &json!(rows))
}
