//! Rows of the contract that tell of nodes that come and go: L5, M4, M5, D2, D4, and what A1 and P1 say of a lost node.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_client::{Client, ClientConfig};
use rookery_node::Node;
use rookery_runtime::{
    CallError, Context, Destination, Event, ExitReason, NodeId, Pid, ProcessName, Received, Runtime, Start,
    protocol::request::RequestError,
    tls::{Authority, ClusterName, Identity},
};
use rookery_tests::relay::Relay;
use rookery_tests::{
    Note, Puppet,
    cluster::{client_identity, impatient, mesh, meshed, node_config},
    eventually, fence, placement, watch, within,
};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(3600);

/// Two nodes that are connected through a relay, and soon notice a loss.
async fn parted_by_relay() -> (Node, Node, Relay) {
    let relay = Relay::start().await;
    let mut config = node_config("a", &[]);
    impatient(&mut config.connections);
    let a = Node::start(config).await.unwrap();
    relay.lead_to(a.listen_address());
    let mut config = node_config("b", &[relay.address()]);
    impatient(&mut config.connections);
    let b = Node::start(config).await.unwrap();
    meshed(&[&a, &b]).await;
    (a, b, relay)
}

async fn link(from: &Puppet, to: &Pid) {
    let to = to.clone();
    from.run(move |context| context.link(&to)).await;
}

#[test]
fn l5_both_ends_of_a_link_hear_of_the_lost_connection_once() {
    placement::run(async {
        let (a, b, relay) = parted_by_relay().await;
        let (mut near, mut far) = (Puppet::trapping(&a).await, Puppet::trapping(&b).await);
        let (soft_near, soft_far) = (Puppet::new(&a), Puppet::new(&b));
        let (mut let_go, bystander) = (Puppet::trapping(&a).await, Puppet::new(&a));
        let ends = (watch(&a, &soft_near.pid).await, watch(&b, &soft_far.pid).await);
        link(&near, &far.pid).await;
        link(&soft_near, &soft_far.pid).await;
        link(&let_go, &far.pid).await;
        let pid = far.pid.clone();
        let_go.run(move |context| context.unlink(&pid)).await;
        fence(&a, &b).await;
        fence(&b, &a).await;
        relay.cut();
        assert_eq!(near.exit().await, (far.pid.clone(), ExitReason::NoConnection, true));
        assert_eq!(far.exit().await, (near.pid.clone(), ExitReason::NoConnection, true));
        assert_eq!(ends.0.reason().await, ExitReason::NoConnection);
        assert_eq!(ends.1.reason().await, ExitReason::NoConnection);
        relay.lead_to(a.listen_address());
        meshed(&[&a, &b]).await;
        fence(&a, &b).await;
        fence(&b, &a).await;
        near.quiet().await;
        far.quiet().await;
        let_go.quiet().await;
        assert_eq!(bystander.run(|_| 5).await, 5);

        // The same pids are alive, and can be linked anew.
        link(&near, &far.pid).await;
        fence(&a, &b).await;
        far.end(ExitReason::Shutdown);
        assert_eq!(near.exit().await, (far.pid.clone(), ExitReason::Shutdown, true));
    });
}

#[test]
fn l5_and_m4_without_a_connection_it_is_told_at_once() {
    placement::run(async {
        let nodes = mesh(1, |_| ()).await;
        let mut near = Puppet::trapping(&nodes[0]).await;
        let nowhere: Pid = "<nowhere.1.7>".parse().unwrap();
        link(&near, &nowhere).await;
        assert_eq!(near.exit().await, (nowhere.clone(), ExitReason::NoConnection, true));
        let monitor = near.run(move |context| context.monitor(nowhere)).await;
        let down = near.down().await;
        assert_eq!((down.monitor, down.reason), (monitor, ExitReason::NoConnection));
        let node: NodeId = "nowhere.1".parse().unwrap();
        let behaviour = "counter".parse().unwrap();
        let asked = within("an answer", nodes[0].start_on(&node, Start::json(behaviour, "1"))).await;
        assert_eq!(asked, Err(RequestError::NoConnection));
    });
}

