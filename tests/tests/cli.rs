//! The program, as an operator types it: real processes, real exit statuses, real output.
#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.

use rookery_tests::program::{Certificates, Cli, node, node_of, run};

#[tokio::test(flavor = "multi_thread")]
async fn commands_do_what_they_say_and_exit_zero_only_then() {
    let certificates = Certificates::new("cli");
    let (one, address) = node(&certificates, "one", &[]).await;
    let (two, _) = node(&certificates, "two", &["--peers", &address]).await;
    let cli = Cli { connect: address, identity: certificates.client("ops").display().to_string() };

    rookery_tests::eventually("both are listed", || cli.ok(&["nodes"]).contains("two")).await;
    assert_eq!(cli.ok(&["call", "counter", "{\"Add\":5}"]), "null");
    assert_eq!(cli.ok(&["call", "counter", "{\"Get\":null}"]), "5");
    assert_eq!(cli.ok(&["call", "counter@two", "{\"Get\":null}"]), "0");
    assert_eq!(cli.ok(&["call", "echo", "{\"Echo\":\"hi\"}"]), "hi");
    assert_eq!(cli.ok(&["call", "echo", "{\"Echo\":\"hi\"}", "--json"]), "\"hi\"");

    let pid = cli.ok(&["spawn", "counter", "7", "--node", "two", "--name", "seven"]);
    assert!(pid.starts_with("<two."), "{pid}");
    assert_eq!(cli.ok(&["send", &pid, "{\"Add\":1}"]), "");
    assert_eq!(cli.ok(&["call", "seven@two", "{\"Get\":null}"]), "8");
    assert!(cli.ok(&["ps", "--node", "two"]).contains(&pid));
    let listed: serde_json::Value = serde_json::from_str(&cli.ok(&["ps", "--json"])).unwrap();
    assert!(listed.as_array().unwrap().iter().any(|process| process["pid"] == pid.as_str()));
    let nodes: serde_json::Value = serde_json::from_str(&cli.ok(&["nodes", "--json"])).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 2);

    let monitor = {
        let (connect, identity, pid) = (cli.connect.clone(), cli.identity.clone(), pid.clone());
        tokio::task::spawn_blocking(move || Cli { connect, identity }.ok(&["monitor", &pid]))
    };
    rookery_tests::eventually("it is monitored", || {
        let listed: serde_json::Value = serde_json::from_str(&cli.ok(&["ps", "--json"])).unwrap();
        listed.as_array().unwrap().iter().any(|process| process["pid"] == pid.as_str() && process["watchers"] == 1)
    })
    .await;
    assert_eq!(cli.ok(&["kill", "seven@two"]), format!("{pid} ended: killed"));
    assert_eq!(monitor.await.unwrap(), format!("{pid} is down: killed"));

    assert!(cli.fails(&["kill", &pid]).contains("no process"));
    assert!(cli.fails(&["call", "nobody", "{}"]).contains("no such process"));
    assert!(cli.fails(&["call", "counter", "{\"Nope\":1}"]).contains("expected one of `Add`, `Get`"));
    assert!(cli.fails(&["spawn", "nothing"]).contains("it has: counter, echo"));
    assert!(cli.fails(&["call", "counter@three", "{\"Get\":null}"]).contains("up are: one, two"));
    assert_eq!(cli.output(&["call", "counter", "{oops"]).status.code(), Some(2));
    assert_eq!(cli.output(&["call", "counter@", "1"]).status.code(), Some(2));
    assert!(cli.ok(&["call", "rookery:boot", "{\"Count\":null}"]).contains("\"active\":4"));
    assert!(cli.fails(&["call", "rookery:boot", "{\"StopChild\":\"kv\"}"]).contains("rookery:boot@one: refused"));
    // What nobody would start again is not for clients to end, whatever their policy.
    for vital in ["rookery:boot", "rookery:node", "rookery:status", "rookery:trees"] {
        assert!(cli.fails(&["kill", vital]).contains("is not for clients to end"));
    }
    assert!(cli.ok(&["send", "counter", "{\"Add\":1}", "--json"]).contains("\"target\":\"counter@one\""));

    // A server that says nothing is not waited for when there is another. Nothing listens on port 9 of loopback.
    let several = Cli { connect: format!("127.0.0.1:9,{}", cli.connect), identity: cli.identity.clone() };
    assert!(several.ok(&["nodes"]).contains("one"));

    assert!(two.terminate().await.success());
    rookery_tests::eventually("the other is told", || !cli.ok(&["nodes"]).contains("two")).await;
    assert!(one.log().contains("it left"), "{}", one.log());
    assert!(one.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_policy_may_call_and_monitor_and_no_more() {
    let certificates = Certificates::new("cli-policy");
    let (node, connect) = node(&certificates, "one", &[]).await;
    let cli = Cli { connect, identity: certificates.client("guest").display().to_string() };
    assert_eq!(cli.ok(&["call", "counter", "{\"Get\":null}"]), "0");
    assert!(cli.fails(&["spawn", "counter"]).contains("does not let it spawn counter"));
    assert!(cli.fails(&["kill", "counter"]).contains("refused"));
    assert!(cli.fails(&["call", "rookery:boot", "{\"StopChild\":\"kv\"}"]).contains("refused"));
    assert_eq!(cli.ok(&["call", "counter", "{\"Get\":null}"]), "0", "and the counter lives");
    drop(node);
    assert!(cli.fails(&["nodes", "--timeout-ms", "1500"]).contains("cannot connect to"));
}

const TREE: &str = r#"
[[supervisor]]
name = "orders"
[[supervisor.children]]
id = "west"
behaviour = "counter"
arguments = 7
name = "seven"
placement = { label = { zone = "west" } }
[[supervisor.children]]
id = "books"
strategy = "rest_for_one"
[[supervisor.children.children]]
id = "ledger"
behaviour = "kv"
name = "ledger"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn v7_a_tree_of_the_file_runs_where_its_labels_say() {
    let certificates = Certificates::new("cli-trees");
    let (one, address) = node_of(TREE, &certificates, "one", &["--boot", "none", "--label", "zone=east"]).await;
    let cli = Cli { connect: address.clone(), identity: certificates.client("guest").display().to_string() };
    // The tree is up without the node that one of its children waits for.
    rookery_tests::eventually("the tree is up", || cli.output(&["call", "ledger", "{\"Keys\":null}"]).status.success())
        .await;
    let west = || {
        let children: serde_json::Value =
            serde_json::from_str(&cli.ok(&["call", "orders", "{\"Children\":null}"])).unwrap();
        let shown = |child: &serde_json::Value| {
            format!("{} {} {}", child["id"], child["status"], child["node"]).replace('"', "")
        };
        children.as_array().unwrap().iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(west(), ["west starting null", "books running one"]);
    let labels = ["--label", "zone=west", "--label", "disk=ssd"];
    let (two, _) = node(&certificates, "two", &[&labels[..], &["--boot", "none", "--peers", &address]].concat()).await;
    rookery_tests::eventually("the child has found its node", || west()[0] == "west running two").await;
    assert_eq!(cli.ok(&["call", "seven@two", "{\"Get\":null}"]), "7");
    let nodes: serde_json::Value = serde_json::from_str(&cli.ok(&["nodes", "--json"])).unwrap();
    assert_eq!(nodes[1]["labels"], serde_json::json!({ "disk": "ssd", "zone": "west" }));
    // It ends with its supervisor.
    assert!(one.terminate().await.success());
    drop(two);
}

#[test]
fn the_exit_status_says_whether_anything_was_tried() {
    let status = |arguments: &[&str]| run(arguments).status.code();
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("Exit status: 0 if what was asked has happened; 1 if it has not"), "{help}");
    // What was typed, or set, is wrong.
    for arguments in [
        &["start", "--lanes", "0"][..],
        &["start", "--no-such-flag"],
        &["start", "--config", "/nowhere/rookery.toml"],
        &["config", "check", "--lanes", "0"],
        &["nodes", "--timeout-ms", "soon"],
        &["nodes"],
    ] {
        assert_eq!(status(arguments), Some(2), "{arguments:?}");
    }
    // It was tried.
    for arguments in [
        &["start", "--name", "one", "--identity", "/nowhere"][..],
        &["config", "check", "--name", "one", "--identity", "/nowhere"],
        &["nodes", "--identity", "/nowhere"],
    ] {
        assert_eq!(status(arguments), Some(1), "{arguments:?}");
    }
}

#[test]
fn the_demo_goes_as_it_should() {
    let output = run(&["demo"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    for step in
        ["mesh formed", "monitor fires", "link fires", "is back as incarnation", "dead for ever", "as it should"]
    {
        assert!(told.contains(step), "no `{step}` in: {told}");
    }
}
