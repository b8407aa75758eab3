//! D1 with real nodes and a real DNS server that misbehaves: records that come late, go away, are empty, fail, never come,
//! point at nobody, at a stranger's cluster, or at the node itself by another address. The mesh forms when it can, and DNS
//! alone never makes it smaller.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rookery_node::{
    Node, NodeConfig,
    devdns::{DevDns, Fault},
};
use rookery_runtime::{
    NodeName,
    tls::{Authority, ClusterName, Identity},
};
use rookery_tests::{
    cluster::{meshed, node_config},
    within,
};
use tokio::net::UdpSocket;

#[path = "cluster/news.rs"]
mod news;
use news::News;

const SERVICE: &str = "orders.shop.svc.cluster.test.";

const POLL_MAX: Duration = Duration::from_millis(200);

async fn dns() -> DevDns {
    let dns = DevDns::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    dns.set_ttl(Duration::ZERO);
    dns
}

fn searching(dns: &DevDns, mut config: NodeConfig) -> NodeConfig {
    config.discovery.service = Some(SERVICE.to_owned());
    config.discovery.dns_servers = vec![dns.addr()];
    (config.discovery.poll_min, config.discovery.poll_max) = (Duration::from_millis(100), POLL_MAX);
    config.discovery.lookup_timeout = Duration::from_millis(500);
    config
}

async fn nodes(dns: &DevDns, count: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(Node::start(searching(dns, node_config(&format!("orders-{number}"), &[]))).await.unwrap());
    }
    nodes
}

fn pods<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<(String, SocketAddr)> {
    nodes.into_iter().map(|node| (node.node().name().to_string(), node.listen_address())).collect()
}

fn all(nodes: &[Node]) -> Vec<&Node> {
    nodes.iter().collect()
}

