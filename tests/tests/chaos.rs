//! The chaos (`tests/chaos/run`), short: nodes in networks of their own are cut off from each other, killed and stopped while clients
//! use them, and no promise may be broken; and it leaves nothing behind. The long run is made by hand, and its figures stand in
//! `deploy/RELIABILITY.md`. That its checker finds what is wrong is shown by its own tests.

// A test says what it expects by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rookery_tests::{isolation, program::rookery};
use serde_json::Value;

/// Each takes the whole machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const SKIPPED: i32 = 77;

/// Far more than it takes to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn chaos(keep: &Path, arguments: &[&str]) -> Command {
    // It is where this test's own programs are; the nodes' has to be there too.
    drop(rookery());
    assert!(!isolation::is_inside());
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    chaos.args(arguments).arg("--keep").arg(keep);
    chaos.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    chaos
}

#[test]
fn no_promise_is_broken_by_partitions_kills_and_pauses() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let keep = tempfile::tempdir().unwrap();
    // The last fault begins before the time is over.
    let short = ["--minutes", "0.8", "--faults", "halves,kill,pause,two", "--seconds", "8", "--clients", "1", "--json"];
    let output = chaos(keep.path(), &short).output().unwrap();
    let (told, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    if output.status.code() == Some(SKIPPED) {
        // Straight to standard error, since the harness keeps what passing tests say.
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{said}{told}\nthe nodes: {}", logs(keep.path()));
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(report["violations"].as_array().map(Vec::len), Some(0), "{said}{told}");
    for fault in ["halves", "kill", "pause", "two"] {
        let row = &report["faults"][fault];
        assert!(row["times"].as_u64() >= Some(1) && row["ok"].as_u64() > Some(100), "{fault} did not happen: {told}");
        // Of two it may be one that nobody has to notice, and one that keeps nodes from saying so.
        let noticed = row["declared_down"].as_u64() >= Some(2) || fault == "two";
        assert!(noticed, "{fault} was noticed by nobody: {told}");
        assert_eq!(row["heal_s"].as_array().unwrap().len() as u64, row["times"].as_u64().unwrap(), "{told}");
    }
    assert!(report["all"]["received"].as_u64() > Some(500) && report["monitors_fired"].as_u64() > Some(20), "{told}");
    // One line an operation, and enough of them.
    let history = std::fs::read_to_string(keep.path().join("history.jsonl")).unwrap();
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shown = |fault: &str| lines.iter().filter(|line| line["what"] == "shown" && line["fault"] == fault).count();
    // Each pair of which one does not hear the other, both ways; a process that is gone, or stopped.
    assert!(shown("halves") >= 12 && shown("kill") >= 1 && shown("pause") >= 1 && shown("two") >= 2, "{said}{told}");
    assert!(lines.iter().all(|line| line["what"] != "shown" || line["shown"] == true), "{said}{told}");
    let operations = lines.iter().filter(|line| !line["outcome"].is_null()).count() as u64;
    assert_eq!(Some(operations), report["all"]["operations"].as_u64());
}

fn logs(keep: &Path) -> String {
    let mut all = String::new();
    for file in std::fs::read_dir(keep).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "log") {
            all += &format!("\n{}:\n{}", file.display(), std::fs::read_to_string(&file).unwrap());
        }
    }
    all
}

/// Ends with the test, whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Processes whose command line has this in it.
fn processes_with(text: &str) -> usize {
    let commands = std::fs::read_dir("/proc").unwrap().flatten();
    commands
        .filter(|entry| std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(text)))
        .count()
}

/// By Ctrl-C, and by what gives it no time to clear up: nodes and networks end with it.
#[test]
fn a_chaos_that_is_ended_leaves_nothing_behind() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in ["INT", "KILL"] {
        let keep = tempfile::tempdir().unwrap();
        // By the directory of what is kept its own processes are told from others.
        let own = keep.path().display().to_string();
        let child = chaos(keep.path(), &["--nodes", "3", "--minutes", "5", "--faults", "halves"]).spawn();
        let mut running = Running(child.unwrap());
        let mut said = BufReader::new(running.0.stderr.take().unwrap());
        let mut lines = String::new();
        while !lines.contains("all is whole") && said.read_line(&mut lines).unwrap() > 0 {}
        if lines.contains("SKIPPED") {
            std::io::stderr().write_all(lines.as_bytes()).unwrap();
            return;
        }
        assert!(lines.contains("all is whole"), "{lines}");
        assert!(processes_with(&own) >= 2, "the chaos, and who has started it");
        let network = std::fs::read_link(format!("/proc/{}/ns/pid_for_children", running.0.id())).unwrap();
        assert!(in_namespace(&network) >= 4, "three nodes, and the chaos");
        // To `unshare`, which has the chaos killed when it ends; Ctrl-C goes to all in the foreground.
        let target = if signal == "INT" { inside(&network).unwrap() } else { running.0.id() };
        assert!(Command::new("kill").args([format!("-{signal}"), target.to_string()]).status().unwrap().success());
        let since = Instant::now();
        while in_namespace(&network) > 0 || processes_with(&own) > 0 {
            // A zombie is nobody's process any more, once it is waited for.
            drop(running.0.try_wait());
            assert!(since.elapsed() < PATIENCE, "SIG{signal} has left processes behind");
            std::thread::sleep(Duration::from_millis(20));
        }
        let left = ["link", "netns"].map(|what| {
            let listed = Command::new("ip").args([what, "list"]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").output();
            String::from_utf8(listed.unwrap().stdout).unwrap()
        });
        assert!(!left.concat().contains("chaos-") && !left.concat().contains("link-0"), "{left:?}");
    }
}

/// How many processes live in a namespace of processes.
fn in_namespace(namespace: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| std::fs::read_link(entry.path().join("ns/pid")).is_ok_and(|own| own == namespace)).count()
}

/// Its first process.
fn inside(namespace: &Path) -> Option<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let own = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|own| own == namespace);
    let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(own).find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    })
}
