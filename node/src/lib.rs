//! Placeholder
pub mod ask;
pub mod devdns;
pub mod discovery;
pub mod json;
pub mod stock;
pub mod supervise;
