//! Row M5 under replacement: nodes dial each other at once, so that one connection takes the other's place, and come
//! back without having said goodbye, so that a new life takes the old one's. Whatever is replaced, a node's messages stand
//! between its `NodeUp` and its `NodeDown`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use rookery_node::Node;
use rookery_runtime::{Context, Event, NodeId, Pid, Received, Runtime};
use rookery_tests::{
    Note,
    cluster::{impatient, node_config},
    placement,
    relay::Relay,
    within,
};
use tokio::sync::mpsc;

/// How often it all happens: a race that is lost now and then shows in one of them.
const ROUNDS: u64 = 10;

/// Messages of a node that are waited for before it goes.
const ENOUGH: u64 = 50;

/// Messages that are sent without a pause.
const BURST: u64 = 64;

/// The numbers of each life of a node are above those of its former life.
const LIFE: u64 = 1_000_000_000;

/// What a process is told, as it is told.
#[derive(Debug, PartialEq)]
enum News {
    Up(NodeId),
    Down(NodeId),
    Number(u64),
}

/// A process that is told of nodes, and of numbers.
fn chronicler(runtime: &Runtime) -> (Pid, mpsc::UnboundedReceiver<News>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = runtime.spawn(async move |mut context: Context<Note>| {
        context.monitor_nodes(true);
        loop {
            let news = match context.receive().await {
                Received::Event(Event::NodeUp(node)) => News::Up(node),
                Received::Event(Event::NodeDown { node, .. }) => News::Down(node),
                Received::Message(Note::Number(number)) => News::Number(number),
                other => panic!("{other:?}"),
            };
            if tell.send(news).is_err() {
                return;
            }
        }
    });
    (address.unwrap().pid().unwrap(), told)
}

/// Starts processes on `from` that send to `to` as soon as they can, and until they cannot: several, so that they use
/// several lanes.
fn talk(from: &Node, to: &Pid, life: u64) {
    for _ in 0..4 {
        let to = from.address::<Note>(to);
        from.spawn(async move |_: Context<u8>| {
            for number in life * LIFE.. {
                if to.send(Note::Number(number)).await.is_err() {
                    return;
                }
                // In bursts, so that much of them is on its way when a connection ends.
                if number % BURST == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
        .unwrap();
    }
}

async fn next(told: &mut mpsc::UnboundedReceiver<News>) -> News {
    within("news", told.recv()).await.unwrap()
}

/// Reads what is told of one life of a node: its coming, and enough of its numbers.
async fn comes_and_talks(told: &mut mpsc::UnboundedReceiver<News>, node: &NodeId, life: u64) {
    assert_eq!(next(told).await, News::Up(node.clone()));
    for _ in 0..ENOUGH {
        match next(told).await {
            News::Number(number) => assert_eq!(number / LIFE, life),
            other => panic!("{other:?} while {node} talked"),
        }
    }
}

/// Reads up to a node's end.
async fn goes(told: &mut mpsc::UnboundedReceiver<News>, node: &NodeId, life: u64) {
    loop {
        match next(told).await {
            News::Number(number) => assert_eq!(number / LIFE, life),
            other => return assert_eq!(other, News::Down(node.clone())),
        }
    }
}

#[test]
fn m5_holds_while_connections_and_lives_replace_each_other() {
    placement::run(async {
        for round in 0..ROUNDS {
            // Each knows the other's address before the other starts, and both dial at once.
            let (to_a, to_b) = (Relay::start().await, Relay::start().await);
            let start = async |name: &str, peer: &Relay| {
                let mut config = node_config(name, &[peer.address()]);
                impatient(&mut config.connections);
                Node::start(config).await.unwrap()
            };
            let (a, b) = tokio::join!(start("a", &to_b), start("b", &to_a));
            let (pid, mut told) = chronicler(a.runtime());
            assert_eq!(next(&mut told).await, News::Up(a.runtime().node().clone()), "it is up itself");
            talk(&b, &pid, 1);
            to_a.lead_to(a.listen_address());
            to_b.lead_to(b.listen_address());
            let first = b.runtime().node().clone();
            comes_and_talks(&mut told, &first, 1).await;
            // Its next life comes while it is thought to be up; in every other round it is, and goes on talking.
            let lingers = if round % 2 == 0 {
                to_b.cut();
                to_a.cut();
                drop(b);
                None
            } else {
                Some(b)
            };
            let b = start("b", &to_a).await;
            talk(&b, &pid, 2);
            to_a.lead_to(a.listen_address());
            to_b.lead_to(b.listen_address());
            goes(&mut told, &first, 1).await;
            let second = b.runtime().node().clone();
            comes_and_talks(&mut told, &second, 2).await;
            b.shut_down("the test is done with it").await;
            goes(&mut told, &second, 2).await;
            // Whatever was still on its way is not told any more.
            a.shut_down("the test is done with it").await;
            while let Some(news) = within("the end of the chronicler", told.recv()).await {
                assert!(!matches!(news, News::Number(_)), "{news:?} after its node had gone");
            }
            drop(lingers);
        }
    });
}
