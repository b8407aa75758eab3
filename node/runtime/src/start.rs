//! What is started by the name of its behaviour, here or on another node (R1, R2).

use rookery_protocol::{BehaviourName, Codec, Group, Payload, Pid, ProcessName, Ref, Tag, codec};

use crate::{message::Message, tag_of};

/// A behaviour to start by name, here or on another node.
#[derive(Debug, Clone)]
pub struct Start {
    pub(crate) behaviour: BehaviourName,
    pub(crate) arguments: Payload,
    pub(crate) name: Option<ProcessName>,
    pub(crate) cluster_name: Option<ProcessName>,
    pub(crate) groups: Vec<Group>,
    pub(crate) link: bool,
    pub(crate) monitor: bool,
    /// Whose place it takes.
    pub(crate) of: Option<Pid>,
}

impl Start {
    /// Starts `behaviour` with JSON arguments, as `null` or `{"capacity":10}`.
    #[must_use]
    pub fn json(behaviour: BehaviourName, arguments: impl Into<String>) -> Self {
        Self::payload(behaviour, Payload::json(arguments))
    }

    /// Starts `behaviour` with arguments that are encoded already.
    #[must_use]
    pub fn payload(behaviour: BehaviourName, arguments: Payload) -> Self {
        let (name, cluster_name, groups) = (None, None, Vec::new());
        Self { behaviour, arguments, name, cluster_name, groups, link: false, monitor: false, of: None }
    }

    /// Starts `behaviour` with `arguments`, which it must take by this type.
    ///
    /// # Errors
    /// When `arguments` cannot be encoded.
    pub fn new<T: Message>(behaviour: BehaviourName, arguments: &T) -> Result<Self, String> {
        let mut body = Vec::new();
        codec::append(arguments, &mut body)?;
        let tag = Tag::from_static(tag_of::<T>());
        Ok(Self::payload(behaviour, Payload { tag, codec: Codec::Bincode, body: body.into() }))
    }

    /// What is started.
    #[must_use]
    pub fn behaviour(&self) -> &BehaviourName {
        &self.behaviour
    }

    /// What it is started with.
    #[must_use]
    pub fn arguments(&self) -> &Payload {
        &self.arguments
    }

    /// With other arguments.
    #[must_use]
    pub fn with_arguments(mut self, arguments: Payload) -> Self {
        self.arguments = arguments;
        self
    }

    /// The name that it gets in the cluster, if one.
    #[must_use]
    pub fn registered_in_cluster(&self) -> Option<&ProcessName> {
        self.cluster_name.as_ref()
    }

    /// The groups that it joins.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The name that it gets, if one.
    #[must_use]
    pub fn registered_name(&self) -> Option<&ProcessName> {
        self.name.as_ref()
    }

    /// Registered under this name on its node, before it runs.
    #[must_use]
    pub fn name(mut self, name: ProcessName) -> Self {
        self.name = Some(name);
        self
    }

    /// Registered under this name in the cluster before its `init` (N2); if another process has it, that is the answer.
    #[must_use]
    pub fn cluster_name(mut self, name: ProcessName) -> Self {
        self.cluster_name = Some(name);
        self
    }

    /// A member of this group before its `init`; of at most
    /// [`MAX_GROUPS_PER_SPAWN`](rookery_protocol::limits::MAX_GROUPS_PER_SPAWN).
    #[must_use]
    pub fn join(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }

    /// Takes the place of `of`, a process of a node of the cluster: with the state that it hands over
    /// ([`Server::hand_over`](crate::Server::hand_over)), if it does, and its names and groups as far as they are asked for here too. From then on
    /// `of` passes on what still comes for it, and ends. If the start fails `of` goes on as before.
    ///
    /// A node of a release that knows nothing of this answers `BadArguments`. Clients cannot ask for it.
    #[must_use]
    pub fn succeed(mut self, of: Pid) -> Self {
        self.of = Some(of);
        self
    }

    /// Linked with the process that starts it, from its first moment.
    #[must_use]
    pub fn link(mut self) -> Self {
        self.link = true;
        self
    }

    /// Monitored by the process that starts it, from its first moment.
    #[must_use]
    pub fn monitor(mut self) -> Self {
        self.monitor = true;
        self
    }
}

/// A process that was started from a behaviour, its `init` done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The process.
    pub pid: Pid,
    /// The monitor, if one was asked for.
    pub monitor: Option<Ref>,
}
