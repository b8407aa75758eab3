//! Typed messages that go out: encoded into their lane, staged, or given back while there is no room.

use std::sync::Arc;

use rookery_protocol::{
    CallFailure, Codec, Destination, Payload, Pid, Recipient, Serial, Tag, credit::Taken, lane::MessageHead,
};
use tokio::time::Instant;

use super::Unreachable;
use crate::{
    address::{Elsewhere, SendError, Unsent, Way},
    message::{self, Message, tag_of},
    net::outbound::{Body, NotTaken, staged},
    process::{AnyProcess, bounded::Admission, current},
    reply::{RemoteReply, dropping},
    runtime::Runtime,
    tally::{Kind, Route},
};

/// What became of a message that was encoded.
enum Sent {
    /// It waits for others of its sender's step.
    Staged,
    /// It was taken by its lane, or not; how large it is; and whether it asks for an answer.
    Pushed(Result<(), NotTaken>, usize, bool),
}

impl Runtime {
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
}
