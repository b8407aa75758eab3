//! What a supervisor is asked from outside, as people type it (V8).

use rookery_runtime::{CallError, Destination, Payload};
use serde_json::Value;

use super::*;
use crate::supervise::{AutoShutdown, Restart, Strategy, Supervisor, SupervisorError, SupervisorSpec};

async fn ask(runtime: &Runtime, supervisor: &Pid, json: &str) -> Result<Value, CallError> {
    let to: Destination = supervisor.into();
    let answer = runtime.call_payload(&to, Payload::json(json), DEADLINE).await?;
    Ok(serde_json::from_slice(&answer.body).unwrap())
}

async fn refused(runtime: &Runtime, supervisor: &Pid, json: &str) -> String {
    match ask(runtime, supervisor, json).await {
        Err(CallError::Refused(why)) => why,
        other => panic!("`{json}` gave {other:?}"),
    }
}

#[tokio::test]
async fn v8_a_child_is_added_stopped_restarted_and_deleted_by_json() {
    let runtime = runtime();
    let supervisor = Supervisor::start(&runtime, SupervisorSpec::new(Strategy::OneForOne)).await.unwrap();
    let supervisor = supervisor.pid().unwrap();
    let start = r#"{"StartChild":{"id":"c","behaviour":"counter","arguments":7,"name":"orders","restart":"transient","shutdown":{"within":100},"placement":"any"}}"#;
    let pid: Pid = serde_json::from_value(ask(&runtime, &supervisor, start).await.unwrap()).unwrap();
    assert_eq!(ask(&runtime, &pid, r#"{"Get":null}"#).await.unwrap(), 7);
    assert_eq!(runtime.whereis_here(&"orders".parse().unwrap()), Some(pid.clone()));
    assert!(refused(&runtime, &supervisor, start).await.contains("already"));

    let children = ask(&runtime, &supervisor, r#"{"Children":null}"#).await.unwrap();
    let expected = serde_json::json!([{
        "id": "c", "pid": pid.to_string(), "node": "a", "status": "running", "type": "worker", "significant": false,
        "restart": "transient", "restarts": 0, "last_end": null,
    }]);
    assert_eq!(children, expected);

    assert!(refused(&runtime, &supervisor, r#"{"RestartChild":"c"}"#).await.contains("not stopped"));
    assert!(refused(&runtime, &supervisor, r#"{"DeleteChild":"c"}"#).await.contains("not stopped"));
    assert_eq!(ask(&runtime, &supervisor, r#"{"StopChild":"c"}"#).await.unwrap(), Value::Null);
    assert_eq!(runtime.whereis_here(&"orders".parse().unwrap()), None, "it has ended when that is answered");
    assert_eq!(ask(&runtime, &supervisor, r#"{"StopChild":"c"}"#).await.unwrap(), Value::Null);
    let again: Pid =
        serde_json::from_value(ask(&runtime, &supervisor, r#"{"RestartChild":"c"}"#).await.unwrap()).unwrap();
    assert_ne!(again, pid);
    let count = ask(&runtime, &supervisor, r#"{"Count":null}"#).await.unwrap();
    assert_eq!(count, serde_json::json!({ "specs": 1, "active": 1, "supervisors": 0, "workers": 1 }));

    ask(&runtime, &supervisor, r#"{"StopChild":"c"}"#).await.unwrap();
    ask(&runtime, &supervisor, r#"{"DeleteChild":"c"}"#).await.unwrap();
    assert!(refused(&runtime, &supervisor, r#"{"RestartChild":"c"}"#).await.contains("no child `c`"));
}

#[tokio::test]
async fn v8_a_child_that_cannot_be_started_is_not_kept() {
    let runtime = runtime();
    let supervisor = Supervisor::start(&runtime, SupervisorSpec::new(Strategy::OneForOne)).await.unwrap();
    let supervisor = supervisor.pid().unwrap();
    let unknown = refused(&runtime, &supervisor, r#"{"StartChild":{"id":"x","behaviour":"nonesuch"}}"#).await;
    assert!(unknown.contains("nonesuch"), "{unknown}");
    let nowhere = r#"{"StartChild":{"id":"x","behaviour":"echo","placement":{"node":"b"}}}"#;
    let nowhere = refused(&runtime, &supervisor, nowhere).await;
    assert!(nowhere.contains("node b is not up"), "{nowhere}");
    assert_eq!(ask(&runtime, &supervisor, r#"{"Children":null}"#).await.unwrap(), serde_json::json!([]));
}

#[tokio::test]
async fn a_timer_cannot_be_forged() {
    let runtime = runtime();
    let supervisor = Supervisor::start(&runtime, SupervisorSpec::new(Strategy::OneForOne)).await.unwrap();
    let forged = ask(&runtime, &supervisor.pid().unwrap(), r#"{"Timer":[1]}"#).await;
    assert!(matches!(forged, Err(CallError::Unsupported { .. })), "{forged:?}");
}

#[tokio::test]
async fn v8_a_child_that_was_stopped_is_not_restarted_by_itself() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = SupervisorSpec::new(Strategy::OneForOne).child(journal.worker("a")).child(journal.worker("b"));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    ask(&runtime, &supervisor.pid().unwrap(), r#"{"StopChild":"a"}"#).await.unwrap();
    tell(&runtime, &running(&supervisor, "b").await, Work::Panic).await;
    journal.expect(&["start a", "start b", "stop a", "start b"]).await;
    let info = child(&supervisor, "a").await.unwrap();
    assert_eq!((info.status, info.pid), (ChildStatus::Stopped, None));
}

/// The template `room` of a `simple_one_for_one` supervisor, which starts counters at 5 unless told.
fn rooms(restart: Restart) -> SupervisorSpec {
    let start = rookery_runtime::Start::json("counter".parse().unwrap(), "5");
    let template = ChildSpec::new(id("room"), ChildStart::behaviour(start)).restart(restart);
    SupervisorSpec::new(Strategy::SimpleOneForOne).intensity(10, LONG).child(template)
}

async fn pid_by(runtime: &Runtime, supervisor: &Pid, json: &str) -> Pid {
    serde_json::from_value(ask(runtime, supervisor, json).await.unwrap()).unwrap()
}

#[tokio::test]
async fn v1_dynamic_children_are_made_from_a_template_with_arguments_of_their_own() {
    let runtime = runtime();
    let supervisor = Supervisor::start(&runtime, rooms(Restart::Transient)).await.unwrap();
    let (address, supervisor) = (supervisor.clone(), supervisor.pid().unwrap());
    assert_eq!(ask(&runtime, &supervisor, r#"{"Children":null}"#).await.unwrap(), serde_json::json!([]));
    let plain = pid_by(&runtime, &supervisor, r#"{"StartDynamic":null}"#).await;
    let nine = pid_by(&runtime, &supervisor, r#"{"StartDynamic":9}"#).await;
    assert_eq!(ask(&runtime, &plain, r#"{"Get":null}"#).await.unwrap(), 5);
    assert_eq!(ask(&runtime, &nine, r#"{"Get":null}"#).await.unwrap(), 9);
    let count = ask(&runtime, &supervisor, r#"{"Count":null}"#).await.unwrap();
    assert_eq!(count, serde_json::json!({ "specs": 1, "active": 2, "supervisors": 0, "workers": 2 }));
    // Restarted with the same arguments.
    runtime.exit(&nine, ExitReason::Kill);
    let again = child_when(&address, "room#2", |child| child.pid.as_ref().is_some_and(|pid| *pid != nine)).await;
    assert_eq!(ask(&runtime, &again.pid.clone().unwrap(), r#"{"Get":null}"#).await.unwrap(), 9);
    // What ends for good, or is stopped, leaves nothing.
    let stop = format!(r#"{{"StopPid":"{}"}}"#, again.pid.unwrap());
    ask(&runtime, &supervisor, &stop).await.unwrap();
    assert!(refused(&runtime, &supervisor, &stop).await.contains("no child runs as"));
    assert!(refused(&runtime, &supervisor, r#"{"RestartChild":"room#2"}"#).await.contains("no child `room#2`"));
    runtime.exit(&plain, ExitReason::Shutdown);
    within(async {
        while !children(&address).await.is_empty() {
            tokio::task::yield_now().await
        }
    })
    .await;
    let third = pid_by(&runtime, &supervisor, r#"{"StartDynamic":3}"#).await;
    assert_eq!(child(&address, "room#3").await.unwrap().pid, Some(third), "ids are not used again");
}

#[tokio::test]
async fn v1_dynamic_arguments_join_those_of_the_template() {
    let runtime = runtime();
    let start = |arguments: &str| {
        let start = rookery_runtime::Start::json("echo".parse().unwrap(), arguments);
        SupervisorSpec::new(Strategy::SimpleOneForOne).child(ChildSpec::new(id("t"), ChildStart::behaviour(start)))
    };
    for (template, extra, joined) in [
        ("7", "null", "7"),
        ("7", "8", "8"),
        ("null", r#"{"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1,"b":2}"#, r#"{"b":3}"#, r#"{"a":1,"b":3}"#),
        ("[1]", "[2]", "[1,2]"),
    ] {
        let template = start(template).children.pop().unwrap();
        let child = template.instance(1, serde_json::from_str(extra).unwrap()).unwrap();
        let arguments = crate::supervise::ChildSpecInfo::from(&child).arguments.unwrap();
        assert_eq!(arguments.0, serde_json::from_str::<Value>(joined).unwrap());
    }
    let supervisor = Supervisor::start(&runtime, start("null")).await.unwrap().pid().unwrap();
    let spec = ask(&runtime, &supervisor, r#"{"GetSpec":"t"}"#).await.unwrap();
    assert_eq!((&spec["behaviour"], &spec["arguments"]), (&serde_json::json!("echo"), &Value::Null));
}

#[tokio::test]
async fn v1_dynamic_children_and_others_are_asked_for_differently() {
    let runtime = runtime();
    let dynamic = Supervisor::start(&runtime, rooms(Restart::Permanent)).await.unwrap().pid().unwrap();
    let fixed = Supervisor::start(&runtime, SupervisorSpec::new(Strategy::OneForOne)).await.unwrap().pid().unwrap();
    let start = r#"{"StartChild":{"id":"c","behaviour":"counter"}}"#;
    assert!(refused(&runtime, &dynamic, start).await.contains("StartDynamic"));
    assert!(refused(&runtime, &fixed, r#"{"StartDynamic":1}"#).await.contains("StartChild"));
    let none = SupervisorSpec::new(Strategy::SimpleOneForOne);
    assert_eq!(Supervisor::start(&runtime, none).await.unwrap_err(), SupervisorError::NoTemplate { children: 0 });
}

#[tokio::test]
async fn v8_a_spec_is_told_as_it_was_given() {
    let runtime = runtime();
    let spec = SupervisorSpec::new(Strategy::OneForOne).auto_shutdown(AutoShutdown::AnySignificant);
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap().pid().unwrap();
    let start = r#"{"StartChild":{"id":"s","behaviour":"supervisor","arguments":{"children":[]},"restart":"temporary",
        "significant":true,"placement":{"label":{"zone":"a"}},"name":"tree","cluster_name":"shop","groups":["all"]}}"#;
    // There is no node with that label.
    assert!(refused(&runtime, &supervisor, start).await.contains("zone=a is not up"));
    let start = start.replace(r#"{"label":{"zone":"a"}}"#, r#""spread""#);
    ask(&runtime, &supervisor, &start).await.unwrap();
    let expected = serde_json::json!({
        "id": "s", "behaviour": "supervisor", "arguments": {"children": []}, "name": "tree", "cluster_name": "shop",
        "groups": ["all"], "restart": "temporary",
        "shutdown": "forever", "placement": "spread", "significant": true, "type": "supervisor",
    });
    assert_eq!(ask(&runtime, &supervisor, r#"{"GetSpec":"s"}"#).await.unwrap(), expected);
    let count = ask(&runtime, &supervisor, r#"{"Count":null}"#).await.unwrap();
    assert_eq!(count, serde_json::json!({ "specs": 1, "active": 1, "supervisors": 1, "workers": 0 }));
    let permanent = r#"{"StartChild":{"id":"p","behaviour":"echo","significant":true}}"#;
    assert!(refused(&runtime, &supervisor, permanent).await.contains("transient or temporary"));
}
