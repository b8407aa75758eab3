//! The soak (`tests/soak/run`), short: a few nodes under full CPU load, with a tenth of all packets lost where that can be done;
//! and that it tells when a node is declared down. The long one is run by hand, and its figures stand in the README.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
};

use rookery_tests::program::rookery;

/// Each takes the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const SKIPPED: i32 = 77;

fn soak(arguments: &[&str]) -> Command {
    // It is where this test's own programs are; the nodes' has to be there too.
    drop(rookery());
    let mut soak = Command::new(env!("CARGO_BIN_EXE_soak"));
    soak.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    soak
}

/// A figure of the table.
fn row<'a>(table: &'a str, what: &str) -> &'a str {
    let line = table.lines().find(|line| line.starts_with(&format!("| {what}")));
    line.unwrap_or_else(|| panic!("no `{what}` in {table}")).rsplit('|').nth(1).unwrap().trim()
}

fn number(text: &str) -> u64 {
    text.split([';', ' ', '(']).next().unwrap().parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn d3_nobody_is_declared_down_under_full_load_while_packets_are_lost() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let load = ["--nodes", "5", "--minutes", "0.2", "--callers", "2", "--every", "5"];
    let mut output: Output = soak(&[&load[..], &["--loss", "10"]].concat()).output().unwrap();
    let lossy = output.status.code() != Some(SKIPPED);
    if !lossy {
        // Straight to standard error, since the harness keeps what passing tests say.
        std::io::stderr().write_all(&output.stderr).unwrap();
        output = soak(&load).output().unwrap();
    }
    let (table, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{table}{said}");
    assert_eq!(row(&table, "**false NodeDown**"), "**0**", "{table}");
    let answered = row(&table, "calls answered");
    assert!(number(answered) > 100 && answered.ends_with("; 0"), "{table}");
    let (sent, counted) = row(&table, "messages sent").split_once("; ").unwrap();
    assert!(number(sent) > 800 && sent == counted, "a message was lost, or came twice: {table}");
    let busy = row(&table, "CPU of the machine").split_once(" %").unwrap().0.parse::<f64>().unwrap();
    assert!(busy > 90.0, "that was no full load: {table}");
    if lossy {
        let (datagrams, lost) = row(&table, "datagrams sent").split_once("; ").unwrap();
        let part = number(lost) as f64 / number(datagrams) as f64;
        assert!((0.05..0.15).contains(&part), "{part} of all datagrams were lost: {table}");
    }
}

/// Processes of the operating system that `ancestor` has started, and those that these have.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap().success());
}

/// Ends with the test, whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A soak of so many minutes that has begun, and its second node.
fn running(minutes: &str) -> (Running, BufReader<std::process::ChildStdout>, u32) {
    let mut child = soak(&["--nodes", "3", "--minutes", minutes, "--burners", "0", "--callers", "1"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let running = Running(child);
    let mut lines = String::new();
    while out.read_line(&mut lines).unwrap() > 0 && !lines.contains("have begun") {}
    assert!(lines.contains("3 nodes have formed a mesh") && lines.contains("have begun"), "{lines}");
    let is_second = |pid: &u32| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.contains("start\0--name\0node-01\0")
    };
    let node = descendants(running.0.id()).into_iter().find(is_second).unwrap();
    (running, out, node)
}

#[test]
fn a_soak_in_which_a_node_hangs_is_no_success() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut running, mut out, node) = running("0.15");
    signal(node, "STOP");
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("node-01") && line.contains("DOWN"), "{line}");
    signal(node, "CONT");
    let mut table = String::new();
    out.read_to_string(&mut table).unwrap();
    assert!(row(&table, "**false NodeDown**") != "**0**", "{table}");
    assert_eq!(running.0.wait().unwrap().code(), Some(1), "{table}");
}

#[test]
fn a_soak_in_which_a_node_ends_is_no_success_and_says_which() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut running, mut out, node) = running("0.15");
    signal(node, "KILL");
    let mut table = String::new();
    out.read_to_string(&mut table).unwrap();
    assert!(table.contains("\nended: node-01: signal: 9"), "{table}");
    assert_eq!(running.0.wait().unwrap().code(), Some(1), "{table}");
}

/// Its nodes and burners are gone with it, even if it is given no time to end them.
#[test]
fn a_soak_that_is_killed_leaves_no_process_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (running, _out, _) = running("5");
    let own = descendants(running.0.id());
    assert!(own.len() > 4, "three nodes, and who has started them: {own:?}");
    if !fs::read_to_string(format!("/proc/{}/cmdline", running.0.id())).unwrap().starts_with("unshare\0") {
        std::io::stderr().write_all(b"SKIPPED: no process namespaces here, by which all ends with a soak\n").unwrap();
        return;
    }
    drop(running);
    let since = std::time::Instant::now();
    while own.iter().any(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())) {
        assert!(since.elapsed() < rookery_tests::DEADLINE, "not all have ended");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
