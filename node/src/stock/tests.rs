//! The stock behaviours as a person meets them: started by name with JSON, called with JSON.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

use std::time::Duration;

use rookery_runtime::{
    BehaviourName, CallError, Context, Destination, Payload, Pid, Received, RequestError, Runtime, RuntimeConfig, Start,
};
use tokio::sync::mpsc;

use super::{TopicMessage, behaviours, limits::MAX_TEXT_BYTES};

const DEADLINE: Duration = Duration::from_secs(10);

fn runtime() -> Runtime {
    let mut config = RuntimeConfig::new("a.1".parse().unwrap());
    config.behaviours = behaviours();
    Runtime::new(config).unwrap()
}

async fn start(runtime: &Runtime, behaviour: &str, arguments: &str) -> Result<Pid, RequestError> {
    let start = Start::json(BehaviourName::new(behaviour).unwrap(), arguments);
    runtime.start(start).await.map(|started| started.pid)
}

async fn try_call(runtime: &Runtime, pid: &Pid, json: &str) -> Result<String, CallError> {
    let to: Destination = pid.into();
    let answer = runtime.call_payload(&to, Payload::json(json), DEADLINE).await?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

async fn call(runtime: &Runtime, pid: &Pid, json: &str) -> String {
    try_call(runtime, pid, json).await.unwrap()
}

#[tokio::test]
async fn all_are_there_and_take_null() {
    let names: Vec<String> = behaviours().names().map(ToString::to_string).collect();
    assert_eq!(names, ["counter", "echo", "kv", "supervisor", "topic"]);
    let runtime = runtime();
    for name in names {
        start(&runtime, &name, "null").await.unwrap();
    }
    assert!(matches!(start(&runtime, "counter", "\"x\"").await, Err(RequestError::BadArguments { .. })));
}

#[tokio::test]
async fn echo_gives_back_what_is_typed() {
    let runtime = runtime();
    let echo = start(&runtime, "echo", "null").await.unwrap();
    for value in [r#""hi""#, "7", "null", r#"{"a":[1,null,"ä"]}"#] {
        assert_eq!(call(&runtime, &echo, &format!(r#"{{"Echo":{value}}}"#)).await, value);
    }
}

#[tokio::test]
async fn an_echo_hands_a_question_on_to_another() {
    let runtime = runtime();
    let near = start(&runtime, "echo", "null").await.unwrap();
    let far = start(&runtime, "echo", "null").await.unwrap();
    let via = format!(r#"{{"Via":{{"echo":"{far}","value":"hi"}}}}"#);
    assert_eq!(call(&runtime, &near, &via).await, r#""hi""#);
    runtime.exit(&far, rookery_runtime::ExitReason::Kill);
    assert_eq!(try_call(&runtime, &near, &via).await, Err(CallError::NoProc));
}

#[tokio::test]
async fn echo_and_kv_take_typed_calls() {
    use super::{Echo, Entry, Kv};
    use crate::{ask::Ask, json::Json};
    let runtime = runtime();
    let echo = start(&runtime, "echo", "null").await.unwrap();
    let echoed = runtime.address::<Echo>(&echo).call(|reply| Echo::Echo(Ask::new(Json::from("hi"), reply))).await;
    assert_eq!(echoed, Ok(Json::from("hi")));
    let kv = runtime.address::<Kv>(&start(&runtime, "kv", "null").await.unwrap());
    let entry = Entry { key: "a".to_owned(), value: Json::from(1) };
    kv.call(|reply| Kv::Put(Ask::new(entry, reply))).await.unwrap();
    assert_eq!(kv.call(|reply| Kv::Get(Ask::new("a".to_owned(), reply))).await, Ok(Some(Json::from(1))));
}

#[tokio::test]
async fn counter_counts_as_typed() {
    let runtime = runtime();
    let counter = start(&runtime, "counter", "7").await.unwrap();
    assert_eq!(call(&runtime, &counter, r#"{"Add":5}"#).await, "null");
    assert_eq!(call(&runtime, &counter, r#"{"Get":null}"#).await, "12");
    assert_eq!(call(&runtime, &counter, &format!(r#"{{"Add":{}}}"#, i64::MAX)).await, "null");
    assert_eq!(call(&runtime, &counter, r#"{"Get":null}"#).await, i64::MAX.to_string());
    for reset in [r#"{"Reset":null}"#, r#""Reset""#] {
        assert_eq!(call(&runtime, &counter, reset).await, "null");
        assert_eq!(call(&runtime, &counter, r#"{"Get":null}"#).await, "7");
    }
    assert!(matches!(try_call(&runtime, &counter, r#"{"Put":1}"#).await, Err(CallError::Unsupported { .. })));
    assert_eq!(call(&runtime, &counter, r#"{"Get":null}"#).await, "7", "it goes on");
}

#[tokio::test]
async fn kv_keeps_gives_and_deletes() {
    let runtime = runtime();
    let kv = start(&runtime, "kv", "null").await.unwrap();
    assert_eq!(call(&runtime, &kv, r#"{"Get":"a"}"#).await, "null");
    assert_eq!(call(&runtime, &kv, r#"{"Put":{"key":"b","value":{"x":[1]}}}"#).await, "null");
    assert_eq!(call(&runtime, &kv, r#"{"Put":{"key":"a","value":1}}"#).await, "null");
    assert_eq!(call(&runtime, &kv, r#"{"Get":"b"}"#).await, r#"{"x":[1]}"#);
    assert_eq!(call(&runtime, &kv, r#"{"Keys":null}"#).await, r#"["a","b"]"#);
    assert_eq!(call(&runtime, &kv, r#"{"Delete":"a"}"#).await, "true");
    assert_eq!(call(&runtime, &kv, r#"{"Delete":"a"}"#).await, "false");
    let key = "k".repeat(2_000);
    let refused = try_call(&runtime, &kv, &format!(r#"{{"Put":{{"key":"{key}","value":1}}}}"#)).await;
    assert!(matches!(&refused, Err(CallError::Refused(why)) if why.contains("1024")), "{refused:?}");
}

fn subscriber(runtime: &Runtime) -> (Pid, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel(16);
    let subscriber = runtime.spawn(async move |mut ctx: Context<TopicMessage>| {
        while let Received::Message(message) = ctx.receive().await {
            if tell.send(message.text).await.is_err() {
                break;
            }
        }
    });
    (subscriber.unwrap().pid().unwrap(), told)
}

#[tokio::test]
async fn topic_reaches_its_subscribers_in_order() {
    let runtime = runtime();
    let topic = start(&runtime, "topic", "null").await.unwrap();
    let (a, mut told_a) = subscriber(&runtime);
    let (b, mut told_b) = subscriber(&runtime);
    for pid in [&a, &b, &a] {
        assert_eq!(call(&runtime, &topic, &format!(r#"{{"Subscribe":"{pid}"}}"#)).await, "null");
    }
    assert_eq!(call(&runtime, &topic, r#"{"Count":null}"#).await, "2", "twice is once");
    assert_eq!(call(&runtime, &topic, r#"{"Publish":"one"}"#).await, "2");
    assert_eq!(call(&runtime, &topic, &format!(r#"{{"Unsubscribe":"{b}"}}"#)).await, "null");
    assert_eq!(call(&runtime, &topic, r#"{"Publish":"two"}"#).await, "1");
    assert_eq!((told_a.recv().await.unwrap(), told_a.recv().await.unwrap()), ("one".to_owned(), "two".to_owned()));
    assert_eq!(told_b.recv().await.unwrap(), "one");
    let long = format!(r#"{{"Publish":"{}"}}"#, "x".repeat(MAX_TEXT_BYTES + 1));
    assert!(matches!(try_call(&runtime, &topic, &long).await, Err(CallError::Refused(_))));
}

#[tokio::test]
async fn topic_drops_subscribers_that_end() {
    let runtime = runtime();
    let topic = start(&runtime, "topic", "null").await.unwrap();
    let (living, _told) = subscriber(&runtime);
    let (ending, _told) = subscriber(&runtime);
    for pid in [&living, &ending] {
        call(&runtime, &topic, &format!(r#"{{"Subscribe":"{pid}"}}"#)).await;
    }
    runtime.exit(&ending, rookery_runtime::ExitReason::Kill);
    let gone = async {
        while call(&runtime, &topic, r#"{"Count":null}"#).await != "1" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    assert_eq!(call(&runtime, &topic, r#"{"Publish":"still"}"#).await, "1");
}

#[tokio::test]
async fn topic_is_not_held_up_by_a_full_subscriber() {
    let runtime = runtime();
    let topic = start(&runtime, "topic", "null").await.unwrap();
    let options = rookery_runtime::SpawnOptions::new().mailbox(1);
    let deaf = runtime.spawn_with(options, async |_ctx: Context<TopicMessage>| std::future::pending::<()>().await);
    let deaf = deaf.unwrap().address.pid().unwrap();
    let (living, mut told) = subscriber(&runtime);
    for pid in [&deaf, &living] {
        call(&runtime, &topic, &format!(r#"{{"Subscribe":"{pid}"}}"#)).await;
    }
    assert_eq!(call(&runtime, &topic, r#"{"Publish":"one"}"#).await, "2");
    assert_eq!(call(&runtime, &topic, r#"{"Publish":"two"}"#).await, "1", "one of them has no room");
    assert_eq!((told.recv().await.unwrap(), told.recv().await.unwrap()), ("one".to_owned(), "two".to_owned()));
}
