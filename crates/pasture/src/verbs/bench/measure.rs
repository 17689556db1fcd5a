//! Requests to the engine, and the times of their tokens. A test is measured on the wall, from the moment a request is
//! handed in; which tokens are known already the engine says itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pasture::Model;
use pasture::engine::sampling::SamplingOptions;
use pasture::engine::{Finish, Request};

use crate::exit::{Failure, Status};

/// Tokens that answers made at once get beyond those that are measured, so that there is a time in which all run.
const MARGIN: usize = 8;

/// Positions that a test takes beside its tokens, at the most: its last prompt token, its first new one, and the margin.
pub const BESIDE: usize = MARGIN + 2;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Reading a prompt.
    Prefill {
        /// Its tokens.
        tokens: usize,
    },
    /// Making tokens one after the other.
    Decode {
        /// New tokens of each answer.
        tokens: usize,
        /// Answers at once.
        batch: usize,
    },
}

impl What {
    /// Tokens that are read or made.
    pub fn tokens(self) -> usize {
        match self {
            What::Prefill { tokens } | What::Decode { tokens, .. } => tokens,
        }
    }
}

/// What is measured, and behind how many known tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    pub what: What,
    pub depth: usize,
}

impl Test {
    /// What people call it.
    pub fn name(&self) -> String {
        let depth = if self.depth > 0 { format!(" at {}", self.depth) } else { String::new() };
        match self.what {
            What::Prefill { tokens } => format!("prefill {tokens}{depth}"),
            What::Decode { tokens, batch: 1 } => format!("decode {tokens}{depth}"),
            What::Decode { tokens, batch } => format!("decode {tokens}{depth}, {batch} answers"),
        }
    }

    /// Answers at once.
    pub fn sequences(&self) -> usize {
        match self.what {
            What::Prefill { .. } => 1,
            What::Decode { batch, .. } => batch,
        }
    }

    /// Tokens that each answer gets.
    fn new_tokens(&self) -> usize {
        match self.what {
            What::Prefill { .. } => 1,
            What::Decode { tokens, batch: 1 } => tokens + 1,
            What::Decode { tokens, .. } => tokens + 1 + MARGIN,
        }
    }

    /// Tokens of a prompt behind those that are known.
    fn own_tokens(&self) -> usize {
        match self.what {
            What::Prefill { tokens } => tokens,
            What::Decode { .. } => 1,
        }
    }

    /// Positions that a sequence takes.
    pub fn longest(&self) -> usize {
        self.depth + self.own_tokens() + self.new_tokens()
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    /// Tokens a second; of answers made at once, all of them together.
    pub tokens_per_second: f64,
    /// Seconds from handing in the request to its first new token.
    pub first_token_seconds: f64,
}

/// The figures of all runs.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Tokens a second; of answers made at once, all of them together.
    pub tokens_per_second: Vec<f64>,
    /// Seconds from a request to its first token.
    pub first_token_seconds: Vec<f64>,
}

impl Figures {
    /// Adds a run.
    pub fn add(&mut self, once: Once) {
        self.tokens_per_second.push(once.tokens_per_second);
        self.first_token_seconds.push(once.first_token_seconds);
    }
}

/// The middle of some figures, the least and the most.
pub fn spread(figures: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let middle = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    Some((middle, least, most))
}

/// Lets the engine know the tokens that a test begins behind.
pub fn prepare(model: &Model, test: &Test) -> Result<(), Failure> {
    if test.depth > 0 {
        let known = random(model, 0, test.depth);
        model.engine().submit(request(model, known, 1))?.answers()?;
    }
    Ok(())
}

