//! Measuring models: likelihood of texts, divergence from a parent, tasks with choices and tasks with written answers, and
//! whether one of two models is better. The same task and prompt give what lm-evaluation-harness gives.

mod compare;
mod divergence;
mod error;
mod extract;
mod forms;
mod likelihood;
mod python;
mod report;
mod run;
mod scorers;
pub mod statistics;
mod subject;
mod task;

pub use compare::{Comparison, Verdict, compare, decide};
pub use divergence::{Differences, differences};
pub use error::{Error, Result};
pub use extract::Extract;
pub use forms::{Form, of_texts, open, open_as};
pub use likelihood::{Ask, Said, continuation, likelihoods, windows};
pub use report::{Against, Metric, Report, TaskReport, TextDetail, figure};
pub use run::{Options, evaluate, run};
pub use scorers::{NAMES as SCORERS, Rules, Scorer};
pub use subject::Subject;
pub use task::{Kind, Measure, Pick, Row, Task};
