//! Rows A4 and A5 of the contract: deadlines that travel with calls, and calls to many. The other A rows are in
//! `contract_a.rs`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_runtime::{
    Address, CallError, Context, Destination, ExitReason, Payload, Pid, Received, ReplyTo, Runtime, SendError,
    SpawnOptions, protocol::Serial,
};
use rookery_tests::{Note, Puppet, watch, within};
use tokio::sync::mpsc;

rookery_tests::contract! {
    everywhere {
        a4_a_receiver_and_whom_it_calls_see_how_much_time_is_left,
        a4_a_call_waits_no_longer_than_whom_it_is_made_for,
        a4_whoever_receives_again_is_free,
        a4_a_refused_or_dropped_request_frees_its_holder,
        a4_a_request_that_is_handed_on_keeps_its_deadline,
        a4_requests_by_hand_have_a_deadline_however_they_are_decoded,
        a5_each_receiver_has_its_own_outcome,
        a5_nobody_is_waited_for_longer_than_the_deadline,
        a5_a_receiver_without_room_holds_up_no_other,
        a5_a_cast_reaches_all,
    }
}

/// So long that no test would end if it was waited for.
const LONG: Duration = Duration::from_secs(3600);

const TWO_SECONDS: Duration = Duration::from_secs(2);

/// A process that answers what it sees to be left, in milliseconds; `u64::MAX` if there is no deadline.
fn mirror(runtime: &Runtime) -> Pid {
    let mirror = runtime.spawn(async |mut context: Context<Note>| {
        while let Received::Message(Note::Ask(reply)) = context.receive().await {
            assert_eq!(context.time_left().is_some(), reply.time_left().is_some());
            let left = context.time_left().map_or(u64::MAX, |left| u64::try_from(left.as_millis()).unwrap());
            reply.send(left).unwrap();
            assert_eq!(context.time_left(), None, "answered");
        }
    });
    mirror.unwrap().pid().unwrap()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Calls in the background; the outcome comes from the channel.
fn ask(runtime: &Runtime, to: &Pid, timeout: Duration) -> tokio::task::JoinHandle<Result<u64, CallError>> {
    let to = runtime.address::<Note>(to);
    tokio::spawn(async move { to.call_within(timeout, Note::Ask).await })
}

fn asked(received: Received<Note>) -> ReplyTo<u64> {
    match received {
        Received::Message(Note::Ask(reply)) => reply,
        other => panic!("expected a question, got {other:?}"),
    }
}

async fn a4_a_receiver_and_whom_it_calls_see_how_much_time_is_left(a: &Runtime, b: &Runtime) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let mirror = mirror(a);
    let broker = b
        .spawn(async move |mut context: Context<Note>| {
            let mirror = context.runtime().address::<Note>(mirror);
            loop {
                let reply = asked(context.receive().await);
                let own = context.time_left().unwrap();
                assert!(reply.time_left().unwrap() <= own);
                let under_deadline = mirror.call_within(LONG, Note::Ask).await;
                drop(reply.send(1));
                let free = context.time_left().is_none();
                let after = mirror.call_within(LONG, Note::Ask).await;
                report.send((own, under_deadline, free, after)).unwrap();
            }
        })
        .unwrap();
    let broker = broker.pid().unwrap();
    // A busy machine may need most of the shorter one.
    for timeout in [TWO_SECONDS, Duration::from_secs(60)] {
        drop(ask(a, &broker, timeout).await.unwrap());
        let (own, under_deadline, free, after) = within("the report", reports.recv()).await.unwrap();
        assert!(own <= timeout, "{own:?}");
        assert!(free, "answered, and nobody waits any more");
        match under_deadline {
            Ok(seen) => assert!(seen <= ms(own), "{seen} ms of {own:?}"),
            Err(error) => assert_eq!((error, timeout), (CallError::Timeout, TWO_SECONDS)),
        }
        let after = after.unwrap();
        assert!(after > ms(Duration::from_secs(1_000)) && after <= ms(LONG), "{after} ms");
    }
}

async fn a4_a_call_waits_no_longer_than_whom_it_is_made_for(a: &Runtime, b: &Runtime) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let silent = Puppet::new(a);
    let to = silent.pid.clone();
    let broker = b
        .spawn(async move |mut context: Context<Note>| {
            let _kept = asked(context.receive().await);
            let silent = context.runtime().address::<Note>(&to);
            report.send(silent.call_within(LONG, Note::Ask).await).unwrap();
            let question = Payload::json("{\"Ask\":null}");
            let by_hand = context.runtime().call_payload(&to.clone().into(), question, LONG).await;
            report.send(by_hand.map(|_| 0)).unwrap();
            let many = context.runtime().multi_call(&[silent], LONG, Note::Ask).await;
            report.send(many[0].1.clone()).unwrap();
            // Its end would be another outcome, a moment before whoever waits for it gives up.
            std::future::pending::<()>().await;
        })
        .unwrap();
    let outcome = ask(a, &broker.pid().unwrap(), Duration::from_millis(100)).await.unwrap();
    assert_eq!(outcome, Err(CallError::Timeout));
    for _ in 0..3 {
        assert_eq!(within("a call in turn", reports.recv()).await.unwrap(), Err(CallError::Timeout));
    }
    drop(silent);
}

