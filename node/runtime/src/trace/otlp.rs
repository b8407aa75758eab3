//! Spans as OpenTelemetry's protocol has them, in protobuf: `ExportTraceServiceRequest` of version 1
//! (<https://github.com/open-telemetry/opentelemetry-proto>, stable). Written by hand: it is one direction of six small messages, whose numbers
//! never change.

use std::time::Duration;

use super::span::Span;

/// What is written, as `field << 3 | wire type` has it.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// Of `Span.flags`: that it is known whether the parent is remote stands in bits 8 and 9, which are not used here.
const FLAGS_MASK: u32 = 0xff;

/// One request with these spans, of a program that is described by `resource`.
pub(super) fn request(resource: &[(&str, &str)], spans: &[Box<Span>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 * (spans.len() + 1));
    message(&mut out, 1, |resource_spans| {
        message(resource_spans, 1, |out| resource.iter().for_each(|(key, value)| attribute(out, 1, key, value)));
        message(resource_spans, 2, |scope_spans| {
            message(scope_spans, 1, |scope| {
                bytes(scope, 1, b"rookery");
                bytes(scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            spans.iter().for_each(|span| message(scope_spans, 2, |out| put_span(out, span)));
        });
    });
    out
}

/// What of a request was not taken (`ExportTracePartialSuccess`).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Rejected {
    /// How many spans.
    pub(super) spans: u64,
    /// Why, or what else there is to say; for people.
    pub(super) reason: String,
}

/// Reads an `ExportTraceServiceResponse`. What makes no sense says nothing.
pub(super) fn rejected(answer: &[u8]) -> Rejected {
    let mut rejected = Rejected::default();
    let Some(Field::Bytes(partial)) = fields(answer).find_map(|(number, field)| (number == 1).then_some(field)) else {
        return rejected;
    };
    for (number, field) in fields(partial) {
        match (number, field) {
            (1, Field::Number(spans)) => rejected.spans = spans,
            (2, Field::Bytes(text)) => rejected.reason = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    rejected
}

/// One field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, up to the first that cannot be read.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        loop {
            let key = take_varint(&mut message)?;
            let field = match u8::try_from(key & 7).ok()? {
                VARINT => Field::Number(take_varint(&mut message)?),
                BYTES => {
                    let length = usize::try_from(take_varint(&mut message)?).ok()?;
                    Field::Bytes(message.split_off(..length)?)
                }
                FIXED64 => {
                    message.split_off(..8)?;
                    continue;
                }
                FIXED32 => {
                    message.split_off(..4)?;
                    continue;
                }
                _ => return None,
            };
            return Some((key >> 3, field));
        }
    })
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_span(out: &mut Vec<u8>, span: &Span) {
    bytes(out, 1, &span.context.trace.0.get().to_be_bytes());
    bytes(out, 2, &span.context.span.0.get().to_be_bytes());
    if let Some(parent) = span.parent {
        bytes(out, 4, &parent.0.get().to_be_bytes());
    }
    bytes(out, 5, span.name.as_bytes());
    key(out, 6, VARINT);
    varint(out, span.kind as u64);
    fixed64(out, 7, nanos(span.start));
    fixed64(out, 8, nanos(span.start.saturating_add(span.took)));
    span.attributes.iter().for_each(|(key, value)| attribute(out, 9, key, value));
    if let Some(error) = &span.error {
        message(out, 15, |status| {
            bytes(status, 2, error.as_bytes());
            key(status, 3, VARINT);
            varint(status, ERROR);
        });
    }
    key(out, 16, FIXED32);
    out.extend_from_slice(&(u32::from(span.context.flags) & FLAGS_MASK).to_le_bytes());
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(out: &mut Vec<u8>, field: u64, name: &str, text: &str) {
    message(out, field, |pair| {
        bytes(pair, 1, name.as_bytes());
        message(pair, 2, |value| bytes(value, 1, text.as_bytes()));
    });
}

fn message(out: &mut Vec<u8>, field: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    bytes(out, field, &inner);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn fixed64(out: &mut Vec<u8>, field: u64, value: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

fn key(out: &mut Vec<u8>, field: u64, wire_type: u8) {
    varint(out, field << 3 | u64::from(wire_type));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // Seven bits at a time.
        #[allow(clippy::cast_possible_truncation)]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_seven_bits_at_a_time() {
        for (value, expected) in [(0, &[0][..]), (1, &[1]), (127, &[0x7f]), (128, &[0x80, 1]), (300, &[0xac, 2])] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
        let mut out = Vec::new();
        varint(&mut out, u64::MAX);
        assert_eq!((out.len(), out.last()), (10, Some(&1)));
    }
}
