//! Pages of keys and values that outlive their sequence: which prefix each holds, who holds it, and which goes first.
//! Pure counts and names; the numbers themselves are the engine's.
//!
//! Invariant: a page is found only under what it was computed with. Digests lead to candidates; root, tokens and the page
//! before it are compared, so that two prefixes of one digest are never mixed up.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A digest of all that a page depends on.
pub type Key = [u8; 32];

/// Names a page that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

/// What a page holds: the tokens in it, after those before it, computed as the root says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageName {
    /// Digest of the root and of all tokens before this page.
    pub before: Key,
    /// Digest of `before` and the page's tokens.
    pub key: Key,
    /// All else that the numbers depend on: whose they are, the adapter, the regime of angles.
    pub root: Arc<[u8]>,
    /// The tokens; a page that is not full has fewer.
    pub tokens: Arc<[u32]>,
}

impl PageName {
    fn same(&self, other: &PageName) -> bool {
        self.tokens == other.tokens && self.root == other.root
    }
}

#[derive(Clone, Debug)]
struct Node {
    name: PageName,
    parent: Option<NodeId>,
    depth: usize,
    holders: usize,
    used: u64,
}

/// The kept pages.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    nodes: HashMap<NodeId, Node>,
    /// Pages by the digest of what stands before them.
    after: HashMap<Key, Vec<NodeId>>,
    /// Those that nobody holds, in the order in which they go: the longest unused, of a prefix its end first.
    idle: BTreeSet<(u64, Reverse<usize>, NodeId)>,
    next: u64,
    clock: u64,
}

/// What is known of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// Full pages, from the first on.
    pub nodes: Vec<NodeId>,
    /// The page after them that holds some of the next tokens, and how many of them.
    pub part: Option<(NodeId, usize)>,
}

impl Cache {
    /// The longest known beginning of a prompt, of at most `limit` positions.
    pub fn find(&self, names: &[PageName], page_tokens: usize, limit: usize) -> Hit {
        let mut hit = Hit::default();
        for (name, end) in names.iter().zip((page_tokens..).step_by(page_tokens)) {
            let parent = hit.nodes.last().copied();
            match self.child(parent, name).filter(|_| end <= limit && name.tokens.len() == page_tokens) {
                Some(node) => hit.nodes.push(node),
                None => {
                    hit.part = self.part(parent, name, limit + page_tokens - end);
                    break;
                }
            }
        }
        hit
    }

    /// The page after `parent` that begins with the most of a page's tokens.
    fn part(&self, parent: Option<NodeId>, name: &PageName, limit: usize) -> Option<(NodeId, usize)> {
        let same = |node: &Node| {
            let pairs = node.name.tokens.iter().zip(name.tokens.iter());
            pairs.take_while(|(one, other)| one == other).count().min(limit)
        };
        let after = self.after.get(&name.before)?.iter().map(|id| (*id, &self.nodes[id]));
        let after = after.filter(|(_, node)| node.parent == parent && node.name.root == name.root);
        after.map(|(id, node)| (id, same(node))).filter(|(_, same)| *same > 0).max_by_key(|(_, same)| *same)
    }

    /// The page after `parent` with exactly these tokens.
    pub fn child(&self, parent: Option<NodeId>, name: &PageName) -> Option<NodeId> {
        let fits = |id: &&NodeId| {
            let node = &self.nodes[*id];
            node.parent == parent && node.name.same(name)
        };
        self.after.get(&name.before)?.iter().find(fits).copied()
    }

