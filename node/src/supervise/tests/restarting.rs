//! What is started again, and how often (V1, V2, V3, V6).

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use rookery_runtime::{NodeId, RequestError, Uplink};
use tokio::sync::Notify;

use super::*;
use crate::supervise::{Backoff, ChildStatus, Placement, Restart, Shutdown, Strategy, Supervisor, SupervisorSpec};

fn one_for_one() -> SupervisorSpec {
    SupervisorSpec::new(Strategy::OneForOne)
}

/// Ends a child with each of `reasons` in turn; gives whether it was started again.
async fn restarts_after(restart: Restart, reason: ExitReason) -> bool {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = one_for_one().child(journal.worker("a").restart(restart)).child(journal.worker("b"));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start a", "start b"]).await;
    let (a, b) = (running(&supervisor, "a").await, running(&supervisor, "b").await);
    let gone = down(&runtime, &a).await;
    tell(&runtime, &a, Work::End(reason)).await;
    gone.await;
    // The supervisor has seen the end of `a` when it has seen the later one of `b`.
    tell(&runtime, &b, Work::End(ExitReason::Normal)).await;
    let started = journal.next().await;
    if started == "start a" {
        assert_eq!(journal.next().await, "start b");
        assert_ne!(running(&supervisor, "a").await, a);
        return true;
    }
    assert_eq!(started, "start b");
    let left = child(&supervisor, "a").await;
    match restart {
        Restart::Temporary => assert_eq!(left, None, "its spec goes with it"),
        _ => assert_eq!(left.unwrap().status, ChildStatus::Stopped),
    }
    false
}

#[tokio::test]
async fn v2_permanent_is_always_restarted() {
    for reason in [ExitReason::Normal, ExitReason::Shutdown, ExitReason::Error("e".to_owned()), ExitReason::Killed] {
        assert!(restarts_after(Restart::Permanent, reason.clone()).await, "{reason}");
    }
}

#[tokio::test]
async fn v2_transient_is_restarted_unless_it_ended_cleanly() {
    let done = ExitReason::ShutdownWith("done".to_owned());
    for clean in [ExitReason::Normal, ExitReason::Shutdown, done] {
        assert!(!restarts_after(Restart::Transient, clean.clone()).await, "{clean}");
    }
    for unclean in [ExitReason::Error("e".to_owned()), ExitReason::Killed, ExitReason::NoProc] {
        assert!(restarts_after(Restart::Transient, unclean.clone()).await, "{unclean}");
    }
}

#[tokio::test]
async fn v2_temporary_is_never_restarted() {
    for reason in [ExitReason::Normal, ExitReason::Error("e".to_owned())] {
        assert!(!restarts_after(Restart::Temporary, reason.clone()).await, "{reason}");
    }
}

#[tokio::test]
async fn v2_a_panic_is_no_clean_end() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = one_for_one().child(journal.worker("a").restart(Restart::Transient));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    tell(&runtime, &running(&supervisor, "a").await, Work::Panic).await;
    journal.expect(&["start a", "start a"]).await;
    let info = child_when(&supervisor, "a", |child| child.restarts == 1).await;
    assert_eq!(info.last_end.as_deref(), Some("panic: a was told to"));
}

#[tokio::test]
async fn v1_one_for_all_stops_in_reverse_and_starts_in_order() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = SupervisorSpec::new(Strategy::OneForAll)
        .child(journal.worker("a"))
        .child(journal.worker("b"))
        .child(journal.worker("c"));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start a", "start b", "start c"]).await;
    tell(&runtime, &running(&supervisor, "b").await, Work::Panic).await;
    journal.expect(&["stop c", "stop a", "start a", "start b", "start c"]).await;
}

#[tokio::test]
async fn v1_rest_for_one_leaves_those_before() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = SupervisorSpec::new(Strategy::RestForOne)
        .child(journal.worker("a"))
        .child(journal.worker("b"))
        .child(journal.worker("c"));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start a", "start b", "start c"]).await;
    let a = running(&supervisor, "a").await;
    tell(&runtime, &running(&supervisor, "b").await, Work::Panic).await;
    journal.expect(&["stop c", "start b", "start c"]).await;
    assert_eq!(running(&supervisor, "a").await, a);
}

