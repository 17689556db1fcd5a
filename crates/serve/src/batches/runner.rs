//! What computes batches: a task for each, which takes line after line, a bounded number of all batches at once. A line
//! begins only while nobody waits for a first token, and while others are answered one at a time, so that batches take what
//! others leave. When the program ends, what is not answered stays for the next time.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::work::{Ended, Job, Went};
use super::{Batches, endpoint, limits, lines};
use crate::ask::blocking;
use crate::caller::Caller;
use crate::keys::Known;
use crate::moment::{now, since_1970};
use crate::refusal::{Refusal, Style};
use crate::routes::compute;
use crate::state::Server;
use crate::visit::Visit;

/// How often a batch looks whether the end of the program is near.
const LOOK: Duration = Duration::from_millis(100);
/// How long a line waits before it looks again whether others wait.
const STEP_ASIDE: Duration = Duration::from_millis(20);
/// The longest time between two attempts at a line.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Begins the batches that have not ended.
pub async fn go_on(server: &Arc<Server>) -> Result<(), Refusal> {
    let batches = server.batches.clone();
    for number in blocking(move || batches.book.active()).await? {
        begin(server, number);
    }
    Ok(())
}

/// Begins a batch, or goes on with it.
pub fn begin(server: &Arc<Server>, number: i64) {
    let (sender, cancelled) = watch::channel(false);
    lock(&server.batches).insert(number, sender);
    let server = server.clone();
    tokio::spawn(async move {
        if let Err(refusal) = run(&server, number, cancelled).await {
            // Not by the server's fault alone: the disk may be full.
            eprintln!("error: batch {number} stays as it is until the server starts again: {:?}", refusal.message);
        }
        lock(&server.batches).remove(&number);
    });
}

/// Tells a batch that its end was asked for.
pub fn cancel(server: &Server, number: i64) {
    if let Some(sender) = lock(&server.batches).get(&number) {
        sender.send_replace(true);
    }
}

fn lock(batches: &Batches) -> MutexGuard<'_, std::collections::HashMap<i64, watch::Sender<bool>>> {
    batches.under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(server: &Arc<Server>, number: i64, mut cancelled: watch::Receiver<bool>) -> Result<(), Refusal> {
    let batches = server.batches.clone();
    let Some(job) = blocking(move || batches.book.begin(number)).await? else { return Ok(()) };
    let job = Arc::new(job);
    let left = u64::try_from(job.expires.saturating_sub(now())).unwrap_or(0);
    let over = tokio::time::sleep(Duration::from_secs(left));
    tokio::pin!(over);
    let mut look = tokio::time::interval(LOOK);
    let mut pending = job.pending.iter().copied();
    let mut lines: JoinSet<Result<(), Refusal>> = JoinSet::new();
    // None where the program ends before the batch does.
    let how = loop {
        while lines.len() < limits::at_once(server.options.slots)
            && let Some(line) = pending.next()
        {
            lines.spawn(answer(server.clone(), job.clone(), line));
        }
        if job.cancelled {
            break Some(Ended::Cancelled);
        }
        if lines.is_empty() {
            break Some(Ended::Completed);
        }
        tokio::select! {
            Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => break Some(Ended::Cancelled),
            () = &mut over => break Some(Ended::Expired),
            _ = look.tick() => if server.is_ending() {
                break None;
            },
            Some(ended) = lines.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) if refusal.status == StatusCode::INSUFFICIENT_STORAGE => {
                    break Some(Ended::Failed(refusal));
                }
                Ok(Err(refusal)) => return Err(refusal),
                Err(error) => return Err(Refusal::ours(&error.to_string())),
            },
        }
    };
    lines.shutdown().await;
    let Some(how) = how else { return Ok(()) };
    let batches = server.batches.clone();
    blocking(move || batches.book.end(&job, &how)).await
}

