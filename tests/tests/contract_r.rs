//! Rows R of the contract: starting a registered behaviour on any node, with its ties from the first moment; and the
//! answer when it cannot be started. `a` asks, the node of `b` starts.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::pending,
    time::{Duration, Instant},
};

use rookery_runtime::{
    BehaviourName, CallError, Context, Destination, Event, ExitReason, Group, Payload, ProcessName, Received, Runtime,
    RuntimeConfig, SpawnError, Start, Started, protocol::request::RequestError,
};
use rookery_tests::{CounterMessage, Note, Puppet, eventually, fence, placement, watch, within};
use tokio::sync::oneshot;

rookery_tests::contract! {
    everywhere {
        r1_a_behaviour_is_started_by_name_with_arguments,
        r1_a_behaviour_is_started_under_a_name,
        r1_a_behaviour_is_started_with_a_cluster_name_and_in_groups,
        r1_link_and_monitor_come_with_the_start,
        r1_a_child_that_ends_at_once_is_told_with_its_reason,
        r1_the_parents_end_reaches_the_child,
        r1_a_parent_that_ends_while_its_child_starts_takes_it_along,
        r2_what_does_not_exist_is_told,
        r2_arguments_that_do_not_fit_are_told,
        r2_a_failed_init_is_told_with_its_reason,
        r2_a_failed_init_is_an_answer_and_no_exit,
        r2_a_name_that_is_taken_is_told,
        r2_a_cluster_name_that_is_taken_is_told,
        r2_ties_outside_a_process_are_refused,
    }
    together {
        r1_start_server_waits_for_init,
        r2_a_draining_node_says_so,
    }
}

fn behaviour(name: &str) -> BehaviourName {
    BehaviourName::new(name).unwrap()
}

fn json(name: &str, arguments: &str) -> Start {
    Start::json(behaviour(name), arguments)
}

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

/// Starts from inside of the puppet.
async fn start(from: &Puppet, on: &Runtime, start: Start) -> Result<Started, RequestError> {
    let node = on.node().clone();
    from.run_async(move |context| {
        let runtime = context.runtime().clone();
        Box::pin(async move { runtime.start_on(&node, start).await })
    })
    .await
}

async fn count(of: &rookery_runtime::Address<CounterMessage>) -> Result<i64, CallError> {
    of.call(CounterMessage::Get).await
}

async fn r1_a_behaviour_is_started_by_name_with_arguments(a: &Runtime, b: &Runtime) {
    let near = Puppet::new(a);
    let arguments = [
        json("counter", "40"),
        json("counter", " 40 "),
        Start::new(behaviour("counter"), &40_i64).unwrap(),
        Start::payload(behaviour("counter"), Payload::json("40")),
    ];
    for arguments in arguments {
        let started = start(&near, b, arguments).await.unwrap();
        assert_eq!((started.pid.node(), started.monitor), (b.node(), None));
        let counter = a.address::<CounterMessage>(&started.pid);
        counter.send(CounterMessage::Add(2)).await.unwrap();
        assert_eq!(count(&counter).await, Ok(42));
        // From outside of any process too.
        let started = a.start_on(b.node(), json("counter", "1")).await.unwrap();
        assert_eq!(count(&a.address(&started.pid)).await, Ok(1));
    }
}

async fn r1_a_behaviour_is_started_under_a_name(a: &Runtime, b: &Runtime) {
    let name = ProcessName::new("till").unwrap();
    let started = a.start_on(b.node(), json("counter", "5").name(name.clone())).await.unwrap();
    assert_eq!(a.whereis_on(b.node(), &name).await.unwrap(), Some(started.pid.clone()));
    let till = a.address::<CounterMessage>(Destination::name(b.node().clone(), name.clone()));
    assert_eq!(count(&till).await, Ok(5));
    let mut near = Puppet::new(a);
    near.run(move |context| context.monitor(&started.pid)).await;
    till.send(CounterMessage::Fail("bankrupt".to_owned())).await.unwrap();
    assert_eq!(near.down().await.reason, error("bankrupt"));
    assert_eq!(a.whereis_on(b.node(), &name).await.unwrap(), None);
}

