//! Rows V of the contract: supervision, with the supervisor in one place and its children in another. Each test is run
//! in every placement that a supervisor and its children can have; what happens when the children's node is lost (V7)
//! has tests of its own, with nodes to lose. More of the rows are in `supervise/`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod supervise;

use std::time::{Duration, Instant};

use rookery_node::{
    Node,
    supervise::{ChildStatus, Placement, Restart, Shutdown, Strategy},
};
use rookery_runtime::{ExitReason, Pid};
use rookery_tests::{
    cluster::{impatient, mesh, meshed, node_config},
    eventually, fence, placement,
    relay::Relay,
    watch,
};
use supervise::{Family, Journal, LONG, Manner, Stage, Work, client, error, patient, worker};

supervised! {
    v1_one_for_all_stops_in_reverse_and_starts_in_order,
    v1_rest_for_one_leaves_those_before,
    v2_permanent_is_always_restarted,
    v2_transient_is_restarted_unless_it_ended_cleanly,
    v2_temporary_is_never_restarted,
    v3_one_restart_too_many_ends_the_supervisor_with_shutdown,
    v3_restarts_within_the_intensity_do_not,
    v4_kill_asks_nobody,
    v4_who_ignores_shutdown_is_killed_after_its_limit,
    v4_forever_waits_and_children_end_in_reverse_order,
    v6_a_supervisor_answers_and_stops_while_a_start_hangs,
    l3_children_end_with_a_supervisor_that_is_killed,
}

async fn three(stage: &mut Stage, strategy: Strategy) -> Family {
    let children = ["a", "b", "c"].map(|name| stage.child(name, Manner::Orderly));
    let family = stage.supervisor(children.into_iter().fold(patient(strategy), |spec, child| spec.child(child))).await;
    stage.journal.expect(&["start a", "start b", "start c"]).await;
    family
}

async fn v1_one_for_all_stops_in_reverse_and_starts_in_order(stage: &mut Stage) {
    let family = three(stage, Strategy::OneForAll).await;
    family.tell(&family.pid_of("b").await, Work::Panic).await;
    stage.journal.expect(&["end b", "told c: shutdown", "end c", "told a: shutdown", "end a"]).await;
    stage.journal.expect(&["start a", "start b", "start c"]).await;
}

async fn v1_rest_for_one_leaves_those_before(stage: &mut Stage) {
    let family = three(stage, Strategy::RestForOne).await;
    let (a, c) = (family.pid_of("a").await, family.pid_of("c").await);
    family.tell(&family.pid_of("b").await, Work::Panic).await;
    stage.journal.expect(&["end b", "told c: shutdown", "end c", "start b", "start c"]).await;
    family.successor("c", &c).await;
    assert_eq!(family.pid_of("a").await, a);
}

/// The ways to end, whether each is clean, and how the supervisor tells of it.
#[derive(Debug, Clone, Copy)]
enum Way {
    Normal,
    Shutdown,
    ShutdownWith,
    Error,
    Panic,
    Kill,
}

const WAYS: [(Way, bool, &str); 6] = [
    (Way::Normal, true, "normal"),
    (Way::Shutdown, true, "shutdown"),
    (Way::ShutdownWith, true, "shutdown: done"),
    (Way::Error, false, "error: broken"),
    (Way::Panic, false, "panic: w was told to"),
    (Way::Kill, false, "killed"),
];

async fn end(stage: &Stage, family: &Family, pid: &Pid, way: Way) {
    let reason = match way {
        Way::Normal => ExitReason::Normal,
        Way::Shutdown => ExitReason::Shutdown,
        Way::ShutdownWith => ExitReason::ShutdownWith("done".to_owned()),
        Way::Error => error("broken"),
        Way::Panic => return family.tell(pid, Work::Panic).await,
        Way::Kill => return stage.a.exit(pid, ExitReason::Kill),
    };
    family.tell(pid, Work::End(reason)).await;
}