/// Waits until every node has asked DNS some more times.
async fn asked_again(dns: &DevDns, nodes: &[Node]) {
    // A poll is up to three questions of a kind each, and some are asked again.
    within("DNS is asked again", dns.queried(dns.queries() + 12 * nodes.len() as u64)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_records_that_come_late() {
    let dns = dns().await;
    let nodes = nodes(&dns, 3).await;
    asked_again(&dns, &nodes).await;
    assert!(nodes.iter().all(|node| node.nodes().len() == 1), "a cluster of one each");
    // One record is enough for each to hear of each.
    dns.set(SERVICE, pods(&nodes[..1])).unwrap();
    meshed(&all(&nodes)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_dns_that_fails_takes_nobody_away() {
    let dns = dns().await;
    let mut nodes = nodes(&dns, 3).await;
    dns.set(SERVICE, pods(&nodes)).unwrap();
    meshed(&all(&nodes)).await;
    let news: Vec<News> = nodes.iter().map(|node| News::of(node)).collect();
    for fault in [Fault::Empty, Fault::NxDomain, Fault::ServFail, Fault::SrvFails, Fault::PodsFail(3), Fault::Silent] {
        dns.set_fault(fault);
        asked_again(&dns, &nodes).await;
        assert!(nodes.iter().all(|node| node.nodes().len() == 3), "{fault:?}");
    }
    dns.set_fault(Fault::None);
    // Records that go away: all, all but one, the name itself.
    dns.set(SERVICE, Vec::new()).unwrap();
    asked_again(&dns, &nodes).await;
    dns.set(SERVICE, pods(&nodes[2..])).unwrap();
    asked_again(&dns, &nodes).await;
    dns.remove(SERVICE).unwrap();
    asked_again(&dns, &nodes).await;
    assert!(nodes.iter().all(|node| node.nodes().len() == 3));

    // Who starts while DNS is silent is a cluster of one until DNS is back.
    dns.set_fault(Fault::Silent);
    nodes.push(Node::start(searching(&dns, node_config("orders-3", &[]))).await.unwrap());
    asked_again(&dns, &nodes).await;
    assert_eq!(nodes[3].nodes().len(), 1);
    dns.set(SERVICE, pods(&nodes)).unwrap();
    dns.set_fault(Fault::None);
    meshed(&all(&nodes)).await;
    assert!(news.iter().all(|news| news.downs().is_empty()), "DNS took a node away");
}

/// A node that looks for nobody is found as soon as DNS names it.
#[tokio::test(flavor = "multi_thread")]
async fn d1_a_new_address_is_dialled_within_one_poll() {
    let dns = dns().await;
    let mut nodes = nodes(&dns, 2).await;
    dns.set(SERVICE, pods(&nodes)).unwrap();
    meshed(&all(&nodes)).await;
    nodes.push(Node::start(node_config("orders-2", &[])).await.unwrap());
    asked_again(&dns, &nodes[..2]).await;
    assert_eq!(nodes[2].nodes().len(), 1);
    let start = Instant::now();
    dns.set(SERVICE, pods(&nodes)).unwrap();
    meshed(&all(&nodes)).await;
    let took = start.elapsed();
    eprintln!("in the mesh {took:?} after it was in DNS, which is polled every {POLL_MAX:?}");
    assert!(took < POLL_MAX + Duration::from_secs(2), "{took:?}");
}

/// Of the addresses that DNS names, only two are peers. The others are silent, closed, a stranger's, the node's own by
/// another address, and each peer by a second one.
#[tokio::test(flavor = "multi_thread")]
async fn d1_records_that_lead_astray() {
    let dns = dns().await;
    let mut nodes = Vec::new();
    for number in 0..3 {
        let mut config = searching(&dns, node_config(&format!("orders-{number}"), &[]));
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.connections.handshake_timeout = Duration::from_secs(2);
        nodes.push(Node::start(config).await.unwrap());
    }
    let news: Vec<News> = nodes.iter().map(|node| News::of(node)).collect();
    let stranger = {
        let authority = Authority::create(&ClusterName::try_from("contract").unwrap()).unwrap();
        let pem = authority.issue_node("orders-1", &[], Duration::from_secs(3600)).unwrap();
        let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap();
        let mut config = searching(&dns, NodeConfig::new(NodeName::new("orders-1").unwrap(), identity));
        config.listen = "127.0.0.1:0".parse().unwrap();
        Node::start(config).await.unwrap()
    };
    // Held open, and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut records = vec![
        ("nobody".to_owned(), silent.local_addr().unwrap()),
        ("closed".to_owned(), closed),
        ("stranger".to_owned(), stranger.listen_address()),
    ];
    for node in &nodes {
        let port = node.listen_address().port();
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
            records.push((node.node().name().to_string(), SocketAddr::from((ip, port))));
        }
    }
    dns.set(SERVICE, records).unwrap();
    meshed(&all(&nodes)).await;
    asked_again(&dns, &nodes).await;
    for (node, news) in nodes.iter().zip(&news) {
        assert_eq!(node.peers().len(), 2, "{:?}", node.peers());
        assert_eq!(news.downs(), [], "{}", node.node());
        assert!(!node.nodes().contains(stranger.node()));
    }
    assert_eq!(stranger.nodes().len(), 1, "the stranger is alone");
}

/// An address that passes from one node to another one, as pods' addresses do: who is there is told by its certificate, and
/// the one that was there before is not mistaken for it.
#[tokio::test(flavor = "multi_thread")]
async fn d1_an_address_that_passes_to_another_node() {
    let dns = dns().await;
    let mut nodes = nodes(&dns, 3).await;
    dns.set(SERVICE, pods(&nodes)).unwrap();
    meshed(&all(&nodes)).await;
    let former = nodes.remove(2);
    let (gone, address) = (former.node().clone(), former.listen_address());
    former.shut_down("rescheduled").await;
    let mut config = searching(&dns, node_config("orders-9", &[]));
    config.listen = address;
    // It is not told where the others are: they dial the address that they know.
    config.discovery.service = None;
    nodes.push(Node::start(config).await.unwrap());
    meshed(&all(&nodes)).await;
    assert!(nodes.iter().all(|node| !node.nodes().contains(&gone)));
    assert_eq!(nodes[0].node_named("orders-9").as_ref(), Some(nodes[2].node()));
}
