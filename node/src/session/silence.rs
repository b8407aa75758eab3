//! How long a client has been silent, on a node that may itself have stood still.
//!
//! QUIC's idle timeout is at least three times its probe timeout, which follows the longest round trips. A node that was stopped has
//! measured round trips as long as it stood, and would keep for minutes a client that went away meanwhile, with its names and its
//! places in groups. So a node counts itself: time in which it looked, and nothing came.

use std::time::Duration;

use quinn::Connection;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(250);

/// A look counts for no more than this: a node that could not look could not hear either.
const COUNTED_AT_MOST: Duration = Duration::from_millis(500);

/// How many idle timeouts a client may be silent. QUIC ends it after one, unless it waits for long round trips.
const IDLE_TIMEOUTS: u32 = 2;

/// The count. Pure.
#[derive(Debug)]
struct Silence {
    /// How much silence is too much.
    limit: Duration,
    /// When it was looked last.
    looked: Instant,
    /// How many datagrams had come by then.
    datagrams: u64,
    /// For how long nothing has come since.
    silent: Duration,
}

impl Silence {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, looked: now, datagrams: 0, silent: Duration::ZERO }
    }

    /// Looks: so many datagrams have come so far. Whether that was too much silence.
    fn look(&mut self, now: Instant, datagrams: u64) -> bool {
        let since = now.saturating_duration_since(self.looked).min(COUNTED_AT_MOST);
        self.silent = if datagrams == self.datagrams { self.silent + since } else { Duration::ZERO };
        (self.looked, self.datagrams) = (now, datagrams);
        self.silent >= self.limit
    }
}

/// Waits until a client with this idle timeout has been silent for too long. Gives for how long.
pub(super) async fn silent(connection: &Connection, idle_timeout: Duration) -> Duration {
    let limit = idle_timeout.saturating_mul(IDLE_TIMEOUTS);
    let mut silence = Silence::new(limit, Instant::now());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if silence.look(Instant::now(), connection.stats().udp_rx.datagrams) {
            return silence.silent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Looks so many times, so far apart, while nothing comes. At which of them it was too much.
    fn looks(silence: &mut Silence, from: Instant, every: Duration, times: u32) -> Option<u32> {
        let datagrams = silence.datagrams;
        (1..=times).find(|time| silence.look(from + every * *time, datagrams))
    }

    #[test]
    fn silence_that_is_heard_is_too_long_at_its_limit() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, start);
        assert!(!silence.look(start, 7));
        assert_eq!(looks(&mut silence, start, TICK, 100), Some(40));
    }

    #[test]
    fn what_comes_ends_it() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, start);
        assert_eq!(looks(&mut silence, start, TICK, 39), None);
        let heard = start + TICK * 40;
        assert!(!silence.look(heard, 1));
        assert_eq!(looks(&mut silence, heard, TICK, 100), Some(40));
    }

    #[test]
    fn time_in_which_the_node_itself_stood_still_does_not_count() {
        let start = Instant::now();
        let mut silence = Silence::new(LIMIT, start);
        let woken = start + Duration::from_secs(3_600);
        assert!(!silence.look(woken, 0));
        assert_eq!(looks(&mut silence, woken, TICK, 100), Some(38));
    }
}
