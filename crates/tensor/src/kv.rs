//! Memory for keys and values of one layer, in pages. Which sequence owns which page is the model's business.

use std::any::Any;

use half::f16;

/// Tokens in a page.
pub const PAGE: usize = 32;

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// Four bytes a value: nothing is lost.
    F32,
    /// Two bytes a value.
    F16,
}

impl KvFormat {
    /// Bytes of one stored value.
    pub fn bytes(self) -> usize {
        match self {
            KvFormat::F32 => 4,
            KvFormat::F16 => 2,
        }
    }
}

/// Keys and values of one layer: `[page][kv_head][token in page][head_dim]` each.
pub struct KvLayer {
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// The numbers.
    pub storage: KvStorage,
}

/// The numbers of a [`KvLayer`].
pub enum KvStorage {
    /// In f32.
    F32 {
        /// Keys.
        keys: Vec<f32>,
        /// Values.
        values: Vec<f32>,
    },
    /// In f16.
    F16 {
        /// Keys.
        keys: Vec<f16>,
        /// Values.
        values: Vec<f16>,
    },
    /// In the memory of a device.
    Device(Box<dyn Any + Send + Sync>),
}

impl KvLayer {
    /// A layer without pages in the host's memory.
    pub fn new(kv_heads: usize, head_dim: usize, format: KvFormat) -> KvLayer {
        let storage = match format {
            KvFormat::F32 => KvStorage::F32 { keys: Vec::new(), values: Vec::new() },
            KvFormat::F16 => KvStorage::F16 { keys: Vec::new(), values: Vec::new() },
        };
        KvLayer { kv_heads, head_dim, storage }
    }

    /// Values in a page of keys.
    pub fn page_len(&self) -> usize {
        PAGE * self.kv_heads * self.head_dim
    }

    /// Where the `head_dim` values of a token's head begin.
    pub fn offset(&self, page: u32, head: usize, slot: usize) -> usize {
        ((page as usize * self.kv_heads + head) * PAGE + slot) * self.head_dim
    }

    /// Makes room for `pages` pages; kept ones keep their numbers. False where the memory cannot be had.
    pub fn resize(&mut self, pages: usize) -> bool {
        let len = pages * self.page_len();
        match &mut self.storage {
            KvStorage::F32 { keys, values } => grow(keys, len, 0.0) && grow(values, len, 0.0),
            KvStorage::F16 { keys, values } => grow(keys, len, f16::ZERO) && grow(values, len, f16::ZERO),
            KvStorage::Device(_) => panic!("a device's pages are resized through its backend"),
        }
    }

    /// Copies one page onto another.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let len = self.page_len();
        let (from, to) = (from as usize * len, to as usize * len);
        match &mut self.storage {
            KvStorage::F32 { keys, values } => {
                keys.copy_within(from..from + len, to);
                values.copy_within(from..from + len, to);
            }
            KvStorage::F16 { keys, values } => {
                keys.copy_within(from..from + len, to);
                values.copy_within(from..from + len, to);
            }
            KvStorage::Device(_) => panic!("a device's pages are copied through its backend"),
        }
    }

    /// Stores the keys and values of one token's head.
    pub fn write(&mut self, page: u32, head: usize, slot: usize, key: &[f32], value: &[f32]) {
        let at = self.offset(page, head, slot);
        match &mut self.storage {
            KvStorage::F32 { keys, values } => {
                keys[at..at + key.len()].copy_from_slice(key);
                values[at..at + value.len()].copy_from_slice(value);
            }
            KvStorage::F16 { keys, values } => {
                narrow(key, &mut keys[at..at + key.len()]);
                narrow(value, &mut values[at..at + value.len()]);
            }
            KvStorage::Device(_) => panic!("a device's pages are written through its backend"),
        }
    }

    /// Loads the key and value of one token's head.
    pub fn read(&self, page: u32, head: usize, slot: usize, key: &mut [f32], value: &mut [f32]) {
        let at = self.offset(page, head, slot);
        let len = self.head_dim;
        match &self.storage {
            KvStorage::F32 { keys, values } => {
                key.copy_from_slice(&keys[at..at + len]);
                value.copy_from_slice(&values[at..at + len]);
            }
            KvStorage::F16 { keys, values } => {
                widen(&keys[at..at + len], key);
                widen(&values[at..at + len], value);
            }
            KvStorage::Device(_) => panic!("a device's pages are read through its backend"),
        }
    }
}

fn grow<T: Clone>(values: &mut Vec<T>, len: usize, zero: T) -> bool {
    if len > values.len() {
        if values.try_reserve_exact(len - values.len()).is_err() {
            return false;
        }
        values.resize(len, zero);
    }
    true
}

fn narrow(from: &[f32], to: &mut [f16]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = f16::from_f32(*from));
}

fn widen(from: &[f16], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
}
