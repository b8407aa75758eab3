//! How children, and a supervisor itself, come to an end (V4), and what is left when a start fails.

use super::*;
use crate::supervise::{AutoShutdown, Restart, Shutdown, Strategy, Supervisor, SupervisorError, SupervisorSpec};

fn three(journal: &Journal) -> SupervisorSpec {
    SupervisorSpec::new(Strategy::OneForOne)
        .child(journal.worker("a"))
        .child(journal.worker("b"))
        .child(journal.worker("c"))
}

#[tokio::test]
async fn v1_children_stop_in_reverse_when_the_supervisor_is_shut_down() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let supervisor = Supervisor::start(&runtime, three(&journal)).await.unwrap();
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    journal.expect(&["start a", "start b", "start c", "stop c", "stop b", "stop a"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
}

#[tokio::test]
async fn v1_children_stop_in_reverse_when_the_parent_exits() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = three(&journal);
    let (parent, supervisor) = in_process(&runtime, async |runtime, options| {
        Supervisor::start_with(&runtime, spec, options).await.unwrap().pid().unwrap()
    })
    .await;
    let ended = down(&runtime, &supervisor).await;
    tell(&runtime, &parent, Work::End(ExitReason::Error("over".to_owned()))).await;
    journal.expect(&["start a", "start b", "start c", "stop c", "stop b", "stop a"]).await;
    assert_eq!(ended.await, ExitReason::Error("over".to_owned()));
}

#[tokio::test]
async fn v4_kill_asks_nobody() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = SupervisorSpec::new(Strategy::OneForOne).child(journal.worker("a").shutdown(Shutdown::Kill));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start a"]).await;
    let child = down(&runtime, &running(&supervisor, "a").await).await;
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    assert_eq!((child.await, ended.await), (ExitReason::Killed, ExitReason::Shutdown));
    assert!(journal.is_empty(), "it was not told");
}

#[tokio::test]
async fn v4_a_child_that_ignores_shutdown_is_killed_after_its_limit() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let limit = Duration::from_millis(50);
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .child(journal.worker("a"))
        .child(journal.stubborn("b").shutdown(Shutdown::Within(limit)));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let child = down(&runtime, &running(&supervisor, "b").await).await;
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    journal.expect(&["start a", "start b"]).await;
    let begin = std::time::Instant::now();
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    journal.expect(&["told b"]).await;
    assert_eq!(child.await, ExitReason::Killed);
    assert!(begin.elapsed() >= limit, "it has its time");
    journal.expect(&["stop a"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
}

#[tokio::test]
async fn v4_forever_waits_and_the_supervisor_answers_meanwhile() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .child(journal.worker("a"))
        .child(journal.stubborn("b").shutdown(Shutdown::Forever));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    let stubborn = running(&supervisor, "b").await;
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    journal.expect(&["start a", "start b"]).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    journal.expect(&["told b"]).await;
    let status = |child: &ChildInfo| child.status;
    let statuses: Vec<ChildStatus> = children(&supervisor).await.iter().map(status).collect();
    assert_eq!(statuses, [ChildStatus::Running, ChildStatus::Stopping], "those before it wait");
    runtime.exit(&stubborn, ExitReason::Kill);
    journal.expect(&["stop a"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
}

#[tokio::test]
async fn a_first_start_that_fails_leaves_nothing() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let bad = ChildStart::behaviour(rookery_runtime::Start::json("nonesuch".parse().unwrap(), "null"));
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .name("tree".parse().unwrap())
        .child(journal.worker("a"))
        .child(journal.worker("b"))
        .child(ChildSpec::new(id("bad"), bad))
        .child(journal.worker("never"));
    let error = Supervisor::start(&runtime, spec).await.unwrap_err();
    assert!(matches!(&error, SupervisorError::ChildFailed { child, .. } if child.as_str() == "bad"), "{error}");
    assert!(error.to_string().contains("nonesuch"), "{error}");
    journal.expect(&["start a", "start b", "stop b", "stop a"]).await;
    within(async {
        while runtime.process_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(journal.is_empty());
}

#[tokio::test]
async fn two_children_of_one_id_are_an_error() {
    let (runtime, journal) = (runtime(), Journal::new());
    let spec = three(&journal).child(journal.worker("b"));
    let error = Supervisor::start(&runtime, spec).await.unwrap_err();
    assert_eq!(error, SupervisorError::DuplicateChild { child: id("b") });
}

#[tokio::test]
async fn l3_children_end_with_a_supervisor_that_is_killed() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let supervisor = Supervisor::start(&runtime, three(&journal)).await.unwrap();
    journal.expect(&["start a", "start b", "start c"]).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Kill);
    let mut stopped = [journal.next().await, journal.next().await, journal.next().await];
    stopped.sort();
    assert_eq!(stopped, ["stop a", "stop b", "stop c"]);
}

#[tokio::test]
async fn a_child_that_removed_the_link_is_still_watched() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let write = journal.write.clone();
    let start = ChildStart::process(move |mut ctx: Context<Work>| {
        let write = write.clone();
        async move {
            if let Some(parent) = ctx.parent().cloned() {
                ctx.unlink(&parent);
            }
            drop(write.send("start u".to_owned()));
            drop(ctx.receive().await);
        }
    });
    let spec = SupervisorSpec::new(Strategy::OneForOne).child(ChildSpec::new(id("u"), start));
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start u"]).await;
    tell(&runtime, &running(&supervisor, "u").await, Work::Panic).await;
    journal.expect(&["start u"]).await;
}

