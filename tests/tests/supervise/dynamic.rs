//! Dynamic children (V1), and significant ones (V5), in every placement of a supervisor and its children.

use rookery_node::{
    ask::Ask,
    supervise::{AutoShutdown, ChildSpec, ChildStart, ChildStatus, Restart, Strategy, SupervisorMessage},
};
use rookery_runtime::{CallError, ExitReason, Pid, Start};
use rookery_tests::watch;
use serde_json::json;

use super::{Family, Manner, Stage, Work, id, patient};
use crate::supervised;

supervised! {
    v1_dynamic_children_are_started_restarted_and_stopped_one_by_one,
    v5_any_significant_child_that_ends_ends_the_supervisor,
    v5_the_last_significant_child_that_ends_ends_the_supervisor,
    v5_a_significant_child_that_is_stopped_ends_nothing,
}

async fn start(family: &Family, name: &str) -> Result<Pid, CallError> {
    let arguments = json!({ "name": name });
    family.address.call(|reply| SupervisorMessage::StartDynamic(Ask::new(arguments.into(), reply))).await
}

async fn v1_dynamic_children_are_started_restarted_and_stopped_one_by_one(stage: &mut Stage) {
    let start_json = Start::json("worker".parse().unwrap(), r#"{"name":"template","manner":"Orderly"}"#);
    let template = ChildSpec::new(id("w"), ChildStart::placed(start_json, stage.there.clone()));
    let family = stage.supervisor(patient(Strategy::SimpleOneForOne).child(template.restart(Restart::Transient))).await;
    let mut pids = Vec::new();
    for name in ["a", "b", "c"] {
        pids.push(start(&family, name).await.unwrap());
        stage.journal.expect(&[&format!("start {name}")]).await;
    }
    // One is restarted, with its own arguments.
    family.tell(&pids[1], Work::Panic).await;
    stage.journal.expect(&["end b", "start b"]).await;
    pids[1] = family.successor("w#2", &pids[1]).await;
    // One ends for good, one is stopped: nothing is left of them.
    family.tell(&pids[0], Work::End(ExitReason::Normal)).await;
    stage.journal.expect(&["end a"]).await;
    assert_eq!(family.settled("w#1", &pids[0]).await, None);
    family.address.call(|reply| SupervisorMessage::StopPid(Ask::new(pids[1].clone(), reply))).await.unwrap();
    stage.journal.expect(&["told b: shutdown", "end b"]).await;
    let ids: Vec<String> = family.children().await.iter().map(|child| child.id.to_string()).collect();
    assert_eq!(ids, ["w#3"]);
    start(&family, "d").await.unwrap();
    let ended = watch(&stage.a, &family.pid).await;
    family.shut_down();
    assert_eq!(ended.reason().await, ExitReason::Shutdown);
    let mut lines = stage.journal.rest();
    lines.sort();
    assert_eq!(lines, ["end c", "end d", "start d", "told c: shutdown", "told d: shutdown"]);
}

/// Two significant children, and one that is not.
async fn significant(stage: &mut Stage, auto_shutdown: AutoShutdown) -> Family {
    let spec = patient(Strategy::OneForOne)
        .auto_shutdown(auto_shutdown)
        .child(stage.child("plain", Manner::Orderly).restart(Restart::Temporary))
        .child(stage.child("a", Manner::Orderly).restart(Restart::Transient).significant())
        .child(stage.child("b", Manner::Orderly).restart(Restart::Temporary).significant());
    let family = stage.supervisor(spec).await;
    stage.journal.expect(&["start plain", "start a", "start b"]).await;
    family
}

async fn v5_any_significant_child_that_ends_ends_the_supervisor(stage: &mut Stage) {
    let family = significant(stage, AutoShutdown::AnySignificant).await;
    let ended = watch(&stage.a, &family.pid).await;
    let a = family.pid_of("a").await;
    family.tell(&a, Work::Panic).await;
    stage.journal.expect(&["end a", "start a"]).await;
    let a = family.successor("a", &a).await;
    family.tell(&a, Work::End(ExitReason::Normal)).await;
    let told = ["end a", "told b: shutdown", "end b", "told plain: shutdown", "end plain"];
    stage.journal.expect(&told).await;
    assert_eq!(ended.reason().await, ExitReason::Shutdown);
}

async fn v5_the_last_significant_child_that_ends_ends_the_supervisor(stage: &mut Stage) {
    let family = significant(stage, AutoShutdown::AllSignificant).await;
    let ended = watch(&stage.a, &family.pid).await;
    let (a, b) = (family.pid_of("a").await, family.pid_of("b").await);
    family.tell(&b, Work::Panic).await;
    stage.journal.expect(&["end b"]).await;
    assert_eq!(family.settled("b", &b).await, None);
    family.tell(&a, Work::End(ExitReason::Normal)).await;
    stage.journal.expect(&["end a", "told plain: shutdown", "end plain"]).await;
    assert_eq!(ended.reason().await, ExitReason::Shutdown);
}

async fn v5_a_significant_child_that_is_stopped_ends_nothing(stage: &mut Stage) {
    let family = significant(stage, AutoShutdown::AnySignificant).await;
    for child in ["a", "b"] {
        family.address.call(|reply| SupervisorMessage::StopChild(Ask::new(id(child), reply))).await.unwrap();
        stage.journal.expect(&[&format!("told {child}: shutdown"), &format!("end {child}")]).await;
    }
    let statuses = family.statuses().await;
    assert_eq!(statuses, [ChildStatus::Running, ChildStatus::Stopped], "the temporary one has left");
}
