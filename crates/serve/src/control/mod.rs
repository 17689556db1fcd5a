//! From one program to a server that runs on the same machine: a small file says where it is, with a key of its own
//! that ends with it. For `pasture ps` and `pasture stop`; blocking, and knows no more of HTTP than these need.

mod client;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use client::{Answer, Place};

/// A running server's file, which goes away with it.
pub struct Told(PathBuf);

impl Told {
    /// Writes where a server is, for its user only.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn write(folder: &Path, url: &str, key: &str, cert: Option<&Path>) -> std::io::Result<Told> {
        make(folder)?;
        let pid = std::process::id();
        let path = folder.join(format!("serve-{pid}.json"));
        // Of a program that had this number before.
        let _ = std::fs::remove_file(&path);
        let cert = cert.map(|cert| std::path::absolute(cert).unwrap_or_else(|_| cert.to_owned()));
        let text = json!({"pid": pid, "url": url, "key": key, "cert": cert}).to_string();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path)?.write_all(text.as_bytes())?;
        Ok(Told(path))
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(unix)]
fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700).create(folder)
}

#[cfg(not(unix))]
fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// The servers that files of a folder tell of and that answer. Files of servers that ended are taken away.
pub fn running(folder: &Path) -> Vec<Place> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !(name.starts_with("serve-") && name.ends_with(".json")) {
            continue;
        }
        // One that is being written has nothing in it yet.
        let Some(told) = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
            continue;
        };
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let Some(url) = text("url") else { continue };
        let place = Place { url, key: text("key"), cert: text("cert").map(PathBuf::from) };
        match place.ask("GET", "/healthz", None) {
            Ok(_) => found.push(place),
            Err(_) => drop(std::fs::remove_file(&file)),
        }
    }
    found.sort_by(|one, other| one.url.cmp(&other.url));
    found
}