/// Two significant children, `a` and `b`, and one that is not.
async fn significant(
    auto_shutdown: AutoShutdown,
    journal: &mut Journal,
) -> (Runtime, rookery_runtime::Address<SupervisorMessage>) {
    let runtime = runtime();
    let spec = SupervisorSpec::new(Strategy::OneForOne)
        .auto_shutdown(auto_shutdown)
        .child(journal.worker("other").restart(Restart::Transient))
        .child(journal.worker("a").restart(Restart::Transient).significant())
        .child(journal.worker("b").restart(Restart::Temporary).significant());
    let supervisor = Supervisor::start(&runtime, spec).await.unwrap();
    journal.expect(&["start other", "start a", "start b"]).await;
    (runtime, supervisor)
}

#[tokio::test]
async fn v5_any_significant_child_that_ends_for_good_ends_the_supervisor() {
    let mut journal = Journal::new();
    let (runtime, supervisor) = significant(AutoShutdown::AnySignificant, &mut journal).await;
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    tell(&runtime, &running(&supervisor, "other").await, Work::End(ExitReason::Normal)).await;
    tell(&runtime, &running(&supervisor, "a").await, Work::Panic).await;
    journal.expect(&["start a"]).await;
    tell(&runtime, &running(&supervisor, "a").await, Work::End(ExitReason::Normal)).await;
    journal.expect(&["stop b"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
}

#[tokio::test]
async fn v5_all_significant_children_have_to_end() {
    let mut journal = Journal::new();
    let (runtime, supervisor) = significant(AutoShutdown::AllSignificant, &mut journal).await;
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    tell(&runtime, &running(&supervisor, "a").await, Work::End(ExitReason::Normal)).await;
    child_when(&supervisor, "a", |child| child.status == ChildStatus::Stopped).await;
    tell(&runtime, &running(&supervisor, "b").await, Work::Panic).await;
    journal.expect(&["stop other"]).await;
    assert_eq!(ended.await, ExitReason::Shutdown);
}

#[tokio::test]
async fn v5_a_spec_that_cannot_be_is_told() {
    let (runtime, journal) = (runtime(), Journal::new());
    let start = |auto_shutdown, restart| {
        let child = journal.worker("a").restart(restart).significant();
        Supervisor::start(&runtime, SupervisorSpec::new(Strategy::OneForOne).auto_shutdown(auto_shutdown).child(child))
    };
    let never = start(AutoShutdown::Never, Restart::Transient).await.unwrap_err().to_string();
    assert!(never.contains("child `a`") && never.contains("any_significant"), "{never}");
    let permanent = start(AutoShutdown::AnySignificant, Restart::Permanent).await.unwrap_err().to_string();
    assert!(permanent.contains("transient or temporary"), "{permanent}");
}

#[tokio::test]
async fn v1_dynamic_children_end_side_by_side() {
    let (runtime, mut journal) = (runtime(), Journal::new());
    let write = journal.write.clone();
    let start = ChildStart::dynamic(move |runtime, options, name| {
        let write = write.clone();
        let child = runtime.spawn_with(options, async move |mut ctx: Context<Work>| {
            ctx.trap_exits(true);
            let mut told = 0;
            loop {
                if let Received::Event(Event::Exit { reason, .. }) = ctx.receive().await {
                    drop(write.send(format!("told {name}")));
                    told += 1;
                    if told == 2 {
                        return reason;
                    }
                }
            }
        });
        std::future::ready(child.map_err(Into::into).map(|child| child.address.pid().unwrap()))
    });
    let template = ChildSpec::new(id("t"), start).shutdown(Shutdown::Forever);
    let supervisor =
        Supervisor::start(&runtime, SupervisorSpec::new(Strategy::SimpleOneForOne).child(template)).await.unwrap();
    let mut pids = Vec::new();
    for number in 0..3 {
        let start = |reply| SupervisorMessage::StartDynamic(crate::ask::Ask::new(number.into(), reply));
        pids.push(supervisor.call(start).await.unwrap());
    }
    let ended = down(&runtime, &supervisor.pid().unwrap()).await;
    runtime.exit(&supervisor.pid().unwrap(), ExitReason::Shutdown);
    // None has ended before all were told.
    let mut told = [journal.next().await, journal.next().await, journal.next().await];
    told.sort();
    assert_eq!(told, ["told 0", "told 1", "told 2"]);
    pids.iter().for_each(|pid| runtime.exit(pid, ExitReason::Shutdown));
    assert_eq!(ended.await, ExitReason::Shutdown);
}