/// Ends a child in each way; it must be started again where `restarted` says so, given whether the end was clean.
async fn ends_in_every_way(stage: &mut Stage, restart: Restart, restarted: impl Fn(bool) -> bool) {
    for (way, clean, told) in WAYS {
        let spec = patient(Strategy::OneForOne).child(stage.child("w", Manner::Plain).restart(restart));
        let family = stage.supervisor(spec).await;
        stage.journal.expect(&["start w"]).await;
        let first = family.pid_of("w").await;
        family.tell(&first, Work::Add(5)).await;
        assert_eq!(family.of(&first).call(Work::Get).await, Ok(5));
        end(stage, &family, &first, way).await;
        stage.journal.expect(&["end w"]).await;
        let child = family.settled("w", &first).await;
        if restarted(clean) {
            stage.journal.expect(&["start w"]).await;
            let child = child.unwrap();
            let second = child.pid.unwrap();
            assert_eq!(second.node(), first.node(), "{way:?}: it stays where it was");
            assert_eq!(family.of(&second).call(Work::Get).await, Ok(0), "{way:?}: its state is new");
            assert_eq!((child.restarts, child.last_end.as_deref()), (1, Some(told)), "{way:?}");
        } else if restart == Restart::Temporary {
            assert_eq!(child, None, "{way:?}: its spec goes with it");
        } else {
            let child = child.unwrap();
            assert_eq!((child.status, child.pid, child.restarts), (ChildStatus::Stopped, None, 0), "{way:?}");
        }
        // The supervisor lives, whatever its child did; its end leaves nothing, and starts nothing.
        let ended = watch(&stage.a, &family.pid).await;
        family.shut_down();
        assert_eq!(ended.reason().await, ExitReason::Shutdown, "{way:?}");
        if restarted(clean) {
            stage.journal.expect(&["end w"]).await;
        }
        assert!(stage.journal.rest().is_empty(), "{way:?}");
    }
}

async fn v2_permanent_is_always_restarted(stage: &mut Stage) {
    ends_in_every_way(stage, Restart::Permanent, |_| true).await;
}

async fn v2_transient_is_restarted_unless_it_ended_cleanly(stage: &mut Stage) {
    ends_in_every_way(stage, Restart::Transient, |clean| !clean).await;
}

async fn v2_temporary_is_never_restarted(stage: &mut Stage) {
    ends_in_every_way(stage, Restart::Temporary, |_| false).await;
}

async fn v3_one_restart_too_many_ends_the_supervisor_with_shutdown(stage: &mut Stage) {
    let spec = patient(Strategy::OneForOne).intensity(2, LONG);
    let spec = spec.child(stage.child("a", Manner::Orderly)).child(stage.child("b", Manner::Plain));
    let family = stage.supervisor(spec).await;
    stage.journal.expect(&["start a", "start b"]).await;
    let ends = [watch(&stage.a, &family.pid).await, watch(&stage.b, &family.pid).await];
    fence(&stage.b, &stage.a).await;
    let mut b = family.pid_of("b").await;
    for _ in 0..2 {
        family.tell(&b, Work::Panic).await;
        stage.journal.expect(&["end b", "start b"]).await;
        b = family.successor("b", &b).await;
    }
    family.tell(&b, Work::Panic).await;
    stage.journal.expect(&["end b", "told a: shutdown", "end a"]).await;
    for end in ends {
        assert_eq!(end.reason().await, ExitReason::Shutdown);
    }
    fence(&stage.a, &stage.b).await;
    assert!(stage.journal.rest().is_empty(), "nothing is started any more");
}

async fn v3_restarts_within_the_intensity_do_not(stage: &mut Stage) {
    let period = Duration::from_millis(100);
    for (intensity, period, pause) in [(3, LONG, Duration::ZERO), (1, period, period)] {
        let spec = patient(Strategy::OneForOne).intensity(intensity, period);
        let family = stage.supervisor(spec.child(stage.child("w", Manner::Plain))).await;
        let mut w = family.pid_of("w").await;
        for restarts in 1..=3 {
            family.tell(&w, Work::Panic).await;
            w = family.successor("w", &w).await;
            assert_eq!(family.child("w").await.unwrap().restarts, restarts);
            // The restart was before this, so it is out of the period once that is over.
            let seen = Instant::now();
            eventually("the period is over", || seen.elapsed() > pause).await;
        }
        assert_eq!(family.of(&w).call(Work::Get).await, Ok(0));
    }
}

async fn v4_kill_asks_nobody(stage: &mut Stage) {
    let spec = patient(Strategy::OneForOne).child(stage.child("s", Manner::Stubborn).shutdown(Shutdown::Kill));
    let family = stage.supervisor(spec).await;
    let child = watch(&stage.b, &family.pid_of("s").await).await;
    let ended = watch(&stage.a, &family.pid).await;
    family.shut_down();
    assert_eq!((child.reason().await, ended.reason().await), (ExitReason::Killed, ExitReason::Shutdown));
    stage.journal.expect(&["start s", "end s"]).await;
}

