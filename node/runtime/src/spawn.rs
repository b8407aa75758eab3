//! Starting processes here, from a closure. By name, here or elsewhere, they are started by `start.rs`.
//!
//! A process is entered in the table, gets its name and its ties, and only then its task; so all of them hold before
//! its first step. What cannot be had, be it a place in the table or the name, means that there is no process.

use std::{fmt, future::Future, sync::Arc};

use rookery_protocol::{ExitReason, Group, Pid, ProcessName, Ref, request::RequestError};
use thiserror::Error;

use crate::{
    address::Address,
    handover::Succession,
    message::Message,
    process::{AnyProcess, context::Context, current, mailbox::Process, task::ProcessTask},
    runtime::{RegisterError, Runtime},
};

/// What a process's code may end with.
pub trait IntoExit: Send + 'static {
    /// As a reason.
    fn into_exit(self) -> ExitReason;
}

impl IntoExit for () {
    fn into_exit(self) -> ExitReason {
        ExitReason::Normal
    }
}

impl IntoExit for ExitReason {
    fn into_exit(self) -> ExitReason {
        self
    }
}

mod never {
    /// Names the type of what never returns, which has no name of its own in stable Rust.
    pub trait Returns {
        /// What it is.
        type Output;
    }

    impl<T> Returns for fn() -> T {
        type Output = T;
    }
}

/// A process that receives for ever ends by a signal alone.
impl IntoExit for <fn() -> ! as never::Returns>::Output {
    fn into_exit(self) -> ExitReason {
        self
    }
}

impl<E: fmt::Display + Send + 'static> IntoExit for Result<(), E> {
    fn into_exit(self) -> ExitReason {
        match self {
            Ok(()) => ExitReason::Normal,
            Err(error) => ExitReason::Error(error.to_string()),
        }
    }
}

/// How a process is started.
#[derive(Debug, Clone, Default)]
pub struct SpawnOptions {
    link: Option<Pid>,
    /// Who asked for it, if that is not the process that runs on this thread.
    parent: Option<Pid>,
    monitor: Option<(Pid, Option<Ref>)>,
    name: Option<ProcessName>,
    /// The name in the cluster that it claims before its `init`; of what tells by a `Starting` alone.
    cluster_name: Option<ProcessName>,
    groups: Vec<Group>,
    mailbox: u32,
    label: Option<&'static str>,
    members_only: bool,
    vital: bool,
    /// It runs a server that allows requests to it as a system.
    sys: bool,
    /// It runs a server.
    serves: bool,
    /// It takes the place of another process.
    succession: Option<Box<Succession>>,
    /// By a request: who asked makes its end of the ties when it is told of the child, wherever it is. A child that does
    /// not come to life is an answer to it, and no exit (R2).
    asked_for: bool,
}

impl SpawnOptions {
    /// Without link, monitor or name, with a mailbox without limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Linked with this process from its first moment.
    #[must_use]
    pub fn link_to(mut self, parent: &Pid) -> Self {
        self.link = Some(parent.clone());
        self
    }

    /// Monitored by this process from its first moment.
    #[must_use]
    pub fn monitored_by(mut self, watcher: &Pid) -> Self {
        self.monitor = Some((watcher.clone(), None));
        self
    }

    pub(crate) fn monitored_as(mut self, watcher: &Pid, monitor: Ref) -> Self {
        self.monitor = Some((watcher.clone(), Some(monitor)));
        self
    }

    pub(crate) fn asked_for(mut self, by: &Pid) -> Self {
        self.asked_for = true;
        self.parent = Some(by.clone());
        self
    }

    /// Registered under this name before it runs.
    #[must_use]
    pub fn name(mut self, name: ProcessName) -> Self {
        self.name = Some(name);
        self
    }

    /// A member of this group before it runs. In a client its node is told, and not waited for.
    #[must_use]
    pub fn join(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }

    pub(crate) fn cluster_name(mut self, name: Option<ProcessName>) -> Self {
        self.cluster_name = name;
        self
    }

