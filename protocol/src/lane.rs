//! A lane: signals of some senders to one connection's other end, in order. Encoder and decoder are each other's mirror.
//!
//! Every signal's body begins alike, so that routing decodes nothing else:
//!
//! ```text
//! to node u16 │ from node u16 │ to serial u64 │ from serial u64 │ …what the kind adds
//! ```
//! Node number 0 is the end that the field speaks of: for `to` the receiving node, for `from` the sending one. Other
//! nodes get a number by a `NodeDef` frame earlier on the same lane. A recipient by name has flag [`BY_NAME`] and its
//! name behind the serials. Integers are little endian; texts are `length u8 │ bytes` where at most 255 bytes long, and
//! `length u16 │ bytes` otherwise.

use std::collections::HashMap;

use bytes::{Buf, Bytes};

use crate::{
    codec,
    decoder::FrameDecoder,
    error::WireError,
    exit::ExitReason,
    frame::{self, FLAG_SKIPPABLE, Frame, FrameKind, FrameStart},
    id::{CallId, Incarnation, NodeId, NodeName, Pid, ProcessName, Ref, Serial, UnlinkId},
    limits::{MAX_INTERNED_NODES, MAX_LANES, MAX_REASON_BYTES, MAX_SIGNAL_OVERHEAD_BYTES},
    payload::{Codec, Payload, Tag},
    request::ResponseBody,
    signal::{CallFailure, Destination, Recipient, ReplyRoute, Signal, SignalBody},
    text,
};

/// The recipient is given by name.
pub const BY_NAME: u8 = 0x01;
/// A message: an answer is awaited, and its route stands in the frame.
pub const HAS_REPLY: u8 = 0x02;
/// A message: the time that is left stands in the frame.
pub const HAS_DEADLINE: u8 = 0x04;
/// An exit signal that comes from a link.
pub const LINKED: u8 = 0x02;

/// What stands before a message's payload.
#[derive(Debug, Clone, Copy)]
pub struct MessageHead<'a> {
    /// Who sends.
    pub from: &'a Pid,
    /// To whom.
    pub to: &'a Destination,
    /// The payload's type.
    pub tag: &'a [u8],
    /// The payload's encoding.
    pub codec: Codec,
    /// Where an answer is awaited.
    pub reply: Option<&'a ReplyRoute>,
    /// Milliseconds left to answer.
    pub deadline_ms: Option<u32>,
}

/// The sending end of a lane.
#[derive(Debug)]
pub struct LaneEncoder {
    /// This end: number 0 of `from`.
    own: NodeId,
    /// The other end: number 0 of `to`.
    peer: NodeId,
    /// Numbers of the other nodes; the next one is the table's size + 1.
    numbers: HashMap<NodeId, u16>,
}

impl LaneEncoder {
    /// The sending end of a lane from `own` to `peer`.
    #[must_use]
    pub fn new(own: NodeId, peer: NodeId) -> Self {
        Self { own, peer, numbers: HashMap::new() }
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
        let to = self.number_of(&head.to.node, End::To, out)?;
        let from = self.number_of(head.from.node(), End::From, out)?;
        let reply = match head.reply {
            Some(route) => Some((self.number_of(route.to.node(), End::From, out)?, route)),
            None => None,
        };
        let mut flags = 0;
        flags |= if reply.is_some() { HAS_REPLY } else { 0 };
        flags |= if head.deadline_ms.is_some() { HAS_DEADLINE } else { 0 };
        let start = begin_signal(FrameKind::Message, flags, to, from, &head.to.to, head.from.serial(), out);
        if let Some((node, route)) = reply {
            out.extend_from_slice(&node.to_le_bytes());
            out.extend_from_slice(&route.to.serial().0.to_le_bytes());
            out.extend_from_slice(&route.call.0.to_le_bytes());
        }
        if let Some(deadline_ms) = head.deadline_ms {
            out.extend_from_slice(&deadline_ms.to_le_bytes());
        }
        out.push(head.codec.to_wire());
        put_short(head.tag, out);
        frame::finish(out, start, body_bytes);
        Ok(())
    }

