//! Credit: how many messages may be under way to a process whose mailbox is bounded (S7). Pure; both ends of it.
//!
//! ```text
//! asker (a node, or a client's session)          receiver (a bounded process)
//! SendCredit ── Message with a credit number ──▶ Accounts: an account for that number
//!            ◀── Credit: More(its window) ──────
//!            ── Messages, counted down ────────▶ queued … the mailbox is taken
//!            ◀── Credit: More(what was taken) ──
//! ```
//! It goes from end to end: whoever relays passes it on. Nothing is asked for the first few messages, nor of a process
//! without limit more than once, so most conversations carry nothing of this.
//!
//! **Invariant:** what an asker may still send, what of it is under way, and what lies in the mailbox, are together what its
//! account has given out. So an account never grows by what is granted twice, and a message that is lost on the way must be
//! given back by whoever drops it.

mod accounts;
mod sending;

use std::fmt;

pub use accounts::{Accounts, Grant};
pub use sending::{SendCredit, Taken};

/// Names one asker's credit towards one receiver, as the asker counts it. Taken anew whenever it asks anew, so that what
/// belongs to an older count is not mistaken for this one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CreditNumber(pub u32);

impl fmt::Display for CreditNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is said about a credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreditChange {
    /// To the asker: it may send so many more. The first one answers what it asked.
    More(u32),
    /// To the asker: the receiver has no limit, or does not live.
    Unlimited,
    /// To the receiver, in the name of an asker that is lost: it will not send any more.
    Forget,
}
