//! Rows C2, L3, M1 and A1 of the contract where a client is closed in good order: its processes end with `Shutdown`, and that is what
//! whoever is tied to them hears, wherever he is, and whether the session is the present one or one that rests after a move.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, thread, time::Duration};

use rookery_client::{Client, ClientState};
use rookery_node::Node;
use rookery_runtime::{CallError, Context, Event, ExitReason, Pid, Received, Runtime};
use rookery_tests::{
    Note, Puppet,
    cluster::{client, client_config, mesh},
    eventually, fence, placement, within,
};
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(3600);

/// A value that takes its time to go: between the end of its process and what that has to tell.
struct Lingers;

impl Drop for Lingers {
    fn drop(&mut self) {
        thread::sleep(Duration::from_millis(100));
    }
}

/// A process that answers nobody.
fn silent(runtime: &Runtime) -> Pid {
    let run = async |mut context: Context<Note>| {
        let _lingers = Lingers;
        let mut asked = Vec::new();
        while let Some(note) = context.message().await {
            asked.push(note);
        }
    };
    runtime.spawn(run).unwrap().pid().unwrap()
}

/// Somebody who is linked with a process, monitors it and waits for its answer.
struct Tied {
    at: String,
    puppet: Puppet,
    asked: JoinHandle<Result<u64, CallError>>,
}

impl Tied {
    async fn new(at: &str, runtime: &Runtime, to: &Pid, home: &Runtime) -> Self {
        let puppet = Puppet::trapping(runtime).await;
        let pid = to.clone();
        puppet
            .run(move |context| {
                context.link(&pid);
                context.monitor(&pid);
            })
            .await;
        let before = waiting(home, to);
        let address = runtime.address::<Note>(to);
        let asked = tokio::spawn(async move { address.call_within(LONG, Note::Ask).await });
        eventually("the request has arrived", || waiting(home, to) > before).await;
        fence(runtime, home).await;
        Self { at: at.to_owned(), puppet, asked }
    }

    /// What it is told, each once.
    async fn hears(mut self, of: &Pid, reason: &ExitReason) {
        let mut told = BTreeMap::new();
        for _ in 0..2 {
            match self.puppet.next().await {
                Received::Event(Event::Exit { from, reason, linked: true }) if from == *of => {
                    told.insert("linked", reason);
                }
                Received::Event(Event::Down(down)) if down.pid().as_ref() == Some(of) => {
                    told.insert("monitors", down.reason);
                }
                other => panic!("{}: {other:?}", self.at),
            }
        }
        let expected = BTreeMap::from([("linked", reason.clone()), ("monitors", reason.clone())]);
        assert_eq!(told, expected, "{}", self.at);
        let answer = within("an answer", self.asked).await.unwrap();
        assert_eq!(answer, Err(CallError::Exited(reason.clone())), "{}", self.at);
    }
}

/// How many messages this process has taken or not.
fn waiting(home: &Runtime, pid: &Pid) -> u64 {
    home.processes().iter().find(|info| info.pid == *pid).map_or(0, |info| info.handled + info.mailbox)
}

/// Everywhere that matters: at the client's node, at another one, and in other clients of both.
async fn everywhere(nodes: &[&Node], others: &[&Client], to: &Pid, home: &Runtime) -> Vec<Tied> {
    let mut tied = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        tied.push(Tied::new(&format!("node {number}"), node.runtime(), to, home).await);
    }
    for (number, other) in others.iter().enumerate() {
        tied.push(Tied::new(&format!("client {number}"), &other.runtime(), to, home).await);
    }
    tied
}

#[test]
fn c2_whoever_is_tied_to_a_client_that_is_closed_hears_shutdown() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let closes = client("closes", &[&nodes[0]]).await;
        let others = [client("one", &[&nodes[0]]).await, client("two", &[&nodes[1]]).await];
        let home = closes.runtime();
        eventually("all know the nodes", || {
            others.iter().chain([&closes]).all(|client| client.runtime().nodes().len() == 2)
        })
        .await;
        let process = silent(&home);
        let tied = everywhere(&[&nodes[0], &nodes[1]], &[&others[0], &others[1]], &process, &home).await;
        within("the client closes", closes.close()).await;
        for one in tied {
            one.hears(&process, &ExitReason::Shutdown).await;
        }
        eventually("its session is gone", || nodes[0].clients() == 1).await;
    });
}

#[test]
fn x2_who_does_not_end_with_its_client_is_killed_and_said_to_be() {
    placement::run(async {
        let nodes = mesh(2, |_| ()).await;
        let closes = client("closes", &[&nodes[0]]).await;
        eventually("it knows the nodes", || closes.runtime().nodes().len() == 2).await;
        // It traps exits, and goes on.
        let stays = closes.runtime().spawn(async |mut context: Context<Note>| {
            let _lingers = Lingers;
            context.trap_exits(true);
            loop {
                drop(context.receive().await);
            }
        });
        let stays = stays.unwrap().pid().unwrap();
        let mut watchers = Vec::new();
        for node in &nodes {
            let watcher = Puppet::trapping(node).await;
            let pid = stays.clone();
            watcher.run(move |context| context.link(&pid)).await;
            fence(node, &closes.runtime()).await;
            watchers.push(watcher);
        }
        within("the client closes", closes.close()).await;
        for watcher in &mut watchers {
            assert_eq!(watcher.exit().await, (stays.clone(), ExitReason::Killed, true));
        }
    });
}

