//! Who opens streams: as many as it may, and as many as it can.

use std::time::Duration;

use rookery_node::protocol::{
    BulkOpening, TicketNumber,
    handshake::{Hello, Role},
};
use rookery_runtime::net::{bulk::MAX_BULK_STREAMS, control::close_code};

use super::{
    insiders::client,
    raw::{Raw, hello, lane, soon, tls},
    town::{CLUSTER, Town},
};

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams() {
    let town = Town::new().await;
    let (raw, _talk, _) = client(&town).await;
    let mut streams = Vec::new();
    let open = lane(town.victim.node(), town.victim.node(), &[]);
    let opening = async {
        for _ in 0..10_000 {
            let Ok(mut stream) = raw.connection.open_uni().await else { return };
            drop(stream.write_all(&open).await);
            streams.push(stream);
        }
    };
    soon("ten thousand streams", opening).await;
    raw.is_closed(close_code::PROTOCOL, "more lanes than were agreed on").await;
    assert!(streams.len() < 200, "{} streams were let in", streams.len());
    town.still_serves().await;
}

/// How many streams QUIC lets it open, beside those that it has; no more than a hundred.
async fn streams_let_in(raw: &Raw) -> Vec<quinn::SendStream> {
    let mut streams = Vec::new();
    while streams.len() < 100 {
        // Only that nothing comes for a while says that it is blocked.
        let Ok(opened) = tokio::time::timeout(Duration::from_millis(500), raw.connection.open_uni()).await else {
            break;
        };
        streams.push(opened.unwrap());
    }
    streams
}

/// A peer may open its lanes and eight streams for large bodies. What is beyond is blocked, for as long as these stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_opens_its_lanes_and_eight_bodies_and_no_more() {
    let town = Town::new().await;
    let mallory = Hello { lanes: 3, ..hello(CLUSTER, Role::Node, "mallory") };
    let eve = hello(CLUSTER, Role::Client, "eve");
    for (identity, hello) in [(town.client("eve"), eve), (town.node("mallory"), mallory)] {
        let raw = Raw::dial(tls(&identity), town.victim.listen_address()).await.unwrap();
        let lanes = usize::from(hello.lanes);
        let (_talk, _) = raw.join(hello).await;
        let mut streams = streams_let_in(&raw).await;
        assert_eq!(streams.len(), lanes + MAX_BULK_STREAMS, "streams that a peer with {lanes} lanes may open");
        // Used as they are meant, with bodies whose tickets never come and that never end.
        let (open, mut ticket) = (lane(town.victim.node(), town.victim.node(), &[]), 0);
        for (number, stream) in streams.iter_mut().enumerate() {
            if number < lanes {
                soon("a lane", stream.write_all(&open)).await.unwrap();
                continue;
            }
            let mut body = Vec::new();
            BulkOpening::encode(TicketNumber(ticket), &mut body);
            body.resize(200_000, b'x');
            soon("a part of a body", stream.write_all(&body)).await.unwrap();
            ticket += 1;
        }
        assert_eq!(streams_let_in(&raw).await.len(), 0, "more streams while these stand");
        assert!(raw.connection.close_reason().is_none(), "it was no fault: {:?}", raw.connection.close_reason());
        raw.connection.close(close_code::GOODBYE, b"done");
        town.still_serves().await;
    }
}

/// Before the handshake is done no more streams are let in than a connection ever has, and no second control stream.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_before_the_handshake() {
    let town = Town::new().await;
    let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
    let mut streams = Vec::new();
    let opening = async {
        loop {
            tokio::select! {
                Ok(mut stream) = raw.connection.open_uni() => {
                    drop(stream.write_all(b"x").await);
                    streams.push(stream);
                }
                Ok((mut stream, _)) = raw.connection.open_bi() => {
                    drop(stream.write_all(b"").await);
                    streams.push(stream);
                }
                reason = raw.connection.closed() => return reason,
            }
        }
    };
    soon("close", opening).await;
    raw.is_closed(close_code::TOO_SLOW, "the handshake did not come to an end").await;
    let most = rookery_node::protocol::limits::MAX_LANES + MAX_BULK_STREAMS + 1;
    assert!(streams.len() <= most, "{} streams were let in", streams.len());
    town.still_serves().await;
}
