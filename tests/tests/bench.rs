//! `rookery bench` as a program that others read: the names of its cases and metrics, well-formed lines, no process left
//! behind; and `tests/bench/compare`, which makes a table of such lines, with stand-ins for what it measures. Figures are
//! not judged here.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // A test may stop where it fails.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rookery_tests::program::{rookery, run};
use serde_json::Value;

/// Cases that are measured here, and some of what each promises to tell.
const PROMISED: [(&str, &[&str]); 3] = [
    ("local-call", &["calls_per_s.1caller", "cpu_s_per_million.1caller"]),
    (
        "rtt",
        &[
            "rtt_p50_us.1pair",
            "rtt_p99_us.64pairs",
            "rtt_p999_us.1pair",
            "round_trips_per_s.64pairs",
            "cpu_s_per_million.1pair",
        ],
    ),
    (
        "throughput",
        &["msg_per_s.1to1.16B", "msg_per_s.64to64.16B", "msg_per_s.64to64.1024B", "cpu_s_per_million.64to64.16B"],
    ),
];

/// Every case, by the name that scripts know it by.
const CASES: [&str; 22] = [
    "local-send",
    "local-call",
    "local-pingpong",
    "ring",
    "spawn",
    "idle-memory",
    "restart",
    "rtt",
    "throughput",
    "bulk",
    "hol",
    "remote-call",
    "remote-spawn",
    "monitor-down",
    "names",
    "groups",
    "fanout",
    "nodedown",
    "mesh",
    "client-rtt",
    "client-throughput",
    "bare-quinn",
];

