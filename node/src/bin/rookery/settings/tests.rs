//! Tests of the settings as a whole: precedence, provenance, messages. Each goes through `load`, as `start` does,
//! with flags parsed by clap, an environment of its own and real files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use rookery_node::tls::{Authority, ClusterName, IssuedPem, Overwrite};
use tempfile::NamedTempFile;

use super::options::OPTIONS;
use super::reader::keys_in_order;
use super::*;
use crate::config_cmd::{ConfigCheckArgs, check};

const A_DAY: Duration = Duration::from_secs(86_400);

fn args(flags: &[&str]) -> SettingsArgs {
    let command = SettingsArgs::augment_args(Command::new("start").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).expect("the flags exist");
    SettingsArgs::from_arg_matches(&matches).expect("the flags are ours")
}

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Surroundings { variables, host_name: Some("Orders-0".to_owned()), cores: 3 }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Loads with flags, variables and a file.
fn try_load(flags: &[&str], variables: &[(&str, &str)], toml: &str) -> Result<Loaded, SettingsError> {
    let file = file(toml);
    let mut args = args(flags);
    args.config = Some(file.path().to_owned());
    load(&args, &surroundings(variables))
}

fn settings_of(flags: &[&str], variables: &[(&str, &str)], toml: &str) -> Settings {
    try_load(flags, variables, toml).unwrap_or_else(|error| panic!("{error}")).settings
}

fn problems_of(flags: &[&str], variables: &[(&str, &str)], toml: &str) -> Vec<String> {
    let error = try_load(flags, variables, toml).expect_err("the settings are wrong");
    error.problems.iter().map(ToString::to_string).collect()
}

/// The one problem there is, which must have all of `parts` in it.
#[track_caller]
fn one_problem(flags: &[&str], variables: &[(&str, &str)], toml: &str, parts: &[&str]) {
    let problems = problems_of(flags, variables, toml);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "`{part}` is not in: {}", problems[0]);
    }
}

fn origin_of(loaded: &Loaded, option: &str) -> String {
    loaded.rows.iter().find(|row| row.option == option).expect("a row").origin.to_string()
}

#[test]
fn table_of_options_agrees_with_itself() {
    for spec in OPTIONS {
        assert_eq!(spec.flag, spec.key.replace('_', "-"));
        assert_eq!(spec.variable, format!("ROOKERY_{}", spec.key.to_uppercase()));
        assert!(!spec.help.ends_with('.') && !spec.accepts.is_empty(), "{}", spec.key);
    }
}

#[test]
fn defaults_are_a_working_node() {
    let loaded = load(&args(&[]), &surroundings(&[])).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.name, "orders-0");
    assert_eq!(settings.cluster, None);
    assert_eq!(settings.listen.to_string(), "[::]:4370");
    assert_eq!(settings.boot, STOCK_BEHAVIOURS);
    assert_eq!(settings.worker_threads, 3);
    assert_eq!(settings.drain_timeout, Duration::from_secs(10));
    assert_eq!(settings.identity, IdentitySource::Directory(PathBuf::from("/etc/rookery/identity")));
    assert_eq!(settings.max_message_bytes, 16 << 20);
    assert_eq!(settings.outbound_budget_bytes, 8 << 20);
    assert_eq!(settings.lanes, 4);
    assert_eq!(settings.max_clients, 10_000);
    assert_eq!(settings.log.filter, "info");
    assert_eq!(settings.clients, []);
    assert_eq!(loaded.rows.iter().map(|row| row.option).collect::<Vec<_>>(), keys_in_order());
}

