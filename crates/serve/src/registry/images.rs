//! `/v2/…`: the same repositories as an OCI registry has them, for reading. A manifest's layers are the files, each with
//! its path in the annotation that ORAS uses; a lone GGUF file has the type that Ollama looks for.
//! The protocol: <https://github.com/opencontainers/distribution-spec>.

use std::path::Path;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use pasture_store::Digest;
use pasture_store::registry::{Entry, Listing, Registry};
use serde_json::{Value, json};

use super::{Answered, Lending, Refused, blocking, files, no_repository};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const TITLE: &str = "org.opencontainers.image.title";
const EMPTY: &[u8] = b"{}";

pub(super) fn version() -> Response {
    ([("docker-distribution-api-version", "registry/2.0")], axum::Json(json!({}))).into_response()
}

pub(super) async fn answer(lending: &Lending, path: &str, head: &Parts) -> Answered {
    let rest = path.trim_start_matches("/v2/");
    let cut = |word: &str| rest.rsplit_once(word).map(|(name, last)| (name.to_owned(), last.to_owned()));
    if let Some((name, reference)) = cut("/manifests/") {
        lending.may_read(&head.headers, &name)?;
        let registry = lending.registry.clone();
        let bytes = blocking(move || manifest(&registry, &name, &reference)).await?;
        let digest = Digest::of(&bytes).to_string();
        let mut response = ([(header::CONTENT_TYPE, MANIFEST)], bytes).into_response();
        if let Ok(digest) = HeaderValue::from_str(&digest) {
            response.headers_mut().insert("docker-content-digest", digest);
        }
        return Ok(response);
    }
    if let Some((name, digest)) = cut("/blobs/") {
        lending.may_read(&head.headers, &name)?;
        let digest = Digest::parse(&digest).map_err(Refused::wrong)?;
        if digest == Digest::of(EMPTY) {
            return Ok(EMPTY.into_response());
        }
        let registry = lending.registry.clone();
        let (path, bytes) = blocking(move || blob(&registry, &name, &digest)).await?;
        return files::send(head, path, bytes, Some(&digest.hexadecimal())).await;
    }
    if let Some(name) = rest.strip_suffix("/tags/list") {
        lending.may_read(&head.headers, name)?;
        return Ok(axum::Json(json!({"name": name, "tags": ["latest", "main"]})).into_response());
    }
    Err(Refused(StatusCode::NOT_FOUND, "NotFound", "this registry has no such route".to_owned()))
}

fn listing(registry: &Registry, name: &str, reference: &str) -> Result<Listing, Refused> {
    let revision = if reference == "latest" { "main" } else { reference };
    registry.listing(name, revision)?.ok_or_else(|| no_repository(name))
}

/// The manifest of a tag, a commit, or its own digest.
fn manifest(registry: &Registry, name: &str, reference: &str) -> Result<Vec<u8>, Refused> {
    let digest = Digest::parse(reference).ok();
    let listing = listing(registry, name, if digest.is_some() { "main" } else { reference })?;
    let weights = listing.entries.iter().filter(|entry| entry.path.ends_with(".gguf")).count();
    let layer = |entry: &Entry| {
        let kind = match entry.path.ends_with(".gguf") && weights == 1 {
            true => "application/vnd.ollama.image.model",
            false => "application/octet-stream",
        };
        let digest = digest_of(entry)?.to_string();
        Ok(json!({"mediaType": kind, "digest": digest, "size": entry.bytes, "annotations": {TITLE: entry.path}}))
    };
    let layers = listing.entries.iter().map(layer).collect::<Result<Vec<Value>, Refused>>()?;
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": EMPTY.len(),
                       "digest": Digest::of(EMPTY).to_string()});
    let whole = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": layers});
    let bytes = whole.to_string().into_bytes();
    match digest.is_none_or(|digest| digest == Digest::of(&bytes)) {
        true => Ok(bytes),
        false => Err(Refused(StatusCode::NOT_FOUND, "EntryNotFound", "there is no such manifest".to_owned())),
    }
}

fn blob(registry: &Registry, name: &str, digest: &Digest) -> Result<(std::path::PathBuf, u64), Refused> {
    if let Some(found) = registry.blob(name, digest)? {
        return Ok(found);
    }
    // Small files are kept by another digest.
    for entry in listing(registry, name, "main")?.entries {
        if !entry.is_large() && digest_of(&entry)? == *digest {
            return Ok((entry.blob, entry.bytes));
        }
    }
    Err(Refused(StatusCode::NOT_FOUND, "EntryNotFound", "there is no such blob".to_owned()))
}

fn digest_of(entry: &Entry) -> Result<Digest, Refused> {
    match entry.etag.as_ref().filter(|_| entry.is_large()) {
        Some(etag) => Digest::parse(&format!("sha256:{etag}")).map_err(Refused::wrong),
        None => Ok(pasture_store::assistant::part_of(Path::new(&entry.blob))?.digest),
    }
}
