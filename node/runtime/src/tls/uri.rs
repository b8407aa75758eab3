//! The URI SAN that says what a certificate is for: `rookery://<cluster>/node`,
//! `rookery://<cluster>/client/<name>`, and `rookery://<cluster>/ca` in the development CA's own.
//! One text, one meaning: nothing is decoded, trimmed or ignored.

use std::fmt;

use rookery_protocol::ClusterName;

use super::name::ClientName;

/// Begins every URI that is ours. URIs with other schemes may stand beside it in a certificate.
const SCHEME: &str = "rookery://";

/// What the URI of a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CertificateUri {
    /// The cluster that the holder belongs to.
    pub(super) cluster: ClusterName,
    /// What the holder is there.
    pub(super) holder: Holder,
}

/// What the holder of a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A member of the mesh.
    Node,
    /// A program or a person outside the mesh.
    Client(ClientName),
    /// The CA itself, which takes part in nothing.
    Authority,
}

impl CertificateUri {
    /// Is this text meant for us? Judged without case, so that `Rookery://…` is an error rather
    /// than overlooked.
    pub(super) fn is_ours(uri: &str) -> bool {
        uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads the URI, or says what is wrong with it.
    pub(super) fn parse(uri: &str) -> Result<Self, String> {
        let expected = || "expected rookery://<cluster>/node or rookery://<cluster>/client/<name>".to_owned();
        let (cluster, holder) = uri.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or_else(expected)?;
        let cluster = ClusterName::try_from(cluster).map_err(|e| e.to_string())?;
        let holder = match (holder, holder.strip_prefix("client/")) {
            ("node", _) => Holder::Node,
            ("ca", _) => Holder::Authority,
            (_, Some(name)) => Holder::Client(ClientName::try_from(name).map_err(|e| e.to_string())?),
            _ => return Err(expected()),
        };
        Ok(Self { cluster, holder })
    }
}

impl fmt::Display for CertificateUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = &self.cluster;
        match &self.holder {
            Holder::Node => write!(f, "{SCHEME}{cluster}/node"),
            Holder::Client(name) => write!(f, "{SCHEME}{cluster}/client/{name}"),
            Holder::Authority => write!(f, "{SCHEME}{cluster}/ca"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_uri_reads_back_as_it_was_written() {
        for text in ["rookery://prod/node", "rookery://a-1/client/alice", "rookery://a/client/ci.x_1", "rookery://a/ca"]
        {
            assert_eq!(CertificateUri::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_but_the_exact_forms_is_accepted() {
        let bad = [
            "rookery://",
            "rookery:///node",
            "rookery://prod",
            "rookery://prod/",
            "rookery://prod/Node",
            "rookery://prod/node/",
            "rookery://prod/node?x",
            "rookery://prod/node#x",
            "rookery://prod//node",
            "rookery://prod/client",
            "rookery://prod/client/",
            "rookery://prod/client/a/b",
            "rookery://prod/client/..",
            "rookery://PROD/node",
            "Rookery://prod/node",
            "rookery://prod:1/node",
            "rookery://me@prod/node",
            "rookery://prod/client/%61",
            " rookery://prod/node",
            "rookery://prod/admin",
            "https://prod/node",
        ];
        for text in bad {
            assert!(CertificateUri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_scheme_in_other_case_is_ours_and_so_an_error() {
        assert!(CertificateUri::is_ours("ROOKERY://a/node"));
        assert!(!CertificateUri::is_ours("spiffe://a/node"));
        assert!(!CertificateUri::is_ours("rookery:/"));
        assert!(!CertificateUri::is_ours("rookerü://a"));
    }
}
