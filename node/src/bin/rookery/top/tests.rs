//! `top` without a terminal and a cluster: snapshots and keys in, rows and pictures out.
#![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]

use std::time::{Duration, Instant};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use rookery_node::system::{Load, NodeInfo, ProcessInfo, ProcessState};

use super::{
    model::{Action, Mode, Model},
    rows::{Column, Snapshot},
    view,
};

fn info(serial: u64, behaviour: &str, mailbox: u64, handled: u64) -> ProcessInfo {
    ProcessInfo {
        pid: format!("<one.1.{serial}>").parse().unwrap(),
        names: Vec::new(),
        cluster_names: Vec::new(),
        behaviour: behaviour.to_owned(),
        state: ProcessState::Waiting,
        mailbox,
        handled,
        steps: 0,
        memory_bytes: 640,
        age_ms: 1_000,
        parent: None,
        call: None,
        links: 0,
        monitors: 0,
        watchers: 0,
        traps_exits: false,
    }
}

fn child(of: u64, info: ProcessInfo) -> ProcessInfo {
    ProcessInfo { parent: Some(format!("<one.1.{of}>").parse().unwrap()), ..info }
}

/// What a node says of itself, `seconds` after it was looked at first, half of whose time its two threads were busy.
fn node(name: &str, seconds: u64) -> NodeInfo {
    NodeInfo {
        node: format!("{name}.1").parse().unwrap(),
        version: "0".to_owned(),
        labels: Default::default(),
        uptime_ms: 7_000 + seconds * 1_000,
        processes: 3,
        max_processes: 100,
        load: Load {
            workers: 2,
            busy_us: seconds * 1_000_000,
            queued: 0,
            cpu_ms: Some(seconds * 250),
            memory_bytes: Some(3 << 20),
        },
        draining: false,
        names: 0,
        cluster_names: 0,
        groups: 0,
        clients: 1,
        refused_to_clients: 0,
        dead_letters: 0,
        behaviours: Vec::new(),
        peers: Vec::new(),
    }
}

fn snapshot(start: Instant, seconds: u64, processes: Vec<ProcessInfo>) -> Snapshot {
    Snapshot {
        at: start + Duration::from_secs(seconds),
        here: "one".to_owned(),
        nodes: vec![node("one", seconds), node("two", seconds)],
        matching: processes.len() as u64,
        processes,
        silent: Vec::new(),
    }
}

fn model() -> Model {
    let mut model = Model::new(Column::Mailbox, false, String::new());
    model.set_page(3);
    model
}

