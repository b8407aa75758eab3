//! What operators do to servers, by `rookery:node`: suspend, resume, ask for the state, as OTP's `sys`.
//!
//! ```text
//! client ─▶ its own node: may it? ─▶ the server's node ─▶ the server
//! member ──────────────────────────▶ the server's node ─▶ the server
//! ```
//! A client asks the node that it is connected to, which knows its policy; that node asks the other as a member. To suspend
//! a server can hurt as much as to end it, so a client needs `exit` for it. The state is told to whoever may ask.

use std::{sync::Arc, time::Duration};

use rookery_runtime::{CallError, Context, Destination, Message, Pid, ProcessName, ReplyTo};
use tokio::sync::Semaphore;

use crate::{
    Insight,
    ask::Ask,
    system::{SYSTEM_NAME, System},
};

/// How many requests may be under way at once: each waits for a server, and more than one operator seldom asks.
const MAX_UNDER_WAY: usize = 64;

/// How long a server may take, the way to its node included. Below what `call` waits for, so that the answer says who was
/// silent.
const PATIENCE: Duration = Duration::from_secs(4);

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Suspend,
    Resume,
}

/// Does it beside the node's process, which goes on answering others.
#[derive(Clone)]
pub(crate) struct Operator {
    insight: Insight,
    under_way: Arc<Semaphore>,
}

impl Operator {
    pub(crate) fn new(insight: Insight) -> Self {
        Self { insight, under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)) }
    }

    /// Suspends or resumes `server`, and waits until it has: it answers what it was asked after that.
    pub(crate) fn operate(&self, operation: Operation, server: Pid, reply: ReplyTo<()>) {
        if !reply.asked_by_member()
            && let Err(why) = self.insight.may_exit(reply.asked_by_client())
        {
            return reply.refuse(why);
        }
        let operator = self.clone();
        self.beside(reply, async move { operator.change(operation, &server).await });
    }

    async fn change(&self, operation: Operation, server: &Pid) -> Result<(), CallError> {
        let runtime = self.insight.runtime();
        if server.node() != runtime.node() {
            let ask = |reply| match operation {
                Operation::Suspend => System::Suspend(Ask::new(server.clone(), reply)),
                Operation::Resume => System::Resume(Ask::new(server.clone(), reply)),
            };
            return runtime.address::<System>(system_of(server)?).call_within(PATIENCE, ask).await;
        }
        match operation {
            Operation::Suspend => runtime.suspend_here(server)?,
            Operation::Resume => runtime.resume_here(server)?,
        }
        // In the order of its mailbox: once this is answered, the other is done. That it tells no state is an answer, too.
        match runtime.state_here(server, PATIENCE).await {
            Ok(_) | Err(CallError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks `server` for its state.
    pub(crate) fn state(&self, server: Pid, reply: ReplyTo<String>) {
        let runtime = self.insight.runtime().clone();
        self.beside(reply, async move {
            if server.node() == runtime.node() {
                return runtime.state_here(&server, PATIENCE).await;
            }
            let ask = |reply| System::State(Ask::new(server.clone(), reply));
            runtime.address::<System>(system_of(&server)?).call_within(PATIENCE, ask).await
        });
    }

    /// Answers with what comes of `work`, in a process of its own.
    fn beside<T: Message>(&self, reply: ReplyTo<T>, work: impl Future<Output = Result<T, CallError>> + Send + 'static) {
        let Ok(permit) = self.under_way.clone().try_acquire_owned() else {
            return reply.refuse(format!("{MAX_UNDER_WAY} such requests are under way already; try again later"));
        };
        let answer = async move |_: Context<()>| {
            match work.await {
                Ok(answer) => drop(reply.send(answer)),
                Err(CallError::Refused(why)) => reply.refuse(why),
                Err(error) => reply.refuse(error.to_string()),
            }
            drop(permit);
        };
        // What cannot be started drops the reply, which tells.
        drop(self.insight.runtime().spawn(answer));
    }
}

/// `rookery:node` where `server` lives.
fn system_of(server: &Pid) -> Result<Destination, CallError> {
    let name = ProcessName::new(SYSTEM_NAME).map_err(|error| CallError::Refused(error.to_string()))?;
    Ok(Destination::name(server.node().clone(), name))
}
