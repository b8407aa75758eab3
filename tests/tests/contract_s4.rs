//! Row S4 of the contract: a large message never delays another pair's signals, and only later signals of its own pair
//! wait for it.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_node::{Node, NodeConfig};
use rookery_runtime::{Address, Context, Destination, ExitReason, ProcessName, Received, Runtime};
use rookery_tests::{
    Note, Puppet,
    cluster::{client_config, meshed, node_config},
    placement::run,
    relay::{Path, Relay},
    within,
};

rookery_tests::contract! {
    everywhere {
        s4_large_and_small_messages_of_a_pair_keep_their_order,
        s4_signals_of_every_kind_wait_for_the_large_message_before_them,
        s4_many_large_messages_from_many_senders_arrive_whole,
        s4_a_large_answer_arrives_whole,
    }
}

/// Above the size that goes on a lane, below what the nodes of the tests take.
const LARGE: usize = 200_000;

fn large(number: u64) -> Note {
    Note::Bytes((0..LARGE).map(|at| (at as u64 * 7 + number) as u8).collect())
}

fn is_large(received: Received<Note>, number: u64) {
    let Received::Message(Note::Bytes(bytes)) = received else { panic!("expected large message {number}") };
    let Note::Bytes(expected) = large(number) else { unreachable!() };
    assert!(bytes == expected, "large message {number} does not arrive as it was");
}

async fn s4_large_and_small_messages_of_a_pair_keep_their_order(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver) = (Puppet::new(a), Puppet::new(b));
    let name = ProcessName::new("reader").unwrap();
    let own = name.clone();
    receiver.run_async(move |context| Box::pin(async move { context.register(&own).await })).await.unwrap();
    let by_pid = a.address::<Note>(&receiver.pid);
    let by_name = a.address::<Note>(Destination::name(b.node().clone(), name));
    sender
        .run_async(move |_| {
            Box::pin(async move {
                for number in 0..60_u64 {
                    let way = if number % 5 < 2 { &by_pid } else { &by_name };
                    let note = if number % 3 == 0 { large(number) } else { Note::Number(number) };
                    way.send(note).await.unwrap();
                }
            })
        })
        .await;
    for number in 0..60 {
        if number % 3 == 0 {
            is_large(receiver.next().await, number);
        } else {
            assert_eq!(receiver.number().await, number);
        }
    }
}

async fn s4_signals_of_every_kind_wait_for_the_large_message_before_them(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver) = (Puppet::new(a), Puppet::trapping(b).await);
    let to = receiver.pid.clone();
    sender
        .run_async(move |context| {
            Box::pin(async move {
                let by_pid = context.runtime().address::<Note>(&to);
                by_pid.send(large(1)).await.unwrap();
                context.link(&to);
                by_pid.send(large(2)).await.unwrap();
                context.exit(&to, ExitReason::Error("after the second".into()));
                by_pid.send(large(3)).await.unwrap();
            })
        })
        .await;
    is_large(receiver.next().await, 1);
    is_large(receiver.next().await, 2);
    assert_eq!(receiver.exit().await.1, ExitReason::Error("after the second".into()));
    is_large(receiver.next().await, 3);
    // Its end comes over the link, behind all that it has sent.
    let to = receiver.address.destination();
    let by_pid = a.address::<Note>(to);
    sender.run_async(move |_| Box::pin(async move { by_pid.send(large(4)).await.unwrap() })).await;
    sender.end(ExitReason::Error("done".into()));
    is_large(receiver.next().await, 4);
    let exit = receiver.exit().await;
    assert_eq!((exit.1, exit.2), (ExitReason::Error("done".into()), true));
}

