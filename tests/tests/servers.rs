//! What a server can do beside handling messages: continue, time out, hibernate, have a name; and what operators can do
//! with one that allows it: suspend, resume, ask for the state.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use rookery_runtime::{
    Address, CallError, Context, Event, ExitReason, Next, Pid, ProcessName, Received, ReplyTo, RequestError, Runtime,
    SendError, Server, SpawnOptions,
};
use rookery_tests::{Note, Puppet, watch, within};
use serde::{Deserialize, Serialize};

rookery_tests::contract! {
    together {
        what_is_left_to_do_comes_before_any_message,
        a_server_that_continues_for_ever_lets_others_run,
        a_server_is_told_when_nothing_comes,
        a_server_that_hibernates_misses_nothing,
        a_server_starts_with_a_name_and_without,
        a_suspended_server_handles_nothing_and_keeps_the_order,
        a_suspended_server_tells_its_state,
        a_suspended_servers_mailbox_fills_up,
        a_suspended_server_can_be_ended,
        a_busy_server_is_suspended_when_it_is_done,
        a_state_has_seen_what_was_sent_before,
        who_has_not_opted_in_refuses,
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Log(u64),
    Read(ReplyTo<Vec<u64>>),
    Work(u64),
    /// Receives in the middle of handling this.
    Nest,
}

/// Logs what happens to it, and does what it is started with.
#[derive(Debug)]
struct Logger {
    arguments: Arguments,
    log: Vec<u64>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Arguments {
    work: u64,
    timeout: Option<Duration>,
    hibernates: bool,
    sends_to_itself: bool,
    traps: bool,
}

/// What stands in the log for a step of work and for a timeout.
const STEP: u64 = 1_000;
const TIMEOUT: u64 = 2_000;
const NESTED: u64 = 3_000;

impl Server for Logger {
    type Message = Message;
    type Arguments = Arguments;

    const SYS: bool = true;

    async fn init(arguments: Arguments, context: &mut Context<Message>) -> Result<Self, ExitReason> {
        context.trap_exits(arguments.traps);
        if arguments.sends_to_itself {
            context.address().try_send(Message::Log(1)).unwrap();
            context.send_after(Duration::ZERO, Message::Log(2));
        }
        Ok(Self { arguments, log: Vec::new() })
    }

    fn next(&self) -> Next {
        match &self.arguments {
            Arguments { work: 1.., .. } => Next::Continue,
            Arguments { timeout: Some(timeout), .. } => Next::ReceiveWithin(*timeout),
            Arguments { hibernates: true, .. } => Next::Hibernate,
            _ => Next::Receive,
        }
    }

    async fn handle(&mut self, message: Message, context: &mut Context<Message>) -> Result<(), ExitReason> {
        match message {
            Message::Log(number) => self.log.push(number),
            Message::Read(reply) => drop(reply.send(self.log.clone())),
            Message::Work(steps) => self.arguments.work = steps,
            Message::Nest => {
                if let Received::Message(Message::Log(number)) = context.receive().await {
                    self.log.push(NESTED + number);
                }
            }
        }
        Ok(())
    }

    async fn handle_continue(&mut self, _: &mut Context<Message>) -> Result<(), ExitReason> {
        self.log.push(STEP);
        self.arguments.work -= u64::from(self.arguments.work != u64::MAX);
        Ok(())
    }

    async fn handle_timeout(&mut self, _: &mut Context<Message>) -> Result<(), ExitReason> {
        self.log.push(TIMEOUT);
        self.arguments.timeout = None;
        Ok(())
    }

    async fn event(&mut self, event: Event, _: &mut Context<Message>) -> Result<(), ExitReason> {
        panic!("{event:?}")
    }

    fn state(&self) -> Option<String> {
        Some(format!("{:?}", self.log))
    }
}

async fn start(runtime: &Runtime, arguments: Arguments) -> (Address<Message>, Pid) {
    let server = runtime.start_server::<Logger>(arguments, SpawnOptions::new()).await.unwrap();
    let pid = server.pid().unwrap();
    (server, pid)
}

async fn log(server: &Address<Message>) -> Vec<u64> {
    within("the log", server.call_within(LONG, Message::Read)).await.unwrap()
}

async fn what_is_left_to_do_comes_before_any_message(a: &Runtime, _: &Runtime) {
    let arguments = Arguments { work: 3, sends_to_itself: true, ..Arguments::default() };
    let (server, _) = start(a, arguments).await;
    let mut seen = log(&server).await;
    assert_eq!(seen[..3], [STEP; 3]);
    seen[3..].sort_unstable();
    assert_eq!(seen[3..], [1, 2]);
    // Also what was queued before the work came up.
    let puppet = Puppet::new(a);
    let order = server.clone();
    puppet
        .run(move |_| {
            for message in [Message::Log(7), Message::Work(2), Message::Log(8), Message::Log(9)] {
                order.try_send(message).unwrap();
            }
        })
        .await;
    assert_eq!(log(&server).await[5..], [7, STEP, STEP, 8, 9]);
}

async fn a_server_that_continues_for_ever_lets_others_run(a: &Runtime, _: &Runtime) {
    // As many as there are threads, and more.
    for _ in 0..4 {
        let (_, pid) = start(a, Arguments { work: u64::MAX, ..Arguments::default() }).await;
        let mut other = Puppet::new(a);
        other.send(&other.pid.clone(), Note::Number(1)).await;
        assert_eq!(other.number().await, 1);
        let end = watch(a, &pid).await;
        a.exit(&pid, ExitReason::Shutdown);
        assert_eq!(end.reason().await, ExitReason::Shutdown);
    }
}

async fn a_server_is_told_when_nothing_comes(a: &Runtime, _: &Runtime) {
    let start_time = std::time::Instant::now();
    let timeout = Duration::from_millis(20);
    let (server, _) = start(a, Arguments { timeout: Some(timeout), ..Arguments::default() }).await;
    // The log is not asked for meanwhile: that would be a message.
    tokio::time::sleep(timeout).await;
    let mut seen = log(&server).await;
    while seen.is_empty() {
        tokio::time::sleep(timeout * 2).await;
        seen = log(&server).await;
    }
    assert_eq!(seen, [TIMEOUT]);
    assert!(start_time.elapsed() >= timeout);
}

async fn a_server_that_hibernates_misses_nothing(a: &Runtime, _: &Runtime) {
    let arguments = Arguments { hibernates: true, sends_to_itself: true, ..Arguments::default() };
    let (server, _) = start(a, arguments).await;
    for number in 10..1_010 {
        server.send(Message::Log(number)).await.unwrap();
    }
    let mut seen = log(&server).await;
    seen.retain(|number| *number >= 10);
    assert_eq!(seen, (10..1_010).collect::<Vec<_>>());
    assert!(log(&server).await.contains(&2), "the timer that was set before it hibernated");
}

async fn a_server_starts_with_a_name_and_without(a: &Runtime, _: &Runtime) {
    let name: ProcessName = "logger".parse().unwrap();
    let options = SpawnOptions::new().name(name.clone());
    let named = a.start_server::<Logger>(Arguments::default(), options.clone()).await.unwrap();
    let (anonymous, _) = start(a, Arguments::default()).await;
    a.named::<Message>(name).send(Message::Log(5)).await.unwrap();
    assert_eq!((log(&named).await, log(&anonymous).await), (vec![5], vec![]));
    let second = a.start_server::<Logger>(Arguments::default(), options).await;
    assert!(matches!(second, Err(RequestError::NameTaken { holder, .. }) if Some(&holder) == named.pid().as_ref()));
}

async fn a_suspended_server_handles_nothing_and_keeps_the_order(a: &Runtime, _: &Runtime) {
    let (server, pid) = start(a, Arguments::default()).await;
    server.send(Message::Log(1)).await.unwrap();
    a.suspend_here(&pid).unwrap();
    a.suspend_here(&pid).unwrap();
    server.send(Message::Log(2)).await.unwrap();
    let read = tokio::spawn({
        let server = server.clone();
        async move { log(&server).await }
    });
    assert_eq!(a.state_here(&pid, LONG).await.unwrap(), "[1]");
    server.send(Message::Log(3)).await.unwrap();
    assert_eq!(a.state_here(&pid, LONG).await.unwrap(), "[1]");
    assert!(!read.is_finished());
    a.resume_here(&pid).unwrap();
    assert!(read.await.unwrap().starts_with(&[1, 2]));
    assert_eq!(log(&server).await, [1, 2, 3]);
    // And as ever after.
    server.send(Message::Log(4)).await.unwrap();
    assert_eq!(log(&server).await, [1, 2, 3, 4]);
}

async fn a_suspended_server_tells_its_state(a: &Runtime, _: &Runtime) {
    // Whatever it wanted to do next waits too.
    let (server, pid) = start(a, Arguments { timeout: Some(Duration::from_secs(2)), ..Arguments::default() }).await;
    a.suspend_here(&pid).unwrap();
    for _ in 0..100 {
        server.send(Message::Log(1)).await.unwrap();
        assert_eq!(a.state_here(&pid, LONG).await.unwrap(), "[]");
    }
    server.send(Message::Work(3)).await.unwrap();
    a.resume_here(&pid).unwrap();
    assert_eq!(log(&server).await[98..], [1, 1, STEP, STEP, STEP]);
}

async fn a_suspended_servers_mailbox_fills_up(a: &Runtime, _: &Runtime) {
    let options = SpawnOptions::new().mailbox(10);
    let server = a.start_server::<Logger>(Arguments::default(), options).await.unwrap();
    let pid = server.pid().unwrap();
    a.suspend_here(&pid).unwrap();
    a.state_here(&pid, LONG).await.unwrap();
    for number in 0..10 {
        server.try_send(Message::Log(number)).unwrap();
    }
    assert!(matches!(server.try_send(Message::Log(10)), Err(SendError::Full { .. })));
    assert_eq!(a.state_here(&pid, LONG).await.unwrap(), "[]", "a full mailbox keeps no operator out");
    a.resume_here(&pid).unwrap();
    assert_eq!(log(&server).await, (0..10).collect::<Vec<_>>());
}

async fn a_suspended_server_can_be_ended(a: &Runtime, _: &Runtime) {
    for reason in [ExitReason::Kill, ExitReason::Shutdown] {
        let (server, pid) = start(a, Arguments::default()).await;
        a.suspend_here(&pid).unwrap();
        a.state_here(&pid, LONG).await.unwrap();
        let asked = tokio::spawn({
            let server = server.clone();
            async move { server.call_within(LONG, Message::Read).await }
        });
        let end = watch(a, &pid).await;
        a.exit(&pid, reason.clone());
        let seen = end.reason().await;
        assert_eq!(seen, if reason == ExitReason::Kill { ExitReason::Killed } else { reason });
        let outcome = asked.await.unwrap();
        assert!(outcome == Err(CallError::Exited(seen)) || outcome == Err(CallError::NoProc), "{outcome:?}");
        assert_eq!(a.state_here(&pid, LONG).await, Err(CallError::NoProc));
        assert_eq!(a.suspend_here(&pid), Err(CallError::NoProc));
    }
    // One that traps exits obeys its parent, which is an event and waits in the mailbox behind messages.
    let parent = Puppet::new(a);
    let options = SpawnOptions::new().link_to(&parent.pid);
    let arguments = Arguments { traps: true, ..Arguments::default() };
    let server = a.start_server::<Logger>(arguments, options).await.unwrap();
    let pid = server.pid().unwrap();
    a.suspend_here(&pid).unwrap();
    server.send(Message::Log(1)).await.unwrap();
    let end = watch(a, &pid).await;
    parent.end(ExitReason::Error("bankrupt".to_owned()));
    assert_eq!(end.reason().await, ExitReason::Error("bankrupt".to_owned()));
}

async fn a_busy_server_is_suspended_when_it_is_done(a: &Runtime, _: &Runtime) {
    let (server, pid) = start(a, Arguments::default()).await;
    server.send(Message::Nest).await.unwrap();
    a.suspend_here(&pid).unwrap();
    assert!(matches!(a.state_here(&pid, LONG).await, Err(CallError::Refused(_))));
    for number in [1, 2] {
        server.send(Message::Log(number)).await.unwrap();
    }
    assert_eq!(a.state_here(&pid, LONG).await.unwrap(), format!("[{}]", NESTED + 1));
    a.resume_here(&pid).unwrap();
    assert_eq!(log(&server).await, [NESTED + 1, 2]);
}

async fn a_state_has_seen_what_was_sent_before(a: &Runtime, _: &Runtime) {
    let (server, pid) = start(a, Arguments::default()).await;
    for number in 0..200 {
        server.send(Message::Log(number)).await.unwrap();
        let expected = format!("{:?}", (0..=number).collect::<Vec<_>>());
        assert_eq!(a.state_here(&pid, LONG).await.unwrap(), expected);
    }
}

async fn who_has_not_opted_in_refuses(a: &Runtime, _: &Runtime) {
    let counter = a.start_server::<rookery_tests::behaviours::Counter>(1, SpawnOptions::new()).await.unwrap();
    let plain = Puppet::new(a);
    for pid in [counter.pid().unwrap(), plain.pid.clone()] {
        for outcome in [a.suspend_here(&pid), a.resume_here(&pid), a.state_here(&pid, LONG).await.map(drop)] {
            assert!(matches!(outcome, Err(CallError::Refused(_))), "{outcome:?}");
        }
    }
    assert_eq!(counter.call(rookery_tests::CounterMessage::Get).await, Ok(1));
    let elsewhere: Pid = "<nowhere.1.7>".parse().unwrap();
    assert_eq!(a.suspend_here(&elsewhere), Err(CallError::NoProc));
}
