//! Rows A of the contract: calls. Exactly one outcome, the receiver's end learnt at once, late answers dropped.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::pending,
    time::{Duration, Instant},
};

use rookery_runtime::{
    Address, CallError, Context, Destination, ExitReason, NodeId, Payload, Pid, ProcessName, Received, ReplyTo,
    Runtime, protocol::Serial,
};
use rookery_tests::{Note, Puppet, eventually, fence, watch, within};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

rookery_tests::contract! {
    everywhere {
        a1_the_reply_comes_back,
        a1_many_calls_at_once_each_get_their_own_reply,
        a1_requests_in_the_queue_of_one_who_ends_learn_its_reason,
        a1_requests_taken_and_not_handled_learn_it_too,
        a1_a_panic_while_handling_is_told,
        a1_killed_while_handling_is_told,
        a1_an_end_after_dropping_the_request_is_told,
        a1_a_dropped_request_is_refused,
        a1_a_refusal_comes_with_its_text,
        a1_a_forwarded_request_is_answered_by_another,
        a1_a_forwarded_request_survives_who_forwarded_it,
        a1_the_end_of_whom_it_was_forwarded_to_is_told,
        a1_a_race_of_call_and_end_has_one_outcome,
        a1_a_call_in_the_middle_of_a_call,
        a1_a_message_without_a_place_for_the_reply_is_answered_once_handled,
        a1_a_message_without_a_place_for_the_reply_that_is_never_handled_is_told,
        a1_json_requests_get_json_answers,
        a1_a_reply_that_does_not_fit_the_question_is_unsupported,
        a1_no_connection_is_told_at_once,
        a1_a_call_that_is_given_up_leaves_nothing_behind,
        a2_a_reply_after_the_timeout_is_dropped,
        a3_what_may_have_run_says_so,
    }
}

/// So long that no test would end if it was waited for.
const LONG: Duration = Duration::from_secs(3600);

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

fn mailbox(runtime: &Runtime, pid: &Pid) -> u64 {
    runtime.processes().into_iter().find(|info| info.pid == *pid).map_or(0, |info| info.mailbox)
}

/// Calls from inside of a fresh process of `runtime`; the outcome comes on the channel.
fn ask(runtime: &Runtime, to: impl Into<Destination>, timeout: Duration) -> oneshot::Receiver<Result<u64, CallError>> {
    let (tell, told) = oneshot::channel();
    let to = runtime.address::<Note>(to);
    runtime
        .spawn(async move |mut context: Context<Note>| {
            let outcome = to.call_within(timeout, Note::Ask).await;
            // The reply never comes through the mailbox.
            let left = context.receive_timeout(Duration::ZERO).await;
            assert!(left.is_none(), "{left:?} lay in the mailbox");
            drop(tell.send(outcome));
        })
        .unwrap();
    told
}

async fn outcome(of: oneshot::Receiver<Result<u64, CallError>>) -> Result<u64, CallError> {
    within("the outcome of a call", of).await.unwrap()
}

async fn question(puppet: &mut Puppet) -> ReplyTo<u64> {
    match puppet.next().await {
        Received::Message(Note::Ask(reply)) => reply,
        other => panic!("expected a question, got {other:?}"),
    }
}

/// A process that handles the first question with `handle`.
fn answerer<Fut>(
    runtime: &Runtime,
    handle: impl FnOnce(ReplyTo<u64>, Context<Note>) -> Fut + Send + 'static,
) -> Address<Note>
where
    Fut: Future<Output = ExitReason> + Send + 'static,
{
    runtime
        .spawn(async move |mut context: Context<Note>| match context.receive().await {
            Received::Message(Note::Ask(reply)) => handle(reply, context).await,
            other => ExitReason::Error(format!("{other:?}")),
        })
        .unwrap()
}

async fn a1_the_reply_comes_back(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let name = ProcessName::new("far").unwrap();
    far.run_async({
        let name = name.clone();
        move |context| Box::pin(async move { context.register(&name).await })
    })
    .await
    .unwrap();
    for (number, to) in [(1, Destination::from(&far.pid)), (2, Destination::name(b.node().clone(), name))] {
        let asked = ask(a, to.clone(), LONG);
        let reply = question(&mut far).await;
        assert!(reply.is_awaited());
        reply.send(number).unwrap();
        assert_eq!(outcome(asked).await, Ok(number));
        // From outside of any process as well.
        let outside = a.address::<Note>(to);
        let (asked, ()) = tokio::join!(outside.call(Note::Ask), async {
            question(&mut far).await.send(number + 10).unwrap();
        });
        assert_eq!(asked, Ok(number + 10));
    }
}