/// Answers a line, and keeps the answer. Only one that is computed has a turn, so that a batch that waits holds up no
/// other.
async fn answer(server: Arc<Server>, job: Arc<Job>, line: i64) -> Result<(), Refusal> {
    let (batches, of) = (server.batches.clone(), job.clone());
    let text = blocking(move || batches.book.line(of.input, line)).await?.map(|(_, text)| text).unwrap_or_default();
    // It was right when the batch began.
    let Ok(request) = lines::read(&text, &job.endpoint) else { return Ok(()) };
    let (status, body) = loop {
        let turn = server.batches.turns.acquire().await.map_err(|error| Refusal::ours(&error.to_string()))?;
        let computing = quiet(&server).await;
        let answered = once(&server, &job, &request).await;
        drop((computing, turn));
        match answered {
            Ok(body) => break (StatusCode::OK, body),
            // A server that is full, loads a model or is about to end, and a key without tokens: later.
            Err(refusal) if [429, 503].contains(&refusal.status.as_u16()) => {
                let wait = Duration::from_secs(refusal.retry_after.unwrap_or(1));
                tokio::time::sleep(wait.min(AGAIN_MAX)).await;
            }
            Err(refusal) => break (refusal.status, refusal.body(Style::OpenAi)),
        }
    };
    let went = if status == StatusCode::OK { Went::Well } else { Went::Wrong };
    let told = lines::answered(&request.custom_id, status.as_u16(), &body);
    let batches = server.batches.clone();
    blocking(move || batches.book.keep(&job, line, &told, went)).await
}

/// A line that is computed, until it is dropped.
struct Computing<'s>(&'s Server);

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        *computing(self.0) -= 1;
    }
}

fn computing(server: &Server) -> MutexGuard<'_, usize> {
    server.batches.computing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until a line may be computed: nobody waits for a first token, and while others are answered no other line is
/// computed.
async fn quiet(server: &Server) -> Computing<'_> {
    loop {
        if let Some(computing) = may(server) {
            return computing;
        }
        tokio::time::sleep(STEP_ASIDE).await;
    }
}

fn may(server: &Server) -> Option<Computing<'_>> {
    let mut lines = computing(server);
    let entries = server.entries();
    // An adapter's door is its model's.
    let counts = || entries.iter().filter(|entry| entry.base.is_none()).map(|entry| entry.model.door.counts());
    let in_flight: usize = counts().map(|counts| counts.in_flight).sum();
    let others = in_flight > *lines;
    if counts().any(|counts| counts.waiting > 0) || (others && *lines > 0) {
        return None;
    }
    *lines += 1;
    Some(Computing(server))
}

/// One attempt at a line, told in the audit log as any request.
async fn once(server: &Arc<Server>, job: &Job, request: &lines::Line) -> Result<Value, Refusal> {
    if !server.is_told() {
        return Err(Refusal::untold());
    }
    let Some((kind, scope)) = endpoint(&job.endpoint) else { return Err(Refusal::ours("an endpoint is not known")) };
    let mut visit = Visit::new("BATCH", &job.endpoint);
    visit.audit = server.options.audit.clone();
    visit.is_beside = true;
    let standing = standing(server, &job.caller);
    if let Ok((caller, known)) = &standing {
        visit.caller = Some(caller.clone());
        visit.models = known.as_ref().and_then(|known| known.models.clone());
        visit.account = known.as_ref().map(|known| known.account.clone());
    }
    let visit = Arc::new(visit);
    let may = standing.and_then(|(caller, _)| {
        if !caller.scopes.has(scope) {
            return Err(Refusal::without(scope));
        }
        visit.account.as_ref().map_or(Ok(()), |account| account.has_tokens(since_1970()))
    });
    let answered = match may {
        Ok(()) => visit.clone().scope(compute(kind, server, request.body.clone())).await,
        Err(refusal) => Err(refusal),
    };
    let answered = match answered {
        Ok(response) => whole(response).await,
        Err(refusal) => Err(refusal),
    };
    match &answered {
        Ok(_) => visit.answered(200, None),
        Err(refusal) => visit.answered(refusal.status.as_u16(), Some(refusal.code)),
    }
    answered
}

/// The body of an answer, which is JSON.
async fn whole(response: Response) -> Result<Value, Refusal> {
    let bytes = axum::body::to_bytes(response.into_body(), limits::ANSWER_BYTES).await;
    let bytes = bytes.map_err(|_| Refusal::wrong("the answer is longer than a batch keeps"))?;
    serde_json::from_slice(&bytes).or_else(|_| Ok(json!(String::from_utf8_lossy(&bytes))))
}

/// Whose batch it is, as the key stands now; without a key of the file it is this machine's.
fn standing(server: &Server, caller: &str) -> Result<(Caller, Option<Known>), Refusal> {
    if let Some(known) = server.options.keys.as_ref().and_then(|keys| keys.of(caller))
        && !known.expired
    {
        return Ok((known.caller.clone(), Some(known)));
    }
    match Caller::without_key(caller) {
        Some(caller) => Ok((caller, None)),
        None => {
            let message = "the key that made the batch was revoked, or has come to its end";
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
        }
    }
}
