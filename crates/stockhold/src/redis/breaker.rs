//! Spares a Redis that fails, and whoever would wait for it: after so many failures in a row it is not
//! asked for a while, then by one at a time.
//!
//! M. T. Nygard, *Release It!* (2007), chapter 5, calls it a circuit breaker.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// So many failures in a row,
const FAILURES: usize = 5;
/// within so long, open it.
const WINDOW: Duration = Duration::from_secs(1);
/// How long it stays open at first, and at most; each time that a trial fails, twice as long.
const PAUSE: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(5);

/// Whether Redis is asked at all.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the last failures in a row were, the oldest first.
    failures: Vec<Duration>,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// When the next one may try.
    until: Duration,
    pause: Duration,
}

/// May be asked; and how it went is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    Ordinary,
    /// The one that finds out whether it works again.
    Trial,
}

impl Breaker {
    /// Whoever gets a pass may ask. Times are of a clock that only goes forward.
    pub(super) fn ask(&self, now: Duration) -> Option<Pass> {
        let mut state = self.state();
        let Some(open) = &mut state.open else { return Some(Pass::Ordinary) };
        if now < open.until {
            return None;
        }
        // Should nothing be heard of this one, there is another one later.
        open.until = now.saturating_add(open.pause);
        Some(Pass::Trial)
    }

    /// It has answered, with whatever.
    pub(super) fn succeeded(&self) {
        let mut state = self.state();
        if state.open.is_some() || !state.failures.is_empty() {
            *state = State::default();
        }
    }

    /// It has not. `spread` is from 0 to 1 and differs from one process to the next, so that they do not
    /// all come back in the same moment.
    pub(super) fn failed(&self, pass: Pass, now: Duration, spread: f64) {
        let mut state = self.state();
        match (state.open, pass) {
            (None, _) => {
                state.failures.retain(|then| now.saturating_sub(*then) < WINDOW);
                state.failures.push(now);
                if state.failures.len() >= FAILURES {
                    state.opens(PAUSE, now, spread);
                }
            }
            (Some(open), Pass::Trial) => {
                state.opens(open.pause.saturating_mul(2).min(MOST), now, spread);
            }
            // It was asked before it was known.
            (Some(_), Pass::Ordinary) => {}
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn opens(&mut self, pause: Duration, now: Duration, spread: f64) {
        self.failures.clear();
        // From three quarters of it to the whole.
        let wait = pause.mul_f64(spread.clamp(0.0, 1.0).mul_add(0.25, 0.75));
        self.open = Some(Open { until: now.saturating_add(wait), pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Open since 1,004 ms, for 250 ms.
    fn open() -> Breaker {
        let breaker = Breaker::default();
        for n in 0..5 {
            assert!(!breaker.is_open());
            breaker.failed(Pass::Ordinary, ms(1_000 + n), 1.0);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn five_failures_in_a_row_within_a_second_open_it() {
        let breaker = open();
        assert_eq!(breaker.ask(ms(1_253)), None);
        assert_eq!(breaker.ask(ms(1_254)), Some(Pass::Trial));
    }

    #[test]
    fn failures_that_lie_apart_do_not_open_it() {
        let breaker = Breaker::default();
        for n in 0..50 {
            breaker.failed(Pass::Ordinary, ms(250 * n), 1.0);
            assert_eq!(breaker.ask(ms(250 * n)), Some(Pass::Ordinary));
        }
    }

    #[test]
    fn one_success_among_them_keeps_it_closed() {
        let breaker = Breaker::default();
        for n in 0..50 {
            breaker.failed(Pass::Ordinary, ms(n), 1.0);
            if n % 4 == 3 {
                breaker.succeeded();
            }
            assert!(!breaker.is_open());
        }
    }

    #[test]
    fn while_it_is_open_one_at_a_time_tries() {
        let breaker = open();
        assert_eq!(breaker.ask(ms(2_000)), Some(Pass::Trial));
        assert_eq!(breaker.ask(ms(2_000)), None);
        // Nothing was heard of it.
        assert_eq!(breaker.ask(ms(2_250)), Some(Pass::Trial));
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause_up_to_5_s() {
        let breaker = open();
        let mut now = ms(2_000);
        for pause in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            assert_eq!(breaker.ask(now), Some(Pass::Trial));
            breaker.failed(Pass::Trial, now, 1.0);
            assert_eq!(breaker.ask(now + ms(pause - 1)), None);
            now += ms(pause);
        }
    }

    #[test]
    fn what_was_asked_before_it_opened_does_not_keep_it_open_longer() {
        let breaker = open();
        for _ in 0..100 {
            breaker.failed(Pass::Ordinary, ms(1_100), 1.0);
        }
        assert_eq!(breaker.ask(ms(1_254)), Some(Pass::Trial));
    }

    #[test]
    fn a_trial_that_succeeds_closes_it_and_the_next_pause_is_short_again() {
        let breaker = open();
        assert_eq!(breaker.ask(ms(1_254)), Some(Pass::Trial));
        breaker.failed(Pass::Trial, ms(1_254), 1.0);
        assert_eq!(breaker.ask(ms(1_754)), Some(Pass::Trial));
        breaker.succeeded();
        assert_eq!(breaker.ask(ms(1_754)), Some(Pass::Ordinary));
        for _ in 0..5 {
            breaker.failed(Pass::Ordinary, ms(2_000), 1.0);
        }
        assert_eq!(breaker.ask(ms(2_250)), Some(Pass::Trial));
    }

    #[test]
    fn processes_come_back_at_different_times() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            breaker.failed(Pass::Ordinary, ms(0), 0.0);
        }
        assert_eq!(breaker.ask(ms(187)), None);
        assert_eq!(breaker.ask(ms(188)), Some(Pass::Trial));
    }
}
