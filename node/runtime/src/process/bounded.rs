//! What a process with a bounded mailbox has beside it: where local senders wait, and the accounts of those elsewhere (S7).
//! The accounts are looked at under the process's lock, together with the mailbox that they speak of; what they give is told
//! after it is let go.

use std::sync::Mutex;

use rookery_protocol::{
    CreditChange, CreditNumber, Pid, Signal, SignalBody,
    credit::{Accounts, Grant},
};
use tokio::sync::Notify;

use crate::{process::relations::Lost, runtime::Runtime, sync::lock};

/// How a message that comes as bytes gets into a mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Admission<'a> {
    /// Whether there is room or not: nobody counts it.
    Always,
    /// It took, or asks for, a credit of this asker.
    Counted(&'a Pid, CreditNumber),
    /// If there is room, as what is for a group.
    IfRoom,
}

pub(crate) struct Bounded {
    /// Where local senders wait.
    pub(crate) room: Notify,
    accounts: Mutex<Accounts>,
}

impl Bounded {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { room: Notify::new(), accounts: Mutex::new(Accounts::new(capacity)) }
    }

    /// A message has come, and got into the mailbox or not.
    pub(crate) fn arrived(&self, asker: &Pid, number: CreditNumber, into_mailbox: bool) -> Option<Grant> {
        let mut accounts = lock(&self.accounts);
        if into_mailbox { accounts.arrived(asker, number) } else { accounts.passed_by(asker, number) }
    }

    /// The mailbox was taken.
    pub(crate) fn taken(&self) -> Vec<Grant> {
        lock(&self.accounts).taken()
    }

    pub(crate) fn forget(&self, asker: &Pid, number: CreditNumber) {
        lock(&self.accounts).forget(asker, number);
    }

    /// Askers are lost.
    pub(crate) fn lost(&self, lost: &Lost) {
        lock(&self.accounts).lost(|asker| lost.has(asker));
    }

    /// The process has ended: whoever waits for room goes on.
    pub(crate) fn close(&self, runtime: &Runtime, own: &Pid) {
        self.room.notify_waiters();
        let askers = lock(&self.accounts).close();
        for (asker, number) in askers {
            tell(runtime, own, asker, number, CreditChange::Unlimited);
        }
    }
}

/// Tells askers what they may send.
pub(crate) fn grant(runtime: &Runtime, own: &Pid, grants: impl IntoIterator<Item = Grant>) {
    for Grant { asker, number, more } in grants {
        tell(runtime, own, asker, number, CreditChange::More(more));
    }
}

/// Tells one asker what is to be known of its credit.
pub(crate) fn tell(runtime: &Runtime, own: &Pid, asker: Pid, number: CreditNumber, change: CreditChange) {
    let body = SignalBody::Credit { number, change };
    runtime.signal(Signal { from: own.clone(), to: asker.into(), body });
}