    /// Appends a signal, payload and all.
    ///
    /// # Errors
    /// As [`LaneEncoder::message_head`], and when a request cannot be encoded.
    pub fn signal(&mut self, signal: &Signal, out: &mut Vec<u8>) -> Result<(), WireError> {
        if let SignalBody::Message { payload, reply, deadline_ms } = &signal.body {
            let head = MessageHead {
                from: &signal.from,
                to: &signal.to,
                tag: payload.tag.as_bytes(),
                codec: payload.codec,
                reply: reply.as_ref(),
                deadline_ms: *deadline_ms,
            };
            self.message_head(&head, payload.body.len(), out)?;
            out.extend_from_slice(&payload.body);
            return Ok(());
        }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    To,
    From,
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
        Recipient::Name(name) => (flags | BY_NAME, Serial::NODE, Some(name)),
    };
    let start = frame::begin(out, kind, flags);
    out.extend_from_slice(&to.to_le_bytes());
    out.extend_from_slice(&from.to_le_bytes());
    out.extend_from_slice(&serial.0.to_le_bytes());
    out.extend_from_slice(&sender.0.to_le_bytes());
    if let Some(name) = name {
        put_short(name.as_str().as_bytes(), out);
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

/// The receiving end of a lane.
#[derive(Debug)]
pub struct LaneDecoder {
    frames: FrameDecoder,
    /// This end: number 0 of `to`.
    own: NodeId,
    /// The other end: number 0 of `from`.
    peer: NodeId,
    /// Nodes 1, 2, …
    nodes: Vec<NodeId>,
    /// The lane's number, once it has said it.
    lane: Option<u8>,
    /// The largest payload accepted, in bytes.
    max_message_bytes: usize,
    /// An error ends the lane: it is given again and again.
    failed: Option<WireError>,
}

impl LaneDecoder {
    /// The receiving end of a lane from `peer` to `own`, for messages of at most `max_message_bytes`.
    #[must_use]
    pub fn new(own: NodeId, peer: NodeId, max_message_bytes: usize) -> Self {
        let frames = FrameDecoder::new(max_message_bytes.saturating_add(MAX_SIGNAL_OVERHEAD_BYTES));
        Self { frames, own, peer, nodes: Vec::new(), lane: None, max_message_bytes, failed: None }
    }

    /// Takes the next bytes of the lane's stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_none() {
            self.frames.push(chunk);
        }
    }

