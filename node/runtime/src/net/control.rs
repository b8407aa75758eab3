//! The control stream of a connection: whole control frames in and out, and the handshake driven over it.
//!
//! The handshake's decisions are `rookery_protocol::handshake`'s, and its owner's, who is asked once whether to take
//! the peer. The stream has the highest priority, so that a goodbye does not queue behind data. A connection that ends
//! is closed with one of few codes and a text, which both ends can log.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use rookery_protocol::{
    ControlFrame, FrameDecoder, SessionId, WireError,
    handshake::{
        Action, Agreement, CertificateFacts, Handshake, Hello, NewerLife, PeerInfo, Refusal, RefusalCode, Role,
        SESSION_PROOF_LABEL,
    },
    limits::MAX_CONTROL_BODY_BYTES,
};
use thiserror::Error;

use crate::tls::{CertificateRole, IdentityError, PeerIdentity};

/// How many bytes are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Connections are closed with one of these codes.
pub mod close_code {
    use quinn::VarInt;

    /// An orderly end.
    pub const GOODBYE: VarInt = VarInt::from_u32(0);
    /// The handshake was refused; the refusal went ahead on the control stream.
    pub const REFUSED: VarInt = VarInt::from_u32(1);
    /// The peer broke the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(2);
    /// Another connection of the same two nodes takes its place.
    pub const REPLACED: VarInt = VarInt::from_u32(3);
    /// The peer took too long.
    pub const TOO_SLOW: VarInt = VarInt::from_u32(4);
    /// All of it has arrived, and what follows comes over another one.
    pub const RENEWED: VarInt = VarInt::from_u32(5);
}

