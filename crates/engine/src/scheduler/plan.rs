//! What goes into the scheduler and what comes out: limits, arrivals, steps, counts. Who decides is `scheduler.rs`.

use super::cache::{Hit, NodeId, PageName};

/// Names a sequence; older ones are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// What a step and all sequences together may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of keys and values.
    pub pages: usize,
    /// Pages at most that are kept although no sequence holds them.
    pub cached: usize,
    /// Tokens in a page.
    pub page_tokens: usize,
    /// Rows of one step.
    pub step_tokens: usize,
    /// Rows of prompts with which a step is about as efficient as with more. No further prompt joins a step that has so
    /// many: the first tokens come one after the other then, not all at the end. Nor has it more where others wait for their
    /// next token; one prompt alone may fill the step.
    pub prompt_tokens: usize,
    /// Sequences that run at once; at most `step_tokens`, so that each has a row in every step.
    pub running: usize,
    /// Positions that a row sees back at most, its own with them, in every layer: pages that lie wholly before are
    /// given back after each step. None where rows see all.
    pub window: Option<usize>,
    /// Rows up to which a step may be filled with proposed tokens: so many cost little more than one.
    pub proposal_rows: usize,
}

impl Limits {
    /// Pages at the beginning of a sequence that are given back once it holds `held` positions.
    pub(super) fn released(&self, held: usize) -> usize {
        self.window.map_or(0, |window| (held + 1).saturating_sub(window) / self.page_tokens)
    }

    /// The most pages that a sequence of `tokens` has at any time on its way.
    pub fn pages_for(&self, tokens: usize) -> usize {
        let all = tokens.div_ceil(self.page_tokens);
        let seen = self.window.map(|window| window.saturating_add(self.step_tokens - 1));
        // The first and the last page may hold one position each.
        seen.map_or(all, |seen| all.min(seen.div_ceil(self.page_tokens).saturating_add(1)))
    }
}

/// A sequence as it is handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Tokens whose ids are known.
    pub known: usize,
    /// The most that may ever be known.
    pub longest: usize,
    /// Positions from here on are run one by one: their angles depend on how long the sequence was then.
    pub alone_from: usize,
    /// Whose it is: owners have equal shares.
    pub owner: u64,
    /// What its first pages will hold, the last perhaps in part; none where nothing is shared.
    pub names: Vec<PageName>,
    /// Pages that end at this position or before may be kept and shared.
    pub cacheable: usize,
}

/// Rows of one sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whose.
    pub ticket: Ticket,
    /// Position of the first.
    pub start: usize,
    /// How many.
    pub count: usize,
    /// Whether the last row's logits choose the next token.
    pub samples: bool,
    /// How many of the last rows are of tokens that are only proposed: the logits before each say whether it is right.
    pub proposed: usize,
}

/// A sequence that begins with pages that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Which.
    pub ticket: Ticket,
    /// The pages.
    pub hit: Hit,
    /// Positions that they hold.
    pub held: usize,
}

/// What to run next. What it names is done in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Sequences whose pages must be freed before the step; they start over later.
    pub dropped: Vec<Ticket>,
    /// Sequences that begin with kept pages.
    pub admitted: Vec<Admitted>,
    /// Kept pages that are kept no longer.
    pub forgotten: Vec<NodeId>,
    /// Rows, those of one token first.
    pub work: Vec<Work>,
}

/// A sequence that can never be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Pages that it needs at its longest.
    pub needed: usize,
    /// Pages that there are.
    pub pages: usize,
}

/// What became of a page that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is kept under its name from now on.
    New(NodeId),
    /// This page holds the same: the sequence goes on with that one, and its own is free.
    Same(NodeId),
    /// It stays the sequence's own.
    Not,
}

/// What all sequences of an engine hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pages that nobody holds and that hold nothing.
    pub free: usize,
    /// Pages that are kept although no sequence holds them.
    pub cached: usize,
    /// Pages that sequences hold; one that several share counts once.
    pub held: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Sequences that run.
    pub running: usize,
}
