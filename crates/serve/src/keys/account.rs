//! What a key has used: requests of the last minute, tokens of the day, answers in flight. Time is a parameter.
//! Invariant: what is in flight is given back exactly once, by whoever took it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use super::book::Use;
use crate::limits;
use crate::refusal::Refusal;

const DAY: u64 = 86_400;

/// The quotas of a key, and how much of them is left.
#[derive(Debug)]
pub struct Account {
    rate: Option<u64>,
    tokens: Option<u64>,
    in_flight: usize,
    state: Mutex<State>,
}

/// What was used since it was last written down.
pub type Spent = Use;

#[derive(Debug)]
struct State {
    /// Requests that may come at once, up to `rate`; grows with time.
    allowance: f64,
    at: Duration,
    /// Of today, with what other runs of the program wrote.
    today: Use,
    /// Of `today`, what is not written yet.
    unwritten: Use,
    /// Of an earlier day.
    earlier: Option<Use>,
    in_flight: usize,
}

impl Account {
    /// An account that has used something already. `now` is since 1970.
    pub fn new(
        (rate, tokens, in_flight): (Option<u64>, Option<u64>, Option<u64>),
        today: Use,
        now: Duration,
    ) -> Account {
        let state = State {
            allowance: rate.unwrap_or(0) as f64,
            at: now,
            today,
            unwritten: Use { day: today.day, ..Use::default() },
            earlier: None,
            in_flight: 0,
        };
        let in_flight = in_flight.map_or(limits::KEY_IN_FLIGHT, |count| usize::try_from(count).unwrap_or(usize::MAX));
        Account { rate, tokens, in_flight, state: Mutex::new(state) }
    }

    /// Counts a request, or refuses it.
    pub fn request(&self, now: Duration) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.turn(now);
        self.has_left(&state, now)?;
        if let Some(rate) = self.rate {
            let per_second = rate as f64 / 60.0;
            let passed = now.saturating_sub(state.at).as_secs_f64();
            state.allowance = (state.allowance + passed * per_second).min(rate as f64);
            state.at = now;
            if state.allowance < 1.0 {
                let message = format!("this key may ask {rate} times a minute; try again later");
                let seconds = ((1.0 - state.allowance) / per_second).ceil() as u64;
                return Err(too_many("rate_limit_exceeded", message, seconds.max(1)));
            }
            state.allowance -= 1.0;
        }
        state.today.requests += 1;
        state.unwritten.requests += 1;
        Ok(())
    }

    /// Refuses what would be computed where the tokens of the day are used.
    pub fn has_tokens(&self, now: Duration) -> Result<(), Refusal> {
        let mut state = self.lock();
        state.turn(now);
        self.has_left(&state, now)
    }

    fn has_left(&self, state: &State, now: Duration) -> Result<(), Refusal> {
        let Some(tokens) = self.tokens.filter(|tokens| state.today.tokens >= *tokens) else { return Ok(()) };
        let message = format!("this key has used its {tokens} tokens of today; they come back at midnight UTC");
        Err(too_many("insufficient_quota", message, DAY - now.as_secs() % DAY))
    }

    /// Counts tokens.
    pub fn spend(&self, tokens: u64, now: Duration) {
        let mut state = self.lock();
        state.turn(now);
        state.today.tokens += tokens;
        state.unwritten.tokens += tokens;
    }

    /// Lets answers in flight. A request that finds none of its key's is always let in.
    pub fn enter(&self, answers: usize) -> Result<(), Refusal> {
        let mut state = self.lock();
        if state.in_flight > 0 && state.in_flight + answers > self.in_flight {
            let message = format!("this key may have {} answers in flight; wait for one to end", self.in_flight);
            return Err(too_many("rate_limit_exceeded", message, 1));
        }
        state.in_flight += answers;
        Ok(())
    }

    /// Answers ended.
    pub fn leave(&self, answers: usize) {
        self.lock().in_flight -= answers;
    }

    /// What is to be written down; the caller writes it.
    pub fn take(&self) -> Vec<Spent> {
        let mut state = self.lock();
        let fresh = Use { day: state.today.day, ..Use::default() };
        let unwritten = std::mem::replace(&mut state.unwritten, fresh);
        let some = |spent: &Use| spent.requests > 0 || spent.tokens > 0;
        state.earlier.take().into_iter().chain([unwritten]).filter(some).collect()
    }

    /// What could not be written down is to be written another time.
    pub fn give_back(&self, spent: Spent) {
        let mut state = self.lock();
        let state = &mut *state;
        let place = match spent.day == state.unwritten.day {
            true => &mut state.unwritten,
            false => state.earlier.get_or_insert(Use { day: spent.day, ..Use::default() }),
        };
        place.requests += spent.requests;
        place.tokens += spent.tokens;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A new day begins with nothing used.
    fn turn(&mut self, now: Duration) {
        let day = now.as_secs() / DAY;
        if day > self.today.day {
            let before = std::mem::replace(&mut self.unwritten, Use { day, ..Use::default() });
            let earlier = self.earlier.get_or_insert(Use { day: before.day, ..Use::default() });
            earlier.requests += before.requests;
            earlier.tokens += before.tokens;
            self.today = Use { day, ..Use::default() };
        }
    }
}

