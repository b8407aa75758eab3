//! One connection as its two ends have it. QUIC is played as far as it matters here: each stream arrives whole and in order
//! or not at all, streams do not wait for each other, and a packet for a connection that its host has closed is answered by
//! saying so. TLS is left out: it decides nothing that is looked at here.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use rookery_protocol::{
    FrameDecoder, LaneDecoder, LaneEncoder, NodeId, Reassembly, Ticket, TicketNumber,
    handshake::{Agreement, Handshake},
    limits::MAX_CONTROL_BODY_BYTES,
};
use rookery_runtime::net::control::ConnectionError;

use super::{
    contract::Sent,
    network::HostIndex,
    schedule::{Life, Piece, Stream},
};
use crate::mesh::arbiter::ConnectionNumber;

/// Lanes each way.
pub(super) const LANES: u8 = 2;

/// The largest message that is taken, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 64 * 1024;

pub(super) struct Connection {
    /// Where it was dialled.
    pub(super) address: SocketAddr,
    /// Whose they are; the acceptor's once it has heard of it.
    pub(super) lives: [Option<Life>; 2],
    pub(super) ends: [Option<Box<End>>; 2],
    /// When each end was closed, as one who answers for a while.
    pub(super) closed: [Option<Duration>; 2],
}

/// How far an end has come.
pub(super) enum Stage {
    Shaking(Box<Shaking>),
    /// It has said no, and waits for the other to hear it; then this comes of the dial.
    Farewell(Option<ConnectionError>),
    Up,
}

pub(super) struct Shaking {
    pub(super) machine: Handshake,
    /// The peer, once the arbiter was asked.
    pub(super) node: Option<NodeId>,
    pub(super) replaces: Option<ConnectionNumber>,
}

pub(super) struct End {
    pub(super) life: Life,
    pub(super) host_of_peer: HostIndex,
    pub(super) stage: Stage,
    /// The peer, when this end is up.
    pub(super) node: Option<NodeId>,
    /// Datagrams so far.
    pub(super) arrived: u64,
    /// How long its own node had run when something arrived last.
    pub(super) heard: Duration,
    /// The same of QUIC's last keep-alive.
    pub(super) kept_alive: Duration,
    pub(super) control: FrameDecoder,
    sent: BTreeMap<Stream, u32>,
    received: BTreeMap<Stream, Received>,
    /// Lanes and bodies, once something flows.
    pub(super) flow: Option<Box<Flow>>,
    /// It has been told that the node leaves, and why it ends.
    pub(super) goodbye: bool,
    /// It has been told where others are.
    pub(super) told: bool,
}

/// What has come of one stream.
#[derive(Default)]
struct Received {
    /// The next piece.
    next: u32,
    /// Pieces that have arrived and were not read.
    early: BTreeMap<u32, Piece>,
}

impl End {
    pub(super) fn new(life: Life, host_of_peer: HostIndex, machine: Handshake, heard: Duration) -> Self {
        Self {
            life,
            host_of_peer,
            stage: Stage::Shaking(Box::new(Shaking { machine, node: None, replaces: None })),
            node: None,
            arrived: 0,
            heard,
            kept_alive: heard,
            control: FrameDecoder::new(MAX_CONTROL_BODY_BYTES),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            flow: None,
            goodbye: false,
            told: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// The next piece of a stream.
    pub(super) fn piece(&mut self, stream: Stream, bytes: Bytes, last: bool) -> Piece {
        let next = self.sent.entry(stream).or_default();
        let index = *next;
        *next += 1;
        Piece { stream, index, bytes, last }
    }

    /// Whether a stream was begun.
    pub(super) fn has_sent(&self, stream: Stream) -> bool {
        self.sent.contains_key(&stream)
    }

    /// A piece has arrived, perhaps not for the first time.
    pub(super) fn receive(&mut self, piece: Piece) {
        let received = self.received.entry(piece.stream).or_default();
        if piece.index >= received.next {
            received.early.insert(piece.index, piece);
        }
    }

    /// The next piece of a stream, if it is there.
    pub(super) fn read(&mut self, stream: Stream) -> Option<Piece> {
        let received = self.received.get_mut(&stream)?;
        let piece = received.early.remove(&received.next)?;
        received.next += 1;
        Some(piece)
    }

    /// The streams that have something to read, lanes first.
    pub(super) fn readable(&self) -> Vec<Stream> {
        let readable = |(_, received): &(&Stream, &Received)| received.early.contains_key(&received.next);
        self.received.iter().filter(readable).map(|(stream, _)| *stream).collect()
    }

    /// What flows to and from `peer`.
    pub(super) fn flow(&mut self, own: &NodeId, peer: &NodeId) -> &mut Flow {
        self.flow.get_or_insert_with(|| Box::new(Flow::new(own, peer)))
    }
}

/// The lanes of a connection and the bodies beside them, both ways.
pub(super) struct Flow {
    pub(super) encoders: Vec<LaneEncoder>,
    pub(super) lanes: Vec<LaneEnd>,
    pub(super) next_ticket: u64,
    /// Whose ticket has come, on which lane.
    pub(super) expected: BTreeMap<u64, usize>,
    /// Bodies that are not whole, and the ticket that their streams began with.
    pub(super) bodies: BTreeMap<u64, Body>,
    /// Bodies whose tickets have not come.
    pub(super) early: BTreeMap<u64, Bytes>,
    /// Lanes of the peer that have ended.
    pub(super) ended: u8,
    /// What was sent, pair by pair.
    pub(super) sent: Sent,
}

/// The receiving end of one lane.
pub(super) struct LaneEnd {
    pub(super) decoder: LaneDecoder,
    pub(super) reassembly: Reassembly,
    /// Tickets whose bodies are waited for, as the contract sees it.
    pub(super) outstanding: VecDeque<super::contract::Outstanding>,
}

#[derive(Default)]
pub(super) struct Body {
    pub(super) opening: rookery_protocol::BulkOpening,
    pub(super) ticket: Option<TicketNumber>,
    pub(super) bytes: Vec<u8>,
}

impl Flow {
    fn new(own: &NodeId, peer: &NodeId) -> Self {
        let lane = |_| LaneEnd {
            decoder: LaneDecoder::new(own.clone(), peer.clone(), MAX_MESSAGE_BYTES),
            reassembly: Reassembly::default(),
            outstanding: VecDeque::new(),
        };
        let encoder = |_| {
            let mut encoder = LaneEncoder::new(own.clone(), peer.clone());
            encoder.number_types();
            encoder.share_frames(MAX_MESSAGE_BYTES);
            encoder
        };
        Self {
            encoders: (0..LANES).map(encoder).collect(),
            lanes: (0..LANES).map(lane).collect(),
            next_ticket: 0,
            expected: BTreeMap::new(),
            bodies: BTreeMap::new(),
            early: BTreeMap::new(),
            ended: 0,
            sent: Sent::default(),
        }
    }

    pub(super) fn ticket(&mut self, body_bytes: usize) -> Ticket {
        self.next_ticket += 1;
        Ticket { number: TicketNumber(self.next_ticket), body_bytes }
    }

    /// Whether all that the peer has begun is here.
    pub(super) fn is_complete(&self) -> bool {
        self.ended == LANES && self.lanes.iter().all(|lane| lane.reassembly.is_empty())
    }
}

/// What both ends agreed on, until it is done.
pub(super) struct Agreed {
    pub(super) agreement: Box<Agreement>,
    pub(super) replaces: Option<ConnectionNumber>,
}
