//! The watcher: for what happens when a process keeps its thread. It looks every millisecond while processes run, and
//! sleeps when none does.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use super::shared::{Seat, Shared};
use crate::net::outbound::staged;

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
            // Whoever wakes takes what waits, and leads if nobody does. Who seems to wait may be held up by I/O: so what waits
            // is for those who are busy, too.
            if !shared.wake_sleeper() {
                share_out(shared, &seen);
                if !shared.call_for_help() {
                    lead(shared, &mut seen);
                }
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
            staged::flush_of_other(&seat.stage);
            seat.wake_deferred();
        }
        all.held_up |= steps == *seen && seat.has_queued();
        all.moved |= steps != *seen;
        *seen = steps;
    }
    all
}

/// All others are busy: what waits behind a worker that does not get on is for whichever of them looks first.
fn share_out(shared: &Shared, seen: &[u64]) {
    for (seat, seen) in shared.seats().zip(seen) {
        if seat.steps() == *seen && seat.has_queued() {
            shared.share_out(seat);
        }
    }
}

fn sleep(shared: &Shared, seen: &[u64]) {
    shared.watcher_sleeps.store(true, Ordering::SeqCst);
    // Who has begun since is seen here, or sees that the watcher sleeps.
    let quiet = shared.seats().zip(seen).all(|(seat, seen)| seat.steps() == *seen && !seat.has_queued());
    let quiet = quiet && !shared.has_injected();
    while quiet && shared.watcher_sleeps.load(Ordering::SeqCst) && !shared.is_stopping() {
        thread::park();
    }
    shared.watcher_sleeps.store(false, Ordering::SeqCst);
}

/// Leads in the workers' stead, until one of them has nothing to run.
fn lead(shared: &Shared, seen: &mut [u64]) {
    let lead = shared.try_lead();
    let Some(Some(io)) = lead.as_deref() else { return };
    shared.watcher_leads.store(true, Ordering::SeqCst);
    shared.set_led(true);
    // What was deferred before is not waited for by anybody else; what is deferred later is woken by who defers it.
    fence(Ordering::SeqCst);
    shared.seats().for_each(Seat::wake_deferred);
    io.block_on(async {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = wanted_back(shared) => return,
                _ = ticks.tick() => {
                    if look(shared, seen).held_up {
                        share_out(shared, seen);
                    }
                }
            }
        }
    });
    shared.set_led(false);
    shared.watcher_leads.store(false, Ordering::SeqCst);
    drop(lead);
    // It sees that the lead is free, or has gone on already.
    shared.wake_sleeper();
}

/// A worker has nothing to run, or all are to end.
async fn wanted_back(shared: &Shared) {
    poll_fn(|cx| {
        shared.leader_wakes_by(cx.waker());
        if shared.anyone_sleeps() || shared.is_stopping() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
