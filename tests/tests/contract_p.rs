//! Rows P of the contract: processes and their identity. A pid is unique for ever and plain data; a process fails
//! alone, can be ended at any `.await`, and has given up its names before anybody is told that it ended.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::HashSet,
    future::pending,
    sync::Mutex,
    time::{Duration, Instant},
};

use rookery_runtime::{
    CallError, Context, Destination, ExitReason, Pid, ProcessName, Received, ReplyTo, Runtime, SpawnError, SpawnOptions,
};
use rookery_tests::{DEADLINE, Note, Puppet, eventually, fence, placement, watch, within};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

rookery_tests::contract! {
    everywhere {
        p1_pids_are_never_given_twice,
        p1_a_pid_whose_place_was_taken_is_dead,
        p2_a_pid_is_data_that_can_be_sent_printed_and_parsed,
        p3_a_panic_ends_that_process_alone,
        p3_a_panic_between_awaits_and_with_a_value_that_is_no_text,
        p3_a_panic_in_a_destructor_ends_nothing_else,
        p4_ends_while_it_sleeps_waits_calls_or_spins,
        p4_ends_before_its_first_step,
        p5_a_name_is_free_before_down_is_told,
        p5_a_name_is_free_before_the_exit_of_a_link_is_told,
    }
    apart {
        p3_a_message_that_panics_when_dropped_ends_no_connection,
    }
    together {
        p5_a_name_is_free_for_the_next_even_in_a_storm,
        p5_a_name_that_was_given_up_and_taken_again_is_freed_too,
        p3_a_message_that_panics_when_dropped_keeps_no_request_from_its_answer,
    }
}

async fn p1_pids_are_never_given_twice(a: &Runtime, b: &Runtime) {
    let mut pids = HashSet::new();
    for runtime in [a, b] {
        for _ in 0..1_000 {
            let pid = runtime.spawn(async |_: Context<u8>| ()).unwrap().pid().unwrap();
            assert!(pids.insert(pid.clone()), "{pid} was given twice");
        }
    }
}

async fn p1_a_pid_whose_place_was_taken_is_dead(a: &Runtime, b: &Runtime) {
    let old: Vec<Puppet> = (0..200).map(|_| Puppet::new(b)).collect();
    let mut ends = Vec::new();
    for puppet in &old {
        ends.push(watch(b, &puppet.pid).await);
        puppet.end(ExitReason::Normal);
    }
    for end in ends {
        end.reason().await;
    }
    // These take the places in the table that the others left.
    let mut new: Vec<Puppet> = (0..400).map(|_| Puppet::new(b)).collect();
    let sender = Puppet::new(a);
    for puppet in &old {
        sender.send(&puppet.pid, Note::Text("for a dead one".to_owned())).await;
        a.exit(&puppet.pid, ExitReason::Kill);
    }
    let asked = a.address::<Note>(&old[0].pid).call(Note::Ask).await;
    assert_eq!(asked, Err(CallError::NoProc));
    fence(a, b).await;
    for puppet in &mut new {
        puppet.quiet().await;
    }
}

#[test]
fn p1_a_pid_of_an_earlier_life_of_the_node_is_dead() {
    placement::run(async {
        let (earlier, later) = (placement::lone_runtime("a", 1), placement::lone_runtime("a", 2));
        let (old, mut new) = (Puppet::new(&earlier), Puppet::new(&later));
        assert_eq!(old.pid.serial(), new.pid.serial(), "the test needs two processes of the same serial");
        assert_ne!(old.pid, new.pid);
        later.address::<Note>(&old.pid).send(Note::Number(1)).await.unwrap();
        later.exit(&old.pid, ExitReason::Kill);
        let asked = later.address::<Note>(&old.pid).call(Note::Ask).await;
        assert!(matches!(asked, Err(CallError::NoProc | CallError::NoConnection)), "{asked:?}");
        new.quiet().await;
        old.run(|_| ()).await;
    });
}

