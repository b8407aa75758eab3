//! The watcher: for what happens when a process keeps its thread. It looks every millisecond while processes run, and
//! sleeps when none does.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    thread,
    time::Duration,
};

use tokio::runtime::Runtime;

use super::shared::Shared;

/// How often it looks. A process that runs for longer than that without a pause keeps others waiting for so long.
const TICK: Duration = Duration::from_millis(1);

/// It goes to sleep when nothing has run for so many looks.
const QUIET: u32 = 2;

pub(super) fn run(shared: &Arc<Shared>) {
    shared.watch();
    let mut seen = vec![0; shared.workers()];
    let mut quiet = 0;
    // Whether something has waited for a worker at the last look.
    let mut waited = false;
    while !shared.is_stopping() {
        thread::park_timeout(TICK);
        let Seen { stuck, mut held_up, moved } = look(shared, &mut seen);
        let waits = shared.has_injected();
        held_up |= std::mem::replace(&mut waited, waits) && waits;
        quiet = if stuck || moved || waits || held_up { 0 } else { quiet + 1 };
        if held_up || stuck && shared.is_leaderless() {
            // Whoever wakes takes what waits, and leads if nobody does.
            if !shared.call_for_help() {
                lead(shared);
            }
        } else if quiet >= QUIET {
            sleep(shared, &seen);
            quiet = 0;
        }
    }
    shared.end_io();
}

#[derive(Default)]
struct Seen {
    /// A worker is in the same step as before.
    stuck: bool,
    /// Processes wait behind one that does not get on, be it with a process or with I/O.
    held_up: bool,
    /// A worker has gone on.
    moved: bool,
}

fn look(shared: &Shared, seen: &mut [u64]) -> Seen {
    let mut all = Seen::default();
    for (seat, seen) in shared.seats().zip(seen) {
        let steps = seat.steps();
        let stuck = steps == *seen && steps % 2 == 1;
        all.stuck |= stuck;
        if stuck {
            seat.wake_deferred();
        }
        all.held_up |= steps == *seen && seat.has_queued();
        all.moved |= steps != *seen;
        *seen = steps;
    }
    all
}

fn sleep(shared: &Shared, seen: &[u64]) {
    shared.watcher_sleeps.store(true, Ordering::SeqCst);
    // Who has begun since is seen here, or sees that the watcher sleeps.
    let quiet = shared.seats().zip(seen).all(|(seat, seen)| seat.steps() == *seen);
    while quiet && shared.watcher_sleeps.load(Ordering::SeqCst) && !shared.is_stopping() {
        thread::park();
    }
    shared.watcher_sleeps.store(false, Ordering::SeqCst);
}

/// Leads in the workers' stead, until one of them has nothing to run and asks for it.
fn lead(shared: &Shared) {
    let lead = shared.try_lead();
    let Some(Some(io)) = lead.as_deref() else { return };
    drive(shared, io);
    drop(lead);
    // Who has asked may sleep by now; if not yet, it sees that the lead is free.
    shared.wake_sleeper();
}

fn drive(shared: &Shared, io: &Runtime) {
    let mut begun = false;
    shared.watcher_leads.store(true, Ordering::SeqCst);
    shared.set_led(true);
    io.block_on(poll_fn(|cx| {
        // By nobody but a worker, and the end.
        if std::mem::replace(&mut begun, true) {
            return Poll::Ready(());
        }
        shared.leader_wakes_by(cx.waker());
        Poll::Pending
    }));
    shared.set_led(false);
    shared.watcher_leads.store(false, Ordering::SeqCst);
}
