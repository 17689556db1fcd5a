//! How much was computed for each owner, so that one who asks much does not make others wait: whoever has had least comes
//! first. An owner that comes back, or comes new, begins level with the least of those who are there: nobody saves up.

use std::collections::BTreeMap;

/// What owners have had, in rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    owners: BTreeMap<u64, Share>,
}

#[derive(Clone, Debug, Default)]
struct Share {
    rows: u64,
    sequences: usize,
    running: usize,
}

impl Shares {
    /// A sequence of this owner came.
    pub(super) fn enter(&mut self, owner: u64) {
        let least = self.owners.values().filter(|share| share.sequences > 0).map(|share| share.rows).min();
        let share = self.owners.entry(owner).or_default();
        if share.sequences == 0 {
            share.rows = share.rows.max(least.unwrap_or(0));
        }
        share.sequences += 1;
    }

    /// It is gone.
    pub(super) fn leave(&mut self, owner: u64) {
        self.share(owner).sequences -= 1;
        // What an owner had counts on while others who are there have had less.
        let least = self.owners.values().filter(|share| share.sequences > 0).map(|share| share.rows).min();
        self.owners.retain(|_, share| share.sequences > 0 || least.is_some_and(|least| share.rows > least));
    }

    /// It runs.
    pub(super) fn begin(&mut self, owner: u64) {
        self.share(owner).running += 1;
    }

    /// It runs no longer.
    pub(super) fn stop(&mut self, owner: u64) {
        self.share(owner).running -= 1;
    }

    /// Rows were computed for this owner.
    pub(super) fn take(&mut self, owner: u64, rows: usize) {
        self.share(owner).rows += rows as u64;
    }

    /// What an owner has had.
    pub(super) fn rows(&self, owner: u64) -> u64 {
        self.owners.get(&owner).map_or(0, |share| share.rows)
    }

    /// Who is let in first has the least: sequences that run now, then rows until now.
    pub(super) fn rank(&self, owner: u64) -> (usize, u64) {
        self.owners.get(&owner).map_or((0, 0), |share| (share.running, share.rows))
    }

    fn share(&mut self, owner: u64) -> &mut Share {
        self.owners.get_mut(&owner).expect("an owner of a sequence is known")
    }
}
