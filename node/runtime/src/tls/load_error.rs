//! Why an identity cannot be loaded, in words for whoever configured it: the file, what is wrong
//! with it, what to do. Made by `load.rs`; shown by the daemon and the command line, which end with
//! it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::limits::PEM_FILE_MAX_BYTES;
use super::peer::IdentityError;

/// Where a text came from, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a file.
    File(PathBuf),
    /// Handed over as text, and as what.
    Text(&'static str),
}

/// Why an identity cannot be loaded. It is the fault of whoever configured it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The directory is not there.
    #[error("the identity directory {} does not exist; make a CA with `rookery certs init` and an identity with \
             `rookery certs issue`, or name the right directory", dir.display())]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory has no certificate under either name.
    #[error("{} holds neither cert.pem nor tls.crt; `rookery certs issue` writes ca.pem, cert.pem and key.pem, a \
             kubernetes.io/tls Secret has ca.crt, tls.crt and tls.key", dir.display())]
    NoCertificateIn {
        /// The directory.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}, which should hold {wanted}: {source}; `rookery certs issue` writes a complete set, and the \
             process needs the right to read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file is longer than any honest one.
    #[error("{} is longer than {PEM_FILE_MAX_BYTES} bytes, so it is no PEM file of an identity; name the right file",
            path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A text is not PEM, or its PEM is damaged.
    #[error("{origin} is not valid PEM: {reason}; write it again with `rookery certs issue`")]
    BadPem {
        /// Which text.
        origin: Origin,
        /// What the parser said.
        reason: String,
    },
    /// The PEM is fine but has no such block.
    #[error("{origin} has no PEM block with {wanted}; it has {found}")]
    Nothing {
        /// Which text.
        origin: Origin,
        /// What it should hold.
        wanted: &'static str,
        /// What it has instead.
        found: String,
    },
    /// A certificate in the CA file is not a CA's.
    #[error(
        "{origin} holds the certificate of {subject:?}, which is not a CA's; it must hold the certificates of the CAs \
             whose certificates are to be trusted (were the CA's file and the own certificate's exchanged?)"
    )]
    NotAnAuthority {
        /// Which text.
        origin: Origin,
        /// The certificate's subject.
        subject: String,
    },
    /// The own certificate says no cluster and role.
    #[error("{origin} cannot serve as identity: {source}")]
    Identity {
        /// Which text.
        origin: Origin,
        /// Why not.
        source: IdentityError,
    },
    /// The key cannot be used.
    #[error("the key in {origin} cannot be used: {reason}; use an ECDSA, Ed25519 or RSA key without passphrase")]
    BadKey {
        /// Which text.
        origin: Origin,
        /// What the provider said.
        reason: String,
    },
    /// Key and certificate are of two pairs.
    #[error(
        "the key in {key} does not fit the certificate in {cert}: they were not made together; take both from the same \
             issue, or issue new ones with `rookery certs issue` (while files are being replaced this can last a moment)"
    )]
    KeyMismatch {
        /// Where the key came from.
        key: Origin,
        /// Where the certificate came from.
        cert: Origin,
    },
    /// The own certificate has expired.
    #[error(
        "the certificate in {origin} expired at {at}; issue a new one with `rookery certs issue`, or look why it was not \
             renewed"
    )]
    Expired {
        /// Which text.
        origin: Origin,
        /// Since when.
        at: String,
    },
    /// The own certificate is of the future.
    #[error("the certificate in {origin} is not valid before {at}; set this machine's clock, or issue a new one")]
    NotYetValid {
        /// Which text.
        origin: Origin,
        /// From when.
        at: String,
    },
    /// Peers would refuse the own certificate for another reason.
    #[error("peers would refuse the certificate in {origin} with the CA in {ca}: {reason}")]
    WouldBeRefused {
        /// Which text.
        origin: Origin,
        /// Where the CA came from.
        ca: Origin,
        /// What a peer would say.
        reason: String,
    },
    /// The trusted CAs cannot be used.
    #[error("the CA in {origin} cannot be used: {reason}")]
    BadAuthority {
        /// Which text.
        origin: Origin,
        /// What the TLS library said.
        reason: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Text(what) => f.write_str(what),
        }
    }
}
