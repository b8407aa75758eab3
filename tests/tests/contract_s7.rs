//! Row S7 of the contract: a bounded mailbox pushes back on senders wherever they are; no receiver is flooded, and nobody
//! else's traffic is held up.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rookery_protocol::limits::{CREDIT_ON_TRUST, MAX_CREDITS_PER_ASKER};
use rookery_runtime::{
    Address, CallError, Context, Destination, ExitReason, Group, Pid, ProcessName, Received, Runtime, SendError,
    SpawnOptions,
};
use rookery_tests::{
    Note, Puppet,
    cluster::{client, impatient, mesh, meshed, node_config},
    eventually, fence,
    placement::run,
    relay::Relay,
    within,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

rookery_tests::contract! {
    everywhere {
        s7_what_does_not_fit_waits_at_the_sender_and_arrives_in_order,
        s7_try_send_gives_the_message_back,
        s7_a_call_that_waits_for_room_ends_at_its_deadline,
        s7_a_hundred_senders_flood_nobody_and_hold_up_nobody,
        s7_when_the_receiver_ends_all_go_on,
        s7_the_next_holder_of_a_name_is_asked_anew,
        s7_a_name_of_the_cluster_pushes_back_too,
        s7_what_is_typed_by_hand_waits_too,
        s7_messages_that_are_not_understood_use_nothing_up,
    }
    apart {
        s7_senders_that_give_up_waiting_take_no_room_with_them,
    }
}

const CAPACITY: u32 = 50;

/// What a sleeping process may have been sent by one node or client, beside others here: what is sent before it is known
/// that it has a limit, its limit for those elsewhere, and that for those here.
const BOUND: u64 = (CREDIT_ON_TRUST + CAPACITY + 1 + CAPACITY) as u64;

const LONG: Duration = Duration::from_secs(3600);

/// A bounded process that receives nothing until it is woken; then it tells the numbers that it receives.
struct Sleeper {
    pid: Pid,
    runtime: Runtime,
    wake: Option<oneshot::Sender<()>>,
    numbers: mpsc::UnboundedReceiver<u64>,
}

impl Sleeper {
    fn new(runtime: &Runtime, options: SpawnOptions) -> Self {
        let (wake, woken) = oneshot::channel();
        let (tell, numbers) = mpsc::unbounded_channel();
        let spawned = runtime
            .spawn_with(options.mailbox(CAPACITY), async move |mut context: Context<Note>| {
                drop(woken.await);
                loop {
                    match context.receive().await {
                        Received::Message(Note::Number(number)) => drop(tell.send(number)),
                        Received::Message(Note::Ask(reply)) => drop(reply.send(7)),
                        _ => {}
                    }
                }
            })
            .unwrap();
        let pid = spawned.address.pid().unwrap();
        Self { pid, runtime: runtime.clone(), wake: Some(wake), numbers }
    }

    fn wake(&mut self) {
        self.wake.take().unwrap().send(()).unwrap();
    }

    /// How much lies in its mailbox.
    fn waiting(&self) -> u64 {
        let infos = self.runtime.processes();
        infos.into_iter().find(|info| info.pid == self.pid).map_or(0, |info| info.mailbox)
    }

    async fn number(&mut self) -> u64 {
        within("a number", self.numbers.recv()).await.unwrap()
    }
}

/// Sends numbers, from `first` on, until no more fits, also when all is known; gives the first that does not.
async fn fill(to: &Address<Note>, first: u64) -> u64 {
    let mut next = first;
    let mut refused = 0;
    while refused < 100 {
        match to.try_send(Note::Number(next)) {
            Ok(()) => (next, refused) = (next + 1, 0),
            Err(error) => {
                assert!(matches!(error, SendError::Full { message: Note::Number(number) } if number == next));
                refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(next - first <= BOUND, "{} are taken", next - first);
    }
    next
}

async fn s7_what_does_not_fit_waits_at_the_sender_and_arrives_in_order(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let to = a.address::<Note>(&sleeper.pid);
    let next = fill(&to, 0).await;
    let sent = Arc::new(AtomicU64::new(next));
    let so_far = sent.clone();
    a.spawn(async move |_: Context<Note>| {
        for number in next..2_000 {
            to.send(Note::Number(number)).await.unwrap();
            so_far.store(number + 1, Ordering::Relaxed);
        }
    })
    .unwrap();
    fence(a, b).await;
    assert!(sleeper.waiting() <= BOUND && sent.load(Ordering::Relaxed) <= BOUND, "the sender waits");
    sleeper.wake();
    for number in 0..2_000 {
        assert_eq!(sleeper.number().await, number);
    }
}

async fn s7_try_send_gives_the_message_back(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let to = a.address::<Note>(&sleeper.pid);
    let next = fill(&to, 0).await;
    assert!(next >= CAPACITY.into(), "{next} fit");
    // Another address leads to the same mailbox.
    let another = a.address::<Note>(&sleeper.pid);
    assert!(matches!(another.try_send(Note::Number(0)), Err(SendError::Full { message: Note::Number(0) })));
    sleeper.wake();
    eventually("there is room again", || to.try_send(Note::Number(next)).is_ok()).await;
    for number in 0..=next {
        assert_eq!(sleeper.number().await, number);
    }
}

async fn s7_a_call_that_waits_for_room_ends_at_its_deadline(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let to = a.address::<Note>(&sleeper.pid);
    fill(&to, 0).await;
    let short = Duration::from_millis(100);
    assert_eq!(within("the deadline", to.call_within(short, Note::Ask)).await, Err(CallError::Timeout));
    let many: Vec<_> = (0..3).map(|_| to.clone()).collect();
    let outcomes = within("the deadline", a.multi_call(&many, short, Note::Ask)).await;
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Err(CallError::Timeout)));
    let outcomes = within("the deadline", a.cast(&many, short, || Note::Number(1))).await;
    assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Err(SendError::Full { .. }))));
    sleeper.wake();
    assert_eq!(within("an answer", to.call_within(LONG, Note::Ask)).await, Ok(7));
}

