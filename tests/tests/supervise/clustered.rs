//! A supervisor of the cluster: some node runs it, and another one when that is lost, or has it no more.

use std::time::{Duration, Instant};

use rookery_node::{
    Node,
    supervise::{ClusterSupervisor, SupervisorData, SupervisorMessage},
};
use rookery_runtime::{CallError, ExitReason, Pid, ProcessName, Runtime};
use rookery_tests::{
    cluster::{impatient, meshed, node_config},
    eventually, placement,
    relay::Relay,
};
use serde_json::json;

use super::{Journal, client};

async fn node(name: &str, journal: &Journal, peers: &[std::net::SocketAddr]) -> Node {
    let mut config = node_config(name, peers);
    impatient(&mut config.connections);
    journal.of_node(&mut config);
    Node::start(config).await.unwrap()
}

async fn three(journal: &Journal) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["a", "b", "c"] {
        let peers: Vec<_> = nodes.iter().map(Node::listen_address).collect();
        nodes.push(node(name, journal, &peers).await);
    }
    meshed(&nodes.iter().collect::<Vec<_>>()).await;
    nodes
}

fn name() -> ProcessName {
    "tree".parse().unwrap()
}

/// A tree of one worker, `x` unless told, where the supervisor is.
fn tree(worker: &str) -> SupervisorData {
    let arguments = json!({ "name": worker, "manner": "Orderly" });
    serde_json::from_value(json!({ "children": [{ "id": "w", "behaviour": "worker", "arguments": arguments }] }))
        .unwrap()
}

/// The holder, once all of `nodes` agree that it is one that is not `former`.
async fn holder(nodes: &[Node], former: Option<&Pid>) -> Pid {
    let mut holder = None;
    eventually("all agree on who runs the tree", || {
        let holders: Vec<Option<Pid>> = nodes.iter().map(|node| node.holder_of_cluster_name(&name())).collect();
        holder.clone_from(&holders[0]);
        holder.is_some() && holder.as_ref() != former && holders.iter().all(|other| *other == holder)
    })
    .await;
    holder.unwrap()
}

async fn start(runtime: &Runtime, data: SupervisorData) -> Result<(), CallError> {
    ClusterSupervisor::start(runtime, name(), data).await
}

#[test]
fn v7_a_tree_of_the_cluster_is_taken_over_when_its_node_is_lost() {
    placement::run(async {
        let mut journal = Journal::new();
        let mut nodes = three(&journal).await;
        start(&nodes[0], tree("x")).await.unwrap();
        let first = holder(&nodes, None).await;
        journal.expect(&["start x"]).await;
        // Asked by its name, from anywhere.
        let supervisor = nodes[2].cluster_named::<SupervisorMessage>(name());
        assert_eq!(supervisor.call(SupervisorMessage::Count).await.unwrap().active, 1);

        nodes.retain(|node| node.runtime().node() != first.node());
        let second = holder(&nodes, Some(&first)).await;
        assert_ne!(second.node(), first.node());
        let mut lines = vec![journal.next().await, journal.next().await];
        // The dropped node tells its worker so; the one that takes over does not wait for that.
        lines.extend(journal.rest());
        lines.sort();
        assert_eq!(lines.iter().filter(|line| *line == "start x").count(), 1, "{lines:?}");

        // And again, until one node is left.
        nodes.retain(|node| node.runtime().node() != second.node());
        let third = holder(&nodes, Some(&second)).await;
        assert_eq!(third.node(), nodes[0].runtime().node());
    });
}

#[test]
fn v7_a_node_that_joins_later_knows_the_tree() {
    placement::run(async {
        let mut journal = Journal::new();
        let a = node("a", &journal, &[]).await;
        start(&a, tree("x")).await.unwrap();
        let nodes = vec![a];
        let first = holder(&nodes, None).await;
        journal.expect(&["start x"]).await;
        let b = node("b", &journal, &[nodes[0].listen_address()]).await;
        meshed(&[&nodes[0], &b]).await;
        let both = [nodes, vec![b]].into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(holder(&both, None).await, first, "who comes later takes nothing away");
        let contends = |node: &Node| node.processes().iter().any(|info| info.behaviour == "rookery:contender");
        eventually("b has been told of the tree", || contends(&both[1])).await;
        // It leaves in good order.
        let mut both = both.into_iter();
        let (a, b) = (both.next().unwrap(), [both.next().unwrap()]);
        a.shut_down("enough").await;
        let second = holder(&b, Some(&first)).await;
        assert_eq!(second.node().name().as_str(), "b");
        // The worker hands nothing over, and its successor begins while it is told to end.
        let mut lines = [journal.next().await, journal.next().await, journal.next().await];
        lines.sort();
        assert_eq!(lines, ["end x", "start x", "told x: shutdown"]);
    });
}

