//! `rookery:trees` on every node: knows the trees that the cluster is to run, and has a contender for each.
//!
//! ```text
//! ClusterSupervisor::start ─▶ keeper ── Hear, to all; all it knows, to a node that comes up ──▶ keepers of other nodes
//!                               └─▶ contender of each tree (`contender.rs`)
//! ```

use std::{
    collections::HashMap,
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use rookery_runtime::{
    CallError, Context, Destination, Event, ExitReason, NodeId, Pid, ProcessName, Received, ReplyTo, RequestError,
    Runtime, SpawnOptions,
};
use serde::{Deserialize, Serialize};

use crate::{
    ask::Ask,
    supervise::{
        contender,
        contender::Contend,
        forest::{Forest, TooMany, Word},
        limits::{HEIR_PATIENCE, HEIRS, JOIN_GRACE, LOOK_TIMEOUT, MAX_TREE_BYTES, MAX_TREES},
        spec::SupervisorSpec,
        supervisor::SupervisorData,
    },
};

/// The name of the process on every node.
const TREES_NAME: &str = "rookery:trees";

/// A supervisor of the cluster: its spec is known on every node, one of them runs it, and another one does when that node
/// is lost, or has it no more. It is found by its cluster name, [`Runtime::cluster_named`].
///
/// In each connected part of the cluster there is one. When a partition heals, the one that loses the name ends with its
/// children.
#[derive(Debug)]
pub struct ClusterSupervisor;

impl ClusterSupervisor {
    /// Lets the cluster run a supervisor under this cluster name from now on; one that runs under it with another spec is
    /// stopped, and started with this one. Does not wait for its start. Once this has succeeded, each node that is
    /// connected is told; a node that comes later is told then. As long as one node that knows it lives, so does the tree.
    ///
    /// # Errors
    /// `Refused`: the spec is not valid, there are too many trees, or this is a client. Of `Timeout` nothing follows.
    pub async fn start(runtime: &Runtime, name: ProcessName, data: SupervisorData) -> Result<(), CallError> {
        Self::ask(runtime, |reply| Trees::Start(Ask::new((name, data), reply))).await
    }

    /// Lets the cluster run it no more: it is shut down wherever it runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn stop(runtime: &Runtime, name: ProcessName) -> Result<(), CallError> {
        Self::ask(runtime, |reply| Trees::Stop(Ask::new(name, reply))).await
    }

    async fn ask(runtime: &Runtime, make: impl FnOnce(ReplyTo<()>) -> Trees) -> Result<(), CallError> {
        let keeper = ProcessName::new(TREES_NAME).map_err(|error| CallError::Refused(error.to_string()))?;
        runtime.named::<Trees>(keeper).call(make).await
    }
}

/// What the keeper understands, of members alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.Trees")]
enum Trees {
    Start(Ask<(ProcessName, SupervisorData), ()>),
    Stop(Ask<ProcessName, ()>),
    /// What was said on another node.
    Hear(ProcessName, Word),
    /// The node is about to leave: what trees it runs are to run elsewhere. Answered when nothing more can be done.
    Leave(ReplyTo<()>),
    /// Take the place of this supervisor, which another node runs under this name; the answer is the process that has.
    Inherit(Ask<(ProcessName, Pid), Pid>),
}

/// Starts the process on a node.
pub(crate) fn start(runtime: &Runtime) -> Result<(), RequestError> {
    let name = ProcessName::new(TREES_NAME).map_err(|error| RequestError::Refused(error.to_string()))?;
    let options = SpawnOptions::new().name(name.clone()).label(TREES_NAME).members_only().vital();
    runtime.spawn_with(options, move |context: Context<Trees>| {
        let forest = Forest::new(context.pid().node().name().clone());
        Keeper { context, name, forest, contenders: HashMap::new(), since: Instant::now() }.run()
    })?;
    Ok(())
}

struct Keeper {
    context: Context<Trees>,
    /// The name of the process on every node.
    name: ProcessName,
    forest: Forest,
    /// The contender of each tree that is to run.
    contenders: HashMap<ProcessName, Pid>,
    /// When the node came up.
    since: Instant,
}

impl Keeper {
    async fn run(mut self) {
        self.context.trap_exits(true);
        self.context.monitor_nodes(true);
        while !self.context.runtime().is_closed() {
            match self.context.receive().await {
                Received::Message(Trees::Start(Ask { value: (name, data), reply })) => match check(&data) {
                    Ok(()) => self.say(name, Some(data), reply),
                    Err(why) => reply.refuse(why),
                },
                Received::Message(Trees::Stop(Ask { value: name, reply })) => self.say(name, None, reply),
                Received::Message(Trees::Hear(name, word)) => {
                    if self.forest.hear(name.clone(), word) {
                        self.contend(&name);
                    }
                }
                Received::Event(Event::NodeUp(node)) if node != *self.context.pid().node() => {
                    let words = self.forest.words().map(|(name, word)| (name.clone(), word.clone())).collect();
                    self.tell(&node, words);
                }
                Received::Message(Trees::Leave(reply)) => self.leave(reply),
                Received::Message(Trees::Inherit(Ask { value: (name, of), reply })) => match self.contenders.get(&name)
                {
                    Some(contender) => {
                        let contender = self.context.runtime().address::<Contend>(contender);
                        // One that has just ended drops the question, and whoever asks is told.
                        drop(contender.try_send(Contend::Inherit(Ask::new(of, reply))));
                    }
                    None => reply.refuse(format!("this node does not know of the tree `{name}`")),
                },
                // One that ends before it is told to is started again.
                Received::Event(Event::Exit { from, .. }) => {
                    let ended = self.contenders.iter().find(|(_, contender)| **contender == from);
                    if let Some(name) = ended.map(|(name, _)| name.clone()) {
                        self.contenders.remove(&name);
                        self.contend(&name);
                    }
                }
                Received::Event(_) => {}
            }
        }
    }

