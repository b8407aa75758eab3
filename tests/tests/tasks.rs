//! Tasks: one result, or the reason why there is none; the fate that is shared with an owner, or is not.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rookery_runtime::{
    Context, Event, ExitReason, Received, Runtime, SpawnOptions, Task, TaskError, TaskStartError, TaskSupervisor,
};
use rookery_tests::{Note, Puppet, eventually, watch, within};
use tokio::sync::oneshot;

rookery_tests::contract! {
    together {
        a_task_gives_its_result_once,
        a_task_that_has_no_result_yet_goes_on,
        a_task_ends_with_its_owner,
        a_task_that_fails_ends_its_owner,
        a_trapping_owner_is_told_and_gets_the_reason,
        a_task_is_shut_down_without_harm_to_its_owner,
        a_task_that_does_not_yield_is_not_waited_for_longer_than_told,
        a_supervised_task_harms_nobody,
        a_task_supervisor_is_bounded,
        tasks_end_with_their_supervisor,
        many_tasks_run_so_many_at_a_time,
    }
}

const LONG: Duration = Duration::from_secs(3600);

async fn a_task_gives_its_result_once(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let outcomes = owner.run_async(|context| {
        Box::pin(async move {
            // No message: it need not be one.
            let mut task = Task::spawn(context, async { Box::new(|| 5) as Box<dyn Fn() -> i32 + Send> }).unwrap();
            let value = task.await_result(LONG).await.unwrap()();
            (
                value,
                task.await_result(LONG).await.map(drop),
                task.yield_result(LONG).await.map(|outcome| outcome.map(drop)),
            )
        })
    });
    assert_eq!(outcomes.await, (5, Err(TaskError::Taken), Some(Err(TaskError::Taken))));
}

async fn a_task_that_has_no_result_yet_goes_on(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let (go, gate) = oneshot::channel::<u64>();
    let mut task = owner.run(|context| Task::spawn(context, async { gate.await.unwrap() }).unwrap()).await;
    assert!(task.yield_result(Duration::ZERO).await.is_none());
    assert_eq!(task.await_result(Duration::from_millis(5)).await, Err(TaskError::Timeout));
    go.send(9).unwrap();
    assert_eq!(within("the result", task.yield_result(LONG)).await, Some(Ok(9)));
}

async fn a_task_ends_with_its_owner(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let mut task = owner.run(|context| Task::spawn(context, pending::<()>()).unwrap()).await;
    let end = watch(a, task.pid()).await;
    owner.end(ExitReason::Error("away".to_owned()));
    assert_eq!(end.reason().await, ExitReason::Error("away".to_owned()));
    let outcome = within("the outcome", task.await_result(LONG)).await;
    assert_eq!(outcome, Err(TaskError::Exited(ExitReason::Error("away".to_owned()))));
}

async fn a_task_that_fails_ends_its_owner(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let end = watch(a, &owner.pid).await;
    drop(owner.begin(|context| {
        Box::pin(async move {
            let mut task = Task::spawn(context, async { panic!("cannot") }).unwrap();
            let _: Result<(), _> = task.await_result(LONG).await;
            pending::<()>().await;
        })
    }));
    assert_eq!(end.reason().await, ExitReason::Panic("cannot".to_owned()));
}

async fn a_trapping_owner_is_told_and_gets_the_reason(a: &Runtime, _: &Runtime) {
    let mut owner = Puppet::trapping(a).await;
    let (pid, outcome) = owner
        .run_async(|context| {
            Box::pin(async move {
                let mut task = Task::<()>::spawn(context, async { panic!("cannot") }).unwrap();
                (task.pid().clone(), task.await_result(LONG).await)
            })
        })
        .await;
    let reason = ExitReason::Panic("cannot".to_owned());
    assert_eq!(outcome, Err(TaskError::Exited(reason.clone())));
    assert_eq!(owner.exit().await, (pid, reason, true));
}

async fn a_task_is_shut_down_without_harm_to_its_owner(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let outcome = owner.run_async(|context| {
        Box::pin(async move { Task::spawn(context, pending::<()>()).unwrap().shutdown(context, LONG).await })
    });
    assert_eq!(outcome.await, Err(TaskError::Exited(ExitReason::Shutdown)));
    // One that has its result gives it all the same.
    let outcome = owner.run_async(|context| {
        Box::pin(async move {
            let task = Task::spawn(context, async { 5 }).unwrap();
            let runtime = context.runtime().clone();
            eventually("the task has ended", || runtime.processes().iter().all(|info| info.pid != *task.pid())).await;
            task.shutdown(context, LONG).await
        })
    });
    assert_eq!(outcome.await, Ok(5));
    owner.run(|_| ()).await;
}

