//! A question with its argument: for messages that people type. A [`ReplyTo`] takes no place in a payload, but beside
//! an argument it would still stand as a `null` in JSON: `{"Get":["key",null]}`. An `Ask` is its argument alone, in
//! every codec: `{"Get":"key"}`. And asking several nodes the same.

use std::time::Duration;

use rookery_runtime::{Destination, Message, NodeId, ProcessName, ReplyTo, Runtime};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IntoDeserializer, value::UnitDeserializer},
    ser,
};
use tokio::task::JoinSet;

use crate::system::{SYSTEM_NAME, System};

/// An argument, and where the answer to it goes.
///
/// ```
/// use rookery_node::ask::Ask;
/// use rookery_runtime::{Address, CallError};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// enum Prices { Of(Ask<String, u64>) }
///
/// async fn price(prices: &Address<Prices>) -> Result<u64, CallError> {
///     prices.call(|reply| Prices::Of(Ask::new("tea".to_owned(), reply))).await
/// }
/// ```
#[derive(Debug)]
pub struct Ask<Q, A: Send + 'static> {
    /// What is asked.
    pub value: Q,
    /// Where the answer goes.
    pub reply: ReplyTo<A>,
}

impl<Q, A: Send + 'static> Ask<Q, A> {
    /// Joins the two.
    #[must_use]
    pub fn new(value: Q, reply: ReplyTo<A>) -> Self {
        Self { value, reply }
    }
}

impl<Q: Serialize, A: Message> Serialize for Ask<Q, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The reply gets into the frame by being serialised; what it writes is nothing that anybody reads.
        self.reply.serialize(serde_json::value::Serializer).map_err(ser::Error::custom)?;
        self.value.serialize(serializer)
    }
}

impl<'de, Q: Deserialize<'de>, A: Send + 'static> Deserialize<'de> for Ask<Q, A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Q::deserialize(deserializer)?;
        let nothing: UnitDeserializer<D::Error> = ().into_deserializer();
        Ok(Self { value, reply: ReplyTo::deserialize(nothing)? })
    }
}

/// What several nodes answered.
#[derive(Debug)]
pub struct Answers<T> {
    /// Those that did, in the order in which they were named.
    pub answered: Vec<(NodeId, T)>,
    /// Those that did not, with why.
    pub silent: Vec<String>,
}

/// Asks `rookery:node` of each node the same at the same time, so that one that is silent costs one wait of `timeout`.
pub async fn each<T: Message>(
    runtime: &Runtime,
    nodes: &[NodeId],
    timeout: Duration,
    ask: impl Fn(ReplyTo<T>) -> System + Clone + Send + 'static,
) -> Answers<T> {
    let mut answers = Answers { answered: Vec::new(), silent: Vec::new() };
    let name = match ProcessName::new(SYSTEM_NAME) {
        Ok(name) => name,
        Err(error) => {
            answers.silent.push(error.to_string());
            return answers;
        }
    };
    let mut asked = JoinSet::new();
    for (at, node) in nodes.iter().enumerate() {
        let system = runtime.address::<System>(Destination::name(node.clone(), name.clone()));
        let (node, ask) = (node.clone(), ask.clone());
        asked.spawn(async move { (at, system.call_within(timeout, ask).await, node) });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|(at, ..)| *at);
    for (_, answer, node) in answered {
        match answer {
            Ok(answer) => answers.answered.push((node, answer)),
            Err(error) => answers.silent.push(format!("{}: {error}", node.name())),
        }
    }
    answers
}
