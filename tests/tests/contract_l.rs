//! Rows L of the contract: links. Two-way, one per pair, with nobody, and removed so that nothing of them comes later.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::pending;

use rookery_runtime::{Context, Event, ExitReason, Pid, Received, Runtime, protocol::Serial};
use rookery_tests::{Note, Puppet, eventually, fence, watch, within};
use tokio::sync::{mpsc, oneshot};

rookery_tests::contract! {
    everywhere {
        l1_a_link_is_two_way_and_one_per_pair,
        l1_both_ends_may_make_it_and_it_is_still_one,
        l1_a_link_with_itself_is_none,
        l2_a_link_with_a_dead_process_gives_no_proc,
        l2_a_link_with_a_dead_process_ends_who_does_not_trap,
        l3_an_exit_reaches_the_other_end_with_its_reason,
        l3_normal_is_ignored_unless_trapped,
        l3_an_exit_runs_along_a_chain,
        l4_after_unlink_nothing_comes,
        l4_unlink_takes_what_waits_in_the_mailbox,
        l4_unlink_races_with_the_exit,
        l4_who_was_unlinked_hears_nothing_either,
        l4_linked_anew_before_the_acknowledgement_is_a_link,
        l4_linked_and_unlinked_over_and_over_settles,
    }
    together {
        l1_spawn_link_holds_from_the_first_moment,
        l1_a_child_of_a_parent_that_ends_at_once_hears_of_it,
        l4_and_m3_what_was_taken_from_the_mailbox_and_not_received_goes_too,
    }
}

async fn link(from: &Puppet, to: &Pid) {
    let to = to.clone();
    from.run(move |context| context.link(&to)).await;
}

async fn unlink(from: &Puppet, to: &Pid) {
    let to = to.clone();
    from.run(move |context| context.unlink(&to)).await;
}

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

fn links(runtime: &Runtime, pid: &Pid) -> u64 {
    runtime.processes().into_iter().find(|info| info.pid == *pid).map_or(0, |info| info.links)
}

fn mailbox(runtime: &Runtime, pid: &Pid) -> u64 {
    runtime.processes().into_iter().find(|info| info.pid == *pid).map_or(0, |info| info.mailbox)
}

