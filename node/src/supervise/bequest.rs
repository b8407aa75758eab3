//! How a supervisor hands over its children themselves: to one that takes its place on another node, since its own is about
//! to leave. The children run on, and know it only by obeying another parent.
//!
//! ```text
//! new ── Bequeath ──▶ old: changes nothing from now on; tells the children as they are
//! new: takes old's name behind it, links to the children, lets them obey it
//! new ── Bequeathed ──▶ old: gives up the name, unlinks, passes on what comes; ends with its node
//! ```
//! When the new one ends before that, or takes too long, the old one goes on with all that came meanwhile. When old's node is
//! lost before it, the new one goes on: children that old's loss has taken are started again.

use std::time::Instant;

use rookery_runtime::{CallError, Codec, Event, ExitReason, Pid, Received};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ask::Ask,
    json::Json,
    supervise::{
        commands::ChildView,
        driver::Driver,
        limits::{BEQUEST_FORWARDS, BEQUEST_LIMIT, BEQUEST_PATIENCE},
        message::{ChildSpecData, ChildStatus, SupervisorMessage},
        spec::{ChildSpec, SupervisorError},
        start::ChildStart,
    },
};

/// A supervisor's children as they are, in the order of their start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    /// The children.
    pub children: Vec<Heirloom>,
    /// How many dynamic children there have been.
    pub started: u64,
}

/// A child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heirloom {
    /// How it is started and treated.
    pub spec: ChildSpecData,
    /// Its process, while it has one.
    pub pid: Option<Pid>,
    /// It has ended, or was stopped, and is not to be started by itself.
    pub stopped: bool,
    /// How often it was started again.
    pub restarts: u64,
}

impl ChildSpecData {
    /// A child's spec as data; `None` for one that a program starts, or with arguments that are no JSON.
    fn of(spec: &ChildSpec) -> Option<Self> {
        let ChildStart::Behaviour { start, placement } = &spec.start else { return None };
        let arguments = match start.arguments().codec {
            Codec::Json => serde_json::from_slice::<Value>(&start.arguments().body).ok()?,
            _ => return None,
        };
        Some(Self {
            id: spec.id.clone(),
            behaviour: start.behaviour().clone(),
            arguments: Json(arguments),
            name: start.registered_name().cloned(),
            cluster_name: start.registered_in_cluster().cloned(),
            groups: start.groups().to_vec(),
            restart: spec.restart,
            shutdown: Some(spec.shutdown),
            placement: placement.clone(),
            significant: spec.significant,
            kind: Some(spec.kind),
        })
    }
}

