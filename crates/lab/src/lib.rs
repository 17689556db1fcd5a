//! Floor 4: tuning, merging, quantizing, evaluation and their receipts. Empty so far: the floor is named, so that nothing
//! of it lands elsewhere.
#![forbid(unsafe_code)]
