//! Sessions of clients whose connections are renewed when certificates are, the node's or their own: nobody notices. Senders of all kinds
//! never pause; their numbers must come in order, each once, and no process, node or session may be told to be down.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rookery_client::{Client, ClientState};
use rookery_node::{AdminConfig, Node, NodeConfig};
use rookery_runtime::{
    Context, Event, Received,
    net::control::{ConnectionError, session_proof},
    protocol::{
        SessionId,
        handshake::{Features, RefusalCode, RenewedSession},
    },
};
use rookery_tests::{
    DEADLINE,
    cluster::{client_config, client_identity, mesh, node_identity},
    eventually,
    flow::{Seen, stream, watch},
    hand::shake,
    http::get,
    within,
};

const SPREAD: Duration = Duration::from_millis(50);

async fn restless(count: usize) -> Vec<Node> {
    let change = |config: &mut NodeConfig| {
        config.renew_within = SPREAD;
        config.admin = Some(AdminConfig::new("127.0.0.1:0".parse().unwrap()));
    };
    mesh(count, change).await
}

async fn connect(name: &str, node: &Node) -> Client {
    let mut config = client_config(name, &[node]);
    config.renew_within = SPREAD;
    let before = node.clients();
    let client = Client::connect(config).await.unwrap();
    // It is connected when it has said its last word; the node is when it has heard that.
    eventually("the node knows it", || node.clients() > before).await;
    client
}

/// How many handshakes with clients the node has come to an end with: each connection is one.
async fn handshakes(node: &Node) -> u64 {
    let metrics = get(node.admin_address().unwrap(), "/metrics").await.body;
    let line = metrics.lines().find(|line| line.starts_with("rookery_handshakes_total{") && line.contains("client"));
    line.map_or(0, |line| line.split_whitespace().last().unwrap().parse::<f64>().unwrap() as u64)
}

