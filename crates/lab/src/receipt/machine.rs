//! The machine in words, as far as the system tells it. Figures of speed mean nothing without it.

use std::fs;

use serde::{Deserialize, Serialize};

/// What computed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Operating system and instruction set: `linux-x86_64`.
    pub system: String,
    /// The processor's name, or what the system calls it.
    pub processor: String,
    /// Processors that the program may use.
    pub processors: usize,
    /// Bytes of memory; absent where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This machine.
    pub fn this() -> Machine {
        let field = |file: &str, key: &str| {
            let text = fs::read_to_string(file).ok()?;
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal").and_then(|text| {
            let kib: u64 = text.strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        });
        Machine {
            system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory,
        }
    }
}
