//! What a Parquet file says of itself, looked at before its reader believes it: how deep the schema is, how large pages
//! become and how many values they hold. The reader alone would allocate what a header asks for.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use parquet::file::metadata::ColumnChunkMetaData;

use super::thrift::{I32, LIST, STRUCT, Thrift};

/// The longest footer.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// The most elements of a schema, and the deepest.
const SCHEMA_MAX: u64 = 4_096;
const SCHEMA_DEPTH_MAX: usize = 32;
/// The largest page after decompression.
const PAGE_BYTES_MAX: i64 = 64 << 20;
/// The longest header of a page.
const HEADER_BYTES_MAX: u64 = 64 << 10;
/// The most values of one column in one group of rows: a hostile row could hold them all.
const VALUES_MAX: i64 = 8 << 20;

/// Looks at the footer: its length, and the shape of the schema in it.
pub(super) fn footer(file: &mut File) -> Result<(), String> {
    let io = |fault: std::io::Error| fault.to_string();
    let size = file.metadata().map_err(io)?.len();
    let short = || "it is too short to be Parquet".to_owned();
    file.seek(SeekFrom::Start(size.checked_sub(8).ok_or_else(short)?)).map_err(io)?;
    let mut end = [0; 8];
    file.read_exact(&mut end).map_err(io)?;
    match &end[4..] {
        b"PAR1" => {}
        b"PARE" => return Err("it is encrypted".into()),
        _ => return Err("it does not end as Parquet does; it is cut off or damaged".into()),
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if length > FOOTER_BYTES_MAX || length + 12 > size {
        return Err(format!("its footer is said to have {length} bytes"));
    }
    file.seek(SeekFrom::Start(size - 8 - length)).map_err(io)?;
    let mut footer = vec![0; usize::try_from(length).map_err(|_| short())?];
    file.read_exact(&mut footer).map_err(io)?;
    let schema = schema(&footer).ok_or("its footer is no list of fields")?;
    depth(&schema)
}

/// The numbers of children of the schema's elements, in order.
fn schema(footer: &[u8]) -> Option<Vec<i64>> {
    let mut thrift = Thrift::new(footer);
    let mut last = 0;
    let mut found = None;
    while let (field, kind @ 1..) = thrift.field(&mut last)? {
        if (field, kind) != (2, LIST) {
            thrift.skip(kind)?;
            continue;
        }
        let (count, STRUCT) = thrift.list()? else { return None };
        if count > SCHEMA_MAX {
            return None;
        }
        let mut children = Vec::new();
        for _ in 0..count {
            let (mut last, mut own) = (0, 0);
            while let (field, kind @ 1..) = thrift.field(&mut last)? {
                match (field, kind) {
                    (5, I32) => own = thrift.whole()?,
                    _ => thrift.skip(kind)?,
                }
            }
            children.push(own);
        }
        found = Some(children);
    }
    found
}

/// The schema is a tree in one line; its reader is recursive.
fn depth(children: &[i64]) -> Result<(), String> {
    let mut open: Vec<i64> = Vec::new();
    for (place, own) in children.iter().enumerate() {
        if place > 0 {
            while open.last() == Some(&0) {
                open.pop();
            }
            *open.last_mut().ok_or("its schema has elements outside the tree")? -= 1;
        }
        if !(0..=SCHEMA_MAX as i64).contains(own) {
            return Err(format!("an element of its schema has {own} children"));
        }
        open.push(*own);
        if open.len() > SCHEMA_DEPTH_MAX {
            return Err(format!("its schema is deeper than {SCHEMA_DEPTH_MAX}"));
        }
    }
    if open.iter().any(|left| *left > 0) || children.is_empty() {
        return Err("its schema is cut off".into());
    }
    Ok(())
}

/// Walks the headers of a column's pages.
pub(super) fn pages(file: &mut File, column: &ColumnChunkMetaData) -> Result<(), String> {
    let name = column.column_path().string();
    let of = |what: String| format!("column {}: {what}", crate::error::quoted(&name));
    let size = file.metadata().map_err(|fault| fault.to_string())?.len();
    let starts = column.dictionary_page_offset().into_iter().chain([column.data_page_offset()]).filter(|at| *at > 0);
    let start = starts.min().and_then(|at| u64::try_from(at).ok());
    let length = u64::try_from(column.compressed_size()).ok();
    let range = start.zip(length).and_then(|(start, length)| Some((start, start.checked_add(length)?)));
    let (mut at, end) = range.filter(|(_, end)| *end <= size).ok_or_else(|| of("it lies outside the file".into()))?;
    let mut left = column.num_values();
    if !(0..=VALUES_MAX).contains(&left) {
        return Err(of(format!("{left} values in one group of rows, at most {VALUES_MAX}; write smaller groups")));
    }
    while at < end {
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(at)).map_err(|fault| fault.to_string())?;
        let mut limited = Read::by_ref(file).take(HEADER_BYTES_MAX.min(end - at));
        limited.read_to_end(&mut head).map_err(|fault| fault.to_string())?;
        let page = Page::read(&head).ok_or_else(|| of("the header of a page is damaged".into()))?;
        let stored = u64::try_from(page.stored).ok().filter(|stored| page.length + stored <= end - at);
        let stored = stored.ok_or_else(|| of("a page lies outside its column".into()))?;
        if !(0..=PAGE_BYTES_MAX).contains(&page.size) {
            return Err(of(format!("a page of {} bytes, at most {PAGE_BYTES_MAX}", page.size)));
        }
        left -= page.values;
        if page.values < 0 || left < 0 {
            return Err(of("its pages hold more values than it has".into()));
        }
        at += page.length + stored;
    }
    Ok(())
}

