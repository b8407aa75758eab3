//! The second half of the story: a supervisor of the cluster, whose children are spread over all nodes and in one group;
//! its node is killed, another one takes it over, and the node that comes back gets its share again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rookery_client::{Context, Event, Group, GroupAddress, NodeName, Pid, ProcessName, Received, Runtime};
use rookery_node::{ask::Ask, json::Json, stock::Echo};
use tokio::sync::mpsc;

use super::{
    Unexpected,
    cluster::{Cluster, DESKS_PER_NODE, GROUP, TREE},
    narrator::Narrator,
    story::{DEADLINE, LOOK_AGAIN, connect, index_of, meshed},
};

/// Tells it.
pub(super) async fn tell(narrator: &mut Narrator, cluster: &mut Cluster) -> Result<(), Unexpected> {
    let count = cluster.nodes.len();
    narrator.chapter("A tree over all nodes, and a group")?;
    let client = connect(cluster, 0, Instant::now()).await?;
    let (tree, desks) = (tree_name()?, desks()?);
    let spread = spread_evenly(cluster, &client.runtime(), None).await?;
    let holder = holder(&client.runtime(), &tree, None).await?;
    narrator.says(&format!("each node's file tells of `{TREE}`, a supervisor that the cluster is to run once"))?;
    narrator.done(&format!("{} runs it, {holder}; the name `{TREE}` is known on all nodes", holder.node().name()))?;
    narrator
        .done(&format!("its {} desks are spread, {DESKS_PER_NODE} a node, and all in group `{GROUP}`", spread.len()))?;
    let answered = ask_in_turn(&client.runtime().group(desks.clone()), spread.len()).await?;
    let nodes = answered.len();
    narrator.done(&format!("the client calls the group in turn: {} answers from {nodes} nodes", spread.len()))?;
    if nodes != count {
        return Err(Unexpected::new(format!("{nodes} of {count} nodes have answered")));
    }
    client.close().await;

    narrator.chapter("The node of that supervisor is killed")?;
    let victim = holder.node().name().to_string();
    let index = index_of(cluster, &victim)?;
    // Of a node that lives on.
    let client = connect(cluster, if index == 0 { 1 } else { 0 }, Instant::now()).await?;
    let runtime = client.runtime();
    let mut changes = watch(&runtime, desks).await?;
    narrator.says(&format!("a process of the client watches group `{GROUP}`; then {victim} gets SIGKILL"))?;
    let killed = Instant::now();
    cluster.kill(index).await?;
    let shrunk = next_leave(&mut changes).await?;
    narrator.measured(
        "SIGKILL to group smaller",
        shrunk.saturating_duration_since(killed),
        &format!("the group shrinks: the desks of {victim} are gone from it on all nodes, after"),
    )?;
    let taken = self::holder(&runtime, &tree, Some(&holder)).await?;
    narrator.measured(
        "SIGKILL to supervisor taken over",
        killed.elapsed(),
        &format!("{} has taken `{TREE}` over, {taken}, after", taken.node().name()),
    )?;
    let again = all_there(cluster, &runtime, Some(index)).await?;
    narrator.measured(
        "SIGKILL to group whole again",
        killed.elapsed(),
        &format!("all {} desks are there again, on {} nodes, after", again.len(), count - 1),
    )?;

    narrator.chapter("The node comes back, and gets its share")?;
    let started = Instant::now();
    cluster.start(index)?;
    meshed(cluster, &runtime, count, None).await?;
    spread_evenly(cluster, &runtime, None).await?;
    narrator.measured(
        "node back to its share of the tree",
        started.elapsed(),
        &format!("{victim} has {DESKS_PER_NODE} desks again, moved there one by one, from process start:"),
    )?;
    match runtime.whereis_in_cluster(&tree).await {
        Ok(Some(pid)) if pid == taken => {
            narrator.done(&format!("`{TREE}` stays where it is, on {}", taken.node().name()))?
        }
        other => return Err(Unexpected::new(format!("`{TREE}` is {other:?} instead of {taken}"))),
    }
    client.close().await;
    Ok(())
}

fn tree_name() -> Result<ProcessName, Unexpected> {
    TREE.parse().map_err(|error| Unexpected::new(format!("{error}")))
}

