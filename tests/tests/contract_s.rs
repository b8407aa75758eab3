//! Rows S of the contract: sending. Order per pair whatever the kind of signal and however the receiver is addressed; at
//! most once; dead letters; messages that are not understood.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_runtime::{
    CallError, Codec, Context, Destination, Event, ExitReason, Payload, ProcessName, Received, ReplyTo, Runtime, Tag,
    protocol::Recipient,
};
use rookery_tests::{Note, Puppet, cluster::MAX_MESSAGE_BYTES, eventually, fence, flow::collect, watch, within};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

rookery_tests::contract! {
    everywhere {
        s1_messages_keep_their_order_by_pid_and_by_name,
        s1_messages_links_and_exits_keep_their_order,
        s1_what_a_process_sent_comes_before_its_end,
        s1_a_link_that_is_made_before_a_message_is_there_before_it,
        s1_typed_and_typed_by_hand_messages_keep_their_order,
        s1_bursts_and_all_else_of_one_step_keep_their_order,
        s2_many_senders_lose_and_double_nothing,
        s3_sending_to_the_dead_is_no_error_but_counted,
        s3_a_call_to_the_dead_or_to_nobody_answers_at_once,
        s8_a_tag_that_is_not_known_is_answered_and_harms_nobody,
        s8_what_cannot_be_decoded_is_answered_and_harms_nobody,
        s8_one_of_many_that_is_not_understood_costs_no_other,
        s8_a_name_finds_its_holder_at_each_send,
    }
    apart {
        s1_a_call_that_fails_comes_behind_what_was_sent,
    }
    together {
        s2_a_storm_of_threads_loses_and_doubles_nothing,
    }
}

const LONG: Duration = Duration::from_secs(3600);

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

async fn give_name(puppet: &Puppet, text: &str) {
    let name = name(text);
    puppet.run_async(move |context| Box::pin(async move { context.register(&name).await })).await.unwrap();
}

async fn s1_messages_keep_their_order_by_pid_and_by_name(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver) = (Puppet::new(a), Puppet::new(b));
    give_name(&receiver, "reader").await;
    let by_pid = a.address::<Note>(&receiver.pid);
    let by_name = a.address::<Note>(Destination::name(b.node().clone(), name("reader")));
    sender
        .run_async(move |_| {
            Box::pin(async move {
                for number in 0..2_000_u64 {
                    // Neither every other one nor in blocks: all changes between the two ways occur.
                    let way = if number % 7 < 3 { &by_pid } else { &by_name };
                    way.send(Note::Number(number)).await.unwrap();
                }
            })
        })
        .await;
    for number in 0..2_000 {
        assert_eq!(receiver.number().await, number);
    }
}

async fn s1_messages_links_and_exits_keep_their_order(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver) = (Puppet::new(a), Puppet::trapping(b).await);
    give_name(&receiver, "reader").await;
    let to = receiver.pid.clone();
    let by_name = a.address::<Note>(Destination::name(b.node().clone(), name("reader")));
    sender
        .run_async(move |context| {
            Box::pin(async move {
                let by_pid = context.runtime().address::<Note>(&to);
                for number in 0..100_u64 {
                    by_pid.send(Note::Number(2 * number)).await.unwrap();
                    context.exit(&to, ExitReason::Error(number.to_string()));
                    by_name.send(Note::Number(2 * number + 1)).await.unwrap();
                    context.exit(&to, ExitReason::Shutdown);
                }
            })
        })
        .await;
    for number in 0..100 {
        assert_eq!(receiver.number().await, 2 * number);
        let expected = (sender.pid.clone(), ExitReason::Error(number.to_string()), false);
        assert_eq!(receiver.exit().await, expected);
        assert_eq!(receiver.number().await, 2 * number + 1);
        assert_eq!(receiver.exit().await.1, ExitReason::Shutdown);
    }
}

