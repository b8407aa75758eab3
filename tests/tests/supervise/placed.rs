//! Where children live (V7): by label, evenly, on the least loaded node; and what becomes of them when nodes come and go.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rookery_node::{
    Node, NodeConfig,
    status::{NodeStatus, STATUS_NAME, Status},
    supervise::{ChildStatus, Placement, Strategy},
};
use rookery_runtime::{Context, Event, ExitReason, Received, Runtime};
use rookery_tests::{
    DEADLINE,
    cluster::{impatient, meshed, node_config},
    placement, within,
};

use super::{Family, Journal, Manner, client, patient, worker};

async fn node(name: &str, labels: &[(&str, &str)], journal: &Journal, peers: &[&Node]) -> Node {
    let peers: Vec<SocketAddr> = peers.iter().map(|node| node.listen_address()).collect();
    let mut config: NodeConfig = node_config(name, &peers);
    impatient(&mut config.connections);
    journal.of_node(&mut config);
    config.labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Node::start(config).await.unwrap()
}

fn label(name: &str, value: &str) -> Placement {
    Placement::Label(BTreeMap::from([(name.to_owned(), value.to_owned())]))
}

/// Waits until what `runtime`'s node knows of the nodes is as `wanted` says.
async fn told(runtime: &Runtime, wanted: impl Fn(&[NodeStatus]) -> bool) {
    let status = runtime.named::<Status>(STATUS_NAME.parse().unwrap());
    within("the nodes to tell of themselves", async {
        while !wanted(&status.call(Status::Nodes).await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The number of children on each node, once all run and the counts are `wanted`; in the order of the nodes' names.
async fn spread(family: &Family, wanted: &[usize]) {
    let start = Instant::now();
    loop {
        let children = family.children().await;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for node in children.iter().filter_map(|child| child.node.as_ref()) {
            *counts.entry(node.to_string()).or_default() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort();
        if children.iter().all(|child| child.status == ChildStatus::Running) && counts == wanted {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{counts:?} is not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn by_label(in_a_client: bool) {
    let mut journal = Journal::new();
    let s = node("s", &[("zone", "b")], &journal, &[]).await;
    let w0 = node("w-0", &[("zone", "a"), ("disk", "ssd")], &journal, &[&s]).await;
    let w1 = node("w-1", &[("zone", "a")], &journal, &[&s, &w0]).await;
    meshed(&[&s, &w0, &w1]).await;
    told(&s, |nodes| nodes.iter().all(|node| !node.labels.is_empty())).await;
    let mut nodes = vec![s, w0, w1];
    let client = if in_a_client { Some(client(&journal, &nodes).await) } else { None };
    let runtime = client.as_ref().map_or_else(|| nodes[0].runtime().clone(), |client| client.runtime());
    let spec = patient(Strategy::OneForOne).child(worker("disk", Manner::Orderly, label("disk", "ssd"))).child(worker(
        "zone",
        Manner::Orderly,
        label("zone", "a"),
    ));
    let family = Family::start(&runtime, spec).await;
    journal.expect(&["start disk", "start zone"]).await;
    let (disk, zone) = (family.pid_of("disk").await, family.pid_of("zone").await);
    assert_eq!(disk.node().name().as_str(), "w-0");
    assert!(zone.node().name().as_str().starts_with("w-"));
    // Of the nodes with the label, one is left for the one child and none for the other.
    nodes.retain(|node| node.runtime().node() != disk.node());
    let waits = |child: &rookery_node::supervise::ChildInfo| {
        child.status == ChildStatus::Restarting && child.last_end.as_deref().is_some_and(|end| end.contains("no place"))
    };
    within("the child to wait for a node", async {
        while !waits(&family.child("disk").await.unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let zone = match zone.node() == disk.node() {
        true => family.successor("zone", &zone).await,
        false => zone,
    };
    assert_eq!(zone.node().name().as_str(), "w-1");
    // A node of another name that has the label ends the wait.
    let w2 = node("w-2", &[("disk", "ssd")], &journal, &[&nodes[0]]).await;
    let disk = family.successor("disk", &disk).await;
    assert_eq!(disk.node(), w2.runtime().node());
    assert_eq!(family.pid_of("zone").await, zone, "who was not there does not notice");
}

#[test]
fn v7_a_child_lives_where_the_label_is() {
    placement::run(by_label(false));
}

#[test]
fn v7_a_child_of_a_clients_supervisor_lives_where_the_label_is() {
    placement::run(by_label(true));
}

async fn evenly(in_a_client: bool) {
    let journal = Journal::new();
    let s = node("s", &[], &journal, &[]).await;
    let w0 = node("w-0", &[], &journal, &[&s]).await;
    meshed(&[&s, &w0]).await;
    let nodes = vec![s, w0];
    let client = if in_a_client { Some(client(&journal, &nodes).await) } else { None };
    let runtime = client.as_ref().map_or_else(|| nodes[0].runtime().clone(), |client| client.runtime());
    let names = ["a", "b", "c", "d", "e", "f"];
    let children = names.map(|name| worker(name, Manner::Orderly, Placement::Spread));
    // A move is no restart: none is allowed.
    let spec = children
        .into_iter()
        .fold(patient(Strategy::OneForOne).intensity(0, super::LONG), |spec, child| spec.child(child));
    let family = Family::start(&runtime, spec).await;
    spread(&family, &[3, 3]).await;
    let w1 = node("w-1", &[], &journal, &[&nodes[0], &nodes[1]]).await;
    spread(&family, &[2, 2, 2]).await;
    assert!(family.children().await.iter().all(|child| child.restarts == 0));
    drop(w1);
}

#[test]
fn v7_children_spread_evenly_and_fill_a_node_that_joins() {
    placement::run(evenly(false));
}

#[test]
fn v7_a_clients_children_spread_evenly_and_fill_a_node_that_joins() {
    placement::run(evenly(true));
}

#[test]
fn v7_a_lost_nodes_children_spread_over_those_that_are_left() {
    placement::run(async {
        let mut journal = Journal::new();
        let s = node("s", &[], &journal, &[]).await;
        let w0 = node("w-0", &[], &journal, &[&s]).await;
        let w1 = node("w-1", &[], &journal, &[&s, &w0]).await;
        meshed(&[&s, &w0, &w1]).await;
        let names: Vec<String> = (0..12).map(|number| format!("c-{number}")).collect();
        // The loss of a node is one restart, however many children it takes.
        let spec = patient(Strategy::OneForOne).intensity(1, super::LONG);
        let spec = names.iter().fold(spec, |spec, name| spec.child(worker(name, Manner::Orderly, Placement::Spread)));
        let family = Family::start(&s, spec).await;
        spread(&family, &[4, 4, 4]).await;
        journal.rest();
        let (tell, down) = tokio::sync::oneshot::channel();
        let watcher = async move |mut context: Context<()>| {
            context.monitor_nodes(true);
            while !matches!(context.receive().await, Received::Event(Event::NodeDown { .. })) {}
            tell.send(Instant::now()).unwrap();
        };
        s.spawn(watcher).unwrap();
        drop(w1);
        let down = within("the node to be down", down).await.unwrap();
        spread(&family, &[6, 6]).await;
        // A second is what is promised, where the machine is not busy with other tests.
        assert!(down.elapsed() < Duration::from_secs(5), "{:?}", down.elapsed());
        let children = family.children().await;
        let moved: Vec<_> = children.iter().filter(|child| child.restarts == 1).collect();
        assert_eq!(moved.len(), 4);
        let lost = ExitReason::NoConnection.to_string();
        assert!(moved.iter().all(|child| child.last_end.as_deref() == Some(&lost)));
        // Each of them once: the dropped node's own end as well. One more for each that was moved, which is no restart, as
        // what is known of other nodes is old by up to a second.
        let lines = journal.rest();
        let starts = lines.iter().filter(|line| line.starts_with("start")).count();
        let moves = lines.iter().filter(|line| line.starts_with("told") && line.ends_with(": shutdown")).count();
        assert_eq!(starts, 4 + moves, "{lines:?}");
    });
}

#[test]
fn v7_a_child_lives_on_the_least_loaded_node() {
    placement::run(async {
        let journal = Journal::new();
        let s = node("s", &[], &journal, &[]).await;
        let w0 = node("w-0", &[], &journal, &[&s]).await;
        let w1 = node("w-1", &[], &journal, &[&s, &w0]).await;
        meshed(&[&s, &w0, &w1]).await;
        for (node, processes) in [(&s, 60), (&w0, 40)] {
            for _ in 0..processes {
                node.spawn(async |mut context: Context<()>| drop(context.receive().await)).unwrap();
            }
        }
        let loaded = |name: &'static str, least| {
            move |nodes: &[NodeStatus]| {
                nodes
                    .iter()
                    .any(|node| node.node.name().as_str() == name && node.processes >= least && node.processes < 1_000)
            }
        };
        told(&s, |nodes| loaded("s", 60)(nodes) && loaded("w-0", 40)(nodes) && loaded("w-1", 0)(nodes)).await;
        let names: Vec<String> = (0..50).map(|number| format!("c-{number}")).collect();
        let spec = names.iter().fold(patient(Strategy::OneForOne), |spec, name| {
            spec.child(worker(name, Manner::Plain, Placement::LeastLoaded))
        });
        let family = Family::start(&s, spec).await;
        let on = |children: &[rookery_node::supervise::ChildInfo], name: &str| {
            children.iter().filter(|child| child.node.as_ref().is_some_and(|node| node.as_str() == name)).count()
        };
        let children = family.children().await;
        // First to the emptiest; then the two share.
        assert_eq!(children[0].node.as_ref().unwrap().as_str(), "w-1");
        assert_eq!(on(&children, "s"), 0, "the fullest takes none");
        assert!(on(&children, "w-1") > on(&children, "w-0") && on(&children, "w-0") > 0, "{}", on(&children, "w-0"));
    });
}