async fn a4_whoever_receives_again_is_free(a: &Runtime, b: &Runtime) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let far = b
        .spawn(async move |mut context: Context<Note>| {
            let kept = asked(context.receive().await);
            report.send(context.time_left()).unwrap();
            drop(context.receive().await);
            report.send(context.time_left()).unwrap();
            context.work_for(&kept);
            report.send(context.time_left()).unwrap();
            std::future::pending::<()>().await;
        })
        .unwrap();
    let far = far.pid().unwrap();
    let _asked = ask(a, &far, LONG);
    assert!(within("the question", reports.recv()).await.unwrap().is_some());
    a.address::<Note>(&far).send(Note::Number(1)).await.unwrap();
    assert_eq!(within("the number", reports.recv()).await.unwrap(), None);
    assert!(within("the work for the first", reports.recv()).await.unwrap().is_some());
}

async fn a4_a_refused_or_dropped_request_frees_its_holder(a: &Runtime, b: &Runtime) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let far = b
        .spawn(async move |mut context: Context<Note>| {
            for round in 0..2 {
                let reply = asked(context.receive().await);
                let before = context.time_left().is_some();
                if round == 0 {
                    reply.refuse("no")
                } else {
                    drop(reply)
                }
                report.send((before, context.time_left())).unwrap();
            }
            std::future::pending::<()>().await;
        })
        .unwrap();
    for _ in 0..2 {
        let outcome = ask(a, &far.pid().unwrap(), LONG).await.unwrap();
        assert!(matches!(outcome, Err(CallError::Refused(_))), "{outcome:?}");
        assert_eq!(within("a report", reports.recv()).await.unwrap(), (true, None));
    }
}

async fn a4_a_request_that_is_handed_on_keeps_its_deadline(a: &Runtime, b: &Runtime) {
    for runtime in [a, b] {
        let mirror = mirror(a);
        let last = runtime
            .spawn(async move |mut context: Context<Note>| {
                let reply = asked(context.receive().await);
                let left = reply.time_left().unwrap();
                context.work_for(&reply);
                let seen = context.runtime().address::<Note>(mirror).call_within(LONG * 2, Note::Ask).await.unwrap();
                assert!(seen <= ms(left), "{seen} ms of {left:?}");
                reply.send(ms(left)).unwrap();
            })
            .unwrap();
        let last = last.pid().unwrap();
        let broker = b
            .spawn(async move |mut context: Context<Note>| {
                let reply = asked(context.receive().await);
                context.runtime().address::<Note>(last).send(Note::Ask(reply)).await.unwrap();
            })
            .unwrap();
        let left = within("the answer", ask(a, &broker.pid().unwrap(), LONG)).await.unwrap().unwrap();
        assert!(left <= ms(LONG), "{left} ms");
    }
}

async fn a4_requests_by_hand_have_a_deadline_however_they_are_decoded(a: &Runtime, b: &Runtime) {
    let (report, mut reports) = mpsc::unbounded_channel();
    let far = b
        .spawn(async move |mut context: Context<Note>| {
            loop {
                let received = context.receive().await;
                report.send(context.time_left()).unwrap();
                drop(received);
            }
        })
        .unwrap();
    let far = Destination::from(far.pid().unwrap());
    for space in [0, 3_000] {
        for request in ["\"Ask\":null", "\"Number\":1"] {
            let request = Payload::json(format!("{{{}{request}}}", " ".repeat(space)));
            drop(within("an answer", a.call_payload(&far, request.clone(), LONG)).await);
            let left = within("a report", reports.recv()).await.unwrap().unwrap();
            assert!(left <= LONG && left > LONG / 2, "{left:?}");
            a.send_payload(&far, request).await.unwrap();
            assert_eq!(within("a report", reports.recv()).await.unwrap(), None, "sent, not called");
        }
    }
}

/// A process that answers every question with `number`.
fn answerer(runtime: &Runtime, number: u64) -> Pid {
    let answerer = runtime.spawn(async move |mut context: Context<Note>| {
        while let Received::Message(Note::Ask(reply)) = context.receive().await {
            reply.send(number).unwrap();
        }
    });
    answerer.unwrap().pid().unwrap()
}

