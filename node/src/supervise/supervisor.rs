//! The supervisor's process. It decides nothing: what happens to it goes into the [`StrategyMachine`], and what that
//! wants is done here, by links, monitors, exit signals and starts.
//!
//! ```text
//! mailbox: requests, exits, downs, nodes ─┐                       ┌─▶ exit signals, timers, answers, log
//!                                         ├─▶ StrategyMachine ─▶──┤
//! starts that are under way ──────────────┘                       └─▶ starts, here or on other nodes
//! ```
//!
//! A start is polled beside the mailbox, in this process, so the link that comes with it is this process's own and the
//! supervisor answers meanwhile (V6). Each child is linked, so that it ends with the supervisor, and monitored, so that
//! its end is known even if it has removed the link or ended before the link was made.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rookery_runtime::{
    Address, Context, Event, ExitReason, NodeName, Pid, Received, ReplyTo, RequestError, Runtime, SpawnOptions,
    Starting,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::supervise::{
    effect::{Attempt, Cause, CommandError, CommandId, Effect, Report, StartFailure},
    intensity::Intensity,
    limits::MAX_PENDING_COMMANDS,
    message::{ChildCount, ChildInfo, ChildSpecData, ChildStatus, SupervisorMessage},
    pending::{Finished, PendingStarts},
    placement::LastPlace,
    policy::{ChildId, Strategy},
    report,
    spec::{ChildSpec, ChildStart, SupervisorError, SupervisorSpec},
    strategy::StrategyMachine,
};

/// Starts supervisors.
#[derive(Debug)]
pub struct Supervisor;

impl Supervisor {
    /// Starts a supervisor, and waits until all its children have started, in order. As `supervisor:start_link/2`, but
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
        spec.check()?;
        let (tell, told) = oneshot::channel();
        let mut options = self::options(options);
        if let Some(name) = &spec.name {
            options = options.name(name.clone());
        }
        let spawned = runtime.spawn_with(options, move |context| Driver::new(context, spec, tell).run())?;
        match told.await {
            Ok(result) => result.map(|()| spawned.address),
            Err(_) => Err(SupervisorError::Ended),
        }
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
    /// Its children, in the order of their start.
    pub children: Vec<ChildSpecData>,
}