/// Starts processes that each send so many numbers, marked with their own; they tell how far they are, and when they are
/// done.
fn senders(a: &Runtime, to: &Address<Note>, count: u64, each: u64) -> (Arc<AtomicU64>, mpsc::UnboundedReceiver<()>) {
    let sent = Arc::new(AtomicU64::new(0));
    let (done, is_done) = mpsc::unbounded_channel();
    for sender in 0..count {
        let (to, sent, done) = (to.clone(), sent.clone(), done.clone());
        a.spawn(async move |_: Context<Note>| {
            for number in 0..each {
                to.send(Note::Number(sender << 32 | number)).await.unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
            done.send(()).ok();
        })
        .unwrap();
    }
    (sent, is_done)
}

async fn s7_a_hundred_senders_flood_nobody_and_hold_up_nobody(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let mut other = Puppet::new(b);
    let (sent, mut is_done) = senders(a, &a.address(&sleeper.pid), 100, 50);
    // Meanwhile others get what they are sent, also by processes that the same lane serves.
    for number in 0..50 {
        for sender in [Puppet::new(a), Puppet::new(a)] {
            sender.send(&other.pid, Note::Number(number)).await;
            assert_eq!(other.number().await, number);
        }
        assert!(sleeper.waiting() <= BOUND, "{} lie in the mailbox", sleeper.waiting());
        assert!(sent.load(Ordering::Relaxed) <= BOUND, "{} were sent", sent.load(Ordering::Relaxed));
    }
    sleeper.wake();
    let mut next: HashMap<u64, u64> = HashMap::new();
    for _ in 0..100 * 50 {
        let number = sleeper.number().await;
        let expected = next.entry(number >> 32).or_default();
        assert_eq!(number & 0xffff_ffff, *expected, "of sender {}", number >> 32);
        *expected += 1;
    }
    for _ in 0..100 {
        within("all senders", is_done.recv()).await.unwrap();
    }
}

async fn s7_when_the_receiver_ends_all_go_on(a: &Runtime, b: &Runtime) {
    let sleeper = Sleeper::new(b, SpawnOptions::new());
    let to = a.address::<Note>(&sleeper.pid);
    let next = fill(&to, 0).await;
    let (_, mut is_done) = senders(a, &to, 100, next);
    fence(a, b).await;
    assert!(is_done.try_recv().is_err(), "they wait");
    b.exit(&sleeper.pid, ExitReason::Kill);
    for _ in 0..100 {
        within("all senders", is_done.recv()).await.unwrap();
    }
    assert_eq!(within("an answer", to.call_within(LONG, Note::Ask)).await, Err(CallError::NoProc));
}

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

async fn s7_the_next_holder_of_a_name_is_asked_anew(a: &Runtime, b: &Runtime) {
    let to = a.address::<Note>(Destination::name(b.node().clone(), name("till")));
    // One without limit first: it gets what it is sent.
    let mut open = Puppet::new(b);
    open.run_async(|context| Box::pin(async move { context.register(&name("till")).await })).await.unwrap();
    for number in 0..5_000 {
        to.send(Note::Number(number)).await.unwrap();
    }
    for number in 0..5_000 {
        assert_eq!(open.number().await, number);
    }
    b.unregister(&name("till"), &open.pid).await.unwrap();

    // Then one with a limit, which what is believed of the name holds for a while; then the same without a pause.
    let mut first = Sleeper::new(b, SpawnOptions::new());
    b.register(&name("till"), &first.pid).await.unwrap();
    let mut next = 0;
    let mut refused = 0;
    while refused < 100 {
        match to.try_send(Note::Number(next)) {
            Ok(()) => (next, refused) = (next + 1, 0),
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(next < 10_000, "it has no limit");
    }
    first.wake();
    for number in 0..next {
        assert_eq!(first.number().await, number);
    }
    let mut second = Sleeper::new(b, SpawnOptions::new());
    b.unregister(&name("till"), &first.pid).await.unwrap();
    b.register(&name("till"), &second.pid).await.unwrap();
    let (_, mut is_done) = senders(a, &to, 4, 500);
    fence(a, b).await;
    assert!(second.waiting() <= 2 * BOUND, "{} lie in the mailbox", second.waiting());
    second.wake();
    for _ in 0..4 {
        within("all senders", is_done.recv()).await.unwrap();
    }
    for _ in 0..4 * 500 {
        second.number().await;
    }
}

async fn s7_a_name_of_the_cluster_pushes_back_too(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    b.register_in_cluster(&name("till"), &sleeper.pid).await.unwrap();
    // Whoever looks it up where it goes through knows of it.
    fence(b, a).await;
    let probe = a.clone();
    within("the name is known", async move {
        while probe.whereis_in_cluster(&name("till")).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let (by_name, by_pid) = (a.cluster_named::<Note>(name("till")), a.address::<Note>(&sleeper.pid));
    let next = fill(&by_name, 0).await;
    // Both ways at once, which count apart and take nothing from each other.
    let (_, mut named) = senders(a, &by_name, 10, 100);
    let (_, mut direct) = senders(a, &by_pid, 10, 100);
    fence(a, b).await;
    assert!(sleeper.waiting() <= 2 * BOUND, "{} lie in the mailbox", sleeper.waiting());
    sleeper.wake();
    for number in 0..next {
        assert_eq!(sleeper.number().await, number);
    }
    for _ in 0..2_000 {
        sleeper.number().await;
    }
    for _ in 0..10 {
        within("all senders", named.recv()).await.unwrap();
        within("all senders", direct.recv()).await.unwrap();
    }
}

async fn s7_what_is_typed_by_hand_waits_too(a: &Runtime, b: &Runtime) {
    if a.own_pid() == b.own_pid() {
        // Bytes for a process of the same node do not wait: they are typed one by one.
        return;
    }
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let (to, sent) = (Destination::from(&sleeper.pid), Arc::new(AtomicU64::new(0)));
    let so_far = sent.clone();
    a.spawn({
        let (runtime, to) = (a.clone(), to.clone());
        async move |_: Context<Note>| {
            for number in 0..500 {
                let payload = rookery_runtime::Payload::json(format!("{{\"Number\":{number}}}"));
                runtime.send_payload(&to, payload).await.unwrap();
                so_far.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .unwrap();
    fill(&a.address(&sleeper.pid), 1_000).await;
    assert!(sleeper.waiting() <= BOUND && sent.load(Ordering::Relaxed) <= BOUND);
    let ask = || rookery_runtime::Payload::json("{\"Ask\":null}");
    let asked = within("the deadline", a.call_payload(&to, ask(), Duration::from_millis(100))).await;
    assert_eq!(asked, Err(CallError::Timeout));
    sleeper.wake();
    let mut next = 0;
    while next < 500 {
        let number = sleeper.number().await;
        if number < 1_000 {
            assert_eq!(number, next);
            next += 1;
        }
    }
    assert!(within("an answer", a.call_payload(&to, ask(), LONG)).await.is_ok());
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Stranger(u64);

async fn s7_messages_that_are_not_understood_use_nothing_up(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let stranger = a.address::<Stranger>(&sleeper.pid);
    for number in 0..500 {
        within("room", stranger.send(Stranger(number))).await.unwrap();
    }
    let to = a.address::<Note>(&sleeper.pid);
    assert!(fill(&to, 0).await > 0);
    sleeper.wake();
    assert_eq!(sleeper.number().await, 0);
}

async fn s7_senders_that_give_up_waiting_take_no_room_with_them(a: &Runtime, b: &Runtime) {
    let mut sleeper = Sleeper::new(b, SpawnOptions::new());
    let to = a.address::<Note>(&sleeper.pid);
    let next = fill(&to, 0).await;
    // Half of them have gone when there is room, some just then.
    let mut gone = JoinSet::new();
    for wait in 0..100 {
        let to = to.clone();
        gone.spawn(async move {
            let sent = tokio::time::timeout(Duration::from_millis(wait % 20), to.send(Note::Number(u64::MAX))).await;
            u64::from(sent.is_ok())
        });
    }
    let (_, mut is_done) = senders(a, &to, 50, 20);
    sleeper.wake();
    for _ in 0..50 {
        within("all senders", is_done.recv()).await.unwrap();
    }
    let sent_in_time: u64 = gone.join_all().await.iter().sum();
    for _ in 0..next + 50 * 20 + sent_in_time {
        sleeper.number().await;
    }
}

/// A [`Note`] that can be sent to many.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename = "Note")]
enum Number {
    Number(u64),
}

/// What is for a group waits for nobody: a member that is full does not get it, wherever it comes from.
#[test]
fn s7_a_full_member_of_a_group_does_not_get_what_is_sent_to_the_group() {
    run(async {
        let nodes = mesh(2, |_| ()).await;
        let group: Group = "tills".parse().unwrap();
        let mut sleeper = Sleeper::new(nodes[1].runtime(), SpawnOptions::new().join(group.clone()));
        fence(&nodes[1], &nodes[0]).await;
        assert_eq!(nodes[0].members(&group).await.unwrap(), [sleeper.pid.clone()]);
        let counted = nodes[1].dead_letters();
        let to = nodes[0].group::<Number>(group);
        for number in 0..200 {
            to.send(Number::Number(number)).await.unwrap();
        }
        eventually("the rest is counted", || nodes[1].dead_letters() == counted + 200 - u64::from(CAPACITY)).await;
        assert_eq!(sleeper.waiting(), u64::from(CAPACITY));
        sleeper.wake();
        for number in 0..u64::from(CAPACITY) {
            assert_eq!(sleeper.number().await, number);
        }
    });
}

/// Whoever waits for room at the other end of a connection goes on when that is lost, and when it is there again there is
/// room for as many as before.
#[test]
fn s7_when_the_connection_is_lost_all_go_on() {
    run(async {
        let relay = Relay::start().await;
        let mut config = node_config("node-0", &[]);
        impatient(&mut config.connections);
        let first = rookery_node::Node::start(config).await.unwrap();
        relay.lead_to(first.listen_address());
        let mut config = node_config("node-1", &[relay.address()]);
        impatient(&mut config.connections);
        let second = rookery_node::Node::start(config).await.unwrap();
        meshed(&[&first, &second]).await;
        let mut sleeper = Sleeper::new(second.runtime(), SpawnOptions::new());
        let to = first.address::<Note>(&sleeper.pid);
        let next = fill(&to, 0).await;
        let (_, mut is_done) = senders(first.runtime(), &to, 100, next);
        relay.cut();
        for _ in 0..100 {
            within("all senders", is_done.recv()).await.unwrap();
        }
        relay.lead_to(first.listen_address());
        meshed(&[&first, &second]).await;
        fill(&to, 10_000).await;
        assert!(sleeper.waiting() <= 2 * BOUND, "{} lie in the mailbox", sleeper.waiting());
        sleeper.wake();
        while sleeper.number().await != 10_000 {}
        within("room", to.send(Note::Number(1))).await.unwrap();
    });
}

/// A client that is lost can tell nobody that its senders need not wait, nor its receivers that it sends no more.
#[test]
fn s7_what_a_lost_client_has_to_do_with_goes_on_without_it() {
    run(async {
        let nodes = mesh(2, |_| ()).await;
        let receiving = client("client", &[&nodes[1]]).await;
        assert_eq!(receiving.runtime().whereis(&name("nobody")).await.unwrap(), None, "its session is open");
        let sleeper = Sleeper::new(&receiving.runtime(), SpawnOptions::new());
        let mut waiting = Vec::new();
        for node in &nodes {
            let to = node.address::<Note>(&sleeper.pid);
            let next = fill(&to, 0).await;
            waiting.push(senders(node.runtime(), &to, 10, next).1);
        }
        receiving.close().await;
        for is_done in &mut waiting {
            for _ in 0..10 {
                within("all senders", is_done.recv()).await.unwrap();
            }
        }

        // Clients come and go; those that have gone have no part in the mailbox.
        let mut sleeper = Sleeper::new(nodes[1].runtime(), SpawnOptions::new());
        for node in [&nodes[0], &nodes[1], &nodes[0], &nodes[1]] {
            let sending = client("client", &[node]).await;
            let runtime = sending.runtime();
            eventually("the client knows the nodes", || runtime.nodes().len() == nodes.len()).await;
            fill(&runtime.address::<Note>(&sleeper.pid), 0).await;
            sending.close().await;
        }
        sleeper.wake();
        let to = nodes[0].address::<Note>(&sleeper.pid);
        for number in 1_000..1_200 {
            within("room", to.send(Note::Number(number))).await.unwrap();
        }
        while sleeper.number().await != 1_199 {}
    });
}

/// What goes beyond the ways to address a process that are counted apart is slow, and gets there.
#[test]
fn s7_whoever_uses_very_many_names_goes_on() {
    run(async {
        let nodes = mesh(1, |_| ()).await;
        let client = client("client", &[&nodes[0]]).await;
        let runtime = client.runtime();
        let mut sleeper = Sleeper::new(nodes[0].runtime(), SpawnOptions::new());
        let mut waiting = Vec::new();
        for number in 0..MAX_CREDITS_PER_ASKER as u64 + 20 {
            let name = name(&format!("till-{number}"));
            nodes[0].register(&name, &sleeper.pid).await.unwrap();
            let to = runtime.address::<Note>(Destination::name(nodes[0].node().clone(), name));
            waiting.push(senders(&runtime, &to, 1, 100).1);
        }
        fence(&runtime, nodes[0].runtime()).await;
        sleeper.wake();
        for _ in 0..waiting.len() * 100 {
            sleeper.number().await;
        }
        for is_done in &mut waiting {
            within("all senders", is_done.recv()).await.unwrap();
        }
    });
}
