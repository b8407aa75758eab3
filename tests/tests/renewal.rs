//! Connections of nodes that go over to new ones when certificates are renewed: nobody notices but the certificates. Senders of all
//! kinds never pause; their numbers must come in order, each once, and no node may be told to be down.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_node::{Node, NodeConfig};
use rookery_runtime::{Context, Event, Received};
use rookery_tests::{
    DEADLINE,
    cluster::{mesh, node_identity},
    eventually,
    flow::{Seen, stream, watch},
    within,
};

fn renew(node: &Node) {
    node.renew_identity(node_identity(node.node().name().as_str())).unwrap();
}

/// Waits until all connections of these nodes are younger than `since`.
async fn renewed(nodes: &[Node], of: &[usize], since: Instant) {
    let start = Instant::now();
    let is_new = |node: &Node, peer: &rookery_node::PeerInfo| {
        let touched = of.iter().any(|at| nodes[*at].node() == node.node() || nodes[*at].node() == &peer.node);
        !touched || Duration::from_millis(peer.connected_ms) < since.elapsed()
    };
    loop {
        let all = nodes.iter().flat_map(|node| node.peers().into_iter().map(move |peer| (node, peer)));
        let old: Vec<_> =
            all.filter(|(node, peer)| !is_new(node, peer)).map(|(node, peer)| (node.node(), peer.node)).collect();
        if old.is_empty() {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "not renewed: {old:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn restless(count: usize) -> Vec<Node> {
    mesh(count, |config: &mut NodeConfig| config.renew_within = Duration::from_millis(50)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_out_of_order_when_connections_are_renewed() {
    let nodes = restless(3).await;
    let seen = Arc::new(Seen::default());
    nodes.iter().for_each(|node| watch(node, &seen));
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.node() != from.node()) {
            // Several, so that they use several lanes.
            (0..4).for_each(|_| stream(from, to, &seen));
        }
    }
    eventually("all flows", || seen.come() > 2_000).await;
    // One, one after the other, two at once, which dial each other, and all.
    let rounds: &[&[usize]] = &[&[0], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2], &[0, 1, 2], &[0, 1, 2]];
    for of in rounds {
        let (since, before) = (Instant::now(), seen.come());
        of.iter().for_each(|at| renew(&nodes[*at]));
        renewed(&nodes, of, since).await;
        eventually("all flows on", || seen.come() > before + 500).await;
        assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new(), "after {of:?}");
    }
    assert!(nodes.iter().all(|node| node.nodes().len() == 3));
    assert!(seen.bodies.load(Ordering::Relaxed) > 100, "bodies have gone apart");
    seen.stop.store(true, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_and_names_outlive_the_connection_that_they_were_made_over() {
    let nodes = restless(2).await;
    let [a, b] = &nodes[..] else { panic!() };
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let watched = b.spawn(async move |_: Context<u8>| drop(ends.await)).unwrap().pid().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let pid = watched.clone();
    a.spawn(async move |mut context: Context<u8>| {
        context.trap_exits(true);
        context.link(&pid);
        context.monitor(&pid);
        loop {
            if tell.send(context.receive().await).is_err() {
                return;
            }
        }
    })
    .unwrap();
    for _ in 0..3 {
        let since = Instant::now();
        renew(a);
        renew(b);
        renewed(&nodes, &[0, 1], since).await;
    }
    if let Ok(early) = told.try_recv() {
        panic!("somebody has noticed: {early:?}");
    }
    drop(end);
    let first = within("the exit", told.recv()).await.unwrap();
    let second = within("the down", told.recv()).await.unwrap();
    let kinds = [&first, &second].map(|received| match received {
        Received::Event(Event::Exit { from, .. }) if *from == watched => "exit",
        Received::Event(Event::Down(_)) => "down",
        other => panic!("{other:?}"),
    });
    assert!(kinds.contains(&"exit") && kinds.contains(&"down"), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_meanwhile_is_down_once() {
    for round in 0..8_u64 {
        let mut nodes = restless(2).await;
        let seen = Arc::new(Seen::default());
        for _ in 0..4 {
            stream(&nodes[0], &nodes[1], &seen);
        }
        let downs = Arc::new(AtomicU64::new(0));
        let counted = downs.clone();
        let watching = nodes[0].spawn(async move |mut context: Context<u8>| {
            context.monitor_nodes(true);
            loop {
                if let Received::Event(Event::NodeDown { .. }) = context.receive().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        watching.unwrap();
        eventually("all flows", || seen.come() > 100).await;
        nodes.iter().for_each(renew);
        tokio::time::sleep(Duration::from_millis(round * 12)).await;
        let gone = nodes.pop().unwrap();
        // In good order, and as by a crash.
        if round % 2 == 0 {
            gone.shut_down("the test says so").await
        } else {
            drop(gone)
        }
        eventually("it is down", || downs.load(Ordering::Relaxed) > 0 && nodes[0].nodes().len() == 1).await;
        assert_eq!(downs.load(Ordering::Relaxed), 1, "round {round}");
    }
}
