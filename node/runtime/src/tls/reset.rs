//! What a node's QUIC endpoint keeps across restarts, so that a process that comes up at the address of its former life
//! answers that life's connections with a stateless reset (RFC 9000, section 10.3), and its peers notice at once.
//!
//! A reset is believed for its token, which is a hash of the connection's id under a key. That key must be the same in the
//! next life and known to nobody else, so it is derived from the node's private key (RFC 5869). With another private key a
//! reset is not understood, and the peers notice by other means.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig,
    crypto::{CryptoError, HmacKey},
};
use rustls::crypto::{
    CryptoProvider,
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    tls13::{Hkdf, OkmBlock},
};

/// What the key is for: the same private key gives another one for another end.
const PURPOSE: &[u8] = b"rookery/1 stateless reset";

/// SHA-256's.
const SIGNATURE_BYTES: usize = 32;

/// QUIC's ids for our connections: random, and as long as quinn's own.
const CONNECTION_ID_BYTES: usize = 8;

/// The key of the tokens; an HMAC with SHA-256.
#[derive(Clone)]
pub(super) struct ResetKey(Arc<(&'static dyn Hkdf, OkmBlock)>);

impl ResetKey {
    /// From a private key's bytes. None if the library had no SHA-256.
    pub(super) fn derive(private_key: &[u8]) -> Option<Self> {
        let hkdf = TLS13_AES_128_GCM_SHA256.tls13()?.hkdf_provider;
        let key = hkdf.extract_from_secret(None, private_key).expand_block(&[PURPOSE]);
        Some(Self(Arc::new((hkdf, key))))
    }

    /// An endpoint that uses it.
    pub(super) fn endpoint(&self, provider: Arc<CryptoProvider>) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(self.clone()));
        // quinn's own generator would take the former life's ids for noise.
        config.cid_generator(move || Box::new(ConnectionIds(provider.clone())));
        config
    }

    fn tag(&self, data: &[u8]) -> rustls::crypto::hmac::Tag {
        let (hkdf, key) = &*self.0;
        hkdf.hmac_sign(key, data)
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let tag = self.tag(data);
        for (out, byte) in signature_out.iter_mut().zip(tag.as_ref()) {
            *out = *byte;
        }
    }

    fn signature_len(&self) -> usize {
        SIGNATURE_BYTES
    }

    /// QUIC never asks for it: a token is compared by who got it, with what it was told when the connection was made.
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.tag(data).as_ref() == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// Gives connections their ids, and takes any for one that a former life may have given.
struct ConnectionIds(Arc<CryptoProvider>);

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        // Should the system have no randomness for us, they still differ.
        let mut id: [u8; CONNECTION_ID_BYTES] = RandomState::new().build_hasher().finish().to_le_bytes();
        drop(self.0.secure_random.fill(&mut id));
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_private_key_gives_the_same_tokens_and_another_one_others() {
        let token = |private_key: &[u8], id: &[u8]| {
            let mut token = [0; SIGNATURE_BYTES];
            ResetKey::derive(private_key).map(|key| {
                key.sign(id, &mut token);
                assert!(key.verify(id, &token).is_ok());
                assert!(key.verify(b"another id", &token).is_err());
                token
            })
        };
        assert!(token(b"one", b"id").is_some());
        assert_eq!(token(b"one", b"id"), token(b"one", b"id"));
        assert_ne!(token(b"one", b"id"), token(b"other", b"id"));
        assert_ne!(token(b"one", b"id"), token(b"one", b"di"));
    }

    #[test]
    fn ids_differ() {
        let mut ids = ConnectionIds(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let some: std::collections::HashSet<ConnectionId> = (0..1_000).map(|_| ids.generate_cid()).collect();
        assert_eq!(some.len(), 1_000);
    }
}
