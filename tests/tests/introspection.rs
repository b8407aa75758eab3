//! What is told of processes and nodes to who asks: from the same node, another one, a client. What is told is true of the
//! moment, and telling it holds up nobody.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_node::{
    ask::Ask,
    system::{NameQuery, NodeInfo, ProcessDetails, ProcessList, ProcessQuery, SYSTEM_NAME, SortBy, System},
};
use rookery_runtime::{
    CallError, Context, Destination, ExitReason, Group, MAX_TIES_TOLD, Pid, ProcessName, ProcessState, Received,
    Runtime, SpawnOptions, Start,
};
use rookery_tests::{
    DEADLINE, Note, Puppet, eventually, fence,
    placement::{lone_runtime, run},
    within,
};

/// A test of who asks, `a`, about a process on a node, `b`.
macro_rules! asked_from_everywhere {
    ($($name:ident),* $(,)?) => {
        $(rookery_tests::contract!(@in $name
            same_node SameNode,
            two_nodes TwoNodes,
            client_to_its_node ClientToItsNode,
            client_to_other_node ClientToOtherNode
        );)*
    };
}

asked_from_everywhere! {
    a_process_is_told_of_with_its_ties,
    whom_a_process_waits_for_is_told_while_it_waits,
    running_and_stopping_are_told_apart,
    parents_are_told,
    what_lives_elsewhere_is_refused_with_where,
    a_node_tells_of_its_load,
    names_and_groups_are_told_with_who_has_them,
}

rookery_tests::contract! {
    everywhere { whoever_lives_with_a_process_can_look_at_it }
}

fn system(asker: &Runtime, of: &Runtime) -> rookery_runtime::Address<System> {
    asker.address(Destination::name(of.node().clone(), ProcessName::new(SYSTEM_NAME).unwrap()))
}

async fn inspect(asker: &Runtime, of: &Runtime, pid: &Pid) -> Result<Option<ProcessDetails>, CallError> {
    system(asker, of).call_within(DEADLINE, |reply| System::Inspect(Ask::new(pid.clone(), reply))).await
}

async fn details(asker: &Runtime, of: &Runtime, pid: &Pid) -> ProcessDetails {
    inspect(asker, of, pid).await.unwrap().unwrap()
}

