//! What quinn does not show of a handshake: its kind (full or resumed) and the key exchange. So it
//! is run here on rustls's own QUIC connections, in memory, with the very configurations that quinn
//! is given.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use rustls::quic::{self, Version};
use rustls::{HandshakeKind, NamedGroup};

use super::limits::LEAF_VALIDITY;
use super::*;

fn authority(cluster: &str) -> Authority {
    Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap()
}

fn node(authority: &Authority, name: &str) -> Identity {
    let issued = authority.issue_node(name, &[], LEAF_VALIDITY).unwrap();
    Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap()
}

fn client(authority: &Authority, name: &str) -> Identity {
    let issued = authority.issue_client(name, LEAF_VALIDITY).unwrap();
    Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap()
}

/// Runs a TLS handshake as QUIC does, in memory, to the last byte that either end has to say.
fn handshake(
    client: &Arc<rustls::ClientConfig>,
    server: &Arc<rustls::ServerConfig>,
) -> (quic::Connection, quic::Connection) {
    let name = SERVER_NAME.try_into().unwrap();
    let client = quic::ClientConnection::new(client.clone(), Version::V1, name, vec![]).unwrap();
    let server = quic::ServerConnection::new(server.clone(), Version::V1, vec![]).unwrap();
    let (mut client, mut server) = (client.into(), server.into());
    while say_all(&mut client, &mut server) | say_all(&mut server, &mut client) {}
    (client, server)
}

/// One call at a time, as in QUIC: what is said under one key is a read of its own.
fn say_all(from: &mut quic::Connection, to: &mut quic::Connection) -> bool {
    let mut said = false;
    loop {
        let mut flight = Vec::new();
        let new_keys = from.write_hs(&mut flight).is_some();
        to.read_hs(&flight).unwrap();
        if !new_keys && flight.is_empty() {
            return said;
        }
        said = true;
    }
}

#[test]
fn no_session_is_resumed() {
    let ca = authority("prod");
    let client = Arc::new(node(&ca, "a").client_config().unwrap());
    let server = Arc::new(node(&ca, "b").server_config().unwrap());
    for _ in 0..3 {
        let (at_client, at_server) = handshake(&client, &server);
        assert_eq!(at_client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(at_server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// The test above is worth something only if resumption would show: so let either end alone offer
/// it, then both.
#[test]
fn either_end_alone_prevents_resumption() {
    let ca = authority("prod");
    let resumes = |client_would: bool, server_would: bool| {
        let mut client = node(&ca, "a").client_config().unwrap();
        let mut server = node(&ca, "b").server_config().unwrap();
        if client_would {
            client.resumption = rustls::client::Resumption::in_memory_sessions(8);
        }
        if server_would {
            server.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
            server.send_tls13_tickets = 2;
        }
        let (client, server) = (Arc::new(client), Arc::new(server));
        handshake(&client, &server);
        handshake(&client, &server).1.handshake_kind() == Some(HandshakeKind::Resumed)
    };
    assert!(!resumes(true, false));
    assert!(!resumes(false, true));
    assert!(resumes(true, true), "the method cannot tell");
}

#[test]
fn the_key_exchange_is_post_quantum() {
    let ca = authority("prod");
    let client = Arc::new(client(&ca, "a").client_config().unwrap());
    let server = Arc::new(node(&ca, "b").server_config().unwrap());
    let (at_client, at_server) = handshake(&client, &server);
    for group in [at_client.negotiated_key_exchange_group(), at_server.negotiated_key_exchange_group()] {
        assert_eq!(group.unwrap().name(), NamedGroup::X25519MLKEM768);
    }
    // Full, and not after a retry: a retry would cost every connection a round trip.
    assert_eq!(at_client.handshake_kind(), Some(HandshakeKind::Full));
}
