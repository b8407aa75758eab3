//! Which connection two nodes keep (D2). Pure: handshakes ask, verdicts come out.
//!
//! Two nodes may dial each other at once. Each connection has a dialler, who says the last word of its handshake
//! (`Confirm`), and carries signals only from then on. So the rule needs to hold at two places only:
//!
//! - An **acceptor** asked to welcome a node that it is connected with says no.
//! - A **dialler** that was welcomed while it has itself welcomed the same node on another connection keeps its own if its
//!   name is the smaller one, and gives it up otherwise. The other end sees the same two connections and the same two
//!   names, and comes to the opposite conclusion.
//!
//! A newer incarnation takes the place of an older one at once; an older one is refused for ever (P1). A node that lost
//! its connection without our noticing asks to replace it.

use std::{collections::HashMap, time::Duration};

use rookery_protocol::{
    Incarnation, NodeId, NodeName,
    handshake::{NewerLife, RefusalCode},
};

/// One connection, as the driver numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionNumber(pub(crate) u64);

/// How many names are remembered, so that an endless row of new names from a broken peer costs bounded memory. Far above
/// any mesh; beyond it, names that are not connected are forgotten.
const MAX_NAMES: usize = 65_536;

/// What is to happen with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Go on with it; when it is established, this other one, if any, is lost first.
    Keep(Option<ConnectionNumber>),
    /// Refuse it, with the reason for both ends' logs.
    Refuse(RefusalCode, String),
}

#[derive(Debug, Clone, Default)]
struct Entry {
    /// The newest life of this name that was ever established.
    newest: Option<Incarnation>,
    /// The connection that stands, or that we have confirmed.
    established: Option<(ConnectionNumber, Incarnation)>,
    /// Connections that we have welcomed and whose diallers have not confirmed: a node that is known at several addresses
    /// dials them at once, and each can be the one that it keeps. As many as handshakes may be under way.
    welcomed: Vec<Welcomed>,
}

#[derive(Debug, Clone, Copy)]
struct Welcomed {
    number: ConnectionNumber,
    incarnation: Incarnation,
    /// Its dialler asks to replace what stands.
    replace: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Arbiter {
    own: NodeId,
    names: HashMap<NodeName, Entry>,
    /// A mistake that the simulation has to find.
    #[cfg(test)]
    pub(crate) planted: Option<Planted>,
}

/// Mistakes that the simulation has to find.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// A dialler keeps its own connection, whatever it has welcomed.
    KeepsBoth,
    /// An older life is taken as well as the newest.
    ForgetsLives,
}

impl Arbiter {
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            names: HashMap::new(),
            #[cfg(test)]
            planted: None,
        }
    }

    /// We are asked to welcome `peer`, who dialled.
    pub(crate) fn asked(&mut self, number: ConnectionNumber, peer: &NodeId, replace: bool) -> Ruling {
        if let Some(refused) = self.refuse_life(peer) {
            return refused;
        }
        let entry = self.entry(peer);
        if entry.stands(peer) && !replace {
            return Ruling::Refuse(RefusalCode::Duplicate, format!("{peer} is connected already"));
        }
        entry.welcomed.push(Welcomed { number, incarnation: peer.incarnation(), replace });
        Ruling::Keep(None)
    }

    /// `peer`, whom we dialled, welcomes us. What is kept is confirmed, and stands from now on: whoever asks while our
    /// confirmation is on its way hears of it.
    pub(crate) fn welcomed(&mut self, number: ConnectionNumber, peer: &NodeId) -> Ruling {
        if let Some(refused) = self.refuse_life(peer) {
            return refused;
        }
        let ours_wins = self.own.name() < peer.name() || self.is_planted("KeepsBoth");
        let entry = self.entry(peer);
        if entry.stands(peer) {
            return Ruling::Refuse(RefusalCode::Duplicate, format!("{peer} is connected already"));
        }
        if !ours_wins && entry.has_welcomed(peer) {
            let text = format!("{peer} and this node dialled each other; its connection is kept");
            return Ruling::Refuse(RefusalCode::Duplicate, text);
        }
        Ruling::Keep(entry.establish(number, peer))
    }

    /// `peer`, whom we welcomed, confirms.
    pub(crate) fn confirmed(&mut self, number: ConnectionNumber, peer: &NodeId) -> Ruling {
        if let Some(refused) = self.refuse_life(peer) {
            return refused;
        }
        let entry = self.entry(peer);
        let replaces = entry.forget_welcomed(number).is_some_and(|welcomed| welcomed.replace);
        if entry.stands(peer) && !replaces {
            return Ruling::Refuse(RefusalCode::Duplicate, format!("{peer} is connected already"));
        }
        Ruling::Keep(entry.establish(number, peer))
    }

    /// A connection has ended, whatever it had come to.
    pub(crate) fn ended(&mut self, number: ConnectionNumber, peer: &NodeId) {
        if let Some(entry) = self.names.get_mut(peer.name()) {
            entry.established.take_if(|(established, _)| *established == number);
            entry.forget_welcomed(number);
        }
    }

    /// Whether a connection with this life of the node stands, or is about to.
    pub(crate) fn knows(&self, peer: &NodeId) -> bool {
        self.names.get(peer.name()).is_some_and(|entry| entry.stands(peer) || entry.has_welcomed(peer))
    }

    /// The newest life of the peer's name, if that is another, and newer: what to tell a peer that is refused for it.
    pub(crate) fn newer_life(&self, peer: &NodeId) -> Option<NewerLife> {
        let known = if peer.name() == self.own.name() {
            NewerLife { incarnation: self.own.incarnation(), runs: true }
        } else {
            let entry = self.names.get(peer.name())?;
            let incarnation = entry.newest?;
            NewerLife { incarnation, runs: entry.established.is_some_and(|(_, life)| life == incarnation) }
        };
        Some(known).filter(|known| known.incarnation > peer.incarnation())
    }

    fn refuse_life(&mut self, peer: &NodeId) -> Option<Ruling> {
        if *peer == self.own {
            return Some(Ruling::Refuse(RefusalCode::SelfDial, format!("{peer} dialled itself")));
        }
        if peer.name() == self.own.name() {
            return Some(Ruling::Refuse(RefusalCode::OlderIncarnation, namesakes(peer, &self.own, true)));
        }
        if self.is_planted("ForgetsLives") {
            return None;
        }
        let entry = self.entry(peer);
        let newest = entry.newest.filter(|newest| *newest > peer.incarnation())?;
        let runs = entry.established.is_some_and(|(_, incarnation)| incarnation == newest);
        let other = NodeId::new(peer.name().clone(), newest);
        Some(Ruling::Refuse(RefusalCode::OlderIncarnation, namesakes(peer, &other, runs)))
    }

    #[cfg(test)]
    fn is_planted(&self, mistake: &str) -> bool {
        self.planted.is_some_and(|planted| format!("{planted:?}") == mistake)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)] // As in tests.
    fn is_planted(&self, _: &str) -> bool {
        false
    }

    fn entry(&mut self, peer: &NodeId) -> &mut Entry {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(peer.name()) {
            self.names.retain(|_, entry| entry.established.is_some() || !entry.welcomed.is_empty());
        }
        self.names.entry(peer.name().clone()).or_default()
    }
}

