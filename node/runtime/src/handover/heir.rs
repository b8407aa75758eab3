//! A process that takes the place of another: how it gets the state, the names and the groups. Runs within the new process,
//! before it handles anything.
//!
//! When the old process is gone already, there is nothing to take over: the new one starts as any other does. When the old one
//! is there and does not hand over, or cannot be asked, the start fails, and the old one goes on.

use std::time::Duration;

use rookery_protocol::{ExitReason, Pid, request::RequestError};
use tokio::time::Instant;

use super::{
    limits::{ASK_PATIENCE, MAX_STATE_BYTES, OFFER_PATIENCE, PARTING_PATIENCE},
    parting::Arriving,
    porter::porter_of,
    state::Handover,
    succeeding::{Step, Succeeding, Way},
    wire::{Asked, Offer, Part, Relayed, Succession},
};
use crate::{
    address::Address,
    message::Message,
    process::context::Context,
    reply::{CallError, ReplyTo},
    runtime::Runtime,
};

/// One that takes a place.
pub(crate) struct Heir {
    succession: Box<Succession>,
    own: Pid,
    runtime: Runtime,
    porter: Address<Asked>,
    /// Whether the old process is there, and waits for the commit.
    stands: bool,
    /// Until when it waits.
    until: Instant,
}

impl Heir {
    /// Asks the old process for what it hands over, and waits for all of it.
    pub(crate) async fn begin<M: Message>(
        succession: Box<Succession>,
        context: &mut Context<M>,
    ) -> Result<(Self, Option<Handover>), RequestError> {
        let runtime = context.runtime().clone();
        let porter = runtime.address::<Asked>(porter_of(succession.of.node())?);
        let own = context.pid().clone();
        let mut heir =
            Self { succession, own, runtime, porter, stands: true, until: Instant::now() + PARTING_PATIENCE };
        let (of, new) = (heir.succession.of.clone(), heir.own.clone());
        let offer = match heir.porter.call_within(OFFER_PATIENCE, |reply| Asked::Offer(of, new, reply)).await {
            Ok(offer) => offer,
            Err(error @ CallError::Exited(_)) => {
                tracing::info!(of = %heir.succession.of, successor = %heir.own, %error, "there is nobody to take over from");
                heir.stands = false;
                return Ok((heir, None));
            }
            // Not connected yet, perhaps: it may well be there.
            Err(CallError::NoConnection) => return Err(RequestError::NoConnection),
            // Its node is of a release that hands nothing over.
            Err(CallError::NoProc | CallError::Unsupported { .. }) => return Err(RequestError::Unsupported),
            Err(error) => return Err(heir.failed(&error)),
        };
        context.succeeds(Some(&heir.succession.of));
        let Offer::State { version, bytes, first } = offer else { return Ok((heir, None)) };
        let bad = |why: String| RequestError::InitFailed(ExitReason::Error(format!("the state did not arrive: {why}")));
        let mut arriving = Arriving::new(version, bytes, &first, MAX_STATE_BYTES).map_err(bad)?;
        while let Some(offset) = arriving.wants() {
            let (of, new) = (heir.succession.of.clone(), heir.own.clone());
            let asked = |reply: ReplyTo<Part>| Asked::Part(of, new, offset, reply);
            let Part(part) = heir.ask(asked).await.map_err(|error| heir.failed(&error))?;
            arriving.add(&part).map_err(bad)?;
        }
        Ok((heir, Some(arriving.whole().map_err(bad)?)))
    }

    /// Takes names and groups. From then on the new process is the one, and the old one passes on.
    pub(crate) async fn take_place<M: Message>(mut self, context: &mut Context<M>) -> Result<(), RequestError> {
        if let Some(name) = self.succession.cluster_name.take() {
            context.register_in_cluster(&name).await.map_err(|error| error.0)?;
        }
        context.succeeds(None);
        if self.stands {
            self.commit(context.parent().cloned()).await?;
        }
        for group in std::mem::take(&mut self.succession.groups) {
            // It is the one by now: that it lacks a group is no reason to give up all it has.
            if let Err(error) = context.join(&group).await {
                tracing::warn!(pid = %self.own, %group, %error, "a successor is no member of its predecessor's group");
            }
        }
        Ok(())
    }

    /// Asks until it is known who is the one: it asks again when an answer is late, since it may have been given: for longer than the
    /// old one waits.
    async fn commit(&mut self, supervisor: Option<Pid>) -> Result<(), RequestError> {
        self.until += ASK_PATIENCE;
        // One of this node has lost whom this node has lost.
        let other = supervisor.filter(|supervisor| supervisor.node() != self.own.node());
        let mut succeeding = Succeeding::new(other.is_some(), self.until.into_std());
        let mut way = Way::Straight;
        loop {
            let (of, new) = (self.succession.of.clone(), self.own.clone());
            let answer = match (way, &other) {
                (Way::BySupervisor, Some(supervisor)) => {
                    tracing::info!(%of, successor = %new, %supervisor, "its predecessor is out of reach; its supervisor's node is asked");
                    let porter = self.runtime.address::<Asked>(porter_of(supervisor.node())?);
                    let asked = |reply| Asked::Relay(of, new, reply);
                    porter.call_within(self.patience(), asked).await.and_then(Relayed::answer)
                }
                _ => self.ask(|reply| Asked::Commit(of, new, reply)).await,
            };
            let lost = answer.is_err();
            match succeeding.answered(answer, Instant::now().into_std()) {
                Step::Ask(next) => way = next,
                Step::Serve => {
                    if lost {
                        tracing::info!(of = %self.succession.of, successor = %self.own, "took over from one that is lost");
                    }
                    return Ok(());
                }
                Step::Fail(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn patience(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        left.clamp(Duration::from_millis(1), ASK_PATIENCE)
    }

    async fn ask<T: Message>(&self, asked: impl FnOnce(ReplyTo<T>) -> Asked) -> Result<T, CallError> {
        self.porter.call_within(self.patience(), asked).await
    }

    fn failed(&self, error: &CallError) -> RequestError {
        match error {
            // It is busy, and may have the time when it is asked again.
            CallError::Timeout => return RequestError::Timeout,
            // It is perhaps as it was, and can be asked by another one.
            CallError::NoConnection => return RequestError::NoConnection,
            _ => {}
        }
        let text = format!("{} does not hand over: {error}", self.succession.of);
        RequestError::InitFailed(ExitReason::Error(text))
    }
}
