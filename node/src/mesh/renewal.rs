//! Whose renewal of a connection goes on, if both ends begin one. Pure but for its lock: handshakes ask, verdicts come out.
//!
//! Both ends may find at once that their connection was made with an old certificate. The rule is the arbiter's for connections that are
//! made: of two that dial each other, the dial of the one with the smaller name is kept. Once a dialler was welcomed, or an acceptor's
//! welcome was confirmed, both go over to the new connection, and the next renewal begins only after that.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::arbiter::ConnectionNumber;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Renewal(Mutex<State>);

/// Who has dialled: this node, or the peer. The number tells one try from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Us(ConnectionNumber),
    Peer(ConnectionNumber),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    /// This node dials, or has welcomed the peer's dial.
    Begun(By),
    /// Both go over.
    Agreed(By),
}

impl Renewal {
    /// This node is about to dial; false if something is under way already.
    pub(crate) fn begin(&self, number: ConnectionNumber) -> bool {
        self.change(State::Idle, State::Begun(By::Us(number)))
    }

    /// The peer welcomes this node's dial, or confirms its own; false if another one is kept instead.
    pub(crate) fn agreed(&self, by: By) -> bool {
        self.change(State::Begun(by), State::Agreed(by))
    }

    /// A try came to nothing.
    pub(crate) fn failed(&self, by: By) {
        self.change(State::Begun(by), State::Idle);
        // What was lost while it was being confirmed.
        if matches!(by, By::Us(_)) {
            self.change(State::Agreed(by), State::Idle);
        }
    }

    /// The peer dials; false if it is not to. `ours_wins`: of two dials this node's is kept.
    pub(crate) fn asked(&self, number: ConnectionNumber, ours_wins: bool) -> bool {
        let mut state = self.state();
        let welcome = match *state {
            State::Idle => true,
            State::Begun(By::Us(_)) => !ours_wins,
            State::Begun(By::Peer(_)) | State::Agreed(_) => false,
        };
        if welcome {
            *state = State::Begun(By::Peer(number));
        }
        welcome
    }

    /// Both have gone over.
    pub(crate) fn done(&self) {
        let mut state = self.state();
        if matches!(*state, State::Agreed(_)) {
            *state = State::Idle;
        }
    }

    /// Whether another connection may be about to take this one's place.
    pub(crate) fn is_expected(&self) -> bool {
        *self.state() != State::Idle
    }

    fn change(&self, from: State, to: State) -> bool {
        let mut state = self.state();
        let fits = *state == from;
        if fits {
            *state = to;
        }
        fits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionNumber = ConnectionNumber(1);
    const OTHER: ConnectionNumber = ConnectionNumber(2);

    #[test]
    fn of_two_that_dial_each_other_one_dial_is_kept_at_both_ends() {
        // The smaller name's end, and the other's.
        let (small, large) = (Renewal::default(), Renewal::default());
        assert!(small.begin(ONE) && large.begin(ONE));
        assert!(!small.asked(OTHER, true), "its own dial wins");
        assert!(large.asked(OTHER, false));
        assert!(!large.agreed(By::Us(ONE)), "even if the other had said yes");
        assert!(small.agreed(By::Us(ONE)) && large.agreed(By::Peer(OTHER)));
        // That its own dial was refused is noticed late.
        large.failed(By::Us(ONE));
        assert!(small.is_expected() && large.is_expected());
        assert!(!small.begin(OTHER) && !large.begin(OTHER) && !large.asked(ONE, false), "one after the other");
        small.done();
        large.done();
        assert!(!small.is_expected() && large.begin(OTHER));
        large.failed(By::Us(ONE));
        assert!(large.agreed(By::Us(OTHER)), "an earlier try says nothing of this one");
    }

    #[test]
    fn what_comes_to_nothing_leaves_the_way_free() {
        let renewal = Renewal::default();
        assert!(renewal.begin(ONE));
        renewal.failed(By::Us(ONE));
        assert!(renewal.asked(ONE, true));
        assert!(!renewal.asked(OTHER, true) && !renewal.begin(OTHER));
        renewal.failed(By::Peer(OTHER));
        assert!(!renewal.begin(OTHER), "that was another one");
        renewal.failed(By::Peer(ONE));
        assert!(!renewal.agreed(By::Peer(ONE)), "too late");
        assert!(renewal.begin(ONE) && renewal.agreed(By::Us(ONE)));
        // The connection was lost while it was being confirmed.
        renewal.failed(By::Us(ONE));
        assert!(!renewal.is_expected());
        assert!(renewal.asked(ONE, true) && renewal.agreed(By::Peer(ONE)));
        renewal.failed(By::Peer(ONE));
        assert!(renewal.is_expected(), "it goes over: only its end ends that");
    }
}
