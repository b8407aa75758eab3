//! Frames of the control stream: handshake, addresses of others, the orderly end. Their bodies are bincode and bounded
//! by [`MAX_CONTROL_BODY_BYTES`].

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    error::WireError,
    frame::{self, FLAG_SKIPPABLE, Frame, FrameKind},
    handshake::{Hello, NewerLife, Refusal, Welcome},
    id::NodeId,
    limits::{MAX_ADDRESSES_PER_PEER, MAX_CONTROL_BODY_BYTES, MAX_PEERS_PER_FRAME, MAX_REASON_BYTES},
    text,
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

impl Goodbye {
    /// With its text cut at [`MAX_REASON_BYTES`].
    #[must_use]
    pub fn cut(mut self) -> Self {
        text::cut_string(&mut self.reason, MAX_REASON_BYTES);
        self
    }
}

/// When a node was heard last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Which node.
    pub node: NodeId,
    /// Milliseconds since anything came from it; `None` if there is no connection with it.
    pub ms_ago: Option<u32>,
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
    /// Asks whether the peer hears a node from which nothing comes here. Between nodes that both have the feature.
    HaveYouHeard(NodeId),
    /// Tells it.
    Heard(Heard),
    /// Asks a client to dial this node for a connection that takes this one's place, as after the node's certificate was renewed. To
    /// one that has the feature.
    Renew,
    /// A node tells its client that it is about to leave, and why: the client looks for another one meanwhile. A client tells its
    /// node that it has found one, and stays for what it waits for. Between ends that both have the feature.
    Leaving(Goodbye),
    /// Before [`Refuse`](Self::Refuse) or [`Abort`](Self::Abort) with
    /// [`OlderIncarnation`](crate::handshake::RefusalCode::OlderIncarnation): of what life of its name the peer is older.
    NewerLife(NewerLife),
}

impl ControlFrame {
    /// Appends the frame.
    ///
    /// # Errors
    /// When the other end would not take it: [`WireError::FrameTooLarge`] for a body beyond
    /// [`MAX_CONTROL_BODY_BYTES`], [`WireError::Invalid`] for a list of too many peers. Nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let (kind, flags) = match self {
            Self::Hello(_) => (FrameKind::Hello, 0),
            Self::Welcome(_) => (FrameKind::Welcome, 0),
            Self::Refuse(_) => (FrameKind::Refuse, 0),
            Self::Confirm => (FrameKind::Confirm, 0),
            Self::Abort(_) => (FrameKind::Abort, 0),
            Self::Goodbye(_) => (FrameKind::Goodbye, 0),
            Self::Peers(_) => (FrameKind::Peers, FLAG_SKIPPABLE),
            Self::HaveYouHeard(_) => (FrameKind::HaveYouHeard, FLAG_SKIPPABLE),
            Self::Heard(_) => (FrameKind::Heard, FLAG_SKIPPABLE),
            Self::Renew => (FrameKind::Renew, FLAG_SKIPPABLE),
            Self::Leaving(_) => (FrameKind::Leaving, FLAG_SKIPPABLE),
            Self::NewerLife(_) => (FrameKind::NewerLife, FLAG_SKIPPABLE),
        };
        let start = frame::begin(out, kind, flags);
        let encoded = match self {
            Self::Hello(body) => codec::append(body, out),
            Self::Welcome(body) => codec::append(body, out),
            Self::Refuse(body) | Self::Abort(body) => codec::append(&body.clone().cut(), out),
            Self::Confirm | Self::Renew => Ok(()),
            Self::Goodbye(body) | Self::Leaving(body) => codec::append(&body.clone().cut(), out),
            Self::Peers(body) => codec::append(body, out),
            Self::HaveYouHeard(body) => codec::append(body, out),
            Self::Heard(body) => codec::append(body, out),
            Self::NewerLife(body) => codec::append(body, out),
        }
        .map_err(|detail| WireError::Body { kind: kind.name(), detail });
        let length = frame::body_bytes(out, start);
        let fits = match self {
            Self::Peers(peers) => check_peers(peers),
            _ if length > MAX_CONTROL_BODY_BYTES => {
                let limit = MAX_CONTROL_BODY_BYTES;
                Err(WireError::FrameTooLarge { kind: kind as u8, length: length as u64, limit })
            }
            _ => Ok(()),
        };
        let encoded = encoded.and(fits);
        match encoded {
            Ok(()) => frame::finish(out, start, 0),
            Err(_) => frame::cancel(out, start),
        }
        encoded
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
            FrameKind::Refuse => Self::Refuse(codec::decode_control::<Refusal>(&frame.body).map_err(body)?.cut()),
            FrameKind::Abort => Self::Abort(codec::decode_control::<Refusal>(&frame.body).map_err(body)?.cut()),
            FrameKind::Goodbye => Self::Goodbye(codec::decode_control::<Goodbye>(&frame.body).map_err(body)?.cut()),
            FrameKind::Confirm if frame.body.is_empty() => Self::Confirm,
            FrameKind::Renew if frame.body.is_empty() => Self::Renew,
            FrameKind::Confirm | FrameKind::Renew => return Err(WireError::Trailing { kind, extra: frame.body.len() }),
            FrameKind::Peers => {
                let peers: Vec<PeerAddresses> = codec::decode_control(&frame.body).map_err(body)?;
                check_peers(&peers)?;
                Self::Peers(peers)
            }
            FrameKind::HaveYouHeard => Self::HaveYouHeard(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Heard => Self::Heard(codec::decode_control(&frame.body).map_err(body)?),
            FrameKind::Leaving => Self::Leaving(codec::decode_control::<Goodbye>(&frame.body).map_err(body)?.cut()),
            FrameKind::NewerLife => Self::NewerLife(codec::decode_control(&frame.body).map_err(body)?),
            _ => return Err(WireError::Misplaced { kind, stream: "control" }),
        })
    }
}

/// A list within these limits always fits a control body, as a compile-time assertion shows.
fn check_peers(peers: &[PeerAddresses]) -> Result<(), WireError> {
    let most = peers.iter().map(|peer| peer.addresses.len()).max().unwrap_or(0);
    if peers.len() <= MAX_PEERS_PER_FRAME && most <= MAX_ADDRESSES_PER_PEER {
        return Ok(());
    }
    let detail = format!(
        "{} peers with up to {most} addresses; at most {MAX_PEERS_PER_FRAME} with {MAX_ADDRESSES_PER_PEER} each: send \
         several frames",
        peers.len()
    );
    Err(WireError::Invalid { kind: FrameKind::Peers.name(), field: "list", detail })
}
