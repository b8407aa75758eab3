//! What a node's processes do: they send to each other, by pid and by name, small messages and large ones, as fast as credit
//! lets them; and take their mail now and then. Both ends' credit is the real one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use rookery_protocol::{
    BulkOpening, Codec, CreditChange, CreditNumber, Destination, LaneEncoder, NodeId, Payload, Pid, ProcessName,
    Recipient, Serial, Signal, SignalBody, Tag,
    credit::{Accounts, Grant, SendCredit, Taken},
};

use super::{
    connection::LANES,
    contract::{Checked, Receiver},
    planted::Mistake,
    schedule::{EndId, Event, Life, Stream},
    world::World,
};

/// The bounded process, which has a name, and the one without limit.
pub(super) const BOUNDED: u64 = 1;
const UNLIMITED: u64 = 2;

/// Its name, and one that nobody has.
const FRONT: &str = "front";
const NOBODY: &str = "nobody";

/// A body above this goes on a stream of its own. Small, since here it is order that counts.
const BULK_BYTES: usize = 600;

/// What a node's processes have.
pub(super) struct Processes {
    pub(super) own: NodeId,
    pub(super) processes: Vec<Process>,
    /// What may be sent, for each way to address somebody.
    pub(super) credits: HashMap<Destination, SendCredit>,
    known: BTreeMap<CreditNumber, Destination>,
    next_number: u32,
}

pub(super) struct Process {
    pub(super) serial: u64,
    /// Of a bounded one.
    pub(super) bounded: Option<Bounded>,
    pub(super) mailbox: Vec<Mail>,
    /// It takes nothing before then.
    pub(super) stuck: Duration,
}

/// A bounded mailbox.
pub(super) struct Bounded {
    capacity: u32,
    accounts: Accounts,
    /// As the contract counts: what each asker was given, and was not taken out of the mailbox.
    outstanding: BTreeMap<(Pid, CreditNumber), u64>,
}

/// A message in a mailbox, as far as it is counted.
pub(super) struct Mail {
    counted: Option<(Pid, CreditNumber)>,
}

impl Processes {
    pub(super) fn new(own: NodeId, capacity: u32) -> Self {
        let bounded = Bounded { capacity, accounts: Accounts::new(capacity), outstanding: BTreeMap::new() };
        let process = |serial, bounded| Process { serial, bounded, mailbox: Vec::new(), stuck: Duration::ZERO };
        Self {
            own,
            processes: vec![process(BOUNDED, Some(bounded)), process(UNLIMITED, None)],
            credits: HashMap::new(),
            known: BTreeMap::new(),
            next_number: 1,
        }
    }

    fn pid(&self, serial: u64) -> Pid {
        Pid::new(self.own.clone(), Serial(serial))
    }

    /// A message is to be sent.
    fn take(&mut self, to: &Destination) -> Option<Taken> {
        let by_name = !matches!(to.to, Recipient::Serial(_));
        let credit = self.credits.entry(to.clone()).or_insert_with(|| SendCredit::new(by_name));
        let (known, next) = (&mut self.known, &mut self.next_number);
        credit.take(|| {
            let number = CreditNumber(*next);
            *next += 1;
            known.insert(number, to.clone());
            number
        })
    }

    /// The receiver says something about a credit.
    fn change(&mut self, number: CreditNumber, change: CreditChange) {
        let Some(credit) = self.known.get(&number).and_then(|to| self.credits.get_mut(to)) else { return };
        if let Some(unknown) = credit.change(number, change) {
            self.known.remove(&unknown);
        }
    }

