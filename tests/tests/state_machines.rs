//! State machines as processes: what `queue.rs` decides comes to the user's code in order and in time. The order itself
//! is held by the property test beside it.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use rookery_runtime::{
    Address, Behaviours, CallError, Context, Event, ExitReason, Machine, Pid, ReplyTo, Runtime, RuntimeConfig,
    SpawnOptions, Start, StateEvent, StateMachine, Timeouts, Transition,
};
use rookery_tests::{Puppet, watch, within};
use serde::{Deserialize, Serialize};

rookery_tests::contract! {
    together {
        postponed_messages_wait_for_another_state,
        a_state_timeout_is_cancelled_by_a_change_of_state,
        a_named_timeout_outlives_the_state,
        timeouts_come_while_the_mailbox_is_never_empty,
        a_timeout_of_zero_comes_before_any_message,
        callers_that_were_postponed_learn_of_the_end,
        a_machine_is_told_what_the_system_tells,
        an_enter_that_fails_is_a_failed_start,
        operators_can_ask_a_machine_for_its_state,
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum State {
    Closed,
    Open,
    /// Its enter call fails.
    Broken,
}

#[derive(Debug, Serialize, Deserialize)]
enum Message {
    Go(State),
    /// Is answered in state `Open` only.
    Pass(u64, ReplyTo<u64>),
    StateTimeout(Duration),
    Timeout(Duration),
    CancelTimeout,
    Insert(u64),
    Log(ReplyTo<Vec<String>>),
    Monitor(Pid),
    End,
    Noise,
}

struct Gate {
    log: Vec<String>,
}

impl StateMachine for Gate {
    type State = State;
    type Message = Message;
    type Arguments = State;

    const SYS: bool = true;

    async fn init(state: State, _: &mut Context<Message>) -> Result<(Self, State), ExitReason> {
        Ok((Self { log: Vec::new() }, state))
    }

    async fn enter(
        &mut self,
        state: &State,
        from: Option<&State>,
        _: &mut Context<Message>,
    ) -> Result<Timeouts, ExitReason> {
        self.log.push(format!("{from:?} to {state:?}"));
        if *state == State::Broken { Err(ExitReason::Error("broken".to_owned())) } else { Ok(Timeouts::new()) }
    }

    async fn handle(
        &mut self,
        state: &State,
        event: StateEvent<Message>,
        context: &mut Context<Message>,
    ) -> Result<Transition<State, Message>, ExitReason> {
        let keep = Transition::keep();
        Ok(match (state, event) {
            (State::Closed, event @ StateEvent::Message(Message::Pass(..))) => keep.postpone(event),
            (_, StateEvent::Message(Message::Pass(number, reply))) => {
                self.log.push(format!("pass {number}"));
                reply.send(number).unwrap();
                keep
            }
            (_, StateEvent::Message(Message::Go(next))) => Transition::to(next),
            (_, StateEvent::Message(Message::StateTimeout(after))) => keep.timeouts(Timeouts::new().state(after)),
            (_, StateEvent::Message(Message::Timeout(after))) => keep.timeouts(Timeouts::new().named("tea", after)),
            (_, StateEvent::Message(Message::CancelTimeout)) => keep.timeouts(Timeouts::new().cancel("tea")),
            (_, StateEvent::Message(Message::Insert(0))) => keep,
            (_, StateEvent::Message(Message::Insert(count)) | StateEvent::Internal(Message::Insert(count))) => {
                self.log.push(format!("insert {count}"));
                if count == 0 { keep } else { keep.next_event(Message::Insert(count - 1)) }
            }
            (_, StateEvent::Message(Message::Log(reply))) => {
                reply.send(self.log.clone()).unwrap();
                keep
            }
            (_, StateEvent::Message(Message::Monitor(pid))) => {
                context.monitor(&pid);
                keep
            }
            (_, StateEvent::Message(Message::End)) => return Err(ExitReason::Error("the end".to_owned())),
            (_, StateEvent::StateTimeout) => {
                self.log.push(format!("state timeout in {state:?}"));
                keep
            }
            (_, StateEvent::Timeout(name)) => {
                self.log.push(format!("{name} in {state:?}"));
                keep
            }
            (_, StateEvent::Event(Event::Down(down))) => {
                self.log.push(format!("down: {}", down.reason));
                keep
            }
            (_, StateEvent::Message(Message::Noise)) => keep,
            (_, other) => panic!("{other:?}"),
        })
    }

    fn describe(&self, state: &State) -> Option<String> {
        Some(format!("{state:?}"))
    }
}

async fn gate(runtime: &Runtime, state: State) -> Address<Message> {
    runtime.start_state_machine::<Gate>(state, SpawnOptions::new()).await.unwrap()
}

async fn log(gate: &Address<Message>) -> Vec<String> {
    within("the log", gate.call_within(LONG, Message::Log)).await.unwrap()
}

/// Asks for the log until it has this line.
async fn logged(gate: &Address<Message>, line: &str) -> Vec<String> {
    within(line, async {
        loop {
            let log = log(gate).await;
            if log.iter().any(|logged| logged == line) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

async fn postponed_messages_wait_for_another_state(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Closed).await;
    let pass = |number| {
        let gate = gate.clone();
        tokio::spawn(async move { gate.call_within(LONG, |reply| Message::Pass(number, reply)).await })
    };
    let mut asked = Vec::new();
    for number in 0..5 {
        asked.push(pass(number));
        // In this order.
        tokio::task::yield_now().await;
        log(&gate).await;
    }
    gate.send(Message::Go(State::Closed)).await.unwrap();
    assert_eq!(log(&gate).await, ["None to Closed"], "no change of state");
    assert!(asked.iter().all(|asked| !asked.is_finished()));
    gate.send(Message::Go(State::Open)).await.unwrap();
    for (number, asked) in (0..).zip(asked) {
        assert_eq!(within("the answer", asked).await.unwrap(), Ok(number));
    }
    let mut passed: Vec<_> = log(&gate).await;
    assert_eq!(passed.remove(0), "None to Closed");
    assert_eq!(passed.remove(0), "Some(Closed) to Open");
    passed.sort();
    assert_eq!(passed, ["pass 0", "pass 1", "pass 2", "pass 3", "pass 4"]);
    gate.send(Message::Insert(3)).await.unwrap();
    assert_eq!(log(&gate).await[7..], ["insert 3", "insert 2", "insert 1", "insert 0"]);
}

async fn a_state_timeout_is_cancelled_by_a_change_of_state(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Closed).await;
    let after = Duration::from_millis(20);
    let start = Instant::now();
    gate.send(Message::StateTimeout(after)).await.unwrap();
    logged(&gate, "state timeout in Closed").await;
    assert!(start.elapsed() >= after);
    // The state changes before it is over.
    for message in [Message::StateTimeout(after), Message::Go(State::Open), Message::Timeout(after * 3)] {
        gate.send(message).await.unwrap();
    }
    let log = logged(&gate, "tea in Open").await;
    assert!(!log.contains(&"state timeout in Open".to_owned()), "{log:?}");
    // To the same state is no change.
    gate.send(Message::StateTimeout(after)).await.unwrap();
    gate.send(Message::Go(State::Open)).await.unwrap();
    logged(&gate, "state timeout in Open").await;
}

async fn a_named_timeout_outlives_the_state(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Closed).await;
    gate.send(Message::Timeout(Duration::from_millis(50))).await.unwrap();
    gate.send(Message::Go(State::Open)).await.unwrap();
    logged(&gate, "tea in Open").await;
    for message in [Message::Timeout(Duration::from_millis(30)), Message::CancelTimeout] {
        gate.send(message).await.unwrap();
    }
    gate.send(Message::StateTimeout(Duration::from_millis(60))).await.unwrap();
    let log = logged(&gate, "state timeout in Open").await;
    assert_eq!(log.iter().filter(|line| line.starts_with("tea")).count(), 1, "{log:?}");
}

async fn timeouts_come_while_the_mailbox_is_never_empty(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Open).await;
    gate.send(Message::Timeout(Duration::from_millis(20))).await.unwrap();
    let noisy = gate.clone();
    let noise = tokio::spawn(async move {
        loop {
            for _ in 0..100 {
                noisy.send(Message::Noise).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    logged(&gate, "tea in Open").await;
    noise.abort();
}

async fn a_timeout_of_zero_comes_before_any_message(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Open).await;
    let sender = Puppet::new(a);
    let to = gate.clone();
    sender
        .run(move |_| {
            to.try_send(Message::Timeout(Duration::ZERO)).unwrap();
            to.try_send(Message::Insert(1)).unwrap();
        })
        .await;
    assert_eq!(log(&gate).await[1..], ["tea in Open", "insert 1", "insert 0"]);
}

async fn callers_that_were_postponed_learn_of_the_end(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Closed).await;
    let asked = gate.call_within(LONG, |reply| Message::Pass(1, reply));
    let (asked, ended) = tokio::join!(asked, async {
        tokio::task::yield_now().await;
        gate.send(Message::End).await
    });
    ended.unwrap();
    assert_eq!(asked, Err(CallError::Exited(ExitReason::Error("the end".to_owned()))));
}

async fn a_machine_is_told_what_the_system_tells(a: &Runtime, _: &Runtime) {
    let gate = gate(a, State::Closed).await;
    let other = Puppet::new(a);
    gate.send(Message::Monitor(other.pid.clone())).await.unwrap();
    log(&gate).await;
    other.end(ExitReason::Shutdown);
    logged(&gate, "down: shutdown").await;
}

async fn an_enter_that_fails_is_a_failed_start(a: &Runtime, _: &Runtime) {
    let failed = a.start_state_machine::<Gate>(State::Broken, SpawnOptions::new()).await;
    assert!(failed.unwrap_err().to_string().contains("broken"));
    let gate = gate(a, State::Open).await;
    let end = watch(a, &gate.pid().unwrap()).await;
    gate.send(Message::Go(State::Broken)).await.unwrap();
    assert_eq!(end.reason().await, ExitReason::Error("broken".to_owned()));
}

async fn operators_can_ask_a_machine_for_its_state(_: &Runtime, _: &Runtime) {
    let behaviours = Behaviours::new().server::<Machine<Gate>>("gate").unwrap();
    let config = RuntimeConfig { behaviours, ..RuntimeConfig::new("gates.1".parse().unwrap()) };
    let runtime = Runtime::new(config).unwrap();
    let gate = runtime.start(Start::json("gate".parse().unwrap(), "\"Closed\"")).await.unwrap().pid;
    assert_eq!(runtime.state_here(&gate, LONG).await.unwrap(), "Closed");
    runtime.suspend_here(&gate).unwrap();
    runtime.address::<Message>(&gate).send(Message::Go(State::Open)).await.unwrap();
    assert_eq!(runtime.state_here(&gate, LONG).await.unwrap(), "Closed");
    runtime.resume_here(&gate).unwrap();
    logged(&runtime.address(&gate), "Some(Closed) to Open").await;
    assert_eq!(runtime.state_here(&gate, LONG).await.unwrap(), "Open");
}
