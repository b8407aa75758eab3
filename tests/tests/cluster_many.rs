//! Twenty nodes in one test process: they mesh from one address, each talks to each, one leaves; and all of them dial all
//! others at once (D2 with real sockets).

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rookery_node::{Node, NodeConfig, devdns::DevDns};
use rookery_runtime::{Context, Destination, NodeId, Received, ReplyTo, SpawnOptions};
use rookery_tests::{
    cluster::{meshed, node_config},
    eventually, within,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

#[path = "cluster/news.rs"]
mod news;
use news::News;

const NODES: usize = 20;

/// Twenty nodes at a time are enough for one machine, and what is measured is to be theirs.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const SERVICE: &str = "crowd.test.";

/// How long a graceful leave may take to be known on a busy machine that runs twenty nodes; the contract's figure is for a
/// node with a machine of its own.
const LEAVE: Duration = Duration::from_secs(1);

#[derive(Serialize, Deserialize)]
enum Greeting {
    Hello(NodeId, ReplyTo<NodeId>),
}

fn config(number: usize, peers: &[SocketAddr]) -> NodeConfig {
    let mut config = node_config(&format!("node-{number:02}"), peers);
    // Four hundred handshakes on one core are no reason to lose one.
    config.connections.handshake_timeout = Duration::from_secs(20);
    config
}

/// Answers to the name `greeter` with the name of its node.
fn greet(node: &Node) {
    let own = node.node().clone();
    let options = SpawnOptions::new().name("greeter".parse().unwrap());
    node.spawn_with(options, async move |mut context: Context<Greeting>| {
        while let Received::Message(Greeting::Hello(from, reply)) = context.receive().await {
            assert_ne!(from, own);
            // Whoever asked may be gone.
            drop(reply.send(own.clone()));
        }
    })
    .unwrap();
}

/// Each node calls the greeter of each other one.
async fn each_calls_each(nodes: &[Node]) {
    let mut calls = JoinSet::new();
    for from in nodes {
        for to in nodes.iter().filter(|to| to.node() != from.node()) {
            let there = Destination::name(to.node().clone(), "greeter".parse().unwrap());
            let greeter = from.address::<Greeting>(there);
            let (own, expected) = (from.node().clone(), to.node().clone());
            calls.spawn(async move {
                assert_eq!(greeter.call(|reply| Greeting::Hello(own, reply)).await.unwrap(), expected);
            });
        }
    }
    assert_eq!(calls.len(), nodes.len() * (nodes.len() - 1));
    within("each call's answer", calls.join_all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_nodes_mesh_from_one_address_and_talk() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut nodes = vec![Node::start(config(0, &[])).await.unwrap()];
    let seed = nodes[0].listen_address();
    let start = Instant::now();
    for number in 1..NODES {
        nodes.push(Node::start(config(number, &[seed])).await.unwrap());
    }
    let news: Vec<News> = nodes.iter().map(|node| News::of(node)).collect();
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    eprintln!("{NODES} nodes, one address: meshed in {:?}", start.elapsed());
    nodes.iter().for_each(greet);
    let start = Instant::now();
    each_calls_each(&nodes).await;
    eprintln!("{} calls answered in {:?}", NODES * (NODES - 1), start.elapsed());
    assert!(news.iter().all(|news| news.downs().is_empty()), "a node was lost");

    let leaver = nodes.remove(7);
    let gone = leaver.node().clone();
    let start = Instant::now();
    let known = async {
        eventually("all know who left", || nodes.iter().all(|node| !node.nodes().contains(&gone))).await;
        start.elapsed()
    };
    let ((), known) = tokio::join!(leaver.shut_down("test"), known);
    eprintln!("a leave was known to all in {known:?}");
    assert!(known < LEAVE, "{known:?}");
    let told = |(n, _): &(usize, &News)| *n != 7;
    for (_, news) in news.iter().enumerate().filter(told) {
        eventually("the news", || !news.downs().is_empty()).await;
        // Once: who has left does not come back for a moment.
        assert_eq!(news.downs(), std::slice::from_ref(&gone));
    }
    assert!(nodes.iter().all(|node| node.nodes().len() == NODES - 1), "who left has come back");
    each_calls_each(&nodes).await;
}

/// DNS names all of them in the same moment: each pair dials each other at once, and at two addresses each. One connection
/// is left per pair, none is ever lost, and what stands goes on to work.
#[tokio::test(flavor = "multi_thread")]
async fn d2_all_dial_all_at_once_and_nobody_flaps() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let dns = DevDns::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    dns.set_ttl(Duration::ZERO);
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let mut config = config(number, &[]);
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.discovery.service = Some(SERVICE.to_owned());
        config.discovery.dns_servers = vec![dns.addr()];
        (config.discovery.poll_min, config.discovery.poll_max) =
            (Duration::from_millis(50), Duration::from_millis(100));
        nodes.push(Node::start(config).await.unwrap());
    }
    let news: Vec<News> = nodes.iter().map(|node| News::of(node)).collect();
    within("all look for others", dns.queried(2 * NODES as u64)).await;
    let pods = nodes.iter().enumerate().flat_map(|(n, node)| {
        let port = node.listen_address().port();
        [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| (format!("node-{n:02}"), SocketAddr::from((ip, port))))
    });
    let start = Instant::now();
    dns.set(SERVICE, pods.collect()).unwrap();
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    eprintln!("{NODES} nodes, all at once: meshed in {:?}", start.elapsed());
    nodes.iter().for_each(greet);
    each_calls_each(&nodes).await;
    // Every further dial, to the other address of each, has come to its end when nobody is asked any more.
    let settled = dns.queries() + 10 * NODES as u64;
    within("some more polls", dns.queried(settled)).await;
    each_calls_each(&nodes).await;
    for (node, news) in nodes.iter().zip(&news) {
        assert_eq!(news.downs(), [], "{} lost a node", node.node());
        assert_eq!(news.all().len(), NODES, "{} was told of nodes more than once: {:?}", node.node(), news.all());
        assert_eq!(node.peers().len(), NODES - 1);
    }
}
