//! The table of tokens (id ↔ bytes) and the table of merges (pair of ids → rank, id).
//! Both are flat arrays with open addressing, so that 128 thousand tokens load in milliseconds.
//! Invariant: an id is below `IDS_MAX`, belongs to one token, and the ids are dense enough to index an array.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::error::{Result, invalid, quoted};

/// No tokenizer in use has more than a million tokens; the bound keeps an array by id small.
pub(super) const IDS_MAX: u32 = 1 << 22;
/// Longest token in bytes. Published ones end at a few hundred (runs of spaces and separators).
pub(super) const TOKEN_BYTES_MAX: usize = 1 << 14;
const EMPTY: u32 = u32::MAX;

/// Whether `encode` may find a token by its bytes, or only `decode` knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Ordinary tokens: the model's merges or lookups end in them.
    Model,
    /// Control tokens, byte tokens and added tokens: never the result of a merge.
    ByIdOnly,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

const ABSENT: Span = Span { start: u32::MAX, len: 0 };

/// Tokens by id and, for those the model may reach, by their bytes.
pub(super) struct Vocabulary {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    slots: Vec<u32>,
    used: usize,
    seed: u64,
    longest: usize,
    /// Bit per id: known by its id only, though it stands in the table.
    concealed: Vec<u64>,
    /// Tokens that other files of the folder have renamed.
    renamed: HashMap<u32, Box<[u8]>>,
}

impl Vocabulary {
    pub(super) fn with_capacity(tokens: usize, bytes: usize) -> Self {
        let slots = (tokens.min(IDS_MAX as usize) * 2).max(16).next_power_of_two();
        Vocabulary {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(tokens.min(IDS_MAX as usize)),
            slots: vec![EMPTY; slots],
            used: 0,
            seed: RandomState::new().hash_one(0u64) | 1,
            longest: 0,
            concealed: Vec::new(),
            renamed: HashMap::new(),
        }
    }

    /// Adds a token. The same id twice, or the same bytes twice among those the model reaches, is refused.
    pub(super) fn insert(&mut self, id: u32, token: &[u8], reach: Reach) -> Result<()> {
        self.store(id, token)?;
        match if reach == Reach::Model { self.index(id) } else { None } {
            None => Ok(()),
            Some(first) => {
                let shown = quoted(&String::from_utf8_lossy(token));
                let found = format!("in the vocabulary as {first} and {id}");
                Err(invalid(format!("token {shown}"), found, "one id"))
            }
        }
    }

    /// Adds a token that the model reaches, unless it reaches another of the same bytes: then this one is known by its
    /// id only. Files repeat texts of padding tokens.
    pub(super) fn insert_unless_known(&mut self, id: u32, token: &[u8]) -> Result<()> {
        self.store(id, token)?;
        self.index(id);
        Ok(())
    }

    fn store(&mut self, id: u32, token: &[u8]) -> Result<()> {
        let shown = || quoted(&String::from_utf8_lossy(token));
        if id >= IDS_MAX {
            return Err(invalid(
                format!("the id of token {}", shown()),
                id.to_string(),
                format!("less than {IDS_MAX}"),
            ));
        }
        if token.len() > TOKEN_BYTES_MAX {
            let wanted = format!("at most {TOKEN_BYTES_MAX} bytes");
            return Err(invalid(format!("token {id}"), format!("{} bytes long", token.len()), wanted));
        }
        if self.get(id).is_some() {
            return Err(invalid(format!("id {id}"), format!("given to {} and to another token", shown()), "one token"));
        }
        let index = id as usize;
        if self.spans.len() <= index {
            self.spans.resize(index + 1, ABSENT);
        }
        self.spans[index] = Span { start: self.bytes.len() as u32, len: token.len() as u32 };
        self.bytes.extend_from_slice(token);
        Ok(())
    }

