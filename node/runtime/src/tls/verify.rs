//! Decides inside the TLS handshake whether a peer is let in. The dialler accepts nodes of its own
//! cluster, the acceptor nodes and clients of its own cluster, each with a certificate that leads
//! to a CA that is trusted here. The name or address that was dialled plays no part: it is a hint
//! from discovery. A refusal says what is wrong in one sentence without "my" and "your", because
//! quinn sends it to the other end in the closing packet and both ends log it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use rookery_protocol::ClusterName;

use super::name::{ClientName, shorten};
use super::peer::{CertificateRole, IdentityError, PeerIdentity};
use super::summary::{CertificateSummary, rfc3339};

/// The CAs that are trusted.
#[derive(Clone, Debug)]
pub(super) struct TrustAnchors {
    /// What chains are verified against; never empty.
    pub(super) store: Arc<RootCertStore>,
    /// The CAs' distinguished names, for errors.
    pub(super) subjects: String,
    /// When the last of them expires.
    pub(super) not_after: UnixTime,
}

/// Why a peer is refused in the handshake. It is the peer's fault, or that of whoever configured
/// one of the two.
#[derive(Clone, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "{whose} certificate was not issued by a CA that the other end trusts: its issuer is {issuer:?}, \
             trusted is {trusted:?}; give both ends certificates and ca.pem of the same CA"
    )]
    UnknownIssuer { whose: Whose, issuer: String, trusted: String },
    #[error("{whose} certificate expired at {at}; renew it")]
    Expired { whose: Whose, at: String },
    #[error("{whose} certificate is not valid before {at}; compare the clocks of both ends")]
    NotYetValid { whose: Whose, at: String },
    #[error(
        "{whose} certificate may not be used for that: its extended key usage lacks {lacks} (a node needs serverAuth \
             and clientAuth, a client clientAuth)"
    )]
    Purpose { whose: Whose, lacks: &'static str },
    #[error("{whose} certificate is not valid: {source}")]
    Chain { whose: Whose, source: Error },
    #[error("{whose} certificate is refused: {source}")]
    Identity { whose: Whose, source: IdentityError },
    #[error("{whose} certificate is of cluster \"{theirs}\", the other end is of cluster \"{ours}\"")]
    Cluster { whose: Whose, theirs: ClusterName, ours: ClusterName },
    #[error("{whose} certificate is of the client \"{name}\"; only a node may be dialled")]
    NotANode { whose: Whose, name: ClientName },
}

/// Whose certificate is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of the end which dialled.
    Dialler,
    /// That of the end which was dialled.
    Dialled,
}

/// What both verifiers do after the chain is known to be good.
#[derive(Clone, Debug)]
struct Membership {
    cluster: ClusterName,
    anchors: TrustAnchors,
    provider: Arc<CryptoProvider>,
}

/// The dialler's verifier: the peer must be a node of the cluster.
#[derive(Debug)]
pub(super) struct NodeVerifier(Membership);

/// The acceptor's verifier: the peer must be a node or a client of the cluster. A peer without
/// certificate is refused.
#[derive(Debug)]
pub(super) struct MemberVerifier {
    membership: Membership,
    /// Verifies the chain; it is rustls's own.
    chain: Arc<dyn ClientCertVerifier>,
}

impl NodeVerifier {
    pub(super) fn new(cluster: ClusterName, anchors: TrustAnchors, provider: Arc<CryptoProvider>) -> Self {
        Self(Membership { cluster, anchors, provider })
    }

    /// Judges a dialled end's chain. Sans-IO: `now` is an argument.
    pub(super) fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let membership = &self.0;
        let algorithms = membership.provider.signature_verification_algorithms.all;
        ParsedCertificate::try_from(end_entity)
            .and_then(|certificate| {
                let roots = &membership.anchors.store;
                verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)
            })
            .map_err(|error| membership.chain_refusal(Whose::Dialled, end_entity, error))?;
        match membership.identity(Whose::Dialled, end_entity)?.role {
            CertificateRole::Node => Ok(()),
            CertificateRole::Client { name } => Err(Refusal::NotANode { whose: Whose::Dialled, name }),
        }
    }
}

impl MemberVerifier {
    pub(super) fn new(
        cluster: ClusterName,
        anchors: TrustAnchors,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, rustls::server::VerifierBuilderError> {
        let chain =
            rustls::server::WebPkiClientVerifier::builder_with_provider(anchors.store.clone(), provider.clone())
                .build()?;
        Ok(Self { membership: Membership { cluster, anchors, provider }, chain })
    }

    /// Judges a dialler's chain. Sans-IO: `now` is an argument.
    pub(super) fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        self.chain
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| self.membership.chain_refusal(Whose::Dialler, end_entity, error))?;
        self.membership.identity(Whose::Dialler, end_entity).map(|_| ())
    }
}

impl Membership {
    /// The identity in a certificate whose chain is good, if it is of our cluster.
    fn identity(&self, whose: Whose, certificate: &CertificateDer<'_>) -> Result<PeerIdentity, Refusal> {
        let identity = PeerIdentity::from_der(certificate).map_err(|source| Refusal::Identity { whose, source })?;
        if identity.cluster != self.cluster {
            return Err(Refusal::Cluster { whose, theirs: identity.cluster, ours: self.cluster.clone() });
        }
        Ok(identity)
    }

    /// Puts rustls's verdict on a chain into words. It is only words: the peer is refused in any
    /// case.
    fn chain_refusal(&self, whose: Whose, certificate: &CertificateDer<'_>, error: Error) -> Refusal {
        let Error::InvalidCertificate(kind) = &error else {
            return Refusal::Chain { whose, source: error };
        };
        match kind {
            // Another CA under the same distinguished name shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownIssuer {
                whose,
                issuer: CertificateSummary::from_der(certificate).map(|c| shorten(&c.issuer)).unwrap_or_default(),
                trusted: shorten(&self.anchors.subjects),
            },
            CertificateError::ExpiredContext { not_after, .. } => Refusal::Expired { whose, at: rfc3339(*not_after) },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Refusal::NotYetValid { whose, at: rfc3339(*not_before) }
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                let lacks = if whose == Whose::Dialled { "serverAuth" } else { "clientAuth" };
                Refusal::Purpose { whose, lacks }
            }
            _ => Refusal::Chain { whose, source: error },
        }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for MemberVerifier {
    /// No hints: every peer has exactly one certificate to show, and strangers need not learn the
    /// name of our CA.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// `Other` rather than `InvalidCertificate`: its text is the refusal's own, where the latter's is a
/// dump of the type. The alert is then handshake_failure.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Other(OtherError(Arc::new(refusal)))
    }
}

/// The sentence: rustls and others print errors in this form too.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dialler => "the dialling end's",
            Self::Dialled => "the dialled end's",
        })
    }
}
