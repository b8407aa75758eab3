//! Supervisors with real processes. Each test watches from outside: what children tell, what monitors say, what the
//! supervisor answers.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests say what they expect by failing.

mod ending;
mod requests;
mod restarting;

use std::{future::Future, time::Duration};

use rookery_runtime::{Address, Context, Down, Event, ExitReason, Pid, Received, Runtime, RuntimeConfig, SpawnOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{ChildId, ChildInfo, ChildSpec, ChildStart, ChildStatus, SupervisorMessage};

const DEADLINE: Duration = Duration::from_secs(10);

/// Long enough that nothing takes so long by chance.
const LONG: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    let mut config = RuntimeConfig::new("a.1".parse().unwrap());
    config.behaviours = crate::stock::behaviours();
    Runtime::new(config).unwrap()
}

fn id(text: &str) -> ChildId {
    ChildId::new(text).unwrap()
}

/// What a worker is told to do.
#[derive(Serialize, Deserialize)]
enum Work {
    End(ExitReason),
    Panic,
}

/// What children did, in order.
struct Journal {
    write: mpsc::UnboundedSender<String>,
    read: mpsc::UnboundedReceiver<String>,
}

impl Journal {
    fn new() -> Self {
        let (write, read) = mpsc::unbounded_channel();
        Self { write, read }
    }

    async fn next(&mut self) -> String {
        within(self.read.recv()).await.unwrap()
    }

    async fn expect(&mut self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(self.next().await, *expected);
        }
    }

    fn is_empty(&mut self) -> bool {
        self.read.try_recv().is_err()
    }

    /// A child that notes its start, does what it is told, and notes when its supervisor ends it. Its start is done when
    /// it traps exits, as a server's is after `init`.
    fn worker(&self, name: &'static str) -> ChildSpec {
        let write = self.write.clone();
        let start = ChildStart::local(move |runtime, options| {
            let write = write.clone();
            let (ready, started) = tokio::sync::oneshot::channel();
            let child = runtime.spawn_with(options, async move |mut ctx: Context<Work>| {
                ctx.trap_exits(true);
                drop(write.send(format!("start {name}")));
                ready.send(()).unwrap();
                loop {
                    match ctx.receive().await {
                        Received::Message(Work::End(reason)) => return reason,
                        Received::Message(Work::Panic) => panic!("{name} was told to"),
                        Received::Event(Event::Exit { reason, .. }) => {
                            drop(write.send(format!("stop {name}")));
                            return reason;
                        }
                        Received::Event(_) => {}
                    }
                }
            });
            async move {
                drop(started.await);
                Ok(child?.address.pid().unwrap())
            }
        });
        ChildSpec::new(id(name), start)
    }

    /// A child that notes that it was told to end, and does not.
    fn stubborn(&self, name: &'static str) -> ChildSpec {
        let write = self.write.clone();
        let start = ChildStart::process(move |mut ctx: Context<Work>| {
            let write = write.clone();
            async move {
                ctx.trap_exits(true);
                drop(write.send(format!("start {name}")));
                while let Received::Event(event) = ctx.receive().await {
                    if matches!(event, Event::Exit { .. }) {
                        drop(write.send(format!("told {name}")));
                    }
                }
            }
        });
        ChildSpec::new(id(name), start)
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("this has not happened within {DEADLINE:?}"),
    }
}

async fn children(supervisor: &Address<SupervisorMessage>) -> Vec<ChildInfo> {
    supervisor.call(SupervisorMessage::Children).await.unwrap()
}

async fn child(supervisor: &Address<SupervisorMessage>, name: &str) -> Option<ChildInfo> {
    children(supervisor).await.into_iter().find(|child| child.id.as_str() == name)
}

/// Waits until the child is as `wanted` says, and gives it.
async fn child_when(
    supervisor: &Address<SupervisorMessage>,
    name: &str,
    wanted: impl Fn(&ChildInfo) -> bool,
) -> ChildInfo {
    within(async {
        loop {
            match child(supervisor, name).await {
                Some(child) if wanted(&child) => return child,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await
}

async fn running(supervisor: &Address<SupervisorMessage>, name: &str) -> Pid {
    child_when(supervisor, name, |child| child.status == ChildStatus::Running).await.pid.unwrap()
}

async fn tell(runtime: &Runtime, pid: &Pid, work: Work) {
    runtime.address::<Work>(pid).send(work).await.unwrap();
}

/// Watches `pid` from when this is done; what it gives waits for its end, and gives the reason.
async fn down(runtime: &Runtime, pid: &Pid) -> impl Future<Output = ExitReason> + use<> {
    let (watches, watching) = tokio::sync::oneshot::channel();
    let (tell, told) = tokio::sync::oneshot::channel();
    let pid = pid.clone();
    let watcher = runtime.spawn(async move |mut ctx: Context<()>| {
        ctx.monitor(&pid);
        watches.send(()).unwrap();
        loop {
            if let Received::Event(Event::Down(Down { reason, .. })) = ctx.receive().await {
                return drop(tell.send(reason));
            }
        }
    });
    watcher.unwrap();
    within(watching).await.unwrap();
    async move { within(told).await.unwrap() }
}

/// Runs `f` in a process, whose children these are then; gives that process too.
async fn in_process<T, F, Fut>(runtime: &Runtime, f: F) -> (Pid, T)
where
    T: Send + 'static,
    F: FnOnce(Runtime, SpawnOptions) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send + 'static,
{
    let (tell, told) = tokio::sync::oneshot::channel();
    let inner = runtime.clone();
    let parent = runtime.spawn(async move |mut ctx: Context<Work>| {
        ctx.trap_exits(true);
        let options = SpawnOptions::new().link_to(ctx.pid());
        drop(tell.send(f(inner, options).await));
        loop {
            if let Received::Message(Work::End(reason)) = ctx.receive().await {
                return reason;
            }
        }
    });
    (parent.unwrap().pid().unwrap(), within(told).await.unwrap())
}
