//! What ties one client's processes to processes elsewhere. Pure: it sees the signals that pass in both directions, and
//! says what is to be told when the client is lost, since the client cannot (L5, M4, A1). Processes of the client's own
//! node are told by the node itself; what is said to them here too is ignored as old news.
//!
//! **Invariant:** an edge stands from the signal that makes it until one that ends it, in either direction.

use std::collections::{HashMap, HashSet};

use rookery_protocol::{
    CallFailure, CallId, Destination, ExitReason, NodeId, Pid, Recipient, Ref, ReplyRoute, Serial, Signal, SignalBody,
    request::{RequestBody, ResponseBody},
};

/// Ties that one client may have at once, of all kinds. Beyond it the client is disconnected: it would cost the node more
/// than a client may.
pub(crate) const MAX_EDGES: usize = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Edges {
    /// (client's process, other end).
    links: HashSet<(Serial, Pid)>,
    /// Monitors of the client's processes: (client's process, ref) to what is monitored.
    watching: HashMap<(Serial, Ref), Destination>,
    /// Monitors on the client's processes.
    watched: HashSet<(Pid, Ref, Serial)>,
    /// Calls to the client's processes that are not answered.
    calls: HashMap<ReplyRoute, Serial>,
    /// Spawns of the client's processes that are to be tied: (parent, link, monitor).
    spawns: HashMap<CallId, (Serial, bool, Option<Ref>)>,
}

impl Edges {
    pub(crate) fn len(&self) -> usize {
        self.links.len() + self.watching.len() + self.watched.len() + self.calls.len() + self.spawns.len()
    }

    /// Whether the client may answer what it answers: a call that it was asked, a monitor on one of its processes. Answers
    /// to anything else come too late, or are forged.
    pub(crate) fn allows(&self, signal: &Signal) -> bool {
        let Recipient::Serial(serial) = signal.to.to else {
            return !matches!(signal.body, SignalBody::Reply { .. } | SignalBody::Down { .. });
        };
        let to = Pid::new(signal.to.node.clone(), serial);
        // The node counts, too: every node that a client can make another node hear of takes room in the tables of the
        // connection to there, which many clients share.
        let own = |pid: &Pid| {
            pid.node() == signal.from.node()
                && pid.serial().session().is_some()
                && pid.serial().session() == signal.from.serial().session()
        };
        match &signal.body {
            SignalBody::Reply { call, .. } => self.calls.contains_key(&ReplyRoute { to, call: *call }),
            SignalBody::Down { monitor, .. } => self.watched.contains(&(to, *monitor, signal.from.serial())),
            SignalBody::Message { reply: Some(route), .. } => own(&route.to) || self.calls.contains_key(route),
            _ => true,
        }
    }

    /// A message of a process of the client's node, that is answered by its process `own`.
    pub(crate) fn called(&mut self, own: Serial, route: &ReplyRoute) {
        self.calls.insert(route.clone(), own);
    }

    /// The client sends `signal`.
    pub(crate) fn sent(&mut self, signal: &Signal) {
        let own = signal.from.serial();
        match (&signal.body, &signal.to.to) {
            (SignalBody::Link, Recipient::Serial(serial)) => {
                self.links.insert((own, Pid::new(signal.to.node.clone(), *serial)));
            }
            (SignalBody::Unlink(_) | SignalBody::Exit { linked: true, .. }, Recipient::Serial(serial)) => {
                self.links.remove(&(own, Pid::new(signal.to.node.clone(), *serial)));
            }
            (SignalBody::Monitor(monitor), _) => {
                self.watching.insert((own, *monitor), signal.to.clone());
            }
            (SignalBody::Demonitor(monitor), _) => {
                self.watching.remove(&(own, *monitor));
            }
            (SignalBody::Down { monitor, .. }, Recipient::Serial(serial)) => {
                self.watched.remove(&(Pid::new(signal.to.node.clone(), *serial), *monitor, own));
            }
            (SignalBody::Reply { call, .. }, Recipient::Serial(serial)) => {
                let to = Pid::new(signal.to.node.clone(), *serial);
                self.calls.remove(&ReplyRoute { to, call: *call });
            }
            (SignalBody::Request { call, body }, _) => {
                if let RequestBody::Spawn(spawn) = &**body
                    && (spawn.link || spawn.monitor.is_some())
                {
                    self.spawns.insert(*call, (own, spawn.link, spawn.monitor));
                }
            }
            _ => {}
        }
    }