fn too_many(code: &'static str, message: String, seconds: u64) -> Refusal {
    Refusal { retry_after: Some(seconds), ..Refusal::new(StatusCode::TOO_MANY_REQUESTS, code, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(100 * DAY + seconds)
    }

    fn account(rate: Option<u64>, tokens: Option<u64>) -> Account {
        Account::new((rate, tokens, Some(3)), Use { day: 100, requests: 0, tokens: 10 }, at(0))
    }

    #[test]
    fn a_rate_is_a_minutes_and_comes_back_bit_by_bit() {
        let account = account(Some(6), None);
        assert!((0..6).all(|_| account.request(at(0)).is_ok()));
        for (second, wanted) in [(0, Some(10)), (9, Some(1)), (10, None), (11, Some(9)), (20, None)] {
            let refused = account.request(at(second)).err();
            assert_eq!(refused.as_ref().and_then(|refusal| refusal.retry_after), wanted, "{second}");
            assert!(refused.is_none_or(|refusal| refusal.status == 429 && refusal.message.contains("6 times")));
        }
        assert!((0..6).all(|_| account.request(at(200)).is_ok()) && account.request(at(200)).is_err());
    }

    #[test]
    fn tokens_are_a_days_with_those_of_earlier_runs() {
        let account = account(None, Some(100));
        account.request(at(5)).unwrap();
        account.spend(89, at(6));
        account.request(at(7)).unwrap();
        account.spend(50, at(8));
        let refused = account.request(at(DAY - 60)).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), ("insufficient_quota", Some(60)));
        account.request(at(DAY)).unwrap();
        account.spend(7, at(DAY + 1));
        let wanted = [Use { day: 100, requests: 2, tokens: 139 }, Use { day: 101, requests: 1, tokens: 7 }];
        assert_eq!(account.take(), wanted);
        assert_eq!(account.take(), []);
        wanted.into_iter().for_each(|spent| account.give_back(spent));
        account.spend(1, at(DAY + 2));
        assert_eq!(account.take(), [wanted[0], Use { tokens: 8, ..wanted[1] }]);
    }

    #[test]
    fn in_flight_is_bounded_but_for_a_key_with_none() {
        let account = account(None, None);
        account.enter(16).unwrap();
        assert_eq!(account.enter(1).unwrap_err().status, 429);
        account.leave(16);
        (0..3).for_each(|_| account.enter(1).unwrap());
        assert!(account.enter(1).is_err());
        account.leave(3);
        account.enter(1).unwrap();
    }
}
