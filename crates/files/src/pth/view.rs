//! One tensor of a checkpoint: a row-major range of the file, a strided view that is copied when it is asked for, or
//! shards to be joined. Ranges and strides are checked before, so that only a record's checksum can still fail.

use std::ops::Range;
use std::sync::Arc;

use super::records::{Record, element_bytes};
use super::value::View;
use crate::Dtype;
use crate::error::Result;
use crate::mmap::Bytes;
use crate::tensors::{Found, Gather, Source};

/// A named tensor and where its values come from.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its key in the checkpoint, nested keys joined by dots.
    pub name: String,
    /// What one value is.
    pub dtype: Dtype,
    /// Outermost dimension first; no dimensions for a single value.
    pub shape: Vec<usize>,
    values: Values,
}

/// A range of a record's bytes.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub bytes: Bytes,
    pub record: Arc<Record>,
}

#[derive(Clone, Debug)]
enum Values {
    /// Row-major as they stand.
    Plain(Part),
    /// One stride per dimension, in values; the bytes begin at the first value and end after the last.
    Strided(Part, Vec<usize>),
    /// Parts one below the other: along dimension 0.
    Rows(Vec<Tensor>),
    /// Matrices of equal height side by side: along dimension 1.
    Columns(Vec<Tensor>),
}

impl Tensor {
    /// `part` is exactly the range that [`reach`] allowed.
    pub(super) fn of_view(name: String, view: &View, part: Part) -> Tensor {
        let values = match is_row_major(&view.shape, &view.strides) {
            true => Values::Plain(part),
            false => Values::Strided(part, view.strides.clone()),
        };
        Tensor { name, dtype: view.dtype, shape: view.shape.clone(), values }
    }

    /// Joins parts of one name and kind along dimension 0; their other dimensions are equal.
    pub(super) fn of_rows(parts: Vec<Tensor>) -> Tensor {
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        Tensor { name: parts[0].name.clone(), dtype: parts[0].dtype, shape, values: Values::Rows(parts) }
    }

    /// Joins matrices of one name and kind along dimension 1; their heights are equal.
    pub(super) fn of_columns(parts: Vec<Tensor>) -> Tensor {
        let columns = parts.iter().map(|part| part.shape[1]).sum();
        let shape = vec![parts[0].shape[0], columns];
        Tensor { name: parts[0].name.clone(), dtype: parts[0].dtype, shape, values: Values::Columns(parts) }
    }

    /// Bytes of the whole tensor.
    pub fn byte_count(&self) -> usize {
        // Every tensor's bytes exist in the file, so the product fits.
        self.shape.iter().product::<usize>() * element_bytes(self.dtype)
    }

    /// The values, row-major and little-endian: a part of the file where it stands so, else a copy made now.
    pub fn bytes(&self) -> Result<Bytes> {
        if let Values::Plain(part) = &self.values {
            part.record.check()?;
            return Ok(part.bytes.clone());
        }
        let mut out = vec![0; self.byte_count()];
        self.write(&mut out)?;
        Ok(Bytes::from(out))
    }

    /// Writes the values, row-major, over `out` of [`Tensor::byte_count`] bytes.
    fn write(&self, out: &mut [u8]) -> Result<()> {
        match &self.values {
            Values::Plain(part) => {
                part.record.check()?;
                out.copy_from_slice(&part.bytes);
            }
            Values::Strided(part, strides) => {
                part.record.check()?;
                gather(&part.bytes, element_bytes(self.dtype), &self.shape, strides, out);
            }
            Values::Rows(parts) => {
                let mut rest = out;
                for part in parts {
                    let (own, below) = rest.split_at_mut(part.byte_count());
                    part.write(own)?;
                    rest = below;
                }
            }
            Values::Columns(parts) => self.write_columns(parts, out)?,
        }
        Ok(())
    }

    fn write_columns(&self, parts: &[Tensor], out: &mut [u8]) -> Result<()> {
        let row = self.shape[1] * element_bytes(self.dtype);
        let mut left = 0;
        for part in parts {
            let width = part.shape[1] * element_bytes(self.dtype);
            let bytes = part.bytes()?;
            if width > 0 {
                for (target, values) in out.chunks_exact_mut(row).zip(bytes.chunks_exact(width)) {
                    target[left..left + width].copy_from_slice(values);
                }
            }
            left += width;
        }
        Ok(())
    }
}

impl Gather for Tensor {
    fn gather(&self) -> Result<Bytes> {
        self.bytes()
    }

    fn release(&self) {
        match &self.values {
            Values::Plain(part) | Values::Strided(part, _) => part.bytes.release(),
            Values::Rows(parts) | Values::Columns(parts) => parts.iter().for_each(Gather::release),
        }
    }
}

impl From<Tensor> for Found {
    fn from(tensor: Tensor) -> Found {
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        Found { name, dtype, shape, source: Source::Gathered(Arc::new(tensor)) }
    }
}