#[tokio::test]
async fn v3_one_restart_too_many_ends_the_supervisor_with_shutdown() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = one_for_one().intensity(2, LONG).child(journal.worker("a")).child(journal.worker("b"));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    journal.expect(&["start a", "start b"]).await;
    for _ in 0..2 {
        let pid = running(&supervisor, "b").await;
        tell(&runtime, &pid, Work::Panic).await;
        journal.expect(&["start b"]).await;
        child_when(&supervisor, "b", |child| child.pid.is_some() && child.pid.as_ref() != Some(&pid)).await;
    }
    tell(&runtime, &running(&supervisor, "b").await, Work::Panic).await;
    journal.expect(&["stop a"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
    assert!(journal.is_empty());
}

#[tokio::test]
async fn v3_the_parent_decides_what_becomes_of_a_supervisor_that_gave_up() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let inner = one_for_one().intensity(0, LONG).child(journal.worker("a"));
    let inner = ChildSpec::new(id("inner"), ChildStart::supervisor(inner)).shutdown(Shutdown::Forever);
    let outer = Supervisor::start(&runtime, one_for_one().child(inner)).await.unwrap();
    journal.expect(&["start a"]).await;
    let first = running(&outer, "inner").await;
    let inner = runtime.address::<SupervisorMessage>(&first);
    tell(&runtime, &running(&inner, "a").await, Work::Panic).await;
    journal.expect(&["start a"]).await;
    let restarted = child_when(&outer, "inner", |child| child.restarts == 1 && child.pid.is_some()).await;
    assert_eq!(restarted.last_end.as_deref(), Some("shutdown"));
    assert_ne!(restarted.pid, Some(first));
}

/// A child whose start goes as `outcomes` says, then as the last of them.
fn fallible(journal: &Journal, outcomes: &'static [bool]) -> ChildSpec {
    let (attempts, write) = (Arc::new(AtomicU32::new(0)), journal.write.clone());
    let start = ChildStart::local(move |runtime, options| {
        let attempt = attempts.fetch_add(1, Ordering::Relaxed) as usize;
        let succeeds = outcomes[attempt.min(outcomes.len() - 1)];
        drop(write.send(format!("attempt {attempt}")));
        async move {
            if !succeeds {
                return Err(RequestError::InitFailed(ExitReason::Error("not today".to_owned())));
            }
            let child = runtime.spawn_with(options, async |mut ctx: Context<Work>| match ctx.receive().await {
                Received::Message(Work::End(reason)) => reason,
                _ => ExitReason::Normal,
            });
            Ok(child?.address.pid().unwrap())
        }
    });
    ChildSpec::new(id("f"), start)
}

#[tokio::test]
async fn v3_failed_restarts_count() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = one_for_one().intensity(3, LONG).child(fallible(&journal, &[true, false]));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    let pid = running(&supervisor, "f").await;
    tell(&runtime, &pid, Work::End(ExitReason::Normal)).await;
    journal.expect(&["attempt 0", "attempt 1", "attempt 2", "attempt 3"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
    assert!(journal.is_empty());
}

#[tokio::test]
async fn v6_a_failed_restart_is_tried_again() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let backoff = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(2) };
    let spec = one_for_one().backoff(backoff).child(fallible(&journal, &[true, false, false, true]));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let pid = running(&supervisor, "f").await;
    tell(&runtime, &pid, Work::End(ExitReason::Normal)).await;
    journal.expect(&["attempt 0", "attempt 1", "attempt 2", "attempt 3"]).await;
    let info = child_when(&supervisor, "f", |child| child.status == ChildStatus::Running).await;
    assert_eq!((info.restarts, info.last_end.as_deref()), (3, Some("init failed: error: not today")));
}

