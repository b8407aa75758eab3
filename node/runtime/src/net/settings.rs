//! What a connection is set up with, and the QUIC transport made of it. Each value's reason stands beside it.
//!
//! A node's settings come from its configuration; a client has one lane and otherwise the defaults, unless its program
//! says else. The windows are not settings: they bound how long a small message waits behind large ones.

use std::{sync::Arc, time::Duration};

use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rookery_protocol::limits;

use crate::net::{bulk::MAX_BULK_STREAMS, congestion::BoundedCubicConfig};

/// Settings of connections. The defaults serve on loopback and between pods.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// How often something is sent on a connection that is otherwise silent.
    pub keep_alive: Duration,
    /// After how long a silence a connection ends, whatever others say of the peer. The shorter one of both ends counts.
    pub idle_timeout: Duration,
    /// How long TLS and our own handshake may take together.
    pub handshake_timeout: Duration,
    /// The largest message that is taken, in bytes.
    pub max_message_bytes: usize,
    /// Lanes towards each node. A client has one: its signals and the node's events keep one order.
    pub lanes: u8,
    /// Bytes that may wait for one peer before its senders do.
    pub outbound_budget_bytes: usize,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(1),
            // Between nodes the detector rules, which knows what others say, and QUIC only ends what it cannot judge: a node that
            // others hear is kept nearly as long.
            idle_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(5),
            max_message_bytes: limits::DEFAULT_MAX_MESSAGE_BYTES,
            lanes: 4,
            outbound_budget_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What one stream may have under way: 40 MB/s over 100 ms. It bounds memory and not waiting, which `congestion.rs` does: a
/// constant that keeps a fast path short starves a long one.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// What a connection may have under way in all its streams: room for each lane and each bulk stream of a node, so that
/// bodies never take the room of lanes.
const CONNECTION_WINDOW_BYTES: u32 = (4 + 2 + MAX_BULK_STREAMS as u32) * STREAM_WINDOW_BYTES;

/// The largest datagram that is tried. Ten of them are one system call (GSO), which takes 64 KiB at most; on loopback it
/// doubles the bulk rate over 1,452 bytes. Paths between pods hold some 1,450: probes beyond are lost, which costs nothing
/// and is not taken for congestion.
const MTU_UPPER_BOUND: u16 = 6_500;

/// Streams that a stranger may open; `lanes.rs` allows what was agreed on, which bounds how many bodies one peer can have us
/// hold.
const STREAMS_BEFORE_HANDSHAKE: u32 = 4;

/// What is kept of datagrams that arrive.
const PING_BUFFER_BYTES: usize = 64;

/// What a round trip is taken for before it is measured: three of it pass before a first packet is sent again. QUIC's own
/// 333 ms is for the Internet; a pod that is dialled a moment too early shall not wait a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The peer acknowledges after so many packets and one more (<https://datatracker.ietf.org/doc/draft-ietf-quic-ack-frequency/>), half of
/// what may be under way at the least. In turn on loopback, 16-byte messages of 64 senders: without the extension, after 2,
/// 11 and 26 packets 1.55, 1.75, 1.88 and 1.71 million a second, bodies of 64 MiB beside a ping 444, 467, 490 and 437 MB/s.
const ACK_AFTER: u32 = 4;

/// A packet that no other follows is acknowledged after this at the latest; QUIC's own is 25 ms, of which a sender waits
/// longer for what was lost.
const ACK_DELAY: Duration = Duration::from_millis(5);

impl ConnectionSettings {
    /// The QUIC transport for these settings.
    #[must_use]
    pub fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(MTU_UPPER_BOUND);
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(ACK_AFTER)).max_ack_delay(Some(ACK_DELAY));
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        transport
            .congestion_controller_factory(Arc::new(BoundedCubicConfig::default()))
            .mtu_discovery_config(Some(discovery))
            .ack_frequency_config(Some(acks))
            .initial_rtt(INITIAL_RTT)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(u64::from(CONNECTION_WINDOW_BYTES))
            // One control stream; whatever else a stranger opens is refused by QUIC itself.
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_BEFORE_HANDSHAKE))
            // Pings of one byte, which are acknowledged and not read: the last ones stay, and are dropped for later ones.
            .datagram_receive_buffer_size(Some(PING_BUFFER_BYTES));
        Arc::new(transport)
    }
}
