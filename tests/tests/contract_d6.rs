//! Row D6 of the contract: a node that is draining takes no new processes, hands over what can be handed over, and leaves;
//! nothing that was acknowledged is lost. See also `rolling.rs`, and `node/runtime/src/handover` and
//! `node/src/supervise/evacuation.rs` for what decides.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rookery_node::{
    Node, NodeConfig,
    ask::Ask,
    json::Json,
    stock::{self, Counter, Entry, Kv},
    supervise::{ChildId, ClusterSupervisor, Placement, Supervisor, SupervisorData, SupervisorMessage, SupervisorSpec},
};
use rookery_runtime::{
    Address, CallError, Context, ExitReason, Group, Handover, Pid, ProcessName, ReplyTo, RequestError, Runtime, Server,
    Start,
};
use rookery_tests::{
    cluster::{client, client_identity, impatient, mesh, meshed},
    eventually, placement,
    program::{Certificates, node as program},
    watch, within,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

fn stocked(config: &mut NodeConfig) {
    config.behaviours = stock::behaviours();
    impatient(&mut config.connections);
}

fn name(text: &str) -> ProcessName {
    text.parse().unwrap()
}

/// A tree of a store, `prices` in the cluster, and of counters that are spread, all in group `tills`.
fn tree(counters: usize) -> SupervisorData {
    let mut children = vec![json!({
        "id": "store", "behaviour": "kv", "cluster_name": "prices", "groups": ["tills"], "placement": "spread",
    })];
    children.extend((0..counters).map(|number| {
        json!({ "id": format!("c{number}"), "behaviour": "counter", "cluster_name": format!("c{number}"),
            "groups": ["tills"], "placement": "spread" })
    }));
    serde_json::from_value(json!({ "children": children })).unwrap()
}

/// Runs the tree `shop`, and waits until all of it is known on all nodes.
async fn run_tree(nodes: &[Node], counters: usize) {
    ClusterSupervisor::start(nodes[0].runtime(), name("shop"), tree(counters)).await.unwrap();
    let group: Group = "tills".parse().unwrap();
    // A child joins its groups before it has its name.
    let names: Vec<String> = ["shop", "prices"]
        .map(String::from)
        .into_iter()
        .chain((0..counters).map(|number| format!("c{number}")))
        .collect();
    let there = |node: &Node| {
        names.iter().all(|name| holder(node, name).is_some())
            && node.groups().iter().any(|(known, members)| *known == group && members.len() == counters + 1)
    };
    eventually("the tree runs", || nodes.iter().all(there)).await;
}

fn holder(node: &Node, text: &str) -> Option<Pid> {
    node.holder_of_cluster_name(&name(text))
}

async fn put(runtime: &Runtime, key: String, value: u64) -> Result<(), CallError> {
    let entry = Entry { key, value: Json::from(value) };
    let store = runtime.cluster_named::<Kv>(name("prices"));
    store.call(|reply| Kv::Put(Ask::new(entry, reply))).await
}

async fn get(runtime: &Runtime, key: &str) -> Result<Option<Json>, CallError> {
    let store = runtime.cluster_named::<Kv>(name("prices"));
    store.call(|reply| Kv::Get(Ask::new(key.to_owned(), reply))).await
}

/// Writes, and reads back, one key after the other until it is told to stop. Gives what was acknowledged.
fn writer(runtime: Runtime, own: &'static str, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<(u64, Duration)> {
    tokio::spawn(async move {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let key = format!("{own}-{}", count % 100);
            let begin = Instant::now();
            put(&runtime, key.clone(), count).await.unwrap_or_else(|error| panic!("put {key}: {error}"));
            longest = longest.max(begin.elapsed());
            let read = get(&runtime, &key).await.unwrap_or_else(|error| panic!("get {key}: {error}"));
            assert_eq!(read, Some(Json::from(count)), "{own}: what was acknowledged is read");
            count += 1;
        }
        (count, longest)
    })
}