    /// The next signal, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// Whatever breaks the protocol; the connection is to be closed with it, and the lane gives nothing else any more.
    pub fn next_signal(&mut self) -> Result<Option<Signal>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = self.advance();
        if let Err(error) = &next {
            self.failed = Some(error.clone());
            // What is held of a broken lane is of no use any more.
            self.frames = FrameDecoder::new(0);
        }
        next
    }

    fn advance(&mut self) -> Result<Option<Signal>, WireError> {
        while let Some(frame) = self.frames.next_frame()? {
            match frame.kind {
                FrameKind::LaneOpen => self.open(&frame)?,
                _ if self.lane.is_none() => {
                    let detail = "a lane begins with LaneOpen";
                    return Err(WireError::Unexpected { kind: frame.kind.name(), detail });
                }
                FrameKind::NodeDef => self.define(&frame)?,
                _ => return self.signal(frame).map(Some),
            }
        }
        Ok(None)
    }

    /// Tells whether the stream may end here.
    ///
    /// # Errors
    /// When it ended within a frame, and the error that broke the lane if one did.
    pub fn finish(&self) -> Result<(), WireError> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.frames.finish(),
        }
    }

    fn open(&mut self, frame: &Frame) -> Result<(), WireError> {
        let mut fields = Fields::new(frame);
        let lane = fields.u8("lane")?;
        fields.end()?;
        if self.lane.is_some() {
            return Err(WireError::Unexpected { kind: "LaneOpen", detail: "the lane is open already" });
        }
        if usize::from(lane) >= MAX_LANES {
            return Err(fields.invalid("lane", format!("{lane}; there are at most {MAX_LANES}")));
        }
        self.lane = Some(lane);
        Ok(())
    }

    fn define(&mut self, frame: &Frame) -> Result<(), WireError> {
        let mut fields = Fields::new(frame);
        let number = fields.u16("number")?;
        let node = fields.node("node")?;
        fields.end()?;
        if self.nodes.len() >= MAX_INTERNED_NODES {
            return Err(WireError::TooManyNodes { limit: MAX_INTERNED_NODES });
        }
        if usize::from(number) != self.nodes.len() + 1 {
            return Err(fields.invalid("number", format!("{number}; the next is {}", self.nodes.len() + 1)));
        }
        self.nodes.push(node);
        Ok(())
    }

    fn node(&self, index: u16, end: End) -> Result<&NodeId, WireError> {
        match index {
            0 if end == End::To => Ok(&self.own),
            0 => Ok(&self.peer),
            _ => self.nodes.get(usize::from(index) - 1).ok_or(WireError::UnknownNode { index }),
        }
    }

    fn signal(&self, frame: Frame) -> Result<Signal, WireError> {
        let mut fields = Fields::new(&frame);
        let unknown = frame.flags & !known_flags(frame.kind);
        if unknown != 0 {
            return Err(fields.invalid("flags", format!("bits {unknown:#04x} mean nothing to this version")));
        }
        let to_node = fields.u16("to node")?;
        let from_node = fields.u16("from node")?;
        let to_serial = Serial(fields.u64("to serial")?);
        let from_serial = Serial(fields.u64("from serial")?);
        let to = if frame.flags & BY_NAME != 0 {
            let name = fields.short_text("name", |text| ProcessName::new(text))?;
            Recipient::Name(name.map_err(|error| fields.invalid("name", error.to_string()))?)
        } else {
            Recipient::Serial(to_serial)
        };
        let to = Destination { node: self.node(to_node, End::To)?.clone(), to };
        let from = Pid::new(self.node(from_node, End::From)?.clone(), from_serial);
        let body = self.body(&frame, &mut fields)?;
        fields.end()?;
        Ok(Signal { from, to, body })
    }

    fn body(&self, frame: &Frame, fields: &mut Fields) -> Result<SignalBody, WireError> {
        Ok(match frame.kind {
            FrameKind::Message => {
                let reply = if frame.flags & HAS_REPLY != 0 {
                    let node = self.node(fields.u16("reply node")?, End::From)?.clone();
                    let serial = Serial(fields.u64("reply serial")?);
                    Some(ReplyRoute { to: Pid::new(node, serial), call: CallId(fields.u64("call")?) })
                } else {
                    None
                };
                let deadline_ms = if frame.flags & HAS_DEADLINE != 0 { Some(fields.u32("deadline")?) } else { None };
                SignalBody::Message { payload: fields.payload(self.max_message_bytes)?, reply, deadline_ms }
            }
            FrameKind::Reply => {
                let call = CallId(fields.u64("call")?);
                SignalBody::Reply { call, outcome: fields.outcome(self.max_message_bytes)? }
            }
            FrameKind::Link => SignalBody::Link,
            FrameKind::Unlink => SignalBody::Unlink(UnlinkId(fields.u64("unlink id")?)),
            FrameKind::UnlinkAck => SignalBody::UnlinkAck(UnlinkId(fields.u64("unlink id")?)),
            FrameKind::Exit => SignalBody::Exit { reason: fields.reason()?, linked: frame.flags & LINKED != 0 },
            FrameKind::Monitor => SignalBody::Monitor(Ref(fields.u64("ref")?)),
            FrameKind::Demonitor => SignalBody::Demonitor(Ref(fields.u64("ref")?)),
            FrameKind::Down => SignalBody::Down { monitor: Ref(fields.u64("ref")?), reason: fields.reason()? },
            FrameKind::Request => {
                SignalBody::Request { call: CallId(fields.u64("call")?), body: Box::new(fields.bincode()?) }
            }
            FrameKind::Response => {
                SignalBody::Response { call: CallId(fields.u64("call")?), body: Box::new(fields.bincode()?) }
            }
            FrameKind::NodeUp => SignalBody::NodeUp(fields.node("node")?),
            FrameKind::NodeDown => {
                SignalBody::NodeDown { node: fields.node("node")?, reason: fields.long_text("reason")? }
            }
            FrameKind::Refused => SignalBody::Refused { detail: fields.long_text("detail")? },
            kind => return Err(WireError::Misplaced { kind: kind.name(), stream: "lane" }),
        })
    }
}

/// The flags that a signal of this kind may have. Any other may announce a field that this version does not know, so
/// what follows could not be read rightly.
fn known_flags(kind: FrameKind) -> u8 {
    let own = match kind {
        FrameKind::Message => HAS_REPLY | HAS_DEADLINE,
        FrameKind::Exit => LINKED,
        _ => 0,
    };
    own | BY_NAME | FLAG_SKIPPABLE
}

