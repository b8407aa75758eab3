//! Paths that are not loopback's: long ones are not starved by what keeps short ones short.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use rookery_node::Node;
use rookery_tests::{
    Note, Puppet,
    cluster::{meshed, node_config},
    placement::run,
    relay::{Path, Relay},
};

/// 100 ms there and back.
const LONG: Path = Path { delay: Duration::from_millis(50), bytes_per_s: None };

/// What a stream with a fixed window of 256 KiB would need: 2.6 MB a second.
const BODY: usize = 12 * 1024 * 1024;
const STARVED: Duration = Duration::from_millis(4_600);

#[test]
fn a_long_path_is_filled() {
    run(async {
        let relay = Relay::along(LONG).await;
        let mut config = node_config("node-0", &[]);
        config.connections.max_message_bytes = 16 * 1024 * 1024;
        let first = Node::start(config).await.unwrap();
        relay.lead_to(first.listen_address());
        let mut config = node_config("node-1", &[relay.address()]);
        config.connections.max_message_bytes = 16 * 1024 * 1024;
        let second = Node::start(config).await.unwrap();
        meshed(&[&first, &second]).await;
        let mut receiver = Puppet::new(first.runtime());
        let to = second.runtime().address::<Note>(&receiver.pid);
        let since = Instant::now();
        to.send(Note::Text("x".repeat(BODY))).await.unwrap();
        receiver.next().await;
        let took = since.elapsed();
        assert!(took < STARVED / 2, "{BODY} bytes took {took:?} over 100 ms there and back");
    });
}
