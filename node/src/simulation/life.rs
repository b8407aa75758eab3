//! The life of a peer, as `mesh/life.rs` has it: up, told to others and of others, its control stream, and down.

use std::time::Duration;

use bytes::Bytes;
use rookery_protocol::{
    ControlFrame, NodeId,
    control::{Goodbye, Heard, PeerAddresses},
    limits::MAX_PEERS_PER_FRAME,
};
use rookery_runtime::net::control::ConnectionError;

use super::{
    connection::{Agreed, LANES, Stage},
    contract::Checked,
    handshakes::FAREWELL,
    host::Peer,
    schedule::{EndId, Event, Life, Stream},
    world::World,
};
use crate::{
    discovery::NodeKey,
    mesh::{
        arbiter::ConnectionNumber,
        gossip::{newcomer_is_told_of, told_of_newcomer},
        handshakes::Dialled,
        settling::key,
    },
};

impl World {
    /// Makes a peer of an agreed connection.
    pub(super) fn establish(&mut self, id: EndId, agreed: Agreed) -> Checked {
        let Agreed { agreement, replaces } = agreed;
        let node = agreement.peer.node.clone();
        let Some(life) = self.end(id).map(|end| end.life) else { return Ok(()) };
        if let Some(old) = replaces {
            self.replace(life, old, &node, agreement.peer.replace)?;
        }
        let address = match self.dialled(id) {
            Some(address) => address,
            // Where it is seen to come from, at the port that it says.
            None => match self.end(id).and_then(|end| self.hosts.get(end.host_of_peer)) {
                Some(host) => host.address,
                None => return Ok(()),
            },
        };
        let now = self.now;
        let Some(end) = self.end_mut(id) else { return Ok(()) };
        end.stage = Stage::Up;
        end.node = Some(node.clone());
        self.tally.established += 1;
        let local = self.since_start(life);
        let Some(own) = self.node(life) else { return Ok(()) };
        own.view.node_up(&node, id).map_err(|text| format!("{}: {text}", own.id))?;
        let peer = Peer { number: id.number(), node: node.clone(), addresses: vec![address], since: now };
        own.peers.insert(node.name().clone(), peer);
        own.book.learned(address, local);
        own.book.already_connected(address, key(&node));
        let others: Vec<(EndId, PeerAddresses)> = own
            .peers
            .values()
            .filter(|other| other.node != node)
            .map(|other| {
                let known = PeerAddresses { node: other.node.clone(), addresses: other.addresses.clone() };
                (EndId::of(other.number), known)
            })
            .collect();
        let newcomer = ControlFrame::Peers(vec![PeerAddresses { node: node.clone(), addresses: vec![address] }]);
        for (other, _) in told_of_newcomer(&others, id.number()) {
            self.send_control(*other, &newcomer)?;
        }
        let known: Vec<PeerAddresses> = others.into_iter().map(|(_, known)| known).collect();
        let some: Vec<PeerAddresses> = newcomer_is_told_of(&known, id.number()).cloned().collect();
        if !some.is_empty() {
            self.send_control(id, &ControlFrame::Peers(some))?;
        }
        self.outcome(life, self.dialled(id), Ok(Dialled { node }))?;
        if self.alive(life).is_some_and(|own| own.leaving) {
            self.say_goodbye(id)?;
        }
        let readable = self.end(id).map(|end| end.readable()).unwrap_or_default();
        readable.into_iter().try_for_each(|stream| self.read(id, stream))?;
        self.look_again(life);
        Ok(())
    }

    /// Tells the peer whose turn it is where the others are.
    pub(super) fn gossip_again(&mut self, life: Life, now: Duration) -> Checked {
        let Some(own) = self.node(life) else { return Ok(()) };
        let Some(turn) = own.rounds.poll(now, own.peers.len()) else { return Ok(()) };
        let Some(peer) = own.peers.values().nth(turn).cloned() else { return Ok(()) };
        let known: Vec<PeerAddresses> = own
            .peers
            .values()
            .filter(|other| other.node != peer.node)
            .map(|other| PeerAddresses { node: other.node.clone(), addresses: other.addresses.clone() })
            .collect();
        self.tally.rounds += 1;
        let mut parts = known.chunks(MAX_PEERS_PER_FRAME);
        parts.try_for_each(|part| self.send_control(EndId::of(peer.number), &ControlFrame::Peers(part.to_vec())))
    }

    /// A connection takes the place of another one.
    fn replace(&mut self, life: Life, old: ConnectionNumber, node: &NodeId, asked: bool) -> Checked {
        let Some(own) = self.alive(life) else { return Ok(()) };
        let Some(peer) = own.peers.values().find(|peer| peer.number == old).cloned() else { return Ok(()) };
        if peer.node == *node && (!asked || self.story.is_calm) {
            return Err(format!("D2: {} gives up a connection with {node} that stands, for another", own.id));
        }
        self.tally.replaced += 1;
        self.down(life, &peer)?;
        self.close(EndId::of(old), "replaced");
        Ok(())
    }