#[test]
fn d6_nothing_that_was_acknowledged_is_lost_when_nodes_leave_one_after_the_other() {
    placement::run(async {
        let mut nodes = mesh(3, stocked).await;
        run_tree(&nodes, 5).await;
        for number in 0..5 {
            let counter = nodes[0].cluster_named::<Counter>(name(&format!("c{number}")));
            counter.send(Counter::Add(100 + number)).await.unwrap();
        }
        // First the node of the supervisor, then that of the store.
        for leaves in ["shop", "prices"] {
            let at = holder(&nodes[0], leaves).unwrap();
            let leaving = nodes.remove(nodes.iter().position(|node| node.runtime().node() == at.node()).unwrap());
            let stop = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = nodes
                .iter()
                .zip(["a", "b"])
                .map(|(node, own)| writer(node.runtime().clone(), own, stop.clone()))
                .collect();
            within("the node leaves", leaving.shut_down("enough")).await;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                let (count, longest) = writer.await.unwrap();
                assert!(count > 0 && longest < Duration::from_secs(5), "{count} writes, the longest took {longest:?}");
            }
            for number in 0..5 {
                let counter = nodes[0].cluster_named::<Counter>(name(&format!("c{number}")));
                assert_eq!(within("the count", counter.call(Counter::Get)).await, Ok(100 + number), "c{number}");
            }
            let shop = nodes[0].cluster_named::<SupervisorMessage>(name("shop"));
            let children = shop.call(SupervisorMessage::Children).await.unwrap();
            assert!(children.iter().all(|child| child.restarts == 0), "{children:?}");
            let lives = |pid: &Pid| nodes.iter().any(|node| node.runtime().node() == pid.node());
            assert!(children.iter().all(|child| child.pid.as_ref().is_some_and(lives)), "{children:?}");
            let group: Group = "tills".parse().unwrap();
            eventually("the group is whole", || {
                let of = |node: &Node| node.groups().into_iter().find(|(known, _)| *known == group);
                nodes
                    .iter()
                    .all(|node| of(node).is_some_and(|(_, members)| members.len() == 6 && members.iter().all(lives)))
            })
            .await;
        }
    });
}

/// A tree of the cluster goes to another node; its children there do not notice.
#[test]
fn d6_a_supervisor_hands_over_its_children_and_these_run_on() {
    placement::run(async {
        let mut nodes = mesh(3, stocked).await;
        run_tree(&nodes, 5).await;
        let at = holder(&nodes[0], "shop").unwrap();
        let elsewhere: Vec<Pid> = (0..5)
            .filter_map(|number| holder(&nodes[0], &format!("c{number}")))
            .filter(|pid| pid.node() != at.node())
            .collect();
        assert!(!elsewhere.is_empty());
        let leaving = nodes.remove(nodes.iter().position(|node| node.runtime().node() == at.node()).unwrap());
        within("the node leaves", leaving.shut_down("enough")).await;
        let now: Vec<Pid> = (0..5).filter_map(|number| holder(&nodes[0], &format!("c{number}"))).collect();
        assert!(elsewhere.iter().all(|pid| now.contains(pid)), "{elsewhere:?} {now:?}");
        // They obey their new supervisor, and nobody else.
        let shop = holder(&nodes[0], "shop").unwrap();
        let gone = watch(&nodes[0], &elsewhere[0]).await;
        ClusterSupervisor::stop(nodes[0].runtime(), name("shop")).await.unwrap();
        assert_eq!(within("the child ends", gone.reason()).await, ExitReason::Shutdown);
        assert_ne!(shop, at);
    });
}

