//! Who a peer is: certificates, the TLS configurations made of them, and a CA for development.
//!
//! Every connection is mutually authenticated TLS 1.3 (contract row D4). A certificate says in one URI SAN which cluster
//! its holder belongs to and in which role; nothing else is trusted, least of all the address that was dialled: that is a
//! pod's IP from a headless Service, so it is never matched against the certificate. What is checked instead, inside
//! the handshake, is the chain to our CA, the cluster, and, by the dialler, the role.
//!
//! ```text
//! ca.pem, cert.pem, key.pem ─▶ Identity ─▶ server_config / client_config ─▶ quinn ─▶ PeerIdentity::of_connection
//!        ▲                      (checked)        (NodeVerifier, MemberVerifier)          (who is at the other end)
//!     Authority (development) or cert-manager
//! ```
//!
//! An [`Identity`] never changes: to take up renewed files, load a new one and hand its configurations to the endpoint.
//! Connections that stand keep the old one; there is no resumption, so every new connection shows the new one.

mod authority;
mod config;
mod files;
mod identity;
mod issued;
pub mod limits;
mod load;
mod name;
mod peer;
mod summary;
mod uri;
mod verify;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod load_tests;

pub use authority::{Authority, AuthorityError};
pub use config::{ALPN, ConfigError, SERVER_NAME};
pub use files::{Overwrite, WriteError};
pub use identity::Identity;
pub use issued::IssuedPem;
pub use load::{LoadError, Origin};
pub use name::{ClientName, ClusterName, NameError};
pub use peer::{CertificateRole, IdentityError, PeerIdentity};
pub use summary::{CertificateSummary, Fingerprint, utc_text};
