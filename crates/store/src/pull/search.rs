//! Searching the hub: what is there under some words, how large it is, on which terms.

use serde_json::Value;

use super::error::{Error, Result};
use super::http::Client;
use super::listing::license;
use super::url::encoded;

/// What is asked of each repository.
const EXPANDED: [&str; 7] = ["downloads", "likes", "gated", "tags", "safetensors", "gguf", "lastModified"];

/// A repository that a search finds.
#[derive(Clone, Debug)]
pub struct Hit {
    /// `owner/name`.
    pub repo: String,
    /// Downloads of the last month.
    pub downloads: u64,
    /// Whether its terms must be accepted first.
    pub gated: bool,
    /// The licence that its card or tags name.
    pub license: Option<String>,
    /// Number of parameters, where the hub knows it.
    pub parameters: Option<u64>,
    /// Bytes of its safetensors weights, where the hub knows their formats.
    pub bytes: Option<u64>,
    /// Whether it holds GGUF models.
    pub gguf: bool,
}

/// Repositories of models that have these words in their names, the most downloaded first.
pub(crate) fn search(client: &Client, words: &str, limit: usize) -> Result<Vec<Hit>> {
    let expanded: String = EXPANDED.iter().map(|key| format!("&expand[]={key}")).collect();
    let query = format!(
        "/api/models?search={}&sort=downloads&direction=-1&limit={limit}{}",
        encoded(words),
        encoded_brackets(&expanded)
    );
    let url = client.network.endpoint.with(&query);
    let what = format!("a search for {words:?}");
    let host = url.host().to_owned();
    let unsound = |why: String| Error::Answer { host: host.clone(), what: what.clone(), why };
    let value = client.json(&url, &what, |reply| unsound(format!("status {}", reply.status)))?;
    let rows = value.as_array().ok_or_else(|| unsound("it is no list".into()))?;
    rows.iter().take(limit).map(|row| hit(row).ok_or_else(|| unsound("a row names no repository".into()))).collect()
}

fn encoded_brackets(text: &str) -> String {
    text.replace('[', "%5B").replace(']', "%5D")
}

fn hit(row: &Value) -> Option<Hit> {
    let repo = row.get("id").or_else(|| row.get("modelId")).and_then(Value::as_str)?;
    // It is shown on a terminal, and comes from anybody.
    if !crate::name::Name::parse(repo).is_ok_and(|name| name.repository().as_deref() == Some(repo)) {
        return None;
    }
    let counts = row.get("safetensors").and_then(|found| found.get("parameters")).and_then(Value::as_object);
    let bytes = counts.and_then(|counts| {
        counts.iter().try_fold(0_u64, |sum, (format, count)| {
            let bits = match format.as_str() {
                "F64" | "I64" => 64,
                "F32" | "I32" => 32,
                "F16" | "BF16" | "I16" => 16,
                "F8_E4M3" | "F8_E5M2" | "I8" | "U8" => 8,
                _ => return None,
            };
            sum.checked_add(count.as_u64()?.checked_mul(bits)? / 8)
        })
    });
    let gguf = row.get("gguf").filter(|found| found.is_object());
    let total = |key: &str| row.get(key).and_then(|found| found.get("total")).and_then(Value::as_u64);
    let tags = row.get("tags").and_then(Value::as_array);
    let tagged = tags.is_some_and(|tags| tags.iter().any(|tag| tag.as_str() == Some("gguf")));
    Some(Hit {
        repo: repo.to_owned(),
        downloads: row.get("downloads").and_then(Value::as_u64).unwrap_or(0),
        gated: !matches!(row.get("gated"), None | Some(Value::Bool(false))),
        license: license(row),
        parameters: total("safetensors").or_else(|| total("gguf")),
        bytes,
        gguf: gguf.is_some() || tagged,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_read_as_far_as_it_goes() {
        let row = json!({"id": "a/b", "downloads": 3, "gated": "auto", "tags": ["gguf", "license:mit"],
                         "safetensors": {"parameters": {"BF16": 10, "F32": 2}, "total": 12}});
        let found = hit(&row).unwrap();
        assert_eq!((found.bytes, found.parameters, found.gated, found.gguf), (Some(28), Some(12), true, true));
        assert_eq!(found.license.as_deref(), Some("mit"));
        assert_eq!(hit(&json!({"id": "a/b", "safetensors": {"parameters": {"Q": 1}}})).unwrap().bytes, None);
        for bad in [json!({}), json!({"id": "../x"}), json!({"id": "a\u{1b}[2J/b"}), json!({"id": 3})] {
            assert!(hit(&bad).is_none(), "{bad}");
        }
    }
}