impl Driver {
    /// Lets `ask.value` take this supervisor's place. Comes back with nothing when it does not, and with the reason to end
    /// with when it has, and nothing more comes.
    pub(super) async fn bequeath(&mut self, ask: Ask<Pid, Estate>) -> Option<ExitReason> {
        let Ask { value: heir, reply } = ask;
        let estate = match self.estate() {
            Ok(estate) => estate,
            Err(why) => {
                reply.refuse(why);
                return None;
            }
        };
        let monitor = self.context.monitor(&heir);
        if let Err(error) = reply.send(estate) {
            tracing::warn!(supervisor = self.name, %heir, %error, "the children cannot be told");
            return None;
        }
        let until = Instant::now() + BEQUEST_LIMIT;
        let mut meanwhile = Vec::new();
        let taken = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.context.receive_timeout(left).await {
                None => break false,
                Some(Received::Message(SupervisorMessage::Bequeathed(ask)))
                    if ask.value == heir && ask.reply.asked_by_member() =>
                {
                    ask.reply.answer(());
                    break true;
                }
                Some(Received::Event(Event::Down(down))) if down.monitor == monitor => break false,
                Some(Received::Event(event @ Event::Exit { linked: false, .. })) => {
                    meanwhile.push(Received::Event(event));
                    break false;
                }
                Some(Received::Event(event @ Event::Exit { .. })) => {
                    let told = matches!(&event, Event::Exit { from, .. } if self.context.parent() == Some(from));
                    meanwhile.push(Received::Event(event));
                    if told {
                        break false;
                    }
                }
                Some(received) => meanwhile.push(received),
            }
        };
        if taken {
            return Some(self.pass_on(heir, meanwhile).await);
        }
        tracing::info!(supervisor = self.name, %heir, "its place was not taken, and it goes on");
        self.context.demonitor(monitor);
        for received in meanwhile {
            match received {
                Received::Message(message) => self.message(message),
                Received::Event(event) => self.event(event),
            }
        }
        None
    }

    /// The children; nothing is under way.
    fn estate(&self) -> Result<Estate, String> {
        let heirloom = |child: ChildView<'_>| {
            let spec = self.specs.get(child.id).and_then(ChildSpecData::of);
            let spec = spec.ok_or_else(|| format!("child `{}` cannot be told in a message", child.id))?;
            let stopped = child.status == ChildStatus::Stopped;
            Ok(Heirloom { spec, pid: child.pid.cloned(), stopped, restarts: child.restarts })
        };
        let children = self.machine.children().map(heirloom).collect::<Result<_, String>>()?;
        Ok(Estate { children, started: self.template.as_ref().map_or(0, |(_, started)| *started) })
    }

    /// Its place is taken: nothing is its own any more, and what comes goes on.
    async fn pass_on(&mut self, heir: Pid, meanwhile: Vec<Received<SupervisorMessage>>) -> ExitReason {
        let pid = self.context.pid().clone();
        let runtime = self.context.runtime().clone();
        for name in [self.cluster_name.clone(), self.registered.clone()].into_iter().flatten() {
            drop(runtime.unregister_in_cluster(&name, &pid).await);
        }
        let children: Vec<Pid> = self.machine.children().filter_map(|child| child.pid.cloned()).collect();
        children.iter().for_each(|child| self.context.unlink(child));
        tracing::info!(supervisor = self.name, %heir, children = children.len(), "another one has taken its place");
        let address = runtime.address::<SupervisorMessage>(&heir);
        for received in meanwhile {
            if let Received::Message(message) = received {
                drop(address.send(message).await);
            }
        }
        let until = Instant::now() + BEQUEST_FORWARDS;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.context.receive_timeout(left).await {
                // Asked again, since the answer was late.
                Some(Received::Message(SupervisorMessage::Bequeathed(ask))) if ask.value == heir => {
                    ask.reply.answer(())
                }
                Some(Received::Message(message)) => drop(address.send(message).await),
                Some(Received::Event(Event::Exit { linked: false, reason, .. })) => return reason,
                Some(Received::Event(Event::Exit { from, reason, .. })) if self.context.parent() == Some(&from) => {
                    return reason;
                }
                Some(Received::Event(Event::Down(down))) if down.pid().as_ref() == Some(&heir) => return down.reason,
                Some(Received::Event(_)) => {}
                None => return ExitReason::Normal,
            }
        }
    }

    /// Takes the place of `of`: its children, and its name.
    pub(super) async fn inherit(&mut self, of: &Pid) -> Result<(), ExitReason> {
        let taken = self.take_place_of(of).await;
        if let Err(reason) = &taken
            && let Some(told) = self.told.take()
        {
            drop(told.send(Err(SupervisorError::NotInherited(reason.to_string()))));
        }
        taken
    }

    async fn take_place_of(&mut self, of: &Pid) -> Result<(), ExitReason> {
        let until = Instant::now() + 2 * BEQUEST_PATIENCE;
        let own = self.context.pid().clone();
        let former = self.context.runtime().address::<SupervisorMessage>(of);
        let failed = |error: &CallError| ExitReason::Error(format!("{of} does not hand over its children: {error}"));
        let asked = |reply| SupervisorMessage::Bequeath(Ask::new(own.clone(), reply));
        let estate: Estate = former.call_within(BEQUEST_PATIENCE, asked).await.map_err(|error| failed(&error))?;
        if let Some(name) = self.cluster_name.take() {
            let named = self.context.succeed_in_cluster(&name, of).await;
            named.map_err(|error| ExitReason::Error(error.to_string()))?;
        }
        let children: Vec<Pid> = estate.children.iter().filter_map(|child| child.pid.clone()).collect();
        for child in &children {
            self.context.link(child);
            self.context.monitor(child);
            self.context.runtime().adopt(child, &own);
        }
        let done = |reply| SupervisorMessage::Bequeathed(Ask::new(own.clone(), reply));
        // An answer that is late may have been given: asked again, for as long as whoever chose this one waits.
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(BEQUEST_PATIENCE / 4);
            match former.call_within(left.min(BEQUEST_PATIENCE), done).await {
                Ok(()) => break,
                // Lost now: nobody else has them.
                Err(CallError::NoProc | CallError::NoConnection | CallError::Exited(_)) => break,
                Err(CallError::Timeout) if Instant::now() < until => {}
                Err(error) => {
                    for child in &children {
                        self.context.unlink(child);
                        self.context.runtime().adopt(child, of);
                    }
                    return Err(failed(&error));
                }
            }
        }
        self.take_in(estate);
        Ok(())
    }

    fn take_in(&mut self, estate: Estate) {
        if let Some((_, started)) = &mut self.template {
            *started = estate.started;
        }
        self.specs.clear();
        let mut family = Vec::new();
        for Heirloom { spec, pid, stopped, restarts } in estate.children {
            let spec = ChildSpec::from(spec);
            if let (Some(pid), ChildStart::Behaviour { placement, .. }) = (&pid, &spec.start) {
                self.homes.chosen(&spec.id, pid.node().name(), placement);
            }
            family.push((spec.plan(), pid, stopped, restarts));
            self.specs.insert(spec.id.clone(), spec);
        }
        self.machine.handle_inherit(family);
        self.rebalance();
    }
}
