//! What an assistant's file names, read before the files are there: which of a repository's files it needs.

use toml::{Table, Value};

/// The base and the paths that an assistant's file names, as they stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mentioned {
    /// A path, or a name; `.` where the folder is the base.
    pub base: String,
    /// Files and folders: adapters and documents.
    pub paths: Vec<String>,
}

impl Mentioned {
    /// Reads a file. What is wrong with it otherwise is told when it is used.
    ///
    /// # Errors
    /// In words, when it is no such file.
    pub fn read(bytes: &[u8]) -> Result<Mentioned, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
        let table: Table = text.parse().map_err(|fault: toml::de::Error| fault.message().to_owned())?;
        let plain = |text: &str| text.trim_start_matches("./").trim_end_matches('/').to_owned();
        let base = table.get("base").and_then(Value::as_str).map(plain).ok_or("it has no \"base\"")?;
        let list = |key: &str| table.get(key).and_then(Value::as_array).into_iter().flatten();
        let path = |value: &Value| value.as_str().or_else(|| value.get("path")?.as_str()).map(plain);
        let paths = list("adapters").chain(list("documents")).filter_map(path).collect();
        Ok(Mentioned { base: if base.is_empty() { ".".to_owned() } else { base }, paths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_base_and_what_stands_beside() {
        let text = "base = \"./\"\nadapters = [\"a/0\", { path = \"./b/\", weight = 2 }]\n\
                    documents = [\"ship.txt\", { name = \"x\", text = \"y\" }]\n[settings]\nno_such = 1\n";
        let found = Mentioned::read(text.as_bytes()).unwrap();
        assert_eq!(found, Mentioned { base: ".".into(), paths: ["a/0", "b", "ship.txt"].map(str::to_owned).into() });
        assert_eq!(Mentioned::read(b"base = \"m.gguf\"").unwrap().base, "m.gguf");
        for bad in [&b"base"[..], b"system = \"x\"", b"base = 1", b"\xff"] {
            assert!(Mentioned::read(bad).is_err(), "{bad:?}");
        }
    }
}
