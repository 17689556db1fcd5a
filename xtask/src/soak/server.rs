//! A server that does not outlive its soak, and what the system and its own metrics say of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use super::client;
use crate::root;

/// A server of the starter.
pub struct Serving {
    child: Child,
    /// The program.
    pub program: PathBuf,
    /// Host and port.
    pub address: String,
}

/// The data folder of this run's servers: a run beside another one would make keys that the other's server sees.
pub fn home() -> PathBuf {
    root().join("target/soak").join(std::process::id().to_string())
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(home());
    }
}

impl Serving {
    /// Starts one on a free port, with a data folder that is empty: keys of an earlier part would be asked of everybody.
    pub fn start(program: &Path, options: &[&str]) -> Result<Serving> {
        let home = home();
        std::fs::create_dir_all(&home)?;
        let mut command = Command::new(program);
        command.args(["serve", "starter", "--port", "0", "--json", "--threads", "1"]).args(options);
        command.env("PASTURE_HOME", &home).env("XDG_RUNTIME_DIR", &home).env_remove("PASTURE_API_KEY");
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start the server")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the server has no output")?;
        BufReader::new(out).read_line(&mut line)?;
        let told: serde_json::Value = serde_json::from_str(&line).context("the server did not begin")?;
        let url = told["url"].as_str().context("the server told no address")?;
        let address = url.strip_prefix("http://").context("the server told no address")?.to_owned();
        Ok(Serving { child, program: program.to_owned(), address })
    }

    /// A gauge or counter, or all whose names begin so, added.
    pub fn metric(&self, name: &str) -> Result<u64> {
        let text = client::get(&self.address, "/metrics")?.body;
        let found = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        Ok(found.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    /// Open descriptors, and threads.
    pub fn counts(&self) -> Result<(usize, usize)> {
        let count = |what: &str| {
            Ok::<_, std::io::Error>(std::fs::read_dir(format!("/proc/{}/{what}", self.child.id()))?.count())
        };
        Ok((count("fd")?, count("task")?))
    }
}
