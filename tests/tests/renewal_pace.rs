//! How often a client may renew the connection of its session: what is refused for that costs it nothing, and is tried again.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rookery_client::Client;
use rookery_node::{AdminConfig, Node};
use rookery_runtime::protocol::{
    handshake::RefusalCode,
    limits::{RENEWAL_EVERY, RENEWALS_AT_ONCE},
};
use rookery_tests::{
    Puppet,
    cluster::{client_config, client_identity, mesh, node_identity},
    eventually,
    flow::{Seen, stream, watch},
    hand::Hand,
    http::get,
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_renews_some_times_in_a_row_and_then_is_told_to_wait_and_loses_nothing() {
    let node = node().await;
    let mut receives = Puppet::new(&node);
    let mut hand = Hand::connect(&node).await;
    let (start, mut renewed, mut refused) = (Instant::now(), 0, 0);
    // It renews as often as it can, also when it is told not to: as a client of a release before would, but sooner.
    let again = loop {
        hand.send(1, &receives.pid, renewed).await;
        assert_eq!(receives.number().await, renewed, "the connection that it has serves");
        let asked = Instant::now();
        match hand.renew().await {
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
