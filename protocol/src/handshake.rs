//! The handshake on the control stream, as a state machine of each end. TLS has already shown that both ends hold
//! certificates of one authority; here they agree on who they are and what they speak.
//!
//! ```text
//! dialler                         acceptor
//!    │── Hello ──────────────────────▶│  checks; asks its owner to admit
//!    │◀───────────── Welcome | Refuse │
//!    │  checks; asks its owner        │
//!    │── Confirm | Abort ────────────▶│
//!    ▼                                ▼
//! agreed                           agreed
//! ```
//! The connection carries signals only when both ends have agreed, so a connection that loses against another one of
//! the same two nodes (D2) loses no signal. Every refusal has a code and a text, and both ends get it.

mod extensions;
mod features;
mod refusal;

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    control::ControlFrame,
    error::WireError,
    id::{ClusterName, NodeId, SessionId},
    limits::{MAX_ADDRESSES_PER_PEER, MAX_LANES, MAX_MESSAGE_BYTES_CEILING, MAX_MESSAGE_BYTES_FLOOR},
};

pub use extensions::{RENEW, RENEW_SESSION, RenewedSession, SESSION_PROOF_LABEL};
pub use features::Features;
pub use refusal::{NewerLife, Refusal, RefusalCode};

/// The oldest version of the protocol that this code speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest.
pub const PROTOCOL_MAX: u16 = 1;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A member of the mesh.
    Node,
    /// A client of a member.
    Client,
}

/// How the dialler introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest and newest protocol version that it speaks.
    pub versions: (u16, u16),
    /// What else it can do.
    pub features: Features,
    /// Its cluster; must be the one of its certificate, and ours.
    pub cluster: ClusterName,
    /// Node or client; must be what its certificate says.
    pub role: Role,
    /// Its name and incarnation. A client's name is its certificate's; its incarnation tells its program runs apart.
    pub node: NodeId,
    /// The port that it listens on; 0 for a client.
    pub listen_port: u16,
    /// Addresses that it wants to be dialled at; none: where it is seen to come from, at `listen_port`.
    pub advertised: Vec<SocketAddr>,
    /// The largest message that it takes, in bytes.
    pub max_message_bytes: u32,
    /// How many lanes it opens.
    pub lanes: u8,
    /// The acceptor told it in an earlier try that both are connected already, but it knows of no such connection: the
    /// acceptor shall give up the old one.
    pub replace: bool,
    /// Settings of versions to come: unknown ones are ignored.
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// The acceptor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version to speak.
    pub version: u16,
    /// The features to use.
    pub features: Features,
    /// Who it is.
    pub node: NodeId,
    /// Addresses that it wants to be dialled at.
    pub advertised: Vec<SocketAddr>,
    /// The largest message that it takes, in bytes.
    pub max_message_bytes: u32,
    /// How many lanes it opens.
    pub lanes: u8,
    /// The session, if the dialler is a client.
    pub session: Option<SessionId>,
    /// Settings of versions to come.
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// What TLS has shown about the other end.
#[derive(Debug, Clone)]
pub struct CertificateFacts {
    /// The cluster in its certificate.
    pub cluster: ClusterName,
    /// The role in its certificate.
    pub role: Role,
    /// Whether its certificate allows the name that it claims; asked with that name.
    pub allows_name: fn(&[String], &str) -> bool,
    /// The names in its certificate, for `allows_name` and for errors.
    pub names: Vec<String>,
}

/// The other end, as the handshake knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Node or client.
    pub role: Role,
    /// Its name and incarnation.
    pub node: NodeId,
    /// Its port, 0 if it does not listen.
    pub listen_port: u16,
    /// Addresses that it wants to be dialled at.
    pub advertised: Vec<SocketAddr>,
    /// The largest message that it takes.
    pub max_message_bytes: usize,
    /// How many lanes it opens.
    pub lanes: u8,
    /// It asks us to give up an older connection with it.
    pub replace: bool,
    /// It asks to go on with what both have on this connection; see [`RENEW`].
    pub renew: bool,
    /// It asks, as a client, to go on with this session.
    pub renewed_session: Option<RenewedSession>,
    /// After how much silence it takes the connection for lost, if it says so.
    pub idle_timeout: Option<Duration>,
}

