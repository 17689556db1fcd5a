//! Byte-pair encoding of one word: start from its bytes or characters, merge the neighbors of lowest rank, leftmost
//! first, until none merges. Splitting a text into words is not done here.
//! Invariant: n log n in the length of the word, whatever the word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::{Error, Result};
use super::vocabulary::{Pairs, Vocabulary};

/// How the rank of two neighbors is found.
pub(super) enum Merges {
    /// From a list of merges (tokenizer.json, GGUF `gpt2`).
    Listed(Pairs),
    /// Neighbors merge when their joined bytes are a token; its rank is given by id (tiktoken: the id itself,
    /// SentencePiece: place in the order of scores, equal scores sharing a place).
    Joined(Ranks),
}

/// Rank of a token by its id.
pub(super) enum Ranks {
    /// The id is the rank.
    Id,
    /// Rank at index id; `u32::MAX` never results from a merge.
    Table(Vec<u32>),
}

impl Ranks {
    /// Higher scores merge first, equal scores from left to right.
    pub(super) fn of_scores(scores: &[f32]) -> Ranks {
        let mut order: Vec<f32> = scores.to_vec();
        order.sort_unstable_by(|a, b| b.total_cmp(a));
        order.dedup();
        let place = |score: &f32| order.partition_point(|other| other.total_cmp(score).is_gt()) as u32;
        Ranks::Table(scores.iter().map(place).collect())
    }
}

/// What a word is made of before the first merge.
pub(super) enum Units {
    /// Bytes; the id of each byte, where it has one.
    Bytes(Box<[Option<u32>; 256]>),
    /// Characters.
    Characters,
}

/// What stands for a unit that is no token.
pub(super) enum Unknown {
    /// One byte token for each of its bytes.
    Bytes(Box<[u32; 256]>),
    /// This id, once for each unit.
    Each(u32),
    /// This id, once for each run of such units.
    Fused(u32),
    /// Nothing: the unit is dropped before the first merge, so that its neighbors meet, as the reference does for a
    /// vocabulary without an unknown token.
    Dropped,
    /// An error.
    Refused,
}

/// Whether a whole word that is a token is taken without looking at the merges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WholeWords {
    /// Llama 3's `ignore_merges`, and tiktoken.
    Taken,
    /// The merges decide.
    Merged,
}

/// A byte-pair encoder. Tokens are looked up in the vocabulary that is passed to each call.
pub(super) struct Bpe {
    pub(super) units: Units,
    pub(super) merges: Merges,
    pub(super) unknown: Unknown,
    pub(super) whole_words: WholeWords,
    /// Appended to the last unit of a word, `</w>` in CLIP; empty elsewhere.
    pub(super) suffix: String,
    /// Texts that are one unit and never merge (SentencePiece's user-defined pieces), longest first by first byte.
    pub(super) frozen: Option<super::added::Trie>,
}

const NONE: u32 = u32::MAX;
/// From this many units a heap is faster than looking at all of them for each merge.
const HEAP_FROM: usize = 24;

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    start: u32,
    end: u32,
    previous: u32,
    next: u32,
    /// Rank of the merge with `next`, and the id it gives; `NONE` when they do not merge.
    rank: u32,
    merged: u32,
}

/// Ids on their way out, each with the end of what it stands for in the piece that was encoded.
#[derive(Default)]
pub(super) struct Ids {
    pub(super) ids: Vec<u32>,
    pub(super) ends: Vec<usize>,
}

impl Ids {
    pub(super) fn push(&mut self, id: u32, end: usize) {
        self.ids.push(id);
        self.ends.push(end);
    }

    /// The last id stands for more.
    pub(super) fn stretch(&mut self, end: usize) {
        if let Some(last) = self.ends.last_mut() {
            *last = end;
        }
    }
}

/// Buffers kept from word to word.
#[derive(Default)]
pub(super) struct Scratch {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
    joined: Vec<u8>,
}

