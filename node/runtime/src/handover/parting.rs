//! A server that hands over: what it decides when it is asked, or nobody asks in time. Pure; the server's own process
//! drives it (`behaviour/succession.rs`).
//!
//! ```text
//!               ┌── offered to, part by part ──┐
//! (serves) ─────┤                              ├── Commit ──▶ passes on
//!     ▲         └──────────────┬───────────────┘
//!     └── the other has ended, or the time is over
//! ```

use std::time::{Duration, Instant};

use rookery_protocol::Pid;

use super::{
    limits::PARTING_PATIENCE,
    state::Handover,
    wire::{Offer, Part},
};
use crate::Blob;

/// Stands from the offer to the commit, or to the return.
#[derive(Debug)]
pub(crate) struct Parting {
    /// To whom it hands over.
    to: Pid,
    /// What it hands over; kept whole until the other one has it.
    state: Option<Handover>,
    /// Until when it waits for the commit.
    until: Instant,
}

/// What follows of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    /// This is the answer.
    Answer(T),
    /// It is refused, and nothing changes.
    Refuse(String),
}

impl Parting {
    pub(crate) fn new(to: Pid, state: Option<Handover>, now: Instant) -> Self {
        Self { to, state, until: now + PARTING_PATIENCE }
    }

    /// To whom it hands over.
    pub(crate) fn to(&self) -> &Pid {
        &self.to
    }

    /// How long it still waits; `None` when it goes on as before.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Whether it waits for `other`, which has ended: then it goes on as before.
    pub(crate) fn waits_for(&self, other: &Pid) -> bool {
        self.to == *other
    }

    /// `other` asks for the state, in parts of at most so many bytes.
    pub(crate) fn offer(&self, other: &Pid, part_bytes: usize) -> Outcome<Offer> {
        if let Err(refused) = self.only(other) {
            return Outcome::Refuse(refused);
        }
        Outcome::Answer(match &self.state {
            None => Offer::Nothing,
            Some(state) => Offer::State {
                version: state.version(),
                bytes: state.body().len() as u64,
                first: self.from(0, part_bytes),
            },
        })
    }

    /// `other` asks for more of the state.
    pub(crate) fn part(&self, other: &Pid, offset: u64, part_bytes: usize) -> Outcome<Part> {
        match self.only(other) {
            Ok(()) => Outcome::Answer(Part(self.from(usize::try_from(offset).unwrap_or(usize::MAX), part_bytes))),
            Err(refused) => Outcome::Refuse(refused),
        }
    }

    /// `other` has all that it needs. Answered: this process passes on from now on.
    pub(crate) fn commit(&self, other: &Pid) -> Outcome<()> {
        match self.only(other) {
            Ok(()) => Outcome::Answer(()),
            Err(refused) => Outcome::Refuse(refused),
        }
    }

    fn only(&self, other: &Pid) -> Result<(), String> {
        if self.to == *other { Ok(()) } else { Err(format!("it is being handed over to {} already", self.to)) }
    }

    fn from(&self, offset: usize, part_bytes: usize) -> Blob {
        let Some(state) = &self.state else { return Blob::default() };
        let body = state.body();
        let begin = offset.min(body.len());
        body.slice(begin..begin.saturating_add(part_bytes).min(body.len())).into()
    }
}

/// What comes in of a state, part by part. Pure as well.
#[derive(Debug)]
pub(crate) struct Arriving {
    version: u32,
    /// How many bytes there are to be.
    bytes: usize,
    body: Vec<u8>,
}