/// Says of `peer` that it has the name of `other`, which runs, or has left.
fn namesakes(peer: &NodeId, other: &NodeId, runs: bool) -> String {
    let (first, last) = if peer.incarnation() < other.incarnation() { (peer, other) } else { (other, peer) };
    let later = Duration::from_micros(last.incarnation().0 - first.incarnation().0);
    let mut text = if runs {
        let name = peer.name();
        format!(
            "two nodes are named {name}: {first}, and {last}, which started {later:.1?} later; give each its own name"
        )
    } else {
        format!(
            "{last}, which started {later:.1?} later than {first}, was here already, and an older life never comes back"
        )
    };
    if first == peer {
        text.push_str(&format!("; if {first} is the one that started last, the clock of its machine is behind"));
    }
    text
}

impl Entry {
    /// Whether a connection with this life of the peer stands.
    fn stands(&self, peer: &NodeId) -> bool {
        self.established.is_some_and(|(_, incarnation)| incarnation == peer.incarnation())
    }

    fn has_welcomed(&self, peer: &NodeId) -> bool {
        self.welcomed.iter().any(|welcomed| welcomed.incarnation == peer.incarnation())
    }

    fn forget_welcomed(&mut self, number: ConnectionNumber) -> Option<Welcomed> {
        let at = self.welcomed.iter().position(|welcomed| welcomed.number == number)?;
        Some(self.welcomed.swap_remove(at))
    }

    fn establish(&mut self, number: ConnectionNumber, peer: &NodeId) -> Option<ConnectionNumber> {
        self.newest = Some(peer.incarnation());
        self.established.replace((number, peer.incarnation())).map(|(replaced, _)| replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ruling: Ruling) -> String {
        match ruling {
            Ruling::Refuse(RefusalCode::OlderIncarnation, text) => text,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn who_has_the_name_of_another_is_told_of_it_and_of_a_clock_that_is_behind()
    -> Result<(), Box<dyn std::error::Error>> {
        let life =
            |name: &str, seconds: u64| name.parse().map(|name| NodeId::new(name, Incarnation(seconds * 1_000_000)));
        let (own, old, new) = (life("a", 5)?, life("b", 1)?, life("b", 4)?);
        let mut arbiter = Arbiter::new(own);

        let text = refused(arbiter.asked(ConnectionNumber(1), &life("a", 7)?, false));
        assert!(text.contains("two nodes are named a") && text.contains("started 2.0s later"), "{text}");
        assert!(!text.contains("clock"), "{text}");
        let text = refused(arbiter.welcomed(ConnectionNumber(2), &life("a", 2)?));
        assert!(text.contains("started 3.0s later") && text.contains("the clock of its machine is behind"), "{text}");

        assert_eq!(arbiter.welcomed(ConnectionNumber(3), &new), Ruling::Keep(None));
        let text = refused(arbiter.asked(ConnectionNumber(4), &old, false));
        assert!(text.contains("two nodes are named b") && text.contains("clock"), "{text}");
        let newer = |runs| Some(NewerLife { incarnation: new.incarnation(), runs });
        assert_eq!(arbiter.newer_life(&old), newer(true));
        assert_eq!(arbiter.newer_life(&new), None);
        arbiter.ended(ConnectionNumber(3), &new);
        let text = refused(arbiter.asked(ConnectionNumber(5), &old, false));
        assert!(text.contains("was here already") && text.contains("clock"), "{text}");
        assert_eq!(arbiter.newer_life(&old), newer(false));
        let own = Some(NewerLife { incarnation: Incarnation(5_000_000), runs: true });
        assert_eq!((arbiter.newer_life(&life("a", 2)?), arbiter.newer_life(&life("a", 7)?)), (own, None));
        Ok(())
    }
}
