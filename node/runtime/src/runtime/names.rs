//! Local names: one holder each, on one node (N1). Those of clients' processes are on the node of their session.

use std::collections::HashMap;

use rookery_protocol::{Pid, ProcessName, request::RequestError};

use super::{RegisterError, Runtime};
use crate::sync::{read, write};

/// Local names (N1).
impl Runtime {
    /// Who has `name` on this node.
    #[must_use]
    pub fn whereis_here(&self, name: &ProcessName) -> Option<Pid> {
        read(&self.0.names).get(name).cloned()
    }

    /// How many names processes have on this node.
    #[must_use]
    pub fn name_count(&self) -> usize {
        read(&self.0.names).len()
    }

    pub(crate) fn with_names_here<R>(&self, f: impl FnOnce(&HashMap<ProcessName, Pid>) -> R) -> R {
        f(&read(&self.0.names))
    }

    /// Every name on this node, with its holder.
    #[must_use]
    pub fn names_here(&self) -> Vec<(ProcessName, Pid)> {
        let mut names: Vec<_> = read(&self.0.names).iter().map(|(name, pid)| (name.clone(), pid.clone())).collect();
        names.sort();
        names
    }

    /// Gives `name` to `pid`, a process of this node or of one of its clients.
    ///
    /// # Errors
    /// Another process has it, or `pid` does not live. Having it already is no error.
    pub fn register_here(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        let mut names = write(&self.0.names);
        if let Some(holder) = names.get(name) {
            if holder == pid {
                return Ok(());
            }
            return Err(RequestError::NameTaken { name: name.clone(), holder: holder.clone() }.into());
        }
        // The names of clients' processes are kept by their session, which removes them when it ends.
        let of_client = pid.serial().session().is_some() && self.0.session.is_none();
        if !of_client && !self.process(pid).is_some_and(|process| process.add_name(name)) {
            return Err(RequestError::NoProc(pid.clone()).into());
        }
        names.insert(name.clone(), pid.clone());
        Ok(())
    }

    /// Takes `name` from `pid`.
    ///
    /// # Errors
    /// `pid` does not have it.
    pub fn unregister_here(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        let mut names = write(&self.0.names);
        if names.get(name) != Some(pid) {
            return Err(RequestError::NoProc(pid.clone()).into());
        }
        names.remove(name);
        // Under the lock of the names: were it registered anew in between, it would outlive the process.
        if let Some(process) = self.process(pid) {
            process.remove_name(name);
        }
        Ok(())
    }

    /// Frees `name` if `pid` has it.
    pub fn release_name(&self, name: &ProcessName, pid: &Pid) -> bool {
        if self.0.session.is_some() {
            self.release_name_at_node(name, pid);
            return true;
        }
        let mut names = write(&self.0.names);
        let held = names.get(name) == Some(pid);
        if held {
            names.remove(name);
        }
        held
    }
}
