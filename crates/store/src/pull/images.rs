//! Models that OCI registries keep, Ollama's among them: a manifest that lists layers by digest, and the layers. A
//! folder in that layout is read in the same way. What arrives lies as Ollama's folder has it, so that it is found.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use pasture_files::error::quoted;
use pasture_files::folder::{self, Folder, is_plain};
use pasture_files::size::Size;
use pasture_files::{durable, json};

use super::error::{Error, Result};
use super::fetch::{self, Checksum, Room, Step};
use super::http::{Client, Fault, METADATA_BYTES_MAX, Reply, capped};
use super::ranges::Source;
use super::url::{Url, encoded};
use crate::Digest;
use crate::licence::{self, Terms};

const LAYERS_MAX: usize = 64;
/// A folder's layer is compared in memory no larger than this at once.
const STEP: usize = 1 << 20;
/// Types of manifests that are read.
const TYPES: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// A blob that a manifest names.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub digest: Digest,
    pub bytes: u64,
}

/// A manifest that keeps its own rules.
pub(crate) struct Manifest {
    /// As it came, byte for byte.
    pub text: Vec<u8>,
    /// The configuration and the layers, each once.
    pub blobs: Vec<Layer>,
}

/// Reads a manifest.
///
/// # Errors
/// In words, which of its rules it breaks.
pub(crate) fn manifest(text: Vec<u8>) -> Result<Manifest, String> {
    let value = json::parse(&text, "the manifest").map_err(|fault| fault.to_string())?;
    if value.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
        return Err("its schemaVersion is not 2, the only one that is read".into());
    }
    let config = value.get("config").ok_or("it names no configuration")?;
    let rows = value.get("layers").and_then(Value::as_array).ok_or("it has no list of layers")?;
    if rows.is_empty() || rows.len() > LAYERS_MAX {
        return Err(format!("it has {} layers, and 1 to {LAYERS_MAX} are read", rows.len()));
    }
    let mut blobs: Vec<Layer> = Vec::new();
    for row in std::iter::once(config).chain(rows) {
        let digest = row.get("digest").and_then(Value::as_str).ok_or("a layer has no digest")?;
        let digest = Digest::parse(digest)?;
        let bytes = row.get("size").and_then(Value::as_u64).ok_or_else(|| format!("the layer {digest} has no size"))?;
        if row.get("urls").is_some() {
            return Err(format!("the layer {digest} is kept at another address, and no other is asked"));
        }
        match blobs.iter().find(|blob| blob.digest == digest) {
            Some(known) if known.bytes != bytes => return Err(format!("the layer {digest} has two sizes")),
            Some(_) => {}
            None => blobs.push(Layer { digest, bytes }),
        }
    }
    Ok(Manifest { text, blobs })
}

/// Copies a model from a folder in the OCI layout, verified, and gives the place of its manifest. Either `manifest.json`
/// with `blobs/config` and `blobs/layer`, or blobs by their digests.
pub(crate) fn from_folder(from: &Path, to: &Path) -> Result<PathBuf> {
    let folder = Folder::open(from)?;
    let size = Size::new(METADATA_BYTES_MAX);
    let text = folder.read("manifest.json", size)?.ok_or_else(|| folder.missing("a file \"manifest.json\""))?;
    let unsound = |why: String| Error::Answer { host: folder.name().to_owned(), what: "manifest.json".into(), why };
    let found = manifest(text).map_err(unsound)?;
    let blobs = folder.inner("blobs")?.ok_or_else(|| folder.missing("a folder \"blobs\""))?;
    fetch::has_space(to, found.blobs.iter().map(|blob| blob.bytes).fold(0, u64::saturating_add))?;
    let target = to.join("blobs");
    crate::durable::folder(&target)?;
    for (index, blob) in found.blobs.iter().enumerate() {
        let by_place = if index == 0 { "config" } else { "layer" };
        let names = [blob.digest.blob_name(), by_place.to_owned()];
        let name = names.iter().find(|name| blobs.find(name).is_ok_and(|file| file.is_some()));
        let name = name.ok_or_else(|| unsound(format!("the layer {} is not there", blob.digest)))?;
        let file = blobs.open_file(name)?.ok_or_else(|| unsound(format!("the layer {} is not there", blob.digest)))?;
        copy(&file, blob, &target.join(blob.digest.blob_name())).map_err(|why| match why {
            Copied::Other(why) => unsound(why),
            Copied::File(error) => error.into(),
        })?;
    }
    let path = to.join("manifest.json");
    durable::write_file(&path, |sink| sink.put(&found.text))?;
    Ok(path)
}

enum Copied {
    Other(String),
    File(pasture_files::Error),
}