async fn p2_a_pid_is_data_that_can_be_sent_printed_and_parsed(a: &Runtime, b: &Runtime) {
    let (mut near, mut far) = (Puppet::new(a), Puppet::new(b));
    let printed = far.pid.to_string();
    assert_eq!(printed.parse::<Pid>().unwrap(), far.pid);
    let json = serde_json::to_string(&far.pid).unwrap();
    assert_eq!(serde_json::from_str::<Pid>(&json).unwrap(), far.pid);
    assert_eq!(HashSet::from([far.pid.clone(), printed.parse().unwrap(), far.pid.clone()]).len(), 1);

    // There and back in messages, and it still means the same process.
    near.send(&printed.parse().unwrap(), Note::Pid(near.pid.clone())).await;
    let Received::Message(Note::Pid(of_near)) = far.next().await else { panic!("expected a pid") };
    assert_eq!(of_near, near.pid);
    far.send(&of_near, Note::Pid(far.pid.clone())).await;
    let Received::Message(Note::Pid(of_far)) = near.next().await else { panic!("expected a pid") };
    assert_eq!(of_far, far.pid);
    near.send(&of_far, Note::Number(7)).await;
    assert_eq!(far.number().await, 7);
}

async fn p3_a_panic_ends_that_process_alone(a: &Runtime, b: &Runtime) {
    let (mut near, bystander) = (Puppet::new(a), Puppet::new(b));
    for number in 0..20_u64 {
        let unlucky = Puppet::new(b);
        let pid = unlucky.pid.clone();
        let monitor = near.run(move |context| context.monitor(&pid)).await;
        fence(a, b).await;
        drop(unlucky.begin(move |_| Box::pin(async move { panic!("number {number} is unlucky") })));
        let down = near.down().await;
        assert_eq!((down.monitor, down.pid()), (monitor, Some(unlucky.pid.clone())));
        assert_eq!(down.reason, ExitReason::Panic(format!("number {number} is unlucky")));
    }
    assert_eq!(bystander.run(|_| 5).await, 5, "its neighbour lives");
}

async fn p3_a_panic_between_awaits_and_with_a_value_that_is_no_text(a: &Runtime, b: &Runtime) {
    let unlucky = Puppet::new(b);
    let end = watch(b, &unlucky.pid).await;
    drop(unlucky.begin(|context| {
        Box::pin(async move {
            drop(context.receive_timeout(Duration::from_millis(1)).await);
            std::panic::panic_any(5_u8)
        })
    }));
    let ExitReason::Panic(text) = end.reason().await else { panic!("expected a panic") };
    assert!(!text.is_empty());
    let asked = a.address::<Note>(&unlucky.pid).call(Note::Ask).await;
    assert_eq!(asked, Err(CallError::NoProc));
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

async fn p3_a_panic_in_a_destructor_ends_nothing_else(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::new(a);
    let (ready, is_ready) = oneshot::channel();
    let address = b
        .spawn(async |_: Context<Note>| {
            let _kept = PanicsWhenDropped;
            ready.send(()).unwrap();
            pending::<()>().await;
        })
        .unwrap();
    within("the process", is_ready).await.unwrap();
    let pid = address.pid().unwrap();
    let asking = a.address::<Note>(&pid);
    let asked = tokio::spawn(async move { asking.call(Note::Ask).await });
    near.run(move |context| context.monitor(&pid)).await;
    fence(a, b).await;
    b.exit(&address.pid().unwrap(), ExitReason::Shutdown);
    assert_eq!(near.down().await.reason, ExitReason::Shutdown);
    // Its queue is drained all the same.
    let asked = within("the answer", asked).await.unwrap();
    assert!(matches!(asked, Err(CallError::Exited(ExitReason::Shutdown) | CallError::NoProc)), "{asked:?}");
    assert_eq!(Puppet::new(b).run(|_| 5).await, 5, "the runtime goes on");
}

/// Panics when it is dropped where it has arrived, and arrives when its test says so.
#[derive(Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
struct Mine {
    gate: u64,
    armed: bool,
}

/// Where a mine says that it has been found, and waits.
type Gate = (mpsc::UnboundedSender<()>, std::sync::mpsc::Receiver<()>);

/// Of the tests that run in this process, by number.
static GATES: Mutex<Vec<Option<Gate>>> = Mutex::new(Vec::new());

impl From<u64> for Mine {
    fn from(gate: u64) -> Self {
        let (found, go) = GATES.lock().unwrap()[gate as usize].take().unwrap();
        found.send(()).unwrap();
        go.recv_timeout(DEADLINE).unwrap();
        Self { gate, armed: true }
    }
}

impl From<Mine> for u64 {
    fn from(mine: Mine) -> Self {
        mine.gate
    }
}

impl Clone for Mine {
    fn clone(&self) -> Self {
        Self { gate: self.gate, armed: false }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.armed, "in a message whose receiver has ended");
    }
}

