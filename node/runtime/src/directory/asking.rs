//! What processes ask of the directory, on a node and in a client; and what a node answers to clients and, as an arbiter,
//! to other nodes.
//!
//! On a node all but to take a name (`claiming.rs`) is done at once, on its own replica. A client asks its node for everything. No
//! wait is without a deadline, and none holds a lock (N4).

use rookery_protocol::{
    CallId, Destination, Group, Pid, ProcessName, Recipient, Serial, Signal, SignalBody,
    limits::{MAX_NAMES_PER_LOOKUP, MAX_PIDS_BYTES},
    request::{RequestBody, RequestError, ResponseBody},
};

use super::bytes_of_pids_of;
use crate::{
    requests::{Ties, unexpected},
    runtime::{RegisterError, Runtime},
};

/// Names.
impl Runtime {
    /// Takes the name from `pid`.
    ///
    /// # Errors
    /// `pid` does not have it.
    pub async fn unregister_in_cluster(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        if self.session().is_some() {
            let request = RequestBody::UnregisterInCluster { name: name.clone(), pid: pid.clone() };
            return Ok(self.request_done(&self.node().clone(), request).await?);
        }
        if self.release_in_cluster(name, pid) { Ok(()) } else { Err(RequestError::NoProc(pid.clone()).into()) }
    }

    /// Who has `name` in the cluster. A node answers from its replica, without waiting for the network; a client asks
    /// its node. As `global:whereis_name/1`.
    ///
    /// # Errors
    /// Only in a client: the node cannot be asked, or does not answer within 10 s.
    pub async fn whereis_in_cluster(&self, name: &ProcessName) -> Result<Option<Pid>, RequestError> {
        Ok(self.whereis_in_cluster_all(std::slice::from_ref(name)).await?.pop().flatten())
    }

