//! The identity that a client shows and trusts in its next dials, and how another one takes its place while the client runs. A connection
//! that stands is then made anew (`renewing.rs`).

use std::sync::{Arc, Mutex, PoisonError};

use quinn::{ClientConfig, TransportConfig};
use rookery_runtime::{
    ClusterName,
    tls::{CertificateRole, ConfigError, Identity, IdentityUser},
};
use tokio::sync::watch;

/// See the module.
pub(crate) struct Credentials {
    cluster: ClusterName,
    /// With the name of the client, which its processes' pids and its policy hang on.
    role: CertificateRole,
    transport: Arc<TransportConfig>,
    client: Mutex<(ClientConfig, Version)>,
    /// Tells which identity it is that is used.
    version: watch::Sender<Version>,
}

/// Counts the identities that a client has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version(u64);

impl Credentials {
    pub(crate) fn new(identity: Identity, transport: Arc<TransportConfig>) -> Result<Self, ConfigError> {
        let client = Mutex::new((identity.quinn_client_config(transport.clone())?, Version::default()));
        let own = identity.own();
        Ok(Self {
            cluster: own.cluster.clone(),
            role: own.role.clone(),
            transport,
            client,
            version: watch::channel(Version::default()).0,
        })
    }

    /// For dialling.
    pub(crate) fn client_config(&self) -> (ClientConfig, Version) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells when another identity is used.
    pub(crate) fn changes(&self) -> watch::Receiver<Version> {
        self.version.subscribe()
    }
}

impl IdentityUser for Credentials {
    fn check(&self, new: &Identity) -> Result<(), String> {
        let own = new.own();
        if own.cluster == self.cluster && own.role == self.role {
            return Ok(());
        }
        let (role, cluster) = (&self.role, &self.cluster);
        Err(format!("the certificate is of {own}, and this is {role} of cluster `{cluster}`; issue one for that"))
    }

    fn take(&self, identity: Identity) -> Result<(), ConfigError> {
        let client = identity.quinn_client_config(self.transport.clone())?;
        let mut used = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let version = Version(used.1.0 + 1);
        *used = (client, version);
        // Under the lock: of two at a time the later one is told of last.
        self.version.send_replace(version);
        Ok(())
    }
}
