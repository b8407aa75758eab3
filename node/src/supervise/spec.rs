//! What a supervisor is started with: its children, in the order of their start, and how it treats them.
//!
//! A program builds it; [`SupervisorSpec`] is checked when the supervisor starts, and what is wrong with it is an error
//! that names the child. How a child is started stays with the supervisor's process; what the state machine needs of it
//! is its plan.

use std::{collections::HashSet, time::Duration};

use rookery_runtime::{ProcessName, RegisterError, SpawnError};
use thiserror::Error;

use crate::{
    json::Json,
    supervise::{
        effect::{ChildPlan, Insignificant},
        limits::{DEFAULT_INTENSITY, DEFAULT_PERIOD, MAX_CHILDREN},
        policy::{AutoShutdown, Backoff, ChildId, ChildType, Restart, Shutdown, Strategy},
        start::ChildStart,
    },
};

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
    /// It was to take the place of another one, and could not.
    #[error("the supervisor did not take the place of another: {0}")]
    NotInherited(String),
    /// It was ended before all its children were started.
    #[error("the supervisor ended while it was starting its children")]
    Ended,
}