impl From<SupervisorData> for SupervisorSpec {
    fn from(data: SupervisorData) -> Self {
        let mut spec = Self::new(data.strategy);
        spec.intensity = data.intensity.unwrap_or(spec.intensity);
        spec.period = data.period_ms.map_or(spec.period, Duration::from_millis);
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

/// How the behaviour is started: out of clients' reach, since it starts whatever it is told to.
pub(crate) fn options(options: SpawnOptions) -> SpawnOptions {
    options.label("supervisor").members_only()
}

/// Who is answered when a request is done.
enum Requester {
    Pid(ReplyTo<Pid>),
    Done(ReplyTo<()>),
}

struct Driver {
    context: Context<SupervisorMessage>,
    /// Its name in the log.
    name: String,
    machine: StrategyMachine,
    /// How the machine's children are started.
    specs: HashMap<ChildId, ChildSpec>,
    /// Where they were.
    places: HashMap<ChildId, LastPlace>,
    starts: PendingStarts,
    /// Requests that the machine has not answered.
    requesters: HashMap<CommandId, Requester>,
    next_command: u64,
    /// Counts placements, so that children spread.
    turn: usize,
    /// Who waits for the first start of all children.
    told: Option<oneshot::Sender<Result<(), SupervisorError>>>,
    /// Why it did not succeed; told when nothing is left.
    start_error: SupervisorError,
}

impl Driver {
    fn new(
        context: Context<SupervisorMessage>,
        spec: SupervisorSpec,
        told: oneshot::Sender<Result<(), SupervisorError>>,
    ) -> Self {
        let plans = spec.children.iter().map(ChildSpec::plan).collect();
        let intensity = Intensity::new(spec.intensity, spec.period);
        Self {
            name: spec.name.as_ref().map_or_else(|| context.pid().to_string(), ToString::to_string),
            machine: StrategyMachine::new(spec.strategy, intensity, spec.backoff, plans),
            specs: spec.children.into_iter().map(|child| (child.id.clone(), child)).collect(),
            context,
            places: HashMap::new(),
            starts: PendingStarts::default(),
            requesters: HashMap::new(),
            next_command: 0,
            turn: 0,
            told: Some(told),
            start_error: SupervisorError::Ended,
        }
    }

    async fn run(mut self) -> ExitReason {
        self.context.trap_exits(true);
        self.context.monitor_nodes(true);
        self.machine.handle_start();
        loop {
            if let Some(reason) = self.carry_out() {
                if let Some(told) = self.told.take() {
                    drop(told.send(Err(self.start_error)));
                }
                return reason;
            }
            // Starts first: what a child does comes after it was started.
            tokio::select! {
                biased;
                finished = self.starts.next() => self.start_finished(finished),
                received = self.context.receive() => match received {
                    Received::Message(message) => self.message(message),
                    Received::Event(event) => self.event(event),
                },
            }
        }
    }

    fn message(&mut self, message: SupervisorMessage) {
        match message {
            SupervisorMessage::Children(reply) => drop(reply.send(self.infos())),
            SupervisorMessage::Count(reply) => {
                let infos = self.machine.children();
                let count = infos.fold(ChildCount::default(), |count, child| ChildCount {
                    specs: count.specs + 1,
                    running: count.running + u64::from(child.status == ChildStatus::Running),
                });
                drop(reply.send(count));
            }
            SupervisorMessage::StartChild(ask) => {
                let spec = ChildSpec::from(ask.value);
                // Looked at before the spec is kept: it must not replace that of a child of the same id.
                if let Err(error) = self.machine.may_add(&spec.id) {
                    return ask.reply.refuse(error.to_string());
                }
                if let Some(command) = self.command(Requester::Pid(ask.reply)) {
                    let plan = spec.plan();
                    self.specs.insert(spec.id.clone(), spec);
                    self.machine.handle_add(command, plan);
                }
            }
            SupervisorMessage::StopChild(ask) => {
                if let Some(command) = self.command(Requester::Done(ask.reply)) {
                    self.machine.handle_stop_child(command, &ask.value);
                }
            }
            SupervisorMessage::RestartChild(ask) => {
                if let Some(command) = self.command(Requester::Pid(ask.reply)) {
                    self.machine.handle_restart_child(command, &ask.value);
                }
            }
            SupervisorMessage::DeleteChild(ask) => {
                if let Some(command) = self.command(Requester::Done(ask.reply)) {
                    self.machine.handle_delete_child(command, &ask.value);
                }
            }
            SupervisorMessage::Timer(token) => self.machine.handle_timer(token),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Exit { from, reason, .. } if self.context.parent() == Some(&from) => {
                self.machine.handle_stop(reason);
            }
            Event::Exit { from, reason, linked: true } => self.down(&from, reason),
            Event::Exit { reason: reason @ (ExitReason::Shutdown | ExitReason::ShutdownWith(_)), .. } => {
                self.machine.handle_stop(reason);
            }
            Event::Exit { from, reason, .. } => {
                tracing::warn!(supervisor = self.name, %from, %reason, "an exit signal that asks for no shutdown is ignored");
            }
            Event::Down(down) => {
                if let Some(pid) = down.pid() {
                    self.down(&pid, down.reason);
                }
            }
            Event::NodeUp(_) => self.machine.handle_place_changed(),
            _ => {}
        }
    }

    fn down(&mut self, pid: &Pid, reason: ExitReason) {
        // A child may end at once: its start was done before, and is taken note of before.
        while let Some(finished) = self.starts.take_finished() {
            self.start_finished(finished);
        }
        self.machine.handle_down(pid, reason, now());
    }

    fn start_finished(&mut self, finished: Finished) {
        let Finished { child, attempt, node, outcome } = finished;
        match outcome {
            Ok(pid) => {
                let place = LastPlace { node: pid.node().name().clone(), failed: false };
                self.places.insert(child, place);
                self.context.monitor(&pid);
                self.machine.handle_started(attempt, pid, now());
            }
            Err(error) => {
                if let Some(node) = node {
                    self.places.insert(child, LastPlace { node, failed: true });
                }
                let failure = match error {
                    RequestError::NoConnection | RequestError::Draining => StartFailure::NoPlace(error.to_string()),
                    error => StartFailure::Failed(error),
                };
                self.machine.handle_start_failed(attempt, failure, now());
            }
        }
    }

    /// Does what the machine wants; gives the reason to end with, once there is one.
    fn carry_out(&mut self) -> Option<ExitReason> {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Start { child, attempt } => self.start(child, attempt),
                Effect::Shutdown(pid) => self.context.exit(&pid, ExitReason::Shutdown),
                Effect::Kill(pid) => self.context.exit(&pid, ExitReason::Kill),
                Effect::SetTimer { token, after } => {
                    self.context.send_after(after, SupervisorMessage::Timer(token));
                }
                Effect::Answer { command, outcome } => self.answer(command, outcome),
                Effect::Forget(child) => {
                    self.specs.remove(&child);
                    self.places.remove(&child);
                }
                Effect::Report(report) => self.report(&report),
                Effect::Up => {
                    if let Some(told) = self.told.take() {
                        drop(told.send(Ok(())));
                    }
                }
                Effect::Ended(reason) => return Some(reason),
            }
        }
        None
    }

