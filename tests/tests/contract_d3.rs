//! Row D3 of the contract, with nodes that are processes of the operating system: how a leave, a death and a hang are
//! noticed, and that one who is only slow is kept. Row M4: what monitors on a lost node cost.
//!
//! The limits here are wider than the promises, since tests share two cores; `rookery bench nodedown` measures.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_node::{ConnectionSettings, Node, NodeConfig, NodeId, NodeName, tls::Identity};
use rookery_runtime::{Context, Event, ExitReason, Received};
use rookery_tests::{
    Note, Puppet,
    cluster::{impatient, mesh, meshed, node_config},
    eventually,
    placement::run,
    program::{Certificates, Program, node_of},
    relay::Relay,
    within,
};
use tokio::sync::mpsc;

/// A node here, and two processes that run nodes. What is told here of nodes.
struct Cluster {
    node: Node,
    programs: Vec<Program>,
    certificates: Certificates,
    addresses: Vec<String>,
    news: mpsc::UnboundedReceiver<(Event, Instant)>,
}

impl Cluster {
    async fn start() -> Self {
        let certificates = Certificates::new("contract");
        let identity = Identity::from_dir(&certificates.node("here")).unwrap();
        let mut config = NodeConfig::new(NodeName::new("here").unwrap(), identity);
        config.listen = "127.0.0.1:0".parse().unwrap();
        let node = Node::start(config).await.unwrap();
        let (tell, news) = mpsc::unbounded_channel();
        node.spawn(async move |mut context: Context<Note>| {
            context.monitor_nodes(true);
            loop {
                if let Received::Event(event) = context.receive().await {
                    drop(tell.send((event, Instant::now())));
                }
            }
        })
        .unwrap();
        let peer = node.listen_address().to_string();
        let (mut programs, mut addresses) = (Vec::new(), Vec::new());
        for name in ["there-0", "there-1"] {
            let more = ["--peers", &peer, "--worker-threads", "1", "--boot", "none"];
            let (program, address) = node_of("", &certificates, name, &more).await;
            programs.push(program);
            addresses.push(address);
        }
        let mut cluster = Self { node, programs, certificates, addresses, news };
        for _ in 0..3 {
            assert!(matches!(cluster.told().await.0, Event::NodeUp(_)));
        }
        // All three know each other, so that there is somebody to ask.
        let logs = |programs: &[Program]| programs.iter().all(|it| it.log().matches("node up").count() == 2);
        eventually("the mesh has formed", || logs(&cluster.programs)).await;
        cluster
    }

    async fn told(&mut self) -> (Event, Instant) {
        within("news of a node", self.news.recv()).await.unwrap()
    }

    /// Why the first of the others is told to be down, and how long after `since`.
    async fn down(&mut self, since: Instant) -> (String, Duration) {
        let (event, at) = self.told().await;
        let Event::NodeDown { node, reason } = event else { panic!("expected a loss, got {event:?}") };
        assert_eq!(node.name().as_str(), "there-0");
        (reason, at - since)
    }
}

