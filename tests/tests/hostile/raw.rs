//! An attacker: a bare QUIC client that says what it likes, and hears what it is told. It holds whatever certificate a test
//! gives it, trusts every server, and keeps its connection alive so that silence is silence of Rookery's protocol alone.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rookery_node::{
    ClusterName, Incarnation, NodeId, NodeName, Pid,
    protocol::{
        ControlFrame, FrameDecoder, LaneEncoder, Serial, Signal, SignalBody,
        handshake::{Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Role, Welcome},
        limits::MAX_CONTROL_BODY_BYTES,
    },
    tls::{Identity, SERVER_NAME},
};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::timeout;

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// The TLS of somebody who holds this identity, and trusts everybody.
pub(crate) fn tls(identity: &Identity) -> rustls::ClientConfig {
    let mut config = identity.client_config().unwrap();
    config.dangerous().set_certificate_verifier(Arc::new(TrustsEveryone));
    config
}

/// One hostile connection.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn dial(config: rustls::ClientConfig, to: SocketAddr) -> Result<Self, ConnectionError> {
        Self::dial_with_window(config, to, 1 << 20).await
    }

    /// `window`: how much of what it does not read its kernel-like buffers take.
    pub(crate) async fn dial_with_window(
        config: rustls::ClientConfig,
        to: SocketAddr,
        window: u32,
    ) -> Result<Self, ConnectionError> {
        let mut transport = TransportConfig::default();
        transport.keep_alive_interval(Some(Duration::from_millis(200))).stream_receive_window(VarInt::from_u32(window));
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = soon("dial", endpoint.connect_with(config, to, SERVER_NAME).unwrap()).await?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Opens the control stream, and says `bytes` on it.
    pub(crate) async fn say(&self, bytes: &[u8]) -> Talk {
        self.try_say(bytes).await.unwrap()
    }

    /// As `say`, where the connection may be lost.
    pub(crate) async fn try_say(&self, bytes: &[u8]) -> Option<Talk> {
        let (mut send, recv) = soon("control stream", self.connection.open_bi()).await.ok()?;
        send.write_all(bytes).await.ok()?;
        Some(Talk::new(send, recv))
    }

    /// Says hello, is welcomed, and confirms.
    pub(crate) async fn join(&self, hello: Hello) -> (Talk, Welcome) {
        let mut talk = self.say(&encoded(&ControlFrame::Hello(hello))).await;
        let welcome = match talk.hear().await {
            ControlFrame::Welcome(welcome) => welcome,
            other => panic!("not welcomed: {other:?}"),
        };
        talk.send.write_all(&encoded(&ControlFrame::Confirm)).await.unwrap();
        (talk, welcome)
    }

    /// With which code and reason it is closed.
    pub(crate) async fn closed(&self) -> (u64, String) {
        match soon("close", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("not closed by the node: {other:?}"),
        }
    }

    /// Expects to be closed with this code, and a reason that has these words.
    pub(crate) async fn is_closed(&self, code: VarInt, words: &str) {
        let (got, reason) = self.closed().await;
        assert!(got == code.into_inner() && reason.contains(words), "{got} {reason:?}, not {code} with {words:?}");
    }
}

/// A control stream.
pub(crate) struct Talk {
    pub(crate) send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
}

impl Talk {
    pub(crate) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, recv, frames: FrameDecoder::new(MAX_CONTROL_BODY_BYTES) }
    }

    pub(crate) async fn hear(&mut self) -> ControlFrame {
        self.try_hear().await.unwrap()
    }

    /// As `hear`, where the connection may be lost.
    pub(crate) async fn try_hear(&mut self) -> Option<ControlFrame> {
        soon("a control frame", async {
            loop {
                if let Some(frame) = self.frames.next_frame().unwrap() {
                    return Some(ControlFrame::decode(&frame).unwrap());
                }
                self.frames.push(self.recv.read_chunk(1 << 16, true).await.ok()??.bytes);
            }
        })
        .await
    }
}

/// Listens as this node.
pub(crate) fn listen(identity: &Identity) -> Endpoint {
    let config = identity.quinn_server_config(Arc::default()).unwrap();
    Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Waits to be dialled, and welcomes whoever does.
pub(crate) async fn welcome_dial(listener: &Endpoint, own: &Hello) -> (Connection, Talk) {
    let connection = soon("a dial", async { listener.accept().await.unwrap().await }).await.unwrap();
    let (send, recv) = soon("its control stream", connection.accept_bi()).await.unwrap();
    let mut talk = Talk::new(send, recv);
    assert!(matches!(talk.hear().await, ControlFrame::Hello(_)));
    let welcome = Welcome {
        version: own.versions.1,
        features: own.features,
        node: own.node.clone(),
        advertised: Vec::new(),
        max_message_bytes: own.max_message_bytes,
        lanes: own.lanes,
        session: None,
        extensions: Vec::new(),
    };
    talk.send.write_all(&encoded(&ControlFrame::Welcome(welcome))).await.unwrap();
    (connection, talk)
}

pub(crate) fn encoded(frame: &ControlFrame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    bytes
}

/// A good hello; tests change what they lie about.
pub(crate) fn hello(cluster: &str, role: Role, name: &str) -> Hello {
    Hello {
        versions: (PROTOCOL_MIN, PROTOCOL_MAX),
        features: Features::OURS,
        cluster: ClusterName::new(cluster).unwrap(),
        role,
        node: NodeId::new(NodeName::new(name).unwrap(), Incarnation(1)),
        listen_port: 0,
        advertised: Vec::new(),
        max_message_bytes: 1 << 20,
        lanes: 1,
        replace: false,
        extensions: Vec::new(),
    }
}

/// The first bytes of a lane, and these signals. `own` is the sender's node, `peer` the receiver's.
pub(crate) fn lane(own: &NodeId, peer: &NodeId, signals: &[Signal]) -> Vec<u8> {
    let mut bytes = Vec::new();
    LaneEncoder::open(0, &mut bytes);
    let mut encoder = LaneEncoder::new(own.clone(), peer.clone());
    for signal in signals {
        encoder.signal(signal, &mut bytes).unwrap();
    }
    bytes
}

/// A signal of the client's first process.
pub(crate) fn from_client(welcome: &Welcome, to: &Pid, body: SignalBody) -> Signal {
    let serial = Serial::of_client(welcome.session.unwrap(), 1);
    Signal { from: Pid::new(welcome.node.clone(), serial), to: to.into(), body }
}

#[derive(Debug)]
struct TrustsEveryone;

impl ServerCertVerifier for TrustsEveryone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
