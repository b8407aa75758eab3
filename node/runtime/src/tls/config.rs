//! Makes the TLS and QUIC configurations of an [`Identity`]: TLS 1.3 alone, both ends show a
//! certificate, our protocol in ALPN, the provider's default key exchange (X25519MLKEM768 first).
//! Neither tickets nor resumption nor 0-RTT: a resumed session would carry the peer's identity from
//! before a rotation, and 0-RTT data can be replayed. They go to the endpoint.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;

use super::identity::Identity;
use super::peer::CertificateRole;
use super::verify::{MemberVerifier, NodeVerifier};

/// The protocol in the TLS handshake (ALPN). Versions of the wire are settled in our own handshake;
/// this number changes only if that handshake itself does.
pub const ALPN: &[u8] = b"rookery/1";

/// What to give [`quinn::Endpoint::connect_with`] as server name, which wants one: it is neither
/// sent nor checked.
pub const SERVER_NAME: &str = "rookery.invalid";

/// Why no configuration can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A client cannot be dialled, so it needs no server configuration. The fault is the caller's.
    #[error(
        "the certificate is of the client \"{name}\", which cannot accept connections; a node needs a certificate of its \
             own (`rookery certs issue node NAME`)"
    )]
    NotANode {
        /// The client.
        name: super::ClientName,
    },
    /// The TLS library refuses, which with a loaded identity is our fault.
    #[error("cannot set up TLS: {reason}; this is a bug")]
    Tls {
        /// What it said.
        reason: String,
    },
}

impl Identity {
    /// For accepting: nodes and clients of the own cluster are let in, each with a certificate.
    ///
    /// # Errors
    /// [`ConfigError::NotANode`] if this is a client's identity.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, ConfigError> {
        match &self.own().role {
            CertificateRole::Node => self.server_config_of_any_role(),
            CertificateRole::Client { name } => Err(ConfigError::NotANode { name: name.clone() }),
        }
    }

    /// For accepting, whatever the role: with it tests are the client that poses as a node.
    pub(super) fn server_config_of_any_role(&self) -> Result<rustls::ServerConfig, ConfigError> {
        let verifier = MemberVerifier::new(self.own().cluster.clone(), self.anchors().clone(), self.provider().clone())
            .map_err(tls_error)?;
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider().clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls_error)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified().clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// For dialling: only a node of the own cluster is accepted at the other end. The own
    /// certificate is shown, so this also works for a client.
    ///
    /// The acceptor judges that certificate after the dialler has finished: a refusal reaches the
    /// dialler as the loss of a connection that was just made, with the reason in it.
    ///
    /// # Errors
    /// [`ConfigError::Tls`], which a loaded identity does not run into.
    pub fn client_config(&self) -> Result<rustls::ClientConfig, ConfigError> {
        let verifier = NodeVerifier::new(self.own().cluster.clone(), self.anchors().clone(), self.provider().clone());
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider().clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(tls_error)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified().clone())));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }

    /// [`Self::server_config`] for quinn.
    ///
    /// # Errors
    /// As [`Self::server_config`].
    pub fn quinn_server_config(
        &self,
        transport: Arc<quinn::TransportConfig>,
    ) -> Result<quinn::ServerConfig, ConfigError> {
        let crypto = QuicServerConfig::try_from(self.server_config()?).map_err(tls_error)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(transport);
        Ok(config)
    }

    /// An endpoint's settings, for accepting: by them a node's next life at the same address tells the peers of this one at
    /// once that it is over.
    #[must_use]
    pub fn quinn_endpoint_config(&self) -> quinn::EndpointConfig {
        match self.reset_key() {
            Some(key) => key.endpoint(self.provider().clone()),
            None => quinn::EndpointConfig::default(),
        }
    }

    /// [`Self::client_config`] for quinn.
    ///
    /// # Errors
    /// As [`Self::client_config`].
    pub fn quinn_client_config(
        &self,
        transport: Arc<quinn::TransportConfig>,
    ) -> Result<quinn::ClientConfig, ConfigError> {
        let crypto = QuicClientConfig::try_from(self.client_config()?).map_err(tls_error)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport);
        Ok(config)
    }
}

fn tls_error(error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Tls { reason: error.to_string() }
}