/// The values of a storage of `count` values that a view touches, from its first to after its last. Checked: nothing
/// wraps, nothing lies outside, and there are no more values than the storage holds (a stride of zero could otherwise
/// make a terabyte of four bytes).
pub(super) fn reach(view: &View, count: usize) -> Result<Range<usize>, String> {
    let offset = usize::try_from(view.offset).ok().filter(|&offset| offset <= count);
    let outside = || format!("of shape {:?} reaches outside its storage of {count} values", view.shape);
    let offset = offset.ok_or_else(|| format!("begins at value {} of a storage of {count}", view.offset))?;
    if view.shape.contains(&0) {
        return Ok(offset..offset);
    }
    let values = view.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if values.is_none_or(|values| values > count) {
        return Err(format!("of shape {:?} is larger than its storage of {count} values", view.shape));
    }
    let mut last = offset;
    for (&size, &stride) in view.shape.iter().zip(&view.strides) {
        let step = (size - 1).checked_mul(stride).ok_or_else(outside)?;
        last = last.checked_add(step).ok_or_else(outside)?;
    }
    if last >= count {
        return Err(outside());
    }
    Ok(offset..last + 1)
}

/// Whether the strides are those of a row-major tensor; where a dimension is one its stride says nothing.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut wanted = 1usize;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size == 0 {
            return true;
        }
        if size != 1 && stride != wanted {
            return false;
        }
        wanted = wanted.saturating_mul(size);
    }
    true
}

/// Copies a strided view in row-major order. The view was checked by [`reach`].
fn gather(bytes: &[u8], width: usize, shape: &[usize], strides: &[usize], out: &mut [u8]) {
    let (Some((&columns, outer)), Some((&step, outer_strides))) = (shape.split_last(), strides.split_last()) else {
        return out.copy_from_slice(bytes);
    };
    let mut index = vec![0usize; outer.len()];
    for row in out.chunks_exact_mut(columns * width) {
        let start: usize = index.iter().zip(outer_strides).map(|(at, stride)| at * stride).sum();
        for (column, value) in row.chunks_exact_mut(width).enumerate() {
            let from = (start + column * step) * width;
            value.copy_from_slice(&bytes[from..from + width]);
        }
        // The next row, the innermost of the outer dimensions first.
        for (at, &size) in index.iter_mut().zip(outer).rev() {
            *at += 1;
            if *at < size {
                break;
            }
            *at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use pasture_kernels::Format;

    use super::*;

    fn view(offset: u64, shape: &[usize], strides: &[usize]) -> View {
        View { storage: 0, dtype: Dtype::U8, offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    fn part(bytes: Bytes) -> Part {
        Part { record: Arc::new(Record::new("t", "0", bytes.clone(), None)), bytes }
    }

    fn check(offset: u64, shape: &[usize], strides: &[usize], wanted: Option<&[u8]>) {
        let storage: Vec<u8> = (0..24).collect();
        let view = view(offset, shape, strides);
        let found = reach(&view, storage.len()).ok().map(|range| {
            let part = part(Bytes::from(storage).slice(range).unwrap());
            Tensor::of_view("t".into(), &view, part).bytes().unwrap().to_vec()
        });
        assert_eq!(found.as_deref(), wanted, "{offset} {shape:?} {strides:?}");
    }

    #[test]
    fn a_view_reads_what_its_strides_say() {
        check(0, &[], &[], Some(&[0]));
        check(5, &[], &[], Some(&[5]));
        check(3, &[2, 3], &[3, 1], Some(&[3, 4, 5, 6, 7, 8]));
        check(0, &[3, 2], &[1, 3], Some(&[0, 3, 1, 4, 2, 5]));
        check(1, &[2, 2, 2], &[12, 1, 4], Some(&[1, 5, 2, 6, 13, 17, 14, 18]));
        check(0, &[1, 4], &[99, 1], Some(&[0, 1, 2, 3]));
        check(7, &[2, 2], &[0, 1], Some(&[7, 8, 7, 8]));
        check(24, &[0], &[1], Some(&[]));
        check(0, &[2, 0], &[7, 9], Some(&[]));
    }

    #[test]
    fn a_view_outside_its_storage_is_refused() {
        check(24, &[], &[], None);
        check(25, &[0], &[1], None);
        check(23, &[2], &[1], None);
        check(0, &[25], &[0], None);
        check(0, &[2, 2], &[23, 1], None);
        check(0, &[usize::MAX, 2], &[1, 1], None);
        check(0, &[2], &[usize::MAX], None);
        check(u64::MAX, &[2], &[1], None);
    }

    #[test]
    fn joined_parts_stand_below_or_beside_each_other() {
        let tensor = |from: u8, shape: [usize; 2]| {
            let bytes: Vec<u8> = (from..from + (shape[0] * shape[1]) as u8).collect();
            let view = View { dtype: Dtype::U8, ..view(0, &shape, &[shape[1], 1]) };
            Tensor::of_view("t".into(), &view, part(Bytes::from(bytes)))
        };
        let rows = Tensor::of_rows(vec![tensor(0, [1, 2]), tensor(10, [2, 2])]);
        assert_eq!((rows.shape.as_slice(), &rows.bytes().unwrap()[..]), (&[3, 2][..], &[0, 1, 10, 11, 12, 13][..]));
        let columns = Tensor::of_columns(vec![tensor(0, [2, 1]), tensor(10, [2, 2])]);
        assert_eq!(
            (columns.shape.as_slice(), &columns.bytes().unwrap()[..]),
            (&[2, 3][..], &[0, 10, 11, 1, 12, 13][..])
        );
        assert_eq!(element_bytes(Dtype::Number(Format::BF16)), 2);
    }
}
