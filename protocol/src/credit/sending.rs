//! The asker's end: how many messages it may send to one receiver, as it is addressed.

use crate::{
    credit::{CreditChange, CreditNumber},
    limits::{CREDIT_ASKED_AFTER, CREDIT_OF_NAMES, CREDIT_ON_TRUST},
};

/// What one asker may send to one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendCredit {
    /// The receiver is addressed by a name, whose holder may change: that it has no limit is believed for a while only.
    by_name: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many may be sent on trust; asks when no more than `ask_at` are left.
    Trusted { left: u32, ask_at: u32 },
    /// The same, and the question is under way.
    Asked { left: u32, number: CreditNumber },
    /// The receiver counts.
    Counted { left: u32, number: CreditNumber },
    /// The receiver has no limit.
    Unlimited,
}

/// What a message takes. One that is not sent after all gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing that anybody counts.
    Nothing,
    /// Trust.
    Trust,
    /// Trust; the message asks, under this number.
    Asking(CreditNumber),
    /// A message that the receiver counts, under this number.
    Counted(CreditNumber),
}

impl Taken {
    /// What stands in the message.
    #[must_use]
    pub fn number(self) -> Option<CreditNumber> {
        match self {
            Self::Nothing | Self::Trust => None,
            Self::Asking(number) | Self::Counted(number) => Some(number),
        }
    }
}

impl SendCredit {
    /// Towards a receiver of which nothing is known.
    #[must_use]
    pub fn new(by_name: bool) -> Self {
        Self { by_name, state: State::Trusted { left: CREDIT_ON_TRUST, ask_at: CREDIT_ON_TRUST - CREDIT_ASKED_AFTER } }
    }