#[test]
fn d6_a_draining_node_takes_no_processes_and_no_clients() {
    placement::run(async {
        let nodes = mesh(2, stocked).await;
        nodes[1].runtime().drain();
        let start = Start::json("counter".parse().unwrap(), "null");
        let refused = nodes[0].start_on(nodes[1].runtime().node(), start.clone()).await;
        assert_eq!(refused, Err(RequestError::Draining));
        // A supervisor's child goes elsewhere, whether its node has told of the drain or not.
        let child = serde_json::from_value(json!({
            "id": "c", "behaviour": "counter", "placement": { "any_of": ["node-0", "node-1"] },
        }));
        let child: rookery_node::supervise::ChildSpecData = child.unwrap();
        let mut spec = SupervisorSpec::new(rookery_node::supervise::Strategy::OneForOne);
        spec.children = (0..4)
            .map(|number| {
                let mut child = child.clone();
                child.id = ChildId::new(format!("c{number}")).unwrap();
                child.into()
            })
            .collect();
        let supervisor = Supervisor::start(nodes[0].runtime(), spec).await.unwrap();
        eventually_on(&nodes[0], &supervisor).await;
        let mut config = rookery_client::ClientConfig::new(
            client_identity("eve"),
            [nodes[1].listen_address().to_string().parse().unwrap()],
        );
        config.connect_timeout = Duration::from_millis(500);
        let refused = rookery_client::Client::connect(config).await.unwrap_err().to_string();
        assert!(refused.contains("draining"), "{refused}");
    });
}

/// Waits until all children of `supervisor` live on `node`.
async fn eventually_on(node: &Node, supervisor: &Address<SupervisorMessage>) {
    let here = async {
        loop {
            let children = supervisor.call(SupervisorMessage::Children).await.unwrap();
            if children.iter().all(|child| child.pid.as_ref().is_some_and(|pid| pid.node() == node.runtime().node())) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("all children live there", here).await;
}

/// How the successor of a [`Ledger`] fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    Works,
    Refuses,
    Panics,
    Hangs,
}

/// Keeps numbers, and hands them over.
struct Ledger(Vec<u64>);

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Add(u64, ReplyTo<()>),
    All(ReplyTo<Vec<u64>>),
    Sleep(u64),
    /// So many milliseconds later, this number.
    Later(u64, u64),
    Due(u64),
}

impl Server for Ledger {
    type Message = Line;
    type Arguments = Fate;

    async fn init(_: Fate, _: &mut Context<Line>) -> Result<Self, ExitReason> {
        Ok(Self(Vec::new()))
    }

