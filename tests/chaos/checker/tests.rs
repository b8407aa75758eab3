//! Histories with one thing wrong in each, which has to be found, and next to each one in which nothing is wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // A test may stop where it fails.

use super::*;
use crate::history::Outcome;

/// A history of what happened when, each at once. Each fault was seen to have happened.
fn history(what: impl IntoIterator<Item = (u64, What)>) -> Vec<Entry> {
    let shown = |what: &What| match what {
        What::Over { fault } => Some(shown(fault, true)),
        _ => None,
    };
    let all =
        what.into_iter().flat_map(|(at, what)| shown(&what).into_iter().chain([what]).map(move |what| (at, what)));
    let mut all: Vec<Entry> = all.map(|(at, what)| Entry { begin: at, end: at, what }).collect();
    all.sort_by_key(|entry| entry.begin);
    all
}

fn shown(fault: &str, shown: bool) -> What {
    What::Shown { fault: text(fault), shown, how: text("node-2 has dropped 7 datagrams of node-0") }
}

fn rows(history: &[Entry]) -> Vec<&'static str> {
    check(history).into_iter().map(|violation| violation.row).collect()
}

#[track_caller]
fn only(row: &str, words: &str, what: impl IntoIterator<Item = (u64, What)>) {
    let found = check(&history(what));
    let [violation] = &found[..] else { panic!("expected one violation of {row}: {found:?}") };
    assert!(violation.row == row && violation.text.contains(words), "{violation}");
}

