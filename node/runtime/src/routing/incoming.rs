//! What comes in: a signal to whom it is for, or on to a client. What there is nobody for goes back.

use std::{sync::Arc, time::Duration};

use rookery_protocol::{CreditChange, Destination, Pid, PlainMessage, Recipient, Run, Serial, Signal, SignalBody};
use tokio::time::Instant;

use super::{Unreachable, is_of_client};
use crate::{
    net::{arriving, outbound::Outbound},
    process::{bounded::Admission, event::Event},
    reply::RemoteReply,
    runtime::Runtime,
};

impl Runtime {
    /// Takes a signal for a process of this runtime, in the order of its sender. `via` is the connection it came over.
    pub fn receive(&self, signal: Signal, via: Option<&Arc<Outbound>>) {
        if matches!(signal.to.to, Recipient::ClusterName(_)) {
            let to = self.resolved(signal.to.clone());
            if !self.is_own(&to) {
                return self.signal(Signal { to, ..signal });
            }
        }
        let Signal { from, to, body } = signal;
        match body {
            body @ SignalBody::Message { .. } => self.receive_message(Signal { from, to, body }, via),
            SignalBody::Reply { call, outcome } => match (self.calls().remove(call), outcome) {
                (Some(slot), Ok(payload)) => slot.fill(payload, self),
                (Some(slot), Err(failure)) => slot.fail(failure),
                // The caller gave up: the reply is dropped here (A2).
                (None, _) => tracing::trace!(%from, %call, "a reply came after its caller gave up"),
            },
            SignalBody::Link => match self.recipient(&to.to) {
                Some(process) if process.vital() && is_of_client(&from) => {
                    self.refuse_client(Signal { from, to, body }, "is not for clients to end, nor to link to");
                }
                Some(process) if process.link_from(&from) => self.tie(&from, process.pid().serial(), via),
                _ => self.bounce(Signal { from, to, body }, &Unreachable::NoProc),
            },
            SignalBody::Unlink(id) => {
                if let Some(process) = self.recipient(&to.to) {
                    process.unlink_from(&from);
                }
                self.answer(&to, &from, SignalBody::UnlinkAck(id));
            }
            SignalBody::UnlinkAck(id) => {
                if let Some(process) = self.recipient(&to.to) {
                    process.unlink_ack(&from, id);
                }
            }
            SignalBody::Exit { reason, linked } => match self.recipient(&to.to) {
                Some(process) if linked => process.link_exit(&from, reason),
                Some(process) if process.vital() && is_of_client(&from) => {
                    let body = SignalBody::Exit { reason, linked };
                    self.refuse_client(Signal { from, to, body }, "is not for clients to end");
                }
                Some(process) => process.exit(&from, reason),
                None => {}
            },
            SignalBody::Monitor(monitor) => match self.recipient(&to.to) {
                Some(process) if process.watch(&from, monitor) => self.tie(&from, process.pid().serial(), via),
                // A name of one of this node's clients: the client's process is what is monitored.
                None if self.client_of(&to.to).is_some() => self.pass_to_client(Signal { from, to, body }),
                _ => self.bounce(Signal { from, to, body }, &Unreachable::NoProc),
            },
            SignalBody::Demonitor(monitor) => match self.recipient(&to.to) {
                Some(process) => process.unwatch(&from, monitor),
                None => self.pass_to_client(Signal { from, to, body }),
            },
            SignalBody::Down { monitor, reason } => {
                if let Some(process) = self.recipient(&to.to) {
                    process.down(monitor, reason);
                }
            }
            SignalBody::Request { call, body } => self.handle_request(&from, call, *body),
            SignalBody::Response { call, body } => {
                if let Recipient::Serial(serial) = to.to {
                    self.handle_response(&Pid::new(to.node, serial), call, *body);
                }
            }
            SignalBody::Refused { detail } => match self.recipient(&to.to) {
                Some(process) => process.event(Event::Refused(detail)),
                None => tracing::warn!(detail, "refused"),
            },
            SignalBody::Credit { number, change: CreditChange::Forget } => match self.recipient(&to.to) {
                Some(process) => process.forget_credit(&from, number),
                None => self.pass_to_client(Signal { from, to, body }),
            },
            SignalBody::Credit { number, change } => self.credits().change(&from, number, change),
            SignalBody::Directory(update) => self.directory_update(&from, update),
            SignalBody::GroupChange(change) => {
                if let Some(process) = self.recipient(&to.to) {
                    process.event(Event::Group(change));
                }
            }
            SignalBody::NameConflict { name, holder } => {
                if let Some(process) = self.recipient(&to.to) {
                    process.name_conflict(name, holder);
                }
            }
            // For a client's driver, which keeps the list of nodes; not for a process.
            SignalBody::NodeUp(_) | SignalBody::NodeDown { .. } => {}
        }
    }

