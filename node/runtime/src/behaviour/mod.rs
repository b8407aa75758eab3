//! Behaviours: what a process does, in a form that can be started by name.

pub(crate) mod registry;
pub(crate) mod server;
pub(crate) mod system;