    fn say(&mut self, name: ProcessName, tree: Option<SupervisorData>, reply: ReplyTo<()>) {
        match self.forest.say(name.clone(), tree) {
            Ok(None) => drop(reply.send(())),
            Ok(Some(word)) => {
                for node in self.context.runtime().nodes() {
                    if node != *self.context.pid().node() {
                        self.tell(&node, vec![(name.clone(), word.clone())]);
                    }
                }
                self.contend(&name);
                drop(reply.send(()));
            }
            Err(TooMany) => reply.refuse(format!("the cluster has had {MAX_TREES} trees, which is the limit")),
        }
    }

    /// Lets the contenders give away what they run, all at a time, in a process that waits for them.
    fn leave(&self, reply: ReplyTo<()>) {
        let runtime = self.context.runtime().clone();
        let contenders: Vec<_> = self.contenders.values().map(|pid| runtime.address::<Contend>(pid)).collect();
        let patience = HEIR_PATIENCE * u32::try_from(HEIRS).unwrap_or(1) + LOOK_TIMEOUT;
        let leaving = async move |_: Context<()>| {
            let asked = contenders.iter().map(|contender| contender.call_within(patience, Contend::Leave));
            join_all(asked).await;
            reply.answer(());
        };
        drop(runtime.spawn(leaving));
    }

    /// Tells a node, by a process that waits for room on the way there, so that who tells does not.
    fn tell(&self, node: &NodeId, words: Vec<(ProcessName, Word)>) {
        if words.is_empty() {
            return;
        }
        let runtime = self.context.runtime();
        let keeper = runtime.address::<Trees>(Destination::name(node.clone(), self.name.clone()));
        let telling = async move |_: Context<()>| {
            for (name, word) in words {
                if let Err(error) = keeper.send(Trees::Hear(name.clone(), word)).await {
                    tracing::warn!(tree = %name, to = %keeper.destination(), %error, "a node is not told of a tree");
                }
            }
        };
        if let Err(error) = runtime.spawn(telling) {
            tracing::warn!(%node, %error, "a node is not told of trees");
        }
    }

    /// Lets there be a contender for what is now to run under `name`, and none for what was.
    fn contend(&mut self, name: &ProcessName) {
        if let Some(former) = self.contenders.remove(name) {
            self.context.exit(&former, ExitReason::Shutdown);
        }
        let Some(data) = self.forest.tree(name) else {
            return tracing::info!(tree = %name, "the cluster runs this tree no more");
        };
        let spec = SupervisorSpec::from(data.clone()).cluster_name(name.clone());
        // A node that has just come up may not have found those that run the tree already.
        let grace = JOIN_GRACE.saturating_sub(self.since.elapsed());
        let context = &self.context;
        match contender::start(context.runtime(), context.pid(), spec, name.clone(), grace) {
            Ok(contender) => drop(self.contenders.insert(name.clone(), contender)),
            Err(error) => tracing::error!(tree = %name, %error, "this node does not contend for a tree"),
        }
    }
}

/// Lets the trees that this node runs go to other nodes, and waits until nothing more can be done, at most so long.
pub(crate) async fn leave(runtime: &Runtime, patience: Duration) {
    if let Ok(keeper) = ProcessName::new(TREES_NAME)
        && let Err(error) = runtime.named::<Trees>(keeper).call_within(patience, Trees::Leave).await
    {
        tracing::warn!(%error, "the trees that this node runs have not all gone to other nodes");
    }
}

/// Asks `node` to take the place of the supervisor `of`, which runs as the tree `name`.
pub(super) async fn inherit(runtime: &Runtime, node: &NodeId, name: ProcessName, of: Pid) -> Result<Pid, CallError> {
    let keeper = ProcessName::new(TREES_NAME).map_err(|error| CallError::Refused(error.to_string()))?;
    let keeper = runtime.address::<Trees>(Destination::name(node.clone(), keeper));
    keeper.call_within(HEIR_PATIENCE, |reply| Trees::Inherit(Ask::new((name, of), reply))).await
}

/// Waits for all of them, one after the other; they run beside each other once each was polled.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    poll_fn(|cx| {
        pending.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn check(data: &SupervisorData) -> Result<(), String> {
    SupervisorSpec::from(data.clone()).check().map_err(|error| error.to_string())?;
    match serde_json::to_vec(data) {
        Ok(text) if text.len() <= MAX_TREE_BYTES => Ok(()),
        Ok(text) => Err(format!("the spec takes {} bytes as JSON, which is more than {MAX_TREE_BYTES}", text.len())),
        Err(error) => Err(error.to_string()),
    }
}
