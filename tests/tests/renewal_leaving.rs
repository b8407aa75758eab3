//! Renewal and leaving at the same moment: a node whose client renews its connection drains, or one that drains has its certificate
//! renewed, or its client's. Nothing that was asked is lost, and the client is never without a node.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_client::{Client, ClientState};
use rookery_node::Node;
use rookery_runtime::{
    Context,
    protocol::{ControlFrame, control::Goodbye},
};
use rookery_tests::{
    Note, Puppet,
    cluster::{client_config, client_identity, mesh, node_identity},
    eventually,
    hand::Hand,
    within,
};
use tokio::{task::JoinHandle, time::sleep};

const SOON: Duration = Duration::from_millis(2);

/// Two nodes, of which the first leaves. Its clients are asked to renew within this time after its certificate has changed.
async fn stage(asks_within: Duration) -> (Node, Node) {
    let mut nodes = mesh(2, |config| config.renew_within = asks_within).await;
    let stays = nodes.remove(1);
    (nodes.remove(0), stays)
}

fn leave(node: Node) -> JoinHandle<()> {
    tokio::spawn(async move { node.shut_down("the test says so").await })
}

fn goodbye() -> Goodbye {
    Goodbye { reason: "the test says so".to_owned() }
}

/// What a client does that has heard that its node is about to leave: it says that it has found another one, and goes.
async fn goes(mut hand: Hand, leaving: JoinHandle<()>) {
    hand.say(ControlFrame::Leaving(goodbye())).await;
    hand.leave(ControlFrame::Goodbye(goodbye())).await;
    within("the node leaves", leaving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_node_that_drains_while_it_goes_over_says_so_and_goes_over() {
    let (leaves, stays) = stage(SOON).await;
    let mut receives = Puppet::new(&stays);
    let mut hand = Hand::connect(&leaves).await;
    hand.send(1, &receives.pid, 1).await;
    assert_eq!(receives.number().await, 1);
    let mut new = hand.begin_to_renew().await.unwrap();
    hand.node_goes_over().await;
    // Halfway: the node writes to the new connection, and still reads the old one.
    let home = leaves.runtime().clone();
    let draining = leave(leaves);
    assert!(matches!(new.frame().await, ControlFrame::Leaving(_)));
    assert!(home.is_draining());
    hand.send(1, &receives.pid, 2).await;
    assert_eq!(receives.number().await, 2, "the old one is read to its end");
    new.send(1, &receives.pid, 3).await;
    assert_eq!(hand.go_over(new).await, Vec::new());
    assert_eq!(receives.number().await, 3, "and then the new one");
    goes(hand, draining).await;
    receives.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_session_is_renewed_on_a_node_that_drains() {
    let (leaves, stays) = stage(SOON).await;
    let mut receives = Puppet::new(&stays);
    let mut hand = Hand::connect(&leaves).await;
    hand.send(1, &receives.pid, 1).await;
    assert_eq!(receives.number().await, 1);
    let draining = leave(leaves);
    assert!(matches!(hand.frame().await, ControlFrame::Leaving(_)));
    let new = hand.begin_to_renew().await.unwrap();
    hand.node_goes_over().await;
    hand.send(1, &receives.pid, 2).await;
    assert_eq!(hand.go_over(new).await, Vec::new());
    hand.send(1, &receives.pid, 3).await;
    for number in [2, 3] {
        assert_eq!(receives.number().await, number);
    }
    goes(hand, draining).await;
    receives.quiet().await;
}

/// Calls again and again by the session that the client has, until told to stop; how many were answered.
fn calls(client: &Client, served: &Puppet, stop: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (client, pid, stop) = (client.clone(), served.pid.clone(), stop.clone());
    tokio::spawn(async move {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            let answer = client.runtime().address::<Note>(&pid).call(Note::Ask).await;
            assert!(answer.is_ok(), "after {answered}: {answer:?}");
            answered += 1;
        }
        answered
    })
}

/// Has the puppet answer, and count.
fn serve(puppet: &Puppet) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    drop(puppet.begin(move |context: &mut Context<Note>| {
        Box::pin(async move {
            while let Some(note) = context.message().await {
                if let Note::Ask(reply) = note {
                    counted.fetch_add(1, Ordering::Relaxed);
                    reply.answer(1);
                }
            }
        })
    }));
    count
}

/// Which certificate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Nodes,
    Clients,
    Both,
}

/// One client that calls without a pause while its node leaves, so long after certificates have changed, or so long before.
async fn leaves_and_renews(whose: Whose, renews_first: bool, apart: Duration) {
    // A node that has been told to leave is told nothing else: it is told before, and asks its clients after it drains.
    let (leaves, stays) = stage(if renews_first { SOON } else { 4 * apart }).await;
    let mut config = client_config("eve", &[&leaves, &stays]);
    config.renew_within = SOON;
    let client = Client::connect(config).await.unwrap();
    let former = client.runtime();
    assert_eq!(former.node(), leaves.runtime().node());
    eventually("the client knows the nodes", || former.nodes().len() == 2).await;
    let served = Puppet::new(&stays);
    let (served_so_far, stop) = (serve(&served), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..4).map(|_| calls(&client, &served, &stop)).collect();
    let mut states = client.state();
    states.mark_unchanged();
    eventually("calls are answered", || served_so_far.load(Ordering::Relaxed) > 50).await;
    if whose != Whose::Clients {
        leaves.renew_identity(node_identity("node-0")).unwrap();
    }
    let renew_client = || {
        if whose != Whose::Nodes {
            client.renew_identity(client_identity("eve")).unwrap();
        }
    };
    let leaving = if renews_first {
        renew_client();
        sleep(apart).await;
        leave(leaves)
    } else {
        let leaving = leave(leaves);
        sleep(apart).await;
        renew_client();
        leaving
    };
    within("the next session", states.changed()).await.unwrap();
    let now = states.borrow_and_update().clone();
    let case = format!("{whose:?}, renews first: {renews_first}, {apart:?} apart");
    let is_next = matches!(&now, ClientState::Connected(next) if next.node() == stays.runtime().node());
    assert!(is_next, "{case}: {now:?}");
    within("the node leaves", leaving).await.unwrap();
    eventually("the former session has ended", || former.is_closed()).await;
    stop.store(true, Ordering::Relaxed);
    let mut answered = 0;
    for caller in callers {
        answered += within("the last answer", caller).await.unwrap();
    }
    assert_eq!(served_so_far.load(Ordering::Relaxed), answered, "{case}: each was asked once");
    assert!(!states.has_changed().unwrap(), "{case}: {:?}", *states.borrow());
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_no_call_is_lost_when_a_node_leaves_while_connections_are_renewed() {
    for whose in [Whose::Nodes, Whose::Clients, Whose::Both] {
        for renews_first in [true, false] {
            for apart_ms in [0, 3, 10, 40] {
                leaves_and_renews(whose, renews_first, Duration::from_millis(apart_ms)).await;
            }
        }
    }
}