/// Copies a blob under its name, if its bytes are those that its digest says.
fn copy(file: &fs::File, blob: &Layer, to: &Path) -> Result<(), Copied> {
    use std::os::unix::fs::FileExt;
    let read = |fault| Copied::File(pasture_files::Error::read(Path::new("blobs"), fault));
    let length = file.metadata().map_err(read)?.len();
    if length != blob.bytes {
        return Err(Copied::Other(format!("the layer {} has {length} bytes, not {}", blob.digest, blob.bytes)));
    }
    let wanted = blob.digest.to_string();
    let sum =
        Checksum::sha256(wanted.trim_start_matches("sha256:")).ok_or_else(|| Copied::Other("no digest".into()))?;
    let found = sum.of(file, length).map_err(|error| Copied::Other(error.to_string()))?;
    if found != sum.digits() {
        return Err(Copied::Other(format!("the layer {wanted} holds bytes of another digest, sha256:{found}")));
    }
    durable::write_file(to, |sink| {
        let mut buffer = vec![0; STEP];
        let mut at = 0;
        while at < length {
            let room = usize::try_from(length - at).unwrap_or(STEP).min(STEP);
            file.read_exact_at(&mut buffer[..room], at)
                .map_err(|fault| pasture_files::Error::read(Path::new("blobs"), fault))?;
            sink.put(&buffer[..room])?;
            at += room as u64;
        }
        Ok(())
    })
    .map_err(Copied::File)
}

/// `host[:port]/owner/name:tag`, where Ollama's host and owner may be left out.
pub(crate) struct Image {
    host: Url,
    repository: String,
    tag: String,
    /// As Ollama's folder of manifests has it.
    place: PathBuf,
}

impl Image {
    /// Reads a name behind `oci:`.
    ///
    /// # Errors
    /// In words, what makes a name.
    pub fn parse(text: &str) -> Result<Image, String> {
        let wrong =
            || format!("host/owner/name:tag makes a name in a registry, or a folder's path, not {}", quoted(text));
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (text, "latest"),
        };
        let mut parts: Vec<&str> = path.split('/').collect();
        let has_host = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
        let host = if has_host { parts.remove(0) } else { "registry.ollama.ai" };
        if !has_host && parts.len() == 1 {
            parts.insert(0, "library");
        }
        let name = host.split(':').next().unwrap_or_default();
        let plain = is_plain(name) && is_plain(tag) && parts.iter().all(|part| is_plain(part));
        if parts.len() > 4 || !plain {
            return Err(wrong());
        }
        let scheme = if matches!(name, "127.0.0.1" | "localhost") { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{host}")).map_err(|_| wrong())?;
        let owner = parts[..parts.len() - 1].join("_");
        let owner = if owner.is_empty() { "library" } else { &owner };
        let place = ["manifests", &host.replace(':', "_"), owner, parts[parts.len() - 1], tag].iter().collect();
        Ok(Image { host: url, repository: parts.join("/"), tag: tag.to_owned(), place })
    }

    /// What [`crate::resolve`] finds it by, afterwards.
    pub fn name(&self) -> String {
        let parts: Vec<String> = self.place.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect();
        <[String; 4]>::try_from(parts).map(|parts| crate::name::Name::of_ollama(&parts)).unwrap_or_default()
    }
}

/// Fetches a model from a registry into a folder laid out as Ollama's.
pub(crate) fn from_registry(
    client: &Client,
    image: &Image,
    root: &Path,
    watch: &mut dyn FnMut(&str, u64, Step),
) -> Result<PathBuf> {
    if client.network.is_offline() {
        return Err(Error::Offline { what: format!("{}:{}", image.repository, image.tag) });
    }
    let what = format!("{}/{}:{}", image.host.host(), image.repository, image.tag);
    let url = image.host.with(&format!("/v2/{}/manifests/{}", image.repository, encoded(&image.tag)));
    let mut pass = None;
    let text = client.patiently(&url, &what, || {
        let mut reply = ask(client, &url, pass.as_deref())?;
        if reply.status == 401 && pass.is_none() {
            pass = Some(token(client, image, &reply, &what)?);
            reply = ask(client, &url, pass.as_deref())?;
        }
        match reply.status {
            200 => capped(reply, &what, client.network.patience.stall),
            _ => Err(Fault::Final(refused(&reply, &what))),
        }
    })?;
    let unsound = |why: String| Error::Answer { host: image.host.host().to_owned(), what: what.clone(), why };
    let found = manifest(text).map_err(unsound)?;
    let blobs = root.join("blobs");
    let locks = root.join(".locks");
    for blob in &found.blobs {
        let digest = blob.digest.to_string();
        let refusal = |reply: &Reply| refused(reply, &what);
        let source = Source {
            url: image.host.with(&format!("/v2/{}/blobs/{digest}", image.repository)),
            size: blob.bytes,
            what: &digest,
            authorization: pass.clone(),
            refused: &refusal,
        };
        let name = blob.digest.blob_name();
        let sum = Checksum::sha256(digest.trim_start_matches("sha256:")).ok_or_else(|| unsound("no digest".into()))?;
        let room = Room { blobs: &blobs, locks: &locks, name: &name };
        fetch::file(client, &source, &sum, &room, &mut |step| watch(&digest, blob.bytes, step))?;
    }
    let path = root.join(&image.place);
    crate::durable::folder(path.parent().unwrap_or(root))?;
    durable::write_file(&path, |sink| sink.put(&found.text))?;
    Ok(path)
}

