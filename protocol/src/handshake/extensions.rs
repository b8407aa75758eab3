//! What a [`Hello`] says beyond its fields, by name. What is not known, or not as it should be, is as if it were not there.

use std::time::Duration;

use super::Hello;
use crate::id::SessionId;

/// In a [`Hello`] of a node that wants the connection to take the place of the one that both have, as after a
/// certificate was renewed. Once agreed, each end ends its lanes on the old one, and goes on with new lanes on the new one; it reads
/// those only when all of the other's on the old one have ended. So nothing is lost, and order is kept.
pub const RENEW: &str = "renew";

/// The same of a client: its session goes on over this connection. Four bytes are the session's number, little endian, and the rest
/// [`proves`](RenewedSession::proof) it.
pub const RENEW_SESSION: &str = "renew-session";

/// The label of the keying material that proves who has a session (RFC 8446, 7.5); its context is empty.
pub const SESSION_PROOF_LABEL: &[u8] = b"EXPORTER-rookery-session";

/// By which a dialler says after how much silence it takes the connection for lost: milliseconds, 4 bytes, little
/// endian. QUIC agrees on the smaller of both ends', but tells nobody.
const IDLE_TIMEOUT_MS: &str = "idle-timeout-ms";

/// A session that is to go on over another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedSession {
    /// Which.
    pub session: SessionId,
    /// Keying material of the TLS connection that it has so far, exported with [`SESSION_PROOF_LABEL`]: its two ends alone know it, so
    /// nobody else takes a session over, whatever certificate he has.
    pub proof: [u8; 32],
}

impl Hello {
    /// Says after how much silence the connection is taken for lost.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle_timeout: Duration) -> Self {
        let milliseconds = u32::try_from(idle_timeout.as_millis()).unwrap_or(u32::MAX);
        self.extensions.push((IDLE_TIMEOUT_MS.to_owned(), milliseconds.to_le_bytes().to_vec()));
        self
    }

    /// Says which session goes on.
    #[must_use]
    pub fn with_session(mut self, renewed: &RenewedSession) -> Self {
        let bytes = [&renewed.session.get().to_le_bytes()[..], &renewed.proof].concat();
        self.extensions.push((RENEW_SESSION.to_owned(), bytes));
        self
    }

    fn extension(&self, wanted: &str) -> Option<&[u8]> {
        self.extensions.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice())
    }

    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        let milliseconds = u32::from_le_bytes(self.extension(IDLE_TIMEOUT_MS)?.try_into().ok()?);
        Some(Duration::from_millis(milliseconds.into()))
    }

    pub(super) fn renews(&self) -> bool {
        self.extension(RENEW).is_some()
    }

    pub(super) fn renewed_session(&self) -> Option<RenewedSession> {
        let (session, proof) = self.extension(RENEW_SESSION)?.split_first_chunk::<4>()?;
        let session = SessionId::new(u32::from_le_bytes(*session))?;
        Some(RenewedSession { session, proof: proof.try_into().ok()? })
    }
}