    pub(crate) fn take_cluster_name(&mut self) -> Option<ProcessName> {
        self.cluster_name.take()
    }

    /// Out of reach of clients: what they send it is refused (C3). For processes that do more than a client may. One that
    /// lets clients ask but not change looks at [`ReplyTo::asked_by_member`](crate::ReplyTo::asked_by_member).
    #[must_use]
    pub fn members_only(mut self) -> Self {
        self.members_only = true;
        self
    }

    /// Not for clients to end, whatever their policy: exit signals that they send it are refused, and so are links, over which
    /// their exits would end it (C3). For processes that nobody starts again.
    #[must_use]
    pub fn vital(mut self) -> Self {
        self.vital = true;
        self
    }

    /// At most so many messages wait in its mailbox; then `send` waits and `try_send` is refused, wherever the sender is (S7).
    /// 0 is no limit.
    ///
    /// Senders elsewhere are held back by credit, which is given out apart: beside what waits of senders here there may be as
    /// many messages of all others, but at least one of each node and client, and the first 64 of each.
    #[must_use]
    pub fn mailbox(mut self, messages: u32) -> Self {
        self.mailbox = messages;
        self
    }

    pub(crate) fn serves(mut self, sys: bool) -> Self {
        self.sys = sys;
        self.serves = true;
        self
    }

    /// It takes the place of another process.
    pub(crate) fn succession(mut self, succession: Succession) -> Self {
        self.succession = Some(Box::new(succession));
        self
    }

    pub(crate) fn take_succession(&mut self) -> Option<Box<Succession>> {
        self.succession.take()
    }

    /// What a process keeps of them.
    pub(crate) fn of_process(&self) -> Kept {
        Kept {
            capacity: self.mailbox,
            members_only: self.members_only,
            vital: self.vital,
            sys: self.sys,
            serves: self.serves,
        }
    }

    pub(crate) fn parent(&self) -> Option<&Pid> {
        self.link.as_ref()
    }

    pub(crate) fn label_or(mut self, label: &'static str) -> Self {
        self.label.get_or_insert(label);
        self
    }

    /// What `ps` shows as its behaviour.
    #[must_use]
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = Some(label);
        self
    }
}

/// What a process keeps of the options that it was started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    /// How many messages senders may queue; 0 is no limit.
    pub(crate) capacity: u32,
    /// Out of reach of clients.
    pub(crate) members_only: bool,
    /// Not for clients to end.
    pub(crate) vital: bool,
    /// It runs a server that allows requests to it as a system.
    pub(crate) sys: bool,
    /// It runs a server.
    pub(crate) serves: bool,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned<M: Message> {
    /// The process.
    pub pid: Pid,
    /// Where to send.
    pub address: Address<M>,
    /// The monitor, if one was asked for.
    pub monitor: Option<Ref>,
}

/// A process that was started, and the monitor, if one was asked for.
type Begun<M> = (Arc<Process<M>>, Option<Ref>);

/// Why a process was not started here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpawnError {
    /// There are as many processes as there may be.
    #[error("the limit of {limit} processes is reached (max_processes)")]
    TooManyProcesses {
        /// The limit.
        limit: usize,
    },
    /// The runtime shuts down.
    #[error("the node is shutting down and takes no new processes")]
    ShuttingDown,
    /// The name cannot be had.
    #[error(transparent)]
    Name(#[from] RegisterError),
}

impl From<SpawnError> for RequestError {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::TooManyProcesses { .. } => Self::TooManyProcesses,
            SpawnError::ShuttingDown => Self::Draining,
            SpawnError::Name(error) => error.0,
        }
    }
}

