//! Types of messages by number. The name of a type is longer than many a message; where both ends have
//! [`Features::TYPES`](crate::handshake::Features::TYPES), a lane tells it once.

use std::collections::HashMap;

use crate::{
    error::WireError,
    frame::{self, FrameKind},
    lane::fields::Fields,
    limits::{MAX_INTERNED_TYPES, MAX_TAG_BYTES},
    payload::{Codec, Tag},
};

/// The sending end's numbers, from 0 on.
#[derive(Debug, Default)]
pub(super) struct TypeNumbers {
    numbers: HashMap<(Codec, Box<[u8]>), u16>,
    /// The last one that was asked for: most senders send many of a type in a row.
    last: Option<(Codec, Box<[u8]>, u16)>,
}

impl TypeNumbers {
    /// The number of a type, which is told first where it is new. None if there are too many, or its name is too long: then
    /// the message has to name it.
    pub(super) fn of(&mut self, codec: Codec, tag: &[u8], out: &mut Vec<u8>) -> Option<u16> {
        if let Some((last_codec, last_tag, number)) = &self.last
            && *last_codec == codec
            && **last_tag == *tag
        {
            return Some(*number);
        }
        let key = (codec, Box::from(tag));
        let number = match self.numbers.get(&key) {
            Some(&number) => number,
            None if self.numbers.len() >= MAX_INTERNED_TYPES || tag.len() > MAX_TAG_BYTES => return None,
            None => {
                let number = u16::try_from(self.numbers.len()).ok()?;
                define(number, codec, tag, out);
                self.numbers.insert(key.clone(), number);
                number
            }
        };
        self.last = Some((key.0, key.1, number));
        Some(number)
    }
}

fn define(number: u16, codec: Codec, tag: &[u8], out: &mut Vec<u8>) {
    let start = frame::begin(out, FrameKind::TypeDef, 0);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(codec.to_wire());
    // Its length was looked at.
    out.push(u8::try_from(tag.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(tag);
    frame::finish(out, start, 0);
}

/// The receiving end's types.
#[derive(Debug, Default)]
pub(super) struct Types(Vec<(Codec, Tag)>);

impl Types {
    /// Takes the body of a `TypeDef`.
    pub(super) fn define(&mut self, mut fields: Fields) -> Result<(), WireError> {
        let number = fields.u16("number")?;
        let (codec, tag) = fields.codec_and_tag()?;
        fields.end()?;
        if self.0.len() >= MAX_INTERNED_TYPES {
            return Err(fields.invalid("number", format!("{number}; there are at most {MAX_INTERNED_TYPES}")));
        }
        if usize::from(number) != self.0.len() {
            return Err(fields.invalid("number", format!("{number}; the next is {}", self.0.len())));
        }
        // A copy: a slice would keep all that has arrived with it.
        self.0.push((codec, tag.copied()));
        Ok(())
    }

    pub(super) fn get(&self, number: u16) -> Option<&(Codec, Tag)> {
        self.0.get(usize::from(number))
    }
}