    async fn handle(&mut self, line: Line, context: &mut Context<Line>) -> Result<(), ExitReason> {
        match line {
            Line::Later(ms, number) => drop(context.send_after(Duration::from_millis(ms), Line::Due(number))),
            Line::Due(number) => self.0.push(number),
            Line::Add(number, reply) => {
                self.0.push(number);
                reply.answer(());
            }
            Line::All(reply) => reply.answer(self.0.clone()),
            Line::Sleep(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
        Ok(())
    }

    async fn hand_over(&mut self, _: &mut Context<Line>) -> Option<Handover> {
        Handover::new(1, &self.0).ok()
    }

    async fn take_over(state: Handover, fate: Fate, _: &mut Context<Line>) -> Result<Self, ExitReason> {
        match fate {
            Fate::Works => state.read().map(Self).map_err(ExitReason::Error),
            Fate::Refuses => Err(ExitReason::Error("not of this version".to_owned())),
            Fate::Panics => panic!("while it takes over"),
            Fate::Hangs => pending().await,
        }
    }
}

fn with_ledger(config: &mut NodeConfig) {
    config.behaviours = stock::behaviours().server::<Ledger>("ledger").unwrap();
    impatient(&mut config.connections);
}

/// The start of a ledger that has the name `ledger`.
fn ledger(fate: Fate) -> Start {
    Start::new("ledger".parse().unwrap(), &fate).unwrap().cluster_name(name("ledger")).join("books".parse().unwrap())
}

async fn add(to: &Address<Line>, number: u64) -> Result<(), CallError> {
    to.call(|reply| Line::Add(number, reply)).await
}

#[test]
fn d6_a_process_that_is_called_while_it_moves_answers_from_its_new_place() {
    placement::run(async {
        let nodes = mesh(3, with_ledger).await;
        let client = client("eve", &[&nodes[2]]).await;
        let old = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        let by_pid = nodes[2].address::<Line>(&old);
        let by_name = nodes[2].cluster_named::<Line>(name("ledger"));
        eventually("all know it", || nodes.iter().all(|node| holder(node, "ledger").is_some())).await;
        add(&by_pid, 1).await.unwrap();
        // What waits in its mailbox, and what comes while it moves, by pid, by name, of a client.
        by_pid.send(Line::Sleep(200)).await.unwrap();
        let callers: Vec<_> = (0..50)
            .map(|number| {
                let to = match number % 3 {
                    0 => by_pid.clone(),
                    1 => by_name.clone(),
                    _ => client.runtime().cluster_named::<Line>(name("ledger")),
                };
                tokio::spawn(async move { add(&to, 100 + number).await })
            })
            .collect();
        let new = within(
            "the successor",
            nodes[0].start_on(nodes[1].runtime().node(), ledger(Fate::Works).succeed(old.clone())),
        );
        let new = new.await.unwrap().pid;
        assert_eq!(new.node(), nodes[1].runtime().node());
        for caller in callers {
            assert_eq!(within("an answer", caller).await.unwrap(), Ok(()));
        }
        // The old pid leads there for a while.
        add(&by_pid, 2).await.unwrap();
        let mut all = by_name.call(Line::All).await.unwrap();
        assert_eq!((all[0], all.len()), (1, 52));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 52, "none twice");
        let group: Group = "books".parse().unwrap();
        eventually("name and group have moved on all nodes", || {
            let moved = |node: &Node| {
                let members = node.groups().into_iter().find(|(known, _)| *known == group).map(|(_, members)| members);
                holder(node, "ledger").as_ref() == Some(&new) && members == Some(vec![new.clone()])
            };
            nodes.iter().all(moved)
        })
        .await;
        client.close().await;
    });
}

#[test]
fn d6_a_name_that_moves_has_one_holder_at_each_moment_on_each_node() {
    placement::run(async {
        let nodes = mesh(3, with_ledger).await;
        let mut pid = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        eventually("all know it", || nodes.iter().all(|node| holder(node, "ledger").is_some())).await;
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let watching: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (runtime, stop, seen) = (node.runtime().clone(), stop.clone(), seen.clone());
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(runtime.holder_of_cluster_name(&name("ledger")).is_some(), "nobody has it");
                        seen.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for round in 0..10 {
            let to = nodes[(round + 1) % 3].runtime().node().clone();
            let next = within("a successor", nodes[0].start_on(&to, ledger(Fate::Works).succeed(pid.clone()))).await;
            pid = next.unwrap().pid;
            let name = nodes[2].cluster_named::<Line>(name("ledger"));
            add(&name, round as u64).await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watching.into_iter().for_each(|watching| watching.join().unwrap());
        assert!(seen.load(Ordering::Relaxed) > 0);
        let all = nodes[0].cluster_named::<Line>(name("ledger")).call(Line::All).await.unwrap();
        assert_eq!(all, (0..10).collect::<Vec<u64>>());
    });
}

#[test]
fn d6_when_the_successor_does_not_come_to_life_the_old_one_goes_on_with_all_that_came() {
    placement::run(async {
        let mut nodes = mesh(2, with_ledger).await;
        let old = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        let here = nodes[0].address::<Line>(&old);
        add(&here, 1).await.unwrap();
        let mut kept = vec![1];
        for fate in [Fate::Refuses, Fate::Panics] {
            let failed = nodes[0].start_on(nodes[1].runtime().node(), ledger(fate).succeed(old.clone())).await;
            assert!(matches!(failed, Err(RequestError::InitFailed(_))), "{failed:?}");
            let number = 10 + kept.len() as u64;
            within("it goes on", add(&here, number)).await.unwrap();
            kept.push(number);
        }
        // Its node dies halfway.
        let (runtime, there) = (nodes[0].runtime().clone(), nodes[1].runtime().node().clone());
        let moving = tokio::spawn(async move { runtime.start_on(&there, ledger(Fate::Hangs).succeed(old)).await });
        let hangs = |node: &Node| node.processes().iter().any(|info| info.behaviour.contains("Ledger"));
        eventually("it takes over", || hangs(&nodes[1])).await;
        let call = tokio::spawn({
            let here = here.clone();
            async move { add(&here, 99).await }
        });
        drop(nodes.pop());
        assert_eq!(within("the call is answered", call).await.unwrap(), Ok(()));
        kept.push(99);
        assert!(within("the start", moving).await.unwrap().is_err());
        assert_eq!(here.call(Line::All).await.unwrap(), kept);
        assert_eq!(holder(&nodes[0], "ledger"), here.pid());
    });
}

/// It has the time at the second try.
#[test]
fn d6_a_child_that_is_busy_when_its_node_leaves_keeps_its_state() {
    placement::run(async {
        let mut nodes = mesh(2, with_ledger).await;
        let spec: SupervisorData = serde_json::from_value(json!({ "children": [
            { "id": "ledger", "behaviour": "ledger", "arguments": "Works", "cluster_name": "ledger", "placement": "spread" },
        ] }))
        .unwrap();
        ClusterSupervisor::start(nodes[0].runtime(), name("books"), spec).await.unwrap();
        eventually("it runs", || nodes.iter().all(|node| holder(node, "ledger").is_some())).await;
        let at = holder(&nodes[0], "ledger").unwrap();
        let leaving = nodes.remove(nodes.iter().position(|node| node.runtime().node() == at.node()).unwrap());
        let ledger = nodes[0].cluster_named::<Line>(name("ledger"));
        add(&ledger, 1).await.unwrap();
        ledger.send(Line::Sleep(3_000)).await.unwrap();
        within("the node leaves", leaving.shut_down("enough")).await;
        assert_eq!(within("an answer", ledger.call(Line::All)).await, Ok(vec![1]));
        assert_ne!(holder(&nodes[0], "ledger"), Some(at));
    });
}

#[test]
fn d6_timers_of_one_that_has_handed_over_do_not_reach_its_successor() {
    placement::run(async {
        let nodes = mesh(2, with_ledger).await;
        let old = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        let here = nodes[0].address::<Line>(&old);
        here.send(Line::Later(700, 1)).await.unwrap();
        let set = Instant::now();
        let new = nodes[0].start_on(nodes[1].runtime().node(), ledger(Fate::Works).succeed(old)).await.unwrap().pid;
        let new = nodes[0].address::<Line>(&new);
        // Due when the other one would have been, and has had the time to come.
        let left = Duration::from_millis(1_000).saturating_sub(set.elapsed()).as_millis();
        new.send(Line::Later(u64::try_from(left).unwrap(), 2)).await.unwrap();
        let told = async {
            loop {
                let all = new.call(Line::All).await.unwrap();
                if all.contains(&2) {
                    return all;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert_eq!(within("the successor's own timer", told).await, [2]);
    });
}

#[test]
fn d6_one_that_cannot_hand_over_in_time_is_not_waited_for() {
    placement::run(async {
        let nodes = mesh(2, with_ledger).await;
        let old = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        let here = nodes[0].address::<Line>(&old);
        here.send(Line::Sleep(5_000)).await.unwrap();
        let begin = Instant::now();
        let failed = nodes[0].start_on(nodes[1].runtime().node(), ledger(Fate::Works).succeed(old.clone())).await;
        assert!(matches!(&failed, Err(RequestError::Timeout)), "{failed:?}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        // The question is still in its mailbox: it goes on all the same.
        assert_eq!(within("it goes on", add(&here, 1)).await, Ok(()));
        assert_eq!(holder(&nodes[0], "ledger"), Some(old));
    });
}

#[test]
fn d6_clients_let_nobody_take_a_place() {
    placement::run(async {
        let nodes = mesh(2, with_ledger).await;
        let old = nodes[0].start(ledger(Fate::Works)).await.unwrap().pid;
        let client = client("eve", &[&nodes[0]]).await;
        let refused = client.runtime().start_on(nodes[1].runtime().node(), ledger(Fate::Works).succeed(old)).await;
        assert!(matches!(&refused, Err(RequestError::Refused(why)) if why.contains("client")), "{refused:?}");
        client.close().await;
    });
}

/// A supervisor elsewhere; its child on the node that leaves hands nothing over, or is in the middle of something.
#[test]
fn d6_a_child_without_state_or_without_time_is_started_elsewhere() {
    placement::run(async {
        let mut nodes = mesh(3, with_ledger).await;
        let mut spec = SupervisorSpec::new(rookery_node::supervise::Strategy::OneForOne);
        let on_both = Placement::AnyOf(vec!["node-1".parse().unwrap(), "node-2".parse().unwrap()]);
        for (id, start) in [("plain", Start::json("supervisor".parse().unwrap(), "{}")), ("busy", ledger(Fate::Works))]
        {
            let start = rookery_node::supervise::ChildStart::placed(start, on_both.clone());
            spec = spec.child(rookery_node::supervise::ChildSpec::new(ChildId::new(id).unwrap(), start));
        }
        let supervisor = Supervisor::start(nodes[0].runtime(), spec).await.unwrap();
        let places = async || -> BTreeMap<String, Pid> {
            let children = supervisor.call(SupervisorMessage::Children).await.unwrap();
            children.into_iter().filter_map(|child| Some((child.id.to_string(), child.pid?))).collect()
        };
        let before = places().await;
        let busy = nodes[0].address::<Line>(&before["busy"]);
        busy.send(Line::Sleep(60_000)).await.unwrap();
        let leaves = before["busy"].node().clone();
        let leaving = nodes.remove(nodes.iter().position(|node| *node.runtime().node() == leaves).unwrap());
        within("the node leaves in time", leaving.shut_down("enough")).await;
        let moved = async {
            loop {
                let now = places().await;
                if now.len() == 2 && now.values().all(|pid| *pid.node() != leaves) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("both live elsewhere", moved).await;
        let ledger = nodes[0].cluster_named::<Line>(name("ledger"));
        let works = async {
            while add(&ledger, 1).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within("the new one works", works).await;
    });
}

/// The program, told to stop by the operating system: in good order, and at once when it is told again.
#[test]
fn d6_sigterm_drains_and_a_second_one_ends_at_once() {
    placement::run(async {
        let certificates = Certificates::new("drain");
        let (first, address) = program(&certificates, "n-0", &["--drain-timeout-ms", "60s"]).await;
        let more = ["--drain-timeout-ms", "60s", "--peers", &address];
        let (mut second, _) = program(&certificates, "n-1", &more).await;
        eventually("they are connected", || second.log().contains("node up")).await;
        // A process that does not end by itself: its node waits for it.
        let held = rookery_tests::program::Cli {
            connect: address.clone(),
            identity: certificates.client("ops").display().to_string(),
        };
        drop(held.ok(&["call", "counter@n-1", r#"{"Add":5}"#]));
        second.signal("TERM");
        eventually("it drains", || second.log().contains("node leaves")).await;
        second.signal("TERM");
        eventually("it has ended", || second.ended().is_some()).await;
        assert!(first.terminate().await.success());
    });
}

#[test]
fn d6_meshed_nodes_without_trees_leave_at_once() {
    placement::run(async {
        let mut nodes = mesh(2, stocked).await;
        let leaving = nodes.pop().unwrap();
        let begin = Instant::now();
        within("it leaves", leaving.shut_down("enough")).await;
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        meshed(&[&nodes[0]]).await;
    });
}