async fn v4_who_ignores_shutdown_is_killed_after_its_limit(stage: &mut Stage) {
    let limit = Duration::from_millis(100);
    let stubborn = stage.child("s", Manner::Stubborn).shutdown(Shutdown::Within(limit));
    let family = stage.supervisor(patient(Strategy::OneForOne).child(stubborn)).await;
    let child = watch(&stage.b, &family.pid_of("s").await).await;
    let ended = watch(&stage.a, &family.pid).await;
    let begin = Instant::now();
    family.shut_down();
    stage.journal.expect(&["start s", "told s: shutdown", "end s"]).await;
    assert!(begin.elapsed() >= limit, "it has its time");
    assert_eq!((child.reason().await, ended.reason().await), (ExitReason::Killed, ExitReason::Shutdown));
}

async fn v4_forever_waits_and_children_end_in_reverse_order(stage: &mut Stage) {
    let names = ["a", "b", "c"];
    let children = names.map(|name| stage.child(name, Manner::Stubborn).shutdown(Shutdown::Forever));
    let spec = children.into_iter().fold(patient(Strategy::OneForOne), |spec, child| spec.child(child));
    let family = stage.supervisor(spec).await;
    stage.journal.expect(&["start a", "start b", "start c"]).await;
    let ended = watch(&stage.a, &family.pid).await;
    let mut pids = Vec::new();
    for name in names {
        pids.push(family.pid_of(name).await);
    }
    family.shut_down();
    for (at, name) in names.into_iter().enumerate().rev() {
        stage.journal.expect(&[&format!("told {name}: shutdown")]).await;
        let told = Instant::now();
        eventually("some time is over", || told.elapsed() > Duration::from_millis(50)).await;
        let mut expected = vec![ChildStatus::Running; at];
        expected.push(ChildStatus::Stopping);
        let statuses = family.statuses().await;
        assert_eq!(statuses[..=at], expected, "it waits, and so do those before it");
        assert!(statuses[at + 1..].iter().all(|status| *status == ChildStatus::Stopped), "{statuses:?}");
        fence(&stage.a, &stage.b).await;
        assert!(stage.journal.rest().is_empty(), "nobody else was told");
        family.tell(&pids[at], Work::End(ExitReason::Normal)).await;
        stage.journal.expect(&[&format!("end {name}")]).await;
    }
    assert_eq!(ended.reason().await, ExitReason::Shutdown);
}

async fn v6_a_supervisor_answers_and_stops_while_a_start_hangs(stage: &mut Stage) {
    let limit = Duration::from_millis(50);
    let spec = patient(Strategy::OneForOne).child(stage.child("a", Manner::Orderly));
    let family = stage.supervisor(spec.child(stage.child("b", Manner::Plain).shutdown(Shutdown::Within(limit)))).await;
    stage.journal.expect(&["start a", "start b"]).await;
    let ended = watch(&stage.a, &family.pid).await;
    stage.journal.gate.send_replace(false);
    family.tell(&family.pid_of("b").await, Work::Panic).await;
    stage.journal.expect(&["end b", "wait b"]).await;
    assert_eq!(family.statuses().await, [ChildStatus::Running, ChildStatus::Restarting]);
    family.shut_down();
    assert_eq!(ended.reason().await, ExitReason::Shutdown);
    // Whatever becomes of the start now, no child is left without its supervisor.
    stage.journal.gate.send_replace(true);
    let mut lines = Vec::new();
    while !(lines.contains(&"end a".to_owned()) && lines.contains(&"end b".to_owned())) {
        lines.push(stage.journal.next().await);
    }
}

async fn l3_children_end_with_a_supervisor_that_is_killed(stage: &mut Stage) {
    let spec = patient(Strategy::OneForOne).child(stage.child("plain", Manner::Plain));
    let family = stage.supervisor(spec.child(stage.child("orderly", Manner::Orderly))).await;
    let mut ends = Vec::new();
    for name in ["plain", "orderly"] {
        ends.push(watch(&stage.b, &family.pid_of(name).await).await);
    }
    stage.journal.expect(&["start plain", "start orderly"]).await;
    stage.a.exit(&family.pid, ExitReason::Kill);
    for end in ends {
        assert_eq!(end.reason().await, ExitReason::Killed);
    }
    let mut lines = stage.journal.rest();
    lines.sort();
    assert_eq!(lines, ["end orderly", "end plain", "told orderly: killed"]);
}

/// A node that soon notices a loss, and can start workers.
async fn node(name: &str, journal: &Journal, peers: &[std::net::SocketAddr]) -> Node {
    let mut config = node_config(name, peers);
    impatient(&mut config.connections);
    journal.of_node(&mut config);
    Node::start(config).await.unwrap()
}