/// Why a connection could not be made, or has ended.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// No socket could be had.
    #[error("cannot open a socket: {0}")]
    Socket(std::io::Error),
    /// The address cannot be dialled.
    #[error("cannot dial: {0}")]
    Dial(quinn::ConnectError),
    /// QUIC or TLS says so.
    #[error("{}", describe(.0))]
    Quic(#[from] quinn::ConnectionError),
    /// The peer broke the protocol.
    #[error("protocol error: {0}")]
    Wire(#[from] WireError),
    /// The peer's certificate.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// We refused the peer.
    #[error("refused by us: {0}")]
    RefusedByUs(Refusal),
    /// The peer refused us.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// Nothing came back from there.
    #[error("nobody answers there (waited {0:?})")]
    NoAnswer(Duration),
    /// The handshake took too long.
    #[error("the handshake did not come to an end within {0:?}")]
    HandshakeTimeout(Duration),
    /// The peer does not go over to the connection that it has agreed to go on with.
    #[error("it did not go over to the renewed connection: nothing has moved on the old one for {0:?}")]
    NotGoneOver(Duration),
    /// A stream broke.
    #[error("the {0} stream was closed by the peer")]
    StreamClosed(&'static str),
    /// The peer is too slow.
    #[error(transparent)]
    GiveUp(#[from] super::outbound::GiveUp),
    /// The peer left in good order.
    #[error("it left: {0}")]
    Goodbye(String),
    /// This end leaves in good order.
    #[error("this node leaves: {0}")]
    Leaving(String),
}

impl ConnectionError {
    /// Whether the peer has closed the connection since another one has taken its place, and nothing was left on it.
    #[must_use]
    pub fn is_renewed(&self) -> bool {
        matches!(self, Self::Quic(quinn::ConnectionError::ApplicationClosed(close)) if close.error_code == close_code::RENEWED)
    }

    /// The code to close the connection with.
    #[must_use]
    pub fn close_code(&self) -> quinn::VarInt {
        match self {
            Self::Goodbye(_) | Self::Leaving(_) => close_code::GOODBYE,
            Self::RefusedByUs(_) | Self::RefusedByPeer(_) | Self::Identity(_) => close_code::REFUSED,
            Self::NoAnswer(_) | Self::HandshakeTimeout(_) | Self::NotGoneOver(_) | Self::GiveUp(_) => {
                close_code::TOO_SLOW
            }
            Self::Socket(_) | Self::Dial(_) | Self::Quic(_) | Self::Wire(_) | Self::StreamClosed(_) => {
                close_code::PROTOCOL
            }
        }
    }
}

/// What quinn says, for an operator.
fn describe(error: &quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::TimedOut => "no answer (timed out)".to_owned(),
        quinn::ConnectionError::Reset => "the peer does not know this connection any more (reset)".to_owned(),
        quinn::ConnectionError::LocallyClosed => "closed here".to_owned(),
        quinn::ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            format!("closed by the peer: {}", String::from_utf8_lossy(&close.reason))
        }
        // TLS: the reason is ours, or the alert that became of it.
        quinn::ConnectionError::TransportError(error) if !error.reason.is_empty() => {
            format!("closed by us: {}", unwrapped(&error.reason))
        }
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
        {
            "who is there takes no connections now: it leaves, or has too much to do".to_owned()
        }
        quinn::ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::APPLICATION_ERROR =>
        {
            "the other end gave it up during the handshake".to_owned()
        }
        quinn::ConnectionError::ConnectionClosed(close) if !close.reason.is_empty() => {
            format!("closed by the peer: {}", unwrapped(&String::from_utf8_lossy(&close.reason)))
        }
        other => other.to_string(),
    }
}

/// A reason of ours, as rustls hands it on.
fn unwrapped(reason: &str) -> &str {
    reason.strip_prefix("other error: ").unwrap_or(reason)
}

/// The control stream.
#[derive(Debug)]
pub struct Control {
    send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
}

impl Control {
    /// Opens the stream, as the dialler.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn open(connection: &Connection) -> Result<Self, ConnectionError> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self::new(send, recv))
    }

    /// Waits for the stream, as the acceptor.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn accept(connection: &Connection) -> Result<Self, ConnectionError> {
        let (send, recv) = connection.accept_bi().await?;
        Ok(Self::new(send, recv))
    }

    fn new(send: SendStream, recv: RecvStream) -> Self {
        // Before any lane: liveness and goodbyes do not queue behind data.
        drop(send.set_priority(i32::MAX));
        Self { send, recv, frames: FrameDecoder::new(MAX_CONTROL_BODY_BYTES) }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&mut self, frame: &ControlFrame) -> Result<(), ConnectionError> {
        send(&mut self.send, frame).await
    }

    /// The next frame.
    ///
    /// # Errors
    /// The connection is lost, the peer broke the protocol, or closed the stream.
    pub async fn receive(&mut self) -> Result<ControlFrame, ConnectionError> {
        receive(&mut self.recv, &mut self.frames).await
    }

    /// The two halves, for a task each.
    #[must_use]
    pub fn split(self) -> (ControlSender, ControlReceiver) {
        (
            ControlSender { stream: self.send, pending: BytesMut::new() },
            ControlReceiver { recv: self.recv, frames: self.frames },
        )
    }
}

/// The sending half.
#[derive(Debug)]
pub struct ControlSender {
    stream: SendStream,
    /// What of frames is not handed to QUIC yet.
    pending: BytesMut,
}

impl ControlSender {
    /// As [`Control::send`]. If it is cancelled, the rest goes before the next frame, or with [`finish`](Self::finish).
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&mut self, frame: &ControlFrame) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.pending.extend_from_slice(&bytes);
        self.flush().await
    }

    /// Ends the stream, behind whole frames.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn finish(&mut self) -> Result<(), ConnectionError> {
        self.flush().await?;
        drop(self.stream.finish());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        while !self.pending.is_empty() {
            let written = self.stream.write(&self.pending).await.map_err(not_written)?;
            self.pending.advance(written);
        }
        Ok(())
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct ControlReceiver {
    recv: RecvStream,
    frames: FrameDecoder,
}

