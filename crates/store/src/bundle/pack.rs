//! Writing a bundle: digests first, then the pieces, which must still be what was digested.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pasture_files::durable::{self, Sink};
use sha2::{Digest as _, Sha256};

use super::{
    Gathered, HEAD_BYTES, MAGIC, MANIFEST_BYTES_MAX, Manifest, PIECES_MAX, Piece, SIGNATURE_BYTES, VERSION, aligned,
    check, start, wrong,
};
use crate::Content;
use crate::error::Result;
use crate::trust::Signer;

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// Writes a bundle and gives what it holds. The same works and the same key give the same bytes.
///
/// # Errors
/// When a file cannot be read, changes meanwhile, or the bundle cannot be written.
pub fn pack(
    path: &Path,
    name: &str,
    works: Vec<Gathered>,
    signer: Option<&Signer>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest> {
    let mut files: Vec<(String, Content)> = Vec::new();
    let mut listed = Vec::new();
    for Gathered { work, files: own } in works {
        files.extend(own.into_iter().map(|(file, content)| (format!("{}/{file}", work.name), content)));
        listed.push(work);
    }
    if files.len() > PIECES_MAX {
        return Err(wrong(path, format!("{} files, and {PIECES_MAX} are the most of a bundle", files.len())));
    }
    let mut pieces = Vec::new();
    let total = files.iter().map(|(_, content)| content.bytes()).sum::<u64>() * 2;
    let mut done = 0;
    for (name, content) in &files {
        let mut hasher = Sha256::new();
        let bytes = read(content, &mut |part| {
            hasher.update(part);
            done += part.len() as u64;
            progress(done, total);
            Ok(())
        })?;
        pieces.push(Piece { path: name.clone(), offset: 0, bytes, sha256: hex(&hasher.finalize()) });
    }
    let made_with = concat!("pasture ", env!("CARGO_PKG_VERSION")).to_owned();
    let manifest = Manifest { bundle: VERSION, name: name.to_owned(), made_with, works: listed, pieces };
    let (manifest, text, end) = placed(path, manifest)?;
    durable::write_file(path, |sink| {
        let head = head(text.len() as u64, end);
        sink.put(&head)?;
        sink.put(&text)?;
        pad(sink)?;
        sink.put(&signature(signer, &head, &text))?;
        for (piece, (_, content)) in manifest.pieces.iter().zip(&files) {
            let mut hasher = Sha256::new();
            let put = &mut |part: &[u8]| {
                hasher.update(part);
                done += part.len() as u64;
                progress(done, total);
                sink.put(part)
            };
            let bytes = read(content, put)?;
            if bytes != piece.bytes || hex(&hasher.finalize()) != piece.sha256 {
                return Err(pasture_files::Error::invalid(
                    &piece.path,
                    "it changed while it was packed; pack it again",
                ));
            }
            pad(sink)?;
        }
        Ok(())
    })?;
    Ok(manifest)
}

/// Gives every piece its place, and the length of the file.
fn placed(path: &Path, mut manifest: Manifest) -> Result<(Manifest, Vec<u8>, u64)> {
    let too_long = || wrong(path, "it would be longer than any file");
    let mut at = 0;
    for piece in &mut manifest.pieces {
        piece.offset = at;
        at = at.checked_add(piece.bytes).and_then(aligned).ok_or_else(too_long)?;
    }
    let text = serde_json::to_vec(&manifest).expect("a manifest has text keys and finite numbers");
    let length = text.len() as u64;
    if length > MANIFEST_BYTES_MAX {
        return Err(wrong(path, format!("its list of pieces has {length} bytes, more than {MANIFEST_BYTES_MAX}")));
    }
    let end = start(length).and_then(|start| start.checked_add(at)).ok_or_else(too_long)?;
    check(&manifest, path, at)?;
    Ok((manifest, text, end))
}

pub(super) fn head(manifest: u64, length: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[16..24].copy_from_slice(&manifest.to_le_bytes());
    head[24..32].copy_from_slice(&length.to_le_bytes());
    head
}

fn signature(signer: Option<&Signer>, head: &[u8], text: &[u8]) -> [u8; SIGNATURE_BYTES] {
    let mut block = [0; SIGNATURE_BYTES];
    if let Some(signer) = signer {
        block[..32].copy_from_slice(&signer.public().0);
        block[32..96].copy_from_slice(&signer.sign(&[head, text].concat()));
    }
    block
}

fn pad(sink: &mut Sink) -> pasture_files::Result<()> {
    sink.pad(pasture_files::size::Size::new(super::ALIGNMENT))
}

/// Hands the bytes of a file over, part by part, and gives their number.
fn read(content: &Content, put: &mut dyn FnMut(&[u8]) -> pasture_files::Result<()>) -> pasture_files::Result<u64> {
    let path = match content {
        Content::Bytes(bytes) => {
            put(bytes)?;
            return Ok(bytes.len() as u64);
        }
        Content::File(path) => path,
    };
    let fault = |source| pasture_files::Error::read(path, source);
    let (mut file, mut part, mut bytes) = (File::open(path).map_err(fault)?, vec![0; PART], 0);
    loop {
        let count = file.read(&mut part).map_err(fault)?;
        if count == 0 {
            return Ok(bytes);
        }
        put(&part[..count])?;
        bytes += count as u64;
    }
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
