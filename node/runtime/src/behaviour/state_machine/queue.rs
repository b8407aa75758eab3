//! What a state machine decides without I/O: which event comes next, what becomes of those that were postponed, and when
//! its timeouts are due. Events and the time go in, the next event comes out.
//!
//! ```text
//! from outside ─▶ waiting ─▶ poll ─▶ the user's code ─▶ Transition ─▶ apply
//!                    ▲  ▲                                 │    │
//!    internal events ┘  └── postponed ◀───────────────────┘    └─▶ timeouts ─▶ poll, once nothing waits
//!                           (in front, when the state changes)
//! ```
//! The order is that of OTP's `gen_statem` ("Transition actions" in its manual): when the state changes, postponed events
//! are retried, the oldest first, before what waits; internal events come before those; timeouts that are due come when
//! nothing waits, and before anything from outside that has not been received.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::process::{deadline::FAR, event::Event};

/// Events that a machine may hold back: postponed, or its own and not handled. One that has so many waits for something
/// that does not come, and ends with an error rather than with the node's memory.
pub const MAX_HELD_EVENTS: usize = 100_000;

/// What a state machine is given to handle, in its state.
#[derive(Debug)]
pub enum StateEvent<M> {
    /// A message.
    Message(M),
    /// A message that the machine itself inserted, by [`Transition::next_event`]. Nobody else can.
    Internal(M),
    /// What the system tells: an exit that was trapped, a monitor that fired, a node that came or went.
    Event(Event),
    /// It has been in this state for as long as its state timeout said.
    StateTimeout,
    /// The timeout of that name is over.
    Timeout(&'static str),
}

/// Timeouts to start and to cancel. Starting one that runs starts it anew.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Timeouts(Vec<(Which, Option<Duration>)>);

/// The state timeout, or one with a name.
type Which = Option<&'static str>;

impl Timeouts {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the state timeout: [`StateEvent::StateTimeout`] comes after `after`, unless the state changes before.
    #[must_use]
    pub fn state(mut self, after: Duration) -> Self {
        self.0.push((None, Some(after)));
        self
    }

    /// Starts a timeout that state changes do not touch: [`StateEvent::Timeout`] comes after `after`.
    #[must_use]
    pub fn named(mut self, name: &'static str, after: Duration) -> Self {
        self.0.push((Some(name), Some(after)));
        self
    }

    /// Cancels the state timeout.
    #[must_use]
    pub fn cancel_state(mut self) -> Self {
        self.0.push((None, None));
        self
    }

    /// Cancels the timeout of that name.
    #[must_use]
    pub fn cancel(mut self, name: &'static str) -> Self {
        self.0.push((Some(name), None));
        self
    }
}

/// What a state machine answers an event with.
#[derive(Debug)]
#[must_use = "it says what follows"]
pub struct Transition<S, M> {
    next: Option<S>,
    postponed: Option<StateEvent<M>>,
    inserted: Vec<M>,
    timeouts: Timeouts,
}

impl<S, M> Transition<S, M> {
    /// Stays in the state.
    pub fn keep() -> Self {
        Self { next: None, postponed: None, inserted: Vec::new(), timeouts: Timeouts::new() }
    }

    /// Goes to `state`. To one that equals the present one is to stay: nothing is retried, and no timeout cancelled.
    pub fn to(state: S) -> Self {
        Self { next: Some(state), ..Self::keep() }
    }

    /// Gives the event back: it comes again, before anything newer, when the state has changed.
    pub fn postpone(mut self, event: StateEvent<M>) -> Self {
        self.postponed = Some(event);
        self
    }

    /// Inserts an event of the machine's own: it comes next, as [`StateEvent::Internal`], before all that waits. Several
    /// come in the order of these calls.
    pub fn next_event(mut self, message: M) -> Self {
        self.inserted.push(message);
        self
    }

    /// Starts and cancels timeouts; the state timeout is that of the state it goes to.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts.0.extend(timeouts.0);
        self
    }
}

/// Too many events are held back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyHeld;

pub(crate) struct EventQueue<S, M> {
    state: S,
    /// To be handled, oldest first, before anything else is received.
    waiting: VecDeque<StateEvent<M>>,
    /// Postponed in this state, oldest first.
    postponed: VecDeque<StateEvent<M>>,
    /// Timeouts that run, in the order they are due, and of those the order they were started.
    running: Vec<(Instant, Which)>,
}

impl<S: PartialEq, M> EventQueue<S, M> {
    pub(crate) fn new(state: S) -> Self {
        Self { state, waiting: VecDeque::new(), postponed: VecDeque::new(), running: Vec::new() }
    }

    pub(crate) fn state(&self) -> &S {
        &self.state
    }

    /// An event from outside.
    pub(crate) fn handle(&mut self, event: StateEvent<M>) {
        self.waiting.push_back(event);
    }

    /// The next event; none until something is received, or the next timeout is due.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<StateEvent<M>> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(event);
        }
        if self.next_due()? > now {
            return None;
        }
        let (_, which) = self.running.remove(0);
        Some(which.map_or(StateEvent::StateTimeout, StateEvent::Timeout))
    }

    /// When the next timeout is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.running.first().map(|&(due, _)| due)
    }

    /// What the event that was polled last is answered with. Gives the former state if it has changed.
    pub(crate) fn apply(&mut self, transition: Transition<S, M>, now: Instant) -> Result<Option<S>, TooManyHeld> {
        self.postponed.extend(transition.postponed);
        let former = match transition.next {
            Some(next) if next != self.state => Some(std::mem::replace(&mut self.state, next)),
            _ => None,
        };
        if former.is_some() {
            self.cancel(None);
            self.postponed.append(&mut self.waiting);
            std::mem::swap(&mut self.postponed, &mut self.waiting);
        }
        for message in transition.inserted.into_iter().rev() {
            self.waiting.push_front(StateEvent::Internal(message));
        }
        self.set_timeouts(transition.timeouts, now);
        if self.waiting.len() + self.postponed.len() > MAX_HELD_EVENTS { Err(TooManyHeld) } else { Ok(former) }
    }

    pub(crate) fn set_timeouts(&mut self, timeouts: Timeouts, now: Instant) {
        for (which, after) in timeouts.0 {
            self.cancel(which);
            if let Some(after) = after {
                let due = now + after.min(FAR);
                let at = self.running.partition_point(|&(other, _)| other <= due);
                self.running.insert(at, (due, which));
            }
        }
    }

    fn cancel(&mut self, which: Which) {
        self.running.retain(|&(_, running)| running != which);
    }
}
