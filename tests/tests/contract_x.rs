//! Rows X of the contract: exits. What ends a process, what it can trap, what others see, and how long a reason may be.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::future::pending;

use rookery_runtime::{
    Address, Context, Event, ExitReason, Pid, Received, Runtime, Server, SpawnOptions,
    protocol::limits::MAX_EXIT_TEXT_BYTES,
};
use rookery_tests::{Note, Puppet, fence, watch};

rookery_tests::contract! {
    everywhere {
        x1_exit_ends_who_does_not_trap,
        x1_exit_becomes_an_event_for_who_traps,
        x1_the_first_reason_counts,
        x1_trapping_can_be_ended_again,
        x1_an_exit_in_its_last_step_counts,
        x1_exit_to_the_dead_does_nothing,
        x2_kill_cannot_be_trapped_and_others_see_killed,
        x2_kill_over_a_link_can_be_trapped,
        x3_normal_from_another_is_ignored,
        x4_reasons_cross_unchanged,
        x4_a_long_reason_is_cut_and_not_dropped,
    }
    together {
        x1_a_server_that_traps_exits_terminates_in_good_order,
        x2_a_server_that_hangs_in_terminate_can_be_killed,
    }
}

async fn link(from: &Puppet, to: &Pid) {
    let to = to.clone();
    from.run(move |context| context.link(&to)).await;
}

fn error(text: &str) -> ExitReason {
    ExitReason::Error(text.to_owned())
}

async fn x1_exit_ends_who_does_not_trap(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    let end = watch(b, &far.pid).await;
    let to = far.pid.clone();
    near.run(move |context| context.exit(&to, error("enough"))).await;
    assert_eq!(end.reason().await, error("enough"));

    // From outside of any process as well.
    let far = Puppet::new(b);
    let end = watch(b, &far.pid).await;
    a.exit(&far.pid, ExitReason::Shutdown);
    assert_eq!(end.reason().await, ExitReason::Shutdown);
}

async fn x1_exit_becomes_an_event_for_who_traps(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
    for reason in [ExitReason::Normal, ExitReason::Shutdown, error("enough"), ExitReason::Killed, ExitReason::NoProc] {
        let (to, sent) = (far.pid.clone(), reason.clone());
        near.run(move |context| context.exit(&to, sent)).await;
        assert_eq!(far.exit().await, (near.pid.clone(), reason, false));
    }
    a.exit(&far.pid, ExitReason::Shutdown);
    assert_eq!(far.exit().await, (a.own_pid(), ExitReason::Shutdown, false));
}

async fn x1_the_first_reason_counts(a: &Runtime, b: &Runtime) {
    let (near, far) = (Puppet::new(a), Puppet::new(b));
    let end = watch(b, &far.pid).await;
    let to = far.pid.clone();
    near.run(move |context| {
        for number in 0..10 {
            context.exit(&to, error(&number.to_string()));
        }
        context.exit(&to, ExitReason::Kill);
    })
    .await;
    assert_eq!(end.reason().await, error("0"));
}

/// It is told to end in the same step in which it comes to its own end.
async fn x1_an_exit_in_its_last_step_counts(_: &Runtime, b: &Runtime) {
    let far = Puppet::new(b);
    let end = watch(b, &far.pid).await;
    let own = far.pid.clone();
    let held = far.hold(move |context| context.exit(&own, error("enough"))).await;
    far.end(ExitReason::Normal);
    held.go().await;
    assert_eq!(end.reason().await, error("enough"));
}

async fn x1_trapping_can_be_ended_again(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
    link(&near, &far.pid).await;
    a.exit(&far.pid, error("trapped"));
    assert_eq!(far.exit().await.1, error("trapped"));
    assert!(far.run(|context| context.trap_exits(false)).await, "it gives the former setting");
    assert!(!far.run(|context| context.trap_exits(false)).await);
    let end = watch(b, &far.pid).await;
    fence(a, b).await;
    near.end(error("near"));
    assert_eq!(end.reason().await, error("near"));
}

async fn x1_exit_to_the_dead_does_nothing(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::trapping(a).await, Puppet::new(b));
    let end = watch(b, &far.pid).await;
    far.end(ExitReason::Normal);
    end.reason().await;
    let to = far.pid.clone();
    near.run(move |context| {
        context.exit(&to, ExitReason::Shutdown);
        context.exit(&to, ExitReason::Kill);
    })
    .await;
    fence(a, b).await;
    fence(b, a).await;
    near.quiet().await;
}

