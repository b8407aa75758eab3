//! How connections come to stand, as `mesh/handshakes.rs` and `mesh/dialler.rs` do it: the book says what is due, the
//! handshake's machine and the arbiter say what becomes of it, and what a dial came to is settled with the book.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use bytes::Bytes;
use rookery_protocol::{
    ControlFrame,
    handshake::{
        Action, CertificateFacts, Features, Handshake, Hello, PROTOCOL_MAX, PROTOCOL_MIN, PeerInfo, Refusal,
        RefusalCode, Role,
    },
};
use rookery_runtime::net::control::ConnectionError;

use super::{
    connection::{Agreed, Connection, End, LANES, MAX_MESSAGE_BYTES, Shaking, Stage},
    contract::Checked,
    host::{Node, Stands},
    network::HostIndex,
    schedule::{EndId, Event, Life, Stream},
    world::World,
};
use crate::{
    discovery::{DialStatus, DiscoveryEvent},
    mesh::{arbiter::Ruling, handshakes::Dialled, settling::settle},
};

/// How long a handshake may take: short, so that many fail while a link is cut.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// How long an end that has said no waits for the other to hear it.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

impl World {
    /// Looks into the book: dials what is due, and comes back when more is.
    pub(super) fn wake(&mut self, life: Life) -> Checked {
        let now = self.since_start(life);
        let Some(node) = self.node(life) else { return Ok(()) };
        node.wake = None;
        if node.leaving {
            return Ok(());
        }
        for address in node.book.poll_dials(now) {
            let Some(node) = self.node(life) else { return Ok(()) };
            let replace = node.memory.asks_to_replace(&address);
            self.dial(life, address, replace)?;
        }
        self.gossip_again(life, now)?;
        self.look_again(life);
        Ok(())
    }

    /// Sees to it that the book is looked into when something is due.
    pub(super) fn look_again(&mut self, life: Life) {
        let (now, local) = (self.now, self.since_start(life));
        let Some(node) = self.node(life) else { return };
        let due = node.book.next_due().map_or(node.rounds.due(), |due| due.min(node.rounds.due()));
        let wait = self.hosts[life.host].until(due.saturating_sub(local)) + Duration::from_micros(1);
        let Some(node) = self.node(life) else { return };
        if node.wake.is_none_or(|wake| wake > now + wait) {
            node.wake = Some(now + wait);
            self.schedule.at(now + wait, Event::Dial(life));
        }
    }

    /// The book's time: since the node started, by its own clock.
    pub(super) fn since_start(&self, life: Life) -> Duration {
        let host = &self.hosts[life.host];
        let since = host.node.as_ref().map_or(self.now, |node| node.since);
        host.local(self.now).saturating_sub(host.local(since))
    }

    /// DNS is asked, as the driver of discovery does.
    pub(super) fn poll(&mut self, life: Life) -> Checked {
        if self.alive(life).is_none_or(|node| node.leaving) {
            return Ok(());
        }
        let (kind, outcome) = self.dns.answer(&mut self.chance);
        self.tally.answer(kind);
        let now = self.since_start(life);
        let Some(node) = self.node(life) else { return Ok(()) };
        let before = (node.peers.len(), node.book.len());
        let gives_nothing = !matches!(outcome, crate::discovery::Outcome::Answer { .. });
        for event in node.watch.handle_outcome(outcome) {
            if let DiscoveryEvent::Addresses { source, set, .. } = event {
                node.book.addresses(source, &set, now);
            }
        }
        if gives_nothing && before != (node.peers.len(), node.book.len()) {
            return Err(format!("D1: an answer without addresses has taken some of {before:?} from {}", node.id));
        }
        let wait = node.watch.next_wait();
        let wait = self.hosts[life.host].until(wait);
        self.schedule.at(self.now + wait, Event::Poll(life));
        self.wake(life)
    }

    fn hello(&self, life: Life, replace: bool) -> Option<(Hello, CertificateFacts)> {
        let node = self.alive(life)?;
        let cluster: rookery_protocol::ClusterName = "simulated".parse().ok()?;
        let hello = Hello {
            versions: (PROTOCOL_MIN, PROTOCOL_MAX),
            features: Features::OURS,
            cluster: cluster.clone(),
            role: Role::Node,
            node: node.id.clone(),
            listen_port: self.hosts[life.host].address.port(),
            advertised: Vec::new(),
            max_message_bytes: MAX_MESSAGE_BYTES as u32,
            lanes: LANES,
            replace,
            extensions: Vec::new(),
        };
        // Certificates are TLS's: here each is good for any name.
        let facts = CertificateFacts { cluster, role: Role::Node, allows_name: |_, _| true, names: Vec::new() };
        Some((hello, facts))
    }