#[test]
fn flag_goes_over_variable_over_file_over_default() {
    let toml = "lanes = 5\npoll_min_ms = \"2s\"\nmax_clients = 7\n";
    let variables = [("ROOKERY_LANES", "6"), ("ROOKERY_MAX_CLIENTS", "8")];
    let loaded = try_load(&["--lanes", "7"], &variables, toml).unwrap();
    assert_eq!(loaded.settings.lanes, 7);
    assert_eq!(loaded.settings.max_clients, 8);
    assert_eq!(loaded.settings.poll_min, Duration::from_secs(2));
    assert_eq!(origin_of(&loaded, "lanes"), "flag --lanes");
    assert_eq!(origin_of(&loaded, "max_clients"), "variable ROOKERY_MAX_CLIENTS");
    assert!(origin_of(&loaded, "poll_min_ms").starts_with("file /"));
    assert!(origin_of(&loaded, "poll_min_ms").ends_with(", key poll_min_ms"));
    assert_eq!(origin_of(&loaded, "listen"), "default");
    assert_eq!(origin_of(&loaded, "name"), "default (the host name)");
}

#[test]
fn the_admin_port_is_needed_only_if_it_was_asked_for() {
    let admin =
        |flags: &[&str]| try_load(flags, &[], "").unwrap().settings.admin.map(|a| (a.address.to_string(), a.is_given));
    assert_eq!(admin(&[]), Some(("127.0.0.1:9470".to_owned(), false)));
    assert_eq!(admin(&["--admin", "127.0.0.1:9470"]), Some(("127.0.0.1:9470".to_owned(), true)));
    assert_eq!(admin(&["--admin", "none"]), None);
    let loaded = try_load(&["--admin", "none"], &[], "").unwrap();
    assert!(loaded.rows.iter().any(|row| row.option == "admin" && row.text == "none"));
    one_problem(&["--admin", "9470"], &[], "", &["admin:", "`9470`", "127.0.0.1:9470"]);
}

#[test]
fn every_option_can_be_set_in_every_way() {
    // One right value for each option, other than its default.
    let value = |key: &str| match key {
        "name" | "cluster" | "service" => "north",
        "listen" | "admin" => "127.0.0.1:1",
        "advertise" | "dns_server" | "peers" => "10.0.0.1",
        "dashboard" => "on",
        "boot" => "kv",
        "label" => "zone=a,disk=ssd",
        "worker_threads" | "lanes" | "max_clients" => "2",
        "poll_max_ms" | "idle_timeout_ms" => "9s",
        "down_after_ms" => "3s",
        key if key.ends_with("_ms") => "700",
        key if key.ends_with("_bytes") => "1MiB",
        "log" => "debug",
        "log_format" => "json",
        "log_color" => "never",
        "otlp_endpoint" => "http://collector:4318",
        "trace_ratio" => "0.25",
        _ => "/some/path",
    };
    // The three files go together, and without the directory.
    let others = |key: &str| -> Vec<&str> {
        let files = ["ca", "cert", "key"];
        if files.contains(&key) { files.into_iter().filter(|file| *file != key).collect() } else { Vec::new() }
    };
    for spec in OPTIONS {
        let also: Vec<String> = others(spec.key).iter().map(|file| format!("--{file}=/x")).collect();
        let also: Vec<&str> = also.iter().map(String::as_str).collect();
        let flag = format!("--{}={}", spec.flag, value(spec.key));
        let by_flag = try_load(&[also.clone(), vec![&flag]].concat(), &[], "").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(origin_of(&by_flag, spec.key), format!("flag --{}", spec.flag));
        let by_variable = try_load(&also, &[(spec.variable, value(spec.key))], "").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(origin_of(&by_variable, spec.key), format!("variable {}", spec.variable));
        let toml = format!("{} = \"{}\"", spec.key, value(spec.key));
        let by_file = try_load(&also, &[], &toml).unwrap_or_else(|e| panic!("{e}"));
        assert!(origin_of(&by_file, spec.key).ends_with(&format!("key {}", spec.key)));
        assert_eq!(by_flag.settings, by_variable.settings, "{}", spec.key);
        assert_eq!(by_flag.settings, by_file.settings, "{}", spec.key);
    }
}

