//! How often a client may renew the connection of its session: what is refused for that costs it nothing, and is tried again.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use quinn::{Connection, SendStream};
use rookery_client::Client;
use rookery_node::{AdminConfig, Node};
use rookery_runtime::{
    Pid,
    net::{
        control::{
            ConnectionError, Control, ControlReceiver, ControlSender, Verdict, facts_of, session_proof, shake_hands,
        },
        settings::ConnectionSettings,
    },
    protocol::{
        LaneEncoder, Payload, Serial, SessionId, Signal, SignalBody,
        handshake::{Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, RefusalCode, RenewedSession, Role},
        limits::{RENEWAL_EVERY, RENEWALS_AT_ONCE},
    },
    tls::{PeerIdentity, SERVER_NAME},
};
use rookery_tests::{
    DEADLINE, Puppet,
    cluster::{client_config, client_identity, mesh, node_identity},
    eventually,
    flow::{Seen, stream, watch},
    http::get,
    within,
};

/// How long the node may take to let a client renew again: what it says, and some slow looks.
const PATIENCE: Duration = Duration::from_secs(60);

async fn node() -> Node {
    let spread = Duration::from_millis(50);
    let nodes = mesh(1, |config| {
        config.renew_within = spread;
        config.admin = Some(AdminConfig::new("127.0.0.1:0".parse().unwrap()));
    });
    nodes.await.pop().unwrap()
}