#[test]
fn c2_a_process_may_close_its_own_client() {
    placement::run(async {
        let nodes = mesh(1, |_| ()).await;
        let closes = client("closes", &[&nodes[0]]).await;
        eventually("the node knows it", || nodes[0].clients() == 1).await;
        let home = closes.runtime();
        let process = Puppet::new(&home);
        let mut watcher = Puppet::trapping(&nodes[0]).await;
        let pid = process.pid.clone();
        watcher.run(move |context| context.link(&pid)).await;
        fence(&nodes[0], &home).await;
        let mut states = closes.state();
        drop(process.begin(move |_| Box::pin(closes.close())));
        let closed = states.wait_for(|state| matches!(state, ClientState::Closed { .. }));
        assert_eq!(watcher.exit().await, (process.pid.clone(), ExitReason::Shutdown, true));
        drop(within("the client is closed", closed).await);
        eventually("its session is gone", || nodes[0].clients() == 0).await;
    });
}

#[test]
fn c2_the_same_is_heard_of_a_session_that_rests() {
    placement::run(async {
        let mut nodes = mesh(2, |_| ()).await;
        let closes = Client::connect(client_config("closes", &[&nodes[0], &nodes[1]])).await.unwrap();
        let former = closes.runtime();
        assert_eq!(former.node(), nodes[0].runtime().node());
        // One of the node that leaves would hear of that first.
        let other = client("other", &[&nodes[1]]).await;
        eventually("both know the nodes", || {
            [&closes, &other].iter().all(|client| client.runtime().nodes().len() == 2)
        })
        .await;
        let first = silent(&former);
        let tied = everywhere(&[&nodes[0], &nodes[1]], &[&other], &first, &former).await;
        // While it waits for an answer it rests.
        let answers_nobody = silent(nodes[1].runtime());
        let asks = former.address::<Note>(&answers_nobody);
        let asked = tokio::spawn(async move { asks.call_within(LONG, Note::Ask).await });
        eventually("the call is under way", || waiting(&nodes[1], &answers_nobody) == 1).await;
        let mut states = closes.state();
        states.mark_unchanged();
        let leaves = nodes.remove(0);
        let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
        within("the next session", states.changed()).await.unwrap();
        let next = closes.runtime();
        assert_eq!(next.node(), nodes[0].runtime().node());
        // Open at its node, too, so that its processes can be reached.
        assert_eq!(within("an answer", next.whereis(&"nobody".parse().unwrap())).await, Ok(None));
        let second = silent(&next);
        let tied_to_the_next = everywhere(&[&nodes[0]], &[&other], &second, &next).await;
        assert!(former.awaits_answers() && !former.is_closed(), "the former session is there");
        within("the client closes", closes.close()).await;
        for (tied, of) in [(tied, &first), (tied_to_the_next, &second)] {
            for one in tied {
                one.hears(of, &ExitReason::Shutdown).await;
            }
        }
        assert_eq!(within("an answer", asked).await.unwrap(), Err(CallError::NoConnection));
        within("the node leaves", leaving).await.unwrap();
        eventually("its session is gone", || nodes[0].clients() == 1).await;
    });
}

/// What is heard of a process that is ended as its session rests, and whose values take longer to go than that rests at least.
async fn heard_of_one_that_is_ended_as_its_session_rests() -> ExitReason {
    let mut nodes = mesh(2, |_| ()).await;
    let moves = Client::connect(client_config("moves", &[&nodes[0], &nodes[1]])).await.unwrap();
    let former = moves.runtime();
    assert_eq!(former.node(), nodes[0].runtime().node());
    eventually("it knows the nodes", || former.nodes().len() == 2).await;
    let run = async |mut context: Context<Note>| {
        let _lingers = [const { Lingers }; 5];
        while context.message().await.is_some() {}
    };
    let ends = former.spawn(run).unwrap().pid().unwrap();
    let mut watcher = Puppet::trapping(&nodes[1]).await;
    let pid = ends.clone();
    watcher.run(move |context| context.link(&pid)).await;
    fence(&nodes[1], &former).await;
    let mut states = moves.state();
    states.mark_unchanged();
    let leaves = nodes.remove(0);
    let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
    within("the next session", states.changed()).await.unwrap();
    former.exit(&ends, ExitReason::Shutdown);
    let (_, reason, _) = watcher.exit().await;
    within("the node leaves", leaving).await.unwrap();
    reason
}

#[test]
fn c2_a_session_that_rests_waits_for_what_its_last_process_has_to_tell() {
    placement::run(async {
        // It waits a second for that, which a machine may stand still for.
        for _ in 0..5 {
            match heard_of_one_that_is_ended_as_its_session_rests().await {
                ExitReason::Shutdown => return,
                reason => assert_eq!(reason, ExitReason::NoConnection),
            }
        }
        panic!("it never waits");
    });
}
