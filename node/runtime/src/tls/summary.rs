//! What a certificate says, in a form for people and for the rest of this module: the only place
//! that reads X.509. The bytes come from a peer's handshake or from a file. Nothing here decides
//! whether a certificate is to be trusted.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::load::certificates_at;
use super::load_error::{LoadError, Origin};
use rookery_protocol::ClusterName;

use super::name::shorten;
use super::peer::IdentityError;
use super::uri::{CertificateUri, Holder};

/// What one certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number as colon-separated hex, as `openssl x509` and cert-manager show it.
    pub serial: String,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
    /// Not valid before this time.
    pub not_before: UnixTime,
    /// Not valid after this time.
    pub not_after: UnixTime,
    /// Kind and size of the public key, such as `ECDSA P-256`.
    pub key_type: String,
    /// May it sign other certificates?
    pub is_ca: bool,
    /// The DNS names among the subject's alternative names, as they stand there.
    pub dns_names: Vec<String>,
    /// The URIs among the subject's alternative names, as they stand there.
    pub uris: Vec<String>,
    /// The public key with its algorithm, in DER: two certificates or a key and a certificate
    /// belong together by it.
    pub(super) public_key_der: Vec<u8>,
}

/// The SHA-256 of a certificate. It tells two certificates apart in logs; [`fmt::Display`] gives
/// all of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl CertificateSummary {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`] if these bytes are not exactly one X.509 certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |reason: String| IdentityError::Unreadable { reason: shorten(&reason) };
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| unreadable(e.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes follow the certificate", rest.len())));
        }
        let names = certificate.subject_alternative_name().map_err(|e| unreadable(e.to_string()))?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let texts = |pick: fn(&GeneralName<'_>) -> Option<String>| names.iter().filter_map(pick).collect();
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            fingerprint: Fingerprint::of(der),
            not_before: unix_time(certificate.validity().not_before),
            not_after: unix_time(certificate.validity().not_after),
            key_type: key_type(certificate.public_key()),
            is_ca: certificate.is_ca(),
            dns_names: texts(|name| match name {
                GeneralName::DNSName(text) => Some((*text).to_owned()),
                _ => None,
            }),
            uris: texts(|name| match name {
                GeneralName::URI(text) => Some((*text).to_owned()),
                _ => None,
            }),
            public_key_der: certificate.public_key().raw.to_vec(),
        })
    }

    /// Reads the certificates of a PEM file, or of an identity's or CA's directory (own chain
    /// first, then CAs), with the file that each is in. It reads expired and foreign ones alike. It
    /// can wait for the disk.
    ///
    /// # Errors
    /// [`LoadError`] if there is no such file, or no certificate in it.
    pub fn read(path: &Path) -> Result<Vec<(PathBuf, Self)>, LoadError> {
        let summarise = |(file, der): (PathBuf, CertificateDer<'_>)| match Self::from_der(&der) {
            Ok(summary) => Ok((file, summary)),
            Err(source) => Err(LoadError::Identity { origin: Origin::File(file), source }),
        };
        certificates_at(path)?.into_iter().map(summarise).collect()
    }

    /// The cluster that this is the CA of, if it was made by [`super::Authority`]. Other CAs do not
    /// say.
    pub fn authority_of(&self) -> Option<ClusterName> {
        match self.uri() {
            Ok(CertificateUri { cluster, holder: Holder::Authority }) if self.is_ca => Some(cluster),
            _ => None,
        }
    }

    /// The one URI that is ours.
    pub(super) fn uri(&self) -> Result<CertificateUri, IdentityError> {
        let ours: Vec<&String> = self.uris.iter().filter(|uri| CertificateUri::is_ours(uri)).collect();
        match ours.as_slice() {
            [uri] => CertificateUri::parse(uri).map_err(|reason| IdentityError::BadUri { uri: shorten(uri), reason }),
            [] => Err(IdentityError::NoUri { subject: shorten(&self.subject) }),
            many => Err(IdentityError::SeveralUris { count: many.len() }),
        }
    }
}

impl Fingerprint {
    pub(super) fn of(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        let suite = rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
        if let Some(suite) = suite.tls13() {
            // SHA-256 is 32 bytes: `zip` only spares a copy that could panic.
            let digest = suite.common.hash_provider.hash(der);
            bytes.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        }
        Self(bytes)
    }

    /// The first eight hex digits: enough to tell the certificates of a cluster apart in a line of
    /// a log.
    pub fn short(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A time as `2027-11-23T13:01:05Z` (RFC 3339, UTC).
pub fn rfc3339(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).ok();
    let time_of_day = seconds.and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let Some(t) = time_of_day.map(|time| time.to_datetime()) else {
        return format!("{} s after 1970", time.as_secs());
    };
    let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
    let (hour, minute, second) = (t.hour(), t.minute(), t.second());
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A certificate's time; before 1970 counts as 1970, which is as invalid today.
fn unix_time(time: ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}

fn key_type(key: &SubjectPublicKeyInfo<'_>) -> String {
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(_)) => match curve {
            Some(curve) if curve == oid::OID_EC_P256 => "ECDSA P-256".to_owned(),
            Some(curve) if curve == oid::OID_NIST_EC_P384 => "ECDSA P-384".to_owned(),
            Some(curve) if curve == oid::OID_NIST_EC_P521 => "ECDSA P-521".to_owned(),
            _ => "ECDSA on another curve".to_owned(),
        },
        _ if key.algorithm.algorithm == oid::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => format!("other ({})", key.algorithm.algorithm),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_shown_in_utc() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(rfc3339(time(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(time(951_827_696)), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(time(u64::MAX)), "18446744073709551615 s after 1970");
    }

    #[test]
    fn a_fingerprint_is_sha_256() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::of(b"").to_string(), empty);
        assert_eq!(Fingerprint::of(b"").short(), "e3b0c442");
    }
}
