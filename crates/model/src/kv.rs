//! Which sequence owns which pages of keys and values. Pages are counted, so that sequences share a common prefix;
//! a shared page is copied before it is written.
//!
//! Layers of one shape and mask form a group with its own page table.

use pasture_tensor::Backend;
use pasture_tensor::kv::{KvFormat, KvLayer, PAGE};

use crate::error::{Error, Result};
use crate::spec::Mask;

/// Names a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u32);

/// The shape of one layer's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Which keys its rows may see.
    pub mask: Mask,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
}

/// Keys and values of all sequences.
pub struct Kv {
    layers: Vec<KvLayer>,
    group_of: Vec<usize>,
    groups: Vec<Group>,
    sequences: Vec<Option<Sequence>>,
}

struct Group {
    shape: KvShape,
    free: Vec<u32>,
    holders: Vec<u32>,
}

struct Sequence {
    len: usize,
    tables: Vec<Vec<u32>>,
}

impl Kv {
    /// Memory for layers of the given shapes, without pages yet.
    pub fn new(backend: &dyn Backend, shapes: &[KvShape], format: KvFormat) -> Kv {
        let mut groups: Vec<Group> = Vec::new();
        let group_of = shapes
            .iter()
            .map(|shape| {
                groups.iter().position(|group| group.shape == *shape).unwrap_or_else(|| {
                    groups.push(Group { shape: *shape, free: Vec::new(), holders: Vec::new() });
                    groups.len() - 1
                })
            })
            .collect();
        let layers = shapes.iter().map(|shape| backend.kv_layer(shape.kv_heads, shape.head_dim, format)).collect();
        Kv { layers, group_of, groups, sequences: Vec::new() }
    }

    /// An empty sequence.
    pub fn start(&mut self) -> SequenceId {
        let sequence = Sequence { len: 0, tables: vec![Vec::new(); self.groups.len()] };
        self.place(sequence)
    }

    fn place(&mut self, sequence: Sequence) -> SequenceId {
        let at = self.sequences.iter().position(Option::is_none).unwrap_or_else(|| {
            self.sequences.push(None);
            self.sequences.len() - 1
        });
        self.sequences[at] = Some(sequence);
        SequenceId(at as u32)
    }

    /// A sequence that begins with all that `parent` holds, without a copy.
    pub fn fork(&mut self, parent: SequenceId) -> SequenceId {
        let parent = self.sequence(parent);
        let child = Sequence { len: parent.len, tables: parent.tables.clone() };
        for (group, table) in self.groups.iter_mut().zip(&child.tables) {
            table.iter().for_each(|page| group.holders[*page as usize] += 1);
        }
        self.place(child)
    }

    /// Positions that a sequence holds.
    pub fn len(&self, sequence: SequenceId) -> usize {
        self.sequence(sequence).len
    }

    /// Forgets what a sequence holds from position `len` on.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) {
        let Kv { groups, sequences, .. } = self;
        let sequence = sequences[sequence.0 as usize].as_mut().expect("a live sequence");
        assert!(len <= sequence.len, "a sequence is only cut shorter");
        sequence.len = len;
        for (group, table) in groups.iter_mut().zip(&mut sequence.tables) {
            table.drain(len.div_ceil(PAGE)..).for_each(|page| group.drop_holder(page));
        }
    }

    /// Frees a sequence.
    pub fn end(&mut self, sequence: SequenceId) {
        self.truncate(sequence, 0);
        self.sequences[sequence.0 as usize] = None;
    }

    /// Makes room for positions `start..end` of a sequence and counts them as held. `start` is the sequence's length.
    pub fn extend(&mut self, backend: &dyn Backend, sequence: SequenceId, start: usize, end: usize) -> Result<()> {
        assert_eq!(self.len(sequence), start, "rows join at the end of their sequence");
        for group in 0..self.groups.len() {
            self.own_last_page(backend, group, sequence, start)?;
            while self.sequence(sequence).tables[group].len() < end.div_ceil(PAGE) {
                let page = self.take_page(backend, group)?;
                self.sequence_mut(sequence).tables[group].push(page);
            }
        }
        self.sequence_mut(sequence).len = end;
        Ok(())
    }

    /// Copies the page that the next row is written to, if another sequence holds it as well.
    fn own_last_page(&mut self, backend: &dyn Backend, group: usize, sequence: SequenceId, start: usize) -> Result<()> {
        let Some(page) = self.sequence(sequence).tables[group].get(start / PAGE).copied() else { return Ok(()) };
        if self.groups[group].holders[page as usize] > 1 {
            let own = self.take_page(backend, group)?;
            for (layer, of) in self.layers.iter_mut().zip(&self.group_of) {
                if *of == group {
                    backend.kv_copy_page(layer, page, own);
                }
            }
            self.groups[group].drop_holder(page);
            self.sequence_mut(sequence).tables[group][start / PAGE] = own;
        }
        Ok(())
    }

    fn take_page(&mut self, backend: &dyn Backend, group: usize) -> Result<u32> {
        if self.groups[group].free.is_empty() {
            let have = self.groups[group].holders.len();
            let want = have + (have / 2).clamp(1, 256);
            for (layer, of) in self.layers.iter_mut().zip(&self.group_of) {
                if *of == group && !backend.kv_resize(layer, want) {
                    return Err(Error::Memory { pages: want - have });
                }
            }
            let group = &mut self.groups[group];
            group.holders.resize(want, 0);
            group.free.extend((have as u32..want as u32).rev());
        }
        let group = &mut self.groups[group];
        let page = group.free.pop().expect("pages were just added");
        group.holders[page as usize] = 1;
        Ok(page)
    }

    /// One layer's memory for writing, beside the tables of all sequences.
    pub(crate) fn layer_mut(&mut self, layer: usize) -> (&mut KvLayer, Tables<'_>) {
        let tables = Tables { sequences: &self.sequences, group: self.group_of[layer] };
        (&mut self.layers[layer], tables)
    }

    /// Bytes that the pages take.
    pub fn bytes(&self, format: KvFormat) -> usize {
        let pages = |layer: usize| self.groups[self.group_of[layer]].holders.len();
        let layer_bytes = |(at, layer): (usize, &KvLayer)| 2 * pages(at) * layer.page_len() * format.bytes();
        self.layers.iter().enumerate().map(layer_bytes).sum()
    }

    fn sequence(&self, id: SequenceId) -> &Sequence {
        self.sequences[id.0 as usize].as_ref().expect("a live sequence")
    }

    fn sequence_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences[id.0 as usize].as_mut().expect("a live sequence")
    }
}

impl Group {
    fn drop_holder(&mut self, page: u32) {
        self.holders[page as usize] -= 1;
        if self.holders[page as usize] == 0 {
            self.free.push(page);
        }
    }
}

/// The page tables of one group.
pub(crate) struct Tables<'a> {
    sequences: &'a [Option<Sequence>],
    group: usize,
}

impl<'a> Tables<'a> {
    pub(crate) fn pages(&self, id: SequenceId) -> &'a [u32] {
        &self.sequences[id.0 as usize].as_ref().expect("a live sequence").tables[self.group]
    }
}