async fn a_task_that_does_not_yield_is_not_waited_for_longer_than_told(a: &Runtime, _: &Runtime) {
    let owner = Puppet::new(a);
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let outcome = owner.run_async(|context| {
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let task = Task::spawn(context, async move {
                // From another thread: what this one wakes might wait for it.
                std::thread::spawn(move || tell.send(()).unwrap());
                assert!(gate.recv().is_err());
                pending::<()>().await;
            });
            told.await.unwrap();
            task.unwrap().shutdown(context, Duration::from_millis(10)).await
        })
    });
    assert_eq!(outcome.await, Err(TaskError::Timeout));
    drop(release);
}

async fn a_supervised_task_harms_nobody(a: &Runtime, _: &Runtime) {
    let tasks = TaskSupervisor::start(a, 10, SpawnOptions::new()).await.unwrap();
    let owner = Puppet::new(a);
    let spawner = tasks.clone();
    let outcome = owner
        .run_async(move |_| {
            Box::pin(async move {
                let mut task = spawner.spawn::<()>(async { panic!("cannot") }).unwrap();
                task.await_result(LONG).await
            })
        })
        .await;
    assert_eq!(outcome, Err(TaskError::Exited(ExitReason::Panic("cannot".to_owned()))));
    // Owner and supervisor live on.
    owner.run(|_| ()).await;
    let mut task = tasks.spawn(async { 6 }).unwrap();
    assert_eq!(within("the result", task.await_result(LONG)).await, Ok(6));
}

async fn a_task_supervisor_is_bounded(a: &Runtime, _: &Runtime) {
    let tasks = TaskSupervisor::start(a, 2, SpawnOptions::new()).await.unwrap();
    let (go, gate) = oneshot::channel::<()>();
    let mut first = tasks.spawn(async { gate.await.is_ok() }).unwrap();
    let second = tasks.spawn(pending::<()>()).unwrap();
    assert_eq!(tasks.tasks(), 2);
    assert_eq!(tasks.spawn(async {}).unwrap_err(), TaskStartError::Full { limit: 2 });
    go.send(()).unwrap();
    assert_eq!(within("the first", first.await_result(LONG)).await, Ok(true));
    let third = tasks.spawn(pending::<()>()).unwrap();
    for task in [second, third] {
        a.exit(task.pid(), ExitReason::Kill);
    }
    eventually("the killed ones count no more", || tasks.tasks() == 0).await;
}

async fn tasks_end_with_their_supervisor(a: &Runtime, _: &Runtime) {
    let parent = Puppet::new(a);
    let linked = SpawnOptions::new().link_to(&parent.pid);
    for (options, reason) in [(SpawnOptions::new(), ExitReason::Shutdown), (linked, ExitReason::Normal)] {
        let tasks = TaskSupervisor::start(a, 5, options).await.unwrap();
        let mut task = tasks.spawn(pending::<()>()).unwrap();
        if reason == ExitReason::Normal {
            parent.end(reason)
        } else {
            a.exit(tasks.pid(), reason)
        }
        let outcome = within("the outcome", task.await_result(LONG)).await;
        assert_eq!(outcome, Err(TaskError::Exited(ExitReason::Shutdown)));
        eventually("the supervisor has ended", || a.processes().iter().all(|info| info.pid != *tasks.pid())).await;
        let mut late = tasks.spawn(pending::<()>()).unwrap();
        let outcome = within("the outcome", late.await_result(LONG)).await;
        assert_eq!(outcome, Err(TaskError::Exited(ExitReason::NoProc)));
    }
}

async fn many_tasks_run_so_many_at_a_time(a: &Runtime, _: &Runtime) {
    let tasks = TaskSupervisor::start(a, 8, SpawnOptions::new()).await.unwrap();
    for (at_once, most) in [(3, 3), (100, 8), (0, 1)] {
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let outcomes = tasks.map_concurrent(0..60_u64, at_once, |number| {
            let (now, peak) = (now.clone(), peak.clone());
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                assert!(number != 33, "not this one");
                2 * number
            }
        });
        let outcomes = within("all tasks", outcomes).await;
        for (number, outcome) in (0_u64..).zip(&outcomes) {
            match outcome {
                Ok(doubled) => assert_eq!(*doubled, 2 * number),
                Err(error) => {
                    assert_eq!((error, number), (&TaskError::Exited(ExitReason::Panic("not this one".to_owned())), 33));
                }
            }
        }
        assert_eq!(outcomes.len(), 60);
        let peak = peak.load(Ordering::SeqCst);
        assert!(peak <= most, "{peak} at once, of {most}");
    }
    // Within a process, whose own mailbox is not touched.
    let plain = a.spawn(async move |mut context: Context<Note>| {
        assert_eq!(tasks.map_concurrent(["a", "bc"], 2, async |text| text.len()).await, [Ok(1), Ok(2)]);
        assert!(matches!(context.receive().await, Received::Event(Event::Exit { .. }) | Received::Message(_)));
    });
    let pid = plain.unwrap().pid().unwrap();
    let end = watch(a, &pid).await;
    a.address::<Note>(&pid).send(Note::Number(1)).await.unwrap();
    assert_eq!(end.reason().await, ExitReason::Normal);
}
