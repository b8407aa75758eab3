//! A scribe: writes down what is said in all rooms. Each pod has one and each hears everything, so that what was said is
//! lost only with all pods at once. A room that starts asks them all; a scribe that starts learns from the others, so that
//! pods can be replaced one after the other.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rookery_node::{
    Address, Context, ExitReason, GroupAddress, ReplyTo, RequestError, Runtime, Server,
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
        let scribes = Scribes::new(context.runtime()).map_err(failed)?;
        let (own, others) = (context.address(), scribes.group.members().await.map_err(failed)?);
        // What is said from here on is in its mailbox; what was said before it learns from the others, and serves meanwhile.
        context.join(scribes.group.group()).await.map_err(failed)?;
        context.spawn_link(async move |_: Context<()>| learn(&own, &others).await).map_err(failed)?;
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
}

/// Has a new scribe write down what the others know.
async fn learn(scribe: &Address<ScribeMessage>, others: &[Address<ScribeMessage>]) {
    for other in others {
        // One that is lost meanwhile is one less: the rest know the same.
        for room in other.call(ScribeMessage::Rooms).await.unwrap_or_default() {
            let recall = |reply| ScribeMessage::Recall(Ask::new(room.clone(), reply));
            for line in other.call(recall).await.unwrap_or_default().into_values() {
                drop(scribe.send(ScribeMessage::Record { room: room.clone(), line }).await);
            }
        }
    }
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
        Ok(Self { runtime: runtime.clone(), group: runtime.group(Group::scoped("chat", "scribes")?) })
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