    /// The connection with a node is lost.
    pub(super) fn lost(&mut self, node: &NodeId, mistake: Option<Mistake>) {
        if mistake != Some(Mistake::CreditOutlivesConnection) {
            for credit in self.credits.iter_mut().filter(|(to, _)| to.node == *node).map(|(_, credit)| credit) {
                if let Some(unknown) = credit.reset() {
                    self.known.remove(&unknown);
                }
            }
        }
        for bounded in self.processes.iter_mut().filter_map(|process| process.bounded.as_mut()) {
            bounded.accounts.lost(|asker| asker.node() == node);
            bounded.outstanding.retain(|(asker, _), _| asker.node() != node);
        }
    }

    /// S7: nobody waits for an empty mailbox.
    pub(super) fn all_have_room(&self) -> Checked {
        match self.credits.iter().find(|(_, credit)| !credit.has_room()) {
            Some((to, _)) => Err(format!("S7: {} waits for {to}, whose mailbox is empty", self.own)),
            None => Ok(()),
        }
    }
}

impl Bounded {
    /// S7: no more is out than was given, and no more is given than the mailbox holds, or one to each.
    fn check(&self) -> Checked {
        let out: u64 = self.outstanding.values().sum();
        if out > self.accounts.given() {
            return Err(format!("S7: {out} may come or lie in the mailbox, of {} given", self.accounts.given()));
        }
        let most = u64::from(self.capacity) + self.accounts.len() as u64;
        if self.accounts.given() > most {
            return Err(format!(
                "S7: {} are given, of {} and one for each asker",
                self.accounts.given(),
                self.capacity
            ));
        }
        Ok(())
    }

    fn granted(&mut self, grant: &Grant) {
        *self.outstanding.entry((grant.asker.clone(), grant.number)).or_default() += u64::from(grant.more);
    }
}

/// Who is meant on the node that it comes to.
pub(super) fn resolve(to: &Destination) -> Receiver {
    match &to.to {
        Recipient::Serial(serial) => Some(serial.0),
        Recipient::Name(name) if name.as_str() == FRONT => Some(BOUNDED),
        _ => None,
    }
}

impl World {
    /// A process takes its mail, unless it is stuck, and sends.
    pub(super) fn turn(&mut self, life: Life, process: usize) -> Checked {
        let now = self.now;
        let mistake = self.mistake;
        let Some(node) = self.node(life) else { return Ok(()) };
        let Some(own) = node.processes.processes.get_mut(process) else { return Ok(()) };
        let serial = own.serial;
        let mut grants = Vec::new();
        if own.stuck <= now {
            let mail = std::mem::take(&mut own.mailbox);
            if let Some(bounded) = &mut own.bounded {
                for key in mail.into_iter().filter_map(|mail| mail.counted) {
                    if let Some(out) = bounded.outstanding.get_mut(&key) {
                        *out = out.saturating_sub(1);
                    }
                }
                grants = bounded.accounts.taken();
                for grant in &mut grants {
                    if mistake == Some(Mistake::GivesTwice) {
                        grant.more *= 2;
                    }
                    bounded.granted(grant);
                }
                bounded.check()?;
            }
        }
        for grant in grants {
            self.tell_credit(life, serial, grant.asker, grant.number, CreditChange::More(grant.more))?;
        }
        if self.story.talking {
            for _ in 0..self.chance.below(4) {
                self.send_something(life, serial)?;
            }
        }
        if self.chance.percent(2) && self.story.talking {
            let stuck = now + self.chance.millis(200, 3_000);
            if let Some(own) = self.node(life).and_then(|node| node.processes.processes.get_mut(process)) {
                own.stuck = stuck;
            }
        }
        let next = now + self.chance.millis(60, 400);
        self.schedule.at(next, Event::Turn(life, process));
        Ok(())
    }

