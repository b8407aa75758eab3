//! `counter`: a number. The smallest process that has a state, which its end loses.

use rookery_runtime::{Context, ExitReason, Handover, ReplyTo, Server};
use serde::{Deserialize, Serialize};

/// What `counter` understands. In JSON: `{"Add":5}`, `{"Get":null}`, `{"Reset":null}`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Counter {
    /// Adds; stops at the largest and the smallest number there is.
    Add(i64),
    /// Gives the number.
    Get(ReplyTo<i64>),
    /// Back to where it began.
    Reset,
}

/// The process. Its argument is where it begins; 0 for `null`.
#[derive(Debug)]
pub struct CounterServer {
    start: i64,
    count: i64,
}

impl Server for CounterServer {
    type Message = Counter;
    type Arguments = Option<i64>;
    const SYS: bool = true;

    async fn init(start: Option<i64>, _: &mut Context<Counter>) -> Result<Self, ExitReason> {
        let start = start.unwrap_or(0);
        Ok(Self { start, count: start })
    }

    async fn hand_over(&mut self, _: &mut Context<Counter>) -> Option<Handover> {
        Handover::new(1, &self.count).ok()
    }

    async fn take_over(state: Handover, start: Option<i64>, _: &mut Context<Counter>) -> Result<Self, ExitReason> {
        let count = state.read().map_err(ExitReason::Error)?;
        Ok(Self { start: start.unwrap_or(0), count })
    }

    async fn handle(&mut self, message: Counter, _: &mut Context<Counter>) -> Result<(), ExitReason> {
        match message {
            Counter::Add(n) => self.count = self.count.saturating_add(n),
            Counter::Get(reply) => reply.answer(self.count),
            Counter::Reset => self.count = self.start,
        }
        Ok(())
    }

    fn state(&self) -> Option<String> {
        Some(self.count.to_string())
    }
}
