//! A story: what goes wrong when, and right again, all from its seed.

use std::{collections::BTreeSet, time::Duration};

use super::{
    chance::Chance,
    network::{HostIndex, Way},
};

/// When things begin to go wrong, and when all is well again.
const TROUBLE: Duration = Duration::from_secs(2);
const HEALED: Duration = Duration::from_secs(10);

/// Within how long after that all are connected with all. A dial that is under way fails after a second and a half, its address
/// is due again within five, and DNS, whose last answer may have been a wrong one, is asked within five.
pub(super) const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// The same for two who have to be told of each other: others do so in turns of ten seconds.
pub(super) const HEARD_OF_WITHIN: Duration = Duration::from_secs(40);

#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A node starts, if none runs there.
    Start(HostIndex),
    /// Its program ends without a word.
    Kill(HostIndex),
    /// It says goodbye.
    Leave(HostIndex),
    /// It has left.
    Gone(HostIndex),
    /// Nothing runs there for so long.
    Stop(HostIndex, Duration),
    /// The host is replaced by one with another address.
    Move(HostIndex),
    /// Its wall clock is an hour behind.
    ClockBehind(HostIndex),
    Cut(BTreeSet<Way>),
    Mend(BTreeSet<Way>),
    /// So many percent of the answers of DNS are none, or wrong.
    Dns(u64),
    /// All is well from now on.
    Heal,
}

#[derive(Default)]
pub(super) struct Story {
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Nothing goes wrong but on the network: no connection is ever lost.
    pub(super) is_calm: bool,
    /// Processes send.
    pub(super) talking: bool,
    /// DNS names so many of the hosts; the others are told of by these.
    pub(super) named: usize,
    /// When all is well again.
    pub(super) healed: Duration,
    /// Within how long after that all are connected.
    pub(super) connected_within: Duration,
    /// Hosts whose wall clock is an hour behind.
    pub(super) behind: BTreeSet<HostIndex>,
    /// What processes hold at most.
    pub(super) capacity: u32,
}

impl Story {
    /// For measuring: nothing happens.
    pub(super) fn quiet() -> Self {
        Self { is_calm: true, capacity: 16, named: usize::MAX, ..Self::default() }
    }

    pub(super) fn new(chance: &mut Chance, hosts: usize) -> Self {
        let is_calm = chance.percent(25);
        let capacity = [2, 8, 40][chance.below(3) as usize];
        let mut story = Self { is_calm, talking: true, capacity, healed: HEALED, ..Self::default() };
        story.connected_within = CONNECTED_WITHIN;
        story.named = if chance.percent(25) { 1 } else { hosts };
        // At once, or one after the other.
        let spread = [0, 0, 50, 1_500][chance.below(4) as usize];
        for host in 0..hosts {
            story.faults.push((chance.millis(0, spread + 1), Fault::Start(host)));
        }
        if !is_calm {
            for _ in 0..chance.between(2, 5) {
                story.trouble(chance, hosts);
            }
        }
        story.faults.push((HEALED, Fault::Heal));
        story
    }

    /// DNS names one of them, and two others lose sight of each other for longer than anybody dials on hearsay.
    pub(super) fn out_of_sight(chance: &mut Chance, hosts: usize) -> Self {
        let healed = TROUBLE + chance.millis(1_000, 60_000);
        let ways = BTreeSet::from([(1, 2), (2, 1)]);
        let mut faults: Vec<_> = (0..hosts).map(|host| (chance.millis(0, 500), Fault::Start(host))).collect();
        faults.extend([(TROUBLE, Fault::Cut(ways.clone())), (healed, Fault::Mend(ways)), (healed, Fault::Heal)]);
        Self { faults, named: 1, healed, connected_within: HEARD_OF_WITHIN, ..Self::default() }
    }

    /// One thing that goes wrong, and right again by the time that all is well.
    fn trouble(&mut self, chance: &mut Chance, hosts: usize) {
        let trouble = TROUBLE.as_millis() as u64;
        let at = chance.millis(trouble, HEALED.as_millis() as u64 - 1_000);
        let until = |chance: &mut Chance, least: u64, most: u64| (at + chance.millis(least, most)).min(HEALED);
        let host = chance.below(hosts as u64) as usize;
        let mut add = |at: Duration, fault: Fault| self.faults.push((at, fault));
        match chance.below(9) {
            0 | 1 => {
                add(at, Fault::Kill(host));
                let back = until(chance, 300, 4_000);
                match chance.below(6) {
                    0 | 1 => add(back, Fault::Move(host)),
                    2 => add(back, Fault::ClockBehind(host)),
                    _ => {}
                }
                add(back, Fault::Start(host));
            }
            2 => {
                add(at, Fault::Leave(host));
                let gone = at + Duration::from_millis(1_100);
                add(gone, Fault::Gone(host));
                add(gone + chance.millis(200, 2_000), Fault::Start(host));
            }
            3 | 4 => {
                let time = if chance.percent(50) { chance.millis(200, 1_500) } else { chance.millis(3_200, 6_000) };
                add(at, Fault::Stop(host, time.min(HEALED - at)));
            }
            5 => {
                let other = (host + 1 + chance.below(hosts as u64 - 1) as usize) % hosts;
                let mut ways = BTreeSet::from([(host, other)]);
                if chance.percent(60) {
                    ways.insert((other, host));
                }
                add(at, Fault::Cut(ways.clone()));
                add(until(chance, 300, 7_000), Fault::Mend(ways));
            }
            6 | 7 => {
                // Two parts, or one host alone, one way or both.
                let part: BTreeSet<HostIndex> = match chance.percent(50) {
                    true => (0..hosts).filter(|_| chance.percent(50)).collect(),
                    false => BTreeSet::from([host]),
                };
                let both = chance.percent(75);
                let between = |from: &HostIndex, to: &HostIndex| {
                    part.contains(from) && !part.contains(to) || both && part.contains(to) && !part.contains(from)
                };
                let ways: BTreeSet<Way> = (0..hosts)
                    .flat_map(|from| (0..hosts).map(move |to| (from, to)))
                    .filter(|(from, to)| between(from, to))
                    .collect();
                add(at, Fault::Cut(ways.clone()));
                add(until(chance, 300, 7_000), Fault::Mend(ways));
            }
            _ => {
                add(at, Fault::Dns(chance.between(30, 101)));
                add(until(chance, 1_000, 7_000), Fault::Dns(0));
            }
        }
    }
}
