//! Loads an identity and checks it as a peer would: the PEM is whole, the key fits the certificate,
//! the chain leads to a CA of ours, it is valid now, and it says a cluster and a role. What is
//! wrong with an identity is so told at start, to whoever configured it, and not by every peer in
//! turn. Files go in, an [`Identity`] comes out; `now` is an argument.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};

use super::identity::Identity;
use super::limits::PEM_FILE_MAX_BYTES;
use super::load_error::{LoadError, Origin};
use super::peer::{CertificateRole, IdentityError, PeerIdentity};
use super::reset::ResetKey;
use super::source::{IdentityFiles, Text, Texts};
use super::summary::CertificateSummary;
use super::verify::{MemberVerifier, NodeVerifier, Refusal, TrustAnchors};

/// The files of an identity, in the order CA, certificate, key: as `rookery certs issue` writes
/// them, and as a `kubernetes.io/tls` Secret has them.
const FILE_NAMES: [[&str; 3]; 2] = [["ca.pem", "cert.pem", "key.pem"], ["ca.crt", "tls.crt", "tls.key"]];

pub(super) fn from_files(files: IdentityFiles, now: UnixTime) -> Result<Identity, LoadError> {
    assemble(files.read()?, Some(files), now)
}

/// Which set of names a directory uses: the one whose certificate is there. Sets are never mixed.
pub(super) fn file_names_in(dir: &Path) -> Option<[&'static str; 3]> {
    FILE_NAMES.into_iter().find(|[_, cert, _]| dir.join(cert).exists())
}

pub(super) fn from_pem(ca: &str, cert: &str, key: &str, now: UnixTime) -> Result<Identity, LoadError> {
    let text = |what, pem: &str| (Origin::Text(what), pem.as_bytes().to_vec());
    let (ca, cert, key) = (text("the CA's PEM", ca), text("the certificate's PEM", cert), text("the key's PEM", key));
    assemble(Texts { ca, cert, key }, None, now)
}

/// The certificates in a PEM file or in an identity's directory: own chain first, then CAs. For
/// showing; nothing is checked.
pub(super) fn certificates_at(path: &Path) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, LoadError> {
    let files = if path.is_dir() {
        let own = file_names_in(path).map(|[ca, cert, _]| vec![path.join(cert), path.join(ca)]);
        let files = own.unwrap_or_else(|| FILE_NAMES.iter().map(|[ca, ..]| path.join(ca)).collect());
        files.into_iter().filter(|file| file.exists()).collect()
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        return Err(LoadError::NoCertificateIn { dir: path.to_owned() });
    }
    let mut found = Vec::new();
    for file in files {
        let text = read_pem(&file, "a certificate")?;
        let certificates = certificates(&Origin::File(file.clone()), &text)?;
        found.extend(certificates.into_iter().map(|certificate| (file.clone(), certificate)));
    }
    Ok(found)
}

/// Checks the texts; they stand in these files, if in any.
pub(super) fn assemble(texts: Texts, files: Option<IdentityFiles>, now: UnixTime) -> Result<Identity, LoadError> {
    let files = files.map(|files| (files, texts.fingerprint()));
    let Texts { ca, cert, key } = texts;
    let mut provider = aws_lc_rs::default_provider();
    // Whoever dials proposes this first: a little faster than AES-256, and its SHA-256 than SHA-384 in the handshake.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let anchors = trust_anchors(&ca.0, certificates(&ca.0, &ca.1)?)?;
    let chain = certificates(&cert.0, &cert.1)?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&key.1).map_err(|error| pem_error(&key, error, "an unencrypted key"))?;

    let own =
        chain.first().map_or(Err(IdentityError::NoCertificate), |certificate| PeerIdentity::from_der(certificate));
    let own = own.map_err(|source| LoadError::Identity { origin: cert.0.clone(), source })?;
    let reset_key = ResetKey::derive(key_der.secret_der());
    let key_provider = provider.key_provider.load_private_key(key_der);
    let signing_key = key_provider.map_err(|e| LoadError::BadKey { origin: key.0.clone(), reason: e.to_string() })?;
    let certified = CertifiedKey::new(chain, signing_key);
    certified.keys_match().map_err(|_| LoadError::KeyMismatch { key: key.0, cert: cert.0.clone() })?;
    check_as_a_peer_would(&certified, &own, (&ca.0, &anchors), &cert.0, &provider, now)?;
    Ok(Identity::new(certified, reset_key, anchors, own, provider, files))
}

