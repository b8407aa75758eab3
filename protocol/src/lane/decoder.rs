//! The receiving end of a lane: bytes as they arrive become signals. Whatever breaks the protocol ends the lane, and is
//! given again and again from then on.

use bytes::Bytes;

use crate::{
    credit::{CreditChange, CreditNumber},
    decoder::FrameDecoder,
    error::WireError,
    frame::{FLAG_SKIPPABLE, Frame, FrameKind},
    group::Group,
    id::{CallId, NodeId, Pid, ProcessName, Ref, Serial, UnlinkId},
    lane::{
        BY_CLUSTER_NAME, BY_GROUP, BY_NAME, End, HAS_CREDIT, HAS_DEADLINE, HAS_REPLY, HAS_TRACE, LINKED, PlainMessage,
        Ticket, fields::Fields, run::Run, types::Types,
    },
    limits::{MAX_INTERNED_NODES, MAX_LANES, MAX_SIGNAL_OVERHEAD_BYTES},
    payload::Payload,
    signal::{Destination, Recipient, ReplyRoute, Signal, SignalBody},
    trace::TraceContext,
};

/// What arrives on a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// A signal as it is.
    Signal(Signal),
    /// A message that may be delivered from where it lies, and is a signal as well ([`LaneDecoder::signal_of`]).
    Plain(PlainMessage),
    /// Several of them. What its receiver does not take is put back ([`LaneDecoder::put_back`]), and comes one by one.
    Run(Run),
    /// A signal whose payload's body, empty here, comes on a stream of its own.
    Ticketed(Signal, Ticket),
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
    types: Types,
    /// What is left of a run that comes one by one.
    rest: Option<Run>,
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
        Self {
            frames,
            own,
            peer,
            nodes: Vec::new(),
            types: Types::default(),
            rest: None,
            lane: None,
            max_message_bytes,
            failed: None,
        }
    }

    /// Takes the next bytes of the lane's stream.
    pub fn push(&mut self, chunk: Bytes) {
        if self.failed.is_none() {
            self.frames.push(chunk);
        }
    }

    /// The next that has arrived, or `None` until more bytes have.
    ///
    /// # Errors
    /// Whatever breaks the protocol; the connection is to be closed with it, and the lane gives nothing else any more.
    pub fn next_arrival(&mut self) -> Result<Option<Arrival>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Some(run) = &mut self.rest {
            match run.next_message() {
                Some(message) => return Ok(Some(Arrival::Plain(message))),
                None => self.rest = None,
            }
        }
        let next = self.advance();
        if let Err(error) = &next {
            self.fail(error);
        }
        next
    }

    /// What is left of a run that has just arrived: it comes next, each message for itself.
    pub fn put_back(&mut self, run: Run) {
        self.rest = Some(run);
    }

    /// As [`next_arrival`](Self::next_arrival), on a connection whose ends have not agreed on bulk streams: a ticket breaks
    /// the protocol there.
    ///
    /// # Errors
    /// As there.
    pub fn next_signal(&mut self) -> Result<Option<Signal>, WireError> {
        loop {
            match self.next_arrival()? {
                None => return Ok(None),
                Some(Arrival::Signal(signal)) => return Ok(Some(signal)),
                Some(Arrival::Plain(message)) => return self.signal_of(message).map(Some),
                Some(Arrival::Run(run)) => self.put_back(run),
                Some(Arrival::Ticketed(..)) => {
                    let error = WireError::Unexpected { kind: "ticket", detail: "bulk streams were not agreed on" };
                    self.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    /// A message of this lane as the signal that it is.
    ///
    /// # Errors
    /// As [`next_arrival`](Self::next_arrival): what nobody had to look at so far breaks the protocol.
    pub fn signal_of(&mut self, message: PlainMessage) -> Result<Signal, WireError> {
        if let Some(payload) = message.payload_in_run() {
            return Ok(self.brief_signal(message.to(), message.from(), payload));
        }
        let decoded = self.signal(message.into_frame());
        if let Err(error) = &decoded {
            self.fail(error);
        }
        decoded.map(|(signal, _)| signal)
    }

    fn fail(&mut self, error: &WireError) {
        self.failed = Some(error.clone());
        // What is held of a broken lane is of no use any more.
        self.frames = FrameDecoder::new(0);
        self.rest = None;
    }

    fn advance(&mut self) -> Result<Option<Arrival>, WireError> {
        while let Some(frame) = self.frames.next_frame()? {
            match frame.kind {
                FrameKind::LaneOpen => self.open(frame)?,
                _ if self.lane.is_none() => {
                    let detail = "a lane begins with LaneOpen";
                    return Err(WireError::Unexpected { kind: frame.kind.name(), detail });
                }
                FrameKind::NodeDef => self.define(frame)?,
                FrameKind::TypeDef => self.types.define(Fields::new(frame))?,
                FrameKind::Run => {
                    return Ok(Some(Arrival::Run(Run::of(frame, &self.types, self.max_message_bytes)?)));
                }
                _ => {
                    let frame = match PlainMessage::of(frame, &self.types, self.max_message_bytes) {
                        Ok(message) => return Ok(Some(Arrival::Plain(message))),
                        Err(frame) => frame,
                    };
                    return Ok(Some(match self.signal(frame)? {
                        (signal, Some(ticket)) => Arrival::Ticketed(signal, ticket),
                        (signal, None) => Arrival::Signal(signal),
                    }));
                }
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

    fn open(&mut self, frame: Frame) -> Result<(), WireError> {
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

    fn define(&mut self, frame: Frame) -> Result<(), WireError> {
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

    fn signal(&self, frame: Frame) -> Result<(Signal, Option<Ticket>), WireError> {
        let (kind, flags) = (frame.kind, frame.flags);
        let mut fields = Fields::new(frame);
        let unknown = flags & !known_flags(kind);
        if unknown != 0 {
            return Err(fields.invalid("flags", format!("bits {unknown:#04x} mean nothing to this version")));
        }
        if kind == FrameKind::Brief {
            return Ok((self.brief(&mut fields)?, None));
        }
        let to_node = fields.u16("to node")?;
        let from_node = fields.u16("from node")?;
        let to_serial = Serial(fields.u64("to serial")?);
        let from_serial = Serial(fields.u64("from serial")?);
        let to = match flags & (BY_NAME | BY_CLUSTER_NAME | BY_GROUP) {
            0 => Recipient::Serial(to_serial),
            BY_NAME => Recipient::Name(fields.checked("name", |text| ProcessName::new(text))?),
            BY_CLUSTER_NAME => Recipient::ClusterName(fields.checked("name", |text| ProcessName::new(text))?),
            BY_GROUP => Recipient::Group(fields.checked("group", |text| Group::new(text))?),
            several => return Err(fields.invalid("flags", format!("bits {several:#04x} exclude each other"))),
        };
        let to = Destination { node: self.node(to_node, End::To)?.clone(), to };
        let from = Pid::new(self.node(from_node, End::From)?.clone(), from_serial);
        let (body, ticket) = match kind {
            FrameKind::MessageTicket => {
                let head = self.message_head(flags, &mut fields)?;
                let (payload, ticket) = fields.ticketed_payload(self.max_message_bytes)?;
                (head.before(payload), Some(ticket))
            }
            FrameKind::ReplyTicket => {
                let call = CallId(fields.u64("call")?);
                let (payload, ticket) = fields.ticketed_payload(self.max_message_bytes)?;
                (SignalBody::Reply { call, outcome: Ok(payload) }, Some(ticket))
            }
            _ => (self.body(kind, flags, &mut fields)?, None),
        };
        fields.end()?;
        Ok((Signal { from, to, body }, ticket))
    }

    fn brief(&self, fields: &mut Fields) -> Result<Signal, WireError> {
        let number = fields.u16("type")?;
        let (to, from) = (Serial(fields.u64("to serial")?), Serial(fields.u64("from serial")?));
        let Some((codec, tag)) = self.types.get(number) else {
            return Err(fields.invalid("type", format!("{number} was not defined on this lane")));
        };
        Ok(self.brief_signal(to, from, fields.payload_of(*codec, tag.clone(), self.max_message_bytes)?))
    }

    fn brief_signal(&self, to: Serial, from: Serial, payload: Payload) -> Signal {
        Signal {
            from: Pid::new(self.peer.clone(), from),
            to: Destination { node: self.own.clone(), to: Recipient::Serial(to) },
            body: SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace: None },
        }
    }

    /// What stands before a message's payload.
    fn message_head(&self, flags: u8, fields: &mut Fields) -> Result<Head, WireError> {
        let reply = if flags & HAS_REPLY != 0 {
            let node = self.node(fields.u16("reply node")?, End::From)?.clone();
            let serial = Serial(fields.u64("reply serial")?);
            Some(ReplyRoute { to: Pid::new(node, serial), call: CallId(fields.u64("call")?) })
        } else {
            None
        };
        let deadline_ms = if flags & HAS_DEADLINE != 0 { Some(fields.u32("deadline")?) } else { None };
        let credit = if flags & HAS_CREDIT != 0 { Some(CreditNumber(fields.u32("credit")?)) } else { None };
        let trace = if flags & HAS_TRACE != 0 { Some(Box::new(fields.trace()?)) } else { None };
        Ok(Head { reply, deadline_ms, credit, trace })
    }

    fn body(&self, kind: FrameKind, flags: u8, fields: &mut Fields) -> Result<SignalBody, WireError> {
        Ok(match kind {
            FrameKind::Message => {
                let head = self.message_head(flags, fields)?;
                head.before(fields.payload(self.max_message_bytes)?)
            }
            FrameKind::Reply => {
                let call = CallId(fields.u64("call")?);
                SignalBody::Reply { call, outcome: fields.outcome(self.max_message_bytes)? }
            }
            FrameKind::Link => SignalBody::Link,
            FrameKind::Unlink => SignalBody::Unlink(UnlinkId(fields.u64("unlink id")?)),
            FrameKind::UnlinkAck => SignalBody::UnlinkAck(UnlinkId(fields.u64("unlink id")?)),
            FrameKind::Exit => SignalBody::Exit { reason: fields.reason()?, linked: flags & LINKED != 0 },
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
            FrameKind::Credit => {
                let number = CreditNumber(fields.u32("credit")?);
                let change = match fields.u8("change")? {
                    0 => CreditChange::More(fields.u32("more")?),
                    1 => CreditChange::Unlimited,
                    2 => CreditChange::Forget,
                    other => return Err(fields.invalid("change", other.to_string())),
                };
                SignalBody::Credit { number, change }
            }
            FrameKind::Directory => SignalBody::Directory(fields.bincode()?),
            FrameKind::GroupChange => SignalBody::GroupChange(fields.bincode()?),
            FrameKind::NameConflict => {
                let (name, holder) = fields.bincode()?;
                SignalBody::NameConflict { name, holder }
            }
            FrameKind::Refused => SignalBody::Refused { detail: fields.long_text("detail")? },
            kind => return Err(WireError::Misplaced { kind: kind.name(), stream: "lane" }),
        })
    }
}

/// A message without its payload.
struct Head {
    reply: Option<ReplyRoute>,
    deadline_ms: Option<u32>,
    credit: Option<CreditNumber>,
    trace: Option<Box<TraceContext>>,
}

impl Head {
    fn before(self, payload: Payload) -> SignalBody {
        let Self { reply, deadline_ms, credit, trace } = self;
        SignalBody::Message { payload, reply, deadline_ms, credit, trace }
    }
}

/// The flags that a signal of this kind may have. Any other may announce a field that this version does not know, so
/// what follows could not be read rightly.
fn known_flags(kind: FrameKind) -> u8 {
    let own = match kind {
        FrameKind::Message | FrameKind::MessageTicket => HAS_REPLY | HAS_DEADLINE | HAS_CREDIT | HAS_TRACE | BY_GROUP,
        FrameKind::Exit => LINKED,
        FrameKind::Brief => return FLAG_SKIPPABLE,
        _ => 0,
    };
    own | BY_NAME | BY_CLUSTER_NAME | FLAG_SKIPPABLE
}
