//! What the clients of a run do. Some are connected to each node, and to no other, so what they ask is what that node knows, and what
//! they send to other clients' processes crosses the mesh; and one goes to any node that takes it. Each of a client's processes has
//! one thing to do, and enters what comes of it into the history; all end with the client's session, and begin anew with its next.

mod members;
mod names;
mod pairs;
mod stores;
mod watchers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_client::{Client, ClientConfig, ClientState, Server};
use rookery_node::{CallError, Message, NodeId, Pid, RequestError, Runtime, SpawnError, tls::Identity};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    chance::Chance,
    checker::CALL_LIMIT_MS,
    cluster::{Cluster, index_of},
    history::{Outcome, What},
    network,
    recorder::Recorder,
};

/// How long a client tries one address.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// How long a client tries to connect at first, while all nodes start.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a client looks whether its processes live.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long calls wait.
pub(crate) const CALL_LIMIT: Duration = Duration::from_millis(CALL_LIMIT_MS);

/// What the processes are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything.
    Work,
    /// No change of names and groups, so that it can be seen whether all nodes agree on them.
    Still,
    /// Nothing new; what is under way comes to its end, and what was started ends.
    Finish,
}

/// What the processes of one client share with all others, and with whoever looks whether all is whole.
pub(crate) struct Shared {
    pub(crate) recorder: Recorder,
    phase: watch::Sender<Phase>,
    seed: u64,
    /// For chances that differ.
    dice: AtomicU64,
    known: Mutex<Known>,
}

/// What the clients believe.
#[derive(Default)]
pub(crate) struct Known {
    /// The present session of each client.
    pub(crate) sessions: Vec<Option<Runtime>>,
    /// Who holds each name, for all that they were told.
    pub(crate) holders: BTreeMap<String, BTreeSet<Pid>>,
    /// Who is in each group.
    pub(crate) members: BTreeMap<String, BTreeSet<Pid>>,
    /// What was written last, and where: the store and the key.
    pub(crate) keys: Vec<(Pid, String)>,
    /// Monitors that have not fired yet.
    pub(crate) watching: usize,
}

impl Shared {
    pub(crate) fn new(recorder: Recorder, seed: u64) -> Self {
        let known = Mutex::default();
        // Until all is whole for the first time: nodes that have not met yet may give one name to several.
        Self { recorder, phase: watch::Sender::new(Phase::Still), seed, dice: AtomicU64::new(0), known }
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn chance(&self) -> Chance {
        Chance::new(self.seed ^ self.dice.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The nodes that clients are connected to.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        let known = self.known();
        let nodes: BTreeSet<NodeId> = known.sessions.iter().flatten().map(|session| session.node().clone()).collect();
        nodes.into_iter().collect()
    }
}

/// A process of a client lives as long as this. When it goes, whatever the reason, nobody believes any more that it has
/// anything.
struct Life {
    shared: Arc<Shared>,
    pid: Pid,
}

impl Life {
    fn new(shared: &Arc<Shared>, pid: &Pid) -> Self {
        Self { shared: shared.clone(), pid: pid.clone() }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // First, so that nobody who gets what this process had is entered before its end.
        self.shared.recorder.note(What::Ended { pid: self.pid.to_string() });
        let mut known = self.shared.known();
        let Known { holders, members, .. } = &mut *known;
        for believed in holders.values_mut().chain(members.values_mut()) {
            believed.remove(&self.pid);
        }
    }
}

/// The clients.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    clients: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Load {
    /// Connects so many clients to each node, and one to any, and begins.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn start(cluster: &Cluster, shared: Shared, nodes: usize, each: usize) -> Result<Self, String> {
        let mut load = Self { shared: Arc::new(shared), clients: JoinSet::new(), stop: watch::Sender::new(false) };
        let pinned =
            (0..nodes).flat_map(|node| (0..each).map(move |number| (format!("at-{node}-{number}"), vec![node])));
        let all: Vec<(String, Vec<usize>)> = pinned.chain([("anywhere".to_owned(), (0..nodes).collect())]).collect();
        load.shared.known().sessions = vec![None; all.len()];
        for (client, (name, servers)) in all.into_iter().enumerate() {
            let identity = Identity::from_dir(&cluster.client(&name)).map_err(|error| error.to_string())?;
            let servers = servers.into_iter().map(|node| Server::from(network::address(node)));
            let mut config = ClientConfig::new(identity, servers);
            config.connect_timeout = PATIENCE;
            config.connections.handshake_timeout = HANDSHAKE;
            let connected = Client::connect(config).await.map_err(|error| format!("{name}: {error}"))?;
            load.clients.spawn(keep(load.shared.clone(), connected, client, load.stop.subscribe()));
        }
        Ok(load)
    }

    /// Ends all clients.
    pub(crate) async fn end(mut self) {
        self.stop.send_replace(true);
        while self.clients.join_next().await.is_some() {}
    }
}

/// One session of a client after the other; the client has this number.
async fn keep(shared: Arc<Shared>, client: Client, number: usize, mut stop: watch::Receiver<bool>) {
    let mut state = client.state();
    while !*stop.borrow() {
        let runtime = match &*state.borrow_and_update() {
            ClientState::Connected(runtime) => Some(runtime.clone()),
            _ => None,
        };
        if let Some(slot) = shared.known().sessions.get_mut(number) {
            slot.clone_from(&runtime);
        }
        let work = async {
            match &runtime {
                Some(runtime) => work(&shared, runtime, index_of(runtime.node())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = work => {}
            _ = state.changed() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    client.close().await;
}

type Doing = fn(&Arc<Shared>, &Runtime, usize) -> Result<Pid, SpawnError>;

/// What each client has a process for.
const DOINGS: [Doing; 6] =
    [pairs::receiver, pairs::sender, names::namer, watchers::watcher, stores::writer, members::joiner];

/// Sees to it that the processes of a session live, as long as that does.
async fn work(shared: &Arc<Shared>, runtime: &Runtime, node: usize) {
    let mut running: Vec<Option<Pid>> = vec![None; DOINGS.len()];
    loop {
        let alive: BTreeSet<Pid> = runtime.processes().into_iter().map(|process| process.pid).collect();
        for (doing, process) in DOINGS.iter().zip(&mut running) {
            if process.as_ref().is_none_or(|pid| !alive.contains(pid)) {
                // A session that is about to end starts nothing more.
                *process = doing(shared, runtime, node).ok();
            }
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// How a call came out.
fn outcome_of<T>(result: &Result<T, CallError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Ok,
        Err(error @ (CallError::NoProc | CallError::Refused(_) | CallError::Unsupported { .. })) => {
            Outcome::Fail(error.to_string())
        }
        Err(error) => Outcome::Info(error.to_string()),
    }
}

/// How a request to a node came out.
fn outcome_of_request<T>(result: &Result<T, RequestError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Ok,
        Err(error @ (RequestError::Timeout | RequestError::NoConnection)) => Outcome::Info(error.to_string()),
        Err(error) => Outcome::Fail(error.to_string()),
    }
}

fn address<M: Message>(runtime: &Runtime, pid: &Pid) -> rookery_node::Address<M> {
    runtime.address(pid)
}

pub(crate) use members::CROWD;
pub(crate) use names::NAMES;
pub(crate) use pairs::RECEIVERS;
