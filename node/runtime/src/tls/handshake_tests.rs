//! Real QUIC handshakes on loopback between identities, good and bad. A refusal is checked at both
//! ends: whoever refuses and whoever is refused must be able to log why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::SanType;
use rustls::pki_types::UnixTime;

use super::authority::{Leaf, uri};
use super::limits::LEAF_VALIDITY;
use super::load::from_pem;
use super::uri::Holder;
use super::verify::NodeVerifier;
use super::*;

/// Longer than any handshake on a busy machine; it only bounds how long a failing test takes.
const DEADLINE: Duration = Duration::from_secs(20);

const HOUR: Duration = Duration::from_secs(3600);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

fn authority(cluster: &str) -> Authority {
    Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap()
}

fn node(authority: &Authority, name: &str) -> Identity {
    load(&authority.issue_node(name, &[], LEAF_VALIDITY).unwrap())
}

fn client(authority: &Authority, name: &str) -> Identity {
    load(&authority.issue_client(name, LEAF_VALIDITY).unwrap())
}

fn load(issued: &IssuedPem) -> Identity {
    Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap()
}

/// An identity that trusts another CA beside its own.
fn load_trusting(issued: &IssuedPem, other: &Authority) -> Identity {
    Identity::from_pem(&format!("{}{}", issued.ca, other.ca_pem()), &issued.cert, &issued.key).unwrap()
}

fn listen(config: rustls::ServerConfig) -> Endpoint {
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config).unwrap()));
    Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
}

async fn dial(config: rustls::ClientConfig, to: &Endpoint) -> (Endpoint, Result<Connection, String>) {
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let connecting = endpoint.connect_with(config, to.local_addr().unwrap(), SERVER_NAME).unwrap();
    let connection = within(connecting).await.map_err(|e| e.to_string());
    (endpoint, connection)
}

/// What either end has at the end: a connection, or the text that it would log.
struct Outcome {
    dialler: Result<Connection, String>,
    acceptor: Result<Connection, String>,
    _endpoints: (Endpoint, Endpoint),
}

async fn meet(dialler: rustls::ClientConfig, acceptor: rustls::ServerConfig) -> Outcome {
    let listening = listen(acceptor);
    let accept = async { within(async { listening.accept().await.unwrap().await }).await.map_err(|e| e.to_string()) };
    let ((endpoint, mut dialled), accepted) = tokio::join!(dial(dialler, &listening), accept);
    // The acceptor judges after the dialler is done, so its refusal ends a connection that the
    // dialler had.
    if let (Ok(connection), Err(_)) = (&dialled, &accepted) {
        dialled = Err(within(connection.closed()).await.to_string());
    }
    Outcome { dialler: dialled, acceptor: accepted, _endpoints: (endpoint, listening) }
}

#[track_caller]
fn assert_refused(outcome: &Outcome, expected: &[&str]) {
    for (end, result) in [("dialler", &outcome.dialler), ("acceptor", &outcome.acceptor)] {
        let Err(text) = result else { panic!("the {end} has a connection") };
        for part in expected {
            assert!(text.contains(part), "the {end} would log {text:?}, without {part:?}");
        }
    }
}

async fn meet_identities(dialler: &Identity, acceptor: &Identity) -> Outcome {
    meet(dialler.client_config().unwrap(), acceptor.server_config().unwrap()).await
}

#[tokio::test]
async fn d4_nodes_of_one_cluster_know_each_other() {
    let ca = authority("prod");
    let (a, b) = (node(&ca, "a.rookery"), node(&ca, "b.rookery"));
    let outcome = meet_identities(&a, &b).await;
    let (at_a, at_b) = (outcome.dialler.unwrap(), outcome.acceptor.unwrap());
    assert_eq!(&PeerIdentity::of_connection(&at_a).unwrap(), b.own());
    assert_eq!(&PeerIdentity::of_connection(&at_b).unwrap(), a.own());
    assert!(PeerIdentity::of_connection(&at_b).unwrap().may_be_node("a"));
    let data = at_b.handshake_data().unwrap().downcast::<HandshakeData>().unwrap();
    assert_eq!(data.protocol.as_deref(), Some(ALPN));
    assert_eq!(data.server_name, None, "the name that was dialled is not sent");
}

#[tokio::test]
async fn d4_a_client_is_known_by_its_name() {
    let ca = authority("prod");
    let outcome = meet_identities(&client(&ca, "alice"), &node(&ca, "a")).await;
    outcome.dialler.unwrap();
    let peer = PeerIdentity::of_connection(&outcome.acceptor.unwrap()).unwrap();
    assert_eq!(peer.role, CertificateRole::Client { name: ClientName::try_from("alice").unwrap() });
    assert!(!peer.may_be_node("alice"));
}

