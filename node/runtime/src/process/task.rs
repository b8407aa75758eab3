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
    process::{
        AnyProcess,
        current::{self, Orphan},
        deadline::Deadline,
    },
    reply::dropping,
};

pin_project! {
    pub(crate) struct ProcessTask<F> {
        // Gone when the process has ended.
        process: Option<Arc<dyn AnyProcess>>,
        // Gone as soon as the user's code is done.
        #[pin]
        future: Option<F>,
        // Whether the process knows whom to wake.
        known: bool,
        // The deadline that it works under, between its steps.
        inherited: Option<Deadline>,
    }

    impl<F> PinnedDrop for ProcessTask<F> {
        // The runtime shuts down under the process.
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(process) = this.process.take() {
                let reason = process.must_end().unwrap_or(ExitReason::Shutdown);
                finish(&process, reason, Vec::new(), || this.future.set(None));
            }
        }
    }
}

impl<F> ProcessTask<F> {
    pub(crate) fn new(process: Arc<dyn AnyProcess>, future: F) -> Self {
        Self { process: Some(process), future: Some(future), known: false, inherited: None }
    }
}

impl<F: Future<Output = ExitReason>> Future for ProcessTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(process) = this.process.take() else { return Poll::Ready(()) };
        if !*this.known {
            *this.known = true;
            process.set_task(cx.waker().clone());
        }
        if let Some(reason) = process.must_end() {
            finish(&process, reason, Vec::new(), || this.future.set(None));
            return Poll::Ready(());
        }
        process.vitals().step();
        let (outcome, process, orphans) = current::run(process, || {
            current::inherit(*this.inherited);
            let outcome = catch_unwind(AssertUnwindSafe(|| match this.future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx),
                None => Poll::Ready(ExitReason::Normal),
            }));
            *this.inherited = current::inherited();
            outcome
        });
        process.vitals().step();
        let reason = match outcome {
            Ok(Poll::Pending) => {
                *this.process = Some(if orphans.is_empty() {
                    process
                } else {
                    // As this process: the answers come behind all that it sent (S1).
                    current::run(process, || current::fail_dropped(orphans)).1
                });
                return Poll::Pending;
            }
            // What it was told to end with counts, even if it came to its own end in the same step.
            Ok(Poll::Ready(reason)) => process.must_end().unwrap_or(reason),
            Err(panic) => ExitReason::Panic(text_of(&*panic)),
        };
        finish(&process, reason, orphans, || this.future.set(None));
        Poll::Ready(())
    }
}

/// Ends the process: nothing reaches it any more; its names go; then its own values; then whoever must know is told.
fn finish(process: &Arc<dyn AnyProcess>, reason: ExitReason, orphans: Vec<Orphan>, drop_future: impl FnOnce()) {
    let reason = reason.cut();
    let runtime = process.runtime().clone();
    let Some(relations) = process.end(&reason) else { return };
    for name in &relations.names {
        runtime.release_name(name, process.pid());
    }
    if relations.in_directory {
        runtime.gone_from_directory(process.pid());
    }
    runtime.forget(process.pid());
    let failed = dropping::Mode::Fail(CallFailure::Exited(reason.clone()));
    // As this process: what its destructors send, and the answers that it leaves undone, come behind all that it sent (S1).
    let ((), running, left) = current::run(process.clone(), || {
        current::fail_exited(orphans, &reason);
        dropping::within(failed, Deferred(Some(drop_future)));
        process.drain(&reason);
    });
    if !left.is_empty() {
        current::run(running, || current::fail_exited(left, &reason));
    }
    let from = process.pid();
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
    match &reason {
        ExitReason::Panic(text) => {
            tracing::error!(pid = %from, behaviour = process.label(), panic = text.as_str(), "process panicked");
        }
        reason => tracing::trace!(pid = %from, %reason, "process ended"),
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
