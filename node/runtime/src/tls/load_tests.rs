//! What can be wrong with the files of an identity, and what whoever configured them is told: the
//! file, what is wrong with it, and what to do. Also what other issuers make: names of a Kubernetes
//! Secret, intermediates, other keys, no purposes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::UnixTime;

use super::limits::{LEAF_VALIDITY, PEM_FILE_MAX_BYTES};
use super::load::from_pem;
use super::*;

fn authority() -> Authority {
    Authority::create(&ClusterName::try_from("prod").unwrap()).unwrap()
}

fn issued() -> IssuedPem {
    authority().issue_node("a.rookery", &[], LEAF_VALIDITY).unwrap()
}

#[track_caller]
fn assert_says(error: &LoadError, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

fn error_of(dir: &Path) -> LoadError {
    Identity::from_dir(dir).unwrap_err()
}

#[test]
fn what_was_issued_loads_under_either_set_of_names() {
    let dir = tempfile::tempdir().unwrap();
    issued().write_to(dir.path(), Overwrite::Refuse).unwrap();
    let identity = Identity::from_dir(dir.path()).unwrap();
    assert!(identity.own().may_be_node("a.rookery"));
    for (from, to) in [("ca.pem", "ca.crt"), ("cert.pem", "tls.crt"), ("key.pem", "tls.key")] {
        fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }
    assert_eq!(Identity::from_dir(dir.path()).unwrap().own(), identity.own());
    // Both sets: ours wins, whole.
    let ours = issued();
    ours.write_to(dir.path(), Overwrite::Refuse).unwrap();
    assert_ne!(Identity::from_dir(dir.path()).unwrap().own(), identity.own());
}

#[test]
fn missing_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("certs");
    assert_says(&error_of(&dir), &["certs does not exist", "rookery certs init", "rookery certs issue"]);
    fs::create_dir(&dir).unwrap();
    assert_says(&error_of(&dir), &["neither cert.pem nor tls.crt", "rookery certs issue"]);
    issued().write_to(&dir, Overwrite::Refuse).unwrap();
    for file in ["key.pem", "ca.pem"] {
        fs::remove_file(dir.join(file)).unwrap();
        assert_says(&error_of(&dir), &["cannot read", file, "rookery certs issue"]);
    }
}

#[test]
fn what_is_no_pem_is_named_with_what_it_has_instead() {
    let dir = tempfile::tempdir().unwrap();
    let good = issued();
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let cases: &[(&str, &str, &[&str])] = &[
        ("cert.pem", "garbage", &["cert.pem has no PEM block with a certificate; it has none at all"]),
        ("cert.pem", "", &["cert.pem has no PEM block with a certificate; it has none at all"]),
        ("cert.pem", &good.key, &["cert.pem has no PEM block with a certificate; it has PRIVATE KEY"]),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &["cert.pem is not valid PEM"]),
        ("cert.pem", &good.cert[..good.cert.len() / 2], &["cert.pem is not valid PEM"]),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &["cert.pem", "X.509"]),
        ("cert.pem", &good.ca, &["cert.pem", "CA's own"]),
        ("ca.pem", "garbage", &["ca.pem has no PEM block with a certificate"]),
        ("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &["ca.pem", "X.509"]),
        ("ca.pem", &good.cert, &["ca.pem", "not a CA's", "exchanged"]),
        ("key.pem", "garbage", &["key.pem has no PEM block with an unencrypted key; it has none at all"]),
        ("key.pem", &good.cert, &["key.pem has no PEM block with an unencrypted key; it has CERTIFICATE"]),
        ("key.pem", &encrypted, &["key.pem has no PEM block", "it has ENCRYPTED PRIVATE KEY"]),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &["key.pem cannot be used"]),
    ];
    for (file, text, parts) in cases {
        good.write_to(dir.path(), Overwrite::Force).unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        assert_says(&error_of(dir.path()), parts);
    }
}

#[test]
fn a_file_that_never_ends_is_not_read_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    issued().write_to(dir.path(), Overwrite::Force).unwrap();
    fs::File::create(dir.path().join("ca.pem")).unwrap().set_len(PEM_FILE_MAX_BYTES + 1).unwrap();
    assert_says(&error_of(dir.path()), &["ca.pem is longer than 1048576 bytes"]);
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let ca = authority();
    let [one, two] = ["a", "b"].map(|name| ca.issue_node(name, &[], LEAF_VALIDITY).unwrap());
    let error = Identity::from_pem(&one.ca, &one.cert, &two.key).unwrap_err();
    assert!(matches!(error, LoadError::KeyMismatch { .. }));
    assert_says(&error, &["the key's PEM does not fit", "the certificate's PEM"]);
}

#[test]
fn a_chain_that_does_not_lead_to_the_ca_is_refused() {
    let one = issued();
    let error = Identity::from_pem(authority().ca_pem(), &one.cert, &one.key).unwrap_err();
    assert_says(&error, &["peers would refuse", "not issued by a CA", "O=prod, CN=Rookery CA"]);
}

