//! Prompt lookup: where the last tokens of a sequence stood before in it, what followed them may follow again.
//! Whether that pays is `pace.rs`'s matter.

use super::pace::Kind;

/// Tokens that are compared backwards at most.
const LONGEST: usize = 8;
/// How far back is looked: 32 thousand tokens are compared in some ten microseconds.
const FAR: usize = 1 << 15;

/// A place in a sequence that is like its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Position of the token that followed.
    from: usize,
    /// How many tokens before it are the sequence's last ones.
    length: usize,
}

/// The place like a sequence's end that agrees for the longest, of these the latest; at least two tokens do.
pub(crate) fn find(ids: &[u32]) -> Option<Found> {
    let (&last, before) = ids.split_last()?;
    let &second = before.last()?;
    let mut best: Option<Found> = None;
    for end in (ids.len().saturating_sub(FAR).max(2)..ids.len()).rev() {
        if ids[end - 1] != last || ids[end - 2] != second {
            continue;
        }
        let pairs = ids[..end].iter().rev().zip(ids.iter().rev());
        let length = pairs.take(LONGEST).take_while(|(one, other)| one == other).count();
        if best.is_none_or(|best| length > best.length) {
            best = Some(Found { from: end, length });
        }
        if length == LONGEST {
            break;
        }
    }
    best
}

impl Found {
    /// How much such a place is trusted.
    pub(crate) fn kind(&self) -> Kind {
        match self.length {
            ..=2 => Kind::Pair,
            3..=4 => Kind::Triple,
            _ => Kind::Long,
        }
    }

    /// The tokens that followed. Where they run into the sequence's end they go on with what is proposed: a text that
    /// goes in circles goes on so.
    pub(crate) fn tokens(&self, ids: &[u32], count: usize) -> Vec<u32> {
        ids[self.from..].iter().copied().cycle().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ids: &[u32], count: usize, wanted: Option<(usize, &[u32])>) {
        let found = find(ids).map(|found| (found.length, found.tokens(ids, count)));
        assert_eq!(found, wanted.map(|(length, tokens)| (length, tokens.to_vec())), "{ids:?}");
    }

    #[test]
    fn what_followed_the_longest_like_place_is_proposed() {
        check(&[], 3, None);
        check(&[1], 3, None);
        check(&[1, 1], 3, None);
        check(&[1, 2, 3, 4], 3, None);
        check(&[1, 2, 9, 8, 1, 2], 2, Some((2, &[9, 8])));
        // The latest of two that agree equally.
        check(&[1, 2, 9, 1, 2, 7, 1, 2], 1, Some((2, &[7])));
        // An earlier one that agrees for longer.
        check(&[5, 1, 2, 9, 1, 2, 7, 5, 1, 2], 1, Some((3, &[9])));
        check(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1, Some((8, &[10])));
    }

    #[test]
    fn a_text_in_circles_goes_on_in_circles() {
        check(&[7, 7, 7], 4, Some((2, &[7, 7, 7, 7])));
        check(&[1, 2, 3, 1, 2, 3, 1, 2], 5, Some((5, &[3, 1, 2, 3, 1])));
    }
}
