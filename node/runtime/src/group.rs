//! Sending to a group: one message to every member, or to one of them.
//!
//! A message goes once to each node that has members, and there to each of them (G4). It keeps its order with whatever
//! else its sender sends (S1), and the members of a node are those that it has when the message arrives. A client's
//! message goes to its node, which sends it on.

use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rookery_protocol::{
    Codec, Destination, Group, NodeId, Payload, Pid, Recipient, Serial, Signal, SignalBody, Tag, TraceContext,
    lane::MessageHead, request::RequestError,
};

use crate::{
    address::{Address, SendError},
    message::{self, Message, tag_of},
    net::outbound::{Body, NotTaken, Outbound},
    process::{
        bounded::Admission,
        current,
        mailbox::{Process, Pushed},
    },
    routing::is_of_client,
    runtime::Runtime,
    tally::{Kind, Route},
};

/// The members of a group, to send messages of type `M`.
///
/// ```no_run
/// # use rookery_runtime::{GroupAddress, Runtime};
/// # async fn example(runtime: &Runtime) -> Result<(), Box<dyn std::error::Error>> {
/// let rooms: GroupAddress<String> = runtime.group("chat#lobby".parse()?);
/// rooms.send("hello, everybody".to_owned()).await?;
/// if let Some(one) = rooms.pick().await? {
///     one.send("hello, you".to_owned()).await?;
/// }
/// # Ok(()) }
/// ```
pub struct GroupAddress<M: Message> {
    runtime: Runtime,
    group: Group,
    /// Counts what was sent round robin, and by any clone of this.
    turn: Arc<AtomicUsize>,
    message: PhantomData<fn(M)>,
}

impl<M: Message> GroupAddress<M> {
    pub(crate) fn new(runtime: Runtime, group: Group) -> Self {
        // Begins anywhere, or the first member would get the first message of everybody.
        let turn = usize::try_from(runtime.next_random()).unwrap_or_default();
        Self { runtime, group, turn: Arc::new(AtomicUsize::new(turn)), message: PhantomData }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Its members, each once. On a node without waiting; see [`Runtime::members`].
    ///
    /// # Errors
    /// Only in a client: the node cannot be asked, or does not answer within 10 s.
    pub async fn members(&self) -> Result<Vec<Address<M>>, RequestError> {
        Ok(self.runtime.members(&self.group).await?.into_iter().map(|pid| self.runtime.address(pid)).collect())
    }

    /// One member, by chance, each as likely as any other; `None` if there is none. As `members`.
    ///
    /// # Errors
    /// As [`members`](Self::members).
    pub async fn pick(&self) -> Result<Option<Address<M>>, RequestError> {
        self.member(usize::try_from(self.runtime.next_random() >> 1).unwrap_or_default()).await
    }

    /// The next member in turn, for sending round robin. Members that come and go shift the turn. As `members`.
    ///
    /// # Errors
    /// As [`members`](Self::members).
    pub async fn next(&self) -> Result<Option<Address<M>>, RequestError> {
        self.member(self.turn.fetch_add(1, Ordering::Relaxed)).await
    }

    async fn member(&self, number: usize) -> Result<Option<Address<M>>, RequestError> {
        if self.runtime.session().is_none() {
            return Ok(self.runtime.member(&self.group, number).map(|pid| self.runtime.address(pid)));
        }
        let members = self.runtime.members(&self.group).await?;
        Ok(number
            .checked_rem(members.len())
            .and_then(|at| members.get(at))
            .map(|pid| self.runtime.address(pid.clone())))
    }
}

impl<M: Message + Clone> GroupAddress<M> {
    /// Sends `message` to every member; once over the network to each node that has some. On this node the members get
    /// clones. At most one copy arrives at each (S2). Waits while the buffer to one of the nodes is full; a member whose
    /// bounded mailbox is full does not get it, which is counted as a dead letter on its node. Members in clients get it all
    /// the same.
    ///
    /// # Errors
    /// The message cannot be encoded, or carries a [`ReplyTo`](crate::ReplyTo); or it is larger than a node with members
    /// takes, which then gets none, as do those behind it.
    pub async fn send(&self, message: M) -> Result<(), SendError<M>> {
        let nodes = self.runtime.nodes_of_group(&self.group);
        if !nodes.is_empty() {
            let payload = match self.encode(&message) {
                Ok(payload) => payload,
                Err(detail) => return Err(SendError::Encode { detail, message }),
            };
            for node in nodes {
                if let Err((bytes, limit)) = self.send_to_node(&node, &payload).await {
                    return Err(SendError::TooLarge { bytes, limit, message });
                }
            }
        }
        for pid in self.runtime.local_members(&self.group) {
            self.send_here(&pid, &message);
        }
        Ok(())
    }

    fn encode(&self, message: &M) -> Result<Payload, String> {
        let codec = Codec::Bincode;
        let to = Destination { node: self.runtime.node().clone(), to: Recipient::Group(self.group.clone()) };
        message::encode(message, codec, &self.runtime, &to, |body, reply| match reply {
            None => Ok(Payload { tag: Tag::from_static(tag_of::<M>()), codec, body: message::taken(body) }),
            Some(_) => Err("a message to a group cannot carry a ReplyTo: whose answer would count?".to_owned()),
        })?
    }

