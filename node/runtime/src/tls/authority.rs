//! A CA for development and tests, as `rookery certs` uses it; production has cert-manager or its
//! like. It makes exactly the certificates that the rest of this module accepts: ECDSA P-256, role
//! and cluster in a URI SAN, DNS SANs for nodes. Its files are `ca.pem` and `ca-key.pem`; the wall
//! clock is read when something is issued.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::ASN1Time;

use super::authority_error::AuthorityError;
use super::files::{NewFile, Overwrite, Readers, WriteError, write_all};
use super::issued::IssuedPem;
use super::limits::{AUTHORITY_VALIDITY, BACKDATE, DNS_NAME_MAX_BYTES};
use super::load::read_pem;
use rookery_protocol::ClusterName;

use super::name::{ClientName, shorten};
use super::summary::{CertificateSummary, rfc3339};
use super::uri::{CertificateUri, Holder};

/// The CA's certificate.
const CA_FILE: &str = "ca.pem";
/// The CA's key, which no node needs.
const CA_KEY_FILE: &str = "ca-key.pem";
/// Longest common name (X.520, ub-common-name); a longer node name stands in the SAN alone.
const COMMON_NAME_MAX_BYTES: usize = 64;

/// A CA that issues certificates for one cluster.
pub struct Authority {
    /// The cluster that it issues for.
    cluster: ClusterName,
    /// Its own certificate.
    ca_pem: String,
    /// Nothing that it issues may be valid longer.
    not_after: UnixTime,
    /// Its name and key.
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
pub(super) struct Leaf<'a> {
    /// The subject's common name, for people.
    pub(super) common_name: &'a str,
    /// URI and DNS names, for machines.
    pub(super) sans: Vec<SanType>,
    /// Extended key usage.
    pub(super) purposes: Vec<ExtendedKeyUsagePurpose>,
}

