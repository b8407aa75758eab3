//! Deadlines that travel with calls (A4): a caller's patience, seen by whoever works for it, and by whom that calls in turn.
//!
//! ```text
//! call ─▶ Slot ─▶ ReplyTo ─┬─ same node ──▶ beside the message in the mailbox ─┐
//!                          └─ other node ─▶ the frame, as milliseconds left ───┴▶ the receiver's own calls
//! ```
//! Between nodes goes what is left, since clocks differ; the time on the way is not counted, as with gRPC's. A process
//! inherits the deadline of the call that it has received last, until it has answered it or receives again; while it runs
//! its thread has it (`current.rs`), so that nothing is written where senders look.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Calls that wait longer carry no deadline: nobody hurries for it, and half of what wraps around must lie in the past.
const MAX_CARRIED: Duration = Duration::from_millis(1 << 30);

/// Far enough for a delay that overflows the clock.
pub(crate) const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// A point in time: whole milliseconds since its runtime's start, which wrap around after 49 days. Never later than what
/// it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(NonZeroU32);

/// What a runtime's deadlines are relative to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The deadline that is `left` from `now`; none if that is too far away to matter.
    pub(crate) fn deadline(self, now: Instant, left: Duration) -> Option<Deadline> {
        let until = (now.saturating_duration_since(self.0) + left.min(FAR)).as_millis() as u32;
        // One that would be zero is a millisecond early.
        (left <= MAX_CARRIED).then(|| Deadline(NonZeroU32::new(until).unwrap_or(NonZeroU32::MAX)))
    }

    /// What is left until `deadline`, in whole milliseconds; zero when it is over.
    pub(crate) fn left_ms(self, deadline: Deadline, now: Instant) -> u32 {
        let now_ms = now.saturating_duration_since(self.0).as_micros().div_ceil(1_000) as u32;
        let left = deadline.0.get().wrapping_sub(now_ms) as i32;
        u32::try_from(left).unwrap_or(0)
    }

    pub(crate) fn left(self, deadline: Deadline, now: Instant) -> Duration {
        Duration::from_millis(self.left_ms(deadline, now).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_left_is_never_more_than_it_was() {
        let clock = Clock::start();
        for run in [0, 1, 1_234, u64::from(u32::MAX) - 1, u64::from(u32::MAX), u64::from(u32::MAX) + 5_000] {
            let now = clock.0 + ms(run) + Duration::from_micros(300);
            let deadline = clock.deadline(now, ms(2_000)).unwrap();
            let left = clock.left(deadline, now);
            assert!(left <= ms(2_000) && left >= ms(1_998), "{left:?} of 2 s, after {run} ms");
            assert!(clock.left(deadline, now + ms(500)) <= ms(1_500));
            assert_eq!(clock.left(deadline, now + ms(2_000)), Duration::ZERO);
            assert_eq!(clock.left(deadline, now + ms(60_000)), Duration::ZERO, "long over");
        }
    }

    #[test]
    fn a_wait_of_weeks_carries_no_deadline() {
        let clock = Clock::start();
        assert_eq!(clock.deadline(clock.0, Duration::MAX), None);
        assert_eq!(clock.deadline(clock.0, MAX_CARRIED + ms(1)), None);
        assert!(clock.deadline(clock.0, MAX_CARRIED).is_some());
    }
}
