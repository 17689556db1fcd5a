//! Tuning: from a recipe, a model and samples to an adapter or changed weights. How rows of a file become samples is in
//! `data`; how a run is shown is the caller's.
//!
//! A run is decided by its recipe, its data and its base: the same three give the same bits, on any number of threads and
//! however often it was interrupted.

pub mod checkpoint;
mod error;
pub mod events;
pub mod keys;
mod learned;
pub mod optimizer;
pub mod order;
pub mod output;
mod pass;
mod plan;
pub mod preference;
mod probe;
pub mod recipe;
pub mod report;
mod run;
mod sample;
pub mod schedule;
pub mod tensorboard;
mod trained;

pub use error::{Error, Result};
pub use events::Event;
pub use learned::{Kind, Samples};
pub use pass::Pass;
pub use plan::{HELD_OUT, Plan, bytes_a_value, plan};
pub use probe::{Probe, probe};
pub use recipe::Recipe;
pub use run::{Job, Outcome, run};
pub use sample::{Questions, Voice};
pub use trained::{Tensor, Trained};
