//! Who does not get through TLS or the handshake.

use std::sync::Arc;

use quinn::ConnectionError;
use rookery_node::{
    NodeId,
    protocol::{
        ControlFrame,
        handshake::{Hello, Refusal, RefusalCode, Role},
    },
};
use rookery_runtime::net::control::close_code;
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use super::{
    raw::{Raw, encoded, hello, listen, soon, tls, welcome_dial},
    town::{CLUSTER, DAY, Town, authority, identity},
};

/// Dials with this TLS, and expects to be turned away by TLS with this alert (RFC 8446, section 6) and these words.
async fn tls_says_no(town: &Town, config: rustls::ClientConfig, alert: u8, words: &str) {
    let error = match Raw::dial(config, town.victim.listen_address()).await {
        Err(error) => error,
        // In TLS 1.3 the client has done before the server has looked at its certificate.
        Ok(raw) => soon("close", raw.connection.closed()).await,
    };
    let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error:?}") };
    assert_eq!(close.error_code, quinn::TransportErrorCode::crypto(alert), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    town.still_serves().await;
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;
const HANDSHAKE_FAILURE: u8 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn d4_no_certificate() {
    let town = Town::new().await;
    let mut config = tls(&town.client("eve"));
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    tls_says_no(&town, config, CERTIFICATE_REQUIRED, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_certificate_of_another_ca_of_the_same_name() {
    let town = Town::new().await;
    let other = authority(CLUSTER);
    let node = identity(&other.issue_node("friend", &[], DAY).unwrap());
    let client = identity(&other.issue_client("eve", DAY).unwrap());
    for identity in [node, client] {
        tls_says_no(&town, tls(&identity), HANDSHAKE_FAILURE, "was not issued by a CA that the other end trusts").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_certificate_of_another_cluster() {
    let town = Town::new().await;
    let pem = authority("elsewhere").issue_node("friend", &[], DAY).unwrap();
    tls_says_no(&town, tls(&identity(&pem)), HANDSHAKE_FAILURE, "was not issued by a CA that the other end trusts")
        .await;
}

/// The key of one certificate with another's chain: what is not ours cannot be borrowed.
#[tokio::test(flavor = "multi_thread")]
async fn d4_a_stolen_certificate_without_its_key() {
    let town = Town::new().await;
    let good = town.authority.issue_node("friend", &[], DAY).unwrap();
    let own = town.authority.issue_client("eve", DAY).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(good.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let mut config = tls(&town.client("eve"));
    let stolen = rustls::sign::SingleCertAndKey::from(CertifiedKey::new(chain, key));
    config.client_auth_cert_resolver = Arc::new(stolen);
    const DECRYPT_ERROR: u8 = 51;
    tls_says_no(&town, config, DECRYPT_ERROR, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_another_protocol() {
    let town = Town::new().await;
    for protocols in [vec![b"h3".to_vec()], vec![b"rookery/9".to_vec()], Vec::new()] {
        let mut config = tls(&town.client("eve"));
        config.alpn_protocols = protocols;
        tls_says_no(&town, config, NO_APPLICATION_PROTOCOL, "").await;
    }
}

/// Says a hello that is not true, and expects this refusal; the close that follows says the same.
async fn is_refused(town: &Town, raw: &Raw, hello: Hello, code: RefusalCode, words: &str) {
    let mut talk = raw.say(&encoded(&ControlFrame::Hello(hello))).await;
    let mut heard = talk.hear().await;
    // Who is of an older life is told of the newer one first.
    assert_eq!(matches!(heard, ControlFrame::NewerLife(newer) if newer.runs), code == RefusalCode::OlderIncarnation);
    if code == RefusalCode::OlderIncarnation {
        heard = talk.hear().await;
    }
    let refusal: Refusal = match heard {
        ControlFrame::Refuse(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    assert!(refusal.code == code && refusal.text.contains(words), "{refusal:?}");
    assert_eq!(refusal.by.as_ref(), Some(town.victim.node()));
    // It does not hang up: it is hung up on.
    raw.is_closed(close_code::REFUSED, words).await;
    town.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_client_that_says_it_is_a_node() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.client("friend")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, hello(CLUSTER, Role::Node, "friend"), RefusalCode::WrongRole, "certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_node_that_says_it_is_a_client() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, hello(CLUSTER, Role::Client, "mallory"), RefusalCode::WrongRole, "certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_node_with_anothers_name() {
    let town = Town::new().await;
    let mut newer = hello(CLUSTER, Role::Node, "friend");
    // It would take the friend's place.
    newer.node = NodeId::new(town.friend.node().name().clone(), rookery_node::Incarnation(u64::MAX));
    let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, newer, RefusalCode::NameNotInCertificate, "mallory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_client_with_anothers_name() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, hello(CLUSTER, Role::Client, "adam"), RefusalCode::NameNotInCertificate, "eve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_a_hello_of_another_cluster() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, hello("elsewhere", Role::Node, "mallory"), RefusalCode::WrongCluster, "elsewhere").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_makes_no_sense() {
    let town = Town::new().await;
    let good = || hello(CLUSTER, Role::Client, "eve");
    let versions = Hello { versions: (40, 41), ..good() };
    let message = Hello { max_message_bytes: u32::MAX, ..good() };
    let lanes = Hello { lanes: u8::MAX, ..good() };
    for (hello, code) in [
        (versions, RefusalCode::NoCommonVersion),
        (message, RefusalCode::BadHello),
        (lanes, RefusalCode::BadHello),
        (Hello { lanes: 0, ..good() }, RefusalCode::BadHello),
    ] {
        let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
        is_refused(&town, &raw, hello, code, "").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_life_of_a_friend() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.node("friend")), town.victim.listen_address()).await.unwrap();
    is_refused(&town, &raw, hello(CLUSTER, Role::Node, "friend"), RefusalCode::OlderIncarnation, "two nodes are named")
        .await;
}

/// Bytes on the control stream that are no handshake: closed at once, with what is wrong with them.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_control_stream() {
    let town = Town::new().await;
    let confirm = encoded(&ControlFrame::Confirm);
    let cut = {
        let mut bytes = encoded(&ControlFrame::Hello(hello(CLUSTER, Role::Client, "eve")));
        let last = bytes.len() - 1;
        bytes.truncate(last);
        let body = u32::try_from(bytes.len() - 6).unwrap();
        bytes[..4].copy_from_slice(&body.to_le_bytes());
        bytes
    };
    for (bytes, words) in [
        (&b"\xff\xff\xff\xff\x20\x00"[..], "4294967295 bytes"),
        (b"GET / HTTP/1.1\r\nHost: victim\r\n\r\n", "bytes"),
        (b"\x00\x00\x00\x00\xee\x00", "unknown kind 238"),
        // A message has no business here.
        (b"\x02\x00\x00\x00\x01\x00\x00\x00", "control"),
        (b"\x04\x00\x00\x00\x20\x00\xff\xff\xff\xff", "Hello"),
        (&cut, "Hello"),
        (&confirm, "begins with Hello"),
    ] {
        let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
        let _talk = raw.say(bytes).await;
        raw.is_closed(close_code::PROTOCOL, words).await;
    }
    town.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_the_end_of_the_stream() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
    let mut talk = raw.say(&encoded(&ControlFrame::Hello(hello(CLUSTER, Role::Client, "eve")))[..9]).await;
    talk.send.finish().unwrap();
    raw.is_closed(close_code::PROTOCOL, "ended within a frame").await;
    town.still_serves().await;
}

/// Whoever falls silent in the handshake is closed when its time is up: after TLS, within Hello, after Hello.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends() {
    let town = Town::new().await;
    let hello = encoded(&ControlFrame::Hello(hello(CLUSTER, Role::Node, "mallory")));
    let began = std::time::Instant::now();
    let dial = async || Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    let silent = dial().await;
    let half = dial().await;
    let _half = half.say(&hello[..hello.len() / 2]).await;
    let whole = dial().await;
    let mut talk = whole.say(&hello).await;
    assert!(matches!(talk.hear().await, ControlFrame::Welcome(_)));
    for raw in [silent, half, whole] {
        raw.is_closed(close_code::TOO_SLOW, "the handshake did not come to an end").await;
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    town.still_serves().await;
}

/// A peer that was welcomed and then fell silent is not remembered as one that is about to be connected: that would keep
/// the victim, whose name is the larger one, from ever making a connection of its own (D2).
#[tokio::test(flavor = "multi_thread")]
async fn d2_a_peer_that_fell_silent_in_its_handshake_can_be_dialled() {
    let town = Town::new().await;
    let listener = listen(&town.node("mallory"));
    let mallory = hello(CLUSTER, Role::Node, "mallory");
    let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    let mut talk = raw.say(&encoded(&ControlFrame::Hello(mallory.clone()))).await;
    assert!(matches!(talk.hear().await, ControlFrame::Welcome(_)));
    raw.is_closed(close_code::TOO_SLOW, "").await;

    // The friend tells the victim of mallory's listener, by being told itself.
    let teller = Raw::dial(tls(&town.node("teller")), town.victim.listen_address()).await.unwrap();
    let (mut telling, _) = teller.join(hello(CLUSTER, Role::Node, "teller")).await;
    let there = rookery_node::protocol::control::PeerAddresses {
        node: mallory.node.clone(),
        addresses: vec![listener.local_addr().unwrap()],
    };
    telling.send.write_all(&encoded(&ControlFrame::Peers(vec![there]))).await.unwrap();

    let (_connection, mut talk) = welcome_dial(&listener, &mallory).await;
    assert_eq!(talk.hear().await, ControlFrame::Confirm);
}