    /// A peer's connection is gone: what stands is told of it, in the contract's order.
    fn down(&mut self, life: Life, peer: &Peer) -> Checked {
        let now = self.since_start(life);
        let mistake = self.mistake;
        let Some(own) = self.node(life) else { return Ok(()) };
        own.arbiter.ended(peer.number, &peer.node);
        if own.peers.get(peer.node.name()).is_none_or(|standing| standing.number != peer.number) {
            return Ok(());
        }
        own.peers.remove(peer.node.name());
        own.view.node_down(&peer.node).map_err(|text| format!("{}: {text}", own.id))?;
        own.processes.lost(&peer.node, mistake);
        own.book.disconnected(&NodeKey::new(peer.node.name().as_str()), now);
        self.tally.downs += 1;
        if self.story.is_calm {
            return Err(format!("D3: {:?} tells NodeDown of {} where nothing went wrong", life, peer.node));
        }
        self.look_again(life);
        Ok(())
    }

    /// This end's connection is lost, and closed.
    pub(super) fn lost(&mut self, id: EndId, reason: &'static str) -> Checked {
        let Some(end) = self.end(id) else { return Ok(()) };
        let (life, node) = (end.life, end.node.clone());
        if let Some(node) = node {
            let since = Duration::ZERO;
            self.down(life, &Peer { number: id.number(), node, addresses: Vec::new(), since })?;
        }
        self.close(id, reason);
        Ok(())
    }

    /// The other end has closed the connection, or does not know it any more.
    pub(super) fn closed_by_peer(&mut self, id: EndId, reason: &'static str) -> Checked {
        let Some(end) = self.end(id) else { return Ok(()) };
        match &end.stage {
            Stage::Up => self.lost(id, reason),
            Stage::Farewell(_) => self.farewell_over(id),
            // As QUIC tells it: the control stream is closed.
            Stage::Shaking(_) => self.fail(id, ConnectionError::StreamClosed("control")),
        }
    }

    /// A control frame of a peer.
    pub(super) fn control(&mut self, id: EndId, frame: ControlFrame) -> Checked {
        let Some(life) = self.end(id).map(|end| end.life) else { return Ok(()) };
        let (now, instant) = (self.since_start(life), self.instant(life.host));
        let told_first = matches!(frame, ControlFrame::Peers(_))
            && self.end_mut(id).is_some_and(|end| !std::mem::replace(&mut end.told, true));
        let is_newcomer = told_first && self.dialled(id).is_some();
        let Some(own) = self.node(life) else { return Ok(()) };
        match frame {
            ControlFrame::Peers(peers) => {
                for told in peers.iter().filter(|told| told.node != own.id && !own.arbiter.knows(&told.node)) {
                    for &address in &told.addresses {
                        match is_newcomer {
                            true => own.book.learned(address, now),
                            false => own.book.newcomer(address, now),
                        }
                    }
                }
                self.look_again(life);
                Ok(())
            }
            ControlFrame::HaveYouHeard(suspect) => {
                let effects = own.detector.asked(id.number(), suspect, instant);
                self.carry_out(life, effects)
            }
            ControlFrame::Heard(Heard { node, ms_ago }) => {
                let ago = ms_ago.map(|ms| Duration::from_millis(ms.into()));
                own.detector.answered(id.number(), &node, ago, instant);
                Ok(())
            }
            ControlFrame::Goodbye(_) => {
                if let Some(end) = self.end_mut(id) {
                    end.goodbye = true;
                }
                self.leave_when_complete(id)?;
                let wait = self.hosts[life.host].until(FAREWELL);
                self.schedule.at(self.now + wait, Event::FarewellOver(id));
                Ok(())
            }
            frame => Err(format!("{frame:?} comes after the handshake")),
        }
    }

    /// What a node sent before it left comes before its end.
    pub(super) fn leave_when_complete(&mut self, id: EndId) -> Checked {
        let Some(end) = self.end(id).filter(|end| end.goodbye) else { return Ok(()) };
        if end.flow.as_ref().is_some_and(|flow| flow.is_complete()) {
            self.tally.farewells += 1;
            return self.lost(id, "it left");
        }
        Ok(())
    }

    /// A node leaves in good order. Whatever it dials is dropped.
    pub(super) fn leave(&mut self, life: Life) -> Checked {
        let Some(own) = self.node(life) else { return Ok(()) };
        own.leaving = true;
        let ends: Vec<EndId> = own.peers.values().map(|peer| EndId::of(peer.number)).collect();
        let dials: Vec<EndId> = own.ends.iter().copied().filter(|id| id.end == 0 && !ends.contains(id)).collect();
        for id in dials {
            self.arbiter_told_of_end(id);
            self.close(id, "it leaves");
        }
        ends.into_iter().try_for_each(|id| self.say_goodbye(id))
    }

    /// On a connection all lanes end, and then goodbye is said.
    fn say_goodbye(&mut self, id: EndId) -> Checked {
        for lane in 0..LANES {
            self.open_lane(id, lane);
            self.send_piece(id, Stream::Lane(lane), Bytes::new(), true);
        }
        self.send_control(id, &ControlFrame::Goodbye(Goodbye { reason: "leaving".to_owned() }))
    }
}
