//! One source's state between polls: its last good set, whether it answers, when to ask next.
//!
//! Pure: outcomes of look-ups go in, events and the next wait come out. It promises that an empty or
//! failed outcome never changes the last good set, and that each change of state is told once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::jitter::Jitter;
use super::limits;
use super::resolver::Outcome;
use super::sources::{DiscoveryEvent, Source, Trouble};

/// What the last outcome was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nothing was asked yet.
    Unknown,
    /// The last poll gave addresses.
    Good,
    /// The last poll gave an answer without addresses.
    Empty,
    /// The last poll gave no usable answer.
    Failed,
}

/// Follows one source from poll to poll.
#[derive(Debug)]
pub(crate) struct SourceWatch {
    /// Whose state this is.
    source: Source,
    /// The last set that was not empty; empty only until the first.
    last_good: BTreeSet<SocketAddr>,
    /// Of the last poll; a change of it is what gets told.
    health: Health,
    /// The wait before the next poll, without jitter; always within the two bounds.
    wait: Duration,
    /// Lower bound of `wait`.
    poll_min: Duration,
    /// Upper bound of `wait`; not below `poll_min`.
    poll_max: Duration,
    /// Spreads the waits.
    jitter: Jitter,
}

impl SourceWatch {
    pub(crate) fn new(source: Source, poll_min: Duration, poll_max: Duration, jitter: Jitter) -> Self {
        Self {
            source,
            last_good: BTreeSet::new(),
            health: Health::Unknown,
            wait: poll_min,
            poll_min,
            poll_max: poll_max.max(poll_min),
            jitter,
        }
    }

    /// Takes what a poll gave; returns what is to be told, in order.
    pub(crate) fn handle_outcome(&mut self, outcome: Outcome) -> Vec<DiscoveryEvent> {
        match outcome {
            Outcome::Answer { addresses, valid_for, excess } => {
                self.wait = valid_for.clamp(self.poll_min, self.poll_max);
                self.handle_answer(addresses, excess)
            }
            Outcome::Empty => {
                // Asked again soon: this is how a cluster that is just starting looks.
                self.wait = self.poll_min;
                self.handle_trouble(Health::Empty, Trouble::Empty)
            }
            Outcome::Failed(reason) => {
                // Each failure in a row doubles the wait: a server in trouble gets less to do.
                self.wait = match self.health {
                    Health::Failed => (self.wait * 2).clamp(self.poll_min, self.poll_max),
                    _ => self.poll_min,
                };
                self.handle_trouble(Health::Failed, Trouble::Failed(reason))
            }
        }
    }

    /// How long to wait before the next poll: within the bounds, then ±10 %.
    pub(crate) fn next_wait(&mut self) -> Duration {
        self.jitter.around(self.wait, limits::POLL_JITTER)
    }

    fn handle_answer(&mut self, addresses: BTreeSet<SocketAddr>, excess: usize) -> Vec<DiscoveryEvent> {
        let mut events = Vec::new();
        if matches!(self.health, Health::Empty | Health::Failed) {
            events.push(DiscoveryEvent::Recovered { source: self.source.clone() });
        }
        self.health = Health::Good;
        if addresses != self.last_good {
            self.last_good.clone_from(&addresses);
            events.push(DiscoveryEvent::Addresses { source: self.source.clone(), set: addresses, excess });
        }
        events
    }

    fn handle_trouble(&mut self, health: Health, reason: Trouble) -> Vec<DiscoveryEvent> {
        if self.health == health {
            return Vec::new();
        }
        self.health = health;
        vec![DiscoveryEvent::Trouble { source: self.source.clone(), reason }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(5);

    fn watch() -> SourceWatch {
        SourceWatch::new(Source::Service("s".into()), MIN, MAX, Jitter::new(1))
    }

    fn answer(ports: &[u16], ttl_secs: u64) -> Outcome {
        Outcome::Answer {
            addresses: ports.iter().map(|port| SocketAddr::from(([10, 0, 0, 1], *port))).collect(),
            valid_for: Duration::from_secs(ttl_secs),
            excess: 0,
        }
    }

    #[test]
    fn a_set_is_told_when_it_changes_and_only_then() {
        let mut watch = watch();
        assert_eq!(watch.handle_outcome(answer(&[1, 2], 3)).len(), 1);
        assert_eq!(watch.handle_outcome(answer(&[2, 1], 3)), []);
        assert_eq!(watch.handle_outcome(answer(&[2], 3)).len(), 1);
    }

    #[test]
    fn trouble_is_told_once_and_the_set_survives_it() {
        let mut watch = watch();
        watch.handle_outcome(answer(&[1], 3));
        let failed = || Outcome::Failed("SERVFAIL".to_owned());
        assert!(matches!(
            &watch.handle_outcome(failed())[..],
            [DiscoveryEvent::Trouble { reason: Trouble::Failed(_), .. }]
        ));
        for _ in 0..10 {
            assert_eq!(watch.handle_outcome(failed()), []);
        }
        assert!(matches!(
            &watch.handle_outcome(Outcome::Empty)[..],
            [DiscoveryEvent::Trouble { reason: Trouble::Empty, .. }]
        ));
        // The same set as before is no change: only the recovery is told.
        assert!(matches!(&watch.handle_outcome(answer(&[1], 3))[..], [DiscoveryEvent::Recovered { .. }]));
    }

    #[test]
    fn failures_in_a_row_ask_less_often_and_an_answer_resets_it() {
        let mut watch = watch();
        let mut waits = Vec::new();
        for _ in 0..5 {
            watch.handle_outcome(Outcome::Failed(String::new()));
            waits.push(watch.wait.as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        watch.handle_outcome(answer(&[1], 2));
        assert_eq!(watch.wait.as_secs(), 2);
        watch.handle_outcome(Outcome::Failed(String::new()));
        assert_eq!(watch.wait.as_secs(), 1);
    }

    proptest! {
        #[test]
        fn waits_stay_within_the_bounds_and_the_jitter(seed: u64, ttl in 0_u64..100_000) {
            let source = Source::Service("s".into());
            let mut watch = SourceWatch::new(source, MIN, MAX, Jitter::new(seed));
            watch.handle_outcome(answer(&[1], ttl));
            let nominal = Duration::from_secs(ttl).clamp(MIN, MAX);
            let wait = watch.next_wait();
            prop_assert!(wait >= nominal.mul_f64(0.899) && wait <= nominal.mul_f64(1.101), "{wait:?}");
        }
    }
}
