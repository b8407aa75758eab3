//! A chat across pods: rooms are processes, who is in a room is a group, and a crash is noticed by nobody.
//!
//! ```text
//!  chat-0                    chat-1                          chat-2
//!  ann                       bob
//!  eve, in a client          room `lobby` ── every line ──▶ group chat#lobby: ann, bob, eve
//!  scribe                    scribe       └─ every line ──▶ scribe
//!              supervisor `rooms`: of the cluster, on any of them
//! ```
//! What happens: three come in and talk; a bug ends the room, in the middle of it; the room's pod is lost, and one of the
//! users with it. `cargo run -p rookery-node --example chat` tells it, and `cargo test` holds it to its word.
//!
//! To read: `room.rs` (the server, and the bug), `user.rs` (who counts lines), `scribe.rs` (who remembers), `pod.rs`.

#![allow(clippy::print_stdout, reason = "an example prints what it finds")]

mod pod;
mod room;
mod scribe;
mod user;

use std::{error::Error, time::Duration};

use rookery_node::{CallError, ExitReason, Pid, Runtime, tls::Authority};
use room::Line;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use user::{present, say};

pub(crate) type Failure = Box<dyn Error>;

const LOBBY: &str = "lobby";

/// Nothing here takes longer, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often it is looked.
const A_MOMENT: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let authority = Authority::create(&"chat".parse()?)?;
    let front = pod::start(&authority, "chat-0", None, false).await?;
    let here = Some(front.listen_address());
    let mut others =
        vec![pod::start(&authority, "chat-1", here, true).await?, pod::start(&authority, "chat-2", here, true).await?];
    until("three pods know each other", || others.iter().all(|pod| pod.nodes().len() == 3)).await?;
    pod::open_rooms(&front, &[LOBBY, "garden"]).await?;

    // Bob happens to be on the pod that his room is on.
    let first_life = lobby(&front).await?;
    let at = others.iter().position(|pod| pod.node() == first_life.node()).ok_or("the lobby is on no pod")?;
    let client = pod::connect(&authority, "eve", &front).await?;
    let (ann, bob, eve) = (front.runtime().clone(), others[at].runtime().clone(), client.runtime());
    let mut screens = [enter(&ann, "ann")?, enter(&bob, "bob")?, enter(&eve, "eve")?];
    until_present(&ann, &["ann", "bob", "eve"]).await?;
    say(&ann, LOBBY, "ann", "hello").await?;
    say(&bob, LOBBY, "bob", "hi ann").await?;
    say(&eve, LOBBY, "eve", "/roll 6").await?;

    // A bug: only the one who ran into it is told.
    let told = say(&bob, LOBBY, "bob", "/roll 0").await;
    println!("bob is told: {told:?}");
    if !matches!(&told, Err(CallError::Exited(ExitReason::Panic(_)))) {
        return Err("the room did not crash".into());
    }
    say(&ann, LOBBY, "ann", "bob, your turn").await?;
    until_present(&eve, &["ann", "bob", "eve"]).await?;
    let second_life = lobby(&front).await?;
    println!("the lobby was {first_life} and is {second_life}");

    // Its pod is lost, without a goodbye.
    drop(others.swap_remove(at));
    until("the loss is noticed", || ann.nodes().len() == 2).await?;
    say(&eve, LOBBY, "eve", "where is bob?").await?;
    until_present(&ann, &["ann", "eve"]).await?;
    println!("the lobby is {}", lobby(&front).await?);

    let seen = [read(&mut screens[0], 5).await?, read(&mut screens[2], 5).await?];
    for line in &seen[0] {
        println!("{:>3} {}: {}", line.number, line.from, line.text);
    }
    client.close().await;
    front.shut_down("the example is over").await;
    if seen[0] == seen[1] && (1..=5).eq(seen[0].iter().map(|line| line.number)) {
        Ok(())
    } else {
        Err(format!("they saw {seen:?}").into())
    }
}

/// A user comes in, on a pod or in a client.
fn enter(runtime: &Runtime, name: &'static str) -> Result<mpsc::UnboundedReceiver<Line>, Failure> {
    let (screen, seen) = mpsc::unbounded_channel();
    runtime.spawn(move |context| user::user(name.to_owned(), LOBBY.to_owned(), screen, context))?;
    Ok(seen)
}

/// The process that the lobby is now, once there is one.
async fn lobby(runtime: &Runtime) -> Result<Pid, Failure> {
    let name = room::name_of(LOBBY)?;
    until("there is a lobby", || runtime.holder_of_cluster_name(&name).is_some()).await?;
    Ok(runtime.holder_of_cluster_name(&name).ok_or("the lobby has gone")?)
}

/// Waits until just these are in the lobby.
async fn until_present(runtime: &Runtime, names: &[&str]) -> Result<(), Failure> {
    let there = async {
        while present(runtime, LOBBY).await? != names {
            sleep(A_MOMENT).await;
        }
        Ok(())
    };
    timeout(DEADLINE, there).await.map_err(|_| format!("{names:?} do not come to be in the lobby"))?
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let so = async {
        while !is_so() {
            sleep(A_MOMENT).await;
        }
    };
    Ok(timeout(DEADLINE, so).await.map_err(|_| format!("in vain: {what}"))?)
}

/// What a user sees, up to the line of this number.
async fn read(screen: &mut mpsc::UnboundedReceiver<Line>, last: u64) -> Result<Vec<Line>, Failure> {
    let mut lines: Vec<Line> = Vec::new();
    while lines.last().is_none_or(|line| line.number < last) {
        lines.push(timeout(DEADLINE, screen.recv()).await?.ok_or("the user is gone")?);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #[test]
    fn nobody_notices_a_crash_nor_the_loss_of_a_pod() -> Result<(), super::Failure> {
        super::main()
    }
}