    /// A process sends to one of another node, in one of the ways that there are.
    fn send_something(&mut self, life: Life, serial: u64) -> Checked {
        let Some(node) = self.alive(life).filter(|node| !node.leaving && !node.peers.is_empty()) else { return Ok(()) };
        let peers: Vec<_> = node.peers.values().map(|peer| (EndId::of(peer.number), peer.node.clone())).collect();
        let Some((id, peer)) = self.chance.pick(&peers).cloned() else { return Ok(()) };
        let name = |text: &str| ProcessName::new(text).map_err(|error| error.to_string());
        let to = match self.chance.below(8) {
            0..3 => Destination { node: peer, to: Recipient::Serial(Serial(BOUNDED)) },
            3 | 4 => Destination::name(peer, name(FRONT)?),
            5 | 6 => Destination { node: peer, to: Recipient::Serial(Serial(UNLIMITED)) },
            _ => Destination::name(peer, name(NOBODY)?),
        };
        // Bursts, so that credit is used up.
        let count = if self.chance.percent(4) { self.chance.between(10, 50) } else { 1 };
        for _ in 0..count {
            let bytes = if self.chance.percent(12) { self.chance.between(BULK_BYTES as u64, 4_000) } else { 20 };
            self.send_message(life, id, serial, &to, bytes as usize)?;
        }
        Ok(())
    }

    fn send_message(&mut self, life: Life, id: EndId, serial: u64, to: &Destination, padding: usize) -> Checked {
        let Some(node) = self.node(life) else { return Ok(()) };
        let from = node.processes.pid(serial);
        let Some(taken) = node.processes.take(to) else {
            self.tally.no_credit += 1;
            return Ok(());
        };
        self.tally.sent += 1;
        let own = from.node().clone();
        let Some(end) = self.end_mut(id) else { return Ok(()) };
        let flow = end.flow(&own, &to.node);
        let counted = matches!(taken, Taken::Counted(_));
        let stamp = flow.sent.stamp(id.connection, serial, resolve(to), counted);
        let mut body = Vec::new();
        rookery_protocol::codec::append(&stamp, &mut body)?;
        body.insert(0, body.len() as u8);
        body.resize(body.len() + padding, serial as u8);
        let body = Bytes::from(body);
        let ticket = (body.len() > BULK_BYTES).then(|| flow.ticket(body.len()));
        let payload = Payload { tag: Tag::from_static("m"), codec: Codec::Bincode, body: body.clone() };
        let message =
            SignalBody::Message { payload, reply: None, deadline_ms: None, credit: taken.number(), trace: None };
        let signal = Signal { from, to: to.clone(), body: message };
        self.send_signal(id, &signal, ticket)?;
        if let Some(ticket) = ticket {
            self.tally.tickets += 1;
            let mut opening = Vec::new();
            BulkOpening::encode(ticket.number, &mut opening);
            self.send_piece(id, Stream::Bulk(ticket.number.0), Bytes::from(opening), false);
            let pieces: Vec<Bytes> = body.chunks(1_200).map(Bytes::copy_from_slice).collect();
            let last = pieces.len() - 1;
            for (index, piece) in pieces.into_iter().enumerate() {
                self.send_piece(id, Stream::Bulk(ticket.number.0), piece, index == last);
            }
        }
        Ok(())
    }

    /// A signal on its sender's lane.
    fn send_signal(&mut self, id: EndId, signal: &Signal, ticket: Option<rookery_protocol::Ticket>) -> Checked {
        let lane = (signal.from.serial().0 % u64::from(LANES)) as u8;
        self.open_lane(id, lane);
        let (own, peer) = (signal.from.node().clone(), signal.to.node.clone());
        let Some(end) = self.end_mut(id) else { return Ok(()) };
        let encoder = &mut end.flow(&own, &peer).encoders[usize::from(lane)];
        let mut bytes = Vec::new();
        match ticket {
            Some(ticket) => encoder.ticketed(signal, ticket, &mut bytes),
            None => encoder.signal(signal, &mut bytes),
        }
        .map_err(|error| format!("{signal:?} cannot be sent: {error}"))?;
        self.send_piece(id, Stream::Lane(lane), Bytes::from(bytes), false);
        Ok(())
    }

