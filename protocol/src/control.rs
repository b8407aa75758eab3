//! Frames of the control stream: handshake, addresses of others, the orderly end. Their bodies are bincode and bounded
//! by [`MAX_CONTROL_BODY_BYTES`](crate::limits::MAX_CONTROL_BODY_BYTES).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    error::WireError,
    frame::{self, FLAG_SKIPPABLE, Frame, FrameKind},
    handshake::{Hello, Refusal, Welcome},
    id::NodeId,
    limits::{MAX_ADDRESSES_PER_PEER, MAX_PEERS_PER_FRAME},
};

/// Where a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddresses {
    /// Which node.
    pub node: NodeId,
    /// Its addresses, best first.
    pub addresses: Vec<SocketAddr>,
}

/// Why a connection ends in good order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// For people: "shutting down", "draining", …
    pub reason: String,
}

/// A frame of the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlFrame {
    /// The dialler introduces itself.
    Hello(Hello),
    /// The acceptor takes it.
    Welcome(Welcome),
    /// The acceptor does not.
    Refuse(Refusal),
    /// The dialler uses this connection.
    Confirm,
    /// The dialler does not.
    Abort(Refusal),
    /// An orderly end.
    Goodbye(Goodbye),
    /// Addresses of other nodes.
    Peers(Vec<PeerAddresses>),
}

impl ControlFrame {
    /// Appends the frame.
    ///
    /// # Errors
    /// When a body cannot be encoded; our own frames always can.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (kind, flags) = match self {
            Self::Hello(_) => (FrameKind::Hello, 0),
            Self::Welcome(_) => (FrameKind::Welcome, 0),
            Self::Refuse(_) => (FrameKind::Refuse, 0),
            Self::Confirm => (FrameKind::Confirm, 0),
            Self::Abort(_) => (FrameKind::Abort, 0),
            Self::Goodbye(_) => (FrameKind::Goodbye, 0),
            Self::Peers(_) => (FrameKind::Peers, FLAG_SKIPPABLE),
        };
        let start = frame::begin(out, kind, flags);
        match self {
            Self::Hello(body) => codec::append(body, out),
            Self::Welcome(body) => codec::append(body, out),
            Self::Refuse(body) | Self::Abort(body) => codec::append(body, out),
            Self::Confirm => Ok(()),
            Self::Goodbye(body) => codec::append(body, out),
            Self::Peers(body) => codec::append(body, out),
        }
        .map_err(|detail| WireError::Body { kind: kind.name(), detail })?;
        frame::finish(out, start, 0);
        Ok(())
    }

    /// Decodes a frame that came on a control stream.
    ///
    /// # Errors
    /// When it does not belong there, or its body is not valid.
    pub fn decode(frame: &Frame) -> Result<Self, WireError> {
        let kind = frame.kind.name();
        let body = |detail| WireError::Body { kind, detail };
        Ok(match frame.kind {
            FrameKind::Hello => Self::Hello(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Welcome => Self::Welcome(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Refuse => Self::Refuse(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Abort => Self::Abort(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Goodbye => Self::Goodbye(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Confirm if frame.body.is_empty() => Self::Confirm,
            FrameKind::Confirm => return Err(WireError::Trailing { kind, extra: frame.body.len() }),
            FrameKind::Peers => {
                let peers: Vec<PeerAddresses> = codec::decode_control(&frame.body).map_err(body)?;
                let most = peers.iter().map(|peer| peer.addresses.len()).max().unwrap_or(0);
                if peers.len() > MAX_PEERS_PER_FRAME || most > MAX_ADDRESSES_PER_PEER {
                    let detail = format!("{} peers with up to {most} addresses", peers.len());
                    return Err(WireError::Invalid { kind, field: "list", detail });
                }
                Self::Peers(peers)
            }
            _ => return Err(WireError::Misplaced { kind, stream: "control" }),
        })
    }
}
