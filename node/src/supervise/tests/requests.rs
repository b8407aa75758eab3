//! What a supervisor is asked from outside, as people type it (V8).

use rookery_runtime::{CallError, Destination, Payload};
use serde_json::Value;

use super::*;
use crate::supervise::{Strategy, Supervisor, SupervisorSpec};

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
        "id": "c", "pid": pid.to_string(), "node": "a", "status": "running", "restart": "transient", "restarts": 0,
        "last_end": null,
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
    assert_eq!(count, serde_json::json!({ "specs": 1, "running": 1 }));

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
