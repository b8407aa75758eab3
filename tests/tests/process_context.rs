//! What a process's own code relies on: receiving with a timeout and in `select!`, timers, bounded mailboxes, and what is
//! known of a process from outside. Not rows of the contract, but what its rows stand on.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_runtime::{Context, Destination, ExitReason, ProcessName, Received, Runtime, SendError, SpawnOptions};
use rookery_tests::{Note, Puppet, eventually, within};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

rookery_tests::contract! {
    together {
        receive_with_a_timeout_gives_up_in_time_and_loses_nothing,
        receive_is_safe_to_cancel,
        receive_in_select_takes_turns_with_others,
        a_process_of_messages_alone_passes_events_over_and_obeys_a_trapped_exit,
        timers_fire_in_order_and_never_early,
        timers_fire_while_the_mailbox_is_never_empty,
        a_cancelled_timer_does_not_fire,
        a_timer_ends_with_its_process,
        an_interval_ticks_until_it_is_cancelled,
        a_late_process_gets_one_tick_for_all_it_missed,
        a_busy_process_lets_others_run,
        a_bounded_mailbox_gives_messages_back,
        a_bounded_mailbox_takes_events_all_the_same,
        what_is_told_of_a_process_is_so,
        a_full_mailbox_holds_its_senders_up,
    }
    everywhere {
        a_message_to_another_comes_when_its_time_has_come,
        a_cancelled_message_to_another_does_not_come,
    }
}

async fn receive_with_a_timeout_gives_up_in_time_and_loses_nothing(a: &Runtime, _: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = a
        .spawn(async move |mut context: Context<u64>| {
            loop {
                let start = Instant::now();
                match context.receive_timeout(Duration::from_millis(5)).await {
                    Some(Received::Message(number)) => drop(tell.send(number)),
                    Some(other) => panic!("{other:?}"),
                    None => assert!(start.elapsed() >= Duration::from_millis(5)),
                }
            }
        })
        .unwrap();
    for number in 0..50 {
        address.send(number).await.unwrap();
        if number % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
    }
    for number in 0..50 {
        assert_eq!(within("a message", told.recv()).await.unwrap(), number);
    }
}

async fn receive_is_safe_to_cancel(a: &Runtime, _: &Runtime) {
    const MESSAGES: u64 = 20_000;
    let (tell, told) = oneshot::channel();
    let address = a
        .spawn(async move |mut context: Context<u64>| {
            let mut next = 0;
            let mut given_up = 0_u64;
            while next < MESSAGES {
                // Given up after each of its steps, sooner than it can be done.
                tokio::select! {
                    biased;
                    () = tokio::task::yield_now(), if next % 3 != 0 => given_up += 1,
                    received = context.receive() => match received {
                        Received::Message(number) => {
                            assert_eq!(number, next, "one is lost, or out of order");
                            next += 1;
                        }
                        other => panic!("{other:?}"),
                    },
                }
            }
            tell.send(given_up).unwrap();
        })
        .unwrap();
    let sender = std::thread::spawn(move || (0..MESSAGES).for_each(|number| address.try_send(number).unwrap()));
    within("all messages", told).await.unwrap();
    sender.join().unwrap();
}

async fn receive_in_select_takes_turns_with_others(a: &Runtime, _: &Runtime) {
    let (work, mut jobs) = mpsc::unbounded_channel::<u64>();
    let (tell, mut told) = mpsc::unbounded_channel();
    let address = a
        .spawn(async move |mut context: Context<u64>| {
            loop {
                tokio::select! {
                    received = context.receive() => match received {
                        Received::Message(number) => drop(tell.send(("message", number))),
                        other => panic!("{other:?}"),
                    },
                    Some(job) = jobs.recv() => drop(tell.send(("job", job))),
                }
            }
        })
        .unwrap();
    for number in 0..100 {
        address.send(number).await.unwrap();
        work.send(number).unwrap();
    }
    let mut next = (0, 0);
    for _ in 0..200 {
        match within("either", told.recv()).await.unwrap() {
            ("message", number) => {
                assert_eq!(number, next.0);
                next.0 += 1;
            }
            (_, number) => {
                assert_eq!(number, next.1);
                next.1 += 1;
            }
        }
    }
    assert_eq!(next, (100, 100));
}

