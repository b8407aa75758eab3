//! Real connections between an end that is served and one that is played by hand, step by step: so each moment of a renewal is met.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, OnceLock},
};

use bytes::Bytes;
use quinn::{Endpoint, RecvStream, SendStream};
use rookery_protocol::{
    Codec, LaneDecoder, LaneEncoder, NodeId, Payload, Pid, Serial, Signal, SignalBody, Tag, WireError,
    handshake::{Features, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Role},
};
use tokio::{sync::watch, task::JoinHandle};

use super::*;
use crate::{
    net::{
        control::{Verdict, facts_of, shake_hands},
        lanes::{Inbox, Incoming, read},
        settings::ConnectionSettings,
    },
    runtime::{Runtime, RuntimeConfig},
    sync::lock,
    tls::{Authority, Identity, PeerIdentity, SERVER_NAME},
};

const DEADLINE: Duration = Duration::from_secs(60);

/// So long nothing happens that is not to happen.
const MOMENT: Duration = Duration::from_millis(300);

/// More than a stream takes that nobody reads.
const LARGE: usize = 12 * 1024 * 1024;

const PATIENT: Patience = Patience { peer: DEADLINE, stalled: DEADLINE, bodies: DEADLINE };

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap()
}

fn id(name: &str) -> NodeId {
    format!("{name}.1").parse().unwrap()
}

fn identity(name: &str) -> Identity {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    let authority = AUTHORITY.get_or_init(|| Authority::create(&"test".parse().unwrap()).unwrap());
    let issued = authority.issue_node(name, &[], Duration::from_secs(3_600)).unwrap();
    Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap()
}

fn hello(name: &str) -> Hello {
    Hello {
        versions: (PROTOCOL_MIN, PROTOCOL_MAX),
        features: Features::BULK,
        cluster: "test".parse().unwrap(),
        role: Role::Node,
        node: id(name),
        listen_port: 0,
        advertised: Vec::new(),
        max_message_bytes: 64 * 1024 * 1024,
        lanes: 1,
        replace: false,
        extensions: Vec::new(),
    }
}

async fn agreed(connection: Connection, name: &str, dialled: bool) -> Made<()> {
    let facts = facts_of(&PeerIdentity::of_connection(&connection).unwrap());
    let control = if dialled { Control::open(&connection).await } else { Control::accept(&connection).await };
    let mut control = control.unwrap();
    let agreement = shake_hands(&mut control, dialled, hello(name), facts, |_| Verdict::Admit(None)).await.unwrap();
    Made { connection, control, agreement, dialled, note: () }
}

/// A connection of `a`, who is served, and `b`, who is played.
async fn connect(a_dials: bool) -> (Made<()>, Hand) {
    let transport = ConnectionSettings::default().transport();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let (dialler, acceptor) = if a_dials { ("a", "b") } else { ("b", "a") };
    let server = identity(acceptor).quinn_server_config(transport.clone()).unwrap();
    let listening = Endpoint::server(server, any).unwrap();
    let config = identity(dialler).quinn_client_config(transport).unwrap();
    let dialling = Endpoint::client(any).unwrap();
    let connecting = dialling.connect_with(config, listening.local_addr().unwrap(), SERVER_NAME).unwrap();
    let accepting = async { listening.accept().await.unwrap().await.unwrap() };
    let (dialled, accepted) = within(async { tokio::join!(connecting, accepting) }).await;
    let (one, other) = tokio::join!(agreed(dialled.unwrap(), dialler, true), agreed(accepted, acceptor, false));
    let (a, b) = if a_dials { (one, other) } else { (other, one) };
    (a, Hand::new(b).await)
}

fn message(from: &str, to: &str, body: Bytes) -> Signal {
    Signal {
        from: Pid::new(id(from), Serial(7)),
        to: (&Pid::new(id(to), Serial(9))).into(),
        body: SignalBody::Message {
            payload: Payload { tag: Tag::from_static("n"), codec: Codec::Raw, body },
            reply: None,
            deadline_ms: None,
            credit: None,
            trace: None,
        },
    }
}

fn number(signal: &Signal) -> u8 {
    match &signal.body {
        SignalBody::Message { payload, .. } => payload.body[0],
        other => panic!("{other:?}"),
    }
}

/// The end that is played, of one connection.
struct Hand {
    connection: Connection,
    sender: ControlSender,
    receiver: ControlReceiver,
    lane: SendStream,
    encoder: LaneEncoder,
}

impl Hand {
    async fn new(made: Made<()>) -> Self {
        let (sender, receiver) = made.control.split();
        made.connection.set_max_concurrent_uni_streams(16_u32.into());
        let lane = made.connection.open_uni().await.unwrap();
        Self { connection: made.connection, sender, receiver, lane, encoder: LaneEncoder::new(id("b"), id("a")) }
    }

