//! Requests to a running server beside its messages, as OTP's `sys`: suspend, resume, and tell the state.
//!
//! They go through the server's own mailbox, in order with its messages: a state that is told has seen all that was
//! sent before it was asked for. While a server is suspended, only they, and the exit of its parent, are taken out of
//! the mailbox; all else waits in order. Servers that do not opt in ([`Server::SYS`](crate::Server::SYS)), and processes
//! that are no servers, refuse.

use std::time::Duration;

use rookery_protocol::Pid;

use crate::{
    handover::{Offer, Part},
    process::info::Callee,
    reply::{CallError, ReplyTo},
    runtime::Runtime,
};

/// What a server is asked beside its messages.
pub(crate) enum SystemRequest {
    Suspend,
    Resume,
    State(ReplyTo<String>),
    /// It is to offer its state to this process, its successor.
    HandOver(Pid, ReplyTo<Offer>),
    /// More of the state is wanted by it, from this byte on.
    Part(Pid, u64, ReplyTo<Part>),
    /// The successor takes over.
    Commit(Pid, ReplyTo<()>),
    /// The successor is gone.
    Abandon(Pid),
}

impl SystemRequest {
    /// Whether it is about handing over, which every server is asked.
    pub(crate) fn is_handover(&self) -> bool {
        matches!(self, Self::HandOver(..) | Self::Part(..) | Self::Commit(..) | Self::Abandon(_))
    }

    /// The server is in the middle of something, and cannot be asked.
    pub(crate) fn busy(self) {
        const BUSY: &str = "the server is in the middle of something";
        match self {
            Self::State(reply) => reply.refuse(BUSY),
            Self::HandOver(_, reply) => reply.refuse(BUSY),
            Self::Part(_, _, reply) => reply.refuse(BUSY),
            Self::Commit(_, reply) => reply.refuse(BUSY),
            Self::Suspend | Self::Resume | Self::Abandon(_) => {}
        }
    }
}

impl Runtime {
    /// Suspends a server of this runtime: once it has handled what it was sent before, it handles nothing more until
    /// [`resume_here`](Self::resume_here). Suspending twice is suspending once. Does not wait; whoever must know that it
    /// has stopped asks for its [`state_here`](Self::state_here) next. As `sys:suspend/1`.
    ///
    /// # Errors
    /// `NoProc`, also for a process elsewhere; `Refused` by a process that does not allow it.
    pub fn suspend_here(&self, server: &Pid) -> Result<(), CallError> {
        self.system_request(server, SystemRequest::Suspend)
    }

    /// Lets a suspended server go on, with all that waits. As `sys:resume/1`.
    ///
    /// # Errors
    /// As [`suspend_here`](Self::suspend_here).
    pub fn resume_here(&self, server: &Pid) -> Result<(), CallError> {
        self.system_request(server, SystemRequest::Resume)
    }

    /// What a server of this runtime tells of its state, suspended or not. As `sys:get_state/2`.
    ///
    /// # Errors
    /// As [`Address::call`](crate::Address::call); `Refused` also when the server tells none.
    pub async fn state_here(&self, server: &Pid, timeout: Duration) -> Result<String, CallError> {
        let mut call = self.begin_call(timeout);
        self.system_request(server, SystemRequest::State(ReplyTo::local(call.slot().clone())))?;
        call.answer(Callee::Own(server.serial())).await
    }

    fn system_request(&self, server: &Pid, request: SystemRequest) -> Result<(), CallError> {
        self.process(server).ok_or(CallError::NoProc)?.system_request(request)
    }
}
