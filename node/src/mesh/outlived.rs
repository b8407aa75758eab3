//! Whether this node is one that nobody takes, since a newer life of its name was there, which has gone. That is a node whose clock
//! was behind when it started, or ahead when it started the time before: it runs, and is of no use until it starts anew with a
//! larger incarnation. Pure: what peers say when they refuse it goes in, with the time.
//!
//! Where the newer life *runs*, two have one name, and the newest wins: this one stays refused, as long as any peer says so. Peers that
//! have just lost sight of that one may say otherwise, so nothing is believed until all who can be dialled have had the time to answer.
//!
//! A peer has a node's certificate to say any of it, and could do worse with that: it can end every process. What it says is
//! bounded all the same, so that numbers do not run out, and few are not believed while more take this node.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rookery_protocol::{Incarnation, NodeName, handshake::NewerLife};

/// For how long nobody may say that the newer life runs, before it counts as gone. As long as a handshake may take: whoever can
/// be dialled has answered.
pub(crate) const SETTLES: Duration = Duration::from_secs(5);

/// For how long a peer's word counts. It is dialled again every second; who cannot be reached for longer than a connection may be
/// idle is not heard any more.
const COUNTS: Duration = Duration::from_secs(30);

/// How far ahead of the clock an incarnation may be that is outbid. What is outbid once is in the way of the clock until that has come
/// there; and a clock that was off by more has made a certificate useless before.
const FURTHEST_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// Peers whose word is kept: as many as addresses may be dialled. Beyond it all are forgotten, and say it again.
const MAX_PEERS: usize = 4_096;

/// This node is older than a life of its name that has gone, and is refused for it: it has to start anew, with a larger incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlived {
    /// The newest life of its name that is known.
    pub newest: Incarnation,
    /// Who has told of it.
    pub by: NodeName,
}

impl Outlived {
    /// The incarnation to start anew with ([`NodeConfig::incarnation`](crate::NodeConfig)): by the clock, but newer than each that is
    /// known.
    #[must_use]
    pub fn next(&self) -> Incarnation {
        by_clock().max(Incarnation(self.newest.0.saturating_add(1)))
    }
}

impl fmt::Display for Outlived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has known a newer life of this node, {}, which has gone, and takes no older one: the clock is behind, or was ahead \
             when the node was started last; start it anew with a larger incarnation",
            self.by, self.newest
        )
    }
}

/// The wall clock in microseconds: it grows from one start to the next, on whatever machine the pod comes up.
pub(crate) fn by_clock() -> Incarnation {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Incarnation(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// What comes of a peer's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heeded {
    /// Nothing yet.
    Nothing,
    /// Nothing, ever: no honest clock is so far ahead.
    TooFar,
    /// The node is outlived.
    Outlived(Outlived),
}

#[derive(Debug, Clone, Copy)]
struct Word {
    newer: NewerLife,
    at: Duration,
}

/// A peer refuses this node, since it takes it for older than a life before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenForOlder {
    /// Who says so.
    pub(crate) by: NodeName,
    /// What it has known.
    pub(crate) newer: NewerLife,
    /// That is of no honest clock.
    pub(crate) too_far: bool,
}

impl fmt::Display for TakenForOlder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, newer: NewerLife { incarnation, runs }, too_far } = self;
        write!(f, "{by} refuses it, since it has known a newer life of this node, {incarnation}, which ")?;
        match (too_far, runs) {
            (true, _) => write!(f, "no clock would give: {by} has to be started anew"),
            (false, true) => write!(f, "runs: two nodes have one name, and one of them has to end"),
            (false, false) => write!(
                f,
                "has gone: the clock is behind, or was ahead when the node was started last; it has to begin anew, as \
                 `rookery start` does by itself"
            ),
        }
    }
}

/// What peers have said.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The last refusal for a newer life, and when it came.
    last: Option<(TakenForOlder, Duration)>,
    /// The last word of each.
    of: HashMap<NodeName, Word>,
    /// Since when some say that the newer life has gone, and nobody that it runs.
    since: Option<Duration>,
}

impl Words {
    /// `by` refuses this node, which so many others take, since it has known `newer`. `clock` is the wall clock, as an incarnation.
    pub(super) fn told(
        &mut self,
        by: NodeName,
        newer: NewerLife,
        now: Duration,
        clock: Incarnation,
        taken_by: usize,
    ) -> Heeded {
        let furthest = u64::try_from(FURTHEST_AHEAD.as_micros()).unwrap_or(u64::MAX);
        let too_far = newer.incarnation.0 > clock.0.saturating_add(furthest);
        self.last = Some((TakenForOlder { by: by.clone(), newer, too_far }, now));
        if too_far {
            return Heeded::TooFar;
        }
        self.of.retain(|_, word| now.saturating_sub(word.at) < COUNTS);
        if self.of.is_empty() {
            self.since = None;
        }
        if self.of.len() >= MAX_PEERS && !self.of.contains_key(&by) {
            self.of.clear();
        }
        self.of.insert(by, Word { newer, at: now });
        if self.of.values().any(|word| word.newer.runs) {
            self.since = None;
            return Heeded::Nothing;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) < SETTLES || taken_by > self.of.len() {
            return Heeded::Nothing;
        }
        // Of several that have known the same, always the same one.
        let newest = self.of.iter().max_by(|(by, word), (other, others)| {
            word.newer.incarnation.cmp(&others.newer.incarnation).then_with(|| other.cmp(by))
        });
        match newest {
            Some((by, word)) => Heeded::Outlived(Outlived { newest: word.newer.incarnation, by: by.clone() }),
            None => Heeded::Nothing,
        }
    }

    /// `peer` takes this node: whatever it has known before, it does not any more.
    pub(super) fn taken_by(&mut self, peer: &NodeName) {
        self.of.remove(peer);
        self.last.take_if(|(refusal, _)| refusal.by == *peer);
    }