async fn p3_a_message_that_panics_when_dropped_ends_no_connection(a: &Runtime, b: &Runtime) {
    let (found, mut is_found) = mpsc::unbounded_channel();
    let (go, gone) = std::sync::mpsc::channel();
    let gate = {
        let mut gates = GATES.lock().unwrap();
        gates.push(Some((found, gone)));
        gates.len() as u64 - 1
    };
    let mut near = Puppet::new(a);
    let other = Puppet::new(b);
    let pid = other.pid.clone();
    near.run(move |context| context.monitor(&pid)).await;
    let pid = b.spawn(async |_: Context<Mine>| pending::<()>().await).unwrap().pid().unwrap();
    a.address::<Mine>(&pid).send(Mine { gate, armed: false }).await.unwrap();
    within("the mine is found, on the I/O thread", is_found.recv()).await.unwrap();
    b.exit(&pid, ExitReason::Kill);
    eventually("its receiver has ended", || b.processes().iter().all(|info| info.pid != pid)).await;
    go.send(()).unwrap();
    // Were the connection lost, the monitor would say so first.
    fence(a, b).await;
    other.end(ExitReason::Shutdown);
    assert_eq!(near.down().await.reason, ExitReason::Shutdown);
}

#[derive(Serialize, Deserialize)]
enum Explosive {
    Bomb(Bomb),
    Ask(ReplyTo<u64>),
}

#[derive(Serialize, Deserialize)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a message");
    }
}

async fn p3_a_message_that_panics_when_dropped_keeps_no_request_from_its_answer(a: &Runtime, _: &Runtime) {
    let address = a.spawn(async |_: Context<Explosive>| pending::<()>().await).unwrap();
    let pid = address.pid().unwrap();
    let mut watcher = Puppet::new(a);
    let watched = pid.clone();
    watcher.run(move |context| context.monitor(watched)).await;
    let asks = address.clone();
    address.try_send(Explosive::Bomb(Bomb)).unwrap();
    let asked = tokio::spawn(async move { asks.call(Explosive::Ask).await });
    eventually("both wait", || a.processes().iter().any(|info| info.pid == pid && info.mailbox == 2)).await;
    a.exit(&pid, ExitReason::Shutdown);
    assert_eq!(within("the answer", asked).await.unwrap(), Err(CallError::Exited(ExitReason::Shutdown)));
    assert_eq!(watcher.down().await.reason, ExitReason::Shutdown);
}

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

async fn p4_ends_while_it_sleeps_waits_calls_or_spins(a: &Runtime, b: &Runtime) {
    let deaf = Puppet::new(a);
    let _held = deaf.begin(|_| Box::pin(pending::<()>()));
    for way in 0..6 {
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let (ready, is_ready) = oneshot::channel();
        let deaf = b.address::<Note>(&deaf.pid);
        let victim = b
            .spawn(async move |mut context: Context<Note>| {
                let _guard = Dropped(dropped);
                ready.send(()).unwrap();
                match way {
                    0 => tokio::time::sleep(Duration::from_secs(3600)).await,
                    1 => pending().await,
                    2 => drop(deaf.call_within(Duration::from_secs(3600), Note::Ask).await),
                    3 => drop(context.receive().await),
                    4 => drop(tokio::spawn(pending::<()>()).await),
                    _ => loop {
                        tokio::task::yield_now().await;
                    },
                }
                ExitReason::Error("it went on".to_owned())
            })
            .unwrap();
        let victim = victim.pid().unwrap();
        let end = watch(b, &victim).await;
        within("the process", is_ready).await.unwrap();
        let reason = if way % 2 == 0 { ExitReason::Kill } else { ExitReason::Error("enough".to_owned()) };
        a.exit(&victim, reason.clone());
        let expected = if reason == ExitReason::Kill { ExitReason::Killed } else { reason };
        assert_eq!(end.reason().await, expected, "way {way}");
        assert!(was_dropped.try_recv().is_ok(), "its values are gone before its end is told");
    }
}

async fn p4_ends_before_its_first_step(_: &Runtime, b: &Runtime) {
    // However the race between its first step and the exit goes, it ends with the reason, and its values are dropped.
    for _ in 0..200 {
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let guard = Dropped(dropped);
        let victim = b
            .spawn(async move |_: Context<Note>| {
                let _guard = guard;
                pending::<()>().await;
            })
            .unwrap();
        let victim = victim.pid().unwrap();
        b.exit(&victim, ExitReason::Shutdown);
        within("its values to go", was_dropped.recv()).await.unwrap();
    }
}

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

