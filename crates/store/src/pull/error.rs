//! Why something could not be fetched: the network, the hub's answer, the disk, or what was asked for.

use pasture_files::error::quoted;

/// Why a pull or a search failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user wants no network.
    #[error(
        "{what} would have to be fetched, but HF_HUB_OFFLINE is set; unset it, or name a model that `pasture list` shows"
    )]
    Offline {
        /// What would be fetched.
        what: String,
    },
    /// A host cannot be reached, or breaks off again and again.
    #[error("{host} does not deliver {what}: {why}; what has arrived is kept, so try again later")]
    Network {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// What happened last.
        why: String,
    },
    /// The hub has no such repository, revision or file, or shows it to nobody without a token.
    #[error("the hub has no {what}; check the name, and set HF_TOKEN where it is private")]
    NotThere {
        /// What it lacks.
        what: String,
    },
    /// The repository is gated.
    #[error("{repo} is gated: accept its terms at {page} while signed in, then set HF_TOKEN to a token of that account{}", seen(*.had_token))]
    Gated {
        /// `owner/name`.
        repo: String,
        /// The page to visit.
        page: String,
        /// Whether a token was sent.
        had_token: bool,
    },
    /// The token is wrong.
    #[error("{host} refuses the token; check HF_TOKEN, or the file that HF_TOKEN_PATH names")]
    Token {
        /// Host and port.
        host: String,
    },
    /// The answer is not what the hub says by its own rules.
    #[error("{host} gives no sound answer for {what}: {why}")]
    Answer {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A whole file arrived and is not the one that the hub lists.
    #[error(
        "{file} is damaged: its digest is {found}, but the hub lists {wanted}; it is kept as {kept:?}; the next pull begins anew, and where that does not help, the hub has it wrong"
    )]
    Damaged {
        /// The file's path in its repository.
        file: String,
        /// What the hub lists.
        wanted: String,
        /// What arrived.
        found: String,
        /// Where it is kept.
        kept: String,
    },
    /// The disk cannot hold it.
    #[error("{folder} has {free} bytes free, but {needed} are needed; make room, or set HF_HUB_CACHE to another disk")]
    Space {
        /// The cache's folder.
        folder: String,
        /// Bytes that are still to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What was asked for cannot be chosen from what the repository has.
    #[error("{repo} has nothing to choose: {why}")]
    Choose {
        /// `owner/name`.
        repo: String,
        /// Why, and what there is instead.
        why: String,
    },
    /// A variable or file of settings says something that has no meaning.
    #[error("{name} {why}")]
    Setting {
        /// The variable, or the file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// No name.
    #[error("{} is no name to pull: {why}", quoted(.name))]
    BadName {
        /// What the user gave.
        name: String,
        /// What makes a name.
        why: String,
    },
    /// Another file of the store cannot be read or written.
    #[error(transparent)]
    File(#[from] pasture_files::Error),
    /// What was fetched is not found again.
    #[error(transparent)]
    Store(#[from] crate::Error),
}

/// The result of whatever is fetched.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn seen(had_token: bool) -> &'static str {
    if had_token { "; the token that is set now has no access" } else { "" }
}
