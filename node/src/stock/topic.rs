//! `topic`: passes what is published on to each subscriber. It monitors them, so one that ends, or whose node is lost, is
//! a subscriber no more. Each gets what is published after it subscribed, in the order of publishing, at most once.
//!
//! A subscriber receives [`TopicMessage`]: it is what its process understands, or it subscribes by a process that does.

use std::collections::BTreeMap;

use rookery_runtime::{Address, Context, Event, ExitReason, Handover, Pid, Ref, ReplyTo, SendError, Server};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use crate::{
    ask::Ask,
    stock::limits::{MAX_SUBSCRIBERS, MAX_TEXT_BYTES, PUBLISH_PATIENCE},
};

/// What `topic` understands. In JSON: `{"Subscribe":"<node-0.1f3a.42>"}`, `{"Unsubscribe":"<node-0.1f3a.42>"}`,
/// `{"Publish":"hi"}`, `{"Count":null}`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Topic {
    /// Sends this process what is published from now on. Twice is once. Answered with unit when it is noted.
    Subscribe(Ask<Pid, ()>),
    /// No more.
    Unsubscribe(Pid),
    /// Sends this text to all subscribers; the answer is to how many it was sent.
    Publish(Ask<String, u64>),
    /// How many subscribers there are.
    Count(ReplyTo<u64>),
}

/// What subscribers receive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicMessage {
    /// The topic that it was published on.
    pub topic: Pid,
    /// What was published.
    pub text: String,
}

/// The process.
#[derive(Debug, Default)]
pub struct TopicServer {
    subscribers: BTreeMap<Pid, Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    monitor: Ref,
    address: Address<TopicMessage>,
    /// How many messages it has missed by being too slow.
    missed: u64,
}

impl TopicServer {
    fn subscribe(&mut self, pid: Pid, context: &mut Context<Topic>) -> Result<(), String> {
        if self.subscribers.contains_key(&pid) {
            return Ok(());
        }
        if self.subscribers.len() >= MAX_SUBSCRIBERS {
            return Err(format!("the topic has its limit of {MAX_SUBSCRIBERS} subscribers"));
        }
        let monitor = context.monitor(&pid);
        let address = context.runtime().address(&pid);
        self.subscribers.insert(pid, Subscriber { monitor, address, missed: 0 });
        Ok(())
    }

    async fn publish(&mut self, text: String, context: &Context<Topic>) -> Result<u64, String> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("the text has {} bytes, more than {MAX_TEXT_BYTES}", text.len()));
        }
        let patience = Instant::now() + PUBLISH_PATIENCE;
        let message = TopicMessage { topic: context.pid().clone(), text };
        let mut sent = 0;
        for (pid, subscriber) in &mut self.subscribers {
            let taken = match subscriber.address.try_send(message.clone()) {
                Err(SendError::Full { message }) => {
                    matches!(timeout_at(patience, subscriber.address.send(message)).await, Ok(Ok(())))
                }
                outcome => outcome.is_ok(),
            };
            if taken {
                sent += 1;
            } else {
                subscriber.missed += 1;
                tracing::warn!(topic = %context.pid(), subscriber = %pid, missed = subscriber.missed, "a subscriber is too slow and misses a message");
            }
        }
        Ok(sent)
    }
}

impl Server for TopicServer {
    type Message = Topic;
    type Arguments = ();

    async fn init((): (), _: &mut Context<Topic>) -> Result<Self, ExitReason> {
        Ok(Self::default())
    }

    /// Who subscribes.
    async fn hand_over(&mut self, _: &mut Context<Topic>) -> Option<Handover> {
        Handover::new(1, &self.subscribers.keys().collect::<Vec<_>>()).ok()
    }

    async fn take_over(state: Handover, (): (), context: &mut Context<Topic>) -> Result<Self, ExitReason> {
        let mut topic = Self::default();
        for pid in state.read::<Vec<Pid>>().map_err(ExitReason::Error)? {
            topic.subscribe(pid, context).map_err(ExitReason::Error)?;
        }
        Ok(topic)
    }

    async fn handle(&mut self, message: Topic, context: &mut Context<Topic>) -> Result<(), ExitReason> {
        match message {
            Topic::Subscribe(ask) => match self.subscribe(ask.value, context) {
                Ok(()) => ask.reply.answer(()),
                Err(why) => ask.reply.refuse(why),
            },
            Topic::Unsubscribe(pid) => {
                if let Some(subscriber) = self.subscribers.remove(&pid) {
                    context.demonitor(subscriber.monitor);
                }
            }
            Topic::Publish(ask) => match self.publish(ask.value, context).await {
                Ok(sent) => ask.reply.answer(sent),
                Err(why) => ask.reply.refuse(why),
            },
            Topic::Count(reply) => reply.answer(self.subscribers.len() as u64),
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, _: &mut Context<Topic>) -> Result<(), ExitReason> {
        if let Event::Down(down) = event {
            self.subscribers.retain(|_, subscriber| subscriber.monitor != down.monitor);
        }
        Ok(())
    }
}
