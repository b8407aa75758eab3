//! `rookery suspend`, `resume` and `state`: what operators do to servers that allow it, as OTP's `sys`. The node that is
//! connected to is asked: it knows what this client may, and asks the server's node.

use clap::Args;
use rookery_node::{Message, Pid, ReplyTo, ask::Ask, system::System};

use super::{
    connect::{CommandError, Session, system_of},
    out,
    target::Target,
};

#[derive(Debug, Args)]
pub(crate) struct SysArgs {
    /// Whom: a pid as '<orders-0.1f3a.42>', a name, or name@node.
    target: Target,
}

/// Suspends a server; exit 0 says that it has stopped.
pub(crate) async fn suspend(args: &SysArgs, session: &Session) -> Result<(), CommandError> {
    let pid = args.target.pid(session).await?;
    ask(session, &pid, |reply| System::Suspend(Ask::new(pid.clone(), reply))).await?;
    done(session, &pid, "suspended")
}

/// Lets a suspended server go on.
pub(crate) async fn resume(args: &SysArgs, session: &Session) -> Result<(), CommandError> {
    let pid = args.target.pid(session).await?;
    ask(session, &pid, |reply| System::Resume(Ask::new(pid.clone(), reply))).await?;
    done(session, &pid, "resumed")
}

/// Prints a server's state, as it tells it.
pub(crate) async fn state(args: &SysArgs, session: &Session) -> Result<(), CommandError> {
    let pid = args.target.pid(session).await?;
    let state = ask(session, &pid, |reply| System::State(Ask::new(pid.clone(), reply))).await?;
    match session.json {
        true => session.print_json(&serde_json::json!({ "pid": pid, "state": state })),
        false => Ok(out::line(&state)?),
    }
}

async fn ask<T: Message>(
    session: &Session,
    pid: &Pid,
    make: impl FnOnce(ReplyTo<T>) -> System,
) -> Result<T, CommandError> {
    let system = session.runtime.address::<System>(system_of(session.runtime.node())?);
    system.call_within(session.timeout, make).await.map_err(|error| CommandError::call(pid, error))
}

fn done(session: &Session, pid: &Pid, what: &str) -> Result<(), CommandError> {
    match session.json {
        true => session.print_json(&serde_json::json!({ "pid": pid, "done": what })),
        false => Ok(out::line(&format!("{pid} {what}"))?),
    }
}
