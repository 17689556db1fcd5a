//! What a repository has, as the hub lists it. Every name is judged before anything is fetched: one that could lead out
//! of a folder refuses the whole listing.

use serde_json::Value;

use pasture_files::error::quoted;
use pasture_files::folder::is_plain;

use super::error::{Error, Result};
use super::fetch::Checksum;
use super::http::{Client, Reply};
use super::url::encoded;
use crate::licence::Fields;

const FILES_MAX: usize = 65_536;
/// Folders above a file, and the file.
const PARTS_MAX: usize = 6;
const PATH_BYTES_MAX: usize = 1024;
/// Licences and bases that a card names.
const WORDS_MAX: usize = 16;

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path: plain parts between slashes.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub checksum: Checksum,
}

/// A repository at one commit.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<Listed>,
    /// What the hub says of its licence.
    pub licence: Fields,
    /// The repositories that it was made from, as its card says.
    pub bases: Vec<String>,
    pub gated: bool,
}

/// What a repository has at a revision.
pub(crate) fn listing(client: &Client, repo: &str, revision: &str) -> Result<Listing> {
    let url = client.network.endpoint.with(&format!("/api/models/{repo}/revision/{}?blobs=true", encoded(revision)));
    let what = format!("{repo}@{revision}");
    let value = client.json(&url, &what, |reply| refusal(client, repo, &what, reply))?;
    let unsound = |why: String| Error::Answer { host: url.host().to_owned(), what: what.clone(), why };
    read(&value).map_err(unsound)
}

/// What a status means for a repository.
pub(crate) fn refusal(client: &Client, repo: &str, what: &str, reply: &Reply) -> Error {
    let gated = || Error::Gated {
        repo: repo.to_owned(),
        page: client.network.endpoint.with(&format!("/{repo}")).text(),
        had_token: client.network.token.is_some(),
    };
    let host = || reply.url.host().to_owned();
    match (reply.status, reply.header("x-error-code")) {
        (401 | 403, Some("GatedRepo")) | (403, _) => gated(),
        (_, Some("RevisionNotFound")) => Error::NotThere { what: format!("revision {what}") },
        (_, Some("EntryNotFound")) => Error::NotThere { what: format!("file {what}") },
        (401, code) if code != Some("RepoNotFound") && client.network.token.is_some() => Error::Token { host: host() },
        (401 | 404, _) => Error::NotThere { what: format!("repository {repo}") },
        (status, _) => Error::Answer { host: host(), what: what.to_owned(), why: format!("status {status}") },
    }
}

/// Reads the hub's description of a repository.
///
/// # Errors
/// In words, what is wrong with it.
pub(crate) fn read(value: &Value) -> Result<Listing, String> {
    let commit = value.get("sha").and_then(Value::as_str).unwrap_or_default();
    let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    let rows = value.get("siblings").and_then(Value::as_array).ok_or("it has no list of files")?;
    if rows.len() > FILES_MAX {
        return Err(format!("it lists {} files, more than {FILES_MAX}", rows.len()));
    }
    for row in rows {
        let path = row.get("rfilename").and_then(Value::as_str).ok_or("a file has no name")?;
        if leads_elsewhere(path) {
            return Err(format!("it lists a file {} that would leave its folder", quoted(path)));
        }
    }
    if !is_commit {
        return Err(format!("its commit {} is none: 40 hexadecimal digits make one", quoted(commit)));
    }
    let gated = match value.get("gated") {
        None | Some(Value::Bool(false)) => false,
        Some(_) => true,
    };
    let (licence, bases) = (licence(value), words(value.pointer("/cardData/base_model")));
    // What has a name that no model's file has cannot be asked for, and is no fault: `.gitattributes` is everywhere.
    let files = rows.iter().filter_map(|row| file(row).transpose()).collect::<Result<Vec<_>, String>>()?;
    Ok(Listing { commit: commit.to_owned(), files, licence, bases, gated })
}

fn file(row: &Value) -> Result<Option<Listed>, String> {
    let path = row.get("rfilename").and_then(Value::as_str).unwrap_or_default();
    let parts = path.split('/').count();
    if parts > PARTS_MAX || !path.split('/').all(is_plain) {
        return Ok(None);
    }
    let apart = row.get("lfs").filter(|apart| apart.is_object());
    let size = apart.and_then(|apart| apart.get("size")).or_else(|| row.get("size")).and_then(Value::as_u64);
    let bytes = size.ok_or_else(|| format!("its file {path:?} has no size"))?;
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let checksum = match apart {
        Some(apart) => Checksum::sha256(&text(apart, "sha256")),
        None => Checksum::git(&text(row, "blobId")),
    };
    let checksum = checksum.ok_or_else(|| format!("its file {path:?} has no digest"))?;
    Ok(Some(Listed { path: path.to_owned(), bytes, checksum }))
}

