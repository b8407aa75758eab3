//! Behaviours: what a process does, in a form that can be started by name.

pub(crate) mod event_manager;
pub(crate) mod registry;
pub(crate) mod server;
mod serving;
pub(crate) mod starting;
pub(crate) mod state_machine;
pub(crate) mod succession;
pub(crate) mod system;
pub(crate) mod task;
