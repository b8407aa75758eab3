//! Placeholder
pub mod tls;
