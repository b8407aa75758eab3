//! What a supervisor is started with: its children, in the order of their start, and how it treats them.
//!
//! A program builds it; [`SupervisorSpec`] is checked when the supervisor starts, and what is wrong with it is an error
//! that names the child. How a child is started stays with the supervisor's process; what the state machine needs of it
//! is its plan.

use std::{collections::HashSet, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use rookery_runtime::{
    Codec, Context, ExitReason, IntoExit, Message, Payload, Pid, ProcessName, RegisterError, RequestError, Runtime,
    Server, SpawnError, SpawnOptions, Start,
};
use serde_json::Value;
use thiserror::Error;

use crate::json::Json;
use crate::supervise::{
    effect::{ChildPlan, Insignificant},
    limits::{DEFAULT_INTENSITY, DEFAULT_PERIOD, MAX_CHILDREN},
    placement::Placement,
    policy::{AutoShutdown, Backoff, ChildId, ChildType, Restart, Shutdown, Strategy},
    supervisor::{BEHAVIOUR, Supervisor},
};

/// A start that is under way.
pub(super) type Starting = Pin<Box<dyn Future<Output = Result<Pid, RequestError>> + Send>>;

/// How a child is started on the supervisor's node, by a closure. Each restart calls it again.
#[derive(Clone)]
pub struct LocalStart {
    start: Arc<dyn Fn(Runtime, SpawnOptions, Json) -> Starting + Send + Sync>,
    /// What a dynamic child was asked for with; `null` for others.
    extra: Json,
    kind: ChildType,
}

impl LocalStart {
    pub(super) fn call(&self, runtime: Runtime, options: SpawnOptions) -> Starting {
        (self.start)(runtime, options, self.extra.clone())
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
        Self::dynamic(move |runtime, options, _| start(runtime, options))
    }

    /// As [`local`](Self::local), for the template of a [`Strategy::SimpleOneForOne`] supervisor: with what the child was
    /// asked for with, at each restart too.
    pub fn dynamic<F, Fut>(start: F) -> Self
    where
        F: Fn(Runtime, SpawnOptions, Json) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Pid, RequestError>> + Send + 'static,
    {
        let start = Arc::new(move |runtime, options, extra| Box::pin(start(runtime, options, extra)) as Starting);
        Self::Local(LocalStart { start, extra: Json::default(), kind: ChildType::Worker })
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
        let start = Self::local(move |runtime, options| {
            let spec = spec.clone();
            async move {
                let started = Supervisor::start_with(&runtime, spec, options).await;
                let address = started.map_err(|error| match error {
                    SupervisorError::Spawn(error) => error.into(),
                    error => RequestError::InitFailed(ExitReason::ShutdownWith(error.to_string())),
                })?;
                address.pid().ok_or(RequestError::InitFailed(ExitReason::NoProc))
            }
        });
        match start {
            Self::Local(start) => Self::Local(LocalStart { kind: ChildType::Supervisor, ..start }),
            other => other,
        }
    }

    /// What it starts, as far as that can be told: a supervisor by [`supervisor`](Self::supervisor) or by the behaviour of
    /// that name; else a worker.
    #[must_use]
    pub fn kind(&self) -> ChildType {
        match self {
            Self::Local(start) => start.kind,
            Self::Behaviour { start, .. } if start.behaviour().as_str() == BEHAVIOUR => ChildType::Supervisor,
            Self::Behaviour { .. } => ChildType::Worker,
        }
    }

    /// The start of a dynamic child, with what it was asked for with.
    fn with_extra(&self, extra: Json) -> Result<Self, String> {
        match self {
            Self::Local(start) => Ok(Self::Local(LocalStart { extra, ..start.clone() })),
            same @ Self::Behaviour { .. } if extra.0.is_null() => Ok(same.clone()),
            Self::Behaviour { start, placement } => {
                let former = match start.arguments().codec {
                    Codec::Json => {
                        serde_json::from_slice(&start.arguments().body).map_err(|error| error.to_string())?
                    }
                    _ => return Err("the template's arguments are not JSON, and take no others".to_owned()),
                };
                let arguments = Payload::json(joined(former, extra.0).to_string());
                Ok(Self::placed(start.clone().with_arguments(arguments), placement.clone()))
            }
        }
    }
}

/// Arguments of a template and of a child of it.
fn joined(template: Value, extra: Value) -> Value {
    match (template, extra) {
        (Value::Object(mut template), Value::Object(extra)) => {
            template.extend(extra);
            Value::Object(template)
        }
        (Value::Array(mut template), Value::Array(extra)) => {
            template.extend(extra);
            Value::Array(template)
        }
        (_, extra) => extra,
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
    /// Whether its end can end the supervisor (V5); see [`AutoShutdown`].
    pub significant: bool,
    /// What it is, for who asks.
    pub kind: ChildType,
}

impl ChildSpec {
    /// A permanent child; with five seconds to shut down, or for ever if it is a supervisor, so that its tree can end in
    /// order.
    #[must_use]
    pub fn new(id: ChildId, start: ChildStart) -> Self {
        let kind = start.kind();
        Self { id, start, restart: Restart::default(), shutdown: kind.default_shutdown(), significant: false, kind }
    }

    /// When it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How it is ended.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Its end can end the supervisor (V5).
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    pub(super) fn plan(&self) -> ChildPlan {
        ChildPlan {
            id: self.id.clone(),
            restart: self.restart,
            shutdown: self.shutdown,
            significant: self.significant,
            kind: self.kind,
        }
    }

    /// A dynamic child of this template.
    ///
    /// # Errors
    /// The template takes no such arguments.
    pub(super) fn instance(&self, number: u64, extra: Json) -> Result<Self, String> {
        let id = ChildId::new(format!("{}#{number}", self.id)).map_err(|error| error.to_string())?;
        Ok(Self { id, start: self.start.with_extra(extra)?, ..self.clone() })
    }
}

/// A supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// The name that it is registered under on its node.
    pub name: Option<ProcessName>,
    /// The name that it takes in the cluster before it starts its children. When it loses the name, since another one had
    /// it beyond a partition that has healed, it ends with them (N2).
    pub cluster_name: Option<ProcessName>,
    /// Which children are restarted when one has to be.
    pub strategy: Strategy,
    /// How many restarts are allowed within `period`; one more ends the supervisor.
    pub intensity: u32,
    /// See `intensity`.
    pub period: Duration,
    /// Whether it shuts down when significant children have ended (V5).
    pub auto_shutdown: AutoShutdown,
    /// How long restarts wait; not at all by default, as in OTP.
    pub backoff: Option<Backoff>,
    /// In the order of their start; of [`Strategy::SimpleOneForOne`], the template of all.
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children, with the limits of [`limits`](crate::supervise::limits).
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            name: None,
            cluster_name: None,
            strategy,
            intensity: DEFAULT_INTENSITY,
            period: DEFAULT_PERIOD,
            auto_shutdown: AutoShutdown::Never,
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

    /// Holds this name in the cluster; see the field. To have another node run it when this one is lost, see
    /// [`ClusterSupervisor`](crate::supervise::ClusterSupervisor).
    #[must_use]
    pub fn cluster_name(mut self, name: ProcessName) -> Self {
        self.cluster_name = Some(name);
        self
    }

    /// So many restarts within `period`, and no more.
    #[must_use]
    pub fn intensity(mut self, restarts: u32, period: Duration) -> Self {
        self.intensity = restarts;
        self.period = period;
        self
    }

    /// Shuts down when significant children have ended (V5).
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> Self {
        self.auto_shutdown = auto_shutdown;
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
        if self.strategy == Strategy::SimpleOneForOne && self.children.len() != 1 {
            return Err(SupervisorError::NoTemplate { children: self.children.len() });
        }
        for child in &self.children {
            let fits = child.plan().fits(self.auto_shutdown);
            fits.map_err(|why| SupervisorError::Insignificant { child: child.id.clone(), why })?;
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
    /// Dynamic children need one child spec, their template.
    #[error(
        "a simple_one_for_one supervisor takes one child, the template of those that it starts; this has {children}"
    )]
    NoTemplate {
        /// How many.
        children: usize,
    },
    /// A child cannot be significant.
    #[error("child `{child}`: {why}")]
    Insignificant {
        /// Which.
        child: ChildId,
        /// Why.
        why: Insignificant,
    },
    /// There is no process for it.
    #[error("the supervisor was not started: {0}")]
    Spawn(#[from] SpawnError),
    /// The name in the cluster could not be had.
    #[error("the supervisor was not started: {0}")]
    ClusterName(#[from] RegisterError),
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