#[track_caller]
fn nothing(what: impl IntoIterator<Item = (u64, What)>) {
    assert_eq!(check(&history(what)), []);
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn send(at: u64, number: u64) -> (u64, What) {
    (at, What::Send { from: text("a"), to: text("b"), monitor: 1, number, outcome: Outcome::Ok })
}

fn call(at: u64, number: u64, outcome: Outcome) -> (u64, What) {
    (at, What::Call { from: text("a"), to: text("b"), monitor: 1, number, outcome })
}

fn received(at: u64, number: u64) -> (u64, What) {
    (at, What::Received { by: text("b"), from: text("a"), number })
}

fn monitor(at: u64) -> (u64, What) {
    (at, What::Monitor { by: text("a"), target: text("b"), monitor: 1 })
}

fn down(at: u64, reason: &str) -> (u64, What) {
    (at, What::Down { by: text("a"), monitor: 1, reason: text(reason) })
}

fn exit(at: u64) -> (u64, What) {
    (at, What::Exit { target: text("b") })
}

fn ended(at: u64, pid: &str) -> (u64, What) {
    (at, What::Ended { pid: text(pid) })
}

fn settled(at: u64) -> (u64, What) {
    (at, What::Settled)
}

fn info() -> Outcome {
    Outcome::Info(text("no answer came in time"))
}

#[test]
fn s1_an_order_that_is_not_kept_is_found() {
    nothing([send(1, 1), call(2, 2, Outcome::Ok), received(3, 1), received(3, 2)]);
    only("S1", "after message 2", [send(1, 1), call(2, 2, info()), received(3, 2), received(4, 1)]);
}

#[test]
fn s2_what_arrives_twice_or_from_nowhere_is_found() {
    only("S2", "twice", [send(1, 1), received(2, 1), received(3, 1)]);
    only("S2", "never sent", [send(1, 1), received(2, 1), received(3, 2)]);
}

#[test]
fn s2_a_loss_without_a_word_is_found() {
    only(
        "S2",
        "message 2",
        [monitor(0), send(1, 1), send(2, 2), send(3, 3), received(4, 1), received(5, 3), settled(9)],
    );
    only("S2", "was lost", [monitor(0), call(1, 1, info()), settled(9)]);
    // It was told, or there was nobody to tell, or nobody to get it, or it may still be under way.
    nothing([monitor(0), send(1, 1), down(2, "no connection"), settled(9)]);
    nothing([monitor(0), send(1, 1), ended(2, "a"), settled(9)]);
    nothing([monitor(0), send(1, 1), ended(2, "b"), down(3, "normal"), settled(9)]);
    nothing([monitor(0), send(1, 1)]);
}

#[test]
fn s2_a_loss_in_calm_is_found_though_a_monitor_fires_later() {
    let lost_then = |sent: u64, begins: u64| {
        [
            monitor(0),
            send(sent, 1),
            fault(begins),
            down(begins + 500, "no connection"),
            over(90_000),
            healed(90_001),
            settled(99_000),
        ]
    };
    only("S2", "was lost in calm", lost_then(1, 60_000));
    only("S2", "was lost in calm", lost_then(1, 5_002));
    // It may have been under way, or never have left; its receiver has gone; or the machine stood still.
    nothing(lost_then(1, 5_001));
    nothing(lost_then(1_000, 500));
    let more = |more: (u64, What)| lost_then(1, 60_000).into_iter().chain([more]).collect::<Vec<_>>();
    nothing(more(ended(4_000, "b")));
    nothing(more((6_000, What::Stood { still_ms: 3_000 })));
}

#[test]
fn a_fault_that_nothing_shows_is_found() {
    let entries = |what: Vec<(u64, What)>| -> Vec<Entry> {
        what.into_iter().map(|(at, what)| Entry { begin: at, end: at, what }).collect()
    };
    let with = |more: Vec<(u64, What)>| rows(&entries([vec![fault(1)], more, vec![over(9), healed(10)]].concat()));
    assert_eq!(with(vec![]), ["fault"]);
    assert_eq!(with(vec![(5, shown("halves", false))]), ["fault"]);
    assert_eq!(with(vec![(5, shown("halves", true)), (6, shown("halves", false))]), ["fault"]);
    assert_eq!(with(vec![(5, shown("halves", true)), (6, shown("halves", true))]), [""; 0]);
}

#[test]
fn a_call_that_is_answered_has_run_and_one_that_is_refused_has_not() {
    only("S2", "never received", [call(1, 1, Outcome::Ok)]);
    let refused = Outcome::Fail(text("there is no such process"));
    only("S2", "not to have run", [call(1, 1, refused.clone()), received(2, 1)]);
    nothing([call(1, 1, refused)]);
}

#[test]
fn a1_an_answer_that_comes_too_late_is_found() {
    let late = |end| Entry { begin: 0, end, what: call(0, 1, info()).1 };
    assert_eq!(rows(&[late(5_000)]), [""; 0]);
    assert_eq!(rows(&[late(60_000)]), ["A1"]);
    let stood = history([(100, What::Stood { still_ms: 55_000 })]).pop().unwrap();
    assert_eq!(rows(&[late(60_000), stood]), [""; 0], "it was the machine's fault");
}

#[test]
fn m1_a_monitor_that_fires_twice_or_never_is_found() {
    nothing([monitor(0), exit(1), down(2, "shutdown"), settled(9)]);
    only("M1", "twice", [monitor(0), exit(1), down(2, "shutdown"), down(3, "no connection"), settled(9)]);
    only("M1", "never fired", [monitor(0), exit(1), settled(9)]);
    only("M1", "never made", [down(2, "no connection")]);
    // What it is on lives; it has ended itself; it may yet fire.
    nothing([monitor(0), settled(9)]);
    nothing([monitor(0), exit(1), ended(2, "a"), settled(9)]);
    nothing([monitor(0), exit(1)]);
}

#[test]
fn m1_a_monitor_on_a_killed_node_has_to_fire() {
    let on = |pid| (0, What::Monitor { by: text("a"), target: text(pid), monitor: 1 });
    let killed = (1, What::Killed { node: text("n.1f") });
    only("M1", "never fired", [on("<n.1f.7>"), killed.clone(), settled(9)]);
    nothing([on("<n.1f.7>"), killed.clone(), down(2, "no such process"), settled(9)]);
    nothing([on("<n.1f2.7>"), killed, settled(9)]);
}

#[test]
fn m2_a_monitor_that_calls_the_living_dead_is_found() {
    only("M2", "nobody had ended", [monitor(0), down(1, "no such process")]);
    only("M2", "nobody had ended", [monitor(0), down(1, "no such process"), exit(2)]);
    nothing([monitor(0), down(1, "no connection")]);
}

fn put(at: u64, value: u64, outcome: Outcome) -> (u64, What) {
    (at, What::Put { by: text("a"), store: text("s"), key: text("k"), value, outcome })
}

fn get(at: u64, value: Option<u64>) -> (u64, What) {
    (at, What::Get { by: text("c"), store: text("s"), key: text("k"), value, outcome: Outcome::Ok })
}

#[test]
fn an_acknowledged_write_that_is_lost_is_found() {
    nothing([put(1, 1, Outcome::Ok), get(2, Some(1)), put(3, 2, info()), get(4, Some(1)), get(5, Some(2))]);
    only("kv", "gave 0", [put(1, 1, Outcome::Ok), get(2, None)]);
    only("kv", "gave 1", [put(1, 1, Outcome::Ok), put(2, 2, Outcome::Ok), get(3, Some(1))]);
    only("kv", "gave 1", [put(1, 1, Outcome::Ok), put(2, 2, info()), get(3, Some(2)), get(4, Some(1))]);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    only("kv", "nobody had written", [put(1, 1, Outcome::Ok), get(2, Some(7))]);
    only("kv", "nobody had written", [put(1, 1, Outcome::Fail(text("refused"))), get(2, Some(1))]);
}

/// A process of the node with this index gets the name.
fn register(at: u64, by: &str, node: usize) -> (u64, What) {
    (at, What::Register { by: text(by), at: node, name: text("x"), outcome: Outcome::Ok })
}

fn unregister(at: u64, by: &str) -> (u64, What) {
    (at, What::Unregister { by: text(by), name: text("x"), outcome: Outcome::Ok })
}

fn conflict(at: u64, by: &str) -> (u64, What) {
    (at, What::Conflict { by: text(by), name: text("x") })
}

/// Nodes 0 and 1 do not hear node 2.
fn fault(at: u64) -> (u64, What) {
    (at, What::Fault { fault: text("halves"), cut: vec![(0, 2), (1, 2)], touched: Vec::new() })
}

fn over(at: u64) -> (u64, What) {
    (at, What::Over { fault: text("halves") })
}

fn healed(at: u64) -> (u64, What) {
    (at, What::Healed { fault: text("halves"), took_ms: 0 })
}

#[test]
fn n2_two_owners_of_a_name_are_found() {
    nothing([register(1, "a", 0), unregister(5, "a"), register(6, "b", 1)]);
    nothing([register(1, "a", 0), ended(5, "a"), register(5, "b", 1)]);
    only("N2", "4 ms without a fault", [register(1, "a", 0), register(2, "b", 1), unregister(6, "a")]);
}

#[test]
fn n2_two_owners_in_two_parts_are_none_in_one() {
    let begin = [register(1, "a", 0), fault(10), register(20, "b", 2)];
    nothing([&begin[..], &[over(10_000), conflict(10_500, "b"), healed(11_000)]].concat());
    // Nobody was told after the parts have met.
    only("N2", "without a fault", [&begin[..], &[over(10_000), healed(11_000), conflict(11_500, "b")]].concat());
    only("N2", "without a fault", [&begin[..], &[over(10_000), conflict(60_000, "b"), healed(61_000)]].concat());
}

#[test]
fn n2_two_owners_in_one_part_are_found_though_another_part_is_cut_off() {
    let begin = [fault(10), register(20, "a", 0), register(30, "b", 1)];
    nothing([&begin[..], &[conflict(3_000, "b"), over(20_000), healed(21_000)]].concat());
    only("N2", "with one elsewhere", [&begin[..], &[conflict(19_000, "b"), over(20_000), healed(21_000)]].concat());
}

fn find(at: u64, found: Option<&str>) -> (u64, What) {
    (at, What::Find { by: text("a"), at: 0, name: text("x"), found: found.map(text) })
}

#[test]
fn n3_who_does_not_find_itself_must_be_told_why() {
    nothing([register(1, "a", 0), find(2, Some("a"))]);
    nothing([register(1, "a", 0), find(2, Some("b")), conflict(3, "a")]);
    only("N3", "found nobody", [register(1, "a", 0), find(2, None), unregister(3, "a")]);
    only("N3", "found b", [register(1, "a", 0), find(2, Some("b"))]);
}

#[test]
fn d1_what_is_not_whole_in_time_is_found() {
    nothing([fault(1), over(2), healed(3)]);
    only(
        "D1",
        "node 2 sees",
        [
            fault(1),
            over(2),
            (20_000, What::Unhealed { fault: text("halves"), why: text("node 2 sees nobody") }),
            healed(30_000),
        ],
    );
    only("D1", "nothing tells", [fault(1), over(2)]);
}

#[test]
fn d3_a_living_node_that_is_declared_down_is_found() {
    let lost = |at, by, of| (at, What::DeclaredDown { by, of, reason: text("silent") });
    nothing([fault(1), lost(2, 0, 2), lost(2, 2, 1), over(3), healed(4)]);
    only("D3", "node 0 declared node 1", [fault(1), lost(2, 0, 1), over(3), healed(4)]);
    let stood = (1_000, What::Stood { still_ms: 5_000 });
    nothing([lost(900, 0, 1), stood.clone(), lost(2_000, 0, 1)]);
    only("D3", "node 0 declared node 1", [stood, lost(60_000, 0, 1)]);
    only("D3", "node 0 declared node 2", [fault(1), over(3), healed(4), lost(5, 0, 2)]);
}

#[test]
fn g2_views_that_differ_when_all_is_whole_are_found() {
    let saw = |at, round, holder: &str, member: &str| {
        let names = [(text("x"), text(holder))].into();
        (9, What::Saw { round, at, nodes: vec![text("n")], names, groups: vec![vec![text(member)]] })
    };
    nothing([saw(0, 1, "a", "m"), saw(1, 1, "a", "m"), saw(0, 2, "b", "k"), saw(1, 2, "b", "k")]);
    only("G2", "names", [saw(0, 1, "a", "m"), saw(1, 1, "b", "m")]);
    only("G2", "groups", [saw(0, 1, "a", "m"), saw(1, 1, "a", "k")]);
}
