//! From the engine's thread to the async side without a thread that waits: the engine calls a notice after each event,
//! and the events are taken without blocking. Dropping a run cancels it within a step; each run's end is counted once.

use std::sync::Arc;
use std::task::Poll;

use pasture_engine::{Event, Request, Stream};
use tokio::sync::{Notify, watch};

use crate::admission::Permit;
use crate::caller::Caller;
use crate::metrics::End;
use crate::refusal::Refusal;
use crate::state::{Model, Server};

/// Requests to an engine whose answers belong to one client.
pub struct Run {
    server: Arc<Server>,
    streams: Vec<Stream>,
    notice: Arc<Notify>,
    stop: watch::Receiver<bool>,
    permit: Permit,
    /// Where to look first, so that no stream goes before the others.
    turn: usize,
    /// Answers that have not ended.
    left: usize,
    end: End,
}

impl Run {
    /// Hands requests in.
    pub fn submit(server: &Arc<Server>, model: &Model, requests: Vec<Request>, permit: Permit) -> Result<Run, Refusal> {
        let notice = Arc::new(Notify::new());
        let left = requests.iter().map(|request| request.answers as usize).sum();
        let caller = Caller::current().id;
        let scope = if server.options.share_prefix { Arc::from("") } else { caller.clone() };
        let submit = |request: Request| {
            let notice = notice.clone();
            let (owner, scope) = (caller.clone(), scope.clone());
            let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || notice.notify_one());
            model.served.engine.submit(Request { wake: Some(wake), owner, scope, ..request })
        };
        let streams = requests.into_iter().map(submit).collect::<Result<Vec<Stream>, _>>()?;
        server.metrics.begun();
        let (server, stop) = (server.clone(), server.stop.subscribe());
        Ok(Run { server, streams, notice, stop, permit, turn: 0, left, end: End::Left })
    }

    /// The next event, and which request it belongs to; none after the last.
    pub async fn next(&mut self) -> Option<Result<(usize, Event), Refusal>> {
        loop {
            if self.left == 0 {
                self.end = End::Done;
                return None;
            }
            if let Some((at, event)) = self.ready() {
                return Some(match event {
                    Ok(event) => {
                        self.note(&event);
                        Ok((at, event))
                    }
                    Err(error) => Err(self.fail(error.into())),
                });
            }
            let stopped = tokio::select! {
                () = self.notice.notified() => false,
                stopped = self.stop.wait_for(|stop| *stop) => stopped.is_ok(),
            };
            if stopped {
                return Some(Err(self.fail(Refusal::draining())));
            }
        }
    }

    fn ready(&mut self) -> Option<(usize, pasture_engine::Result<Event>)> {
        for step in 0..self.streams.len() {
            let at = (self.turn + step) % self.streams.len();
            if let Poll::Ready(Some(event)) = self.streams[at].poll_event() {
                self.turn = at + 1;
                return Some((at, event));
            }
        }
        None
    }

    fn note(&mut self, event: &Event) {
        self.permit.begun();
        if let Event::Piece(_) = event {
            self.permit.took(0, 1);
        }
        if let Event::Ending(ending) = event {
            self.left -= 1;
            // Answers to one prompt share it.
            let prompt = if ending.answer == 0 { ending.usage.prompt_tokens } else { 0 };
            self.server.metrics.tokens(prompt, ending.usage.new_tokens);
        }
    }

    fn fail(&mut self, refusal: Refusal) -> Refusal {
        (self.end, self.left) = (End::Failed, 0);
        self.streams.clear();
        refusal
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let end = if self.left == 0 && self.end == End::Left { End::Done } else { self.end };
        self.server.metrics.ended(end);
        self.permit.ended(end);
    }
}
