//! The way of a signal that is not a typed local send: out through a connection, in from one, or back where it came
//! from when there is no way (bounced). Nothing here waits but for room, which is in `sending.rs`.

mod incoming;
mod sending;

use rookery_protocol::{
    CallFailure, CreditChange, Destination, ExitReason, NodeId, Pid, Recipient, Serial, Signal, SignalBody, Tag,
    request::{RequestError, ResponseBody},
};

use crate::{
    net::outbound::{NotTaken, Outbound},
    reply::RemoteReply,
    runtime::Runtime,
    tally::{Kind, Route},
};

/// What the sender of a message is told that its receiver's node does not take.
const TOO_LARGE: &str = "the message is too large for the receiver's node";

/// Why a signal has no way to its receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// There is no such process.
    NoProc,
    /// There is no connection to its node.
    NoConnection,
    /// What it carries is larger than the receiver's node takes.
    TooLarge,
    /// A policy does not allow it.
    Refused(String),
}

impl Runtime {
    /// Sends a signal wherever it has to go. Never waits, hence not for messages of processes, which have a budget.
    pub fn signal(&self, signal: Signal) {
        if self.is_own(&signal.to) { self.signal_here(signal) } else { self.signal_out(signal, |_| {}) }
    }

    /// As [`signal`](Self::signal), for one that makes a tie: the loss of the connection is to break it.
    pub(crate) fn signal_tied(&self, signal: Signal) {
        if self.is_own(&signal.to) {
            return self.signal_here(signal);
        }
        let from = signal.from.clone();
        // The tie is noted on the very connection that the signal takes.
        self.signal_out(signal, |connection| {
            if let Some(process) = self.process(&from) {
                process.tied_over_connection();
            }
            connection.interested(from.serial());
        });
    }

    fn signal_here(&self, signal: Signal) {
        self.count(Route::Local, Kind::of(&signal.body));
        self.receive(signal, None);
    }

    fn signal_out(&self, mut signal: Signal, before: impl FnOnce(&Outbound)) {
        let Some(connection) = self.connection(&signal.to) else {
            let why = self.why_unconnected(&signal.to);
            return self.bounce(signal, &why);
        };
        before(&connection);
        if !connection.has_credit() {
            self.answer_credit(&mut signal, CreditChange::Unlimited);
        }
        let kind = Kind::of(&signal.body);
        if let Err((why, signal)) = connection.push(signal) {
            let why = match why {
                NotTaken::TooLarge => Unreachable::TooLarge,
                NotTaken::Closed | NotTaken::Full => Unreachable::NoConnection,
            };
            return self.bounce(*signal, &why);
        }
        self.count(Route::Sent, kind);
    }

    /// Why there is no connection to where `to` lives. A process of a former life of a node that is up is dead (P1), as
    /// is one of a client that has left this node.
    fn why_unconnected(&self, to: &Destination) -> Unreachable {
        if self.is_own(to) {
            return Unreachable::NoProc;
        }
        // A client that has lost its node knows nothing of who lives elsewhere.
        if self.session().is_some() {
            return Unreachable::NoConnection;
        }
        let later_life = |node: &NodeId| node.name() == to.node.name() && *node != to.node;
        if to.node == *self.node() || self.nodes().iter().any(later_life) {
            Unreachable::NoProc
        } else {
            Unreachable::NoConnection
        }
    }

    /// A cluster name as its holder's pid, on a node that knows one; anything else as it is.
    #[must_use]
    pub fn resolved(&self, to: Destination) -> Destination {
        match &to.to {
            Recipient::ClusterName(name) if self.session().is_none() => match self.holder(name) {
                Some(pid) => pid.into(),
                None => to,
            },
            _ => to,
        }
    }

    /// The process that gets what is sent there just now; `None` if that may be any.
    #[must_use]
    pub fn receiver(&self, to: &Destination) -> Option<Pid> {
        match &to.to {
            Recipient::Serial(serial) => Some(Pid::new(to.node.clone(), *serial)),
            Recipient::Name(name) if to.node == *self.node() => self.whereis_here(name),
            Recipient::ClusterName(name) => self.holder(name),
            Recipient::Name(_) | Recipient::Group(_) => None,
        }
    }

    /// Answers, in the receiver's name, what a message asks about its credit, and takes that out of it.
    pub fn answer_credit(&self, signal: &mut Signal, change: CreditChange) {
        if let SignalBody::Message { credit, .. } = &mut signal.body
            && let Some(number) = credit.take()
        {
            self.answer(&signal.to, &signal.from.owner(), SignalBody::Credit { number, change });
        }
    }

    /// The client's process that has this name here, if one does.
    pub(crate) fn client_of(&self, to: &Recipient) -> Option<Pid> {
        match to {
            Recipient::Name(name) => self.whereis_here(name).filter(|pid| pid.serial().session() != self.session()),
            _ => None,
        }
    }

