//! The runtime: the processes of one node, or of one client session, and how signals reach them and leave them.
//!
//! A runtime is a handle that is passed around; a test can have twenty. It knows its own processes; everything else is
//! behind its [`Uplink`]: on a node the mesh and the sessions of its clients, in a client the node it is connected to.
//!
//! ```text
//! Address::send ─▶ own?  ─yes─▶ Process (mailbox)
//!                    └─no──▶ Uplink::connection ─▶ Outbound (lane) ─▶ …   none: the signal bounces
//! …lane reader ─▶ Runtime::receive ─▶ Process
//! ```

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use rookery_protocol::{
    CallId, Destination, ExitReason, Group, NodeId, Pid, ProcessName, Recipient, Serial, SessionId, limits,
    request::{RequestError, ResponseBody},
};
use thiserror::Error;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    behaviour::registry::Behaviours,
    directory::Directory,
    message::Message,
    net::outbound::Outbound,
    process::{
        AnyProcess,
        deadline::Clock,
        event::Event,
        info::ProcessInfo,
        mailbox::Process,
        relations::Lost,
        table::{Layout, Table},
    },
    reply::Calls,
    sync::{lock, read, write},
};

/// What leads out of a runtime.
pub trait Uplink: Send + Sync + 'static {
    /// The connection to where `to` lives, if there is one.
    fn connection(&self, to: &Destination) -> Option<Arc<Outbound>>;
    /// Every connection there is.
    fn connections(&self) -> Vec<Arc<Outbound>>;
    /// The nodes of the cluster that are known to be up, this one among them.
    fn nodes(&self) -> Vec<NodeId>;
}

/// How a runtime is set up.
#[derive(Debug)]
pub struct RuntimeConfig {
    /// The node whose processes these are; for a client, the node it is connected to.
    pub node: NodeId,
    /// The client's session; `None` on a node.
    pub session: Option<SessionId>,
    /// How many processes there may be.
    pub max_processes: usize,
    /// The largest message that is taken from elsewhere, in bytes.
    pub max_message_bytes: usize,
    /// What can be started by name.
    pub behaviours: Behaviours,
}

impl RuntimeConfig {
    /// A node's, with defaults.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            session: None,
            max_processes: DEFAULT_MAX_PROCESSES,
            max_message_bytes: limits::DEFAULT_MAX_MESSAGE_BYTES,
            behaviours: Behaviours::default(),
        }
    }
}

/// Sixteen times what one node is measured with.
pub const DEFAULT_MAX_PROCESSES: usize = 16 * 1024 * 1024;

/// The processes of a node or of a client session. A cheap handle; see the module.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    node: NodeId,
    session: Option<SessionId>,
    /// When it was made; what its processes' ages are counted from.
    since: Instant,
    table: Table,
    max_processes: usize,
    /// The largest payload from elsewhere.
    max_message_bytes: usize,
    /// Local names; those of clients' processes are on the node of their session.
    names: RwLock<HashMap<ProcessName, Pid>>,
    directory: Directory,
    /// How many names are being asked for in the name of clients' processes.
    client_claims: AtomicUsize,
    calls: Calls,
    requests: Mutex<HashMap<CallId, PendingRequest>>,
    pub(crate) behaviours: Behaviours,
    uplink: OnceLock<Arc<dyn Uplink>>,
    /// Processes that are told of nodes that come and go, and the nodes that they have been told are up.
    node_watch: Mutex<NodeWatch>,
    /// Refs, requests, unlinks.
    next_number: AtomicU64,
    dead_letters: AtomicU64,
    /// What was refused to clients.
    refused_to_clients: AtomicU64,
    closed: AtomicBool,
    /// Takes no new processes for others (R2).
    draining: AtomicBool,
    tokio: Handle,
    /// What deadlines are relative to.
    clock: Clock,
}

#[derive(Default)]
struct NodeWatch {
    watchers: BTreeSet<Serial>,
    up: BTreeSet<NodeId>,
}

