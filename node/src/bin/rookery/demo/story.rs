//! The story itself, step by step. Each step waits for what it names, with a deadline, and measures it.

use std::time::{Duration, Instant};

use rookery_client::{Client, ClientConfig, ExitReason, NodeId, Pid, Runtime, Server, Start};
use rookery_node::{
    ask::Ask,
    json::Json,
    stock::{Counter, Echo, Via},
    system::{NodeInfo, SYSTEM_NAME, System},
};
use rookery_runtime::Destination;

use super::{
    DemoArgs, Unexpected,
    cluster::{Cluster, SERVICE},
    narrator::Narrator,
    observer::{Seen, observe},
    tree,
};

/// How long any one thing may take that is expected to happen.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is looked at while it is waited for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The name that the supervised counter has on whatever node it lives.
const CHILD: &str = "orders";

/// Calls that are measured; the median is told.
const CALLS: usize = 200;

/// Tells it all.
pub(super) async fn tell(
    args: &DemoArgs,
    narrator: &mut Narrator,
    kept: &mut Option<Cluster>,
) -> Result<(), Unexpected> {
    let count = usize::from(args.nodes);
    narrator.chapter(&format!("A mesh of {count} nodes, each a process of its own"))?;
    let cluster = kept.insert(Cluster::prepare(args.nodes).await?);
    narrator.says("a CA was made, an identity for each node, and one for a client")?;
    narrator.says(&format!("a DNS server answers for {SERVICE} at {}", cluster.dns_address()))?;
    let started = Instant::now();
    for index in 0..count {
        cluster.start(index)?;
    }
    let pids: Vec<String> = cluster.nodes.iter().filter_map(|node| node.os_pid()).map(|pid| pid.to_string()).collect();
    narrator.says(&format!("{count} nodes start (processes {}); all they know is that name", pids.join(", ")))?;
    let client = connect(cluster, 0, started).await?;
    let nodes = meshed(cluster, &client.runtime(), count, None).await?;
    let links = count * (count - 1) / 2;
    narrator.measured(
        "mesh formed",
        started.elapsed(),
        &format!("mesh formed: {count} nodes, {links} connections, mutual TLS 1.3, from process start:"),
    )?;

    narrator.chapter("Processes on different nodes talk, and a client takes part")?;
    talk(narrator, &client.runtime(), &nodes).await?;
    let supervised = supervise(narrator, &client.runtime(), &nodes).await?;

    narrator.chapter("A node is killed")?;
    let healed = lose_node(narrator, cluster, &client, &supervised).await?;

    narrator.chapter("The node comes back")?;
    come_back(narrator, cluster, &client, &supervised, &healed).await?;
    client.close().await;

    tree::tell(narrator, cluster).await
}

/// Connects the client to the node with this index, as soon as it is there.
pub(super) async fn connect(cluster: &mut Cluster, index: usize, started: Instant) -> Result<Client, Unexpected> {
    let server = cluster.nodes.get(index).map(|node| Server::from(node.address));
    let mut config = ClientConfig::new(cluster.client_identity()?, server);
    config.connect_timeout = DEADLINE;
    while !cluster.says_started(index) {
        cluster.check_alive(None)?;
        if started.elapsed() > DEADLINE {
            return Err(Unexpected::new(format!("node-{} has not started within {DEADLINE:?}", index + 1)));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let client = Client::connect(config).await;
    client.map_err(|error| Unexpected::new(format!("after {:?}: {error}", started.elapsed())))
}

/// Waits until every node is connected with every other, `except` apart.
pub(super) async fn meshed(
    cluster: &mut Cluster,
    runtime: &Runtime,
    count: usize,
    except: Option<usize>,
) -> Result<Vec<NodeId>, Unexpected> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        cluster.check_alive(except)?;
        let nodes = runtime.nodes();
        let mut whole = nodes.len() == count;
        for node in &nodes {
            whole = whole && info(runtime, node).await.is_some_and(|info| info.peers.len() == count - 1);
        }
        if whole {
            return Ok(nodes);
        }
        if Instant::now() > deadline {
            let seen = nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Unexpected::new(format!("no mesh of {count} within {DEADLINE:?}; up are {seen}")));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn info(runtime: &Runtime, node: &NodeId) -> Option<NodeInfo> {
    let system = runtime.address::<System>(named(node, SYSTEM_NAME).ok()?);
    system.call_within(Duration::from_secs(2), System::Info).await.ok()
}

fn named(node: &NodeId, name: &str) -> Result<Destination, Unexpected> {
    let name = name.parse().map_err(|error| Unexpected::new(format!("{error}")))?;
    Ok(Destination::name(node.clone(), name))
}

fn node<'a>(nodes: &'a [NodeId], name: &str) -> Result<&'a NodeId, Unexpected> {
    let found = nodes.iter().find(|node| node.name().as_str() == name);
    found.ok_or_else(|| Unexpected::new(format!("{name} is not up")))
}

