//! A supervisor's process. It decides nothing: what happens to it goes into the [`StrategyMachine`], and what that
//! wants is done here, by links, monitors, exit signals and starts.
//!
//! ```text
//! mailbox: requests, exits, downs, nodes ─┐                       ┌─▶ exit signals, timers, answers, log
//!                                         ├─▶ StrategyMachine ─▶──┤
//! starts that are under way ──────────────┘                       └─▶ starts: look at the nodes, choose (pure), start
//! ```
//!
//! A start is polled beside the mailbox, in this process, so the link that comes with it is this process's own and the
//! supervisor answers meanwhile (V6). Each child is linked, so that it ends with the supervisor, and monitored, so that
//! its end is known even if it has removed the link or ended before the link was made.

use std::{collections::HashMap, future::poll_fn, pin::Pin, task::Poll, time::Instant};

use rookery_runtime::{
    Context, Event, ExitReason, NodeId, NodeName, Pid, ProcessName, Received, ReplyTo, RequestError, Runtime,
    SpawnOptions, Start,
};
use tokio::sync::oneshot;

use crate::{
    ask::Ask,
    json::Json,
    status::{self, NodeStatus},
    supervise::{
        bequest::Estate,
        commands::ChildView,
        effect::{Attempt, CommandError, Effect, Report, StartFailure},
        evacuation::Evacuation,
        homes::Homes,
        intensity::Intensity,
        limits::{DEFAULT_SHUTDOWN, LOOK_TIMEOUT, NAME_PATIENCE, NAME_RETRY, SPREAD_MOVE_EVERY},
        message::{ChildInfo, ChildSpecInfo, SupervisorMessage},
        pending::{Finished, PendingStarts},
        policy::{ChildId, Strategy},
        report,
        requesters::{MEMBERS_ALONE, Requester, Requesters},
        spec::{ChildSpec, SupervisorError, SupervisorSpec},
        start::{ChildStart, Starting},
        strategy::StrategyMachine,
    },
};

pub(super) struct Driver {
    pub(super) context: Context<SupervisorMessage>,
    /// Its name in the log.
    pub(super) name: String,
    /// Its name, of its node or the cluster, if it has one: what its restarts are counted by.
    pub(super) registered: Option<ProcessName>,
    /// The name that it takes in the cluster before all else.
    pub(super) cluster_name: Option<ProcessName>,
    pub(super) machine: StrategyMachine,
    /// How the machine's children are started.
    pub(super) specs: HashMap<ChildId, ChildSpec>,
    /// What dynamic children are made from, and how many there have been.
    pub(super) template: Option<(ChildSpec, u64)>,
    pub(super) homes: Homes,
    pub(super) starts: PendingStarts,
    /// Starts that wait for news of the nodes, to choose one.
    pub(super) unplaced: Vec<(ChildId, Attempt)>,
    /// The look at the nodes that is under way.
    pub(super) look: Option<Look>,
    /// Whose successors are being started.
    pub(super) succeeding: HashMap<Attempt, Pid>,
    /// What has to go from nodes that are about to leave, and who waits for that.
    pub(super) evacuation: Evacuation,
    pub(super) evacuating: Vec<(NodeId, ReplyTo<u64>)>,
    /// Children that were not handed over, and do not move again until then.
    pub(super) stays_until: HashMap<ChildId, Instant>,
    /// Nodes to which none could be, and none is until then.
    pub(super) not_to_until: HashMap<NodeName, Instant>,
    /// Who is to take its place, once nothing is under way.
    pub(super) bequest: Option<Ask<Pid, Estate>>,
    /// The supervisor whose place it takes.
    pub(super) inherits: Option<Pid>,
    /// Whether it will look if children that spread have to move, and whether it looks for that now.
    pub(super) balancing: bool,
    pub(super) balance_due: bool,
    /// Requests that the machine has not answered.
    pub(super) requesters: Requesters,
    /// Who waits for the first start of all children.
    pub(super) told: Option<oneshot::Sender<Result<(), SupervisorError>>>,
    /// Why it did not succeed; told when nothing is left.
    pub(super) start_error: SupervisorError,
}

