//! A push into a folder, in the layout of a hub's addresses: `api/models/OWNER/NAME/revision/main` is the index, and
//! `OWNER/NAME/resolve/COMMIT/PATH` the files. Any server of static files is then a hub for `HF_ENDPOINT`.

use std::path::Path;

use pasture_files::Error as Fault;
use pasture_files::durable;
use serde_json::{Value, json};

use super::error::Result;
use super::{Push, Pushed, Step, Visibility};
use crate::git::{self, Sha1};
use crate::registry::is_path;

/// Files up to this length are known by git's digest, as hubs have it.
const SMALL_BYTES: u64 = 1 << 20;

/// Writes files and the index that leads to them. Files come first: an index never names one that is not there.
pub fn into_folder(folder: &Path, push: &Push, watch: &mut dyn FnMut(Step<'_>)) -> Result<Pushed> {
    push.check_name()?;
    let mut rows = Vec::new();
    let mut commit = Sha1::new();
    for file in &push.files {
        watch(Step::Reads(&file.path));
        let mut row = json!({"rfilename": file.path, "size": file.bytes});
        let digest = match file.bytes > SMALL_BYTES {
            true => {
                let digest = file.digest()?.hexadecimal();
                row["lfs"] = json!({"sha256": digest, "size": file.bytes, "pointerSize": 134});
                digest
            }
            false => {
                let digest = git::digest(&file.whole()?);
                row["blobId"] = json!(digest);
                digest
            }
        };
        commit.update(format!("{digest} {}\n", file.path).as_bytes());
        rows.push(row);
    }
    let commit = commit.digits();
    let root = folder.join(&push.repo).join("resolve").join(&commit);
    let (mut sent, mut there, mut bytes) = (Vec::new(), Vec::new(), 0);
    for file in &push.files {
        if !is_path(&file.path) {
            return Err(Fault::unsupported(&file.path, "no repository has a file of that name").into());
        }
        let path = root.join(&file.path);
        // The commit follows from the digests: what stands there whole is the same file.
        if path.metadata().is_ok_and(|found| found.len() == file.bytes) {
            watch(Step::There(&file.path));
            there.push(file.path.clone());
            continue;
        }
        crate::durable::folder(path.parent().unwrap_or(&root))?;
        let mut source = file.read(0, file.bytes)?;
        durable::write_file(&path, |sink| {
            std::io::copy(&mut source, sink).map_err(|fault| Fault::write(&path, fault))?;
            Ok(())
        })?;
        watch(Step::Sent(&file.path, file.bytes));
        bytes += file.bytes;
        sent.push(file.path.clone());
    }
    let index: Value = json!({
        "id": push.repo, "modelId": push.repo, "sha": commit, "gated": false, "tags": [],
        "private": push.visibility == Visibility::Private, "siblings": rows,
    });
    let indices = folder.join("api/models").join(&push.repo).join("revision");
    crate::durable::folder(&indices)?;
    for revision in [commit.as_str(), "main"] {
        durable::write_file(&indices.join(revision), |sink| sink.put(index.to_string().as_bytes()))?;
    }
    let url = folder.join(&push.repo).to_string_lossy().into_owned();
    Ok(Pushed { url, commit: Some(commit), sent, there, bytes })
}