    /// Lets the model reach a token; the one that has its bytes already stays, and is given.
    fn index(&mut self, id: u32) -> Option<u32> {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let token = self.stored(id).unwrap_or_default();
        let len = token.len();
        let mask = self.slots.len() - 1;
        let mut slot = hash(self.seed, token) as usize & mask;
        while self.slots[slot] != EMPTY {
            if self.stored(self.slots[slot]) == Some(token) {
                return Some(self.slots[slot]);
            }
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = id;
        self.used += 1;
        self.longest = self.longest.max(len);
        None
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![EMPTY; mask + 1];
        for &id in self.slots.iter().filter(|&&id| id != EMPTY) {
            let mut slot = hash(self.seed, self.stored(id).unwrap_or_default()) as usize & mask;
            while slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            slots[slot] = id;
        }
        self.slots = slots;
    }

    /// The token's bytes.
    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        if !self.renamed.is_empty()
            && let Some(token) = self.renamed.get(&id)
        {
            return Some(token);
        }
        self.stored(id)
    }

    fn stored(&self, id: u32) -> Option<&[u8]> {
        let span = self.spans.get(id as usize)?;
        if span.start == u32::MAX {
            return None;
        }
        Some(&self.bytes[span.start as usize..span.start as usize + span.len as usize])
    }

