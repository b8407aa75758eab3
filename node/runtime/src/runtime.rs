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

mod ending;
mod names;
mod nodes;

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
    net::{credit::Credits, outbound::Outbound},
    process::{
        AnyProcess,
        deadline::Clock,
        info::ProcessInfo,
        mailbox::Process,
        table::{Layout, Table, Telling},
    },
    reply::Calls,
    scheduler::{Executor, SchedulerHandle},
    tally::Tallies,
    trace::Tracer,
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
    /// What runs the processes; if none, the tokio runtime of who makes it.
    pub scheduler: Option<SchedulerHandle>,
    /// What records traces; if none, none are, and none are passed on.
    pub tracer: Option<Tracer>,
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
            scheduler: None,
            tracer: None,
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
    /// What may be sent to processes elsewhere.
    credits: Credits,
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
    executor: Executor,
    /// What deadlines are relative to.
    clock: Clock,
    /// What is counted on the way of messages.
    tallies: Arc<Tallies>,
    tracer: Option<Tracer>,
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
    /// A runtime whose processes run on its scheduler, or, if it has none, on the tokio runtime of the caller.
    ///
    /// # Errors
    /// When there is no scheduler, and the caller is in no tokio runtime.
    pub fn new(config: RuntimeConfig) -> Result<Self, tokio::runtime::TryCurrentError> {
        let executor = match config.scheduler {
            Some(scheduler) => Executor::Scheduler(scheduler),
            None => Executor::Tokio(Handle::try_current()?),
        };
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
            credits: Credits::default(),
            requests: Mutex::default(),
            behaviours: config.behaviours,
            uplink: OnceLock::new(),
            node_watch: Mutex::default(),
            next_number: AtomicU64::new(1),
            dead_letters: AtomicU64::new(0),
            refused_to_clients: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            executor,
            clock: Clock::start(),
            tallies: Arc::default(),
            tracer: config.tracer,
        })))
    }

    /// What records its traces, if anything does.
    #[inline]
    #[must_use]
    pub fn tracer(&self) -> Option<&Tracer> {
        self.0.tracer.as_ref()
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

    pub(crate) fn credits(&self) -> &Credits {
        &self.0.credits
    }

    pub(crate) fn requests(&self) -> &Mutex<HashMap<CallId, PendingRequest>> {
        &self.0.requests
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.0.executor
    }

    pub(crate) fn tokio(&self) -> &Handle {
        self.0.executor.tokio()
    }

    pub(crate) fn tallies(&self) -> &Arc<Tallies> {
        &self.0.tallies
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
        self.count_dead_letters(1);
    }

    pub(crate) fn count_dead_letters(&self, count: u64) {
        self.0.dead_letters.fetch_add(count, Ordering::Relaxed);
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

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Who sends what is sent on this thread.
    pub(crate) fn sender(&self) -> Serial {
        crate::process::current::with_pid(|own| own.map_or_else(|| self.own_pid().serial(), Pid::serial))
    }

    /// The process with this pid, if it lives here and takes values of `M`.
    pub(crate) fn typed<M: Message>(&self, to: &Pid) -> Option<Arc<Process<M>>> {
        self.process(to)?.as_any().downcast().ok()
    }

    /// Removes an ended process from the table. Until what this gives is dropped, a runtime that shuts down waits for what it tells.
    pub(crate) fn forget(&self, pid: &Pid) -> Option<Telling<'_>> {
        self.0.table.remove(pid.serial())
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

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({})", self.own_pid())
    }
}