    /// As [`whereis_in_cluster`](Self::whereis_in_cluster) for several names, answered in their order; on a node all as of
    /// one moment.
    ///
    /// # Errors
    /// As `whereis_in_cluster`.
    pub async fn whereis_in_cluster_all(&self, names: &[ProcessName]) -> Result<Vec<Option<Pid>>, RequestError> {
        if self.session().is_none() {
            return Ok(self.holders(names));
        }
        let mut holders = Vec::with_capacity(names.len());
        for part in names.chunks(MAX_NAMES_PER_LOOKUP) {
            let request = RequestBody::WhereInCluster { names: part.to_vec() };
            match self.request(&self.node().clone(), request, Ties::default()).await? {
                ResponseBody::Holders(found) if found.len() == part.len() => holders.extend(found),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(holders)
    }

    /// Who has `name` in the cluster, as this node knows it; nobody in a client. Does not wait.
    #[must_use]
    pub fn holder_of_cluster_name(&self, name: &ProcessName) -> Option<Pid> {
        self.holder(name)
    }

    pub(crate) fn holder(&self, name: &ProcessName) -> Option<Pid> {
        self.directory().read().names.holder(name).cloned()
    }

    fn holders(&self, names: &[ProcessName]) -> Vec<Option<Pid>> {
        let state = self.directory().read();
        names.iter().map(|name| state.names.holder(name).cloned()).collect()
    }

    /// Every cluster name with its holder, as this node knows them; nothing in a client.
    #[must_use]
    pub fn cluster_names(&self) -> Vec<(ProcessName, Pid)> {
        let mut names: Vec<_> =
            self.directory().read().names.all().map(|(name, pid)| (name.clone(), pid.clone())).collect();
        names.sort();
        names
    }

    /// How many cluster names there are, as this node knows them.
    #[must_use]
    pub fn cluster_name_count(&self) -> usize {
        self.directory().read().names.len()
    }
}

/// Groups.
impl Runtime {
    /// `pid`, a process of this runtime, joins `group`; a process may join several times, and leaves as often (G1). Does
    /// not wait on a node. As `pg:join/3`.
    ///
    /// # Errors
    /// The process has ended; the client may not; the node does not answer within 10 s.
    pub async fn join(&self, group: &Group, pid: &Pid) -> Result<(), RequestError> {
        if self.session().is_some() {
            self.enter_directory_of_node(pid)?;
            let request = RequestBody::Join { group: group.clone(), pid: pid.clone() };
            return self.request_done(&self.node().clone(), request).await;
        }
        self.join_here(group, pid)
    }

    /// A process that has not run yet joins; does not wait.
    pub(crate) fn join_from_start(&self, group: &Group, pid: &Pid) {
        if self.session().is_none() {
            return drop(self.join_here(group, pid));
        }
        if self.enter_directory_of_node(pid).is_ok() {
            let body = Box::new(RequestBody::Join { group: group.clone(), pid: pid.clone() });
            let to = Destination { node: self.node().clone(), to: Recipient::Serial(Serial::NODE) };
            let body = SignalBody::Request { call: CallId(self.next_number()), body };
            self.signal(Signal { from: pid.clone(), to, body });
        }
    }

    /// `pid` leaves `group`, once. As `pg:leave/3`.
    ///
    /// # Errors
    /// It is no member; or as [`join`](Self::join).
    pub async fn leave(&self, group: &Group, pid: &Pid) -> Result<(), RequestError> {
        if self.session().is_some() {
            let request = RequestBody::Leave { group: group.clone(), pid: pid.clone() };
            return self.request_done(&self.node().clone(), request).await;
        }
        let no_member = || RequestError::NoMember { group: group.clone(), pid: pid.clone() };
        if self.leave_here(group, pid) { Ok(()) } else { Err(no_member()) }
    }

    /// From now on `pid` gets an [`Event::Group`](crate::Event::Group) for each join and leave, its present members first
    /// (G3); or, with `tell` false, none any more. As `pg:monitor/2`.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub async fn watch_group(&self, group: &Group, pid: &Pid, tell: bool) -> Result<(), RequestError> {
        if self.session().is_some() {
            self.enter_directory_of_node(pid)?;
            let request = RequestBody::Watch { group: group.clone(), pid: pid.clone(), tell };
            return self.request_done(&self.node().clone(), request).await;
        }
        self.watch_here(group, pid, tell)
    }

    /// The members of `group`, each once. A node answers from its replica, without waiting for the network; a client asks
    /// its node, in several steps for a large group. As `pg:get_members/2`.
    ///
    /// # Errors
    /// Only in a client: the node cannot be asked, or does not answer within 10 s.
    pub async fn members(&self, group: &Group) -> Result<Vec<Pid>, RequestError> {
        if self.session().is_none() {
            let state = self.directory().read();
            return Ok(state
                .groups
                .members(group)
                .map(|members| members.iter().cloned().collect())
                .unwrap_or_default());
        }
        let mut members: Vec<Pid> = Vec::new();
        loop {
            let request = RequestBody::Members { group: group.clone(), after: members.last().cloned() };
            match self.request(&self.node().clone(), request, Ties::default()).await? {
                // Each step has to come further, or a node that errs would keep us for ever.
                ResponseBody::Members { pids, more } if pids.first() > members.last() || !more => {
                    members.extend(pids);
                    if !more {
                        return Ok(members);
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// The members of `group` that live on this node, its clients' among them; nothing in a client. As
    /// `pg:get_local_members/2`.
    #[must_use]
    pub fn local_members(&self, group: &Group) -> Vec<Pid> {
        let state = self.directory().read();
        state.groups.members(group).map(|members| members.local.iter().cloned().collect()).unwrap_or_default()
    }

    /// Every group that has members, with these, as this node knows them; nothing in a client.
    #[must_use]
    pub fn groups(&self) -> Vec<(Group, Vec<Pid>)> {
        let state = self.directory().read();
        let mut groups: Vec<_> =
            state.groups.all().map(|(group, members)| (group.clone(), members.iter().cloned().collect())).collect();
        groups.sort();
        groups
    }

    /// How many groups have members, as this node knows them.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.directory().read().groups.len()
    }

    /// Some members in the order of their pids, as many as fit an answer.
    fn members_after(&self, group: &Group, after: Option<&Pid>) -> ResponseBody {
        let state = self.directory().read();
        let all = state.groups.members(group).into_iter().flat_map(super::groups::Members::iter);
        let mut pids: Vec<&Pid> = all.filter(|pid| after.is_none_or(|after| *pid > after)).collect();
        let fit = MAX_PIDS_BYTES / bytes_of_pids_of(pids.iter().copied());
        let more = pids.len() > fit;
        if more {
            // Only those that are answered need their order.
            pids.select_nth_unstable(fit);
            pids.truncate(fit);
        }
        pids.sort_unstable();
        ResponseBody::Members { pids: pids.into_iter().cloned().collect(), more }
    }
}

/// The client's half.
impl Runtime {
    /// Notes that the node is to be told of this process's end.
    pub(super) fn enter_directory_of_node(&self, pid: &Pid) -> Result<(), RequestError> {
        let lives = self.process(pid).is_some_and(|process| process.enter_directory());
        if lives { Ok(()) } else { Err(RequestError::NoProc(pid.clone())) }
    }
}

/// The answering half of a node.
impl Runtime {
    /// Answers what is answered at once. `None`: it is no question to the directory, or is answered later.
    pub(crate) fn answer_from_directory(
        &self,
        from: &Pid,
        call: CallId,
        body: RequestBody,
    ) -> Option<Result<ResponseBody, RequestError>> {
        let done = |()| ResponseBody::Done;
        // A node asks for its own processes and its clients', a client for its own, at its own node.
        let speaks_for = |pid: &Pid| {
            let session = pid.serial().session();
            pid.node() == from.node() && (from.node() != self.node() || session == from.serial().session())
        };
        Some(match body {
            RequestBody::Claim { pid, .. } if !speaks_for(&pid) => Err(RequestError::NoProc(pid)),
            RequestBody::RegisterInCluster { pid, .. }
            | RequestBody::UnregisterInCluster { pid, .. }
            | RequestBody::Join { pid, .. }
            | RequestBody::Leave { pid, .. }
            | RequestBody::Watch { pid, .. }
                if !speaks_for(&pid) || pid.node() != self.node() =>
            {
                Err(RequestError::NoProc(pid))
            }
            RequestBody::Claim { name, pid } => match self.grant_name(&name, &pid) {
                Ok(()) => Ok(ResponseBody::Done),
                Err(holder) => Err(RequestError::NameTaken { name, holder }),
            },
            RequestBody::RegisterInCluster { name, pid } => return self.register_for_client(from, call, name, pid),
            RequestBody::UnregisterInCluster { name, pid } if self.release_in_cluster(&name, &pid) => {
                Ok(ResponseBody::Done)
            }
            RequestBody::UnregisterInCluster { pid, .. } => Err(RequestError::NoProc(pid)),
            RequestBody::WhereInCluster { names } if names.len() > MAX_NAMES_PER_LOOKUP => {
                Err(RequestError::Refused(format!("at most {MAX_NAMES_PER_LOOKUP} names are looked up at a time")))
            }
            RequestBody::WhereInCluster { names } => Ok(ResponseBody::Holders(self.holders(&names))),
            RequestBody::Join { group, pid } => self.join_here(&group, &pid).map(done),
            RequestBody::Leave { group, pid } if self.leave_here(&group, &pid) => Ok(ResponseBody::Done),
            RequestBody::Leave { group, pid } => Err(RequestError::NoMember { group, pid }),
            RequestBody::Watch { group, pid, tell } => self.watch_here(&group, &pid, tell).map(done),
            RequestBody::Members { group, after } => Ok(self.members_after(&group, after.as_ref())),
            _ => Err(RequestError::Unsupported),
        })
    }
}
