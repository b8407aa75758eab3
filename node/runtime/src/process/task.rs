//! A process as a future: polls the user's, catches its panic (P3), ends it at any `.await` when it has to end (P4),
//! and then tells everybody who must know, in the contract's order (P5).

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use rookery_protocol::{CallFailure, ExitReason, Signal, SignalBody};

use crate::{
    message::Message,
    process::{
        AnyProcess,
        alarm::Alarm,
        context,
        current::{self, Orphans},
        deadline::Deadline,
        relations::{End, Relations},
    },
    reply::dropping,
    spawn::IntoExit,
};

pin_project! {
    pub(crate) struct ProcessTask<M, S, F>
    where
        M: Message,
    {
        // Gone when the process has ended.
        process: Option<Arc<dyn AnyProcess>>,
        // Gone as soon as it is done.
        #[pin]
        code: Code<M, S, F>,
        // Wakes the task in time for what it waits for.
        alarm: Alarm,
        // The deadline that it works under, between its steps.
        inherited: Option<Deadline>,
    }

    impl<M, S, F> PinnedDrop for ProcessTask<M, S, F>
    where
        M: Message,
    {
        // The runtime shuts down under the process.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(process) = this.process.take() {
                let reason = process.must_end().unwrap_or(ExitReason::Shutdown);
                finish(&process, reason, None, || this.code.set(Code::Done));
            }
        }
    }
}

pin_project! {
    /// The user's. What it is started with and what it runs as are never there at the same time, and take the same room.
    #[project = CodeNow]
    enum Code<M, S, F>
    where
        M: Message,
    {
        // The process does not know yet whom to wake.
        New { start: Option<(S, context::Context<M>)> },
        Runs { #[pin] future: F },
        Done,
    }
}

impl<M, S, F> ProcessTask<M, S, F>
where
    M: Message,
    S: FnOnce(context::Context<M>) -> F,
    F: Future<Output: IntoExit>,
{
    pub(crate) fn new(process: Arc<dyn AnyProcess>, start: S, context: context::Context<M>) -> Self {
        let code = Code::New { start: Some((start, context)) };
        Self { process: Some(process), code, alarm: Alarm::default(), inherited: None }
    }
}

impl<M, S, F> Code<M, S, F>
where
    M: Message,
    S: FnOnce(context::Context<M>) -> F,
    F: Future<Output: IntoExit>,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ExitReason> {
        if let CodeNow::New { start } = self.as_mut().project()
            && let Some((start, context)) = start.take()
        {
            let future = start(context);
            self.set(Self::Runs { future });
        }
        match self.project() {
            CodeNow::Runs { future } => future.poll(cx).map(IntoExit::into_exit),
            CodeNow::New { .. } | CodeNow::Done => Poll::Ready(ExitReason::Normal),
        }
    }
}

impl<M, S, F> Future for ProcessTask<M, S, F>
where
    M: Message,
    S: FnOnce(context::Context<M>) -> F,
    F: Future<Output: IntoExit>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(process) = this.process.take() else { return Poll::Ready(()) };
        if matches!(*this.code, Code::New { .. }) {
            process.set_task(cx.waker().clone());
        }
        if process.is_ending()
            && let Some(reason) = process.must_end()
        {
            finish(&process, reason, None, || this.code.set(Code::Done));
            return Poll::Ready(());
        }
        process.vitals().step();
        let mut ended = None;
        let (stepped, process, left) = current::step(process, Some(cx.waker()), *this.inherited, || {
            catch_unwind(AssertUnwindSafe(|| match this.code.as_mut().poll(cx) {
                Poll::Ready(reason) => ended = Some(reason),
                Poll::Pending => {}
            }))
        });
        process.vitals().step();
        let reason = match (stepped, ended) {
            (Ok(()), None) => {
                *this.inherited = left.inherited;
                if let Some(at) = left.alarm {
                    this.alarm.set(at, cx);
                }
                *this.process = Some(match left.orphans {
                    None => process,
                    // As this process: the answers come behind all that it sent (S1).
                    Some(orphans) => current::run(process, || orphans.fail_dropped()).0,
                });
                return Poll::Pending;
            }
            // What it was told to end with counts, even if it came to its own end in the same step.
            (Ok(()), Some(reason)) => process.must_end().unwrap_or(reason),
            (Err(panic), _) => ExitReason::Panic(text_of(&*panic)),
        };
        finish(&process, reason, left.orphans, || this.code.set(Code::Done));
        Poll::Ready(())
    }
}

/// Ends the process: nothing reaches it any more; its names go; then its own values; then whoever must know is told.
fn finish(
    process: &Arc<dyn AnyProcess>,
    reason: ExitReason,
    orphans: Option<Box<Orphans>>,
    drop_future: impl FnOnce(),
) {
    let reason = reason.cut();
    let runtime = process.runtime();
    let End::Now(relations) = process.end(&reason) else { return };
    let mut late = None;
    if let Some(relations) = &relations {
        for name in &relations.names {
            runtime.release_name(name, process.pid());
        }
        if relations.in_directory {
            runtime.gone_from_directory(process.pid());
        }
        if relations.is_named() {
            late = process.names_are_free();
        }
        if relations.watches_nodes {
            runtime.monitor_nodes(process.pid(), false);
        }
    }
    let _telling = runtime.forget(process.pid());
    let failed = dropping::Mode::Fail(CallFailure::Exited(reason.clone()));
    // As this process: what its destructors send, and the answers that it leaves undone, come behind all that it sent (S1).
    let (running, left) = current::run(process.clone(), || {
        if let Some(orphans) = orphans {
            orphans.fail_exited(&reason);
        }
        dropping::within(failed, Deferred(Some(drop_future)));
        process.drain(&reason);
    });
    if let Some(orphans) = left {
        current::run(running, || orphans.fail_exited(&reason));
    }
    for relations in [relations, late].into_iter().flatten() {
        tell(process, *relations, &reason);
    }
    match &reason {
        ExitReason::Panic(text) => {
            tracing::error!(pid = %process.pid(), behaviour = process.label(), panic = text.as_str(), "process panicked");
        }
        reason => tracing::trace!(pid = %process.pid(), %reason, "process ended"),
    }
}

/// Tells of the end who has ties with it.
fn tell(process: &Arc<dyn AnyProcess>, relations: Relations, reason: &ExitReason) {
    let (runtime, from) = (process.runtime(), process.pid());
    for link in relations.linked() {
        let body = SignalBody::Exit { reason: reason.clone(), linked: true };
        runtime.signal(Signal { from: from.clone(), to: link.into(), body });
    }
    for (watcher, monitor) in &relations.watchers {
        let body = SignalBody::Down { monitor: *monitor, reason: reason.clone() };
        runtime.signal(Signal { from: from.clone(), to: watcher.into(), body });
    }
    for (monitor, target) in relations.monitors {
        runtime.signal(Signal { from: from.clone(), to: target, body: SignalBody::Demonitor(monitor) });
    }
    if relations.tied_over_connection {
        runtime.untie(from.serial());
    }
}

/// Does something when it is dropped.
struct Deferred<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for Deferred<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    match panic.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a value that is no text".to_owned()),
    }
}
