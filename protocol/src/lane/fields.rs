//! Reading a frame's body field by field. Every read is checked: a length is compared with what is there, a text with
//! what its id accepts, and what is wrong names the frame and the field.

use bytes::{Buf, Bytes};

use crate::{
    codec,
    error::{ParseIdError, WireError},
    exit::ExitReason,
    frame::Frame,
    id::{Incarnation, NodeId, NodeName},
    lane::{Ticket, TicketNumber},
    limits::MAX_REASON_BYTES,
    payload::{Codec, Payload, Tag},
    signal::CallFailure,
    text,
    trace::TraceContext,
};

/// Reads a frame's body field by field; every read is checked.
pub(super) struct Fields {
    kind: &'static str,
    rest: Bytes,
}

impl Fields {
    pub(super) fn new(frame: Frame) -> Self {
        Self { kind: frame.kind.name(), rest: frame.body }
    }

    fn need(&self, bytes: usize, field: &'static str) -> Result<(), WireError> {
        if self.rest.len() < bytes { Err(self.truncated(field)) } else { Ok(()) }
    }

    pub(super) fn invalid(&self, field: &'static str, detail: String) -> WireError {
        WireError::Invalid { kind: self.kind, field, detail }
    }

    pub(super) fn truncated(&self, field: &'static str) -> WireError {
        WireError::Truncated { kind: self.kind, field }
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.need(1, field)?;
        Ok(self.rest.get_u8())
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.need(2, field)?;
        Ok(self.rest.get_u16_le())
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.need(4, field)?;
        Ok(self.rest.get_u32_le())
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.need(8, field)?;
        Ok(self.rest.get_u64_le())
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        self.need(N, field)?;
        let mut array = [0; N];
        self.rest.copy_to_slice(&mut array);
        Ok(array)
    }

    fn bytes(&mut self, length: usize, field: &'static str) -> Result<Bytes, WireError> {
        self.need(length, field)?;
        Ok(self.rest.split_to(length))
    }

    pub(super) fn short_text<T>(&mut self, field: &'static str, make: impl FnOnce(&str) -> T) -> Result<T, WireError> {
        let length = self.u8(field)?;
        self.text(usize::from(length), field, make)
    }

    /// A short text that is an id.
    pub(super) fn checked<T>(
        &mut self,
        field: &'static str,
        make: impl FnOnce(&str) -> Result<T, ParseIdError>,
    ) -> Result<T, WireError> {
        self.short_text(field, make)?.map_err(|error| self.invalid(field, error.to_string()))
    }

    /// A text for people. A sender that does not keep to the limit gets its text cut.
    pub(super) fn long_text(&mut self, field: &'static str) -> Result<String, WireError> {
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

    pub(super) fn node(&mut self, field: &'static str) -> Result<NodeId, WireError> {
        let incarnation = Incarnation(self.u64(field)?);
        Ok(NodeId::new(self.checked(field, |text| NodeName::new(text))?, incarnation))
    }

    pub(super) fn reason(&mut self) -> Result<ExitReason, WireError> {
        let number = self.u8("reason")?;
        let length = self.u16("reason")?;
        self.text(usize::from(length), "reason", |text| ExitReason::from_wire(number, text))
    }

    pub(super) fn codec_and_tag(&mut self) -> Result<(Codec, Tag), WireError> {
        let number = self.u8("codec")?;
        let codec = Codec::from_wire(number).ok_or_else(|| self.invalid("codec", number.to_string()))?;
        Ok((codec, self.tag()?))
    }

    /// A payload whose body is on its way on another stream.
    pub(super) fn ticketed_payload(&mut self, max_bytes: usize) -> Result<(Payload, Ticket), WireError> {
        let (codec, tag) = self.codec_and_tag()?;
        let number = TicketNumber(self.u64("ticket")?);
        let body_bytes = self.u32("body length")? as usize;
        if body_bytes > max_bytes {
            return Err(self.invalid("body length", format!("{body_bytes} bytes; at most {max_bytes} are taken")));
        }
        Ok((Payload { tag, codec, body: Bytes::new() }, Ticket { number, body_bytes }))
    }

    pub(super) fn payload(&mut self, max_bytes: usize) -> Result<Payload, WireError> {
        let (codec, tag) = self.codec_and_tag()?;
        self.payload_of(codec, tag, max_bytes)
    }

    /// A payload whose type is known: all the rest.
    pub(super) fn payload_of(&mut self, codec: Codec, tag: Tag, max_bytes: usize) -> Result<Payload, WireError> {
        if self.rest.len() > max_bytes {
            return Err(self.invalid("payload", format!("{} bytes; at most {max_bytes} are taken", self.rest.len())));
        }
        Ok(Payload { tag, codec, body: std::mem::take(&mut self.rest) })
    }

    pub(super) fn outcome(&mut self, max_bytes: usize) -> Result<Result<Payload, CallFailure>, WireError> {
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

    pub(super) fn bincode<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let bytes = std::mem::take(&mut self.rest);
        codec::decode_payload(&bytes).map_err(|detail| WireError::Body { kind: self.kind, detail })
    }

    pub(super) fn trace(&mut self) -> Result<TraceContext, WireError> {
        let (trace, span) = (self.array("trace")?, self.array("span")?);
        let flags = self.u8("trace flags")?;
        TraceContext::from_wire(trace, span, flags).ok_or_else(|| self.invalid("trace", "an id is zero".to_owned()))
    }

    pub(super) fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { kind: self.kind, extra }),
        }
    }
}