/// A call to the node that is connected to, and one that goes on to another node and back from there.
async fn talk(narrator: &mut Narrator, runtime: &Runtime, nodes: &[NodeId]) -> Result<(), Unexpected> {
    let (first, second) = (node(nodes, "node-1")?, node(nodes, "node-2")?);
    let near = runtime.address::<Echo>(named(first, "echo")?);
    let far = runtime.whereis_on(second, &"echo".parse().map_err(|error| Unexpected::new(format!("{error}")))?).await;
    let far = far.ok().flatten().ok_or_else(|| Unexpected::new("node-2 has no process `echo`"))?;
    let mut direct = Vec::new();
    let mut handed_on = Vec::new();
    for number in 0..CALLS {
        let begin = Instant::now();
        let asked = Json::from(number);
        let answer = near.call(|reply| Echo::Echo(Ask::new(asked.clone(), reply))).await;
        direct.push(begin.elapsed());
        expect(answer, &asked, "echo on node-1")?;
        let begin = Instant::now();
        let via = Via { echo: far.clone(), value: asked.clone() };
        let answer = near.call(|reply| Echo::Via(Ask::new(via, reply))).await;
        handed_on.push(begin.elapsed());
        expect(answer, &asked, "echo on node-1, which asks node-2")?;
    }
    narrator.measured(
        "client's call to its node",
        median(&mut direct),
        &format!("a client connects, and calls a process on node-1; median of {CALLS}:"),
    )?;
    narrator.measured(
        "call that crosses two nodes",
        median(&mut handed_on),
        "that process asks one on node-2, whose answer goes straight to the client:",
    )?;
    Ok(())
}