#[test]
fn wrong_value_names_option_value_origin_and_what_is_accepted() {
    let accepted = "from 1 to 64";
    one_problem(&["--lanes", "65"], &[], "", &["lanes:", "`65`", "flag --lanes", "most, 64", accepted]);
    one_problem(&[], &[("ROOKERY_LANES", "many")], "", &["lanes:", "`many`", "variable ROOKERY_LANES", accepted]);
    one_problem(&[], &[], "lanes = 0", &["lanes:", "`0`", "from file /", "key lanes", "least, 1", accepted]);
    one_problem(&["--listen", "localhost:1"], &[], "", &["listen:", "`localhost:1`", "[::]:4370"]);
    one_problem(&["--max-message-bytes", "1 GiB"], &[], "", &["`1 GiB`", "most, 256 MiB", "16MiB"]);
    one_problem(&["--otlp-endpoint", "https://collector"], &[], "", &["otlp_endpoint:", "https is not spoken"]);
    one_problem(&[], &[], "trace_ratio = 1.5", &["trace_ratio:", "`1.5`", "not between 0 and 1", "such as 0.01"]);
    one_problem(&["--trace-ratio", "some"], &[], "", &["`some`", "is no number"]);
    one_problem(&["--log-format", "xml"], &[], "", &["`xml`", "auto, text or json"]);
    one_problem(&["--log", "info,a=loud"], &[], "", &["log:", "`info,a=loud`", "no filter", "debug"]);
    one_problem(&["--boot", "echo,countr"], &[], "", &["`countr`", "did you mean counter?"]);
    one_problem(&["--service", "_rookery._udp.orders"], &[], "", &["added by itself"]);
    one_problem(&["--cluster", "a.b"], &[], "", &["cluster:", "has a `.`"]);
}

#[test]
fn all_problems_are_told_at_once_even_without_a_readable_file() {
    let problems = load(&args(&["--config", "/no/such/file", "--lanes", "0", "--listen", "x"]), &surroundings(&[]))
        .unwrap_err()
        .problems;
    let options: Vec<&str> = problems.iter().map(|problem| problem.option.as_str()).collect();
    assert_eq!(options, ["config", "listen", "lanes"]);
    assert!(problems[0].to_string().contains("`/no/such/file` (from flag --config) cannot be read"), "{}", problems[0]);
}

#[test]
fn file_may_be_named_by_variable_and_its_syntax_error_has_a_line() {
    let wrong = file("lanes = 4\nlisten = [\n");
    let path = wrong.path().to_str().unwrap();
    let error = load(&args(&[]), &surroundings(&[("ROOKERY_CONFIG", path)])).unwrap_err().to_string();
    assert!(error.contains("variable ROOKERY_CONFIG") && error.contains("line 2"), "{error}");
}

#[test]
fn unknown_key_suggests_the_nearest() {
    one_problem(&[], &[], "listn = \"[::]:1\"", &["listn:", "file /", "is no option", "did you mean listen?"]);
    one_problem(&[], &[], "[replicas]\nx = 1", &["replicas:", "is no option", "accepted: name, cluster"]);
}

#[test]
fn idle_timeout_holds_three_keep_alives_and_polls_are_in_order() {
    one_problem(
        &["--keep-alive-ms", "6s"],
        &[],
        "",
        &["idle_timeout_ms:", "`15000`", "3 times keep_alive_ms, 18000 ms"],
    );
    one_problem(&["--poll-max-ms", "900"], &[], "", &["poll_max_ms:", "below poll_min_ms, 1000 ms"]);
    let settings = settings_of(&["--keep-alive-ms", "2s", "--idle-timeout-ms", "6s"], &[], "");
    assert_eq!(settings.idle_timeout, 3 * settings.keep_alive);
}

