//! Clients: who they are, what they may, and what is to be told when one is lost.
//!
//! A client is no member (C1): other nodes know nothing of it. Its processes have pids of the node that it is connected
//! to, with the session in the serial; signals for them come here and are passed on, signals from them are checked
//! against the client's policy and go wherever they have to.

mod credits;
pub(crate) mod departure;
pub(crate) mod driver;
pub(crate) mod edges;
pub(crate) mod pace;
pub mod policy;
pub(crate) mod renewing;
mod served;
mod silence;