#[test]
fn m4_each_monitor_on_a_lost_node_fires_once() {
    placement::run(async {
        let (a, b, relay) = parted_by_relay().await;
        let mut near = Puppet::new(&a);
        let far: Vec<Puppet> = (0..100).map(|_| Puppet::new(&b)).collect();
        let name = ProcessName::new("far").unwrap();
        b.register(&name, &far[0].pid).await.unwrap();
        let mut targets: Vec<Destination> = far.iter().map(|far| Destination::from(&far.pid)).collect();
        targets.push(Destination::name(b.runtime().node().clone(), name));
        let mut monitors =
            near.run(move |context| targets.into_iter().map(|to| context.monitor(to)).collect::<Vec<_>>()).await;
        let unwanted = monitors.swap_remove(50);
        near.run(move |context| context.demonitor(unwanted)).await;
        fence(&a, &b).await;
        relay.cut();
        for _ in 0..100 {
            let down = near.down().await;
            assert_eq!(down.reason, ExitReason::NoConnection);
            let at = monitors.iter().position(|monitor| *monitor == down.monitor);
            monitors.swap_remove(at.unwrap_or_else(|| panic!("{down:?} came twice, or was not asked for")));
        }
        assert!(monitors.is_empty());
        relay.lead_to(a.listen_address());
        meshed(&[&a, &b]).await;
        fence(&b, &a).await;
        near.quiet().await;
        // The lost side has forgotten who watched.
        let forgotten = || b.processes().iter().all(|info| info.watchers == 0);
        eventually("the watchers are forgotten", forgotten).await;
    });
}

#[test]
fn a1_a_call_to_a_lost_node_learns_of_it() {
    placement::run(async {
        let (a, b, relay) = parted_by_relay().await;
        let far = Puppet::new(&b);
        let held = far.hold(|_| ()).await;
        let to = a.address::<Note>(&far.pid);
        let asked = tokio::spawn(async move { to.call_within(LONG, Note::Ask).await });
        let waits = || b.processes().iter().any(|info| info.pid == far.pid && info.mailbox == 1);
        eventually("the request has arrived", waits).await;
        relay.cut();
        assert_eq!(within("the outcome", asked).await.unwrap(), Err(CallError::NoConnection));
        held.go().await;
    });
}

/// A process that tells of nodes and numbers in the order in which it is told.
async fn chronicler(runtime: &Runtime) -> (Pid, mpsc::UnboundedReceiver<String>) {
    let (tell, told) = mpsc::unbounded_channel();
    let address = runtime.spawn(async move |mut context: Context<Note>| {
        context.monitor_nodes(true);
        // Asked for twice is told once.
        context.monitor_nodes(true);
        loop {
            let line = match context.receive().await {
                Received::Event(Event::NodeUp(node)) => format!("up {node}"),
                Received::Event(Event::NodeDown { node, reason }) => {
                    assert!(!reason.is_empty(), "a reason is told");
                    format!("down {node}")
                }
                Received::Message(Note::Number(number)) => format!("number {number}"),
                other => panic!("{other:?}"),
            };
            tell.send(line).ok();
        }
    });
    (address.unwrap().pid().unwrap(), told)
}