#[tokio::test]
async fn v6_a_supervisor_answers_and_can_be_stopped_while_a_restart_is_slow() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let (first, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let (write, hold) = (journal.write.clone(), gate.clone());
    let slow = ChildStart::local(move |runtime, options| {
        let (again, gate, write) = (first.fetch_add(1, Ordering::Relaxed) > 0, hold.clone(), write.clone());
        async move {
            if again {
                drop(write.send("waiting".to_owned()));
                gate.notified().await;
            }
            let child = runtime.spawn_with(options, async |mut ctx: Context<Work>| drop(ctx.receive().await));
            Ok(child?.address.pid().unwrap())
        }
    });
    let slow = ChildSpec::new(id("slow"), slow).shutdown(Shutdown::Within(Duration::from_millis(10)));
    let supervisor = Supervisor::start(&runtime, one_for_one().child(journal.worker("a")).child(slow)).await.unwrap();
    let pid = running(&supervisor, "slow").await;
    tell(&runtime, &pid, Work::Panic).await;
    journal.expect(&["start a", "waiting"]).await;
    assert_eq!(child(&supervisor, "slow").await.unwrap().status, ChildStatus::Restarting);
    // Another child is restarted meanwhile.
    tell(&runtime, &running(&supervisor, "a").await, Work::Panic).await;
    journal.expect(&["start a"]).await;
    // And the end does not wait for a start that never comes.
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    journal.expect(&["stop a"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
    gate.notify_waiters();
}

#[tokio::test]
async fn a_panic_in_a_start_is_that_starts_failure() {
    let runtime = runtime();
    let start = ChildStart::local(|_, _| {
        assert!(std::env::args().count() == usize::MAX, "no such child today");
        std::future::ready(Err(RequestError::Unsupported))
    });
    let error = Supervisor::start(&runtime, one_for_one().child(ChildSpec::new(id("p"), start))).await.unwrap_err();
    assert!(error.to_string().contains("no such child today"), "{error}");
}

/// A mesh of which only the list of nodes is there.
struct Nodes(Mutex<Vec<NodeId>>);

impl Uplink for Nodes {
    fn connection(&self, _: &rookery_runtime::Destination) -> Option<Arc<rookery_runtime::net::outbound::Outbound>> {
        None
    }
    fn connections(&self) -> Vec<Arc<rookery_runtime::net::outbound::Outbound>> {
        Vec::new()
    }
    fn nodes(&self) -> Vec<NodeId> {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn v7_a_child_without_a_node_waits_for_one_and_costs_no_restart() {
    let runtime = runtime();
    let nodes = Arc::new(Nodes(Mutex::new(vec![runtime.node().clone()])));
    runtime.set_uplink(nodes.clone());
    let placement = Placement::AnyOf(vec![runtime.node().name().clone()]);
    let start = rookery_runtime::Start::json("echo".parse().unwrap(), "null");
    let spec = one_for_one().intensity(1, LONG).child(ChildSpec::new(id("e"), ChildStart::placed(start, placement)));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let pid = running(&supervisor, "e").await;
    nodes.0.lock().unwrap().clear();
    runtime.exit(&pid, ExitReason::Kill);
    // It looks for a node several times, which would be too many restarts.
    let waits = |child: &ChildInfo| child.last_end.as_deref().is_some_and(|end| end.contains("no place"));
    let info = child_when(&supervisor, "e", waits).await;
    assert_eq!((info.status, info.restarts, info.pid), (ChildStatus::Restarting, 1, None));
    nodes.0.lock().unwrap().push(runtime.node().clone());
    runtime.node_up(&"b.1".parse().unwrap());
    let info = child_when(&supervisor, "e", |child| child.status == ChildStatus::Running).await;
    assert_eq!((info.restarts, info.node.as_ref()), (1, Some(runtime.node().name())));
}

#[tokio::test]
async fn v7_a_child_whose_node_is_not_up_yet_keeps_no_supervisor_from_its_start() {
    for strategy in [Strategy::OneForOne, Strategy::RestForOne] {
        let (runtime, mut journal) = (runtime(), Journal::new());
        let nodes = Arc::new(Nodes(Mutex::new(vec![runtime.node().clone()])));
        runtime.set_uplink(nodes.clone());
        nodes.0.lock().unwrap().clear();
        let there = Placement::AnyOf(vec![runtime.node().name().clone()]);
        let start = rookery_runtime::Start::json("echo".parse().unwrap(), "null");
        let spec = SupervisorSpec::new(strategy)
            .intensity(0, LONG)
            .child(ChildSpec::new(id("e"), ChildStart::placed(start, there)))
            .child(journal.worker("after"));
        let starting = tokio::spawn({
            let runtime = runtime.clone();
            async move { Supervisor::start(&runtime, spec).await }
        });
        if strategy == Strategy::OneForOne {
            journal.expect(&["start after"]).await;
        }
        nodes.0.lock().unwrap().push(runtime.node().clone());
        runtime.node_up(&"b.1".parse().unwrap());
        let supervisor = within(starting).await.unwrap().unwrap();
        let info = child_when(&supervisor, "e", |child| child.status == ChildStatus::Running).await;
        assert_eq!(info.restarts, 0);
        running(&supervisor, "after").await;
    }
}
