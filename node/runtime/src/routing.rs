//! The way of a signal that is not a typed local send: out through a connection, in from one, or back where it came
//! from when there is no way (bounced). Nothing here waits but for room.

use std::{sync::Arc, time::Duration};

use rookery_protocol::{
    CallFailure, Codec, CreditChange, Destination, ExitReason, NodeId, Payload, Pid, PlainMessage, Recipient, Run,
    Serial, Signal, SignalBody, Tag,
    credit::Taken,
    lane::MessageHead,
    request::{RequestError, ResponseBody},
};
use tokio::time::Instant;

use crate::{
    address::{Elsewhere, SendError, Unsent, Way},
    message::{self, Message, tag_of},
    net::{
        arriving,
        outbound::{Body, NotTaken, Outbound, staged},
    },
    process::{AnyProcess, bounded::Admission, current, event::Event},
    reply::{RemoteReply, dropping},
    runtime::Runtime,
    tally::{Kind, Route},
};

/// What the sender of a message is told that its receiver's node does not take.
const TOO_LARGE: &str = "the message is too large for the receiver's node";

/// What became of a message that was encoded.
enum Sent {
    /// It waits for others of its sender's step.
    Staged,
    /// It was taken by its lane, or not; how large it is; and whether it asks for an answer.
    Pushed(Result<(), NotTaken>, usize, bool),
}

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

    /// Answers, in the receiver's name, what a message asks about its credit, and takes that out of it.
    pub fn answer_credit(&self, signal: &mut Signal, change: CreditChange) {
        if let SignalBody::Message { credit, .. } = &mut signal.body
            && let Some(number) = credit.take()
        {
            self.answer(&signal.to, &signal.from.owner(), SignalBody::Credit { number, change });
        }
    }

    /// What a client may not do to a process of this node, whatever its policy: counted, and answered (C3).
    fn refuse_client(&self, signal: Signal, why: &str) {
        self.count_refused_to_client();
        let why = format!("{} {why}", signal.to);
        self.bounce(signal, &Unreachable::Refused(why));
    }

    /// The client's process that has this name here, if one does.
    pub(crate) fn client_of(&self, to: &Recipient) -> Option<Pid> {
        match to {
            Recipient::Name(name) => self.whereis_here(name).filter(|pid| pid.serial().session() != self.session()),
            _ => None,
        }
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

    /// A typed message to another node or client, if there is room.
    pub(crate) fn send_remote<M: Message>(&self, to: &Destination, message: M, codec: Codec) -> Result<(), Unsent<M>> {
        match self.way(to) {
            Some(way) => self.send_over(&way, to, message, codec, None),
            None => {
                self.undeliverable(to, message);
                Ok(())
            }
        }
    }

    /// The way to a process elsewhere, if there is a connection to there.
    pub(crate) fn way(&self, to: &Destination) -> Option<Way> {
        let connection = self.connection(to)?;
        let credit = connection.has_credit().then(|| self.credits().towards(to));
        Some(Way { connection, credit })
    }

    /// As [`send_remote`](Self::send_remote), by the way that leads there; by that of an address it may wait for others that go
    /// there in the same step.
    pub(crate) fn send_over<M: Message>(
        &self,
        way: &Way,
        to: &Destination,
        message: M,
        codec: Codec,
        by: Option<&Arc<Elsewhere>>,
    ) -> Result<(), Unsent<M>> {
        let Way { connection, credit } = way;
        let Some(taken) = credit.as_ref().map_or(Some(Taken::Nothing), |credit| self.credits().take(credit)) else {
            return Err(SendError::Full { message }.into());
        };
        let tag = tag_of::<M>();
        let pushed = message::encode(&message, codec, self, to, |body, reply| {
            let body_bytes = body.len();
            let deadline_ms = reply.and_then(|reply| reply.deadline).map(|at| self.clock().left_ms(at, Instant::now()));
            let route = reply.map(|reply| &reply.route);
            let trace = self.outgoing().filter(|_| connection.has_trace());
            let is_plain = route.is_none() && trace.is_none() && taken == Taken::Nothing;
            let stages = by.filter(|_| is_plain && matches!(to.to, Recipient::Serial(_)) && connection.shares_frames());
            if let Some(by) = stages
                && staged::may_wait(by, body_bytes)
                && body_bytes <= connection.max_message_bytes()
                && staged::take(by, tag, body.whole())
            {
                return Sent::Staged;
            }
            let mut push = |from: &Pid| {
                let tag = tag.as_bytes();
                let (credit, trace) = (taken.number(), trace.as_ref());
                let head = MessageHead { from, to, tag, codec, reply: route, deadline_ms, credit, trace };
                connection.push_message(&head, Body::Encoded(body))
            };
            let (pushed, in_step) = current::with_pid(|own| match own {
                Some(own) => (push(own), true),
                None => (push(&self.own_pid()), false),
            });
            if let (Some(by), true) = (stages, in_step) {
                staged::after(by, pushed.is_ok());
            }
            Sent::Pushed(pushed, body_bytes, reply.is_some())
        });
        if let (Some(credit), Ok(Sent::Pushed(Err(_), ..)) | Err(_)) = (credit, &pushed) {
            self.credits().give_back(credit, taken);
        }
        let pushed = match pushed {
            // Counted when it goes to its lane, with the others.
            Ok(Sent::Staged) => return Ok(()),
            Ok(Sent::Pushed(pushed, body_bytes, is_call)) => Ok((pushed, body_bytes, is_call)),
            Err(detail) => Err(detail),
        };
        match pushed {
            Ok((Ok(()), _, true)) => {
                self.count(Route::Sent, Kind::Call);
                dropping::within(dropping::Mode::Sent, message);
                Ok(())
            }
            Ok((Ok(()), _, false)) => {
                self.count(Route::Sent, Kind::Message);
                Ok(())
            }
            Ok((Err(NotTaken::Full), body_bytes, _)) => Err(Unsent { error: SendError::Full { message }, body_bytes }),
            Ok((Err(NotTaken::TooLarge), bytes, _)) => {
                Err(SendError::TooLarge { bytes, limit: connection.max_message_bytes(), message }.into())
            }
            Ok((Err(NotTaken::Closed), ..)) => {
                self.undeliverable(to, message);
                Ok(())
            }
            Err(detail) => Err(SendError::Encode { detail, message }.into()),
        }
    }

    /// A typed message to a process here that is of another Rust type: by its tag, as from anywhere else, since two types
    /// of one name are the same message (S8).
    pub(crate) fn send_as_bytes<M: Message>(
        &self,
        to: &dyn AnyProcess,
        message: M,
        codec: Codec,
    ) -> Result<(), SendError<M>> {
        let encoded = message::encode(&message, codec, self, &to.pid().into(), |body, reply| {
            let payload = Payload { tag: Tag::from_static(tag_of::<M>()), codec, body: message::taken(body) };
            (payload, reply.map(|reply| (reply.route.clone(), reply.deadline)))
        });
        match encoded {
            Ok((payload, reply)) => {
                dropping::within(dropping::Mode::Sent, message);
                let from = current::pid().unwrap_or_else(|| self.own_pid());
                let remote = |(route, deadline)| RemoteReply::new(self.clone(), &from, route, codec, deadline);
                to.deliver(payload, reply.map(remote), self.outgoing().map(Box::new), Admission::Always);
                Ok(())
            }
            Err(detail) => Err(SendError::Encode { detail, message }),
        }
    }

    /// Waits until a message of that size of this thread's process may be sent to `to`, as far as can be told.
    pub(crate) async fn room_towards(&self, to: &Destination, body_bytes: usize) {
        if let Some(Way { connection, credit }) = self.way(to) {
            connection.room(self.sender(), body_bytes).await;
            // Last, so that who is woken here tries next, and does not go away with what another one could use.
            if let Some(credit) = credit {
                credit.room().await;
            }
        }
    }

    /// Waits until there is room for a message of that size from `from` towards `to`, or no connection to there.
    pub async fn room(&self, from: Serial, to: &Destination, body_bytes: usize) {
        // Without a connection the next try is not full, but undeliverable.
        if let Some(connection) = self.connection(to) {
            connection.room(from, body_bytes).await;
        }
    }

    /// A message that has no way to its receiver ends here; who waits for an answer is told why.
    pub(crate) fn undeliverable<M>(&self, to: &Destination, message: M) {
        let (failure, reason) = match self.why_unconnected(to) {
            Unreachable::NoProc => (CallFailure::NoProc, "there is no such process"),
            _ => (CallFailure::NoConnection, "there is no connection to its node"),
        };
        self.count_dead_letter();
        tracing::debug!(%to, reason, "dead letter");
        dropping::within(dropping::Mode::Fail(failure), message);
    }

    /// Messages that were for a connection which is closed end here.
    pub(crate) fn undeliverable_messages(&self, to: &Destination, count: u64) {
        self.count_dead_letters(count);
        tracing::debug!(%to, count, reason = "there is no connection to its node", "dead letters");
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