async fn s4_many_large_messages_from_many_senders_arrive_whole(a: &Runtime, b: &Runtime) {
    let mut receivers: Vec<Puppet> = (0..3).map(|_| Puppet::new(b)).collect();
    for sender in 0..12_u64 {
        let to = a.address::<Note>(&receivers[sender as usize % 3].pid);
        a.spawn(async move |_: Context<Note>| {
            for _ in 0..4 {
                to.send(large(sender)).await.unwrap();
                to.send(Note::Number(sender)).await.unwrap();
            }
        })
        .unwrap();
    }
    for (index, receiver) in receivers.iter_mut().enumerate() {
        let mut seen = [0; 12];
        for _ in 0..4 * 4 * 2 {
            match receiver.next().await {
                Received::Message(Note::Bytes(bytes)) => {
                    let sender = u64::from(bytes[0]);
                    is_large(Received::Message(Note::Bytes(bytes)), sender);
                    assert_eq!(seen[sender as usize] % 2, 0, "a large message comes before the number behind it");
                    seen[sender as usize] += 1;
                }
                Received::Message(Note::Number(sender)) => {
                    assert_eq!(seen[sender as usize] % 2, 1, "a number comes behind its large message");
                    seen[sender as usize] += 1;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
        let expected: Vec<u64> = (0..12).map(|sender| if sender % 3 == index as u64 { 8 } else { 0 }).collect();
        assert_eq!(seen.to_vec(), expected);
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Shop {
    Picture(u64, rookery_runtime::ReplyTo<Vec<u8>>),
}

fn spawn_shop(runtime: &Runtime) -> Address<Shop> {
    runtime
        .spawn(async move |mut context: Context<Shop>| {
            loop {
                if let Received::Message(Shop::Picture(number, reply)) = context.receive().await {
                    let Note::Bytes(bytes) = large(number) else { unreachable!() };
                    reply.send(bytes).unwrap();
                }
            }
        })
        .unwrap()
}

async fn s4_a_large_answer_arrives_whole(a: &Runtime, b: &Runtime) {
    let shop = a.address::<Shop>(spawn_shop(b).destination());
    for number in 0..5 {
        let bytes = shop.call(|reply| Shop::Picture(number, reply)).await.unwrap();
        is_large(Received::Message(Note::Bytes(bytes)), number);
    }
}

/// A path, and a body that takes it four seconds.
const SLOW: Path = Path { delay: Duration::from_millis(5), bytes_per_s: Some(750_000) };
const HUGE: usize = 3_000_000;

/// In which what goes past it is answered.
const SOON: Duration = Duration::from_secs(2);

fn roomy(config: &mut NodeConfig) {
    config.connections.max_message_bytes = 16 * 1024 * 1024;
}

fn spawn_echo(runtime: &Runtime) -> Address<Note> {
    runtime
        .spawn(async move |mut context: Context<Note>| {
            loop {
                if let Received::Message(Note::Ask(reply)) = context.receive().await {
                    reply.send(7).unwrap();
                }
            }
        })
        .unwrap()
}

/// What any process sends to another than the one that a huge message is on its way to goes past it: also what the very
/// sender of the huge message sends.
async fn goes_past(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver, other) = (Puppet::new(a), Puppet::new(b), Puppet::new(a));
    let (huge, echo) = (a.address::<Note>(&receiver.pid), a.address::<Note>(spawn_echo(b).destination()));
    let behind = huge.clone();
    sender.run_async(move |_| Box::pin(async move { huge.send(Note::Bytes(vec![5; HUGE])).await.unwrap() })).await;
    let since = Instant::now();
    for puppet in [&sender, &other] {
        let echo = echo.clone();
        let answered = puppet
            .run_async(move |_| {
                Box::pin(async move {
                    let mut sum = 0;
                    for _ in 0..3 {
                        sum += echo.call(Note::Ask).await.unwrap();
                    }
                    sum
                })
            })
            .await;
        assert_eq!(answered, 21);
    }
    assert!(since.elapsed() < SOON, "six calls past the huge message took {:?}", since.elapsed());
    sender.run_async(move |_| Box::pin(async move { behind.send(Note::Number(1)).await.unwrap() })).await;
    assert!(receiver.try_next().is_none(), "so much has not arrived on this path yet");
    let arrived = receiver.next().await;
    assert!(matches!(arrived, Received::Message(Note::Bytes(bytes)) if bytes.len() == HUGE));
    assert_eq!(receiver.number().await, 1, "what its sender sent behind it to the same receiver has waited");
}

#[test]
fn s4_a_huge_message_on_a_slow_path_delays_no_other_pair_between_nodes() {
    run(async {
        let relay = Relay::along(SLOW).await;
        let mut config = node_config("node-0", &[]);
        roomy(&mut config);
        let first = Node::start(config).await.unwrap();
        relay.lead_to(first.listen_address());
        let mut config = node_config("node-1", &[relay.address()]);
        roomy(&mut config);
        let second = Node::start(config).await.unwrap();
        meshed(&[&first, &second]).await;
        goes_past(first.runtime(), second.runtime()).await;
        goes_past(second.runtime(), first.runtime()).await;
    });
}

#[test]
fn s4_a_huge_message_on_a_slow_path_delays_no_other_pair_of_a_client() {
    run(async {
        let relay = Relay::along(SLOW).await;
        let mut config = node_config("node-0", &[]);
        roomy(&mut config);
        let node = Node::start(config).await.unwrap();
        relay.lead_to(node.listen_address());
        let mut config = client_config("client", &[]);
        config.servers = vec![relay.address().to_string().parse().unwrap()];
        config.connections.max_message_bytes = 16 * 1024 * 1024;
        let client = within("the client", rookery_client::Client::connect(config)).await.unwrap();
        goes_past(&client.runtime(), node.runtime()).await;
        goes_past(node.runtime(), &client.runtime()).await;
    });
}
