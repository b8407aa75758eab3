//! The sending end of a lane: signals become frames, behind each other in one buffer. Nodes are given a number when they
//! are first named, by a frame that goes before.

use std::collections::HashMap;

use crate::{
    codec,
    credit::CreditChange,
    error::WireError,
    exit::ExitReason,
    frame::{self, FLAG_SKIPPABLE, FrameKind, FrameStart},
    id::{NodeId, Serial},
    lane::{
        BY_CLUSTER_NAME, BY_GROUP, BY_NAME, End, HAS_CREDIT, HAS_DEADLINE, HAS_REPLY, HAS_TRACE, LINKED, MessageHead,
        Ticket,
        run::{OpenRun, RunBuffer},
        types::TypeNumbers,
    },
    limits::{FRAME_HEADER_BYTES, MAX_IN_RUN_BYTES, MAX_INTERNED_NODES, MAX_REASON_BYTES},
    payload::Payload,
    request::ResponseBody,
    signal::{CallFailure, Recipient, Signal, SignalBody},
    text,
};

/// What stands before a brief message's payload: its type's number and two serials.
const BRIEF_BYTES: usize = 2 + 8 + 8;

/// The sending end of a lane.
#[derive(Debug)]
pub struct LaneEncoder {
    /// This end: number 0 of `from`.
    own: NodeId,
    /// The other end: number 0 of `to`.
    peer: NodeId,
    /// Numbers of the other nodes; the next one is the table's size + 1.
    numbers: HashMap<NodeId, u16>,
    /// Numbers of types, where the peer knows of that.
    types: Option<TypeNumbers>,
    /// The largest frame of several messages, where the peer knows of that; and the last one, while nothing is behind it.
    runs: Option<usize>,
    run: Option<OpenRun>,
}

impl LaneEncoder {
    /// The sending end of a lane from `own` to `peer`.
    #[must_use]
    pub fn new(own: NodeId, peer: NodeId) -> Self {
        Self { own, peer, numbers: HashMap::new(), types: None, runs: None, run: None }
    }

    /// Gives types numbers from now on: the peer has [`Features::TYPES`](crate::handshake::Features::TYPES) as well.
    pub fn number_types(&mut self) {
        self.types.get_or_insert_default();
    }

    /// Puts several messages into one frame from now on, of no more than `largest` bytes: the peer has
    /// [`Features::RUNS`](crate::handshake::Features::RUNS) as well. What is encoded is then to go behind what was before, or
    /// into an empty buffer.
    pub fn share_frames(&mut self, largest: usize) {
        self.runs = Some(largest);
    }

    /// Opens the lane: the first frame on its stream.
    pub fn open(lane: u8, out: &mut Vec<u8>) {
        let start = frame::begin(out, FrameKind::LaneOpen, 0);
        out.push(lane);
        frame::finish(out, start, 0);
    }

    /// Appends the head of a message whose payload of `body_bytes` the caller appends, or sends right behind.
    ///
    /// # Errors
    /// [`WireError::TooManyNodes`] when the lane has named as many nodes as it may: the connection is to be made anew.
    pub fn message_head(
        &mut self,
        head: &MessageHead<'_>,
        body_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        if self.brief_head(head, body_bytes, out) {
            return Ok(());
        }
        self.run = None;
        let start = self.begin_message(FrameKind::Message, head, out)?;
        frame::finish(out, start, body_bytes);
        Ok(())
    }

    /// Appends messages that have one head, without a reply, deadline, credit or trace.
    ///
    /// # Errors
    /// As [`LaneEncoder::message_head`].
    pub fn messages(
        &mut self,
        head: &MessageHead<'_>,
        messages: &RunBuffer,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        if let (Some(largest), Some((types, to))) = (self.runs.filter(|_| messages.messages() > 0), self.brief(head))
            && let Some(number) = types.of(head.codec, head.tag, out)
            && messages.frame((number, to, head.from.serial()), largest, out)
        {
            self.run = None;
            return Ok(());
        }
        for body in messages.bodies() {
            self.message_head(head, body.len(), out)?;
            out.extend_from_slice(body);
        }
        Ok(())
    }

    /// The numbers of types, and the receiver, of a message that can do with that.
    fn brief(&mut self, head: &MessageHead<'_>) -> Option<(&mut TypeNumbers, Serial)> {
        let (Some(types), &Recipient::Serial(to)) = (&mut self.types, &head.to.to) else { return None };
        let plain = head.reply.is_none() && head.deadline_ms.is_none() && head.credit.is_none() && head.trace.is_none();
        (plain && head.to.node == self.peer && *head.from.node() == self.own).then_some((types, to))
    }

