//! Who a certificate says its holder is: the cluster, the role, and for a node the DNS names it may
//! go by. Read from the certificate alone; that the certificate is genuine was checked before, in
//! the handshake (`verify.rs`). The mesh asks [`PeerIdentity::of_connection`] after the handshake,
//! and then whether the peer may use the name that it claims.

use std::fmt;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::limits::DNS_NAME_MAX_BYTES;
use rookery_protocol::ClusterName;

use super::name::ClientName;
use super::summary::{CertificateSummary, Fingerprint};
use super::uri::Holder;

/// In which role the holder of a certificate takes part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateRole {
    /// A member of the mesh.
    Node,
    /// A program or a person outside the mesh.
    Client {
        /// By what name the cluster's policy knows it.
        name: ClientName,
    },
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The cluster that the holder belongs to.
    pub cluster: ClusterName,
    /// In which role.
    pub role: CertificateRole,
    /// The DNS SANs as they stand in the certificate; they tie a node to its name and mean nothing
    /// for a client.
    pub dns_names: Vec<String>,
    /// The certificate is not valid after this time.
    pub not_after: UnixTime,
    /// The certificate's serial number, in hex, for logs.
    pub serial: String,
    /// SHA-256 of the certificate, for logs.
    pub fingerprint: Fingerprint,
}

/// Why no identity can be read from a certificate. It is the fault of whoever issued the
/// certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are no certificate.
    #[error("the certificate cannot be read as X.509: {reason}")]
    Unreadable {
        /// What the parser said.
        reason: String,
    },
    /// No URI SAN with our scheme.
    #[error(
        "the certificate of {subject:?} has no URI rookery://<cluster>/node or rookery://<cluster>/client/<name> among \
             its subject alternative names, so it says nothing of a Rookery cluster; issue it with such a URI"
    )]
    NoUri {
        /// The subject, to find the certificate by.
        subject: String,
    },
    /// More than one URI SAN with our scheme.
    #[error(
        "the certificate has {count} rookery:// URIs; it must have exactly one, since its holder has one role in one cluster"
    )]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// A URI SAN with our scheme that says nothing we know.
    #[error("the certificate's URI {uri:?} is wrong: {reason}")]
    BadUri {
        /// The URI, shortened.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate of a CA, which takes part in nothing.
    #[error(
        "the certificate is the CA's own, which identifies no node and no client; use one that it issued \
             (`rookery certs issue`)"
    )]
    IsAuthority,
    /// The connection has no peer certificate, which our own configurations never let happen.
    #[error("the peer showed no certificate")]
    NoCertificate,
}

impl PeerIdentity {
    /// Reads the identity from a certificate in DER. It says nothing about whether the certificate
    /// is genuine.
    ///
    /// # Errors
    /// Unless there is exactly one well-formed `rookery://` URI among the subject alternative
    /// names. URIs of other schemes are ignored.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        Self::of_summary(&CertificateSummary::from_der(der)?)
    }

    /// The identity of the peer of an established connection, whose certificate the handshake has
    /// checked.
    ///
    /// # Errors
    /// As [`Self::from_der`]; with configurations made by [`super::Identity`] it does not fail,
    /// because the handshake would have.
    pub fn of_connection(connection: &quinn::Connection) -> Result<Self, IdentityError> {
        let identity = connection.peer_identity().ok_or(IdentityError::NoCertificate)?;
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| IdentityError::NoCertificate)?;
        Self::from_der(chain.first().ok_or(IdentityError::NoCertificate)?)
    }

    /// The identity that a certificate states, if it has been read already.
    ///
    /// # Errors
    /// As [`Self::from_der`].
    pub fn of_summary(summary: &CertificateSummary) -> Result<Self, IdentityError> {
        let uri = summary.uri()?;
        let role = match uri.holder {
            Holder::Node => CertificateRole::Node,
            Holder::Client(name) => CertificateRole::Client { name },
            Holder::Authority => return Err(IdentityError::IsAuthority),
        };
        Ok(Self {
            cluster: uri.cluster,
            role,
            dns_names: summary.dns_names.clone(),
            not_after: summary.not_after,
            serial: summary.serial.clone(),
            fingerprint: summary.fingerprint,
        })
    }

    /// May the holder take part as the node of this name? A client never may.
    ///
    /// A DNS SAN allows the name that equals it; a name without dots that is its first label (`a`
    /// for `a.rookery.svc`); and, if it is a wildcard `*.rest`, any name of one label and any of
    /// one label before `rest`. Case and one trailing dot do not count. So whoever holds a wildcard
    /// certificate can be any node of its domain: give each node its own where that matters.
    ///
    /// ```
    /// # use rookery_runtime::tls::{Authority, ClusterName, PeerIdentity, limits};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let authority = Authority::create(&ClusterName::try_from("prod")?)?;
    /// let issued = authority.issue_node("orders-0.rookery", &[], limits::LEAF_VALIDITY)?;
    /// let identity = rookery_runtime::tls::Identity::from_pem(&issued.ca, &issued.cert, &issued.key)?;
    /// assert!(identity.own().may_be_node("orders-0"));
    /// assert!(!identity.own().may_be_node("orders-1"));
    /// # Ok(()) }
    /// ```
    pub fn may_be_node(&self, node_name: &str) -> bool {
        self.role == CertificateRole::Node && names_allow_node(&self.dns_names, node_name)
    }
}

