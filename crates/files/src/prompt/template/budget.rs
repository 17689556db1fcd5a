//! What one rendering may use: steps, bytes made, bytes written, nesting. Every loop and every allocation of the
//! evaluator is charged here before it happens. Counters only grow, so a rendering that ends within its budget has
//! bounded time *and* bounded memory, whatever it releases on the way.

use std::cell::Cell;

use super::fault::{Fault, FaultKind, Outcome};

/// The largest template source that is read.
pub const SOURCE_BYTES_MAX: usize = 1 << 20;
/// The largest text that a rendering may produce.
pub const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// How deep blocks, expressions, calls and values may nest.
pub const DEPTH_MAX: usize = 200;

/// Evaluated nodes that a rendering without input may use: under 100 ms in an unoptimized build.
const STEPS_BASE: u64 = 500_000;
/// Steps added for each node of the input, so that long conversations are not refused.
const STEPS_PER_NODE: u64 = 2_000;
/// Bytes of strings and lists that a rendering without input may make; keeps its growth under 64 MiB.
const BYTES_BASE: u64 = 40 << 20;
/// Bytes that may be made for each byte of the input: real templates copy a message about five times.
const BYTES_PER_BYTE: u64 = 24;

/// The counters of one rendering.
pub(super) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    depth: Cell<usize>,
}

impl Budget {
    /// A budget for an input of `nodes` JSON values holding `bytes` bytes of text.
    pub(super) fn for_input(nodes: u64, bytes: u64) -> Self {
        Self {
            steps: Cell::new(STEPS_BASE.saturating_add(nodes.saturating_mul(STEPS_PER_NODE))),
            bytes: Cell::new(BYTES_BASE.saturating_add(bytes.saturating_mul(BYTES_PER_BYTE))),
            depth: Cell::new(0),
        }
    }

    /// Pays for `count` evaluated nodes or visited items.
    pub(super) fn steps(&self, count: u64) -> Outcome<()> {
        let left = self.steps.get();
        if count > left {
            self.steps.set(0);
            return Err(Fault::new(FaultKind::Budget, "the template takes more steps than a rendering may"));
        }
        self.steps.set(left - count);
        Ok(())
    }

    /// Pays for `count` bytes about to be made or scanned.
    pub(super) fn bytes(&self, count: usize) -> Outcome<()> {
        let (left, count) = (self.bytes.get(), count as u64);
        if count > left {
            self.bytes.set(0);
            return Err(Fault::new(FaultKind::Budget, "the template makes more data than a rendering may hold"));
        }
        self.bytes.set(left - count);
        Ok(())
    }

    /// Pays for `count` places in a list or map.
    pub(super) fn slots(&self, count: usize) -> Outcome<()> {
        self.steps((count / 4) as u64)?;
        self.bytes(count.saturating_mul(48))
    }

    /// Enters one level of nesting; each success is paired with [`Budget::leave`].
    pub(super) fn enter(&self) -> Outcome<()> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(Fault::new(FaultKind::Budget, format!("the template nests deeper than {DEPTH_MAX} levels")));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(())
    }

    /// Leaves one level of nesting.
    pub(super) fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }
}
