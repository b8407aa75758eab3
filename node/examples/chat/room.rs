//! A room: numbers what is said in it, and sends it to whoever is there.
//!
//! It owns nothing that it could not get back. Who is there is a **group**, which outlives it; what was said is with the
//! scribes. So a room that starts after a crash does what any room does that starts, and a crash is no case of its own:
//!
//! ```text
//! started, with its name in the cluster ─▶ asks the scribes what was said ─▶ watches its group ─▶ serves
//! ```

use std::collections::HashMap;

use rookery_node::{
    Address, Context, Event, ExitReason, GroupAddress, Pid, ProcessName, ReplyTo, Server,
    ask::Ask,
    protocol::{Group, ParseIdError},
};
use serde::{Deserialize, Serialize};

use crate::{
    scribe::{Lines, Scribes, keep},
    user::Heard,
};

/// The longest text that a room takes, in bytes.
const MAX_TEXT_BYTES: usize = 1_000;

/// Something that was said. Its number is one more than that of the line before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) from: String,
    pub(crate) text: String,
}

/// What a room understands.
#[derive(Serialize, Deserialize)]
pub(crate) enum RoomMessage {
    /// Says something; the answer is the line's number.
    Say { from: String, text: String, reply: ReplyTo<u64> },
    /// The lines behind the one of this number, as far as they are kept.
    Since(Ask<u64, Vec<Line>>),
    /// Who is there.
    Present(ReplyTo<Vec<String>>),
    /// A user answers [`Heard::WhoAreYou`].
    IAm { user: Pid, name: String },
}

/// The name of a room's process in the cluster.
pub(crate) fn name_of(room: &str) -> Result<ProcessName, ParseIdError> {
    format!("room:{room}").parse()
}

/// Who is in a room.
pub(crate) fn group_of(room: &str) -> Result<Group, ParseIdError> {
    Group::scoped("chat", room)
}

pub(crate) struct Room {
    name: String,
    lines: Lines,
    /// Where what is said goes: once over the network to each pod, however many users it has.
    users: GroupAddress<Heard>,
    scribes: Scribes,
    /// Who is in the group, with their names as far as they have told them.
    present: HashMap<Pid, Option<String>>,
}

impl Server for Room {
    type Message = RoomMessage;
    type Arguments = String;

    async fn init(name: String, context: &mut Context<RoomMessage>) -> Result<Self, ExitReason> {
        let group = group_of(&name).map_err(failed)?;
        let runtime = context.runtime().clone();
        let scribes = Scribes::new(&runtime).map_err(failed)?;
        let lines = scribes.recall(&name).await.map_err(failed)?;
        // Those who are there already are told as if they came now.
        context.watch_group(&group, true).await.map_err(failed)?;
        Ok(Self { name, lines, users: runtime.group(group), scribes, present: HashMap::new() })
    }

    async fn handle(&mut self, message: RoomMessage, _: &mut Context<RoomMessage>) -> Result<(), ExitReason> {
        match message {
            RoomMessage::Say { text, reply, .. } if text.len() > MAX_TEXT_BYTES => {
                reply.refuse(format!("a text may have {MAX_TEXT_BYTES} bytes"));
            }
            RoomMessage::Say { from, text, reply } => reply.answer(self.say(from, &text).await?),
            RoomMessage::Since(Ask { value: number, reply }) => {
                reply.answer(self.lines.range(number + 1..).map(|(_, line)| line.clone()).collect());
            }
            RoomMessage::Present(reply) => {
                let mut names: Vec<String> = self.present.values().flatten().cloned().collect();
                names.sort();
                reply.answer(names);
            }
            RoomMessage::IAm { user, name } => {
                // Who has left meanwhile does not come back by that.
                self.present.entry(user).and_modify(|present| *present = Some(name));
            }
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, context: &mut Context<RoomMessage>) -> Result<(), ExitReason> {
        if let Event::Group(change) = event {
            for pid in change.left {
                self.present.remove(&pid);
            }
            for pid in change.joined {
                let user: Address<Heard> = context.runtime().address(&pid);
                user.send(Heard::WhoAreYou(context.address())).await.map_err(failed)?;
                self.present.insert(pid, None);
            }
        }
        Ok(())
    }
}

impl Room {
    async fn say(&mut self, from: String, text: &str) -> Result<u64, ExitReason> {
        let number = self.lines.last_key_value().map_or(1, |(last, _)| last + 1);
        let text = match text.strip_prefix("/roll ").and_then(|sides| sides.parse::<u64>().ok()) {
            // The bug that this example is about: nobody thought of a die without sides.
            Some(sides) => format!("rolls a {}", 1 + number.wrapping_mul(0x9e37_79b9) % sides),
            None => text.to_owned(),
        };
        let line = Line { number, from, text };
        // The scribes first: what a user has seen, the next life of this room knows.
        self.scribes.record(&self.name, &line).await.map_err(failed)?;
        self.users.send(Heard::Line(line.clone())).await.map_err(failed)?;
        keep(&mut self.lines, line);
        Ok(number)
    }
}

/// A room that cannot go on ends, and is started again.
pub(crate) fn failed(error: impl std::fmt::Display) -> ExitReason {
    ExitReason::Error(error.to_string())
}
