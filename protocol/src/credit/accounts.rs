//! The receiver's end: an account for each asker. What it has given out is as much as the mailbox holds, divided among the
//! askers; what the process takes out of the mailbox goes back to whom it came from.

use std::collections::BTreeMap;

use crate::{credit::CreditNumber, id::Pid, limits::MAX_CREDITS_PER_ASKER};

/// What an asker may send more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whom to tell: the node, or the client, itself.
    pub asker: Pid,
    /// Its number for it.
    pub number: CreditNumber,
    /// How many.
    pub more: u32,
}

/// Who may send how much to one bounded process.
#[derive(Debug)]
pub struct Accounts {
    /// How many messages the mailbox is to hold.
    capacity: u32,
    accounts: BTreeMap<(Pid, CreditNumber), Account>,
    /// What all accounts have given out together.
    given: u64,
    /// Accounts with messages in the mailbox, each once.
    queued: Vec<(Pid, CreditNumber)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// Given out: in the asker's hands, under way, in the mailbox, or in `taken`.
    given: u32,
    /// In the mailbox.
    queued: u32,
    /// Out of the mailbox, and not back in the asker's hands.
    taken: u32,
}

impl Account {
    /// What can be said of the next message from the asker: it took something that was given.
    fn arrived(&mut self) {
        // An asker that sends more than it may is not given it back.
        if self.queued + self.taken < self.given {
            self.queued += 1;
        }
    }
}

impl Accounts {
    /// Of a process whose mailbox is to hold `capacity` messages; at least one.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { capacity: capacity.max(1), accounts: BTreeMap::new(), given: 0, queued: Vec::new() }
    }

    /// How many askers have an account, counted by their numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// What has been given out: the mailbox and the network hold no more of what is counted.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// A message has come under this number, and lies in the mailbox from now on. Gives what the asker is to be told, if it
    /// had no account.
    pub fn arrived(&mut self, asker: &Pid, number: CreditNumber) -> Option<Grant> {
        let key = (asker.clone(), number);
        let Some(account) = self.accounts.get_mut(&key) else { return Some(self.open(key)) };
        if account.queued == 0 {
            self.queued.push(key);
        }
        account.arrived();
        None
    }

    /// A message has come under this number that does not get into the mailbox. As [`arrived`](Self::arrived).
    pub fn passed_by(&mut self, asker: &Pid, number: CreditNumber) -> Option<Grant> {
        let key = (asker.clone(), number);
        let Some(account) = self.accounts.get_mut(&key) else { return Some(self.open(key)) };
        let before = account.queued;
        account.arrived();
        let passed = account.queued - before;
        account.queued = before;
        account.taken += passed;
        self.settle(key)
    }

    /// All that lay in the mailbox has been taken out of it. Gives the askers that are to be told: those that get back half
    /// of what they have, so that many messages make one grant.
    pub fn taken(&mut self) -> Vec<Grant> {
        let mut queued = std::mem::take(&mut self.queued);
        let mut grants = Vec::new();
        for key in queued.drain(..) {
            if let Some(account) = self.accounts.get_mut(&key) {
                account.taken += std::mem::take(&mut account.queued);
            }
            grants.extend(self.settle(key));
        }
        self.queued = queued;
        grants
    }

    fn open(&mut self, key: (Pid, CreditNumber)) -> Grant {
        let of_asker = (key.0.clone(), CreditNumber(0))..=(key.0.clone(), CreditNumber(u32::MAX));
        if self.accounts.range(of_asker).count() >= MAX_CREDITS_PER_ASKER {
            // One at a time, and not counted: it goes on, and no faster than it is answered.
            return Grant { asker: key.0, number: key.1, more: 1 };
        }
        let more = self.fair(self.accounts.len() + 1).min(self.room()).max(1);
        self.given += u64::from(more);
        self.accounts.insert(key.clone(), Account { given: more, ..Account::default() });
        Grant { asker: key.0, number: key.1, more }
    }

    /// Gives back what was taken, as far as the asker is to have that much: less if it has more than others by now.
    fn settle(&mut self, key: (Pid, CreditNumber)) -> Option<Grant> {
        let (fair, room) = (self.fair(self.accounts.len()), self.room());
        let account = self.accounts.get_mut(&key)?;
        let withheld = account.given.saturating_sub(fair).min(account.taken);
        let added = fair.saturating_sub(account.given).min(room);
        account.given = account.given - withheld + added;
        account.taken = account.taken - withheld + added;
        self.given = self.given + u64::from(added) - u64::from(withheld);
        // What is not given back yet is less than half: the asker has the other half, or it lies in the mailbox.
        if account.taken == 0 || account.taken < account.given.div_ceil(2) {
            return None;
        }
        let more = std::mem::take(&mut account.taken);
        Some(Grant { asker: key.0, number: key.1, more })
    }

    fn fair(&self, askers: usize) -> u32 {
        let askers = u32::try_from(askers).unwrap_or(u32::MAX).max(1);
        (self.capacity / askers).max(1)
    }

    fn room(&self) -> u32 {
        u32::try_from(u64::from(self.capacity).saturating_sub(self.given)).unwrap_or(u32::MAX)
    }

    fn remove(&mut self, key: &(Pid, CreditNumber)) {
        if let Some(account) = self.accounts.remove(key) {
            self.given -= u64::from(account.given);
        }
    }

    /// The asker will not send under this number any more.
    pub fn forget(&mut self, asker: &Pid, number: CreditNumber) {
        self.remove(&(asker.clone(), number));
    }

    /// Askers are lost, and have forgotten as well.
    pub fn lost(&mut self, is_lost: impl Fn(&Pid) -> bool) {
        let given = &mut self.given;
        self.accounts.retain(|(asker, _), account| {
            let lost = is_lost(asker);
            *given -= if lost { u64::from(account.given) } else { 0 };
            !lost
        });
    }

    /// The process has ended: gives all that are to be told that there is no limit any more.
    pub fn close(&mut self) -> Vec<(Pid, CreditNumber)> {
        self.given = 0;
        self.queued.clear();
        std::mem::take(&mut self.accounts).into_keys().collect()
    }
}