fn desks() -> Result<Group, Unexpected> {
    GROUP.parse().map_err(|error| Unexpected::new(format!("{error}")))
}

/// Who runs the tree; somebody else than `former`.
async fn holder(runtime: &Runtime, tree: &ProcessName, former: Option<&Pid>) -> Result<Pid, Unexpected> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok(Some(pid)) = runtime.whereis_in_cluster(tree).await
            && Some(&pid) != former
        {
            return Ok(pid);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Unexpected::new(format!("nobody runs `{tree}` after {DEADLINE:?}")))
}

/// Waits until all desks are members of the group; gives them.
async fn all_there(cluster: &mut Cluster, runtime: &Runtime, except: Option<usize>) -> Result<Vec<Pid>, Unexpected> {
    wait_for_desks(cluster, runtime, except, |_| true).await
}

/// Waits until each node has its share of the desks; gives them.
async fn spread_evenly(
    cluster: &mut Cluster,
    runtime: &Runtime,
    except: Option<usize>,
) -> Result<Vec<Pid>, Unexpected> {
    wait_for_desks(cluster, runtime, except, |per_node| per_node.values().all(|&desks| desks == DESKS_PER_NODE)).await
}

async fn wait_for_desks(
    cluster: &mut Cluster,
    runtime: &Runtime,
    except: Option<usize>,
    right: impl Fn(&BTreeMap<NodeName, usize>) -> bool,
) -> Result<Vec<Pid>, Unexpected> {
    let (group, wanted) = (desks()?, cluster.nodes.len() * DESKS_PER_NODE);
    let deadline = Instant::now() + DEADLINE;
    loop {
        cluster.check_alive(except)?;
        let members = runtime.members(&group).await.unwrap_or_default();
        let mut per_node = BTreeMap::new();
        for pid in &members {
            *per_node.entry(pid.node().name().clone()).or_default() += 1;
        }
        if members.len() == wanted && right(&per_node) {
            return Ok(members);
        }
        if Instant::now() > deadline {
            return Err(Unexpected::new(format!(
                "the {wanted} desks are not in place after {DEADLINE:?}: {per_node:?}"
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Calls one desk after the other, and counts which nodes have answered.
async fn ask_in_turn(desks: &GroupAddress<Echo>, times: usize) -> Result<BTreeMap<NodeName, usize>, Unexpected> {
    let mut answered = BTreeMap::new();
    for number in 0..times {
        let desk = desks.next().await.ok().flatten().ok_or_else(|| Unexpected::new("the group has no member"))?;
        let asked = Json::from(number);
        match desk.call(|reply| Echo::Echo(Ask::new(asked.clone(), reply))).await {
            Ok(answer) if answer == asked => {}
            other => return Err(Unexpected::new(format!("a desk answered {other:?} instead of {asked}"))),
        }
        if let Some(pid) = desk.pid() {
            *answered.entry(pid.node().name().clone()).or_default() += 1;
        }
    }
    Ok(answered)
}

/// When members leave the group, seen by a process of the client.
async fn watch(runtime: &Runtime, group: Group) -> Result<mpsc::Receiver<Instant>, Unexpected> {
    let (tell, left) = mpsc::channel(64);
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let started = runtime.spawn(async move |mut context: Context<()>| {
        drop(ready.send(context.watch_group(&group, true).await));
        loop {
            if let Received::Event(Event::Group(change)) = context.receive().await
                && !change.left.is_empty()
                && tell.send(Instant::now()).await.is_err()
            {
                return;
            }
        }
    });
    started.map_err(|error| Unexpected::new(error.to_string()))?;
    match is_ready.await {
        Ok(Ok(())) => Ok(left),
        Ok(Err(error)) => Err(Unexpected::new(format!("the group cannot be watched: {error}"))),
        Err(_) => Err(Unexpected::new("the watching process has ended")),
    }
}

async fn next_leave(left: &mut mpsc::Receiver<Instant>) -> Result<Instant, Unexpected> {
    let told: Result<Option<Instant>, _> = tokio::time::timeout(DEADLINE, left.recv()).await;
    told.ok().flatten().ok_or_else(|| Unexpected::new(format!("nobody left the group within {DEADLINE:?}")))
}

const _: () =
    assert!(DEADLINE.as_millis() > Duration::from_secs(10).as_millis(), "a lost node takes seconds to be noticed");
