//! From the rows of a text to one vector: the verb after the forward that embedding uses. What a model's own files say
//! about it is read in `rules.rs`.

mod rules;

use std::ops::Range;

use pasture_tensor::{Ops, Tensor};

use crate::decoder::Decoder;
pub use rules::EmbedRules;

/// Which of a text's rows become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first one's, which an encoder was trained to sum the text up in.
    Cls,
    /// The mean of all.
    Mean,
    /// The last one's: the only one that saw the whole text in a causal model.
    Last,
}

/// The smallest length that a vector is divided by, as PyTorch's `normalize` has it.
const LENGTH_MIN: f64 = 1e-12;

impl Pooling {
    /// The word for it, in flags and results.
    pub fn name(self) -> &'static str {
        match self {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
            Pooling::Last => "last",
        }
    }
}

impl Decoder {
    /// One vector for each text, `[texts, hidden]` in the host's memory: `rows` are what a forward gave, `texts` the
    /// rows of each, at least one.
    pub fn pool(&self, ops: &mut Ops, rows: &Tensor, texts: &[Range<usize>], pooling: Pooling) -> Tensor {
        assert!(texts.iter().all(|text| !text.is_empty()), "a text has rows");
        let row = |row: fn(&Range<usize>) -> usize| texts.iter().map(|text| row(text) as u32).collect::<Vec<u32>>();
        let chosen = match pooling {
            Pooling::Cls => ops.gather(rows, &row(|text| text.start)),
            Pooling::Last => ops.gather(rows, &row(|text| text.end - 1)),
            Pooling::Mean => return mean(&ops.backend().download(rows), rows.cols(), texts),
        };
        Tensor::new(texts.len(), rows.cols(), ops.backend().download(&chosen))
    }
}

/// The mean of each text's rows, summed in f64 so that a long text loses nothing.
fn mean(values: &[f32], cols: usize, texts: &[Range<usize>]) -> Tensor {
    let mut made = Vec::with_capacity(texts.len() * cols);
    for text in texts {
        let mut sums = vec![0.0_f64; cols];
        for row in values[text.start * cols..text.end * cols].chunks_exact(cols.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        made.extend(sums.iter().map(|sum| (sum / text.len() as f64) as f32));
    }
    Tensor::new(texts.len(), cols, made)
}

/// Makes each row one long, so that products of rows are cosines.
pub fn normalize(rows: &mut Tensor) {
    for at in 0..rows.rows() {
        let row = rows.row_mut(at);
        let squares: f64 = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
        let length = squares.sqrt().max(LENGTH_MIN);
        row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}