    /// `signal` goes to the client.
    pub(crate) fn passed(&mut self, signal: &Signal) {
        let Recipient::Serial(own) = signal.to.to else { return };
        match &signal.body {
            SignalBody::Message { reply: Some(route), .. } => {
                self.calls.insert(route.clone(), own);
            }
            SignalBody::Link => {
                self.links.insert((own, signal.from.clone()));
            }
            SignalBody::Unlink(_) | SignalBody::Exit { linked: true, .. } => {
                self.links.remove(&(own, signal.from.clone()));
            }
            SignalBody::Monitor(monitor) => {
                self.watched.insert((signal.from.clone(), *monitor, own));
            }
            SignalBody::Demonitor(monitor) => {
                self.watched.remove(&(signal.from.clone(), *monitor, own));
            }
            SignalBody::Down { monitor, .. } => {
                self.watching.remove(&(own, *monitor));
            }
            SignalBody::Response { call, body } => {
                if let Some((parent, link, monitor)) = self.spawns.remove(call)
                    && let ResponseBody::Spawned(child) = &**body
                {
                    if link {
                        self.links.insert((parent, child.clone()));
                    }
                    if let Some(monitor) = monitor {
                        self.watching.insert((parent, monitor), child.into());
                    }
                }
            }
            _ => {}
        }
    }

    /// A node is lost: the client is told of it as a whole, and nothing is to be said to there.
    pub(crate) fn node_lost(&mut self, node: &NodeId) {
        self.links.retain(|(_, pid)| pid.node() != node);
        self.watching.retain(|_, target| target.node != *node);
        self.watched.retain(|(watcher, _, _)| watcher.node() != node);
        self.calls.retain(|route, _| route.to.node() != node);
    }

    /// The client is lost: what is to be said in the name of its processes, which are `node`'s.
    pub(crate) fn lost(&mut self, node: &NodeId) -> Vec<Signal> {
        let edges = std::mem::take(self);
        let own = |serial: Serial| Pid::new(node.clone(), serial);
        let links = edges.links.into_iter().map(|(serial, pid)| Signal {
            from: own(serial),
            to: pid.into(),
            body: SignalBody::Exit { reason: ExitReason::NoConnection, linked: true },
        });
        let watching = edges.watching.into_iter().map(|((serial, monitor), target)| Signal {
            from: own(serial),
            to: target,
            body: SignalBody::Demonitor(monitor),
        });
        let watched = edges.watched.into_iter().map(|(watcher, monitor, serial)| Signal {
            from: own(serial),
            to: watcher.into(),
            body: SignalBody::Down { monitor, reason: ExitReason::NoConnection },
        });
        let calls = edges.calls.into_iter().map(|(route, serial)| Signal {
            from: own(serial),
            to: route.to.into(),
            body: SignalBody::Reply { call: route.call, outcome: Err(CallFailure::NoConnection) },
        });
        links.chain(watching).chain(watched).chain(calls).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::{Payload, SessionId};

    use super::*;

    #[test]
    fn an_answer_goes_to_the_client_itself_or_to_who_asked_it() {
        let session = SessionId::new(7).unwrap();
        let process = |node: &str| Pid::new(node.parse().unwrap(), Serial::of_client(session, 1));
        let from = process("a.1");
        let asks_for = |to: Pid| {
            let reply = Some(ReplyRoute { to, call: CallId(1) });
            let body = SignalBody::Message { payload: Payload::json("null"), reply, deadline_ms: None };
            Signal { from: from.clone(), to: (&"<b.1.9>".parse::<Pid>().unwrap()).into(), body }
        };
        let mut edges = Edges::default();
        assert!(edges.allows(&asks_for(from.clone())));
        assert!(!edges.allows(&asks_for(process("nobody.1"))), "a node that it made up");
        let asker: Pid = "<c.1.3>".parse().unwrap();
        assert!(!edges.allows(&asks_for(asker.clone())));
        edges.called(from.serial(), &ReplyRoute { to: asker.clone(), call: CallId(1) });
        assert!(edges.allows(&asks_for(asker)), "it hands on what it was asked");
    }
}
