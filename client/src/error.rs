//! Why there is no client.

use std::{io, time::Duration};

use rookery_runtime::tls::ConfigError;
use thiserror::Error;

/// Why a client is not connected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No node took it in time.
    #[error("no node could be reached within {waited:?}; {tried}")]
    Unreachable {
        /// How long it was tried.
        waited: Duration,
        /// What was tried last, and what came of it.
        tried: String,
    },
    /// There is nowhere to look.
    #[error("no server is given: name one, as `127.0.0.1:4370` or the DNS name of the Service")]
    NoServers,
    /// The identity.
    #[error(transparent)]
    Identity(#[from] ConfigError),
    /// The certificate is a node's.
    #[error("the certificate is a node's; a client needs one of its own: `rookery certs issue client NAME`")]
    NotAClient,
    /// A name in the certificate.
    #[error(transparent)]
    Name(#[from] rookery_runtime::protocol::ParseIdError),
    /// The system gives no thread.
    #[error("cannot start the I/O thread: {0}")]
    Thread(io::Error),
    /// Not called from a tokio runtime.
    #[error("a client is made within a tokio runtime: {0}")]
    NoTokio(#[from] tokio::runtime::TryCurrentError),
    /// The client was closed meanwhile.
    #[error("the client was closed")]
    Closed,
}
