//! Who a peer is: certificates, the TLS configurations made of them, and a CA for development.
//!
//! Every connection is mutually authenticated TLS 1.3 (contract row D4). A certificate says in one
//! URI SAN which cluster its holder belongs to and in which role; nothing else is trusted, least of
//! all the address that was dialled: that is a pod's IP from a headless Service, so it is never
//! matched against the certificate. What is checked instead, inside the handshake, is the chain to
//! our CA, the cluster, and, by the dialler, the role.
//!
//! ```text
//!     Authority (development), cert-manager
//!        │
//! ca.pem, cert.pem, key.pem ─▶ Identity ─▶ server_config, client_config ─▶ quinn
//!                              (checked)   (MemberVerifier, NodeVerifier)    │
//!                                          who is at the other end ◀─ PeerIdentity::of_connection
//! ```
//!
//! An [`Identity`] never changes: when its files do, a new one is loaded and its configurations are handed to the endpoint
//! (`renewal.rs`). Connections that stand keep the old one; there is no resumption, so every new connection shows the new one.

mod authority;
mod authority_error;
mod config;
mod files;
mod identity;
mod issued;
pub mod limits;
mod load;
mod load_error;
mod name;
mod peer;
mod renewal;
mod reset;
mod source;
mod summary;
mod uri;
mod verify;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod session_tests;

pub use authority::Authority;
pub use authority_error::AuthorityError;
pub use config::{ALPN, ConfigError, SERVER_NAME};
pub use files::{Overwrite, WriteError};
pub use identity::Identity;
pub use issued::IssuedPem;
pub use load_error::{LoadError, Origin};
pub use name::{ClientName, NameError};
pub use peer::{CertificateRole, IdentityError, PeerIdentity, names_allow_node};
pub use renewal::{IdentityUser, keep_renewed};
pub use rookery_protocol::ClusterName;
pub use rustls::pki_types::UnixTime;
pub use summary::{CertificateSummary, Fingerprint, rfc3339};
