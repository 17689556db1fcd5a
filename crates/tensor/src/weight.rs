//! Stored weights: one copy, one layout, any number format. Who reads files or chooses a layout lives elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use pasture_kernels::Format;
pub use pasture_kernels::linear::Layout;

/// Names a weight, so that a tied one is recognised and its gradients are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(u64);

impl WeightId {
    fn fresh() -> WeightId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        WeightId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A matrix `[rows, cols]` of stored numbers: rows are outputs, columns are inputs. Cloning shares the bytes.
#[derive(Clone)]
pub struct Weight {
    id: WeightId,
    format: Format,
    layout: Layout,
    rows: usize,
    cols: usize,
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    squares: Arc<OnceLock<Vec<f64>>>,
}

impl Weight {
    /// A weight over bytes that are already in `layout`.
    pub fn new(
        format: Format,
        layout: Layout,
        rows: usize,
        cols: usize,
        bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
    ) -> Weight {
        Weight { id: WeightId::fresh(), format, layout, rows, cols, bytes, squares: Arc::default() }
    }

    /// A plain f32 weight of the given values, row after row.
    pub fn from_values(rows: usize, cols: usize, values: &[f32]) -> Weight {
        Weight::of_shared(rows, cols, Arc::new(values.to_vec()))
    }

    /// The same without a copy. Whoever has the values too changes them only when this weight and its clones are gone.
    pub fn of_shared(rows: usize, cols: usize, values: Arc<Vec<f32>>) -> Weight {
        assert_eq!(values.len(), rows * cols);
        Weight::new(Format::F32, Layout::Plain, rows, cols, Arc::new(Shared(values)))
    }

    /// The weight's name.
    pub fn id(&self) -> WeightId {
        self.id
    }

    /// These numbers as the next of a weight: the identity stays.
    pub fn with_id_of(self, weight: &Weight) -> Weight {
        assert_eq!((self.rows, self.cols), (weight.rows, weight.cols), "a weight keeps its shape");
        Weight { id: weight.id, ..self }
    }

    /// How its numbers are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How its rows are laid out.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The stored bytes, in the weight's layout.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// The weight as the kernels take it.
    pub fn matrix(&self) -> pasture_kernels::linear::Matrix<'_> {
        pasture_kernels::linear::Matrix {
            format: self.format,
            layout: self.layout,
            rows: self.rows,
            cols: self.cols,
            bytes: self.bytes(),
        }
    }

    /// Row `row` as f32 values.
    pub fn row_values(&self, row: usize, out: &mut [f32]) {
        pasture_kernels::linear::row_values(&self.matrix(), row, out);
    }

    /// All values, row after row.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        values.chunks_exact_mut(self.cols.max(1)).enumerate().for_each(|(row, out)| self.row_values(row, out));
        values
    }

    /// The sum of squares of each row, computed once for all clones.
    pub fn row_squares(&self) -> &[f64] {
        self.squares.get_or_init(|| {
            let mut values = vec![0.0; self.cols];
            let mut squares = |row| {
                self.row_values(row, &mut values);
                values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum()
            };
            (0..self.rows).map(&mut squares).collect()
        })
    }
}

/// Values as F32 is stored; processors of the other byte order have no loops here.
struct Shared(Arc<Vec<f32>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        const { assert!(cfg!(target_endian = "little"), "stored numbers are read as they lie") };
        bytemuck::cast_slice(&self.0)
    }
}

/// A vector of f32 parameters: a norm's weight, a bias. Cloning shares the values.
#[derive(Clone)]
pub struct Vector {
    id: WeightId,
    values: Arc<Vec<f32>>,
}

impl Vector {
    /// A vector of the given values.
    pub fn new(values: Vec<f32>) -> Vector {
        Vector { id: WeightId::fresh(), values: Arc::new(values) }
    }

    /// The vector's name.
    pub fn id(&self) -> WeightId {
        self.id
    }

    /// The next values of the same vector: the identity stays.
    pub fn replaced(&self, values: Vec<f32>) -> Vector {
        assert_eq!(values.len(), self.values.len(), "a vector keeps its length");
        Vector { id: self.id, values: Arc::new(values) }
    }

    /// Its values.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
