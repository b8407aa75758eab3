//! Requests to a node: start a behaviour, register, unregister and look up names. The asking half and the answering half.
//!
//! They are signals to the node itself (serial 0) and keep their order with the asker's other signals. A child's node
//! answers in the child's name, on the child's lane, so the asker's end of link and monitor is made before anything of
//! the child's arrives (R1). An answer that nobody waits for any more leaves no linked child behind.

use std::time::Duration;

use rookery_protocol::{
    CallId, Destination, ExitReason, Group, NodeId, Payload, Pid, ProcessName, Recipient, Ref, Serial, Signal,
    SignalBody,
    limits::MAX_GROUPS_PER_SPAWN,
    request::{RequestBody, RequestError, ResponseBody, SpawnRequest},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    handover::Succession,
    process::{alarm::Until, current, relations::Lost},
    routing::is_of_client,
    runtime::{PendingRequest, RegisterError, Runtime},
    spawn::SpawnOptions,
    start::{Start, Started},
    sync::lock,
};

/// How long a node may take to answer a request; `init` of a behaviour counts into it.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the asking process is tied with, once a process was started for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ties {
    process: Option<Pid>,
    link: bool,
    monitor: Option<Ref>,
}

/// Takes the request out of the table however the wait ends.
struct Waiting<'a>(&'a Runtime, CallId);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(self.0.requests()).remove(&self.1);
    }
}

/// A name that a client's node was asked for, and may have given: freed unless the asking process comes to know of it. Who
/// is ended while it asks would leave its name to the dead until its session ends (N3).
struct Claim<'a> {
    runtime: &'a Runtime,
    name: &'a ProcessName,
    pid: &'a Pid,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.runtime.release_name_at_node(self.name, self.pid);
    }
}