async fn until_handshakes(node: &Node, count: u64) {
    let start = Instant::now();
    while handshakes(node).await < count {
        assert!(start.elapsed() < DEADLINE, "{} of {count} handshakes", handshakes(node).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn renew_node(node: &Node) {
    node.renew_identity(node_identity(node.node().name().as_str())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_over_to_a_renewed_connection_and_nothing_is_lost_or_out_of_order() {
    let nodes = restless(2).await;
    for _ in 0..2 {
        // Of new clients: more in a row than three each is more than they may, at times.
        renewed_in_each_way(&nodes).await;
        eventually("the clients are gone", || nodes[0].clients() == 0).await;
    }
}

/// Renews the connections of two clients of the first node, while all send.
async fn renewed_in_each_way(nodes: &[Node]) {
    let seen = Arc::new(Seen::default());
    let mut made = handshakes(&nodes[0]).await + 2;
    let clients = [connect("eve", &nodes[0]).await, connect("eve", &nodes[0]).await];
    let runtimes = [clients[0].runtime(), clients[1].runtime()];
    let mut states = [clients[0].state(), clients[1].state()];
    states.iter_mut().for_each(tokio::sync::watch::Receiver::mark_unchanged);
    for runtime in &runtimes {
        watch(runtime, &seen);
        for node in nodes {
            // Several, and both ways.
            for _ in 0..2 {
                stream(runtime, node, &seen);
                stream(node, runtime, &seen);
            }
        }
    }
    stream(&runtimes[0], &runtimes[1], &seen);
    eventually("all flows", || seen.come() > 2_000).await;
    assert_eq!(handshakes(&nodes[0]).await, made);
    for round in 0..3 {
        let before = seen.come();
        // The node's certificate, a client's own, and both at once.
        if round != 1 {
            renew_node(&nodes[0]);
        }
        if round != 0 {
            for client in &clients {
                client.renew_identity(client_identity("eve")).unwrap();
            }
        }
        made += 2;
        until_handshakes(&nodes[0], made).await;
        eventually("none is old", || nodes[0].outdated() == 0).await;
        eventually("all flows on", || seen.come() > before + 1_000).await;
        assert_eq!(*seen.wrong.lock().unwrap(), Vec::<String>::new(), "round {round}");
        made = handshakes(&nodes[0]).await;
    }
    assert!(seen.bodies.load(Ordering::Relaxed) > 25, "bodies have gone apart");
    assert_eq!(nodes[0].clients(), 2);
    for state in &states {
        assert!(!state.has_changed().unwrap(), "the session is the same: {state:?}");
    }
    seen.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_names_and_groups_of_a_client_outlive_the_connection_that_they_were_made_over() {
    let nodes = restless(2).await;
    let client = connect("eve", &nodes[0]).await;
    let runtime = client.runtime();
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let watched = runtime.spawn(async move |_: Context<u8>| drop(ends.await)).unwrap().pid().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let pid = watched.clone();
    nodes[1]
        .spawn(async move |mut context: Context<u8>| {
            context.trap_exits(true);
            context.link(&pid);
            context.monitor(&pid);
            while tell.send(context.receive().await).is_ok() {}
        })
        .unwrap();
    for round in 0..3 {
        renew_node(&nodes[0]);
        until_handshakes(&nodes[0], 2 + round).await;
        eventually("none is old", || nodes[0].outdated() == 0).await;
    }
    if let Ok(early) = told.try_recv() {
        panic!("somebody has noticed: {early:?}");
    }
    drop(end);
    for _ in 0..2 {
        match within("the end is told", told.recv()).await.unwrap() {
            Received::Event(Event::Exit { from, .. }) => assert_eq!(from, watched),
            Received::Event(Event::Down(down)) => assert_eq!(down.pid().as_ref(), Some(&watched)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_over_a_session_that_is_not_his_whatever_certificate_he_has() {
    let nodes = restless(1).await;
    let (connection, _control, agreed) = shake(nodes[0].listen_address(), Features::OURS, None).await;
    let session = agreed.unwrap().session.unwrap();
    let proof = session_proof(&connection).unwrap();
    let mut wrong = proof;
    wrong[31] ^= 1;
    let other = SessionId::new(session.get() + 1).unwrap();
    let (wrong, other) = (RenewedSession { session, proof: wrong }, RenewedSession { session: other, proof });
    for renewed in [wrong, other] {
        let (_, _, refused) = shake(nodes[0].listen_address(), Features::OURS, Some(renewed)).await;
        let Err(ConnectionError::RefusedByPeer(refusal)) = refused else { panic!("{refused:?}") };
        assert_eq!(refusal.code, RefusalCode::Duplicate, "{refusal}");
    }
    let renewed = Some(RenewedSession { session, proof });
    let (_again, _too, renewed) = shake(nodes[0].listen_address(), Features::OURS, renewed).await;
    assert_eq!(renewed.unwrap().session, Some(session));
    assert_eq!(nodes[0].clients(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_client_of_a_release_before_is_asked_for_nothing_and_keeps_its_connection() {
    let nodes = restless(1).await;
    let before = Features(Features::OURS.0 & !Features::RENEW_SESSION.0);
    let (connection, mut control, agreed) = shake(nodes[0].listen_address(), before, None).await;
    agreed.unwrap();
    let client = connect("eve", &nodes[0]).await;
    for made in [3, 4] {
        renew_node(&nodes[0]);
        until_handshakes(&nodes[0], made).await;
        eventually("the other one has gone over", || nodes[0].outdated() == 1).await;
    }
    let asked = tokio::time::timeout(SPREAD, control.receive()).await;
    assert!(asked.is_err(), "{asked:?}");
    assert!(connection.close_reason().is_none() && nodes[0].clients() == 2);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_do_not_come_all_at_once() {
    const CLIENTS: usize = 24;
    let within_ms = 3_000;
    let mut nodes = mesh(1, |config| config.renew_within = Duration::from_millis(within_ms)).await;
    let node = nodes.pop().unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect("eve", &node).await);
    }
    renew_node(&node);
    let start = Instant::now();
    eventually("some have come", || node.outdated() < CLIENTS).await;
    let first = start.elapsed();
    eventually("half of them have", || node.outdated() <= CLIENTS / 2).await;
    let half = start.elapsed();
    eventually("all have", || node.outdated() == 0).await;
    let last = start.elapsed();
    // By chance all could be asked in a third of the time: once in ten thousand million runs.
    let spread = Duration::from_millis(within_ms / 3);
    assert!(last - first > spread, "{first:?}, {half:?}, {last:?}");
    assert_eq!(node.clients(), CLIENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_or_node_that_goes_while_the_session_is_renewed_is_gone_once() {
    for round in 0..8_u64 {
        let mut nodes = restless(1).await;
        let node = nodes.pop().unwrap();
        let client = connect("eve", &node).await;
        let seen = Arc::new(Seen::default());
        stream(&client.runtime(), &node, &seen);
        stream(&node, &client.runtime(), &seen);
        eventually("all flows", || seen.come() > 100).await;
        let state = client.state();
        renew_node(&node);
        tokio::time::sleep(Duration::from_millis(round * 12)).await;
        if round % 2 == 0 {
            within("the client closes", client.close()).await;
            eventually("it is gone", || node.clients() == 0).await;
        } else {
            let mut state = state;
            within("the node leaves", node.shut_down("the test says so")).await;
            let lost = state.wait_for(|state| matches!(state, ClientState::Connecting { .. }));
            drop(within("the client knows", lost).await.unwrap());
        }
    }
}