async fn x2_kill_cannot_be_trapped_and_others_see_killed(a: &Runtime, b: &Runtime) {
    let (mut near, far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
    let neighbour = Puppet::new(b);
    let end = watch(b, &neighbour.pid).await;
    link(&near, &far.pid).await;
    link(&far, &neighbour.pid).await;
    let pid = far.pid.clone();
    let monitor = near.run(move |context| context.monitor(&pid)).await;
    fence(a, b).await;
    // It is deep in a job, traps exits, and never receives.
    drop(far.begin(|_| Box::pin(pending::<()>())));
    a.exit(&far.pid, ExitReason::Kill);
    let mut seen = (false, false);
    for _ in 0..2 {
        match near.next().await {
            Received::Event(Event::Exit { from, reason: ExitReason::Killed, linked: true }) => {
                assert_eq!(from, far.pid);
                seen.0 = true;
            }
            Received::Event(Event::Down(down)) => {
                assert_eq!((down.monitor, down.reason), (monitor, ExitReason::Killed));
                seen.1 = true;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, (true, true));
    assert_eq!(end.reason().await, ExitReason::Killed, "who does not trap ends with it");
}

async fn x2_kill_over_a_link_can_be_trapped(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::trapping(b).await);
    let soft = Puppet::new(b);
    let end = watch(b, &soft.pid).await;
    link(&near, &far.pid).await;
    link(&near, &soft.pid).await;
    fence(a, b).await;
    near.end(ExitReason::Kill);
    assert_eq!(far.exit().await, (near.pid.clone(), ExitReason::Kill, true));
    assert_eq!(far.run(|_| 5).await, 5, "it lives");
    assert_eq!(end.reason().await, ExitReason::Kill);
}

async fn x3_normal_from_another_is_ignored(a: &Runtime, b: &Runtime) {
    let (near, mut far) = (Puppet::new(a), Puppet::new(b));
    let to = far.pid.clone();
    near.run(move |context| context.exit(&to, ExitReason::Normal)).await;
    a.exit(&far.pid, ExitReason::Normal);
    near.send(&far.pid, Note::Number(1)).await;
    assert_eq!(far.number().await, 1);
    fence(a, b).await;
    far.quiet().await;
}

fn every_reason() -> Vec<ExitReason> {
    let text = || "Grüße, \u{1f600}\n\0 \"'".to_owned();
    vec![
        ExitReason::Normal,
        ExitReason::Shutdown,
        ExitReason::ShutdownWith(text()),
        ExitReason::Killed,
        ExitReason::NoProc,
        ExitReason::NoConnection,
        ExitReason::Panic(text()),
        ExitReason::Error(String::new()),
        ExitReason::Error(text()),
        ExitReason::Refused(text()),
        ExitReason::NameConflict(text()),
        ExitReason::Other(11, String::new()),
        ExitReason::Other(255, text()),
    ]
}

async fn x4_reasons_cross_unchanged(a: &Runtime, b: &Runtime) {
    let (mut near, mut far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
    for reason in every_reason() {
        let (to, sent) = (far.pid.clone(), reason.clone());
        near.run(move |context| context.exit(&to, sent)).await;
        assert_eq!(far.exit().await.1, reason);

        let mortal = Puppet::new(b);
        let pid = mortal.pid.clone();
        near.run(move |context| context.monitor(&pid)).await;
        fence(a, b).await;
        mortal.end(reason.clone());
        assert_eq!(near.down().await.reason, reason);
    }
}

async fn x4_a_long_reason_is_cut_and_not_dropped(a: &Runtime, b: &Runtime) {
    let (mut near, mut far) = (Puppet::trapping(a).await, Puppet::trapping(b).await);
    for (length, character) in [(MAX_EXIT_TEXT_BYTES, "x"), (MAX_EXIT_TEXT_BYTES + 1, "x"), (1_000_000, "ä")] {
        let text = character.repeat(length / character.len());
        let cut = error(&text).cut();
        assert_eq!(cut == error(&text), length <= MAX_EXIT_TEXT_BYTES);
        let mortal = Puppet::new(b);
        let pid = mortal.pid.clone();
        near.run(move |context| {
            context.monitor(&pid);
            context.link(&pid);
        })
        .await;
        fence(a, b).await;
        mortal.end(error(&text));
        for _ in 0..2 {
            let reason = match near.next().await {
                Received::Event(Event::Exit { reason, .. }) => reason,
                Received::Event(Event::Down(down)) => down.reason,
                other => panic!("{other:?}"),
            };
            assert_eq!(reason, cut);
        }
        let (to, sent) = (far.pid.clone(), error(&text));
        near.run(move |context| context.exit(&to, sent)).await;
        assert_eq!(far.exit().await.1, cut);
    }
    let ExitReason::Error(text) = error(&"ä".repeat(1_000_000)).cut() else { unreachable!() };
    assert!(text.len() <= MAX_EXIT_TEXT_BYTES && text.ends_with('…'), "it is told that there was more");

    // A panic's text is cut as well.
    let mortal = Puppet::new(b);
    let pid = mortal.pid.clone();
    near.run(move |context| context.monitor(&pid)).await;
    fence(a, b).await;
    drop(mortal.begin(|_| Box::pin(async { panic!("{}", "x".repeat(5_000)) })));
    assert_eq!(near.down().await.reason, ExitReason::Panic("x".repeat(5_000)).cut());
}

/// A server that traps exits and tells what happens to it.
struct Teller {
    to: Address<Note>,
    hangs: bool,
}

impl Teller {
    fn tell(&self, text: String) {
        drop(self.to.try_send(Note::Text(text)));
    }
}

impl Server for Teller {
    type Message = Note;
    type Arguments = (Address<Note>, bool);

    async fn init((to, hangs): Self::Arguments, context: &mut Context<Note>) -> Result<Self, ExitReason> {
        context.trap_exits(true);
        Ok(Self { to, hangs })
    }

    async fn handle(&mut self, message: Note, _: &mut Context<Note>) -> Result<(), ExitReason> {
        self.tell(format!("{message:?}"));
        Ok(())
    }

    async fn event(&mut self, event: Event, _: &mut Context<Note>) -> Result<(), ExitReason> {
        self.tell(format!("{event:?}"));
        Ok(())
    }

    async fn terminate(&mut self, reason: &ExitReason, _: &mut Context<Note>) {
        self.tell(format!("terminate: {reason}"));
        if self.hangs {
            pending::<()>().await;
        }
    }
}

/// Starts one as a child of `parent`.
async fn teller(runtime: &Runtime, parent: &Puppet, hangs: bool) -> Pid {
    let options = SpawnOptions::new().link_to(&parent.pid);
    let arguments = (parent.address.clone(), hangs);
    runtime.start_server::<Teller>(arguments, options).await.unwrap().pid().unwrap()
}

async fn text(puppet: &mut Puppet) -> String {
    match puppet.next().await {
        Received::Message(Note::Text(text)) => text,
        other => panic!("expected a text, got {other:?}"),
    }
}

async fn x1_a_server_that_traps_exits_terminates_in_good_order(a: &Runtime, _: &Runtime) {
    let (mut parent, stranger) = (Puppet::trapping(a).await, Puppet::new(a));
    let server = teller(a, &parent, false).await;
    let to = server.clone();
    stranger.run(move |context| context.exit(&to, error("of a stranger"))).await;
    assert!(text(&mut parent).await.contains("of a stranger"));
    parent.send(&server, Note::Number(7)).await;
    assert_eq!(text(&mut parent).await, "Number(7)");
    let to = server.clone();
    parent.run(move |context| context.exit(&to, ExitReason::Shutdown)).await;
    assert_eq!(text(&mut parent).await, "terminate: shutdown");
    assert_eq!(parent.exit().await, (server, ExitReason::Shutdown, true));
}

async fn x2_a_server_that_hangs_in_terminate_can_be_killed(a: &Runtime, _: &Runtime) {
    let mut parent = Puppet::trapping(a).await;
    let server = teller(a, &parent, true).await;
    let to = server.clone();
    parent.run(move |context| context.exit(&to, ExitReason::Shutdown)).await;
    assert_eq!(text(&mut parent).await, "terminate: shutdown");
    a.exit(&server, ExitReason::Kill);
    assert_eq!(parent.exit().await, (server, ExitReason::Killed, true));
}
