//! How often a client may renew the connection of its session: some times in a row, and then once in a while. Pure.
//!
//! What is refused is said in words, and costs the client nothing: its session goes on by the connection that it has, and it tries again.

use std::time::{Duration, Instant};

use rookery_protocol::limits::{RENEWAL_EVERY, RENEWALS_AT_ONCE};

/// What it is told. Without the time that is left: the same each time, so that it is logged once.
pub(crate) const TOO_OFTEN: &str = "renews its connection too often: four times in a row, and then once in ten seconds; it goes on by the \
                                    one that it has, and may try again in ten seconds";

const _: () = assert!(RENEWALS_AT_ONCE == 4 && RENEWAL_EVERY.as_secs() == 10, "as the text says");

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When it may renew as often in a row as anybody; none: now.
    rested: Option<Instant>,
}

impl Pace {
    /// Whether it may renew now.
    pub(crate) fn may(&self, now: Instant) -> bool {
        self.debt(now) <= RENEWAL_EVERY * (RENEWALS_AT_ONCE - 1)
    }

    /// It does.
    pub(crate) fn renews(&mut self, now: Instant) {
        self.rested = Some(now + self.debt(now) + RENEWAL_EVERY);
    }

    fn debt(&self, now: Instant) -> Duration {
        self.rested.map_or(Duration::ZERO, |rested| rested.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many tries, so far apart, succeed.
    fn succeed(pace: &mut Pace, from: Instant, every: Duration, tries: u32) -> u32 {
        let mut succeeded = 0;
        for number in 0..tries {
            let now = from + every * number;
            if pace.may(now) {
                pace.renews(now);
                succeeded += 1;
            }
        }
        succeeded
    }

    #[test]
    fn some_in_a_row_and_then_one_in_a_while() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(succeed(&mut pace, start, Duration::ZERO, 1_000), RENEWALS_AT_ONCE);
        let almost = start + RENEWAL_EVERY - Duration::from_millis(1);
        assert_eq!(succeed(&mut pace, almost, Duration::ZERO, 1_000), 0, "a refusal is not counted, nor forgotten");
        assert_eq!(succeed(&mut pace, start + RENEWAL_EVERY, Duration::ZERO, 1_000), 1);
        // In the 1,000 s from then on.
        let from = start + RENEWAL_EVERY + Duration::from_millis(1);
        assert_eq!(succeed(&mut pace, from, Duration::from_millis(100), 10_000), 99);
    }

    #[test]
    fn who_renews_seldom_is_never_refused_and_saves_up_no_more_than_that() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(succeed(&mut pace, start, RENEWAL_EVERY, 1_000), 1_000);
        let later = start + RENEWAL_EVERY * 10_000;
        assert_eq!(succeed(&mut pace, later, Duration::ZERO, 1_000), RENEWALS_AT_ONCE);
    }
}