/// News of the nodes that are up.
pub(super) type Look = Pin<Box<dyn Future<Output = Vec<NodeStatus>> + Send>>;

impl Driver {
    pub(super) fn new(
        context: Context<SupervisorMessage>,
        spec: SupervisorSpec,
        told: oneshot::Sender<Result<(), SupervisorError>>,
    ) -> Self {
        let mut children = spec.children;
        let template = match spec.strategy {
            Strategy::SimpleOneForOne => children.pop().map(|template| (template, 0)),
            _ => None,
        };
        let plans = children.iter().map(ChildSpec::plan).collect();
        let registered = spec.name.or_else(|| spec.cluster_name.clone());
        let intensity = Intensity::new(spec.intensity, spec.period);
        Self {
            name: registered.as_ref().map_or_else(|| context.pid().to_string(), ToString::to_string),
            registered,
            cluster_name: spec.cluster_name,
            machine: StrategyMachine::new(spec.strategy, intensity, spec.backoff, plans)
                .auto_shutdown(spec.auto_shutdown),
            specs: children.into_iter().map(|child| (child.id.clone(), child)).collect(),
            template,
            context,
            homes: Homes::default(),
            starts: PendingStarts::default(),
            unplaced: Vec::new(),
            look: None,
            succeeding: HashMap::new(),
            evacuation: Evacuation::default(),
            evacuating: Vec::new(),
            stays_until: HashMap::new(),
            not_to_until: HashMap::new(),
            bequest: None,
            inherits: None,
            balancing: false,
            balance_due: false,
            requesters: Requesters::default(),
            told: Some(told),
            start_error: SupervisorError::Ended,
        }
    }

    /// It takes the place of `of`, which runs, and its children with it.
    pub(super) fn inheriting(mut self, of: Option<Pid>) -> Self {
        self.inherits = of;
        self
    }

    pub(super) async fn run(mut self) -> ExitReason {
        self.context.trap_exits(true);
        self.context.monitor_nodes(true);
        if let Some(of) = self.inherits.take() {
            if let Err(reason) = self.inherit(&of).await {
                return reason;
            }
        } else if let Some(name) = self.cluster_name.take()
            && let Err(error) = self.context.register_in_cluster(&name).await
        {
            let text = error.to_string();
            let taken = matches!(error.0, RequestError::NameTaken { .. });
            if let Some(told) = self.told.take() {
                drop(told.send(Err(SupervisorError::ClusterName(error))));
            }
            return if taken { ExitReason::NameConflict(text) } else { ExitReason::Error(text) };
        }
        self.machine.handle_start();
        loop {
            self.go_on_evacuating();
            if let Some(reason) = self.carry_out() {
                if let Some(told) = self.told.take() {
                    drop(told.send(Err(self.start_error)));
                }
                return reason;
            }
            if let Some(ask) = self.bequest.take_if(|_| self.machine.is_quiet())
                && let Some(reason) = self.bequeath(ask).await
            {
                return reason;
            }
            // Starts first: what a child does comes after it was started.
            tokio::select! {
                biased;
                finished = self.starts.next() => self.start_finished(finished),
                up = next_look(&mut self.look) => self.looked(&up),
                received = self.context.receive() => match received {
                    Received::Message(message) => self.message(message),
                    Received::Event(event) => self.event(event),
                },
            }
        }
    }

