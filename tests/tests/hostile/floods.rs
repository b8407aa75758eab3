//! Many at once: datagrams that mean nothing, handshakes that are begun and left, connections by the hundred.

use std::time::Duration;

use quinn::Endpoint;
use rookery_node::protocol::{ControlFrame, control::PeerAddresses, handshake::Role};
use rookery_runtime::net::control::close_code;
use tokio::{net::UdpSocket, task::JoinSet};

use super::{
    raw::{Raw, encoded, hello, listen, soon, tls, welcome_dial},
    town::{CLUSTER, Town},
};

/// A small generator of bytes (splitmix64), so that a failure comes again.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ (mixed >> 27)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_garbage() {
    let town = Town::new().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise = Noise(7);
    for n in 0..3_000 {
        let length = usize::try_from(noise.next() % 1_400).unwrap();
        let mut datagram = noise.bytes(length);
        if let Some(first) = datagram.first_mut() {
            // Short headers, long ones, and what looks like a first packet of QUIC.
            *first = [0x40, 0xc0, 0xc3, 0x00][n % 4] | (*first & 0x0f);
        }
        if n % 3 == 0 && datagram.len() > 5 {
            datagram[1..5].copy_from_slice(&1_u32.to_be_bytes());
        }
        drop(socket.send_to(&datagram, town.victim.listen_address()).await);
    }
    town.still_serves().await;
}

/// The first packet of a good handshake, from so many addresses that never answer. They may use up what strangers may use
/// up; who proves its address still gets in, long before their time is up.
#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_keep_nobody_out() {
    let town = Town::with(|settings| {
        settings.handshake_timeout = Duration::from_secs(60);
        settings.idle_timeout = Duration::from_secs(60);
    })
    .await;
    let mut sources = Vec::new();
    for _ in 0..300 {
        let trap = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(&town.client("eve"))).unwrap();
        let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
        let _connecting = endpoint.connect_with(config, trap.local_addr().unwrap(), "rookery.invalid").unwrap();
        // A hello with a post-quantum key takes two packets.
        let source = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..2 {
            let mut packet = [0; 2048];
            let (length, _) = soon("a first packet", trap.recv_from(&mut packet)).await.unwrap();
            source.send_to(&packet[..length], town.victim.listen_address()).await.unwrap();
        }
        sources.push(source);
    }
    let began = std::time::Instant::now();
    town.still_serves().await;
    assert!(began.elapsed() < Duration::from_secs(20), "a good client took {:?}", began.elapsed());
}

/// Each gets an outcome: a session, or a refusal. What says nothing is closed in time, and then all are served.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_connections_at_once() {
    let town = Town::new().await;
    let identity = town.client("eve");
    let mut attackers = JoinSet::new();
    for n in 0..300 {
        let (config, to) = (tls(&identity), town.victim.listen_address());
        attackers.spawn(async move {
            let Ok(raw) = Raw::dial(config, to).await else { return false };
            if n % 2 == 0 {
                // Silent, until it is closed.
                soon("close", raw.connection.closed()).await;
                return false;
            }
            let hello = ControlFrame::Hello(hello(CLUSTER, Role::Client, "eve"));
            let Some(mut talk) = raw.try_say(&encoded(&hello)).await else { return false };
            let welcomed = tokio::select! {
                frame = talk.try_hear() => matches!(frame, Some(ControlFrame::Welcome(_))),
                _ = raw.connection.closed() => false,
            };
            // And leaves without a word, in the middle of the handshake.
            drop(raw);
            welcomed
        });
    }
    let welcomed = soon("every outcome", attackers.join_all()).await.into_iter().filter(|welcomed| *welcomed).count();
    assert!(welcomed > 0, "nobody got in");
    town.still_serves().await;
}

/// A node that has too much to do refuses connections as QUIC does. Whoever is refused so has met no stranger, and comes
/// again soon.
#[tokio::test(flavor = "multi_thread")]
async fn d1_who_is_refused_for_a_moment_comes_again_soon() {
    let town = Town::new().await;
    let listener = listen(&town.node("mallory"));
    let mallory = hello(CLUSTER, Role::Node, "mallory");
    let teller = Raw::dial(tls(&town.node("teller")), town.victim.listen_address()).await.unwrap();
    let (mut telling, _) = teller.join(hello(CLUSTER, Role::Node, "teller")).await;
    let there = PeerAddresses { node: mallory.node.clone(), addresses: vec![listener.local_addr().unwrap()] };
    telling.send.write_all(&encoded(&ControlFrame::Peers(vec![there]))).await.unwrap();
    soon("the first dial", listener.accept()).await.unwrap().refuse();
    let (connection, mut talk) = welcome_dial(&listener, &mallory).await;
    assert_eq!(talk.hear().await, ControlFrame::Confirm);
    for done in [connection, teller.connection] {
        done.close(close_code::GOODBYE, b"done");
    }
    town.still_serves().await;
}
