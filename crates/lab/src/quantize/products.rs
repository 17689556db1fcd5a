//! How the values of rows go together: their mean products, within windows of neighbors, and what becomes of these
//! behind a norm or a matrix. No files, and nothing of a model's structure.
//! Invariant: no more than a window's rows of a matrix are in memory as floats.

use pasture_kernels::Format;
use pasture_kernels::formats::recode::WINDOW;
use pasture_tensor::backend::Group;
use pasture_tensor::{Backend, Tensor, Weight};

use super::importance::Inputs;

/// Mean products.
#[derive(Clone, Debug)]
pub enum Products {
    /// Of values that go each on its own: the squares.
    Alone(Vec<f32>),
    /// All products of each window, row by row.
    Together(Vec<Vec<f32>>),
}

impl Products {
    /// Of rows that are the columns of `values`, `[values, rows]`.
    pub fn of_columns(backend: &dyn Backend, values: &Tensor) -> Products {
        let one = Products::Alone(vec![1.0 / values.cols().max(1) as f32; values.cols()]);
        one.behind_rows(backend, values.rows(), |at, row| row.copy_from_slice(values.row(at)))
    }

    /// Of each value with itself.
    pub fn squares(&self) -> Vec<f32> {
        match self {
            Products::Alone(squares) => squares.clone(),
            Products::Together(windows) => {
                let diagonal =
                    |window: &Vec<f32>| window.iter().copied().step_by(width(window) + 1).collect::<Vec<f32>>();
                windows.iter().flat_map(diagonal).collect()
            }
        }
    }

    /// Each pair's product as `change(product, first, second)` makes it.
    fn changed(mut self, change: impl Fn(f32, usize, usize) -> f32) -> Products {
        match &mut self {
            Products::Alone(squares) => {
                squares.iter_mut().enumerate().for_each(|(at, square)| *square = change(*square, at, at));
            }
            Products::Together(windows) => {
                for (window, start) in windows.iter_mut().zip((0..).step_by(WINDOW)) {
                    let width = width(window);
                    for (row, first) in window.chunks_exact_mut(width).zip(start..) {
                        row.iter_mut()
                            .zip(start..)
                            .for_each(|(product, second)| *product = change(*product, first, second));
                    }
                }
            }
        }
        self
    }

    /// Of values that are multiplied by factors.
    pub fn scaled(self, factors: &[f32]) -> Products {
        self.changed(|product, first, second| product * (factors[first] * factors[second]))
    }

    /// Of values that are multiplied by one factor.
    pub fn times(self, factor: f32) -> Products {
        self.changed(|product, _, _| product * (factor * factor))
    }

    /// With other squares, going together as before.
    pub fn with_squares(self, squares: &[f32]) -> Products {
        let factor = |(wanted, own): (&f32, &f32)| if *own > 0.0 { (wanted / own).sqrt() } else { 0.0 };
        let factors: Vec<f32> = squares.iter().zip(&self.squares()).map(factor).collect();
        self.scaled(&factors).changed(|product, first, second| if first == second { squares[first] } else { product })
    }

    /// Of the sum with values that are always the same.
    pub fn with_bias(self, bias: &[f32]) -> Products {
        self.changed(|product, first, second| product + bias[first] * bias[second])
    }

    /// With the share of each pair's product that `share` names.
    pub fn shared(self, share: impl Fn(usize, usize) -> f32) -> Products {
        self.changed(|product, first, second| product * share(first, second))
    }

