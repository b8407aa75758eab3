//! The processes that benches are made of, as users write them. Those on other nodes are started there by name.

use rookery_node::{Behaviours, Blob, Context, Pid, Received, ReplyTo, Starting, protocol::ParseIdError};
use serde::{Deserialize, Serialize};

/// Takes messages and counts them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sink {
    Blob(Blob),
    Count(ReplyTo<u64>),
}

/// Plays the ball back to whom it is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Wall {
    Player(Pid),
    Ball(Blob),
}

/// What comes back from a wall.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Back(pub(super) Blob);

/// Answers calls.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask(pub(super) Blob, pub(super) ReplyTo<Blob>);

/// Ends when told to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stop;

pub(super) async fn sink(mut context: Context<Sink>) {
    let mut count = 0;
    while let Some(message) = context.message().await {
        match message {
            Sink::Blob(_) => count += 1,
            Sink::Count(reply) => {
                reply.answer(count);
                count = 0;
            }
        }
    }
}

pub(super) async fn wall(mut context: Context<Wall>) {
    let mut player = None;
    while let Some(message) = context.message().await {
        match (message, &player) {
            (Wall::Player(pid), _) => player = Some(context.runtime().address::<Back>(pid)),
            (Wall::Ball(ball), Some(player)) => drop(player.send(Back(ball)).await),
            (Wall::Ball(_), None) => {}
        }
    }
}

pub(super) async fn answer(mut context: Context<Ask>) {
    while let Some(Ask(blob, reply)) = context.message().await {
        reply.answer(blob);
    }
}

pub(super) async fn stopper(mut context: Context<Stop>) {
    loop {
        if let Received::Message(Stop) = context.receive().await {
            return;
        }
    }
}

/// Under `bench.…`, for other nodes to start.
pub(super) fn register(behaviours: Behaviours) -> Result<Behaviours, ParseIdError> {
    behaviours
        .process(
            "bench.sink",
            |options| options,
            async |(): (), context: Context<Sink>, starting: Starting| {
                starting.ready(&context);
                sink(context).await;
            },
        )?
        .process(
            "bench.wall",
            |options| options,
            async |(): (), context: Context<Wall>, starting: Starting| {
                starting.ready(&context);
                wall(context).await;
            },
        )?
        .process(
            "bench.answer",
            |options| options,
            async |(): (), context: Context<Ask>, starting: Starting| {
                starting.ready(&context);
                answer(context).await;
            },
        )?
        .process(
            "bench.stopper",
            |options| options,
            async |(): (), context: Context<Stop>, starting: Starting| {
                starting.ready(&context);
                stopper(context).await;
            },
        )
}
