//! The identity that a client shows and trusts in its next dials, and how another one takes its place while the client runs.

use std::sync::{Arc, Mutex, PoisonError};

use quinn::{ClientConfig, TransportConfig};
use rookery_runtime::{
    ClusterName,
    tls::{CertificateRole, ConfigError, Identity, IdentityUser},
};

/// See the module.
pub(crate) struct Credentials {
    cluster: ClusterName,
    /// With the name of the client, which its processes' pids and its policy hang on.
    role: CertificateRole,
    transport: Arc<TransportConfig>,
    client: Mutex<ClientConfig>,
}

impl Credentials {
    pub(crate) fn new(identity: Identity, transport: Arc<TransportConfig>) -> Result<Self, ConfigError> {
        let client = Mutex::new(identity.quinn_client_config(transport.clone())?);
        let own = identity.own();
        Ok(Self { cluster: own.cluster.clone(), role: own.role.clone(), transport, client })
    }

    /// For dialling.
    pub(crate) fn client_config(&self) -> ClientConfig {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
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
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
    }
}
