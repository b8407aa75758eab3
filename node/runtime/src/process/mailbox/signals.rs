//! What a process is to others who know nothing of its messages: it takes signals, and has ties.

use std::{
    any::Any,
    sync::{Arc, atomic::Ordering},
    task::Waker,
    time::Instant,
};

use rookery_protocol::{
    CallFailure, CreditNumber, Destination, ExitReason, Payload, Pid, PlainMessage, ProcessName, Ref, Run,
    TraceContext, UnlinkId,
};

use crate::{
    behaviour::system::SystemRequest,
    message::{self, Message},
    process::{
        AnyProcess,
        bounded::Admission,
        event::{Down, Event},
        info::{Callee, ProcessDetails, ProcessInfo, Vitals, some},
        mailbox::{
            Phase, Process,
            item::{Item, Other, fail_all},
            told::to_text,
            wake,
        },
        relations::{End, Lost, Relations},
    },
    reply::{CallError, RemoteReply},
    runtime::Runtime,
    sync::lock,
    trace::ActiveSpan,
};

impl<M: Message> AnyProcess for Process<M> {
    fn pid(&self) -> &Pid {
        &self.pid
    }

    fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    fn label(&self) -> &'static str {
        self.label
    }

    fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    fn members_only(&self) -> bool {
        self.members_only
    }

    fn vital(&self) -> bool {
        self.vital
    }

    fn serves(&self) -> bool {
        self.serves
    }

    fn adopt(&self, parent: Pid) {
        let mut state = lock(&self.state);
        if state.ended() {
            return;
        }
        state.relations().adopted_by = Some(parent.clone());
        let waker = state.push(Item::Other(Box::new(Other::Adopted(parent))));
        drop(state);
        wake(waker);
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn supervisor(&self) -> Option<Pid> {
        let adopted = lock(&self.state).relations.as_ref().and_then(|relations| relations.adopted_by.clone());
        adopted.or_else(|| self.linked_parent().cloned())
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn deliver(
        &self,
        payload: Payload,
        reply: Option<RemoteReply>,
        trace: Option<Box<TraceContext>>,
        admission: Admission<'_>,
    ) -> bool {
        self.take_payload(payload, reply, trace, admission)
    }

    fn deliver_plain(&self, message: &PlainMessage) -> bool {
        self.take_plain(message)
    }

    fn deliver_run(&self, run: &mut Run) -> u64 {
        self.take_run(run)
    }

    fn forget_credit(&self, asker: &Pid, number: CreditNumber) {
        if let Some(bounded) = &self.bounded {
            bounded.forget(asker, number);
        }
    }

    fn exit(&self, from: &Pid, reason: ExitReason) {
        let mut state = lock(&self.state);
        let waker = if reason == ExitReason::Kill {
            // Cannot be trapped; what others see is `Killed` (X2).
            state.end_with(ExitReason::Killed, &self.ending)
        } else {
            state.take_exit(from, reason, false, &self.ending)
        };
        drop(state);
        wake(waker);
    }

    fn link_exit(&self, from: &Pid, reason: ExitReason) {
        let mut state = lock(&self.state);
        if !state.relations.as_mut().is_some_and(|relations| relations.break_link(from)) {
            return;
        }
        let waker = state.take_exit(from, reason, true, &self.ending);
        drop(state);
        wake(waker);
    }

    fn system_request(&self, request: SystemRequest) -> Result<(), CallError> {
        let allowed = if request.is_handover() { self.serves } else { self.sys };
        if !allowed {
            return Err(CallError::Refused(format!("`{}` does not allow it (Server::SYS)", self.label)));
        }
        let item = Item::Other(Box::new(Other::System(request)));
        let mut state = lock(&self.state);
        if state.ended() {
            drop(state);
            item.fail(&CallFailure::NoProc);
            return Err(CallError::NoProc);
        }
        let waker = state.push(item);
        drop(state);
        wake(waker);
        Ok(())
    }

    fn event(&self, event: Event) {
        let mut state = lock(&self.state);
        if !state.ended() {
            let waker = state.push_event(event);
            drop(state);
            wake(waker);
        }
    }

    fn link_from(&self, from: &Pid) -> bool {
        let mut state = lock(&self.state);
        if state.phase == Phase::Ended {
            return false;
        }
        state.relations().link(from);
        true
    }

    fn unlink_from(&self, from: &Pid) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.unlinked_by(from);
        }
    }

    fn unlink_ack(&self, from: &Pid, id: UnlinkId) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.unlink_ack(from, id);
        }
    }

    fn link_to(&self, to: &Pid) -> bool {
        let mut state = lock(&self.state);
        !state.ended() && state.relations().link(to)
    }

    fn monitor_to(&self, monitor: Ref, target: Destination) {
        let mut state = lock(&self.state);
        if !state.ended() {
            state.relations().monitors.insert(monitor, target);
        }
    }

    fn watch(&self, watcher: &Pid, monitor: Ref) -> bool {
        let mut state = lock(&self.state);
        if state.phase == Phase::Ended {
            return false;
        }
        state.relations().watchers.insert((watcher.clone(), monitor));
        true
    }

    fn unwatch(&self, watcher: &Pid, monitor: Ref) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.watchers.remove(&(watcher.clone(), monitor));
        }
    }

    fn down(&self, monitor: Ref, reason: ExitReason) {
        let mut state = lock(&self.state);
        let target = state.relations.as_mut().and_then(|relations| relations.monitors.remove(&monitor));
        let waker = target.and_then(|target| state.push_event(Event::Down(Down { monitor, target, reason })));
        drop(state);
        wake(waker);
    }

    fn tied_over_connection(&self) {
        let mut state = lock(&self.state);
        if !state.ended() {
            state.relations().tied_over_connection = true;
        }
    }

    fn watch_nodes(&self) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().watches_nodes = true;
        true
    }

    fn enter_directory(&self) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().in_directory = true;
        true
    }

    fn name_conflict(&self, name: ProcessName, holder: Pid) {
        let mut state = lock(&self.state);
        let waker = if state.ended() {
            None
        } else if state.traps_exits {
            state.push_event(Event::NameConflict { name, holder })
        } else {
            let text = format!("`{name}` is held by {holder} as well, and was so before");
            state.end_with(ExitReason::NameConflict(text), &self.ending)
        };
        drop(state);
        wake(waker);
    }

    fn add_name(&self, name: &ProcessName) -> bool {
        let mut state = lock(&self.state);
        if state.ended() {
            return false;
        }
        state.relations().names.push(name.clone());
        true
    }

    fn remove_name(&self, name: &ProcessName) {
        if let Some(relations) = lock(&self.state).relations.as_mut() {
            relations.names.retain(|own| own != name);
        }
    }

    fn lost(&self, lost: &Lost) {
        let fires = lock(&self.state).relations.as_mut().map(|relations| relations.lost(lost));
        if let Some(bounded) = &self.bounded {
            bounded.lost(lost);
        }
        let (links, monitors) = fires.unwrap_or_default();
        for from in links {
            self.link_exit(&from, ExitReason::NoConnection);
        }
        for monitor in monitors {
            self.down(monitor, ExitReason::NoConnection);
        }
    }

    fn end_now(&self, reason: ExitReason) {
        let waker = lock(&self.state).end_with(reason, &self.ending);
        wake(waker);
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    fn must_end(&self) -> Option<ExitReason> {
        if !self.is_ending() {
            return None;
        }
        lock(&self.state).why()
    }

    fn set_task(&self, waker: Waker) {
        lock(&self.state).task = Some(waker);
    }

    fn end(&self, reason: &ExitReason) -> End {
        let mut state = lock(&self.state);
        if state.ended() {
            return End::Before;
        }
        let named = state.relations.as_ref().is_some_and(|relations| relations.is_named());
        state.set_phase(if named { Phase::Leaving } else { Phase::Ended }, reason.clone());
        self.ending.store(true, Ordering::Release);
        // Tasks that hold the process's address must not keep the task's memory.
        (state.task, state.waits, state.waits_apart) = (None, false, None);
        let mut relations = state.relations.take();
        drop(state);
        if let Some(mut span) = relations.as_mut().and_then(|relations| relations.handling.take())
            && !reason.is_clean()
        {
            span.fail(reason.to_string());
        }
        if let Some(bounded) = &self.bounded {
            bounded.close(&self.runtime, &self.pid);
        }
        End::Now(relations)
    }

    fn names_are_free(&self) -> Option<Box<Relations>> {
        let mut state = lock(&self.state);
        state.phase = Phase::Ended;
        state.relations.take()
    }

    fn drain(&self, reason: &ExitReason) {
        let queue = std::mem::take(&mut lock(&self.state).queue);
        self.runtime.count_found(queue.len());
        fail_all(queue, reason);
    }

    fn begin_call(&self, to: Callee<'_>, since: Instant) -> bool {
        if self.vitals.is_calling() {
            return false;
        }
        if let Callee::Other(to) = to {
            let mut state = lock(&self.state);
            if state.ended() {
                return false;
            }
            state.relations().called = Some(to.clone());
        }
        self.vitals.begin_call(to, self.runtime.us_at(since));
        true
    }

    fn trace(&self) -> Option<TraceContext> {
        if !self.traced.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.state).relations.as_ref()?.handling.as_ref().map(ActiveSpan::context)
    }

    fn mailbox_len(&self) -> usize {
        lock(&self.state).queue.len() + self.vitals.unreceived()
    }

    fn memory_bytes(&self) -> usize {
        self.bytes(&lock(&self.state))
    }

    fn info(&self) -> ProcessInfo {
        self.info_of(&lock(&self.state))
    }

    fn details(&self) -> ProcessDetails {
        let state = lock(&self.state);
        let relations = state.relations.as_deref();
        ProcessDetails {
            info: self.info_of(&state),
            message: message::tag_of::<M>().to_owned(),
            mailbox_limit: state.capacity,
            members_only: self.members_only,
            // What the directory knows; the process does not.
            groups: Vec::new(),
            linked: some(relations.into_iter().flat_map(|relations| relations.linked().cloned())),
            monitored: some(relations.into_iter().flat_map(|relations| relations.monitors.values().map(to_text))),
            watched_by: some(
                relations.into_iter().flat_map(|relations| relations.watchers.iter().map(|w| w.0.clone())),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::{ExitReason, Ref};

    use crate::{Context, Event, Received, Runtime, RuntimeConfig, SpawnOptions, process::End};

    #[tokio::test]
    async fn p5_whoever_ties_itself_to_a_process_that_ends_is_told_when_its_names_are_free() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        let (watcher, other) = ("<b.1.1>".parse().unwrap(), "<b.1.2>".parse().unwrap());
        for name in [None, Some("till".parse().unwrap())] {
            let options = name.clone().into_iter().fold(SpawnOptions::new(), SpawnOptions::name);
            let waits = async |_: Context<()>| std::future::pending::<()>().await;
            let pid = runtime.spawn_with(options, waits).unwrap().pid;
            let process = runtime.process(&pid).unwrap();
            assert!(matches!(process.end(&ExitReason::Normal), End::Now(_)));
            assert!(matches!(process.end(&ExitReason::Normal), End::Before));
            assert!(!process.add_name(&"desk".parse().unwrap()) && !process.enter_directory());
            assert_eq!((process.watch(&watcher, Ref(1)), process.link_from(&other)), (name.is_some(), name.is_some()));
            let late = process.names_are_free();
            assert_eq!(late.is_some(), name.is_some());
            if let Some(late) = late {
                assert!(late.watchers.contains(&(watcher.clone(), Ref(1))) && late.linked().eq([&other]));
            }
            assert!(!process.watch(&watcher, Ref(2)) && !process.link_from(&other));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn p5_whoever_monitors_a_process_while_its_names_are_freed_is_told() {
        let runtime = Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let watches = async move |mut context: Context<()>| drop(tell.send(context.receive().await));
        let watcher = runtime.spawn(watches).unwrap().pid().unwrap();
        let ends = runtime.spawn(async |mut context: Context<()>| drop(context.receive().await)).unwrap();
        let pid = ends.pid().unwrap();
        runtime.join(&"tills".parse().unwrap(), &pid).await.unwrap();
        let process = runtime.process(&pid).unwrap();
        runtime.process(&watcher).unwrap().monitor_to(Ref(7), (&pid).into());
        // It cannot leave the directory while that is read.
        let reads = runtime.directory().read();
        ends.try_send(()).unwrap();
        while process.enter_directory() {
            std::thread::yield_now();
        }
        assert!(process.watch(&watcher, Ref(7)));
        drop(reads);
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
        let Received::Event(Event::Down(down)) = told else { unreachable!("nothing else happens to it") };
        assert_eq!((down.monitor, down.reason), (Ref(7), ExitReason::Normal));
    }
}
