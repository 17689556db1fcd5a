//! One request from its head to the last byte of its answer: whose it is, what it took, how it ended. The audit log is
//! written when the last of those who hold it lets go, so each request is told once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::audit::Audit;
use crate::caller::Caller;
use crate::keys::Account;
use crate::metrics::End;
use crate::moment::{rfc3339, since_1970};
use crate::refusal::Refusal;

/// Longest path in the log, in letters.
const PATH_LETTERS: usize = 200;

/// One request.
pub struct Visit {
    /// Whose it is; none where it was refused before that was known.
    pub caller: Option<Caller>,
    /// Models that the key may use; all where absent.
    pub models: Option<Arc<[String]>>,
    /// The key's quotas.
    pub account: Option<Arc<Account>>,
    /// Where it is told.
    pub audit: Option<Arc<Audit>>,
    /// Whether it is work that nobody waits for, which takes none of its key's places in flight.
    pub is_beside: bool,
    method: String,
    path: String,
    came: Duration,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    model: Option<String>,
    prompt_tokens: u64,
    new_tokens: u64,
    status: u16,
    why: Option<&'static str>,
    end: Option<&'static str>,
    asked: Option<Value>,
}

tokio::task_local! {
    static VISIT: Arc<Visit>;
}

impl Visit {
    /// A request that came just now.
    pub fn new(method: &str, path: &str) -> Visit {
        Visit {
            caller: None,
            models: None,
            account: None,
            audit: None,
            is_beside: false,
            method: method.to_owned(),
            path: path.chars().take(PATH_LETTERS).collect(),
            came: since_1970(),
            facts: Mutex::default(),
        }
    }

    /// The request that this task answers, if it answers one.
    pub fn current() -> Option<Arc<Visit>> {
        VISIT.try_with(Arc::clone).ok()
    }

    /// Computes something for this request.
    pub async fn scope<T>(self: Arc<Visit>, work: impl Future<Output = T>) -> T {
        VISIT.scope(self, work).await
    }

    /// May the request of this task use a model? One that it may not use does not exist for it.
    pub fn may_use(name: &str) -> bool {
        let models = VISIT.try_with(|visit| visit.models.clone()).ok().flatten();
        models.is_none_or(|models| models.iter().any(|model| model == name))
    }

    /// It is for this model.
    pub fn model(&self, name: &str) {
        self.facts().model = Some(name.to_owned());
    }

    /// What it asked for, where the log wants to know.
    pub fn asked(&self, body: impl FnOnce() -> Value) {
        if self.audit.as_ref().is_some_and(|audit| audit.wants_prompts()) {
            self.facts().asked = Some(body());
        }
    }

    /// It took tokens.
    pub fn took(&self, prompt: usize, new: usize) {
        let mut facts = self.facts();
        facts.prompt_tokens += prompt as u64;
        facts.new_tokens += new as u64;
        drop(facts);
        if let Some(account) = &self.account {
            account.spend((prompt + new) as u64, since_1970());
        }
    }

    /// How its answers ended.
    pub fn ended(&self, end: End) {
        self.facts().end = Some(end.word());
    }

    /// Its status, and the word for why it was refused.
    pub fn answered(&self, status: u16, why: Option<&'static str>) {
        let mut facts = self.facts();
        (facts.status, facts.why) = (status, why);
    }

    /// Lets its answers in flight, as far as its key may have more of them.
    pub fn enter(&self, answers: usize) -> Result<(), Refusal> {
        self.places().map_or(Ok(()), |account| account.enter(answers))
    }

    /// Answers are no longer in flight.
    pub fn leave(&self, answers: usize) {
        if let Some(account) = self.places() {
            account.leave(answers);
        }
    }

    /// Where its answers in flight are counted.
    fn places(&self) -> Option<&Arc<Account>> {
        self.account.as_ref().filter(|_| !self.is_beside)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line of the log.
    fn told(&self) -> Value {
        let facts = self.facts();
        let took = since_1970().saturating_sub(self.came);
        let mut line = json!({
            "when": rfc3339(self.came),
            "key": self.caller.as_ref().map(|caller| caller.id.as_ref()),
            "name": self.caller.as_ref().map(|caller| caller.name.as_ref()),
            "method": self.method,
            "path": self.path,
            "model": facts.model,
            "prompt_tokens": facts.prompt_tokens,
            "new_tokens": facts.new_tokens,
            "status": Some(facts.status).filter(|status| *status > 0),
            "why": facts.why,
            "end": facts.end,
            "ms": took.as_millis() as u64,
        });
        if let Some(asked) = &facts.asked {
            line["asked"] = asked.clone();
        }
        line
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(audit) = self.audit.take() {
            audit.tell(self.told());
        }
    }
}
