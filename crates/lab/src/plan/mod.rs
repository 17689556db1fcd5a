//! What a model will need here and how fast it will be, before anything of it is loaded: a machine measured once, the
//! model's structure, and arithmetic. The same for each type that `quantize` could make of it.

mod machine;
mod work;

use std::collections::HashMap;

use pasture_kernels::Format;
use pasture_model::names::{Part, Place};
use pasture_model::save::plan_gguf;
use pasture_model::{Need, Running, Slot, Source, Survey};

pub use machine::{Kept, Products, ROWS, Rates};
pub use work::Work;

use crate::change::Result;
use crate::quantize::assigned;
use crate::quantize::mixture::{self, Mixture};

/// A model in some formats: as it is, or as it could be.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The mixture that it would be made into; none for the model as it is.
    pub mixture: Option<Mixture>,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Bits for each weight.
    pub bits: f64,
    /// What it needs in memory.
    pub need: Need,
    /// What it computes.
    pub work: Work,
}

impl Candidate {
    /// The name of its type.
    pub fn label(&self) -> &'static str {
        self.mixture.map_or("as it is", |mixture| mixture.name)
    }
}

/// Tokens a second that are enough: people read no faster.
pub const ENOUGH: f64 = 20.0;

/// Bits for each weight below which a model is another one.
const BITS: f64 = 4.0;

/// What a candidate is chosen by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Whether it fits into memory.
    pub fits: bool,
    /// New tokens a second.
    pub tokens_per_second: f64,
    /// Bits for each weight.
    pub bits: f64,
    /// Its place among the types that are gladly chosen, the first is 0.
    pub liking: Option<usize>,
}

/// Why a candidate is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has the most bits of those that fit and are fast enough.
    FastEnough,
    /// None is fast enough, and it is the most gladly chosen of those that fit.
    Liked,
    /// It is the smallest that fits.
    Smallest,
}

/// The model as it is.
pub fn as_it_is(survey: &Survey, running: &Running) -> Candidate {
    let bytes = |slot: &Slot| stored_bytes(slot, slot.format);
    candidate(None, survey, survey.slots.iter().map(bytes).sum(), &|slot| slot.format, running)
}

/// The model in each type that `quantize` writes and that makes it smaller, the largest first.
///
/// # Errors
/// When GGUF cannot say all of the model.
pub fn made_smaller(source: &Source, survey: &Survey, running: &Running) -> Result<Vec<Candidate>> {
    let own = as_it_is(survey, running);
    let mut plan = plan_gguf(source, survey)?;
    let mut found = Vec::new();
    for mixture in mixture::ALL.into_iter().filter(|mixture| mixture.base.can_quantize()) {
        assigned(&mut plan, &survey.spec, mixture, &[], false)?;
        let mut formats: HashMap<(Place, Part), Format> = HashMap::new();
        for target in &plan.targets {
            formats.extend(target.slots().map(|slot| ((slot.place, slot.part), target.format())));
        }
        let format = |slot: &Slot| formats.get(&(slot.place, slot.part)).copied().unwrap_or(slot.format);
        let made = candidate(Some(mixture), survey, plan.byte_count(), &format, running);
        if made.bytes < own.bytes {
            found.push(made);
        }
    }
    found.sort_by_key(|candidate| std::cmp::Reverse(candidate.bytes));
    Ok(found)
}

fn candidate(
    mixture: Option<Mixture>,
    survey: &Survey,
    bytes: u64,
    format: &dyn Fn(&Slot) -> Format,
    running: &Running,
) -> Candidate {
    let values: usize = survey.slots.iter().map(|slot| slot.rows * slot.cols.unwrap_or(1)).sum();
    Candidate {
        mixture,
        bytes,
        bits: bytes as f64 * 8.0 / values.max(1) as f64,
        need: Need::of(&survey.spec, &survey.slots, format, running),
        work: Work::of(&survey.spec, &survey.slots, format, running.kv),
    }
}

fn stored_bytes(slot: &Slot, format: Format) -> u64 {
    let cols = slot.cols.unwrap_or(slot.rows);
    let rows = if slot.cols.is_some() { slot.rows } else { 1 };
    (format.row_bytes(cols) * rows) as u64
}

/// Which of several is the best here, and why; none where none fits.
pub fn best(choices: &[Choice]) -> Option<(usize, Reason)> {
    let fit = || choices.iter().enumerate().filter(|(_, choice)| choice.fits);
    let fast = fit().filter(|(_, choice)| choice.tokens_per_second >= ENOUGH && choice.bits >= BITS);
    let fast = fast.reduce(|one, other| if other.1.bits > one.1.bits { other } else { one });
    let liked = || fit().filter(|(_, choice)| choice.liking.is_some()).min_by_key(|(_, choice)| choice.liking);
    let smallest = || fit().min_by(|(_, one), (_, other)| one.bits.total_cmp(&other.bits));
    fast.map(|(at, _)| (at, Reason::FastEnough))
        .or_else(|| liked().map(|(at, _)| (at, Reason::Liked)))
        .or_else(|| smallest().map(|(at, _)| (at, Reason::Smallest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_has_the_most_bits_of_those_that_fit_and_are_fast_enough() {
        let choice = |fits, tokens_per_second, bits, liking| Choice { fits, tokens_per_second, bits, liking };
        for (choices, wanted) in [
            (vec![choice(true, 50.0, 8.5, None), choice(true, 70.0, 4.8, Some(0))], Some((0, Reason::FastEnough))),
            (vec![choice(false, 50.0, 8.5, None), choice(true, 70.0, 4.8, Some(0))], Some((1, Reason::FastEnough))),
            (vec![choice(true, 5.0, 8.5, Some(9)), choice(true, 19.0, 4.8, Some(0))], Some((1, Reason::Liked))),
            (vec![choice(true, 5.0, 8.5, Some(9)), choice(true, 30.0, 2.1, None)], Some((0, Reason::Liked))),
            (vec![choice(true, 5.0, 3.0, None), choice(true, 9.0, 2.1, None)], Some((1, Reason::Smallest))),
            (vec![choice(false, 50.0, 4.0, Some(0))], None),
            (Vec::new(), None),
        ] {
            assert_eq!(best(&choices), wanted, "{choices:?}");
        }
    }
}
