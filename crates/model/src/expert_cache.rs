//! Experts that stay on disk: the chosen ones are fetched by explicit reads into a cache that keeps the latest used, up
//! to a limit in bytes. One expert is computed with at a time, so that what is held never passes the limit. The numbers
//! are those of the file in plain rows, whatever layout the backend packs resident weights into.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pasture_files::extent::Extent;
use pasture_kernels::Format;
use pasture_tensor::ops::experts::Expert;
use pasture_tensor::ops::linear::Site;
use pasture_tensor::{Layout, Linear, Vector, Weight};

use crate::error::{Error, Result};

/// Where one product of an expert lies.
pub(crate) struct LinearOnDisk {
    pub(crate) extent: Extent,
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Bytes of the tensor that hold it.
    pub(crate) bytes: std::ops::Range<u64>,
    pub(crate) order: StoredOrder,
    /// Biases are small: they stay in memory.
    pub(crate) bias: Option<Vector>,
    pub(crate) site: Site,
}

/// How rows lie in the bytes that hold them.
pub(crate) enum StoredOrder {
    /// One after the other.
    Rows,
    /// Row `i` is row `rows[i]` of the bytes.
    Picked(Vec<u32>),
    /// `[inputs, total]` numbers of `size` bytes; row `i` is column `columns[i]`.
    Turned { total: usize, size: usize, columns: Vec<u32> },
}

/// Where an expert lies.
pub(crate) struct ExpertOnDisk {
    pub(crate) gate: Option<LinearOnDisk>,
    pub(crate) up: LinearOnDisk,
    pub(crate) down: LinearOnDisk,
}

/// The experts of one layer, on disk.
pub(crate) struct OnDisk {
    pub(crate) layer: usize,
    pub(crate) experts: Vec<ExpertOnDisk>,
    pub(crate) cache: Arc<ExpertCache>,
}

/// The experts in memory, those of all layers together.
pub struct ExpertCache {
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    experts: HashMap<(usize, usize), (Expert, u64, u64)>,
    /// By the number of their last use.
    order: BTreeMap<u64, (usize, usize)>,
    uses: u64,
    counts: ExpertCounts,
}

/// What an expert cache did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertCounts {
    /// Experts that were asked for and in memory.
    pub hits: u64,
    /// Those that had to be read.
    pub misses: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes in memory now.
    pub held_bytes: u64,
    /// The most bytes that were in memory at once.
    pub held_bytes_max: u64,
    /// Time spent reading.
    pub read_time: Duration,
}

impl ExpertCache {
    pub(crate) fn new(bytes_max: u64) -> ExpertCache {
        ExpertCache { bytes_max, held: Mutex::default() }
    }

    /// The most bytes that it holds.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// What it did so far.
    pub fn counts(&self) -> ExpertCounts {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    fn fetch(&self, name: (usize, usize), expert: &ExpertOnDisk) -> Result<Expert> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.uses += 1;
        let now = held.uses;
        if let Some((found, _, used)) = held.experts.get_mut(&name) {
            let (found, before) = (found.clone(), std::mem::replace(used, now));
            held.order.remove(&before);
            held.order.insert(now, name);
            held.counts.hits += 1;
            return Ok(found);
        }
        let bytes = expert.bytes();
        while held.counts.held_bytes + bytes > self.bytes_max {
            // The loader has checked that the limit holds any expert alone.
            let Some((_, oldest)) = held.order.pop_first() else { break };
            let freed = held.experts.remove(&oldest).map_or(0, |(_, bytes, _)| bytes);
            held.counts.held_bytes -= freed;
        }
        let begun = Instant::now();
        let found = expert.read()?;
        let counts = &mut held.counts;
        counts.misses += 1;
        counts.read_bytes += expert.read_bytes();
        counts.read_time += begun.elapsed();
        counts.held_bytes += bytes;
        counts.held_bytes_max = counts.held_bytes_max.max(counts.held_bytes);
        held.order.insert(now, name);
        held.experts.insert(name, (found.clone(), bytes, now));
        Ok(found)
    }
}

impl OnDisk {
    /// An expert by its number.
    pub(crate) fn fetch(&self, expert: usize) -> Result<Expert> {
        self.cache.fetch((self.layer, expert), &self.experts[expert])
    }

    /// Bytes read for a row that finds none of its `top` experts in memory.
    pub(crate) fn bytes_a_row(&self, top: usize) -> u64 {
        let mut bytes: Vec<u64> = self.experts.iter().map(ExpertOnDisk::read_bytes).collect();
        bytes.sort_unstable_by(|a, b| b.cmp(a));
        bytes.iter().take(top).sum()
    }
}

impl OnDisk {
    /// Bytes of all experts.
    pub(crate) fn bytes(&self) -> u64 {
        self.experts.iter().map(ExpertOnDisk::bytes).sum()
    }

    /// Reads experts until so many bytes were read, and gives how many.
    pub(crate) fn read_some(&self, bytes_max: u64) -> Result<u64> {
        let mut bytes = 0;
        for expert in &self.experts {
            if bytes >= bytes_max {
                break;
            }
            expert.linears().try_for_each(|linear| linear.stored().map(drop))?;
            bytes += expert.read_bytes();
        }
        Ok(bytes.min(bytes_max))
    }
}

impl ExpertOnDisk {
    fn linears(&self) -> impl Iterator<Item = &LinearOnDisk> {
        self.gate.iter().chain([&self.up, &self.down])
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.linears().map(|it| (it.format.row_bytes(it.cols) * it.rows) as u64).sum()
    }

    /// Bytes read for it: more than it has where another's lie between its own.
    fn read_bytes(&self) -> u64 {
        self.linears().map(|it| it.bytes.end - it.bytes.start).sum()
    }

    fn read(&self) -> Result<Expert> {
        let gate = self.gate.as_ref().map(LinearOnDisk::read).transpose()?;
        Ok(Expert { gate, up: self.up.read()?, down: self.down.read()? })
    }
}

impl LinearOnDisk {
    fn read(&self) -> Result<Linear> {
        let stored = self.stored()?;
        let row_bytes = self.format.row_bytes(self.cols);
        let plain = match &self.order {
            StoredOrder::Rows => stored,
            StoredOrder::Picked(rows) => {
                let row = |row: &u32| &stored[*row as usize * row_bytes..][..row_bytes];
                rows.iter().flat_map(row).copied().collect()
            }
            StoredOrder::Turned { total, size, columns } => {
                let mut plain = Vec::with_capacity(self.rows * row_bytes);
                for column in columns {
                    for at in 0..self.cols {
                        plain.extend_from_slice(&stored[(at * total + *column as usize) * size..][..*size]);
                    }
                }
                plain
            }
        };
        assert_eq!(plain.len(), self.rows * row_bytes, "the loader has checked the shape");
        let weight = Weight::new(self.format, Layout::Plain, self.rows, self.cols, Arc::new(plain));
        Ok(Linear { weight, bias: self.bias.clone(), site: self.site.clone() })
    }

    /// The bytes of the file that hold it.
    fn stored(&self) -> Result<Vec<u8>> {
        let length = (self.bytes.end - self.bytes.start) as usize;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Error::ExpertMemory { bytes: length as u64 })?;
        bytes.resize(length, 0);
        self.extent.read(self.bytes.start, &mut bytes)?;
        Ok(bytes)
    }
}
