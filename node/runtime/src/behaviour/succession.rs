//! How a process takes the place of another, and how a server lets another take its own: the drivers around
//! `handover/heir.rs` and `handover/parting.rs`, within the processes themselves.

use rookery_protocol::{ExitReason, Pid, Ref};
use tokio::time::Instant;

use crate::{
    address::Address,
    behaviour::{server::Server, starting::Starting, system::SystemRequest},
    handover::{
        Offer, Succession,
        heir::Heir,
        limits::{FORWARDS_FOR, GROUPS_KEEP, PART_BYTES, PART_OVERHEAD_BYTES, WAITING_PASSED_WITHIN},
        parting::{Outcome, Parting},
    },
    message::Message,
    process::{
        alarm::Until,
        context::{Context, Incoming},
        event::{Event, Received},
    },
    reply::ReplyTo,
    spawn::IntoExit,
};

/// A process that is no server, and takes the place of another one: it has its names before it starts.
pub(super) async fn placed<M, F, Fut>(
    succession: Box<Succession>,
    mut context: Context<M>,
    starting: Starting,
    f: F,
) -> ExitReason
where
    M: Message,
    F: FnOnce(Context<M>, Starting) -> Fut + Send + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: IntoExit,
{
    let taken = async {
        let (heir, _) = Heir::begin(succession, &mut context).await?;
        heir.take_place(&mut context).await
    };
    if let Err(error) = Box::pin(taken).await {
        let reason = ExitReason::Error(error.to_string());
        starting.refused(error);
        return reason;
    }
    Box::pin(f(context, starting)).await.into_exit()
}

/// Why a server handles nothing any more.
pub(super) enum Stop {
    With(ExitReason),
    /// This one does, in its place.
    HandedOver(Pid),
}

impl From<ExitReason> for Stop {
    fn from(reason: ExitReason) -> Self {
        Self::With(reason)
    }
}

/// A server that is asked to hand over to `to`: tells its state, and waits until that one has taken its place. Comes back
/// to serve when it does not.
pub(super) async fn hand_over<S: Server>(
    server: &mut S,
    context: &mut Context<S::Message>,
    to: Pid,
    reply: ReplyTo<Offer>,
) -> Result<(), Stop> {
    if reply.time_left().is_some_and(|left| left.is_zero()) {
        // It waited here while something else was handled, and nobody waits for it any more.
        return Ok(());
    }
    let state = server.hand_over(context).await;
    // What `to`'s node takes in one message.
    let limit = context.runtime().max_message_bytes(&to).saturating_sub(PART_OVERHEAD_BYTES);
    let part_bytes = PART_BYTES.min(limit).max(1);
    let parting = Parting::new(to, state, std::time::Instant::now());
    tell(reply, parting.offer(parting.to(), part_bytes));
    loop {
        let Some(left) = parting.left(std::time::Instant::now()) else {
            tracing::warn!(pid = %context.pid(), successor = %parting.to(), "the successor took too long; this process goes on");
            return Ok(());
        };
        let Some(incoming) = Until::new(Instant::now() + left, context.receive_urgent()).await else { continue };
        match incoming {
            Incoming::Received(Received::Event(Event::Exit { reason, .. })) => return Err(reason.into()),
            Incoming::Received(_) => {}
            Incoming::System(request) => match *request {
                SystemRequest::HandOver(other, reply) => tell(reply, parting.offer(&other, part_bytes)),
                SystemRequest::Part(other, offset, reply) => tell(reply, parting.part(&other, offset, part_bytes)),
                SystemRequest::Commit(other, reply) => match parting.commit(&other) {
                    Outcome::Answer(()) => {
                        let pid = context.pid().clone();
                        if let Some(process) = context.runtime().process(&pid) {
                            process.retire();
                        }
                        // First: whoever finds no holder there yet finds this one, which passes on.
                        reply.answer(());
                        context.runtime().leave_names(&pid);
                        return Err(Stop::HandedOver(other));
                    }
                    refused => tell(reply, refused),
                },
                SystemRequest::Abandon(other) if parting.waits_for(&other) => {
                    tracing::info!(pid = %context.pid(), successor = %other, "the successor is gone; this process goes on");
                    return Ok(());
                }
                other => other.busy(),
            },
        }
    }
}

