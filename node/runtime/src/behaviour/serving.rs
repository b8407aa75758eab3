//! How a server is run: from its `init`, or what it takes over, to its end.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    task::Poll,
};

use rookery_protocol::{ExitReason, Pid};
use tokio::time::Instant;

use super::{
    server::{Next, Server},
    starting::Starting,
    succession::{PassingOn, Stop, hand_over},
    system::SystemRequest,
};
use crate::{
    handover::{Succession, heir::Heir},
    process::{
        alarm::Until,
        context::{Context, Incoming},
        deadline::FAR,
        event::{Event, Received},
    },
};

/// The life of a server.
pub(super) async fn serve<S: Server>(
    arguments: S::Arguments,
    mut context: Context<S::Message>,
    told: Starting,
    succession: Option<Box<Succession>>,
) -> ExitReason {
    let mut heir = None;
    let mut state = None;
    if let Some(succession) = succession {
        match Box::pin(Heir::begin(succession, &mut context)).await {
            // Boxed: most servers take nobody's place, and are no larger for it.
            Ok((found, handed)) => (heir, state) = (Some(Box::new(found)), handed),
            Err(error) => {
                let reason = ExitReason::Error(error.to_string());
                told.refused(error);
                return reason;
            }
        }
    }
    let started = {
        let init = async {
            match state {
                Some(state) => Box::pin(S::take_over(state, arguments, &mut context)).await,
                None => S::init(arguments, &mut context).await,
            }
        };
        let mut init = pin!(init);
        // Whoever starts it shall learn of a panic by its text.
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| init.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    };
    let mut server = match started {
        Ok(Ok(server)) => server,
        Ok(Err(reason)) => {
            told.failed(reason.clone());
            return reason;
        }
        Err(panic) => {
            let text = crate::process::task::text_of(&*panic);
            told.failed(ExitReason::Panic(text));
            resume_unwind(panic)
        }
    };
    if let Some(heir) = heir
        && let Err(error) = Box::pin(heir.take_place(&mut context)).await
    {
        let reason = ExitReason::Error(error.to_string());
        told.refused(error);
        return reason;
    }
    told.ready(&context);
    let end = loop {
        if let Err(end) = step(&mut server, &mut context).await {
            break end;
        }
    };
    match end {
        Stop::With(reason) => {
            server.terminate(&reason, &mut context).await;
            reason
        }
        Stop::HandedOver(to) => {
            let reason = ExitReason::ShutdownWith(format!("handed over to {to}"));
            Box::pin(handed_over(server, &mut context, to, reason)).await
        }
    }
}

/// The end of a server that has handed over. First of all goes what waits: callers wait for it, and `terminate` may take its time.
async fn handed_over<S: Server>(
    mut server: S,
    context: &mut Context<S::Message>,
    to: Pid,
    reason: ExitReason,
) -> ExitReason {
    let mut passing = PassingOn::begin(context, to);
    let ended = passing.what_waits(context).await;
    server.terminate(&reason, context).await;
    drop(server);
    match ended {
        Some(reason) => reason,
        None => passing.all(context).await,
    }
}

/// One step of a server: what it wants to do next, or what comes to it.
async fn step<S: Server>(server: &mut S, context: &mut Context<S::Message>) -> Result<(), Stop> {
    let next = if context.is_suspended() { Next::Receive } else { server.next() };
    let incoming = match next {
        Next::Continue => {
            // However much is left to do, other processes run.
            tokio::task::coop::consume_budget().await;
            return Ok(server.handle_continue(context).await?);
        }
        Next::ReceiveWithin(timeout) => {
            match Until::new(Instant::now() + timeout.min(FAR), context.receive_incoming()).await {
                Some(incoming) => incoming,
                None => return Ok(server.handle_timeout(context).await?),
            }
        }
        Next::Hibernate => {
            context.hibernate();
            context.receive_incoming().await
        }
        Next::Receive => context.receive_incoming().await,
    };
    match incoming {
        Incoming::Received(Received::Message(message)) => Ok(server.handle(message, context).await?),
        Incoming::Received(Received::Event(Event::Exit { from, reason, .. })) if context.parent() == Some(&from) => {
            Err(reason.into())
        }
        Incoming::Received(Received::Event(event)) => Ok(server.event(event, context).await?),
        Incoming::System(request) => {
            const GOES_ON: &str = "it has not handed over, and goes on";
            match *request {
                // The next step waits as it says.
                SystemRequest::Suspend | SystemRequest::Resume | SystemRequest::Abandon(_) => {}
                SystemRequest::State(reply) => match server.state() {
                    Some(state) => drop(reply.send(state)),
                    None => reply.refuse("the server does not tell its state (Server::state)"),
                },
                SystemRequest::HandOver(to, reply) => {
                    return Box::pin(hand_over(server, context, to, reply)).await;
                }
                SystemRequest::Part(_, _, reply) => reply.refuse(GOES_ON),
                SystemRequest::Commit(_, reply) => reply.refuse(GOES_ON),
            }
            Ok(())
        }
    }
}