async fn l1_a_link_is_two_way_and_one_per_pair(a: &Runtime, b: &Runtime) {
    for near_ends in [true, false] {
        let (mut near, mut far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
        for _ in 0..3 {
            link(&near, &far.pid).await;
        }
        fence(a, b).await;
        assert_eq!((links(a, &near.pid), links(b, &far.pid)), (1, 1));
        if near_ends {
            near.end(error("near"));
            assert_eq!(far.exit().await, (near.pid.clone(), error("near"), true));
            fence(a, b).await;
            far.quiet().await;
        } else {
            far.end(error("far"));
            assert_eq!(near.exit().await, (far.pid.clone(), error("far"), true));
            fence(b, a).await;
            near.quiet().await;
        }
    }
}

async fn l1_both_ends_may_make_it_and_it_is_still_one(a: &Runtime, b: &Runtime) {
    for _ in 0..20 {
        let (mut near, far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
        tokio::join!(link(&near, &far.pid), link(&far, &near.pid));
        fence(a, b).await;
        fence(b, a).await;
        assert_eq!((links(a, &near.pid), links(b, &far.pid)), (1, 1));
        far.end(error("far"));
        assert_eq!(near.exit().await, (far.pid.clone(), error("far"), true));
        fence(b, a).await;
        near.quiet().await;
    }
}

async fn l1_a_link_with_itself_is_none(_: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let own = far.pid.clone();
    far.run(move |context| {
        context.link(&own);
        context.unlink(&own);
        context.link(&own);
    })
    .await;
    far.quiet().await;
    assert_eq!(links(b, &far.pid), 0);
}

/// Children that end at once: their parent hears of it once, with their own reason and never `NoProc`.
async fn l1_spawn_link_holds_from_the_first_moment(_: &Runtime, b: &Runtime) {
    let mut parent = Puppet::trapping(b).await;
    for number in 0..300_u64 {
        let child = parent
            .run(move |context| {
                let child = context.spawn_link(async move |_: Context<u8>| match number % 3 {
                    0 => ExitReason::Normal,
                    1 => ExitReason::Error(number.to_string()),
                    _ => panic!("number {number} is unlucky"),
                });
                child.unwrap().pid().unwrap()
            })
            .await;
        let expected = match number % 3 {
            0 => ExitReason::Normal,
            1 => error(&number.to_string()),
            _ => ExitReason::Panic(format!("number {number} is unlucky")),
        };
        assert_eq!(parent.exit().await, (child, expected, true));
    }
    parent.quiet().await;
}

async fn l1_a_child_of_a_parent_that_ends_at_once_hears_of_it(_: &Runtime, b: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    for _ in 0..200 {
        let tell = tell.clone();
        b.spawn(async move |mut parent: Context<u8>| {
            parent
                .spawn_link(async move |mut child: Context<u8>| {
                    child.trap_exits(true);
                    drop(tell.send(child.receive().await));
                })
                .unwrap();
            ExitReason::Shutdown
        })
        .unwrap();
    }
    drop(tell);
    // A child that had not come to trap exits yet has ended without a word.
    while let Some(received) = within("the children", told.recv()).await {
        let Received::Event(Event::Exit { reason, linked, .. }) = received else { panic!("{received:?}") };
        assert_eq!((reason, linked), (ExitReason::Shutdown, true));
    }
}

/// A pid of `runtime` that no process has any more.
async fn dead(runtime: &Runtime) -> Pid {
    let puppet = Puppet::new(runtime);
    let end = watch(runtime, &puppet.pid).await;
    puppet.end(ExitReason::Normal);
    end.reason().await;
    puppet.pid.clone()
}

async fn l2_a_link_with_a_dead_process_gives_no_proc(a: &Runtime, b: &Runtime) {
    let dead = dead(b).await;
    let never = Pid::new(b.node().clone(), Serial(dead.serial().0 ^ (1 << 20)));
    let mut near = Puppet::trapping(a).await;
    for pid in [dead, never] {
        for _ in 0..2 {
            link(&near, &pid).await;
            assert_eq!(near.exit().await, (pid.clone(), ExitReason::NoProc, true));
        }
        assert_eq!(links(a, &near.pid), 0);
    }
}

async fn l2_a_link_with_a_dead_process_ends_who_does_not_trap(a: &Runtime, b: &Runtime) {
    let dead = dead(b).await;
    let near = Puppet::new(a);
    let end = watch(a, &near.pid).await;
    drop(near.begin(move |context| {
        context.link(&dead);
        Box::pin(pending::<()>())
    }));
    assert_eq!(end.reason().await, ExitReason::NoProc);
}

async fn l3_an_exit_reaches_the_other_end_with_its_reason(a: &Runtime, b: &Runtime) {
    let reasons = [
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith("moving house".to_owned()),
        ExitReason::NoProc,
        error("äöü \u{1f600}"),
        ExitReason::Other(99, "of a later version".to_owned()),
    ];
    for reason in reasons {
        let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
        link(&near, &far.pid).await;
        fence(a, b).await;
        near.end(reason.clone());
        assert_eq!(far.exit().await, (near.pid.clone(), reason, true));
    }
}

async fn l3_normal_is_ignored_unless_trapped(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::new(b));
    let mut trapping = Puppet::trapping(b).await;
    link(&near, &far.pid).await;
    link(&near, &trapping.pid).await;
    fence(a, b).await;
    near.end(ExitReason::Normal);
    assert_eq!(trapping.exit().await.1, ExitReason::Normal);
    // One may be told a moment before the other.
    eventually("the link is gone all the same", || links(b, &far.pid) == 0).await;
    far.quiet().await;
}

async fn l3_an_exit_runs_along_a_chain(a: &Runtime, b: &Runtime) {
    let chain: Vec<Puppet> = (0..10).map(|number| Puppet::new(if number % 2 == 0 { a } else { b })).collect();
    for pair in chain.windows(2) {
        link(&pair[0], &pair[1].pid).await;
    }
    let mut last = Puppet::trapping(a).await;
    link(&last, &chain[9].pid).await;
    fence(a, b).await;
    fence(b, a).await;
    chain[0].end(error("first"));
    assert_eq!(last.exit().await, (chain[9].pid.clone(), error("first"), true));
}

async fn l4_after_unlink_nothing_comes(a: &Runtime, b: &Runtime) {
    for trapping in [true, false] {
        let mut near = if trapping { Puppet::trapping(a).await } else { Puppet::new(a) };
        let far = Puppet::new(b);
        link(&near, &far.pid).await;
        unlink(&near, &far.pid).await;
        let end = watch(b, &far.pid).await;
        far.end(error("far"));
        end.reason().await;
        fence(b, a).await;
        near.quiet().await;
        assert_eq!(links(a, &near.pid), 0);
    }
}

async fn l4_unlink_takes_what_waits_in_the_mailbox(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::trapping(a).await;
    let (far, other) = (Puppet::new(b), Puppet::new(b));
    link(&near, &far.pid).await;
    link(&near, &other.pid).await;
    fence(a, b).await;
    // `near` does not receive until both exits, and messages around them, lie in its mailbox.
    let unwanted = far.pid.clone();
    let held = near.hold(move |context| context.unlink(&unwanted)).await;
    far.send(&near.pid, Note::Number(1)).await;
    far.run_async({
        let near = near.pid.clone();
        // An exit that was sent by hand is not of the link, and stays.
        move |context| Box::pin(async move { context.exit(&near, error("by hand")) })
    })
    .await;
    far.end(error("far"));
    eventually("three wait", || mailbox(a, &near.pid) == 3).await;
    other.send(&near.pid, Note::Number(2)).await;
    other.end(error("other"));
    eventually("five wait", || mailbox(a, &near.pid) == 5).await;
    held.go().await;
    assert_eq!(near.number().await, 1);
    assert_eq!(near.exit().await, (far.pid.clone(), error("by hand"), false));
    assert_eq!(near.number().await, 2);
    assert_eq!(near.exit().await, (other.pid.clone(), error("other"), true));
    near.quiet().await;
}

/// A process takes its whole mailbox at once and receives from that; what it has not received yet is still in it.
async fn l4_and_m3_what_was_taken_from_the_mailbox_and_not_received_goes_too(a: &Runtime, _: &Runtime) {
    let (linked, monitored) = (Puppet::new(a), Puppet::new(a));
    let (to_link, to_monitor) = (linked.pid.clone(), monitored.pid.clone());
    let (ready, is_ready) = oneshot::channel();
    let (go, gate) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let near = a
        .spawn(async move |mut near: Context<Note>| {
            near.trap_exits(true);
            near.link(&to_link);
            let monitor = near.monitor(&to_monitor);
            ready.send(()).unwrap();
            gate.await.unwrap();
            let first = near.receive().await;
            near.unlink(&to_link);
            near.demonitor(monitor);
            tell.send(format!("{first:?} {:?}", near.receive().await)).unwrap();
        })
        .unwrap();
    within("the ties", is_ready).await.unwrap();
    near.send(Note::Number(1)).await.unwrap();
    linked.end(error("linked"));
    monitored.end(error("monitored"));
    let near_pid = near.pid().unwrap();
    eventually("three wait", || mailbox(a, &near_pid) == 3).await;
    near.send(Note::Number(2)).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(within("both", told).await.unwrap(), "Message(Number(1)) Message(Number(2))");
}

async fn l4_unlink_races_with_the_exit(a: &Runtime, b: &Runtime) {
    let near = Puppet::trapping(a).await;
    for _ in 0..100 {
        let far = Puppet::new(b);
        link(&near, &far.pid).await;
        fence_some(a, b).await;
        let end = watch(b, &far.pid).await;
        far.end(error("far"));
        // Whatever was reported before counts; what comes after the unlink breaks the promise.
        let (pid, (tell, told)) = (far.pid.clone(), oneshot::channel());
        near.run_async(move |context| {
            Box::pin(async move {
                context.unlink(&pid);
                let after = tokio::task::unconstrained(async {
                    tokio::select! {
                        biased;
                        received = context.receive() => Some(received),
                        () = tokio::task::yield_now() => None,
                    }
                });
                tell.send(after.await).unwrap();
            })
        })
        .await;
        let after = told.await.unwrap();
        assert!(after.is_none(), "{after:?} came after the unlink");
        end.reason().await;
    }
    fence(b, a).await;
    // What is left was received before its unlink: at most one for each.
    near.run(|_| ()).await;
}

/// Cheaper than a fence where it does not matter whether all has arrived.
async fn fence_some(a: &Runtime, b: &Runtime) {
    if a.own_pid() != b.own_pid() {
        fence(a, b).await;
    }
}

async fn l4_who_was_unlinked_hears_nothing_either(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
    link(&near, &far.pid).await;
    unlink(&near, &far.pid).await;
    near.end(error("near"));
    fence(a, b).await;
    far.quiet().await;
    assert_eq!(links(b, &far.pid), 0);

    // And the other way round: who is linked is not who unlinks.
    let (mut near, far) = (Puppet::trapping(a).await, Puppet::new(b));
    link(&near, &far.pid).await;
    fence(a, b).await;
    unlink(&far, &near.pid).await;
    let end = watch(b, &far.pid).await;
    far.end(error("far"));
    end.reason().await;
    fence(b, a).await;
    near.quiet().await;
}

async fn l4_linked_anew_before_the_acknowledgement_is_a_link(a: &Runtime, b: &Runtime) {
    for far_ends in [true, false] {
        let (mut near, mut far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
        let to = far.pid.clone();
        near.run(move |context| {
            context.link(&to);
            context.unlink(&to);
            context.link(&to);
            context.unlink(&to);
            context.link(&to);
        })
        .await;
        fence(a, b).await;
        fence(b, a).await;
        assert_eq!((links(a, &near.pid), links(b, &far.pid)), (1, 1));
        let (from, told) = if far_ends { (&far, &mut near) } else { (&near, &mut far) };
        let from_pid = from.pid.clone();
        from.end(error("end"));
        assert_eq!(told.exit().await, (from_pid, error("end"), true));
        told.quiet().await;
    }

    // Linked anew with one that ended in the meantime: one exit, of the new link.
    let (mut near, far) = (Puppet::trapping(a).await, Puppet::new(b));
    link(&near, &far.pid).await;
    fence(a, b).await;
    let end = watch(b, &far.pid).await;
    let to = far.pid.clone();
    let held = near
        .hold(move |context| {
            context.unlink(&to);
            context.link(&to);
        })
        .await;
    far.end(error("far"));
    end.reason().await;
    held.go().await;
    assert_eq!(near.exit().await, (far.pid.clone(), ExitReason::NoProc, true));
    fence(b, a).await;
    near.quiet().await;
}

/// Both ends link and unlink at the same time. However it goes, no end is left with half a link once both have let go.
async fn l4_linked_and_unlinked_over_and_over_settles(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
    for _ in 0..10 {
        tokio::join!(link_and_unlink(&near, &far.pid), link_and_unlink(&far, &near.pid));
        fence(a, b).await;
        fence(b, a).await;
        unlink(&near, &far.pid).await;
        fence(a, b).await;
        unlink(&far, &near.pid).await;
        fence(b, a).await;
        fence(a, b).await;
        assert_eq!((links(a, &near.pid), links(b, &far.pid)), (0, 0));
    }
    link(&near, &far.pid).await;
    fence(a, b).await;
    near.end(error("near"));
    assert_eq!(far.exit().await, (near.pid.clone(), error("near"), true));
    far.quiet().await;
}

async fn link_and_unlink(from: &Puppet, to: &Pid) {
    let to = to.clone();
    from.run_async(move |context| {
        Box::pin(async move {
            for _ in 0..50 {
                context.link(&to);
                tokio::task::yield_now().await;
                context.unlink(&to);
            }
        })
    })
    .await;
}
