//! What a node tells Prometheus: read whole by a strict parser, held against the table that people read, and against what has
//! happened on the node.

// Whatever fails here fails the test, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod exposition;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use exposition::{Exposition, parse};
use rookery_node::{
    AdminConfig, ExitReason, Node,
    supervise::{ChildId, ChildSpec, ChildStart, Strategy, Supervisor, SupervisorSpec},
};
use rookery_runtime::{
    Address, CallError, Context, NodeName, Pid, ReplyTo, Start,
    tls::{Authority, ClusterName, Identity},
};
use rookery_tests::{
    DEADLINE,
    cluster::{client, mesh, node_config},
    eventually,
    http::{get, request},
};
use serde::{Deserialize, Serialize};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const DOCUMENTED: &str = include_str!("../../deploy/METRICS.md");

async fn scrape(node: &Node) -> Exposition {
    let answer = get(node.admin_address().unwrap(), "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("text/plain; version=0.0.4"), "{}", answer.head);
    parse(&answer.body).unwrap_or_else(|why| panic!("{why}"))
}

/// Asks until the sample has come to this value.
async fn until(node: &Node, series: &str, fits: impl Fn(f64) -> bool) -> Exposition {
    let start = Instant::now();
    loop {
        let told = scrape(node).await;
        if told.value(series).is_some_and(&fits) {
            return told;
        }
        assert!(start.elapsed() < DEADLINE, "{series} is {:?}", told.value(series));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[derive(Serialize, Deserialize)]
enum Echo {
    Say(String),
    Ask(String, ReplyTo<String>),
}

/// Answers each second question, and drops the others.
fn echo(node: &Node) -> Pid {
    let spawned = node.spawn(async |mut context: Context<Echo>| {
        while let Some(message) = context.message().await {
            if let Echo::Ask(text, reply) = message {
                reply.answer(text);
            }
        }
    });
    spawned.unwrap().pid().unwrap()
}

/// Two nodes with an admin port each, which have a peer besides that does not answer.
struct Two {
    nodes: Vec<Node>,
    /// Nobody else gets its port, and nobody reads what comes there.
    _silent: std::net::UdpSocket,
}

async fn two() -> Two {
    let silent = std::net::UdpSocket::bind(FREE_PORT).unwrap();
    let address = silent.local_addr().unwrap();
    let nodes = mesh(2, |config| {
        config.admin = Some(AdminConfig::new(FREE_PORT));
        config.connections.handshake_timeout = std::time::Duration::from_secs(1);
        config.discovery.peers.push(address.to_string().parse().unwrap());
    });
    Two { nodes: nodes.await, _silent: silent }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_documented_metric_is_told_and_no_other() {
    let two = two().await;
    let nodes = &two.nodes;
    supervised(&nodes[0]).await;
    refused(&nodes[0]).await;
    until(&nodes[0], "rookery_handshake_failures_total{reason=\"no_answer\"}", |count| count >= 1.0).await;
    let told = scrape(&nodes[0]).await;
    let documented: BTreeMap<&str, (&str, BTreeSet<&str>)> = DOCUMENTED
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let labels = cells[2].split(", ").map(|label| label.trim_matches('`')).filter(|label| !label.is_empty());
            (cells[0].trim_matches('`'), (cells[1], labels.collect()))
        })
        .collect();
    assert!(documented.len() > 30);
    let known: BTreeSet<&str> = told.families.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(known, documented.keys().copied().collect());
    for family in &told.families {
        let (kind, labels) = &documented[family.name.as_str()];
        assert_eq!(family.kind, *kind, "{}", family.name);
        assert!(!family.samples.is_empty(), "{} has no sample in all that happens here", family.name);
        for sample in &family.samples {
            let has: BTreeSet<&str> =
                sample.labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect();
            assert_eq!(has, *labels, "{}", family.name);
        }
    }
}

async fn supervised(node: &Node) {
    let start = Start::json("counter".parse().unwrap(), "0").name("fragile".parse().unwrap());
    let mut spec = SupervisorSpec::new(Strategy::OneForOne).name("shop".parse().unwrap());
    spec.children = vec![ChildSpec::new(ChildId::new("till").unwrap(), ChildStart::behaviour(start))];
    Supervisor::start(node, spec).await.unwrap();
    let fragile = node.whereis_here(&"fragile".parse().unwrap()).unwrap();
    node.exit(&fragile, ExitReason::Kill);
    until(node, "rookery_supervisor_restarts_total{supervisor=\"shop\"}", |count| count == 1.0).await;
}

/// A node of that cluster, whose certificate is for another name, is refused.
async fn refused(node: &Node) {
    let name = node.node().name().as_str();
    let older = Node::start(node_config(name, &[node.listen_address()])).await.unwrap();
    let start = Instant::now();
    while !scrape(node).await.series.keys().any(|series| series.starts_with("rookery_handshake_refusals_total{")) {
        assert!(start.elapsed() < DEADLINE, "two nodes of one name, and nobody is refused");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    drop(older);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_what_has_happened() {
    let two = two().await;
    let nodes = &two.nodes;
    let (here, there) = (&nodes[0], &nodes[1]);
    let (near, far) = (echo(here), echo(there));
    let before = scrape(here).await;
    let before_there = scrape(there).await;
    let grown = |series: &str, now: &Exposition| now.value(series).unwrap() - before.value(series).unwrap();
    let (near, far): (Address<Echo>, Address<Echo>) = (here.address(&near), here.address(&far));
    for number in 0..32 {
        near.send(Echo::Say(String::new())).await.unwrap();
        far.send(Echo::Say(String::new())).await.unwrap();
        for _ in 0..3 {
            assert_eq!(near.call(|reply| Echo::Ask(number.to_string(), reply)).await, Ok(number.to_string()));
        }
        assert_eq!(far.call(|reply| Echo::Ask(number.to_string(), reply)).await, Ok(number.to_string()));
    }
    let now = scrape(here).await;
    // The node has its own, as the beats; so never less than what was done here.
    for (series, least) in [
        ("kind=\"message\",route=\"local\"", 32.0),
        ("kind=\"call\",route=\"local\"", 96.0),
        ("kind=\"message\",route=\"sent\"", 32.0),
        ("kind=\"call\",route=\"sent\"", 32.0),
        ("kind=\"reply\",route=\"received\"", 32.0),
    ] {
        let grown = grown(&format!("rookery_messages_total{{{series}}}"), &now);
        assert!((least..least + 32.0).contains(&grown), "{series}: {grown}");
    }
    let there_now = scrape(there).await;
    for series in
        ["kind=\"message\",route=\"received\"", "kind=\"call\",route=\"received\"", "kind=\"reply\",route=\"sent\""]
    {
        let series = format!("rookery_messages_total{{{series}}}");
        let grown = there_now.value(&series).unwrap() - before_there.value(&series).unwrap();
        assert!((32.0..64.0).contains(&grown), "{series}: {grown}");
    }
    let remote = grown("rookery_call_duration_seconds_count{route=\"remote\"}", &now);
    assert!((32.0..64.0).contains(&remote), "{remote}");
    let local = grown("rookery_call_duration_seconds_count{route=\"local\"}", &now);
    assert!((6.0..32.0).contains(&local), "one of sixteen of each thread is timed: {local}");
    assert!(grown("rookery_call_duration_seconds_sum{route=\"remote\"}", &now) > 0.0);

    assert_eq!(now.value("rookery_peers"), Some(1.0));
    assert!(now.value("rookery_peer_rtt_seconds{peer=\"node-1\"}").is_some_and(|rtt| rtt > 0.0 && rtt < 5.0));
    assert!(now.value("rookery_peer_sent_bytes_total{peer=\"node-1\"}").is_some_and(|bytes| bytes > 32.0 * 10.0));
    assert!(now.value("rookery_peer_sent_packets_total{peer=\"node-1\"}").is_some_and(|packets| packets > 10.0));
    for direction in ["dialled", "accepted"] {
        let series = format!("rookery_handshakes_total{{role=\"node\",direction=\"{direction}\"}}");
        let of = |told: &Exposition| told.value(&series).unwrap();
        assert_eq!(of(&now) + of(&there_now), 1.0, "two nodes have one connection: {direction}");
    }
    assert_eq!(now.value("rookery_processes"), Some(here.process_count() as f64));
    let expiry = now.value("rookery_certificate_expiry_timestamp_seconds{role=\"node\"}").unwrap();
    let ca = now.value("rookery_certificate_expiry_timestamp_seconds{role=\"ca\"}").unwrap();
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expiry > clock && expiry < clock + 2.0 * 86_400.0 && ca > expiry, "{clock} {expiry} {ca}");

    let guest = client("guest", &[here]).await;
    until(here, "rookery_clients", |clients| clients == 1.0).await;
    assert_eq!(scrape(here).await.value("rookery_handshakes_total{role=\"client\",direction=\"accepted\"}"), Some(1.0));
    guest.close().await;
    until(here, "rookery_clients", |clients| clients == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_counted() {
    let two = two().await;
    let nodes = &two.nodes;
    let node = &nodes[0];
    let dead = echo(node);
    node.exit(&dead, ExitReason::Kill);
    eventually("it has ended", || node.inspect(&dead).is_none()).await;
    let dead: Address<Echo> = node.address(&dead);
    let before = scrape(node).await;
    assert_eq!(dead.call(|reply| Echo::Ask(String::new(), reply)).await, Err(CallError::NoProc));
    dead.send(Echo::Say(String::new())).await.unwrap();
    let now = scrape(node).await;
    let grown = |series: &str| now.value(series).unwrap() - before.value(series).unwrap();
    assert_eq!(grown("rookery_dead_letters_total"), 2.0);
    assert_eq!(grown("rookery_call_failures_total{reason=\"no_process\"}"), 1.0);
    assert_eq!(grown("rookery_call_failures_total{reason=\"timeout\"}"), 0.0);

    // What nobody takes out of its mailbox.
    let (let_go, held) = tokio::sync::oneshot::channel::<()>();
    let full = node.spawn(async move |mut context: Context<u32>| {
        drop(held.await);
        while context.message().await.is_some() {}
    });
    let full = full.unwrap();
    for number in 0..150 {
        full.try_send(number).unwrap();
    }
    let told = until(node, "rookery_mailbox_longest_messages", |longest| longest == 150.0).await;
    assert!(told.value("rookery_mailbox_messages").unwrap() >= 150.0);
    assert_eq!(told.value("rookery_mailbox_processes_over{messages=\"100\"}"), Some(1.0));
    assert_eq!(told.value("rookery_mailbox_processes_over{messages=\"1000\"}"), Some(0.0));
    let_go.send(()).unwrap();
    let told = until(node, "rookery_mailbox_longest_messages", |longest| longest < 150.0).await;
    assert_eq!(told.value("rookery_mailbox_high_water_messages"), Some(150.0), "the high water stays");

    // What was over before anybody asked.
    let (let_go, held) = tokio::sync::oneshot::channel::<()>();
    let full = node.spawn(async move |mut context: Context<u32>| {
        drop(held.await);
        while context.message().await.is_some() {}
    });
    let full = full.unwrap();
    for number in 0..200 {
        full.try_send(number).unwrap();
    }
    let_go.send(()).unwrap();
    let pid = full.pid().unwrap();
    eventually("all is received", || node.inspect(&pid).is_some_and(|process| process.info.handled == 200)).await;
    let told = scrape(node).await;
    assert_eq!(told.value("rookery_mailbox_high_water_messages"), Some(200.0), "nobody looked while it was full");
    until(node, "rookery_runtime_lag_seconds_count{thread=\"processes\"}", |count| count >= 1.0).await;
    until(node, "rookery_runtime_lag_seconds_count{thread=\"io\"}", |count| count >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_counted_by_the_end_that_refuses_and_by_the_other() {
    let mut config = node_config("host", &[]);
    config.admin = Some(AdminConfig::new(FREE_PORT));
    let host = Node::start(config).await.unwrap();
    let other = Authority::create(&ClusterName::try_from("contract").unwrap()).unwrap();
    let pem = other.issue_node("stranger", &[], std::time::Duration::from_secs(3_600)).unwrap();
    let mut config = node_config("host", &[host.listen_address()]);
    config.name = NodeName::new("stranger").unwrap();
    config.identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap();
    config.admin = Some(AdminConfig::new(FREE_PORT));
    let stranger = Node::start(config).await.unwrap();
    // Whoever dials sees the other's certificate first.
    until(&stranger, "rookery_handshake_refusals_total{reason=\"tls\",by=\"us\"}", |count| count >= 1.0).await;
    until(&host, "rookery_handshake_refusals_total{reason=\"tls\",by=\"peer\"}", |count| count >= 1.0).await;
    for node in [&host, &stranger] {
        assert_eq!(scrape(node).await.value("rookery_peers"), Some(0.0));
    }
}

#[tokio::test]
async fn openmetrics_is_given_to_whoever_accepts_it() {
    let mut config = node_config("open", &[]);
    config.admin = Some(AdminConfig::new(FREE_PORT));
    let node = Node::start(config).await.unwrap();
    let admin = node.admin_address().unwrap();
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    let answer =
        request(admin, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"))
            .await;
    assert!(answer.head.contains("application/openmetrics-text; version=1.0.0"), "{}", answer.head);
    assert!(answer.body.ends_with("# EOF\n"));
    assert!(answer.body.contains("# TYPE rookery_dead_letters counter\n"), "{}", answer.body);
    assert!(answer.body.contains("\nrookery_dead_letters_total 0\n"), "{}", answer.body);
}
