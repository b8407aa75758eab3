//! The behaviours that every node can start: enough to make a daemon useful, and to try it from outside.
//!
//! | behaviour | arguments | what it understands |
//! |---|---|---|
//! | `echo` | `null` | `{"Echo":"hi"}`: gives it back, whatever JSON it is; `{"Via":{"echo":"<pid>","value":"hi"}}` |
//! | `counter` | `null`, or where to begin, as `7` | `{"Add":5}` `{"Get":null}` `{"Reset":null}` |
//! | `kv` | `null` | `{"Put":{"key":"a","value":1}}` `{"Get":"a"}` `{"Delete":"a"}` `{"Keys":null}` |
//! | `topic` | `null` | `{"Subscribe":"<node-0.1f3a.42>"}` `{"Unsubscribe":…}` `{"Publish":"hi"}` `{"Count":null}` |
//! | `supervisor` | `{"children":[{"id":"c","behaviour":"counter","placement":"any"}]}` | out of reach of clients |
//!
//! The JSON is what a person types: `rookery call NAME '{"Get":"a"}'`. Programs use the message enums.

pub mod limits;

mod counter;
mod echo;
mod kv;
#[cfg(test)]
mod tests;
mod topic;

use rookery_runtime::{Behaviours, Server};

use crate::supervise::supervisor;

pub use counter::{Counter, CounterServer};
pub use echo::{Echo, EchoServer, Via};
pub use kv::{Entry, Kv, KvServer};
pub use topic::{Topic, TopicMessage, TopicServer};

/// The stock behaviours, by name.
#[must_use]
pub fn behaviours() -> Behaviours {
    let none = Behaviours::new();
    let with_echo = add::<EchoServer>(none, "echo");
    let with_counter = add::<CounterServer>(with_echo, "counter");
    let with_kv = add::<KvServer>(with_counter, "kv");
    let with_topic = add::<TopicServer>(with_kv, "topic");
    let supervisor = with_topic.clone().process("supervisor", supervisor::options, supervisor::behave);
    supervisor.unwrap_or(with_topic)
}

/// The names above are valid, which a test holds; so nothing is ever left out.
fn add<S: Server>(behaviours: Behaviours, name: &str) -> Behaviours {
    behaviours.clone().server::<S>(name).unwrap_or(behaviours)
}