/// What a repository's card or tags say of its licence.
fn licence(value: &Value) -> Fields {
    let card = |key: &str| words(value.get("cardData").and_then(|card| card.get(key)));
    let tags = value.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tagged = || tags.filter_map(|tag| tag.as_str()?.strip_prefix("license:")).map(shown).collect();
    let names = card("license");
    let one = |key: &str| card(key).into_iter().next();
    Fields {
        names: if names.is_empty() { tagged() } else { names },
        title: one("license_name"),
        link: one("license_link"),
    }
}

/// The licence that a repository's card or tags name, as they spell it.
pub(crate) fn license(value: &Value) -> Option<String> {
    licence(value).statements("").into_iter().next().map(|statement| statement.named)
}

/// A word, or a list of words.
fn words(value: Option<&Value>) -> Vec<String> {
    let list = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    list.iter().take(WORDS_MAX).filter_map(Value::as_str).map(shown).collect()
}

/// A text from anybody, as a terminal may show it.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

/// Whether a path could lead out of the folder that it is in, on any system.
fn leads_elsewhere(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let bad =
        |part: &str| part.is_empty() || part == "." || part == ".." || part.trim_end_matches(['.', ' ']).is_empty();
    path.len() > PATH_BYTES_MAX
        || path.split('/').any(bad)
        || path.contains(['\\', ':', '~', '．', '／', '＼', '\u{2024}', '\u{2025}', '\u{2044}', '\u{2215}'])
        || path.chars().any(char::is_control)
        || ["%2e", "%2f", "%5c"].iter().any(|code| lower.contains(code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(path: &str) -> Result<Listing, String> {
        let digest = "0".repeat(40);
        read(&json!({"sha": digest, "siblings": [{"rfilename": path, "size": 3, "blobId": digest}]}))
    }

    #[test]
    fn a_name_that_leads_elsewhere_refuses_the_listing() {
        let long = "a/".repeat(600) + "b";
        let bad = [
            "../a",
            "a/../../b",
            "/a",
            "..\\a",
            "C:\\a",
            "C:a",
            "\\\\h\\s",
            "a\0b",
            "",
            ".",
            "..",
            "http://h/a",
            "%2e%2e%2fa",
            "a//b",
            "a/",
            "~/a",
            "．．/a",
            "a\nb",
            "a/. /b",
            &long,
        ];
        for path in bad {
            assert!(listed(path).is_err_and(|why| why.contains("leave its folder")), "{path:?}");
        }
    }

    #[test]
    fn a_name_that_no_model_has_is_left_out() {
        for path in [".gitattributes", "a b.txt", "é.md", "a/b/c/d/e/f/g"] {
            assert_eq!(listed(path).map(|listing| listing.files), Ok(Vec::new()), "{path:?}");
        }
        for path in ["config.json", "1_Pooling/config.json", "a-00001-of-00002.gguf"] {
            assert_eq!(listed(path).map(|listing| listing.files.len()), Ok(1), "{path:?}");
        }
    }

    #[test]
    fn what_a_listing_lacks_is_said() {
        let digest = "0".repeat(40);
        let check = |value: Value, wanted: &str| {
            let why = read(&value).map(|_| ()).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        };
        check(json!([]), "no list of files");
        check(json!({"siblings": []}), "commit");
        check(json!({"sha": "../../x", "siblings": []}), "commit");
        check(json!({"sha": digest, "siblings": [{}]}), "no name");
        check(json!({"sha": digest, "siblings": [{"rfilename": "a"}]}), "no size");
        check(json!({"sha": digest, "siblings": [{"rfilename": "a", "size": -1}]}), "no size");
        check(json!({"sha": digest, "siblings": [{"rfilename": "a", "size": 1, "blobId": "../x"}]}), "no digest");
    }

    #[test]
    fn the_license_is_the_cards_or_the_tags() {
        let check = |value: Value, wanted: Option<&str>| assert_eq!(license(&value).as_deref(), wanted);
        check(json!({"cardData": {"license": "mit"}}), Some("mit"));
        check(json!({"cardData": {"license": "other", "license_name": "x"}, "tags": []}), Some("x"));
        check(json!({"tags": ["a", "license:gemma"]}), Some("gemma"));
        check(json!({"cardData": {"license": ["mit", "gemma"]}, "tags": ["license:x"]}), Some("mit"));
        check(json!({"cardData": {"license": "a\u{1b}[31m"}}), Some("a[31m"));
        check(json!({}), None);
    }
}
