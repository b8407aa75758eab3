//! The cluster's DNS: names the addresses of nodes a while after they are there, and still a while after they are gone; and
//! while it is in trouble answers with an old set, a part of it, nothing at all, or a failure.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::chance::Chance;
use crate::discovery::Outcome;

/// How many former sets it may answer with.
const REMEMBERED: usize = 4;

#[derive(Default)]
pub(super) struct Dns {
    zone: BTreeSet<SocketAddr>,
    former: Vec<BTreeSet<SocketAddr>>,
    /// Percent of answers that are none, or wrong.
    pub(super) trouble: u64,
}

/// What kind of an answer it was, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    Stale,
    Part,
    Empty,
    Failed,
}

impl Dns {
    pub(super) fn change(&mut self, address: SocketAddr, is_named: bool) {
        if self.former.len() == REMEMBERED {
            self.former.remove(0);
        }
        self.former.push(self.zone.clone());
        if is_named {
            self.zone.insert(address);
        } else {
            self.zone.remove(&address);
        }
    }

    pub(super) fn answer(&self, chance: &mut Chance) -> (Kind, Outcome) {
        let kind = if chance.percent(self.trouble) {
            [Kind::Stale, Kind::Part, Kind::Empty, Kind::Failed][chance.below(4) as usize]
        } else {
            Kind::Good
        };
        let addresses: BTreeSet<SocketAddr> = match kind {
            Kind::Empty => return (kind, Outcome::Empty),
            Kind::Failed => return (kind, Outcome::Failed("SERVFAIL".to_owned())),
            Kind::Good => self.zone.clone(),
            Kind::Stale => chance.pick(&self.former).cloned().unwrap_or_default(),
            Kind::Part => self.zone.iter().copied().filter(|_| chance.percent(50)).collect(),
        };
        if addresses.is_empty() {
            return (Kind::Empty, Outcome::Empty);
        }
        let valid_for = Duration::from_secs(chance.between(1, 6));
        (kind, Outcome::Answer { addresses, valid_for, excess: 0 })
    }
}
