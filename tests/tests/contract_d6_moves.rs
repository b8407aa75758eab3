//! Row D6 of the contract: what becomes of a process that moves when a connection is lost at the worst moment, and in what order the old
//! one ends. All moments are played in `node/runtime/src/handover/simulation.rs`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rookery_node::{Node, NodeConfig};
use rookery_runtime::{Address, CallError, Context, ExitReason, Group, Handover, NodeId, ReplyTo, Server, Start};
use rookery_tests::{
    cluster::{impatient, mesh, meshed, node_config},
    eventually, placement,
    relay::Relay,
    within,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// Keeps numbers, and hands them over.
struct Ledger(Vec<u64>);

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Add(u64, ReplyTo<()>),
    All(ReplyTo<Vec<u64>>),
    Sleep(u64),
}

/// What a successor cuts before it commits, and whose loss it waits for.
static CUTS: Mutex<Option<(Arc<Relay>, NodeId)>> = Mutex::new(None);

/// Until then an old process hangs in `terminate`; and why it has.
static MAY_END: AtomicBool = AtomicBool::new(false);
static ENDED_WITH: Mutex<Option<ExitReason>> = Mutex::new(None);

impl Server for Ledger {
    type Message = Line;
    /// Whether it hangs in `terminate`.
    type Arguments = bool;

    async fn init(_: bool, _: &mut Context<Line>) -> Result<Self, ExitReason> {
        Ok(Self(Vec::new()))
    }

    async fn handle(&mut self, line: Line, _: &mut Context<Line>) -> Result<(), ExitReason> {
        match line {
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

    async fn take_over(state: Handover, _: bool, context: &mut Context<Line>) -> Result<Self, ExitReason> {
        let cuts = CUTS.lock().unwrap().take();
        if let Some((relay, lost)) = cuts {
            relay.cut();
            while context.runtime().nodes().contains(&lost) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        state.read().map(Self).map_err(ExitReason::Error)
    }

    async fn terminate(&mut self, reason: &ExitReason, context: &mut Context<Line>) {
        if context.runtime().node().name().as_str() == "node-0" {
            while !MAY_END.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            *ENDED_WITH.lock().unwrap() = Some(reason.clone());
        }
    }
}

fn with_ledger(config: &mut NodeConfig) {
    config.behaviours = config.behaviours.clone().server::<Ledger>("ledger").unwrap();
    impatient(&mut config.connections);
}

fn ledger() -> Start {
    Start::new("ledger".parse().unwrap(), &true).unwrap().join("books".parse().unwrap())
}

async fn add(to: &Address<Line>, number: u64) -> Result<(), CallError> {
    to.call(|reply| Line::Add(number, reply)).await
}

/// Three nodes, of which the first two have only a relay between them.
async fn parted() -> (Vec<Node>, Arc<Relay>) {
    let relay = Arc::new(Relay::start().await);
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["near", "far", "third"] {
        let peers = match nodes.as_slice() {
            [] => Vec::new(),
            [near] => {
                relay.lead_to(near.listen_address());
                vec![relay.address()]
            }
            others => others.iter().map(Node::listen_address).collect(),
        };
        let mut config = node_config(name, &peers);
        with_ledger(&mut config);
        nodes.push(Node::start(config).await.unwrap());
        meshed(&nodes.iter().collect::<Vec<_>>()).await;
    }
    (nodes, relay)
}

/// The two have no name in common that would settle it: it is settled by way of the supervisor's node, which reaches both.
#[test]
fn d6_a_connection_that_is_lost_at_the_commit_leaves_one_that_serves() {
    placement::run(async {
        let (nodes, relay) = parted().await;
        let old = nodes[0].start(ledger()).await.unwrap().pid;
        let to_old = nodes[2].address::<Line>(&old);
        add(&to_old, 1).await.unwrap();
        *CUTS.lock().unwrap() = Some((relay, nodes[0].runtime().node().clone()));
        let (tell, told) = oneshot::channel();
        let (runtime, far) = (nodes[2].runtime().clone(), nodes[1].runtime().node().clone());
        let start = ledger().succeed(old.clone()).link();
        nodes[2]
            .spawn(async move |_: Context<()>| {
                drop(tell.send(runtime.start_on(&far, start).await));
                pending::<()>().await;
            })
            .unwrap();
        let outcome = within("the start ends", told).await.unwrap();
        assert!(CUTS.lock().unwrap().is_none(), "the connection was lost before the commit");
        let one = outcome.map_or(old, |started| started.pid);
        let to_one = nodes[2].address::<Line>(&one);
        add(&to_one, 2).await.unwrap();
        assert_eq!(to_one.call(Line::All).await, Ok(vec![1, 2]), "it has all that was acknowledged");
        let group: Group = "books".parse().unwrap();
        eventually("there is one, on each node", || {
            nodes.iter().all(|node| {
                let members = node.groups().into_iter().find(|(known, _)| *known == group).map(|(_, members)| members);
                members == Some(vec![one.clone()])
            })
        })
        .await;
    });
}

#[test]
fn d6_what_waits_is_passed_on_before_the_old_process_ends() {
    placement::run(async {
        let nodes = mesh(2, with_ledger).await;
        let old = nodes[0].start(ledger()).await.unwrap().pid;
        let to_old = nodes[1].address::<Line>(&old);
        add(&to_old, 1).await.unwrap();
        // Behind this it waits in the old one's mailbox.
        to_old.send(Line::Sleep(200)).await.unwrap();
        let waits = {
            let to_old = to_old.clone();
            tokio::spawn(async move { add(&to_old, 2).await })
        };
        let moved = nodes[0].start_on(nodes[1].runtime().node(), ledger().succeed(old));
        let new = within("the successor", moved).await.unwrap().pid;
        assert_eq!(within("an answer", waits).await.unwrap(), Ok(()));
        assert!(ENDED_WITH.lock().unwrap().is_none(), "it was answered while the old one ends");
        MAY_END.store(true, Ordering::Relaxed);
        eventually("the old one is told why", || {
            let expected = ExitReason::ShutdownWith(format!("handed over to {new}"));
            ENDED_WITH.lock().unwrap().as_ref() == Some(&expected)
        })
        .await;
        add(&to_old, 3).await.unwrap();
        assert_eq!(nodes[0].address::<Line>(&new).call(Line::All).await, Ok(vec![1, 2, 3]));
    });
}
