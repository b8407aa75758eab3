//! `rookery inspect`: everything that is known of one process.

use std::{fmt::Display, time::Duration};

use clap::Args;
use rookery_node::{
    Pid,
    ask::Ask,
    system::{CallInfo, ProcessDetails, System},
};

use super::{
    connect::{CommandError, Session, system_of},
    out,
    target::Target,
};

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Whom: a pid as '<orders-0.1f3a.42>', a name, or name@node.
    target: Target,
}

impl Session {
    /// Everything that its node knows of a process; `None` if it does not live.
    pub(crate) async fn details(&self, pid: &Pid) -> Result<Option<ProcessDetails>, CommandError> {
        let system = self.runtime.address::<System>(system_of(pid.node())?);
        let asked = system.call_within(self.timeout, |reply| System::Inspect(Ask::new(pid.clone(), reply))).await;
        asked.map_err(|error| CommandError::call(pid, error))
    }
}

pub(crate) async fn run(args: &InspectArgs, session: &Session) -> Result<(), CommandError> {
    let pid = args.target.pid(session).await?;
    let Some(details) = session.details(&pid).await? else {
        return Err(CommandError::NotDone(format!("there is no process {pid}: it has ended, or never was")));
    };
    if session.json {
        return session.print_json(&details);
    }
    for line in lines(&details) {
        out::line(&line)?;
    }
    Ok(())
}

/// What is known, a line each; lists below their headings.
pub(crate) fn lines(details: &ProcessDetails) -> Vec<String> {
    let info = &details.info;
    let mut lines = Vec::new();
    let mut line = |what: &str, value: &dyn Display| lines.push(format!("{what:<14}{value}").trim_end().to_owned());
    line("pid", &info.pid);
    line("names", &list(&info.names));
    line("cluster names", &list(&details.info.cluster_names));
    line("groups", &list(&details.groups));
    line("behaviour", &info.behaviour);
    line("messages", &details.message);
    line("state", &info.state.as_str());
    line("waits for", &info.call.as_ref().map_or_else(|| "-".to_owned(), call));
    let limit = match details.mailbox_limit {
        0 => String::new(),
        limit => format!(" of {limit}"),
    };
    line("mailbox", &format!("{}{limit}", info.mailbox));
    line("handled", &info.handled);
    line("steps", &info.steps);
    line("memory", &format!("{} (without what its values hold)", out::bytes(info.memory_bytes)));
    line("age", &out::span(Duration::from_millis(info.age_ms)));
    line("parent", &info.parent.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string));
    line("traps exits", &yes(info.traps_exits));
    line("members only", &yes(details.members_only));
    several(&mut lines, "links", info.links, &details.linked);
    several(&mut lines, "monitors", info.monitors, &details.monitored);
    several(&mut lines, "monitored by", info.watchers, &details.watched_by);
    lines
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

fn list(all: &[impl Display]) -> String {
    match all {
        [] => "-".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

fn call(call: &CallInfo) -> String {
    format!("{}, for {}", call.to, out::span(Duration::from_millis(call.for_ms)))
}

fn several(lines: &mut Vec<String>, what: &str, total: u64, told: &[impl Display]) {
    lines.push(format!("{what:<14}{total}"));
    lines.extend(told.iter().map(|one| format!("  {one}")));
    if (told.len() as u64) < total {
        lines.push(format!("  … {} of {total}", told.len()));
    }
}
