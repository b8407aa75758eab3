//! A process of each node that benches ask for crowds of others on its node, and for when its node knows of things.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rookery_node::{
    Address, Behaviours, Context, Event, Group, NodeId, Pid, Received, ReplyTo, Runtime, SpawnError, SpawnOptions,
    Start, Starting, protocol::ParseIdError,
};
use serde::{Deserialize, Serialize};

use super::{BenchError, workers::Stop};

/// How often a host looks whether its node knows all names: what it does in between is to be measured.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What a host is asked. Each is answered when it is so.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Host {
    /// Start so many processes that wait for ever.
    Idlers(usize, ReplyTo<()>),
    /// Start so many members of a group. Of each `Shout`, the last of them that gets it tells whoever shouts.
    Members(Group, usize, ReplyTo<()>),
    /// The node knows so many names of the cluster and so many groups.
    Knows { names: usize, groups: usize, reply: ReplyTo<()> },
    /// The node knows so many members of a group that grows.
    Grown(Group, usize, ReplyTo<()>),
}

/// To all members of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shout(pub(super) Pid);

/// All members on a node have heard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heard;

/// Starts a host on a node.
pub(super) async fn start(runtime: &Runtime, node: &NodeId) -> Result<Address<Host>, BenchError> {
    let start = Start::new("bench.host".parse()?, &()).map_err(BenchError::from)?;
    Ok(runtime.address(runtime.start_on(node, start).await?.pid))
}

/// Starts a process that waits for ever.
pub(super) fn idler(runtime: &Runtime) -> Result<Address<Stop>, SpawnError> {
    runtime.spawn(async |mut context: Context<Stop>| while context.message().await.is_some() {})
}

/// Under `bench.host`.
pub(super) fn register(behaviours: Behaviours) -> Result<Behaviours, ParseIdError> {
    behaviours.process(
        "bench.host",
        |options| options,
        async |(): (), mut context: Context<Host>, starting: Starting| {
            starting.ready(&context);
            while let Some(message) = context.message().await {
                // One that fails is not answered, which whoever asks is told.
                match message {
                    Host::Idlers(count, reply) => answer(reply, idlers(context.runtime(), count)),
                    Host::Members(group, count, reply) => answer(reply, members(context.runtime(), &group, count)),
                    Host::Knows { names, groups, reply } => {
                        let runtime = context.runtime();
                        while (runtime.cluster_name_count(), runtime.group_count()) != (names, groups) {
                            tokio::time::sleep(LOOK_AGAIN).await;
                        }
                        reply.answer(());
                    }
                    Host::Grown(group, count, reply) => {
                        grown(&mut context, &group, count).await;
                        reply.answer(());
                    }
                }
            }
        },
    )
}

fn answer(reply: ReplyTo<()>, done: Result<(), SpawnError>) {
    match done {
        Ok(()) => reply.answer(()),
        Err(error) => reply.refuse(error.to_string()),
    }
}

fn idlers(runtime: &Runtime, count: usize) -> Result<(), SpawnError> {
    (0..count).try_for_each(|_| idler(runtime).map(drop))
}

fn members(runtime: &Runtime, group: &Group, count: usize) -> Result<(), SpawnError> {
    let heard = Arc::new(AtomicUsize::new(0));
    for _ in 0..count {
        let heard = heard.clone();
        let member = async move |mut context: Context<Shout>| {
            while let Some(Shout(from)) = context.message().await {
                if (heard.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(count) {
                    drop(context.runtime().address(from).send(Heard).await);
                }
            }
        };
        runtime.spawn_with(SpawnOptions::new().join(group.clone()), member)?;
    }
    Ok(())
}

/// Waits until the group has grown to `count`, as those do who watch groups.
async fn grown(context: &mut Context<Host>, group: &Group, count: usize) {
    if context.watch_group(group, true).await.is_err() {
        return;
    }
    let mut known = 0;
    while known < count {
        if let Received::Event(Event::Group(change)) = context.receive().await {
            known += change.joined.len();
        }
    }
}