impl ControlReceiver {
    /// As [`Control::receive`].
    ///
    /// # Errors
    /// As there.
    pub async fn receive(&mut self) -> Result<ControlFrame, ConnectionError> {
        receive(&mut self.recv, &mut self.frames).await
    }
}

async fn send(stream: &mut SendStream, frame: &ControlFrame) -> Result<(), ConnectionError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes)?;
    stream.write_all(&bytes).await.map_err(not_written)
}

fn not_written(error: quinn::WriteError) -> ConnectionError {
    match error {
        quinn::WriteError::ConnectionLost(error) => error.into(),
        _ => ConnectionError::StreamClosed("control"),
    }
}

async fn receive(stream: &mut RecvStream, frames: &mut FrameDecoder) -> Result<ControlFrame, ConnectionError> {
    loop {
        if let Some(frame) = frames.next_frame()? {
            return Ok(ControlFrame::decode(&frame)?);
        }
        match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => frames.push(chunk.bytes),
            Ok(None) => {
                frames.finish()?;
                return Err(ConnectionError::StreamClosed("control"));
            }
            Err(quinn::ReadError::ConnectionLost(error)) => return Err(error.into()),
            Err(_) => return Err(ConnectionError::StreamClosed("control")),
        }
    }
}

/// What the owner of a handshake decides about a peer.
#[derive(Debug)]
pub enum Verdict {
    /// Take it; a client gets this session.
    Admit(Option<SessionId>),
    /// Do not.
    Refuse(RefusalCode, String),
    /// Do not, since a newer life of it is known.
    RefuseLife(NewerLife, String),
}

/// What TLS has shown about the peer, as the handshake wants it.
#[must_use]
pub fn facts_of(identity: &PeerIdentity) -> CertificateFacts {
    let (role, names) = match &identity.role {
        CertificateRole::Node => (Role::Node, identity.dns_names.clone()),
        CertificateRole::Client { name } => (Role::Client, vec![name.as_str().to_owned()]),
    };
    let cluster = identity.cluster.clone();
    let allows_name = match role {
        Role::Node => crate::tls::names_allow_node,
        Role::Client => |names: &[String], name: &str| names.iter().any(|own| own == name),
    };
    CertificateFacts { cluster, role, allows_name, names }
}

/// What proves that a client has the session of this connection; see [`SESSION_PROOF_LABEL`].
#[must_use]
pub fn session_proof(connection: &Connection) -> Option<[u8; 32]> {
    let mut proof = [0; 32];
    connection.export_keying_material(&mut proof, SESSION_PROOF_LABEL, b"").ok().map(|()| proof)
}

/// Runs the handshake over `control` to its end. `decide` is asked once about the peer.
///
/// # Errors
/// The handshake was refused by either end, the connection was lost, or the peer broke the protocol. The caller gives
/// the time limit.
pub async fn shake_hands(
    control: &mut Control,
    dialler: bool,
    hello: Hello,
    facts: CertificateFacts,
    mut decide: impl FnMut(&PeerInfo) -> Verdict,
) -> Result<Agreement, ConnectionError> {
    let mut handshake = if dialler { Handshake::dial(hello, facts) } else { Handshake::accept(hello, facts) };
    let mut actions = std::collections::VecDeque::from(handshake.start());
    loop {
        match actions.pop_front() {
            Some(Action::Send(frame)) => control.send(&frame).await?,
            Some(Action::Decide(peer)) => actions.extend(match decide(&peer) {
                Verdict::Admit(session) => handshake.admit(session),
                Verdict::Refuse(code, text) => handshake.refuse(code, text),
                Verdict::RefuseLife(newer, text) => handshake.refuse_life(newer, text),
            }),
            Some(Action::Agreed(agreement)) => return Ok(*agreement),
            Some(Action::Refused { refusal, by_us: true }) => return Err(ConnectionError::RefusedByUs(refusal)),
            Some(Action::Refused { refusal, by_us: false }) => return Err(ConnectionError::RefusedByPeer(refusal)),
            None => actions.extend(handshake.handle(control.receive().await?)?),
        }
    }
}
