//! A user: a process that is in a room as long as it lives. It runs on a pod, or in a client anywhere: the code is the same.
//!
//! What a room sends can be lost with a connection, and never comes twice. So a user counts: a gap in the numbers has it ask
//! for what is missing. That is all it takes to come in late, too, and not to notice that the room has crashed.

use std::time::{Duration, Instant};

use rookery_node::{Address, CallError, Context, ExitReason, Message, ReplyTo, Runtime, ask::Ask};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::room::{Line, RoomMessage, failed, group_of, name_of};

/// How long a room may be away, between its end and its next start, before one gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait before it is tried again.
const A_MOMENT: Duration = Duration::from_millis(20);

/// What a user hears.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Heard {
    /// Something was said.
    Line(Line),
    /// A room wants to know the user's name.
    WhoAreYou(Address<RoomMessage>),
}

/// What a user sees.
pub(crate) type Screen = mpsc::UnboundedSender<Line>;

/// Comes into a room and shows what is said there: each line once, in order, from the first one that is kept.
pub(crate) async fn user(
    name: String,
    room: String,
    screen: Screen,
    mut context: Context<Heard>,
) -> Result<(), ExitReason> {
    context.join(&group_of(&room).map_err(failed)?).await.map_err(failed)?;
    let mut shown = show(&screen, 0, since(context.runtime(), &room, 0).await);
    while let Some(heard) = context.message().await {
        match heard {
            Heard::Line(line) => {
                if line.number > shown + 1 {
                    shown = show(&screen, shown, since(context.runtime(), &room, shown).await);
                }
                shown = show(&screen, shown, vec![line]);
            }
            Heard::WhoAreYou(room) => {
                let user = context.pid().clone();
                room.send(RoomMessage::IAm { user, name: name.clone() }).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Shows those that were not shown yet; gives the number of the last.
fn show(screen: &Screen, shown: u64, lines: Vec<Line>) -> u64 {
    lines.into_iter().fold(shown, |shown, line| {
        if line.number <= shown {
            return shown;
        }
        let number = line.number;
        drop(screen.send(line)); // Nobody looks any more? Then nothing is lost.
        number
    })
}

/// Says something in a room, from anywhere; gives the number of the line.
pub(crate) async fn say(runtime: &Runtime, room: &str, from: &str, text: &str) -> Result<u64, CallError> {
    ask(runtime, room, |reply| RoomMessage::Say { from: from.to_owned(), text: text.to_owned(), reply }).await
}

/// Who is in a room.
pub(crate) async fn present(runtime: &Runtime, room: &str) -> Result<Vec<String>, CallError> {
    ask(runtime, room, RoomMessage::Present).await
}

/// The lines behind one; none if the room ends meanwhile: the next line that comes has the user ask again.
async fn since(runtime: &Runtime, room: &str, number: u64) -> Vec<Line> {
    ask(runtime, room, |reply| RoomMessage::Since(Ask::new(number, reply))).await.unwrap_or_default()
}

/// Calls a room wherever it lives now: its name is looked up at each call.
async fn ask<T: Message>(
    runtime: &Runtime,
    room: &str,
    make: impl Fn(ReplyTo<T>) -> RoomMessage,
) -> Result<T, CallError> {
    let name = name_of(room).map_err(|error| CallError::Refused(error.to_string()))?;
    let (room, start) = (runtime.cluster_named::<RoomMessage>(name), Instant::now());
    loop {
        match room.call(&make).await {
            // It has crashed, and is not back yet. Nothing was done, so it is safe to ask again; of `Exited`, `NoConnection`
            // and `Timeout` that cannot be said, and it is for the one who asks to decide.
            Err(CallError::NoProc) if start.elapsed() < PATIENCE => tokio::time::sleep(A_MOMENT).await,
            outcome => return outcome,
        }
    }
}