/// A request that waits for its answer.
pub(crate) struct PendingRequest {
    pub(crate) answer: oneshot::Sender<ResponseBody>,
    /// Whom it was sent to.
    pub(crate) node: NodeId,
    /// What the asking process is tied with when a spawn succeeds.
    pub(crate) ties: crate::requests::Ties,
}

/// Why a name was not registered, or not given up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(transparent)]
pub struct RegisterError(#[from] pub RequestError);

impl Runtime {
    /// A runtime whose processes run on the tokio runtime of the caller.
    ///
    /// # Errors
    /// When the caller is in no tokio runtime.
    pub fn new(config: RuntimeConfig) -> Result<Self, tokio::runtime::TryCurrentError> {
        let layout = config.session.map_or(Layout::NODE, Layout::session);
        Ok(Self(Arc::new(Inner {
            table: Table::new(layout, config.max_processes),
            directory: Directory::new(&config.node),
            client_claims: AtomicUsize::new(0),
            node: config.node,
            session: config.session,
            since: Instant::now(),
            max_processes: config.max_processes,
            max_message_bytes: config.max_message_bytes,
            names: RwLock::default(),
            calls: Calls::default(),
            requests: Mutex::default(),
            behaviours: config.behaviours,
            uplink: OnceLock::new(),
            node_watch: Mutex::default(),
            next_number: AtomicU64::new(1),
            dead_letters: AtomicU64::new(0),
            refused_to_clients: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            tokio: Handle::try_current()?,
            clock: Clock::start(),
        })))
    }

    /// Sets what leads out. Once; a second one is ignored.
    pub fn set_uplink(&self, uplink: Arc<dyn Uplink>) {
        drop(self.0.uplink.set(uplink));
    }

    /// The node: this one, or the one that the client is connected to.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// The client's session, if this is a client.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.0.session
    }

    /// The nodes of the cluster that are known to be up, in the order of their names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = match self.0.uplink.get() {
            Some(uplink) => uplink.nodes(),
            None => vec![self.node().clone()],
        };
        nodes.sort();
        nodes
    }

    /// The node of that name that is up, this one among them.
    #[must_use]
    pub fn node_named(&self, name: &str) -> Option<NodeId> {
        self.nodes().into_iter().find(|node| node.name().as_str() == name)
    }

    /// Where to send messages of type `M`: to a pid, or to `(node, name)` by [`Destination::name`]. Whether there is such
    /// a process is not checked; an address by name finds its holder at each send.
    #[must_use]
    pub fn address<M: Message>(&self, to: impl Into<Destination>) -> crate::Address<M> {
        crate::Address::new(self.clone(), to.into())
    }

    /// The process of that name on this node; in a client, on the node it is connected to.
    #[must_use]
    pub fn named<M: Message>(&self, name: ProcessName) -> crate::Address<M> {
        crate::Address::new(self.clone(), Destination::name(self.node().clone(), name))
    }

    /// Whoever has that name in the cluster, found at each send. If nobody has it, that is as if the process did not
    /// live (S3).
    #[must_use]
    pub fn cluster_named<M: Message>(&self, name: ProcessName) -> crate::Address<M> {
        crate::Address::new(self.clone(), Destination { node: self.node().clone(), to: Recipient::ClusterName(name) })
    }

    /// The members of a group, to send to.
    #[must_use]
    pub fn group<M: Message>(&self, group: Group) -> crate::GroupAddress<M> {
        crate::GroupAddress::new(self.clone(), group)
    }

    /// What asks without being a process: the node itself, or the client itself.
    #[must_use]
    pub fn own_pid(&self) -> Pid {
        let serial = self.0.session.map_or(Serial::NODE, |session| Serial::of_client(session, 0));
        Pid::new(self.0.node.clone(), serial)
    }

    /// How many processes live.
    #[must_use]
    pub fn process_count(&self) -> usize {
        self.0.table.len()
    }

    /// Every process that lives now, for tests and small runtimes: it looks at each of them at once.
    /// [`list_processes`](Self::list_processes) is for the others.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessInfo> {
        let mut infos: Vec<ProcessInfo> = self.0.table.all().iter().map(|process| process.info()).collect();
        infos.sort_by(|a, b| a.pid.cmp(&b.pid));
        infos
    }

    /// How many messages found no receiver (S3), or one that did not understand them (S8).
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.0.dead_letters.load(Ordering::Relaxed)
    }

    /// The behaviours that can be started by name.
    #[must_use]
    pub fn behaviours(&self) -> &Behaviours {
        &self.0.behaviours
    }

    /// Sends an exit signal to `to`. Does not wait; to a process that does not live it does nothing (X1, X2, X3).
    pub fn exit(&self, to: &Pid, reason: ExitReason) {
        let from = crate::process::current::pid().unwrap_or_else(|| self.own_pid());
        let body = rookery_protocol::SignalBody::Exit { reason: reason.cut(), linked: false };
        self.signal(rookery_protocol::Signal { from, to: to.into(), body });
    }

    /// Whether signals for `to` are for a process of this runtime.
    #[must_use]
    pub fn is_own(&self, to: &Destination) -> bool {
        to.node == self.0.node
            && match &to.to {
                Recipient::Serial(serial) => serial.session() == self.0.session,
                Recipient::Name(_) | Recipient::ClusterName(_) | Recipient::Group(_) => self.0.session.is_none(),
            }
    }

    /// For how long the runtime has been there, in microseconds.
    pub(crate) fn uptime_us(&self) -> u64 {
        self.us_at(Instant::now())
    }

    /// A moment, in microseconds from the runtime's start.
    pub(crate) fn us_at(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.0.since).as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn table(&self) -> &Table {
        &self.0.table
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub(crate) fn client_claims(&self) -> &AtomicUsize {
        &self.0.client_claims
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    pub(crate) fn requests(&self) -> &Mutex<HashMap<CallId, PendingRequest>> {
        &self.0.requests
    }

    pub(crate) fn tokio(&self) -> &Handle {
        &self.0.tokio
    }

    pub(crate) fn clock(&self) -> Clock {
        self.0.clock
    }

    /// How many processes may live.
    #[must_use]
    pub fn max_processes(&self) -> usize {
        self.0.max_processes
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.0.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that nobody guesses by accident; differs from run to run, and is no secret.
    pub(crate) fn next_random(&self) -> u64 {
        // SplitMix64 over a counter (Steele, Lea and Flood, 2014).
        let counter = self.next_number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut number = counter.wrapping_add(self.0.node.incarnation().0);
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// How many things that clients asked of this node were refused: by their policy, or for the sake of the process, which
    /// is [`vital`](crate::SpawnOptions::vital) or for [`members_only`](crate::SpawnOptions::members_only) (C3).
    #[must_use]
    pub fn refused_to_clients(&self) -> u64 {
        self.0.refused_to_clients.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub fn count_refused_to_client(&self) {
        self.0.refused_to_clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dead_letter(&self) {
        self.0.dead_letters.fetch_add(1, Ordering::Relaxed);
    }

    /// The largest payload that `to`'s node takes.
    pub(crate) fn max_message_bytes(&self, to: &Pid) -> usize {
        let to = to.into();
        if self.is_own(&to) {
            return usize::MAX;
        }
        self.connection(&to).map_or(self.0.max_message_bytes, |connection| connection.max_message_bytes())
    }

    pub(crate) fn connection(&self, to: &Destination) -> Option<Arc<Outbound>> {
        self.0.uplink.get()?.connection(to)
    }

    /// The process, if it lives here.
    pub(crate) fn process(&self, pid: &Pid) -> Option<Arc<dyn AnyProcess>> {
        if *pid.node() != self.0.node { None } else { self.0.table.get(pid.serial()) }
    }

    /// The process that `to` means, if it lives here.
    pub(crate) fn recipient(&self, to: &Recipient) -> Option<Arc<dyn AnyProcess>> {
        match to {
            Recipient::Serial(serial) => self.0.table.get(*serial),
            Recipient::Name(name) => self.process(&self.whereis_here(name)?),
            Recipient::ClusterName(name) => self.process(&self.holder(name)?),
            Recipient::Group(_) => None,
        }
    }

    /// The process with this pid, if it lives here and takes values of `M`.
    pub(crate) fn typed<M: Message>(&self, to: &Pid) -> Option<Arc<Process<M>>> {
        self.process(to)?.as_any().downcast().ok()
    }

    /// Removes an ended process from the table.
    pub(crate) fn forget(&self, pid: &Pid) {
        self.0.table.remove(pid.serial());
        let mut watch = lock(&self.0.node_watch);
        if !watch.watchers.is_empty() {
            watch.watchers.remove(&pid.serial());
        }
    }

    /// Notes on the connection to `other` that `own` has a tie with it; false if there is no connection.
    pub(crate) fn interested(&self, other: &Pid, own: &Pid) -> bool {
        let Some(connection) = self.connection(&other.into()) else { return false };
        if let Some(process) = self.process(own) {
            process.tied_over_connection();
        }
        connection.interested(own.serial())
    }

    /// An ended process has no ties any more.
    pub(crate) fn untie(&self, own: Serial) {
        for connection in self.0.uplink.get().map(|uplink| uplink.connections()).unwrap_or_default() {
            connection.not_interested(own);
        }
    }
}

/// Local names (N1).
impl Runtime {
    /// Who has `name` on this node.
    #[must_use]
    pub fn whereis_here(&self, name: &ProcessName) -> Option<Pid> {
        read(&self.0.names).get(name).cloned()
    }

    /// How many names processes have on this node.
    #[must_use]
    pub fn name_count(&self) -> usize {
        read(&self.0.names).len()
    }

    pub(crate) fn with_names_here<R>(&self, f: impl FnOnce(&HashMap<ProcessName, Pid>) -> R) -> R {
        f(&read(&self.0.names))
    }

    /// Every name on this node, with its holder.
    #[must_use]
    pub fn names_here(&self) -> Vec<(ProcessName, Pid)> {
        let mut names: Vec<_> = read(&self.0.names).iter().map(|(name, pid)| (name.clone(), pid.clone())).collect();
        names.sort();
        names
    }

    /// Gives `name` to `pid`, a process of this node or of one of its clients.
    ///
    /// # Errors
    /// Another process has it, or `pid` does not live. Having it already is no error.
    pub fn register_here(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        let mut names = write(&self.0.names);
        if let Some(holder) = names.get(name) {
            if holder == pid {
                return Ok(());
            }
            return Err(RequestError::NameTaken { name: name.clone(), holder: holder.clone() }.into());
        }
        // The names of clients' processes are kept by their session, which removes them when it ends.
        let of_client = pid.serial().session().is_some() && self.0.session.is_none();
        if !of_client && !self.process(pid).is_some_and(|process| process.add_name(name)) {
            return Err(RequestError::NoProc(pid.clone()).into());
        }
        names.insert(name.clone(), pid.clone());
        Ok(())
    }

    /// Takes `name` from `pid`.
    ///
    /// # Errors
    /// `pid` does not have it.
    pub fn unregister_here(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        let mut names = write(&self.0.names);
        if names.get(name) != Some(pid) {
            return Err(RequestError::NoProc(pid.clone()).into());
        }
        names.remove(name);
        // Under the lock of the names: were it registered anew in between, it would outlive the process.
        if let Some(process) = self.process(pid) {
            process.remove_name(name);
        }
        Ok(())
    }

    /// Frees `name` if `pid` has it.
    pub fn release_name(&self, name: &ProcessName, pid: &Pid) -> bool {
        if self.0.session.is_some() {
            self.release_name_at_node(name, pid);
            return true;
        }
        let mut names = write(&self.0.names);
        let held = names.get(name) == Some(pid);
        if held {
            names.remove(name);
        }
        held
    }
}

/// Nodes that come and go (M5, L5, M4).
impl Runtime {
    pub(crate) fn monitor_nodes(&self, pid: &Pid, tell: bool) {
        let mut watch = lock(&self.0.node_watch);
        if !tell {
            watch.watchers.remove(&pid.serial());
        } else if watch.watchers.insert(pid.serial())
            && let Some(process) = self.0.table.get(pid.serial())
        {
            for node in &watch.up {
                process.event(Event::NodeUp(node.clone()));
            }
        }
    }

    /// A node is connected: tells the processes that asked for it. Before any of its signals is handed to
    /// [`receive`](Self::receive).
    pub fn node_up(&self, node: &NodeId) {
        let mut watch = lock(&self.0.node_watch);
        if watch.up.insert(node.clone()) {
            self.tell(&watch.watchers, &Event::NodeUp(node.clone()));
        }
    }

    /// A node is lost: breaks the links, fires the monitors and fails the calls of `tied` processes to there, then tells
    /// the processes that asked for it. After the last of its signals was handed to [`receive`](Self::receive).
    pub fn node_lost(&self, node: &NodeId, tied: impl IntoIterator<Item = Serial>, reason: &str) {
        self.node_gone_from_directory(node);
        self.lost(&Lost::Node(node.clone()), tied);
        self.fail_requests(Some(node));
        let mut watch = lock(&self.0.node_watch);
        if watch.up.remove(node) {
            self.tell(&watch.watchers, &Event::NodeDown { node: node.clone(), reason: reason.to_owned() });
        }
    }

    /// A client of this node is lost: frees its names, and tells the `tied` processes of this node.
    pub fn client_lost(&self, session: SessionId, tied: impl IntoIterator<Item = Serial>) {
        write(&self.0.names).retain(|_, pid| pid.serial().session() != Some(session));
        self.session_gone_from_directory(session);
        self.lost(&Lost::Session(session), tied);
    }

    fn lost(&self, lost: &Lost, tied: impl IntoIterator<Item = Serial>) {
        for serial in tied {
            if let Some(process) = self.0.table.get(serial) {
                process.lost(lost);
            }
        }
        self.0.calls.fail_from(Some(lost));
    }

    fn tell(&self, watchers: &BTreeSet<Serial>, event: &Event) {
        for &serial in watchers {
            if let Some(process) = self.0.table.get(serial) {
                process.event(event.clone());
            }
        }
    }

    pub(crate) fn fail_requests(&self, node: Option<&NodeId>) {
        let mut requests = lock(&self.0.requests);
        let lost: Vec<CallId> = requests
            .iter()
            .filter(|(_, request)| node.is_none_or(|node| request.node == *node))
            .map(|(&id, _)| id)
            .collect();
        for id in lost {
            if let Some(request) = requests.remove(&id) {
                drop(request.answer.send(ResponseBody::Failed(RequestError::NoConnection)));
            }
        }
    }
}

/// The end.
impl Runtime {
    /// Whether the runtime takes no processes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    /// From now on no process is started for others; their requests answer `Draining` (R2).
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether the runtime is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire) || self.is_closed()
    }

    /// Takes no processes any more, and sends every process an exit signal with `reason`; then waits until all have
    /// ended, or `grace` is over; what is left is killed.
    pub async fn shut_down(&self, reason: ExitReason, grace: std::time::Duration) {
        self.0.closed.store(true, Ordering::Release);
        let own = self.own_pid();
        for process in self.0.table.all() {
            process.exit(&own, reason.clone());
        }
        let ended = tokio::time::timeout(grace, self.all_ended()).await;
        if ended.is_err() {
            tracing::warn!(left = self.process_count(), "processes did not end in time and are killed");
        }
        for process in self.0.table.all() {
            process.exit(&own, ExitReason::Kill);
        }
        self.0.calls.fail_from(None);
        self.fail_requests(None);
    }

    async fn all_ended(&self) {
        // Shutting down is rare, and the table has no list of waiters for it.
        while self.process_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// The session, or the node, is gone for good: every process of it ends with `NoConnection`, which cannot be trapped here, since
    /// the pids are gone.
    pub fn session_lost(&self) {
        self.0.closed.store(true, Ordering::Release);
        for process in self.0.table.all() {
            process.end_now(ExitReason::NoConnection);
        }
        self.0.calls.fail_from(None);
        self.fail_requests(None);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({})", self.own_pid())
    }
}