/// What both ends have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The other end.
    pub peer: PeerInfo,
    /// The protocol version.
    pub version: u16,
    /// The features.
    pub features: Features,
    /// The client's session, if one end is a client.
    pub session: Option<SessionId>,
}

/// What the owner of the machine has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this frame.
    Send(ControlFrame),
    /// Decide whether to take this peer, and call [`Handshake::admit`] or [`Handshake::refuse`].
    Decide(PeerInfo),
    /// The connection is agreed.
    Agreed(Box<Agreement>),
    /// It is not: we refused, or the other end did. Close it when what was to be sent has been.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether it was us.
        by_us: bool,
    },
}

/// One end of one handshake.
#[derive(Debug)]
pub struct Handshake {
    local: Hello,
    certificate: CertificateFacts,
    state: State,
    /// What the other end has said before it refuses.
    newer_life: Option<NewerLife>,
}

#[derive(Debug)]
enum State {
    /// Dialler: the Hello is to be sent.
    Fresh,
    /// Dialler: waits for Welcome or Refuse.
    AwaitWelcome,
    /// Dialler: its owner decides.
    DialDecision(Box<Agreement>),
    /// Acceptor: waits for Hello.
    AwaitHello,
    /// Acceptor: its owner decides.
    AcceptDecision(Box<Agreement>),
    /// Acceptor: waits for Confirm or Abort.
    AwaitConfirm(Box<Agreement>),
    /// Agreed or refused.
    Done,
}

impl Handshake {
    /// The dialling end. `local` is what we say of ourselves.
    #[must_use]
    pub fn dial(local: Hello, certificate: CertificateFacts) -> Self {
        Self { local, certificate, state: State::Fresh, newer_life: None }
    }

    /// The accepting end.
    #[must_use]
    pub fn accept(local: Hello, certificate: CertificateFacts) -> Self {
        Self { local, certificate, state: State::AwaitHello, newer_life: None }
    }

    /// The dialler's first step; the acceptor has none.
    #[must_use]
    pub fn start(&mut self) -> Vec<Action> {
        match self.state {
            State::Fresh => {
                self.state = State::AwaitWelcome;
                vec![Action::Send(ControlFrame::Hello(self.local.clone()))]
            }
            _ => Vec::new(),
        }
    }

    /// Takes a frame from the other end.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] when the frame has no business in the present state.
    pub fn handle(&mut self, frame: ControlFrame) -> Result<Vec<Action>, WireError> {
        if let ControlFrame::NewerLife(newer) = &frame
            && self.newer_life.is_none()
            && self.may_be_refused()
        {
            self.newer_life = Some(*newer);
            return Ok(Vec::new());
        }
        let state = std::mem::replace(&mut self.state, State::Done);
        match (state, frame) {
            (State::AwaitHello, ControlFrame::Hello(hello)) => Ok(match self.check_hello(&hello) {
                Ok(agreement) => {
                    let peer = agreement.peer.clone();
                    self.state = State::AcceptDecision(Box::new(agreement));
                    vec![Action::Decide(peer)]
                }
                Err(refusal) => self.refused_by_us(refusal, ControlFrame::Refuse),
            }),
            (State::AwaitWelcome, ControlFrame::Welcome(welcome)) => Ok(match self.check_welcome(welcome) {
                Ok(agreement) => {
                    let peer = agreement.peer.clone();
                    self.state = State::DialDecision(Box::new(agreement));
                    vec![Action::Decide(peer)]
                }
                Err(refusal) => self.refused_by_us(refusal, ControlFrame::Abort),
            }),
            // The other end may give up while our owner still decides.
            (State::AwaitWelcome | State::DialDecision(_), ControlFrame::Refuse(refusal))
            | (State::AcceptDecision(_) | State::AwaitConfirm(_), ControlFrame::Abort(refusal)) => {
                let newer_life = self.newer_life.filter(|_| refusal.code == RefusalCode::OlderIncarnation);
                Ok(vec![Action::Refused { refusal: Refusal { newer_life, ..refusal }, by_us: false }])
            }
            (State::AwaitConfirm(agreement), ControlFrame::Confirm) => Ok(vec![Action::Agreed(agreement)]),
            (state, frame) => {
                let detail = match state {
                    State::Fresh | State::AwaitHello => "the handshake begins with Hello",
                    State::AwaitWelcome => "Welcome or Refuse is awaited",
                    State::DialDecision(_) | State::AcceptDecision(_) => "the last frame is not answered yet",
                    State::AwaitConfirm(_) => "Confirm or Abort is awaited",
                    State::Done => "the handshake is over",
                };
                Err(WireError::Unexpected { kind: frame_name(&frame), detail })
            }
        }
    }

