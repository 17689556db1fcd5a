//! What a writer must know of a tensor before its bytes come, and how a list of tensors is cut into files. Used by the
//! writers of safetensors and GGUF alike.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use crate::dtype::Dtype;
use crate::durable::Sink;
use crate::error::{Error, Result, quoted};
use crate::size::Size;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Its name in the file.
    pub name: String,
    /// Kind of its values.
    pub dtype: Dtype,
    /// Outermost dimension first, row-major.
    pub shape: Vec<usize>,
}

impl Outline {
    /// Bytes that the tensor has; `file` is named in the error where rows are not whole blocks.
    pub fn byte_count(&self, file: &str) -> Result<Size> {
        let what = |overflow| {
            let shown = quoted(&self.name);
            Error::unsupported(file, format!("tensor {shown} as {} of shape {:?} {overflow}", self.dtype, self.shape))
        };
        self.dtype.byte_count(&self.shape).map_err(what)
    }
}

/// Lets `fill` put a tensor's bytes and refuses any other number of them.
pub(crate) fn fill_checked(
    tensor: &Outline,
    sink: &mut Sink,
    fill: &mut dyn FnMut(&Outline, &mut Sink) -> Result<()>,
) -> Result<()> {
    let wanted = tensor.byte_count(&tensor.name)?;
    let before = sink.written();
    fill(tensor, sink)?;
    let found = sink.written().sub(before).map_err(Error::overflow(&tensor.name, "its length"))?;
    if found != wanted {
        let what = format!("{found} bytes were given, {} of shape {:?} has {wanted}", tensor.dtype, tensor.shape);
        return Err(Error::invalid(tensor.name.as_str(), what));
    }
    Ok(())
}

/// Cuts a list into runs of at most `bytes_max` bytes; a tensor that is larger stands alone.
pub(crate) fn shards<'a>(tensors: &'a [Outline], bytes_max: Size, file: &str) -> Result<Vec<&'a [Outline]>> {
    let mut shards = Vec::new();
    let (mut rest, mut taken, mut sum) = (tensors, 0usize, Size::ZERO);
    for tensor in tensors {
        let bytes = tensor.byte_count(file)?;
        let next = sum.add(bytes).map_err(Error::overflow(file, "the length of all tensors"))?;
        if taken > 0 && next > bytes_max {
            let (shard, after) = rest.split_at(taken);
            shards.push(shard);
            (rest, taken, sum) = (after, 1, bytes);
        } else {
            (taken, sum) = (taken.saturating_add(1), next);
        }
    }
    shards.push(rest);
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[usize], bytes_max: u64, wanted: &[usize]) {
        let outline = |&size: &usize| Outline { name: "a".into(), dtype: Dtype::U8, shape: vec![size] };
        let tensors: Vec<Outline> = sizes.iter().map(outline).collect();
        let found = shards(&tensors, Size::new(bytes_max), "x").unwrap();
        assert_eq!(found.iter().map(|shard| shard.len()).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn shards_are_full_but_never_over_their_limit() {
        check(&[], 10, &[0]);
        check(&[5, 5, 5], 10, &[2, 1]);
        check(&[11, 1, 1], 10, &[1, 2]);
        check(&[1, 11, 1], 10, &[1, 1, 1]);
        check(&[0, 0, 10, 0], 10, &[4]);
        check(&[3, 3, 3, 3], 0, &[1, 1, 1, 1]);
        check(&[usize::MAX / 2, 3], u64::MAX, &[2]);
    }
}
