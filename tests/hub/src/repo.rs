//! Repositories of the hub: files with both digests, a commit that follows from them, and what the hub tells about them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::content::{Content, git_sha1, sha256};

/// Whom a repository is open to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Everybody.
    Open,
    /// Those whose token was let in; others see that it is there.
    Gated,
    /// Its owner; others see nothing.
    Private,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What it holds.
    pub content: Content,
    /// Whether it is kept apart from git, as large files are.
    pub large: bool,
    /// SHA-256 for a large file.
    pub sha256: String,
    /// The digest that git has: for a large file that of its pointer.
    pub oid: String,
}

/// A repository of a model.
#[derive(Clone, Debug)]
pub struct Repo {
    /// `owner/name`.
    pub name: String,
    /// Whom it is open to.
    pub gate: Gate,
    /// The commit of every revision.
    pub commit: String,
    /// Files by path.
    pub files: BTreeMap<String, Stored>,
    /// Tags, such as `license:mit`.
    pub tags: Vec<String>,
}

impl Repo {
    /// An open repository without files.
    pub fn new(name: &str) -> Repo {
        let tags = vec!["text-generation".to_owned()];
        let mut repo =
            Repo { name: name.to_owned(), gate: Gate::Open, commit: String::new(), files: BTreeMap::new(), tags };
        repo.commit();
        repo
    }

    /// The same for others than everybody.
    #[must_use]
    pub fn gate(mut self, gate: Gate) -> Repo {
        self.gate = gate;
        self
    }

    /// The same with a tag.
    #[must_use]
    pub fn tag(mut self, tag: &str) -> Repo {
        self.tags.push(tag.to_owned());
        self
    }

    /// The same with a small file.
    #[must_use]
    pub fn small(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Repo {
        self.add(path, Content::of(bytes), false);
        self
    }

    /// The same with a large file.
    #[must_use]
    pub fn large(mut self, path: &str, content: Content) -> Repo {
        self.add(path, content, true);
        self
    }

    /// Adds or replaces a file, and moves on to the commit that has it.
    pub fn add(&mut self, path: &str, content: Content, large: bool) {
        let sha256 = sha256(&content);
        let oid = match large {
            false => git_sha1(&content),
            true => {
                let version = "version https://git-lfs.github.com/spec/v1";
                let pointer = format!("{version}\noid sha256:{sha256}\nsize {}\n", content.length());
                git_sha1(&Content::of(pointer))
            }
        };
        self.files.insert(path.to_owned(), Stored { content, large, sha256, oid });
        self.commit();
    }

    fn commit(&mut self) {
        let listing: String = self.files.iter().map(|(path, file)| format!("{path} {}\n", file.oid)).collect();
        self.commit = git_sha1(&Content::of(format!("{}\n{listing}", self.name)));
    }

    /// What `/api/models/NAME` says.
    pub fn info(&self, with_blobs: bool) -> Value {
        let sibling = |(path, file): (&String, &Stored)| {
            let mut row = json!({"rfilename": path});
            if with_blobs {
                row["blobId"] = json!(file.oid);
                row["size"] = json!(file.content.length());
                if file.large {
                    row["lfs"] = json!({"sha256": file.sha256, "size": file.content.length(), "pointerSize": 134});
                }
            }
            row
        };
        let siblings: Vec<Value> = self.files.iter().map(sibling).collect();
        let license = self.tags.iter().find_map(|tag| tag.strip_prefix("license:"));
        json!({
            "_id": "0123456789abcdef01234567", "id": self.name, "modelId": self.name, "sha": self.commit,
            "private": self.gate == Gate::Private, "disabled": false,
            "gated": if self.gate == Gate::Gated { json!("manual") } else { json!(false) },
            "downloads": 7, "likes": 3, "tags": self.tags, "pipeline_tag": "text-generation",
            "lastModified": "2026-01-02T03:04:05.000Z", "createdAt": "2026-01-01T00:00:00.000Z",
            "cardData": license.map_or(json!({}), |license| json!({"license": license})),
            "siblings": siblings,
        })
    }

    /// What `/api/models/NAME/tree/REVISION` says.
    pub fn tree(&self, recursive: bool) -> Value {
        let mut rows = Vec::new();
        for (path, file) in self.files.iter().filter(|(path, _)| recursive || !path.contains('/')) {
            let mut row = json!({"type": "file", "oid": file.oid, "size": file.content.length(), "path": path});
            if file.large {
                row["lfs"] = json!({"oid": file.sha256, "size": file.content.length(), "pointerSize": 134});
            }
            rows.push(row);
        }
        json!(rows)
    }
}
