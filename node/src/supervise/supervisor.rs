//! Starting supervisors: by a program, or as the behaviour `supervisor` from data.

use std::time::Duration;

use rookery_runtime::{Address, Context, ExitReason, Pid, Runtime, SpawnOptions, Spawned, Starting};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::supervise::{
    driver::Driver,
    message::{ChildSpecData, SupervisorMessage},
    policy::{AutoShutdown, Strategy},
    spec::{ChildSpec, SupervisorError, SupervisorSpec},
};

/// The behaviour that is a supervisor.
pub(super) const BEHAVIOUR: &str = "supervisor";

/// Tells how the first start of all children went.
pub(super) type FirstStart = oneshot::Receiver<Result<(), SupervisorError>>;

/// Starts supervisors.
#[derive(Debug)]
pub struct Supervisor;

impl Supervisor {
    /// Starts a supervisor, and waits until all its children have started, in order; a child for which no node is up is
    /// started later, and holds up those after it only where they may rely on it
    /// ([`Strategy::OneForAll`], [`Strategy::RestForOne`]). As `supervisor:start_link/2`, but
    /// nobody is linked with it; see [`start_with`](Self::start_with).
    ///
    /// # Errors
    /// A child did not start: those before it are stopped again, and nothing is left. Or the spec is not valid, or there
    /// is no process to be had.
    pub async fn start(runtime: &Runtime, spec: SupervisorSpec) -> Result<Address<SupervisorMessage>, SupervisorError> {
        Self::start_with(runtime, spec, SpawnOptions::new()).await
    }

    /// As [`start`](Self::start), with a link or a monitor. The process that it is linked to is its parent: when that
    /// exits or shuts it down, the children are stopped in reverse order, then the supervisor ends.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with(
        runtime: &Runtime,
        spec: SupervisorSpec,
        options: SpawnOptions,
    ) -> Result<Address<SupervisorMessage>, SupervisorError> {
        let (supervisor, told) = Self::launch(runtime, spec, options)?;
        match told.await {
            Ok(result) => result.map(|()| supervisor.address),
            Err(_) => Err(SupervisorError::Ended),
        }
    }

    /// As [`start_with`](Self::start_with), but does not wait; gives what tells how it went.
    pub(super) fn launch(
        runtime: &Runtime,
        spec: SupervisorSpec,
        options: SpawnOptions,
    ) -> Result<(Spawned<SupervisorMessage>, FirstStart), SupervisorError> {
        Self::launch_as(runtime, spec, options, None)
    }

    /// As [`launch`](Self::launch), in the place of `of`, which runs: with its children.
    pub(super) fn launch_as(
        runtime: &Runtime,
        spec: SupervisorSpec,
        options: SpawnOptions,
        of: Option<Pid>,
    ) -> Result<(Spawned<SupervisorMessage>, FirstStart), SupervisorError> {
        spec.check()?;
        let (tell, told) = oneshot::channel();
        let mut options = self::options(options);
        if let Some(name) = &spec.name {
            options = options.name(name.clone());
        }
        let spawned =
            runtime.spawn_with(options, move |context| Driver::new(context, spec, tell).inheriting(of).run())?;
        Ok((spawned, told))
    }
}

/// A supervisor that is told of in a message: the arguments of the behaviour `supervisor`. In JSON:
/// `{"children":[{"id":"c","behaviour":"counter","placement":"any"}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisorData {
    /// Which children are restarted when one has to be; `"one_for_one"` unless told.
    pub strategy: Strategy,
    /// How many restarts are allowed within the period; 3 unless told.
    pub intensity: Option<u32>,
    /// The period in milliseconds; 5,000 unless told.
    pub period_ms: Option<u64>,
    /// Whether it shuts down when significant children have ended (V5); `"never"` unless told, `"any_significant"`,
    /// `"all_significant"`.
    pub auto_shutdown: AutoShutdown,
    /// Its children, in the order of their start; of `"simple_one_for_one"`, the template of all.
    pub children: Vec<ChildSpecData>,
}

impl From<SupervisorData> for SupervisorSpec {
    fn from(data: SupervisorData) -> Self {
        let mut spec = Self::new(data.strategy);
        spec.intensity = data.intensity.unwrap_or(spec.intensity);
        spec.period = data.period_ms.map_or(spec.period, Duration::from_millis);
        spec.auto_shutdown = data.auto_shutdown;
        spec.children = data.children.into_iter().map(ChildSpec::from).collect();
        spec
    }
}

/// The behaviour `supervisor`: a supervisor as a process that is started by name.
pub(crate) async fn behave(
    data: Option<SupervisorData>,
    context: Context<SupervisorMessage>,
    starting: Starting,
) -> ExitReason {
    let spec = SupervisorSpec::from(data.unwrap_or_default());
    if let Err(error) = spec.check() {
        let reason = ExitReason::Error(error.to_string());
        starting.failed(reason.clone());
        return reason;
    }
    let pid = context.pid().clone();
    let (tell, told) = oneshot::channel::<Result<(), SupervisorError>>();
    let tell_on = async {
        match told.await {
            Ok(Ok(())) => starting.ready_as(pid),
            Ok(Err(error)) => starting.failed(ExitReason::ShutdownWith(error.to_string())),
            Err(_) => starting.failed(ExitReason::Killed),
        }
    };
    // Within the process: what it is told of its start is told in its own name.
    tokio::join!(Driver::new(context, spec, tell).run(), tell_on).0
}

/// How the behaviour is started.
pub(crate) fn options(options: SpawnOptions) -> SpawnOptions {
    options.label(BEHAVIOUR)
}