#[tokio::test]
async fn d4_a_node_of_another_ca_is_not_dialled() {
    let outcome = meet_identities(&node(&authority("prod"), "a"), &node(&authority("prod"), "b")).await;
    assert_refused(&outcome, &["the dialled end's certificate was not issued by a CA", "Rookery CA"]);
}

#[tokio::test]
async fn d4_a_node_of_another_ca_is_not_accepted() {
    let (ours, theirs) = (authority("prod"), authority("prod"));
    let stranger = load_trusting(&theirs.issue_node("a", &[], LEAF_VALIDITY).unwrap(), &ours);
    let outcome = meet_identities(&stranger, &node(&ours, "b")).await;
    assert_refused(&outcome, &["the dialling end's certificate was not issued by a CA"]);
}

#[tokio::test]
async fn d4_a_node_of_another_cluster_is_not_dialled_even_if_its_ca_is_trusted() {
    let (a, b) = (authority("prod"), authority("test"));
    let dialler = load_trusting(&a.issue_node("a", &[], LEAF_VALIDITY).unwrap(), &b);
    let acceptor = load_trusting(&b.issue_node("b", &[], LEAF_VALIDITY).unwrap(), &a);
    let outcome = meet_identities(&dialler, &acceptor).await;
    assert_refused(&outcome, &["the dialled end's certificate is of cluster \"test\"", "cluster \"prod\""]);
}

#[tokio::test]
async fn d4_nobody_of_another_cluster_is_accepted_even_if_its_ca_is_trusted() {
    let (a, b) = (authority("prod"), authority("test"));
    let acceptor = load_trusting(&b.issue_node("b", &[], LEAF_VALIDITY).unwrap(), &a);
    for issued in [a.issue_node("a", &[], LEAF_VALIDITY).unwrap(), a.issue_client("a", LEAF_VALIDITY).unwrap()] {
        // A dialler that lets any node in, so that the acceptor is the one to refuse.
        let stranger = load_trusting(&issued, &b);
        let mut config = stranger.client_config().unwrap();
        let verifier = NodeVerifier::new(b.cluster().clone(), stranger.anchors().clone(), stranger.provider().clone());
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        let outcome = meet(config, acceptor.server_config().unwrap()).await;
        assert_refused(&outcome, &["the dialling end's certificate is of cluster \"prod\"", "cluster \"test\""]);
    }
}

#[tokio::test]
async fn d4_a_client_certificate_is_not_dialled_as_a_node() {
    let ca = authority("prod");
    let dialler = node(&ca, "a");
    let client = client(&ca, "mallory");
    assert!(matches!(client.server_config(), Err(ConfigError::NotANode { .. })));
    let outcome = meet(dialler.client_config().unwrap(), client.server_config_of_any_role().unwrap()).await;
    assert_refused(&outcome, &["the dialled end's certificate may not be used for that", "lacks serverAuth"]);

    // An issuer that sets every purpose changes nothing: the role counts.
    let holder = Holder::Client(ClientName::try_from("mallory").unwrap());
    let sans = vec![uri(ca.cluster(), holder).unwrap(), SanType::DnsName("b".try_into().unwrap())];
    let leaf = Leaf { common_name: "mallory", sans, purposes: vec![ServerAuth, ClientAuth] };
    let client = load(&ca.issue(leaf, UnixTime::now(), HOUR).unwrap());
    let outcome = meet(dialler.client_config().unwrap(), client.server_config_of_any_role().unwrap()).await;
    assert_refused(
        &outcome,
        &["the dialled end's certificate is of the client \"mallory\"; only a node may be dialled"],
    );
}