    async fn send_to_node(&self, node: &NodeId, payload: &Payload) -> Result<(), (usize, usize)> {
        let to = Destination { node: node.clone(), to: Recipient::Group(self.group.clone()) };
        // Lost meanwhile: its members are gone.
        while let Some(connection) = self.runtime.connection(&to) {
            match push(&connection, &self.runtime, &to, payload) {
                Err(NotTaken::Full) => {
                    connection.room(self.runtime.sender(), payload.body.len()).await;
                }
                Err(NotTaken::TooLarge) => return Err((payload.body.len(), connection.max_message_bytes())),
                Ok(()) | Err(NotTaken::Closed) => break,
            }
        }
        Ok(())
    }

    fn send_here(&self, pid: &Pid, message: &M) {
        let local =
            self.runtime.process(pid).map(|process| (process.clone().as_any().downcast::<Process<M>>(), process));
        match local {
            Some((_, process)) if process.is_retired() => self.runtime.dead_letter(pid, "its successor gets it"),
            Some((Ok(process), _)) => match process.push(message.clone(), None) {
                Pushed::Queued => self.runtime.count(Route::Local, Kind::Message),
                _ => self.runtime.dead_letter(pid, "the member has ended, or its mailbox is full"),
            },
            Some((Err(_), process)) => match self.encode(message) {
                Ok(payload) => {
                    let trace = self.runtime.outgoing().map(Box::new);
                    process.deliver(payload, None, trace, Admission::IfRoom);
                }
                Err(detail) => self.runtime.dead_letter(pid, &detail),
            },
            // Of a client of this node, or it has just ended.
            None => match self.encode(message) {
                Ok(payload) => self.runtime.send_from_current(pid, payload),
                Err(detail) => self.runtime.dead_letter(pid, &detail),
            },
        }
    }
}

fn push(connection: &Outbound, runtime: &Runtime, to: &Destination, payload: &Payload) -> Result<(), NotTaken> {
    let from = current::pid().unwrap_or_else(|| runtime.own_pid());
    let trace = runtime.outgoing().filter(|_| connection.has_trace());
    let head = MessageHead {
        from: &from,
        to,
        tag: payload.tag.as_bytes(),
        codec: payload.codec,
        reply: None,
        deadline_ms: None,
        credit: None,
        trace: trace.as_ref(),
    };
    connection.push_message(&head, Body::Shared(&payload.body))?;
    runtime.count(Route::Sent, Kind::Message);
    Ok(())
}

impl Runtime {
    /// The other nodes that have members of the group; in a client, its node.
    fn nodes_of_group(&self, group: &Group) -> Vec<NodeId> {
        if self.session().is_some() {
            return vec![self.node().clone()];
        }
        let state = self.directory().read();
        state.groups.members(group).map(|members| members.nodes().cloned().collect()).unwrap_or_default()
    }

    /// Waits until there is room for a message of that size towards each node that has members of the group, or no connection to it.
    pub async fn room_for_group(&self, from: Serial, group: &Group, body_bytes: usize) {
        for node in self.nodes_of_group(group) {
            self.room(from, &Destination { node, to: Recipient::Group(group.clone()) }, body_bytes).await;
        }
    }

    /// The member at `number`, counted around.
    fn member(&self, group: &Group, number: usize) -> Option<Pid> {
        let state = self.directory().read();
        let members = state.groups.members(group)?;
        members.get(number.checked_rem(members.len())?).cloned()
    }

    fn send_from_current(&self, to: &Pid, payload: Payload) {
        let from = current::pid().unwrap_or_else(|| self.own_pid());
        self.signal(Signal {
            from,
            to: to.into(),
            body: SignalBody::Message {
                payload,
                reply: None,
                deadline_ms: None,
                credit: None,
                trace: self.outgoing().map(Box::new),
            },
        });
    }

    /// A message for the members that a group has on this node; a client's also for those on other nodes.
    pub(crate) fn receive_for_group(
        &self,
        from: Pid,
        group: &Group,
        payload: Payload,
        trace: Option<Box<TraceContext>>,
    ) {
        let message = |to: Destination| {
            let (payload, trace) = (payload.clone(), trace.clone());
            let body = SignalBody::Message { payload, reply: None, deadline_ms: None, credit: None, trace };
            Signal { from: from.clone(), to, body }
        };
        if from.node() == self.node() {
            for node in self.nodes_of_group(group) {
                self.signal(message(Destination { node, to: Recipient::Group(group.clone()) }));
            }
        }
        for pid in self.local_members(group) {
            match self.process(&pid) {
                Some(process) if process.is_retired() => {}
                Some(process) if !(process.members_only() && is_of_client(&from)) => {
                    process.deliver(payload.clone(), None, trace.clone(), Admission::IfRoom);
                }
                _ => self.signal(message(pid.into())),
            }
        }
    }
}

impl<M: Message> Clone for GroupAddress<M> {
    fn clone(&self) -> Self {
        Self { runtime: self.runtime.clone(), group: self.group.clone(), turn: self.turn.clone(), message: PhantomData }
    }
}

impl<M: Message> fmt::Debug for GroupAddress<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupAddress({})", self.group)
    }
}
