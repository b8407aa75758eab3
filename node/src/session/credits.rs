//! The credit that one client has, and that others have towards its processes, as it passes (S7). Pure; part of
//! [`Edges`](super::edges::Edges), which see. The node only passes credit on; but a client that is lost cannot say that it
//! sends no more, nor that whoever waits for its processes need not.

use std::collections::{HashMap, HashSet};

use rookery_protocol::{CreditChange, CreditNumber, Destination, NodeId, Pid, Recipient, Serial, Signal, SignalBody};

#[derive(Debug, Default)]
pub(crate) struct CreditEdges {
    /// Towards the client's processes: (who asks, its number, client's process).
    counted: HashSet<(Pid, CreditNumber, Serial)>,
    /// The client's own: (the client itself, its number), and towards whom.
    asked: HashMap<(Serial, CreditNumber), Destination>,
}

impl CreditEdges {
    pub(crate) fn len(&self) -> usize {
        self.counted.len() + self.asked.len()
    }

    /// Whether the client may say that of the credit `number`: only to whom its process `own` counts.
    pub(crate) fn allows(&self, to: Pid, number: CreditNumber, change: CreditChange, own: Serial) -> bool {
        change != CreditChange::Forget && self.counted.contains(&(to, number, own))
    }

    /// A message of `from` goes to the client's process `own`, and took or asks for a credit.
    pub(crate) fn message_passed(&mut self, from: &Pid, number: CreditNumber, own: Serial) {
        self.counted.insert((from.owner(), number, own));
    }

    /// The client is told by `signal`.
    pub(crate) fn passed(&mut self, signal: &Signal, number: CreditNumber, change: CreditChange, own: Serial) {
        match change {
            CreditChange::More(_) => {}
            CreditChange::Unlimited => drop(self.asked.remove(&(own, number))),
            CreditChange::Forget => {
                self.counted.remove(&(signal.from.clone(), number, own));
            }
        }
    }

    /// The client sends a message that took or asks for a credit.
    pub(crate) fn message_sent(&mut self, signal: &Signal, number: CreditNumber) {
        self.asked.insert((signal.from.owner().serial(), number), signal.to.clone());
    }

    /// The client tells an asker.
    pub(crate) fn sent(&mut self, to: Pid, number: CreditNumber, change: CreditChange, own: Serial) {
        if change == CreditChange::Unlimited {
            self.counted.remove(&(to, number, own));
        }
    }

    /// A node is lost. Gives what the client is to be told: of a name of the cluster it does not know that its holder was
    /// there.
    pub(crate) fn node_lost(&mut self, node: &NodeId, home: &NodeId) -> Vec<Signal> {
        self.counted.retain(|(asker, _, _)| asker.node() != node);
        let lost = self.asked.extract_if(|_, to| to.node == *node);
        let told = lost.map(|((client, number), to)| {
            let serial = match to.to {
                Recipient::Serial(serial) => serial,
                _ => Serial::NODE,
            };
            credit(Pid::new(to.node, serial), Pid::new(home.clone(), client), number, CreditChange::Unlimited)
        });
        told.collect()
    }

    /// The client is lost: what is to be said in the name of its processes, which are `home`'s.
    pub(crate) fn lost(self, home: &NodeId) -> Vec<Signal> {
        let own = |serial: Serial| Pid::new(home.clone(), serial);
        let counted = self.counted.into_iter();
        let unlimited = counted.map(|(to, number, from)| credit(own(from), to, number, CreditChange::Unlimited));
        let asked = self.asked.into_iter();
        let forget = asked.map(|((client, number), to)| credit(own(client), to, number, CreditChange::Forget));
        unlimited.chain(forget).collect()
    }
}

fn credit(from: Pid, to: impl Into<Destination>, number: CreditNumber, change: CreditChange) -> Signal {
    Signal { from, to: to.into(), body: SignalBody::Credit { number, change } }
}