    /// Of the sum of values that have nothing to do with each other; each on its own where either is.
    pub fn and(self, other: &Products) -> Products {
        let sum = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(one, other)| one + other).collect();
        match (self, other) {
            (Products::Together(one), Products::Together(other)) => {
                Products::Together(one.iter().zip(other).map(|(one, other)| sum(one, other)).collect())
            }
            (one, other) => Products::Alone(sum(&one.squares(), &other.squares())),
        }
    }

    /// Of what a matrix makes of the values.
    pub fn behind(&self, backend: &dyn Backend, weight: &Weight) -> Products {
        self.behind_rows(backend, weight.rows(), |at, row| weight.row_values(at, row))
    }

    /// Of what `count` rows of a matrix make of the values.
    pub fn behind_rows(&self, backend: &dyn Backend, count: usize, fill: impl Fn(usize, &mut [f32])) -> Products {
        let mut windows = Vec::new();
        self.each_window(backend, count, fill, |rows, times| {
            let rows = Weight::from_values(rows.rows(), rows.cols(), rows.values());
            windows.push(backend.grouped(times, &[Group::whole(times, &rows)]).into_values());
        });
        Products::Together(windows)
    }

    /// The mean squares of what a matrix makes of the values.
    pub fn squares_behind(&self, backend: &dyn Backend, weight: &Weight) -> Vec<f32> {
        let mut squares = Vec::new();
        self.each_window(
            backend,
            weight.rows(),
            |at, row| weight.row_values(at, row),
            |rows, times| {
                let of_row =
                    |at: usize| rows.row(at).iter().zip(times.row(at)).map(|(row, times)| row * times).sum::<f32>();
                squares.extend((0..rows.rows()).map(of_row));
            },
        );
        squares
    }

    /// Gives windows of a matrix's rows, and these times the products.
    fn each_window(
        &self,
        backend: &dyn Backend,
        count: usize,
        fill: impl Fn(usize, &mut [f32]),
        mut each: impl FnMut(&Tensor, &Tensor),
    ) {
        let square = |window: &Vec<f32>| Weight::from_values(width(window), width(window), window);
        let windows: Vec<Weight> = match self {
            Products::Alone(_) => Vec::new(),
            Products::Together(windows) => windows.iter().map(square).collect(),
        };
        let squares = self.squares();
        for first in (0..count).step_by(WINDOW) {
            let mut rows = Tensor::zeros(WINDOW.min(count - first), squares.len());
            (0..rows.rows()).for_each(|at| fill(first + at, rows.row_mut(at)));
            let mut times = rows.clone();
            if windows.is_empty() {
                let scale = |row: &mut [f32]| row.iter_mut().zip(&squares).for_each(|(value, by)| *value *= by);
                (0..rows.rows()).for_each(|at| scale(times.row_mut(at)));
            }
            for (window, start) in windows.iter().zip((0..).step_by(WINDOW)) {
                let columns = start..start + window.cols();
                let part = (0..rows.rows()).flat_map(|at| rows.row(at)[columns.clone()].iter().copied()).collect();
                let part = Tensor::new(rows.rows(), window.cols(), part);
                let made = backend.grouped(&part, &[Group::whole(&part, window)]);
                (0..rows.rows()).for_each(|at| times.row_mut(at)[columns.clone()].copy_from_slice(made.row(at)));
            }
            each(&rows, &times);
        }
    }

    /// What a file of importance keeps of products that are means over so many rows.
    pub fn inputs(&self, rows: f32) -> Inputs {
        let squares = self.squares();
        let sums = squares.iter().map(|square| square * rows).collect();
        let mut inputs = Inputs { squares: sums, rows, correlations: Vec::new() };
        let Products::Together(windows) = self else { return inputs };
        for (products, squares) in windows.iter().zip(squares.chunks(WINDOW)) {
            let pairs = (0..squares.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
            let correlation = |(a, b): (usize, usize)| {
                let size = (squares[a] * squares[b]).sqrt();
                if size > 0.0 { products[a * squares.len() + b] / size } else { 0.0 }
            };
            let found: Vec<f32> = pairs.map(correlation).collect();
            let start = inputs.correlations.len();
            inputs.correlations.resize(start + Format::F16.row_bytes(found.len()), 0);
            Format::F16.quantize(&found, None, &mut inputs.correlations[start..]);
        }
        inputs
    }
}

/// Values of a window, by its products.
fn width(products: &[f32]) -> usize {
    products.len().isqrt()
}
