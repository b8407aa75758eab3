//! Placeholder
pub mod devdns;
pub mod discovery;
