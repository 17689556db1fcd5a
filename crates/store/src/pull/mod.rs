//! Getting a model: what a name means on the hub, which files that needs, and fetching them into the Hugging Face cache,
//! where every other program finds them. The only part of the store that uses the network.

mod beforehand;
mod cache;
mod choose;
mod error;
mod fetch;
pub(crate) mod http;
mod images;
mod listing;
mod mend;
mod network;
pub(crate) mod partial;
mod ranges;
mod search;
mod spans;
pub(crate) mod url;
mod workers;

use std::path::{Path, PathBuf};

pub use choose::{fits, liking};
pub use error::{Error, Result};
pub use fetch::{Checksum, Step};
pub use listing::Listed;
pub use network::{Network, Patience};
pub use search::Hit;

use crate::Digest;
use crate::environment::Environment;
use crate::ledger::{self, Ledger};
use crate::licence::Terms;
use crate::name::Name;
use beforehand::{Seen, address};
use cache::Cached;
use fetch::Room;
use http::Client;
use ranges::Source;

/// What is wanted of a repository beyond its name.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// A branch, tag or commit; `main` where nothing is said.
    pub revision: Option<String>,
    /// Patterns of paths: exactly these files.
    pub include: Vec<String>,
    /// Bytes of memory that a model may take, for choosing among several.
    pub memory: Option<u64>,
}

/// What would be fetched.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What [`crate::resolve`] finds it by, afterwards.
    pub name: String,
    /// `owner/name`.
    pub repo: String,
    /// The revision that was asked for.
    pub revision: String,
    /// The commit that it is.
    pub commit: String,
    /// The files.
    pub files: Vec<Planned>,
    /// Why these files, in one line.
    pub why: String,
    /// The licence that the hub names, as it spells it.
    pub license: Option<String>,
    /// The terms that it comes on, as far as it says.
    pub terms: Terms,
    /// Whether its terms must be accepted first.
    pub gated: bool,
    /// Where it will be: the snapshot's folder.
    pub folder: PathBuf,
}

/// A file of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The file.
    pub file: Listed,
    /// Bytes of it that are on this machine.
    pub here: u64,
}

impl Plan {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|planned| planned.file.bytes).sum()
    }

    /// Bytes that are not here yet.
    pub fn missing(&self) -> u64 {
        self.files.iter().map(|planned| planned.file.bytes.saturating_sub(planned.here)).sum()
    }
}

/// The hub, as the user's settings reach it.
pub struct Hub {
    client: Client,
}

impl Hub {
    /// The hub of a network. Nothing is sent yet.
    pub fn new(network: &Network) -> Result<Hub> {
        Ok(Hub { client: Client::new(network)? })
    }

    /// What a name means there, and which of its files are needed.
    pub fn plan(&self, name: &str, wish: &Wish) -> Result<Plan> {
        let target = crate::alias::find(&self.client.network.environment, name)?;
        let name = target.as_deref().unwrap_or(name);
        let parsed = parse(name)?;
        let repo = parsed.repository().ok_or_else(|| bad_name(name, "owner/name is what the hub has"))?;
        let network = &self.client.network;
        let hub = network.environment.hub().ok_or_else(|| Error::Setting {
            name: "HF_HUB_CACHE".into(),
            why: "is not set, and there is no home folder; set it to the folder of the cache".into(),
        })?;
        let revision = wish.revision.clone().or_else(|| parsed.revision.as_ref().map(|parts| parts.join("/")));
        let revision = revision.unwrap_or_else(|| "main".to_owned());
        let listing = listing::listing(&self.client, &repo, &revision)?;
        let cached = Cached::new(hub, &repo);
        let seen = Seen { client: &self.client, repo: &repo, listing: &listing, cached: &cached };
        let part = parsed.part.as_ref().map(|parts| parts.join("/"));
        let is_chosen = part.is_some() || !wish.include.is_empty();
        let assistant = if is_chosen { None } else { seen.assistant()? };
        let asked = choose::Asked {
            part: part.as_deref(),
            include: &wish.include,
            memory: wish.memory,
            assistant: assistant.as_ref(),
        };
        let choice = choose::choose(&listing.files, &asked).map_err(|why| Error::Choose { repo: repo.clone(), why })?;
        let terms = seen.terms()?;
        let blobs = cached.blobs();
        let here = |file: &Listed| {
            let digits = file.checksum.digits();
            let whole = std::fs::metadata(blobs.join(digits)).is_ok_and(|blob| blob.len() == file.bytes);
            if whole { file.bytes } else { partial::Partial::left(&blobs, digits, file.bytes) }
        };
        let files = choice.files.into_iter().map(|file| Planned { here: here(&file), file }).collect();
        let at = if revision == "main" { String::new() } else { format!("@{revision}") };
        let of = choice.part.map_or(String::new(), |part| format!(":{part}"));
        Ok(Plan {
            name: format!("{repo}{at}{of}"),
            folder: cached.snapshot(&listing.commit),
            repo,
            revision,
            commit: listing.commit,
            files,
            why: choice.why,
            license: listing.licence.statements("the hub").into_iter().next().map(|statement| statement.named),
            terms,
            gated: listing.gated,
        })
    }

