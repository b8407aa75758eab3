//! A process of the demo's client that is linked to and monitors another process, and tells when each of the two fires.

use std::time::Instant;

use rookery_client::{Context, Event, ExitReason, Pid, Received, Runtime};
use tokio::sync::mpsc;

use super::Unexpected;

/// What the observer saw, and when.
#[derive(Debug)]
pub(super) enum Seen {
    Exit(ExitReason, Instant),
    Down(ExitReason, Instant),
}

/// Starts an observer of `pid`.
pub(super) fn observe(runtime: &Runtime, pid: &Pid) -> Result<mpsc::Receiver<Seen>, Unexpected> {
    let (tell, seen) = mpsc::channel(2);
    let pid = pid.clone();
    let started = runtime.spawn(async move |mut context: Context<()>| {
        context.trap_exits(true);
        context.link(&pid);
        context.monitor(&pid);
        for _ in 0..2 {
            let told = loop {
                match context.receive().await {
                    Received::Event(Event::Exit { reason, .. }) => break Seen::Exit(reason, Instant::now()),
                    Received::Event(Event::Down(down)) => break Seen::Down(down.reason, Instant::now()),
                    _ => {}
                }
            };
            if tell.send(told).await.is_err() {
                return;
            }
        }
    });
    started.map(|_| seen).map_err(|error| Unexpected::new(error.to_string()))
}