    /// Keeps a page after `parent`; nobody holds it yet.
    pub fn insert(&mut self, parent: Option<NodeId>, name: PageName) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        let depth = parent.and_then(|parent| self.nodes.get(&parent)).map_or(0, |parent| parent.depth + 1);
        self.after.entry(name.before).or_default().push(id);
        self.nodes.insert(id, Node { name, parent, depth, holders: 0, used: self.clock });
        self.idle.insert((self.clock, Reverse(depth), id));
        id
    }

    /// One more holds the page.
    pub fn hold(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a page that is held is kept");
        self.idle.remove(&(node.used, Reverse(node.depth), id));
        node.holders += 1;
    }

    /// One fewer holds the page, which was of use until now.
    pub fn release(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a page that is held is kept");
        (node.holders, node.used) = (node.holders - 1, self.clock);
        if node.holders == 0 {
            self.idle.insert((node.used, Reverse(node.depth), id));
        }
    }

    /// Time passes: what is released from now on was used later.
    pub fn tick(&mut self) {
        self.clock += 1;
    }

    /// Forgets the page that was of no use for the longest time.
    pub fn evict(&mut self) -> Option<NodeId> {
        let (.., id) = self.idle.pop_first()?;
        let node = self.nodes.remove(&id).expect("an idle page is kept");
        let siblings = self.after.get_mut(&node.name.before).expect("a kept page is listed");
        siblings.retain(|other| *other != id);
        if siblings.is_empty() {
            self.after.remove(&node.name.before);
        }
        Some(id)
    }

    /// Whether the page is kept.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_key(&id)
    }

    /// Kept pages, held or not.
    pub fn kept(&self) -> usize {
        self.nodes.len()
    }

    /// Kept pages that nobody holds.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether nobody holds the page.
    pub fn is_idle(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.holders == 0)
    }

    /// How often each page is held, for tests.
    #[cfg(test)]
    pub fn holders(&self) -> impl Iterator<Item = (NodeId, usize)> + '_ {
        self.nodes.iter().map(|(id, node)| (*id, node.holders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the pages of two tokens, under a digest that is the same for all prefixes.
    fn names(root: &str, tokens: &[u32]) -> Vec<PageName> {
        let name = |part: &[u32]| PageName {
            before: [7; 32],
            key: [7; 32],
            root: root.as_bytes().into(),
            tokens: part.into(),
        };
        tokens.chunks(2).map(name).collect()
    }

    fn keep(cache: &mut Cache, names: &[PageName]) -> Vec<NodeId> {
        let mut kept: Vec<NodeId> = Vec::new();
        for name in names {
            let id = cache.insert(kept.last().copied(), name.clone());
            kept.push(id);
        }
        kept
    }

    #[test]
    fn one_digest_for_all_mixes_nothing_up() {
        let mut cache = Cache::default();
        let first = keep(&mut cache, &names("a", &[1, 2, 3, 4]));
        let second = keep(&mut cache, &names("a", &[5, 6, 3, 4]));
        let foreign = keep(&mut cache, &names("b", &[1, 2]));
        for (root, tokens, nodes, part) in [
            ("a", vec![1, 2, 3, 4, 9], first.clone(), None),
            ("a", vec![5, 6, 3, 4, 9], second.clone(), None),
            ("a", vec![5, 6, 3, 8, 9], vec![second[0]], Some((second[1], 1))),
            ("b", vec![1, 2, 3, 4, 9], foreign, None),
            ("c", vec![1, 2, 3, 4, 9], vec![], None),
            ("a", vec![3, 4, 1, 2], vec![], None),
        ] {
            assert_eq!(cache.find(&names(root, &tokens), 2, 100), Hit { nodes, part }, "{root} {tokens:?}");
        }
        // All but the last token are wanted: the page that holds it is of use in part.
        assert_eq!(
            cache.find(&names("a", &[1, 2, 3, 4]), 2, 3),
            Hit { nodes: vec![first[0]], part: Some((first[1], 1)) }
        );
    }

    #[test]
    fn the_end_of_what_was_longest_unused_goes_first_and_nothing_that_is_held() {
        let mut cache = Cache::default();
        let old = keep(&mut cache, &names("a", &[1, 2, 3, 4]));
        cache.tick();
        let new = keep(&mut cache, &names("a", &[5, 6]));
        cache.hold(old[0]);
        assert_eq!((cache.evict(), cache.evict(), cache.evict()), (Some(old[1]), Some(new[0]), None));
        cache.release(old[0]);
        assert_eq!((cache.kept(), cache.idle(), cache.evict(), cache.kept()), (1, 1, Some(old[0]), 0));
    }
}
