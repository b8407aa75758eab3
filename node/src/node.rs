//! A node: a runtime of processes, its mesh, and the sessions of its clients, started and ended as one.
//!
//! What can be wrong with a configuration is an error of the start; what can be wrong outside (DNS, peers, the network)
//! never is. Processes and the network share the node's own threads. The incarnation is the wall clock at the start.

use std::{
    fmt, io,
    net::{Ipv6Addr, SocketAddr},
    num::NonZero,
    ops::Deref,
    sync::Arc,
    time::Duration,
};

use quinn::Endpoint;
use rookery_protocol::{ClusterName, ExitReason, Incarnation, NodeId, NodeName};
use rookery_runtime::{
    Behaviours, DEFAULT_MAX_PROCESSES, Runtime, RuntimeConfig,
    net::{settings::ConnectionSettings, socket},
    scheduler::{Scheduler, SchedulerError},
    tls::{ConfigError, Identity, IdentityUser, keep_renewed},
    trace::{Tracer, config::TraceConfig},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    Insight,
    admin::{self, AdminConfig, AdminPort, ServeError, WatchedParts, dashboard::DashboardConfig},
    discovery::{Discovery, DiscoveryConfig, DiscoveryError},
    leaving,
    membership::{self, BadDetectorSettings, DetectorSettings},
    mesh::{
        Outlived, PeerInfo,
        credentials::{Credentials, check_identity},
        dialler,
        driver::{Mesh, MeshParts},
        outlived::by_clock,
        peers::Peers,
        renewing,
    },
    session::{self, policy::Policy},
    status::Labels,
};

/// The port that a node listens on unless told.
pub const DEFAULT_PORT: u16 = 4370;

/// So that a message whose decoding takes long, on the thread that has read it, keeps no process from running.
pub const MIN_WORKER_THREADS: usize = 2;

/// How long processes have to end when a node shuts down, unless told.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Within what time connections are renewed after a certificate was, unless told: in a large mesh not all at once.
pub const DEFAULT_RENEW_WITHIN: Duration = Duration::from_secs(30);

/// How long a node that leaves waits for its last traces to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The part of the drain timeout in which processes are handed over; the rest is for those that end.
const HAND_OVER_PART: f64 = 0.6;

/// What a node is started with. Every field has a default but the name and the identity.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name; its certificate must allow it.
    pub name: NodeName,
    /// Its incarnation, which must be larger than that of each of its lives before; none: the wall clock at its start, in
    /// microseconds. To be set where the clock was wrong: see [`Node::outlived`].
    pub incarnation: Option<Incarnation>,
    /// Its certificate, key and CA; the cluster stands in it. One that was loaded from files is loaded again when they change,
    /// while the node runs.
    pub identity: Identity,
    /// Where it listens: port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others are told to dial it; none: where they see it come from, at the port that it listens on.
    pub advertise: Vec<SocketAddr>,
    /// How it finds others.
    pub discovery: DiscoveryConfig,
    /// Its connections.
    pub connections: ConnectionSettings,
    /// How patient it is with peers that are silent.
    pub detector: DetectorSettings,
    /// What it is, for placements by label (V7).
    pub labels: Labels,
    /// What can be started on it by name.
    pub behaviours: Behaviours,
    /// What clients may do: the first policy that names a client counts.
    pub policies: Vec<Policy>,
    /// What clients may do that no policy names.
    pub default_policy: Policy,
    /// How many clients it takes.
    pub max_clients: usize,
    /// How many processes it takes.
    pub max_processes: usize,
    /// Connections that were made with an identity that was renewed since are renewed within so long, each at a time of its own.
    pub renew_within: Duration,
    /// How long its processes have to end when it shuts down.
    pub drain_timeout: Duration,
    /// Its admin port; none: it has none.
    pub admin: Option<AdminConfig>,
    /// The dashboard of that.
    pub dashboard: DashboardConfig,
    /// Where traces of its calls go; none: none are recorded.
    pub traces: Option<TraceConfig>,
    /// How many of its processes may run at once; at least [`MIN_WORKER_THREADS`].
    pub worker_threads: usize,
}

