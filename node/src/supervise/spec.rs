//! What a supervisor is started with: its children, in the order of their start, and how it treats them.
//!
//! A program builds it; [`SupervisorSpec`] is checked when the supervisor starts, and what is wrong with it is an error
//! that names the child. How a child is started stays with the supervisor's process; what the state machine needs of it
//! is its plan.

use std::{collections::HashSet, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use rookery_runtime::{
    Context, ExitReason, IntoExit, Message, Pid, ProcessName, RequestError, Runtime, Server, SpawnError, SpawnOptions,
    Start,
};
use thiserror::Error;

use crate::supervise::{
    effect::ChildPlan,
    limits::{DEFAULT_INTENSITY, DEFAULT_PERIOD, MAX_CHILDREN},
    placement::Placement,
    policy::{Backoff, ChildId, Restart, Shutdown, Strategy},
    supervisor::Supervisor,
};

/// A start that is under way.
pub(super) type Starting = Pin<Box<dyn Future<Output = Result<Pid, RequestError>> + Send>>;

/// How a child is started on the supervisor's node, by a closure. Each restart calls it again.
#[derive(Clone)]
pub struct LocalStart(Arc<dyn Fn(Runtime, SpawnOptions) -> Starting + Send + Sync>);

impl LocalStart {
    pub(super) fn call(&self, runtime: Runtime, options: SpawnOptions) -> Starting {
        (self.0)(runtime, options)
    }
}

impl fmt::Debug for LocalStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalStart")
    }
}

/// How a child is started.
#[derive(Debug, Clone)]
pub enum ChildStart {
    /// By the name of a behaviour, here or elsewhere (V7).
    Behaviour {
        /// What is started.
        start: Start,
        /// Where.
        placement: Placement,
    },
    /// By a closure, here.
    Local(LocalStart),
}

impl ChildStart {
    /// A behaviour on the supervisor's node.
    #[must_use]
    pub fn behaviour(start: Start) -> Self {
        Self::Behaviour { start, placement: Placement::Here }
    }

    /// A behaviour wherever `placement` allows.
    #[must_use]
    pub fn placed(start: Start, placement: Placement) -> Self {
        Self::Behaviour { start, placement }
    }

    /// Whatever `start` does to start a process with the options that it gets; these link it with the supervisor. It may
    /// wait; the supervisor does not.
    pub fn local<F, Fut>(start: F) -> Self
    where
        F: Fn(Runtime, SpawnOptions) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Pid, RequestError>> + Send + 'static,
    {
        Self::Local(LocalStart(Arc::new(move |runtime, options| Box::pin(start(runtime, options)))))
    }

    /// A process that runs `f`.
    pub fn process<M, F, Fut>(f: F) -> Self
    where
        M: Message,
        F: Fn(Context<M>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        Self::local(move |runtime, options| {
            let started = runtime.spawn_with(options, f.clone());
            let pid = started.map_err(RequestError::from).and_then(|spawned| {
                let gone = RequestError::InitFailed(ExitReason::NoProc);
                spawned.address.pid().ok_or(gone)
            });
            std::future::ready(pid)
        })
    }

    /// A server; each start makes its arguments anew.
    pub fn server<S: Server>(arguments: impl Fn() -> S::Arguments + Send + Sync + 'static) -> Self {
        Self::local(move |runtime, options| {
            let arguments = arguments();
            async move {
                let address = runtime.start_server::<S>(arguments, options).await?;
                address.pid().ok_or(RequestError::InitFailed(ExitReason::NoProc))
            }
        })
    }

    /// A supervisor.
    #[must_use]
    pub fn supervisor(spec: SupervisorSpec) -> Self {
        Self::local(move |runtime, options| {
            let spec = spec.clone();
            async move {
                let started = Supervisor::start_with(&runtime, spec, options).await;
                let address = started.map_err(|error| match error {
                    SupervisorError::Spawn(error) => error.into(),
                    error => RequestError::InitFailed(ExitReason::ShutdownWith(error.to_string())),
                })?;
                address.pid().ok_or(RequestError::InitFailed(ExitReason::NoProc))
            }
        })
    }
}

/// A child and how it is treated.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// Its name within the supervisor.
    pub id: ChildId,
    /// How it is started.
    pub start: ChildStart,
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
}

impl ChildSpec {
    /// A permanent child with five seconds to shut down.
    #[must_use]
    pub fn new(id: ChildId, start: ChildStart) -> Self {
        Self { id, start, restart: Restart::default(), shutdown: Shutdown::default() }
    }

    /// When it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How it is ended. [`Shutdown::Forever`] for a child that is a supervisor, so that its tree can end in order.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    pub(super) fn plan(&self) -> ChildPlan {
        ChildPlan { id: self.id.clone(), restart: self.restart, shutdown: self.shutdown }
    }
}

/// A supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// The name that it is registered under on its node.
    pub name: Option<ProcessName>,
    /// Which children are restarted when one has to be.
    pub strategy: Strategy,
    /// How many restarts are allowed within `period`; one more ends the supervisor.
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// How long restarts wait; not at all by default, as in OTP.
    pub backoff: Option<Backoff>,
    /// In the order of their start.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children, with the limits of [`limits`](crate::supervise::limits).
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            name: None,
            strategy,
            intensity: DEFAULT_INTENSITY,
            period: DEFAULT_PERIOD,
            backoff: None,
            children: Vec::new(),
        }
    }

    /// Registered under this name on its node.
    #[must_use]
    pub fn name(mut self, name: ProcessName) -> Self {
        self.name = Some(name);
        self
    }

    /// So many restarts within `period`, and no more.
    #[must_use]
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = restarts;
        self.period = period;
        self
    }

    /// Restarts wait.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// With this child after the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    pub(super) fn check(&self) -> Result<(), SupervisorError> {
        if self.children.len() > MAX_CHILDREN {
            return Err(SupervisorError::TooManyChildren { children: self.children.len() });
        }
        let mut ids = HashSet::new();
        match self.children.iter().find(|child| !ids.insert(&child.id)) {
            Some(child) => Err(SupervisorError::DuplicateChild { child: child.id.clone() }),
            None => Ok(()),
        }
    }
}

/// Why a supervisor did not start. No child of it is left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SupervisorError {
    /// Two children have one id.
    #[error("two children are called `{child}`; give each an id of its own")]
    DuplicateChild {
        /// The id.
        child: ChildId,
    },
    /// More children than a supervisor may have.
    #[error("{children} children are more than {MAX_CHILDREN}; divide them among several supervisors")]
    TooManyChildren {
        /// How many.
        children: usize,
    },
    /// There is no process for it.
    #[error("the supervisor was not started: {0}")]
    Spawn(#[from] SpawnError),
    /// A child was not started; the children before it were stopped again.
    #[error("child `{child}` was not started: {cause}")]
    ChildFailed {
        /// Which.
        child: ChildId,
        /// Why.
        cause: String,
    },
    /// It was ended before all its children were started.
    #[error("the supervisor ended while it was starting its children")]
    Ended,
}