/// A client that is played by hand, as far as it renews its connection.
struct Hand {
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
    /// Connects, and takes over the session of `former` if there is one.
    async fn new(node: &Node, former: Option<&Self>) -> Result<Self, Refusal> {
        let identity = client_identity("eve");
        let config = identity.quinn_client_config(ConnectionSettings::default().transport()).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(config, node.listen_address(), SERVER_NAME).unwrap().await.unwrap();
        connection.set_max_concurrent_uni_streams(16_u32.into());
        let mut control = Control::open(&connection).await.unwrap();
        let hello = Hello {
            versions: (PROTOCOL_MIN, PROTOCOL_MAX),
            features: Features::OURS,
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
        let proof = |former: &Self| session_proof(&former.connection).unwrap();
        let renewed = former.map(|former| RenewedSession { session: former.session, proof: proof(former) });
        let hello = renewed.iter().fold(hello, Hello::with_session);
        let facts = facts_of(&PeerIdentity::of_connection(&connection).unwrap());
        let agreement = match shake_hands(&mut control, true, hello, facts, |_| Verdict::Admit(None)).await {
            Ok(agreement) => agreement,
            Err(ConnectionError::RefusedByPeer(refusal)) => return Err(refusal),
            Err(error) => panic!("{error}"),
        };
        let (sender, receiver) = control.split();
        let mut lane = connection.open_uni().await.unwrap();
        let mut bytes = Vec::new();
        LaneEncoder::open(0, &mut bytes);
        lane.write_all(&bytes).await.unwrap();
        let own = node.runtime().node().clone();
        let encoder = LaneEncoder::new(own.clone(), own);
        Ok(Self {
            connection,
            sender,
            receiver,
            lane,
            encoder,
            session: agreement.session.unwrap(),
            former: Vec::new(),
        })
    }

    /// Goes over to another connection, as soon as the node knows this one; or tells why it may not.
    async fn renew(&mut self, node: &Node) -> Result<(), Refusal> {
        let start = Instant::now();
        let mut new = loop {
            match Self::new(node, Some(self)).await {
                Ok(new) => break new,
                // It has not heard yet that the one before is done.
                Err(refusal) if refusal.code == RefusalCode::Duplicate => {
                    assert!(start.elapsed() < DEADLINE, "{refusal}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(refusal) => return Err(refusal),
            }
        };
        assert_eq!(new.session, self.session);
        std::mem::swap(self, &mut new);
        let mut old = new;
        old.lane.finish().unwrap();
        let mut lane = within("the node's lane", old.connection.accept_uni()).await.unwrap();
        within("its end", lane.read_to_end(1 << 20)).await.unwrap();
        old.sender.finish().await.unwrap();
        let end = within("the end of the old one", old.receiver.receive()).await;
        assert!(matches!(end, Err(ConnectionError::StreamClosed(_))), "{end:?}");
        self.former.append(&mut old.former);
        self.former.push(old.connection);
        Ok(())
    }

    /// From the client's process of that number.
    async fn send(&mut self, from: u32, to: &Pid, number: u64) {
        let from = Pid::new(to.node().clone(), Serial::of_client(self.session, from));
        let payload = Payload::json(format!("{{\"Number\":{number}}}"));
        let body = SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None };
        let mut bytes = Vec::new();
        self.encoder.signal(&Signal { from, to: to.into(), body }, &mut bytes).unwrap();
        self.lane.write_all(&bytes).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_renews_some_times_in_a_row_and_then_is_told_to_wait_and_loses_nothing() {
    let node = node().await;
    let mut receives = Puppet::new(&node);
    let mut hand = Hand::new(&node, None).await.unwrap();
    let (start, mut renewed, mut refused) = (Instant::now(), 0, 0);
    // It renews as often as it can, also when it is told not to: as a client of a release before would, but sooner.
    let again = loop {
        hand.send(1, &receives.pid, renewed).await;
        assert_eq!(receives.number().await, renewed, "the connection that it has serves");
        let asked = Instant::now();
        match hand.renew(&node).await {
            Ok(()) if refused > 0 => break asked,
            Ok(()) => renewed += 1,
            Err(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Busy);
                assert!(refusal.text.contains("renews its connection too often"), "{refusal}");
                refused += 1;
                assert_eq!(node.clients(), 1, "its session stays");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        }
        assert!(start.elapsed() < PATIENCE, "{renewed} renewed, {refused} refused");
    };
    let (at_once, took) = (u64::from(RENEWALS_AT_ONCE), again - start);
    assert!(renewed >= at_once && refused > 0, "{renewed} renewed, {refused} refused");
    let most = at_once + took.as_secs() / RENEWAL_EVERY.as_secs();
    assert!(renewed < most + 1 && took + Duration::from_secs(1) >= RENEWAL_EVERY, "{renewed} renewed in {took:?}");
    hand.send(1, &receives.pid, 7).await;
    assert_eq!(receives.number().await, 7, "by the last connection");
    assert_eq!(node.clients(), 1);
}

/// A count of the node's metrics, of the line that has all of these.
async fn counted(node: &Node, parts: &[&str]) -> u64 {
    let metrics = get(node.admin_address().unwrap(), "/metrics").await.body;
    let line = metrics.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    line.map_or(0, |line| line.split_whitespace().last().unwrap().parse::<f64>().unwrap() as u64)
}

async fn handshakes(node: &Node) -> u64 {
    counted(node, &["rookery_handshakes_total{", "client"]).await
}

async fn refusals(node: &Node) -> u64 {
    counted(node, &["rookery_handshake_refusals_total{", "\"busy\""]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_certificate_changes_again_and_again_waits_and_gets_there_and_loses_nothing() {
    let node = node().await;
    let mut config = client_config("eve", &[&node]);
    config.renew_within = Duration::from_millis(20);
    let client = Client::connect(config).await.unwrap();
    eventually("the node knows it", || node.clients() == 1).await;
    let seen = Arc::new(Seen::default());
    let runtime = client.runtime();
    watch(&runtime, &seen);
    stream(&runtime, &node, &seen);
    stream(&node, &runtime, &seen);
    let mut state = client.state();
    state.mark_unchanged();
    let start = Instant::now();
    // Until it is too often.
    while refusals(&node).await == 0 {
        let before = handshakes(&node).await;
        client.renew_identity(client_identity("eve")).unwrap();
        while handshakes(&node).await == before && refusals(&node).await == 0 {
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // And twice while it waits, by its own doing and by its node's.
    let so_far = handshakes(&node).await;
    assert!(so_far > u64::from(RENEWALS_AT_ONCE), "{so_far}");
    client.renew_identity(client_identity("eve")).unwrap();
    node.renew_identity(node_identity("node-0")).unwrap();
    while node.outdated() > 0 || handshakes(&node).await == so_far {
        assert!(start.elapsed() < PATIENCE, "it does not get there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refusals(&node).await, 1, "it waits before it tries again");
    let before = seen.come();
    eventually("all flows on", || seen.come() > before + 500).await;
    assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new());
    assert!(!state.has_changed().unwrap(), "the session is the same: {state:?}");
    assert_eq!(node.clients(), 1);
    seen.stop.store(true, Ordering::Relaxed);
    client.close().await;
}