/// What a model that is here says of its licence: layers that hold texts of licences, and the keys of GGUF files. The
/// blobs are in the nearest folder of that name above the manifest.
pub(crate) fn terms(manifest: &Path) -> Result<Terms> {
    let size = Size::new(METADATA_BYTES_MAX);
    let value = json::parse(&folder::read_file(manifest, size)?, "the manifest")?;
    let blobs = manifest.ancestors().map(|folder| folder.join("blobs")).find(|blobs| blobs.is_dir());
    let (Some(blobs), Some(rows)) = (blobs, value.get("layers").and_then(Value::as_array)) else {
        return Ok(Terms::default());
    };
    let mut terms = Terms::default();
    for row in rows.iter().take(LAYERS_MAX) {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let Ok(digest) = Digest::parse(text("digest")) else { continue };
        let path = blobs.join(digest.blob_name());
        if !text("mediaType").ends_with(".license") {
            // A model that cannot be opened is told by whoever opens it.
            terms.join(&Terms::of(&licence::of_path(&path).unwrap_or_default()));
            continue;
        }
        let bytes = folder::read_file(&path, size)?;
        let found = licence::of_text(&String::from_utf8_lossy(&bytes));
        match found.as_slice() {
            [] => terms.add_named(&format!("see {}", path.display())),
            known => known.iter().for_each(|licence| terms.add(licence)),
        }
    }
    Ok(terms)
}

fn ask(client: &Client, url: &Url, pass: Option<&str>) -> Result<Reply, Fault> {
    let headers: Vec<(&str, &str)> =
        std::iter::once(("accept", TYPES)).chain(pass.map(|pass| ("authorization", pass))).collect();
    client.send(url, &headers)
}

fn refused(reply: &Reply, what: &str) -> Error {
    let host = reply.url.host().to_owned();
    match reply.status {
        401 | 403 => Error::Token { host },
        404 => Error::NotThere { what: format!("image {what}") },
        status => Error::Answer { host, what: what.to_owned(), why: format!("status {status}") },
    }
}

/// The token that a registry's challenge points to. Only the registry's own domain is asked, and nothing is sent there but
/// the service and the scope that the challenge names; the token goes to the registry alone.
fn token(client: &Client, image: &Image, reply: &Reply, what: &str) -> Result<String, Fault> {
    let host = image.host.host().to_owned();
    let unsound =
        |why: &str| Fault::Final(Error::Answer { host: host.clone(), what: what.to_owned(), why: why.to_owned() });
    let challenge = reply.header("www-authenticate").and_then(|text| text.strip_prefix("Bearer "));
    let challenge = challenge.ok_or_else(|| Fault::Final(refused(reply, what)))?;
    let value = |name: &str| {
        challenge.split(',').find_map(|pair| {
            pair.trim().strip_prefix(name)?.strip_prefix('=').map(|value| value.trim_matches('"').to_owned())
        })
    };
    let realm = value("realm").ok_or_else(|| unsound("its challenge names no realm"))?;
    let realm = image.host.follow(&realm).map_err(|_| unsound("its challenge names no address"))?;
    if !image.host.is_same_domain(&realm) {
        let why = format!("its challenge leads to {}, which is not of the registry's own domain", realm.host());
        return Err(unsound(&why));
    }
    let query: Vec<String> =
        ["service", "scope"].iter().filter_map(|name| Some(format!("{name}={}", encoded(&value(name)?)))).collect();
    let reply = client.send(&realm.with(&format!("?{}", query.join("&"))), &[])?;
    if reply.status != 200 {
        return Err(Fault::Final(refused(&reply, what)));
    }
    let bytes = capped(reply, what, client.network.patience.stall)?;
    let value = json::parse(&bytes, "the token").map_err(|_| unsound("its token is no JSON"))?;
    let token = value.get("token").or_else(|| value.get("access_token")).and_then(Value::as_str);
    let good = |token: &&str| token.bytes().all(|byte| byte.is_ascii_graphic());
    Ok(format!("Bearer {}", token.filter(good).ok_or_else(|| unsound("it gives no token"))?))
}