    async fn open(&mut self) {
        let mut bytes = Vec::new();
        LaneEncoder::open(0, &mut bytes);
        self.lane.write_all(&bytes).await.unwrap();
    }

    async fn send(&mut self, number: u8) {
        let mut bytes = Vec::new();
        self.encoder.signal(&message("b", "a", Bytes::from(vec![number])), &mut bytes).unwrap();
        self.lane.write_all(&bytes).await.unwrap();
    }

    fn end(&mut self) {
        self.lane.finish().unwrap();
    }

    async fn stream(&self) -> RecvStream {
        within(self.connection.accept_uni()).await.unwrap()
    }

    /// What comes on the lane of the other end, to its end.
    async fn all(&self) -> Vec<u8> {
        numbers(within(self.stream().await.read_to_end(64 << 20)).await.unwrap())
    }

    async fn next_frame(&mut self) -> Result<ControlFrame, ConnectionError> {
        within(self.receiver.receive()).await
    }

    async fn has_closed(&self) {
        within(self.connection.closed()).await;
    }
}

fn numbers(bytes: Vec<u8>) -> Vec<u8> {
    let mut decoder = LaneDecoder::new(id("b"), id("a"), 1 << 20);
    decoder.push(Bytes::from(bytes));
    std::iter::from_fn(|| decoder.next_signal().unwrap()).map(|signal| number(&signal)).collect()
}

/// The end that is served.
struct Played {
    runtime: Runtime,
    outbound: Arc<Outbound>,
    got: watch::Sender<Vec<u8>>,
    /// What it was told of renewals.
    told: watch::Sender<Vec<&'static str>>,
    leaving: watch::Sender<bool>,
}

struct Noted(Runtime, watch::Sender<Vec<u8>>);

impl Inbox for Noted {
    fn runtime(&self) -> &Runtime {
        &self.0
    }

    fn take(&self, signal: Signal) -> Result<Option<Signal>, WireError> {
        self.1.send_modify(|got| got.push(number(&signal)));
        Ok(None)
    }
}

impl Served for Played {
    type Note = ();

    fn outbound(&self) -> &Arc<Outbound> {
        &self.outbound
    }

    fn reading(&self, connection: &Connection, agreement: &Agreement, first: Option<RecvStream>) -> Work {
        let inbox = Arc::new(Noted(self.runtime.clone(), self.got.clone()));
        let (own, peer, lanes) = (id("a"), id("b"), agreement.peer.lanes);
        let incoming = Incoming { own, peer, lanes, max_message_bytes: 1 << 20, bulk: true };
        let connection = connection.clone();
        Box::pin(async move { read(&connection, incoming, inbox, first).await })
    }

    fn frame(&self, frame: ControlFrame) -> Result<(), ConnectionError> {
        match frame {
            ControlFrame::Goodbye(goodbye) => Err(ConnectionError::Goodbye(goodbye.reason)),
            other => panic!("{other:?}"),
        }
    }

    fn is_renewal_expected(&self) -> Option<Duration> {
        None
    }

    fn stays(&self) {
        self.told.send_modify(|told| told.push("stays"));
    }

    fn has_gone_over(&self, _: &Connection, (): ()) -> bool {
        self.told.send_modify(|told| told.push("gone over"));
        true
    }

    async fn leaves(&self) -> String {
        self.leaving.subscribe().wait_for(|leaving| *leaving).await.unwrap();
        "the test says so".to_owned()
    }
}

struct Stage {
    played: Arc<Played>,
    next: mpsc::Sender<Made<()>>,
    serving: JoinHandle<ConnectionError>,
    /// The connection by which all begins.
    old: Hand,
    /// So that nothing is closed because nobody has it any more.
    kept: Mutex<Vec<Connection>>,
}

impl Stage {
    async fn new(patience: Patience) -> Self {
        let (first, mut old) = connect(false).await;
        old.open().await;
        let outbound = Outbound::new(&id("a"), &id("b"), 1, 8 << 20, 64 << 20).with_features(Features::BULK);
        let played = Arc::new(Played {
            runtime: Runtime::new(RuntimeConfig::new(id("a"))).unwrap(),
            outbound: Arc::new(outbound),
            got: watch::Sender::new(Vec::new()),
            told: watch::Sender::new(Vec::new()),
            leaving: watch::Sender::new(false),
        });
        let (served, kept) = (played.clone(), Mutex::new(vec![first.connection.clone()]));
        let (_, queue) = mpsc::channel(1);
        let (next, renewed) = mpsc::channel(1);
        let serving = tokio::spawn(async move {
            let (connection, end) = serve(&*served, first, queue, renewed, patience).await;
            connection.close(end.close_code(), end.to_string().as_bytes());
            end
        });
        Self { played, next, serving, old, kept }
    }

