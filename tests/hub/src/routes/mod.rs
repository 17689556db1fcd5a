//! The routes: each file of them answers what it knows. A further file is a line in the table.

mod api;
mod files;
mod images;
mod push;

use crate::http::{Answer, Request};
use crate::repo::{Gate, Repo};
use crate::state::State;

/// Answers a request, or leaves it to the next.
type Route = fn(&State, &Request) -> Option<Answer>;

const ROUTES: [Route; 4] = [push::answer, api::answer, images::answer, files::answer];

/// What the hub says.
pub(crate) fn answer(state: &State, request: &Request) -> Answer {
    ROUTES.iter().find_map(|route| route(state, request)).unwrap_or_else(|| refuse(404, "EntryNotFound"))
}

/// A refusal with the code that clients look at.
pub(crate) fn refuse(status: u16, code: &str) -> Answer {
    let message = format!("the test hub says {code}");
    Answer::json(status, &serde_json::json!({"error": message}))
        .header("x-error-code", code)
        .header("x-error-message", &message)
}

/// Whether the request has the token.
pub(crate) fn is_known(state: &State, request: &Request) -> bool {
    request.header("authorization").is_some_and(|text| text == format!("Bearer {}", state.token))
}

/// The repository where the request may see it.
pub(crate) fn visible(state: &State, request: &Request, name: &str) -> Result<Repo, Box<Answer>> {
    let known = is_known(state, request);
    match state.repos().get(name) {
        Some(repo) if repo.gate != Gate::Private || known => Ok(repo.clone()),
        // The hub does not tell strangers what is private and what is not there.
        _ => Err(Box::new(refuse(if known { 404 } else { 401 }, "RepoNotFound"))),
    }
}
