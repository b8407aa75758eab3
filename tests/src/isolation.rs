//! A network and a table of processes of a program's own, by Linux's namespaces: its loopback carries nobody else's traffic,
//! so it can be counted, and made to lose packets, and both end with the program, whatever ends it. No rule of a firewall
//! is left behind, and no process.
//!
//! `unshare` of util-linux is how it is done: a process that has started threads cannot do it to itself without `unsafe`.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Output, Stdio},
};

/// Says to the program that it runs inside.
const INSIDE: &str = "ROOKERY_TESTS_ISOLATED";

/// As root, and as who may make namespaces in which they are root.
const WAYS: [&[&str]; 2] = [&[], &["--map-root-user"]];

const NAMESPACES: [&str; 5] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Whether this program runs inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program again inside, with the same arguments, in place of this process. Gives why that is impossible here.
#[must_use]
pub fn enter() -> String {
    let mut why = String::new();
    for way in WAYS {
        if let Err(error) = possible(way) {
            why = error;
            continue;
        }
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => return error.to_string(),
        };
        let mut again = Command::new("unshare");
        again.args(NAMESPACES).args(way).arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
        return again.exec().to_string();
    }
    why
}

/// Runs one test of this program inside, in a process of its own, to its end: a test has threads, and cannot go inside itself. The
/// test's name is that of `#[test]`, with its modules.
///
/// # Errors
/// It cannot be had here; in words.
///
/// # Panics
/// When the test fails there, with what it printed.
pub fn run_test(name: &str) -> Result<(), String> {
    let way = WAYS.iter().map(|way| possible(way).map(|()| *way)).reduce(Result::or).unwrap_or(Ok(&[]))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = Command::new("unshare");
    again.args(NAMESPACES).args(way).arg(program).args(["--exact", name, "--nocapture"]);
    let output = again.env(INSIDE, "1").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("unshare: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "in namespaces of its own: {}: {text}",
        output.status
    );
    Ok(())
}

/// Whether namespaces can be made in this way.
fn possible(way: &[&str]) -> Result<(), String> {
    let probe = Command::new("unshare").args(NAMESPACES).args(way).arg("true").stdin(Stdio::null()).output();
    succeeded("unshare", probe).map(drop)
}

fn succeeded(what: &str, output: std::io::Result<Output>) -> Result<String, String> {
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

/// Switches on the loopback of the new network.
///
/// # Errors
/// `ip` (iproute2) is missing, or may not do it; in words.
pub fn loopback_up() -> Result<(), String> {
    succeeded("ip", Command::new("ip").args(["link", "set", "lo", "up"]).output()).map(drop)
}

fn iptables(arguments: &[&str]) -> Result<String, String> {
    // Debian has it where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    succeeded("iptables", Command::new("iptables").env("PATH", path).arg("-w").args(arguments).output())
}

/// Whether rules that change addresses can be made here.
///
/// # Errors
/// `iptables` is missing, or cannot do it here; in words.
pub fn can_translate_addresses() -> Result<(), String> {
    iptables(&["-t", "nat", "-nL"]).map(drop)
}

/// From now on this part of all UDP datagrams is lost, each by chance: dropped where they arrive, since their sender would be
/// told of what is dropped where it leaves.
///
/// # Errors
/// `iptables` is missing, or cannot do it here; in words.
pub fn lose(part: f64) -> Result<(), String> {
    let part = part.to_string();
    let by_chance = ["-m", "statistic", "--mode", "random", "--probability", &part, "-j", "DROP"];
    iptables(&[&["-A", "INPUT", "-i", "lo", "-p", "udp"][..], &by_chance].concat()).map(drop)
}

/// How many datagrams were lost so.
#[must_use]
pub fn lost() -> u64 {
    let rules = iptables(&["-nvxL", "INPUT"]).unwrap_or_default();
    let drops = rules.lines().filter(|line| line.contains("DROP"));
    drops.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}
