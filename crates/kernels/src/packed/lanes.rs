//! What the packed formats need of an instruction set's vectors, and how a block is read with them.
//!
//! Invariant: a value of a type that implements [`Lanes`] exists only where the processor has the set's features, so
//! that its operations are safe; only reading memory is not.

use super::{Block, Codes, Records};

/// The vectors of an instruction set: a 32-bit word, or an f32, for each of [`Lanes::ROWS`] rows.
pub(crate) trait Lanes: Copy {
    /// Rows of a vector: 4, 8 or 16.
    const ROWS: usize;
    /// Codes whose zero is 128 are multiplied as signed numbers, so that no sum of activations need be taken away.
    const SIGNED: bool;
    /// There are registers for the sums of many tokens: [`Lanes::dots`] multiplies them side by side.
    const MANY: bool = false;
    /// A word for each row.
    type Words: Copy;
    /// An f32 for each row.
    type Floats: Copy;
    /// A vector of codes as [`Lanes::dot`] takes it.
    type Ready: Copy;
    /// Something for each vector of a panel's rows.
    type Parts<T: Copy>: AsMut<[T]>;

    /// The same for each vector of a panel's rows.
    fn parts<T: Copy>(value: T) -> Self::Parts<T>;

    /// A word for each row.
    ///
    /// # Safety
    /// So many bytes can be read.
    unsafe fn load(self, at: *const u8) -> Self::Words;
    /// A binary16 for each row.
    ///
    /// # Safety
    /// So many bytes can be read.
    unsafe fn load_halves(self, at: *const u8) -> Self::Floats;
    /// An unsigned 16-bit number for each row, as a word.
    ///
    /// # Safety
    /// So many bytes can be read.
    unsafe fn load_shorts(self, at: *const u8) -> Self::Words;
    /// A byte for each row, as a word.
    ///
    /// # Safety
    /// So many bytes can be read.
    unsafe fn load_bytes(self, at: *const u8) -> Self::Words;
    /// Asks the nearest cache for the memory at `near` and the one behind it for that at `far`; neither need exist.
    fn prefetch(self, near: *const u8, far: *const u8);

    fn word(self, value: u32) -> Self::Words;
    fn and(self, a: Self::Words, b: Self::Words) -> Self::Words;
    fn or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Words moved right by `by` bits, left where it is negative; `-32 < by < 32`. What falls out may come in again at
    /// the other end: the caller masks it.
    fn shift(self, a: Self::Words, by: i32) -> Self::Words;
    /// The topmost byte of each word as a signed number.
    fn top(self, a: Self::Words) -> Self::Words;
    /// Entry `byte` of the table for each byte, all of which are below 16.
    fn lookup(self, table: [u8; 16], a: Self::Words) -> Self::Words;
    /// Bits `4 at .. 4 at + 4` of each word as the fifth bits of its four bytes.
    fn fifth_bits(self, a: Self::Words, at: usize) -> Self::Words;
    /// Half of the power of two that each word says as an f32's exponent; the two least are not normal numbers.
    fn half_powers(self, exponents: Self::Words) -> Self::Floats;

    /// The same bits.
    fn as_floats(self, a: Self::Words) -> Self::Floats;
    /// Signed words as f32.
    fn float(self, a: Self::Words) -> Self::Floats;
    fn splat(self, value: f32) -> Self::Floats;
    fn subtract(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn multiply(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a b + c`, rounded once.
    fn multiply_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `c - a b`, rounded once.
    fn multiply_take(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Stores one value for each row; `out` has as many places.
    fn store(self, out: &mut [f32], a: Self::Floats);

    /// Unsigned codes, made ready for products.
    fn ready<C: Codes>(self, codes: Self::Words) -> Self::Ready;
    /// `start` and the products of `N` vectors of codes with as many words of signed activations.
    ///
    /// # Safety
    /// `N` words can be read.
    unsafe fn dot<C: Codes, const N: usize>(self, start: u32, codes: &[Self::Ready], x: *const u32) -> Self::Words;
    /// [`Lanes::dot`] of the words of `T` tokens' records, and of the codes of one panel or both from vector `first` on.
    ///
    /// # Safety
    /// There are `T` records with `N` words from the given one on.
    #[inline(always)]
    unsafe fn dots<C: Codes, const N: usize, const T: usize, const P: usize>(
        self,
        starts: [u32; T],
        codes: [&[Self::Ready; 8]; 2],
        first: usize,
        (records, at): (Records, usize),
    ) -> [[Self::Words; P]; T] {
        let mut sums = [[self.word(0); P]; T];
        for (token, (sums, start)) in sums.iter_mut().zip(starts).enumerate() {
            for (sum, codes) in sums.iter_mut().zip(codes) {
                // SAFETY: the caller's promise.
                *sum = unsafe { self.dot::<C, N>(start, &codes[first..], records.words(token, at)) };
            }
        }
        sums
    }
}

impl<L: Lanes> Block<L> {
    /// The words at byte `at`, where those of all 16 rows begin.
    ///
    /// # Safety
    /// They are inside the block.
    #[inline(always)]
    pub(super) unsafe fn load(self, at: usize) -> L::Words {
        // SAFETY: the caller's promise.
        unsafe { self.lanes.load(self.bytes.add(at + 4 * L::ROWS * self.part)) }
    }

    /// The binary16 there.
    ///
    /// # Safety
    /// They are inside the block.
    #[inline(always)]
    pub(super) unsafe fn halves(self, at: usize) -> L::Floats {
        // SAFETY: the caller's promise.
        unsafe { self.lanes.load_halves(self.bytes.add(at + 2 * L::ROWS * self.part)) }
    }

    /// The 16-bit numbers there.
    ///
    /// # Safety
    /// They are inside the block.
    #[inline(always)]
    pub(super) unsafe fn shorts(self, at: usize) -> L::Words {
        // SAFETY: the caller's promise.
        unsafe { self.lanes.load_shorts(self.bytes.add(at + 2 * L::ROWS * self.part)) }
    }

    /// The bytes there.
    ///
    /// # Safety
    /// They are inside the block.
    #[inline(always)]
    pub(super) unsafe fn bytes(self, at: usize) -> L::Words {
        // SAFETY: the caller's promise.
        unsafe { self.lanes.load_bytes(self.bytes.add(at + L::ROWS * self.part)) }
    }

    /// `a` moved right by `by` bits in each 32-bit word (left where `by` is negative), and the bits of `mask` kept in
    /// each byte. Bits that cross a byte are outside the mask.
    #[inline(always)]
    pub(super) fn bits(self, a: L::Words, by: i32, mask: u8) -> L::Words {
        self.lanes.and(self.lanes.shift(a, by), self.lanes.word(u32::from(mask) * 0x0101_0101))
    }

    /// Byte `at` of each word, as an integer in `0..256`.
    #[inline(always)]
    pub(super) fn byte(self, words: L::Words, at: usize) -> L::Words {
        self.lanes.and(self.lanes.shift(words, 8 * at as i32), self.lanes.word(255))
    }

    /// `scale · byte` of each row.
    #[inline(always)]
    pub(super) fn scaled(self, scale: L::Floats, words: L::Words, at: usize) -> L::Floats {
        self.lanes.multiply(scale, self.lanes.float(self.byte(words, at)))
    }
}