    /// Another connection, that `a` is to go over to; before `b`, which begins with its lane, unless it has dialled.
    async fn renew(&self, a_dials: bool) -> Hand {
        let (made, mut hand) = connect(a_dials).await;
        lock(&self.kept).push(made.connection.clone());
        if !a_dials {
            hand.open().await;
        }
        self.next.send(made).await.unwrap();
        hand
    }

    fn send(&self, number: u8) {
        self.played.outbound.push(message("a", "b", Bytes::from(vec![number]))).unwrap();
    }

    async fn got(&self, expected: &[u8]) {
        let mut got = self.played.got.subscribe();
        within(got.wait_for(|got| got.len() >= expected.len())).await.unwrap();
        assert_eq!(*got.borrow(), expected);
    }

    async fn told(&self, expected: &[&str]) {
        let mut told = self.played.told.subscribe();
        within(told.wait_for(|told| told.len() >= expected.len())).await.unwrap();
        assert_eq!(*told.borrow(), expected);
    }

    async fn end(self) -> (ConnectionError, Vec<u8>) {
        let end = within(self.serving).await.unwrap();
        (end, self.played.got.borrow().clone())
    }
}

#[tokio::test]
async fn a_renewal_that_the_peer_does_not_follow_changes_nothing_and_is_tried_again() {
    let mut stage = Stage::new(Patience { peer: Duration::from_millis(50), ..PATIENT }).await;
    let first_try = stage.renew(true).await;
    first_try.has_closed().await;
    stage.told(&["stays"]).await;
    stage.send(1);
    stage.old.send(11).await;
    stage.got(&[11]).await;
    // And one that the peer gives up.
    let second_try = stage.renew(true).await;
    second_try.connection.close(1_u32.into(), b"given up");
    stage.told(&["stays", "stays"]).await;
    // Now it goes.
    stage.old.send(12).await;
    stage.old.end();
    let mut new = stage.renew(true).await;
    new.open().await;
    new.send(13).await;
    stage.send(2);
    assert_eq!(stage.old.all().await, [1, 2], "what was queued before it went over is on the old one");
    stage.send(3);
    assert!(matches!(stage.old.next_frame().await, Err(ConnectionError::StreamClosed(_))), "it has read all");
    stage.old.sender.finish().await.unwrap();
    stage.told(&["stays", "stays", "gone over"]).await;
    stage.got(&[11, 12, 13]).await;
    stage.played.leaving.send_replace(true);
    assert_eq!(new.all().await, [3], "and what came after is on the new one");
    new.connection.close(0_u32.into(), b"heard");
    let (end, _) = stage.end().await;
    assert!(matches!(end, ConnectionError::Leaving(_)), "{end}");
}

#[tokio::test]
async fn a_peer_that_has_gone_over_is_waited_for_however_long_its_old_lanes_take() {
    let mut stage = Stage::new(Patience { peer: MOMENT, ..PATIENT }).await;
    stage.send(1);
    let mut new = stage.renew(true).await;
    new.open().await;
    assert_eq!(stage.old.all().await, [1], "this end follows");
    new.send(12).await;
    for number in 0..4 {
        stage.old.send(number).await;
        assert!(timeout(MOMENT, stage.told(&["stays"])).await.is_err());
    }
    stage.old.end();
    assert!(matches!(stage.old.next_frame().await, Err(ConnectionError::StreamClosed(_))), "it has read all");
    stage.old.sender.finish().await.unwrap();
    stage.told(&["gone over"]).await;
    stage.got(&[0, 1, 2, 3, 12]).await;
}

#[tokio::test]
async fn a_peer_that_stops_halfway_is_given_up_once_nothing_moves() {
    let mut stage = Stage::new(Patience { stalled: Duration::from_millis(200), ..PATIENT }).await;
    stage.send(1);
    let new = stage.renew(false).await;
    assert_eq!(stage.old.all().await, [1], "this end has gone over");
    stage.old.send(11).await;
    stage.got(&[11]).await;
    new.has_closed().await;
    stage.old.has_closed().await;
    let (end, got) = stage.end().await;
    assert!(matches!(end, ConnectionError::NotGoneOver(_)), "{end}");
    assert_eq!(got, [11]);
}

#[tokio::test]
async fn whichever_connection_goes_halfway_both_go_and_nothing_is_left_out() {
    for new_one in [true, false] {
        let mut stage = Stage::new(PATIENT).await;
        stage.send(1);
        let mut new = stage.renew(false).await;
        assert_eq!(stage.old.all().await, [1], "this end has gone over");
        stage.old.send(11).await;
        // What follows on the new one must not come without what was still to come on the old one.
        new.send(13).await;
        stage.got(&[11]).await;
        if new_one { &new } else { &stage.old }.connection.close(1_u32.into(), b"lost");
        if new_one { &stage.old } else { &new }.has_closed().await;
        let (end, got) = stage.end().await;
        assert!(matches!(end, ConnectionError::Quic(_)), "{end}");
        assert_eq!(got, [11]);
    }
}