/// The first words of the lines of a list.
fn first_words(list: &str) -> BTreeSet<&str> {
    list.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn the_list_names_each_case_and_says_what_it_is() {
    let output = run(&["bench", "--list"]);
    assert!(output.status.success(), "{output:?}");
    let list = String::from_utf8(output.stdout).unwrap();
    assert_eq!(first_words(&list), BTreeSet::from(CASES), "{list}");
    assert!(list.lines().all(|line| line.split_whitespace().count() > 3), "a case does not say what it is: {list}");
}

#[test]
fn what_is_no_case_is_misuse() {
    let output = run(&["bench", "no-such-case"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_line_of_json_tells_each_metric_under_its_promised_name() {
    let cases = PROMISED.map(|(case, _)| case);
    let output = run(&[&["bench", "--quick", "--json"][..], &cases].concat());
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(json).collect();
    let (machine, figures) = lines.split_first().unwrap();
    for field in ["cpu", "cores", "memory_gib", "kernel", "build", "version"] {
        assert!(!machine["machine"][field].is_null(), "the machine's {field} is not told: {machine}");
    }
    for figure in figures {
        let number = |field: &str| figure[field].as_f64().unwrap();
        assert!(figure["unit"].is_string(), "{figure}");
        assert!(number("min") <= number("value") && number("value") <= number("max"), "{figure}");
        assert!(number("min") >= 0.0 && number("n") >= 1.0, "{figure}");
    }
    for (case, metrics) in PROMISED {
        for metric in metrics {
            let told = figures.iter().filter(|figure| figure["case"] == case && figure["metric"] == *metric).count();
            assert_eq!(told, 1, "{case} tells {metric} once");
        }
    }
}

fn json(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
}

/// Processes of the operating system that `parent` has started and that have not ended.
fn children(parent: u32) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let is_child = |process: &Path| {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().take(2).collect();
        fields.len() == 2 && fields[0] != "Z" && fields[1] == parent.to_string()
    };
    processes.filter(|process| is_child(process)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_of_a_bench_end_with_it_even_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("stderr");
    let mut bench = Command::new(rookery())
        .args(["bench", "rtt", "--seconds", "600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    // Not before: a node that still has something to say to the bench would end for want of a listener.
    rookery_tests::eventually("the bench measures", || fs::read_to_string(&said).unwrap().contains("1pair")).await;
    let nodes = children(bench.id());
    assert_eq!(nodes.len(), 1, "a bench between two nodes starts one");
    bench.kill().unwrap();
    bench.wait().unwrap();
    rookery_tests::eventually("its node has ended", || {
        nodes.iter().all(|node| fs::read_to_string(node.join("cmdline")).unwrap_or_default().is_empty())
    })
    .await;
}

/// `tests/bench/compare`, with programs that print what they are told to instead of measuring.
struct Comparison {
    dir: tempfile::TempDir,
}

impl Comparison {
    /// `None`, and a word of it, where there is no Python to run it.
    fn new() -> Option<Self> {
        if Command::new("python3").arg("--version").output().is_err() {
            let said = writeln!(std::io::stderr(), "SKIPPED: tests/bench/compare is not tested: there is no python3");
            said.unwrap();
            return None;
        }
        Some(Self { dir: tempfile::tempdir().unwrap() })
    }

    /// Makes a program of this shell script.
    fn program(&self, name: &str, script: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/compare");
        let Output { status, stdout, stderr } = Command::new("python3")
            .arg(script)
            .args(arguments)
            .env_remove("ROOKERY_ERLANG_BENCH")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }
}

const ROOKERY: &str = r#"
case "$2" in
--list) echo "rtt  Round trips"; exit ;;
esac
echo '{"machine":{"cpu":"Abacus","cores":2,"memory_gib":1,"kernel":"6.1","build":"release","version":"9.9.9"}}'
echo '{"case":"rtt","metric":"rtt_p50_us.1pair","value":60.0,"unit":"µs","min":50.0,"max":70.0,"n":3}'
echo '{"case":"rtt","metric":"round_trips_per_s.64pairs","value":150000.0,"unit":"/s","min":1.0,"max":2e5,"n":3}'
"#;

const ERLANG: &str = r#"
test "$1 $3" = "one rtt" || exit 1
case "$2" in tcp) p50=40 rate=60000 ;; tls) p50=120 rate=100000 ;; esac
echo '# a remark, and what is no figure:'
echo 'ERROR something'
echo "$2.rtt16_p50 $p50 us # min=1 max=2 n=3"
echo "$2.pingpong.64pairs $rate roundtrips/s # min=1 max=2 n=3"
"#;

#[test]
fn a_comparison_has_rows_of_cases_that_there_are() {
    let Some(compare) = Comparison::new() else { return };
    let (status, rows, said) = compare.run(&["--list"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(first_words(&rows).is_subset(&BTreeSet::from(CASES)), "{rows}");
    let (status, _, said) = compare.run(&["no-such-case"]);
    assert!(status == Some(2) && said.contains("throughput"), "{said}");
}

#[test]
fn a_comparison_tells_each_figure_the_ratio_and_whether_it_is_what_it_must_be() {
    let Some(compare) = Comparison::new() else { return };
    let (ours, theirs) = (compare.program("rookery", ROOKERY), compare.program("erlang", ERLANG));
    let (status, table, said) = compare.run(&["--rookery", &ours, "--erlang", &theirs, "--rounds", "2", "rtt"]);
    assert!(table.contains("Abacus, 2 cores") && table.contains("rookery 9.9.9 (release)"), "{table}{said}");
    let rate = "| rtt: 16 B, 64 pairs, round trips/s | 60 k | 100 k |  | 150 k | 1.5 | ≥ 1.5 × Erlang ✓ |";
    assert!(table.contains(rate), "{table}{said}");
    // The stand-in has no case that measures bare quinn: one ratio is not known, and that is no success.
    let latency = "| 40 | 120 | – | 60 | 0.5, – | ≤ 0.75 × TLS ✓, ≤ 1.4 × bare quinn |";
    assert!(table.contains(latency), "{table}{said}");
    assert!(said.contains("not all of `rtt: 16 B, 1 pair, p50, µs` was measured"), "{said}");
    assert_eq!(status, Some(1), "{said}");
}

#[test]
fn a_comparison_goes_on_without_a_figure_and_says_which() {
    let Some(compare) = Comparison::new() else { return };
    let (ours, theirs) = (compare.program("rookery", ROOKERY), compare.program("erlang", "exit 3"));
    let (status, table, said) = compare.run(&["--rookery", &ours, "--erlang", &theirs, "rtt"]);
    assert!(table.contains("| – | – |  | 150 k | – | ≥ 1.5 × Erlang |"), "{table}{said}");
    assert!(said.contains("ended with status 3"), "{said}");
    assert_eq!(status, Some(1), "{said}");
}

#[test]
fn a_comparison_without_erlang_says_what_to_set_and_tries_nothing() {
    let Some(compare) = Comparison::new() else { return };
    let ours = compare.program("rookery", ROOKERY);
    let (status, table, said) = compare.run(&["--rookery", &ours, "rtt"]);
    assert_eq!((status, table.as_str()), (Some(2), ""), "{said}");
    assert!(said.contains("ROOKERY_ERLANG_BENCH"), "{said}");
    let (status, _, said) = compare.run(&["--rookery", &ours, "--erlang", "/nowhere/run.sh", "rtt"]);
    assert!(status == Some(2) && said.contains("/nowhere/run.sh"), "{said}");
}
