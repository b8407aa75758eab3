//! A client that is played by hand, as far as connections, control frames and messages go: so that each moment of a renewal is met.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn::{Connection, SendStream};
use rookery_node::Node;
use rookery_runtime::{
    NodeId, Pid,
    net::{
        control::{
            ConnectionError, Control, ControlReceiver, ControlSender, Verdict, facts_of, session_proof, shake_hands,
        },
        settings::ConnectionSettings,
    },
    protocol::{
        ControlFrame, LaneEncoder, Payload, Serial, SessionId, Signal, SignalBody,
        handshake::{
            Agreement, Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, RefusalCode, RenewedSession, Role,
        },
    },
    tls::{PeerIdentity, SERVER_NAME},
};

use crate::{DEADLINE, cluster::client_identity, within};

/// The handshake of the client `eve` with the node that is there, as far as it comes.
///
/// # Panics
/// When nobody is there.
pub async fn shake(
    node: SocketAddr,
    features: Features,
    renewed: Option<RenewedSession>,
) -> (Connection, Control, Result<Agreement, ConnectionError>) {
    let identity = client_identity("eve");
    let config = identity.quinn_client_config(ConnectionSettings::default().transport()).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, node, SERVER_NAME).unwrap().await.unwrap();
    let mut control = Control::open(&connection).await.unwrap();
    let hello = Hello {
        versions: (PROTOCOL_MIN, PROTOCOL_MAX),
        features,
        cluster: identity.own().cluster.clone(),
        role: Role::Client,
        node: "eve.1".parse().unwrap(),
        listen_port: 0,
        advertised: Vec::new(),
        max_message_bytes: 1 << 20,
        lanes: 1,
        replace: false,
        extensions: Vec::new(),
    };
    let hello = renewed.iter().fold(hello, Hello::with_session);
    let facts = facts_of(&PeerIdentity::of_connection(&connection).unwrap());
    let agreed = shake_hands(&mut control, true, hello, facts, |_| Verdict::Admit(None)).await;
    (connection, control, agreed)
}

/// See the module.
#[derive(Debug)]
pub struct Hand {
    /// Its node, and where that is.
    home: (NodeId, SocketAddr),
    connection: Connection,
    sender: ControlSender,
    receiver: ControlReceiver,
    lane: SendStream,
    encoder: LaneEncoder,
    session: SessionId,
    /// Those before: their last words are to be heard.
    former: Vec<Connection>,
}

impl Hand {
    /// Connects.
    ///
    /// # Panics
    /// When that does not succeed.
    pub async fn connect(node: &Node) -> Self {
        let home = (node.runtime().node().clone(), node.listen_address());
        Self::dial(home, None).await.unwrap()
    }

    /// Connects, and takes over the session of `former` if there is one.
    async fn dial(home: (NodeId, SocketAddr), former: Option<&Self>) -> Result<Self, Refusal> {
        let proof = |former: &Self| session_proof(&former.connection).unwrap();
        let renewed = former.map(|former| RenewedSession { session: former.session, proof: proof(former) });
        let (connection, control, agreed) = shake(home.1, Features::OURS, renewed).await;
        let agreement = match agreed {
            Ok(agreement) => agreement,
            Err(ConnectionError::RefusedByPeer(refusal)) => return Err(refusal),
            Err(error) => panic!("{error}"),
        };
        connection.set_max_concurrent_uni_streams(16_u32.into());
        let (sender, receiver) = control.split();
        let mut lane = connection.open_uni().await.unwrap();
        let mut bytes = Vec::new();
        LaneEncoder::open(0, &mut bytes);
        lane.write_all(&bytes).await.unwrap();
        let (session, encoder) = (agreement.session.unwrap(), LaneEncoder::new(home.0.clone(), home.0.clone()));
        Ok(Self { home, connection, sender, receiver, lane, encoder, session, former: Vec::new() })
    }

    /// Another connection for the same session, as soon as the node knows this one; or why there is none. The node goes over to it by
    /// itself, and this end has not yet.
    ///
    /// # Errors
    /// The node has refused it.
    ///
    /// # Panics
    /// When the node does not come to know this one.
    pub async fn begin_to_renew(&self) -> Result<Self, Refusal> {
        let start = Instant::now();
        loop {
            match Self::dial(self.home.clone(), Some(self)).await {
                // It has not heard yet that the one before is done.
                Err(refusal) if refusal.code == RefusalCode::Duplicate => {
                    assert!(start.elapsed() < DEADLINE, "{refusal}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                dialled => return dialled,
            }
        }
    }

    /// Waits until the node has gone over from this connection.
    ///
    /// # Panics
    /// When it does not.
    pub async fn node_goes_over(&mut self) {
        let mut lane = within("the node's lane", self.connection.accept_uni()).await.unwrap();
        within("its end", lane.read_to_end(1 << 20)).await.unwrap();
    }

    /// Goes over to `new`, once the node has. Gives the control frames that have come by the former one until its end.
    ///
    /// # Panics
    /// When the node does not do its part.
    pub async fn go_over(&mut self, new: Self) -> Vec<ControlFrame> {
        let mut old = std::mem::replace(self, new);
        old.lane.finish().unwrap();
        let mut frames = Vec::new();
        loop {
            match within("the end of the old one", old.receiver.receive()).await {
                Ok(frame) => frames.push(frame),
                Err(ConnectionError::StreamClosed(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        old.sender.finish().await.unwrap();
        self.former.append(&mut old.former);
        self.former.push(old.connection);
        frames
    }

    /// Renews its connection.
    ///
    /// # Errors
    /// The node has refused it.
    pub async fn renew(&mut self) -> Result<(), Refusal> {
        let new = self.begin_to_renew().await?;
        self.node_goes_over().await;
        self.go_over(new).await;
        Ok(())
    }

    /// Sends [`Note::Number`](crate::Note::Number) from the client's process of that serial.
    ///
    /// # Panics
    /// When the connection is lost.
    pub async fn send(&mut self, serial: u32, to: &Pid, number: u64) {
        let from = Pid::new(self.home.0.clone(), Serial::of_client(self.session, serial));
        let payload = Payload::json(format!("{{\"Number\":{number}}}"));
        let body = SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None };
        let mut bytes = Vec::new();
        self.encoder.signal(&Signal { from, to: to.into(), body }, &mut bytes).unwrap();
        self.lane.write_all(&bytes).await.unwrap();
    }

    /// The next frame of the control stream.
    ///
    /// # Panics
    /// When none comes.
    pub async fn frame(&mut self) -> ControlFrame {
        within("a control frame", self.receiver.receive()).await.unwrap()
    }

    /// Says this on the control stream.
    ///
    /// # Panics
    /// When the connection is lost.
    pub async fn say(&mut self, frame: ControlFrame) {
        self.sender.send(&frame).await.unwrap();
    }

    /// Ends its lane, and says goodbye.
    ///
    /// # Panics
    /// When the connection is lost.
    pub async fn leave(&mut self, goodbye: ControlFrame) {
        self.lane.finish().unwrap();
        self.say(goodbye).await;
        within("the node closes", self.connection.closed()).await;
    }
}