/// Asks until the answer is the one that is waited for.
async fn details_when(
    what: &str,
    asker: &Runtime,
    pid: &Pid,
    of: &Runtime,
    is: impl Fn(&ProcessDetails) -> bool,
) -> ProcessDetails {
    let wanted = async {
        loop {
            let details = details(asker, of, pid).await;
            if is(&details) {
                return details;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, wanted).await
}

async fn node_info(asker: &Runtime, of: &Runtime) -> NodeInfo {
    system(asker, of).call_within(DEADLINE, System::Info).await.unwrap()
}

async fn a_process_is_told_of_with_its_ties(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    let (to, name) = (near.pid.clone(), ProcessName::new("far").unwrap());
    b.register(&name, &far.pid).await.unwrap();
    far.run(move |context| {
        context.link(&to);
        context.monitor(&to);
        context.monitor(Destination::name(to.node().clone(), ProcessName::new("nobody-yet").unwrap()));
    })
    .await;
    let pid = far.pid.clone();
    near.run(move |context| context.monitor(&pid)).await;
    fence(a, b).await;
    let before = details(a, b, &far.pid).await;
    for number in 0..3 {
        far.address.send(Note::Number(number)).await.unwrap();
    }
    // It is still running when it has just taken the third.
    let done =
        |it: &ProcessDetails| it.info.handled >= before.info.handled + 3 && it.info.state == ProcessState::Waiting;
    let after = details_when("three messages", a, &far.pid, b, done).await;
    assert_eq!((after.info.mailbox, after.info.call), (0, None));
    assert_eq!(after.info.names, [name]);
    assert!(after.info.steps > before.info.steps && after.info.memory_bytes > 100, "{before:?}");
    assert_eq!((after.message.as_str(), after.members_only, after.mailbox_limit), ("Note", false, 0));
    assert_eq!(after.linked, std::slice::from_ref(&near.pid));
    assert_eq!(after.watched_by, std::slice::from_ref(&near.pid));
    assert!(after.monitored.contains(&near.pid.to_string()), "{:?}", after.monitored);

    let held = far.hold(|_| ()).await;
    for number in 0..2 {
        far.address.send(Note::Number(number)).await.unwrap();
    }
    assert_eq!(details(a, b, &far.pid).await.info.mailbox, 2, "what was not received waits");
    held.go().await;
}

async fn whom_a_process_waits_for_is_told_while_it_waits(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    let held = near.hold(|_| ()).await;
    let to = near.pid.clone();
    let asks = far.begin(move |context| {
        let near = context.runtime().address::<Note>(&to);
        Box::pin(async move { near.call_within(DEADLINE, Note::Ask).await })
    });
    let told = details_when("the call", a, &far.pid, b, |it| it.info.call.is_some()).await.info.call.unwrap();
    assert_eq!(told.to, near.pid.to_string());
    let longer = |it: &ProcessDetails| it.info.call.as_ref().is_some_and(|call| call.for_ms > told.for_ms);
    details_when("the wait", a, &far.pid, b, longer).await;
    held.go().await;
    let Received::Message(Note::Ask(reply)) = near.next().await else { panic!("it is not the call") };
    reply.send(7).unwrap();
    assert_eq!(within("an answer", asks).await.unwrap(), Ok(7));
    assert_eq!(details(a, b, &far.pid).await.info.call, None);
}

async fn running_and_stopping_are_told_apart(a: &Runtime, b: &Runtime) {
    let (busy, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_busy, may_end) = (busy.clone(), let_go.clone());
    let spinner = b.spawn(async move |_: Context<u64>| {
        is_busy.store(true, Ordering::Release);
        // A process that never comes to an `.await`: nothing can end it, and it can be told of all the same. On a thread
        // of its own, so that the test's two are free.
        tokio::task::block_in_place(|| {
            while !may_end.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    });
    let pid = spinner.unwrap().pid().unwrap();
    eventually("it spins", || busy.load(Ordering::Acquire)).await;
    assert_eq!(details(a, b, &pid).await.info.state, ProcessState::Running);
    b.exit(&pid, ExitReason::Shutdown);
    assert_eq!(details(a, b, &pid).await.info.state, ProcessState::Stopping);
    let_go.store(true, Ordering::Release);
    eventually("it has ended", || b.inspect(&pid).is_none()).await;
    assert_eq!(inspect(a, b, &pid).await, Ok(None));
}

async fn parents_are_told(a: &Runtime, b: &Runtime) {
    let near = Puppet::new(a);
    let node = b.node().clone();
    let child = near.run_async(move |context| {
        let runtime = context.runtime().clone();
        let start = Start::json("counter".parse().unwrap(), "1");
        Box::pin(async move { runtime.start_on(&node, start).await.unwrap().pid })
    });
    let child = child.await;
    assert_eq!(details(a, b, &child).await.info.parent, Some(near.pid.clone()), "who asked for it");

    let far = Puppet::new(b);
    let spawn = |options: SpawnOptions| {
        move |context: &mut Context<Note>| {
            let idle = async move |mut context: Context<u64>| {
                let linked_parent = context.parent().cloned();
                let Received::Message(_) = context.receive().await else { return };
                drop(linked_parent);
            };
            context.runtime().spawn_with(options, idle).unwrap().address.pid().unwrap()
        }
    };
    let alone = far.run(spawn(SpawnOptions::new())).await;
    let linked = far.run(spawn(SpawnOptions::new().link_to(&near.pid))).await;
    assert_eq!(details(a, b, &alone).await.info.parent, Some(far.pid.clone()), "who ran when it was started");
    assert_eq!(details(a, b, &linked).await.info.parent, Some(near.pid.clone()), "whom it is linked to");
}

async fn what_lives_elsewhere_is_refused_with_where(a: &Runtime, b: &Runtime) {
    let elsewhere: Pid = "<elsewhere.1.7>".parse().unwrap();
    let error = inspect(a, b, &elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("its own node"), "{error}");
    if a.session().is_some() && a.node() == b.node() {
        let error = inspect(a, b, &Puppet::new(a).pid).await.unwrap_err().to_string();
        assert!(error.contains("lives in the client"), "{error}");
    }
    let dead = Pid::new(b.node().clone(), rookery_runtime::protocol::Serial(1 << 40));
    assert_eq!(inspect(a, b, &dead).await, Ok(None));
}

async fn a_node_tells_of_its_load(a: &Runtime, b: &Runtime) {
    let before = node_info(a, b).await;
    assert_eq!((&before.node, before.draining), (b.node(), false));
    assert!(before.load.workers > 0 && before.processes > 0 && before.names > 0, "{before:?}");
    if cfg!(target_os = "linux") {
        assert!(before.load.memory_bytes.unwrap() > 1 << 20 && before.load.cpu_ms.is_some());
    }
    let Some(peer) = before.peers.first() else { return };
    let to = Destination::name(peer.node.clone(), ProcessName::new(SYSTEM_NAME).unwrap());
    let (signals, bytes) = (peer.sent().signals, peer.sent().bytes);
    // Nobody understands it, which is answered all the same.
    let far = Puppet::new(b);
    let answered = far.run_async(move |context| {
        let peer = context.runtime().address::<System>(to);
        Box::pin(async move { peer.call_within(DEADLINE, System::Info).await })
    });
    answered.await.unwrap();
    let after = node_info(a, b).await;
    let peer_after = after.peers.iter().find(|other| other.node == peer.node).unwrap();
    assert!(peer_after.sent().signals > signals && peer_after.sent().bytes > bytes, "{peer_after:?}");
    assert!(peer_after.received.signals > peer.received.signals && peer_after.received.bytes > peer.received.bytes);
    assert!(peer_after.sent_packets > 0 && !peer_after.lanes.is_empty());
    assert!(after.load.busy_us > before.load.busy_us);
}

async fn names_and_groups_are_told_with_who_has_them(a: &Runtime, b: &Runtime) {
    let (far, group) = (Puppet::new(b), "chat#rooms".parse::<Group>().unwrap());
    let (local, cluster) = (ProcessName::new("here").unwrap(), ProcessName::new("everywhere").unwrap());
    b.register(&local, &far.pid).await.unwrap();
    let (name, joined) = (cluster.clone(), group.clone());
    let enter = far.run_async(move |context| {
        Box::pin(async move {
            context.register_in_cluster(&name).await.unwrap();
            context.join(&joined).await.unwrap();
        })
    });
    enter.await;
    let query = |filter: &str| NameQuery { limit: 1, filter: filter.to_owned() };
    let node = system(a, b);
    let names = node.call_within(DEADLINE, |reply| System::Names(Ask::new(query("here"), reply))).await.unwrap();
    assert_eq!((names.matching, names.names), (1, vec![(local.clone(), far.pid.clone())]));
    let all = node.call_within(DEADLINE, |reply| System::Names(Ask::new(query(""), reply))).await.unwrap();
    assert!(all.total > 1 && all.matching == all.total && all.names.len() == 1, "{all:?}");
    let names =
        node.call_within(DEADLINE, |reply| System::ClusterNames(Ask::new(query("every"), reply))).await.unwrap();
    assert_eq!(names.names, [(cluster.clone(), far.pid.clone())]);
    let groups = node.call_within(DEADLINE, |reply| System::Groups(Ask::new(query("rooms"), reply))).await.unwrap();
    let told = &groups.groups[0];
    assert_eq!((&told.group, told.members, &told.by_node[..]), (&group, 1, &[(b.node().name().clone(), 1)][..]));
    let details = details(a, b, &far.pid).await;
    assert_eq!(
        (details.info.cluster_names, details.groups, details.info.names),
        (vec![cluster], vec![group], vec![local])
    );
    let info = node_info(a, b).await;
    assert_eq!((info.cluster_names, info.groups), (1, 1));
}

async fn whoever_lives_with_a_process_can_look_at_it(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    let to = near.pid.clone();
    far.run(move |context| {
        for _ in 0..MAX_TIES_TOLD + 5 {
            context.monitor(&to);
        }
    })
    .await;
    let told = b.inspect(&far.pid).unwrap();
    assert_eq!((told.info.monitors, told.monitored.len()), (MAX_TIES_TOLD as u64 + 5, MAX_TIES_TOLD));
    assert_eq!(b.inspect(&near.pid).is_some(), near.pid.node() == b.node() && a.session() == b.session());
}

fn query(sort: SortBy, offset: u32, limit: u32) -> ProcessQuery {
    ProcessQuery { sort, offset, limit, ..ProcessQuery::default() }
}

fn pids(list: &ProcessList) -> Vec<Pid> {
    list.processes.iter().map(|info| info.pid.clone()).collect()
}

#[test]
fn a_list_is_sorted_filtered_and_in_pages() {
    run(async {
        let runtime = lone_runtime("lone", 1);
        let idle = async |mut context: Context<u64>| while let Received::Message(_) = context.receive().await {};
        let deaf = async |_: Context<u64>| std::future::pending::<()>().await;
        for number in 0..2_000 {
            let label = if number % 2 == 0 { "Even" } else { "Odd" };
            runtime.spawn_with(SpawnOptions::new().label(label), idle).unwrap();
        }
        let mut full = Vec::new();
        for messages in 1..=5 {
            let name = ProcessName::new(format!("deaf-{messages}")).unwrap();
            let address = runtime.spawn_with(SpawnOptions::new().name(name), deaf).unwrap().address;
            for number in 0..messages {
                address.try_send(number).unwrap();
            }
            full.insert(0, address.pid().unwrap());
        }
        let first = runtime.list_processes(&query(SortBy::Mailbox, 0, 3)).await;
        assert_eq!((first.total, first.matching), (2_005, 2_005));
        assert_eq!(pids(&first), full[..3]);
        let second = runtime.list_processes(&query(SortBy::Mailbox, 3, 2)).await;
        assert_eq!(pids(&second), full[3..]);

        let mut seen = Vec::new();
        for page in 0..21 {
            seen.extend(pids(&runtime.list_processes(&query(SortBy::Pid, page * 100, 100)).await));
        }
        assert!(seen.is_sorted() && seen.len() == 2_005, "{} in order", seen.len());
        let last = ProcessQuery { reverse: true, ..query(SortBy::Pid, 0, 1) };
        assert_eq!(pids(&runtime.list_processes(&last).await).first(), seen.last());
        let oldest = runtime.list_processes(&query(SortBy::Age, 0, 1)).await;
        assert_eq!(pids(&oldest).first(), seen.first());

        let odd = ProcessQuery { filter: "ODD".to_owned(), ..query(SortBy::Behaviour, 0, 10) };
        let odd = runtime.list_processes(&odd).await;
        assert_eq!((odd.matching, odd.processes.len()), (1_000, 10));
        assert!(odd.processes.iter().all(|info| info.behaviour == "Odd"));
        let named = ProcessQuery { filter: "deaf-4".to_owned(), ..ProcessQuery::default() };
        assert_eq!(pids(&runtime.list_processes(&named).await), full[1..2]);
        runtime.shut_down(ExitReason::Kill, Duration::ZERO).await;
    });
}

/// A list of very many processes lets others run: beside it, on the same single thread, a process gets its turns.
#[test]
fn a_list_of_many_holds_up_nobody() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        let runtime = lone_runtime("lone", 1);
        let (waiting, turns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for _ in 0..100_000 {
            let waiting = waiting.clone();
            let idle = async move |_: Context<u64>| {
                waiting.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            };
            runtime.spawn(idle).unwrap();
        }
        eventually("all wait", || waiting.load(Ordering::Relaxed) == 100_000).await;
        let counted = turns.clone();
        let other = async move |_: Context<u64>| loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        };
        runtime.spawn::<u64, _, _>(other).unwrap();
        let list = runtime.list_processes(&query(SortBy::Memory, 0, 10)).await;
        assert_eq!((list.total, list.processes.len()), (100_001, 10));
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns >= 100, "the other process had {turns} turns");
    });
}
