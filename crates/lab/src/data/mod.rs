//! Data to learn from: rows of a file become tokens by the prompt object that chat and serve use, are checked, counted,
//! parted and put in order. Losses, and batches as the decoder takes them, are not here.
#![forbid(unsafe_code)]

mod check;
mod dataset;
mod encode;
mod error;
mod fingerprint;
mod options;
mod order;
mod sample;
mod split;
mod write;

pub use check::{Checked, Problem, Severity, check};
pub use dataset::{Counts, Dataset, Facts, Read, Reader, Samples, recognized};
pub use error::{Error, Result};
pub use fingerprint::{Digests, Fingerprint, canonical, fingerprint, near_fingerprint};
pub use options::{Options, Prompts, TrainOn};
pub use order::{Batching, Grouping, Numbers, batches, order};
pub use pasture_files::data::Layout;
pub use sample::{Example, Judged, Preference, Sample};
pub use split::{Key, held_out};
pub use write::{Deduplicated, Parted, Sameness, deduplicate, split};
