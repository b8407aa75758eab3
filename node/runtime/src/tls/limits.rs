//! The named limits of the TLS module, each with its reason. What they promise: no name, file or
//! text that comes from outside takes more room than is written here.

use std::time::Duration;

/// Longest client name: a DNS subdomain, which is what Kubernetes allows for the name of most
/// objects.
pub const CLIENT_NAME_MAX_BYTES: usize = 253;

/// Longest DNS name (RFC 1035 says 255 octets on the wire, which is 253 characters).
pub const DNS_NAME_MAX_BYTES: usize = 253;

/// Longest PEM file that is read: a Kubernetes Secret holds at most 1 MiB, so no honest file is
/// larger.
pub const PEM_FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Most characters of a peer's text (an issuer, a URI) that are repeated in an error: the reason of
/// a refusal travels in one QUIC packet and ends up in one line of a log.
pub const QUOTED_MAX_CHARS: usize = 120;

/// How long a development CA is valid: longer than anyone should keep one.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * SECONDS_A_DAY);

/// How long an issued certificate is valid unless it is said otherwise.
pub const LEAF_VALIDITY: Duration = Duration::from_secs(365 * SECONDS_A_DAY);

/// How far in the past a new certificate begins: clocks of machines differ, and a certificate that
/// was made a second ago must be valid on the one that is behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Seconds in a day, for the lengths above.
pub const SECONDS_A_DAY: u64 = 24 * 60 * 60;

const _: () = assert!(LEAF_VALIDITY.as_secs() < AUTHORITY_VALIDITY.as_secs(), "a CA outlives what it issues");
const _: () = assert!(BACKDATE.as_secs() < SECONDS_A_DAY, "the shortest validity is a day");
