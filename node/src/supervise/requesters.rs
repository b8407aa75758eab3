//! Who has asked a supervisor to change something and waits for the answer, by the number that the state machine knows the
//! request by.

use std::collections::HashMap;

use rookery_runtime::{Pid, ReplyTo};

use crate::supervise::{
    effect::{CommandError, CommandId},
    limits::MAX_PENDING_COMMANDS,
};

/// What clients are told that ask for a change.
pub(super) const MEMBERS_ALONE: &str =
    "only members of the cluster may change what a supervisor does; clients may look";

/// Who is answered when a request is done.
pub(super) enum Requester {
    Pid(ReplyTo<Pid>),
    Done(ReplyTo<()>),
}

impl Requester {
    fn is_member(&self) -> bool {
        match self {
            Self::Pid(reply) => reply.asked_by_member(),
            Self::Done(reply) => reply.asked_by_member(),
        }
    }

    fn refuse(self, why: String) {
        match self {
            Self::Pid(reply) => reply.refuse(why),
            Self::Done(reply) => reply.refuse(why),
        }
    }
}

/// Those of one supervisor, at most [`MAX_PENDING_COMMANDS`].
#[derive(Default)]
pub(super) struct Requesters {
    waiting: HashMap<CommandId, Requester>,
    /// The last number.
    last: u64,
}

impl Requesters {
    /// Notes who is to be answered; refuses clients, and when too many wait.
    pub(super) fn add(&mut self, requester: Requester) -> Option<CommandId> {
        if !requester.is_member() {
            requester.refuse(MEMBERS_ALONE.to_owned());
            return None;
        }
        if self.waiting.len() >= MAX_PENDING_COMMANDS {
            let why = format!("{MAX_PENDING_COMMANDS} requests wait for their children already; try again later");
            requester.refuse(why);
            return None;
        }
        self.last += 1;
        let command = CommandId(self.last);
        self.waiting.insert(command, requester);
        Some(command)
    }

    pub(super) fn answer(&mut self, command: CommandId, outcome: Result<Option<Pid>, CommandError>) {
        match (self.waiting.remove(&command), outcome) {
            (Some(Requester::Pid(reply)), Ok(Some(pid))) => drop(reply.send(pid)),
            (Some(Requester::Pid(reply)), Ok(None)) => reply.refuse("the child was stopped"),
            (Some(Requester::Done(reply)), Ok(_)) => drop(reply.send(())),
            (Some(requester), Err(error)) => requester.refuse(error.to_string()),
            (None, _) => {}
        }
    }
}