    /// Appends the head of a message in its most frequent form, if it has that.
    fn brief_head(&mut self, head: &MessageHead<'_>, body_bytes: usize, out: &mut Vec<u8>) -> bool {
        let Some((types, to)) = self.brief(head) else { return false };
        let Some(number) = types.of(head.codec, head.tag, out) else { return false };
        if let Some(largest) = self.runs
            && body_bytes <= MAX_IN_RUN_BYTES
        {
            OpenRun::head(&mut self.run, (number, to, head.from.serial()), body_bytes, largest, out);
            return true;
        }
        self.run = None;
        // In one piece: this is the most frequent of all frames.
        let mut bytes = [0; FRAME_HEADER_BYTES + BRIEF_BYTES];
        let (header, body) = bytes.split_at_mut(FRAME_HEADER_BYTES);
        // As in `frame::finish`.
        #[allow(clippy::cast_possible_truncation)]
        header[..4].copy_from_slice(&((BRIEF_BYTES + body_bytes) as u32).to_le_bytes());
        header[4] = FrameKind::Brief as u8;
        body[..2].copy_from_slice(&number.to_le_bytes());
        body[2..10].copy_from_slice(&to.0.to_le_bytes());
        body[10..].copy_from_slice(&head.from.serial().0.to_le_bytes());
        out.extend_from_slice(&bytes);
        true
    }

    /// Appends a message whose body goes on a stream of its own.
    ///
    /// # Errors
    /// As [`LaneEncoder::message_head`].
    pub fn message_ticket(
        &mut self,
        head: &MessageHead<'_>,
        ticket: Ticket,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        self.run = None;
        let start = self.begin_message(FrameKind::MessageTicket, head, out)?;
        ticket.put(out);
        frame::finish(out, start, 0);
        Ok(())
    }

    /// Appends a message or an answer whose body goes on a stream of its own.
    ///
    /// # Errors
    /// As [`LaneEncoder::message_head`], and for a signal of another kind, which has no body.
    pub fn ticketed(&mut self, signal: &Signal, ticket: Ticket, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.run = None;
        let Signal { from, to, body } = signal;
        match body {
            SignalBody::Message { payload, reply, deadline_ms, credit, trace } => {
                let (tag, codec, reply) = (payload.tag.as_bytes(), payload.codec, reply.as_ref());
                let (deadline_ms, credit, trace) = (*deadline_ms, *credit, trace.as_deref());
                let head = MessageHead { from, to, tag, codec, reply, deadline_ms, credit, trace };
                self.message_ticket(&head, ticket, out)
            }
            SignalBody::Reply { call, outcome: Ok(payload) } => {
                let to_node = self.number_of(&to.node, End::To, out)?;
                let from_node = self.number_of(from.node(), End::From, out)?;
                let kind = FrameKind::ReplyTicket;
                let start = begin_signal(kind, 0, to_node, from_node, &to.to, from.serial(), out);
                out.extend_from_slice(&call.0.to_le_bytes());
                out.push(payload.codec.to_wire());
                put_short(payload.tag.as_bytes(), out);
                ticket.put(out);
                frame::finish(out, start, 0);
                Ok(())
            }
            body => {
                let detail = "a signal without a body needs no ticket";
                Err(WireError::Unexpected { kind: kind_of(body).0.name(), detail })
            }
        }
    }

    fn begin_message(
        &mut self,
        kind: FrameKind,
        head: &MessageHead<'_>,
        out: &mut Vec<u8>,
    ) -> Result<FrameStart, WireError> {
        let to = self.number_of(&head.to.node, End::To, out)?;
        let from = self.number_of(head.from.node(), End::From, out)?;
        let reply = match head.reply {
            Some(route) => Some((self.number_of(route.to.node(), End::From, out)?, route)),
            None => None,
        };
        let mut flags = 0;
        flags |= if reply.is_some() { HAS_REPLY } else { 0 };
        flags |= if head.deadline_ms.is_some() { HAS_DEADLINE } else { 0 };
        flags |= if head.credit.is_some() { HAS_CREDIT } else { 0 };
        flags |= if head.trace.is_some() { HAS_TRACE } else { 0 };
        let start = begin_signal(kind, flags, to, from, &head.to.to, head.from.serial(), out);
        if let Some((node, route)) = reply {
            out.extend_from_slice(&node.to_le_bytes());
            out.extend_from_slice(&route.to.serial().0.to_le_bytes());
            out.extend_from_slice(&route.call.0.to_le_bytes());
        }
        if let Some(deadline_ms) = head.deadline_ms {
            out.extend_from_slice(&deadline_ms.to_le_bytes());
        }
        if let Some(credit) = head.credit {
            out.extend_from_slice(&credit.0.to_le_bytes());
        }
        if let Some(trace) = head.trace {
            out.extend_from_slice(&trace.to_wire());
        }
        out.push(head.codec.to_wire());
        put_short(head.tag, out);
        Ok(start)
    }