#[test]
fn a_silent_node_is_suspected_then_down_and_others_are_asked_between() {
    let settings = settings_of(&[], &[], "");
    assert_eq!((settings.suspect_after, settings.down_after), (Duration::from_millis(600), Duration::from_secs(2)));
    one_problem(&["--suspect-after-ms", "299"], &[], "", &["suspect_after_ms:", "least, 300 ms", "from 300ms to 1m"]);
    one_problem(&[], &[], "down_after_ms = 1199", &["down_after_ms:", "2 times suspect_after_ms, 1200 ms"]);
    one_problem(
        &["--down-after-ms", "5s"],
        &[],
        "idle_timeout_ms = 5000",
        &["down_after_ms:", "idle_timeout_ms, 5000 ms"],
    );
    let settings = settings_of(&["--suspect-after-ms", "300", "--down-after-ms", "600"], &[], "");
    assert_eq!((settings.suspect_after, settings.down_after), (Duration::from_millis(300), Duration::from_millis(600)));
}

#[test]
fn identity_is_a_directory_or_three_files() {
    let files = ["--ca", "a", "--cert", "b", "--key", "c"];
    let three = IdentitySource::Files { ca: "a".into(), cert: "b".into(), key: "c".into() };
    assert_eq!(settings_of(&files, &[], "").identity, three);
    // A higher layer wins over a lower one, either way.
    assert_eq!(settings_of(&files, &[("ROOKERY_IDENTITY", "d")], "").identity, three);
    let variables = [("ROOKERY_CA", "a"), ("ROOKERY_CERT", "b"), ("ROOKERY_KEY", "c")];
    assert_eq!(settings_of(&["--identity", "d"], &variables, "").identity, IdentitySource::Directory("d".into()));
    one_problem(&["--ca", "a", "--cert", "b"], &[], "", &["key:", "go together"]);
    one_problem(&[&files[..], &["--identity", "d"]].concat(), &[], "", &["identity:", "`d`", "contradicts"]);
}

#[test]
fn rust_log_counts_only_below_our_own_flag_and_variable() {
    let rust_log = ("RUST_LOG", "trace");
    assert_eq!(settings_of(&[], &[rust_log], "log = \"warn\"").log.filter, "trace");
    assert_eq!(settings_of(&[], &[rust_log, ("ROOKERY_LOG", "debug")], "").log.filter, "debug");
    assert_eq!(settings_of(&["--log", "error"], &[rust_log], "").log.filter, "error");
    one_problem(&[], &[("RUST_LOG", "a=loud")], "", &["log:", "variable RUST_LOG"]);
}

#[test]
fn lists_come_from_repeated_flags_commas_or_toml() {
    let by_flags = settings_of(&["--peers", "a", "--peers", "b:1"], &[], "");
    let by_commas = settings_of(&["--peers", "a, b:1"], &[], "");
    let by_file = settings_of(&[], &[], "peers = [\"a\", \"b:1\"]");
    assert_eq!(by_flags.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:4370", "b:1"]);
    assert_eq!(by_flags, by_commas);
    assert_eq!(by_flags, by_file);
    assert!(settings_of(&["--boot", "none"], &[], "").boot.is_empty());
}

#[test]
fn empty_variable_counts_as_not_set() {
    assert_eq!(settings_of(&[], &[("ROOKERY_SERVICE", ""), ("ROOKERY_NAME", "")], "").name, "orders-0");
}

#[test]
fn no_host_name_and_no_name_is_a_problem_that_says_so() {
    let nameless = Surroundings { variables: Vec::new(), host_name: None, cores: 1 };
    let error = load(&args(&[]), &nameless).unwrap_err().to_string();
    assert!(error.contains("name: (from default (the host name)) is not given"), "{error}");
}

#[test]
fn misspelt_variable_is_a_warning_and_kubernetes_own_are_not() {
    let variables = [
        ("ROOKERY_LISTN", "x"),
        ("ROOKERY_SERVICE_HOST", "10.0.0.1"),
        ("ROOKERY_PORT_4370_UDP_ADDR", "10.0.0.1"),
        ("ROOKERY_CONNECT", "a"),
    ];
    let warnings = try_load(&[], &variables, "").unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("ROOKERY_LISTN") && warnings[0].contains("ROOKERY_LISTEN"));
}