fn addresses(runtime: &Runtime, pids: &[Pid]) -> Vec<Address<Note>> {
    pids.iter().map(|pid| runtime.address(pid)).collect()
}

async fn a5_each_receiver_has_its_own_outcome(a: &Runtime, b: &Runtime) {
    let dead = Puppet::new(b);
    let end = watch(b, &dead.pid).await;
    dead.end(ExitReason::Normal);
    end.reason().await;
    let refuses = b
        .spawn(async |mut context: Context<Note>| asked(context.receive().await).refuse("not today"))
        .unwrap()
        .pid()
        .unwrap();
    let ends = b
        .spawn(async |mut context: Context<Note>| {
            let _kept = asked(context.receive().await);
            ExitReason::Error("away".to_owned())
        })
        .unwrap()
        .pid()
        .unwrap();
    let nowhere = Pid::new("nowhere.1".parse().unwrap(), Serial(7));
    let pids = [answerer(b, 1), dead.pid.clone(), refuses, answerer(a, 2), ends, nowhere, answerer(b, 3)];
    let outcomes = within("the answers", a.multi_call(&addresses(a, &pids), LONG, Note::Ask)).await;
    let (to, outcomes): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
    assert_eq!(to, pids.iter().map(Destination::from).collect::<Vec<_>>());
    let expected = [
        Ok(1),
        Err(CallError::NoProc),
        Err(CallError::Refused("not today".to_owned())),
        Ok(2),
        Err(CallError::Exited(ExitReason::Error("away".to_owned()))),
        Err(CallError::NoConnection),
        Ok(3),
    ];
    assert_eq!(outcomes, expected);
    assert!(a.multi_call(&Vec::<Address<Note>>::new(), LONG, Note::Ask).await.is_empty());
}

async fn a5_nobody_is_waited_for_longer_than_the_deadline(a: &Runtime, b: &Runtime) {
    // Silent ones before and behind those that answer.
    let silent: Vec<_> = (0..50).map(|_| Puppet::new(b)).collect();
    let mut pids: Vec<_> = silent.iter().map(|puppet| puppet.pid.clone()).collect();
    pids.extend([answerer(b, 7), answerer(a, 8)]);
    pids.insert(0, answerer(b, 6));
    // Those that answer have a time for it that no busy machine exceeds; the fifty are waited for together.
    let timeout = TWO_SECONDS;
    let outcomes = within("the deadline", a.multi_call(&addresses(a, &pids), timeout, Note::Ask)).await;
    let answers: Vec<_> = outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).collect();
    assert_eq!(answers, [&6, &7, &8]);
    assert!(outcomes[1..51].iter().all(|(_, outcome)| *outcome == Err(CallError::Timeout)));
}

async fn a5_a_receiver_without_room_holds_up_no_other(a: &Runtime, b: &Runtime) {
    // One who never receives, with a mailbox of one, which is full. Who is remote to it, is not held up there.
    let full = a
        .spawn_with(SpawnOptions::new().mailbox(1), async |_: Context<Note>| std::future::pending::<()>().await)
        .unwrap()
        .address;
    full.try_send(Note::Number(0)).unwrap();
    let to = [full.clone(), a.address(answerer(b, 1))];
    let timeout = TWO_SECONDS;
    let outcomes = within("the answers", a.multi_call(&to, timeout, Note::Ask)).await;
    assert_eq!(outcomes[0].1, Err(CallError::Timeout));
    assert_eq!(outcomes[1].1, Ok(1));
    let mut seen = Puppet::new(b);
    let to = [full, a.address(&seen.pid)];
    let outcomes = within("the cast", a.cast(&to, Duration::from_millis(50), || Note::Number(2))).await;
    assert!(matches!(&outcomes[0].1, Err(SendError::Full { message: Note::Number(2) })), "{outcomes:?}");
    assert!(outcomes[1].1.is_ok());
    assert_eq!(seen.number().await, 2);
}

async fn a5_a_cast_reaches_all(a: &Runtime, b: &Runtime) {
    let mut seen: Vec<_> = (0..20).map(|number| Puppet::new(if number % 2 == 0 { a } else { b })).collect();
    let pids: Vec<_> = seen.iter().map(|puppet| puppet.pid.clone()).collect();
    for number in [1, 2] {
        let outcomes = a.cast(&addresses(a, &pids), LONG, || Note::Number(number)).await;
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    }
    for puppet in &mut seen {
        assert_eq!((puppet.number().await, puppet.number().await), (1, 2));
    }
}
