//! What lies in a mailbox.

use std::collections::VecDeque;

use rookery_protocol::{CallFailure, ExitReason, Payload, Pid, TraceContext};

use crate::{
    behaviour::system::SystemRequest,
    process::{deadline::Deadline, event::Event},
    reply::{RemoteReply, dropping},
};

/// One thing in a mailbox. Hardly larger than a message of the process: a deadline takes the room beside the variant.
pub(crate) enum Item<M> {
    Message(M),
    /// A message that somebody waits for the answer to, at most so long.
    Call(M, Deadline),
    /// Either of these, of a trace that is recorded.
    Traced(Box<Traced<M>>),
    Other(Box<Other>),
}

pub(crate) struct Traced<M> {
    pub(crate) message: M,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) trace: TraceContext,
}

pub(crate) enum Other {
    /// A message that came as bytes and is decoded when it is received.
    Encoded(Payload, Option<RemoteReply>, Option<Box<TraceContext>>),
    Event(Event),
    /// For the server that the process runs.
    System(SystemRequest),
    /// The message before this one was called for an answer that its type does not give: tell that it was taken.
    Taken(RemoteReply),
    /// Another process is its parent from now on.
    Adopted(Pid),
}

impl<M> Item<M> {
    /// Whether a suspended server takes it all the same: what it is asked as a system, and the exit that it obeys.
    pub(super) fn is_urgent(&self, parent: Option<&Pid>) -> bool {
        match self {
            Self::Message(_) | Self::Call(..) | Self::Traced(_) => false,
            Self::Other(other) => match &**other {
                Other::System(_) | Other::Adopted(_) => true,
                Other::Event(Event::Exit { from, .. }) => parent == Some(from),
                _ => false,
            },
        }
    }

    /// Takes the first that is urgent out of a queue.
    pub(super) fn take_urgent(queue: &mut VecDeque<Self>, parent: Option<&Pid>) -> Option<Self> {
        let at = queue.iter().position(|item| item.is_urgent(parent))?;
        queue.remove(at)
    }

    pub(crate) fn message(message: M, deadline: Option<Deadline>) -> Self {
        match deadline {
            Some(deadline) => Self::Call(message, deadline),
            None => Self::Message(message),
        }
    }

    /// As [`message`](Self::message), of a trace if it is of one.
    #[inline]
    pub(crate) fn of(message: M, deadline: Option<Deadline>, trace: Option<TraceContext>) -> Self {
        match trace {
            None => Self::message(message, deadline),
            Some(trace) => Self::Traced(Box::new(Traced { message, deadline, trace })),
        }
    }

    /// It is received by nobody: whoever waits for its answer is told why.
    pub(super) fn fail(self, failure: &CallFailure) {
        match self {
            Self::Message(message) | Self::Call(message, _) => {
                dropping::within(dropping::Mode::Fail(failure.clone()), message);
            }
            Self::Traced(traced) => dropping::within(dropping::Mode::Fail(failure.clone()), traced.message),
            Self::Other(other) => match *other {
                Other::Encoded(_, Some(reply), _) | Other::Taken(reply) => reply.answer(Err(failure.clone())),
                Other::System(request) => dropping::within(dropping::Mode::Fail(failure.clone()), request),
                Other::Encoded(_, None, _) | Other::Event(_) | Other::Adopted(_) => {}
            },
        }
    }
}

pub(super) fn fail_all<M>(items: impl IntoIterator<Item = Item<M>>, reason: &ExitReason) {
    let failure = CallFailure::Exited(reason.clone());
    items.into_iter().for_each(|item| item.fail(&failure));
}
