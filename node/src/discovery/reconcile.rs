//! The dialling book: which addresses to dial, and when.
//!
//! Pure: what sources, peers and dials tell goes in with `now`, a monotonic time since start; the
//! addresses to dial come out of [`DialBook::poll_dials`]. Every address that a source names is dialled
//! for ever, unless a peer is connected there or it is this node's own. Nothing here ends a connection.
//!
//! ```text
//!            poll_dials            connected, already_connected
//!  Waiting ─────────────▶ Dialling ─────────────▶ Connected
//!     ▲ ▲                    │ │                      │
//!     │ └─ dial_failed, refused └─ is_self ─▶ Itself  │
//!     └────────────────── disconnected ───────────────┘
//! ```
//!
//! **Invariant:** an entry stands in the queue of due times exactly while it is `Waiting`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::dial::{DialStatus, NodeKey, Refusal, backoff, canonical, cut, is_dialable};
use super::jitter::Jitter;
use super::limits;
use super::sources::Source;

/// One address.
#[derive(Debug)]
struct Entry {
    /// How many sources name it now.
    named: usize,
    /// Whether a peer told of it, or one was connected there.
    learned: bool,
    /// What is going on; changed by `DialBook::put` alone, which keeps the queue in step.
    state: State,
    /// Failed dials since the last success.
    failures: u32,
    /// What the last failure was, at most [`limits::REASON_BYTES`].
    trouble: Option<String>,
    /// It waits for the dial of a newcomer.
    awaited: bool,
    /// It is being dialled since before a [`DialBook::retry`]: should that fail, it is dialled again soon.
    retried: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting { due: Duration },
    Dialling,
    Connected(NodeKey),
    Itself,
}

/// Decides what to dial. All addresses are kept in canonical form: an IPv4-mapped one is its IPv4 one.
#[derive(Debug)]
pub struct DialBook {
    /// At most [`limits::BOOK_ADDRESSES`].
    entries: BTreeMap<SocketAddr, Entry>,
    /// The `Waiting` entries by due time.
    queue: BTreeSet<(Duration, SocketAddr)>,
    /// The addresses that each source names now, as far as they had room; never an empty set.
    sources: BTreeMap<Source, BTreeSet<SocketAddr>>,
    /// How many entries are `Dialling`; at most [`limits::PARALLEL_DIALS`] by the book's own doing.
    dialling: usize,
    /// Spreads times.
    jitter: Jitter,
    /// Addresses that were turned away for want of room, ever.
    turned_away: u64,
    /// A mistake that the simulation has to find.
    #[cfg(test)]
    pub(crate) planted: Option<Planted>,
}

/// Mistakes that the simulation has to find.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// An address that nobody answered at twice is dialled no more.
    GivesUp,
    /// That a peer is lost changes nothing.
    StaysConnected,
}

impl DialBook {
    /// An empty book.
    pub fn new(jitter: Jitter) -> Self {
        Self {
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            sources: BTreeMap::new(),
            dialling: 0,
            jitter,
            turned_away: 0,
            #[cfg(test)]
            planted: None,
        }
    }

    /// `source` names this set now, instead of its former one. An empty set changes nothing. An address
    /// that no source names any more is forgotten, unless a peer told of it, or is connected or being
    /// dialled there. What is new is due at once.
    pub fn addresses(&mut self, source: Source, set: &BTreeSet<SocketAddr>, now: Duration) {
        let new: BTreeSet<SocketAddr> = set.iter().copied().map(canonical).filter(is_dialable).collect();
        if new.is_empty() {
            return;
        }
        if !self.sources.contains_key(&source) && self.sources.len() >= limits::BOOK_SOURCES {
            self.turned_away += new.len() as u64;
            return;
        }
        let old = self.sources.remove(&source).unwrap_or_default();
        for addr in old.difference(&new) {
            self.unname(*addr);
        }
        let mut kept = BTreeSet::new();
        for addr in new {
            if old.contains(&addr) || self.name(addr, now) {
                kept.insert(addr);
            } else {
                self.turned_away += 1;
            }
        }
        if kept != old {
            // Who is behind an address may have changed with the set, this node's own included.
            for addr in old {
                if self.entries.get(&addr).is_some_and(|entry| entry.state == State::Itself) {
                    self.put_waiting(addr, now, Duration::ZERO, limits::RECONNECT_SPREAD);
                }
            }
        }
        if !kept.is_empty() {
            self.sources.insert(source, kept);
        }
    }

    /// A peer told of this address. It is due at once if it is new; with a full book it is turned away.
    pub fn learned(&mut self, addr: SocketAddr, now: Duration) {
        self.heard(addr, None, now);
    }

    /// A peer told of a newcomer at this address, which is told of this node as well, and dials: it is due if that does not
    /// come. Both at once would cost two handshakes where one is enough.
    pub fn newcomer(&mut self, addr: SocketAddr, now: Duration) {
        let patience = self.jitter.between(limits::NEWCOMER_PATIENCE, 2 * limits::NEWCOMER_PATIENCE);
        self.heard(addr, Some(patience), now);
    }

