//! `echo`: gives back what it is asked. For trying whether a way to a process exists and how long it takes.

use rookery_runtime::{Context, ExitReason, Server};
use serde::{Deserialize, Serialize};

use crate::{ask::Ask, json::Json};

/// What `echo` understands. In JSON: `{"Echo":"hi"}`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Echo {
    /// Any JSON value; the answer is the same.
    Echo(Ask<Json, Json>),
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

    async fn handle(&mut self, message: Echo, _: &mut Context<Echo>) -> Result<(), ExitReason> {
        let Echo::Echo(ask) = message;
        drop(ask.reply.send(ask.value));
        Ok(())
    }
}