    /// Why this node is refused, while somebody says so. Of several, who has said it last.
    pub(super) fn taken_for_older(&self, now: Duration) -> Option<TakenForOlder> {
        let (refusal, _) = self.last.as_ref().filter(|(_, at)| now.saturating_sub(*at) < COUNTS)?;
        Some(refusal.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may stop where it fails.
mod tests {
    use super::*;

    const CLOCK: Incarnation = Incarnation(1_000_000_000_000_000);

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn life(number: u64, runs: bool) -> NewerLife {
        NewerLife { incarnation: Incarnation(CLOCK.0 + number), runs }
    }

    fn outlived(number: u64, by: &str) -> Heeded {
        Heeded::Outlived(Outlived { newest: Incarnation(CLOCK.0 + number), by: name(by) })
    }

    #[test]
    fn a_newer_life_that_has_gone_counts_when_all_had_the_time_to_answer() {
        let mut words = Words::default();
        assert_eq!(words.told(name("b"), life(1, false), seconds(10), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(7, false), seconds(12), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("b"), life(1, false), seconds(15), CLOCK, 0), outlived(7, "c"));
        let Heeded::Outlived(outlived) = words.told(name("b"), life(1, false), seconds(16), CLOCK, 0) else {
            unreachable!()
        };
        assert!(outlived.next().0 > CLOCK.0 + 7);
    }

    #[test]
    fn a_newer_life_that_runs_is_not_outbid_however_long_others_say_that_it_has_gone() {
        let mut words = Words::default();
        for second in 0..600 {
            let runs = second % 20 == 0;
            let by = if runs { "b" } else { "c" };
            assert_eq!(words.told(name(by), life(1, runs), seconds(second), CLOCK, 0), Heeded::Nothing, "{second}");
        }
        // It ends, as `b` finds out.
        assert_eq!(words.told(name("b"), life(1, false), seconds(600), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("b"), life(1, false), seconds(604), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(605), CLOCK, 0), outlived(1, "b"));
    }

    #[test]
    fn who_is_not_heard_any_more_has_no_word() {
        let mut words = Words::default();
        assert_eq!(words.told(name("b"), life(1, true), seconds(0), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(29), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(31), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(36), CLOCK, 0), outlived(1, "c"));
        // And it has to be said again from the beginning.
        assert_eq!(words.told(name("c"), life(1, false), seconds(100), CLOCK, 0), Heeded::Nothing);
    }

    #[test]
    fn a_peer_that_takes_the_node_in_the_end_has_known_no_newer_life() {
        let mut words = Words::default();
        assert_eq!(words.told(name("b"), life(9, false), seconds(0), CLOCK, 0), Heeded::Nothing);
        words.taken_by(&name("b"));
        assert_eq!(words.told(name("c"), life(1, false), seconds(1), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(4), CLOCK, 0), Heeded::Nothing);
        assert_eq!(words.told(name("c"), life(1, false), seconds(6), CLOCK, 0), outlived(1, "c"));
    }

    #[test]
    fn few_are_not_believed_while_more_take_the_node() {
        let mut words = Words::default();
        for second in 0..100 {
            assert_eq!(words.told(name("b"), life(1, false), seconds(second), CLOCK, 2), Heeded::Nothing);
        }
        assert_eq!(words.told(name("c"), life(1, false), seconds(100), CLOCK, 2), outlived(1, "b"));
    }

    #[test]
    fn what_no_clock_says_is_not_outbid_nor_in_the_way_of_what_is() {
        let mut words = Words::default();
        let furthest = u64::try_from(FURTHEST_AHEAD.as_micros()).unwrap();
        for second in 0..100 {
            for far in [Incarnation(u64::MAX), Incarnation(CLOCK.0 + furthest + 1)] {
                for runs in [false, true] {
                    let newer = NewerLife { incarnation: far, runs };
                    assert_eq!(words.told(name("b"), newer, seconds(second), CLOCK, 0), Heeded::TooFar);
                }
            }
            let heeded = words.told(name("c"), life(furthest, false), seconds(second), CLOCK, 0);
            assert_eq!(heeded, if second < 5 { Heeded::Nothing } else { outlived(furthest, "c") });
        }
    }

    #[test]
    fn why_a_node_is_refused_is_known_while_somebody_says_so() {
        let mut words = Words::default();
        let said = |words: &Words, second| words.taken_for_older(seconds(second)).map(|refusal| refusal.to_string());
        assert_eq!(said(&words, 0), None);
        words.told(name("b"), life(1, false), seconds(0), CLOCK, 0);
        assert!(said(&words, 1).is_some_and(|text| text.starts_with("b refuses it") && text.contains("has gone")));
        words.told(name("c"), life(1, true), seconds(2), CLOCK, 0);
        assert!(said(&words, 3).is_some_and(|text| text.contains("two nodes have one name")));
        let absurd = NewerLife { incarnation: Incarnation(u64::MAX), runs: false };
        words.told(name("d"), absurd, seconds(4), CLOCK, 0);
        assert!(said(&words, 5).is_some_and(|text| text.contains("d has to be started anew")));
        words.taken_by(&name("b"));
        assert!(said(&words, 33).is_some(), "d still says so");
        assert_eq!(said(&words, 34), None, "it has not for long");
        words.told(name("d"), absurd, seconds(35), CLOCK, 0);
        words.taken_by(&name("d"));
        assert_eq!(said(&words, 35), None);
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let mut words = Words::default();
        for number in 0..2 * MAX_PEERS {
            words.told(name(&format!("n{number}")), life(1, false), seconds(0), CLOCK, 0);
            assert!(words.of.len() <= MAX_PEERS);
        }
    }
}
