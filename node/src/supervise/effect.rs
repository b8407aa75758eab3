//! What the strategy's state machine wants done, and the tokens by which it is told what came of it. Each token is
//! used once, so whatever comes late is recognised and ignored.

use std::time::Duration;

use rookery_runtime::{ExitReason, Pid, RequestError};
use thiserror::Error;

use crate::supervise::policy::{AutoShutdown, ChildId, ChildType, Restart, Shutdown};

/// One attempt to start a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt(pub u64);

/// One timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerToken(pub u64);

/// One request of somebody else's that waits for its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandId(pub u64);

/// What the state machine has to know of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildPlan {
    /// Its name.
    pub id: ChildId,
    /// When it is started again.
    pub restart: Restart,
    /// How it is ended.
    pub shutdown: Shutdown,
    /// Whether its end can end the supervisor (V5).
    pub significant: bool,
    /// What it is, for who asks.
    pub kind: ChildType,
}

impl ChildPlan {
    /// Whether a supervisor with this setting can have such a child.
    ///
    /// # Errors
    /// It is significant, but always restarted, or no child's end ends the supervisor.
    pub fn fits(&self, auto_shutdown: AutoShutdown) -> Result<(), Insignificant> {
        match (self.significant, self.restart, auto_shutdown) {
            (true, Restart::Permanent, _) => Err(Insignificant::Permanent),
            (true, _, AutoShutdown::Never) => Err(Insignificant::Never),
            _ => Ok(()),
        }
    }
}

/// Why a child cannot be significant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Insignificant {
    /// It is always started again.
    #[error("a significant child must be transient or temporary: a permanent one never ends for good")]
    Permanent,
    /// The supervisor never shuts down by itself.
    #[error("a significant child needs a supervisor with automatic shutdown, any_significant or all_significant")]
    Never,
}

/// What is to be done. The order counts.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start the child, and tell `handle_started` or `handle_start_failed`.
    Start {
        /// Which child.
        child: ChildId,
        /// To be given back.
        attempt: Attempt,
    },
    /// Start the child's successor on another node, as [`Start`](Self::Start); the child hands over to it.
    Succeed {
        /// Which child.
        child: ChildId,
        /// To be given back.
        attempt: Attempt,
        /// Who hands over.
        pid: Pid,
    },
    /// Be tied no more to this process: another one has taken its place. It ends by itself.
    Retire(Pid),
    /// Send the child an exit signal `Shutdown`.
    Shutdown(Pid),
    /// Send the child an exit signal `Kill`.
    Kill(Pid),
    /// Send a process that is no child's an exit signal `Shutdown`, and `Kill` if it takes too long.
    Dismiss(Pid),
    /// Tell `handle_timer` after this time.
    SetTimer {
        /// To be given back.
        token: TimerToken,
        /// From now.
        after: Duration,
    },
    /// Answer a request.
    Answer {
        /// Which.
        command: CommandId,
        /// The child's pid, where it was started.
        outcome: Result<Option<Pid>, CommandError>,
    },
    /// The child is none any more: forget how it is started.
    Forget(ChildId),
    /// Tell the operator.
    Report(Report),
    /// Every child has been started for the first time.
    Up,
    /// No child is left; end with this reason. The last effect.
    Ended(ExitReason),
}

/// What an operator is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A child runs.
    Started {
        /// Which.
        child: ChildId,
        /// As this process.
        pid: Pid,
    },
    /// A child, or with it its group, is restarted.
    Restarting {
        /// Which child.
        child: ChildId,
        /// Why.
        cause: Cause,
        /// Restarts within the period, this one among them.
        restarts: u32,
        /// Waits for so long first.
        delay: Duration,
    },
    /// A child ended and is not restarted.
    Ended {
        /// Which.
        child: ChildId,
        /// Why.
        reason: ExitReason,
    },
    /// A child has no node to live on, and waits for one.
    NoPlace {
        /// Which.
        child: ChildId,
        /// What is missing.
        detail: String,
        /// Looks again after so long.
        delay: Duration,
    },
    /// A child moves to another node; no restart.
    Moving {
        /// Which.
        child: ChildId,
        /// The process that ends here.
        pid: Pid,
    },
    /// A child has moved to another node.
    Moved {
        /// Which.
        child: ChildId,
        /// As this process.
        pid: Pid,
    },
    /// A child has not moved, and stays where it is.
    NotMoved {
        /// Which.
        child: ChildId,
        /// Why.
        failure: StartFailure,
    },
    /// The supervisor shuts down by itself, since this significant child has ended (V5).
    AutoShutdown(ChildId),
    /// A child did not shut down within its limit, and is killed or, if it was still starting, given up.
    TooSlow(ChildId),
    /// A child could not be started for the first time; the supervisor ends.
    StartFailed {
        /// Which.
        child: ChildId,
        /// Why.
        cause: Cause,
    },
    /// The supervisor ends since its intensity is reached.
    IntensityReached {
        /// The child whose restart was one too many.
        child: ChildId,
        /// Why it would have been restarted.
        cause: Cause,
    },
}

/// Why a child has to be restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It ended.
    Exit {
        /// The process that ended.
        pid: Pid,
        /// Why.
        reason: ExitReason,
    },
    /// Its node is lost, which says nothing against the child.
    Lost {
        /// The process that was there.
        pid: Pid,
    },
    /// It could not be started.
    Start(StartFailure),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit { reason, .. } => reason.fmt(f),
            Self::Lost { .. } => ExitReason::NoConnection.fmt(f),
            Self::Start(failure) => failure.fmt(f),
        }
    }
}

/// Why a child was not started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartFailure {
    /// No node to start it on is up, or the one that was is gone. Says nothing against the child, so it does not count
    /// against the intensity.
    #[error("no place to live: {0}")]
    NoPlace(String),
    /// The start failed.
    #[error(transparent)]
    Failed(#[from] RequestError),
}

/// Why a request about a child was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// There is no such child.
    #[error("there is no child `{0}`; ask for the children to see what there is")]
    NoSuchChild(ChildId),
    /// There is no child that runs as this process.
    #[error("no child runs as {0}; ask for the children to see what there is")]
    NoSuchPid(Pid),
    /// A child of this kind cannot be significant.
    #[error("child `{child}` is not taken: {why}")]
    Insignificant {
        /// Which.
        child: ChildId,
        /// Why.
        why: Insignificant,
    },
    /// There is a child of that id.
    #[error("there is a child `{0}` already; delete it first, or restart it")]
    AlreadyPresent(ChildId),
    /// The child is not stopped.
    #[error("child `{0}` is not stopped; stop it first")]
    NotStopped(ChildId),
    /// As many children as there may be.
    #[error("the supervisor has its limit of {0} children")]
    TooManyChildren(usize),
    /// The child was not started.
    #[error("child `{child}` was not started: {failure}")]
    StartFailed {
        /// Which.
        child: ChildId,
        /// Why.
        failure: StartFailure,
    },
    /// The child was stopped while it was being started.
    #[error("child `{0}` was stopped before it had started")]
    Stopped(ChildId),
    /// The supervisor is not up yet, or ends.
    #[error("the supervisor is {0}, and takes no such request")]
    NotUp(&'static str),
}