#[test]
fn first_client_table_that_fits_decides_and_what_it_leaves_out_is_the_default() {
    let toml = r#"
        [[client]]
        name = "ops-*"
        spawn = ["*"]
        exit = true
        [[client]]
        name = "*"
        send = []
        monitor = false
    "#;
    let settings = settings_of(&[], &[], toml);
    let ops = &settings.clients[0];
    assert!(ops.exit && ops.monitor && !ops.link);
    assert!(ops.spawn[0].as_str() == "*" && ops.send[0].as_str() == "*" && ops.register.is_empty());
    let others = &settings.clients[1];
    assert!(others.send.is_empty() && !others.monitor && !others.exit);
}

#[test]
fn wrong_client_tables_are_told_by_path() {
    one_problem(&[], &[], "[[client]]\nsend = [\"*\"]", &["client[0].name:", "is missing"]);
    one_problem(&[], &[], "[client]\nname = \"a\"", &["client:", "[[client]]"]);
    let two = "[[client]]\nname = \"a\"\n[[client]]\nname = \"b\"\n";
    one_problem(&[], &[], &format!("{two}spwan = []"), &["client[1].spwan:", "did you mean spawn?", "key client[1]"]);
    one_problem(&[], &[], &format!("{two}link = \"yes\""), &["client[1].link:", "`yes`", "true or false"]);
    one_problem(&[], &[], &format!("{two}send = [\"\"]"), &["client[1].send:", "is empty"]);
}

const TREE: &str = r#"
    [[supervisor]]
    name = "orders"
    cluster = true
    strategy = "rest_for_one"
    intensity = 5
    period_ms = "10s"
    auto_shutdown = "any_significant"
    [[supervisor.children]]
    id = "east"
    behaviour = "counter"
    arguments = 7
    name = "east-counter"
    cluster_name = "east"
    groups = ["counters", "shop#all"]
    restart = "transient"
    shutdown = "500ms"
    placement = { label = { zone = "east" } }
    significant = true
    [[supervisor.children]]
    id = "books"
    placement = "spread"
    [[supervisor.children.children]]
    id = "ledger"
    behaviour = "kv"
    shutdown = "kill"
"#;

#[test]
fn trees_are_read_as_messages_say_them() {
    let settings = settings_of(&[], &[], TREE);
    let expected = r#"{
        "strategy": "rest_for_one", "intensity": 5, "period_ms": 10000, "auto_shutdown": "any_significant",
        "children": [
            {"id": "east", "behaviour": "counter", "arguments": 7, "name": "east-counter", "cluster_name": "east",
             "groups": ["counters", "shop#all"], "restart": "transient",
             "shutdown": {"within": 500}, "placement": {"label": {"zone": "east"}}, "significant": true},
            {"id": "books", "behaviour": "supervisor", "placement": "spread", "type": "supervisor", "arguments":
                {"strategy": "one_for_one", "intensity": null, "period_ms": null, "auto_shutdown": "never", "children":
                    [{"id": "ledger", "behaviour": "kv", "arguments": null, "name": null, "cluster_name": null, "groups": [],
                      "restart": "permanent", "shutdown": "kill", "placement": "here", "significant": false, "type": null}]}}
        ]}"#;
    assert_eq!(settings.trees.len(), 1);
    assert_eq!((settings.trees[0].name.as_str(), settings.trees[0].cluster), ("orders", true));
    assert_eq!(settings.trees[0].data, serde_json::from_str(expected).unwrap());
}

