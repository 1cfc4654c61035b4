//! The clock that all processes of a machine share, and waiting with a deadline.

use std::{fmt::Display, thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine was started (`CLOCK_BOOTTIME`): the same for all processes of a
/// machine, never going back.
#[must_use]
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

/// Tries until it succeeds.
///
/// # Panics
/// When it has not succeeded within `limit`: with what it was for, and why it failed last.
#[track_caller]
pub fn until<T, E: Display>(
    limit: Duration,
    what: &str,
    attempt: impl FnMut() -> Result<T, E>,
) -> T {
    try_until(limit, attempt).unwrap_or_else(|why| panic!("{what}: not within {limit:?}: {why}"))
}

/// The same, or why it failed last.
pub(crate) fn try_until<T, E>(
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let end = now().saturating_add(nanos(limit));
    loop {
        match attempt() {
            Err(_) if now() < end => thread::sleep(BETWEEN_ATTEMPTS),
            done_or_late => return done_or_late,
        }
    }
}

const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(5);

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_made_again_until_it_succeeds() {
        let mut attempts = 0;
        let third = until(Duration::from_secs(5), "counting", || {
            attempts += 1;
            if attempts < 3 { Err("too early") } else { Ok(attempts) }
        });
        assert_eq!(third, 3);
    }

    #[test]
    #[should_panic(expected = "waiting: not within 1ms: it never comes")]
    fn what_never_succeeds_is_told_with_its_reason() {
        until(Duration::from_millis(1), "waiting", || Err::<(), _>("it never comes"));
    }
}
