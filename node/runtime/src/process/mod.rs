//! Processes: the pid table, mailboxes, links, monitors, exits, and the context that a process runs in.
//!
//! Signals between processes of one runtime are applied to the receiver directly, under its own lock and nothing else:
//! there is no signal queue and no central loop. Since a sender's steps follow each other, so do their effects (S1).
//!
//! **Invariant:** no code takes one process's lock while it holds another's.

pub(crate) mod alarm;
pub(crate) mod bounded;
pub(crate) mod context;
pub(crate) mod current;
pub(crate) mod deadline;
pub(crate) mod event;
pub(crate) mod info;
pub(crate) mod mailbox;
pub(crate) mod relations;
pub(crate) mod send_timer;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod timers;

use std::{any::Any, sync::Arc, task::Waker, time::Instant};

use rookery_protocol::{
    CreditNumber, Destination, ExitReason, Payload, Pid, PlainMessage, ProcessName, Ref, Run, TraceContext, UnlinkId,
};

use crate::{
    behaviour::system::SystemRequest,
    process::{
        bounded::Admission,
        info::{Callee, ProcessDetails, ProcessInfo, Vitals},
        relations::{End, Lost, Relations},
    },
    reply::{CallError, RemoteReply},
    runtime::Runtime,
};

/// A process whose message type is not known here.
pub(crate) trait AnyProcess: Send + Sync {
    fn pid(&self) -> &Pid;
    fn runtime(&self) -> &Runtime;
    fn label(&self) -> &'static str;
    /// What it notes of itself as it runs.
    fn vitals(&self) -> &Vitals;
    /// Whether clients are refused.
    fn members_only(&self) -> bool;
    /// Whether it is not for clients to end.
    fn vital(&self) -> bool;
    /// Whether it runs a server.
    fn serves(&self) -> bool;
    /// It obeys another parent from now on.
    fn adopt(&self, parent: Pid);
    /// It has handed over, and gets nothing more that is for its groups: its successor does.
    fn retire(&self);
    /// Whether it has.
    fn is_retired(&self) -> bool;
    /// Who started it with a link, or has taken its place.
    fn supervisor(&self) -> Option<Pid>;
    /// For sending a value to a process that is known by its pid.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// A message that comes as bytes. Tells whether there is an account now of who asks, to be forgotten when that is lost.
    fn deliver(
        &self,
        payload: Payload,
        reply: Option<RemoteReply>,
        trace: Option<Box<TraceContext>>,
        admission: Admission<'_>,
    ) -> bool;
    /// A message from where it lies. False, and nothing is done, if it is not understood or large.
    fn deliver_plain(&self, message: &PlainMessage) -> bool;
    /// The same of several: those at the beginning that are understood. Tells how many.
    fn deliver_run(&self, run: &mut Run) -> u64;
    /// That asker sends no more under this number.
    fn forget_credit(&self, asker: &Pid, number: CreditNumber);
    /// An exit signal that was sent by `exit`.
    fn exit(&self, from: &Pid, reason: ExitReason);
    /// An exit signal from a link.
    fn link_exit(&self, from: &Pid, reason: ExitReason);
    /// Something that a server does beside its messages; refused by processes that have not opted in.
    fn system_request(&self, request: SystemRequest) -> Result<(), CallError>;
    /// Something for the mailbox that is no message.
    fn event(&self, event: event::Event);

    /// `from` links to this process; false if it has ended.
    fn link_from(&self, from: &Pid) -> bool;
    /// `from` removes its link.
    fn unlink_from(&self, from: &Pid);
    /// `from` has seen that unlink.
    fn unlink_ack(&self, from: &Pid, id: UnlinkId);
    /// This process starts to link to `to`; false if it is linked already, or has ended.
    fn link_to(&self, to: &Pid) -> bool;
    /// This process monitors `target`.
    fn monitor_to(&self, monitor: Ref, target: Destination);
    /// `watcher` monitors this process; false if it has ended.
    fn watch(&self, watcher: &Pid, monitor: Ref) -> bool;
    /// `watcher` does not any more.
    fn unwatch(&self, watcher: &Pid, monitor: Ref);
    /// What `monitor` watched is down.
    fn down(&self, monitor: Ref, reason: ExitReason);
    /// Notes that a connection knows this process.
    fn tied_over_connection(&self);
    /// The process gets a name; false if it has ended.
    fn add_name(&self, name: &ProcessName) -> bool;
    fn remove_name(&self, name: &ProcessName);
    /// Notes that it is told of nodes that come and go; false if it has ended.
    fn watch_nodes(&self) -> bool;
    /// Notes that the cluster's directory is to be told of the end; false if it has ended.
    fn enter_directory(&self) -> bool;
    /// It has lost a cluster name to `holder`: an event if exits are trapped, the end otherwise (N2).
    fn name_conflict(&self, name: ProcessName, holder: Pid);
    /// A connection is lost: links and monitors to there fire, those from there go, as do accounts of those there.
    fn lost(&self, lost: &Lost);

    /// Ends it whatever it traps.
    fn end_now(&self, reason: ExitReason);
    /// Whether it may have to end; looked at before each step, without a lock.
    fn is_ending(&self) -> bool;
    /// Why it has to end, if it has to.
    fn must_end(&self) -> Option<ExitReason>;
    /// Who is woken when it has to end.
    fn set_task(&self, waker: Waker);
    /// Marks it ended and takes what has to be told. From now on nothing reaches it; but whoever ties itself to it while its names are
    /// not free yet is told with the others.
    fn end(&self, reason: &ExitReason) -> End;
    /// Its names are free, after [`end`](Self::end): from now on it is as if it had never been. Who has tied itself to it since.
    fn names_are_free(&self) -> Option<Box<Relations>>;
    /// Drops what is left in its mailbox.
    fn drain(&self, reason: &ExitReason);
    /// It begins to wait for an answer from `to`; false if it waits for another already.
    fn begin_call(&self, to: Callee<'_>, since: Instant) -> bool;
    /// The trace of the message that it works on.
    fn trace(&self) -> Option<TraceContext>;
    /// Messages and events that it has not received.
    fn mailbox_len(&self) -> usize;
    /// What [`ProcessInfo::memory_bytes`] says.
    fn memory_bytes(&self) -> usize;
    fn info(&self) -> ProcessInfo;
    fn details(&self) -> ProcessDetails;
}
