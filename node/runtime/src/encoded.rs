//! A message as it has been encoded: bytes, and between them large pieces of it that were not copied.

use std::io;

use bytes::Bytes;

use crate::message;

/// A piece of a message from this size on is not copied when it is a [`Blob`](crate::Blob).
pub(crate) const VIEWED_BYTES: usize = 64 * 1024;

/// See the module. A thread uses one again and again.
#[derive(Debug, Default)]
pub struct Encoded {
    /// All but the views.
    bytes: Vec<u8>,
    /// Pieces, each with where in `bytes` it belongs, in order.
    views: Vec<(usize, Bytes)>,
}

impl Encoded {
    pub(crate) const fn new() -> Self {
        Self { bytes: Vec::new(), views: Vec::new() }
    }

    /// Its length with all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.views.iter().map(|(_, view)| view.len()).sum::<usize>()
    }

    /// Whether it has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.views.clear();
    }

    /// What memory it keeps.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// All of it in one piece, which costs a copy if there are views.
    pub fn whole(&mut self) -> &[u8] {
        if !self.views.is_empty() {
            let mut whole = Vec::with_capacity(self.len());
            self.take_parts().iter().for_each(|part| whole.extend_from_slice(part));
            self.bytes = whole;
        }
        &self.bytes
    }

    /// As [`whole`](Self::whole), taken.
    pub(crate) fn take_whole(&mut self) -> Bytes {
        self.whole();
        Bytes::from(std::mem::take(&mut self.bytes))
    }

    /// Its pieces in order, taken; nothing is copied.
    pub(crate) fn take_parts(&mut self) -> Vec<Bytes> {
        let mut rest = Bytes::from(std::mem::take(&mut self.bytes));
        let mut taken = 0;
        let mut parts = Vec::with_capacity(self.views.len() * 2 + 1);
        for (at, view) in self.views.drain(..) {
            parts.push(rest.split_to(at - taken));
            parts.push(view);
            taken = at;
        }
        parts.push(rest);
        parts.retain(|part| !part.is_empty());
        parts
    }
}

impl io::Write for Encoded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.write_all(piece)?;
        Ok(piece.len())
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        match piece.len() >= VIEWED_BYTES {
            true => match message::lent(piece) {
                Some(view) => self.views.push((self.bytes.len(), view)),
                None => self.bytes.extend_from_slice(piece),
            },
            false => self.bytes.extend_from_slice(piece),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