    fn start(&mut self, child: ChildId, attempt: Attempt) {
        let runtime = self.context.runtime().clone();
        let Some(spec) = self.specs.get(&child) else {
            // The machine forgets a child before its spec is forgotten.
            let failure = StartFailure::NoPlace("its spec is gone".to_owned());
            return self.machine.handle_start_failed(attempt, failure, now());
        };
        match &spec.start {
            ChildStart::Behaviour { start, placement } => {
                self.turn = self.turn.wrapping_add(1);
                let chosen = placement.choose(runtime.node(), &runtime.nodes(), self.places.get(&child), self.turn);
                let Some(node) = chosen else {
                    let failure = StartFailure::NoPlace(format!("{placement} is not up"));
                    return self.machine.handle_start_failed(attempt, failure, now());
                };
                let name: NodeName = node.name().clone();
                let start = start.clone().link();
                let starting = Box::pin(async move { Ok(runtime.start_on(&node, start).await?.pid) });
                self.starts.push(child, attempt, Some(name), starting);
            }
            ChildStart::Local(start) => {
                let start = start.clone();
                let options = SpawnOptions::new().link_to(self.context.pid());
                // Called where it is polled, so that a panic in it is caught in one place.
                let starting = Box::pin(async move { start.call(runtime, options).await });
                self.starts.push(child, attempt, None, starting);
            }
        }
    }

    /// Notes who is to be answered; refuses when too many wait.
    fn command(&mut self, requester: Requester) -> Option<CommandId> {
        if self.requesters.len() >= MAX_PENDING_COMMANDS {
            let why = format!("{MAX_PENDING_COMMANDS} requests wait for their children already; try again later");
            match requester {
                Requester::Pid(reply) => reply.refuse(why),
                Requester::Done(reply) => reply.refuse(why),
            }
            return None;
        }
        self.next_command += 1;
        let command = CommandId(self.next_command);
        self.requesters.insert(command, requester);
        Some(command)
    }

    fn answer(&mut self, command: CommandId, outcome: Result<Option<Pid>, CommandError>) {
        match (self.requesters.remove(&command), outcome) {
            (Some(Requester::Pid(reply)), Ok(Some(pid))) => drop(reply.send(pid)),
            (Some(Requester::Pid(reply)), Ok(None)) => reply.refuse("the child was stopped"),
            (Some(Requester::Pid(reply)), Err(error)) => reply.refuse(error.to_string()),
            (Some(Requester::Done(reply)), Ok(_)) => drop(reply.send(())),
            (Some(Requester::Done(reply)), Err(error)) => reply.refuse(error.to_string()),
            (None, _) => {}
        }
    }

    fn report(&mut self, report: &Report) {
        match report {
            Report::Restarting { child, cause: Cause::Exit { pid, reason }, .. } => {
                let failed = *reason == ExitReason::NoConnection;
                self.places.insert(child.clone(), LastPlace { node: pid.node().name().clone(), failed });
            }
            Report::StartFailed { child, cause } => {
                self.start_error = SupervisorError::ChildFailed { child: child.clone(), cause: cause.to_string() };
            }
            _ => {}
        }
        report::log(&self.name, report, self.places.get(report::child_of(report)));
    }

    fn infos(&self) -> Vec<ChildInfo> {
        let info = |child: crate::supervise::commands::ChildView<'_>| ChildInfo {
            id: child.id.clone(),
            pid: child.pid.cloned(),
            node: child.pid.map(|pid| pid.node().name().clone()),
            status: child.status,
            restart: child.restart,
            restarts: child.restarts,
            last_end: child.last_end.map(str::to_owned),
        };
        self.machine.children().map(info).collect()
    }
}

/// The runtime's monotonic clock, which its timers go by as well.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
