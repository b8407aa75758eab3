//! The network between hosts: each packet is lost, delayed, doubled, or overtaken; links are cut one way or both. What is
//! on its way when a link is cut still arrives.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::chance::Chance;

/// A host, by its place in the world.
pub(super) type HostIndex = usize;

/// A direction of a link.
pub(super) type Way = (HostIndex, HostIndex);

pub(super) struct Network {
    /// Percent of packets that are lost.
    pub(super) loss: u64,
    /// Percent of packets that come twice.
    pub(super) doubled: u64,
    /// The shortest way, in microseconds.
    pub(super) delay_us: u64,
    /// Percent of packets that take twenty milliseconds more: others overtake them.
    pub(super) late: u64,
    /// Ways that carry nothing now, and by how many faults.
    cut: BTreeMap<Way, u32>,
    /// When a way was cut or mended last.
    changed: BTreeMap<Way, Duration>,
    /// Ports that nobody listens at say so.
    pub(super) hosts_answer: bool,
}

/// What becomes of a packet: when each copy arrives.
pub(super) struct Fate(pub(super) [Option<Duration>; 2]);

impl Network {
    pub(super) fn new(chance: &mut Chance) -> Self {
        let loss = [0, 0, 1, 5, 10][chance.below(5) as usize];
        Self {
            loss,
            doubled: [0, 2, 5][chance.below(3) as usize],
            delay_us: [50, 200, 1_000, 10_000][chance.below(4) as usize],
            late: [0, 3, 10][chance.below(3) as usize],
            cut: BTreeMap::new(),
            changed: BTreeMap::new(),
            hosts_answer: chance.percent(70),
        }
    }

    /// One that loses nothing: for measuring.
    pub(super) fn calm() -> Self {
        Self {
            loss: 0,
            doubled: 0,
            delay_us: 200,
            late: 0,
            cut: BTreeMap::new(),
            changed: BTreeMap::new(),
            hosts_answer: true,
        }
    }

    pub(super) fn fate(&self, chance: &mut Chance, way: Way) -> Fate {
        if self.is_cut(way) || chance.percent(self.loss) {
            return Fate([None, None]);
        }
        let mut one = || {
            let late = if self.late > 0 && chance.percent(self.late) { 20_000 } else { 0 };
            Duration::from_micros(self.delay_us + chance.below(self.delay_us + 1) + late)
        };
        let first = one();
        let second = one();
        Fate([Some(first), (self.doubled > 0 && chance.percent(self.doubled)).then_some(second)])
    }

    pub(super) fn is_cut(&self, way: Way) -> bool {
        !self.cut.is_empty() && self.cut.contains_key(&way)
    }

    /// Whether a way was cut at any time since then.
    pub(super) fn was_cut_since(&self, way: Way, since: Duration) -> bool {
        self.is_cut(way) || self.changed.get(&way).is_some_and(|at| *at >= since)
    }

    pub(super) fn cut(&mut self, ways: &BTreeSet<Way>, now: Duration) {
        for way in ways {
            *self.cut.entry(*way).or_default() += 1;
            self.changed.insert(*way, now);
        }
    }

    pub(super) fn mend(&mut self, ways: &BTreeSet<Way>, now: Duration) {
        for way in ways {
            if let Some(times) = self.cut.get_mut(way) {
                *times -= 1;
                if *times == 0 {
                    self.cut.remove(way);
                    self.changed.insert(*way, now);
                }
            }
        }
    }

    pub(super) fn any_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}
