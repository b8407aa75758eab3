//! Who has a good certificate, and misbehaves once it is let in.

use std::time::Duration;

use rookery_node::{
    CallError, Codec, Context, Event, ExitReason, Payload, Pid, Received, Tag,
    protocol::{
        ControlFrame, LaneDecoder, SignalBody,
        control::PeerAddresses,
        handshake::{Hello, Role, Welcome},
        id::CallId,
        signal::ReplyRoute,
    },
};
use rookery_runtime::net::control::close_code;

use super::{
    raw::{Raw, Talk, encoded, from_client, hello, lane, listen, soon, tls, welcome_dial},
    town::{CLUSTER, EchoMessage, Town},
};

pub(crate) async fn client(town: &Town) -> (Raw, Talk, Welcome) {
    let raw = Raw::dial(tls(&town.client("eve")), town.victim.listen_address()).await.unwrap();
    let (talk, welcome) = raw.join(hello(CLUSTER, Role::Client, "eve")).await;
    (raw, talk, welcome)
}

/// A client that may do nothing.
async fn nobody(town: &Town) -> (Raw, Talk, Welcome) {
    let raw = Raw::dial(tls(&town.client("nobody")), town.victim.listen_address()).await.unwrap();
    let (talk, welcome) = raw.join(hello(CLUSTER, Role::Client, "nobody")).await;
    (raw, talk, welcome)
}

async fn node(town: &Town) -> (Raw, Talk) {
    let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    let (talk, _) = raw.join(hello(CLUSTER, Role::Node, "mallory")).await;
    (raw, talk)
}

