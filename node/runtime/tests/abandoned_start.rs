//! A start that its caller gave up: the process that comes of it must not live on, linked with somebody who does not
//! know of it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A test may stop where it fails.

use std::time::Duration;

use rookery_runtime::{
    BehaviourName, Behaviours, Context, ExitReason, Pid, Received, ReplyTo, Runtime, RuntimeConfig, Server, Start,
};
use serde::{Deserialize, Serialize};

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
enum Gate {
    Arrive(ReplyTo<()>),
    Open(ReplyTo<()>),
}

/// Its `init` is done when the gate opens.
struct Slow;

impl Server for Slow {
    type Message = ();
    type Arguments = Pid;

    async fn init(gate: Pid, context: &mut Context<()>) -> Result<Self, ExitReason> {
        context.trap_exits(true);
        let gate = context.runtime().address::<Gate>(&gate);
        gate.call_within(DEADLINE, Gate::Arrive).await.map_err(|error| ExitReason::Error(error.to_string()))?;
        Ok(Self)
    }

    async fn handle(&mut self, (): (), _: &mut Context<()>) -> Result<(), ExitReason> {
        Ok(())
    }
}

#[tokio::test]
async fn a_linked_start_that_was_given_up_leaves_no_process() {
    let behaviours = Behaviours::new().server::<Slow>("slow").unwrap();
    let mut config = RuntimeConfig::new("a.1".parse().unwrap());
    config.behaviours = behaviours;
    let runtime = Runtime::new(config).unwrap();
    let gate = runtime
        .spawn(async |mut ctx: Context<Gate>| {
            let (mut arrived, mut opened) = (None, None);
            while arrived.is_none() || opened.is_none() {
                match ctx.receive().await {
                    Received::Message(Gate::Arrive(reply)) => arrived = Some(reply),
                    Received::Message(Gate::Open(reply)) => opened = Some(reply),
                    Received::Event(_) => {}
                }
            }
            drop(arrived.map(|reply| reply.send(())));
            drop(opened.map(|reply| reply.send(())));
            std::future::pending::<()>().await;
        })
        .unwrap();
    let start = Start::new(BehaviourName::new("slow").unwrap(), &gate.pid().unwrap()).unwrap().link();
    let (tell, told) = tokio::sync::oneshot::channel();
    let parent = runtime.clone();
    runtime
        .spawn(async move |mut ctx: Context<()>| {
            ctx.trap_exits(true);
            let given_up = tokio::time::timeout(Duration::from_millis(20), parent.start(start)).await.is_err();
            tell.send(given_up).unwrap();
            while !matches!(ctx.receive().await, Received::Message(())) {}
        })
        .unwrap();
    assert!(told.await.unwrap(), "the start has to wait for the gate");
    assert_eq!(runtime.process_count(), 3);
    gate.call_within(DEADLINE, Gate::Open).await.unwrap();
    let ended = async {
        while runtime.process_count() > 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ended).await.expect("the process that nobody knows of has to end");
}