#[test]
fn an_expired_or_future_certificate_is_refused() {
    let one = issued();
    let now = UnixTime::now().as_secs();
    let load_at =
        |seconds| from_pem(&one.ca, &one.cert, &one.key, UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
    assert!(load_at(now - 4 * 60).is_ok(), "certificates begin five minutes early, for clocks that are behind");
    assert_says(&load_at(now - 6 * 60).unwrap_err(), &["is not valid before", "clock"]);
    assert!(load_at(now + LEAF_VALIDITY.as_secs() - 60).is_ok());
    let error = load_at(now + LEAF_VALIDITY.as_secs() + 60).unwrap_err();
    assert!(matches!(error, LoadError::Expired { .. }));
    assert_says(&error, &["expired at 20", "rookery certs issue"]);
}

/// As cert-manager may issue: an intermediate, another curve, no extended key usage, another
/// scheme's URI beside ours.
#[test]
fn certificates_of_other_issuers_load() {
    let ca_key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ca_params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    };
    let root_params = ca_params("root");
    let root_pem = root_params.self_signed(&ca_key).unwrap().pem();
    let root = Issuer::new(root_params, ca_key);
    let middle_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let middle_params = ca_params("middle");
    let middle_pem = middle_params.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle_params, middle_key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = CertificateParams::default();
    let uris = ["spiffe://x/y", "rookery://prod/node"];
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.subject_alt_names.push(SanType::DnsName("*.rookery".try_into().unwrap()));
    let cert_pem = params.signed_by(&key, &middle).unwrap().pem();

    let chain = format!("{cert_pem}{middle_pem}");
    let identity = Identity::from_pem(&root_pem, &chain, &key.serialize_pem()).unwrap();
    assert!(identity.own().may_be_node("a.rookery"));
    let without_intermediate = Identity::from_pem(&root_pem, &cert_pem, &key.serialize_pem()).unwrap_err();
    assert_says(&without_intermediate, &["not issued by a CA"]);
}

#[test]
fn an_authority_is_saved_and_loaded_and_goes_on_issuing() {
    let dir = tempfile::tempdir().unwrap();
    let made = authority();
    made.save(dir.path(), Overwrite::Refuse).unwrap();
    assert!(matches!(made.save(dir.path(), Overwrite::Refuse), Err(WriteError::Exists { .. })));
    let loaded = Authority::load(dir.path()).unwrap();
    assert_eq!(loaded.cluster().as_str(), "prod");
    assert_eq!(loaded.not_after(), made.not_after());
    let node = loaded.issue_node("a", &[], LEAF_VALIDITY).unwrap();
    // What the loaded one issues is trusted by who has the CA of the one that was made.
    Identity::from_pem(made.ca_pem(), &node.cert, &node.key).unwrap();

    authority().save(&dir.path().join("other"), Overwrite::Refuse).unwrap();
    fs::copy(dir.path().join("other/ca-key.pem"), dir.path().join("ca-key.pem")).unwrap();
    let error = Authority::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("ca-key.pem is not the key of ca.pem"), "{error}");
    fs::write(dir.path().join("ca.pem"), &node.cert).unwrap();
    assert!(Authority::load(dir.path()).unwrap_err().to_string().contains("rookery://<cluster>/ca"));
    fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    assert!(Authority::load(dir.path()).unwrap_err().to_string().contains("not ca-key.pem"));
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(Authority::load(dir.path()).unwrap_err().to_string().contains("there is no CA in"));
}

#[test]
fn nothing_is_issued_for_what_is_no_name_or_longer_than_the_ca_lives() {
    let ca = authority();
    for name in ["", "a b", "a..b", "-a", "a-", ".a", "a.", "*", "*.rookery", "ä", &"a".repeat(64), &"a.".repeat(127)]
    {
        assert!(matches!(ca.issue_node(name, &[], LEAF_VALIDITY), Err(AuthorityError::DnsName { .. })), "{name:?}");
    }
    for extra in ["*", "*.*.a", "a.*", "*a.b"] {
        let result = ca.issue_node("a", &[extra.to_owned()], LEAF_VALIDITY);
        assert!(matches!(result, Err(AuthorityError::DnsName { .. })), "{extra:?}");
    }
    assert!(ca.issue_node("a-0.b_c.svc", &["*.svc".to_owned()], LEAF_VALIDITY).is_ok());
    assert!(matches!(ca.issue_client("a/b", LEAF_VALIDITY), Err(AuthorityError::Name(_))));
    for valid in [limits::AUTHORITY_VALIDITY * 2, Duration::MAX] {
        assert!(matches!(ca.issue_client("a", valid), Err(AuthorityError::Validity { .. })));
    }
    // A name that is too long for the subject stands in the SAN all the same.
    let long = format!("{}.svc", "a".repeat(63));
    let issued = ca.issue_node(&long, &[], LEAF_VALIDITY).unwrap();
    assert!(Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap().own().may_be_node(&long));
}

#[test]
fn no_debug_output_has_a_key() {
    let issued = issued();
    let identity = Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap();
    let debug = format!("{:?} {:?} {identity:?}", authority(), issued);
    assert!(!debug.contains("PRIVATE KEY"), "{debug}");
    assert!(debug.contains("node of cluster"), "{debug}");
}

#[test]
fn a_summary_says_what_the_certificate_says() {
    let dir = tempfile::tempdir().unwrap();
    issued().write_to(dir.path(), Overwrite::Refuse).unwrap();
    let found = CertificateSummary::read(dir.path()).unwrap();
    let [(own_file, own), (ca_file, ca)] = found.as_slice() else { unreachable!("two certificates: {found:?}") };
    assert!(own_file.ends_with("cert.pem") && ca_file.ends_with("ca.pem"));
    assert_eq!((own.is_ca, ca.is_ca), (false, true));
    assert_eq!(own.key_type, "ECDSA P-256");
    assert_eq!(own.issuer, ca.subject);
    assert_eq!(own.dns_names, ["a.rookery"]);
    assert_eq!(own.uris, ["rookery://prod/node"]);
    assert_eq!(own.not_after.as_secs() - own.not_before.as_secs(), (LEAF_VALIDITY + limits::BACKDATE).as_secs());
    assert_eq!(ca.authority_of(), Some(ClusterName::try_from("prod").unwrap()));
    assert_eq!(own.authority_of(), None);
}
