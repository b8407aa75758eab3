//! Hostile peers: an attacker with a bare QUIC client against a real node that a friendly node is meshed with. Each attack
//! is refused or closed, with a reason that the attacker sees, within its limit; nothing of it stays behind; and the node
//! serves good peers and clients as before.
//!
//! Strangers fail at TLS or in the handshake; insiders have a good certificate and misbehave later; floods are many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A test may stop where it fails.

#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/insiders.rs"]
mod insiders;
#[path = "hostile/raw.rs"]
mod raw;
#[path = "hostile/strangers.rs"]
mod strangers;
#[path = "hostile/streams.rs"]
mod streams;
#[path = "hostile/town.rs"]
mod town;