/// What the header of a page says.
struct Page {
    /// Bytes of the header.
    length: u64,
    /// Bytes behind it.
    stored: i64,
    /// Bytes after decompression.
    size: i64,
    /// Values of a page of data.
    values: i64,
}

impl Page {
    fn read(bytes: &[u8]) -> Option<Page> {
        let mut thrift = Thrift::new(bytes);
        let mut page = Page { length: 0, stored: -1, size: -1, values: 0 };
        let mut last = 0;
        while let (field, kind @ 1..) = thrift.field(&mut last)? {
            match (field, kind) {
                (2, I32) => page.size = thrift.whole()?,
                (3, I32) => page.stored = thrift.whole()?,
                // Headers of data pages, of the first and the second form.
                (5 | 8, STRUCT) => {
                    let mut last = 0;
                    while let (field, kind @ 1..) = thrift.field(&mut last)? {
                        match (field, kind) {
                            (1, I32) => page.values = thrift.whole()?,
                            _ => thrift.skip(kind)?,
                        }
                    }
                }
                _ => thrift.skip(kind)?,
            }
        }
        page.length = thrift.at as u64;
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_tree_of_bounded_depth() {
        assert!(depth(&[2, 0, 1, 0]).is_ok());
        let chain: Vec<i64> = (0..100).map(|_| 1).chain([0]).collect();
        for (wrong, what) in [
            (vec![], "cut off"),
            (vec![2, 0], "cut off"),
            (vec![1, 0, 0], "outside"),
            (vec![-1], "-1 children"),
            (chain, "deeper"),
        ] {
            assert!(depth(&wrong).unwrap_err().contains(what), "{wrong:?}");
        }
    }

    #[test]
    fn a_header_that_ends_early_is_no_header() {
        // Type 0, size 10, stored 8, a data page of 3 values, the end.
        let whole = [0x15, 0, 0x15, 20, 0x15, 16, 0x2c, 0x15, 6, 0, 0];
        let page = Page::read(&whole).unwrap();
        assert_eq!((page.length, page.size, page.stored, page.values), (11, 10, 8, 3));
        for cut in 0..whole.len() {
            assert!(Page::read(&whole[..cut]).is_none(), "{cut}");
        }
    }
}