#[tokio::test]
async fn d4_nobody_without_a_certificate_is_accepted() {
    let ca = authority("prod");
    let known = node(&ca, "a");
    let verifier = NodeVerifier::new(ca.cluster().clone(), known.anchors().clone(), known.provider().clone());
    let mut anonymous = rustls::ClientConfig::builder_with_provider(known.provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![ALPN.to_vec()];
    let outcome = meet(anonymous, node(&ca, "b").server_config().unwrap()).await;
    assert_refused(&outcome, &["peer sent no certificates"]);
}

#[tokio::test]
async fn d4_a_certificate_without_our_uri_is_refused_both_ways() {
    let ca = authority("prod");
    let good = node(&ca, "a");
    for uris in [vec![], vec!["spiffe://prod/node"], vec!["rookery://prod/node", "rookery://prod/client/a"]] {
        let sans: Vec<_> = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let leaf = Leaf { common_name: "b", sans, purposes: vec![ServerAuth, ClientAuth] };
        let issued = ca.issue(leaf, UnixTime::now(), HOUR).unwrap();
        // Such a certificate does not load, so its holder is made of a good identity and this
        // chain.
        assert!(matches!(Identity::from_pem(&issued.ca, &issued.cert, &issued.key), Err(LoadError::Identity { .. })));
        let certified = Arc::new(raw_certified_key(&issued, &good));
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let expected = if uris.len() == 2 { "2 rookery:// URIs" } else { "no URI rookery://" };

        let mut dialler = good.client_config().unwrap();
        dialler.client_auth_cert_resolver = resolver.clone();
        let outcome = meet(dialler, good.server_config().unwrap()).await;
        assert_refused(&outcome, &["the dialling end's certificate is refused", expected]);

        let mut acceptor = good.server_config().unwrap();
        acceptor.cert_resolver = resolver;
        let outcome = meet(good.client_config().unwrap(), acceptor).await;
        assert_refused(&outcome, &["the dialled end's certificate is refused", expected]);
    }
}

fn raw_certified_key(issued: &IssuedPem, other: &Identity) -> rustls::sign::CertifiedKey {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    rustls::sign::CertifiedKey::from_der(chain, key, other.provider()).unwrap()
}

#[tokio::test]
async fn d4_an_expired_or_future_certificate_is_refused_both_ways() {
    let ca = authority("prod");
    let good = node(&ca, "a");
    let now = UnixTime::now().as_secs();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let cases = [(at(now - 2 * 3600), "certificate expired at 20"), (at(now + 3600), "is not valid before 20")];
    for (issued_at, expected) in cases {
        let leaf = Leaf {
            common_name: "b",
            sans: vec![uri(ca.cluster(), Holder::Node).unwrap()],
            purposes: vec![ServerAuth, ClientAuth],
        };
        let issued = ca.issue(leaf, issued_at, HOUR).unwrap();
        // Loaded when it was valid, as by a process that runs longer than its certificate.
        let bad = from_pem(&issued.ca, &issued.cert, &issued.key, at(issued_at.as_secs() + 60)).unwrap();
        assert_refused(&meet_identities(&bad, &good).await, &["the dialling end's", expected]);
        assert_refused(&meet_identities(&good, &bad).await, &["the dialled end's", expected]);
    }
}

#[tokio::test]
async fn d4_another_protocol_is_refused() {
    let ca = authority("prod");
    let mut other = node(&ca, "a").client_config().unwrap();
    other.alpn_protocols = vec![b"h3".to_vec()];
    let outcome = meet(other, node(&ca, "b").server_config().unwrap()).await;
    assert_refused(&outcome, &["error 120", "protocol"]);
}

#[tokio::test]
async fn a_renewed_identity_is_seen_by_the_next_connection_of_the_same_endpoints() {
    let ca = authority("prod");
    let dialler = node(&ca, "a");
    let transport = Arc::new(quinn::TransportConfig::default());
    let config = dialler.quinn_client_config(transport.clone()).unwrap();
    let (first, second) = (node(&ca, "b"), node(&ca, "b"));
    let acceptor =
        Endpoint::server(first.quinn_server_config(transport.clone()).unwrap(), (Ipv4Addr::LOCALHOST, 0).into())
            .unwrap();
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut seen = Vec::new();
    for identity in [&first, &second] {
        acceptor.set_server_config(Some(identity.quinn_server_config(transport.clone()).unwrap()));
        let connecting = endpoint.connect_with(config.clone(), acceptor.local_addr().unwrap(), SERVER_NAME).unwrap();
        let connecting = connecting.into_0rtt().err().unwrap(); // 0-RTT is never on offer.
        let accept = async { acceptor.accept().await.unwrap().await.unwrap() };
        let (dialled, accepted) = within(async { tokio::join!(connecting, accept) }).await;
        let dialled = dialled.unwrap();
        // A byte from the acceptor comes after everything of the handshake, tickets too.
        accepted.open_uni().await.unwrap().write_all(b"x").await.unwrap();
        within(dialled.accept_uni()).await.unwrap();
        assert_eq!(PeerIdentity::of_connection(&accepted).unwrap().fingerprint, dialler.own().fingerprint);
        seen.push(PeerIdentity::of_connection(&dialled).unwrap().fingerprint);
    }
    assert_eq!(seen, [first.own().fingerprint, second.own().fingerprint]);
    assert_ne!(seen.first(), seen.last());
}

#[test]
fn aes_128_is_proposed_first_and_nothing_is_missing() {
    let node = node(&authority("shop"), "orders-0");
    let ours: Vec<_> = node.provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
    assert_eq!(ours.first(), Some(&rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
    let all = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
    assert!(all.iter().all(|suite| ours.contains(&suite.suite())) && all.len() == ours.len());
}