impl Runtime {
    /// Starts a process. It runs on its own; a panic in it ends it alone (P3). Does not wait.
    ///
    /// ```
    /// # use rookery_runtime::{Context, Received, Runtime};
    /// # async fn example(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
    /// let greeter = runtime.spawn(async |mut ctx: Context<String>| {
    ///     while let Received::Message(name) = ctx.receive().await {
    ///         println!("hello {name}");
    ///     }
    /// })?;
    /// greeter.send("world".to_owned()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the table of processes is full, or the runtime shuts down.
    pub fn spawn<M, F, Fut>(&self, f: F) -> Result<Address<M>, SpawnError>
    where
        M: Message,
        F: FnOnce(Context<M>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        match self.try_spawn(SpawnOptions::new(), f) {
            Ok((process, _)) => Ok(Address::local(process)),
            Err((error, _)) => Err(error),
        }
    }

    /// As [`spawn`](Self::spawn), with options; link, monitor and name hold before its first step. Does not wait.
    ///
    /// # Errors
    /// As `spawn`, and when the name cannot be had.
    pub fn spawn_with<M, F, Fut>(&self, options: SpawnOptions, f: F) -> Result<Spawned<M>, SpawnError>
    where
        M: Message,
        F: FnOnce(Context<M>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let (process, monitor) = self.try_spawn(options, f).map_err(|(error, _)| error)?;
        Ok(Spawned { pid: process.pid().clone(), address: Address::local(process), monitor })
    }

    /// As [`spawn_with`](Self::spawn_with); gives `f` back when there is no process to run it.
    pub(crate) fn try_spawn<M, F, Fut>(&self, options: SpawnOptions, f: F) -> Result<Begun<M>, (SpawnError, F)>
    where
        M: Message,
        F: FnOnce(Context<M>) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        if self.is_closed() {
            return Err((SpawnError::ShuttingDown, f));
        }
        let label = options.label.unwrap_or_else(std::any::type_name::<M>);
        let parent = options.link.clone().or_else(|| options.parent.clone()).or_else(current::pid);
        let made = self.table().insert(|serial| {
            let pid = Pid::new(self.node().clone(), serial);
            Arc::new(Process::<M>::new(pid, self.clone(), label, parent, &options))
        });
        let Some(process) = made else {
            return Err((SpawnError::TooManyProcesses { limit: self.max_processes() }, f));
        };
        // Whoever closed the runtime since has told all that were in the table by then; perhaps not this one.
        if self.is_closed() {
            process.end(&ExitReason::NoProc);
            drop(self.forget(process.pid()));
            return Err((SpawnError::ShuttingDown, f));
        }
        if let Some(name) = &options.name
            && let Err(error) = self.register_here(name, process.pid())
        {
            process.end(&ExitReason::NoProc);
            drop(self.forget(process.pid()));
            return Err((error.into(), f));
        }
        for group in &options.groups {
            self.join_from_start(group, process.pid());
        }
        let monitor = options.monitor.map(|(watcher, monitor)| {
            let monitor = monitor.unwrap_or_else(|| Ref(self.next_number()));
            self.tie_monitor(&watcher, monitor, &process, options.asked_for);
            monitor
        });
        if let Some(parent) = &options.link {
            self.tie_link(parent, &process, options.asked_for);
        }
        let context = Context::new(process.clone());
        let task = ProcessTask::new(process.clone(), f, context);
        process.vitals().set_task_bytes(size_of_val(&task));
        self.executor().spawn(task);
        Ok((process, monitor))
    }

    /// Links a process that has not run yet with its parent; the child's end alone if it was asked for.
    fn tie_link<M: Message>(&self, parent: &Pid, child: &Arc<Process<M>>, asked_for: bool) {
        child.link_from(parent);
        let held = match self.process(parent) {
            Some(process) => asked_for || process.link_to(child.pid()),
            None => !self.is_own(&parent.into()) && self.interested(parent, child.pid()),
        };
        if !held {
            child.link_exit(parent, ExitReason::NoProc);
        }
    }

    fn tie_monitor<M: Message>(&self, watcher: &Pid, monitor: Ref, child: &Arc<Process<M>>, asked_for: bool) {
        child.watch(watcher, monitor);
        match self.process(watcher) {
            Some(_) if asked_for => {}
            Some(process) => process.monitor_to(monitor, child.pid().into()),
            None => drop(self.interested(watcher, child.pid())),
        }
    }
}
