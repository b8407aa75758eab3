//! The world: hosts, the network between them, and what happens next. The thin drivers of a node are played here and in the
//! files beside, as they are in `mesh/` and `membership/driver.rs`.

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    chance::Chance,
    connection::{Connection, End, Stage},
    contract::Checked,
    dns::Dns,
    host::{Clock, Host, Node},
    network::{HostIndex, Network},
    planted::Mistake,
    schedule::{EndId, Event, Life, Packet, Piece, Schedule, Stream},
    story::Story,
    tally::Tally,
};

/// How long a closed connection answers what still comes (RFC 9000, 10.2.2).
const DRAINS: Duration = Duration::from_millis(500);

/// After how long a lost piece is sent again at first, and at most.
const RESENT_AFTER: Duration = Duration::from_millis(40);
const RESENT_AFTER_AT_MOST: Duration = Duration::from_secs(1);

/// After how long a connection that hears nothing is ended by QUIC.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// After how long a silence QUIC sends something itself.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// What a packet has beside its content: header and seal of QUIC, and UDP and IP below.
const OVERHEAD_BYTES: u64 = 27 + 28;

pub(super) struct World {
    pub(super) chance: Chance,
    origin: Instant,
    pub(super) now: Duration,
    pub(super) schedule: Schedule,
    pub(super) network: Network,
    pub(super) dns: Dns,
    pub(super) hosts: Vec<Host>,
    /// Who has an address.
    pub(super) addresses: HashMap<SocketAddr, HostIndex>,
    /// Addresses that somebody had.
    pub(super) former_addresses: Vec<SocketAddr>,
    pub(super) connections: HashMap<u64, Connection>,
    pub(super) next_connection: u64,
    pub(super) mistake: Option<Mistake>,
    pub(super) story: Story,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64, count: usize, network: Network, story: Story) -> Result<Self, String> {
        let mut world = Self {
            chance: Chance(seed),
            origin: Instant::now(),
            now: Duration::ZERO,
            schedule: Schedule::default(),
            network,
            dns: Dns::default(),
            hosts: Vec::new(),
            addresses: HashMap::new(),
            former_addresses: Vec::new(),
            connections: HashMap::new(),
            next_connection: 1,
            mistake: None,
            story,
            tally: Tally::default(),
        };
        for number in 0..count {
            let clock = world.clock();
            let address = fresh_address(number, 0);
            world.hosts.push(Host::new(number, clock, address)?);
            world.addresses.insert(address, number);
        }
        Ok(world)
    }

    /// A host's clocks: at most half a percent and two seconds from the true time.
    pub(super) fn clock(&mut self) -> Clock {
        let rate = 0.995 + self.chance.below(10_001) as f64 * 1e-6;
        Clock { rate, ahead_us: self.chance.below(4_000_000) as i64 - 2_000_000 }
    }

    /// Plays until then, and checks each step.
    pub(super) fn run_until(&mut self, end: Duration) -> Checked {
        while let Some((at, event)) = self.schedule.next(end) {
            self.now = at;
            self.tally.events += 1;
            self.happen(event).map_err(|text| format!("at {:?}: {text}", self.now))?;
        }
        self.now = end;
        Ok(())
    }

    /// Something happens; at a host that does not run, later.
    fn happen(&mut self, event: Event) -> Checked {
        if let Some(host) = self.host_of(&event)
            && let Some(host) = self.hosts.get_mut(host)
            && host.stopped.is_some()
        {
            host.backlog.push(event);
            return Ok(());
        }
        match event {
            Event::Arrives(id, packet) => self.arrives(id, packet),
            Event::Resend(id, piece, after) => {
                if self.end(id).is_some() {
                    self.tally.resent += 1;
                    self.transmit_piece(id, piece, after);
                }
                Ok(())
            }
            Event::Tick(life) => self.tick(life),
            Event::Dial(life) => self.wake(life),
            Event::Poll(life) => self.poll(life),
            Event::Turn(life, process) => self.turn(life, process),
            Event::HandshakeOver(id) => self.handshake_over(id),
            Event::FarewellOver(id) => self.farewell_over(id),
            Event::Refused(life, number) => {
                if let Some(node) = self.node(life) {
                    node.detector.refused(number);
                }
                Ok(())
            }
            Event::Resume(host) => self.resume(host),
            Event::Zone(address, is_named) => {
                let runs = self.addresses.get(&address).is_some_and(|&host| self.hosts[host].node.is_some());
                // Who has come back meanwhile is still there.
                if is_named == runs {
                    self.dns.change(address, is_named);
                }
                Ok(())
            }
            Event::Fault(number) => self.fault(number),
            Event::MustBeDown(gone) => self.must_be_down(&gone),
        }
    }

    /// Whose program has to run for that.
    fn host_of(&self, event: &Event) -> Option<HostIndex> {
        match event {
            Event::Arrives(id, _) => {
                let connection = self.connections.get(&id.connection)?;
                match connection.lives[id.end] {
                    Some(life) => Some(life.host),
                    None => self.addresses.get(&connection.address).copied(),
                }
            }
            Event::Resend(id, ..) | Event::HandshakeOver(id) | Event::FarewellOver(id) => {
                self.end(*id).map(|end| end.life.host)
            }
            Event::Tick(life)
            | Event::Dial(life)
            | Event::Poll(life)
            | Event::Turn(life, _)
            | Event::Refused(life, _) => Some(life.host),
            Event::Resume(_) | Event::Zone(..) | Event::Fault(_) | Event::MustBeDown(..) => None,
        }
    }

    fn resume(&mut self, index: HostIndex) -> Checked {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(index) else { return Ok(()) };
        // It may have been stopped again for longer, or be another life by now.
        if host.stopped.is_none_or(|until| until > now) {
            return Ok(());
        }
        host.stopped = None;
        host.resumed = now;
        host.stopped_before += now.saturating_sub(host.stopped_at);
        let backlog = std::mem::take(&mut host.backlog);
        let (packets, timers): (Vec<_>, Vec<_>) =
            backlog.into_iter().partition(|event| matches!(event, Event::Arrives(..)));
        // What is read first, the socket or the timers, is not known.
        let (first, last) = if self.chance.percent(50) { (packets, timers) } else { (timers, packets) };
        first.into_iter().chain(last).try_for_each(|event| self.happen(event))
    }

    pub(super) fn end(&self, id: EndId) -> Option<&End> {
        self.connections.get(&id.connection)?.ends[id.end].as_deref()
    }

    pub(super) fn end_mut(&mut self, id: EndId) -> Option<&mut End> {
        self.connections.get_mut(&id.connection)?.ends[id.end].as_deref_mut()
    }

    /// The node, if that life of it still runs.
    pub(super) fn node(&mut self, life: Life) -> Option<&mut Node> {
        self.hosts.get_mut(life.host)?.node.as_mut().filter(|node| node.life == life)
    }

    pub(super) fn alive(&self, life: Life) -> Option<&Node> {
        self.hosts.get(life.host)?.node.as_ref().filter(|node| node.life == life)
    }

    /// What the monotonic clock of a host shows.
    pub(super) fn instant(&self, host: HostIndex) -> Instant {
        self.hosts[host].instant(self.origin, self.now)
    }

    /// A packet on its way. Gives whether it will arrive.
    pub(super) fn transmit(&mut self, from: HostIndex, to_host: HostIndex, to: EndId, packet: &Packet) -> bool {
        let bytes = match packet {
            Packet::Data(piece) => piece.bytes.len() as u64,
            Packet::Acknowledgement | Packet::Ping => 8,
            Packet::Close(_) => 40,
        };
        if to_host == HostIndex::MAX {
            return false;
        }
        self.tally.packets += 1;
        self.tally.bytes += bytes + OVERHEAD_BYTES;
        let copies = self.network.fate(&mut self.chance, (from, to_host)).0;
        self.tally.dropped += u64::from(copies[0].is_none());
        self.tally.doubled += u64::from(copies[1].is_some());
        for delay in copies.into_iter().flatten() {
            self.schedule.at(self.now + delay, Event::Arrives(to, packet.clone()));
        }
        copies[0].is_some()
    }

    /// A packet from an end to the other.
    pub(super) fn send_packet(&mut self, id: EndId, packet: &Packet) -> bool {
        let Some(end) = self.end(id) else { return false };
        let (from, to) = (end.life.host, end.host_of_peer);
        self.transmit(from, to, id.other(), packet)
    }

    /// The next piece of a stream, as QUIC sends it: again and again.
    pub(super) fn send_piece(&mut self, id: EndId, stream: Stream, bytes: Bytes, last: bool) {
        let Some(end) = self.end_mut(id) else { return };
        let piece = Box::new(end.piece(stream, bytes, last));
        self.transmit_piece(id, piece, RESENT_AFTER);
    }

    fn transmit_piece(&mut self, id: EndId, piece: Box<Piece>, after: Duration) {
        let packet = Packet::Data(piece);
        let passes = self.send_packet(id, &packet);
        if !passes && let Packet::Data(piece) = packet {
            let longer = (after * 2).min(RESENT_AFTER_AT_MOST);
            self.schedule.at(self.now + after, Event::Resend(id, piece, longer));
        }
    }

    fn arrives(&mut self, id: EndId, packet: Packet) -> Checked {
        let is_new = self.connections.get(&id.connection).is_some_and(|connection| connection.lives[id.end].is_none());
        if is_new && !self.accept(id.connection) {
            // Nobody is there yet: QUIC tries again.
            if let Packet::Data(piece) = packet {
                self.schedule.at(self.now + RESENT_AFTER_AT_MOST / 4, Event::Resend(id.other(), piece, RESENT_AFTER));
            }
            return Ok(());
        }
        let Some(connection) = self.connections.get(&id.connection) else { return Ok(()) };
        let Some(life) = connection.lives[id.end].filter(|life| self.alive(*life).is_some()) else { return Ok(()) };
        let run_time = self.hosts[life.host].run_time(self.now);
        let Some(end) = self.end_mut(id) else {
            self.answer_closed(id, life, &packet);
            return Ok(());
        };
        end.arrived += 1;
        end.heard = run_time;
        match packet {
            Packet::Acknowledgement => Ok(()),
            Packet::Ping => {
                self.send_packet(id, &Packet::Acknowledgement);
                Ok(())
            }
            Packet::Close(reason) => self.closed_by_peer(id, reason),
            Packet::Data(piece) => {
                let stream = piece.stream;
                end.receive(*piece);
                self.send_packet(id, &Packet::Acknowledgement);
                self.read(id, stream)
            }
        }
    }

    /// What comes to a connection that this end has closed is answered: for a while by either, and later by whoever accepted,
    /// whose socket stays.
    fn answer_closed(&mut self, id: EndId, life: Life, packet: &Packet) {
        let Some(connection) = self.connections.get(&id.connection) else { return };
        let drains = connection.closed[id.end].is_some_and(|at| self.now < at + DRAINS);
        let Some(other) = connection.lives[id.other().end] else { return };
        if !matches!(packet, Packet::Close(_)) && (drains || id.end == 1) {
            self.transmit(life.host, other.host, id.other(), &Packet::Close("closed before"));
        }
    }

    /// Reads what is there of one stream.
    pub(super) fn read(&mut self, id: EndId, stream: Stream) -> Checked {
        loop {
            let Some(end) = self.end_mut(id) else { return Ok(()) };
            let may_read = match end.stage {
                Stage::Up => true,
                Stage::Shaking(_) => stream == Stream::Control,
                Stage::Farewell(_) => false,
            };
            let Some(piece) = may_read.then(|| end.read(stream)).flatten() else { return Ok(()) };
            match stream {
                Stream::Control => self.read_control(id, piece.bytes)?,
                Stream::Lane(lane) => self.read_lane(id, usize::from(lane), piece)?,
                Stream::Bulk(bulk) => self.read_bulk(id, bulk, piece)?,
            }
        }
    }

    /// Closes this end of a connection. What the other end still sends is answered.
    pub(super) fn close(&mut self, id: EndId, reason: &'static str) {
        self.send_packet(id, &Packet::Close(reason));
        self.forget_end(id);
    }

    /// This end is no more.
    pub(super) fn forget_end(&mut self, id: EndId) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let Some(end) = connection.ends[id.end].take() else { return };
        connection.closed[id.end] = Some(now);
        if connection.ends[id.other().end].is_none() {
            self.connections.remove(&id.connection);
        }
        if let Some(node) = self.node(end.life) {
            node.ends.remove(&id);
        }
    }

    /// All pairs of nodes that run, as hosts.
    pub(super) fn pairs(&self) -> Vec<(HostIndex, HostIndex)> {
        let running: Vec<HostIndex> = (0..self.hosts.len()).filter(|host| self.hosts[*host].node.is_some()).collect();
        running.iter().flat_map(|one| running.iter().map(move |other| (*one, *other))).filter(|(a, b)| a != b).collect()
    }

    /// Gives a host another address, one that another had perhaps.
    pub(super) fn move_host(&mut self, index: HostIndex) {
        let fresh = fresh_address(index, self.hosts[index].lives);
        let free: Vec<SocketAddr> =
            self.former_addresses.iter().copied().filter(|address| !self.addresses.contains_key(address)).collect();
        let address = match self.chance.pick(&free) {
            Some(former) if self.chance.percent(50) => *former,
            _ => fresh,
        };
        let old = std::mem::replace(&mut self.hosts[index].address, address);
        self.addresses.remove(&old);
        self.addresses.insert(address, index);
        self.former_addresses.push(old);
    }

    /// Who is stopped, or was not long ago.
    pub(super) fn hosts_that_ran_since(&self, since: Duration) -> BTreeSet<HostIndex> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].ran_since(since, self.now)).collect()
    }
}

/// An address of a host's own.
fn fresh_address(number: usize, life: u32) -> SocketAddr {
    let [.., high, low] = (number as u64).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, (life % 250) as u8, high, low.wrapping_add(1)), 4370))
}
