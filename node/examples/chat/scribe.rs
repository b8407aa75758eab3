//! A scribe: writes down what is said in all rooms. Each pod has one and each hears everything, so that what was said is
//! lost only with all pods at once. A room that starts asks them all. Scribes that meet learn from each other, so pods can
//! be replaced one after the other, and what was said on either side of a partition comes together when that has healed.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rookery_node::{
    Address, Context, Event, ExitReason, GroupAddress, ReplyTo, RequestError, Runtime, Server,
    ask::Ask,
    protocol::{Group, ParseIdError},
};
use serde::{Deserialize, Serialize};

use crate::room::{Line, failed};

/// How many lines of a room are kept.
const KEPT_LINES: usize = 1_000;

/// How long scribes are waited for, all together.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was said in a room, by number: what two have written down becomes one by adding up.
pub(crate) type Lines = BTreeMap<u64, Line>;

/// What a scribe understands.
#[derive(Serialize, Deserialize)]
pub(crate) enum ScribeMessage {
    /// This was said in this room.
    Record { room: String, line: Line },
    /// What was said in this room?
    Recall(Ask<String, Lines>),
    /// In which rooms was something said?
    Rooms(ReplyTo<Vec<String>>),
}

pub(crate) struct Scribe(HashMap<String, Lines>);

impl Server for Scribe {
    type Message = ScribeMessage;
    type Arguments = ();

    async fn init((): (), context: &mut Context<ScribeMessage>) -> Result<Self, ExitReason> {
        let group = group().map_err(failed)?;
        context.join(&group).await.map_err(failed)?;
        context.watch_group(&group, true).await.map_err(failed)?;
        Ok(Self(HashMap::new()))
    }

    async fn handle(&mut self, message: ScribeMessage, _: &mut Context<ScribeMessage>) -> Result<(), ExitReason> {
        match message {
            ScribeMessage::Record { room, line } => keep(self.0.entry(room).or_default(), line),
            ScribeMessage::Recall(ask) => ask.reply.answer(self.0.get(&ask.value).cloned().unwrap_or_default()),
            ScribeMessage::Rooms(reply) => reply.answer(self.0.keys().cloned().collect()),
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, context: &mut Context<ScribeMessage>) -> Result<(), ExitReason> {
        let Event::Group(change) = event else { return Ok(()) };
        for pid in change.joined {
            if pid != *context.pid() {
                // By a process of its own, since two that wait for each other would answer neither.
                let (own, other) = (context.address(), context.runtime().address(pid));
                context.spawn_link(async move |_: Context<()>| learn(&own, &other).await).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// Has a scribe write down what another one knows; as much as it is told, should that one be lost meanwhile.
async fn learn(scribe: &Address<ScribeMessage>, other: &Address<ScribeMessage>) {
    for room in other.call(ScribeMessage::Rooms).await.unwrap_or_default() {
        let recall = |reply| ScribeMessage::Recall(Ask::new(room.clone(), reply));
        for line in other.call(recall).await.unwrap_or_default().into_values() {
            drop(scribe.send(ScribeMessage::Record { room: room.clone(), line }).await);
        }
    }
}

/// All scribes. Not of the scope of rooms, which clients may join.
fn group() -> Result<Group, ParseIdError> {
    Group::new("chat-scribes")
}

/// Adds a line; the oldest goes when there are too many.
pub(crate) fn keep(lines: &mut Lines, line: Line) {
    lines.insert(line.number, line);
    if lines.len() > KEPT_LINES {
        lines.pop_first();
    }
}

/// The scribes of all pods.
pub(crate) struct Scribes {
    runtime: Runtime,
    group: GroupAddress<ScribeMessage>,
}

impl Scribes {
    pub(crate) fn new(runtime: &Runtime) -> Result<Self, ParseIdError> {
        Ok(Self { runtime: runtime.clone(), group: runtime.group(group()?) })
    }

    /// Has each of them write this down.
    pub(crate) async fn record(&self, room: &str, line: &Line) -> Result<(), RequestError> {
        let record = || ScribeMessage::Record { room: room.to_owned(), line: line.clone() };
        // One that cannot be reached is one less: the others have it.
        self.runtime.cast(&self.group.members().await?, PATIENCE, record).await;
        Ok(())
    }

    /// All that any of them knows of a room.
    pub(crate) async fn recall(&self, room: &str) -> Result<Lines, RequestError> {
        let recall = |reply| ScribeMessage::Recall(Ask::new(room.to_owned(), reply));
        let known = self.runtime.multi_call(&self.group.members().await?, PATIENCE, recall).await;
        Ok(known.into_iter().filter_map(|(_, lines)| lines.ok()).flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Failure, pod};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_scribe_that_starts_late_learns_what_was_said() -> Result<(), Failure> {
        let authority = rookery_node::tls::Authority::create(&"chat".parse()?)?;
        let first = pod::start(&authority, "first", None, true).await?;
        let line = Line { number: 1, from: "ann".to_owned(), text: "hello".to_owned() };
        Scribes::new(&first)?.record("lobby", &line).await?;
        // Its scribe starts before it knows of the other pod.
        let late = pod::start(&authority, "late", Some(first.listen_address()), true).await?;
        let own = late.local_members(&group()?).pop().ok_or("a pod without a scribe")?;
        let own = late.address::<ScribeMessage>(own);
        let learned = async {
            while own.call(|reply| ScribeMessage::Recall(Ask::new("lobby".to_owned(), reply))).await?
                != [(1, line.clone())].into()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), learned).await?
    }
}