async fn a1_many_calls_at_once_each_get_their_own_reply(a: &Runtime, b: &Runtime) {
    let echo = b
        .spawn(async |mut context: Context<Question>| {
            let mut kept = Vec::new();
            loop {
                match context.receive().await {
                    // Answered out of order, so that a reply to the wrong one would show.
                    Received::Message(Question::Double(number, reply)) => {
                        kept.push((number, reply));
                        if kept.len() == 10 {
                            kept.drain(..).rev().for_each(|(number, reply)| reply.send(2 * number).unwrap());
                        }
                    }
                    other => return ExitReason::Error(format!("{other:?}")),
                }
            }
        })
        .unwrap();
    let echo = a.address::<Question>(echo.pid().unwrap());
    let (tell, mut told) = mpsc::unbounded_channel();
    for number in 0..500_u64 {
        let (echo, tell) = (echo.clone(), tell.clone());
        a.spawn(async move |_: Context<u8>| {
            let doubled = echo.call_within(LONG, |reply| Question::Double(number, reply)).await;
            drop(tell.send((number, doubled)));
        })
        .unwrap();
    }
    for _ in 0..500 {
        let (number, doubled) = within("the answers", told.recv()).await.unwrap();
        assert_eq!(doubled, Ok(2 * number));
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Double(u64, ReplyTo<u64>),
}

async fn a1_requests_in_the_queue_of_one_who_ends_learn_its_reason(a: &Runtime, b: &Runtime) {
    let far = Puppet::new(b);
    let _held = far.hold(|_| ()).await;
    let mut asked: Vec<_> = (0..10).map(|_| ask(a, &far.pid, LONG)).collect();
    eventually("ten wait", || mailbox(b, &far.pid) == 10).await;
    let long_winded = || format!("{{\"Ask\":{}null}}", " ".repeat(3_000));
    asked.extend((0..2).map(|_| ask_by_json(a, &far.pid, long_winded())));
    eventually("twelve wait", || mailbox(b, &far.pid) == 12).await;
    a.exit(&far.pid, error("enough"));
    for asked in asked {
        assert_eq!(outcome(asked).await, Err(CallError::Exited(error("enough"))));
    }
}

/// Asks by JSON; what is longer than a kilobyte is decoded by its receiver only.
fn ask_by_json(runtime: &Runtime, to: &Pid, request: String) -> oneshot::Receiver<Result<u64, CallError>> {
    let (tell, told) = oneshot::channel();
    let (runtime, to) = (runtime.clone(), Destination::from(to));
    tokio::spawn(async move {
        let answer = runtime.call_payload(&to, Payload::json(request), LONG).await;
        drop(tell.send(answer.map(|answer| serde_json::from_slice(&answer.body).unwrap())));
    });
    told
}

/// The process has taken its whole queue, has handled the first of ten, and ends by itself: the other nine learn of it.
async fn a1_requests_taken_and_not_handled_learn_it_too(a: &Runtime, b: &Runtime) {
    let (go, gate) = oneshot::channel::<()>();
    let far = b
        .spawn(async move |mut context: Context<Note>| {
            gate.await.unwrap();
            if let Received::Message(Note::Ask(reply)) = context.receive().await {
                reply.send(1).unwrap();
            }
            error("one is enough")
        })
        .unwrap();
    let far = far.pid().unwrap();
    let asked: Vec<_> = (0..10).map(|_| ask(a, &far, LONG)).collect();
    eventually("ten wait", || mailbox(b, &far) == 10).await;
    go.send(()).unwrap();
    let mut answered = 0;
    for asked in asked {
        match outcome(asked).await {
            Ok(1) => answered += 1,
            Err(CallError::Exited(reason)) => assert_eq!(reason, error("one is enough")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answered, 1);
}

async fn a1_a_panic_while_handling_is_told(a: &Runtime, b: &Runtime) {
    let far = answerer(b, async |_reply, _| panic!("cannot"));
    let asked = ask(a, far.pid().unwrap(), LONG);
    assert_eq!(outcome(asked).await, Err(CallError::Exited(ExitReason::Panic("cannot".to_owned()))));
    // Also when the request lies somewhere else in the process than on its stack.
    let far = answerer(b, async |reply, mut context| {
        let kept = Box::new(Some(reply));
        drop(context.receive_timeout(Duration::from_millis(1)).await);
        assert!(kept.is_none(), "still here");
        ExitReason::Normal
    });
    let asked = ask(a, far.pid().unwrap(), LONG);
    assert_eq!(outcome(asked).await, Err(CallError::Exited(ExitReason::Panic("still here".to_owned()))));
}

async fn a1_killed_while_handling_is_told(a: &Runtime, b: &Runtime) {
    for reason in [ExitReason::Kill, ExitReason::Shutdown] {
        let (held, is_held) = oneshot::channel();
        let far = answerer(b, async move |reply, _| {
            held.send(()).unwrap();
            let _kept = reply;
            pending().await
        });
        let far = far.pid().unwrap();
        let asked = ask(a, &far, LONG);
        within("the request", is_held).await.unwrap();
        a.exit(&far, reason.clone());
        let expected = if reason == ExitReason::Kill { ExitReason::Killed } else { reason };
        assert_eq!(outcome(asked).await, Err(CallError::Exited(expected)));
    }
}

async fn a1_an_end_after_dropping_the_request_is_told(a: &Runtime, b: &Runtime) {
    let far = answerer(b, async |reply, _| {
        drop(reply);
        error("and away")
    });
    let asked = ask(a, far.pid().unwrap(), LONG);
    assert_eq!(outcome(asked).await, Err(CallError::Exited(error("and away"))));
}

async fn a1_a_dropped_request_is_refused(a: &Runtime, b: &Runtime) {
    let far = answerer(b, async |reply, _| {
        drop(reply);
        pending().await
    });
    let asked = ask(a, far.pid().unwrap(), LONG);
    let Err(CallError::Refused(text)) = outcome(asked).await else { panic!("expected a refusal") };
    assert!(text.contains("without an answer"), "{text}");
    // Dropped by something that is no process.
    let far = answerer(b, async |reply, _| {
        std::thread::spawn(move || drop(reply)).join().unwrap();
        pending().await
    });
    let asked = ask(a, far.pid().unwrap(), LONG);
    assert!(matches!(outcome(asked).await, Err(CallError::Refused(_))));
}

async fn a1_a_refusal_comes_with_its_text(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let asked = ask(a, &far.pid, LONG);
    question(&mut far).await.refuse("not on a Sunday");
    assert_eq!(outcome(asked).await, Err(CallError::Refused("not on a Sunday".to_owned())));
}

async fn a1_a_forwarded_request_is_answered_by_another(a: &Runtime, b: &Runtime) {
    for runtime in [a, b] {
        let mut last = Puppet::new(runtime);
        let to = b.address::<Note>(&last.pid);
        let broker = answerer(b, async move |reply, _| {
            to.send(Note::Ask(reply)).await.unwrap();
            pending().await
        });
        let asked = ask(a, broker.pid().unwrap(), LONG);
        question(&mut last).await.send(7).unwrap();
        assert_eq!(outcome(asked).await, Ok(7));
    }
}

async fn a1_a_forwarded_request_survives_who_forwarded_it(a: &Runtime, b: &Runtime) {
    for runtime in [a, b] {
        let mut last = Puppet::new(runtime);
        let to = b.address::<Note>(&last.pid);
        let broker = answerer(b, async move |reply, _| {
            to.send(Note::Ask(reply)).await.unwrap();
            error("done")
        });
        let broker = broker.pid().unwrap();
        let end = watch(b, &broker).await;
        let asked = ask(a, &broker, LONG);
        let reply = question(&mut last).await;
        assert_eq!(end.reason().await, error("done"));
        fence(b, a).await;
        reply.send(8).unwrap();
        assert_eq!(outcome(asked).await, Ok(8));
    }
}

async fn a1_the_end_of_whom_it_was_forwarded_to_is_told(a: &Runtime, b: &Runtime) {
    for runtime in [a, b] {
        let (held, is_held) = oneshot::channel();
        let last = answerer(runtime, async move |reply, _| {
            held.send(()).unwrap();
            let _kept = reply;
            pending().await
        });
        let last = last.pid().unwrap();
        let to = b.address::<Note>(&last);
        let broker = answerer(b, async move |reply, _| {
            to.send(Note::Ask(reply)).await.unwrap();
            pending().await
        });
        let asked = ask(a, broker.pid().unwrap(), LONG);
        within("the request", is_held).await.unwrap();
        b.exit(&last, error("the last"));
        assert_eq!(outcome(asked).await, Err(CallError::Exited(error("the last"))));

        // Forwarded to one that is dead already.
        let to = b.address::<Note>(&last);
        let broker = answerer(b, async move |reply, _| {
            to.send(Note::Ask(reply)).await.unwrap();
            pending().await
        });
        let asked = ask(a, broker.pid().unwrap(), LONG);
        assert_eq!(outcome(asked).await, Err(CallError::NoProc));
    }
}

async fn a1_a_race_of_call_and_end_has_one_outcome(a: &Runtime, b: &Runtime) {
    for round in 0..300_u32 {
        let answers = round % 2 == 0;
        let far = b
            .spawn(async move |mut context: Context<Note>| {
                for _ in 0..round % 8 {
                    tokio::task::yield_now().await;
                }
                if let Some(Received::Message(Note::Ask(reply))) = context.receive_timeout(Duration::ZERO).await
                    && answers
                {
                    reply.send(9).unwrap();
                }
                error("away")
            })
            .unwrap();
        let far = far.pid().unwrap();
        // As a value or as bytes, decoded on arrival or by the receiver, with a place for the reply or without.
        let asked = match round % 3 {
            0 => ask(a, &far, LONG),
            1 => ask_by_json(a, &far, format!("{{\"Ask\":{}null}}", " ".repeat(3_000))),
            _ => ask_by_json(a, &far, format!("{}{{\"Number\":1}}", " ".repeat(if answers { 3_000 } else { 0 }))),
        };
        match outcome(asked).await {
            Ok(9) if answers => {}
            Err(CallError::NoProc) => {}
            Err(CallError::Exited(reason)) => assert_eq!(reason, error("away")),
            other => panic!("{other:?}"),
        }
    }
}

async fn a1_a_call_in_the_middle_of_a_call(a: &Runtime, b: &Runtime) {
    let mut last = Puppet::new(a);
    let deeper = b.address::<Note>(&last.pid);
    let broker = answerer(b, async move |reply, _| {
        let number = deeper.call_within(LONG, Note::Ask).await.unwrap();
        reply.send(number + 1).unwrap();
        ExitReason::Normal
    });
    let asked = ask(a, broker.pid().unwrap(), LONG);
    question(&mut last).await.send(41).unwrap();
    assert_eq!(outcome(asked).await, Ok(42));
}

fn json(text: &str) -> Payload {
    Payload::json(text)
}

async fn a1_a_message_without_a_place_for_the_reply_is_answered_once_handled(a: &Runtime, b: &Runtime) {
    // Long ones are decoded by their receiver; a short one waits with the note that it is to be answered.
    for (space, items) in [(0, 3), (3_000, 2)] {
        let (start, gate) = oneshot::channel::<()>();
        let (handle, handling) = oneshot::channel::<()>();
        let (received, is_received) = oneshot::channel();
        let far = b
            .spawn(async move |mut context: Context<Note>| {
                gate.await.unwrap();
                received.send(format!("{:?}", context.receive().await)).unwrap();
                handling.await.unwrap();
                // It takes the next one, and that is when the first is known to be handled; not when the queue is empty.
                drop(context.receive().await);
                pending::<()>().await;
            })
            .unwrap();
        let far = far.pid().unwrap();
        let (runtime, to) = (a.clone(), Destination::from(&far));
        let payload = json(&format!("{{\"Number\":{}5}}", " ".repeat(space)));
        let mut asked = tokio::spawn(async move { runtime.call_payload(&to, payload, LONG).await });
        eventually("the request waits", || mailbox(b, &far) == items - 1).await;
        a.address::<Note>(&far).send(Note::Number(6)).await.unwrap();
        eventually("the next one waits", || mailbox(b, &far) == items).await;
        start.send(()).unwrap();
        assert!(within("the request", is_received).await.unwrap().contains("Number(5)"));
        fence(b, a).await;
        assert!(!asked.is_finished(), "it is answered before it is handled");
        handle.send(()).unwrap();
        let answer = within("the answer", &mut asked).await.unwrap().unwrap();
        assert_eq!(&answer.body[..], b"null");
    }
}

async fn a1_a_message_without_a_place_for_the_reply_that_is_never_handled_is_told(a: &Runtime, b: &Runtime) {
    // It ends while it handles it; and: it ends while it waits behind another.
    let far = b
        .spawn(async |mut context: Context<Note>| {
            drop(context.receive().await);
            error("in the middle")
        })
        .unwrap();
    let to = Destination::from(far.pid().unwrap());
    let (first, second) = within("the answers", async {
        tokio::join!(
            a.call_payload(&to, json("{\"Number\":1}"), LONG),
            a.call_payload(&to, json(&format!("{}{{\"Number\":2}}", " ".repeat(3_000))), LONG)
        )
    })
    .await;
    for answer in [first, second] {
        let told = matches!(&answer, Err(CallError::Exited(reason)) if *reason == error("in the middle"));
        assert!(told || answer == Err(CallError::NoProc), "{answer:?}");
    }
}

async fn a1_json_requests_get_json_answers(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let to = Destination::from(&far.pid);
    let (answer, ()) = tokio::join!(a.call_payload(&to, json("{\"Ask\":null}"), LONG), async {
        question(&mut far).await.send(77).unwrap();
    });
    assert_eq!(&answer.unwrap().body[..], b"77");
    // Sent, not called: there is nobody to answer, and that is no error.
    a.send_payload(&to, json("{\"Ask\":null}")).await.unwrap();
    let reply = question(&mut far).await;
    assert!(!reply.is_awaited());
    reply.send(1).unwrap();
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Note")]
enum WantsText {
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Pid(Pid),
    Ask(ReplyTo<String>),
}

async fn a1_a_reply_that_does_not_fit_the_question_is_unsupported(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let wants_text = a.address::<WantsText>(&far.pid);
    let (answer, ()) = tokio::join!(wants_text.call_within(LONG, WantsText::Ask), async {
        question(&mut far).await.send(5).unwrap();
    });
    let Err(CallError::Unsupported { tag, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(tag.as_str(), "u64");
}

async fn a1_no_connection_is_told_at_once(a: &Runtime, b: &Runtime) {
    let nowhere: NodeId = "nowhere.1".parse().unwrap();
    for runtime in [a, b] {
        let pid = Pid::new(nowhere.clone(), Serial(7));
        let start = Instant::now();
        assert_eq!(outcome(ask(runtime, &pid, LONG)).await, Err(CallError::NoConnection));
        let to = pid.into();
        let raw = runtime.call_payload(&to, json("null"), LONG);
        assert_eq!(within("an answer", raw).await, Err(CallError::NoConnection));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

async fn a1_a_call_that_is_given_up_leaves_nothing_behind(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let caller = Puppet::new(a);
    let to = far.pid.clone();
    drop(caller.begin(move |context| {
        let to = context.runtime().address::<Note>(&to);
        Box::pin(async move { to.call_within(LONG, Note::Ask).await })
    }));
    let reply = question(&mut far).await;
    let end = watch(a, &caller.pid).await;
    a.exit(&caller.pid, ExitReason::Shutdown);
    end.reason().await;
    // Whether the answer of one whose caller is gone is known to be in vain or not, it harms nobody.
    reply.send(5).unwrap();
    fence(b, a).await;
    let asked = ask(a, &far.pid, LONG);
    question(&mut far).await.send(6).unwrap();
    assert_eq!(outcome(asked).await, Ok(6));
}

async fn a2_a_reply_after_the_timeout_is_dropped(a: &Runtime, b: &Runtime) {
    let (mut near, mut far) = (Puppet::new(a), Puppet::new(b));
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let to = far.pid.clone();
        let asked = near
            .run_async(move |context| {
                let to = context.runtime().address::<Note>(&to);
                Box::pin(async move { to.call_within(timeout, Note::Ask).await })
            })
            .await;
        assert_eq!(asked, Err(CallError::Timeout));
        let late = question(&mut far).await;
        // The next call gets its own reply, not the late one.
        let to = far.pid.clone();
        let asked = near.begin(move |context| {
            let to = context.runtime().address::<Note>(&to);
            Box::pin(async move { to.call_within(LONG, Note::Ask).await })
        });
        let in_time = question(&mut far).await;
        late.send(1).unwrap();
        fence(b, a).await;
        in_time.send(2).unwrap();
        assert_eq!(within("the second answer", asked).await.unwrap(), Ok(2));
        near.quiet().await;
    }
}

async fn a3_what_may_have_run_says_so(a: &Runtime, b: &Runtime) {
    // It times out, and it did run.
    let mut far = Puppet::new(b);
    let timed_out = a.address::<Note>(&far.pid).call_within(Duration::ZERO, Note::Ask).await.unwrap_err();
    drop(question(&mut far).await);
    for error in [timed_out, CallError::NoConnection] {
        assert!(error.to_string().contains("may or may not have run"), "{error}");
    }
    assert!(!CallError::NoProc.to_string().contains("may"), "nothing ran");
}