    /// Tells a signal's sender that it has not arrived, as the contract says for its kind.
    pub fn bounce(&self, mut signal: Signal, why: &Unreachable) {
        self.answer_credit(
            &mut signal,
            match why {
                Unreachable::NoProc | Unreachable::Refused(_) => CreditChange::Unlimited,
                // It may arrive the next time: this one is given back.
                Unreachable::NoConnection | Unreachable::TooLarge => CreditChange::More(1),
            },
        );
        let Signal { from, to, body } = signal;
        let reason = match why {
            Unreachable::NoProc => ExitReason::NoProc,
            Unreachable::NoConnection => ExitReason::NoConnection,
            Unreachable::TooLarge => ExitReason::Refused(TOO_LARGE.to_owned()),
            Unreachable::Refused(detail) => ExitReason::Refused(detail.clone()),
        };
        let failure = match why {
            Unreachable::NoProc => CallFailure::NoProc,
            Unreachable::NoConnection => CallFailure::NoConnection,
            // The failure says itself that it is a refusal.
            Unreachable::TooLarge => CallFailure::Refused(TOO_LARGE.to_owned()),
            Unreachable::Refused(detail) => CallFailure::Refused(detail.clone()),
        };
        match body {
            SignalBody::Message { payload, reply, .. } => {
                self.count_dead_letter();
                tracing::debug!(%from, %to, tag = %payload.tag, reason = %reason, "dead letter");
                match (reply, why) {
                    (Some(route), _) => {
                        let body = SignalBody::Reply { call: route.call, outcome: Err(failure) };
                        self.answer(&to, &route.to, body);
                    }
                    (None, Unreachable::Refused(detail)) => {
                        self.answer(&to, &from, SignalBody::Refused { detail: detail.clone() });
                    }
                    (None, _) => {}
                }
            }
            SignalBody::Link => self.answer(&to, &from, SignalBody::Exit { reason, linked: true }),
            SignalBody::Monitor(monitor) => self.answer(&to, &from, SignalBody::Down { monitor, reason }),
            SignalBody::Unlink(id) => self.answer(&to, &from, SignalBody::UnlinkAck(id)),
            SignalBody::Request { call, .. } => {
                let error = match why {
                    Unreachable::Refused(detail) => RequestError::Refused(detail.clone()),
                    Unreachable::TooLarge => RequestError::Refused(reason.to_string()),
                    _ => RequestError::NoConnection,
                };
                let body = Box::new(ResponseBody::Failed(error));
                self.answer(&to, &from, SignalBody::Response { call, body });
            }
            // Who waits for it is told, in the name of who answers.
            SignalBody::Reply { call, .. } if *why == Unreachable::TooLarge => {
                self.signal(Signal { from, to, body: SignalBody::Reply { call, outcome: Err(failure) } });
            }
            SignalBody::Exit { .. } => {
                if let Unreachable::Refused(detail) = why {
                    self.answer(&to, &from, SignalBody::Refused { detail: detail.clone() });
                }
            }
            SignalBody::Response { body, .. } => {
                if let (ResponseBody::Spawned(child), Recipient::Serial(serial)) = (&*body, to.to) {
                    self.disown(&Pid::new(to.node, serial), child);
                }
            }
            SignalBody::Reply { .. }
            | SignalBody::UnlinkAck(_)
            | SignalBody::Demonitor(_)
            | SignalBody::Down { .. }
            | SignalBody::NodeUp(_)
            | SignalBody::NodeDown { .. }
            | SignalBody::Refused { .. }
            | SignalBody::Credit { .. }
            | SignalBody::Directory(_)
            | SignalBody::GroupChange(_)
            | SignalBody::NameConflict { .. } => {}
        }
    }

    /// Answers in the name of whom a signal was for.
    fn answer(&self, as_if_from: &Destination, to: &Pid, body: SignalBody) {
        let serial = match &as_if_from.to {
            Recipient::Serial(serial) => *serial,
            _ => Serial::NODE,
        };
        let from = Pid::new(as_if_from.node.clone(), serial);
        let answer = Signal { from, to: to.into(), body };
        self.signal(answer);
    }

    pub(crate) fn dead_letter(&self, to: &Pid, reason: &str) {
        self.count_dead_letter();
        tracing::debug!(%to, reason, "dead letter");
    }

    /// A message that its receiver does not understand (S8).
    pub(crate) fn not_understood(&self, to: &Pid, tag: Tag, detail: String, reply: Option<RemoteReply>) {
        self.count_dead_letter();
        tracing::debug!(%to, %tag, detail, "dead letter: not understood");
        if let Some(reply) = reply {
            reply.answer(Err(CallFailure::Unsupported { tag, detail }));
        }
    }
}

/// Whether a process of a client speaks.
pub(crate) fn is_of_client(from: &Pid) -> bool {
    from.serial().session().is_some()
}