    /// Whether every message may be sent, without being counted.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.state == State::Unlimited
    }

    /// Whether a message may be sent.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self.state {
            State::Trusted { left, .. } | State::Asked { left, .. } | State::Counted { left, .. } => left > 0,
            State::Unlimited => true,
        }
    }

    /// The number under which it is known to the receiver.
    #[must_use]
    pub fn number(&self) -> Option<CreditNumber> {
        match self.state {
            State::Asked { number, .. } | State::Counted { number, .. } => Some(number),
            State::Trusted { .. } | State::Unlimited => None,
        }
    }

    /// A message is to be sent; `None`: not now. `fresh` gives a number that was not used before.
    pub fn take(&mut self, fresh: impl FnOnce() -> CreditNumber) -> Option<Taken> {
        match &mut self.state {
            State::Unlimited => Some(Taken::Nothing),
            State::Trusted { left, ask_at } if *left > *ask_at + 1 => {
                *left -= 1;
                Some(Taken::Trust)
            }
            State::Trusted { left, .. } => {
                let (left, number) = (left.saturating_sub(1), fresh());
                self.state = State::Asked { left, number };
                Some(Taken::Asking(number))
            }
            State::Asked { left, .. } | State::Counted { left, .. } if *left == 0 => None,
            State::Asked { left, .. } => {
                *left -= 1;
                Some(Taken::Trust)
            }
            State::Counted { left, number } => {
                *left -= 1;
                Some(Taken::Counted(*number))
            }
        }
    }

    /// The message was not sent after all. Gives the number that nobody will be told of any more.
    pub fn give_back(&mut self, taken: Taken) -> Option<CreditNumber> {
        match (&mut self.state, taken) {
            (State::Asked { left, number }, Taken::Asking(asked)) if *number == asked => {
                // The next message asks.
                self.state = State::Trusted { left: *left + 1, ask_at: *left };
                return Some(asked);
            }
            (State::Trusted { left, .. } | State::Asked { left, .. }, Taken::Trust) => *left += 1,
            (State::Counted { left, number }, Taken::Counted(counted)) if *number == counted => {
                *left = left.saturating_add(1);
            }
            // It has become another count meanwhile.
            _ => {}
        }
        None
    }

    /// What the receiver says about the credit `number`; ignored if that is an old one. Gives the number if it is of no use
    /// any more.
    pub fn change(&mut self, number: CreditNumber, change: CreditChange) -> Option<CreditNumber> {
        if self.number() != Some(number) {
            return None;
        }
        match change {
            CreditChange::More(more) => {
                let left = match self.state {
                    State::Counted { left, .. } => left.saturating_add(more),
                    _ => more,
                };
                self.state = State::Counted { left, number };
                None
            }
            CreditChange::Unlimited => {
                self.state = match self.by_name {
                    true => State::Trusted { left: CREDIT_OF_NAMES, ask_at: CREDIT_OF_NAMES / 2 },
                    false => State::Unlimited,
                };
                Some(number)
            }
            CreditChange::Forget => None,
        }
    }

    /// The connection is lost, and with it what the receiver knew. Gives the number that is of no use any more.
    pub fn reset(&mut self) -> Option<CreditNumber> {
        let number = self.number();
        *self = Self::new(self.by_name);
        number
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)] // A test may stop where it fails.

    use super::*;

    /// Sends all that may be sent; gives how many, and the number that one of them asked with.
    fn drain(credit: &mut SendCredit, number: u32) -> (u32, Option<CreditNumber>) {
        let (mut sent, mut asked) = (0, None);
        while let Some(taken) = credit.take(|| CreditNumber(number)) {
            sent += 1;
            if let Taken::Asking(number) = taken {
                assert_eq!(asked.replace(number), None, "asks twice");
            }
            assert!(sent < 1_000_000, "it has no limit");
        }
        (sent, asked)
    }

    #[test]
    fn asks_once_and_waits_when_the_trust_is_used_up() {
        let mut credit = SendCredit::new(false);
        for _ in 1..CREDIT_ASKED_AFTER {
            assert_eq!(credit.take(|| panic!("too early")), Some(Taken::Trust));
        }
        assert_eq!(credit.take(|| CreditNumber(7)), Some(Taken::Asking(CreditNumber(7))));
        assert_eq!(drain(&mut credit, 8), (CREDIT_ON_TRUST - CREDIT_ASKED_AFTER, None));
        assert_eq!(credit.change(CreditNumber(6), CreditChange::More(3)), None);
        assert!(!credit.has_room(), "of an older count");
        credit.change(CreditNumber(7), CreditChange::More(2));
        assert_eq!(credit.take(|| CreditNumber(8)), Some(Taken::Counted(CreditNumber(7))));
        assert_eq!(drain(&mut credit, 8), (1, None));
        assert_eq!(credit.change(CreditNumber(7), CreditChange::Unlimited), Some(CreditNumber(7)));
        assert!(credit.is_unlimited());
    }

    #[test]
    fn what_was_not_sent_may_be_sent_again() {
        let mut credit = SendCredit::new(false);
        for _ in 1..CREDIT_ASKED_AFTER {
            credit.take(|| CreditNumber(1));
        }
        let Some(asking) = credit.take(|| CreditNumber(1)) else { panic!("there is trust left") };
        assert_eq!(credit.give_back(asking), Some(CreditNumber(1)), "nobody was told of it");
        assert_eq!(drain(&mut credit, 2), (CREDIT_ON_TRUST - CREDIT_ASKED_AFTER + 1, Some(CreditNumber(2))));
        credit.give_back(Taken::Trust);
        assert_eq!(drain(&mut credit, 3), (1, None));
        credit.change(CreditNumber(2), CreditChange::More(1));
        credit.give_back(Taken::Trust);
        assert_eq!(drain(&mut credit, 3), (1, None), "the trust is over");
        credit.give_back(Taken::Counted(CreditNumber(2)));
        assert_eq!(drain(&mut credit, 3), (1, None));
    }

    #[test]
    fn a_name_is_asked_again_and_before_its_senders_have_to_wait() {
        let mut credit = SendCredit::new(true);
        let (_, asked) = drain(&mut credit, 1);
        assert_eq!(asked, Some(CreditNumber(1)));
        credit.change(CreditNumber(1), CreditChange::Unlimited);
        assert!(!credit.is_unlimited());
        let mut sent = 0;
        while credit.take(|| CreditNumber(2)) == Some(Taken::Trust) {
            sent += 1;
        }
        assert_eq!((sent + 1, credit.number()), (CREDIT_OF_NAMES / 2, Some(CreditNumber(2))));
        assert!(credit.has_room());
    }

    #[test]
    fn more_than_can_be_counted_is_as_much_as_can_be() {
        let mut credit = SendCredit::new(false);
        drain(&mut credit, 1);
        for _ in 0..2 {
            credit.change(CreditNumber(1), CreditChange::More(u32::MAX));
        }
        assert!(credit.has_room());
        assert_eq!(credit.reset(), Some(CreditNumber(1)));
        assert_eq!(credit, SendCredit::new(false));
    }
}