    /// Appends a signal, payload and all.
    ///
    /// # Errors
    /// As [`LaneEncoder::message_head`], and when a request cannot be encoded.
    pub fn signal(&mut self, signal: &Signal, out: &mut Vec<u8>) -> Result<(), WireError> {
        if let SignalBody::Message { payload, reply, deadline_ms, credit, trace } = &signal.body {
            let head = MessageHead {
                from: &signal.from,
                to: &signal.to,
                tag: payload.tag.as_bytes(),
                codec: payload.codec,
                reply: reply.as_ref(),
                deadline_ms: *deadline_ms,
                credit: *credit,
                trace: trace.as_deref(),
            };
            self.message_head(&head, payload.body.len(), out)?;
            out.extend_from_slice(&payload.body);
            return Ok(());
        }
        self.run = None;
        let to = self.number_of(&signal.to.node, End::To, out)?;
        let from = self.number_of(signal.from.node(), End::From, out)?;
        let (kind, flags) = kind_of(&signal.body);
        let start = begin_signal(kind, flags, to, from, &signal.to.to, signal.from.serial(), out);
        match put_body(&signal.body, out) {
            Ok(()) => frame::finish(out, start, 0),
            Err(error) => {
                frame::cancel(out, start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The number of `node` as one of the ends, defining it first where it has none.
    fn number_of(&mut self, node: &NodeId, end: End, out: &mut Vec<u8>) -> Result<u16, WireError> {
        let zero = if end == End::To { &self.peer } else { &self.own };
        if node == zero {
            return Ok(0);
        }
        if let Some(&number) = self.numbers.get(node) {
            return Ok(number);
        }
        let number = u16::try_from(self.numbers.len() + 1).unwrap_or(u16::MAX);
        if usize::from(number) > MAX_INTERNED_NODES {
            return Err(WireError::TooManyNodes { limit: MAX_INTERNED_NODES });
        }
        let start = frame::begin(out, FrameKind::NodeDef, 0);
        out.extend_from_slice(&number.to_le_bytes());
        put_node(node, out);
        frame::finish(out, start, 0);
        self.numbers.insert(node.clone(), number);
        Ok(number)
    }
}

fn begin_signal(
    kind: FrameKind,
    flags: u8,
    to: u16,
    from: u16,
    recipient: &Recipient,
    sender: Serial,
    out: &mut Vec<u8>,
) -> FrameStart {
    let (flags, serial, name) = match recipient {
        Recipient::Serial(serial) => (flags, *serial, None),
        Recipient::Name(name) => (flags | BY_NAME, Serial::NODE, Some(name.as_str())),
        Recipient::ClusterName(name) => (flags | BY_CLUSTER_NAME, Serial::NODE, Some(name.as_str())),
        Recipient::Group(group) => (flags | BY_GROUP, Serial::NODE, Some(group.as_str())),
    };
    let start = frame::begin(out, kind, flags);
    out.extend_from_slice(&to.to_le_bytes());
    out.extend_from_slice(&from.to_le_bytes());
    out.extend_from_slice(&serial.0.to_le_bytes());
    out.extend_from_slice(&sender.0.to_le_bytes());
    if let Some(name) = name {
        put_short(name.as_bytes(), out);
    }
    start
}

fn kind_of(body: &SignalBody) -> (FrameKind, u8) {
    match body {
        SignalBody::Message { .. } => (FrameKind::Message, 0),
        SignalBody::Reply { .. } => (FrameKind::Reply, 0),
        SignalBody::Link => (FrameKind::Link, 0),
        SignalBody::Unlink(_) => (FrameKind::Unlink, 0),
        SignalBody::UnlinkAck(_) => (FrameKind::UnlinkAck, 0),
        SignalBody::Exit { linked, .. } => (FrameKind::Exit, if *linked { LINKED } else { 0 }),
        SignalBody::Monitor(_) => (FrameKind::Monitor, 0),
        SignalBody::Demonitor(_) => (FrameKind::Demonitor, 0),
        SignalBody::Down { .. } => (FrameKind::Down, 0),
        SignalBody::Request { .. } => (FrameKind::Request, 0),
        SignalBody::Response { .. } => (FrameKind::Response, 0),
        SignalBody::NodeUp(_) => (FrameKind::NodeUp, FLAG_SKIPPABLE),
        SignalBody::NodeDown { .. } => (FrameKind::NodeDown, FLAG_SKIPPABLE),
        SignalBody::Refused { .. } => (FrameKind::Refused, FLAG_SKIPPABLE),
        SignalBody::Credit { .. } => (FrameKind::Credit, FLAG_SKIPPABLE),
        SignalBody::Directory(_) => (FrameKind::Directory, 0),
        SignalBody::GroupChange(_) => (FrameKind::GroupChange, FLAG_SKIPPABLE),
        SignalBody::NameConflict { .. } => (FrameKind::NameConflict, FLAG_SKIPPABLE),
    }
}

fn put_body(body: &SignalBody, out: &mut Vec<u8>) -> Result<(), WireError> {
    match body {
        SignalBody::Message { .. } | SignalBody::Link => {}
        SignalBody::Reply { call, outcome } => {
            out.extend_from_slice(&call.0.to_le_bytes());
            put_outcome(outcome, out);
        }
        SignalBody::Unlink(id) | SignalBody::UnlinkAck(id) => out.extend_from_slice(&id.0.to_le_bytes()),
        SignalBody::Exit { reason, .. } => put_reason(reason, out),
        SignalBody::Monitor(monitor) | SignalBody::Demonitor(monitor) => {
            out.extend_from_slice(&monitor.0.to_le_bytes());
        }
        SignalBody::Down { monitor, reason } => {
            out.extend_from_slice(&monitor.0.to_le_bytes());
            put_reason(reason, out);
        }
        SignalBody::Request { call, body } => {
            out.extend_from_slice(&call.0.to_le_bytes());
            codec::append(&**body, out).map_err(|detail| WireError::Body { kind: "Request", detail })?;
        }
        SignalBody::Response { call, body } => {
            out.extend_from_slice(&call.0.to_le_bytes());
            match &**body {
                ResponseBody::Failed(error) => codec::append(&ResponseBody::Failed(error.clone().cut()), out),
                body => codec::append(body, out),
            }
            .map_err(|detail| WireError::Body { kind: "Response", detail })?;
        }
        SignalBody::NodeUp(node) => put_node(node, out),
        SignalBody::NodeDown { node, reason } => {
            put_node(node, out);
            put_long(reason, MAX_REASON_BYTES, out);
        }
        SignalBody::Refused { detail } => put_long(detail, MAX_REASON_BYTES, out),
        SignalBody::Credit { number, change } => {
            out.extend_from_slice(&number.0.to_le_bytes());
            match change {
                CreditChange::More(more) => {
                    out.push(0);
                    out.extend_from_slice(&more.to_le_bytes());
                }
                CreditChange::Unlimited => out.push(1),
                CreditChange::Forget => out.push(2),
            }
        }
        SignalBody::Directory(update) => {
            codec::append(update, out).map_err(|detail| WireError::Body { kind: "Directory", detail })?;
        }
        SignalBody::GroupChange(change) => {
            codec::append(change, out).map_err(|detail| WireError::Body { kind: "GroupChange", detail })?;
        }
        SignalBody::NameConflict { name, holder } => {
            codec::append(&(name, holder), out).map_err(|detail| WireError::Body { kind: "NameConflict", detail })?;
        }
    }
    Ok(())
}

// The outcome's number: 0 is a reply, the others are failures.
fn put_outcome(outcome: &Result<Payload, CallFailure>, out: &mut Vec<u8>) {
    match outcome {
        Ok(payload) => {
            out.push(0);
            out.push(payload.codec.to_wire());
            put_short(payload.tag.as_bytes(), out);
            out.extend_from_slice(&payload.body);
        }
        Err(CallFailure::NoProc) => out.push(1),
        Err(CallFailure::Exited(reason)) => {
            out.push(2);
            put_reason(reason, out);
        }
        Err(CallFailure::Unsupported { tag, detail }) => {
            out.push(3);
            put_short(tag.as_bytes(), out);
            put_long(detail, MAX_REASON_BYTES, out);
        }
        Err(CallFailure::Refused(detail)) => {
            out.push(4);
            put_long(detail, MAX_REASON_BYTES, out);
        }
        Err(CallFailure::NoConnection) => out.push(5),
    }
}

fn put_reason(reason: &ExitReason, out: &mut Vec<u8>) {
    let reason = reason.as_cut();
    let (number, text) = reason.to_wire();
    out.push(number);
    put_long(text, usize::from(u16::MAX), out);
}

/// `bytes` are checked ids of at most 255 bytes. A tag that is part of a program may be longer: it is cut, between two
/// characters, or the receiver would take it for an attack.
fn put_short(bytes: &[u8], out: &mut Vec<u8>) {
    let limit = usize::from(u8::MAX);
    let bytes = match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() > limit => text::cut(text, limit).as_bytes(),
        _ => bytes,
    };
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(length);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

fn put_long(text: &str, limit: usize, out: &mut Vec<u8>) {
    let text = text::cut(text, limit);
    // `limit` is below 2^16 at every caller.
    #[allow(clippy::cast_possible_truncation)]
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_node(node: &NodeId, out: &mut Vec<u8>) {
    out.extend_from_slice(&node.incarnation().0.to_le_bytes());
    put_short(node.name().as_str().as_bytes(), out);
}