    /// A lane begins with its number.
    pub(super) fn open_lane(&mut self, id: EndId, lane: u8) {
        if self.end(id).is_some_and(|end| !end.has_sent(Stream::Lane(lane))) {
            let mut bytes = Vec::new();
            LaneEncoder::open(lane, &mut bytes);
            self.send_piece(id, Stream::Lane(lane), Bytes::from(bytes), false);
        }
    }

    /// A receiver tells an asker about its credit, if the asker's node is there.
    fn tell_credit(
        &mut self,
        life: Life,
        serial: u64,
        asker: Pid,
        number: CreditNumber,
        change: CreditChange,
    ) -> Checked {
        let Some(node) = self.alive(life) else { return Ok(()) };
        let Some(peer) = node.peers.get(asker.node().name()).filter(|peer| peer.node == *asker.node()) else {
            return Ok(());
        };
        let id = EndId::of(peer.number);
        let from = node.processes.pid(serial);
        self.tally.grants += 1;
        self.send_signal(id, &Signal { from, to: asker.into(), body: SignalBody::Credit { number, change } }, None)
    }

    /// A signal has come to its receiver's node.
    pub(super) fn deliver(&mut self, id: EndId, signal: Signal) -> Checked {
        let Some(life) = self.end(id).map(|end| end.life) else { return Ok(()) };
        // Not by `self.node`: the tally is counted meanwhile.
        let host = self.hosts.get_mut(life.host);
        let Some(node) = host.and_then(|host| host.node.as_mut()).filter(|node| node.life == life) else {
            return Ok(());
        };
        if signal.to.node != node.id {
            return Err(format!("P1: {} gets what is for {}", node.id, signal.to));
        }
        let receiver = resolve(&signal.to);
        let Signal { from, body, .. } = signal;
        let (payload, credit) = match body {
            SignalBody::Message { payload, credit, .. } => (payload, credit),
            SignalBody::Credit { number, change } => {
                node.processes.change(number, change);
                return Ok(());
            }
            other => return Err(format!("{from} sends {other:?}")),
        };
        let stamp = stamp_of(&payload.body, &from)?;
        node.view.delivered(&from, receiver, stamp, id).map_err(|text| format!("{}: {text}", node.id))?;
        let asker = credit.map(|number| (from.owner(), number));
        let process = node.processes.processes.iter_mut().find(|process| Some(process.serial) == receiver);
        let Some(process) = process else {
            self.tally.for_nobody += 1;
            // Whoever asks hears that there is no limit: there is nobody.
            let Some((asker, number)) = asker else { return Ok(()) };
            return self.tell_credit(life, Serial::NODE.0, asker, number, CreditChange::Unlimited);
        };
        self.tally.delivered += 1;
        let serial = process.serial;
        process.mailbox.push(Mail { counted: asker.clone().filter(|_| stamp.counted) });
        let Some((asker, number)) = asker else { return Ok(()) };
        let Some(bounded) = &mut process.bounded else {
            return self.tell_credit(life, serial, asker, number, CreditChange::Unlimited);
        };
        let grant = bounded.accounts.arrived(&asker, number);
        if let Some(grant) = &grant {
            bounded.granted(grant);
        }
        bounded.check()?;
        match grant {
            Some(grant) => self.tell_credit(life, serial, asker, number, CreditChange::More(grant.more)),
            None => Ok(()),
        }
    }
}

/// What stands at the beginning of a message, and whether its rest is whole.
fn stamp_of(body: &Bytes, from: &Pid) -> Result<super::contract::Stamp, String> {
    let (length, rest) = body.split_first().ok_or("an empty message")?;
    let (stamp, padding) = rest.split_at_checked(usize::from(*length)).ok_or("a message that was cut")?;
    if padding.is_empty() || padding.iter().any(|byte| u64::from(*byte) != from.serial().0) {
        return Err(format!("S2: a message of {from} has another's body"));
    }
    rookery_protocol::codec::decode_payload(stamp)
}
