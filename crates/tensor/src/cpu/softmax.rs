//! What queries have seen of their keys so far, and how that of later ones is joined to it (Milakov and Gimelshein,
//! arXiv 1805.02867).

/// A query's softmax as far as it has come: the largest score, and the sum of the powers of e by which the others are
/// below it.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    pub(super) largest: f32,
    pub(super) sum: f32,
}

impl Softmax {
    /// Before the first key.
    pub(super) const NONE: Softmax = Softmax { largest: f32::NEG_INFINITY, sum: 0.0 };
}

/// What queries have seen.
#[derive(Default)]
pub(super) struct Sums {
    /// `[row][head]`.
    pub(super) softmax: Vec<Softmax>,
    /// Values times weights: `[row][head][head_dim]`.
    pub(super) values: Vec<f32>,
}

impl Sums {
    /// Nothing, for queries of so many values that begin with these.
    pub(super) fn begin(&mut self, softmax: impl Iterator<Item = Softmax>, values: usize) {
        self.softmax.clear();
        self.softmax.extend(softmax);
        self.values.clear();
        self.values.resize(values, 0.0);
    }

    /// Takes into account what the same queries saw of later keys.
    pub(super) fn join(&mut self, softmax: impl Iterator<Item = Softmax>, values: &[f32]) {
        let dim = values.len() / self.softmax.len().max(1);
        let so_far = self.softmax.iter_mut().zip(self.values.chunks_exact_mut(dim.max(1)));
        for ((softmax, (whole, sums)), values) in softmax.zip(so_far).zip(values.chunks_exact(dim.max(1))) {
            if softmax.sum == 0.0 {
                continue;
            }
            let largest = whole.largest.max(softmax.largest);
            let factor = |of: Softmax| match of {
                Softmax { sum: 0.0, .. } => 0.0,
                _ if of.largest == largest => 1.0,
                _ => (of.largest - largest).exp(),
            };
            let (before, after) = (factor(*whole), factor(softmax));
            *whole = Softmax { largest, sum: before * whole.sum + after * softmax.sum };
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = before * *sum + after * value);
        }
    }
}