async fn s1_what_a_process_sent_comes_before_its_end(a: &Runtime, b: &Runtime) {
    for _ in 0..20 {
        let mut near = Puppet::trapping(a).await;
        give_name(&near, "near").await;
        let (by_pid, node) = (near.pid.clone(), a.node().clone());
        let (go, gate) = oneshot::channel::<()>();
        let far = b
            .spawn(async move |context: Context<Note>| {
                gate.await.unwrap();
                let by_name = context.runtime().address::<Note>(Destination::name(node, name("near")));
                let by_pid = context.runtime().address::<Note>(&by_pid);
                for number in 0..50 {
                    let way = if number % 3 == 0 { &by_pid } else { &by_name };
                    way.send(Note::Number(number)).await.unwrap();
                }
            })
            .unwrap();
        let far = far.pid().unwrap();
        near.run(move |context| {
            context.monitor(&far);
            context.link(&far);
        })
        .await;
        fence(a, b).await;
        go.send(()).unwrap();
        for number in 0..50 {
            assert_eq!(near.number().await, number);
        }
        let last = [near.next().await, near.next().await];
        assert!(last.iter().any(|one| matches!(one, Received::Event(Event::Down(_)))), "{last:?}");
        assert!(last.iter().any(|one| matches!(one, Received::Event(Event::Exit { linked: true, .. }))), "{last:?}");
        near.end(ExitReason::Normal);
        drop(a.unregister(&name("near"), &near.pid).await);
    }
}

async fn s1_a_link_that_is_made_before_a_message_is_there_before_it(a: &Runtime, b: &Runtime) {
    for _ in 0..20 {
        let near = Puppet::trapping(a).await;
        let mut far = Puppet::trapping(b).await;
        let to = far.pid.clone();
        near.run_async(move |context| {
            Box::pin(async move {
                context.link(&to);
                let to = context.runtime().address::<Note>(&to);
                to.send(Note::Number(1)).await.unwrap();
            })
        })
        .await;
        near.end(ExitReason::Shutdown);
        assert_eq!(far.number().await, 1);
        assert_eq!(far.exit().await, (near.pid.clone(), ExitReason::Shutdown, true));
    }
}

async fn s1_typed_and_typed_by_hand_messages_keep_their_order(a: &Runtime, b: &Runtime) {
    let (sender, mut receiver) = (Puppet::new(a), Puppet::new(b));
    let to = receiver.pid.clone();
    sender
        .run_async(move |context| {
            Box::pin(async move {
                let runtime = context.runtime().clone();
                let typed = runtime.address::<Note>(&to);
                for number in 0..300_u64 {
                    if number % 5 < 2 {
                        typed.send(Note::Number(number)).await.unwrap();
                    } else {
                        // Spaces make some of them so long that they are decoded by the receiver.
                        let space = " ".repeat(if number % 5 == 3 { 2_000 } else { 0 });
                        let json = Payload::json(format!("{{\"Number\":{space}{number}}}"));
                        runtime.send_payload(&(&to).into(), json).await.unwrap();
                    }
                }
            })
        })
        .await;
    for number in 0..300 {
        assert_eq!(receiver.number().await, number);
    }
}

/// Many messages in a row share a frame, and wait for each other until something else is sent: of any kind, to anybody.
async fn s1_bursts_and_all_else_of_one_step_keep_their_order(a: &Runtime, b: &Runtime) {
    let sender = Puppet::new(a);
    let (mut receiver, mut other) = (Puppet::trapping(b).await, Puppet::new(b));
    let (to, aside) = (receiver.pid.clone(), other.pid.clone());
    let bursts = [1, 2, 3, 255, 256, 257, 258, 600, 2];
    sender
        .run_async(move |context| {
            Box::pin(async move {
                let runtime = context.runtime().clone();
                let (first, aside) = (runtime.address::<Note>(&to), runtime.address::<Note>(&aside));
                // The same process by another address.
                let second = runtime.address::<Note>(&to);
                let mut number = 0;
                for (round, burst) in bursts.into_iter().cycle().take(90).enumerate() {
                    for _ in 0..burst {
                        first.send(Note::Number(number)).await.unwrap();
                        number += 1;
                    }
                    match round % 5 {
                        0 => context.exit(&to, ExitReason::Error(number.to_string())),
                        1 => aside.send(Note::Number(number)).await.unwrap(),
                        2 => second.send(Note::Text("x".repeat(1_500))).await.unwrap(),
                        3 => second.send(Note::Text("x".repeat(100_000))).await.unwrap(),
                        _ => tokio::task::yield_now().await,
                    }
                }
            })
        })
        .await;
    let mut number = 0;
    for (round, burst) in bursts.into_iter().cycle().take(90).enumerate() {
        for _ in 0..burst {
            assert_eq!(receiver.number().await, number, "in round {round}");
            number += 1;
        }
        match round % 5 {
            0 => assert_eq!(receiver.exit().await.1, ExitReason::Error(number.to_string())),
            1 => assert_eq!(other.number().await, number),
            2 | 3 => {
                let length = if round % 5 == 2 { 1_500 } else { 100_000 };
                let next = receiver.next().await;
                assert!(
                    matches!(&next, Received::Message(Note::Text(text)) if text.len() == length),
                    "in round {round}"
                );
            }
            _ => {}
        }
    }
}

