//! The dense matrix that flows between operations. Weights are another type; quantized activations never leave
//! a dispatch, so values are f32.

use std::any::Any;
use std::sync::{Arc, Weak};

/// Names a value on a tape. Values without one are constants: no gradient flows into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u64);

/// A dense row-major matrix of f32. Cloning shares the values.
#[derive(Clone)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    storage: Storage,
    node: Option<NodeId>,
}

#[derive(Clone)]
enum Storage {
    Host(Arc<Buffer>),
    /// Memory of a backend that is not the processor's; only that backend can read it.
    Device(Arc<dyn Any + Send + Sync>),
}

/// Values whose memory is used again.
#[derive(Clone)]
struct Buffer(Vec<f32>);

impl Drop for Buffer {
    fn drop(&mut self) {
        crate::memory::give(std::mem::take(&mut self.0));
    }
}

/// Tells whether a tensor still has the values it had. A stamp does not keep them: who alone has them may change them,
/// and is then another's.
#[derive(Default)]
pub(crate) struct Stamp(Weak<Buffer>);

impl Stamp {
    /// Whether the tensor has the stamped values, unchanged.
    pub(crate) fn is_of(&self, tensor: &Tensor) -> bool {
        matches!(&tensor.storage, Storage::Host(values) if std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(values)))
    }
}

impl Tensor {
    /// A matrix of the given values, row after row.
    pub fn new(rows: usize, cols: usize, values: Vec<f32>) -> Tensor {
        assert_eq!(values.len(), rows * cols, "{rows}x{cols} values");
        Tensor { rows, cols, storage: Storage::Host(Arc::new(Buffer(values))), node: None }
    }

    /// A matrix of zeros.
    pub fn zeros(rows: usize, cols: usize) -> Tensor {
        Tensor::new(rows, cols, crate::memory::zeroed(rows * cols))
    }

    /// A matrix that lives in a device's memory.
    pub fn on_device(rows: usize, cols: usize, memory: Arc<dyn Any + Send + Sync>) -> Tensor {
        Tensor { rows, cols, storage: Storage::Device(memory), node: None }
    }

    /// Tokens (or patches).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row after row. Asserts that they are in the host's memory.
    pub fn values(&self) -> &[f32] {
        match &self.storage {
            Storage::Host(values) => &values.0,
            Storage::Device(_) => panic!("a device's tensor is read through its backend"),
        }
    }

    /// All values for writing; copies them first if they are shared.
    pub fn values_mut(&mut self) -> &mut [f32] {
        match &mut self.storage {
            Storage::Host(values) => &mut Arc::make_mut(values).0,
            Storage::Device(_) => panic!("a device's tensor is written through its backend"),
        }
    }

    /// One row of values.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values()[row * self.cols..][..self.cols]
    }

    /// One row of values for writing.
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        let cols = self.cols;
        &mut self.values_mut()[row * cols..][..cols]
    }

    /// The device's memory, for the backend that made it.
    pub fn device_memory(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        match &self.storage {
            Storage::Host(_) => None,
            Storage::Device(memory) => Some(memory),
        }
    }

    /// The values out, without a copy where nobody shares them.
    pub fn into_values(self) -> Vec<f32> {
        match self.storage {
            Storage::Host(values) => match Arc::try_unwrap(values) {
                Ok(mut own) => std::mem::take(&mut own.0),
                Err(shared) => shared.0.clone(),
            },
            Storage::Device(_) => panic!("a device's tensor is read through its backend"),
        }
    }

    /// Whether nobody shares its values, so that they can be written where they are.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(&self.storage, Storage::Host(values) if Arc::strong_count(values) == 1)
    }

    /// A stamp of the values it has now.
    pub(crate) fn stamp(&self) -> Stamp {
        match &self.storage {
            Storage::Host(values) => Stamp(Arc::downgrade(values)),
            Storage::Device(_) => Stamp::default(),
        }
    }

    /// The value's name on a tape.
    pub fn node(&self) -> Option<NodeId> {
        self.node
    }

    pub(crate) fn with_node(mut self, node: NodeId) -> Tensor {
        self.node = Some(node);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_the_same_unchanged_values() {
        let mut x = Tensor::new(1, 2, vec![1.0, 2.0]);
        let stamp = x.stamp();
        let shared = x.clone();
        assert!(stamp.is_of(&x) && stamp.is_of(&shared) && !stamp.is_of(&Tensor::new(1, 2, vec![1.0, 2.0])));
        drop(shared);
        // Nobody else has the values, so they change where they are; the stamp is of what they were.
        let place = x.values().as_ptr();
        x.values_mut()[0] = 3.0;
        assert!(std::ptr::eq(place, x.values().as_ptr()) && !stamp.is_of(&x));
        assert!(!Stamp::default().is_of(&x));
    }
}