    /// Takes a message from where it lies, if it is for a process that lives here and understands it. If not it does
    /// nothing: [`receive`](Self::receive) takes it then, and tells its sender what has to be told.
    #[must_use]
    pub fn receive_plain(&self, message: &PlainMessage) -> bool {
        arriving::with_receiver(self, message.to(), |process| {
            let refused = process.members_only() && message.from().session().is_some();
            !refused && process.deliver_plain(message)
        })
    }

    /// As [`receive_plain`](Self::receive_plain), of several: takes those at the beginning that are understood, and tells how many.
    #[must_use]
    pub fn receive_run(&self, run: &mut Run) -> u64 {
        arriving::with_receiver(self, run.to(), |process| {
            let refused = process.members_only() && run.from().session().is_some();
            if refused { 0 } else { process.deliver_run(run) }
        })
    }

    fn receive_message(&self, signal: Signal, via: Option<&Arc<Outbound>>) {
        match self.recipient(&signal.to.to) {
            Some(process) if process.members_only() && is_of_client(&signal.from) => {
                self.refuse_client(signal, "is out of reach of clients");
            }
            Some(process) => {
                let Signal { from, body: SignalBody::Message { payload, reply, deadline_ms, credit, trace }, .. } =
                    signal
                else {
                    return;
                };
                let codec = payload.codec;
                let deadline = deadline_ms
                    .and_then(|left| self.clock().deadline(Instant::now(), Duration::from_millis(left.into())));
                let reply = reply.map(|route| RemoteReply::new(self.clone(), &from, route, codec, deadline));
                let asker = credit.map(|number| (from.owner(), number));
                let admission = match &asker {
                    Some((asker, number)) => Admission::Counted(asker, *number),
                    None => Admission::Always,
                };
                if process.deliver(payload, reply, trace, admission) {
                    self.tie(&from, process.pid().serial(), via);
                }
            }
            None if self.client_of(&signal.to.to).is_some() => self.pass_to_client(signal),
            None => match signal {
                Signal {
                    from,
                    to: Destination { to: Recipient::Group(group), .. },
                    body: SignalBody::Message { payload, trace, .. },
                } => {
                    self.receive_for_group(from, &group, payload, trace);
                }
                signal => self.bounce(signal, &Unreachable::NoProc),
            },
        }
    }

    /// What a client may not do to a process of this node, whatever its policy: counted, and answered (C3).
    fn refuse_client(&self, signal: Signal, why: &str) {
        self.count_refused_to_client();
        let why = format!("{} {why}", signal.to);
        self.bounce(signal, &Unreachable::Refused(why));
    }

    fn pass_to_client(&self, mut signal: Signal) {
        let Some(pid) = self.client_of(&signal.to.to) else { return };
        signal.to = pid.into();
        // Who monitors by name monitors this process from here on, and is told should its client be lost.
        if let SignalBody::Monitor(monitor) = signal.body
            && let Some(watcher) = self.process(&signal.from)
        {
            watcher.monitor_to(monitor, signal.to.clone());
            return self.signal_tied(signal);
        }
        self.signal(signal);
    }

    fn tie(&self, other: &Pid, own: Serial, via: Option<&Arc<Outbound>>) {
        // What comes from a client of this node, over whatever connection, is tied to the client's.
        let connection = match via {
            Some(connection) => Some(connection.clone()),
            None if self.is_own(&other.into()) => None,
            None => self.connection(&other.into()),
        };
        if let Some(connection) = connection {
            if let Some(process) = self.table().get(own) {
                process.tied_over_connection();
            }
            connection.interested(own);
        }
    }
}
