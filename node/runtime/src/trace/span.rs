//! A span: something that took time in a trace. It is told to the tracer when it is dropped, which is when it has ended.

use std::{
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rookery_protocol::trace::{SpanId, TraceContext};

use super::tracer::{Tracer, new_span_id, new_trace_id};

/// Bytes of one text of a span: a reason may be a message of a user.
const MAX_TEXT_BYTES: usize = 1_024;

/// What a span is to those around it, by OpenTelemetry's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SpanKind {
    /// Within one process.
    Internal = 1,
    /// The handling of a call.
    Server = 2,
    /// A call, as its caller sees it.
    Client = 3,
    /// The handling of a message that nobody waits for.
    Consumer = 5,
}

/// What is told of a span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) context: TraceContext,
    pub(super) parent: Option<SpanId>,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    /// By the wall clock, since 1970.
    pub(super) start: Duration,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Why it has failed, if it has.
    pub(super) error: Option<String>,
}

/// A span that has not ended.
pub(crate) struct ActiveSpan {
    tracer: Tracer,
    since: Instant,
    /// Taken when it ends.
    span: Option<Box<Span>>,
    context: TraceContext,
}

impl ActiveSpan {
    /// The first one of a new trace.
    pub(crate) fn root(tracer: &Tracer, kind: SpanKind, name: String) -> Self {
        Self::new(tracer, TraceContext::sampled(new_trace_id(), new_span_id()), None, kind, name)
    }

    /// One that belongs to `parent`, unless that is not recorded.
    pub(crate) fn child(tracer: &Tracer, parent: TraceContext, kind: SpanKind, name: String) -> Option<Self> {
        let context = parent.within(new_span_id());
        parent.is_sampled().then(|| Self::new(tracer, context, Some(parent.span), kind, name))
    }

    fn new(tracer: &Tracer, context: TraceContext, parent: Option<SpanId>, kind: SpanKind, name: String) -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (took, attributes, error) = (Duration::ZERO, Vec::new(), None);
        let span = Span { context, parent, kind, name: cut(name), start, took, attributes, error };
        Self { tracer: tracer.clone(), since: Instant::now(), span: Some(Box::new(span)), context }
    }

    /// What belongs to it has this in its envelope.
    pub(crate) fn context(&self) -> TraceContext {
        self.context
    }

    /// Says something of it.
    pub(crate) fn note(&mut self, key: &'static str, value: String) {
        if let Some(span) = &mut self.span {
            span.attributes.push((key, cut(value)));
        }
    }

    /// It has failed.
    pub(crate) fn fail(&mut self, why: String) {
        if let Some(span) = &mut self.span {
            span.error = Some(cut(why));
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

impl Drop for ActiveSpan {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.took = self.since.elapsed();
            self.tracer.record(span);
        }
    }
}

impl fmt::Debug for ActiveSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveSpan({})", self.context)
    }
}