    fn dial(&mut self, life: Life, address: SocketAddr, replace: bool) -> Checked {
        let Some((hello, facts)) = self.hello(life, replace) else { return Ok(()) };
        self.tally.dials += 1;
        self.tally.replacing += u64::from(replace);
        let number = self.next_connection;
        self.next_connection += 1;
        let id = EndId { connection: number, end: 0 };
        let mut machine = Handshake::dial(hello, facts);
        let actions = machine.start();
        let there = self.addresses.get(&address).copied().unwrap_or(HostIndex::MAX);
        let heard = self.hosts[life.host].run_time(self.now);
        let end = End::new(life, there, machine, heard);
        let connection =
            Connection { address, lives: [Some(life), None], ends: [Some(Box::new(end)), None], closed: [None; 2] };
        self.connections.insert(number, connection);
        self.begin(id, life);
        self.act(id, actions)
    }

    fn begin(&mut self, id: EndId, life: Life) {
        if let Some(node) = self.node(life) {
            node.ends.insert(id);
        }
        let limit = self.hosts[life.host].until(HANDSHAKE_TIMEOUT);
        self.schedule.at(self.now + limit, Event::HandshakeOver(id));
    }

    /// A connection arrives where it was dialled. Gives whether anybody is there.
    pub(super) fn accept(&mut self, number: u64) -> bool {
        let Some(connection) = self.connections.get(&number) else { return false };
        let Some(dialler) = connection.lives[0] else { return false };
        let Some(&host) = self.addresses.get(&connection.address) else { return false };
        let Some(life) = self.hosts[host].node.as_ref().map(|node| node.life) else { return false };
        let Some((hello, facts)) = self.hello(life, false) else { return false };
        let heard = self.hosts[host].run_time(self.now);
        let end = End::new(life, dialler.host, Handshake::accept(hello, facts), heard);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.lives[1] = Some(life);
            connection.ends[1] = Some(Box::new(end));
        }
        self.begin(EndId { connection: number, end: 1 }, life);
        true
    }

    /// Does what a handshake wants.
    pub(super) fn act(&mut self, id: EndId, actions: Vec<Action>) -> Checked {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(frame) => self.send_control(id, &frame)?,
                Action::Decide(peer) => {
                    let ruling = self.decide(id, &peer);
                    let Some(shaking) = self.shaking(id) else { return Ok(()) };
                    actions.extend(match ruling {
                        Ruling::Keep(replaces) => {
                            shaking.replaces = replaces;
                            shaking.machine.admit(None)
                        }
                        Ruling::Refuse(code, text) => shaking.machine.refuse(code, text),
                    });
                }
                Action::Agreed(agreement) => {
                    let Some(agreed) = self.agreed(id, agreement)? else { return Ok(()) };
                    return self.establish(id, agreed);
                }
                Action::Refused { refusal, by_us: true } => {
                    return self.fail(id, ConnectionError::RefusedByUs(refusal));
                }
                Action::Refused { refusal, by_us: false } => {
                    return self.fail(id, ConnectionError::RefusedByPeer(refusal));
                }
            }
        }
        Ok(())
    }

    fn shaking(&mut self, id: EndId) -> Option<&mut Shaking> {
        match &mut self.end_mut(id)?.stage {
            Stage::Shaking(shaking) => Some(shaking),
            _ => None,
        }
    }

    /// Asks the arbiter about the peer, as either end does.
    fn decide(&mut self, id: EndId, peer: &PeerInfo) -> Ruling {
        let Some(life) = self.end(id).map(|end| end.life) else { return Ruling::Keep(None) };
        let from = self.end(id).and_then(|end| self.hosts.get(end.host_of_peer)).map(|host| host.address);
        let Some(node) = self.node(life) else { return Ruling::Keep(None) };
        if id.end == 1 && node.leaving {
            return Ruling::Refuse(RefusalCode::Draining, format!("{} is leaving", node.id));
        }
        let dials_too = from.is_some_and(|from| node.book.status(from) == Some(DialStatus::Dialling));
        let ruling = match id.end {
            0 => node.arbiter.welcomed(id.number(), &peer.node),
            _ => node.arbiter.asked(id.number(), &peer.node, peer.replace),
        };
        match &ruling {
            Ruling::Refuse(RefusalCode::Duplicate, _) => self.tally.duplicates += 1,
            Ruling::Refuse(RefusalCode::OlderIncarnation, _) => self.tally.older += 1,
            _ => {}
        }
        self.tally.simultaneous += u64::from(id.end == 1 && dials_too);
        if let Some(shaking) = self.shaking(id) {
            shaking.node = Some(peer.node.clone());
        }
        ruling
    }

    /// Both ends agree; the acceptor's arbiter has the last word.
    fn agreed(
        &mut self,
        id: EndId,
        agreement: Box<rookery_protocol::handshake::Agreement>,
    ) -> Result<Option<Agreed>, String> {
        let replaces = self.shaking(id).and_then(|shaking| shaking.replaces);
        if id.end == 0 {
            return Ok(Some(Agreed { agreement, replaces }));
        }
        let Some(life) = self.end(id).map(|end| end.life) else { return Ok(None) };
        let Some(node) = self.node(life) else { return Ok(None) };
        match node.arbiter.confirmed(id.number(), &agreement.peer.node) {
            Ruling::Keep(replaces) => Ok(Some(Agreed { agreement, replaces })),
            Ruling::Refuse(_, text) => {
                self.tally.too_late += 1;
                if self.story.is_calm {
                    return Err(format!("D2: a connection that its dialler takes for made is refused: {text}"));
                }
                self.arbiter_told_of_end(id);
                // Its dialler takes the connection for made, so it waits for no word of ours: it is to hear at once.
                self.close(id, "refused");
                Ok(None)
            }
        }
    }

    /// A handshake comes to nothing.
    pub(super) fn fail(&mut self, id: EndId, error: ConnectionError) -> Checked {
        self.arbiter_told_of_end(id);
        let Some(life) = self.end(id).map(|end| end.life) else { return Ok(()) };
        let answered = self.shaking(id).and_then(|shaking| shaking.node.clone());
        let outcome = match (error, answered) {
            (ConnectionError::RefusedByUs(refusal), Some(node))
                if id.end == 0 && refusal.code == RefusalCode::Duplicate =>
            {
                Err(ConnectionError::RefusedByUs(Refusal { by: Some(node), ..refusal }))
            }
            (error, _) => Err(error),
        };
        if let Err(error @ ConnectionError::RefusedByUs(_)) = outcome {
            // The refusal is on the control stream; the other end closes when it has read it.
            if let Some(end) = self.end_mut(id) {
                end.stage = Stage::Farewell(Some(error));
            }
            let wait = self.hosts[life.host].until(FAREWELL);
            self.schedule.at(self.now + wait, Event::FarewellOver(id));
            return Ok(());
        }
        let dialled = self.dialled(id);
        self.close(id, "handshake failed");
        self.outcome(life, dialled, outcome)
    }

    pub(super) fn arbiter_told_of_end(&mut self, id: EndId) {
        let Some(life) = self.end(id).map(|end| end.life) else { return };
        let Some(peer) = self.shaking(id).and_then(|shaking| shaking.node.clone()) else { return };
        if let Some(node) = self.node(life) {
            node.arbiter.ended(id.number(), &peer);
        }
    }

    pub(super) fn handshake_over(&mut self, id: EndId) -> Checked {
        if self.shaking(id).is_none() {
            return Ok(());
        }
        self.tally.handshakes_over += 1;
        self.fail(id, ConnectionError::HandshakeTimeout(HANDSHAKE_TIMEOUT))
    }

    /// The other end has heard why it is refused, or had time to.
    pub(super) fn farewell_over(&mut self, id: EndId) -> Checked {
        let Some(end) = self.end_mut(id) else { return Ok(()) };
        let life = end.life;
        let error = match &mut end.stage {
            Stage::Farewell(error) => error.take(),
            Stage::Up if end.goodbye => return self.lost(id, "it left"),
            _ => return Ok(()),
        };
        let dialled = self.dialled(id);
        self.close(id, "refused");
        let Some(error) = error else { return Ok(()) };
        self.outcome(life, dialled, Err(error))
    }

    /// Where this end has dialled, if it has.
    pub(super) fn dialled(&self, id: EndId) -> Option<SocketAddr> {
        let connection = self.connections.get(&id.connection)?;
        (id.end == 0).then_some(connection.address)
    }

    /// A dial has come to an end; whoever did not dial has nothing to settle.
    pub(super) fn outcome(
        &mut self,
        life: Life,
        dialled: Option<SocketAddr>,
        outcome: Result<Dialled, ConnectionError>,
    ) -> Checked {
        let Some(address) = dialled else { return Ok(()) };
        let outcome = match outcome {
            // As `Mesh::dial` has it: it is connected by another connection, or about to be.
            Err(ConnectionError::RefusedByUs(Refusal { code: RefusalCode::Duplicate, by: Some(node), .. })) => {
                Ok(Dialled { node })
            }
            outcome => outcome,
        };
        let now = self.since_start(life);
        let Some(node) = self.node(life) else { return Ok(()) };
        let Node { arbiter, peers, book, memory, .. } = node;
        settle(&Stands { arbiter, peers }, book, memory, address, outcome, now);
        self.look_again(life);
        Ok(())
    }

    /// Control frames, as they are on the wire.
    pub(super) fn send_control(&mut self, id: EndId, frame: &ControlFrame) -> Checked {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).map_err(|error| format!("{frame:?} cannot be sent: {error}"))?;
        self.tally.control += 1;
        self.send_piece(id, Stream::Control, Bytes::from(bytes), false);
        Ok(())
    }

    pub(super) fn read_control(&mut self, id: EndId, bytes: Bytes) -> Checked {
        let Some(end) = self.end_mut(id) else { return Ok(()) };
        end.control.push(bytes);
        loop {
            let Some(end) = self.end_mut(id) else { return Ok(()) };
            let Some(frame) = end.control.next_frame().map_err(|error| format!("control stream: {error}"))? else {
                return Ok(());
            };
            let frame = ControlFrame::decode(&frame).map_err(|error| format!("control stream: {error}"))?;
            match &mut end.stage {
                Stage::Shaking(shaking) => {
                    let actions = shaking.machine.handle(frame).map_err(|error| format!("handshake: {error}"))?;
                    self.act(id, actions)?;
                }
                Stage::Farewell(_) => {}
                Stage::Up => self.control(id, frame)?,
            }
        }
    }
}
