//! Row N1 of the contract: a local name belongs to at most one process of its node, and whoever comes second is told who
//! has it.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Barrier};

use rookery_runtime::{
    Address, Context, Destination, ExitReason, Pid, ProcessName, RegisterError, Runtime, SpawnError, SpawnOptions,
    protocol::request::RequestError,
};
use rookery_tests::{Note, Puppet, fence, watch};

rookery_tests::contract! {
    everywhere {
        n1_a_second_register_tells_the_holder,
        n1_having_it_already_is_no_error,
        n1_a_name_can_be_given_up_by_its_holder_alone,
        n1_the_dead_get_no_name,
        n1_one_process_may_have_several_names_and_loses_them_all,
        n1_who_registered_reads_its_own_write,
    }
    together {
        n1_of_many_at_once_one_gets_it,
        n1_a_spawn_under_a_taken_name_starts_nothing,
    }
}

fn name(text: &str) -> ProcessName {
    ProcessName::new(text).unwrap()
}

async fn register(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let name = name(text);
    let registered = puppet.run_async(move |context| Box::pin(async move { context.register(&name).await })).await;
    registered.map_err(|RegisterError(error)| error)
}

async fn unregister(puppet: &Puppet, text: &str) -> Result<(), RequestError> {
    let name = name(text);
    let given_up = puppet.run_async(move |context| Box::pin(async move { context.unregister(&name).await })).await;
    given_up.map_err(|RegisterError(error)| error)
}

/// Who has it, as `a` sees it.
async fn holder(a: &Runtime, b: &Runtime, text: &str) -> Option<Pid> {
    a.whereis_on(b.node(), &name(text)).await.unwrap()
}

async fn n1_a_second_register_tells_the_holder(a: &Runtime, b: &Runtime) {
    let (first, second) = (Puppet::new(b), Puppet::new(b));
    register(&first, "till").await.unwrap();
    let taken = register(&second, "till").await.unwrap_err();
    assert_eq!(taken, RequestError::NameTaken { name: name("till"), holder: first.pid.clone() });
    let text = taken.to_string();
    assert!(text.contains("till") && text.contains(&first.pid.to_string()), "{text}");
    assert_eq!(holder(a, b, "till").await, Some(first.pid.clone()));
    let to = a.address::<Note>(Destination::name(b.node().clone(), name("till")));
    to.send(Note::Number(1)).await.unwrap();
    let mut first = first;
    assert_eq!(first.number().await, 1);
}

async fn n1_having_it_already_is_no_error(a: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    for _ in 0..3 {
        register(&puppet, "till").await.unwrap();
    }
    unregister(&puppet, "till").await.unwrap();
    assert_eq!(holder(a, b, "till").await, None, "registered thrice is registered once");
}

async fn n1_a_name_can_be_given_up_by_its_holder_alone(a: &Runtime, b: &Runtime) {
    let (first, second) = (Puppet::new(b), Puppet::new(b));
    register(&first, "till").await.unwrap();
    assert_eq!(unregister(&second, "till").await, Err(RequestError::NoProc(second.pid.clone())));
    assert_eq!(holder(a, b, "till").await, Some(first.pid.clone()));
    unregister(&first, "till").await.unwrap();
    assert_eq!(holder(a, b, "till").await, None);
    assert_eq!(unregister(&first, "till").await, Err(RequestError::NoProc(first.pid.clone())));
    register(&second, "till").await.unwrap();
    assert_eq!(holder(a, b, "till").await, Some(second.pid.clone()));
    // The end of who had it before takes nothing from who has it now.
    let end = watch(b, &first.pid).await;
    first.end(ExitReason::Normal);
    end.reason().await;
    fence(b, a).await;
    assert_eq!(holder(a, b, "till").await, Some(second.pid.clone()));
}

async fn n1_the_dead_get_no_name(a: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    let end = watch(b, &puppet.pid).await;
    puppet.end(ExitReason::Normal);
    end.reason().await;
    let RegisterError(refused) = b.register(&name("till"), &puppet.pid).await.unwrap_err();
    assert_eq!(refused, RequestError::NoProc(puppet.pid.clone()));
    assert_eq!(holder(a, b, "till").await, None);
}

async fn n1_one_process_may_have_several_names_and_loses_them_all(a: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    for text in ["till", "shop/till", "till:2"] {
        register(&puppet, text).await.unwrap();
    }
    unregister(&puppet, "till:2").await.unwrap();
    assert_eq!(holder(a, b, "shop/till").await, Some(puppet.pid.clone()));
    let mut near = Puppet::new(a);
    let pid = puppet.pid.clone();
    near.run(move |context| context.monitor(&pid)).await;
    fence(a, b).await;
    puppet.end(ExitReason::Normal);
    near.down().await;
    for text in ["till", "shop/till", "till:2"] {
        assert_eq!(holder(a, b, text).await, None);
    }
}

async fn n1_who_registered_reads_its_own_write(_: &Runtime, b: &Runtime) {
    let puppet = Puppet::new(b);
    for _ in 0..50 {
        register(&puppet, "till").await.unwrap();
        assert_eq!(b.whereis(&name("till")).await.unwrap(), Some(puppet.pid.clone()));
        unregister(&puppet, "till").await.unwrap();
        assert_eq!(b.whereis(&name("till")).await.unwrap(), None);
    }
}

async fn n1_of_many_at_once_one_gets_it(a: &Runtime, _: &Runtime) {
    for round in 0..50 {
        let puppets: Vec<Puppet> = (0..4).map(|_| Puppet::new(a)).collect();
        let barrier = Arc::new(Barrier::new(puppets.len()));
        let threads: Vec<_> = puppets
            .iter()
            .map(|puppet| {
                let (a, pid, barrier) = (a.clone(), puppet.pid.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    (a.register_here(&name(&format!("till-{round}")), &pid), pid)
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let winners: Vec<&Pid> = results.iter().filter(|(result, _)| result.is_ok()).map(|(_, pid)| pid).collect();
        let [winner] = winners[..] else { panic!("{winners:?} all have it") };
        for (result, _) in results.iter().filter(|(result, _)| result.is_err()) {
            let Err(RegisterError(RequestError::NameTaken { holder, .. })) = result else { panic!("{result:?}") };
            assert_eq!(holder, winner);
        }
    }
}

async fn n1_a_spawn_under_a_taken_name_starts_nothing(a: &Runtime, _: &Runtime) {
    let mut parent = Puppet::trapping(a).await;
    register(&parent, "till").await.unwrap();
    let count = a.process_count();
    let options = SpawnOptions::new().name(name("till")).link_to(&parent.pid).monitored_by(&parent.pid);
    let spawned = a.spawn_with(options, async |_: Context<Note>| error_if_it_runs());
    let error = spawned.map(|spawned| -> Address<Note> { spawned.address }).unwrap_err();
    let SpawnError::Name(RegisterError(RequestError::NameTaken { holder, .. })) = error else { panic!("{error:?}") };
    assert_eq!(holder, parent.pid);
    assert_eq!(a.process_count(), count);
    parent.quiet().await;
}

fn error_if_it_runs() -> ExitReason {
    ExitReason::Error("it runs".to_owned())
}