/// Runs the verifiers of the other side on the own certificate: a node is both dialled and dials, a
/// client only dials.
fn check_as_a_peer_would(
    certified: &CertifiedKey,
    own: &PeerIdentity,
    (ca, anchors): (&Origin, &TrustAnchors),
    cert: &Origin,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<(), LoadError> {
    let Some((end_entity, intermediates)) = certified.cert.split_first() else {
        return Ok(());
    };
    let as_dialler = MemberVerifier::new(own.cluster.clone(), anchors.clone(), provider.clone())
        .map_err(|e| LoadError::BadAuthority { origin: ca.clone(), reason: e.to_string() })?
        .check(end_entity, intermediates, now);
    let verdict = as_dialler.and_then(|()| match own.role {
        CertificateRole::Client { .. } => Ok(()),
        CertificateRole::Node => NodeVerifier::new(own.cluster.clone(), anchors.clone(), provider.clone()).check(
            end_entity,
            intermediates,
            now,
        ),
    });
    verdict.map_err(|refusal| {
        let origin = cert.clone();
        match refusal {
            Refusal::Expired { at, .. } => LoadError::Expired { origin, at },
            Refusal::NotYetValid { at, .. } => LoadError::NotYetValid { origin, at },
            other => LoadError::WouldBeRefused { origin, ca: ca.clone(), reason: other.to_string() },
        }
    })
}

fn trust_anchors(origin: &Origin, certificates: Vec<CertificateDer<'static>>) -> Result<TrustAnchors, LoadError> {
    let mut store = RootCertStore::empty();
    let mut subjects = Vec::new();
    let mut not_after = UnixTime::since_unix_epoch(Duration::ZERO);
    for certificate in certificates {
        let unusable = |reason: String| LoadError::BadAuthority { origin: origin.clone(), reason };
        let summary = CertificateSummary::from_der(&certificate).map_err(|e| unusable(e.to_string()))?;
        if !summary.is_ca {
            return Err(LoadError::NotAnAuthority { origin: origin.clone(), subject: summary.subject });
        }
        store.add(certificate).map_err(|e| unusable(e.to_string()))?;
        subjects.push(summary.subject);
        not_after = not_after.max(summary.not_after);
    }
    Ok(TrustAnchors { store: Arc::new(store), subjects: subjects.join(" or "), not_after })
}

/// All certificates of a PEM text, of which there is at least one.
fn certificates(origin: &Origin, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let source = (origin.clone(), text.to_vec());
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error(&source, error, "a certificate"))?;
    if certificates.is_empty() {
        return Err(pem_error(&source, pem::Error::NoItemsFound, "a certificate"));
    }
    Ok(certificates)
}

fn pem_error((origin, text): &Text, error: pem::Error, wanted: &'static str) -> LoadError {
    let origin = origin.clone();
    if !matches!(error, pem::Error::NoItemsFound) {
        return LoadError::BadPem { origin, reason: error.to_string() };
    }
    let text = String::from_utf8_lossy(text);
    let mut blocks: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")).collect();
    blocks.dedup();
    let found = if blocks.is_empty() { "none at all".to_owned() } else { super::name::shorten(&blocks.join(", ")) };
    LoadError::Nothing { origin, wanted, found }
}

/// Reads a file of at most [`PEM_FILE_MAX_BYTES`].
pub(super) fn read_pem(path: &Path, wanted: &'static str) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Read { path: path.to_owned(), wanted, source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = Vec::new();
    file.take(PEM_FILE_MAX_BYTES + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PEM_FILE_MAX_BYTES {
        return Err(LoadError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}
