//! What the detector waits for, with the reasons. Relations are asserted at compile time.

use std::time::Duration;

/// How often the detector looks at its connections.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A peer that has been silent for this long is pinged. Short, since a killed process is told from a silent one by it; a ping
/// and its acknowledgement are two datagrams of 40 bytes.
pub(crate) const PING_AFTER: Duration = Duration::from_millis(100);

/// Pings that one node sends in a second at most, while all answer: with more peers than a tenth of this each is pinged less
/// often.
pub(crate) const PINGS_PER_SECOND: u32 = 100;

/// A peer that has been silent for this long is pinged however many there are. QUIC's own keep-alive, which each connection has
/// after a second of silence, has not been answered then, so no more pings come of it while all are well. Without it a mesh of
/// 1,000 nodes would look at each peer every ten seconds, and give it up before others could be asked.
pub(crate) const PING_AFTER_AT_MOST: Duration = Duration::from_millis(1_100);

/// A ping that is not acknowledged for this long, or for some round trips (see below), is missed: the peer's address is
/// probed for a port that nobody listens on. An acknowledgement may be delayed for 25 ms (RFC 9000, 13.2.1).
pub(crate) const MISSED_AFTER: Duration = Duration::from_millis(75);

/// Where this many round trips are longer than what a ping's acknowledgement, or an answer about a suspect, is waited for, they
/// are waited for: on a machine that has no time round trips are long, for others as well.
pub(crate) const ROUND_TRIPS_PER_ANSWER: u32 = 4;

/// The same for what makes a suspect: two pings that are missed.
pub(crate) const ROUND_TRIPS_PER_SUSPICION: u32 = 8;

/// Silence from which on a peer that misses pings is suspected, and others are asked, unless told.
pub(crate) const SUSPECT_AFTER: Duration = Duration::from_millis(600);

/// How many others are asked. Three that share no link with us but this one.
pub(crate) const ASKED: usize = 3;

/// How long one who is asked waits to hear from the suspect, before it says that it does not.
pub(crate) const ANSWER_AFTER: Duration = Duration::from_millis(150);

/// For how long it counts that somebody hears a suspect: three rounds of asking, since on a path that loses a tenth of all
/// packets one round in thirty says nothing.
pub(crate) const BELIEVED: Duration = Duration::from_millis(1_000);

/// The least that can be told: a ping, another one because the first may be lost, and what both may take.
pub(crate) const MIN_SUSPECT_AFTER: Duration = Duration::from_millis(300);

/// Silence after which a suspect is down that nobody else hears, unless told. A node that is starved of CPU for less is not declared down.
pub(crate) const DOWN_AFTER: Duration = Duration::from_millis(2_000);

/// The most that can be told.
pub(crate) const MAX_DOWN_AFTER: Duration = Duration::from_secs(600);

/// How many times what makes a suspect must pass until it is down: others have to be asked meanwhile, and to answer.
pub(crate) const SUSPICIONS_PER_DOWN: u32 = 2;

/// The same for one whose port is closed: its process has ended, but a network that lies is possible, so the others have to
/// agree, or none be there to ask.
pub(crate) const DOWN_AFTER_REFUSED: Duration = Duration::from_millis(200);

/// How much of the connection's own idle timeout a suspect is kept that others still hear: it is not down, only out of reach
/// from here, and what is cut may heal. QUIC itself would end it at the whole of it, without words.
pub(crate) const UNREACHABLE_PART: f64 = 0.9;

/// Questions of others that wait for an answer; beyond it they are dropped, and asked again.
pub(crate) const MAX_QUESTIONS: usize = 256;

const _: () = assert!(TICK.as_millis() < PING_AFTER.as_millis());
const _: () = assert!(PING_AFTER.as_millis() + MISSED_AFTER.as_millis() < SUSPECT_AFTER.as_millis());
const _: () = assert!(PING_AFTER.as_millis() + 2 * MISSED_AFTER.as_millis() < MIN_SUSPECT_AFTER.as_millis());
const _: () = assert!(MIN_SUSPECT_AFTER.as_millis() <= SUSPECT_AFTER.as_millis());
// Also with the least: a question, and its answer.
const _: () = assert!(
    ANSWER_AFTER.as_millis() + 2 * TICK.as_millis() < MIN_SUSPECT_AFTER.as_millis() * (SUSPICIONS_PER_DOWN as u128 - 1)
);
const _: () = assert!(SUSPECT_AFTER.as_millis() * SUSPICIONS_PER_DOWN as u128 <= DOWN_AFTER.as_millis());
const _: () = assert!(DOWN_AFTER.as_millis() <= MAX_DOWN_AFTER.as_millis());
const _: () = assert!(
    PING_AFTER_AT_MOST.as_millis() + MISSED_AFTER.as_millis() + 3 * ANSWER_AFTER.as_millis() + 3 * TICK.as_millis()
        < DOWN_AFTER.as_millis()
);