/// Refuses a folder that is a hub's listing with names that lead elsewhere, before it is taken for anything.
pub(crate) fn check_listing(from: &Path) -> Result<()> {
    let path = from.join("listing.json");
    if !path.is_file() {
        return Ok(());
    }
    let bytes = folder::read_file(&path, Size::new(METADATA_BYTES_MAX))?;
    let value = json::parse(&bytes, "listing.json")?;
    let unsound = |why: String| Error::Answer { host: "the folder".into(), what: "listing.json".into(), why };
    super::listing::read(&value).map(drop).map_err(unsound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_registry_is_read_as_other_programs_read_it() {
        let check = |text: &str, host: &str, repository: &str, tag: &str, name: &str| {
            let image = Image::parse(text).unwrap();
            let found = (image.host.text(), image.repository.as_str(), image.tag.as_str(), image.name());
            assert_eq!(found, (host.to_owned(), repository, tag, name.to_owned()), "{text}");
        };
        check("smollm", "https://registry.ollama.ai", "library/smollm", "latest", "smollm");
        check("smollm:135m", "https://registry.ollama.ai", "library/smollm", "135m", "smollm:135m");
        check("a/b:c", "https://registry.ollama.ai", "a/b", "c", "a/b:c");
        check("127.0.0.1:5000/lab/m:v1", "http://127.0.0.1:5000", "lab/m", "v1", "127.0.0.1_5000/lab/m:v1");
        check("ghcr.io/o/m", "https://ghcr.io", "o/m", "latest", "ghcr.io/o/m");
        for bad in ["", "..", "../x", "a/../b:c", "h.co/a:b/../c", "a b", "a/b:", "/etc", "u@h.co/a/b", "h.co/a\\b"] {
            assert!(Image::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_manifest_keeps_its_rules_or_is_refused() {
        let digest = Digest::of(b"x");
        let row = format!("{{\"digest\":\"{digest}\",\"size\":1}}");
        let whole = |layers: &str| format!("{{\"schemaVersion\":2,\"config\":{row},\"layers\":{layers}}}");
        let found = manifest(whole(&format!("[{row},{row}]")).into_bytes()).ok().unwrap();
        assert_eq!((found.blobs.len(), found.blobs[0].bytes), (1, 1));
        let check = |text: String, wanted: &str| {
            let why = manifest(text.into_bytes()).map(|_| ()).unwrap_err();
            assert!(why.contains(wanted), "{why}");
        };
        check(whole("[]"), "0 layers");
        check(whole("{}"), "no list of layers");
        check(whole(&format!("[{}]", vec![row.clone(); 65].join(","))), "65 layers");
        check(whole("[{\"size\":1}]"), "no digest");
        check(whole("[{\"digest\":\"sha256:../x\",\"size\":1}]"), "is no digest");
        check(whole(&format!("[{{\"digest\":\"{digest}\",\"size\":-1}}]")), "no size");
        check(whole(&format!("[{{\"digest\":\"{digest}\",\"size\":2}}]")), "two sizes");
        check(whole(&format!("[{{\"digest\":\"{digest}\",\"size\":1,\"urls\":[]}}]")), "another address");
        check(format!("{{\"schemaVersion\":9,\"layers\":[{row}]}}"), "schemaVersion");
        check("<html>".into(), "manifest");
    }

    #[test]
    fn a_folder_is_copied_only_as_its_digests_say() {
        let room = tempfile::tempdir().unwrap();
        let (from, to) = (room.path().join("from"), room.path().join("to"));
        fs::create_dir_all(from.join("blobs")).unwrap();
        let (config, layer) = (Digest::of(b"{}"), Digest::of(b"weights"));
        let text = format!(
            "{{\"schemaVersion\":2,\"config\":{{\"digest\":\"{config}\",\"size\":2}},\"layers\":[{{\"digest\":\"{layer}\",\"size\":7}}]}}"
        );
        fs::write(from.join("manifest.json"), &text).unwrap();
        fs::write(from.join("blobs/config"), "{}").unwrap();
        assert!(from_folder(&from, &to).is_err_and(|error| error.to_string().contains("is not there")));
        fs::write(from.join("blobs/layer"), "wEights").unwrap();
        assert!(from_folder(&from, &to).is_err_and(|error| error.to_string().contains("another digest")));
        fs::write(from.join("blobs/layer"), "weights").unwrap();
        let path = from_folder(&from, &to).unwrap();
        assert_eq!(fs::read(path).unwrap(), text.as_bytes());
        assert_eq!(fs::read(to.join("blobs").join(layer.blob_name())).unwrap(), b"weights");
    }
}
