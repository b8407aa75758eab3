//! A session that runs, and how it comes to its end when another one takes its place: its node is about to leave, or the client is
//! closed.
//!
//! ```text
//! runs ── node: Leaving ──▶ another node is looked for ── found ──▶ rests: Leaving to the node, waits for its answers ──▶ Goodbye
//!                                    └── the session ends first: it is lost, as ever
//! runs, or rests ── the client is closed ──▶ its processes end with Shutdown, and say so ──▶ Goodbye
//! ```
//! New calls go by the new session from the moment that it is there; what was asked by the old one is answered there.

use std::time::Duration;

use rookery_runtime::{
    ExitReason, Runtime,
    net::{control::ConnectionError, outbound::Outbound},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::session::{FAREWELL, Session, Settings, closed};

/// How long a session rests at least: whoever has just asked for the runtime calls by it.
const RESTS_FOR: Duration = Duration::from_millis(250);

/// How long one rests that has processes: they are asked things too, and answer what they have begun.
const PROCESSES_STAY: Duration = Duration::from_secs(1);

/// How often it is looked whether it has got its answers.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long processes have to end when the client is closed; then they are killed.
const PROCESSES_END: Duration = Duration::from_secs(1);

/// How long a session may take to end when the client is closed: its processes, what the killed ones of them have to tell, and the goodbye.
pub(crate) const CLOSES_WITHIN: Duration =
    PROCESSES_END.saturating_add(Duration::from_millis(500)).saturating_add(FAREWELL);

/// What is wanted of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// It goes on.
    Open,
    /// Another one has taken its place.
    Resting,
    /// It ends in good order.
    Closed,
}

/// Waits until at least that is wanted.
pub(crate) async fn wanted(wanted: &mut watch::Receiver<Wanted>, at_least: Wanted) {
    if wanted.wait_for(|now| *now >= at_least).await.is_err() {
        // Nobody wants anything more.
        std::future::pending().await
    }
}

/// A session that runs.
pub(crate) struct Running {
    ends: JoinHandle<ConnectionError>,
    /// Whether its node is about to leave.
    leaves: watch::Receiver<bool>,
    wants: watch::Sender<Wanted>,
}

impl Running {
    /// Runs it until it ends, or `closing` says so.
    pub(crate) fn start(session: Session, settings: Settings, closing: watch::Receiver<bool>) -> Self {
        let (wants, orders) = watch::channel(Wanted::Open);
        let (tells, leaves) = watch::channel(false);
        let (runtime, outbound) = (session.runtime.clone(), session.outbound().clone());
        let closes = wants.clone();
        let ends = tokio::spawn(async move {
            let done = is_done(&runtime, &outbound, orders.clone(), closing);
            let run = session.run(settings, orders, tells);
            tokio::pin!(run);
            tokio::select! {
                end = &mut run => return end,
                () = done => drop(closes.send_replace(Wanted::Closed)),
            }
            run.await
        });
        Self { ends, leaves, wants }
    }

    /// Why it has ended.
    pub(crate) async fn ended(&mut self) -> ConnectionError {
        (&mut self.ends).await.unwrap_or(ConnectionError::StreamClosed("lane"))
    }

    /// Waits until its node is about to leave, or it has ended: then tells why.
    pub(crate) async fn node_leaves(&mut self) -> Result<(), ConnectionError> {
        let told = async { self.leaves.wait_for(|leaves| *leaves).await.is_ok() };
        match told.await {
            true => Ok(()),
            // What would tell has gone with it.
            false => Err(self.ended().await),
        }
    }

    /// Another one has taken its place: it ends once it has its answers, beside what the client does.
    pub(crate) fn rest(self, resting: &mut JoinSet<()>) {
        let Self { ends, wants, .. } = self;
        while resting.try_join_next().is_some() {}
        wants.send_if_modified(|now| {
            let rests = *now < Wanted::Resting;
            if rests {
                *now = Wanted::Resting;
            }
            rests
        });
        resting.spawn(async move { drop(ends.await) });
    }
}

/// Waits until a session that stands may say goodbye: it has rested, or the client is closed, and then its processes have ended.
async fn is_done(
    runtime: &Runtime,
    outbound: &Outbound,
    mut orders: watch::Receiver<Wanted>,
    mut closing: watch::Receiver<bool>,
) {
    let rests = async {
        wanted(&mut orders, Wanted::Resting).await;
        rested(runtime, outbound).await;
    };
    tokio::select! {
        biased;
        () = closed(&mut closing) => runtime.shut_down(ExitReason::Shutdown, PROCESSES_END).await,
        () = rests => {}
    }
}

/// Waits until a session has what it waits for, and what it has to say is on its way. Its node ends it if that takes too long.
async fn rested(runtime: &Runtime, outbound: &Outbound) {
    let begin = Instant::now();
    tokio::time::sleep(RESTS_FOR).await;
    let has_work = || {
        runtime.awaits_answers()
            || outbound.queued_bytes() > 0
            || (!runtime.has_told_all() && begin.elapsed() < PROCESSES_STAY)
    };
    while has_work() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