fn any_of(names: &[&str]) -> Placement {
    Placement::AnyOf(names.iter().map(|name| name.parse().unwrap()).collect())
}

/// The supervisor is on a third node, or in a client of it.
async fn a_lost_nodes_children_move(in_a_client: bool) {
    let journal = Journal::new();
    let mut nodes = mesh(3, |config| {
        impatient(&mut config.connections);
        journal.of_node(config);
    })
    .await;
    let client = if in_a_client { Some(client(&journal, &nodes).await) } else { None };
    let runtime = client.as_ref().map_or_else(|| nodes[0].runtime().clone(), |client| client.runtime());
    let there = any_of(&["node-1", "node-2"]);
    let spec = patient(Strategy::OneForOne).child(worker("x", Manner::Plain, there.clone()));
    let family = Family::start(&runtime, spec.child(worker("y", Manner::Plain, there))).await;
    let (x, y) = (family.pid_of("x").await, family.pid_of("y").await);
    assert_ne!(x.node(), y.node(), "children spread");
    // Gone without a goodbye.
    nodes.retain(|node| node.runtime().node() != x.node());
    let child = family.settled("x", &x).await.unwrap();
    assert_eq!(child.node.as_ref(), Some(y.node().name()), "the only one that is left");
    assert_eq!((child.restarts, child.last_end), (1, Some(ExitReason::NoConnection.to_string())));
    assert_eq!(family.of(&child.pid.unwrap()).call(Work::Get).await, Ok(0));
    assert_eq!(family.pid_of("y").await, y, "who was not there does not notice");
}

#[test]
fn v7_the_children_of_a_lost_node_are_started_on_another() {
    placement::run(a_lost_nodes_children_move(false));
}

#[test]
fn v7_the_children_of_a_lost_node_are_started_on_another_by_a_client() {
    placement::run(a_lost_nodes_children_move(true));
}

#[test]
fn v7_a_child_of_a_named_node_waits_for_its_next_life() {
    placement::run(async {
        let journal = Journal::new();
        let s = node("s", &journal, &[]).await;
        let w = node("w", &journal, &[s.listen_address()]).await;
        meshed(&[&s, &w]).await;
        let there = Placement::Node("w".parse().unwrap());
        let spec = patient(Strategy::OneForOne).intensity(1, LONG).child(worker("x", Manner::Plain, there));
        let family = Family::start(&s, spec).await;
        let first = family.pid_of("x").await;
        let waits = watch(&s, &first).await;
        drop(w);
        assert_eq!(waits.reason().await, ExitReason::NoConnection);
        eventually("it is known to be gone", || s.nodes().len() == 1).await;
        let w = node("w", &journal, &[s.listen_address()]).await;
        let second = family.successor("x", &first).await;
        assert_eq!(second.node(), w.runtime().node());
        assert_eq!(family.child("x").await.unwrap().restarts, 1, "looking for a node is no restart");
    });
}

#[test]
fn v7_beyond_a_partition_the_old_one_ends_and_stays_ended() {
    placement::run(async {
        let mut journal = Journal::new();
        let s = node("s", &journal, &[]).await;
        let relay = Relay::start().await;
        relay.lead_to(s.listen_address());
        let parted = node("w-0", &journal, &[relay.address()]).await;
        meshed(&[&s, &parted]).await;
        let child = worker("x", Manner::Orderly, any_of(&["w-0", "w-1"]));
        let family = Family::start(&s, patient(Strategy::OneForOne).child(child)).await;
        journal.expect(&["start x"]).await;
        let first = family.pid_of("x").await;
        let other = node("w-1", &journal, &[s.listen_address()]).await;
        eventually("the other has come", || s.nodes().len() == 3).await;
        let old = watch(&parted, &first).await;
        relay.cut();
        assert_eq!(old.reason().await, ExitReason::NoConnection);
        let second = family.successor("x", &first).await;
        assert_eq!(second.node(), other.runtime().node());
        // Each side notices in its own time.
        let mut lines = [journal.next().await, journal.next().await, journal.next().await];
        lines.sort();
        assert_eq!(lines, ["end x".to_owned(), "start x".to_owned(), format!("told x: {}", ExitReason::NoConnection)]);
        // Healed, there is one still, and the same.
        relay.lead_to(s.listen_address());
        eventually("the parted node is back", || s.nodes().len() == 3).await;
        fence(&s, &parted).await;
        fence(&parted, &s).await;
        assert_eq!(family.pid_of("x").await, second);
        assert!(journal.rest().is_empty());
    });
}