/// Runs a test once. Each run has a text of its own.
pub fn once(model: &Model, test: &Test, run: u64) -> Result<Once, Failure> {
    let known = random(model, 0, test.depth);
    let begun = Instant::now();
    let requests = (0..test.sequences()).map(|sequence| {
        // No test finds what another one, or another run, has computed.
        let seed = 1 + ((test.what.tokens() as u64) << 32) + run * 4096 + sequence as u64;
        let ids = [known.clone(), random(model, seed, test.own_tokens())].concat();
        timed(request(model, ids, test.new_tokens()))
    });
    let (requests, noted): (Vec<_>, Vec<_>) = requests.unzip();
    let streams = model.engine().submit_all(requests)?;
    let (mut times, mut computed) = (Vec::new(), 0);
    for (stream, noted) in streams.into_iter().zip(noted) {
        let answer = stream.answer()?;
        if answer.finish != Finish::MaxTokens || answer.usage.new_tokens != test.new_tokens() {
            let what = format!("{:?} ended after {} tokens: {:?}", test.name(), answer.ids.len(), answer.finish);
            return Err(Failure::new(Status::Failed, what));
        }
        computed += answer.usage.prompt_tokens - answer.usage.cached_tokens;
        let noted = std::mem::take(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner));
        // Behind the tokens stand the answer's end and the stream's.
        times.push(noted.iter().take(test.new_tokens()).map(|at| *at - begun).collect::<Vec<_>>());
    }
    let first = times.iter().filter_map(|times| times.first()).max().copied().unwrap_or_default();
    let rate = match test.what {
        What::Prefill { .. } => Some((computed, first)),
        What::Decode { .. } => together(&times),
    };
    let rate = rate.filter(|(tokens, time)| *tokens > 0 && !time.is_zero());
    let Some((tokens, time)) = rate else {
        let what = format!("{:?} was over before it could be timed", test.name());
        return Err(Failure::new(Status::Failed, what));
    };
    Ok(Once { tokens_per_second: tokens as f64 / time.as_secs_f64(), first_token_seconds: first.as_secs_f64() })
}

/// Tokens that came while all answers were being made, and how long that was: from the last one's first token to the
/// first one's last.
fn together(times: &[Vec<Duration>]) -> Option<(usize, Duration)> {
    let from = times.iter().map(|times| times.first()).collect::<Option<Vec<_>>>()?.into_iter().max()?;
    let to = times.iter().map(|times| times.last()).collect::<Option<Vec<_>>>()?.into_iter().min()?;
    let within = |times: &Vec<Duration>| times.iter().filter(|at| *at > from && *at <= to).count();
    Some((times.iter().map(within).sum(), to.checked_sub(*from)?))
}

/// The moments of a request's events.
type Noted = Arc<Mutex<Vec<Instant>>>;

/// The request, and where the moments of its events will stand.
fn timed(mut request: Request) -> (Request, Noted) {
    let noted: Noted = Arc::new(Mutex::new(Vec::with_capacity(request.max_tokens.unwrap_or(0) + 2)));
    let note = noted.clone();
    request.wake = Some(Arc::new(move || note.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now())));
    (request, noted)
}

/// A request for the most probable tokens; none of them ends it.
fn request(model: &Model, ids: Vec<u32>, new_tokens: usize) -> Request {
    let mut request = model.completion_of_ids(ids).max_tokens(new_tokens).ignore_end().request();
    request.sampling = SamplingOptions { temperature: Some(0.0), ..SamplingOptions::default() };
    request
}

/// Token ids that depend on the seed alone; a longer list begins as a shorter one.
fn random(model: &Model, seed: u64, count: usize) -> Vec<u32> {
    let vocab = model.engine().vocab().max(1) as u64;
    let mut state = seed;
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..count).map(|_| (next() % vocab) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|time| Duration::from_millis(*time)).collect()
    }

    #[test]
    fn only_tokens_that_came_while_all_ran_are_counted() {
        let one = [milliseconds(&[5, 10, 20, 30])];
        assert_eq!(together(&one), Some((3, Duration::from_millis(25))));
        let two = [milliseconds(&[5, 10, 20, 30]), milliseconds(&[10, 20, 30, 40])];
        assert_eq!(together(&two), Some((4, Duration::from_millis(20))));
        let apart = [milliseconds(&[5, 10]), milliseconds(&[20, 30])];
        assert_eq!(together(&apart), None, "they never ran at once");
        assert_eq!(together(&[Vec::new()]), None);
    }

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_test_has_a_name_and_a_length() {
        let check = |what, depth, name: &str, longest| {
            let test = Test { what, depth };
            assert_eq!((test.name().as_str(), test.longest()), (name, longest));
            assert!(test.longest() <= depth + what.tokens() + BESIDE);
        };
        check(What::Prefill { tokens: 512 }, 0, "prefill 512", 513);
        check(What::Decode { tokens: 128, batch: 1 }, 4096, "decode 128 at 4096", 4226);
        check(What::Decode { tokens: 4, batch: 16 }, 0, "decode 4, 16 answers", 14);
    }
}
