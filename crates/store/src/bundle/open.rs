//! Reading a bundle: its head, manifest and signature are checked before anything else of it is used, and each piece
//! while it is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use pasture_files::json;
use sha2::{Digest as _, Sha256};

use super::pack::{head, hex};
use super::{
    ALIGNMENT, HEAD_BYTES, MAGIC, MANIFEST_BYTES_MAX, Manifest, Piece, SIGNATURE_BYTES, VERSION, check, start, wrong,
};
use crate::error::{Error, Result};
use crate::trust::{Keys, PublicKey};

/// Bytes that are read at once.
const PART: usize = 1 << 20;

/// An open bundle whose manifest is sound.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// What it holds.
    pub manifest: Manifest,
    /// Who signed it.
    pub signature: Signature,
    /// Digest of its manifest: which bundle it is.
    pub digest: String,
    start: u64,
}

/// Who signed a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Whoever has this key; the signature fits.
    By(PublicKey),
    /// Nobody.
    None,
}

impl Bundle {
    /// Opens a bundle and checks its head, its manifest and its signature. Pieces are not read yet.
    ///
    /// # Errors
    /// When it is no bundle, was changed after it was signed, or holds what no bundle may.
    pub fn open(path: &Path) -> Result<Bundle> {
        let read = |fault| Error::from(pasture_files::Error::read(path, fault));
        let mut file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let mut first = [0; HEAD_BYTES];
        if length < HEAD_BYTES as u64 {
            return Err(wrong(path, "it is shorter than a bundle's head"));
        }
        file.read_exact(&mut first).map_err(read)?;
        let number = |at: usize| u64::from_le_bytes(first[at..at + 8].try_into().unwrap_or_default());
        if first[..8] != MAGIC {
            return Err(wrong(path, "it does not begin as a bundle does"));
        }
        let (bytes, total) = (number(16), number(24));
        if number(8) != u64::from(VERSION) {
            return Err(wrong(path, format!("it has version {}, and {VERSION} is read here", number(8))));
        }
        if total != length {
            return Err(wrong(path, format!("it has {length} bytes, and {total} were written: it is cut, or longer")));
        }
        let start = start(bytes).filter(|start| bytes <= MANIFEST_BYTES_MAX && *start <= length);
        let Some(start) = start.filter(|_| first == head(bytes, total)) else {
            return Err(wrong(path, "its head was changed"));
        };
        let mut text = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        file.read_exact(&mut text).map_err(read)?;
        let padding = start - SIGNATURE_BYTES as u64 - HEAD_BYTES as u64 - bytes;
        zeros(path, &mut file, padding, "behind its list of pieces")?;
        let mut block = [0; SIGNATURE_BYTES];
        file.read_exact(&mut block).map_err(read)?;
        let signature = signed(path, &[&first[..], &text].concat(), &block)?;
        let file = pasture_files::error::file_name(path);
        let manifest: Manifest = serde_json::from_value(json::parse(&text, &file)?)
            .map_err(|fault| wrong(path, format!("its list of pieces: {}", json::fault_in(&file, &fault))))?;
        check(&manifest, path, length - start)?;
        for work in &manifest.works {
            // The same checks as for a record that lies in a folder.
            crate::lineage::Lineage::parse(work.lineage.to_json().as_bytes(), &file)?;
        }
        let digest = format!("sha256:{}", hex(&Sha256::digest(&text)));
        Ok(Bundle { path: path.to_owned(), manifest, signature, digest, start })
    }

    /// The name of whoever signed it, as it is called here.
    ///
    /// # Errors
    /// When nobody signed it, or the key is not trusted here: it is named.
    pub fn signer(&self, keys: &Keys) -> Result<String> {
        let Signature::By(key) = self.signature else {
            return Err(wrong(&self.path, "nobody signed it; --unsigned takes it nevertheless"));
        };
        keys.name_of(&key)?.ok_or_else(|| {
            let what = format!(
                "it is signed by {key}, which is not trusted here; where you know whose key that is, \
                 `pasture trust add NAME {key}` trusts it"
            );
            wrong(&self.path, what)
        })
    }

    /// Reads every piece and compares it with what was signed. `progress` is told of bytes done and of all.
    ///
    /// # Errors
    /// The first piece that differs, by its name.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let all = self.byte_count();
        let mut done = 0;
        for piece in &self.manifest.pieces {
            self.read(piece, &mut |part| {
                done += part.len() as u64;
                progress(done, all);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Bytes of all pieces.
    pub fn byte_count(&self) -> u64 {
        self.manifest.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Hands the bytes of a piece over, part by part. Only after this returned are they known to be what was signed.
    ///
    /// # Errors
    /// When they are not, cannot be read, or `put` fails.
    pub fn read(&self, piece: &Piece, put: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let fault = |fault| Error::from(pasture_files::Error::read(&self.path, fault));
        let mut file = File::open(&self.path).map_err(fault)?;
        // The sum was compared with the file's length when the bundle was opened.
        file.seek(SeekFrom::Start(self.start + piece.offset)).map_err(fault)?;
        let (mut left, mut part, mut hasher) = (piece.bytes, vec![0; PART], Sha256::new());
        while left > 0 {
            let most = usize::try_from(left).map_or(PART, |left| left.min(PART));
            file.read_exact(&mut part[..most]).map_err(fault)?;
            hasher.update(&part[..most]);
            put(&part[..most])?;
            left -= most as u64;
        }
        let found = hex(&hasher.finalize());
        if found != piece.sha256 {
            let what = format!(
                "piece {:?} is not what was packed: its SHA-256 is {found}, and {} was packed",
                piece.path, piece.sha256
            );
            return Err(wrong(&self.path, what));
        }
        let padding = (ALIGNMENT - piece.bytes % ALIGNMENT) % ALIGNMENT;
        zeros(&self.path, &mut file, padding, &format!("behind piece {:?}", piece.path))
    }

    /// The bundle's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads what must be zeros: no byte of a bundle is without a check.
fn zeros(path: &Path, file: &mut File, count: u64, place: &str) -> Result<()> {
    let mut bytes = [0; ALIGNMENT as usize];
    let bytes = &mut bytes[..usize::try_from(count).unwrap_or(0)];
    file.read_exact(bytes).map_err(|fault| pasture_files::Error::read(path, fault))?;
    match bytes.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(wrong(path, format!("there are bytes {place} that nobody wrote"))),
    }
}

fn signed(path: &Path, message: &[u8], block: &[u8; SIGNATURE_BYTES]) -> Result<Signature> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(Signature::None);
    }
    let mut key = [0; 32];
    key.copy_from_slice(&block[..32]);
    let key = PublicKey(key);
    let rest = block[96..].iter().all(|byte| *byte == 0);
    if !rest || !key.signed(message, &block[32..96]) {
        let what = format!("its signature by {key} does not fit: it was changed after it was signed");
        return Err(wrong(path, what));
    }
    Ok(Signature::By(key))
}
