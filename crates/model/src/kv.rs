//! Which sequence owns which pages of keys and values. Pages are counted, so that sequences share a common prefix;
//! a shared page is copied before it is written.
//!
//! Layers of one shape and mask form a group with its own page table. Where rows see a window or a chunk only, the pages
//! below what any later row sees are given back, behind the length that the caller says is committed.

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
    /// For each group, how many pages at the beginning of its table were given back.
    gone: Vec<usize>,
}

/// A full page of a sequence that outlives it: one page in each group. [`Kv::drop_kept`] frees it.
#[derive(Debug)]
pub struct KeptPage(Vec<u32>);

/// What stands in a table for a page that was given back.
const GONE: u32 = u32::MAX;

/// The pages of one group of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCount {
    /// Pages that there is memory for.
    pub total: usize,
    /// Those that nobody holds.
    pub free: usize,
    /// Those that sequences hold; one that several share counts once.
    pub held: usize,
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
        let groups = self.groups.len();
        let sequence = Sequence { len: 0, tables: vec![Vec::new(); groups], gone: vec![0; groups] };
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
        let child = Sequence { len: parent.len, tables: parent.tables.clone(), gone: parent.gone.clone() };
        for (group, table) in self.groups.iter_mut().zip(&child.tables) {
            table.iter().filter(|page| **page != GONE).for_each(|page| group.holders[*page as usize] += 1);
        }
        self.place(child)
    }

    /// Keeps a page of a sequence, the `index`-th, whatever becomes of the sequence. None where some group gave it back.
    pub fn keep(&mut self, sequence: SequenceId, index: usize) -> Option<KeptPage> {
        let pages = self.sequence(sequence).tables.iter().map(|table| table.get(index).copied());
        let pages: Vec<u32> = pages.map(|page| page.filter(|page| *page != GONE)).collect::<Option<_>>()?;
        for (group, page) in self.groups.iter_mut().zip(&pages) {
            group.holders[*page as usize] += 1;
        }
        Some(KeptPage(pages))
    }

    /// A sequence that begins with `len` positions on kept pages, the first to the last. Its rows go on behind them.
    pub fn start_with(&mut self, kept: &[&KeptPage], len: usize) -> SequenceId {
        assert_eq!(kept.len(), len.div_ceil(PAGE), "the pages hold what the sequence begins with");
        let mut sequence = Sequence { len, tables: Vec::new(), gone: Vec::new() };
        for (at, group) in self.groups.iter_mut().enumerate() {
            let gone = released(group.shape.mask, len).min(kept.len());
            let mut table = vec![GONE; gone];
            table.extend(kept[gone..].iter().map(|page| page.0[at]));
            table[gone..].iter().for_each(|page| group.holders[*page as usize] += 1);
            sequence.tables.push(table);
            sequence.gone.push(gone);
        }
        self.place(sequence)
    }

    /// Puts a kept page in the place of a sequence's own that holds the same.
    pub fn adopt(&mut self, sequence: SequenceId, index: usize, kept: &KeptPage) {
        let Kv { groups, sequences, .. } = self;
        let sequence = sequences[sequence.0 as usize].as_mut().expect("a live sequence");
        for ((group, table), page) in groups.iter_mut().zip(&mut sequence.tables).zip(&kept.0) {
            if table[index] != GONE {
                group.holders[*page as usize] += 1;
                group.drop_holder(std::mem::replace(&mut table[index], *page));
            }
        }
    }

    /// Frees a kept page; sequences that hold it go on holding it.
    pub fn drop_kept(&mut self, kept: KeptPage) {
        for (group, page) in self.groups.iter_mut().zip(kept.0) {
            group.drop_holder(page);
        }
    }

    /// The pages of a sequence in a group of layers, by their numbers.
    pub fn table(&self, sequence: SequenceId, group: usize) -> &[u32] {
        &self.sequence(sequence).tables[group]
    }

    /// Bytes that one page takes, in all layers together.
    pub fn page_bytes(&self, format: KvFormat) -> usize {
        self.layers.iter().map(|layer| 2 * format.bytes(layer.page_len())).sum()
    }

    /// Positions that a sequence holds.
    pub fn len(&self, sequence: SequenceId) -> usize {
        self.sequence(sequence).len
    }

    /// Forgets what a sequence holds from position `len` on. [`Kv::can_truncate`] says whether it can go on from there.
    pub fn truncate(&mut self, sequence: SequenceId, len: usize) {
        assert!(len <= self.len(sequence), "a sequence is only cut shorter");
        assert!(self.can_truncate(sequence, len), "what the next row would see was given back");
        let Kv { groups, sequences, .. } = self;
        let sequence = sequences[sequence.0 as usize].as_mut().expect("a live sequence");
        sequence.len = len;
        for ((group, table), gone) in groups.iter_mut().zip(&mut sequence.tables).zip(&mut sequence.gone) {
            let kept = table.drain(len.div_ceil(PAGE)..).filter(|page| *page != GONE);
            kept.for_each(|page| group.drop_holder(page));
            *gone = (*gone).min(table.len());
        }
    }

    /// Whether every group still holds what a row at position `len` would see. The empty sequence needs nothing.
    pub fn can_truncate(&self, sequence: SequenceId, len: usize) -> bool {
        let gone = self.sequence(sequence).gone.iter().zip(&self.groups);
        len == 0 || gone.into_iter().all(|(gone, group)| *gone <= released(group.shape.mask, len))
    }

    /// Gives back the pages that no row of a sequence from position `committed` on can see. The caller will not cut it
    /// shorter than that, but perhaps to nothing.
    pub fn release(&mut self, sequence: SequenceId, committed: usize) {
        let Kv { groups, sequences, .. } = self;
        let sequence = sequences[sequence.0 as usize].as_mut().expect("a live sequence");
        assert!(committed <= sequence.len, "what is committed was run");
        for ((group, table), gone) in groups.iter_mut().zip(&mut sequence.tables).zip(&mut sequence.gone) {
            let now = released(group.shape.mask, committed).min(table.len());
            for page in table.iter_mut().take(now).skip(*gone) {
                group.drop_holder(std::mem::replace(page, GONE));
            }
            *gone = now.max(*gone);
        }
    }

    /// The pages of each group of layers.
    pub fn pages(&self) -> Vec<PageCount> {
        let count = |group: &Group| {
            let (total, free) = (group.holders.len(), group.free.len());
            PageCount { total, free, held: group.holders.iter().filter(|holders| **holders > 0).count() }
        };
        self.groups.iter().map(count).collect()
    }

    /// Positions that rows see back at most, their own with them, in every layer; none where some layer sees all.
    pub fn window(&self) -> Option<usize> {
        let widths = self.groups.iter().map(|group| match group.shape.mask {
            Mask::Window(width) | Mask::Chunk(width) => Some(width),
            Mask::Causal | Mask::Full => None,
        });
        widths.collect::<Option<Vec<usize>>>()?.into_iter().max()
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
            let want = grown(have);
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
        let layer_bytes = |(at, layer): (usize, &KvLayer)| 2 * pages(at) * format.bytes(layer.page_len());
        self.layers.iter().enumerate().map(layer_bytes).sum()
    }

    fn sequence(&self, id: SequenceId) -> &Sequence {
        self.sequences[id.0 as usize].as_ref().expect("a live sequence")
    }

    fn sequence_mut(&mut self, id: SequenceId) -> &mut Sequence {
        self.sequences[id.0 as usize].as_mut().expect("a live sequence")
    }
}

/// Pages that memory is made for where there are so many and one more is needed.
fn grown(pages: usize) -> usize {
    pages + (pages / 2).clamp(1, 256)
}

/// Pages that there is memory for when so many were needed, one after the other.
pub(crate) fn pages_held(needed: usize) -> usize {
    let mut pages = 0;
    while pages < needed {
        pages = grown(pages);
    }
    pages
}

/// Pages at the beginning of a sequence that rows from position `committed` on do not see.
fn released(mask: Mask, committed: usize) -> usize {
    mask.lowest(committed) / PAGE
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