    fn heard(&mut self, addr: SocketAddr, patience: Option<Duration>, now: Duration) {
        let addr = canonical(addr);
        if !is_dialable(&addr) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.learned = true;
            if patience.is_none() {
                self.not_awaited(addr, now);
            }
        } else if self.entries.len() < limits::BOOK_ADDRESSES {
            self.insert(addr, 0, true, State::Waiting { due: now.saturating_add(patience.unwrap_or_default()) });
            if let Some(entry) = self.entries.get_mut(&addr) {
                entry.awaited = patience.is_some();
            }
        } else {
            self.turned_away += 1;
        }
    }

    /// A dial began that the book did not ask for. One that [`Self::poll_dials`] gave out is known, and
    /// one to an address where a peer is connected changes nothing.
    pub fn dial_started(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        let settled =
            self.entries.get(&addr).is_some_and(|entry| matches!(entry.state, State::Connected(_) | State::Itself));
        if !settled {
            self.settle(addr, State::Dialling);
        }
    }

    /// A dial met nobody. The address is dialled again after a backoff, for ever while a source names it.
    pub fn dial_failed(&mut self, addr: SocketAddr, why: &str, now: Duration) {
        let addr = canonical(addr);
        if let Some(entry) = self.entries.get(&addr)
            && entry.state == State::Dialling
        {
            let nominal = backoff(entry.failures.saturating_add(1));
            self.fail(addr, why, now, nominal / 2, nominal);
        }
    }

    /// A dial met somebody who will not be a peer now.
    pub fn refused(&mut self, addr: SocketAddr, refusal: Refusal, now: Duration) {
        let addr = canonical(addr);
        let (nominal, why) = match refusal {
            Refusal::Stranger => (limits::STRANGER_RETRY, "a stranger answered"),
            Refusal::Incompatible => (limits::INCOMPATIBLE_RETRY, "no protocol version in common"),
            Refusal::Busy => (limits::BUSY_RETRY, "busy or draining"),
        };
        if self.entries.get(&addr).is_some_and(|entry| entry.state == State::Dialling) {
            let slack = nominal.mul_f64(limits::REFUSAL_JITTER);
            self.fail(addr, why, now, nominal.saturating_sub(slack), nominal + slack);
        }
    }

    /// A dial, or any other connection whose far end listens here, reached this peer.
    pub fn connected(&mut self, addr: SocketAddr, peer: NodeKey) {
        self.settle(canonical(addr), State::Connected(peer));
    }

    /// The node at this address is this peer, which is connected by another connection.
    pub fn already_connected(&mut self, addr: SocketAddr, peer: NodeKey) {
        self.connected(addr, peer);
    }

    /// The node at this address is this node. Believed until a source that names it changes its set.
    pub fn is_self(&mut self, addr: SocketAddr) {
        self.settle(canonical(addr), State::Itself);
    }

    /// The last connection to this peer is gone: every address it was known at is due soon.
    pub fn disconnected(&mut self, peer: &NodeKey, now: Duration) {
        #[cfg(test)]
        if self.planted == Some(Planted::StaysConnected) {
            return;
        }
        let there: Vec<SocketAddr> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(&entry.state, State::Connected(at) if at == peer))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in there {
            if let Some(entry) = self.entries.get_mut(&addr) {
                // A peer was there, whatever DNS says by now: worth a few more tries.
                entry.learned = true;
            }
            self.put_waiting(addr, now, Duration::ZERO, limits::RECONNECT_SPREAD);
        }
    }

    /// What kept dials from succeeding may be over: every address that waits is due soon, and one that is being dialled when that has
    /// failed.
    pub fn retry(&mut self, now: Duration) {
        let soon = now.saturating_add(limits::RECONNECT_SPREAD);
        let waiting: Vec<SocketAddr> =
            self.queue.iter().filter(|(due, _)| *due > soon).map(|(_, addr)| *addr).collect();
        for addr in waiting {
            self.put_waiting(addr, now, Duration::ZERO, limits::RECONNECT_SPREAD);
        }
        for entry in self.entries.values_mut().filter(|entry| entry.state == State::Dialling) {
            entry.retried = true;
        }
    }

    /// The addresses to dial now, longest due first, as many as may be dialled at a time. Each is taken
    /// as being dialled from here on, until one of the calls that tell an outcome names it.
    pub fn poll_dials(&mut self, now: Duration) -> Vec<SocketAddr> {
        let mut dials = Vec::new();
        while self.dialling < limits::PARALLEL_DIALS
            && let Some((due, addr)) = self.queue.first().copied()
            && due <= now
        {
            self.put(addr, State::Dialling);
            dials.push(addr);
        }
        dials
    }

    /// When [`Self::poll_dials`] is worth the next call; `None` if only an outcome or a new address can
    /// change anything.
    pub fn next_due(&self) -> Option<Duration> {
        let room = self.dialling < limits::PARALLEL_DIALS;
        self.queue.first().map(|(due, _)| *due).filter(|_| room)
    }

    /// What is known of an address; `None` if it is not in the book.
    pub fn status(&self, addr: SocketAddr) -> Option<DialStatus> {
        self.entries.get(&canonical(addr)).map(Entry::status)
    }

    /// Every address and what is known of it, for people and metrics.
    pub fn statuses(&self) -> impl Iterator<Item = (SocketAddr, DialStatus)> + '_ {
        self.entries.iter().map(|(addr, entry)| (*addr, entry.status()))
    }

    /// How many addresses are in the book.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no address at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many addresses were turned away for want of room since the start.
    pub fn turned_away(&self) -> u64 {
        self.turned_away
    }

    /// One more source names this address; `false` if there is no room for it.
    fn name(&mut self, addr: SocketAddr, now: Duration) -> bool {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.named += 1;
            self.not_awaited(addr, now);
            return true;
        }
        if self.entries.len() >= limits::BOOK_ADDRESSES && !self.make_room() {
            return false;
        }
        self.insert(addr, 1, false, State::Waiting { due: now });
        true
    }

    /// It is this node that is to dial an address where a newcomer's dial was waited for.
    fn not_awaited(&mut self, addr: SocketAddr, now: Duration) {
        if self.entries.get(&addr).is_some_and(|entry| entry.awaited) {
            self.put(addr, State::Waiting { due: now });
        }
    }

    /// One source less names this address.
    fn unname(&mut self, addr: SocketAddr) {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        entry.named = entry.named.saturating_sub(1);
        let idle = matches!(entry.state, State::Waiting { .. } | State::Itself);
        if entry.named == 0 && !entry.learned && idle {
            self.remove(addr);
        }
    }

    /// Forgets the least useful address that no source names; what a source names
    /// goes before hearsay.
    fn make_room(&mut self) -> bool {
        let least = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.named == 0)
            .filter(|(_, entry)| matches!(entry.state, State::Waiting { .. } | State::Itself))
            .max_by_key(|(_, entry)| entry.failures)
            .map(|(addr, _)| *addr);
        if let Some(addr) = least {
            self.remove(addr);
        }
        least.is_some()
    }

    /// Counts a failure; the next try comes between `soonest` and `latest` from now, if there is one.
    fn fail(&mut self, addr: SocketAddr, why: &str, now: Duration, soonest: Duration, latest: Duration) {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        entry.failures = entry.failures.saturating_add(1);
        entry.trouble = Some(cut(why).to_owned());
        #[cfg(test)]
        if self.planted == Some(Planted::GivesUp) && entry.failures >= 2 {
            return self.remove(addr);
        }
        let (soonest, latest) =
            if entry.retried { (Duration::ZERO, limits::RECONNECT_SPREAD) } else { (soonest, latest) };
        let hopeless = !entry.learned || entry.failures >= limits::LEARNED_FAILURES;
        if entry.named == 0 && hopeless {
            self.remove(addr);
        } else {
            self.put_waiting(addr, now, soonest, latest);
        }
    }

    /// Puts an address into a state that somebody saw it in, whether it is in the book or not.
    fn settle(&mut self, addr: SocketAddr, state: State) {
        if !is_dialable(&addr) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&addr) {
            if state != State::Dialling {
                entry.failures = 0;
                entry.trouble = None;
            }
            self.put(addr, state);
        } else if self.entries.len() < limits::BOOK_ADDRESSES || self.make_room() {
            self.insert(addr, 0, true, state);
        } else {
            self.turned_away += 1;
        }
    }

    fn put_waiting(&mut self, addr: SocketAddr, now: Duration, soonest: Duration, latest: Duration) {
        let due = now.saturating_add(self.jitter.between(soonest, latest));
        self.put(addr, State::Waiting { due });
    }

    /// The one place where a state changes.
    fn put(&mut self, addr: SocketAddr, state: State) {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        let former = std::mem::replace(&mut entry.state, state.clone());
        (entry.retried, entry.awaited) = (false, false);
        self.account(addr, &former, &state);
    }

    fn insert(&mut self, addr: SocketAddr, named: usize, learned: bool, state: State) {
        self.account(addr, &State::Itself, &state);
        self.entries
            .insert(addr, Entry { named, learned, state, failures: 0, trouble: None, awaited: false, retried: false });
    }

    fn remove(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.remove(&addr) {
            self.account(addr, &entry.state, &State::Itself);
        }
    }

    /// Keeps the queue and the count of dials in step; `Itself` is in neither.
    fn account(&mut self, addr: SocketAddr, former: &State, state: &State) {
        match former {
            State::Waiting { due } => {
                self.queue.remove(&(*due, addr));
            }
            State::Dialling => self.dialling = self.dialling.saturating_sub(1),
            State::Connected(_) | State::Itself => {}
        }
        match state {
            State::Waiting { due } => {
                self.queue.insert((*due, addr));
            }
            State::Dialling => self.dialling += 1,
            State::Connected(_) | State::Itself => {}
        }
    }
}

impl Entry {
    fn status(&self) -> DialStatus {
        match &self.state {
            State::Waiting { due } => {
                DialStatus::Waiting { due: *due, failures: self.failures, trouble: self.trouble.clone() }
            }
            State::Dialling => DialStatus::Dialling,
            State::Connected(peer) => DialStatus::Connected(peer.clone()),
            State::Itself => DialStatus::Itself,
        }
    }
}
