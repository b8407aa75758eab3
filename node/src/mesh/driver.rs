//! What the mesh of one node is made of, for those who do its work: handshakes (`handshakes.rs`), the life of each
//! peer (`life.rs`), the dialling loop (`dialler.rs`) and sessions of clients. Decisions are the arbiter's, the
//! handshake's and the book's.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_protocol::{ClusterName, NodeId};
use rookery_runtime::{Runtime, net::settings::ConnectionSettings};
use tokio::sync::{mpsc, watch};

use super::{
    arbiter::Arbiter, counts::Handshakes, credentials::Credentials, dialler::Hint, lives::Lives, peers::Peers,
    settling::Standing, troubles::Troubles,
};
use crate::{membership::driver::News, session::policy::Policy};

/// How long an end that has said no, or goodbye, waits for the other to hear it.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// What the mesh of one node is made of.
pub(crate) struct Mesh {
    pub(crate) cluster: ClusterName,
    pub(crate) runtime: Runtime,
    pub(crate) settings: ConnectionSettings,
    pub(crate) peers: Arc<Peers>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) default_policy: Policy,
    pub(crate) max_clients: usize,
    /// Where this node can be dialled, if it says so itself.
    pub(crate) advertised: Vec<SocketAddr>,
    pub(crate) listen_port: u16,
    /// What it shows and trusts.
    pub(crate) credentials: Arc<Credentials>,
    hints: mpsc::Sender<Hint>,
    news: mpsc::Sender<News>,
    /// A hint about a connection found no room: the dialling loop has to look for itself.
    missed_hint: AtomicBool,
    /// Says why this node is about to leave, once it drains: clients look for another one.
    pub(crate) draining: watch::Sender<Option<String>>,
    /// Says why this node leaves, once it does.
    pub(crate) leaving: watch::Sender<Option<String>>,
    arbiter: Mutex<Arbiter>,
    /// What was logged of connections that were refused.
    pub(super) refusals: Mutex<Troubles<(IpAddr, String)>>,
    /// What was said of newer lives of this node.
    pub(crate) lives: Arc<Lives>,
    /// How handshakes ended.
    pub(crate) handshakes: Arc<Handshakes>,
    pub(super) next_connection: AtomicU64,
    pub(super) next_session: AtomicU32,
}

/// What a new mesh needs.
pub(crate) struct MeshParts {
    pub(crate) cluster: ClusterName,
    pub(crate) runtime: Runtime,
    pub(crate) settings: ConnectionSettings,
    pub(crate) peers: Arc<Peers>,
    pub(crate) policies: Vec<Policy>,
    pub(crate) default_policy: Policy,
    pub(crate) max_clients: usize,
    pub(crate) advertised: Vec<SocketAddr>,
    pub(crate) listen_port: u16,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) hints: mpsc::Sender<Hint>,
    pub(crate) news: mpsc::Sender<News>,
}

impl Mesh {
    pub(crate) fn new(parts: MeshParts) -> Arc<Self> {
        let own = parts.runtime.node().clone();
        Arc::new(Self {
            cluster: parts.cluster,
            runtime: parts.runtime,
            settings: parts.settings,
            peers: parts.peers,
            policies: parts.policies,
            default_policy: parts.default_policy,
            max_clients: parts.max_clients,
            advertised: parts.advertised,
            listen_port: parts.listen_port,
            credentials: parts.credentials,
            hints: parts.hints,
            news: parts.news,
            missed_hint: AtomicBool::new(false),
            draining: watch::channel(None).0,
            leaving: watch::channel(None).0,
            arbiter: Mutex::new(Arbiter::new(own)),
            refusals: Mutex::default(),
            lives: Arc::default(),
            handshakes: Arc::default(),
            next_connection: AtomicU64::new(1),
            next_session: AtomicU32::new(1),
        })
    }

    pub(crate) fn own(&self) -> &NodeId {
        self.runtime.node()
    }

    pub(super) fn arbiter(&self) -> MutexGuard<'_, Arbiter> {
        self.arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the detector; what finds no room is told again.
    pub(super) fn news(&self, news: News) {
        drop(self.news.try_send(news));
    }

    /// Tells the dialling loop. What a peer says of others may be lost, and is told again; what is known of connections not.
    pub(super) fn hint(&self, hint: Hint) {
        if let Err(refused) = self.hints.try_send(hint)
            && !matches!(refused.into_inner(), Hint::Learned(_) | Hint::Newcomer(_))
        {
            self.missed_hint.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a hint about a connection found no room since this was asked last.
    pub(crate) fn has_missed_hint(&self) -> bool {
        self.missed_hint.swap(false, Ordering::Relaxed)
    }
}

impl Standing for Mesh {
    fn is_connected(&self, peer: &NodeId) -> bool {
        self.peers.all().iter().any(|connected| connected.node == *peer)
    }

    fn knows(&self, peer: &NodeId) -> bool {
        self.arbiter().knows(peer)
    }
}

/// Waits until the node is told to leave.
pub(crate) async fn told(leaving: &mut watch::Receiver<Option<String>>) -> String {
    match leaving.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        Err(_) => "shutting down".to_owned(),
    }
}