async fn r1_a_behaviour_is_started_with_a_cluster_name_and_in_groups(a: &Runtime, b: &Runtime) {
    let near = Puppet::new(a);
    let (name, group): (ProcessName, Group) = ("till".parse().unwrap(), "shop#tills".parse().unwrap());
    let asked = json("counter", "40").cluster_name(name.clone()).join(group.clone()).join("all".parse().unwrap());
    let started = start(&near, b, asked).await.unwrap();
    // It is told of in its own name, so what it has is known before.
    assert_eq!(a.whereis_in_cluster(&name).await.unwrap(), Some(started.pid.clone()));
    assert_eq!(a.members(&group).await.unwrap(), std::slice::from_ref(&started.pid));
    let counter = a.cluster_named::<CounterMessage>(name.clone());
    counter.send(CounterMessage::Add(2)).await.unwrap();
    assert_eq!(count(&counter).await, Ok(42));
    let (mut near, pid) = (near, started.pid.clone());
    near.run_async(move |context| {
        context.monitor(&pid);
        Box::pin(async move { counter.send(CounterMessage::Fail("broken".to_owned())).await.unwrap() })
    })
    .await;
    assert_eq!(near.down().await.reason, error("broken"));
    assert_eq!(a.whereis_in_cluster(&name).await.unwrap(), None);
    assert!(a.members(&group).await.unwrap().is_empty());
}

async fn r2_a_cluster_name_that_is_taken_is_told(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::trapping(a).await;
    let name: ProcessName = "till".parse().unwrap();
    a.register_in_cluster(&name, &near.pid).await.unwrap();
    fence(a, b).await;
    let asked = json("counter", "40").cluster_name(name.clone()).link().monitor();
    let refused = start(&near, b, asked).await.unwrap_err();
    assert_eq!(refused, RequestError::NameTaken { name, holder: near.pid.clone() });
    fence(b, a).await;
    near.quiet().await;
    let many = (0..17).fold(json("counter", "40"), |start, n| start.join(format!("g-{n}").parse().unwrap()));
    let refused = start(&near, b, many).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(why) if why.contains("16 groups")), "{refused}");
}