    /// The id of the token with exactly these bytes, among those that the model reaches.
    pub(super) fn find(&self, token: &[u8]) -> Option<u32> {
        if token.len() > self.longest {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash(self.seed, token) as usize & mask;
        while self.slots[slot] != EMPTY {
            if self.stored(self.slots[slot]) == Some(token) {
                return Some(self.slots[slot]).filter(|&id| !self.is_concealed(id));
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Gives other bytes to an id, which from now on is known by its id only.
    pub(super) fn rename(&mut self, id: u32, token: &[u8]) -> Result<()> {
        if self.get(id).is_none() {
            return self.insert(id, token, Reach::ByIdOnly);
        }
        // The table finds a token by its bytes, so the old ones stay where they are.
        self.conceal(id);
        self.renamed.insert(id, token.into());
        Ok(())
    }

    /// From now on no lookup by bytes finds this token.
    pub(super) fn conceal(&mut self, id: u32) {
        let word = id as usize / 64;
        if self.concealed.len() <= word {
            self.concealed.resize(word + 1, 0);
        }
        self.concealed[word] |= 1 << (id % 64);
    }

    fn is_concealed(&self, id: u32) -> bool {
        self.concealed.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// One more than the highest id.
    pub(super) fn size(&self) -> usize {
        self.spans.len()
    }

    /// How many tokens there are.
    pub(super) fn tokens(&self) -> usize {
        self.spans.iter().filter(|span| span.start != u32::MAX).count()
    }

    /// Ids and tokens that the model reaches, in the order of ids.
    pub(super) fn reachable(&self) -> Vec<u32> {
        let mut ids: Vec<u32> =
            self.slots.iter().copied().filter(|&id| id != EMPTY && !self.is_concealed(id)).collect();
        ids.sort_unstable();
        ids
    }

    /// Refuses vocabularies whose ids leave so many holes that an array by id would be a memory bomb.
    pub(super) fn check_dense(&self, tokens: usize) -> Result<()> {
        let limit = tokens.saturating_mul(16).saturating_add(1 << 16);
        if self.size() > limit {
            let found = format!("{} for {tokens} tokens", self.size() - 1);
            return Err(invalid("the highest token id", found, format!("at most {limit}")));
        }
        Ok(())
    }
}

/// Tokens in the order of their bytes, to find all that start a text.
pub(super) struct Prefixes {
    order: Vec<u32>,
    /// Where the tokens of each first byte begin in `order`.
    first: Box<[u32; 257]>,
}

impl Prefixes {
    /// Of all tokens that the model reaches and that have bytes.
    pub(super) fn new(words: &Vocabulary) -> Prefixes {
        let token = |id: u32| words.get(id).unwrap_or_default();
        let mut order: Vec<u32> = words.reachable().into_iter().filter(|&id| !token(id).is_empty()).collect();
        order.sort_unstable_by(|&a, &b| token(a).cmp(token(b)));
        let mut first = Box::new([0; 257]);
        for byte in 0..=256usize {
            first[byte] = order.partition_point(|&id| usize::from(token(id)[0]) < byte) as u32;
        }
        Prefixes { order, first }
    }

    /// Calls `each` with length and id of every token that `text` starts with, the shortest first.
    pub(super) fn each(&self, words: &Vocabulary, text: &[u8], mut each: impl FnMut(usize, u32)) {
        let Some(&byte) = text.first() else { return };
        let range = self.first[byte as usize] as usize..self.first[byte as usize + 1] as usize;
        let mut left = &self.order[range];
        let token = |id: u32| words.get(id).unwrap_or_default();
        for depth in 1.. {
            let Some(&shortest) = left.first() else { return };
            if token(shortest).len() == depth {
                each(depth, shortest);
                left = &left[1..];
            }
            let Some(&byte) = text.get(depth) else { return };
            let low = left.partition_point(|&id| token(id)[depth] < byte);
            let high = low + left[low..].partition_point(|&id| token(id)[depth] == byte);
            left = &left[low..high];
        }
    }
}

/// What becomes of two neighboring tokens: (rank, id of the merged token), by the pair of their ids.
pub(super) struct Pairs {
    slots: Vec<(u64, u32, u32)>,
    used: usize,
    seed: u64,
}

const NO_PAIR: u64 = u64::MAX;

impl Pairs {
    pub(super) fn with_capacity(pairs: usize) -> Self {
        let slots = (pairs.min(1 << 24) * 2).max(16).next_power_of_two();
        Pairs { slots: vec![(NO_PAIR, 0, 0); slots], used: 0, seed: RandomState::new().hash_one(1u64) | 1 }
    }

    /// A pair that is listed twice gets the later rank, as in the reference.
    pub(super) fn insert(&mut self, left: u32, right: u32, rank: u32, merged: u32) {
        assert!((self.used + 1) * 2 <= self.slots.len(), "the table was sized for its pairs");
        let key = u64::from(left) << 32 | u64::from(right);
        let mask = self.slots.len() - 1;
        let mut slot = mix(key ^ self.seed, self.seed) as usize & mask;
        while self.slots[slot].0 != NO_PAIR && self.slots[slot].0 != key {
            slot = (slot + 1) & mask;
        }
        self.used += usize::from(self.slots[slot].0 == NO_PAIR);
        self.slots[slot] = (key, rank, merged);
    }

    /// Rank, left and right of every pair, in no order.
    pub(super) fn listed(&self) -> Vec<(u32, u32, u32)> {
        let pairs = self.slots.iter().filter(|(key, _, _)| *key != NO_PAIR);
        pairs.map(|(key, rank, _)| (*rank, (key >> 32) as u32, *key as u32)).collect()
    }

    pub(super) fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let key = u64::from(left) << 32 | u64::from(right);
        let mask = self.slots.len() - 1;
        let mut slot = mix(key ^ self.seed, self.seed) as usize & mask;
        loop {
            let (found, rank, merged) = self.slots[slot];
            if found == key {
                return Some((rank, merged));
            }
            if found == NO_PAIR {
                return None;
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// High and low half of the 128-bit product, folded: every input bit reaches every output bit.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b ^ 0x9e37_79b9_7f4a_7c15);
    (product >> 64) as u64 ^ product as u64
}

/// Keyed, so that a file cannot choose tokens that collide.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        state = mix(state ^ word, seed);
    }
    let mut tail = [0u8; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(state ^ u64::from_le_bytes(tail), seed.rotate_left(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_bytes_and_by_id() {
        let mut table = Vocabulary::with_capacity(4, 16);
        for id in 0..5000u32 {
            table.insert(id, format!("token {id}").as_bytes(), Reach::Model).unwrap();
        }
        table.insert(6000, b"token 17", Reach::ByIdOnly).unwrap();
        assert_eq!(table.find(b"token 17"), Some(17));
        assert_eq!(table.get(6000), Some(&b"token 17"[..]));
        assert_eq!((table.find(b"token"), table.get(5500), table.size()), (None, None, 6001));
    }

    #[test]
    fn a_second_owner_of_an_id_or_a_text_is_refused() {
        let mut table = Vocabulary::with_capacity(4, 16);
        table.insert(0, b"a", Reach::Model).unwrap();
        assert!(table.insert(0, b"b", Reach::Model).is_err());
        assert!(table.insert(1, b"a", Reach::Model).is_err());
        assert!(table.insert(IDS_MAX, b"c", Reach::Model).is_err());
    }

    #[test]
    fn pairs_are_found() {
        let mut pairs = Pairs::with_capacity(1000);
        for rank in 0..1000 {
            pairs.insert(rank, rank + 1, rank, rank * 2);
        }
        assert_eq!((pairs.find(7, 8), pairs.find(8, 7)), (Some((7, 14)), None));
    }
}
