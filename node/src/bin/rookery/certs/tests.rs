//! The `certs` commands as typed: what they make is loaded as nodes and clients load it, and what
//! they refuse says what is accepted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use clap::Parser;
use rookery_runtime::tls::{CertificateRole, Identity};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: CertsCommand,
}

/// Runs a command line as typed, and gives what it printed.
fn rookery_certs(line: &[&str]) -> Result<String, String> {
    let line = std::iter::once("rookery certs").chain(line.iter().copied());
    let command = Line::try_parse_from(line).map_err(|error| error.to_string())?.command;
    let mut out = Vec::new();
    run_to(command, &mut out).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn what_the_commands_make_is_what_nodes_and_clients_load() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("certs");
    let dir = dir.to_str().unwrap();
    let printed = rookery_certs(&["init", "--cluster", "prod", "--dir", dir]).unwrap();
    assert!(printed.contains(&format!("rookery certs issue node HOSTNAME --dir {dir}")));

    let node = ["issue", "node", "a.rookery", "--dns", "*.svc", "--dir", dir];
    let printed = rookery_certs(&node).unwrap();
    assert!(printed.contains(&format!("rookery start --identity {dir}/a.rookery")), "{printed}");
    let identity = Identity::from_dir(&Path::new(dir).join("a.rookery")).unwrap();
    assert!(identity.own().may_be_node("a.rookery") && identity.own().may_be_node("b.svc"));

    let out = root.path().join("alice");
    let out = out.to_str().unwrap();
    let client = ["issue", "client", "alice", "--dir", dir, "--out", out, "--valid-days", "1"];
    assert!(rookery_certs(&client).unwrap().contains("valid for 1 day\n"));
    let identity = Identity::from_dir(Path::new(out)).unwrap();
    assert!(matches!(&identity.own().role, CertificateRole::Client { name } if name.as_str() == "alice"));
}

#[test]
fn nothing_is_replaced_without_force() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_str().unwrap();
    let init = ["init", "--cluster", "prod", "--dir", dir];
    let issue = ["issue", "node", "a", "--dir", dir];
    for command in [&init[..], &issue[..]] {
        rookery_certs(command).unwrap();
        let error = rookery_certs(command).unwrap_err();
        assert!(error.contains("is there already, and nothing was written"), "{error}");
        let forced: Vec<&str> = command.iter().copied().chain(["--force"]).collect();
        rookery_certs(&forced).unwrap();
    }
    // The identity is of the new CA.
    Identity::from_dir(&root.path().join("a")).unwrap();
}

#[test]
fn what_is_there_is_kept_where_that_is_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_str().unwrap();
    let read = |file: &str| std::fs::read_to_string(root.path().join(file)).unwrap();
    let lines = [vec!["init", "--cluster", "prod"], vec!["issue", "node", "a"], vec!["issue", "client", "eve"]];
    let files = ["ca.pem", "a/cert.pem", "eve/cert.pem"];
    for (line, file) in lines.iter().zip(files) {
        let line = [line.as_slice(), &["--dir", dir, "--keep"]].concat();
        assert!(!rookery_certs(&line).unwrap().contains("kept"));
        let made = read(file);
        assert!(rookery_certs(&line).unwrap().contains("is there already, and is kept"));
        assert_eq!(read(file), made);
        assert!(rookery_certs(&[line.as_slice(), &["--force"]].concat()).is_err(), "one or the other");
    }
}

#[test]
fn a_wrong_value_is_named_with_what_is_accepted() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["init", "--cluster", "Prod"], &["--cluster", "`Prod`", "lower-case letters, digits and `-`"]),
        (&["issue", "client", "a/b"], &["\"a/b\"", "beginning with a letter"]),
        (&["issue", "node", "a", "--valid-days", "0"], &["--valid-days", "1..=3650"]),
        (&["issue", "node", "a", "--dir", dir], &["there is no CA in", "rookery certs init"]),
        (&["show", dir], &["neither cert.pem nor tls.crt"]),
    ];
    for (line, parts) in cases {
        let error = rookery_certs(line).unwrap_err();
        for part in *parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
    rookery_certs(&["init", "--cluster", "prod", "--dir", dir]).unwrap();
    let error = rookery_certs(&["issue", "node", "a b", "--dir", dir]).unwrap_err();
    assert!(error.contains("\"a b\" is not a DNS name"), "{error}");
}

#[test]
fn show_tells_people_and_programs_the_same() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().to_str().unwrap();
    rookery_certs(&["init", "--cluster", "prod", "--dir", dir]).unwrap();
    rookery_certs(&["issue", "node", "a.rookery", "--dir", dir]).unwrap();
    let path = format!("{dir}/a.rookery");

    let table = rookery_certs(&["show", &path]).unwrap();
    for part in ["Cluster", "prod", "node", "a.rookery", " days left)", "ECDSA P-256", "Usable"] {
        assert!(table.contains(part), "{part:?} is missing in:\n{table}");
    }
    let json: serde_json::Value = serde_json::from_str(&rookery_certs(&["show", &path, "--json"]).unwrap()).unwrap();
    assert_eq!(json["usable"], true);
    let own = &json["certificates"][0];
    assert_eq!((&own["cluster"], &own["role"]), (&"prod".into(), &"node".into()));
    assert_eq!(own["dns_names"][0], "a.rookery");
    assert!([364, 365].contains(&own["days_left"].as_i64().unwrap()));
    assert_eq!(json["certificates"][1]["role"], "ca");

    let ca = rookery_certs(&["show", dir]).unwrap();
    assert!(ca.contains("CA, issues certificates"), "{ca}");
    std::fs::remove_file(format!("{path}/key.pem")).unwrap();
    assert!(rookery_certs(&["show", &path]).unwrap().contains("no: cannot read"));
}
