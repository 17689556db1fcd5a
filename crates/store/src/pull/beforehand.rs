//! What is read of a repository before its files are fetched: what its assistant names, and on which terms it comes. Only
//! small files are read, each compared with its digest, and nothing is written.

use pasture_files::folder::read_file;
use pasture_files::size::Size;

use super::cache::Cached;
use super::error::{Error, Result};
use super::http::Client;
use super::listing::{self, Listed, Listing};
use super::url::{Url, encoded};
use crate::assistant::{FILE, Mentioned};
use crate::licence::{self, Terms};

/// Longest file that is read beforehand.
const BYTES_MAX: u64 = 4 << 20;
/// What stands for a licence that is told only to those who were let in.
const BEHIND_A_GATE: &str = "the terms of its page";

/// A repository at one commit.
pub(crate) struct Seen<'a> {
    pub client: &'a Client,
    pub repo: &'a str,
    pub listing: &'a Listing,
    pub cached: &'a Cached,
}

impl Seen<'_> {
    /// What the repository's assistant names; none where it has no assistant.
    pub fn assistant(&self) -> Result<Option<Mentioned>> {
        let Some(bytes) = self.small(FILE)? else { return Ok(None) };
        let why = |why: String| Error::Choose { repo: self.repo.to_owned(), why: format!("its {FILE:?}: {why}") };
        Mentioned::read(&bytes).map(Some).map_err(why)
    }

    /// The terms that it names: by the hub's own words, else by its card, else by the texts of licences in it. What a
    /// repository is known to be under holds beside that, and so does what its bases are known to be under.
    pub fn terms(&self) -> Result<Terms> {
        let mut stated = self.listing.licence.clone().statements("the hub");
        let mut hidden = false;
        if stated.is_empty() {
            let root = self.listing.files.iter().map(|file| file.path.clone()).filter(|path| !path.contains('/'));
            let mut read = |name: &str| -> Result<Option<String>> {
                Ok(self.small(name)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            };
            stated = match licence::of_files(root.collect(), &mut read) {
                Ok(found) => found,
                Err(Error::Gated { .. } | Error::Token { .. }) => {
                    hidden = true;
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
        }
        let mut terms = Terms::of(&stated);
        let known = std::iter::once(self.repo).chain(self.listing.bases.iter().map(String::as_str));
        known.filter_map(licence::of_repository).for_each(|licence| terms.add(licence));
        if hidden && terms.is_empty() {
            terms.add_named(BEHIND_A_GATE);
        }
        Ok(terms)
    }

    /// A small file; none where there is no such file, or a longer one. What is here is not asked for.
    fn small(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.listing.files.iter().find(|file| file.path == path && file.bytes <= BYTES_MAX) else {
            return Ok(None);
        };
        let here = read_file(&self.cached.blobs().join(file.checksum.digits()), Size::new(BYTES_MAX));
        if let Some(bytes) = here.ok().filter(|bytes| file.checksum.fits(bytes)) {
            return Ok(Some(bytes));
        }
        self.asked(file).map(Some)
    }

    fn asked(&self, file: &Listed) -> Result<Vec<u8>> {
        let what = format!("{}/{}", self.repo, file.path);
        let url = address(self.client, self.repo, &self.listing.commit, &file.path);
        let refused = |reply: &super::http::Reply| listing::refusal(self.client, self.repo, &what, reply);
        self.client.small(&url, &what, "*/*", refused, |bytes| match file.checksum.fits(&bytes) {
            true => Ok(bytes),
            false => Err(format!("its digest is not {}", file.checksum.digits())),
        })
    }
}

/// Where a file of a repository is fetched from.
pub(crate) fn address(client: &Client, repo: &str, commit: &str, path: &str) -> Url {
    let path: Vec<String> = path.split('/').map(encoded).collect();
    client.network.endpoint.with(&format!("/{repo}/resolve/{commit}/{}", path.join("/")))
}