#[tokio::test]
async fn who_leaves_halfway_says_all_that_is_to_be_said_and_then_goodbye() {
    let stage = Stage::new(PATIENT).await;
    stage.send(1);
    let mut new = stage.renew(false).await;
    assert_eq!(stage.old.all().await, [1], "this end has gone over");
    // More than fits on its way: the goodbye waits until all of it is written.
    let much = vec![2; 80];
    for number in &much {
        stage.played.outbound.push(message("a", "b", Bytes::from(vec![*number; 60_000]))).unwrap();
    }
    stage.played.leaving.send_replace(true);
    assert_eq!(new.all().await, much);
    assert!(matches!(new.next_frame().await, Ok(ControlFrame::Goodbye(_))));
    for connection in [&new.connection, &stage.old.connection] {
        connection.close(0_u32.into(), b"heard");
    }
    let (end, _) = stage.end().await;
    assert!(matches!(end, ConnectionError::Leaving(_)), "{end}");
}

#[tokio::test]
async fn who_leaves_before_the_peer_goes_over_leaves_by_the_old_connection() {
    let mut stage = Stage::new(PATIENT).await;
    let new = stage.renew(true).await;
    stage.send(1);
    stage.played.leaving.send_replace(true);
    assert!(matches!(stage.old.next_frame().await, Ok(ControlFrame::Goodbye(_))));
    assert_eq!(stage.old.all().await, [1]);
    stage.old.connection.close(0_u32.into(), b"heard");
    new.has_closed().await;
    let (end, _) = stage.end().await;
    assert!(matches!(end, ConnectionError::Leaving(_)), "{end}");
}

#[tokio::test]
async fn a_peer_that_leaves_halfway_is_heard_to_the_end() {
    for by_new in [false, true] {
        let mut stage = Stage::new(PATIENT).await;
        stage.send(1);
        let mut new = stage.renew(false).await;
        assert_eq!(stage.old.all().await, [1], "this end has gone over");
        stage.old.send(11).await;
        stage.old.end();
        new.send(12).await;
        new.end();
        let by = if by_new { &mut new } else { &mut stage.old };
        by.sender.send(&ControlFrame::Goodbye(Goodbye { reason: "done".into() })).await.unwrap();
        new.has_closed().await;
        let (end, got) = stage.end().await;
        assert!(matches!(end, ConnectionError::Goodbye(_)), "{end}");
        assert_eq!(got[0], 11);
        assert!(!by_new || got == [11, 12], "{got:?}");
    }
}

#[tokio::test]
async fn a_lane_that_is_broken_off_has_not_ended_in_good_order() {
    let mut stage = Stage::new(PATIENT).await;
    // Only a part of it goes before the peer reads.
    stage.played.outbound.push(message("a", "b", Bytes::from(vec![1; 60_000]))).unwrap();
    for _ in 0..200 {
        stage.played.outbound.push(message("a", "b", Bytes::from(vec![2; 60_000]))).unwrap();
    }
    let mut lane = stage.old.stream().await;
    let _new = stage.renew(false).await;
    stage.old.send(11).await;
    stage.got(&[11]).await;
    // As when the node is dropped, but its connections stay.
    stage.serving.abort();
    let end = within(lane.read_to_end(64 << 20)).await;
    assert!(matches!(end, Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(_)))), "{end:?}");
}

#[tokio::test]
async fn a_connection_is_renewed_when_large_bodies_are_through() {
    let mut stage = Stage::new(PATIENT).await;
    stage.played.outbound.push(message("a", "b", Bytes::from(vec![1; LARGE]))).unwrap();
    let (mut lane, mut body) = (stage.old.stream().await, stage.old.stream().await);
    let _new = stage.renew(false).await;
    stage.old.send(11).await;
    stage.got(&[11]).await;
    let mut ends = Box::pin(async { while lane.read_chunk(1 << 20, true).await.unwrap().is_some() {} });
    assert!(timeout(MOMENT, &mut ends).await.is_err(), "it waits for the body");
    within(body.read_to_end(2 * LARGE)).await.unwrap();
    within(ends).await;
}

#[tokio::test]
async fn a_renewal_waits_no_longer_than_that_for_large_bodies() {
    let stage = Stage::new(Patience { bodies: Duration::from_millis(50), ..PATIENT }).await;
    stage.played.outbound.push(message("a", "b", Bytes::from(vec![1; LARGE]))).unwrap();
    let (mut lane, _body) = (stage.old.stream().await, stage.old.stream().await);
    let _new = stage.renew(false).await;
    within(lane.read_to_end(1 << 20)).await.unwrap();
}