async fn s2_many_senders_lose_and_double_nothing(a: &Runtime, b: &Runtime) {
    let (collector, told) = collect(b, 20, 500).await;
    let pid = collector.pid().unwrap();
    let end = watch(b, &pid).await;
    for sender in 0..20_u64 {
        let to = a.address::<Note>(&pid);
        a.spawn(async move |_: Context<Note>| {
            for number in 0..500 {
                to.send(Note::Number(sender << 32 | number)).await.unwrap();
            }
        })
        .unwrap();
    }
    assert_eq!(within("all messages", told).await.unwrap(), [500; 20]);
    fence(a, b).await;
    b.exit(&pid, ExitReason::Shutdown);
    assert_eq!(end.reason().await, ExitReason::Shutdown);
}

/// The mailbox under threads that are no tasks: they push while the receiver takes, sleeps and wakes.
async fn s2_a_storm_of_threads_loses_and_doubles_nothing(a: &Runtime, _: &Runtime) {
    for _ in 0..5 {
        let (collector, told) = collect(a, 8, 5_000).await;
        let end = watch(a, &collector.pid().unwrap()).await;
        let threads: Vec<_> = (0..8_u64)
            .map(|sender| {
                let to = collector.clone();
                std::thread::spawn(move || {
                    for number in 0..5_000 {
                        to.try_send(Note::Number(sender << 32 | number)).unwrap();
                        if number % 97 == sender {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        assert_eq!(within("all messages", told).await.unwrap(), [5_000; 8]);
        for thread in threads {
            thread.join().unwrap();
        }
        a.exit(&collector.pid().unwrap(), ExitReason::Shutdown);
        assert_eq!(end.reason().await, ExitReason::Shutdown);
    }
}

async fn s3_sending_to_the_dead_is_no_error_but_counted(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    let kept = a.address::<Note>(&far.pid);
    let end = watch(b, &far.pid).await;
    far.end(ExitReason::Normal);
    end.reason().await;
    let letters = || a.dead_letters() + if a.own_pid() == b.own_pid() { 0 } else { b.dead_letters() };
    let before = letters();
    for _ in 0..3 {
        near.send(&far.pid, Note::Number(1)).await;
    }
    kept.send(Note::Number(2)).await.unwrap();
    kept.try_send(Note::Number(3)).unwrap();
    a.send_payload(&(&far.pid).into(), Payload::json("{\"Number\":4}")).await.unwrap();
    eventually("all six are counted", || letters() == before + 6).await;

    let nobody = a.address::<Note>(Destination::name(b.node().clone(), name("nobody")));
    nobody.send(Note::Number(5)).await.unwrap();
    assert_eq!(near.run(|_| 1).await, 1, "the sender goes on");
}

async fn s3_a_call_to_the_dead_or_to_nobody_answers_at_once(a: &Runtime, b: &Runtime) {
    let far = Puppet::new(b);
    let kept = a.address::<Note>(&far.pid);
    let end = watch(b, &far.pid).await;
    far.end(ExitReason::Normal);
    end.reason().await;
    let long = Duration::from_secs(3600);
    let nobody = Destination::name(b.node().clone(), name("nobody"));
    let start = Instant::now();
    assert_eq!(within("an answer", kept.call_within(long, Note::Ask)).await, Err(CallError::NoProc));
    for to in [Destination::from(&far.pid), nobody] {
        let typed = a.address::<Note>(to.clone());
        assert_eq!(within("an answer", typed.call_within(long, Note::Ask)).await, Err(CallError::NoProc));
        let raw = within("an answer", a.call_payload(&to, Payload::json("{\"Ask\":null}"), long)).await;
        assert_eq!(raw, Err(CallError::NoProc));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "at once is not {:?}", start.elapsed());
}

#[derive(Debug, Serialize, Deserialize)]
enum Stranger {
    Hello(u64),
    Ask(ReplyTo<u64>),
}

/// The same name as [`Note`], and other content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Note")]
enum FalseFriend {
    Number(u64),
    #[serde(rename = "Lost")]
    Unknown {
        a: Vec<String>,
        b: u8,
        c: ReplyTo<u64>,
    },
}

async fn s8_a_tag_that_is_not_known_is_answered_and_harms_nobody(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    give_name(&far, "reader").await;
    let by_name = Destination::name(b.node().clone(), name("reader"));
    for to in [Destination::from(&far.pid), by_name] {
        let stranger = a.address::<Stranger>(to.clone());
        stranger.send(Stranger::Hello(1)).await.unwrap();
        let asked = within("an answer", stranger.call_within(Duration::from_secs(3600), Stranger::Ask)).await;
        let Err(CallError::Unsupported { tag, .. }) = asked else { panic!("{asked:?}") };
        assert_eq!(tag.as_str(), "Stranger");
        let payload = Payload { tag: Tag::from_static("shop.Order"), codec: Codec::Raw, body: "x".into() };
        let asked = a.call_payload(&to, payload, Duration::from_secs(3600)).await;
        assert!(matches!(asked, Err(CallError::Unsupported { .. })), "{asked:?}");
    }
    let counted = b.dead_letters();
    a.address::<Stranger>(&far.pid).send(Stranger::Hello(2)).await.unwrap();
    eventually("it is a dead letter", || b.dead_letters() > counted).await;
    fence(a, b).await;
    far.quiet().await;
    a.address::<Note>(&far.pid).send(Note::Number(3)).await.unwrap();
    assert_eq!(far.number().await, 3, "the receiver and the connection go on");
}

async fn s8_what_cannot_be_decoded_is_answered_and_harms_nobody(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let to = Destination::from(&far.pid);
    let bodies = [
        "",
        "{",
        "{\"Nope\":1}",
        "{\"Number\":\"five\"}",
        "{\"Number\":1}{\"Number\":2}",
        "\u{7}\u{0}\u{1f600}",
        "{\"Ask\":5}",
        "null",
    ];
    for body in bodies {
        // Long ones are decoded by the receiver itself.
        for space in [0, 5_000] {
            let body = format!("{body}{}", " ".repeat(space));
            let call = a.call_payload(&to, Payload::json(body.clone()), Duration::from_secs(3600));
            let asked = within("an answer", call).await;
            assert!(matches!(asked, Err(CallError::Unsupported { .. })), "{body}: {asked:?}");
            a.send_payload(&to, Payload::json(body)).await.unwrap();
        }
    }
    for body in [vec![], vec![200], vec![1, 9, 9], vec![4, 4], vec![255; 3_000]] {
        let payload = Payload { tag: Tag::from_static("Note"), codec: Codec::Bincode, body: body.into() };
        let asked = within("an answer", a.call_payload(&to, payload, Duration::from_secs(3600))).await;
        assert!(matches!(asked, Err(CallError::Unsupported { .. })), "{asked:?}");
    }
    fence(a, b).await;
    far.quiet().await;

    // A type of the same name is the same message, whatever the Rust type, as far as its content fits.
    let friend = a.address::<FalseFriend>(&far.pid);
    friend.send(FalseFriend::Number(6)).await.unwrap();
    assert_eq!(far.number().await, 6);
    let lost = within(
        "an answer",
        friend.call_within(Duration::from_secs(3600), |c| FalseFriend::Unknown { a: vec![], b: 1, c }),
    )
    .await;
    assert!(matches!(lost, Err(CallError::Unsupported { .. } | CallError::Refused(_))), "{lost:?}");
}

/// Between two nodes many of them travel in one frame.
async fn s8_one_of_many_that_is_not_understood_costs_no_other(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let (to, typed) = (Destination::from(&far.pid), a.address::<Note>(&far.pid));
    let counted = b.dead_letters();
    let is_bad = |number: u64| number % 7 == 3 || number == 299;
    for number in 0..300 {
        if is_bad(number) {
            let payload = Payload { tag: Tag::from_static("Note"), codec: Codec::Bincode, body: vec![200].into() };
            a.send_payload(&to, payload).await.unwrap();
        } else {
            typed.send(Note::Number(number)).await.unwrap();
        }
    }
    for number in (0..300).filter(|number| !is_bad(*number)) {
        assert_eq!(far.number().await, number);
    }
    let bad = (0..300).filter(|number| is_bad(*number)).count() as u64;
    eventually("each is a dead letter", || b.dead_letters() >= counted + bad).await;
    fence(a, b).await;
    far.quiet().await;
}

async fn s8_a_name_finds_its_holder_at_each_send(a: &Runtime, b: &Runtime) {
    let (mut first, mut second) = (Puppet::new(b), Puppet::new(b));
    let sender = Puppet::new(a);
    let to = Destination::name(b.node().clone(), name("reader"));
    assert!(matches!(to.to, Recipient::Name(_)));
    let by_name = a.address::<Note>(to);
    assert_eq!(by_name.pid(), None);
    give_name(&first, "reader").await;
    by_name.send(Note::Number(1)).await.unwrap();
    assert_eq!(first.number().await, 1);
    b.unregister(&name("reader"), &first.pid).await.unwrap();
    give_name(&second, "reader").await;
    let again = by_name.clone();
    sender.run_async(move |_| Box::pin(async move { again.send(Note::Number(2)).await.unwrap() })).await;
    assert_eq!(second.number().await, 2);
    first.quiet().await;
    let (asked, answered) = tokio::join!(by_name.call(Note::Ask), async {
        if let Received::Message(Note::Ask(reply)) = second.next().await {
            reply.send(3).unwrap();
        }
    });
    assert_eq!((asked, answered), (Ok(3), ()));
}

/// A call that fails is an answer of who was called, and comes behind all that it sent before.
async fn s1_a_call_that_fails_comes_behind_what_was_sent(a: &Runtime, b: &Runtime) {
    for ends in [true, false] {
        // Whichever lane they take.
        for _ in 0..8 {
            let mut caller = Puppet::new(a);
            let back = b.address::<Note>(&caller.pid);
            let fails = b
                .spawn(async move |mut context: Context<Note>| {
                    let Received::Message(Note::Ask(reply)) = context.receive().await else { return };
                    for _ in 0..16 {
                        back.send(Note::Text("x".repeat(MAX_MESSAGE_BYTES / 2))).await.unwrap();
                    }
                    if ends {
                        panic!("as the test wants it");
                    }
                    drop(reply);
                    context.receive().await;
                })
                .unwrap();
            let there = a.address::<Note>(&fails.pid().unwrap());
            let (answer, mailbox) = caller
                .run_async(move |context| {
                    Box::pin(async move {
                        let answer = there.call_within(LONG, Note::Ask).await;
                        let own = context.pid().clone();
                        let infos = context.runtime().processes();
                        (answer, infos.into_iter().find(|info| info.pid == own).unwrap().mailbox)
                    })
                })
                .await;
            assert!(matches!(answer, Err(CallError::Exited(_) | CallError::Refused(_))), "{answer:?}");
            assert_eq!(mailbox, 16, "what was sent before the call failed");
            caller.next().await;
        }
    }
}
