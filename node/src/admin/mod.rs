//! The admin port: HTTP for whoever runs the node, apart from where nodes and clients connect. It answers probes, gives
//! metrics, shows the dashboard, and changes nothing.
//!
//! ```text
//! kubelet, Prometheus, browser ──TCP──▶ serving ─▶ routes ─┬─▶ probes  (pure)
//!                                                          ├─▶ pulse ──▶ a process of the node, the I/O thread
//!                                                          ├─▶ metrics ─▶ what is counted and known
//!                                                          └─▶ dashboard ─▶ rookery:node of each node
//! ```
//! It has a thread of its own. Where processes run nothing may run any more, or the I/O thread may be stuck: that is what it has
//! to tell.

pub mod dashboard;
mod doors;
pub mod limits;
mod metrics;
mod probes;
mod pulse;
mod routes;
mod serving;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rookery_runtime::{ClusterName, RequestError, Runtime, net::io_thread::IoThread};
use tokio::{runtime::Handle, time::MissedTickBehavior};

use crate::mesh::{counts::Handshakes, credentials::Credentials, lives::Lives, peers::Peers};
use dashboard::{Dashboard, DashboardConfig};
use limits::BEAT_EVERY;
use metrics::Metrics;
use probes::{Facts, Probe};
use pulse::Pulse;

/// The port unless told.
pub const DEFAULT_ADMIN_PORT: u16 = 9470;

/// How a node's admin port is opened. There is no TLS and no password on it: it is for the node's own machine, or for the
/// network of a cluster that is closed to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens (TCP); port 0 takes a free one.
    pub listen: SocketAddr,
    /// Without it the node does not start. Otherwise a port that another program has is a line in the log.
    pub required: bool,
    /// The node counts as started once [`Node::booted`](crate::Node::booted) was called, and not as soon as it listens.
    pub waits_for_boot: bool,
}

impl AdminConfig {
    /// A port that is needed, of a node that is started as soon as it listens.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, required: true, waits_for_boot: false }
    }
}

/// What the port tells of.
pub(crate) struct Watched {
    runtime: Runtime,
    peers: Arc<Peers>,
    lives: Arc<Lives>,
    /// Where nodes and clients connect.
    listens: SocketAddr,
    /// Whether the node was told to look for others.
    looks_for_others: bool,
    booted: AtomicBool,
    pulse: Pulse,
    cluster: ClusterName,
    handshakes: Arc<Handshakes>,
    credentials: Arc<Credentials>,
    metrics: Metrics,
    dashboard: Dashboard,
}

/// What a port is told of its node.
pub(crate) struct WatchedParts {
    pub(crate) runtime: Runtime,
    pub(crate) peers: Arc<Peers>,
    pub(crate) lives: Arc<Lives>,
    pub(crate) listens: SocketAddr,
    pub(crate) looks_for_others: bool,
    pub(crate) io: Handle,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) dashboard: DashboardConfig,
}

impl Watched {
    async fn facts(&self, probe: Probe) -> Facts {
        let beat = match probe {
            Probe::Live | Probe::Ready => Some(self.pulse.beat().await),
            Probe::Startup => None,
        };
        Facts {
            listens: self.listens,
            booted: self.booted.load(Ordering::Relaxed),
            peers: self.peers.all().len(),
            has_joined: self.peers.has_joined(),
            taken_for_older: self.lives.taken_for_older(),
            looks_for_others: self.looks_for_others,
            draining: self.runtime.is_draining(),
            beat,
        }
    }
}

/// An address that is listened on, and not served yet.
pub(crate) struct Bound {
    listener: TcpListener,
    config: AdminConfig,
}

/// Takes the address. `None` if another program has it, and it is not required.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn bind(config: AdminConfig) -> io::Result<Option<Bound>> {
    match TcpListener::bind(config.listen) {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            Ok(Some(Bound { listener, config }))
        }
        Err(error) if !config.required => {
            tracing::warn!(address = %config.listen, %error, "no admin port; --admin takes another address, or `none`");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A port that is served. Dropping it ends it, with all connections.
pub(crate) struct AdminPort {
    address: SocketAddr,
    watched: Arc<Watched>,
    _thread: IoThread,
}

/// Why a port is not served.
pub(crate) enum ServeError {
    /// The system gives no thread, or the socket is gone.
    System(io::Error),
    /// The process that answers cannot be started.
    Pulse(RequestError),
}

impl AdminPort {
    /// Serves a port.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub(crate) fn serve(bound: Bound, parts: WatchedParts) -> Result<Self, ServeError> {
        let Bound { listener, config } = bound;
        let address = listener.local_addr().map_err(ServeError::System)?;
        let thread = IoThread::start("rookery-admin").map_err(ServeError::System)?;
        let watched = Arc::new(Watched {
            pulse: Pulse::start(&parts.runtime, parts.io).map_err(ServeError::Pulse)?,
            runtime: parts.runtime,
            peers: parts.peers,
            lives: parts.lives,
            listens: parts.listens,
            looks_for_others: parts.looks_for_others,
            booted: AtomicBool::new(!config.waits_for_boot),
            cluster: parts.credentials.identity().own().cluster.clone(),
            handshakes: parts.handshakes,
            credentials: parts.credentials,
            metrics: Metrics::default(),
            dashboard: Dashboard::new(parts.dashboard),
        });
        let listener = {
            let _entered = thread.handle().enter();
            tokio::net::TcpListener::from_std(listener).map_err(ServeError::System)?
        };
        thread.handle().spawn(watch_lag(watched.clone()));
        thread.handle().spawn(dashboard::keep_history(watched.clone()));
        thread.handle().spawn(serving::serve(listener, routes::routes(watched.clone())));
        tracing::info!(%address, "admin port open");
        Ok(Self { address, watched, _thread: thread })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn booted(&self) {
        self.watched.booted.store(true, Ordering::Relaxed);
    }
}

/// Keeps the lag, also while nobody probes.
async fn watch_lag(watched: Arc<Watched>) {
    let mut ticks = tokio::time::interval(BEAT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let beat = watched.pulse.beat().await;
        watched.metrics.observe(&beat);
    }
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
