//! What is counted, as text for Prometheus. Names and labels are ours, never a client's: their number is fixed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::state::Server;

/// How a request for answers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All its answers came to an end.
    Done,
    /// The client left, or did not read.
    Left,
    /// An error, or the server's end.
    Failed,
}

/// Counters; gauges are read from the doors.
#[derive(Default)]
pub struct Metrics {
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
    ends: [AtomicU64; 3],
    begun: AtomicU64,
    prompt_tokens: AtomicU64,
    new_tokens: AtomicU64,
}

impl Metrics {
    /// Counts an answer of a route by its status.
    pub fn answered(&self, route: &'static str, status: u16) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((route, status)).or_default() += 1;
    }

    /// A request for answers was accepted.
    pub fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended; called once for each that was accepted.
    pub fn ended(&self, end: End) {
        self.ends[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what an answer took.
    pub fn tokens(&self, prompt: usize, new: usize) {
        self.prompt_tokens.fetch_add(prompt as u64, Ordering::Relaxed);
        self.new_tokens.fetch_add(new as u64, Ordering::Relaxed);
    }

    /// The page.
    pub fn text(&self, server: &Server) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        head(&mut text, "pasture_http_requests_total", "counter", "Answered requests by route and status");
        for ((route, status), count) in self.answered.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "pasture_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        let counters = [
            ("pasture_requests_accepted_total", "Requests for answers that were accepted", &self.begun),
            ("pasture_prompt_tokens_total", "Tokens of prompts of ended answers", &self.prompt_tokens),
            ("pasture_new_tokens_total", "Tokens of ended answers", &self.new_tokens),
        ];
        for (name, help, count) in counters {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "{name} {}", count.load(Ordering::Relaxed));
        }
        head(&mut text, "pasture_requests_ended_total", "counter", "How accepted requests ended");
        for (word, count) in ["done", "left", "failed"].iter().zip(&self.ends) {
            let _ = writeln!(text, "pasture_requests_ended_total{{end=\"{word}\"}} {}", count.load(Ordering::Relaxed));
        }
        head(&mut text, "pasture_connections", "gauge", "Connections that are held");
        let _ = writeln!(text, "pasture_connections {}", server.door.held());
        let counts: Vec<_> = server.models.iter().map(|model| (&model.served.name, model.door.counts())).collect();
        for (name, help, at) in [
            ("pasture_answers_in_flight", "Answers that are made or wait", 0),
            ("pasture_answers_waiting", "Answers whose first token has not come", 1),
            ("pasture_prompt_tokens_waiting", "Tokens of prompts that wait", 2),
        ] {
            head(&mut text, name, "gauge", help);
            for (model, counts) in &counts {
                let value = [counts.in_flight, counts.waiting, counts.waiting_tokens][at];
                let _ = writeln!(text, "{name}{{model={model:?}}} {value}");
            }
        }
        text
    }
}
