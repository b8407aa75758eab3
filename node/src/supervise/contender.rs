//! A contender: a process on each node, for each tree that the cluster is to run. It watches the node that runs it, and runs
//! it when nobody does. Who does is decided by the cluster name alone, which one of those that try gets.
//!
//! ```text
//! somebody has the name ─▶ monitor it ── down ──▶ ┐
//!         ▲                                       ├─ at once, or after a pause where it gave up by itself
//!         └── name taken, or lost ── try: a supervisor that takes the name, and then starts its children
//! ```

use std::time::Duration;

use rookery_runtime::{
    Context, Event, ExitReason, NodeId, Pid, ProcessName, Received, ReplyTo, Runtime, SpawnError, SpawnOptions, Spawned,
};
use serde::{Deserialize, Serialize};

use crate::{
    ask::Ask,
    status,
    supervise::{
        keeper,
        limits::{HEIR_PATIENCE, HEIRS, LOOK_TIMEOUT, TREE_PAUSE},
        message::SupervisorMessage,
        spec::SupervisorSpec,
        supervisor::{FirstStart, Supervisor},
    },
};

/// What a contender understands, of its node's keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.Contender")]
pub(super) enum Contend {
    /// The node is about to leave: if it runs the tree, another one is to. Answered when one does, or none will.
    Leave(ReplyTo<()>),
    /// Take the place of this supervisor, which another node runs.
    Inherit(Ask<Pid, Pid>),
}

/// Starts one, linked with `keeper`, which ends it by `Shutdown`. It does not try to run the tree before `grace` is over.
pub(super) fn start(
    runtime: &Runtime,
    keeper: &Pid,
    spec: SupervisorSpec,
    name: ProcessName,
    grace: Duration,
) -> Result<Pid, SpawnError> {
    let options = SpawnOptions::new().link_to(keeper).label("rookery:contender");
    let spawned =
        runtime.spawn_with(options, move |context| Contender { context, spec, name, asked: None }.run(grace))?;
    Ok(spawned.pid)
}

struct Contender {
    context: Context<Contend>,
    spec: SupervisorSpec,
    name: ProcessName,
    /// Asked for in a pause, or while a try of its own ends: to take the place of a supervisor.
    asked: Option<Ask<Pid, Pid>>,
}

/// What comes of watching a supervisor that runs elsewhere.
enum Watched {
    Down(ExitReason),
    /// Its place is to be taken.
    Inherit(Ask<Pid, Pid>),
}

/// It was told to end, for this reason.
struct Told(ExitReason);

impl Contender {
    async fn run(mut self, grace: Duration) -> ExitReason {
        self.context.trap_exits(true);
        self.context.monitor_nodes(true);
        match self.contend(grace).await {
            Err(Told(reason)) => reason,
            Ok(never) => match never {},
        }
    }

    async fn contend(&mut self, grace: Duration) -> Result<std::convert::Infallible, Told> {
        self.pause(grace, None).await?;
        loop {
            let holder = self.context.runtime().holder_of_cluster_name(&self.name);
            let own = self.context.pid().node().clone();
            let (node, reason) = match holder {
                _ if let Some(ask) = self.asked.take() => (own, self.inherit(ask).await?),
                Some(holder) => match self.watch(&holder).await? {
                    Watched::Down(reason) => (holder.node().clone(), reason),
                    Watched::Inherit(ask) => (own, self.inherit(ask).await?),
                },
                // Another node runs it.
                None if self.context.runtime().is_draining() => {
                    self.pause(TREE_PAUSE, None).await?;
                    continue;
                }
                None => (own, self.supervise().await?),
            };
            // Handed over.
            if self.context.runtime().holder_of_cluster_name(&self.name).is_some() {
                continue;
            }
            match reason {
                // Its node is lost, it was killed, or another one has the name: now.
                ExitReason::NoConnection | ExitReason::Killed | ExitReason::NameConflict(_) => {}
                reason => {
                    tracing::warn!(tree = %self.name, %node, %reason, "the tree has ended; it is started again soon");
                    self.pause(TREE_PAUSE, Some(&node)).await?;
                }
            }
        }
    }

    /// Waits for the end of the supervisor that runs elsewhere.
    async fn watch(&mut self, holder: &Pid) -> Result<Watched, Told> {
        let monitor = self.context.monitor(holder);
        loop {
            match self.context.receive().await {
                Received::Event(Event::Down(down)) if down.monitor == monitor => return Ok(Watched::Down(down.reason)),
                Received::Event(Event::Exit { reason, .. }) => return Err(Told(reason)),
                Received::Message(Contend::Leave(reply)) => reply.answer(()),
                Received::Message(Contend::Inherit(ask)) if self.context.runtime().is_draining() => {
                    ask.reply.refuse("this node leaves, too");
                }
                Received::Message(Contend::Inherit(ask)) => {
                    self.context.demonitor(monitor);
                    return Ok(Watched::Inherit(ask));
                }
                Received::Event(_) => {}
            }
        }
    }

