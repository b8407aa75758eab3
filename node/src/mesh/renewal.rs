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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Idle,
    /// This node dials.
    Dialling,
    /// The peer has dialled, and is welcome.
    Welcomed(ConnectionNumber),
    /// Both go over.
    Agreed,
}

impl Renewal {
    /// This node is about to dial; false if something is under way already.
    pub(crate) fn begin(&self) -> bool {
        self.change(State::Idle, State::Dialling)
    }

    /// The peer welcomes it; false if the peer's own dial is kept instead.
    pub(crate) fn welcomed(&self) -> bool {
        self.change(State::Dialling, State::Agreed)
    }

    /// The dial came to nothing.
    pub(crate) fn dial_failed(&self) {
        let mut state = self.state();
        if matches!(*state, State::Dialling | State::Agreed) {
            *state = State::Idle;
        }
    }

    /// The peer dials; false if it is not to. `ours_wins`: of two dials this node's is kept.
    pub(crate) fn asked(&self, number: ConnectionNumber, ours_wins: bool) -> bool {
        let mut state = self.state();
        let welcome = match *state {
            State::Idle => true,
            State::Dialling => !ours_wins,
            State::Welcomed(_) | State::Agreed => false,
        };
        if welcome {
            *state = State::Welcomed(number);
        }
        welcome
    }

    /// The peer confirms; false if it is not waited for any more.
    pub(crate) fn confirmed(&self, number: ConnectionNumber) -> bool {
        self.change(State::Welcomed(number), State::Agreed)
    }

    /// The peer's dial came to nothing.
    pub(crate) fn given_up(&self, number: ConnectionNumber) {
        self.change(State::Welcomed(number), State::Idle);
    }

    /// Both have gone over.
    pub(crate) fn done(&self) {
        self.change(State::Agreed, State::Idle);
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
        assert!(small.begin() && large.begin());
        assert!(!small.asked(ONE, true), "its own dial wins");
        assert!(large.asked(OTHER, false));
        assert!(!large.welcomed(), "even if the other had said yes");
        large.dial_failed();
        assert!(small.welcomed() && large.confirmed(OTHER));
        assert!(small.is_expected() && large.is_expected());
        assert!(!small.begin() && !large.asked(ONE, false), "one after the other");
        small.done();
        large.done();
        assert!(!small.is_expected() && large.begin());
    }

    #[test]
    fn what_comes_to_nothing_leaves_the_way_free() {
        let renewal = Renewal::default();
        assert!(renewal.begin());
        renewal.dial_failed();
        assert!(renewal.asked(ONE, true));
        assert!(!renewal.asked(OTHER, true) && !renewal.begin());
        renewal.given_up(OTHER);
        assert!(!renewal.begin(), "that was another one");
        renewal.given_up(ONE);
        assert!(!renewal.confirmed(ONE), "too late");
        assert!(renewal.begin() && renewal.welcomed());
        renewal.given_up(ONE);
        assert!(renewal.is_expected());
        // The connection was lost while it was being confirmed.
        renewal.dial_failed();
        assert!(!renewal.is_expected());
    }
}
