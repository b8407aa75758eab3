//! How a child is started: by a behaviour's name, here or elsewhere, or by a closure, here.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use rookery_runtime::{
    Codec, Context, ExitReason, IntoExit, Message, Payload, Pid, RequestError, Runtime, Server, SpawnOptions, Start,
};
use serde_json::Value;

use crate::{
    json::Json,
    supervise::{
        placement::Placement,
        policy::ChildType,
        spec::{SupervisorError, SupervisorSpec},
        supervisor::{BEHAVIOUR, Supervisor},
    },
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

    /// As [`local`](Self::local), for the template of a [`Strategy::SimpleOneForOne`](crate::supervise::Strategy::SimpleOneForOne) supervisor: with what the child was
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
    pub(super) fn with_extra(&self, extra: Json) -> Result<Self, String> {
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