/// The asking half.
impl Runtime {
    /// Starts a process of a behaviour on `node`, and waits until its `init` is done (R1). Link and monitor are with the
    /// calling process, and hold from the new one's first moment.
    ///
    /// # Errors
    /// The answer of R2: unknown behaviour, refused arguments, a failed `init`, a draining node; `Refused` when a client
    /// may not, or a link or monitor is asked for outside a process; `NoConnection` or `Timeout` (10 s) when it is not
    /// known whether the process was started.
    pub async fn start_on(&self, node: &NodeId, start: Start) -> Result<Started, RequestError> {
        let caller = current::pid();
        if caller.is_none() && (start.link || start.monitor) {
            return Err(RequestError::Refused("a link or a monitor needs a process that has it".to_owned()));
        }
        let monitor = start.monitor.then(|| Ref(self.next_number()));
        let ties = Ties { process: caller, link: start.link, monitor };
        let start = match start.of.clone() {
            Some(of) => as_successor(start, of).map_err(RequestError::Refused)?,
            None => start,
        };
        let spawn = SpawnRequest {
            behaviour: start.behaviour,
            arguments: start.arguments,
            name: start.name,
            link: start.link,
            monitor,
        };
        let request = match (start.cluster_name, start.groups) {
            (None, groups) if groups.is_empty() => RequestBody::Spawn(spawn),
            (name, groups) => RequestBody::SpawnInCluster { spawn, name, groups },
        };
        match self.request(node, request, ties).await? {
            ResponseBody::Spawned(pid) => Ok(Started { pid, monitor }),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a process of a behaviour here; in a client, on the node that it is connected to.
    ///
    /// # Errors
    /// As [`start_on`](Self::start_on).
    pub async fn start(&self, start: Start) -> Result<Started, RequestError> {
        let node = self.node().clone();
        self.start_on(&node, start).await
    }

    /// Gives `name` to `pid`, a process of this runtime, on this node; in a client, on the node that it is connected to.
    ///
    /// # Errors
    /// The name belongs to another process, who is told; or the client may not have it.
    pub async fn register(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        if self.session().is_none() {
            return self.register_here(name, pid);
        }
        let Some(process) = self.process(pid) else { return Err(RequestError::NoProc(pid.clone()).into()) };
        let request = RequestBody::Register { name: name.clone(), pid: pid.clone() };
        // Having it already is no claim that could be given up.
        let claim = (!process.info().names.contains(name)).then(|| Claim { runtime: self, name, pid });
        let done = self.request_done(&self.node().clone(), request).await;
        if !matches!(done, Err(RequestError::Timeout)) && (done.is_err() || process.add_name(name)) {
            std::mem::forget(claim);
            return Ok(done?);
        }
        drop(claim);
        done?;
        Err(RequestError::NoProc(pid.clone()).into())
    }

    /// Takes `name` from `pid`.
    ///
    /// # Errors
    /// `pid` does not have it.
    pub async fn unregister(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        if self.session().is_none() {
            return self.unregister_here(name, pid);
        }
        let request = RequestBody::Unregister { name: name.clone(), pid: pid.clone() };
        self.request_done(&self.node().clone(), request).await?;
        if let Some(process) = self.process(pid) {
            process.remove_name(name);
        }
        Ok(())
    }

    /// Who has `name` on `node`.
    ///
    /// # Errors
    /// The node cannot be asked, or does not answer in time.
    pub async fn whereis_on(&self, node: &NodeId, name: &ProcessName) -> Result<Option<Pid>, RequestError> {
        if self.session().is_none() && node == self.node() {
            return Ok(self.whereis_here(name));
        }
        match self.request(node, RequestBody::WhereIs { name: name.clone() }, Ties::default()).await? {
            ResponseBody::Found(pid) => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    /// Who has `name` here; in a client, on the node that it is connected to.
    ///
    /// # Errors
    /// As [`whereis_on`](Self::whereis_on).
    pub async fn whereis(&self, name: &ProcessName) -> Result<Option<Pid>, RequestError> {
        let node = self.node().clone();
        self.whereis_on(&node, name).await
    }

    /// A client's process ends: its node frees the name before it is told of the end, since signals keep their order.
    pub(crate) fn release_name_at_node(&self, name: &ProcessName, pid: &Pid) {
        let body = Box::new(RequestBody::Unregister { name: name.clone(), pid: pid.clone() });
        let call = CallId(self.next_number());
        self.signal(Signal {
            from: pid.clone(),
            to: node_itself(self.node()),
            body: SignalBody::Request { call, body },
        });
    }

    pub(crate) async fn request_done(&self, node: &NodeId, request: RequestBody) -> Result<(), RequestError> {
        match self.request(node, request, Ties::default()).await? {
            ResponseBody::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn request(
        &self,
        node: &NodeId,
        body: RequestBody,
        ties: Ties,
    ) -> Result<ResponseBody, RequestError> {
        let from = current::pid().unwrap_or_else(|| self.own_pid());
        self.request_as(&from, node, body, ties).await
    }

    /// As a process of this runtime, or as the runtime itself.
    pub(crate) async fn request_as(
        &self,
        from: &Pid,
        node: &NodeId,
        body: RequestBody,
        ties: Ties,
    ) -> Result<ResponseBody, RequestError> {
        let call = CallId(self.next_number());
        let (answer, answered) = oneshot::channel();
        lock(self.requests()).insert(call, PendingRequest { answer, node: node.clone(), ties });
        let waiting = Waiting(self, call);
        let body = SignalBody::Request { call, body: Box::new(body) };
        self.signal(Signal { from: from.clone(), to: node_itself(node), body });
        let response = Until::new(Instant::now() + REQUEST_TIMEOUT, answered).await;
        drop(waiting);
        match response {
            Some(Ok(ResponseBody::Failed(error))) => Err(error),
            Some(Ok(response)) => Ok(response),
            Some(Err(_)) => Err(RequestError::NoConnection),
            None => Err(RequestError::Timeout),
        }
    }

    /// Takes the answer to a request of `asker`, a process of this runtime or the runtime itself.
    pub(crate) fn handle_response(&self, asker: &Pid, call: CallId, body: ResponseBody) {
        let Some(pending) = lock(self.requests()).remove(&call) else {
            if let ResponseBody::Spawned(child) = &body {
                self.disown(asker, child);
            }
            return;
        };
        if let (ResponseBody::Spawned(child), Some(parent)) = (&body, &pending.ties.process) {
            self.tie_started(parent, child, &pending.ties);
        }
        drop(pending.answer.send(body));
    }

    /// Makes the asking process's end of the ties. Before anything of the child's can arrive: its node answers in the
    /// child's name, on the child's lane.
    fn tie_started(&self, parent: &Pid, child: &Pid, ties: &Ties) {
        let Some(process) = self.process(parent) else { return self.disown(parent, child) };
        if ties.link && !process.link_from(child) {
            return self.disown(parent, child);
        }
        if let Some(monitor) = ties.monitor {
            process.monitor_to(monitor, child.into());
        }
        let remote = !self.is_own(&child.into());
        if remote && (ties.link || ties.monitor.is_some()) && !self.interested(child, parent) {
            process.lost(&Lost::Node(child.node().clone()));
        }
    }

    /// Who asked for a child has ended, or has given up waiting: a child that is linked with it shall not stay behind.
    pub(crate) fn disown(&self, parent: &Pid, child: &Pid) {
        let body = SignalBody::Exit { reason: ExitReason::NoProc, linked: true };
        self.signal(Signal { from: parent.clone(), to: child.into(), body });
    }
}

fn node_itself(node: &NodeId) -> Destination {
    Destination { node: node.clone(), to: Recipient::Serial(Serial::NODE) }
}

pub(crate) fn unexpected(response: &ResponseBody) -> RequestError {
    RequestError::Refused(format!("the node answered something else: {response:?}"))
}

/// The answering half.
impl Runtime {
    pub(crate) fn handle_request(&self, from: &Pid, call: CallId, body: RequestBody) {
        let result = match body {
            RequestBody::Spawn(request) => return self.handle_spawn(from, call, request, None, Vec::new()),
            RequestBody::SpawnInCluster { groups, .. } if groups.len() > MAX_GROUPS_PER_SPAWN => {
                let text = format!("a process is started in at most {MAX_GROUPS_PER_SPAWN} groups");
                Err(RegisterError(RequestError::Refused(text)))
            }
            RequestBody::SpawnInCluster { spawn, name, groups } => {
                return self.handle_spawn(from, call, spawn, name, groups);
            }
            RequestBody::Register { name, pid } => self.register_here(&name, &pid).map(|()| ResponseBody::Done),
            RequestBody::Unregister { name, pid } => self.unregister_here(&name, &pid).map(|()| ResponseBody::Done),
            RequestBody::WhereIs { name } => Ok(ResponseBody::Found(self.whereis_here(&name))),
            body => match self.answer_from_directory(from, call, body) {
                Some(answer) => answer.map_err(RegisterError),
                None => return,
            },
        };
        let response = result.unwrap_or_else(|error| ResponseBody::Failed(error.0));
        self.respond(&self.own_pid(), from, call, response);
    }

    fn handle_spawn(
        &self,
        from: &Pid,
        call: CallId,
        request: SpawnRequest,
        cluster_name: Option<ProcessName>,
        groups: Vec<Group>,
    ) {
        if self.is_draining() {
            return self.respond(&self.own_pid(), from, call, ResponseBody::Failed(RequestError::Draining));
        }
        let mut options = groups.into_iter().fold(SpawnOptions::new(), SpawnOptions::join);
        options = options.asked_for(from).cluster_name(cluster_name);
        if request.link {
            options = options.link_to(from);
        }
        if let Some(monitor) = request.monitor {
            options = options.monitored_as(from, monitor);
        }
        if let Some(name) = request.name {
            options = options.name(name);
        }
        let mut arguments = request.arguments;
        if Succession::is(&arguments) {
            match successor(from, &arguments) {
                Ok((succession, own)) => {
                    options = options.succession(succession);
                    arguments = own;
                }
                Err(error) => return self.respond(&self.own_pid(), from, call, ResponseBody::Failed(error)),
            }
        }
        let (runtime, parent) = (self.clone(), from.clone());
        let answer = move |started: Result<Pid, RequestError>| match started {
            Ok(pid) => runtime.respond(&pid.clone(), &parent, call, ResponseBody::Spawned(pid)),
            Err(error) => runtime.respond(&runtime.own_pid(), &parent, call, ResponseBody::Failed(error)),
        };
        self.behaviours().start(self, &request.behaviour, arguments, options, Box::new(answer));
    }

    pub(crate) fn respond(&self, as_pid: &Pid, to: &Pid, call: CallId, body: ResponseBody) {
        let body = SignalBody::Response { call, body: Box::new(body) };
        self.signal(Signal { from: as_pid.clone(), to: to.into(), body });
    }
}

/// A start whose arguments say whose place it takes, with the names and groups that it gets only then.
fn as_successor(mut start: Start, of: Pid) -> Result<Start, String> {
    let (cluster_name, groups) = (start.cluster_name.take(), std::mem::take(&mut start.groups));
    let arguments = start.arguments;
    start.arguments = Succession { of, arguments, cluster_name, groups }.payload()?;
    Ok(start)
}

/// The other way round. Whoever takes a process's place gets its state: not for clients.
fn successor(from: &Pid, arguments: &Payload) -> Result<(Succession, Payload), RequestError> {
    if is_of_client(from) {
        return Err(RequestError::Refused("a client lets no process take the place of another".to_owned()));
    }
    let mut succession = Succession::of_payload(arguments).map_err(RequestError::Refused)?;
    if succession.groups.len() > MAX_GROUPS_PER_SPAWN {
        let text = format!("a process is started in at most {MAX_GROUPS_PER_SPAWN} groups");
        return Err(RequestError::Refused(text));
    }
    let own = std::mem::replace(&mut succession.arguments, Payload::json("null"));
    Ok((succession, own))
}

/// What a failed `init` is told as.
pub(crate) fn init_failed(reason: ExitReason) -> RequestError {
    RequestError::InitFailed(reason.cut())
}
