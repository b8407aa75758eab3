//! The receiving ends of lanes and bulk streams, as `node/runtime/src/net/lanes.rs` and `bulk.rs` have them: real frames, and
//! the real reassembly.

use bytes::Bytes;
use rookery_protocol::{Arrival, Pid, Serial, Signal, TicketNumber};

use super::{
    connection::Flow,
    contract::{Checked, Outstanding, may_be_held},
    planted::Mistake,
    processes::resolve,
    schedule::{EndId, Piece},
    tally::Tally,
    world::World,
};

impl World {
    /// The next piece of a lane.
    pub(super) fn read_lane(&mut self, id: EndId, lane: usize, piece: Piece) -> Checked {
        let (mistake, mut tally) = (self.mistake, Tally::default());
        let Some(flow) = self.flow(id) else { return Ok(()) };
        flow.lanes[lane].decoder.push(piece.bytes);
        let signals = flow.arrivals(lane, mistake, &mut tally)?;
        flow.ended += u8::from(piece.last);
        self.tally.add(&tally);
        signals.into_iter().try_for_each(|signal| self.deliver(id, signal))?;
        self.leave_when_complete(id)
    }

    /// The next piece of a bulk stream.
    pub(super) fn read_bulk(&mut self, id: EndId, stream: u64, piece: Piece) -> Checked {
        let Some(flow) = self.flow(id) else { return Ok(()) };
        let body = flow.bodies.entry(stream).or_default();
        if body.ticket.is_some() {
            body.bytes.extend_from_slice(&piece.bytes);
        } else if let Some((ticket, rest)) = body.opening.push(piece.bytes).map_err(|error| format!("bulk: {error}"))? {
            body.ticket = Some(ticket);
            body.bytes.extend_from_slice(&rest);
        }
        if !piece.last {
            return Ok(());
        }
        let Some(body) = flow.bodies.remove(&stream) else { return Ok(()) };
        let Some(TicketNumber(ticket)) = body.ticket else { return Err("a bulk stream without a ticket".to_owned()) };
        let bytes = Bytes::from(body.bytes);
        let Some(lane) = flow.expected.remove(&ticket) else {
            flow.early.insert(ticket, bytes);
            self.tally.bodies_first += 1;
            return Ok(());
        };
        let signals = flow.body(lane, ticket, bytes)?;
        signals.into_iter().try_for_each(|signal| self.deliver(id, signal))?;
        self.leave_when_complete(id)
    }

    fn flow(&mut self, id: EndId) -> Option<&mut Flow> {
        let end = self.end(id)?;
        let (life, peer) = (end.life, end.node.clone()?);
        let own = self.alive(life)?.id.clone();
        Some(self.end_mut(id)?.flow(&own, &peer))
    }
}

impl Flow {
    /// What has wholly arrived on a lane, as far as it need not wait.
    fn arrivals(&mut self, lane: usize, mistake: Option<Mistake>, tally: &mut Tally) -> Result<Vec<Signal>, String> {
        let mut delivered = Vec::new();
        loop {
            let end = &mut self.lanes[lane];
            let Some(arrival) = end.decoder.next_arrival().map_err(|error| format!("lane {lane}: {error}"))? else {
                return Ok(delivered);
            };
            let arrival = match arrival {
                Arrival::Run(run) => {
                    end.decoder.put_back(run);
                    continue;
                }
                Arrival::Plain(message) => {
                    let signal = end.decoder.signal_of(message).map_err(|error| format!("lane {lane}: {error}"))?;
                    Arrival::Signal(signal)
                }
                other => other,
            };
            match arrival {
                Arrival::Plain(_) | Arrival::Run(_) => return Err("a message was made a signal above".to_owned()),
                Arrival::Signal(signal) if end.reassembly.is_empty() || mistake == Some(Mistake::Overtakes) => {
                    delivered.push(signal);
                }
                Arrival::Signal(signal) => {
                    let (sender, receiver) = (signal.from.serial().0, resolve(&signal.to));
                    let pid = receiver.map(|serial| Pid::new(signal.to.node.clone(), Serial(serial)));
                    match end.reassembly.pass(signal, pid) {
                        Some(signal) => delivered.push(signal),
                        None => {
                            if !may_be_held(&end.outstanding, sender, receiver) {
                                return Err(format!("S4: {sender} to {receiver:?} waits for another pair's body"));
                            }
                            tally.held += 1;
                            end.outstanding.push_back(Outstanding { sender, receiver, ticket: None });
                        }
                    }
                }
                Arrival::Ticketed(signal, ticket) => {
                    let (sender, receiver) = (signal.from.serial().0, resolve(&signal.to));
                    let pid = receiver.map(|serial| Pid::new(signal.to.node.clone(), Serial(serial)));
                    end.outstanding.push_back(Outstanding { sender, receiver, ticket: Some(ticket.number) });
                    end.reassembly.expect(signal, pid, ticket).map_err(|error| format!("lane {lane}: {error}"))?;
                    match self.early.remove(&ticket.number.0) {
                        Some(body) => delivered.extend(self.body(lane, ticket.number.0, body)?),
                        None => drop(self.expected.insert(ticket.number.0, lane)),
                    }
                }
            }
        }
    }

    /// A body whose ticket has come. Gives what may be delivered now.
    fn body(&mut self, lane: usize, ticket: u64, bytes: Bytes) -> Result<Vec<Signal>, String> {
        let end = &mut self.lanes[lane];
        let number = TicketNumber(ticket);
        end.reassembly.body(number, bytes).map_err(|error| format!("lane {lane}: {error}"))?;
        if let Some(one) = end.outstanding.iter_mut().find(|one| one.ticket == Some(number)) {
            one.ticket = None;
        }
        let mut delivered = Vec::new();
        while let Some(signal) = end.reassembly.next_ready() {
            let (sender, receiver) = (signal.from.serial().0, resolve(&signal.to));
            let held = end.outstanding.iter().position(|one| (one.sender, one.receiver) == (sender, receiver));
            held.and_then(|at| end.outstanding.remove(at));
            delivered.push(signal);
        }
        for (at, one) in end.outstanding.iter().enumerate().filter(|(_, one)| one.ticket.is_none()) {
            let before = end.outstanding.iter().take(at).cloned().collect();
            if !may_be_held(&before, one.sender, one.receiver) {
                return Err(format!("S4: {} to {:?} waits for nothing", one.sender, one.receiver));
            }
        }
        Ok(delivered)
    }
}
