//! Whether the node lives: a process of it answers, by its mailbox and on the threads that run all others, and the I/O thread
//! runs what it is given.
//!
//! ```text
//! /livez, /readyz ─┐
//! once a second ───┴─▶ beat ──call──▶ mailbox ─▶ the answering process ─▶ reply      (no answer within two seconds: stuck)
//!                        └────task──▶ I/O thread
//! ```
//! The process has no name and refuses clients, so that nobody can make it seem slow. It is not `rookery:node`, which works on
//! what clients ask of it, and is busy without being stuck.

use std::time::{Duration, Instant};

use rookery_runtime::{Address, CallError, Context, ReplyTo, RequestError, Runtime, SpawnOptions};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::Mutex};

use super::limits::{BEAT_DEADLINE, BEAT_SHARED};

/// What the answering process is asked: to answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.Beat")]
struct Beat(ReplyTo<()>);

/// What came of a beat: how long each took, or why it did not come to an end.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The process.
    pub(super) process: Result<Duration, Stuck>,
    /// The I/O thread.
    pub(super) io: Result<Duration, Stuck>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stuck {
    /// Within the deadline.
    Silent,
    /// Who was to answer has ended.
    Gone(String),
}

/// See the module.
pub(super) struct Pulse {
    process: Address<Beat>,
    io: Handle,
    /// The last beat, and when it began. Held while one is under way, so that there is one at a time.
    last: Mutex<Option<(Instant, Outcome)>>,
}

impl Pulse {
    /// Starts the answering process.
    pub(super) fn start(runtime: &Runtime, io: Handle) -> Result<Self, RequestError> {
        let options = SpawnOptions::new().label("rookery:pulse").vital().members_only();
        let spawned = runtime.spawn_with(options, async |mut context: Context<Beat>| {
            while let Some(Beat(reply)) = context.message().await {
                reply.answer(());
            }
        })?;
        Ok(Self { process: spawned.address, io, last: Mutex::default() })
    }

    /// Asks both. Waits for the deadline at most, and for a beat that is under way before it.
    pub(super) async fn beat(&self) -> Outcome {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some((began, outcome)) = &*last
            && asked.saturating_duration_since(*began) < BEAT_SHARED
        {
            return outcome.clone();
        }
        let began = Instant::now();
        let (process, io) = tokio::join!(self.ask_process(), self.ask_io());
        let outcome = Outcome { process, io };
        *last = Some((began, outcome.clone()));
        outcome
    }

    async fn ask_process(&self) -> Result<Duration, Stuck> {
        let began = Instant::now();
        match self.process.call_within(BEAT_DEADLINE, Beat).await {
            Ok(()) => Ok(began.elapsed()),
            Err(CallError::Timeout) => Err(Stuck::Silent),
            Err(error) => Err(Stuck::Gone(error.to_string())),
        }
    }

    async fn ask_io(&self) -> Result<Duration, Stuck> {
        let began = Instant::now();
        match tokio::time::timeout(BEAT_DEADLINE, self.io.spawn(async {})).await {
            Ok(Ok(())) => Ok(began.elapsed()),
            Ok(Err(error)) => Err(Stuck::Gone(error.to_string())),
            Err(_) => Err(Stuck::Silent),
        }
    }
}
