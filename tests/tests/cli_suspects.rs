//! What an operator sees of a node that is silent, and how long it is waited for: `rookery nodes`, and the detector's settings.
#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.

use rookery_tests::{
    eventually,
    program::{Certificates, Cli, Program, node},
};

/// Three nodes that know each other, and a client of the first.
async fn three_nodes(cluster: &str, more: &[&str]) -> (Certificates, Cli, Vec<Program>) {
    let certificates = Certificates::new(cluster);
    let (mut programs, mut first) = (Vec::new(), String::new());
    for name in ["one", "two", "three"] {
        let peers: &[&str] = if first.is_empty() { &[] } else { &["--peers", &first] };
        let (program, address) = node(&certificates, name, &[peers, more, &["--boot", "none"]].concat()).await;
        programs.push(program);
        if first.is_empty() {
            first = address;
        }
    }
    let meshed = || programs.iter().all(|program| program.log().matches("node up").count() == 2);
    eventually("the mesh has formed", meshed).await;
    let identity = certificates.client("ops").display().to_string();
    (certificates, Cli { connect: first, identity }, programs)
}

/// The row of a node in the table of nodes; the command may fail, since one does not answer.
fn row(cli: &Cli, name: &str) -> String {
    let output = cli.output(&["nodes", "--timeout-ms", "1000"]);
    let table = String::from_utf8(output.stdout).unwrap();
    table.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_silent_node_is_listed_as_a_suspect_until_it_is_heard_again() {
    let patient = ["--down-after-ms", "60s", "--idle-timeout-ms", "90s"];
    let (_certificates, cli, programs) = three_nodes("cli-suspects", &patient).await;
    assert!(row(&cli, "two").contains("  up  "), "{}", row(&cli, "two"));
    programs[1].signal("STOP");
    let mut seen = String::new();
    eventually("it is listed as a suspect", || {
        seen = row(&cli, "two");
        seen.contains("  suspect, silent ")
    })
    .await;
    // What is known without its answer stands there, and what is not is left out.
    assert!(seen.contains("127.0.0.1:") && !seen.contains("0.1.0"), "{seen}");
    assert!(row(&cli, "three").contains("  up  ") && row(&cli, "one").contains("  up  "));
    let json = cli.output(&["nodes", "--timeout-ms", "1000", "--json"]).stdout;
    let infos: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let one = infos.as_array().unwrap().iter().find(|info| info["node"].as_str().unwrap().starts_with("one.")).unwrap();
    let silent = |name: &str| {
        let peers = one["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["node"].as_str().unwrap().starts_with(name)).unwrap();
        peer["silent_ms"].as_u64()
    };
    assert!(silent("two.").unwrap() >= 600 && silent("three.").is_none(), "{infos}");
    programs[1].signal("CONT");
    eventually("it is up again", || row(&cli, "two").contains("  up  ")).await;
    assert!(programs.iter().all(|program| !program.log().contains("node down")), "nobody was declared down");
}

#[tokio::test]
async fn a_hung_node_is_down_after_the_time_that_is_set() {
    let (_certificates, _cli, programs) =
        three_nodes("cli-down-after", &["--suspect-after-ms", "300", "--down-after-ms", "700"]).await;
    programs[1].signal("STOP");
    let mut ms = 0;
    eventually("it is down", || {
        let log = programs[0].log();
        let silent = log.split_once("silent for ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
        ms = silent.unwrap_or_default();
        ms > 0
    })
    .await;
    // By default it would be two seconds.
    assert!((700..1_700).contains(&ms), "{ms} ms");
}
