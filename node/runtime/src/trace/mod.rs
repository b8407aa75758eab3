//! Traces: what follows from one beginning, across processes, nodes and clients, told to a collector by OpenTelemetry's protocol.
//!
//! ```text
//! call ─▶ span (client) ─▶ envelope: W3C context ─▶ mailbox ─▶ span of its handling (server) ─▶ what that calls and sends
//!            │                                                     │
//!            └────────────▶ queue (bounded, never waits) ◀─────────┘
//!                             └─▶ one task: batches, OTLP over HTTP
//! ```
//! A trace begins where a [`Tracer`] decides so, one call of many, or where the program says [`Runtime::traced`]. From there it goes with
//! every message that a process sends while it works on one of the trace. A message of no trace has nothing in its envelope, and a
//! runtime without a tracer looks at one pointer.

pub mod config;
mod export;
mod otlp;
mod span;
mod tracer;

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
pub use rookery_protocol::trace::{ParseTraceError, SpanId, TraceContext, TraceId};

use crate::{process::current, runtime::Runtime};
pub(crate) use span::{ActiveSpan, SpanKind};
pub use tracer::{TraceCounts, Tracer};

thread_local! {
    /// What is done on this thread just now belongs to this, whatever its process works on.
    static SCOPE: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// The trace that what is done here and now belongs to, if that is recorded: the innermost [`within`] or [`Runtime::traced`], or that of
/// the message that the running process works on. Its [`Display`](std::fmt::Display) is the header `traceparent`.
#[must_use]
pub fn current() -> Option<TraceContext> {
    SCOPE.get().or_else(current::trace)
}

/// Runs `future` as part of that trace: what it calls and sends belongs to it. For a trace that has begun elsewhere, as in a request of
/// HTTP with a `traceparent`, or in a span of another library.
///
/// ```
/// # use rookery_runtime::trace;
/// # async fn example() -> Result<(), trace::ParseTraceError> {
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// trace::within(header.parse()?, async { /* calls */ }).await;
/// # Ok(()) }
/// ```
pub fn within<F: Future>(context: TraceContext, future: F) -> Within<F> {
    Within { context: Some(context), future }
}

/// As [`within`], for what is over at once.
pub(crate) fn with<R>(context: Option<TraceContext>, f: impl FnOnce() -> R) -> R {
    let Some(context) = context else { return f() };
    let _outer = Outer(SCOPE.replace(Some(context)));
    f()
}

/// As [`within`], if there is a context.
pub(crate) fn maybe_within<F: Future>(context: Option<TraceContext>, future: F) -> Within<F> {
    Within { context, future }
}

/// Begins the names of types that nodes and tools speak with each other: what they ask each second begins no trace.
const SYSTEM: &str = "rookery.";

/// Whether a message of that type begins a trace.
fn begins(tracer: &Tracer, tag: &str) -> bool {
    !tag.starts_with(SYSTEM) && tracer.samples()
}

/// Puts back what the thread had.
struct Outer(Option<TraceContext>);

impl Drop for Outer {
    fn drop(&mut self) {
        SCOPE.set(self.0.take());
    }
}

pin_project! {
    /// A future that is part of a trace; see [`within`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Within<F> {
        context: Option<TraceContext>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        with(*this.context, || this.future.poll(cx))
    }
}

impl Runtime {
    /// Runs `future` as a span of that name: of the trace that is there, or a new one that is always recorded. What it calls and sends
    /// belongs to it. Without a tracer it just runs.
    pub async fn traced<F: Future>(&self, name: &str, future: F) -> F::Output {
        let Some(tracer) = self.tracer() else { return future.await };
        let span = match current() {
            Some(parent) => ActiveSpan::child(tracer, parent, SpanKind::Internal, name.to_owned()),
            None => Some(ActiveSpan::root(tracer, SpanKind::Internal, name.to_owned())),
        };
        maybe_within(span.as_ref().map(ActiveSpan::context), future).await
    }

    /// What stands in the envelope of a message that is sent now.
    #[inline]
    pub(crate) fn outgoing(&self) -> Option<TraceContext> {
        match self.tracer() {
            None => None,
            Some(_) => current().filter(TraceContext::is_sampled),
        }
    }

    /// A call begins here: its span, if its trace is recorded, or one begins with it.
    pub(crate) fn begin_call_span(&self, tag: &str, to: impl FnOnce() -> String) -> Option<Box<ActiveSpan>> {
        let tracer = self.tracer()?;
        let name = || format!("call {tag}");
        let mut span = match current() {
            Some(parent) => ActiveSpan::child(tracer, parent, SpanKind::Client, name())?,
            None if begins(tracer, tag) => ActiveSpan::root(tracer, SpanKind::Client, name()),
            None => return None,
        };
        span.note("rookery.to", to());
        Some(Box::new(span))
    }

    /// A message of a client that is of no trace has come: one of many begins a trace here, which would have none otherwise.
    #[must_use]
    pub fn begin_for_client(&self, client: &str, tag: &str) -> Option<Box<TraceContext>> {
        let tracer = self.tracer().filter(|tracer| begins(tracer, tag))?;
        let mut span = ActiveSpan::root(tracer, SpanKind::Internal, format!("client {client}"));
        span.note("rookery.node", self.node().to_string());
        Some(Box::new(span.context()))
    }
}
