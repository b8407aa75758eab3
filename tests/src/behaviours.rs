//! Behaviours that every runtime of the tests can start by name: one that is useful, and one for each way to fail.

use std::time::Duration;

use rookery_runtime::{Behaviours, Context, ExitReason, ReplyTo, Server};
use serde::{Deserialize, Serialize};

/// What [`Counter`] understands.
#[derive(Debug, Serialize, Deserialize)]
pub enum CounterMessage {
    /// Counts on.
    Add(i64),
    /// Tells the count.
    Get(ReplyTo<i64>),
    /// Ends with this error.
    Fail(String),
}

/// `counter`: counts from what it is started with.
#[derive(Debug)]
pub struct Counter(i64);

impl Server for Counter {
    type Message = CounterMessage;
    type Arguments = i64;

    async fn init(start: i64, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        Ok(Self(start))
    }

    async fn handle(&mut self, message: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        match message {
            CounterMessage::Add(number) => self.0 += number,
            CounterMessage::Get(reply) => drop(reply.send(self.0)),
            CounterMessage::Fail(text) => return Err(ExitReason::Error(text)),
        }
        Ok(())
    }
}

/// `refuses`: its `init` fails with the text that it is started with.
#[derive(Debug)]
pub struct Refuses;

impl Server for Refuses {
    type Message = CounterMessage;
    type Arguments = String;

    async fn init(text: String, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        Err(ExitReason::Error(text))
    }

    async fn handle(&mut self, _: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        Ok(())
    }
}

/// `panics`: its `init` panics with the text that it is started with.
#[derive(Debug)]
pub struct Panics;

impl Server for Panics {
    type Message = CounterMessage;
    type Arguments = String;

    async fn init(text: String, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        panic!("{text}")
    }

    async fn handle(&mut self, _: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        Ok(())
    }
}

/// `short-lived`: starts well, and ends at once with the text that it is started with.
#[derive(Debug)]
pub struct ShortLived(String);

impl Server for ShortLived {
    type Message = CounterMessage;
    type Arguments = String;

    async fn init(text: String, context: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        drop(context.address().try_send(CounterMessage::Add(0)));
        Ok(Self(text))
    }

    async fn handle(&mut self, _: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        Err(ExitReason::Error(self.0.clone()))
    }
}

/// `slow`: its `init` takes the milliseconds that it is started with.
#[derive(Debug)]
pub struct Slow;

impl Server for Slow {
    type Message = CounterMessage;
    type Arguments = u64;

    async fn init(milliseconds: u64, _: &mut Context<CounterMessage>) -> Result<Self, ExitReason> {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Ok(Self)
    }

    async fn handle(&mut self, _: CounterMessage, _: &mut Context<CounterMessage>) -> Result<(), ExitReason> {
        Ok(())
    }
}

/// All of them.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn behaviours() -> Behaviours {
    let all = Behaviours::new().server::<Counter>("counter");
    let all = all.and_then(|all| all.server::<Refuses>("refuses"));
    let all = all.and_then(|all| all.server::<Panics>("panics"));
    let all = all.and_then(|all| all.server::<ShortLived>("short-lived"));
    all.and_then(|all| all.server::<Slow>("slow")).unwrap()
}
