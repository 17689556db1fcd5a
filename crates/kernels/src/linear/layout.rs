//! How weights lie in memory: plain rows, or panels of 16 rows whose values lie side by side.
//!
//! A packed panel holds, block by block, exactly the bytes of 16 plain rows in another order, so packing is a table of
//! byte ranges per format and loses nothing: `unpack(pack(w)) == w`.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::segments::{Segment, segments};
use crate::{Format, Kernels};

/// Output rows of a panel.
pub const PANEL: usize = 16;

/// How the rows of a weight are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row after row, as files hold them.
    Plain,
    /// Panels of 16 rows, a block of each row side by side; the last panel is filled up with zero bytes.
    Packed,
}

/// A weight as the kernels take it: `[rows, cols]`, rows are outputs.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// How its numbers are stored.
    pub format: Format,
    /// How its rows are laid out.
    pub layout: Layout,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// The stored bytes: [`Format::row_bytes`] for each row, or [`packed_bytes`].
    pub bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    pub(crate) fn check(&self) {
        let expected = match self.layout {
            Layout::Plain => self.rows * self.format.row_bytes(self.cols),
            Layout::Packed => packed_bytes(self.format, self.rows, self.cols),
        };
        assert_eq!(
            self.bytes.len(),
            expected,
            "bytes of a {} weight [{}, {}]",
            self.format.name(),
            self.rows,
            self.cols
        );
    }

    /// A row of a plain matrix.
    pub(crate) fn plain_row(&self, row: usize) -> &'a [u8] {
        let bytes = self.format.row_bytes(self.cols);
        &self.bytes[row * bytes..][..bytes]
    }

    /// A panel of a packed matrix.
    pub(crate) fn panel(&self, number: usize) -> &'a [u8] {
        let bytes = panel_bytes(self.format, self.cols);
        &self.bytes[number * bytes..][..bytes]
    }
}

/// Bytes that begin at a cache line, so that no vector of a panel lies on two.
#[derive(Clone)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