#[test]
fn wrong_trees_are_told_by_path_value_and_what_is_accepted() {
    one_problem(&[], &[], "[[supervisor]]", &["supervisor[0].name:", "is missing"]);
    one_problem(&[], &[], "[supervisor]\nname = \"a\"", &["supervisor:", "[[supervisor]]"]);
    let wrong = |from: &str, to: &str, parts: &[&str]| one_problem(&[], &[], &TREE.replace(from, to), parts);
    wrong("rest_for_one", "rest_for_all", &["supervisor[0].strategy:", "`rest_for_all`", "rest_for_one"]);
    wrong("[\"counters\", \"shop#all\"]", "[\"a#b#c\"]", &["children[0].groups:", "a#b#c", "chat#rooms"]);
    wrong("\"east\"\n    groups", "\"ea st\"\n    groups", &["children[0].cluster_name:", "ea st"]);
    wrong("intensity = 5", "intensity = -1", &["supervisor[0].intensity:", "`-1`", "from 0"]);
    wrong("cluster = true", "cluster = \"yes\"", &["supervisor[0].cluster:", "`yes`", "true or false"]);
    wrong("\"10s\"", "\"10 fortnights\"", &["supervisor[0].period_ms:", "fortnights", "5s"]);
    wrong("id = \"east\"", "", &["supervisor[0].children[0].id:", "is missing"]);
    wrong("id = \"books\"", "id = \"east\"", &["supervisor[0].children[1].id:", "used twice"]);
    wrong("\"transient\"", "\"always\"", &["children[0].restart:", "`always`", "permanent, transient, temporary"]);
    wrong("\"transient\"", "\"permanent\"", &["children[0].significant:", "`true`", "transient or temporary"]);
    wrong("\"any_significant\"", "\"never\"", &["children[0].significant:", "auto_shutdown"]);
    wrong("\"500ms\"", "\"soon\"", &["children[0].shutdown:", "`soon`", "kill, forever"]);
    wrong("{ label =", "{ lable =", &["children[0].placement:", "{ label = { zone"]);
    wrong("\"spread\"", "\"sprad\"", &["children[1].placement:", "`sprad`", "least_loaded"]);
    wrong("\"kv\"", "\"kw\"", &["supervisor[0].children[1].children[0].behaviour:", "`kw`", "did you mean kv?"]);
    wrong("shutdown = \"kill\"", "shutdwn = 1", &["children[0].shutdwn:", "did you mean shutdown?"]);
    let dynamic = "[[supervisor]]\nname = \"a\"\nstrategy = \"simple_one_for_one\"";
    one_problem(&[], &[], dynamic, &["supervisor[0].children:", "the template"]);
}

#[test]
fn labels_are_names_and_values_each_once() {
    let labels = settings_of(&["--label", "zone=a", "--label", "disk=ssd"], &[], "").labels;
    assert_eq!(labels, settings_of(&[], &[], "label = [\"disk=ssd\", \"zone=a\"]").labels);
    assert_eq!(labels.get("zone").map(String::as_str), Some("a"));
    one_problem(&["--label", "zone"], &[], "", &["label:", "`zone`", "NAME=VALUE"]);
    one_problem(&["--label", "zone=a,zone=b"], &[], "", &["label:", "`zone` twice"]);
}

#[test]
fn help_tells_default_and_variable_of_every_option() {
    let help = SettingsArgs::augment_args(Command::new("start")).term_width(1_000).render_help().to_string();
    for spec in OPTIONS {
        let line = help.lines().find(|line| line.contains(&format!("--{} <", spec.flag))).expect(spec.key);
        assert!(line.contains(&format!("[default: {}]", spec.default.describe())), "{line}");
        assert!(line.contains(&format!("[env: {}]", spec.variable)), "{line}");
    }
    assert!(help.contains("ROOKERY_CONFIG"));
}

/// A directory with an identity that was issued by `issue`.
fn identity(issue: impl FnOnce(&Authority) -> IssuedPem) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(&ClusterName::try_from("shop").unwrap()).unwrap();
    issue(&authority).write_to(dir.path(), Overwrite::Force).unwrap();
    dir
}

