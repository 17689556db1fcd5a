//! The one type for every size, count and offset that comes from a file: 64 bits, and no operation that can wrap.
//! Readers use it instead of `+`, `*` and casts, so that an overflow is an error of the file and never a short buffer.
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;

/// A number of bytes, elements or blocks, or an offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// The exact result of an operation on sizes does not exist: past 64 bits, below zero, or no multiple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// The result needs more than 64 bits, or more than this machine addresses.
    #[error("is more than 64 bits can count")]
    TooLarge,
    /// A larger size was taken from a smaller one.
    #[error("is below zero")]
    BelowZero,
    /// A size was divided by something that does not divide it.
    #[error("is not a whole number of blocks")]
    NotWhole,
}

// Unlike the operators of those names these return what went wrong.
#[allow(clippy::should_implement_trait)]
impl Size {
    /// Nothing.
    pub const ZERO: Size = Size(0);

    /// A size as a file states it.
    pub const fn new(value: u64) -> Size {
        Size(value)
    }

    /// The length of something in memory.
    pub const fn of(length: usize) -> Size {
        // usize is at most 64 bits on every platform Rust has.
        Size(length as u64)
    }

    /// A signed field of a file: negative numbers are no sizes.
    pub fn from_signed(value: i64) -> Result<Size, Overflow> {
        u64::try_from(value).map(Size).map_err(|_| Overflow::BelowZero)
    }

    /// The plain number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// For indexing: fails where the machine's addresses are shorter.
    pub fn to_usize(self) -> Result<usize, Overflow> {
        usize::try_from(self.0).map_err(|_| Overflow::TooLarge)
    }

    /// `self + other`.
    pub fn add(self, other: Size) -> Result<Size, Overflow> {
        self.0.checked_add(other.0).map(Size).ok_or(Overflow::TooLarge)
    }

    /// `self - other`.
    pub fn sub(self, other: Size) -> Result<Size, Overflow> {
        self.0.checked_sub(other.0).map(Size).ok_or(Overflow::BelowZero)
    }

    /// `self * other`.
    pub fn mul(self, other: Size) -> Result<Size, Overflow> {
        self.0.checked_mul(other.0).map(Size).ok_or(Overflow::TooLarge)
    }

    /// `self / other` where that is a whole number.
    pub fn div_exact(self, other: Size) -> Result<Size, Overflow> {
        match self.0.checked_rem(other.0) {
            Some(0) => self.0.checked_div(other.0).map(Size).ok_or(Overflow::NotWhole),
            _ => Err(Overflow::NotWhole),
        }
    }

    /// The next multiple of `alignment` at or above `self`; an alignment of zero is refused.
    pub fn round_up(self, alignment: Size) -> Result<Size, Overflow> {
        self.0.checked_next_multiple_of(alignment.0).map(Size).ok_or(Overflow::TooLarge)
    }

    /// Whether `self` is a multiple of `other`. Only zero is a multiple of zero.
    pub fn is_multiple_of(self, other: Size) -> bool {
        self.0.is_multiple_of(other.0)
    }

    /// The product of all dimensions: elements of a tensor. The product of none is one.
    ///
    /// A zero anywhere makes it zero even where the other dimensions alone would overflow.
    pub fn product(dimensions: &[usize]) -> Result<Size, Overflow> {
        if dimensions.contains(&0) {
            return Ok(Size::ZERO);
        }
        dimensions.iter().try_fold(Size(1), |product, &dimension| product.mul(Size::of(dimension)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Result<Size, Overflow>, wanted: Result<u64, Overflow>) {
        assert_eq!(found.map(Size::get), wanted);
    }

    #[test]
    fn no_operation_wraps() {
        let max = Size::new(u64::MAX);
        check(max.add(Size::new(0)), Ok(u64::MAX));
        check(max.add(Size::new(1)), Err(Overflow::TooLarge));
        check(Size::new(1 << 32).mul(Size::new(1 << 32)), Err(Overflow::TooLarge));
        check(Size::new(1 << 32).mul(Size::new((1 << 32) - 1)), Ok(((1 << 32) - 1) << 32));
        check(Size::new(3).sub(Size::new(4)), Err(Overflow::BelowZero));
        check(Size::from_signed(-1), Err(Overflow::BelowZero));
    }

    #[test]
    fn rounding_up_is_checked_like_every_sum() {
        check(Size::new(0).round_up(Size::new(32)), Ok(0));
        check(Size::new(1).round_up(Size::new(32)), Ok(32));
        check(Size::new(64).round_up(Size::new(32)), Ok(64));
        check(Size::new(u64::MAX - 3).round_up(Size::new(32)), Err(Overflow::TooLarge));
        check(Size::new(5).round_up(Size::new(0)), Err(Overflow::TooLarge));
    }

    #[test]
    fn only_whole_divisions_succeed() {
        check(Size::new(64).div_exact(Size::new(32)), Ok(2));
        check(Size::new(33).div_exact(Size::new(32)), Err(Overflow::NotWhole));
        check(Size::new(1).div_exact(Size::new(0)), Err(Overflow::NotWhole));
    }

    #[test]
    fn a_zero_dimension_makes_an_empty_tensor() {
        check(Size::product(&[]), Ok(1));
        check(Size::product(&[2, 3]), Ok(6));
        check(Size::product(&[usize::MAX, usize::MAX, 0]), Ok(0));
        check(Size::product(&[usize::MAX, 2]), Err(Overflow::TooLarge));
    }
}