    pub(super) fn message(&mut self, message: SupervisorMessage) {
        use SupervisorMessage as Asked;
        match message {
            Asked::Children(reply) => drop(reply.send(self.infos())),
            Asked::Count(reply) => drop(reply.send(self.machine.count())),
            Asked::GetSpec(ask) => match self.spec(&ask.value) {
                Some(spec) => drop(ask.reply.send(ChildSpecInfo::from(spec))),
                None => ask.reply.refuse(CommandError::NoSuchChild(ask.value).to_string()),
            },
            Asked::StartChild(ask) if self.template.is_some() => {
                ask.reply
                    .refuse("this is a simple_one_for_one supervisor: ask it to StartDynamic, with arguments alone");
            }
            Asked::StartChild(ask) => self.add(ask.value.into(), ask.reply),
            Asked::StartDynamic(ask) => match self.instance(ask.value) {
                Ok(child) => self.add(child, ask.reply),
                Err(why) => ask.reply.refuse(why),
            },
            Asked::StopChild(ask) => {
                if let Some(command) = self.requesters.add(Requester::Done(ask.reply)) {
                    self.machine.handle_stop_child(command, &ask.value);
                }
            }
            Asked::StopPid(ask) => {
                if let Some(command) = self.requesters.add(Requester::Done(ask.reply)) {
                    self.machine.handle_stop_pid(command, &ask.value);
                }
            }
            Asked::RestartChild(ask) => {
                if let Some(command) = self.requesters.add(Requester::Pid(ask.reply)) {
                    self.machine.handle_restart_child(command, &ask.value);
                }
            }
            Asked::DeleteChild(ask) => {
                if let Some(command) = self.requesters.add(Requester::Done(ask.reply)) {
                    self.machine.handle_delete_child(command, &ask.value);
                }
            }
            Asked::Evacuate(ask) => self.evacuate(ask.value, ask.reply),
            Asked::Evacuating => self.evacuating(),
            // The last one counts: others have waited too long.
            Asked::Bequeath(ask) if ask.reply.asked_by_member() => self.bequest = Some(ask),
            Asked::Bequeath(ask) => ask.reply.refuse(MEMBERS_ALONE),
            Asked::Bequeathed(ask) => ask.reply.refuse("its place is not being taken, and it goes on"),
            Asked::Overdue(pid) => self.context.exit(&pid, ExitReason::Kill),
            Asked::Timer(token) => self.machine.handle_timer(token),
            Asked::Rebalance => {
                self.balance_due = true;
                self.look_around();
            }
        }
    }

    fn spec(&self, id: &ChildId) -> Option<&ChildSpec> {
        let template = self.template.as_ref().map(|(template, _)| template).filter(|template| template.id == *id);
        template.or_else(|| self.specs.get(id))
    }

    /// A dynamic child that is asked for.
    fn instance(&mut self, extra: Json) -> Result<ChildSpec, String> {
        let Some((template, started)) = &mut self.template else {
            return Err("this is no simple_one_for_one supervisor: ask it to StartChild, with a child spec".to_owned());
        };
        *started += 1;
        template.instance(*started, extra)
    }

    fn add(&mut self, spec: ChildSpec, reply: ReplyTo<Pid>) {
        let Some(command) = self.requesters.add(Requester::Pid(reply)) else { return };
        let plan = spec.plan();
        // Looked at before the spec is kept: it must not replace that of a child of the same id.
        if let Err(error) = self.machine.may_add(&plan) {
            return self.requesters.answer(command, Err(error));
        }
        self.specs.insert(spec.id.clone(), spec);
        self.machine.handle_add(command, plan);
    }

