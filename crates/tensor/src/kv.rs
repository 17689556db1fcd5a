//! Memory for keys and values of one layer, in pages. Which sequence owns which page is the model's business.

use std::any::Any;

use half::f16;
use pasture_kernels::Format;
use pasture_kernels::attend::SLOT_GROUP;

/// Tokens in a page.
pub const PAGE: usize = 32;

/// How keys and values are stored.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// Four bytes a value: nothing is lost.
    F32,
    /// Two bytes a value.
    F16,
    /// Two bytes a value, with the range of f32.
    BF16,
    /// 34 bytes for 32 values of a head.
    Q8_0,
    /// 18 bytes for 32 values of a head.
    Q4_0,
}

impl KvFormat {
    /// Every format, the largest first.
    pub const ALL: [KvFormat; 5] = [KvFormat::F32, KvFormat::F16, KvFormat::BF16, KvFormat::Q8_0, KvFormat::Q4_0];

    /// The number format of stored values.
    pub fn format(self) -> Format {
        match self {
            KvFormat::F32 => Format::F32,
            KvFormat::F16 => Format::F16,
            KvFormat::BF16 => Format::BF16,
            KvFormat::Q8_0 => Format::Q8_0,
            KvFormat::Q4_0 => Format::Q4_0,
        }
    }

    /// The name that settings use.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::BF16 => "bf16",
            KvFormat::Q8_0 => "q8_0",
            KvFormat::Q4_0 => "q4_0",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<KvFormat> {
        KvFormat::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether heads of so many values are whole blocks.
    pub fn fits(self, head_dim: usize) -> bool {
        head_dim.is_multiple_of(self.format().block())
    }

    /// Bytes of so many values of whole heads, which are whole blocks.
    pub fn bytes(self, values: usize) -> usize {
        self.format().row_bytes(values)
    }
}

/// Keys and values of one layer: `[page][kv_head][token in page][head_dim]` each. Only keys in f32 and f16 stand in
/// panels, `[page][kv_head][group of tokens][head_dim][token in group]`, as products take them: [`KvLayer::key_places`].
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
    /// Each head's values as blocks of a number format.
    Blocks {
        /// The number format.
        format: Format,
        /// Keys.
        keys: Vec<u8>,
        /// Values.
        values: Vec<u8>,
    },
    /// In the memory of a device.
    Device(Box<dyn Any + Send + Sync>),
}

impl KvLayer {
    /// A layer without pages in the host's memory. Asserts that heads are whole blocks.
    pub fn new(kv_heads: usize, head_dim: usize, format: KvFormat) -> KvLayer {
        assert!(format.fits(head_dim), "heads of {head_dim} are no blocks of {}", format.name());
        let storage = match format {
            KvFormat::F32 => KvStorage::F32 { keys: Vec::new(), values: Vec::new() },
            KvFormat::F16 => KvStorage::F16 { keys: Vec::new(), values: Vec::new() },
            KvFormat::BF16 | KvFormat::Q8_0 | KvFormat::Q4_0 => {
                KvStorage::Blocks { format: format.format(), keys: Vec::new(), values: Vec::new() }
            }
        };
        KvLayer { kv_heads, head_dim, storage }
    }

    /// Values in a page of keys.
    pub fn page_len(&self) -> usize {
        PAGE * self.kv_heads * self.head_dim
    }

    /// Where the `head_dim` values of a token's head begin, but for keys in panels.
    pub fn offset(&self, page: u32, head: usize, slot: usize) -> usize {
        ((page as usize * self.kv_heads + head) * PAGE + slot) * self.head_dim
    }

    /// Where the values of a token's key lie, one after the other, in f32 and f16.
    pub fn key_places(&self, page: u32, head: usize, slot: usize) -> impl Iterator<Item = usize> + use<> {
        let group = self.offset(page, head, slot / SLOT_GROUP * SLOT_GROUP);
        (0..self.head_dim).map(move |at| group + at * SLOT_GROUP + slot % SLOT_GROUP)
    }

    /// Makes room for `pages` pages; kept ones keep their numbers. False where the memory cannot be had.
    pub fn resize(&mut self, pages: usize) -> bool {
        let len = pages * self.page_len();
        match &mut self.storage {
            KvStorage::F32 { keys, values } => grow(keys, len, 0.0) && grow(values, len, 0.0),
            KvStorage::F16 { keys, values } => grow(keys, len, f16::ZERO) && grow(values, len, f16::ZERO),
            KvStorage::Blocks { format, keys, values } => {
                let bytes = format.row_bytes(len);
                grow(keys, bytes, 0) && grow(values, bytes, 0)
            }
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
            KvStorage::Blocks { format, keys, values } => {
                let [from, to, len] = [from, to, len].map(|values| format.row_bytes(values));
                keys.copy_within(from..from + len, to);
                values.copy_within(from..from + len, to);
            }
            KvStorage::Device(_) => panic!("a device's pages are copied through its backend"),
        }
    }

    /// Stores the keys and values of one token's head.
    pub fn write(&mut self, page: u32, head: usize, slot: usize, key: &[f32], value: &[f32]) {
        let (at, places) = (self.offset(page, head, slot), self.key_places(page, head, slot));
        match &mut self.storage {
            KvStorage::F32 { keys, values } => {
                places.zip(key).for_each(|(place, key)| keys[place] = *key);
                values[at..at + value.len()].copy_from_slice(value);
            }
            KvStorage::F16 { keys, values } => {
                places.zip(key).for_each(|(place, key)| keys[place] = f16::from_f32(*key));
                narrow(value, &mut values[at..at + value.len()]);
            }
            KvStorage::Blocks { format, keys, values } => {
                let (at, bytes) = (format.row_bytes(at), format.row_bytes(key.len()));
                format.quantize(key, None, &mut keys[at..at + bytes]);
                format.quantize(value, None, &mut values[at..at + bytes]);
            }
            KvStorage::Device(_) => panic!("a device's pages are written through its backend"),
        }
    }

    /// Loads the key and value of one token's head.
    pub fn read(&self, page: u32, head: usize, slot: usize, key: &mut [f32], value: &mut [f32]) {
        let at = self.offset(page, head, slot);
        let (len, places) = (self.head_dim, self.key_places(page, head, slot));
        match &self.storage {
            KvStorage::F32 { keys, values } => {
                places.zip(key).for_each(|(place, key)| *key = keys[place]);
                value.copy_from_slice(&values[at..at + len]);
            }
            KvStorage::F16 { keys, values } => {
                places.zip(key).for_each(|(place, key)| *key = keys[place].to_f32());
                widen(&values[at..at + len], value);
            }
            KvStorage::Blocks { format, keys, values } => {
                let (at, bytes) = (format.row_bytes(at), format.row_bytes(len));
                format.dequantize(&keys[at..at + bytes], key);
                format.dequantize(&values[at..at + bytes], value);
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
