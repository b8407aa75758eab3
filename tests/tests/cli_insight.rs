//! What the program shows of a cluster, as an operator types it: real processes, real exit statuses, real output.
#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.

use rookery_tests::{
    eventually,
    program::{Certificates, Cli, node},
};

/// Two nodes that know each other, and a client of the first.
async fn two_nodes(cluster: &str) -> (Certificates, Cli, Vec<rookery_tests::program::Program>) {
    let certificates = Certificates::new(cluster);
    let (one, connect) = node(&certificates, "one", &[]).await;
    let (two, _) = node(&certificates, "two", &["--peers", &connect]).await;
    let cli = Cli { connect, identity: certificates.client("ops").display().to_string() };
    eventually("both are listed", || cli.ok(&["nodes"]).contains("two")).await;
    (certificates, cli, vec![one, two])
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_listed_sorted_and_looked_at() {
    let (_certificates, cli, _nodes) = two_nodes("cli-ps").await;
    for _ in 0..3 {
        assert_eq!(cli.ok(&["call", "counter@two", "{\"Add\":5}"]), "null");
    }
    let listed = cli.json(&["ps", "--filter", "counter", "--sort", "handled", "--node", "two"]);
    let counter = &listed[0];
    assert_eq!((&counter["names"][0], &counter["state"]), (&"counter".into(), &"waiting".into()));
    assert!(counter["handled"].as_u64().unwrap() >= 3 && counter["memory_bytes"].as_u64().unwrap() > 0, "{counter}");
    let table = cli.ok(&["ps", "--sort", "age", "--limit", "1"]);
    assert!(table.contains("STATE") && table.contains("--limit shows more"), "{table}");
    assert_eq!(cli.output(&["ps", "--sort", "colour"]).status.code(), Some(2));

    let shown = cli.ok(&["inspect", "counter@two"]);
    for line in ["names         counter", "state         waiting", "messages      Counter", "links         1"] {
        assert!(shown.contains(line), "no `{line}` in: {shown}");
    }
    let details = cli.json(&["inspect", "counter@two"]);
    assert_eq!(details["info"]["pid"], counter["pid"]);
    assert_eq!(details["linked"][0], details["info"]["parent"], "with its supervisor");
    let pid = cli.ok(&["spawn", "counter"]);
    assert_eq!(cli.ok(&["kill", &pid]), format!("{pid} ended: killed"));
    assert!(cli.fails(&["inspect", &pid]).contains("there is no process"));
    assert!(cli.fails(&["inspect", "nobody@two"]).contains("no process has the name `nobody` on two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_groups_are_listed_with_where_they_are() {
    let (_certificates, cli, _nodes) = two_nodes("cli-names").await;
    let names = cli.json(&["names", "--filter", "counter"]);
    let of: Vec<_> = names.as_array().unwrap().iter().map(|name| name["node"].as_str().unwrap()).collect();
    assert_eq!(of, ["one", "two"]);
    let table = cli.ok(&["names", "--node", "two", "--limit", "1"]);
    assert!(table.contains("NAME") && table.contains("more; --limit shows them"), "{table}");
    assert_eq!(cli.json(&["groups"]), serde_json::json!([]));
    assert!(cli.fails(&["groups", "rooms"]).contains("the group rooms has no members"));
    assert_eq!(cli.output(&["groups", "a#b#c"]).status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn supervision_is_drawn_as_a_tree_across_nodes() {
    let (_certificates, cli, _nodes) = two_nodes("cli-tree").await;
    let spec = r#"{"children":[{"id":"near","behaviour":"counter"},
        {"id":"far","behaviour":"counter","placement":{"node":"two"}}]}"#;
    let top = cli.ok(&["spawn", "supervisor", spec, "--name", "top"]);
    let drawn = cli.ok(&["tree", "top"]);
    let lines: Vec<_> = drawn.lines().collect();
    assert_eq!(lines[0], format!("top  {top}"));
    assert!(lines[1].starts_with("├─ near  <one.") && lines[2].starts_with("└─ far  <two."), "{drawn}");

    let far = cli.json(&["tree", "top"])[0]["children"][1]["pid"].as_str().unwrap().to_owned();
    drop(cli.ok(&["kill", &far]));
    eventually("it is restarted", || cli.ok(&["tree", "top"]).contains("restarted once")).await;
    let all = cli.json(&["tree"]);
    let tops: Vec<_> = all.as_array().unwrap().iter().map(|tree| tree["id"].as_str().unwrap()).collect();
    assert_eq!(tops, ["rookery:boot", "top", "rookery:boot"]);
    assert_eq!(cli.json(&["tree", "--node", "two"]).as_array().unwrap().len(), 1);
    assert!(cli.fails(&["tree", "counter"]).contains("is no supervisor"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_suspended_on_any_node_by_who_may_end_it() {
    let (certificates, cli, _nodes) = two_nodes("cli-sys").await;
    let guest = Cli { identity: certificates.client("guest").display().to_string(), ..cli.clone() };
    for counter in ["counter", "counter@two"] {
        assert!(guest.fails(&["suspend", counter]).contains("does not let it suspend"));
        assert_eq!(cli.ok(&["call", counter, "{\"Add\":7}"]), "null");
        assert!(cli.ok(&["suspend", counter]).ends_with("suspended"));
        assert!(cli.fails(&["call", counter, "{\"Add\":1}", "--timeout-ms", "300"]).contains("no answer"));
        assert_eq!(cli.json(&["inspect", counter])["info"]["state"], "suspended");
        assert_eq!(guest.ok(&["state", counter]), "7", "what waits has not been handled");
        assert!(cli.ok(&["resume", counter]).ends_with("resumed"));
        assert_eq!(cli.json(&["state", counter])["state"], "8");
    }
    assert!(cli.fails(&["suspend", "rookery:node"]).contains("does not allow it"));
    let former = cli.fails(&["state", "<two.1.1>"]);
    assert!(former.contains("no such process"), "a pid of another life of its node: {former}");
}

/// The tests have no terminal: what a terminal shows is tested within the program.
#[tokio::test(flavor = "multi_thread")]
async fn top_prints_one_picture_where_there_is_no_terminal() {
    let (_certificates, cli, _nodes) = two_nodes("cli-top").await;
    let once = cli.ok(&["top", "--once", "--interval", "100", "--sort", "name"]);
    let lines: Vec<_> = once.lines().collect();
    assert!(lines[0].starts_with("rookery top  2 nodes"), "{once}");
    assert!(lines[1].starts_with("one [") && lines[2].starts_with("two ["), "{once}");
    assert!(lines[3].contains("NAMES↑") && lines[4].contains("counter"), "{once}");
    let output = cli.output(&["top", "--interval", "100", "--node", "two", "--filter", "echo"]);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.contains("no terminal here"), "{err}");
    assert!(out.starts_with("rookery top  1 nodes") && out.contains("1 with `echo`"), "{out}");
    let json = cli.json(&["top", "--interval", "100", "--limit", "2"]);
    assert_eq!((json["nodes"].as_array().unwrap().len(), json["processes"].as_array().unwrap().len()), (2, 4));
    assert!(cli.fails(&["top", "--once", "--node", "three"]).contains("up are: one, two"));
}
