//! How a process takes the place of another, and how a server lets another take its own: the drivers around
//! `handover/heir.rs` and `handover/parting.rs`, within the processes themselves.

use rookery_protocol::{ExitReason, Pid};
use tokio::time::Instant;

use crate::{
    behaviour::{
        server::{Server, Starting},
        system::SystemRequest,
    },
    handover::{
        Offer, Succession,
        heir::Heir,
        limits::{FORWARDS_FOR, GROUPS_KEEP, PART_BYTES, PART_OVERHEAD_BYTES},
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

/// What a server does that has handed over: passes on, in order, what it has and what still comes. It leaves its groups a
/// moment later, when all know its successor to be a member. Ends with its successor, its supervisor, its node, or in time.
pub(super) async fn pass_on<M: Message>(context: &mut Context<M>, to: &Pid) -> ExitReason {
    context.trap_exits(true);
    // They are the server's, not its callers': its successor has set its own.
    context.end_timers();
    let monitor = context.monitor(to);
    let address = context.runtime().address::<M>(to);
    let begin = Instant::now();
    let mut in_groups = true;
    loop {
        let until = begin + if in_groups { GROUPS_KEEP } else { FORWARDS_FOR };
        let received = match Until::new(until, context.receive_incoming()).await {
            // Asked again, since the answer was late.
            Some(Incoming::System(request)) => {
                match *request {
                    SystemRequest::Commit(other, reply) if other == *to => reply.answer(()),
                    other => other.busy(),
                }
                continue;
            }
            Some(Incoming::Received(received)) => Some(received),
            None => None,
        };
        match received {
            None if in_groups => {
                in_groups = false;
                context.runtime().gone_from_directory(&context.pid().clone());
            }
            None => return ExitReason::Normal,
            Some(Received::Message(message)) => {
                if let Err(error) = address.send(message).await {
                    tracing::warn!(pid = %context.pid(), successor = %to, %error, "a message is not passed on");
                }
            }
            Some(Received::Event(Event::Down(down))) if down.monitor == monitor => {
                return ExitReason::Error(format!("its successor {to} has ended: {}", down.reason));
            }
            Some(Received::Event(Event::Exit { from, reason, linked }))
                if !linked || context.parent() == Some(&from) =>
            {
                return reason;
            }
            Some(Received::Event(_)) => {}
        }
    }
}