fn run_check(flags: &[&str], json: bool) -> (u8, String, String) {
    let args = ConfigCheckArgs { settings: args(flags), json };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = check(&args, &surroundings(&[]), &mut out, &mut err).unwrap();
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn config_check_prints_an_aligned_table_and_the_certificate() {
    let dir = identity(|authority| authority.issue_node("orders-0", &[], A_DAY).unwrap());
    let (status, out, err) = run_check(&["--lanes", "8", "--identity", dir.path().to_str().unwrap()], false);
    assert!(status == 0 && err.is_empty(), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    let column = lines[0].find("SOURCE").unwrap();
    let lanes = lines.iter().find(|line| line.starts_with("lanes ")).unwrap();
    assert_eq!(&lanes[column..], "flag --lanes");
    assert!(out.contains("16 MiB"));
    assert_eq!(lines.len(), keys_in_order().len() + 3);
    assert!(lines[lines.len() - 1].starts_with("Certificate: node of cluster \"shop\" (orders-0, "), "{out}");
}

#[test]
fn config_check_json_has_values_and_sources_or_all_problems() {
    let dir = identity(|authority| authority.issue_node("orders-0", &[], A_DAY).unwrap());
    let (status, out, _) = run_check(&["--lanes", "8", "--identity", dir.path().to_str().unwrap()], true);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(status == 0 && report["ok"] == true);
    assert_eq!(report["settings"]["lanes"], serde_json::json!({ "value": 8, "source": "flag --lanes" }));
    assert_eq!(report["settings"]["max_message_bytes"]["value"], 16 << 20);
    assert_eq!(report["settings"]["service"]["value"], serde_json::Value::Null);
    assert!(report["certificate"].as_str().unwrap().contains("orders-0"));

    let (status, out, err) = run_check(&["--lanes", "0", "--listen", "x"], true);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(status == 2 && report["ok"] == false && err.is_empty());
    assert_eq!(report["problems"].as_array().unwrap().len(), 2);

    let (status, out, err) = run_check(&["--lanes", "0"], false);
    assert!(status == 2 && out.is_empty() && err.contains("1 problem in the settings"), "{err}");
}

#[test]
fn config_check_says_of_the_identity_what_start_would() {
    let of_client = identity(|authority| authority.issue_client("eve", A_DAY).unwrap());
    let of_another = identity(|authority| authority.issue_node("orders-1", &[], A_DAY).unwrap());
    let of_orders = identity(|authority| authority.issue_node("orders-0", &[], A_DAY).unwrap());
    let nothing = tempfile::tempdir().unwrap();
    let expired = identity(|authority| authority.issue_node("orders-0", &[], Duration::from_secs(1)).unwrap());
    let in_vain = [
        (&nothing, &[][..], "holds neither cert.pem nor tls.crt"),
        (&of_client, &[], "is of the client \"eve\""),
        (&of_another, &[], "is for orders-1, not for a node named `orders-0`"),
        (&of_orders, &["--cluster", "mint"], "is of cluster `shop`, but --cluster says `mint`"),
    ];
    for (dir, more, says) in in_vain {
        let flags = [&["--identity", dir.path().to_str().unwrap()], more].concat();
        let (status, out, err) = run_check(&flags, false);
        assert!(status == 1 && out.contains("SOURCE") && err.contains(says), "{says}: {err}");
        let (status, out, _) = run_check(&flags, true);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(status == 1 && report["ok"] == false, "{report}");
        assert!(report["problems"][0]["message"].as_str().unwrap().contains(says), "{report}");
    }
    let flags = ["--identity", expired.path().to_str().unwrap()];
    let start = std::time::Instant::now();
    while run_check(&flags, false).0 == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "it does not expire");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(run_check(&flags, false).2.contains("expired at"));
}