/// Reads a frame's body field by field; every read is checked.
struct Fields {
    kind: &'static str,
    rest: Bytes,
}

impl Fields {
    fn new(frame: &Frame) -> Self {
        Self { kind: frame.kind.name(), rest: frame.body.clone() }
    }

    fn need(&self, bytes: usize, field: &'static str) -> Result<(), WireError> {
        if self.rest.len() < bytes { Err(WireError::Truncated { kind: self.kind, field }) } else { Ok(()) }
    }

    fn invalid(&self, field: &'static str, detail: String) -> WireError {
        WireError::Invalid { kind: self.kind, field, detail }
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.need(1, field)?;
        Ok(self.rest.get_u8())
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.need(2, field)?;
        Ok(self.rest.get_u16_le())
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.need(4, field)?;
        Ok(self.rest.get_u32_le())
    }

    fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.need(8, field)?;
        Ok(self.rest.get_u64_le())
    }

    fn bytes(&mut self, length: usize, field: &'static str) -> Result<Bytes, WireError> {
        self.need(length, field)?;
        Ok(self.rest.split_to(length))
    }

    fn short_text<T>(&mut self, field: &'static str, make: impl FnOnce(&str) -> T) -> Result<T, WireError> {
        let length = self.u8(field)?;
        self.text(usize::from(length), field, make)
    }

    /// A text for people. A sender that does not keep to the limit gets its text cut.
    fn long_text(&mut self, field: &'static str) -> Result<String, WireError> {
        let length = self.u16(field)?;
        self.text(usize::from(length), field, |text| text::cut(text, MAX_REASON_BYTES).to_owned())
    }

    /// Hands on the text as it lies in the frame, so that only what is kept of it is copied.
    fn text<T>(&mut self, length: usize, field: &'static str, make: impl FnOnce(&str) -> T) -> Result<T, WireError> {
        let bytes = self.bytes(length, field)?;
        std::str::from_utf8(&bytes).map(make).map_err(|error| self.invalid(field, error.to_string()))
    }

    fn tag(&mut self) -> Result<Tag, WireError> {
        let length = self.u8("tag")?;
        let bytes = self.bytes(usize::from(length), "tag")?;
        Tag::new(bytes).map_err(|error| self.invalid("tag", error.to_string()))
    }

    fn node(&mut self, field: &'static str) -> Result<NodeId, WireError> {
        let incarnation = Incarnation(self.u64(field)?);
        let name = self.short_text(field, |text| NodeName::new(text))?;
        Ok(NodeId::new(name.map_err(|error| self.invalid(field, error.to_string()))?, incarnation))
    }

    fn reason(&mut self) -> Result<ExitReason, WireError> {
        let number = self.u8("reason")?;
        let length = self.u16("reason")?;
        self.text(usize::from(length), "reason", |text| ExitReason::from_wire(number, text))
    }

    fn payload(&mut self, max_bytes: usize) -> Result<Payload, WireError> {
        let number = self.u8("codec")?;
        let codec = Codec::from_wire(number).ok_or_else(|| self.invalid("codec", number.to_string()))?;
        let tag = self.tag()?;
        if self.rest.len() > max_bytes {
            return Err(self.invalid("payload", format!("{} bytes; at most {max_bytes} are taken", self.rest.len())));
        }
        Ok(Payload { tag, codec, body: std::mem::take(&mut self.rest) })
    }

    fn outcome(&mut self, max_bytes: usize) -> Result<Result<Payload, CallFailure>, WireError> {
        Ok(Err(match self.u8("outcome")? {
            0 => return Ok(Ok(self.payload(max_bytes)?)),
            1 => CallFailure::NoProc,
            2 => CallFailure::Exited(self.reason()?),
            3 => CallFailure::Unsupported { tag: self.tag()?, detail: self.long_text("detail")? },
            4 => CallFailure::Refused(self.long_text("detail")?),
            5 => CallFailure::NoConnection,
            other => return Err(self.invalid("outcome", other.to_string())),
        }))
    }

    fn bincode<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let bytes = std::mem::take(&mut self.rest);
        codec::decode_payload(&bytes).map_err(|detail| WireError::Body { kind: self.kind, detail })
    }

    fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { kind: self.kind, extra }),
        }
    }
}