async fn a_process_of_messages_alone_passes_events_over_and_obeys_a_trapped_exit(a: &Runtime, _: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let (ready, started) = oneshot::channel();
    let address = a
        .spawn(async move |mut context: Context<u64>| {
            context.trap_exits(true);
            // There is no such process: its `Down` comes before the first message.
            let own = context.pid().clone();
            context.monitor(Destination::name(own.node().clone(), ProcessName::new("nobody").unwrap()));
            ready.send(()).unwrap();
            while let Some(number) = context.message().await {
                tell.send(number).unwrap();
            }
        })
        .unwrap();
    within("the start", started).await.unwrap();
    address.send(1).await.unwrap();
    address.send(2).await.unwrap();
    let pid = address.pid().unwrap();
    a.exit(&pid, ExitReason::Shutdown);
    assert_eq!(within("the first", told.recv()).await, Some(1));
    assert_eq!(within("the second", told.recv()).await, Some(2));
    assert_eq!(within("its end", told.recv()).await, None);
}

async fn timers_fire_in_order_and_never_early(a: &Runtime, _: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    a.spawn(async move |mut context: Context<u64>| {
        let start = Instant::now();
        for milliseconds in [40, 5, 20, 0, 20, 10] {
            context.send_after(Duration::from_millis(milliseconds), milliseconds);
        }
        // One whose time overflows the clock is merely never due.
        context.send_after(Duration::MAX, 999);
        loop {
            match context.receive().await {
                Received::Message(milliseconds) => drop(tell.send((milliseconds, start.elapsed()))),
                other => panic!("{other:?}"),
            }
        }
    })
    .unwrap();
    for expected in [0, 5, 10, 20, 20, 40] {
        let (milliseconds, after) = within("a timer", told.recv()).await.unwrap();
        assert_eq!(milliseconds, expected);
        assert!(after >= Duration::from_millis(expected), "{expected} ms after {after:?}");
    }
}

