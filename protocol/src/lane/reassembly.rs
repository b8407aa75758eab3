//! Puts the bodies of bulk streams back into their signals, and keeps each pair's order (S1) while it does: what a sender
//! sends to the same receiver behind a large message waits for it, and nothing else does (S4).
//!
//! ```text
//! lane ─▶ signal ─────────▶ pass ──▶ delivered at once, unless it has to wait for its pair
//! lane ─▶ ticket ─────────▶ expect ─┐
//! bulk stream ─▶ body ────▶ body ───┴─▶ next_ready, next_ready, …
//! ```
//! Receivers are given by whoever asks: to a name, it says who has it. A signal for a group, or for a name that nobody has,
//! may be for anybody: it waits for all that its sender has under way, and all wait for it.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::{
    error::WireError,
    id::Pid,
    lane::{Ticket, TicketNumber},
    signal::{Signal, SignalBody},
};

/// What is held back of one lane.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// By sender; each has at least one entry.
    senders: HashMap<Pid, Held>,
    /// Whose ticket is waited for, and how long its body is.
    expected: HashMap<TicketNumber, (Pid, usize)>,
    /// May be delivered, in this order.
    ready: VecDeque<Signal>,
    /// What `senders` and `ready` take, without bodies that have not arrived.
    held_bytes: usize,
}

/// What one sender has under way, in its order.
#[derive(Debug, Default)]
struct Held {
    entries: VecDeque<Entry>,
    /// How many entries there are for each receiver.
    receivers: HashMap<Option<Pid>, usize>,
}

#[derive(Debug)]
struct Entry {
    /// `None`: anybody.
    receiver: Option<Pid>,
    signal: Signal,
    /// The body that it waits for.
    ticket: Option<TicketNumber>,
}

impl Held {
    /// Whether a signal for `receiver` must not overtake what is there.
    fn holds(&self, receiver: Option<&Pid>) -> bool {
        match receiver {
            None => !self.entries.is_empty(),
            Some(receiver) => {
                self.receivers.contains_key(&None) || self.receivers.contains_key(&Some(receiver.clone()))
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        *self.receivers.entry(entry.receiver.clone()).or_default() += 1;
        self.entries.push_back(entry);
    }

    /// Takes out, in order, what waits for no body and behind no entry that does.
    fn release(&mut self, mut out: impl FnMut(Signal)) {
        let mut blocked: HashSet<Option<Pid>> = HashSet::new();
        let mut kept = VecDeque::new();
        for entry in self.entries.drain(..) {
            let waits = entry.ticket.is_some()
                || match &entry.receiver {
                    None => !blocked.is_empty(),
                    receiver => blocked.contains(&None) || blocked.contains(receiver),
                };
            if waits {
                blocked.insert(entry.receiver.clone());
                kept.push_back(entry);
                continue;
            }
            if let Some(count) = self.receivers.get_mut(&entry.receiver) {
                *count -= 1;
                if *count == 0 {
                    self.receivers.remove(&entry.receiver);
                }
            }
            out(entry.signal);
        }
        self.entries = kept;
    }
}

impl Reassembly {
    /// Whether nothing is held: then every signal passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty() && self.ready.is_empty()
    }

    /// What is held takes so much, without bodies that have not arrived. Whoever reads the lane stops while this is too much.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A signal has arrived. Gives it back if it may be delivered now. `receiver` tells who it is for.
    pub fn pass(&mut self, signal: Signal, receiver: Option<Pid>) -> Option<Signal> {
        // What is ready goes first, as it came first.
        let held = self.senders.get_mut(&signal.from);
        match held {
            Some(held) if held.holds(receiver.as_ref()) => {
                self.held_bytes += size(&signal);
                held.push(Entry { receiver, signal, ticket: None });
                None
            }
            _ if !self.ready.is_empty() => {
                self.held_bytes += size(&signal);
                self.ready.push_back(signal);
                None
            }
            _ => Some(signal),
        }
    }

    /// A signal has arrived whose body is on its way. `receiver` tells who it is for.
    ///
    /// # Errors
    /// The ticket is in use.
    pub fn expect(&mut self, signal: Signal, receiver: Option<Pid>, ticket: Ticket) -> Result<(), WireError> {
        if self.expected.insert(ticket.number, (signal.from.clone(), ticket.body_bytes)).is_some() {
            return Err(WireError::Unexpected { kind: "ticket", detail: "two messages have one ticket" });
        }
        self.held_bytes += size(&signal);
        let entry = Entry { receiver, signal, ticket: Some(ticket.number) };
        self.senders.entry(entry.signal.from.clone()).or_default().push(entry);
        Ok(())
    }

    /// A body has arrived whose ticket has too.
    ///
    /// # Errors
    /// The ticket is not known, or tells another length.
    pub fn body(&mut self, number: TicketNumber, body: Bytes) -> Result<(), WireError> {
        let Some((sender, body_bytes)) = self.expected.remove(&number) else {
            return Err(WireError::Unexpected { kind: "BulkOpen", detail: "nobody waits for this body" });
        };
        if body.len() != body_bytes {
            let detail = format!("{} bytes; its ticket says {body_bytes}", body.len());
            return Err(WireError::Invalid { kind: "BulkOpen", field: "body", detail });
        }
        let Some(held) = self.senders.get_mut(&sender) else { return Ok(()) };
        self.held_bytes += body.len();
        if let Some(entry) = held.entries.iter_mut().find(|entry| entry.ticket == Some(number)) {
            entry.ticket = None;
            match &mut entry.signal.body {
                SignalBody::Message { payload, .. } | SignalBody::Reply { outcome: Ok(payload), .. } => {
                    payload.body = body;
                }
                _ => {}
            }
        }
        let ready = &mut self.ready;
        held.release(|signal| ready.push_back(signal));
        if held.entries.is_empty() {
            self.senders.remove(&sender);
        }
        Ok(())
    }

    /// The next signal that had been held back and may be delivered.
    pub fn next_ready(&mut self) -> Option<Signal> {
        let signal = self.ready.pop_front()?;
        self.held_bytes -= size(&signal);
        Some(signal)
    }
}

/// What a held signal takes.
fn size(signal: &Signal) -> usize {
    size_of::<Entry>() + signal.body.payload_bytes()
}
