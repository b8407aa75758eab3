//! The own identity of a node or client: certificate chain, key and trusted CAs, checked together
//! once when it is loaded, so that what loads is what peers accept. It comes from three PEM texts
//! or files (see `load.rs` for how) and goes into the TLS configurations (`config.rs`). It is
//! immutable and cheap to clone.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use super::load;
use super::load_error::LoadError;
use super::peer::PeerIdentity;
use super::reset::ResetKey;
use super::source::IdentityFiles;
use super::summary::Fingerprint;
use super::verify::TrustAnchors;

/// The own certificate chain, key and trusted CAs.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    /// The chain, own certificate first, and its key; they are known to fit.
    certified: Arc<CertifiedKey>,
    /// The CAs whose certificates are accepted; the own one leads to one of them.
    anchors: TrustAnchors,
    /// For endpoints, derived from the key; none if that could not be done.
    reset_key: Option<ResetKey>,
    /// What the own certificate says.
    own: PeerIdentity,
    /// The one provider of cryptography, passed on explicitly: no process-wide default is installed
    /// or read.
    provider: Arc<CryptoProvider>,
    /// Where it stands, and by what it is told from what will stand there later; none if it came as text.
    files: Option<(IdentityFiles, Fingerprint)>,
}

impl Identity {
    /// Loads `ca.pem`, `cert.pem` and `key.pem` of a directory, or `ca.crt`, `tls.crt` and
    /// `tls.key` as a mounted `kubernetes.io/tls` Secret has them; the first three win if both are
    /// there. Reads files, so it can wait for the disk. A node or client that uses it reads them again every two seconds, and
    /// takes up what has changed.
    ///
    /// # Errors
    /// Each names the file, what is wrong and what to do; see [`LoadError`].
    pub fn from_dir(dir: &Path) -> Result<Self, LoadError> {
        load::from_files(IdentityFiles::Directory(dir.to_owned()), UnixTime::now())
    }

    /// Loads three PEM files: trusted CAs (one or more), own chain (own certificate first), and own
    /// key.
    ///
    /// # Errors
    /// As [`Self::from_dir`].
    pub fn from_files(ca: &Path, cert: &Path, key: &Path) -> Result<Self, LoadError> {
        let [ca, cert, key] = [ca, cert, key].map(Path::to_owned);
        load::from_files(IdentityFiles::Each { ca, cert, key }, UnixTime::now())
    }

    /// Takes three PEM texts: trusted CAs (one or more), own chain (own certificate first), and own
    /// key.
    ///
    /// # Errors
    /// As [`Self::from_dir`].
    pub fn from_pem(ca: &str, cert: &str, key: &str) -> Result<Self, LoadError> {
        load::from_pem(ca, cert, key, UnixTime::now())
    }

    /// What the own certificate says: cluster, role, DNS names, and until when.
    pub fn own(&self) -> &PeerIdentity {
        &self.inner.own
    }

    /// Until when there is a trusted CA: that of the last one to expire, since an old one may stand beside a new one.
    pub fn authorities_not_after(&self) -> UnixTime {
        self.inner.anchors.not_after
    }

    pub(super) fn new(
        certified: CertifiedKey,
        reset_key: Option<ResetKey>,
        anchors: TrustAnchors,
        own: PeerIdentity,
        provider: Arc<CryptoProvider>,
        files: Option<(IdentityFiles, Fingerprint)>,
    ) -> Self {
        Self { inner: Arc::new(Inner { certified: Arc::new(certified), reset_key, anchors, own, provider, files }) }
    }

    pub(super) fn files(&self) -> Option<&(IdentityFiles, Fingerprint)> {
        self.inner.files.as_ref()
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.inner.certified
    }

    pub(super) fn reset_key(&self) -> Option<&ResetKey> {
        self.inner.reset_key.as_ref()
    }

    pub(super) fn anchors(&self) -> &TrustAnchors {
        &self.inner.anchors
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.inner.provider
    }
}

/// Whose it is, never the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.inner.own)
    }
}
