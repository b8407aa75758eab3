//! The identity that a node shows and trusts in new handshakes, dialled and accepted, and how another one takes its place while
//! the node runs. Connections that stand are made anew (`renewing.rs`, and of clients `session/renewing.rs`).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use quinn::{Endpoint, TransportConfig};
use rookery_protocol::{ClusterName, NodeName};
use rookery_runtime::tls::{ConfigError, Identity, IdentityUser};
use tokio::sync::{mpsc, watch};

use super::dialler::Hint;
use crate::node::StartError;

/// See the module.
pub(crate) struct Credentials {
    name: NodeName,
    cluster: ClusterName,
    /// Accepts; what it shows and trusts changes with the identity.
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    used: Mutex<Used>,
    /// Tells which it is that is used.
    version: watch::Sender<Version>,
    /// The identity's files hold something that cannot be used.
    refusing: AtomicBool,
    hints: mpsc::Sender<Hint>,
}

/// Counts the identities that a node has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version(u64);

struct Used {
    identity: Identity,
    version: Version,
    /// Made of it, for dialling.
    client: quinn::ClientConfig,
}

/// Whether a node of this name can be started with this identity.
///
/// # Errors
/// It is a client's, or of a node of another name.
pub(crate) fn check_identity(name: &NodeName, identity: &Identity) -> Result<(), StartError> {
    // First: a client's certificate has no names that the next complaint could list.
    identity.server_config()?;
    let own = identity.own();
    if own.may_be_node(name.as_str()) {
        return Ok(());
    }
    Err(StartError::NameNotInCertificate { name: name.clone(), names: own.dns_names.clone() })
}

impl Credentials {
    /// Those of a node that starts; `endpoint` has its configuration already.
    pub(crate) fn new(
        name: NodeName,
        identity: Identity,
        endpoint: Endpoint,
        transport: Arc<TransportConfig>,
        hints: mpsc::Sender<Hint>,
    ) -> Result<Self, ConfigError> {
        let client = identity.quinn_client_config(transport.clone())?;
        let cluster = identity.own().cluster.clone();
        let used = Mutex::new(Used { identity, client, version: Version::default() });
        let version = watch::channel(Version::default()).0;
        Ok(Self { name, cluster, endpoint, transport, used, version, refusing: AtomicBool::new(false), hints })
    }

    /// The identity that new connections use.
    pub(crate) fn identity(&self) -> Identity {
        self.used().identity.clone()
    }

    /// For dialling.
    pub(crate) fn client_config(&self) -> (quinn::ClientConfig, Version) {
        let used = self.used();
        (used.client.clone(), used.version)
    }

    /// Which identity is used.
    pub(crate) fn version(&self) -> Version {
        self.used().version
    }

    /// Tells when another one is.
    pub(crate) fn changes(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }

    /// Whether the identity's files hold something that cannot be used.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IdentityUser for Credentials {
    fn check(&self, new: &Identity) -> Result<(), String> {
        check_identity(&self.name, new).map_err(|error| error.to_string())?;
        let (is, was) = (&new.own().cluster, &self.cluster);
        if is == was {
            return Ok(());
        }
        Err(format!("the certificate is of cluster `{is}`, and this node runs in `{was}`; issue one for that"))
    }

    fn take(&self, identity: Identity) -> Result<(), ConfigError> {
        let server = identity.quinn_server_config(self.transport.clone())?;
        let client = identity.quinn_client_config(self.transport.clone())?;
        // Under the lock: two at a time must not leave one of each.
        let mut used = self.used();
        let version = Version(used.version.0 + 1);
        self.endpoint.set_server_config(Some(server));
        *used = Used { identity, client, version };
        // Of two, the later one is told of last.
        self.version.send_replace(version);
        drop(used);
        // Who refused the old one may take the new one. Should there be no room, they are dialled again anyway, later.
        drop(self.hints.try_send(Hint::Renewed));
        Ok(())
    }

    fn refusing(&self, is_so: bool) {
        self.refusing.store(is_so, Ordering::Relaxed);
    }
}
