//! Looks whether all is whole: each node sees all nodes, all see the same names and groups and these are what their holders and
//! members believe, and each client is connected and gets an answer from a process of each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rookery_node::{
    Address, Destination, Group, NodeId, Pid, ProcessName, Runtime,
    ask::Ask,
    json::Json,
    stock::Echo,
    system::{SYSTEM_NAME, System},
};
use tokio::task::JoinSet;

use crate::{
    cluster::index_of,
    history::What,
    load::{CROWD, NAMES, RECEIVERS, Shared},
};

/// How long one answer is waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// What one node has and sees.
struct Seen {
    nodes: Vec<String>,
    names: BTreeMap<String, Pid>,
    groups: Vec<BTreeSet<Pid>>,
}

/// Looks once. What each node saw is what has to be entered when all is whole.
///
/// # Errors
/// What is not whole yet; in words.
pub(crate) async fn look(shared: &Shared, round: u64) -> Result<Vec<What>, String> {
    let sessions = shared.known().sessions.clone();
    let mut runtimes = Vec::new();
    for (client, session) in sessions.into_iter().enumerate() {
        runtimes.push(session.ok_or_else(|| format!("client {client} is not connected"))?);
    }
    // Of one that is connected to a life of a node that is over, this asks too much.
    let nodes = shared.nodes();
    let mut looking = JoinSet::new();
    for (client, runtime) in runtimes.into_iter().enumerate() {
        let (nodes, at) = (nodes.clone(), index_of(runtime.node()));
        looking.spawn(async move {
            let seen = tokio::time::timeout(ANSWER * 2, from(&runtime, &nodes)).await;
            let seen = seen.unwrap_or_else(|_| Err("gives no answers".to_owned()));
            (client, seen.map(|seen| (at, seen)).map_err(|why| format!("node {at} {why}")))
        });
    }
    let mut all = BTreeMap::new();
    for (client, seen) in looking.join_all().await {
        all.insert(client, seen?);
    }
    let all: Vec<(usize, Seen)> = all.into_values().collect();
    let known = shared.known();
    for (at, seen) in &all {
        for name in NAMES {
            let holders = known.holders.get(name).cloned().unwrap_or_default();
            let found: BTreeSet<Pid> = seen.names.get(name).cloned().into_iter().collect();
            if found != holders {
                return Err(format!("node {at} finds {found:?} under `{name}`, but {holders:?} believe to have it"));
            }
        }
        for (group, found) in [RECEIVERS, CROWD].iter().zip(&seen.groups) {
            let members = known.members.get(*group).cloned().unwrap_or_default();
            if *found != members {
                return Err(format!("node {at} finds {found:?} in `{group}`, but in it are {members:?}"));
            }
        }
    }
    let entry = |(at, seen): (usize, Seen)| What::Saw {
        round,
        at,
        nodes: seen.nodes,
        names: seen.names.into_iter().map(|(name, pid)| (name, pid.to_string())).collect(),
        groups: seen.groups.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect(),
    };
    Ok(all.into_iter().map(entry).collect())
}

/// What the node that this client is connected to sees.
async fn from(runtime: &Runtime, nodes: &[NodeId]) -> Result<Seen, String> {
    let system: Address<System> = named(runtime, runtime.node(), SYSTEM_NAME)?;
    let statuses = system.call_within(ANSWER, System::Statuses).await;
    let statuses = statuses.map_err(|error| format!("does not tell which nodes it sees: {error}"))?;
    let mut seen: Vec<String> = statuses.iter().map(|status| status.node.to_string()).collect();
    seen.sort();
    let mut expected: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    expected.sort();
    if seen != expected {
        return Err(format!("sees the nodes {}", seen.join(", ")));
    }
    for node in nodes {
        let echo: Address<Echo> = named(runtime, node, "echo")?;
        let answer = echo.call_within(ANSWER, |reply| Echo::Echo(Ask::new(Json::from(1), reply))).await;
        answer.map_err(|error| format!("gets no answer from {node}: {error}"))?;
    }
    let asked: Vec<ProcessName> = NAMES.iter().flat_map(|name| name.parse().ok()).collect();
    let holders = runtime.whereis_in_cluster_all(&asked).await.map_err(|error| format!("tells no names: {error}"))?;
    let names = asked.iter().zip(holders).filter_map(|(name, pid)| Some((name.to_string(), pid?))).collect();
    let mut groups = Vec::new();
    for group in [RECEIVERS, CROWD] {
        let group = Group::new(group).map_err(|error| error.to_string())?;
        let members = runtime.members(&group).await.map_err(|error| format!("tells no members: {error}"))?;
        groups.push(members.into_iter().collect());
    }
    Ok(Seen { nodes: seen, names, groups })
}

fn named<M: rookery_node::Message>(runtime: &Runtime, node: &NodeId, name: &str) -> Result<Address<M>, String> {
    let name = ProcessName::new(name).map_err(|error| error.to_string())?;
    Ok(runtime.address(Destination::name(node.clone(), name)))
}
