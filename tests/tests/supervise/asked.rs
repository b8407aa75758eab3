//! What a supervisor is asked (V8): by a process of its node, of another one, and by clients, who may look.

use rookery_node::{
    ask::Ask,
    supervise::{ChildSpec, ChildStart, ChildStatus, ChildType, Strategy, Supervisor, SupervisorMessage},
};
use rookery_runtime::{CallError, Context, ExitReason, Payload, Pid, Received, ReplyTo, Runtime};
use rookery_tests::contract;
use serde::{Deserialize, Serialize};

use super::{LONG, id, patient};

contract! {
    everywhere {
        v8_whoever_reaches_a_supervisor_can_look,
        v8_members_change_what_a_supervisor_does_and_clients_do_not,
        v8_a_client_gets_nothing_by_a_members_question,
    }
}

/// A supervisor in `b` with a child `c` that does nothing, as seen from `a`.
async fn family(a: &Runtime, b: &Runtime) -> (Pid, rookery_runtime::Address<SupervisorMessage>) {
    let idle = ChildStart::process(async |mut context: Context<()>| drop(context.receive().await));
    let inner = ChildStart::supervisor(patient(Strategy::OneForOne));
    let spec = patient(Strategy::OneForOne)
        .intensity(9, LONG)
        .child(ChildSpec::new(id("c"), idle))
        .child(ChildSpec::new(id("inner"), inner));
    let pid = Supervisor::start(b, spec).await.unwrap().pid().unwrap();
    (pid.clone(), a.address(&pid))
}

async fn v8_whoever_reaches_a_supervisor_can_look(a: &Runtime, b: &Runtime) {
    let (_, supervisor) = family(a, b).await;
    let children = supervisor.call(SupervisorMessage::Children).await.unwrap();
    let told: Vec<_> = children.iter().map(|child| (child.id.to_string(), child.status, child.kind)).collect();
    let running = ChildStatus::Running;
    let expected = [("c", running, ChildType::Worker), ("inner", running, ChildType::Supervisor)];
    assert_eq!(told, expected.map(|(id, status, kind)| (id.to_owned(), status, kind)));
    assert!(children.iter().all(|child| child.node.as_ref() == Some(b.node().name()) && child.restarts == 0));
    let count = supervisor.call(SupervisorMessage::Count).await.unwrap();
    assert_eq!((count.specs, count.active, count.supervisors, count.workers), (2, 2, 1, 1));
    let spec = supervisor.call(|reply| SupervisorMessage::GetSpec(Ask::new(id("c"), reply))).await.unwrap();
    assert_eq!((spec.id, spec.behaviour), (id("c"), None));
    let restarted = children[0].pid.clone().unwrap();
    b.exit(&restarted, ExitReason::Kill);
    loop {
        let child = supervisor.call(SupervisorMessage::Children).await.unwrap().remove(0);
        if child.restarts == 1 && child.status == ChildStatus::Running {
            assert!(child.pid != Some(restarted));
            break;
        }
    }
    // As a person types it.
    let to = supervisor.destination();
    let answer = a.call_payload(&to, Payload::json(r#"{"Count":null}"#), rookery_tests::DEADLINE).await.unwrap();
    assert_eq!(&answer.body[..], br#"{"specs":2,"active":2,"supervisors":1,"workers":1}"#);
}

async fn v8_members_change_what_a_supervisor_does_and_clients_do_not(a: &Runtime, b: &Runtime) {
    let (_, supervisor) = family(a, b).await;
    let stop = |reply| SupervisorMessage::StopChild(Ask::new(id("c"), reply));
    let may = a.session().is_none();
    let stopped = supervisor.call(stop).await;
    if !may {
        assert!(matches!(&stopped, Err(CallError::Refused(why)) if why.contains("only members")), "{stopped:?}");
        // Nor by a message that nobody waits for.
        let to = supervisor.destination();
        a.send_payload(&to, Payload::json(r#"{"StopChild":"c"}"#)).await.unwrap();
        a.send_payload(&to, Payload::json(r#"{"StartChild":{"id":"x","behaviour":"counter"}}"#)).await.unwrap();
        let count = supervisor.call(SupervisorMessage::Count).await.unwrap();
        assert_eq!((count.specs, count.active), (2, 2));
        return;
    }
    assert_eq!(stopped, Ok(()));
    let again = supervisor.call(|reply| SupervisorMessage::RestartChild(Ask::new(id("c"), reply))).await.unwrap();
    assert_eq!(again.node(), b.node());
    let running = supervisor.call(|reply| SupervisorMessage::DeleteChild(Ask::new(id("c"), reply))).await;
    assert!(matches!(&running, Err(CallError::Refused(why)) if why.contains("not stopped")), "{running:?}");
    supervisor.call(stop).await.unwrap();
    supervisor.call(|reply| SupervisorMessage::DeleteChild(Ask::new(id("c"), reply))).await.unwrap();
    let data = r#"{"id":"d","behaviour":"counter","arguments":7,"restart":"transient"}"#;
    let data = serde_json::from_str(data).unwrap();
    let started = supervisor.call(|reply| SupervisorMessage::StartChild(Ask::new(data, reply))).await;
    if b.session().is_none() {
        assert_eq!(started.unwrap().node(), b.node());
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Errand {
    /// Is to be answered by whoever this is handed on to.
    Stop(ReplyTo<()>),
}

/// `a` is asked by a process of `b`'s node, and hands the question on to the supervisor as one of its own.
async fn v8_a_client_gets_nothing_by_a_members_question(a: &Runtime, b: &Runtime) {
    let (_, supervisor) = family(a, b).await;
    let to = supervisor.clone();
    let courier = a.spawn(async move |mut context: Context<Errand>| {
        if let Received::Message(Errand::Stop(reply)) = context.receive().await {
            to.send(SupervisorMessage::StopChild(Ask::new(id("c"), reply))).await.unwrap();
        }
    });
    let courier = b.address::<Errand>(&courier.unwrap().pid().unwrap());
    let stopped = courier.call(Errand::Stop).await;
    let may = a.session().is_none();
    assert_eq!(stopped.is_ok(), may, "{stopped:?}");
}
