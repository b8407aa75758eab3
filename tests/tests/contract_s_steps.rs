//! Rows S of the contract within one step of a process: what it sends in a row waits on its worker, and goes together.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_runtime::{Context, Event, ExitReason, MessageKind, MessageRoute, Received, Runtime};
use rookery_tests::{Note, Puppet, cluster::mesh, fence, flow::collect, within};
use tokio::sync::oneshot;

/// What waits on a worker is one process's: another one that sends there next, by the same address, is not taken for it.
#[tokio::test(flavor = "multi_thread")]
async fn s1_senders_that_share_an_address_and_a_worker_keep_their_own_order() {
    const SENDERS: u64 = 16;
    const ROUNDS: u64 = 200;
    let nodes = mesh(2, |_| {}).await;
    let (a, b) = (nodes[0].runtime(), nodes[1].runtime());
    let (collector, told) = collect(b, SENDERS as usize, 6 * ROUNDS).await;
    let aside = Puppet::new(b);
    let (to, aside) = (a.address::<Note>(&collector.pid().unwrap()), a.address::<Note>(&aside.pid));
    for sender in 0..SENDERS {
        let (to, aside) = (to.clone(), aside.clone());
        a.spawn(async move |_: Context<Note>| {
            for number in 0..6 * ROUNDS {
                to.send(Note::Number(sender << 32 | number)).await.unwrap();
                match number % 6 {
                    // What waits goes to its lane; the step goes on, or ends, or begins anew.
                    2 => aside.send(Note::Number(number)).await.unwrap(),
                    3 => tokio::task::yield_now().await,
                    _ => {}
                }
            }
        })
        .unwrap();
    }
    assert_eq!(within("all messages", told).await.unwrap(), vec![6 * ROUNDS; SENDERS as usize]);
}

/// What a process has sent goes its way while the process does not come to an `.await` that waits, nor its thread to the network.
#[tokio::test(flavor = "multi_thread")]
async fn s2_what_was_sent_arrives_while_its_sender_keeps_its_thread() {
    let nodes = mesh(2, |_| {}).await;
    let (a, b) = (nodes[0].runtime(), nodes[1].runtime());
    let mut receiver = Puppet::new(b);
    let to = a.address::<Note>(&receiver.pid);
    let (all_there, go_on) = std::sync::mpsc::channel();
    let (first, seen) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    a.spawn(async move |_: Context<Note>| {
        // So many that the receiver's mailbox is known to have no limit.
        for number in 0..100 {
            to.send(Note::Number(number)).await.unwrap();
        }
        seen.await.unwrap();
        for number in 100..110 {
            to.send(Note::Number(number)).await.unwrap();
        }
        tell.send(go_on.recv_timeout(Duration::from_secs(30))).unwrap();
    })
    .unwrap();
    for number in 0..100 {
        assert_eq!(receiver.number().await, number);
    }
    first.send(()).unwrap();
    for number in 100..110 {
        assert_eq!(receiver.number().await, number);
    }
    all_there.send(()).unwrap();
    assert_eq!(within("the sender", told).await.unwrap(), Ok(()), "it was held up until its step ended");
}

/// Messages that `runtime` has sent to other nodes.
fn sent(runtime: &Runtime) -> u64 {
    let counts = runtime.tally().messages;
    counts
        .iter()
        .filter(|(route, kind, _)| (*route, *kind) == (MessageRoute::Sent, MessageKind::Message))
        .map(|(.., count)| count)
        .sum()
}

/// A process that ends in the step in which it has sent: its messages come before its end, however it ends.
#[tokio::test(flavor = "multi_thread")]
async fn s2_nothing_is_lost_of_a_step_that_ends_its_process() {
    let nodes = mesh(2, |_| {}).await;
    let (a, b) = (nodes[0].runtime(), nodes[1].runtime());
    for how in 0..4 {
        let mut receiver = Puppet::new(b);
        let to = receiver.pid.clone();
        let before = sent(a);
        let (go, gate) = oneshot::channel::<()>();
        let sender = a
            .spawn(async move |context: Context<Note>| {
                let to = context.runtime().address::<Note>(&to);
                gate.await.unwrap();
                for number in 0..300 {
                    to.send(Note::Number(number)).await.unwrap();
                }
                match how {
                    0 => {}
                    1 => panic!("after it has sent"),
                    2 => context.exit(context.pid(), ExitReason::Kill),
                    _ => std::future::pending().await,
                }
            })
            .unwrap();
        let pid = sender.pid().unwrap();
        let watched = pid.clone();
        receiver.run(move |context| context.monitor(&watched)).await;
        fence(a, b).await;
        go.send(()).unwrap();
        for number in 0..300 {
            assert_eq!(receiver.number().await, number);
        }
        a.exit(&pid, ExitReason::Shutdown);
        let last = receiver.next().await;
        assert!(matches!(last, Received::Event(Event::Down(_))), "{last:?}");
        assert!(sent(a) >= before + 300, "each is counted");
    }
}
