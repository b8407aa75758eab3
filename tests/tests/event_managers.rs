//! Event managers: handlers that come and go, fail alone, and have owners; events from everywhere.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex};

use rookery_runtime::{
    CallError, EventHandler, EventManager, EventMessage, ExitReason, MAX_HANDLERS, Runtime, SpawnOptions,
};
use rookery_tests::{Note, Puppet, eventually, watch, within};

rookery_tests::contract! {
    everywhere {
        events_come_from_anywhere_to_all_handlers_in_order,
    }
    apart {
        no_handler_is_added_from_elsewhere,
    }
    together {
        a_removed_handler_gets_nothing_more,
        a_handler_that_fails_is_removed_and_the_others_go_on,
        the_owner_of_a_handler_that_fails_is_told,
        a_handler_goes_with_its_owner,
        a_manager_that_ends_ends_its_handlers,
        a_manager_has_a_limit_of_handlers,
    }
}

type Log = Arc<Mutex<Vec<String>>>;

/// Logs events; fails at `bad` and panics at `worse`.
struct Logger {
    name: &'static str,
    log: Log,
}

impl EventHandler<String> for Logger {
    fn handle(&mut self, event: &String) -> Result<(), ExitReason> {
        match event.as_str() {
            "bad" => Err(ExitReason::Error("at bad".to_owned())),
            "worse" => panic!("at worse"),
            event => {
                self.log.lock().unwrap().push(format!("{} {event}", self.name));
                Ok(())
            }
        }
    }

    fn terminate(&mut self, reason: &ExitReason) {
        self.log.lock().unwrap().push(format!("{} ends: {reason}", self.name));
    }
}

fn logger(name: &'static str, log: &Log) -> Logger {
    Logger { name, log: log.clone() }
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut log.lock().unwrap())
}

async fn manager(runtime: &Runtime) -> EventManager<String> {
    EventManager::start(runtime, SpawnOptions::new()).await.unwrap()
}

async fn events_come_from_anywhere_to_all_handlers_in_order(a: &Runtime, b: &Runtime) {
    let (manager, log) = (manager(b).await, Log::default());
    manager.add(logger("first", &log)).await.unwrap();
    let seen = log.clone();
    manager.add(move |event: &String| seen.lock().unwrap().push(format!("second {event}"))).await.unwrap();
    let from = EventManager::<String>::at(a.address(manager.address().destination()));
    for number in 0..50 {
        from.notify(number.to_string()).await.unwrap();
    }
    within("the last event", from.sync_notify("last".to_owned())).await.unwrap();
    let mut expected: Vec<_> =
        (0..50).flat_map(|number| [format!("first {number}"), format!("second {number}")]).collect();
    expected.extend(["first last".to_owned(), "second last".to_owned()]);
    assert_eq!(taken(&log), expected);
    assert_eq!(from.address().call(EventMessage::Count).await, Ok(2));
}

async fn no_handler_is_added_from_elsewhere(a: &Runtime, b: &Runtime) {
    let manager = manager(b).await;
    let from = EventManager::<String>::at(a.address(manager.address().destination()));
    let refused = from.add(|_: &String| ()).await;
    assert!(matches!(&refused, Err(CallError::Refused(why)) if why.contains("another node")), "{refused:?}");
}

async fn a_removed_handler_gets_nothing_more(a: &Runtime, _: &Runtime) {
    let (manager, log) = (manager(a).await, Log::default());
    let first = manager.add(logger("first", &log)).await.unwrap();
    manager.add(logger("second", &log)).await.unwrap();
    assert_eq!(manager.remove(first).await, Ok(true));
    assert_eq!(manager.remove(first).await, Ok(false));
    manager.sync_notify("hi".to_owned()).await.unwrap();
    assert_eq!(taken(&log), ["first ends: normal", "second hi"]);
}

async fn a_handler_that_fails_is_removed_and_the_others_go_on(a: &Runtime, _: &Runtime) {
    let (manager, log) = (manager(a).await, Log::default());
    for (event, reason) in [("bad", "error: at bad"), ("worse", "panic: at worse")] {
        manager.add(logger("first", &log)).await.unwrap();
        let seen = log.clone();
        let second = manager.add(move |event: &String| seen.lock().unwrap().push(format!("second {event}")));
        let second = second.await.unwrap();
        manager.sync_notify(event.to_owned()).await.unwrap();
        manager.sync_notify("after".to_owned()).await.unwrap();
        assert_eq!(
            taken(&log),
            [format!("second {event}"), format!("first ends: {reason}"), "second after".to_owned()]
        );
        manager.remove(second).await.unwrap();
    }
}

async fn the_owner_of_a_handler_that_fails_is_told(a: &Runtime, _: &Runtime) {
    let (manager, log) = (manager(a).await, Log::default());
    let mut owner = Puppet::new(a);
    let own = async |name| {
        let (manager, handler) = (manager.clone(), logger(name, &log));
        owner
            .run_async(move |context| {
                Box::pin(async move {
                    manager.add_owned(context, handler, |_, reason| Note::Text(format!("lost it: {reason}"))).await
                })
            })
            .await
            .unwrap()
    };
    let (_, removed) = (own("failing").await, own("removed").await);
    assert_eq!(manager.remove(removed).await, Ok(true));
    manager.sync_notify("worse".to_owned()).await.unwrap();
    let told = format!("{:?}", owner.next().await);
    assert!(told.contains("lost it: panic: at worse"), "{told}");
    owner.quiet().await;
}

async fn a_handler_goes_with_its_owner(a: &Runtime, _: &Runtime) {
    let (manager, log) = (manager(a).await, Log::default());
    let owner = Puppet::new(a);
    let (adding, handler) = (manager.clone(), logger("its", &log));
    let added = owner.run_async(move |context| {
        Box::pin(async move { adding.add_owned(context, handler, |_, _| Note::Number(0)).await })
    });
    added.await.unwrap();
    owner.end(ExitReason::Error("gone".to_owned()));
    eventually("the handler is gone", || log.lock().unwrap().as_slice() == ["its ends: error: gone"]).await;
    manager.sync_notify("hi".to_owned()).await.unwrap();
    assert_eq!(manager.address().call(EventMessage::Count).await, Ok(0));
    assert_eq!(taken(&log).len(), 1);
}

async fn a_manager_that_ends_ends_its_handlers(a: &Runtime, _: &Runtime) {
    let (manager, log) = (manager(a).await, Log::default());
    manager.add(logger("its", &log)).await.unwrap();
    let pid = manager.address().pid().unwrap();
    let end = watch(a, &pid).await;
    a.exit(&pid, ExitReason::Shutdown);
    assert_eq!(end.reason().await, ExitReason::Shutdown);
    assert_eq!(taken(&log), ["its ends: shutdown"]);
}

async fn a_manager_has_a_limit_of_handlers(a: &Runtime, _: &Runtime) {
    let manager = manager(a).await;
    for _ in 0..MAX_HANDLERS {
        manager.add(|_: &String| ()).await.unwrap();
    }
    assert!(matches!(manager.add(|_: &String| ()).await, Err(CallError::Refused(_))));
}
