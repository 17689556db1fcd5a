//! Who may come in: so many answers in the making, so many that wait, so many tokens of prompts that wait. Decided in
//! the handler, without asking the engine. Invariant: what a permit counted is given back exactly once, when it goes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use crate::metrics::End;
use crate::refusal::Refusal;
use crate::visit::Visit;

/// How many may come in.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Answers that are made at once.
    pub slots: usize,
    /// Answers that may wait.
    pub queue: usize,
    /// Tokens of prompts that may wait.
    pub tokens: usize,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers that came in and have not ended.
    pub in_flight: usize,
    /// Of these, answers whose prompt has not been run.
    pub waiting: usize,
    /// Tokens of their prompts.
    pub waiting_tokens: usize,
}

/// The door of one model.
pub struct Admission {
    room: Room,
    counts: Mutex<Counts>,
}

impl Admission {
    /// A door with nobody inside.
    pub fn new(room: Room) -> Admission {
        Admission { room, counts: Mutex::default() }
    }

    /// What is counted now.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Lets a request of so many answers in, as far as its key may have more. One that finds nobody inside is always
    /// let in.
    pub fn admit(self: &Arc<Admission>, answers: usize) -> Result<Permit, Refusal> {
        let mut counts = self.lock();
        if counts.in_flight > 0 && counts.in_flight + answers > self.room.slots + self.room.queue {
            let Room { slots, queue, .. } = self.room;
            return Err(self.full(*counts, &format!("{slots} answers are made at once and {queue} may wait")));
        }
        let visit = Visit::current();
        if let Some(visit) = &visit {
            visit.enter(answers)?;
        }
        counts.in_flight += answers;
        counts.waiting += answers;
        Ok(Permit { door: self.clone(), visit, answers, tokens: 0, waits: true })
    }

    fn full(&self, counts: Counts, why: &str) -> Refusal {
        let message = format!("the server is full: {why}; try again later");
        let seconds = 1 + counts.waiting / self.room.slots.max(1);
        Refusal {
            retry_after: Some(seconds as u64),
            ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to compute, until it is dropped.
pub struct Permit {
    door: Arc<Admission>,
    /// The request that it was given to.
    visit: Option<Arc<Visit>>,
    answers: usize,
    tokens: usize,
    waits: bool,
}

impl Permit {
    /// Counts the tokens of its prompts; refused where too many wait already.
    pub fn prompt(&mut self, tokens: usize) -> Result<(), Refusal> {
        let mut counts = self.door.lock();
        let room = self.door.room.tokens;
        if counts.waiting_tokens > 0 && counts.waiting_tokens + tokens > room {
            let waiting = counts.waiting_tokens;
            return Err(self.door.full(*counts, &format!("prompts of {waiting} tokens wait and of {room} may")));
        }
        counts.waiting_tokens += tokens;
        self.tokens += tokens;
        drop(counts);
        self.took(tokens, 0);
        Ok(())
    }

    /// It took tokens, which its key pays.
    pub fn took(&self, prompt: usize, new: usize) {
        if let Some(visit) = &self.visit {
            visit.took(prompt, new);
        }
    }

    /// How its answers ended.
    pub fn ended(&self, end: End) {
        if let Some(visit) = &self.visit {
            visit.ended(end);
        }
    }

    /// The first token came: it waits no longer.
    pub fn begun(&mut self) {
        if std::mem::take(&mut self.waits) {
            let mut counts = self.door.lock();
            counts.waiting -= self.answers;
            counts.waiting_tokens -= self.tokens;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.begun();
        self.door.lock().in_flight -= self.answers;
        if let Some(visit) = &self.visit {
            visit.leave(self.answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_door_counts_answers_and_tokens_and_forgets_whoever_left() {
        let door = Arc::new(Admission::new(Room { slots: 2, queue: 3, tokens: 10 }));
        let mut first = door.admit(4).unwrap();
        first.prompt(50).unwrap();
        let mut second = door.admit(1).unwrap();
        let refused = second.prompt(1).unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.message.contains("prompts of 50 tokens wait and of 10 may"), "{}", refused.message);
        let refused = door.admit(1).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(3)));
        first.begun();
        assert_eq!(door.counts(), Counts { in_flight: 5, waiting: 1, waiting_tokens: 0 });
        second.prompt(10).unwrap();
        drop(first);
        drop(second);
        assert_eq!(door.counts(), Counts::default());
        drop(door.admit(100).unwrap());
    }
}
