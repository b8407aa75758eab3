//! `rookery monitor` and `rookery kill`: waits for the end of a process; brings it about.

use clap::Args;
use rookery_client::{Context, Down, Event, Received};
use rookery_node::{Destination, ExitReason, Pid, Runtime};
use tokio::sync::mpsc;

use super::{
    connect::{CommandError, Session},
    log, out,
    target::Target,
};

#[derive(Debug, Args)]
pub(crate) struct MonitorArgs {
    /// Whom: a pid as '<orders-0.1f3a.42>', a name, or name@node.
    target: Target,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Whom: a pid as '<orders-0.1f3a.42>', a name, or name@node.
    target: Target,
    /// Exit reason to send: kill cannot be trapped; shutdown can; normal is for processes that trap exits, others ignore
    /// it; any other text is an error of that text.
    #[arg(long, default_value = "kill", value_parser = reason)]
    reason: ExitReason,
}

fn reason(text: &str) -> Result<ExitReason, String> {
    Ok(match text {
        "" => return Err("give a reason: kill, shutdown, normal, or a text".to_owned()),
        "kill" => ExitReason::Kill,
        "shutdown" => ExitReason::Shutdown,
        "normal" => ExitReason::Normal,
        text => ExitReason::Error(text.to_owned()),
    })
}

/// What a watching process has seen.
enum Seen {
    Down(Down),
    Refused(String),
}

/// Starts a process of this client that monitors `target`, and sends it `exit` if that is asked for.
fn watch(
    runtime: &Runtime,
    target: Destination,
    exit: Option<(Pid, ExitReason)>,
) -> Result<mpsc::Receiver<Seen>, CommandError> {
    let (tell, seen) = mpsc::channel(4);
    let started = runtime.spawn(async move |mut context: Context<()>| {
        context.monitor(target);
        if let Some((pid, reason)) = exit {
            context.exit(&pid, reason);
        }
        loop {
            let told = match context.receive().await {
                Received::Event(Event::Down(down)) => Seen::Down(down),
                Received::Event(Event::Refused(detail)) => Seen::Refused(detail),
                _ => continue,
            };
            if tell.send(told).await.is_err() {
                return;
            }
        }
    });
    started.map_err(|error| CommandError::NotDone(error.to_string()))?;
    Ok(seen)
}

/// Waits until the process ends, however long, and prints why.
pub(crate) async fn monitor(args: MonitorArgs, session: &Session) -> Result<(), CommandError> {
    let to = args.target.destination(session).await?;
    if !session.json {
        log::complain(&format!("monitoring {to}, until it ends; Ctrl-C stops"));
    }
    let mut seen = watch(&session.runtime, to.clone(), None)?;
    let down = match seen.recv().await {
        Some(Seen::Down(down)) => down,
        Some(Seen::Refused(detail)) => return Err(CommandError::NotDone(format!("refused: {detail}"))),
        None => {
            return Err(CommandError::NotDone(format!(
                "the connection to {} was lost; whether {to} lives is not known",
                session.runtime.node().name()
            )));
        }
    };
    if session.json {
        session.print_json(&serde_json::json!({ "target": to.to_string(), "reason": down.reason }))?;
    } else {
        out::line(&format!("{to} is down: {}", down.reason))?;
    }
    match down.reason {
        ExitReason::NoProc => Err(CommandError::NotDone(format!("there was no process {to}"))),
        ExitReason::Refused(detail) => Err(CommandError::NotDone(format!("refused: {detail}"))),
        _ => Ok(()),
    }
}

/// Sends an exit signal, and waits until the process has ended.
pub(crate) async fn kill(args: KillArgs, session: &Session) -> Result<(), CommandError> {
    let pid = args.target.pid(session).await?;
    let reason = end(session, &pid, args.reason).await.map_err(CommandError::NotDone)?;
    if session.json {
        session.print_json(&serde_json::json!({ "pid": pid, "reason": reason }))?;
    } else {
        out::line(&format!("{pid} ended: {reason}"))?;
    }
    Ok(())
}

/// Ends a process, and gives what it ended with.
///
/// # Errors
/// Why it is not known to have ended.
pub(crate) async fn end(session: &Session, pid: &Pid, reason: ExitReason) -> Result<ExitReason, String> {
    let watched = watch(&session.runtime, pid.into(), Some((pid.clone(), reason.clone())));
    let mut seen = watched.map_err(|error| error.to_string())?;
    match tokio::time::timeout(session.timeout, seen.recv()).await {
        Ok(Some(Seen::Down(down))) => match down.reason {
            ExitReason::NoProc => Err(format!("there is no process {pid}")),
            ExitReason::NoConnection => Err(format!("the node of {pid} is not connected")),
            ExitReason::Refused(detail) => Err(format!("refused: {detail}")),
            reason => Ok(reason),
        },
        Ok(Some(Seen::Refused(detail))) => Err(format!("refused: {detail}")),
        Ok(None) => Err(format!("the connection was lost; whether {pid} lives is not known")),
        Err(_) => Err(format!(
            "{pid} still lives after {} ms: {}",
            session.timeout.as_millis(),
            match reason {
                ExitReason::Normal =>
                    "`normal` is ignored by processes that do not trap exits; give another --reason".to_owned(),
                reason => format!("it may trap `{reason}`; --reason kill cannot be trapped"),
            }
        )),
    }
}