/// With five processes, 1 to 5, whose mailboxes are as long as their numbers.
fn five(start: Instant) -> Model {
    let mut model = model();
    model.handle_snapshot(snapshot(start, 0, (1..=5).map(|n| info(n, "Server", n, 0)).collect()));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Option<Action> {
    model.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn write(model: &mut Model, text: &str) {
    for character in text.chars() {
        press(model, KeyCode::Char(character));
    }
}

fn serials(model: &Model) -> Vec<u64> {
    model.rows.iter().map(|row| row.info.pid.serial().0).collect()
}

fn selected(model: &Model) -> u64 {
    model.selected().unwrap().info.pid.serial().0
}

fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer.cell((x, y)).unwrap().symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn the_selection_stays_on_its_process_wherever_that_goes() {
    let start = Instant::now();
    let mut model = five(start);
    assert_eq!(serials(&model), [5, 4, 3, 2, 1]);
    press(&mut model, KeyCode::Down);
    assert_eq!(selected(&model), 4);
    // Its mailbox is handled: it is last now.
    let handled = (1..=5).map(|n| info(n, "Server", if n == 4 { 0 } else { n }, n));
    model.handle_snapshot(snapshot(start, 1, handled.collect()));
    assert_eq!((serials(&model), selected(&model)), (vec![5, 3, 2, 1, 4], 4));
    assert_eq!((model.at, model.top), (4, 2), "and in sight");
    // It ends: the selection stays in its place, as far as there is one.
    model.handle_snapshot(snapshot(start, 2, (1..=3).map(|n| info(n, "Server", n, n)).collect()));
    assert_eq!((selected(&model), model.top), (1, 0));
    model.handle_snapshot(snapshot(start, 3, Vec::new()));
    assert!(model.selected().is_none());
    assert_eq!(press(&mut model, KeyCode::Enter), None);
}

#[test]
fn keys_move_within_the_table_and_the_page_follows() {
    let mut model = five(Instant::now());
    for (key, at, top) in [
        (KeyCode::Up, 0, 0),
        (KeyCode::PageDown, 3, 1),
        (KeyCode::PageDown, 4, 2),
        (KeyCode::Home, 0, 0),
        (KeyCode::End, 4, 2),
        (KeyCode::PageUp, 1, 1),
    ] {
        press(&mut model, key);
        assert_eq!((model.at, model.top), (at, top), "{key:?}");
    }
}

#[test]
fn rates_and_load_are_what_happened_between_two_looks() {
    let start = Instant::now();
    let mut model = model();
    model.handle_snapshot(snapshot(start, 0, vec![info(1, "Server", 0, 100), info(2, "Server", 0, 0)]));
    assert_eq!((model.rows[0].rate, model.busy[0]), (0.0, None), "nothing is known yet");
    model.handle_snapshot(snapshot(start, 2, vec![info(1, "Server", 0, 150), info(2, "Server", 0, 0)]));
    assert_eq!((model.rows[0].rate, model.rows[1].rate), (25.0, 0.0));
    let busy = model.busy[0].unwrap();
    assert_eq!((busy.workers, busy.cpus), (0.5, 0.25));
    model.lost = Some("gone".to_owned());
    model.handle_snapshot(snapshot(start, 3, Vec::new()));
    assert_eq!(model.lost, None, "it is back");
}

#[test]
fn the_column_is_chosen_and_the_same_again_is_the_other_way_round() {
    let mut model = five(Instant::now());
    press(&mut model, KeyCode::F(6));
    press(&mut model, KeyCode::Home);
    assert_eq!(press(&mut model, KeyCode::Enter), Some(Action::Refresh));
    assert_eq!((model.sort, serials(&model)), (Column::Pid, vec![1, 2, 3, 4, 5]));
    press(&mut model, KeyCode::Char('>'));
    press(&mut model, KeyCode::Enter);
    assert_eq!(serials(&model), [5, 4, 3, 2, 1]);
    press(&mut model, KeyCode::Char('I'));
    assert_eq!(serials(&model), [1, 2, 3, 4, 5]);
    press(&mut model, KeyCode::F(6));
    assert_eq!((press(&mut model, KeyCode::Esc), model.sort), (None, Column::Pid));
}

#[test]
fn a_filter_lists_what_has_the_text_and_escape_takes_it_back() {
    let mut model = model();
    let rows = vec![info(1, "shop::Orders", 2, 0), info(2, "shop::Stock", 1, 0), info(3, "shop::Orders", 0, 0)];
    model.handle_snapshot(snapshot(Instant::now(), 0, rows));
    press(&mut model, KeyCode::F(4));
    write(&mut model, "orderz");
    assert_eq!(serials(&model), [0; 0]);
    assert_eq!(press(&mut model, KeyCode::Backspace), Some(Action::Refresh), "the nodes may have more of them");
    assert_eq!((serials(&model), model.filter()), (vec![1, 3], "order"));
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Char('\\'));
    write(&mut model, "x");
    assert_eq!(serials(&model), [0; 0]);
    press(&mut model, KeyCode::Esc);
    assert_eq!((serials(&model), model.filter()), (vec![1, 3], "order"));
}

#[test]
fn a_search_goes_to_the_next_that_has_the_text() {
    let mut model = model();
    let rows = vec![info(1, "Orders", 3, 0), info(2, "Stock", 2, 0), info(3, "Stock", 1, 0)];
    model.handle_snapshot(snapshot(Instant::now(), 0, rows));
    press(&mut model, KeyCode::Char('/'));
    write(&mut model, "sto");
    assert_eq!(selected(&model), 2);
    press(&mut model, KeyCode::F(3));
    assert_eq!(selected(&model), 3);
    press(&mut model, KeyCode::F(3));
    assert_eq!(selected(&model), 2, "from the beginning again");
    write(&mut model, "x");
    assert!(model.said.as_ref().unwrap().contains("nothing here has `stox`"));
    press(&mut model, KeyCode::Enter);
    assert_eq!((&model.mode, selected(&model)), (&Mode::Table, 2));
}

#[test]
fn the_tree_stands_below_who_has_started_whom() {
    let mut model = model();
    // 9 is not listed.
    let rows = vec![
        info(1, "Top", 0, 0),
        child(1, info(2, "Server", 5, 0)),
        child(2, info(3, "Server", 9, 0)),
        child(1, info(6, "Server", 7, 0)),
        child(9, info(7, "Server", 1, 0)),
    ];
    model.handle_snapshot(snapshot(Instant::now(), 0, rows));
    press(&mut model, KeyCode::F(5));
    let tree: Vec<(u64, usize)> = model.rows.iter().map(|row| (row.info.pid.serial().0, row.depth)).collect();
    assert_eq!(tree, [(7, 0), (1, 0), (6, 1), (2, 1), (3, 2)]);
    press(&mut model, KeyCode::Char('t'));
    assert_eq!(serials(&model), [3, 6, 2, 7, 1]);
}

#[test]
fn a_process_is_ended_only_after_a_yes() {
    let mut model = five(Instant::now());
    let pid = model.selected().unwrap().info.pid.clone();
    press(&mut model, KeyCode::F(9));
    assert!(screen(&mut model, 80, 12).last().unwrap().starts_with(&format!("End {pid} ? y ends it")));
    assert_eq!(press(&mut model, KeyCode::Enter), None);
    press(&mut model, KeyCode::Char('k'));
    assert_eq!(press(&mut model, KeyCode::Char('y')), Some(Action::Kill(pid.clone())));
    model.handle_killed(Err("refused: no".to_owned()));
    assert_eq!(screen(&mut model, 80, 12).last().unwrap(), "refused: no");
    press(&mut model, KeyCode::Down);
    assert!(screen(&mut model, 80, 12).last().unwrap().starts_with("F1Help"));
}

#[test]
fn details_are_shown_kept_up_and_left() {
    let mut model = five(Instant::now());
    let Some(Action::Inspect(pid)) = press(&mut model, KeyCode::Enter) else { unreachable!() };
    model.handle_details(&pid, Ok((0..9).map(|n| format!("line {n}")).collect()));
    assert_eq!(model.details_of(), Some(&pid));
    press(&mut model, KeyCode::End);
    assert!(screen(&mut model, 80, 6).iter().any(|line| line == "line 8"));
    model.handle_details(&pid, Ok(vec!["newer".to_owned(); 9]));
    assert!(screen(&mut model, 80, 6).iter().any(|line| line == "newer"));
    model.handle_details(&pid, Err("it has ended".to_owned()));
    assert_eq!((&model.mode, model.said.as_deref()), (&Mode::Table, Some("it has ended")));
}

#[test]
fn nothing_moves_while_it_is_paused() {
    let start = Instant::now();
    let mut model = five(start);
    assert_eq!(press(&mut model, KeyCode::Char(' ')), None);
    model.handle_snapshot(snapshot(start, 1, Vec::new()));
    assert_eq!(model.rows.len(), 5);
    assert!(screen(&mut model, 80, 12)[0].contains("PAUSED"));
    assert_eq!(press(&mut model, KeyCode::Char(' ')), Some(Action::Refresh));
    assert_eq!(press(&mut model, KeyCode::Char('q')), Some(Action::Quit));
    assert_eq!(model.handle_key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Action::Quit));
}