fn expect(answer: Result<Json, rookery_client::CallError>, asked: &Json, whom: &str) -> Result<(), Unexpected> {
    match answer {
        Ok(answer) if answer == *asked => Ok(()),
        Ok(answer) => Err(Unexpected::new(format!("{whom} answered {answer} instead of {asked}"))),
        Err(error) => Err(Unexpected::new(format!("{whom}: {error}"))),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The supervised process, and where it lives.
struct Supervised {
    pid: Pid,
    home: String,
}

/// Starts a supervisor on node-1 whose child lives on another node.
async fn supervise(narrator: &mut Narrator, runtime: &Runtime, nodes: &[NodeId]) -> Result<Supervised, Unexpected> {
    let first = node(nodes, "node-1")?;
    let others: Vec<&str> = nodes.iter().filter(|node| *node != first).map(|node| node.name().as_str()).collect();
    let children = serde_json::json!([
        { "id": CHILD, "behaviour": "counter", "name": CHILD, "placement": { "any_of": others } }
    ]);
    let arguments = serde_json::json!({ "children": children }).to_string();
    let behaviour = "supervisor".parse().map_err(|error| Unexpected::new(format!("{error}")))?;
    let begin = Instant::now();
    let supervisor = runtime.start_on(first, Start::json(behaviour, arguments)).await;
    let supervisor = supervisor.map_err(|error| Unexpected::new(format!("the supervisor was not started: {error}")))?;
    let took = begin.elapsed();
    let pid = find_child(runtime, nodes, None).await?;
    let home = pid.node().name().to_string();
    narrator.measured(
        "remote spawn under a supervisor",
        took,
        &format!("a supervisor on node-1, {}, starts its child `{CHILD}` on {home}, {pid}:", supervisor.pid),
    )?;
    let child = runtime.address::<Counter>(&pid);
    for amount in [2, 3] {
        let sent = child.send(Counter::Add(amount)).await;
        sent.map_err(|error| Unexpected::new(error.to_string()))?;
    }
    let value = child.call(Counter::Get).await;
    match value {
        Ok(5) => narrator.done(&format!("the client adds 2 and 3 to `{CHILD}`, and reads 5"))?,
        other => return Err(Unexpected::new(format!("`{CHILD}` answered {other:?} instead of 5"))),
    }
    Ok(Supervised { pid, home })
}

/// The pid of the supervised process, by its name on whatever node; another one than `former`.
async fn find_child(runtime: &Runtime, nodes: &[NodeId], former: Option<&Pid>) -> Result<Pid, Unexpected> {
    let name = CHILD.parse().map_err(|error| Unexpected::new(format!("{error}")))?;
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        for node in nodes {
            if let Ok(Some(pid)) = runtime.whereis_on(node, &name).await
                && Some(&pid) != former
            {
                return Ok(pid);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Unexpected::new(format!("no node has a process `{CHILD}` after {DEADLINE:?}")))
}

/// Kills the child's node, and watches what the others make of it.
async fn lose_node(
    narrator: &mut Narrator,
    cluster: &mut Cluster,
    client: &Client,
    supervised: &Supervised,
) -> Result<Pid, Unexpected> {
    let runtime = client.runtime();
    let mut seen = observe(&runtime, &supervised.pid)?;
    let victim = index_of(cluster, &supervised.home)?;
    // The link and the monitor stand once a call that was sent after them is answered.
    let child = runtime.address::<Counter>(&supervised.pid);
    drop(child.call(Counter::Get).await);
    narrator.says(&format!(
        "a process of the client links to {} and monitors it; then {} gets SIGKILL",
        supervised.pid, supervised.home
    ))?;
    let killed = Instant::now();
    cluster.kill(victim).await?;
    narrator.says("a killed process says no goodbye; the others miss it, find its port closed, and ask each other")?;
    let (mut linked, mut monitored) = (None, None);
    while linked.is_none() || monitored.is_none() {
        match tokio::time::timeout(DEADLINE, seen.recv()).await {
            Ok(Some(Seen::Exit(ExitReason::NoConnection, at))) => linked = Some(at),
            Ok(Some(Seen::Down(ExitReason::NoConnection, at))) => monitored = Some(at),
            other => return Err(Unexpected::new(format!("the link and the monitor should fire, but: {other:?}"))),
        }
    }
    let fired = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(killed)).unwrap_or_default();
    narrator.measured("SIGKILL to link fired", fired(linked), "the link fires: exit signal `no connection`, after")?;
    narrator.measured(
        "SIGKILL to monitor fired",
        fired(monitored),
        "the monitor fires: down, `no connection`, after",
    )?;
    let up: Vec<NodeId> = runtime.nodes().into_iter().filter(|node| node.name().as_str() != supervised.home).collect();
    let again = find_child(&runtime, &up, Some(&supervised.pid)).await?;
    narrator.measured(
        "SIGKILL to child running again",
        killed.elapsed(),
        &format!("the supervisor has started `{CHILD}` on {}, {again}, after", again.node().name()),
    )?;
    let child = runtime.address::<Counter>(&again);
    match child.call(Counter::Get).await {
        Ok(0) => narrator.done("the client's next call works; the counter begins at 0, as after any restart")?,
        other => return Err(Unexpected::new(format!("the restarted `{CHILD}` answered {other:?} instead of 0"))),
    }
    cluster.check_alive(Some(victim))?;
    Ok(again)
}

/// Starts the killed node again: same name, new incarnation, and the old pids stay dead.
async fn come_back(
    narrator: &mut Narrator,
    cluster: &mut Cluster,
    client: &Client,
    supervised: &Supervised,
    healed: &Pid,
) -> Result<(), Unexpected> {
    let index = index_of(cluster, &supervised.home)?;
    let begin = Instant::now();
    cluster.start(index)?;
    let runtime = client.runtime();
    let count = cluster.nodes.len();
    let nodes = meshed(cluster, &runtime, count, None).await?;
    let took = begin.elapsed();
    let now = node(&nodes, &supervised.home)?;
    let before = supervised.pid.node();
    if now.incarnation() <= before.incarnation() {
        return Err(Unexpected::new(format!("{now} came back without a newer incarnation than {before}")));
    }
    narrator.measured(
        "node back in the mesh",
        took,
        &format!(
            "{} is back as incarnation {} (it was {}), from process start:",
            now.name(),
            now.incarnation(),
            before.incarnation()
        ),
    )?;
    match runtime.address::<Counter>(&supervised.pid).call(Counter::Get).await {
        Err(error @ (rookery_client::CallError::NoConnection | rookery_client::CallError::NoProc)) => {
            narrator.done(&format!("the old pid {} is dead for ever: {error}", supervised.pid))?;
        }
        other => return Err(Unexpected::new(format!("the dead {} answered {other:?}", supervised.pid))),
    }
    match runtime.address::<Counter>(healed).call(Counter::Get).await {
        Ok(0) => narrator.done(&format!("`{CHILD}` stays where it is, on {}", healed.node().name()))?,
        other => return Err(Unexpected::new(format!("{healed} answered {other:?} instead of 0"))),
    }
    Ok(())
}

pub(super) fn index_of(cluster: &Cluster, name: &str) -> Result<usize, Unexpected> {
    let found = cluster.nodes.iter().position(|node| node.name == name);
    found.ok_or_else(|| Unexpected::new(format!("there is no node {name}")))
}