impl NodeConfig {
    /// A node that listens on all addresses at a free port and looks for nobody: a cluster of one.
    #[must_use]
    pub fn new(name: NodeName, identity: Identity) -> Self {
        Self {
            name,
            incarnation: None,
            identity,
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            advertise: Vec::new(),
            discovery: DiscoveryConfig::new(DEFAULT_PORT),
            connections: ConnectionSettings::default(),
            detector: DetectorSettings::default(),
            labels: Labels::new(),
            behaviours: Behaviours::new(),
            policies: Vec::new(),
            default_policy: Policy::new("*"),
            max_clients: 10_000,
            max_processes: DEFAULT_MAX_PROCESSES,
            renew_within: DEFAULT_RENEW_WITHIN,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            admin: None,
            dashboard: DashboardConfig::default(),
            traces: None,
            worker_threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        }
    }

    /// Whether a node of this name may be started with this identity and these settings. Touches no network; [`Node::start`]
    /// begins with it.
    ///
    /// # Errors
    /// The identity is a client's, or of a node of another name; or the detector's times cannot work.
    pub fn check(&self) -> Result<(), StartError> {
        self.detector.check()?;
        check_identity(&self.name, &self.identity)
    }
}

/// Why a node cannot start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The certificate does not allow the name.
    #[error(
        "the certificate is for {}, not for a node named `{name}`: issue one (`rookery certs issue node {name}`) or set --name",
        names.join(", ")
    )]
    NameNotInCertificate {
        /// The name.
        name: NodeName,
        /// The names in the certificate.
        names: Vec<String>,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address} (UDP): {error}; is another node running there? --listen takes another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The threads that run processes and I/O.
    #[error("cannot start the node's threads: {0}")]
    Threads(#[from] SchedulerError),
    /// The admin port's address cannot be listened on.
    #[error("cannot listen on {address} (TCP) for the admin port: {error}; --admin takes another address, or `none`")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The identity.
    #[error(transparent)]
    Identity(#[from] ConfigError),
    /// The detector's times.
    #[error(transparent)]
    Detector(#[from] BadDetectorSettings),
    /// Discovery's settings.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The node's own processes.
    #[error("cannot start the node's own processes: {0}")]
    System(#[from] rookery_runtime::RequestError),
    /// Not called from a tokio runtime.
    #[error("a node is started within a tokio runtime: {0}")]
    NoTokio(#[from] tokio::runtime::TryCurrentError),
}

/// A running node. It is a [`Runtime`], and has a mesh. Dropping it ends it without a goodbye, as a crash would:
/// [`shut_down`](Self::shut_down) is the orderly way.
pub struct Node {
    runtime: Runtime,
    mesh: Arc<Mesh>,
    labels: Labels,
    endpoint: Endpoint,
    address: SocketAddr,
    drain_timeout: Duration,
    admin: Option<AdminPort>,
    // Last: what runs on it goes first.
    scheduler: Scheduler,
}

impl Node {
    /// Starts a node. Does not wait for others: a node without peers is a cluster of one, and they are looked for in the
    /// background for ever (D1). Processes run on threads of the node, within the tokio runtime of the caller: what they start
    /// there, and their sockets and timers, are that runtime's.
    ///
    /// # Errors
    /// The settings cannot work, or the address cannot be listened on.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        config.check()?;
        let transport = config.connections.transport();
        let server_config = config.identity.quinn_server_config(transport.clone())?;
        let cluster = config.identity.own().cluster.clone();
        let id = NodeId::new(config.name.clone(), config.incarnation.unwrap_or_else(by_clock));
        let admin_error =
            |error| StartError::Admin { address: config.admin.map_or(config.listen, |admin| admin.listen), error };
        let admin = config.admin.map(admin::bind).transpose().map_err(admin_error)?.flatten();
        let scheduler = Scheduler::start(config.worker_threads.max(MIN_WORKER_THREADS))?;
        let io = scheduler.io();
        let listen = |error| StartError::Listen { address: config.listen, error };
        let endpoint = {
            let _entered = io.enter();
            let endpoint_config = config.identity.quinn_endpoint_config();
            socket::endpoint(config.listen, endpoint_config, Some(server_config)).map_err(listen)?
        };
        let address = endpoint.local_addr().map_err(listen)?;
        let runtime = Runtime::new(RuntimeConfig {
            max_processes: config.max_processes,
            max_message_bytes: config.connections.max_message_bytes,
            behaviours: config.behaviours,
            scheduler: Some(scheduler.handle()),
            tracer: config.traces.map(Tracer::start).transpose()?,
            ..RuntimeConfig::new(id.clone())
        })?;
        let peers = Arc::new(Peers::new(id.clone()));
        runtime.set_uplink(peers.clone());
        let (hints, hinted) = mpsc::channel(dialler::MAX_HINTS);
        let (name, identity) = (config.name, config.identity);
        let credentials = Credentials::new(name, identity.clone(), endpoint.clone(), transport, hints.clone())?;
        let credentials = Arc::new(credentials);
        let (news, told) = mpsc::channel(membership::driver::MAX_NEWS);
        let mesh = Mesh::new(MeshParts {
            cluster,
            runtime: runtime.clone(),
            settings: config.connections,
            peers,
            policies: config.policies,
            default_policy: config.default_policy,
            max_clients: config.max_clients,
            advertised: config.advertise,
            listen_port: address.port(),
            credentials: credentials.clone(),
            hints,
            news,
        });
        runtime.node_up(&id);
        let (found, discovered) = mpsc::channel(64);
        let seed = id.incarnation().0;
        let looks_for_others = config.discovery.service.is_some() || !config.discovery.peers.is_empty();
        let discovery = {
            let _entered = io.enter();
            Discovery::start(config.discovery, seed, found)?
        };
        // Before there are peers, which tell these processes of themselves as soon as they are connected.
        runtime.start_handover()?;
        crate::status::start(&runtime, config.labels.clone())?;
        crate::supervise::keeper::start(&runtime)?;
        crate::system::start(Insight {
            runtime: runtime.clone(),
            mesh: Arc::downgrade(&mesh),
            labels: config.labels.clone(),
        })?;
        io.spawn(mesh.clone().accept_all(endpoint.clone()));
        io.spawn(keep_renewed(credentials.clone(), identity));
        io.spawn(renewing::run(mesh.clone(), config.renew_within, seed.rotate_left(32)));
        io.spawn(session::renewing::run(mesh.clone(), config.renew_within, seed.rotate_left(16)));
        io.spawn(membership::driver::run(mesh.clone(), config.detector, seed, told));
        let dialling = mesh.clone();
        io.spawn(async move {
            dialler::run(dialling, seed, discovered, hinted).await;
            drop(discovery);
        });
        tracing::info!(node = %id, listen = %address, cluster = %mesh.cluster, "node started");
        let served = admin.map(|bound| {
            let io = io.clone();
            let (runtime, peers) = (runtime.clone(), mesh.peers.clone());
            let (handshakes, lives) = (mesh.handshakes.clone(), mesh.lives.clone());
            let (listens, dashboard) = (address, config.dashboard);
            AdminPort::serve(
                bound,
                WatchedParts {
                    runtime,
                    peers,
                    lives,
                    listens,
                    looks_for_others,
                    io,
                    handshakes,
                    credentials,
                    dashboard,
                },
            )
        });
        let admin = served.transpose().map_err(|error| match error {
            ServeError::System(error) => admin_error(error),
            ServeError::Pulse(error) => StartError::System(error),
        })?;
        let (labels, drain_timeout) = (config.labels, config.drain_timeout);
        Ok(Self { runtime, mesh, labels, endpoint, address, drain_timeout, admin, scheduler })
    }

    /// Its processes.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The address that it listens on.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its admin port, if it has one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminPort::address)
    }

    /// Everything that the program starts on the node has started, if its admin port waits for that to be said
    /// ([`AdminConfig::waits_for_boot`]).
    pub fn booted(&self) {
        if let Some(admin) = &self.admin {
            admin.booted();
        }
    }

    /// Its cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.mesh.cluster
    }

    /// The nodes that it is connected with.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.mesh.peers.infos()
    }

    /// Waits until this node is found to be older than a life of its name that others have known and that has gone: its clock was
    /// behind when it started, or ahead when it started the time before. It runs, but those do not take it, and never will:
    /// shut it down, and start it again with [`NodeConfig::incarnation`] set to [`Outlived::next`]. All of its processes are new
    /// then. `rookery start` does that by itself. To do it again and again without end is not wise: two nodes of one name would
    /// take turns.
    ///
    /// Of two nodes with one name that both run the older one is never told so: the newest wins.
    pub async fn outlived(&self) -> Outlived {
        self.mesh.lives.outlived().await
    }

    /// The identity that new connections use.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.mesh.credentials.identity()
    }

    /// From now on new connections use this identity, and those that stand, with other nodes and with clients, go over to new ones within a minute.
    /// For programs that have their identity from elsewhere: files are read again by the node itself.
    ///
    /// # Errors
    /// It is of another cluster, or not this node's; the text says what to do. The one before stays.
    pub fn renew_identity(&self, identity: Identity) -> Result<(), String> {
        self.mesh.credentials.check(&identity)?;
        self.mesh.credentials.take(identity).map_err(|error| error.to_string())
    }

    /// How many connections, with nodes and clients, were made with an identity before the present one and have not been renewed yet.
    #[must_use]
    pub fn outdated(&self) -> usize {
        let (peers, current) = (&self.mesh.peers, self.mesh.credentials.version());
        let nodes = peers.all().iter().filter(|peer| peer.made_with != current).count();
        nodes + peers.clients().iter().filter(|client| client.made_with != current).count()
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.mesh.peers.client_count()
    }

    /// A handle for what asks about the node from inside one of its processes.
    #[must_use]
    pub fn insight(&self) -> Insight {
        Insight { runtime: self.runtime.clone(), mesh: Arc::downgrade(&self.mesh), labels: self.labels.clone() }
    }

    /// Ends the node in good order: takes no new processes; hands over to other nodes what supervisors there, and trees of the
    /// cluster, have here (D6); ends what is left with `Shutdown` and waits for it. All of that within the drain timeout. Then
    /// says goodbye to every peer and client, who know at once (D3).
    pub async fn shut_down(self, reason: &str) {
        tracing::info!(node = %self.runtime.node(), reason, "node leaves");
        let until = tokio::time::Instant::now() + self.drain_timeout;
        leaving::drain(&self.mesh, reason, self.drain_timeout.mul_f64(HAND_OVER_PART)).await;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        self.runtime.shut_down(ExitReason::Shutdown, left).await;
        self.mesh.leaving.send_replace(Some(reason.to_owned()));
        let tracer = self.runtime.tracer().cloned();
        let flushed = tracer.map(|tracer| tokio::spawn(async move { tracer.flush(FLUSH_TIMEOUT).await }));
        let mesh = self.mesh.clone();
        let gone = async move {
            while !mesh.peers.all().is_empty() || mesh.peers.client_count() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        drop(tokio::time::timeout(Duration::from_secs(2), gone).await);
        for peer in self.mesh.peers.all() {
            // Connections that this node has dialled have endpoints of their own.
            peer.connection.close(rookery_runtime::net::control::close_code::GOODBYE, reason.as_bytes());
        }
        self.endpoint.close(rookery_runtime::net::control::close_code::GOODBYE, reason.as_bytes());
        let endpoint = self.endpoint.clone();
        let idle = self.scheduler.io().spawn(async move { endpoint.wait_idle().await });
        drop(tokio::time::timeout(Duration::from_millis(500), idle).await);
        if let Some(flushed) = flushed {
            drop(flushed.await);
        }
    }
}

impl Drop for Node {
    // As a crash would: processes end, and what waits for a connection is let go, since nobody serves it any more.
    fn drop(&mut self) {
        self.runtime.session_lost();
        for peer in self.mesh.peers.all() {
            drop(peer.outbound.close());
        }
        for client in self.mesh.peers.clients() {
            drop(client.outbound.close());
        }
    }
}

impl Deref for Node {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({}, {})", self.runtime.node(), self.address)
    }
}