    /// Fetches what a plan lacks. `watch` hears which file is at what.
    pub fn fetch(&self, plan: &Plan, watch: &mut dyn FnMut(&Listed, Step)) -> Result<()> {
        let hub = self.client.network.environment.hub().ok_or_else(|| bad_name(&plan.repo, "there is no cache"))?;
        let cached = Cached::new(hub, &plan.repo);
        let (blobs, locks) = (cached.blobs(), cached.locks().to_owned());
        fetch::has_space(&blobs, plan.missing())?;
        let mut arrived = Vec::new();
        for planned in &plan.files {
            let file = &planned.file;
            let was_here = blobs.join(file.checksum.digits()).exists();
            let what = format!("{}/{}", plan.repo, file.path);
            let source = Source {
                url: address(&self.client, &plan.repo, &plan.commit, &file.path),
                size: file.bytes,
                what: &what,
                authorization: None,
                refused: &|reply| listing::refusal(&self.client, &plan.repo, &what, reply),
            };
            let room = Room { blobs: &blobs, locks: &locks, name: file.checksum.digits() };
            fetch::file(&self.client, &source, &file.checksum, &room, &mut |step| watch(file, step))?;
            arrived.extend((!was_here).then(|| found_right(&blobs, &file.checksum)).flatten());
        }
        if !arrived.is_empty() {
            // What is not noted is read once more before it is first loaded, and nothing else comes of it.
            let _ = Ledger::open_in(&self.client.network.environment).and_then(|mut ledger| {
                ledger.change(|change| arrived.iter().try_for_each(|seen| change.put_seen(seen)))
            });
        }
        let links: Vec<(&str, &str)> =
            plan.files.iter().map(|planned| (planned.file.path.as_str(), planned.file.checksum.digits())).collect();
        cached.publish(&plan.revision, &plan.commit, &links)
    }

    /// Repositories of models that have these words in their names, the most downloaded first.
    pub fn search(&self, words: &str, limit: usize) -> Result<Vec<Hit>> {
        search::search(&self.client, words, limit)
    }

    /// Fetches a model from an OCI registry, named behind `oci:`, into a folder laid out as Ollama's, and gives the name
    /// that it has there, and its manifest. Without a folder it is Ollama's own. `watch` hears of each layer's digest,
    /// size and step.
    pub fn fetch_image(
        &self,
        name: &str,
        to: Option<&Path>,
        watch: &mut dyn FnMut(&str, u64, Step),
    ) -> Result<(String, PathBuf)> {
        let image = images::Image::parse(name).map_err(|why| bad_name(name, &why))?;
        let root = to.or_else(|| self.client.network.environment.ollama().first().map(PathBuf::as_path));
        let root = root.ok_or_else(|| bad_name(name, "there is no folder for it: set OLLAMA_MODELS"))?;
        let manifest = images::from_registry(&self.client, &image, root, watch)?;
        Ok((image.name(), manifest))
    }
}

/// How a file looks whose digest was just found right; none of a small one.
fn found_right(blobs: &Path, checksum: &fetch::Checksum) -> Option<ledger::Seen> {
    let fetch::Checksum::Sha256(digits) = checksum else { return None };
    let path = blobs.join(digits).canonicalize().ok()?;
    let stamp = ledger::Stamp::of(&path.metadata().ok()?);
    path.to_str()?;
    Some(ledger::Seen { path, digest: Digest::parse_hex(digits).ok()?, quick: None, stamp })
}

/// What a name stands for where it is an alias.
pub fn alias(environment: &Environment, name: &str) -> Result<Option<String>> {
    Ok(crate::alias::find(environment, name)?)
}

/// Copies a model from a folder in the OCI layout, as a remote side would answer, verified by its digests, and gives the
/// place of its manifest.
pub fn copy_image(from: &Path, to: &Path) -> Result<PathBuf> {
    images::check_listing(from)?;
    images::from_folder(from, to)
}

/// The terms of a model of a registry that is here, by its manifest: what its texts of licences say, and the keys of its
/// weights.
pub fn terms_of_image(manifest: &Path) -> Result<Terms> {
    images::terms(manifest)
}

fn parse(name: &str) -> Result<Name> {
    let text = name.strip_prefix("hf:").unwrap_or(name);
    Name::parse(text).map_err(|fault| bad_name(name, &fault.to_string()))
}

fn bad_name(name: &str, why: &str) -> Error {
    Error::BadName { name: name.to_owned(), why: why.to_owned() }
}
