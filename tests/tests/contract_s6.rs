//! Row S6 of the contract: a sender is slowed, never broken, when the buffer towards a peer is full: `send` waits, `try_send`
//! gives the message back, and deadlines fire all the same.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_client::{Client, ClientConfig};
use rookery_node::{ConnectionSettings, Node};
use rookery_runtime::{CallError, Context, ProcessName, Received, Runtime, SendError};
use rookery_tests::{
    Note, Puppet,
    cluster::{client_config, meshed, node_config},
    eventually,
    placement::run,
    relay::{Path, Relay},
    within,
};

/// A path that takes less than a process sends, however much it takes.
const NARROW: Path = Path { delay: Duration::from_millis(2), bytes_per_s: Some(1_500_000) };

/// So much goes on a lane, not on a stream of its own.
const BODY_BYTES: usize = 12 * 1024;

/// Beyond it a sender is not slowed: the buffers of two connections and what QUIC has under way on both, several times.
const MUCH: u64 = 64 * 1024 * 1024 / BODY_BYTES as u64;

/// No answer comes so soon through what lies before it on this path.
const SHORT: Duration = Duration::from_millis(5);

fn small_buffer(connections: &mut ConnectionSettings) {
    connections.outbound_budget_bytes = 128 * 1024;
}

fn numbered(number: u64) -> Note {
    let mut bytes = vec![7; BODY_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Note::Bytes(bytes)
}

async fn is_numbered(receiver: &mut Puppet, number: u64) {
    match receiver.next().await {
        Received::Message(Note::Bytes(bytes)) if bytes.len() == BODY_BYTES => {
            assert_eq!(bytes[..8], number.to_le_bytes());
        }
        other => panic!("expected message {number}, got {other:?}"),
    }
}

/// A process of `a` sends to one of `b`, with a narrow path between.
async fn is_slowed_and_not_broken(a: &Runtime, b: &Runtime) {
    let mut receiver = Puppet::new(b);
    let to = a.address::<Note>(&receiver.pid);
    let silent = b.spawn(async |mut context: Context<Note>| drop(context.receive().await)).unwrap();
    let silent = a.address::<Note>(&silent.pid().unwrap());

    // As much as fits: then the message comes back.
    let mut next = 0;
    loop {
        match to.try_send(numbered(next)) {
            Ok(()) => next += 1,
            Err(SendError::Full { message: Note::Bytes(bytes) }) if next > 200 => {
                assert_eq!(bytes[..8], next.to_le_bytes());
                break;
            }
            // It is not yet known that the receiver has no limit.
            Err(SendError::Full { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error:?}"),
        }
        assert!(next < MUCH, "{next} messages are taken at once");
    }

    // Deadlines fire while it is full; others of this sender's fill it again as soon as there is room.
    let (filling, first) = (to.clone(), next);
    let filler = tokio::spawn(async move {
        for number in first..first + 200 {
            filling.send(numbered(number)).await.unwrap();
        }
    });
    let since = Instant::now();
    assert_eq!(within("the deadline", silent.call_within(SHORT, Note::Ask)).await, Err(CallError::Timeout));
    let many: Vec<_> = (0..3).map(|_| silent.clone()).collect();
    let outcomes = within("the deadline", a.multi_call(&many, SHORT, Note::Ask)).await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Err(CallError::Timeout)), "{outcomes:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "deadlines took {:?}", since.elapsed());

    // And whoever waits goes on; everything arrives, in order.
    for number in 0..next + 200 {
        is_numbered(&mut receiver, number).await;
    }
    within("the senders", filler).await.unwrap();
    within("room", to.send(Note::Number(1))).await.unwrap();
    assert_eq!(receiver.number().await, 1);
}

/// Two nodes with a narrow path between.
async fn nodes() -> (Node, Node, Relay) {
    let relay = Relay::along(NARROW).await;
    let mut config = node_config("node-0", &[]);
    small_buffer(&mut config.connections);
    let first = Node::start(config).await.unwrap();
    relay.lead_to(first.listen_address());
    let mut config = node_config("node-1", &[relay.address()]);
    small_buffer(&mut config.connections);
    let second = Node::start(config).await.unwrap();
    meshed(&[&first, &second]).await;
    (first, second, relay)
}

async fn client(mut config: ClientConfig) -> Client {
    small_buffer(&mut config.connections);
    let client = within("the client", Client::connect(config)).await.unwrap();
    // Its session is open at its node, too, so that its processes can be reached.
    assert_eq!(client.runtime().whereis(&ProcessName::new("nobody").unwrap()).await.unwrap(), None);
    client
}

/// Small messages in a row wait for each other on their way to their lane: that is no way around its buffer.
#[tokio::test(flavor = "multi_thread")]
async fn s6_many_small_messages_of_one_step_find_the_buffer_full() {
    const EACH_BYTES: usize = 500;
    let (first, second, _relay) = nodes().await;
    let (a, b) = (first.runtime(), second.runtime());
    let (sender, mut receiver) = (Puppet::new(a), Puppet::new(b));
    let to = a.address::<Note>(&receiver.pid);
    // So many that the receiver's mailbox is known to have no limit.
    let learning = to.clone();
    sender
        .run_async(move |_| {
            Box::pin(async move {
                for number in 0..200 {
                    learning.send(Note::Number(number)).await.unwrap();
                }
            })
        })
        .await;
    for number in 0..200 {
        assert_eq!(receiver.number().await, number);
    }
    let sending = to.clone();
    let since = Instant::now();
    let taken = sender
        .run(move |_| (0..100_000).filter(|_| sending.try_send(Note::Text("x".repeat(EACH_BYTES))).is_ok()).count())
        .await;
    // The lane's buffer, and what QUIC keeps to send; what the path carries meanwhile makes room for more. All would be 50 MB.
    let carried = since.elapsed().as_secs_f64() * NARROW.bytes_per_s.unwrap() as f64;
    assert!(((taken * EACH_BYTES) as f64) < 16e6 + carried, "{taken} messages are taken at once");
    for _ in 0..taken {
        let next = receiver.next().await;
        assert!(matches!(&next, Received::Message(Note::Text(text)) if text.len() == EACH_BYTES), "{next:?}");
    }
    within("room", to.send(Note::Number(1))).await.unwrap();
    assert_eq!(receiver.number().await, 1);
}

/// A node, and a client of it with a narrow path between.
async fn node_and_client() -> (Node, Client, Relay) {
    let relay = Relay::along(NARROW).await;
    let mut config = node_config("node-0", &[]);
    small_buffer(&mut config.connections);
    let node = Node::start(config).await.unwrap();
    relay.lead_to(node.listen_address());
    let mut config = client_config("client", &[]);
    config.servers = vec![relay.address().to_string().parse().unwrap()];
    (node, client(config).await, relay)
}

#[test]
fn s6_a_sender_is_slowed_and_not_broken_between_two_nodes() {
    run(async {
        let (first, second, _relay) = nodes().await;
        is_slowed_and_not_broken(first.runtime(), second.runtime()).await;
    });
}

#[test]
fn s6_a_sender_is_slowed_and_not_broken_from_a_client_to_its_node() {
    run(async {
        let (node, client, _relay) = node_and_client().await;
        is_slowed_and_not_broken(&client.runtime(), node.runtime()).await;
    });
}

#[test]
fn s6_a_sender_is_slowed_and_not_broken_from_a_node_to_its_client() {
    run(async {
        let (node, client, _relay) = node_and_client().await;
        is_slowed_and_not_broken(node.runtime(), &client.runtime()).await;
    });
}

#[test]
fn s6_a_sender_is_slowed_and_not_broken_from_a_client_to_another_node() {
    run(async {
        let (first, second, _relay) = nodes().await;
        let client = client(client_config("client", &[&first])).await;
        let runtime = client.runtime();
        eventually("the client knows the nodes", || runtime.nodes().len() == 2).await;
        is_slowed_and_not_broken(&runtime, second.runtime()).await;
    });
}
