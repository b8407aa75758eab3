//! Row D6 of the contract, as clients see it: one whose node is about to leave goes to another node, and what it has asked is
//! answered before its session ends.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rookery_client::{Client, ClientState};
use rookery_node::Node;
use rookery_runtime::{Address, CallError, Context, ExitReason, ProcessName, ReplyTo, Runtime, SpawnOptions};
use rookery_tests::{
    cluster::{client_config, impatient, mesh},
    eventually, placement, watch, within,
};
use serde::{Deserialize, Serialize};

/// Long enough for every pause that a machine makes.
const LONG: Duration = Duration::from_secs(60);

/// Answers when it is told to.
#[derive(Serialize, Deserialize)]
enum Slow {
    Ask(ReplyTo<u64>),
    Answer,
}

/// Such a process, and how often it was asked.
fn slow(node: &Node) -> (Address<Slow>, Arc<AtomicUsize>) {
    let counted = Arc::new(AtomicUsize::new(0));
    let count = counted.clone();
    let run = async move |mut context: Context<Slow>| {
        let mut asked = Vec::new();
        while let Some(message) = context.message().await {
            match message {
                Slow::Ask(reply) => asked.push(reply),
                Slow::Answer => asked.drain(..).for_each(|reply| reply.answer(7)),
            }
            count.store(asked.len(), Ordering::Relaxed);
        }
    };
    (node.spawn(run).unwrap(), counted)
}

/// Two nodes, and a client of the first one that knows both.
async fn stage() -> (Node, Node, Client) {
    let mut nodes = mesh(2, |config| impatient(&mut config.connections)).await;
    let client = within("a client", Client::connect(client_config("eve", &[&nodes[0], &nodes[1]]))).await.unwrap();
    assert_eq!(client.runtime().node(), nodes[0].runtime().node());
    let stays = nodes.remove(1);
    (nodes.remove(0), stays, client)
}

#[test]
fn d6_a_client_gets_its_answers_before_it_goes_and_asks_by_its_next_node() {
    placement::run(async {
        let (leaves, stays, client) = stage().await;
        let (slow, asked_so_far) = slow(&stays);
        let (left, former) = (leaves.runtime().node().clone(), client.runtime());
        let by_former = former.address::<Slow>(slow.pid().unwrap());
        let mut states = client.state();
        states.mark_unchanged();
        let asked = {
            let by_former = by_former.clone();
            tokio::spawn(async move { by_former.call_within(LONG, Slow::Ask).await })
        };
        eventually("the call is under way", || asked_so_far.load(Ordering::Relaxed) == 1).await;
        let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
        within("the next session", states.changed()).await.unwrap();
        // It was never without a node.
        let now = states.borrow_and_update().clone();
        let ClientState::Connected(runtime) = now else { panic!("{now:?}") };
        assert_eq!(runtime.node(), stays.runtime().node());
        assert_eq!(client.runtime().node(), stays.runtime().node());
        // New calls go by the new node, while the old one waits for its client.
        let by_new = runtime.address::<Slow>(slow.pid().unwrap());
        let asked_later = tokio::spawn(async move { by_new.call_within(LONG, Slow::Ask).await });
        eventually("both are under way", || asked_so_far.load(Ordering::Relaxed) == 2).await;
        assert!(!leaving.is_finished() && former.awaits_answers());
        slow.send(Slow::Answer).await.unwrap();
        assert_eq!(within("an answer by the former session", asked).await.unwrap(), Ok(7));
        assert_eq!(within("an answer by the new one", asked_later).await.unwrap(), Ok(7));
        within("the node leaves", leaving).await.unwrap();
        // It has ended in good order, and is over.
        eventually("the former session has ended", || former.is_closed()).await;
        assert_eq!(within("an answer", by_former.call(Slow::Ask)).await, Err(CallError::NoConnection));
        assert!(!stays.nodes().contains(&left));
        client.close().await;
    });
}

/// What a client serves under a name of the cluster it serves again by its next session, while the former one still answers.
#[test]
fn d6_a_client_s_names_are_free_for_its_next_session() {
    placement::run(async {
        let (leaves, stays, client) = stage().await;
        let (name, former) = (ProcessName::new("till").unwrap(), client.runtime());
        let serve = |runtime: &Runtime| {
            runtime.spawn(async |mut context: Context<Slow>| while context.message().await.is_some() {})
        };
        let process = serve(&former).unwrap().pid().unwrap();
        within("the name", former.register_in_cluster(&name, &process)).await.unwrap();
        let (slow, asked_so_far) = slow(&stays);
        let by_former = former.address::<Slow>(slow.pid().unwrap());
        // So that the former session stays.
        let asked = tokio::spawn(async move { by_former.call_within(LONG, Slow::Ask).await });
        eventually("the call is under way", || asked_so_far.load(Ordering::Relaxed) == 1).await;
        let mut states = client.state();
        states.mark_unchanged();
        let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
        within("the next session", states.changed()).await.unwrap();
        let next = client.runtime();
        let process = serve(&next).unwrap().pid().unwrap();
        let again = async { while next.register_in_cluster(&name, &process).await.is_err() {} };
        within("the name, again", again).await;
        assert!(!leaving.is_finished() && former.awaits_answers(), "the former session is there");
        slow.send(Slow::Answer).await.unwrap();
        assert_eq!(within("an answer by the former session", asked).await.unwrap(), Ok(7));
        within("the node leaves", leaving).await.unwrap();
        client.close().await;
    });
}