#[repr(C, align(64))]
#[derive(Clone, Copy, Zeroable, Pod)]
struct Line([u8; 64]);

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Aligned {
        Aligned { lines: vec![Line([0; 64]); len.div_ceil(size_of::<Line>())], len }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Columns and bytes of what is packed as one block. BF16 goes in pairs of columns.
pub(crate) fn packed_block(format: Format) -> (usize, usize) {
    match format {
        Format::BF16 => (2, 4),
        _ => (format.block(), format.block_bytes()),
    }
}

/// The layout that formats have which can be packed.
pub fn layout_for(format: Format) -> Layout {
    if segments(format).is_some() { Layout::Packed } else { Layout::Plain }
}

/// The layout that `kernels` compute with fastest.
pub fn layout_on(kernels: &Kernels, format: Format) -> Layout {
    if (kernels.packed)(format).is_some() { layout_for(format) } else { Layout::Plain }
}

/// A number for the layouts of all formats on `kernels`: packed bytes that one program wrote serve another with the same
/// number. It is made from the tables that packing goes by, so that it changes with them.
pub fn layouts_number(kernels: &Kernels) -> u64 {
    // FNV-1a (Fowler, Noll, Vo), 64 bits.
    let mut number = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |bytes: &[u8]| {
        bytes.iter().for_each(|byte| number = (number ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    };
    for format in Format::ALL.iter().filter(|format| layout_on(kernels, **format) == Layout::Packed) {
        let (cols, bytes) = packed_block(*format);
        add(format.name().as_bytes());
        let segments = segments(*format).unwrap_or_default().iter();
        let parts = segments.flat_map(|it| [it.start, it.bytes, it.unit, usize::from(it.flip)]);
        [PANEL, cols, bytes].into_iter().chain(parts).for_each(|part| add(&(part as u64).to_le_bytes()));
    }
    number
}

/// Bytes of one packed panel.
pub fn panel_bytes(format: Format, cols: usize) -> usize {
    let (block, bytes) = packed_block(format);
    cols.div_ceil(block) * bytes * PANEL
}

/// Bytes of a packed weight.
pub fn packed_bytes(format: Format, rows: usize, cols: usize) -> usize {
    assert!(cols.is_multiple_of(format.block()), "a row of {cols} is not whole {} blocks", format.name());
    rows.div_ceil(PANEL) * panel_bytes(format, cols)
}

/// Packs the given panels of a weight. `row(i)` gives the bytes of plain row `i`; `out` holds these panels only.
pub fn pack<'a>(
    format: Format,
    rows: usize,
    cols: usize,
    row: &dyn Fn(usize) -> &'a [u8],
    panels: Range<usize>,
    out: &mut [u8],
) {
    let segments = segments(format).expect("the caller asked layout_for");
    let (bytes, row_bytes) = (panel_bytes(format, cols), format.row_bytes(cols));
    assert!(panels.end <= rows.div_ceil(PANEL), "panels {panels:?} of {rows} rows");
    assert_eq!(out.len(), panels.len() * bytes, "bytes of the packed panels {panels:?}");
    for (panel, out) in panels.zip(out.chunks_exact_mut(bytes)) {
        let mut sources: [&[u8]; PANEL] = [&[]; PANEL];
        for (source, number) in sources.iter_mut().zip(panel * PANEL..rows) {
            *source = row(number);
            assert_eq!(source.len(), row_bytes, "bytes of row {number}");
        }
        pack_panel(format, segments, &sources, out);
    }
}

fn pack_panel(format: Format, segments: &[Segment], rows: &[&[u8]; PANEL], out: &mut [u8]) {
    let (_, bytes) = packed_block(format);
    for (index, out) in out.chunks_exact_mut(bytes * PANEL).enumerate() {
        let mut rest = out;
        for segment in segments {
            let (part, after) = rest.split_at_mut(segment.bytes * PANEL);
            let start = index * bytes + segment.start;
            for (number, row) in rows.iter().enumerate() {
                // A missing row, and the missing half of the last BF16 pair, are zero bytes.
                let source = row.get(start..row.len().min(start + segment.bytes)).unwrap_or_default();
                match segment.unit {
                    1 => spread::<1>(source, number, segment.flip, part),
                    2 => spread::<2>(source, number, segment.flip, part),
                    4 => spread::<4>(source, number, segment.flip, part),
                    unit => panic!("units of {unit} bytes"),
                }
            }
            rest = after;
        }
    }
}

/// Puts each unit of `source` to the place of row `number` among 16 units side by side.
fn spread<const UNIT: usize>(source: &[u8], number: usize, flip: u8, out: &mut [u8]) {
    let (units, tail) = source.as_chunks::<UNIT>();
    let mut places = out.chunks_exact_mut(UNIT * PANEL);
    for (unit, place) in units.iter().zip(&mut places) {
        place[number * UNIT..][..UNIT].copy_from_slice(&unit.map(|byte| byte ^ flip));
    }
    for place in places {
        let mut unit = [0; UNIT];
        if !tail.is_empty() {
            unit[..tail.len()].copy_from_slice(tail);
        }
        place[number * UNIT..][..UNIT].copy_from_slice(&unit.map(|byte| byte ^ flip));
    }
}

/// The plain bytes of a row, whatever the layout.
pub fn unpack_row(matrix: &Matrix<'_>, row: usize, out: &mut [u8]) {
    matrix.check();
    assert!(row < matrix.rows, "row {row} of {}", matrix.rows);
    assert_eq!(out.len(), matrix.format.row_bytes(matrix.cols), "bytes of a plain row");
    match matrix.layout {
        Layout::Plain => out.copy_from_slice(matrix.plain_row(row)),
        Layout::Packed => unpack_from_panel(matrix.format, matrix.panel(row / PANEL), row % PANEL, out),
    }
}

/// The plain bytes of row `row` of a panel.
pub(crate) fn unpack_from_panel(format: Format, panel: &[u8], row: usize, out: &mut [u8]) {
    let segments = segments(format).expect("a packed weight is of a format that packs");
    let (_, bytes) = packed_block(format);
    for (block, out) in panel.chunks_exact(bytes * PANEL).zip(out.chunks_mut(bytes)) {
        let mut at = 0;
        for segment in segments {
            for unit in (segment.start..segment.start + segment.bytes).step_by(segment.unit) {
                let end = out.len().min(unit + segment.unit);
                if let Some(target) = out.get_mut(unit..end) {
                    let source = &block[at + row * segment.unit..][..target.len()];
                    target.iter_mut().zip(source).for_each(|(target, byte)| *target = byte ^ segment.flip);
                }
                at += segment.unit * PANEL;
            }
        }
    }
}

/// The values of a row, whatever the layout: an embedding looked up in a packed head.
pub fn row_values(matrix: &Matrix<'_>, row: usize, out: &mut [f32]) {
    assert_eq!(out.len(), matrix.cols, "a row has one value per column");
    match matrix.layout {
        Layout::Plain => {
            assert!(row < matrix.rows, "row {row} of {}", matrix.rows);
            matrix.format.dequantize(matrix.plain_row(row), out);
        }
        Layout::Packed => {
            let mut bytes = vec![0; matrix.format.row_bytes(matrix.cols)];
            unpack_row(matrix, row, &mut bytes);
            matrix.format.dequantize(&bytes, out);
        }
    }
}
