//! The program that this package builds: what it says of itself.
//!
//! Also what makes cargo build it: a package's programs are built for its integration tests, and the tests in the
//! workspace's `tests` run this one.
#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.

use std::process::{Command, Output};

fn rookery(argument: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rookery")).arg(argument).output().unwrap()
}

#[test]
fn it_tells_its_version() {
    let output = rookery("--version");
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), concat!("rookery ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_lists_every_command_with_what_it_does() {
    let output = rookery("--help");
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["start", "demo", "certs", "nodes", "ps", "spawn", "send", "call", "monitor", "kill", "config"] {
        let line = help.lines().find(|line| line.trim_start().starts_with(command));
        assert!(line.is_some_and(|line| line.split_whitespace().count() > 3), "{command} in: {help}");
    }
}

#[test]
fn a_wrong_command_is_a_usage_error() {
    assert_eq!(rookery("nonsense").status.code(), Some(2));
}