impl Authority {
    /// Makes a new CA for a cluster, valid for ten years. It is in memory until [`Self::save`].
    ///
    /// # Errors
    /// [`AuthorityError::Library`].
    pub fn create(cluster: &ClusterName) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let now = UnixTime::now();
        let not_after = after(now, AUTHORITY_VALIDITY);
        let mut params = params(now, not_after)?;
        // Part of the key in the name: two CAs of one cluster are told apart in every message about
        // a wrong issuer.
        let key_id: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = subject(cluster, &format!("Rookery CA {key_id}"));
        params.subject_alt_names = vec![uri(cluster, Holder::Authority)?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key)?.pem();
        Ok(Self { cluster: cluster.clone(), ca_pem, not_after, issuer: Issuer::new(params, key) })
    }

    /// Loads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a file is missing, unreadable, of another kind, or key and certificate do not fit.
    pub fn load(dir: &Path) -> Result<Self, AuthorityError> {
        let not_ours = |reason: String| AuthorityError::NotOurs { dir: dir.to_owned(), reason };
        match [CA_FILE, CA_KEY_FILE].map(|file| dir.join(file).exists()) {
            [false, _] => {
                return Err(AuthorityError::NoAuthority { dir: dir.to_owned() });
            }
            [true, false] => {
                return Err(not_ours(format!(
                    "it has {CA_FILE} but not {CA_KEY_FILE}, and only who has the key can issue"
                )));
            }
            [true, true] => {}
        }
        let text = |name, wanted| {
            let bytes = read_pem(&dir.join(name), wanted)?;
            String::from_utf8(bytes).map_err(|_| not_ours(format!("{name} is not text")))
        };
        let ca_pem = text(CA_FILE, "the CA's certificate")?;
        let key_pem = text(CA_KEY_FILE, "the CA's key")?;
        let der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|e| not_ours(format!("{CA_FILE} holds no certificate: {e}")))?;
        let summary = CertificateSummary::from_der(&der).map_err(|e| not_ours(e.to_string()))?;
        let cluster = summary
            .authority_of()
            .ok_or_else(|| not_ours(format!("{CA_FILE} has no URI rookery://<cluster>/ca, or is not a CA's")))?;
        let key =
            KeyPair::from_pem(&key_pem).map_err(|e| not_ours(format!("{CA_KEY_FILE} holds no usable key: {e}")))?;
        if key.subject_public_key_info() != summary.public_key_der {
            return Err(not_ours(format!("{CA_KEY_FILE} is not the key of {CA_FILE}")));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { cluster, ca_pem, not_after: summary.not_after, issuer })
    }

    /// Writes `ca.pem` and `ca-key.pem` (0600) into the directory, which is made if need be (0700).
    ///
    /// # Errors
    /// [`WriteError::Exists`] if there is one and it is not to be overwritten, or what the system
    /// says.
    pub fn save(&self, dir: &Path, overwrite: Overwrite) -> Result<(), WriteError> {
        let key = self.issuer.key().serialize_pem();
        let files = [
            NewFile { name: CA_FILE, text: &self.ca_pem, readers: Readers::Everyone },
            NewFile { name: CA_KEY_FILE, text: &key, readers: Readers::Owner },
        ];
        write_all(dir, &files, overwrite)
    }

    /// The cluster that it issues for.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Its certificate, which every node and client is given.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// It is not valid after this time.
    pub fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Issues a certificate for the node of this DNS host name, and of further DNS names, of which
    /// the first label may be `*`. It can dial and be dialled.
    ///
    /// # Errors
    /// If a name is no DNS name, or the time is longer than the CA's own.
    pub fn issue_node(&self, name: &str, extra_dns: &[String], valid: Duration) -> Result<IssuedPem, AuthorityError> {
        check_dns_name(name)?;
        for name in extra_dns {
            check_dns_name(name.strip_prefix("*.").unwrap_or(name))?;
        }
        let mut sans = vec![uri(&self.cluster, Holder::Node)?];
        for name in std::iter::once(name).chain(extra_dns.iter().map(String::as_str).filter(|extra| *extra != name)) {
            let dns_name = name
                .try_into()
                .map_err(|_| AuthorityError::DnsName { given: shorten(name), reason: "it is not ASCII" })?;
            sans.push(SanType::DnsName(dns_name));
        }
        let common_name = if name.len() <= COMMON_NAME_MAX_BYTES { name } else { "Rookery node" };
        let purposes = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(Leaf { common_name, sans, purposes }, UnixTime::now(), valid)
    }

    /// Issues a certificate for the client of this name. It can dial only.
    ///
    /// # Errors
    /// If the name is no client name, or the time is longer than the CA's own.
    pub fn issue_client(&self, name: &str, valid: Duration) -> Result<IssuedPem, AuthorityError> {
        let client = ClientName::try_from(name)?;
        let common_name = if name.len() <= COMMON_NAME_MAX_BYTES { name } else { "Rookery client" };
        let sans = vec![uri(&self.cluster, Holder::Client(client))?];
        let purposes = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(Leaf { common_name, sans, purposes }, UnixTime::now(), valid)
    }

    /// Issues what it is told to, also what the rest of this module refuses: tests need such
    /// certificates.
    pub(super) fn issue(&self, leaf: Leaf<'_>, now: UnixTime, valid: Duration) -> Result<IssuedPem, AuthorityError> {
        let not_after = after(now, valid);
        if not_after > self.not_after {
            let (until, ca_until) = (rfc3339(not_after), rfc3339(self.not_after));
            return Err(AuthorityError::Validity { until, ca_until });
        }
        let key = KeyPair::generate()?;
        let mut params = params(now, not_after)?;
        params.distinguished_name = subject(&self.cluster, leaf.common_name);
        params.subject_alt_names = leaf.sans;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.purposes;
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(IssuedPem { ca: self.ca_pem.clone(), cert, key: key.serialize_pem() })
    }
}

fn after(now: UnixTime, time: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().saturating_add(time.as_secs())))
}

/// Parameters with the validity set. It begins a little in the past, see [`BACKDATE`].
fn params(now: UnixTime, not_after: UnixTime) -> Result<CertificateParams, AuthorityError> {
    let date_time = |seconds: u64| {
        let time = i64::try_from(seconds).ok().and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
        time.map(|time| time.to_datetime()).ok_or_else(|| AuthorityError::Library { reason: "no such date".to_owned() })
    };
    let mut params = CertificateParams::default();
    params.not_before = date_time(now.as_secs().saturating_sub(BACKDATE.as_secs()))?;
    params.not_after = date_time(not_after.as_secs())?;
    Ok(params)
}

fn subject(cluster: &ClusterName, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, cluster.as_str());
    name.push(DnType::CommonName, common_name);
    name
}

pub(super) fn uri(cluster: &ClusterName, holder: Holder) -> Result<SanType, AuthorityError> {
    let uri = CertificateUri { cluster: cluster.clone(), holder }.to_string();
    Ok(SanType::URI(uri.as_str().try_into()?))
}

/// A host name as RFC 1123 has it, and `_`, which Kubernetes never makes but people do.
fn check_dns_name(name: &str) -> Result<(), AuthorityError> {
    let bad = |reason| Err(AuthorityError::DnsName { given: shorten(name), reason });
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > DNS_NAME_MAX_BYTES {
        return bad("it is longer than 253 characters");
    }
    if !name.split('.').all(label_is_good) {
        return bad(
            "use labels of 1 to 63 letters, digits and -, with dots between them (a leading * goes only into --dns)",
        );
    }
    Ok(())
}

/// Whose it is, never the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.cluster)
    }
}
