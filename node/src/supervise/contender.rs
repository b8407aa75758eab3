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
    Context, Event, ExitReason, NodeId, Pid, ProcessName, Received, Runtime, SpawnError, SpawnOptions,
};

use crate::supervise::{limits::TREE_PAUSE, spec::SupervisorSpec, supervisor::Supervisor};

/// Starts one, linked with `keeper`, which ends it by `Shutdown`. It does not try to run the tree before `grace` is over.
pub(super) fn start(
    runtime: &Runtime,
    keeper: &Pid,
    spec: SupervisorSpec,
    name: ProcessName,
    grace: Duration,
) -> Result<Pid, SpawnError> {
    let options = SpawnOptions::new().link_to(keeper).label("rookery:contender");
    let spawned = runtime.spawn_with(options, move |context| Contender { context, spec, name }.run(grace))?;
    Ok(spawned.pid)
}

struct Contender {
    context: Context<()>,
    spec: SupervisorSpec,
    name: ProcessName,
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
            let (node, reason) = match holder {
                Some(holder) => (holder.node().clone(), self.watch(&holder).await?),
                None => (self.context.pid().node().clone(), self.supervise().await?),
            };
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
    async fn watch(&mut self, holder: &Pid) -> Result<ExitReason, Told> {
        let monitor = self.context.monitor(holder);
        loop {
            match self.context.receive().await {
                Received::Event(Event::Down(down)) if down.monitor == monitor => return Ok(down.reason),
                Received::Event(Event::Exit { reason, .. }) => return Err(Told(reason)),
                _ => {}
            }
        }
    }

    /// Tries to run it here, and waits for the end of that.
    async fn supervise(&mut self) -> Result<ExitReason, Told> {
        let options = SpawnOptions::new().link_to(self.context.pid());
        let runtime = self.context.runtime().clone();
        let supervisor = match Supervisor::launch(&runtime, self.spec.clone(), options) {
            Ok((supervisor, _)) => supervisor.pid,
            Err(error) => return Ok(ExitReason::Error(error.to_string())),
        };
        let mut told = None;
        loop {
            match self.context.receive().await {
                Received::Event(Event::Exit { from, reason, .. }) if from == supervisor => {
                    return told.map_or(Ok(reason), |told| Err(Told(told)));
                }
                // The supervisor has its time: its children end in order.
                Received::Event(Event::Exit { reason, .. }) => {
                    self.context.exit(&supervisor, ExitReason::Shutdown);
                    told = Some(reason);
                }
                _ => {}
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
                Some(_) => {}
            }
        }
    }
}