impl Arriving {
    /// Begins with the first part.
    pub(crate) fn new(version: u32, bytes: u64, first: &Blob, limit: usize) -> Result<Self, String> {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= limit);
        let bytes = bytes.ok_or_else(|| format!("a state of more than {limit} bytes is offered"))?;
        let mut arriving = Self { version, bytes, body: Vec::new() };
        arriving.add(first)?;
        Ok(arriving)
    }

    /// Where the next part begins; `None` when all is there.
    pub(crate) fn wants(&self) -> Option<u64> {
        (self.body.len() < self.bytes).then_some(self.body.len() as u64)
    }

    /// A further part. Memory grows with what has arrived.
    pub(crate) fn add(&mut self, part: &Blob) -> Result<(), String> {
        if self.body.len() + part.len() > self.bytes {
            return Err("the state has more bytes than it was said to have".to_owned());
        }
        if part.is_empty() && self.body.len() < self.bytes {
            return Err("the state has fewer bytes than it was said to have".to_owned());
        }
        self.body.extend_from_slice(part);
        Ok(())
    }

    pub(crate) fn whole(self) -> Result<Handover, String> {
        Handover::bytes(self.version, self.body)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use proptest::prelude::*;

    use super::*;

    fn pid(number: u64) -> Pid {
        format!("<b.1.{number}>").parse().unwrap()
    }

    proptest! {
        /// Whatever the size of the state and of the parts, and whatever is asked in between: it arrives as it was.
        #[test]
        fn d6_a_state_arrives_whole(
            body in prop::collection::vec(any::<u8>(), 0..2_000), part_bytes in 1_usize..300, asked in any::<u64>(),
        ) {
            let state = Handover::bytes(3, body.clone()).unwrap();
            let parting = Parting::new(pid(1), Some(state.clone()), Instant::now());
            let Outcome::Answer(Offer::State { version, bytes, first }) = parting.offer(&pid(1), part_bytes) else {
                return Err(TestCaseError::fail("no state"));
            };
            let mut arriving = Arriving::new(version, bytes, &first, 2_000).unwrap();
            while let Some(offset) = arriving.wants() {
                let _ = parting.part(&pid(1), asked, part_bytes);
                let Outcome::Answer(Part(part)) = parting.part(&pid(1), offset, part_bytes) else {
                    return Err(TestCaseError::fail("no part"));
                };
                arriving.add(&part).unwrap();
            }
            prop_assert_eq!(arriving.whole().unwrap(), state);
        }
    }

    #[test]
    fn d6_only_one_takes_over() {
        let parting = Parting::new(pid(1), None, Instant::now());
        assert_eq!(parting.offer(&pid(1), 10), Outcome::Answer(Offer::Nothing));
        assert!(matches!(parting.offer(&pid(2), 10), Outcome::Refuse(why) if why.contains("<b.1.1>")));
        assert!(matches!(parting.part(&pid(2), 0, 10), Outcome::Refuse(_)));
        assert!(matches!(parting.commit(&pid(2)), Outcome::Refuse(_)));
        assert_eq!(parting.commit(&pid(1)), Outcome::Answer(()));
        assert!(parting.waits_for(&pid(1)) && !parting.waits_for(&pid(2)));
    }

    #[test]
    fn d6_who_does_not_commit_in_time_is_not_waited_for() {
        let now = Instant::now();
        let parting = Parting::new(pid(1), None, now);
        assert_eq!(parting.left(now), Some(PARTING_PATIENCE));
        assert_eq!(parting.left(now + PARTING_PATIENCE), None);
    }

    #[test]
    fn d6_a_state_that_is_not_as_it_was_said_is_refused() {
        let part = |len: usize| Blob::from(vec![7; len]);
        assert!(Arriving::new(1, 11, &part(1), 10).is_err(), "over the limit");
        assert!(Arriving::new(1, 3, &part(4), 10).is_err(), "more than was said");
        let mut arriving = Arriving::new(1, 3, &part(2), 10).unwrap();
        assert!(arriving.add(&part(0)).is_err(), "fewer than was said");
        assert!(arriving.add(&part(2)).is_err());
        arriving.add(&part(1)).unwrap();
        assert_eq!((arriving.wants(), arriving.whole().unwrap().body().len()), (None, 3));
    }
}