async fn r1_link_and_monitor_come_with_the_start(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::trapping(a).await;
    let started = start(&near, b, json("counter", "0").link().monitor()).await.unwrap();
    let counter = a.address::<CounterMessage>(&started.pid);
    counter.send(CounterMessage::Fail("broken".to_owned())).await.unwrap();
    let mut seen = (0, 0);
    for _ in 0..2 {
        match near.next().await {
            Received::Event(Event::Exit { from, reason, linked: true }) => {
                assert_eq!((from, reason), (started.pid.clone(), error("broken")));
                seen.0 += 1;
            }
            Received::Event(Event::Down(down)) => {
                assert_eq!((Some(down.monitor), down.reason), (started.monitor, error("broken")));
                seen.1 += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (1, 1));
    fence(b, a).await;
    near.quiet().await;
}

async fn r1_a_child_that_ends_at_once_is_told_with_its_reason(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::trapping(a).await;
    for number in 0..100 {
        let arguments = format!("\"{number}\"");
        let asked = json("short-lived", &arguments);
        let asked = if number % 2 == 0 { asked.link() } else { asked.monitor() };
        let started = start(&near, b, asked).await.unwrap();
        if number % 2 == 0 {
            assert_eq!(near.exit().await, (started.pid, error(&number.to_string()), true));
        } else {
            let down = near.down().await;
            assert_eq!((down.pid(), Some(down.monitor)), (Some(started.pid), started.monitor));
            assert_eq!(down.reason, error(&number.to_string()));
        }
    }
    fence(b, a).await;
    near.quiet().await;
}

async fn r1_the_parents_end_reaches_the_child(a: &Runtime, b: &Runtime) {
    let (near, mut witness) = (Puppet::new(a), Puppet::new(a));
    let started = start(&near, b, json("counter", "0").link()).await.unwrap();
    witness.run(move |context| context.monitor(&started.pid)).await;
    near.end(error("the parent"));
    assert_eq!(witness.down().await.reason, error("the parent"));
}

async fn r1_a_parent_that_ends_while_its_child_starts_takes_it_along(a: &Runtime, b: &Runtime) {
    let name = ProcessName::new("orphan").unwrap();
    let near = Puppet::new(a);
    let (node, asked) = (b.node().clone(), json("slow", "300").link().name(name.clone()));
    drop(near.begin(move |context| {
        let runtime = context.runtime().clone();
        Box::pin(async move { runtime.start_on(&node, asked).await })
    }));
    let deadline = Instant::now() + rookery_tests::DEADLINE;
    let child = loop {
        if let Some(pid) = a.whereis_on(b.node(), &name).await.unwrap() {
            break pid;
        }
        assert!(Instant::now() < deadline, "the child does not start");
    };
    let mut witness = Puppet::new(a);
    witness.run(move |context| context.monitor(&child)).await;
    a.exit(&near.pid, error("gone"));
    let reason = witness.down().await.reason;
    assert!(reason == error("gone") || reason == ExitReason::NoProc, "{reason:?}");
}

async fn r2_what_does_not_exist_is_told(a: &Runtime, b: &Runtime) {
    let error = a.start_on(b.node(), json("nonesuch", "null")).await.unwrap_err();
    let RequestError::UnknownBehaviour { name, known } = &error else { panic!("{error:?}") };
    assert_eq!(name.as_str(), "nonesuch");
    assert!(known.contains("counter"), "it says what there is: {known}");
}

async fn r2_arguments_that_do_not_fit_are_told(a: &Runtime, b: &Runtime) {
    let unfit = [
        json("counter", "\"five\""),
        json("counter", ""),
        json("counter", "5 5"),
        Start::new(behaviour("counter"), &"five".to_owned()).unwrap(),
    ];
    for unfit in unfit {
        let error = a.start_on(b.node(), unfit).await.unwrap_err();
        let RequestError::BadArguments { name, detail } = &error else { panic!("{error:?}") };
        assert_eq!(name.as_str(), "counter");
        assert!(!detail.is_empty());
    }
}

async fn r2_a_failed_init_is_told_with_its_reason(a: &Runtime, b: &Runtime) {
    let failed = a.start_on(b.node(), json("refuses", "\"no money\"")).await;
    assert_eq!(failed, Err(RequestError::InitFailed(error("no money"))));
    let failed = a.start_on(b.node(), json("panics", "\"no mind\"")).await;
    assert_eq!(failed, Err(RequestError::InitFailed(ExitReason::Panic("no mind".to_owned()))));
}

/// Whoever asks for a link gets the answer, wherever the child is: there never was a process to be linked with.
async fn r2_a_failed_init_is_an_answer_and_no_exit(a: &Runtime, b: &Runtime) {
    let mut mortal = Puppet::new(a);
    let mut trapping = Puppet::trapping(a).await;
    for _ in 0..20 {
        let failed = start(&mortal, b, json("refuses", "\"no\"").link().monitor()).await;
        assert_eq!(failed, Err(RequestError::InitFailed(error("no"))));
        let failed = start(&trapping, b, json("panics", "\"no\"").link().monitor()).await;
        assert_eq!(failed, Err(RequestError::InitFailed(ExitReason::Panic("no".to_owned()))));
    }
    fence(b, a).await;
    mortal.quiet().await;
    trapping.quiet().await;
}

async fn r2_a_name_that_is_taken_is_told(a: &Runtime, b: &Runtime) {
    let name = ProcessName::new("till").unwrap();
    let first = a.start_on(b.node(), json("counter", "1").name(name.clone())).await.unwrap();
    let mut near = Puppet::new(a);
    let second = start(&near, b, json("counter", "2").name(name.clone()).link().monitor()).await;
    assert_eq!(second, Err(RequestError::NameTaken { name: name.clone(), holder: first.pid.clone() }));
    assert_eq!(a.whereis_on(b.node(), &name).await.unwrap(), Some(first.pid.clone()));
    assert_eq!(count(&a.address(&first.pid)).await, Ok(1));
    fence(b, a).await;
    near.quiet().await;
}

async fn r2_ties_outside_a_process_are_refused(a: &Runtime, b: &Runtime) {
    for asked in [json("counter", "1").link(), json("counter", "1").monitor()] {
        let refused = a.start_on(b.node(), asked).await;
        assert!(matches!(refused, Err(RequestError::Refused(_))), "{refused:?}");
    }
}

async fn r1_start_server_waits_for_init(a: &Runtime, _: &Runtime) {
    use rookery_runtime::SpawnOptions;
    use rookery_tests::behaviours::{Counter, Refuses, Slow};
    let counter = a.start_server::<Counter>(3, SpawnOptions::new()).await.unwrap();
    assert_eq!(count(&counter).await, Ok(3));
    let failed = a.start_server::<Refuses>("no".to_owned(), SpawnOptions::new()).await;
    assert_eq!(failed, Err(RequestError::InitFailed(error("no"))));
    let name = ProcessName::new("till").unwrap();
    a.start_server::<Counter>(3, SpawnOptions::new().name(name.clone())).await.unwrap();
    let taken = a.start_server::<Counter>(4, SpawnOptions::new().name(name)).await;
    assert!(matches!(taken, Err(RequestError::NameTaken { .. })), "{taken:?}");

    // Killed while it starts: the one who waits learns of it at once.
    let slow = ProcessName::new("slow").unwrap();
    let (runtime, options) = (a.clone(), SpawnOptions::new().name(slow.clone()));
    let started = tokio::spawn(async move { runtime.start_server::<Slow>(3_600_000, options).await });
    eventually("it starts", || a.whereis_here(&slow).is_some()).await;
    a.exit(&a.whereis_here(&slow).unwrap(), ExitReason::Kill);
    let failed = within("the answer", started).await.unwrap();
    assert_eq!(failed, Err(RequestError::InitFailed(ExitReason::Killed)));
}

async fn r2_a_draining_node_says_so(a: &Runtime, b: &Runtime) {
    let held = Puppet::new(b);
    b.drain();
    assert_eq!(a.start_on(b.node(), json("counter", "1")).await, Err(RequestError::Draining));
    assert_eq!(held.run(|_| 5).await, 5, "what runs goes on");

    // One that shuts down starts nothing for anybody, and everything in it ends with the reason.
    let end = watch(b, &held.pid).await;
    let trapping = Puppet::trapping(b).await;
    drop(trapping.begin(|_| Box::pin(pending::<()>())));
    let closing = b.clone();
    let closed = tokio::spawn(async move { closing.shut_down(ExitReason::Shutdown, Duration::from_millis(100)).await });
    drop(end);
    within("the end", closed).await.unwrap();
    eventually("all have ended", || b.process_count() == 0).await;
    assert!(matches!(b.spawn(async |_: Context<Note>| ()), Err(SpawnError::ShuttingDown)));
    assert_eq!(a.start_on(b.node(), json("counter", "1")).await, Err(RequestError::Draining));
}

#[test]
fn r2_a_full_table_says_so_and_has_room_again() {
    placement::run(async {
        let node = placement::lone_runtime("a", 1).node().clone();
        let mut config = RuntimeConfig::new(node);
        (config.max_processes, config.behaviours) = (3, rookery_tests::behaviours::behaviours());
        let runtime = Runtime::new(config).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let first = runtime.spawn(async move |_: Context<Note>| drop(stopped.await)).unwrap();
        for _ in 0..2 {
            runtime.spawn(async |_: Context<Note>| pending::<()>().await).unwrap();
        }
        for _ in 0..3 {
            let full = runtime.spawn(async |_: Context<Note>| ()).unwrap_err();
            assert_eq!(full, SpawnError::TooManyProcesses { limit: 3 });
            assert!(full.to_string().contains("max_processes"), "{full}");
            let full = runtime.start(json("counter", "1")).await;
            assert_eq!(full, Err(RequestError::TooManyProcesses));
        }
        stop.send(()).unwrap();
        eventually("there is room", || runtime.process_count() == 2).await;
        runtime.start(json("counter", "1")).await.unwrap();
        assert_ne!(first.pid(), None);
    });
}