    pub(super) fn event(&mut self, event: Event) {
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
            Event::NameConflict { name, holder } => {
                tracing::warn!(supervisor = self.name, %name, %holder, "another one has the name; this one ends");
                self.machine.handle_stop(ExitReason::NameConflict(format!("`{name}` belongs to {holder}")));
            }
            Event::Down(down) => {
                if let Some(pid) = down.pid() {
                    self.down(&pid, down.reason);
                }
            }
            Event::NodeDown { node, .. } => self.evacuation.gone(&node),
            Event::NodeUp(node) => {
                self.homes.node_up(node.name());
                self.machine.handle_node_up(&node);
                self.rebalance();
            }
            _ => {}
        }
    }

    fn down(&mut self, pid: &Pid, reason: ExitReason) {
        // A child may end at once: its start was done before, and is taken note of before.
        while let Some(finished) = self.starts.take_finished() {
            self.start_finished(finished);
        }
        let lost = reason == ExitReason::NoConnection && pid.node() != self.context.pid().node();
        if let Some(child) = self.machine.child_of(pid) {
            self.homes.left(child, pid.node().name(), lost);
        }
        if lost { self.machine.handle_lost(pid, now()) } else { self.machine.handle_down(pid, reason, now()) }
    }

    fn start_finished(&mut self, finished: Finished) {
        let Finished { child, attempt, node, outcome } = finished;
        match outcome {
            Ok(pid) => {
                self.context.monitor(&pid);
                self.machine.handle_started(attempt, pid, now());
                self.rebalance();
            }
            Err(error) => {
                let nowhere = matches!(error, RequestError::NoConnection | RequestError::Draining);
                if let Some(node) = node {
                    let shun = matches!(error, RequestError::UnknownBehaviour { .. });
                    self.homes.start_failed(&child, &node, shun);
                }
                let failure =
                    if nowhere { StartFailure::NoPlace(error.to_string()) } else { StartFailure::Failed(error) };
                self.machine.handle_start_failed(attempt, failure, now());
            }
        }
    }

    /// Does what the machine wants; gives the reason to end with, once there is one.
    fn carry_out(&mut self) -> Option<ExitReason> {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Start { child, attempt } => self.start(child, attempt),
                Effect::Succeed { child, attempt, pid } => self.succeed(child, attempt, pid),
                Effect::Retire(pid) => self.context.unlink(&pid),
                Effect::Shutdown(pid) => self.context.exit(&pid, ExitReason::Shutdown),
                Effect::Kill(pid) => self.context.exit(&pid, ExitReason::Kill),
                Effect::Dismiss(pid) => {
                    self.context.exit(&pid, ExitReason::Shutdown);
                    self.context.send_after(DEFAULT_SHUTDOWN, SupervisorMessage::Overdue(pid));
                }
                Effect::SetTimer { token, after } => {
                    self.context.send_after(after, SupervisorMessage::Timer(token));
                }
                Effect::Answer { command, outcome } => self.requesters.answer(command, outcome),
                Effect::Forget(child) => {
                    self.specs.remove(&child);
                    self.homes.forget(&child);
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

    pub(super) fn start(&mut self, child: ChildId, attempt: Attempt) {
        match self.specs.get(&child).map(|spec| &spec.start) {
            Some(ChildStart::Behaviour { placement, .. }) if placement.is_choice() => {
                self.unplaced.push((child, attempt));
                self.look_around();
            }
            Some(ChildStart::Behaviour { .. }) => {
                self.place(child, attempt, &status::with_told(self.context.runtime(), |_| None))
            }
            Some(ChildStart::Local(start)) => {
                let start = start.clone();
                let (runtime, options) =
                    (self.context.runtime().clone(), SpawnOptions::new().link_to(self.context.pid()));
                // Called where it is polled, so that a panic in it is caught in one place.
                let starting = Box::pin(async move { start.call(runtime, options).await });
                self.starts.push(child, attempt, None, starting);
            }
            // The machine forgets a child before its spec is forgotten.
            None => self.no_place(attempt, "its spec is gone".to_owned()),
        }
    }

    /// Starts a child on the node that its placement chooses.
    fn place(&mut self, child: ChildId, attempt: Attempt, up: &[NodeStatus]) {
        let Some(ChildSpec { start: ChildStart::Behaviour { start, placement }, .. }) = self.specs.get(&child) else {
            return self.no_place(attempt, "its spec is gone".to_owned());
        };
        let of = self.succeeding.remove(&attempt);
        let runtime = self.context.runtime().clone();
        let up = &self.without_leaving(up)[..];
        let chosen = placement.choose(&child, runtime.node(), up, &self.homes);
        let Some(node) = chosen.filter(|node| of.as_ref().is_none_or(|of| of.node() != node)) else {
            let detail = format!("{placement} is not up");
            return self.no_place(attempt, detail);
        };
        self.homes.chosen(&child, node.name(), placement);
        if let Some(status) = up.iter().find(|status| status.node == node) {
            self.homes.started_on(status);
        }
        let name: NodeName = node.name().clone();
        let start = start.clone().link();
        let starting: Starting = match of {
            Some(of) => Box::pin(async move { Ok(runtime.start_on(&node, start.succeed(of)).await?.pid) }),
            None => Box::pin(start_patiently(runtime, node, start)),
        };
        self.starts.push(child, attempt, Some(name), starting);
    }

    fn no_place(&mut self, attempt: Attempt, detail: String) {
        self.machine.handle_start_failed(attempt, StartFailure::NoPlace(detail), now());
    }

    /// Asks what is known of the nodes, once for all who wait to know it.
    fn look_around(&mut self) {
        if self.look.is_none() {
            let runtime = self.context.runtime().clone();
            self.look = Some(Box::pin(async move { status::look(&runtime, LOOK_TIMEOUT).await }));
        }
    }

    fn looked(&mut self, up: &[NodeStatus]) {
        for (child, attempt) in std::mem::take(&mut self.unplaced) {
            self.place(child, attempt, up);
        }
        if std::mem::take(&mut self.balance_due) {
            self.balancing = false;
            // Its own place is about to be taken: nothing new is begun.
            if self.bequest.is_some() || self.context.runtime().is_draining() {
                return;
            }
            self.stays_until.retain(|_, until| *until > now());
            self.not_to_until.retain(|_, until| *until > now());
            let may_move = |child: &ChildId| !self.stays_until.contains_key(child) && self.machine.may_move(child);
            if let Some(child) = self.homes.next_move(up, may_move, |node| !self.not_to_until.contains_key(node)) {
                self.machine.handle_hand_over(&child);
                self.rebalance();
            }
        }
    }

    /// Looks soon whether a child that spreads has to move.
    pub(super) fn rebalance(&mut self) {
        if self.homes.any_spread() && !std::mem::replace(&mut self.balancing, true) {
            self.context.send_after(SPREAD_MOVE_EVERY, SupervisorMessage::Rebalance);
        }
    }

    fn report(&mut self, report: &Report) {
        if let Report::StartFailed { child, cause } = report {
            self.start_error = SupervisorError::ChildFailed { child: child.clone(), cause: cause.to_string() };
        }
        if let Report::NotMoved { child, failure } = report {
            self.not_moved(child, failure);
        }
        if matches!(report, Report::Restarting { .. }) {
            self.context.runtime().count_restart(self.registered.as_ref().map(ProcessName::as_str));
        }
        report::log(&self.name, report, self.homes.last(report::child_of(report)));
    }

    fn infos(&self) -> Vec<ChildInfo> {
        let info = |child: ChildView<'_>| ChildInfo {
            id: child.id.clone(),
            pid: child.pid.cloned(),
            node: child.pid.map(|pid| pid.node().name().clone()),
            status: child.status,
            kind: child.kind,
            significant: child.significant,
            restart: child.restart,
            restarts: child.restarts,
            last_end: child.last_end.map(str::to_owned),
        };
        self.machine.children().map(info).collect()
    }
}

/// What comes of the look that is under way; never done while there is none.
async fn next_look(look: &mut Option<Look>) -> Vec<NodeStatus> {
    let up = poll_fn(|cx| look.as_mut().map_or(Poll::Pending, |look| look.as_mut().poll(cx))).await;
    *look = None;
    up
}

/// The runtime's monotonic clock, which its timers go by as well.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Starts a child; waits while somebody else has its cluster name, who may be a former self that has not heard yet that its
/// supervisor is lost.
async fn start_patiently(runtime: Runtime, node: NodeId, start: Start) -> Result<Pid, RequestError> {
    let begin = tokio::time::Instant::now();
    loop {
        match runtime.start_on(&node, start.clone()).await {
            Err(RequestError::NameTaken { name, .. })
                if start.registered_in_cluster() == Some(&name) && begin.elapsed() < NAME_PATIENCE =>
            {
                tokio::time::sleep(NAME_RETRY).await;
            }
            started => return Ok(started?.pid),
        }
    }
}