#[test]
fn d3_a_leave_in_good_order_is_known_at_once() {
    run(async {
        let mut cluster = Cluster::start().await;
        let since = Instant::now();
        cluster.programs[0].signal("TERM");
        let (reason, took) = cluster.down(since).await;
        assert!(reason.contains("it left"), "{reason}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn d3_a_killed_node_is_known_to_be_down_within_two_seconds() {
    run(async {
        let mut cluster = Cluster::start().await;
        let since = Instant::now();
        cluster.programs[0].signal("KILL");
        let (reason, took) = cluster.down(since).await;
        assert!(reason.contains("its process has ended"), "{reason}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

/// What the former life's peers send there is answered by a stateless reset (RFC 9000, 10.3). The next life dials nobody, so
/// nothing else tells of it.
#[test]
fn d3_a_node_that_was_restarted_at_its_address_is_noticed_by_its_reset() {
    run(async {
        let mut cluster = Cluster::start().await;
        let address = cluster.addresses[0].clone();
        drop(cluster.programs.remove(0));
        let since = Instant::now();
        let identity = cluster.certificates.dir().join("there-0").display().to_string();
        let log = cluster.certificates.dir().join("again.log");
        let arguments = ["start", "--name", "there-0", "--identity", &identity, "--listen", &address, "--boot", "none"];
        cluster.programs.push(Program::start(&log, &arguments));
        let (reason, took) = cluster.down(since).await;
        // Whoever is answered by a reset first tells the next life where the other is. On a busy machine it may come up so late
        // that its closed port has told already.
        let other = cluster.programs[0].log();
        let told = format!("{reason}\n{other}");
        assert!(told.contains("(reset)") || told.contains("nobody listens"), "{told}");
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn d3_a_hung_node_is_known_to_be_down_within_four_seconds_and_comes_back() {
    run(async {
        let mut cluster = Cluster::start().await;
        let since = Instant::now();
        cluster.programs[0].signal("STOP");
        let (reason, took) = cluster.down(since).await;
        assert!(reason.contains("others do not hear it either"), "{reason}");
        assert!((Duration::from_millis(1_500)..Duration::from_secs(4)).contains(&took), "{took:?}");
        cluster.programs[0].signal("CONT");
        let (event, _) = cluster.told().await;
        assert!(matches!(event, Event::NodeUp(node) if node.name().as_str() == "there-0"));
    });
}

/// Three nodes, of which the first two have only a relay between them, the relay, and who is lost to the first, and why.
async fn parted(idle_timeout: Option<Duration>) -> (Vec<Node>, Relay, mpsc::UnboundedReceiver<(NodeId, String)>) {
    let relay = Relay::start().await;
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["near", "far", "third"] {
        let peers = match nodes.as_slice() {
            [] => Vec::new(),
            [near] => {
                relay.lead_to(near.listen_address());
                vec![relay.address()]
            }
            others => others.iter().map(Node::listen_address).collect(),
        };
        let mut config = node_config(name, &peers);
        config.connections.idle_timeout = idle_timeout.unwrap_or(ConnectionSettings::default().idle_timeout);
        nodes.push(Node::start(config).await.unwrap());
        meshed(&nodes.iter().collect::<Vec<_>>()).await;
    }
    let (tell, told) = mpsc::unbounded_channel();
    nodes[0]
        .spawn(async move |mut context: Context<Note>| {
            context.monitor_nodes(true);
            loop {
                if let Received::Event(Event::NodeDown { node, reason }) = context.receive().await {
                    drop(tell.send((node, reason)));
                }
            }
        })
        .unwrap();
    (nodes, relay, told)
}

/// For how long the second node has been silent to the first, in milliseconds.
fn silent_ms(nodes: &[Node]) -> Option<u64> {
    let peers = nodes[0].peers();
    let far = peers.iter().find(|peer| peer.node == *nodes[1].node());
    far.unwrap_or_else(|| panic!("it was declared down")).silent_ms
}

#[test]
fn d3_a_link_that_is_cut_for_some_seconds_costs_nothing_while_others_hear_both_ends() {
    run(async {
        let (nodes, relay, mut told) = parted(None).await;
        relay.cut();
        eventually("six seconds of silence", || silent_ms(&nodes) > Some(6_000)).await;
        relay.lead_to(nodes[0].listen_address());
        eventually("it is heard again", || silent_ms(&nodes).is_none()).await;
        assert!(told.try_recv().is_err(), "nobody was declared down");
    });
}

#[test]
fn d3_a_node_that_is_out_of_reach_from_one_is_told_as_that_and_not_as_dead() {
    run(async {
        let (nodes, relay, mut told) = parted(Some(Duration::from_secs(4))).await;
        relay.cut();
        let (node, reason) = within("the loss", told.recv()).await.unwrap();
        assert_eq!(node, *nodes[1].node());
        // By whichever end has told first.
        assert!(reason.contains("out of reach from here") && reason.contains("third hears it"), "{reason}");
        assert_eq!(nodes[2].nodes().len(), 3, "the third has lost nobody");
    });
}

#[test]
fn d3_a_node_that_is_starved_for_a_second_is_not_declared_down() {
    run(async {
        let mut cluster = Cluster::start().await;
        for _ in 0..3 {
            cluster.programs[0].signal("STOP");
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            cluster.programs[0].signal("CONT");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(cluster.news.try_recv().is_err(), "nobody was declared down");
        assert_eq!(cluster.node.nodes().len(), 3);
    });
}

#[test]
fn m4_a_hundred_thousand_monitors_on_a_lost_node_fire_once_each() {
    const MONITORS: usize = 100_000;
    const WATCHERS: usize = 100;
    run(async {
        let mut nodes = mesh(2, |config| impatient(&mut config.connections)).await;
        let lost = nodes.pop().unwrap();
        let node = nodes.pop().unwrap();
        let target = Puppet::new(lost.runtime());
        let (tell, mut told) = mpsc::unbounded_channel::<usize>();
        let (ready, mut is_ready) = mpsc::unbounded_channel::<()>();
        for _ in 0..WATCHERS {
            let (tell, ready, to) = (tell.clone(), ready.clone(), target.pid.clone());
            node.spawn(async move |mut context: Context<Note>| {
                let monitors: std::collections::HashSet<_> =
                    (0..MONITORS / WATCHERS).map(|_| context.monitor(&to)).collect();
                ready.send(()).unwrap();
                let mut left = monitors.clone();
                while !left.is_empty() {
                    if let Received::Event(Event::Down(down)) = context.receive().await {
                        assert_eq!(down.reason, ExitReason::NoConnection);
                        assert!(left.remove(&down.monitor), "a monitor fires once");
                    }
                }
                tell.send(monitors.len()).unwrap();
                // Nothing more comes.
                context.receive().await;
                tell.send(usize::MAX).ok();
            })
            .unwrap();
        }
        for _ in 0..WATCHERS {
            within("the monitors", is_ready.recv()).await.unwrap();
        }
        let watched = || {
            let info = lost.runtime().processes().into_iter().find(|info| info.pid == target.pid);
            info.is_some_and(|info| info.watchers == MONITORS as u64)
        };
        eventually("all monitors are known there", watched).await;
        drop(lost);
        let mut fired = 0;
        while fired < MONITORS {
            fired += within("the monitors fire", told.recv()).await.unwrap();
        }
        assert_eq!(fired, MONITORS);
        assert!(told.try_recv().is_err());
    });
}
