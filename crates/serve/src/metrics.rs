//! What is counted, as text for Prometheus. Names and labels are ours, never a client's: their number is fixed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use pasture_engine::EngineCounts;

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

impl End {
    /// All of them.
    const ALL: [End; 3] = [End::Done, End::Left, End::Failed];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            End::Done => "done",
            End::Left => "left",
            End::Failed => "failed",
        }
    }
}

/// What is told of an engine: name, kind, help, value.
type EngineLine = (&'static str, &'static str, &'static str, fn(&EngineCounts) -> u64);

const ENGINE: [EngineLine; 11] = [
    ("pasture_kv_pages_free", "gauge", "Pages of keys and values that hold nothing", |counts| counts.now.free as u64),
    ("pasture_kv_pages_cached", "gauge", "Pages kept for prompts to come", |counts| counts.now.cached as u64),
    ("pasture_kv_pages_held", "gauge", "Pages that sequences hold", |counts| counts.now.held as u64),
    ("pasture_sequences_running", "gauge", "Sequences that are computed", |counts| counts.now.running as u64),
    ("pasture_sequences_waiting", "gauge", "Sequences that wait for their turn", |counts| counts.now.waiting as u64),
    ("pasture_steps_total", "counter", "Steps that were computed", |counts| counts.steps),
    ("pasture_rows_total", "counter", "Rows that were computed", |counts| counts.rows),
    ("pasture_cached_tokens_total", "counter", "Tokens of prompts that were known already", |counts| {
        counts.cached_tokens
    }),
    ("pasture_preempted_total", "counter", "Sequences that gave up their pages", |counts| counts.preempted),
    ("pasture_proposed_tokens_total", "counter", "Tokens that were computed before they were chosen", |counts| {
        counts.proposed_tokens
    }),
    ("pasture_accepted_tokens_total", "counter", "Of these, tokens that were right", |counts| counts.accepted_tokens),
];

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
        for end in End::ALL {
            let (word, count) = (end.word(), self.ends[end as usize].load(Ordering::Relaxed));
            let _ = writeln!(text, "pasture_requests_ended_total{{end=\"{word}\"}} {count}");
        }
        head(&mut text, "pasture_connections", "gauge", "Connections that are held");
        let _ = writeln!(text, "pasture_connections {}", server.door.held());
        head(&mut text, "pasture_batches", "gauge", "Batches that have not ended");
        let _ = writeln!(text, "pasture_batches {}", server.batches.active());
        let entries = server.entries();
        let models = || entries.iter().filter(|entry| entry.base.is_none()).map(|entry| &entry.model);
        let counts: Vec<_> = models().map(|model| (&model.served.name, model.door.counts())).collect();
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
        let engines: Vec<_> = models().map(|model| (&model.served.name, model.served.engine.counts())).collect();
        for (name, kind, help, value) in ENGINE {
            head(&mut text, name, kind, help);
            for (model, counts) in &engines {
                let _ = writeln!(text, "{name}{{model={model:?}}} {}", value(counts));
            }
        }
        let adapters = entries.iter().filter(|entry| entry.base.is_some()).count();
        head(&mut text, "pasture_adapters", "gauge", "Adapters that are loaded");
        let _ = writeln!(text, "pasture_adapters {adapters}");
        text
    }
}