impl Bpe {
    /// Appends the ids of `word`.
    pub(super) fn encode(&self, words: &Vocabulary, word: &str, scratch: &mut Scratch, out: &mut Ids) -> Result<()> {
        if word.is_empty() {
            return Ok(());
        }
        if self.whole_words == WholeWords::Taken
            && let Some(id) = words.find(word.as_bytes())
        {
            out.push(id, word.len());
            return Ok(());
        }
        self.start(words, word, scratch);
        let count = scratch.symbols.len();
        for at in 0..count.saturating_sub(1) {
            self.rank(words, word.as_bytes(), &mut scratch.symbols, at);
        }
        if count < HEAP_FROM {
            self.merge_scanning(words, word.as_bytes(), scratch);
        } else {
            self.merge_with_heap(words, word.as_bytes(), scratch);
        }
        self.emit(word, scratch, out)
    }

    fn start(&self, words: &Vocabulary, word: &str, scratch: &mut Scratch) {
        scratch.symbols.clear();
        let mut at = 0;
        while at < word.len() {
            let (len, frozen) = self.unit(word, at);
            let end = at + len;
            let id = match &self.units {
                Units::Bytes(ids) if self.suffix.is_empty() || end < word.len() => ids[word.as_bytes()[at] as usize],
                _ if end == word.len() && !self.suffix.is_empty() => {
                    scratch.joined.clear();
                    scratch.joined.extend_from_slice(&word.as_bytes()[at..end]);
                    scratch.joined.extend_from_slice(self.suffix.as_bytes());
                    words.find(&scratch.joined)
                }
                _ => words.find(&word.as_bytes()[at..end]),
            };
            let is_dropped = id.is_none() && matches!(self.unknown, Unknown::Dropped);
            if is_dropped {
                at = end;
                continue;
            }
            let count = scratch.symbols.len() as u32;
            scratch.symbols.push(Symbol {
                id: id.unwrap_or(NONE),
                start: at as u32,
                end: end as u32,
                previous: count.wrapping_sub(1),
                next: count + 1,
                rank: NONE,
                merged: if frozen { FROZEN } else { NONE },
            });
            at = end;
        }
        if let Some(last) = scratch.symbols.last_mut() {
            last.next = NONE;
        }
    }

    fn unit(&self, word: &str, at: usize) -> (usize, bool) {
        if let Some(trie) = &self.frozen
            && let Some((len, _)) = trie.longest(&word.as_bytes()[at..])
        {
            return (len, true);
        }
        match &self.units {
            Units::Bytes(_) => (1, false),
            Units::Characters => (word[at..].chars().next().map_or(1, char::len_utf8), false),
        }
    }

    /// Notes in the symbol `at` what merging it with its right neighbor gives.
    fn rank(&self, words: &Vocabulary, word: &[u8], symbols: &mut [Symbol], at: usize) {
        let left = symbols[at];
        if left.merged == FROZEN {
            return;
        }
        (symbols[at].rank, symbols[at].merged) = (NONE, NONE);
        if left.next == NONE {
            return;
        }
        let right = symbols[left.next as usize];
        if right.merged == FROZEN {
            return;
        }
        let found = match &self.merges {
            Merges::Listed(pairs) if left.id != NONE && right.id != NONE => pairs.find(left.id, right.id),
            Merges::Listed(_) => None,
            Merges::Joined(ranks) => words
                .find(&word[left.start as usize..right.end as usize])
                .map(|id| match ranks {
                    Ranks::Id => (id, id),
                    Ranks::Table(table) => (table[id as usize], id),
                })
                .filter(|&(rank, _)| rank != NONE),
        };
        if let Some((rank, merged)) = found {
            (symbols[at].rank, symbols[at].merged) = (rank, merged);
        }
    }

    /// Merges `at` with its right neighbor and ranks the two pairs that this changes.
    fn merge(&self, words: &Vocabulary, word: &[u8], symbols: &mut [Symbol], at: usize) {
        let left = symbols[at];
        let right = symbols[left.next as usize];
        symbols[left.next as usize].rank = NONE;
        symbols[left.next as usize].merged = DEAD;
        symbols[at] = Symbol { id: left.merged, end: right.end, next: right.next, ..left };
        if right.next != NONE {
            symbols[right.next as usize].previous = at as u32;
        }
        self.rank(words, word, symbols, at);
        if left.previous != NONE {
            self.rank(words, word, symbols, left.previous as usize);
        }
    }