async fn timers_fire_while_the_mailbox_is_never_empty(a: &Runtime, _: &Runtime) {
    let (tell, told) = oneshot::channel();
    a.spawn(async move |mut context: Context<u64>| {
        let own = context.address();
        own.send(0).await.unwrap();
        context.send_after(Duration::from_millis(20), u64::MAX);
        loop {
            match context.receive().await {
                Received::Message(u64::MAX) => return tell.send(()).unwrap(),
                // As much as it takes, it gives.
                Received::Message(_) => own.send(0).await.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    })
    .unwrap();
    within("the timer", told).await.unwrap();
}

async fn a_cancelled_timer_does_not_fire(a: &Runtime, _: &Runtime) {
    let mut puppet = Puppet::new(a);
    let left = puppet
        .run(|context| {
            let unwanted = context.send_after(Duration::from_secs(3600), Note::Number(1));
            let soon = context.send_after(Duration::ZERO, Note::Number(2));
            let again = context.send_after(Duration::ZERO, Note::Number(3));
            let left = context.cancel_timer(unwanted);
            (left, context.cancel_timer(unwanted), context.cancel_timer(soon), again)
        })
        .await;
    let long = left.0.unwrap();
    assert!(long > Duration::from_secs(3500) && long <= Duration::from_secs(3600), "{long:?}");
    assert_eq!(left.1, None, "it is cancelled once");
    assert_eq!(left.2, Some(Duration::ZERO));
    assert_eq!(puppet.number().await, 3);
    assert_eq!(puppet.run(move |context| context.cancel_timer(left.3)).await, None, "it has fired");
    puppet.quiet().await;
}

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

async fn a_timer_ends_with_its_process(a: &Runtime, _: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let before = a.process_count();
    a.spawn(async move |mut context: Context<u64>| {
        let _guard = Dropped(tell);
        context.send_after(Duration::from_secs(3600), 1);
    })
    .unwrap();
    within("the end", told.recv()).await.unwrap();
    eventually("it is gone", || a.process_count() == before).await;
}

/// On a runtime of two threads, three processes that always have something to receive do not starve a fourth.
async fn an_interval_ticks_until_it_is_cancelled(a: &Runtime, _: &Runtime) {
    const EVERY: Duration = Duration::from_millis(5);
    let mut puppet = Puppet::new(a);
    let start = Instant::now();
    let (timer, other) = puppet
        .run(|context| {
            let mut tick = 0;
            let timer = context.interval(EVERY, move || {
                tick += 1;
                Note::Number(tick)
            });
            (timer, context.interval(Duration::from_secs(3600), || Note::Number(0)))
        })
        .await;
    for tick in 1..=10 {
        assert_eq!(puppet.number().await, tick);
        assert!(start.elapsed() >= EVERY * u32::try_from(tick).unwrap(), "tick {tick} is early");
    }
    let left = puppet.run(move |context| (context.cancel_timer(timer), context.cancel_timer(timer))).await;
    assert!(left.0.is_some_and(|left| left <= EVERY) && left.1.is_none(), "{left:?}");
    // What was on its way when it was cancelled has been reported by now.
    puppet.run(|_| ()).await;
    while puppet.try_number().is_some() {}
    tokio::time::sleep(EVERY * 4).await;
    puppet.quiet().await;
    let left = puppet.run(move |context| context.cancel_timer(other)).await.unwrap();
    assert!(left <= Duration::from_secs(3600) && left > Duration::from_secs(3000), "{left:?}");
}

async fn a_late_process_gets_one_tick_for_all_it_missed(a: &Runtime, _: &Runtime) {
    const EVERY: Duration = Duration::from_millis(10);
    let (tell, told) = oneshot::channel();
    a.spawn(async move |mut context: Context<u64>| {
        let start = Instant::now();
        context.interval(EVERY, || 1);
        tokio::time::sleep(EVERY * 20).await;
        drop(context.receive().await);
        // Back in step: the next ones are due at multiples, so ten of them take ten intervals, or nine and a bit.
        let late = start.elapsed();
        for _ in 0..10 {
            drop(context.receive().await);
        }
        tell.send(start.elapsed() - late).unwrap();
    })
    .unwrap();
    let took = within("the ticks", told).await.unwrap();
    assert!(took > EVERY * 9, "{took:?} for ten ticks");
}

async fn a_message_to_another_comes_when_its_time_has_come(a: &Runtime, b: &Runtime) {
    const AFTER: Duration = Duration::from_millis(20);
    let mut far = Puppet::new(b);
    let (sender, to) = (Puppet::new(a), far.pid.clone());
    let start = Instant::now();
    let timer = sender.run(move |context| context.runtime().address::<Note>(&to).send_after(AFTER, Note::Number(5)));
    let timer = timer.await.unwrap();
    // It is nobody's: whoever set it may end.
    sender.end(rookery_runtime::ExitReason::Normal);
    assert_eq!(far.number().await, 5);
    assert!(start.elapsed() >= AFTER);
    assert_eq!(timer.cancel(), None, "it was sent");
}

async fn a_cancelled_message_to_another_does_not_come(a: &Runtime, b: &Runtime) {
    let mut far = Puppet::new(b);
    let to = a.address::<Note>(&far.pid);
    let before = a.process_count();
    let timer = to.send_after(Duration::from_millis(40), Note::Number(1)).unwrap();
    let left = timer.cancel();
    assert!(left.is_none_or(|left| left <= Duration::from_millis(40)));
    eventually("the timer's process is gone", || a.process_count() <= before).await;
    drop(to.send_after(Duration::from_millis(60), Note::Number(2)).unwrap());
    // It was sent after all only if this machine stood still for as long.
    if left.is_none() {
        assert_eq!(far.number().await, 1);
    }
    assert_eq!(far.number().await, 2, "dropping a timer cancels nothing");
}

async fn a_busy_process_lets_others_run(a: &Runtime, _: &Runtime) {
    for _ in 0..3 {
        a.spawn(async move |mut context: Context<u64>| {
            let own = context.address();
            own.send(0).await.unwrap();
            loop {
                drop(context.receive().await);
                own.send(0).await.unwrap();
            }
        })
        .unwrap();
    }
    let mut puppet = Puppet::new(a);
    for number in 0..20 {
        puppet.address.send(Note::Number(number)).await.unwrap();
        assert_eq!(puppet.number().await, number);
    }
    a.shut_down(rookery_runtime::ExitReason::Shutdown, Duration::from_secs(10)).await;
    assert_eq!(a.process_count(), 0, "busy processes are ended too");
}

async fn a_bounded_mailbox_gives_messages_back(a: &Runtime, _: &Runtime) {
    let (go, gate) = oneshot::channel::<()>();
    let (tell, mut told) = mpsc::unbounded_channel();
    let spawned = a.spawn_with(SpawnOptions::new().mailbox(4), async move |mut context: Context<u64>| {
        gate.await.unwrap();
        loop {
            if let Received::Message(number) = context.receive().await {
                tell.send(number).ok();
            }
        }
    });
    let address = spawned.unwrap().address;
    for number in 0..4 {
        address.try_send(number).unwrap();
    }
    let Err(SendError::Full { message }) = address.try_send(4) else { panic!("there is no fifth place") };
    let waiting = address.clone();
    let sent = tokio::spawn(async move { waiting.send(message).await.map_err(|error| error.to_string()) });
    tokio::task::yield_now().await;
    assert!(!sent.is_finished(), "it waits for room");
    go.send(()).unwrap();
    within("room", sent).await.unwrap().unwrap();
    for number in 0..5 {
        assert_eq!(within("a message", told.recv()).await.unwrap(), number);
    }
}

async fn a_bounded_mailbox_takes_events_all_the_same(a: &Runtime, _: &Runtime) {
    let (go, gate) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let mortal = Puppet::new(a);
    let pid = mortal.pid.clone();
    let spawned = a.spawn_with(SpawnOptions::new().mailbox(1), async move |mut context: Context<u64>| {
        context.monitor(&pid);
        ready.send(()).unwrap();
        gate.await.unwrap();
        let both = (context.receive().await, context.receive().await);
        tell.send(format!("{both:?}")).unwrap();
    });
    let address = spawned.unwrap().address;
    within("the monitor", is_ready).await.unwrap();
    address.try_send(1).unwrap();
    mortal.end(rookery_runtime::ExitReason::Normal);
    eventually("both wait", || a.processes().iter().any(|info| info.mailbox == 2)).await;
    go.send(()).unwrap();
    let both = within("both", told).await.unwrap();
    assert!(both.contains("Message(1)") && both.contains("Down"), "{both}");
}

async fn what_is_told_of_a_process_is_so(a: &Runtime, _: &Runtime) {
    let before = a.process_count();
    let (one, other) = (Puppet::new(a), Puppet::trapping(a).await);
    let (to, name) = (other.pid.clone(), rookery_runtime::ProcessName::new("one").unwrap());
    one.run(move |context| {
        context.link(&to);
        context.monitor(&to);
        context.monitor(&to);
    })
    .await;
    a.register(&name, &one.pid).await.unwrap();
    let held = one.hold(|_| ()).await;
    one.address.send(Note::Number(1)).await.unwrap();
    let infos = a.processes();
    assert_eq!((infos.len(), a.process_count()), (before + 2, before + 2));
    let info = infos.iter().find(|info| info.pid == one.pid).unwrap();
    assert_eq!((info.links, info.monitors, info.watchers, info.mailbox), (1, 2, 0, 1));
    assert_eq!((&info.names[..], info.traps_exits), (&[name][..], false));
    let info = infos.iter().find(|info| info.pid == other.pid).unwrap();
    assert_eq!((info.links, info.monitors, info.watchers, info.traps_exits), (1, 0, 2, true));
    held.go().await;
}

/// A sender waits for a bounded mailbox, in order, by pid and by name, and is let go when its receiver takes or ends.
async fn a_full_mailbox_holds_its_senders_up(a: &Runtime, _: &Runtime) {
    let name = rookery_runtime::ProcessName::new("bounded").unwrap();
    let options = SpawnOptions::new().mailbox(1).name(name.clone());
    let (go, mut gate) = mpsc::channel::<()>(1);
    let (tell, mut told) = mpsc::unbounded_channel();
    let spawned = a.spawn_with(options, async move |mut context: Context<u64>| {
        while gate.recv().await.is_some() {
            if let rookery_runtime::Received::Message(number) = context.receive().await {
                tell.send(number).unwrap();
            }
        }
    });
    let address = spawned.unwrap().address;
    let by_name = a.named::<u64>(name);
    address.try_send(0).unwrap();
    assert!(matches!(address.try_send(1), Err(rookery_runtime::SendError::Full { message: 1 })));
    let senders = [address.clone(), by_name].map(|address| {
        tokio::spawn(async move {
            for number in 1..50 {
                address.send(number).await.unwrap();
            }
        })
    });
    for _ in 0..99 {
        go.send(()).await.unwrap();
        within("a message", told.recv()).await.unwrap();
    }
    for sender in senders {
        within("its sender", sender).await.unwrap();
    }
    address.try_send(7).unwrap();
    let waits = tokio::spawn(async move { address.send(8).await });
    drop(go);
    within("who waits for one that has ended", waits).await.unwrap().unwrap();
}
