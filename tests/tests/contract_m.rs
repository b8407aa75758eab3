//! Rows M of the contract: monitors. One-way, stackable, exactly one `Down` each, and none after `demonitor`.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;

use rookery_runtime::{Context, Destination, ExitReason, Pid, ProcessName, Ref, Runtime};
use rookery_tests::{Puppet, eventually, fence, watch};

rookery_tests::contract! {
    everywhere {
        m1_down_comes_once_per_monitor,
        m1_a_monitor_is_one_way,
        m1_a_monitor_of_itself_is_silent,
        m2_monitoring_a_dead_process_gives_no_proc,
        m2_monitoring_by_name_finds_the_holder,
        m2_monitoring_a_name_of_nobody_gives_no_proc,
        m2_a_name_that_changes_hands_keeps_its_monitors_with_the_process,
        m3_after_demonitor_nothing_comes,
        m3_demonitor_takes_what_waits_in_the_mailbox,
        m3_demonitor_races_with_the_end,
        m3_demonitor_by_name,
    }
    together {
        m1_spawn_monitor_holds_from_the_first_moment,
    }
}

async fn monitor(from: &Puppet, to: impl Into<Destination>) -> Ref {
    let to = to.into();
    from.run(move |context| context.monitor(to)).await
}

async fn demonitor(from: &Puppet, monitor: Ref) {
    from.run(move |context| context.demonitor(monitor)).await;
}

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

async fn give_name(puppet: &Puppet, text: &str) {
    let name = name(text);
    puppet.run_async(move |context| Box::pin(async move { context.register(&name).await })).await.unwrap();
}

fn watchers(runtime: &Runtime, pid: &Pid) -> u64 {
    runtime.processes().into_iter().find(|info| info.pid == *pid).map_or(0, |info| info.watchers)
}

fn mailbox(runtime: &Runtime, pid: &Pid) -> u64 {
    runtime.processes().into_iter().find(|info| info.pid == *pid).map_or(0, |info| info.mailbox)
}

async fn dead(runtime: &Runtime) -> Pid {
    let puppet = Puppet::new(runtime);
    let end = watch(runtime, &puppet.pid).await;
    puppet.end(ExitReason::Normal);
    end.reason().await;
    puppet.pid.clone()
}

async fn m1_down_comes_once_per_monitor(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    give_name(&far, "far").await;
    let mut monitors = HashSet::new();
    for _ in 0..5 {
        assert!(monitors.insert(monitor(&near, &far.pid).await));
        assert!(monitors.insert(monitor(&near, Destination::name(b.node().clone(), name("far"))).await));
    }
    fence(a, b).await;
    assert_eq!(watchers(b, &far.pid), 10);
    far.end(error("far"));
    for _ in 0..10 {
        let down = near.down().await;
        assert!(monitors.remove(&down.monitor), "{down:?} came twice");
        assert_eq!(down.reason, error("far"));
        assert!(down.pid().is_none_or(|pid| pid == far.pid));
    }
    fence(b, a).await;
    near.quiet().await;
}

async fn m1_a_monitor_is_one_way(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
    monitor(&near, &far.pid).await;
    monitor(&near, &far.pid).await;
    fence(a, b).await;
    near.end(error("near"));
    fence(a, b).await;
    eventually("its monitors are forgotten", || watchers(b, &far.pid) == 0).await;
    far.quiet().await;
}

async fn m1_a_monitor_of_itself_is_silent(_: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    monitor(&far, &far.pid.clone()).await;
    far.quiet().await;
    let end = watch(b, &far.pid).await;
    far.end(error("far"));
    assert_eq!(end.reason().await, error("far"));
}

async fn m1_spawn_monitor_holds_from_the_first_moment(_: &Runtime, b: &Runtime) {
    let mut parent = Puppet::new(b);
    for number in 0..300_u64 {
        let (child, monitor) = parent
            .run(move |context| {
                let (child, monitor) =
                    context.spawn_monitor(async move |_: Context<u8>| ExitReason::Error(number.to_string())).unwrap();
                (child.pid().unwrap(), monitor)
            })
            .await;
        let down = parent.down().await;
        assert_eq!((down.pid(), down.monitor), (Some(child), monitor));
        assert_eq!(down.reason, error(&number.to_string()));
    }
    parent.quiet().await;
}

async fn m2_monitoring_a_dead_process_gives_no_proc(a: &Runtime, b: &Runtime) {
    let dead = dead(b).await;
    let mut near = Puppet::new(a);
    for _ in 0..3 {
        let monitor = monitor(&near, &dead).await;
        let down = near.down().await;
        assert_eq!((down.monitor, down.pid(), down.reason), (monitor, Some(dead.clone()), ExitReason::NoProc));
    }
}

