//! How peers are told of what changes in the directory of this node.
//!
//! Most is told at once. Only names that are taken one after the other wait a moment for each other: the arbiter has granted them, so
//! nobody waits to hear of them, and to tell four nodes of each by itself takes more than all the rest of a registration.
//!
//! ```text
//! a name is taken ─▶ told at once, if none was for a moment
//!                 └▶ else on its lanes, until the moment is over or its process sends something there
//! ```
//! **Invariant:** what waits is on its lane already. So it goes before all that its process sends later, its end among it.

use std::time::Duration;

use rookery_protocol::{Destination, DirectoryUpdate, Pid, Recipient, Serial, Signal, SignalBody};
use tokio::time::Instant;

use super::State;
use crate::{
    net::outbound::Outbound,
    runtime::Runtime,
    sync::{read, write},
};

/// How long names that are taken one after the other wait for each other. What sees it is who looks up a name on another node, told
/// of it by somebody else than its holder.
const MOMENT: Duration = Duration::from_millis(1);

/// When peers are told of names.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until then they wait.
    until: Option<Instant>,
    /// Whether something waits. Then a task is on its way that ends that.
    waits: bool,
}

/// What becomes of a name that is taken.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Now,
    /// With those that wait already.
    Later,
    /// It is the first that waits: until then.
    Until(Instant),
    /// With those that wait, now: what was to end the moment is late.
    Overdue,
}

impl Pace {
    fn taken(&mut self, now: Instant) -> Told {
        match (self.until.filter(|until| now < *until), self.waits) {
            (None, false) => {
                self.until = Some(now + MOMENT);
                Told::Now
            }
            (Some(until), false) => {
                self.waits = true;
                Told::Until(until)
            }
            (Some(_), true) => Told::Later,
            (None, true) => {
                self.over(now);
                Told::Overdue
            }
        }
    }

    /// What waits goes now.
    fn over(&mut self, now: Instant) {
        *self = Self { until: Some(now + MOMENT), waits: false };
    }
}

impl State {
    /// Tells every peer what has changed for `pid`.
    pub(super) fn tell(&self, pid: &Pid, update: &DirectoryUpdate) {
        for peer in &self.peers {
            tell_peer(peer, pid, update.clone());
        }
    }
}

impl Runtime {
    /// As [`State::tell`], of what may wait a moment.
    pub(super) fn tell_soon(&self, state: &mut State, pid: &Pid, update: &DirectoryUpdate) {
        let told = state.pace.taken(Instant::now());
        if told == Told::Now {
            return state.tell(pid, update);
        }
        for peer in &state.peers {
            drop(peer.push_later(signal(peer, pid, update.clone())));
        }
        match told {
            Told::Now | Told::Later => {}
            Told::Overdue => state.peers.iter().for_each(|peer| peer.wake_writers()),
            Told::Until(until) => {
                let runtime = self.clone();
                // Ends when the moment is over. Among the I/O, which no process and nobody's program holds up for long.
                self.executor().io().spawn(async move {
                    tokio::time::sleep_until(until).await;
                    write(&runtime.directory().0).pace.over(Instant::now());
                    read(&runtime.directory().0).peers.iter().for_each(|peer| peer.wake_writers());
                });
            }
        }
    }
}

/// A peer that takes no more signals will be told anew, all of it, when it is connected again.
pub(super) fn tell_peer(peer: &Outbound, pid: &Pid, update: DirectoryUpdate) {
    drop(peer.push(signal(peer, pid, update)));
}

fn signal(peer: &Outbound, pid: &Pid, update: DirectoryUpdate) -> Signal {
    let to = Destination { node: peer.peer().clone(), to: Recipient::Serial(Serial::NODE) };
    Signal { from: pid.clone(), to, body: SignalBody::Directory(update) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_follow_each_other_wait_for_one_moment_and_one_alone_does_not() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        assert_eq!(pace.taken(at(0)), Told::Now);
        assert_eq!(pace.taken(at(100)), Told::Until(at(1_000)));
        assert_eq!(pace.taken(at(200)), Told::Later);
        pace.over(at(1_100));
        assert_eq!(pace.taken(at(1_700)), Told::Until(at(2_100)));
        assert_eq!(pace.taken(at(2_500)), Told::Overdue, "the task that ends the moment is late");
        assert_eq!(pace.taken(at(2_600)), Told::Until(at(3_500)));
        pace.over(at(3_500));
        assert_eq!(pace.taken(at(4_700)), Told::Now);
    }
}