async fn on_a_lane(raw: &Raw, bytes: &[u8]) -> quinn::SendStream {
    let mut stream = soon("a lane", raw.connection.open_uni()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_lane() {
    let town = Town::new().await;
    let open = lane(town.victim.node(), town.victim.node(), &[]);
    let twice = [&open[..], &open].concat();
    let huge = [&open[..], b"\xff\xff\xff\xff\x01\x00"].concat();
    let confirm = [&open[..], b"\x00\x00\x00\x00\x23\x00"].concat();
    for (bytes, words) in [
        (&b"\xff\xff\xff\xff\x10\x00"[..], "4294967295 bytes"),
        (b"\x08\x00\x00\x00\x01\x00garbage!", ""),
        (&huge, "4294967295 bytes"),
        (&twice, "LaneOpen"),
        (&confirm, "Confirm"),
    ] {
        let (raw, _talk, _) = client(&town).await;
        let _stream = on_a_lane(&raw, bytes).await;
        raw.is_closed(close_code::PROTOCOL, words).await;
        let (raw, _talk) = node(&town).await;
        let _stream = on_a_lane(&raw, bytes).await;
        raw.is_closed(close_code::PROTOCOL, words).await;
    }
    town.still_serves().await;
}

/// A frame may announce what is allowed and never come: it costs what has arrived, not what was announced.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_silence_on_many_lanes() {
    let town = Town::new().await;
    let before = resident_bytes();
    let announced = u32::try_from(ATTACKERS_MESSAGE_BYTES).unwrap().to_le_bytes();
    let open = lane(town.victim.node(), town.victim.node(), &[]);
    let half = [&open[..], &announced, b"\x01\x00half"].concat();
    let mut attackers = Vec::new();
    for _ in 0..40 {
        let (raw, talk, _) = client(&town).await;
        let stream = on_a_lane(&raw, &half).await;
        attackers.push((raw, talk, stream));
    }
    soon("all are sessions", async {
        while town.victim.clients() < attackers.len() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 40 * ATTACKERS_MESSAGE_BYTES / 2, "{grown} bytes for half a frame each");
    drop(attackers);
    town.still_serves().await;
}

/// Within what the node takes by default.
const ATTACKERS_MESSAGE_BYTES: usize = 15 << 20;

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_frame_after_the_handshake() {
    let town = Town::new().await;
    for frame in [ControlFrame::Confirm, ControlFrame::Hello(hello(CLUSTER, Role::Client, "eve"))] {
        let (raw, mut talk, _) = client(&town).await;
        talk.send.write_all(&encoded(&frame)).await.unwrap();
        raw.is_closed(close_code::PROTOCOL, "the handshake is over").await;
        let (raw, mut talk) = node(&town).await;
        talk.send.write_all(&encoded(&frame)).await.unwrap();
        raw.is_closed(close_code::PROTOCOL, "the handshake is over").await;
    }
    town.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_speaks_for_another() {
    let town = Town::new().await;
    let (raw, _talk, welcome) = client(&town).await;
    let mut signal = from_client(&welcome, &town.echo, SignalBody::Link);
    signal.from = town.echo.clone();
    let _stream = on_a_lane(&raw, &lane(&welcome.node, &welcome.node, &[signal])).await;
    raw.is_closed(close_code::PROTOCOL, "a client speaks for its own processes").await;
    town.still_serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_speaks_for_another() {
    let town = Town::new().await;
    let (raw, _talk) = node(&town).await;
    let own = hello(CLUSTER, Role::Node, "mallory").node;
    let exit = SignalBody::Exit { reason: ExitReason::Kill, linked: false };
    let from = Pid::new(town.friend.node().clone(), town.echo.serial());
    let signal = rookery_node::protocol::Signal { from, to: (&town.echo).into(), body: exit };
    let _stream = on_a_lane(&raw, &lane(&own, town.victim.node(), &[signal])).await;
    raw.is_closed(close_code::PROTOCOL, "a node speaks for its own processes").await;
    town.still_serves().await;
}

/// Answers that nobody waits for, and news of nodes that only a node may tell, change nothing: the client goes on, and its
/// own next call is answered.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_awaits() {
    let town = Town::new().await;
    let (raw, _talk, welcome) = client(&town).await;
    let forged = |n: u64| {
        let reply = SignalBody::Reply { call: CallId(n), outcome: Ok(Payload::json("666")) };
        let down = SignalBody::Down { monitor: rookery_node::Ref(n), reason: ExitReason::Normal };
        let exit = SignalBody::Exit { reason: ExitReason::Kill, linked: true };
        [reply, down, exit]
    };
    let mut signals: Vec<_> = (0..200).flat_map(forged).map(|body| from_client(&welcome, &town.echo, body)).collect();
    let node_down = SignalBody::NodeDown { node: town.friend.node().clone(), reason: "forged".to_owned() };
    signals.push(from_client(&welcome, &town.echo, node_down));
    let asker = from_client(&welcome, &town.echo, SignalBody::Link).from;
    let payload =
        Payload { tag: Tag::new(bytes::Bytes::new()).unwrap(), codec: Codec::Json, body: r#"{"Say":[3,null]}"#.into() };
    let reply = Some(ReplyRoute { to: asker, call: CallId(77) });
    signals.push(from_client(
        &welcome,
        &town.echo,
        SignalBody::Message { payload, reply, deadline_ms: None, credit: None, trace: None },
    ));
    let _stream = on_a_lane(&raw, &lane(&welcome.node, &welcome.node, &signals)).await;

    let mut answers = soon("the node's lane", raw.connection.accept_uni()).await.unwrap();
    let mut decoder = LaneDecoder::new(welcome.node.clone(), welcome.node.clone(), 1 << 20);
    let outcome = soon("the reply", async {
        loop {
            while let Some(signal) = decoder.next_signal().unwrap() {
                if let SignalBody::Reply { call: CallId(77), outcome } = signal.body {
                    return outcome;
                }
            }
            decoder.push(answers.read_chunk(1 << 16, true).await.unwrap().unwrap().bytes);
        }
    })
    .await;
    assert_eq!(outcome.unwrap().body.as_ref(), b"3");
    raw.connection.close(close_code::GOODBYE, b"done");
    town.still_serves().await;
}

/// What is refused to a client is answered, but not to whom the client names: else it could answer others' calls.
#[tokio::test(flavor = "multi_thread")]
async fn c3_a_refusal_answers_nobody_elses_call() {
    let town = Town::new().await;
    let silent = town.friend.spawn(async |_: Context<EchoMessage>| std::future::pending::<()>().await).unwrap();
    let there = town.victim.address::<EchoMessage>(&silent.pid().unwrap());
    let call = there.call_within(Duration::from_secs(2), |reply| EchoMessage::Say(1, reply));
    let forging = async {
        let (raw, _talk, welcome) = nobody(&town).await;
        let asker = town.victim.own_pid();
        let forged = (0..2_000).map(|n| {
            let payload = Payload::json("1");
            let reply = Some(ReplyRoute { to: asker.clone(), call: CallId(n) });
            from_client(
                &welcome,
                &town.echo,
                SignalBody::Message { payload, reply, deadline_ms: None, credit: None, trace: None },
            )
        });
        let _stream = on_a_lane(&raw, &lane(&welcome.node, &welcome.node, &forged.collect::<Vec<_>>())).await;
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = call => outcome,
        () = forging => unreachable!(),
    };
    assert!(matches!(outcome, Err(CallError::Timeout)), "{outcome:?}");
    town.friend.exit(&silent.pid().unwrap(), ExitReason::Kill);
    town.still_serves().await;
}

/// What a client does not read piles up on the node, up to a limit: then it is disconnected.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads() {
    let town = Town::with(|settings| settings.outbound_budget_bytes = 8 * 1024).await;
    let dial = Raw::dial_with_window(tls(&town.client("eve")), town.victim.listen_address(), 1024);
    let raw = dial.await.unwrap();
    let (_talk, welcome) = raw.join(hello(CLUSTER, Role::Client, "eve")).await;
    let nobody = Pid::new(welcome.node.clone(), rookery_node::protocol::Serial(u64::from(u32::MAX)));
    // Each is answered by a `Down`.
    let monitors: Vec<_> =
        (0..40_000).map(|n| from_client(&welcome, &nobody, SignalBody::Monitor(rookery_node::Ref(n)))).collect();
    let mut stream = soon("a lane", raw.connection.open_uni()).await.unwrap();
    // It may be closed while it still talks.
    drop(soon("its monitors", stream.write_all(&lane(&welcome.node, &welcome.node, &monitors))).await);
    raw.is_closed(close_code::TOO_SLOW, "too slow").await;
    town.still_serves().await;
}

/// A peer that tells of more addresses than the dialling loop takes at once, and is lost in the same moment, is dialled
/// again all the same (D1).
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_flood_of_addresses_hides_no_loss() {
    let town = Town::new().await;
    let listener = listen(&town.node("mallory"));
    let mut mallory = hello(CLUSTER, Role::Node, "mallory");
    mallory.listen_port = listener.local_addr().unwrap().port();
    let first = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
    let (mut talk, _) = first.join(mallory.clone()).await;
    let nobody = hello(CLUSTER, Role::Node, "nobody").node;
    let addresses = vec!["127.0.0.1:9".parse().unwrap(); 16];
    let many = vec![PeerAddresses { node: nobody, addresses }; 64];
    let mut bytes = encoded(&ControlFrame::Peers(many)).repeat(8);
    bytes.extend(encoded(&ControlFrame::Confirm));
    talk.send.write_all(&bytes).await.unwrap();
    first.is_closed(close_code::PROTOCOL, "the handshake is over").await;
    let (connection, mut talk) = welcome_dial(&listener, &mallory).await;
    assert_eq!(talk.hear().await, ControlFrame::Confirm);
    connection.close(close_code::GOODBYE, b"done");
    town.still_serves().await;
}

/// A node that makes its connection anew while it talks without a pause: nothing of the old connection comes once its end
/// was told (M5), or it would come among what the new one brings (S1).
#[tokio::test(flavor = "multi_thread")]
async fn m5_nothing_comes_from_a_connection_that_was_replaced() {
    const CONNECTIONS: u64 = 20;
    let town = Town::new().await;
    let mallory = hello(CLUSTER, Role::Node, "mallory");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let id = mallory.node.clone();
    let near = town.victim.spawn(async move |mut context: Context<u64>| {
        context.monitor_nodes(true);
        // The number of the connection that stands; each says its own.
        let (mut number, mut heard) = (0, false);
        loop {
            match context.receive().await {
                Received::Event(Event::NodeUp(node)) if node == id => (number, heard) = (number + 1, false),
                Received::Message(said) if said != number => {
                    tell.send(Err((said, number))).ok();
                    return;
                }
                Received::Message(_) if !heard => {
                    heard = true;
                    if tell.send(Ok(number)).is_err() {
                        return;
                    }
                }
                _ => {}
            }
        }
    });
    let near = near.unwrap().pid().unwrap();
    let open = lane(&mallory.node, town.victim.node(), &[]).len();
    let mut last = None;
    for number in 1..=CONNECTIONS {
        let again = Hello { lanes: 8, replace: number > 1, ..mallory.clone() };
        let raw = Raw::dial(tls(&town.node("mallory")), town.victim.listen_address()).await.unwrap();
        let (talk, _) = raw.join(again).await;
        let payload = Payload::json(number.to_string());
        let body = SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None };
        let from = Pid::new(mallory.node.clone(), rookery_node::protocol::Serial(64));
        let signal = rookery_node::protocol::Signal { from, to: (&near).into(), body };
        let many = lane(&mallory.node, town.victim.node(), &vec![signal; 2_000]);
        for _ in 0..8 {
            let (connection, many) = (raw.connection.clone(), many.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = connection.open_uni().await else { return };
                let mut said = stream.write_all(&many).await;
                while said.is_ok() {
                    said = stream.write_all(&many[open..]).await;
                }
            });
        }
        assert_eq!(soon("a message", told.recv()).await, Some(Ok(number)), "what was said, over which connection");
        last = Some((raw, talk));
    }
    drop((last, told));
}
