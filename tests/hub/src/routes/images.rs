//! `/v2/NAME/manifests/TAG` and `/v2/NAME/blobs/DIGEST`: what pulls need of an OCI registry. Names that begin with
//! `locked/` ask for a token that the registry itself hands out.

use serde_json::json;

use super::files::part;
use super::refuse;
use crate::content::sha256;
use crate::http::{Answer, Request};
use crate::state::State;

/// What `/token` hands out.
const PASS: &str = "Bearer image-pass";

pub(crate) fn answer(state: &State, request: &Request) -> Option<Answer> {
    if request.path == "/token" {
        return Some(Answer::json(200, &json!({"token": "image-pass"})));
    }
    let rest = request.path.strip_prefix("/v2/")?;
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    if rest.starts_with("locked/") && request.header("authorization") != Some(PASS) {
        let challenge =
            format!("Bearer realm=\"http://{}/token\",service=\"test\",scope=\"repository:x:pull\"", state.front);
        return Some(refuse(401, "UNAUTHORIZED").header("www-authenticate", &challenge));
    }
    let images = state.images();
    let Some(content) = images.get(rest) else { return Some(refuse(404, "MANIFEST_UNKNOWN")) };
    if rest.contains("/manifests/") {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let digest = format!("sha256:{}", sha256(content));
        let bytes = content.read(0, usize::try_from(content.length()).unwrap_or(usize::MAX));
        let answer = Answer::new(200).header("content-type", kind).header("docker-content-digest", &digest);
        return Some(answer.body(&bytes));
    }
    Some(part(request, content, &format!("\"{rest}\"")))
}
