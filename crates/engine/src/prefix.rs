//! Names of pages of keys and values: digests of all that they were computed from, chained from page to page.
//! The engine's cache compares what they stand for as well (`scheduler/cache.rs`).

use std::sync::Arc;

use pasture_tensor::Adapter;
use sha2::{Digest, Sha256};

use crate::scheduler::cache::{Key, PageName};

/// What the numbers of a request's pages depend on besides the tokens. The model and the format of its keys and values
/// are the engine's, and the cache is as well.
pub(crate) fn root(scope: &str, adapter: Option<&Arc<Adapter>>, regime: u64) -> Arc<[u8]> {
    let mut root = Vec::with_capacity(scope.len() + 17);
    root.extend(regime.to_le_bytes());
    // One more than its number, so that none is not the first.
    root.extend(adapter.map_or(0, |adapter| adapter.id() + 1).to_le_bytes());
    root.extend(scope.as_bytes());
    root.into()
}

/// The owner as a number.
pub(crate) fn owner(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// The name of the page with these tokens after the page `before`, or as the first.
pub(crate) fn name(root: &Arc<[u8]>, before: Option<&PageName>, tokens: &[u32]) -> PageName {
    let before: Key = before.map_or_else(|| Sha256::digest(root).into(), |before| before.key);
    let mut digest = Sha256::new_with_prefix(before);
    tokens.iter().for_each(|token| digest.update(token.to_le_bytes()));
    PageName { before, key: digest.finalize().into(), root: root.clone(), tokens: tokens.into() }
}

/// The names of the pages of a prompt, the last perhaps not full.
pub(crate) fn names(root: &Arc<[u8]>, ids: &[u32], page_tokens: usize) -> Vec<PageName> {
    let mut names: Vec<PageName> = Vec::with_capacity(ids.len().div_ceil(page_tokens));
    for tokens in ids.chunks(page_tokens) {
        let name = name(root, names.last(), tokens);
        names.push(name);
    }
    names
}
