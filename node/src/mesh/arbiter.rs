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

use std::collections::HashMap;

use rookery_protocol::{Incarnation, NodeId, NodeName, handshake::RefusalCode};

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
}

impl Arbiter {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, names: HashMap::new() }
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
        let ours_wins = self.own.name() < peer.name();
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

    fn refuse_life(&mut self, peer: &NodeId) -> Option<Ruling> {
        if *peer == self.own {
            return Some(Ruling::Refuse(RefusalCode::SelfDial, format!("{peer} dialled itself")));
        }
        if peer.name() == self.own.name() {
            let text = format!(
                "{peer} has the name of this node, {}: give each node a name of its own, or wait for the other to end",
                self.own
            );
            return Some(Ruling::Refuse(RefusalCode::OlderIncarnation, text));
        }
        let newest = self.entry(peer).newest;
        (newest > Some(peer.incarnation())).then(|| {
            let text = format!("a newer life of {} is known than {peer}", peer.name());
            Ruling::Refuse(RefusalCode::OlderIncarnation, text)
        })
    }

    fn entry(&mut self, peer: &NodeId) -> &mut Entry {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(peer.name()) {
            self.names.retain(|_, entry| entry.established.is_some() || !entry.welcomed.is_empty());
        }
        self.names.entry(peer.name().clone()).or_default()
    }
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
