//! What a peer sends, on its way into the runtime: what it may say is checked here, signal by signal, as it is read.

use std::sync::Arc;

use rookery_protocol::{PlainMessage, Recipient, Run, Signal, SignalBody, WireError};
use rookery_runtime::{
    Runtime,
    net::{lanes::Inbox, outbound::Traffic},
};

use super::peers::Peer;

/// Takes what a peer sends.
pub(super) struct PeerInbox {
    pub(super) runtime: Runtime,
    pub(super) peer: Arc<Peer>,
}

impl Inbox for PeerInbox {
    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn take(&self, signal: Signal) -> Result<Option<Signal>, WireError> {
        // Another connection has taken its place, and its end has been told: what QUIC still holds of it is lost, or it
        // would come after its `NodeDown` (M5), and among what the new one brings (S1).
        if self.peer.outbound.is_closed() {
            return Ok(None);
        }
        // A node speaks for its own processes, to processes of this one.
        if signal.from.node() != &self.peer.node || &signal.to.node != self.runtime.node() {
            let detail = "a node speaks for its own processes, to those of the node it is connected to";
            return Err(WireError::Unexpected { kind: "signal", detail });
        }
        let for_clients = match signal.body {
            SignalBody::NodeUp(_) => Some("NodeUp"),
            SignalBody::NodeDown { .. } => Some("NodeDown"),
            SignalBody::GroupChange(_) => Some("GroupChange"),
            SignalBody::NameConflict { .. } => Some("NameConflict"),
            _ => None,
        };
        if let Some(kind) = for_clients {
            return Err(WireError::Misplaced { kind, stream: "lane between nodes" });
        }
        // Nodes do not relay for each other.
        if matches!(signal.to.to, Recipient::ClusterName(_)) {
            let detail = "a node finds the holder of a cluster name itself";
            return Err(WireError::Unexpected { kind: "signal", detail });
        }
        if self.runtime.is_own(&signal.to) {
            self.runtime.receive(signal, Some(&self.peer.outbound));
        } else {
            self.runtime.signal(signal);
        }
        Ok(None)
    }

    fn take_plain(&self, message: &PlainMessage) -> bool {
        // By their form such messages are of the peer's own processes, for own ones of this node.
        !self.peer.outbound.is_closed() && self.runtime.receive_plain(message)
    }

    fn take_run(&self, run: &mut Run) -> u64 {
        if self.peer.outbound.is_closed() { 0 } else { self.runtime.receive_run(run) }
    }

    fn arrived(&self, more: Traffic) {
        self.peer.received.add(more);
    }
}