    fn merge_scanning(&self, words: &Vocabulary, word: &[u8], scratch: &mut Scratch) {
        loop {
            let symbols = &mut scratch.symbols;
            let Some(best) = (0..symbols.len()).min_by_key(|&at| symbols[at].rank) else { return };
            if symbols[best].rank == NONE {
                return;
            }
            self.merge(words, word, symbols, best);
        }
    }

    fn merge_with_heap(&self, words: &Vocabulary, word: &[u8], scratch: &mut Scratch) {
        let Scratch { symbols, heap, .. } = scratch;
        let entry = |symbols: &[Symbol], at: usize| Reverse(u64::from(symbols[at].rank) << 32 | at as u64);
        let mut entries = std::mem::take(heap).into_vec();
        entries.clear();
        entries.extend((0..symbols.len()).filter(|&at| symbols[at].rank != NONE).map(|at| entry(symbols, at)));
        *heap = BinaryHeap::from(entries);
        while let Some(Reverse(key)) = heap.pop() {
            let at = (key & u64::from(u32::MAX)) as usize;
            // An entry is stale when its pair has changed since; the pair's present rank has its own entry.
            if symbols[at].rank != (key >> 32) as u32 {
                continue;
            }
            self.merge(words, word, symbols, at);
            for changed in [at as u32, symbols[at].previous] {
                if changed != NONE && symbols[changed as usize].rank != NONE {
                    heap.push(entry(symbols, changed as usize));
                }
            }
        }
    }

    fn emit(&self, word: &str, scratch: &Scratch, out: &mut Ids) -> Result<()> {
        let mut at = if scratch.symbols.is_empty() { NONE } else { 0 };
        let mut after_unknown = false;
        while at != NONE {
            let symbol = scratch.symbols[at as usize];
            at = symbol.next;
            if symbol.id != NONE {
                out.push(symbol.id, symbol.end as usize);
                after_unknown = false;
                continue;
            }
            let unit = &word.as_bytes()[symbol.start as usize..symbol.end as usize];
            match &self.unknown {
                Unknown::Bytes(ids) => {
                    for (&byte, end) in unit.iter().zip(symbol.start as usize + 1..) {
                        out.push(ids[byte as usize], end);
                    }
                }
                Unknown::Each(id) => out.push(*id, symbol.end as usize),
                Unknown::Fused(id) if !after_unknown => out.push(*id, symbol.end as usize),
                Unknown::Fused(_) => out.stretch(symbol.end as usize),
                Unknown::Dropped => {}
                Unknown::Refused => return Err(Error::NoToken(String::from_utf8_lossy(unit).into_owned())),
            }
            after_unknown = true;
        }
        Ok(())
    }
}

/// Marks, in `Symbol::merged`, a unit that never merges and one that was merged into its left neighbor.
const FROZEN: u32 = u32::MAX - 1;
const DEAD: u32 = u32::MAX - 2;

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Reach;
    use super::*;

    /// Tokens are the words of `tokens`, ids their places; merges by joining, ranked by id.
    fn check(tokens: &str, word: &str, expect: &[u32]) {
        let mut words = Vocabulary::with_capacity(8, 64);
        for (id, token) in tokens.split(' ').enumerate() {
            words.insert(id as u32, token.as_bytes(), Reach::Model).unwrap();
        }
        let bpe = Bpe {
            units: Units::Characters,
            merges: Merges::Joined(Ranks::Id),
            unknown: Unknown::Refused,
            whole_words: WholeWords::Merged,
            suffix: String::new(),
            frozen: None,
        };
        let mut out = Ids::default();
        bpe.encode(&words, word, &mut Scratch::default(), &mut out).unwrap();
        assert_eq!(out.ids, expect, "{word:?} with {tokens:?}");
    }

    #[test]
    fn the_lowest_rank_merges_first_and_the_leftmost_of_equals() {
        check("a b c bc ab", "abc", &[0, 3]);
        check("a b c ab bc abc", "abc", &[5]);
        check("a aa", "aaaaa", &[1, 1, 0]);
        check("a aa", &"a".repeat(101), &[[1u32; 50].as_slice(), &[0]].concat());
        check("a b aa ab", &"aab".repeat(20), &[2, 1].repeat(20));
    }
}
