//! `echo`: gives back what it is asked. For trying whether a way to a process exists and how long it takes; also the way
//! from one process to another.

use rookery_runtime::{Address, Context, ExitReason, Pid, Server};
use serde::{Deserialize, Serialize};

use crate::{ask::Ask, json::Json};

/// What `echo` understands. In JSON: `{"Echo":"hi"}`, `{"Via":{"echo":"<orders-0.1f3a.42>","value":"hi"}}`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Echo {
    /// Any JSON value; the answer is the same.
    Echo(Ask<Json, Json>),
    /// Hands the question on to another echo, wherever it is, which answers who asked: a `ReplyTo` is data.
    Via(Ask<Via, Json>),
}

/// A question for another echo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Via {
    /// The other one.
    pub echo: Pid,
    /// Any JSON value; the answer is the same.
    pub value: Json,
}

/// The process.
#[derive(Debug)]
pub struct EchoServer;

impl Server for EchoServer {
    type Message = Echo;
    type Arguments = ();

    async fn init((): (), _: &mut Context<Echo>) -> Result<Self, ExitReason> {
        Ok(Self)
    }

    async fn handle(&mut self, message: Echo, context: &mut Context<Echo>) -> Result<(), ExitReason> {
        match message {
            Echo::Echo(ask) => ask.reply.answer(ask.value),
            Echo::Via(Ask { value: Via { echo, value }, reply }) => {
                let next: Address<Echo> = context.runtime().address(echo);
                // Should it be too large for there, the question comes back, and with it an answer to who asked.
                drop(next.send(Echo::Echo(Ask::new(value, reply))).await);
            }
        }
        Ok(())
    }
}