#[test]
fn a_wide_terminal_shows_all_columns_and_a_narrow_one_the_needed() {
    let start = Instant::now();
    let mut model = model();
    let named = ProcessInfo { names: vec!["orders".parse().unwrap()], ..info(1, "shop::Orders<u8>", 7, 0) };
    model.handle_snapshot(snapshot(start, 0, vec![named.clone()]));
    model.handle_snapshot(snapshot(start, 2, vec![ProcessInfo { handled: 5, ..named }]));
    let wide = screen(&mut model, 160, 15);
    assert!(wide[0].starts_with("rookery top  2 nodes  6 processes"), "{}", wide[0]);
    assert!(
        wide[1].starts_with("one [||||||||||            50%]        3 proc  mem   3.0 MiB  cpu  0.25"),
        "{}",
        wide[1]
    );
    let headings: Vec<&str> = wide[3].split_whitespace().collect();
    let all = ["PID", "NAMES", "BEHAVIOUR", "STATE", "MAILBOX↓", "MSG/S", "HANDLED", "MEMORY", "AGE"];
    assert_eq!(headings, all);
    let cells: Vec<&str> = wide[4].split_whitespace().collect();
    assert_eq!(cells, ["<one.1.1>", "orders", "Orders<u8>", "waiting", "7", "2.5", "5", "640", "B", "1.0", "s"]);

    let narrow = screen(&mut model, 36, 12);
    assert_eq!(narrow[3].split_whitespace().collect::<Vec<_>>(), ["PID", "NAMES", "MAILBOX↓"]);
    for (width, height) in [(1, 1), (3, 2), (20, 4), (500, 3)] {
        for mode in [Mode::Table, Mode::Help, Mode::Sort(3)] {
            model.mode = mode;
            assert_eq!(screen(&mut model, width, height).len(), usize::from(height));
        }
    }
}

#[test]
fn what_is_wrong_stands_in_the_head() {
    let start = Instant::now();
    let mut model = model();
    assert!(screen(&mut model, 80, 10)[0].contains("waiting for the nodes"));
    let mut looked = snapshot(start, 0, vec![info(1, "Server", 0, 0)]);
    (looked.silent, looked.matching) = (vec!["three: no answer".to_owned()], 9);
    model.handle_snapshot(looked);
    model.handle_lost("no node answers".to_owned());
    let head = screen(&mut model, 120, 24);
    assert!(head[0].contains("8 not listed") && head[0].contains("NOTHING NEW: no node answers"), "{}", head[0]);
    assert_eq!(head[1], "did not answer: three: no answer");
    model.handle_slow();
    assert_eq!(model.lost.as_deref(), Some("no node answers"), "which says more");
    model.handle_snapshot(snapshot(start, 1, Vec::new()));
    model.handle_slow();
    assert!(screen(&mut model, 120, 24)[0].ends_with("NOTHING NEW: no answer yet"));
}