/// Takes a name on the node of `runtime` for a fresh process.
async fn named(runtime: &Runtime, text: &str) -> Puppet {
    let puppet = Puppet::new(runtime);
    let name = name(text);
    puppet.run_async(move |context| Box::pin(async move { context.register(&name).await })).await.unwrap();
    puppet
}

async fn p5_a_name_is_free_before_down_is_told(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::new(a);
    for round in 0..50 {
        let far = named(b, "clerk").await;
        // Half of them by name: whoever is told has the same promise.
        let target = match round % 2 {
            0 => Destination::from(&far.pid),
            _ => Destination::name(b.node().clone(), name("clerk")),
        };
        near.run(move |context| context.monitor(target)).await;
        fence(a, b).await;
        far.end(ExitReason::Shutdown);
        assert_eq!(near.down().await.reason, ExitReason::Shutdown);
        assert_eq!(a.whereis_on(b.node(), &name("clerk")).await.unwrap(), None);
    }
}

async fn p5_a_name_is_free_before_the_exit_of_a_link_is_told(a: &Runtime, b: &Runtime) {
    let mut near = Puppet::trapping(a).await;
    for _ in 0..50 {
        let far = named(b, "clerk").await;
        let pid = far.pid.clone();
        near.run(move |context| context.link(&pid)).await;
        fence(a, b).await;
        a.exit(&far.pid, ExitReason::Kill);
        assert_eq!(near.exit().await, (far.pid.clone(), ExitReason::Killed, true));
        assert_eq!(a.whereis_on(b.node(), &name("clerk")).await.unwrap(), None);
    }
}

/// The successor takes the name in the very step in which it is told, as a supervisor's child would.
async fn p5_a_name_is_free_for_the_next_even_in_a_storm(a: &Runtime, _: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    for keeper in 0..8 {
        let tell = tell.clone();
        let name = name(&format!("clerk-{keeper}"));
        a.spawn(async move |mut context: Context<Note>| {
            for _ in 0..200 {
                let options = SpawnOptions::new().name(name.clone()).monitored_by(context.pid());
                let clerk = context.runtime().spawn_with(options, async |_: Context<Note>| ());
                if let Err(SpawnError::Name(error)) = &clerk {
                    drop(tell.send(Some(error.to_string())));
                    return;
                }
                drop(context.receive().await);
            }
            drop(tell.send(None));
        })
        .unwrap();
    }
    for _ in 0..8 {
        assert_eq!(within("a keeper", told.recv()).await.unwrap(), None);
    }
}

async fn p5_a_name_that_was_given_up_and_taken_again_is_freed_too(a: &Runtime, _: &Runtime) {
    for _ in 0..200 {
        let puppet = Puppet::new(a);
        let ours = puppet.pid.clone();
        a.register_here(&name("clerk"), &ours).unwrap();
        let storm: Vec<_> = (0..2)
            .map(|_| {
                let (a, ours, name) = (a.clone(), ours.clone(), name("clerk"));
                std::thread::spawn(move || {
                    for _ in 0..20 {
                        drop(a.unregister_here(&name, &ours));
                        a.register_here(&name, &ours).unwrap();
                    }
                })
            })
            .collect();
        for thread in storm {
            thread.join().unwrap();
        }
        let end = watch(a, &ours).await;
        puppet.end(ExitReason::Normal);
        end.reason().await;
        assert_eq!(a.whereis_here(&name("clerk")), None, "the name outlives its process");
    }
}

/// A call from outside of any process is answered too, and a `ReplyTo` that is kept beyond its process tells its end.
#[test]
fn p4_a_reply_that_is_kept_by_others_outlives_its_process() {
    placement::run(async {
        let runtime = placement::lone_runtime("a", 1);
        let (keep, mut kept) = mpsc::unbounded_channel::<ReplyTo<u64>>();
        let address = runtime
            .spawn(async move |mut context: Context<Note>| {
                if let Received::Message(Note::Ask(reply)) = context.receive().await {
                    drop(keep.send(reply));
                }
            })
            .unwrap();
        let start = Instant::now();
        let call = tokio::spawn(async move { address.call(Note::Ask).await });
        let reply = within("the request", kept.recv()).await.unwrap();
        reply.send(9).unwrap();
        assert_eq!(within("the answer", call).await.unwrap(), Ok(9));
        assert!(start.elapsed() < Duration::from_secs(4));
    });
}