async fn m2_monitoring_by_name_finds_the_holder(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    give_name(&far, "far").await;
    let target = Destination::name(b.node().clone(), name("far"));
    let monitor = monitor(&near, target).await;
    fence(a, b).await;
    near.quiet().await;
    far.end(error("far"));
    let down = near.down().await;
    assert_eq!((down.monitor, down.reason), (monitor, error("far")));
}

async fn m2_monitoring_a_name_of_nobody_gives_no_proc(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::new(a);
    let target = Destination::name(b.node().clone(), name("nobody"));
    let monitor = monitor(&near, target.clone()).await;
    let down = near.down().await;
    assert_eq!((down.monitor, down.target, down.reason), (monitor, target, ExitReason::NoProc));
}

async fn m2_a_name_that_changes_hands_keeps_its_monitors_with_the_process(a: &Runtime, b: &Runtime) {
    let (mut near, first, second) = (Puppet::new(a), Puppet::new(b), Puppet::new(b));
    give_name(&first, "far").await;
    let target = Destination::name(b.node().clone(), name("far"));
    let of_first = monitor(&near, target.clone()).await;
    fence(a, b).await;
    b.unregister(&name("far"), &first.pid).await.unwrap();
    give_name(&second, "far").await;
    let of_second = monitor(&near, target).await;
    fence(a, b).await;
    first.end(error("first"));
    let down = near.down().await;
    assert_eq!((down.monitor, down.reason), (of_first, error("first")));
    fence(b, a).await;
    near.quiet().await;
    second.end(error("second"));
    let down = near.down().await;
    assert_eq!((down.monitor, down.reason), (of_second, error("second")));
}

async fn m3_after_demonitor_nothing_comes(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    let unwanted = monitor(&near, &far.pid).await;
    let wanted = monitor(&near, &far.pid).await;
    demonitor(&near, unwanted).await;
    demonitor(&near, unwanted).await;
    demonitor(&near, Ref(u64::MAX)).await;
    fence(a, b).await;
    assert_eq!(watchers(b, &far.pid), 1);
    far.end(error("far"));
    assert_eq!(near.down().await.monitor, wanted);
    fence(b, a).await;
    near.quiet().await;
}

async fn m3_demonitor_takes_what_waits_in_the_mailbox(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    let unwanted = monitor(&near, &far.pid).await;
    let wanted = monitor(&near, &far.pid).await;
    fence(a, b).await;
    let held = near.hold(move |context| context.demonitor(unwanted)).await;
    far.end(error("far"));
    eventually("both wait", || mailbox(a, &near.pid) == 2).await;
    held.go().await;
    assert_eq!(near.down().await.monitor, wanted);
    near.quiet().await;
}

async fn m3_demonitor_races_with_the_end(a: &Runtime, b: &Runtime) {
    let near = Puppet::new(a);
    for round in 0..100 {
        let far = Puppet::new(b);
        let unwanted = monitor(&near, &far.pid).await;
        if a.own_pid() != b.own_pid() {
            fence(a, b).await;
        }
        let end = watch(b, &far.pid).await;
        far.end(error("far"));
        let after = near
            .run_async(move |context| {
                Box::pin(async move {
                    for _ in 0..round {
                        tokio::task::yield_now().await;
                    }
                    context.demonitor(unwanted);
                    let after = tokio::select! {
                        biased;
                        received = context.receive() => Some(received),
                        () = tokio::task::yield_now() => None,
                    };
                    after.map(|received| format!("{received:?}"))
                })
            })
            .await;
        assert_eq!(after, None, "round {round}");
        end.reason().await;
    }
}

async fn m3_demonitor_by_name(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::new(a), Puppet::new(b));
    give_name(&far, "far").await;
    let unwanted = monitor(&near, Destination::name(b.node().clone(), name("far"))).await;
    demonitor(&near, unwanted).await;
    fence(a, b).await;
    assert_eq!(watchers(b, &far.pid), 0);
    // Also when the name has gone in the meantime.
    let unwanted = monitor(&near, Destination::name(b.node().clone(), name("far"))).await;
    fence(a, b).await;
    b.unregister(&name("far"), &far.pid).await.unwrap();
    demonitor(&near, unwanted).await;
    let end = watch(b, &far.pid).await;
    far.end(error("far"));
    end.reason().await;
    fence(b, a).await;
    near.quiet().await;
}
