//! Which bytes of a file are there: spans in order, none of them touching the next.

/// Spans of bytes, each from its first byte to one past its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// Adds a span; what overlaps or touches becomes one.
    pub fn add(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.0.partition_point(|span| span.1 < from);
        let after = self.0.partition_point(|span| span.0 <= to);
        let joined = self.0[first..after].iter().fold((from, to), |all, span| (all.0.min(span.0), all.1.max(span.1)));
        self.0.splice(first..after, [joined]);
    }

    /// How many bytes are there.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).sum()
    }

    /// The spans themselves.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// What is missing of so many bytes, in pieces of at most `piece` bytes.
    pub fn missing(&self, size: u64, piece: u64) -> Vec<(u64, u64)> {
        let mut pieces = Vec::new();
        let mut at = 0;
        for (from, to) in self.iter().chain([(size, size)]) {
            while at < from.min(size) {
                let end = from.min(size).min(at.saturating_add(piece));
                pieces.push((at, end));
                at = end;
            }
            at = at.max(to);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_become_one_where_they_meet() {
        let check = |adds: &[(u64, u64)], wanted: &[(u64, u64)]| {
            let mut spans = Spans::default();
            adds.iter().for_each(|(from, to)| spans.add(*from, *to));
            assert_eq!(spans.iter().collect::<Vec<_>>(), wanted, "{adds:?}");
            assert_eq!(spans.count(), wanted.iter().map(|(from, to)| to - from).sum::<u64>());
        };
        check(&[(0, 5), (5, 9)], &[(0, 9)]);
        check(&[(7, 9), (0, 2)], &[(0, 2), (7, 9)]);
        check(&[(0, 2), (4, 6), (8, 9), (1, 8)], &[(0, 9)]);
        check(&[(3, 3), (4, 2)], &[]);
        check(&[(2, 4), (0, 9)], &[(0, 9)]);
    }

    #[test]
    fn what_is_missing_comes_in_pieces() {
        let mut spans = Spans::default();
        assert_eq!(spans.missing(5, 2), [(0, 2), (2, 4), (4, 5)]);
        spans.add(1, 4);
        assert_eq!(spans.missing(9, 3), [(0, 1), (4, 7), (7, 9)]);
        spans.add(0, 20);
        assert_eq!(spans.missing(9, 3), []);
        assert_eq!(Spans::default().missing(0, 3), []);
    }

    #[test]
    fn spans_agree_with_a_row_of_flags() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut spans, mut flags) = (Spans::default(), [false; 40]);
            for _ in 0..next(12) {
                let from = next(40);
                let to = (from + next(9)).min(40);
                spans.add(from, to);
                flags[from as usize..to as usize].fill(true);
            }
            let missing: u64 = spans.missing(40, 3).iter().map(|(from, to)| to - from).sum();
            assert_eq!(spans.count(), flags.iter().filter(|flag| **flag).count() as u64);
            assert_eq!(missing, flags.iter().filter(|flag| !**flag).count() as u64);
        }
    }
}
