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
pub struct Products {
    /// Of each value with itself.
    squares: Vec<f32>,
    /// All products of each window, row by row; no windows where each value goes on its own.
    windows: Vec<Vec<f32>>,
}

impl Products {
    /// Of values that go each on its own.
    pub fn alone(squares: Vec<f32>) -> Products {
        Products { squares, windows: Vec::new() }
    }

    /// Of windows' products.
    pub fn together(windows: Vec<Vec<f32>>) -> Products {
        let diagonal = |window: &Vec<f32>| {
            let width = window.len().isqrt();
            window.iter().copied().step_by(width + 1).collect::<Vec<f32>>()
        };
        Products { squares: windows.iter().flat_map(diagonal).collect(), windows }
    }

    /// Of rows that are the columns of `values`, `[values, rows]`.
    pub fn of_columns(backend: &dyn Backend, values: &Tensor) -> Products {
        let one = Products::alone(vec![1.0 / values.cols().max(1) as f32; values.cols()]);
        one.behind_rows(backend, values.rows(), |at, row| row.copy_from_slice(values.row(at)))
    }

    /// How many values.
    pub fn len(&self) -> usize {
        self.squares.len()
    }

    /// Of each value with itself.
    pub fn squares(&self) -> &[f32] {
        &self.squares
    }

    /// Of values that are multiplied by factors.
    pub fn scaled(mut self, factors: &[f32]) -> Products {
        self.squares.iter_mut().zip(factors).for_each(|(square, factor)| *square *= factor * factor);
        for (window, factors) in self.windows.iter_mut().zip(factors.chunks(WINDOW)) {
            for (row, factor) in window.chunks_exact_mut(factors.len()).zip(factors) {
                row.iter_mut().zip(factors).for_each(|(product, other)| *product *= factor * other);
            }
        }
        self
    }

    /// Of values that are multiplied by one factor.
    pub fn times(self, factor: f32) -> Products {
        let factors = vec![factor; self.len()];
        self.scaled(&factors)
    }

    /// With other squares, going together as before.
    pub fn with_squares(self, squares: &[f32]) -> Products {
        let factor = |(wanted, own): (&f32, &f32)| if *own > 0.0 { (wanted / own).sqrt() } else { 0.0 };
        let factors: Vec<f32> = squares.iter().zip(&self.squares).map(factor).collect();
        let mut scaled = self.scaled(&factors);
        scaled.squares = squares.to_vec();
        for (window, squares) in scaled.windows.iter_mut().zip(squares.chunks(WINDOW)) {
            window.iter_mut().step_by(squares.len() + 1).zip(squares).for_each(|(own, square)| *own = *square);
        }
        scaled
    }

    /// Of the sum with values that are always the same.
    pub fn with_bias(mut self, bias: &[f32]) -> Products {
        self.squares.iter_mut().zip(bias).for_each(|(square, bias)| *square += bias * bias);
        for (window, bias) in self.windows.iter_mut().zip(bias.chunks(WINDOW)) {
            for (row, first) in window.chunks_exact_mut(bias.len()).zip(bias) {
                row.iter_mut().zip(bias).for_each(|(product, second)| *product += first * second);
            }
        }
        self
    }

    /// Of the sum with values that have nothing to do with these.
    pub fn add(&mut self, other: &Products) {
        let add = |sum: &mut [f32], more: &[f32]| sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        add(&mut self.squares, &other.squares);
        self.windows.iter_mut().zip(&other.windows).for_each(|(sum, more)| add(sum, more));
    }

    /// With the share of each pair's product that `share` names.
    pub fn shared(mut self, share: impl Fn(usize, usize) -> f32) -> Products {
        for (window, start) in self.windows.iter_mut().zip((0..).step_by(WINDOW)) {
            let width = window.len().isqrt();
            window
                .iter_mut()
                .enumerate()
                .for_each(|(at, product)| *product *= share(start + at / width, start + at % width));
        }
        Products::together(self.windows)
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
        Products::together(windows)
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
        let square = |window: &Vec<f32>| Weight::from_values(window.len().isqrt(), window.len().isqrt(), window);
        let windows: Vec<Weight> = self.windows.iter().map(square).collect();
        for first in (0..count).step_by(WINDOW) {
            let mut rows = Tensor::zeros(WINDOW.min(count - first), self.len());
            (0..rows.rows()).for_each(|at| fill(first + at, rows.row_mut(at)));
            let mut times = rows.clone();
            if self.windows.is_empty() {
                let scale = |row: &mut [f32]| row.iter_mut().zip(&self.squares).for_each(|(value, by)| *value *= by);
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
        let squares = self.squares.iter().map(|square| square * rows).collect();
        let mut inputs = Inputs { squares, rows, correlations: Vec::new() };
        for (products, squares) in self.windows.iter().zip(self.squares.chunks(WINDOW)) {
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
