//! A fence: tells when everything that was on its way from one runtime to another has arrived, so that a test can say
//! that something did *not* come, without waiting for time to pass.
//!
//! Signals of one sender keep their order, and share a lane with others by the sender's serial. So a message from each
//! of many fresh processes closes every lane behind what went before.

use rookery_runtime::{Context, Runtime};
use tokio::sync::mpsc;

use crate::{patience::within, puppet::Note};

/// Enough processes that each lane has some of them: serials that follow each other are spread over the lanes.
const SENDERS: u64 = 64;

/// Returns once all that `from` had sent to `to` before has been handed to its receivers.
///
/// # Panics
/// When the fence's own messages do not arrive.
pub async fn fence(from: &Runtime, to: &Runtime) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let collector = to
        .spawn(async move |mut context: Context<Note>| {
            for _ in 0..SENDERS {
                drop(tell.send(format!("{:?}", context.receive().await)));
            }
        })
        .unwrap();
    let collector = collector.pid().unwrap();
    for number in 0..SENDERS {
        let collector = from.address::<Note>(&collector);
        from.spawn(async move |_: Context<Note>| drop(collector.send(Note::Number(number)).await)).unwrap();
    }
    for _ in 0..SENDERS {
        within("a fence", told.recv()).await.unwrap();
    }
}
