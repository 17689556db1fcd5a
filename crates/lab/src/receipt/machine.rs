//! The machine in words, as far as the system tells it. Figures of speed mean nothing without it. What the system says
//! of memory is read here and nowhere else.

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
        Machine {
            system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: Memory::All.bytes(),
        }
    }
}

/// The processor's name, where the system says it; with family and model where it tells them, as virtual machines' names
/// leave out which generation it is.
pub fn processor() -> Option<String> {
    let told = |key| field("/proc/cpuinfo", key);
    let name = told("model name")?;
    Some(match told("cpu family").zip(told("model")) {
        Some((family, model)) => format!("{name} (family {family}, model {model})"),
        None => name,
    })
}

/// A number of bytes that the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The machine's memory.
    All,
    /// What can be had of it now.
    Free,
    /// What this program holds.
    Held,
    /// The most that this program held at once.
    HeldMost,
}

impl Memory {
    /// The number; none where the system does not tell.
    pub fn bytes(self) -> Option<u64> {
        let (file, key) = match self {
            Memory::All => ("/proc/meminfo", "MemTotal"),
            Memory::Free => ("/proc/meminfo", "MemAvailable"),
            Memory::Held => ("/proc/self/status", "VmRSS"),
            Memory::HeldMost => ("/proc/self/status", "VmHWM"),
        };
        let kib: u64 = field(file, key)?.strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }
}

/// What stands behind a name and a colon in one of the system's files.
fn field(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key))?.1;
    Some(value.trim().to_owned())
}