#[test]
fn v7_a_tree_of_the_cluster_outlives_the_kill_of_its_supervisor() {
    placement::run(async {
        let mut journal = Journal::new();
        let nodes = three(&journal).await;
        start(&nodes[0], tree("x")).await.unwrap();
        let first = holder(&nodes, None).await;
        journal.expect(&["start x"]).await;
        nodes[1].exit(&first, ExitReason::Kill);
        holder(&nodes, Some(&first)).await;
        let mut lines = [journal.next().await, journal.next().await, journal.next().await];
        lines.sort();
        assert_eq!(lines, ["end x", "start x", "told x: killed"]);
    });
}

#[test]
fn v7_a_tree_of_the_cluster_is_changed_and_removed_from_anywhere() {
    placement::run(async {
        let mut journal = Journal::new();
        let nodes = three(&journal).await;
        start(&nodes[0], tree("x")).await.unwrap();
        let first = holder(&nodes, None).await;
        journal.expect(&["start x"]).await;
        start(&nodes[1], tree("x")).await.unwrap();
        assert_eq!(holder(&nodes, None).await, first, "the same again changes nothing");
        start(&nodes[2], tree("y")).await.unwrap();
        holder(&nodes, Some(&first)).await;
        journal.expect(&["told x: shutdown", "end x", "start y"]).await;
        // A node that is just asking for the name would get it for a moment when the tree is removed.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let stopping = Instant::now();
        ClusterSupervisor::stop(nodes[0].runtime(), name()).await.unwrap();
        journal.expect(&["told y: shutdown", "end y"]).await;
        // Longer than those who do not know it would wait to run it again.
        eventually("some time is over", || stopping.elapsed() > Duration::from_millis(1_500)).await;
        assert!(nodes.iter().all(|node| node.holder_of_cluster_name(&name()).is_none()));
        assert_eq!(journal.rest(), Vec::<String>::new());
    });
}

#[test]
fn v7_what_cannot_run_is_refused_and_clients_start_no_trees() {
    placement::run(async {
        let journal = Journal::new();
        let nodes = vec![node("a", &journal, &[]).await];
        let data = serde_json::from_value(json!({ "strategy": "simple_one_for_one" })).unwrap();
        let refused = start(&nodes[0], data).await;
        assert!(matches!(&refused, Err(CallError::Refused(why)) if why.contains("the template")), "{refused:?}");
        let client = client(&journal, &nodes).await;
        let refused = start(&client.runtime(), tree("x")).await;
        assert!(matches!(&refused, Err(CallError::Refused(why)) if why.contains("out of reach")), "{refused:?}");
    });
}

#[test]
fn v7_when_a_partition_heals_one_tree_is_left() {
    placement::run(async {
        let mut journal = Journal::new();
        let a = node("a", &journal, &[]).await;
        let relay = Relay::start().await;
        relay.lead_to(a.listen_address());
        let b = node("b", &journal, &[relay.address()]).await;
        meshed(&[&a, &b]).await;
        let nodes = [a, b];
        start(&nodes[0], tree("x")).await.unwrap();
        let first = holder(&nodes, None).await;
        journal.expect(&["start x"]).await;
        relay.cut();
        // Each side has one.
        let alone =
            |node: &Node| node.holder_of_cluster_name(&name()).filter(|holder| holder.node() == node.runtime().node());
        eventually("both run it", || nodes.iter().all(|node| alone(node).is_some())).await;
        assert!(nodes.iter().any(|node| alone(node).as_ref() == Some(&first)), "who had it goes on");
        journal.expect(&["start x"]).await;
        relay.lead_to(nodes[0].listen_address());
        let winner = holder(&nodes, None).await;
        // The loser ends with its child, in good order.
        journal.expect(&["told x: shutdown", "end x"]).await;
        assert_eq!(holder(&nodes, None).await, winner);
        let supervisor = nodes[0].cluster_named::<SupervisorMessage>(name());
        assert_eq!(supervisor.call(SupervisorMessage::Count).await.unwrap().active, 1);
        assert!(journal.rest().is_empty());
    });
}