#[test]
fn m5_nodes_come_before_their_signals_and_go_after_them() {
    placement::run(async {
        let a = Node::start(node_config("a", &[])).await.unwrap();
        let (pid, mut told) = chronicler(&a).await;
        let next = async |told: &mut mpsc::UnboundedReceiver<String>| within("news", told.recv()).await.unwrap();
        assert_eq!(next(&mut told).await, format!("up {}", a.runtime().node()), "it is up itself");
        for life in 0..3 {
            let b = Node::start(node_config("b", &[a.listen_address()])).await.unwrap();
            let id = b.runtime().node().clone();
            // It sends as soon as it can, and until it cannot.
            let to = b.address::<Note>(&pid);
            b.spawn(async move |_: Context<Note>| {
                for number in 0.. {
                    to.send(Note::Number(number)).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
            .unwrap();
            assert_eq!(next(&mut told).await, format!("up {id}"), "life {life}");
            let mut last = None;
            while last.is_none_or(|last| last < 50) {
                let line = next(&mut told).await;
                let number: u64 = line.strip_prefix("number ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
                assert!(last.is_none_or(|last| number == last + 1), "{number} after {last:?}");
                last = Some(number);
            }
            b.shut_down("the test is done with it").await;
            loop {
                let line = next(&mut told).await;
                if line == format!("down {id}") {
                    break;
                }
                assert!(line.starts_with("number "), "{line}");
            }
            // What comes next must be the next life's `up`: nothing of a node comes after its end.
        }
    });
}

#[test]
fn m5_monitor_nodes_can_be_ended() {
    placement::run(async {
        let mut nodes = mesh(2, |_| ()).await;
        let mut near = Puppet::new(&nodes[0]);
        near.run(|context| context.monitor_nodes(true)).await;
        let mut up = Vec::new();
        for _ in 0..2 {
            match near.next().await {
                Received::Event(Event::NodeUp(node)) => up.push(node),
                other => panic!("{other:?}"),
            }
        }
        up.sort();
        assert_eq!(up, nodes[0].nodes());
        near.run(|context| context.monitor_nodes(false)).await;
        nodes.pop().unwrap().shut_down("the test is done with it").await;
        eventually("it is gone", || nodes[0].nodes().len() == 1).await;
        near.quiet().await;
    });
}

#[test]
fn d3_a_leave_in_good_order_is_told_before_any_timeout() {
    placement::run(async {
        let mut nodes = mesh(3, |_| ()).await;
        let leaving = nodes.pop().unwrap();
        let far = Puppet::new(&leaving);
        let mut near = Puppet::trapping(&nodes[0]).await;
        link(&near, &far.pid).await;
        fence(&nodes[0], &leaving).await;
        let start = Instant::now();
        leaving.shut_down("the test is done with it").await;
        // Its processes ended by `Shutdown` before the node left: that is what is told, and not the loss.
        assert_eq!(near.exit().await, (far.pid.clone(), ExitReason::Shutdown, true));
        eventually("it is gone", || nodes.iter().all(|node| node.nodes().len() == 2)).await;
        assert!(start.elapsed() < Duration::from_secs(10), "far below the idle timeout of these nodes");
    });
}

#[test]
fn p1_pids_of_an_earlier_life_of_a_node_are_dead() {
    placement::run(async {
        let mut config = node_config("a", &[]);
        impatient(&mut config.connections);
        let a = Node::start(config).await.unwrap();
        let start_b = async || {
            let mut config = node_config("b", &[a.listen_address()]);
            impatient(&mut config.connections);
            Node::start(config).await.unwrap()
        };
        let b = start_b().await;
        meshed(&[&a, &b]).await;
        let old = Puppet::new(&b);
        let mut near = Puppet::trapping(&a).await;
        link(&near, &old.pid).await;
        fence(&a, &b).await;
        let old_id = b.runtime().node().clone();
        // Gone without a goodbye, and back at once: the newer life ends the older.
        drop(b);
        let b = start_b().await;
        eventually("the newer life is known", || a.nodes().contains(b.runtime().node())).await;
        assert_eq!(near.exit().await, (old.pid.clone(), ExitReason::NoConnection, true));
        assert!(!a.nodes().contains(&old_id), "one life of a node at a time");
        assert!(b.runtime().node().incarnation() > old_id.incarnation());
        let mut new = Puppet::new(&b);
        assert_ne!(new.pid, old.pid);
        assert_eq!(new.pid.serial(), old.pid.serial(), "the test needs two processes of the same serial");
        let asked = within("an answer", a.address::<Note>(&old.pid).call_within(LONG, Note::Ask)).await;
        assert!(matches!(asked, Err(CallError::NoConnection | CallError::NoProc)), "{asked:?}");
        a.address::<Note>(&old.pid).send(Note::Number(1)).await.unwrap();
        a.exit(&old.pid, ExitReason::Kill);
        fence(&a, &b).await;
        new.quiet().await;
    });
}

#[test]
fn d2_two_nodes_that_dial_each_other_at_once_have_one_connection_and_lose_nothing() {
    placement::run(async {
        for _ in 0..10 {
            // Each knows the other's address before the other starts.
            let (to_a, to_b) = (Relay::start().await, Relay::start().await);
            let (a, b) = tokio::join!(
                Node::start(node_config("a", &[to_b.address()])),
                Node::start(node_config("b", &[to_a.address()]))
            );
            let (a, b) = (a.unwrap(), b.unwrap());
            to_a.lead_to(a.listen_address());
            to_b.lead_to(b.listen_address());
            let (mut near, mut far) = (Puppet::new(&a), Puppet::new(&b));
            let storm = |from: &Node, to: &Pid| {
                let (own, to) = (from.runtime().clone(), from.address::<Note>(to));
                from.spawn(async move |_: Context<u8>| {
                    while own.nodes().len() < 2 {
                        tokio::task::yield_now().await;
                    }
                    for number in 0..300 {
                        to.send(Note::Number(number)).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                })
                .unwrap();
            };
            storm(&a, &far.pid);
            storm(&b, &near.pid);
            for number in 0..300 {
                assert_eq!(near.number().await, number);
                assert_eq!(far.number().await, number);
            }
            assert_eq!((a.peers().len(), b.peers().len()), (1, 1));
            assert_eq!((a.nodes().len(), b.nodes().len()), (2, 2));
            near.quiet().await;
            far.quiet().await;
        }
    });
}

/// An identity of the same names, by a CA that these nodes do not trust.
fn strangers_identity(name: &str, cluster: &str) -> Identity {
    let authority = Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap();
    let pem = authority.issue_node(name, &[], Duration::from_secs(3600)).unwrap();
    Identity::from_pem(&pem.ca, &pem.cert, &pem.key).unwrap()
}

#[test]
fn d4_only_certificates_of_the_cluster_are_let_in() {
    placement::run(async {
        let a = Node::start(node_config("a", &[])).await.unwrap();
        let mut strangers = Vec::new();
        for (name, cluster) in [("b", "contract"), ("c", "another")] {
            let mut config = node_config(name, &[a.listen_address()]);
            config.identity = strangers_identity(name, cluster);
            strangers.push(Node::start(config).await.unwrap());
        }
        let mut config = ClientConfig::new(client_identity("eve"), [strangers[0].listen_address().into()]);
        config.connect_timeout = Duration::from_millis(500);
        let refused = Client::connect(config).await.unwrap_err().to_string();
        assert!(refused.contains("no node could be reached"), "{refused}");
        // One that is let in comes in meanwhile; the strangers have had their time.
        let b = Node::start(node_config("d", &[a.listen_address()])).await.unwrap();
        meshed(&[&a, &b]).await;
        assert!(strangers.iter().all(|stranger| stranger.nodes().len() == 1 && stranger.peers().is_empty()));
    });
}

#[test]
fn d4_a_certificate_says_who_its_holder_may_be() {
    placement::run(async {
        let mut config = node_config("a", &[]);
        config.identity = client_identity("eve");
        let error = Node::start(config).await.unwrap_err();
        assert!(error.to_string().contains("of the client \"eve\""), "{error}");
        let mut config = node_config("a", &[]);
        config.name = "b".parse().unwrap();
        let error = Node::start(config).await.unwrap_err();
        assert!(error.to_string().contains("for a, not for a node named `b`"), "{error}");
    });
}