/// The processes of a session end with it; until then they are there for who asks them.
#[test]
fn d6_a_client_s_processes_have_time_to_answer_before_their_node_leaves() {
    placement::run(async {
        let (leaves, stays, client) = stage().await;
        let counted = Arc::new(AtomicUsize::new(0));
        let count = counted.clone();
        let run = async move |mut context: Context<Slow>| {
            while let Some(message) = context.message().await {
                if let Slow::Ask(reply) = message {
                    count.store(1, Ordering::Relaxed);
                    // Until its node is about to leave, and a moment longer.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    reply.answer(8);
                }
            }
        };
        let served = client.runtime().spawn_with(SpawnOptions::new(), run).unwrap().pid;
        let gone = watch(&stays, &served).await;
        let asks = stays.address::<Slow>(&served);
        let asked = tokio::spawn(async move { asks.call_within(LONG, Slow::Ask).await });
        eventually("it is asked", || counted.load(Ordering::Relaxed) == 1).await;
        within("the node leaves", leaves.shut_down("enough")).await;
        assert_eq!(within("an answer", asked).await.unwrap(), Ok(8));
        assert_eq!(within("the process ends", gone.reason()).await, ExitReason::NoConnection);
        assert_eq!(client.runtime().node(), stays.runtime().node());
        client.close().await;
    });
}

/// A client that finds no other node keeps its session until the node leaves, which does not wait for it for long.
#[test]
fn d6_a_client_that_knows_no_other_node_is_served_to_the_end() {
    placement::run(async {
        let mut nodes = mesh(2, |config| impatient(&mut config.connections)).await;
        let client = within("a client", Client::connect(client_config("eve", &[&nodes[0]]))).await.unwrap();
        let (slow, asked_so_far) = slow(&nodes[1]);
        let leaves = nodes.remove(0);
        let by_it = client.runtime().address::<Slow>(slow.pid().unwrap());
        let asked = tokio::spawn(async move { by_it.call_within(LONG, Slow::Ask).await });
        eventually("the call is under way", || asked_so_far.load(Ordering::Relaxed) == 1).await;
        let runtime = leaves.runtime().clone();
        let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
        eventually("it drains", || runtime.is_draining()).await;
        slow.send(Slow::Answer).await.unwrap();
        assert_eq!(within("an answer", asked).await.unwrap(), Ok(7));
        within("the node leaves", leaving).await.unwrap();
        eventually("the client has no node", || matches!(*client.state().borrow(), ClientState::Connecting { .. }))
            .await;
    });
}

/// Nobody has asked for the next session before it was lost, and the former one still waits for its answer.
#[test]
fn d6_a_session_that_rests_is_not_given_when_the_next_one_is_lost() {
    placement::run(async {
        let mut nodes = mesh(3, |config| impatient(&mut config.connections)).await;
        let client = within("a client", Client::connect(client_config("eve", &[&nodes[0], &nodes[1]]))).await.unwrap();
        let former = client.runtime();
        assert_eq!(former.node(), nodes[0].runtime().node());
        let (slow, asked_so_far) = slow(&nodes[2]);
        let by_former = former.address::<Slow>(slow.pid().unwrap());
        let asked = tokio::spawn(async move { by_former.call_within(LONG, Slow::Ask).await });
        eventually("the call is under way", || asked_so_far.load(Ordering::Relaxed) == 1).await;
        let mut states = client.state();
        states.mark_unchanged();
        let (next, leaves) = (nodes.remove(1), nodes.remove(0));
        let leaving = tokio::spawn(async move { leaves.shut_down("enough").await });
        within("the next session", states.changed()).await.unwrap();
        assert!(matches!(&*states.borrow_and_update(), ClientState::Connected(_)));
        // As a crash.
        let lost = next.runtime().node().clone();
        drop(next);
        let is_lost = states.wait_for(|state| !matches!(state, ClientState::Connected(_)));
        drop(within("the loss", is_lost).await.unwrap());
        let (given, former_stands) = (client.runtime(), !former.is_closed() && former.awaits_answers());
        assert_eq!((given.node(), given.is_closed()), (&lost, true));
        let by_given = given.address::<Slow>(slow.pid().unwrap());
        assert_eq!(within("an answer", by_given.call(Slow::Ask)).await, Err(CallError::NoConnection));
        assert!(former_stands, "too slow to show anything: the former session has ended");
        slow.send(Slow::Answer).await.unwrap();
        assert_eq!(within("an answer by the former session", asked).await.unwrap(), Ok(7));
        within("the node leaves", leaving).await.unwrap();
        client.close().await;
    });
}