fn tell<T: Message>(reply: ReplyTo<T>, outcome: Outcome<T>) {
    match outcome {
        Outcome::Answer(answer) => reply.answer(answer),
        Outcome::Refuse(why) => reply.refuse(why),
    }
}

/// A server that has handed over: it passes on, in order, what it has and what still comes. It leaves its groups a moment later, when
/// all know its successor to be a member.
pub(super) struct PassingOn<M: Message> {
    /// Its successor.
    to: Pid,
    address: Address<M>,
    monitor: Ref,
    begin: Instant,
    in_groups: bool,
}

impl<M: Message> PassingOn<M> {
    pub(super) fn begin(context: &mut Context<M>, to: Pid) -> Self {
        context.trap_exits(true);
        // They are the server's, not its callers': its successor has set its own.
        context.end_timers();
        let (monitor, address) = (context.monitor(&to), context.runtime().address::<M>(&to));
        Self { to, address, monitor, begin: Instant::now(), in_groups: true }
    }

    /// Passes on what waits, and comes back; or gives the reason to end with.
    pub(super) async fn what_waits(&mut self, context: &mut Context<M>) -> Option<ExitReason> {
        // More may come all the time.
        let until = Instant::now() + WAITING_PASSED_WITHIN;
        while Instant::now() < until {
            // Nothing waits any more: then there is no reason to end either.
            let incoming = Until::new(Instant::now(), context.receive_incoming()).await?;
            if let Some(reason) = self.incoming(incoming, context).await {
                return Some(reason);
            }
        }
        None
    }

    /// Passes on until it ends: with its successor, its supervisor, its node, or in time.
    pub(super) async fn all(mut self, context: &mut Context<M>) -> ExitReason {
        loop {
            let until = self.begin + if self.in_groups { GROUPS_KEEP } else { FORWARDS_FOR };
            match Until::new(until, context.receive_incoming()).await {
                Some(incoming) => {
                    if let Some(reason) = self.incoming(incoming, context).await {
                        return reason;
                    }
                }
                None if self.in_groups => {
                    self.in_groups = false;
                    context.runtime().gone_from_directory(&context.pid().clone());
                }
                None => return ExitReason::Normal,
            }
        }
    }

    async fn incoming(&mut self, incoming: Incoming<M>, context: &mut Context<M>) -> Option<ExitReason> {
        match incoming {
            // Asked again, since the answer was late.
            Incoming::System(request) => match *request {
                SystemRequest::Commit(other, reply) if other == self.to => reply.answer(()),
                other => other.busy(),
            },
            Incoming::Received(Received::Message(message)) => {
                if let Err(error) = self.address.send(message).await {
                    tracing::warn!(pid = %context.pid(), successor = %self.to, %error, "a message is not passed on");
                }
            }
            // The successor may live, with the state: to whoever started this one it is as if that had shut it down.
            Incoming::Received(Received::Event(Event::Down(down)))
                if down.monitor == self.monitor && down.reason == ExitReason::NoConnection =>
            {
                return Some(ExitReason::Shutdown);
            }
            Incoming::Received(Received::Event(Event::Down(down))) if down.monitor == self.monitor => {
                return Some(ExitReason::Error(format!("its successor {} has ended: {}", self.to, down.reason)));
            }
            Incoming::Received(Received::Event(Event::Exit { from, reason, linked }))
                if !linked || context.parent() == Some(&from) =>
            {
                return Some(reason);
            }
            Incoming::Received(Received::Event(_)) => {}
        }
        None
    }
}
