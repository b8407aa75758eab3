//! Calls and casts to many at once, as `gen_server:multi_call/4` and `abcast/3`: each receiver's own outcome, and none
//! waited for longer than the deadline (A5).
//!
//! Every message is sent before any answer is waited for, and an answer lies in its slot until it is looked at. So the
//! slots are waited for one after the other, and a thousand receivers do not wake each other. Only sends that find no
//! room are polled side by side.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use rookery_protocol::Destination;
use tokio::time::Instant;

use crate::{
    address::{Address, SendError, Unsent},
    calling::Waiting,
    message::Message,
    process::{alarm::Until, deadline::FAR},
    reply::{CallError, ReplyTo, Slot},
    runtime::Runtime,
};

impl Runtime {
    /// Asks all of `to` at once and waits for their answers, at most `timeout` altogether (A5). The outcomes stand in
    /// the order of `to`, each exactly one of [`Address::call`]'s: one that is dead, refuses, or does not answer takes
    /// nothing from the others.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use rookery_runtime::{Destination, ProcessName, ReplyTo, Runtime};
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// enum Counter { Get(ReplyTo<i64>) }
    ///
    /// /// The sum of the process `counter` of every node.
    /// async fn sum(runtime: &Runtime) -> Result<i64, Box<dyn std::error::Error>> {
    ///     let name: ProcessName = "counter".parse()?;
    ///     let counter = |node| runtime.address(Destination::name(node, name.clone()));
    ///     let counters: Vec<_> = runtime.nodes().into_iter().map(counter).collect();
    ///     let counts = runtime.multi_call(&counters, Duration::from_secs(1), Counter::Get).await;
    ///     Ok(counts.into_iter().filter_map(|(_, count)| count.ok()).sum())
    /// }
    /// ```
    pub async fn multi_call<M: Message, T: Message>(
        &self,
        to: &[Address<M>],
        timeout: Duration,
        make: impl Fn(ReplyTo<T>) -> M,
    ) -> Vec<(Destination, Result<T, CallError>)> {
        let now = Instant::now();
        let timeout = self.patience(timeout, now);
        let deadline = self.clock().deadline(now, timeout);
        let calls: Vec<_> = to.iter().map(|_| Waiting::new(self, Slot::new(self.clock(), deadline))).collect();
        let mut unsent = Vec::new();
        for (address, call) in to.iter().zip(&calls) {
            match address.try_send_until(make(ReplyTo::local(call.slot.clone())), deadline) {
                Ok(()) => {}
                Err(Unsent { error: SendError::Full { message }, .. }) => unsent.push(Box::pin(async move {
                    if let Err(error) = address.send_until(message, deadline).await {
                        call.slot.not_sent(error);
                    }
                })),
                Err(Unsent { error, .. }) => call.slot.not_sent(error),
            }
        }
        let mut outcomes = Vec::with_capacity(to.len());
        let all = async {
            join_all(&mut unsent).await;
            for call in &calls {
                outcomes.push(call.outcome().await);
            }
        };
        let in_time = Until::new(now + timeout, all).await;
        if in_time.is_none() {
            let late = calls.iter().skip(outcomes.len());
            outcomes.extend(late.map(|call| call.slot.take().unwrap_or(Err(CallError::Timeout))));
        }
        to.iter().map(Address::destination).zip(outcomes).collect()
    }

    /// Sends to all of `to` at once. Waits, at most `timeout` altogether, for those whose mailbox, or whose node's
    /// buffer, is full (S6). The outcomes stand in the order of `to`; that a message was sent does not say that it
    /// arrives, as with [`Address::send`].
    pub async fn cast<M: Message>(
        &self,
        to: &[Address<M>],
        timeout: Duration,
        make: impl Fn() -> M,
    ) -> Vec<(Destination, Result<(), SendError<M>>)> {
        let until = Instant::now() + timeout.min(FAR);
        let mut outcomes: Vec<_> = to.iter().map(|address| address.try_send_until(make(), None)).collect();
        let full =
            |outcome: &Result<(), Unsent<M>>| matches!(outcome, Err(Unsent { error: SendError::Full { .. }, .. }));
        let full = to.iter().zip(&mut outcomes).filter(|(_, outcome)| full(outcome));
        join_all(&mut full.map(|(address, outcome)| Box::pin(retry(address, outcome, until))).collect()).await;
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map_err(|unsent| unsent.error));
        to.iter().map(Address::destination).zip(outcomes).collect()
    }
}

/// Tries again whenever there may be room.
async fn retry<M: Message>(address: &Address<M>, outcome: &mut Result<(), Unsent<M>>, until: Instant) {
    while let Err(Unsent { error: SendError::Full { .. }, body_bytes }) = outcome {
        if Until::new(until, address.room(*body_bytes)).await.is_none() {
            return;
        }
        if let Err(Unsent { error: SendError::Full { message }, .. }) = std::mem::replace(outcome, Ok(())) {
            *outcome = address.try_send_until(message, None);
        }
    }
}

/// Waits until all are done. Polls all that are not whenever one may be: for few.
async fn join_all<F: Future<Output = ()>>(futures: &mut Vec<Pin<Box<F>>>) {
    poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
