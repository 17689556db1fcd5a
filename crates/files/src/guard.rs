//! Calls into readers of other people's that panic on a broken file where they should return an error.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would become an error; a panic hook says nothing then.
pub fn is_guarded() -> bool {
    GUARDED.with(Cell::get)
}

/// What `work` returns, or none where it panicked. What it worked on must not be used again then.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let made = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    made.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_none_and_the_guard_ends() {
        assert_eq!(guarded(|| usize::from(is_guarded())), Some(1));
        assert_eq!(
            guarded(|| if is_guarded() {
                panic!("as a reader does")
            }),
            None
        );
        assert!(!is_guarded());
    }
}