    /// Tries to run it here, and waits for the end of that.
    async fn supervise(&mut self) -> Result<ExitReason, Told> {
        match self.launch(None) {
            Ok((supervisor, _)) => self.run_with(supervisor.pid).await,
            Err(reason) => Ok(reason),
        }
    }

    /// Tries to run it here in the place of one that runs elsewhere, with its children, and waits for the end of that.
    async fn inherit(&mut self, ask: Ask<Pid, Pid>) -> Result<ExitReason, Told> {
        let Ask { value: of, reply } = ask;
        let (supervisor, told) = match self.launch(Some(of)) {
            Ok((supervisor, told)) => (supervisor.pid, told),
            Err(reason) => {
                reply.refuse(reason.to_string());
                return Ok(reason);
            }
        };
        match told.await {
            Ok(Ok(())) => reply.answer(supervisor.clone()),
            Ok(Err(error)) => reply.refuse(error.to_string()),
            Err(_) => reply.refuse("the supervisor ended before it had taken the other's place"),
        }
        self.run_with(supervisor).await
    }

    fn is_held_by(&self, supervisor: &Pid) -> bool {
        self.context.runtime().holder_of_cluster_name(&self.name).as_ref() == Some(supervisor)
    }

    fn launch(&self, of: Option<Pid>) -> Result<(Spawned<SupervisorMessage>, FirstStart), ExitReason> {
        let options = SpawnOptions::new().link_to(self.context.pid());
        let launched = Supervisor::launch_as(self.context.runtime(), self.spec.clone(), options, of);
        launched.map_err(|error| ExitReason::Error(error.to_string()))
    }

    async fn run_with(&mut self, supervisor: Pid) -> Result<ExitReason, Told> {
        let mut told = None;
        loop {
            match self.context.receive().await {
                Received::Event(Event::Exit { from, reason, .. }) if from == supervisor => {
                    // Whose place was to be taken may have gone meanwhile: whoever asked is told.
                    let holder = self.context.runtime().holder_of_cluster_name(&self.name);
                    drop(self.asked.take_if(|ask| holder.as_ref() != Some(&ask.value)));
                    return told.map_or(Ok(reason), |told| Err(Told(told)));
                }
                // The supervisor has its time: its children end in order.
                Received::Event(Event::Exit { reason, .. }) => {
                    self.context.exit(&supervisor, ExitReason::Shutdown);
                    told = Some(reason);
                }
                Received::Message(Contend::Leave(reply)) => {
                    self.find_heir(&supervisor).await;
                    reply.answer(());
                }
                Received::Message(Contend::Inherit(ask)) if !self.is_held_by(&ask.value) => {
                    ask.reply.refuse("this node runs the tree already")
                }
                Received::Message(Contend::Inherit(ask)) if self.context.runtime().is_draining() => {
                    ask.reply.refuse("this node leaves, too");
                }
                // What was tried here has lost the name to that one, and is about to end.
                Received::Message(Contend::Inherit(ask)) => self.asked = Some(ask),
                Received::Event(_) => {}
            }
        }
    }

    /// Lets another node run the tree, with its children as they are.
    async fn find_heir(&self, supervisor: &Pid) {
        let runtime = self.context.runtime();
        let mut others = status::look(runtime, LOOK_TIMEOUT).await;
        others.retain(|other| other.node != *runtime.node() && !other.draining);
        others.sort_by_key(|other| other.processes);
        for other in others.into_iter().take(HEIRS) {
            let inherit = keeper::inherit(runtime, &other.node, self.name.clone(), supervisor.clone());
            match tokio::time::timeout(HEIR_PATIENCE, inherit).await {
                Ok(Ok(heir)) => return tracing::info!(tree = %self.name, %heir, "the tree has gone to another node"),
                Ok(Err(error)) => {
                    tracing::warn!(tree = %self.name, node = %other.node, %error, "a node does not take the tree")
                }
                Err(_) => {
                    tracing::warn!(tree = %self.name, node = %other.node, "a node does not take the tree in time")
                }
            }
        }
    }

    /// Waits, unless `node` goes down meanwhile: a node that leaves in good order ends what it runs by itself.
    async fn pause(&mut self, pause: Duration, node: Option<&NodeId>) -> Result<(), Told> {
        let until = tokio::time::Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            match self.context.receive_timeout(left).await {
                None => return Ok(()),
                Some(Received::Event(Event::Exit { reason, .. })) => return Err(Told(reason)),
                Some(Received::Event(Event::NodeDown { node: down, .. })) if Some(&down) == node => return Ok(()),
                Some(Received::Message(Contend::Leave(reply))) => reply.answer(()),
                Some(Received::Message(Contend::Inherit(ask))) if self.context.runtime().is_draining() => {
                    ask.reply.refuse("this node leaves, too");
                }
                // Not only once it has been up for a while: in a rolling restart all others may have begun just now.
                Some(Received::Message(Contend::Inherit(ask))) => {
                    self.asked = Some(ask);
                    return Ok(());
                }
                Some(Received::Event(_)) => {}
            }
        }
    }
}