/// Whether a node's certificate with these DNS names allows the name `node_name`: the handshake's question.
#[must_use]
pub fn names_allow_node(dns_names: &[String], node_name: &str) -> bool {
    normalise(node_name).is_some_and(|name| dns_names.iter().any(|san| san_allows(san, &name)))
}

/// A host name in lower case without its final dot; `None` if it is not a host name.
fn normalise(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (name.len() <= DNS_NAME_MAX_BYTES && name.split('.').all(label)).then(|| name.to_ascii_lowercase())
}

/// Does one DNS SAN allow the (normalised) node name?
fn san_allows(san: &str, name: &str) -> bool {
    let (wildcard, san) = match san.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, san),
    };
    let Some(san) = normalise(san) else {
        return false;
    };
    match (wildcard, name.split_once('.')) {
        (true, None) => true,
        (true, Some((_, rest))) => rest == san,
        (false, None) => san.split('.').next() == Some(name),
        (false, Some(_)) => name == san,
    }
}

impl fmt::Display for CertificateRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Client { name } => write!(f, "client {name:?}", name = name.as_str()),
        }
    }
}

/// For logs: `node of cluster "prod" (a.rookery, certificate 1f3a5b7c)`.
impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {:?} (", self.role, self.cluster.as_str())?;
        if let Some(name) = self.dns_names.first() {
            write!(f, "{}, ", name.escape_debug())?;
        }
        write!(f, "certificate {})", self.fingerprint.short())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::tls::Authority;
    use crate::tls::limits::LEAF_VALIDITY;

    fn node_with(dns_names: &[&str]) -> PeerIdentity {
        PeerIdentity {
            cluster: ClusterName::try_from("prod").unwrap(),
            role: CertificateRole::Node,
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            not_after: UnixTime::now(),
            serial: String::new(),
            fingerprint: CertificateSummary::from_der(&authority_der()).unwrap().fingerprint,
        }
    }

    fn authority_der() -> Vec<u8> {
        use rustls::pki_types::pem::PemObject;
        let authority = Authority::create(&ClusterName::try_from("prod").unwrap()).unwrap();
        CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).unwrap().to_vec()
    }

    #[test]
    fn dns_names_tie_a_node_to_its_name() {
        let table: &[(&[&str], &str, bool)] = &[
            // The name itself, without regard to case or a final dot.
            (&["a.rookery.svc"], "a.rookery.svc", true),
            (&["A.Rookery.Svc"], "a.rookery.svc", true),
            (&["a.rookery.svc"], "A.ROOKERY.SVC.", true),
            (&["a.rookery.svc."], "a.rookery.svc", true),
            (&["a"], "a", true),
            (&["a"], "a.rookery", false),
            (&["b", "a.rookery"], "a.rookery", true),
            // A single label is the first label of a name.
            (&["a.rookery.svc"], "a", true),
            (&["a.rookery.svc"], "rookery", false),
            (&["a.rookery.svc"], "a.rookery", false),
            (&["aa.rookery"], "a", false),
            // Wildcards: any one label, alone or before the rest.
            (&["*.rookery.svc"], "a", true),
            (&["*.rookery.svc"], "a.rookery.svc", true),
            (&["*.Rookery.svc"], "A.rookery.SVC", true),
            (&["*.rookery.svc"], "a.b.rookery.svc", false),
            (&["*.rookery.svc"], "rookery.svc", false),
            (&["*.rookery.svc"], "a.rookery", false),
            (&["*.rookery.svc"], "a.xrookery.svc", false),
            // What is not a host name is nobody's.
            (&["*.rookery.svc"], "*", false),
            (&["*.rookery.svc"], "*.rookery.svc", false),
            (&["*.rookery.svc"], "", false),
            (&["*.rookery.svc"], ".", false),
            (&["*.rookery.svc"], ".rookery.svc", false),
            (&["*.rookery.svc"], "a b", false),
            (&["*"], "a", false),
            (&["*."], "a", false),
            (&["a*.rookery"], "ab.rookery", false),
            (&["a.*.svc"], "a.b.svc", false),
            (&[""], "", false),
            (&[], "a", false),
        ];
        for (sans, name, expected) in table {
            assert_eq!(node_with(sans).may_be_node(name), *expected, "{sans:?} {name:?}");
        }
    }

    #[test]
    fn a_client_is_never_a_node_whatever_its_dns_names() {
        let client = PeerIdentity {
            role: CertificateRole::Client { name: ClientName::try_from("a").unwrap() },
            ..node_with(&["a", "*.rookery"])
        };
        assert!(!client.may_be_node("a"));
    }

    #[test]
    fn the_identity_is_what_was_issued() {
        use rustls::pki_types::pem::PemObject;
        let authority = Authority::create(&ClusterName::try_from("prod").unwrap()).unwrap();
        let read =
            |pem: &str| PeerIdentity::from_der(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();

        let node = read(&authority.issue_node("a.rookery", &["*.other".into()], LEAF_VALIDITY).unwrap().cert);
        assert_eq!(node.cluster.as_str(), "prod");
        assert_eq!(node.role, CertificateRole::Node);
        assert_eq!(node.dns_names, ["a.rookery", "*.other"]);
        assert!(node.to_string().starts_with("node of cluster \"prod\" (a.rookery, certificate "), "{node}");

        let client = read(&authority.issue_client("alice", LEAF_VALIDITY).unwrap().cert);
        assert_eq!(client.role, CertificateRole::Client { name: ClientName::try_from("alice").unwrap() });
        assert!(client.dns_names.is_empty());
    }

    #[test]
    fn a_certificate_that_is_no_members_says_what_is_wrong() {
        use rcgen::SanType;
        let with_uris = |uris: &[&str]| {
            let mut params = rcgen::CertificateParams::default();
            params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
            let key = rcgen::KeyPair::generate().unwrap();
            PeerIdentity::from_der(params.self_signed(&key).unwrap().der())
        };
        assert!(
            with_uris(&["rookery://prod/node", "spiffe://prod/ns/x"]).is_ok(),
            "other schemes may stand beside ours"
        );
        assert!(matches!(with_uris(&[]), Err(IdentityError::NoUri { .. })));
        assert!(matches!(with_uris(&["https://prod/node"]), Err(IdentityError::NoUri { .. })));
        assert!(matches!(with_uris(&["rookery://prod/admin"]), Err(IdentityError::BadUri { .. })));
        assert!(matches!(with_uris(&["ROOKERY://prod/node"]), Err(IdentityError::BadUri { .. })));
        let two = with_uris(&["rookery://prod/node", "rookery://prod/client/a"]);
        assert_eq!(two, Err(IdentityError::SeveralUris { count: 2 }));
        let same_twice = with_uris(&["rookery://prod/node", "rookery://prod/node"]);
        assert_eq!(same_twice, Err(IdentityError::SeveralUris { count: 2 }));
        assert_eq!(PeerIdentity::from_der(&authority_der()), Err(IdentityError::IsAuthority));

        let garbage = [&b""[..], b"garbage", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30; 5000]];
        for bytes in garbage {
            assert!(matches!(PeerIdentity::from_der(bytes), Err(IdentityError::Unreadable { .. })));
        }
        let mut trailing = authority_der();
        trailing.push(0);
        assert!(matches!(PeerIdentity::from_der(&trailing), Err(IdentityError::Unreadable { .. })));
    }
}
