//! Names of models as users write them, and the only texts that become parts of paths: letters, digits and `._-`.

use pasture_files::folder::is_plain;

use crate::error::{Error, Result};

/// `[[host/]owner/]name[@revision][:part]`, where a part is a file or number format of a Hugging Face repository or a
/// tag of Ollama's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    text: String,
    /// One to three parts.
    path: Vec<String>,
    /// One or more plain parts.
    pub revision: Option<Vec<String>>,
    /// One or more plain parts.
    pub part: Option<Vec<String>>,
}

/// The host and owner that Ollama's short names leave out.
const OLLAMA_HOST: &str = "registry.ollama.ai";
const OLLAMA_OWNER: &str = "library";
const OLLAMA_TAG: &str = "latest";

/// As the Hugging Face hub has it.
const NAME_BYTES_MAX: usize = 96;
/// Parts of a revision or of a file's path.
const PARTS_MAX: usize = 6;

impl Name {
    /// Reads a name; anything that could lead elsewhere is refused.
    pub fn parse(text: &str) -> Result<Name> {
        let bad = |what: &str| Error::BadName { name: text.to_owned(), what: what.to_owned() };
        let (path, rest) = match text.find(['@', ':']) {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let (revision, part) = match rest.strip_prefix('@') {
            Some(rest) => {
                rest.split_once(':').map_or((Some(rest), None), |(revision, part)| (Some(revision), Some(part)))
            }
            None => (None, rest.strip_prefix(':')),
        };
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        if path.len() > 3 || !path.iter().all(|part| is_name(part)) {
            return Err(bad(
                "nothing is at that path, and [owner/]name[@revision][:part] of letters, digits and \"._-\" makes a name",
            ));
        }
        let parts = |text: &str, what: &str| {
            let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
            let good = parts.len() <= PARTS_MAX && parts.iter().all(|part| is_plain(part));
            good.then_some(parts).ok_or_else(|| bad(what))
        };
        let revision = revision.map(|text| parts(text, "what follows the @ is no revision")).transpose()?;
        let part = part.map(|text| parts(text, "what follows the : is no file, number format or tag")).transpose()?;
        Ok(Name { text: text.to_owned(), path, revision, part })
    }

    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Host, owner and name, as many as there are.
    pub fn path(&self) -> &[String] {
        &self.path
    }

    /// The name's last part where nothing stands before it.
    pub fn without_owner(&self) -> Option<&str> {
        match self.path.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// `owner/name`, or a name alone, as the Hugging Face hub has it.
    pub fn repository(&self) -> Option<String> {
        (self.path.len() <= 2).then(|| self.path.join("/"))
    }

    /// The repository's folder in a Hugging Face cache.
    pub fn hub_folder(&self) -> Option<String> {
        (self.path.len() <= 2).then(|| format!("models--{}", self.path.join("--")))
    }

    /// Host, owner, name and tag below Ollama's `manifests`.
    pub fn ollama_path(&self) -> Option<[String; 4]> {
        let tag = match self.part.as_deref() {
            None => OLLAMA_TAG,
            Some([tag]) => tag,
            Some(_) => return None,
        };
        let (host, owner, name) = match self.path.as_slice() {
            [name] => (OLLAMA_HOST, OLLAMA_OWNER, name),
            [owner, name] => (OLLAMA_HOST, owner.as_str(), name),
            [host, owner, name] => (host.as_str(), owner.as_str(), name),
            _ => return None,
        };
        self.revision.is_none().then(|| [host, owner, name, tag].map(str::to_owned))
    }

    /// How a user writes a manifest's path.
    pub fn of_ollama([host, owner, name, tag]: &[String; 4]) -> String {
        let tag = if tag == OLLAMA_TAG { String::new() } else { format!(":{tag}") };
        match (host.as_str(), owner.as_str()) {
            (OLLAMA_HOST, OLLAMA_OWNER) => format!("{name}{tag}"),
            (OLLAMA_HOST, _) => format!("{owner}/{name}{tag}"),
            _ => format!("{host}/{owner}/{name}{tag}"),
        }
    }

    /// How a user writes a repository's folder; none for a folder that no model has.
    pub fn of_hub(folder: &str) -> Option<String> {
        let name = folder.strip_prefix("models--")?.replacen("--", "/", 1);
        let good = name.split('/').all(is_name) && !name.contains("--");
        good.then_some(name)
    }
}

/// Whether a text is an owner's or a model's name: plain, no dash or dot at its ends, none of them doubled, since two
/// dashes divide the parts of a folder's name.
pub(crate) fn is_name(text: &str) -> bool {
    let edge = |text: &str| text.starts_with(['-', '.']) || text.ends_with(['-', '.']);
    is_plain(text) && text.len() <= NAME_BYTES_MAX && !edge(text) && !text.contains("--") && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, hub: Option<&str>, ollama: Option<&str>) {
        let name = Name::parse(text).unwrap();
        assert_eq!(name.hub_folder().as_deref(), hub, "{text}");
        assert_eq!(name.ollama_path().map(|path| path.join("/")).as_deref(), ollama, "{text}");
    }

    #[test]
    fn one_name_is_read_for_every_place() {
        check("gpt2", Some("models--gpt2"), Some("registry.ollama.ai/library/gpt2/latest"));
        check("qwen3:0.6b", Some("models--qwen3"), Some("registry.ollama.ai/library/qwen3/0.6b"));
        check("a/b", Some("models--a--b"), Some("registry.ollama.ai/a/b/latest"));
        check("a/b@refs/pr/1", Some("models--a--b"), None);
        check("a/b:q4/x.gguf", Some("models--a--b"), None);
        check("hf.co/a/b:Q4_K_M", None, Some("hf.co/a/b/Q4_K_M"));
    }

    #[test]
    fn revision_and_part_stand_behind_the_name() {
        let check = |text: &str, revision: Option<&str>, part: Option<&str>| {
            let name = Name::parse(text).unwrap();
            let joined = |parts: &Option<Vec<String>>| parts.as_ref().map(|parts| parts.join("/"));
            assert_eq!((joined(&name.revision).as_deref(), joined(&name.part).as_deref()), (revision, part), "{text}");
        };
        check("a/b@main:Q4_K_M", Some("main"), Some("Q4_K_M"));
        check("a/b@refs/pr/1:d/x.gguf", Some("refs/pr/1"), Some("d/x.gguf"));
        check("a/b:Q8_0", None, Some("Q8_0"));
    }

    #[test]
    fn names_read_both_ways() {
        for folder in ["models--gpt2", "models--a--b", "models--a--b_c.d-e"] {
            let name = Name::of_hub(folder).unwrap();
            assert_eq!(Name::parse(&name).unwrap().hub_folder().as_deref(), Some(folder));
        }
        for folder in ["models--", "datasets--a--b", "models--a--b--c", "models---a", "models--a--..", "version.txt"] {
            assert_eq!(Name::of_hub(folder), None, "{folder}");
        }
        for name in ["a", "a:b", "a/b:c", "h.co/a/b", "h.co/a/b:c"] {
            assert_eq!(Name::of_ollama(&Name::parse(name).unwrap().ollama_path().unwrap()), name);
        }
    }

    #[test]
    fn nothing_that_leads_elsewhere_is_a_name() {
        let long = "a".repeat(97);
        let bad = [
            "",
            ".",
            "..",
            "/",
            "/etc",
            "../a",
            "a/../b",
            "a/..",
            "./a",
            "a/",
            "a//b",
            "a/b/c/d",
            "~/a",
            "a\\b",
            "C:\\a",
            "\\\\h\\s",
            "a\0",
            "a\nb",
            "a b",
            "http://h/a",
            "%2e%2e/a",
            "．．/a",
            "-a",
            "a-",
            "a--b",
            "a..b",
            ".a",
            "a@",
            "a:",
            "a@..",
            "a:..",
            "a:../b",
            "a@/x",
            "a:/x",
            "a:x//y",
            "a@m:",
            "a:b:c",
            "a@b@c",
            "a:CON:s",
            "é",
            &long,
        ];
        for text in bad {
            assert!(matches!(Name::parse(text), Err(Error::BadName { .. })), "{text:?}");
        }
    }
}
