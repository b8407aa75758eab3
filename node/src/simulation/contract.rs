//! The contract as it is checked after each step, by the ids of its rows. It is told what nodes tell their processes, and
//! knows nothing of the machines that are tried.

use std::collections::{BTreeMap, VecDeque};

use rookery_protocol::{Incarnation, NodeId, NodeName, Pid, TicketNumber};
use serde::{Deserialize, Serialize};

use super::schedule::EndId;

/// `Err`: a row is broken, and how.
pub(super) type Checked = Result<(), String>;

/// What stands at the beginning of each message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    /// The connection that it was sent on.
    pub(super) connection: u64,
    /// Its place among what its sender sent to its receiver on that connection.
    pub(super) of_pair: u32,
    /// Its place among all that its sender sent on that connection.
    pub(super) of_sender: u32,
    /// The credit counts it.
    pub(super) counted: bool,
}

/// Who is meant, whichever way it is addressed: `None` where nobody has the name.
pub(super) type Receiver = Option<u64>;

/// Numbers what is sent on one connection.
#[derive(Default)]
pub(super) struct Sent {
    of_pair: BTreeMap<(u64, Receiver), u32>,
    of_sender: BTreeMap<u64, u32>,
}

impl Sent {
    /// `sender` sends to `receiver`.
    pub(super) fn stamp(&mut self, connection: u64, sender: u64, receiver: Receiver, counted: bool) -> Stamp {
        let of_pair = self.of_pair.entry((sender, receiver)).or_default();
        let of_sender = self.of_sender.entry(sender).or_default();
        let stamp = Stamp { connection, of_pair: *of_pair, of_sender: *of_sender, counted };
        *of_pair += 1;
        *of_sender += 1;
        stamp
    }

    /// How much was sent.
    pub(super) fn pairs(&self) -> &BTreeMap<(u64, Receiver), u32> {
        &self.of_pair
    }
}

/// What one life of a node sees of the others.
#[derive(Default)]
pub(super) struct View {
    up: BTreeMap<NodeName, Up>,
    newest: BTreeMap<NodeName, Incarnation>,
}

/// A node that is up.
struct Up {
    node: NodeId,
    by: EndId,
    /// By sender and receiver, what comes next.
    next: BTreeMap<(u64, Receiver), u32>,
    /// By sender, the place of the latest for anybody, and of the latest for nobody.
    latest: BTreeMap<u64, (u32, u32)>,
}

impl View {
    /// M5, P1, D2: the node is up, by this connection.
    pub(super) fn node_up(&mut self, node: &NodeId, by: EndId) -> Checked {
        if let Some(up) = self.up.get(node.name()) {
            return Err(format!("M5, D2: NodeUp of {node} while {} is up", up.node));
        }
        let newest = self.newest.entry(node.name().clone()).or_insert(node.incarnation());
        if *newest > node.incarnation() {
            return Err(format!("P1: NodeUp of {node} after that of a newer life, {newest}"));
        }
        *newest = node.incarnation();
        let up = Up { node: node.clone(), by, next: BTreeMap::new(), latest: BTreeMap::new() };
        self.up.insert(node.name().clone(), up);
        Ok(())
    }

    /// M5: the node is down.
    pub(super) fn node_down(&mut self, node: &NodeId) -> Checked {
        match self.up.remove(node.name()) {
            Some(up) if up.node == *node => Ok(()),
            other => Err(format!("M5: NodeDown of {node}, while {:?} is up", other.map(|up| up.node))),
        }
    }

    /// M5, S1, S2: a message comes from a process of `node`, on this connection.
    pub(super) fn delivered(&mut self, from: &Pid, to: Receiver, stamp: Stamp, by: EndId) -> Checked {
        let Some(up) = self.up.get_mut(from.node().name()).filter(|up| up.node == *from.node() && up.by == by) else {
            return Err(format!("M5: a message of {from} comes outside of its NodeUp and NodeDown"));
        };
        if stamp.connection != by.connection {
            return Err(format!("S2: {from} has sent on another connection what comes on {}", by.connection));
        }
        let sender = from.serial().0;
        let next = up.next.entry((sender, to)).or_default();
        if stamp.of_pair != *next {
            let what =
                if stamp.of_pair < *next { "S1, S2: too late, or twice" } else { "S1, S2: too early, or one lost" };
            return Err(format!("{what}: {from} to {to:?} sent number {}, and {next} is next", stamp.of_pair));
        }
        *next += 1;
        // For whoever has no receiver that is known, its order is that of all its sender's messages.
        let (of_any, of_nobody) = up.latest.entry(sender).or_default();
        let place = stamp.of_sender + 1;
        if place <= if to.is_none() { *of_any } else { *of_nobody } {
            return Err(format!(
                "S1: number {place} of {from} is overtaken by, or overtakes, one whose receiver is not known"
            ));
        }
        *of_any = place.max(*of_any);
        if to.is_none() {
            *of_nobody = place;
        }
        Ok(())
    }

    /// Who is up.
    pub(super) fn up(&self) -> impl Iterator<Item = (&NodeId, EndId)> {
        self.up.values().map(|up| (&up.node, up.by))
    }

    pub(super) fn has_up(&self, node: &NodeId) -> Option<EndId> {
        self.up.get(node.name()).filter(|up| up.node == *node).map(|up| up.by)
    }

    /// S2: all that was sent on the connection has been delivered.
    pub(super) fn has_all(&self, node: &NodeId, sent: &Sent) -> Checked {
        let Some(up) = self.up.get(node.name()) else { return Ok(()) };
        for ((sender, receiver), count) in sent.pairs() {
            let got = up.next.get(&(*sender, *receiver)).copied().unwrap_or_default();
            if got != *count {
                return Err(format!(
                    "S2: {count} were sent by {sender} of {node} to {receiver:?} on a connection that stands, and {got} arrived"
                ));
            }
        }
        Ok(())
    }
}

/// What holds others back on a lane, or is held back.
#[derive(Debug, Clone)]
pub(super) struct Outstanding {
    pub(super) sender: u64,
    pub(super) receiver: Receiver,
    /// The body that it waits for.
    pub(super) ticket: Option<TicketNumber>,
}

/// S4: whether a signal may be held back: for what the same sender sends to the same receiver, or for what may be for anybody.
pub(super) fn may_be_held(outstanding: &VecDeque<Outstanding>, sender: u64, receiver: Receiver) -> bool {
    outstanding
        .iter()
        .any(|one| one.sender == sender && (one.receiver == receiver || one.receiver.is_none() || receiver.is_none()))
}