    /// The owner takes the peer. `session` is given by an acceptor to a client.
    #[must_use]
    pub fn admit(&mut self, session: Option<SessionId>) -> Vec<Action> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::AcceptDecision(mut agreement) => {
                agreement.session = session;
                let welcome = Welcome {
                    version: agreement.version,
                    features: agreement.features,
                    node: self.local.node.clone(),
                    advertised: self.local.advertised.clone(),
                    max_message_bytes: self.local.max_message_bytes,
                    lanes: self.local.lanes,
                    session,
                    extensions: Vec::new(),
                };
                self.state = State::AwaitConfirm(agreement);
                vec![Action::Send(ControlFrame::Welcome(welcome))]
            }
            State::DialDecision(agreement) => {
                vec![Action::Send(ControlFrame::Confirm), Action::Agreed(agreement)]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// The owner does not take the peer, or gives up.
    #[must_use]
    pub fn refuse(&mut self, code: RefusalCode, text: impl Into<String>) -> Vec<Action> {
        self.refuse_with(self.refusal(code, text.into()))
    }

    /// The owner does not take the peer, since it has known a newer life of it.
    #[must_use]
    pub fn refuse_life(&mut self, newer: NewerLife, text: impl Into<String>) -> Vec<Action> {
        let refusal = self.refusal(RefusalCode::OlderIncarnation, text.into());
        self.refuse_with(Refusal { newer_life: Some(newer), ..refusal })
    }

    fn may_be_refused(&self) -> bool {
        match self.state {
            State::AwaitWelcome | State::DialDecision(_) | State::AcceptDecision(_) | State::AwaitConfirm(_) => true,
            State::Fresh | State::AwaitHello | State::Done => false,
        }
    }

    fn refuse_with(&mut self, refusal: Refusal) -> Vec<Action> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Vec::new(),
            // Nothing was sent yet, and nothing but Hello may be first.
            State::Fresh => vec![Action::Refused { refusal, by_us: true }],
            State::AwaitHello | State::AcceptDecision(_) | State::AwaitConfirm(_) => {
                self.refused_by_us(refusal, ControlFrame::Refuse)
            }
            State::AwaitWelcome | State::DialDecision(_) => self.refused_by_us(refusal, ControlFrame::Abort),
        }
    }

    fn refused_by_us(&self, refusal: Refusal, frame: fn(Refusal) -> ControlFrame) -> Vec<Action> {
        let newer = refusal.newer_life.map(|newer| Action::Send(ControlFrame::NewerLife(newer)));
        let told = [Action::Send(frame(refusal.clone())), Action::Refused { refusal, by_us: true }];
        newer.into_iter().chain(told).collect()
    }

    fn refusal(&self, code: RefusalCode, text: String) -> Refusal {
        Refusal { code, text, by: Some(self.local.node.clone()), newer_life: None }.cut()
    }

    fn check_hello(&self, hello: &Hello) -> Result<Agreement, Refusal> {
        let (theirs, ours) = (hello.versions, self.local.versions);
        let version = theirs.1.min(ours.1);
        if theirs.0 > theirs.1 || version < theirs.0.max(ours.0) {
            let text = format!(
                "{} speaks protocol {} to {}, {} speaks {} to {}: upgrade the older one by one release at a time",
                hello.node, theirs.0, theirs.1, self.local.node, ours.0, ours.1
            );
            return Err(self.refusal(RefusalCode::NoCommonVersion, text));
        }
        if hello.cluster != self.local.cluster {
            let text = format!(
                "{} is of cluster `{}`, {} of cluster `{}`: check the certificates and the address that was dialled",
                hello.node, hello.cluster, self.local.node, self.local.cluster
            );
            return Err(self.refusal(RefusalCode::WrongCluster, text));
        }
        let peer = PeerInfo {
            role: hello.role,
            node: hello.node.clone(),
            listen_port: hello.listen_port,
            advertised: hello.advertised.clone(),
            max_message_bytes: self.check_sizes(hello.max_message_bytes, hello.lanes, &hello.advertised)?,
            lanes: hello.lanes,
            replace: hello.replace,
            renew: hello.renews(),
            renewed_session: hello.renewed_session(),
            idle_timeout: hello.idle_timeout(),
        };
        self.check_certificate(&peer)?;
        let features = hello.features.common(self.local.features);
        Ok(Agreement { peer, version, features, session: None })
    }

    fn check_welcome(&self, welcome: Welcome) -> Result<Agreement, Refusal> {
        let ours = self.local.versions;
        if welcome.version < ours.0 || welcome.version > ours.1 {
            let text = format!("{} chose protocol {}, which was not offered", welcome.node, welcome.version);
            return Err(self.refusal(RefusalCode::NoCommonVersion, text));
        }
        if welcome.session.is_some() != (self.local.role == Role::Client) {
            let text = format!("{} gives sessions to those who are no clients, or none to clients", welcome.node);
            return Err(self.refusal(RefusalCode::BadHello, text));
        }
        let max_message_bytes = self.check_sizes(welcome.max_message_bytes, welcome.lanes, &welcome.advertised)?;
        let peer = PeerInfo {
            role: Role::Node,
            node: welcome.node,
            listen_port: 0,
            advertised: welcome.advertised,
            max_message_bytes,
            lanes: welcome.lanes,
            replace: false,
            renew: false,
            renewed_session: None,
            idle_timeout: None,
        };
        self.check_certificate(&peer)?;
        let features = welcome.features.common(self.local.features);
        Ok(Agreement { peer, version: welcome.version, features, session: welcome.session })
    }

    fn check_sizes(&self, max_message_bytes: u32, lanes: u8, addresses: &[SocketAddr]) -> Result<usize, Refusal> {
        let message = max_message_bytes as usize;
        if !(MAX_MESSAGE_BYTES_FLOOR..=MAX_MESSAGE_BYTES_CEILING).contains(&message) {
            let text = format!(
                "a message limit of {message} bytes is outside {MAX_MESSAGE_BYTES_FLOOR} to {MAX_MESSAGE_BYTES_CEILING}"
            );
            return Err(self.refusal(RefusalCode::BadHello, text));
        }
        if lanes == 0 || usize::from(lanes) > MAX_LANES {
            return Err(self.refusal(RefusalCode::BadHello, format!("{lanes} lanes; 1 to {MAX_LANES} are possible")));
        }
        if addresses.len() > MAX_ADDRESSES_PER_PEER {
            let text = format!("{} addresses; at most {MAX_ADDRESSES_PER_PEER} are taken", addresses.len());
            return Err(self.refusal(RefusalCode::BadHello, text));
        }
        Ok(message)
    }

    fn check_certificate(&self, peer: &PeerInfo) -> Result<(), Refusal> {
        let facts = &self.certificate;
        if facts.cluster != self.local.cluster {
            let text = format!(
                "the certificate of {} is of cluster `{}`, not `{}`",
                peer.node, facts.cluster, self.local.cluster
            );
            return Err(self.refusal(RefusalCode::WrongCluster, text));
        }
        if facts.role != peer.role {
            let text = format!("{} says it is a {:?}, its certificate is a {:?}'s", peer.node, peer.role, facts.role);
            return Err(self.refusal(RefusalCode::WrongRole, text));
        }
        if !(facts.allows_name)(&facts.names, peer.node.name().as_str()) {
            let text = format!(
                "the certificate of {} is for {}: issue one with that name, or set the node's name to one of them",
                peer.node.name(),
                if facts.names.is_empty() { "no name at all".to_owned() } else { facts.names.join(", ") }
            );
            return Err(self.refusal(RefusalCode::NameNotInCertificate, text));
        }
        Ok(())
    }
}

fn frame_name(frame: &ControlFrame) -> &'static str {
    match frame {
        ControlFrame::Hello(_) => "Hello",
        ControlFrame::Welcome(_) => "Welcome",
        ControlFrame::Refuse(_) => "Refuse",
        ControlFrame::Confirm => "Confirm",
        ControlFrame::Abort(_) => "Abort",
        ControlFrame::Goodbye(_) => "Goodbye",
        ControlFrame::Peers(_) => "Peers",
        ControlFrame::HaveYouHeard(_) => "HaveYouHeard",
        ControlFrame::Heard(_) => "Heard",
        ControlFrame::Renew => "Renew",
        ControlFrame::Leaving(_) => "Leaving",
        ControlFrame::NewerLife(_) => "NewerLife",
    }
}
