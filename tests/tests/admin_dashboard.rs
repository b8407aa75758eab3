//! The dashboard of the admin port, asked as a browser does: what each page shows of a cluster, to whom it is shown, and that whatever
//! comes from elsewhere stays text.

// Whatever fails here fails the test, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    time::{Duration, Instant},
};

use rookery_node::{
    AdminConfig, Node,
    admin::dashboard::{DashboardConfig, Reach},
    supervise::{ChildId, ChildSpec, ChildStart, Placement, Strategy, Supervisor, SupervisorSpec},
};
use rookery_runtime::{Context, Group, ReplyTo, SpawnOptions, Start};
use rookery_tests::{
    DEADLINE,
    cluster::{mesh, node_config},
    eventually,
    http::{Answer, get, request},
    program::{Certificates, Program, node},
};

const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Every page, and what it is asked.
const PAGES: [&str; 8] =
    ["", "node?name=node-0", "processes", "process?pid=x", "trees", "names", "groups", "group?name=desks"];

/// Nodes, of which each has an admin port.
async fn watched(count: usize) -> Vec<Node> {
    mesh(count, |config| config.admin = Some(AdminConfig::new(FREE_PORT))).await
}

async fn page(node: &Node, page: &str) -> Answer {
    get(node.admin_address().unwrap(), &format!("/dashboard/{page}")).await
}

/// Asks until the page has all of `texts`: a page is kept for a moment.
async fn until(node: &Node, path: &str, texts: &[&str]) -> String {
    let start = Instant::now();
    loop {
        let answer = page(node, path).await;
        if answer.status == 200 && texts.iter().all(|text| answer.body.contains(text)) {
            return answer.body;
        }
        assert!(start.elapsed() < DEADLINE, "{path} does not come to have {texts:?}: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn with(admin: SocketAddr, host: &str, more: &str) -> Answer {
    request(admin, &format!("GET /dashboard/ HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")).await
}

fn child(id: &str, node: &str) -> ChildSpec {
    let start = Start::new("counter".parse().unwrap(), &0_i64).unwrap().join(Group::new("desks").unwrap());
    let place = Placement::Node(node.parse().unwrap());
    ChildSpec::new(ChildId::new(id).unwrap(), ChildStart::Behaviour { start, placement: place })
}

#[tokio::test]
async fn the_pages_show_the_cluster_across_its_nodes() {
    let nodes = watched(3).await;
    let mut spec = SupervisorSpec::new(Strategy::OneForOne).name("shop".parse().unwrap());
    spec.children = vec![child("desk-1", "node-1"), child("desk-2", "node-2")];
    Supervisor::start(&nodes[0], spec).await.unwrap();
    let named = nodes[2].spawn(async |mut context: Context<()>| while context.message().await.is_some() {}).unwrap();
    let named = named.pid().unwrap();
    nodes[2].register_in_cluster(&"till".parse().unwrap(), &named).await.unwrap();

    let overview =
        until(&nodes[0], "", &["node-0", "node-1", "node-2", "<svg", "class=\"matrix\"", "state good\">up"]).await;
    assert_eq!(overview.matches("scope=\"row\"").count(), 6, "three nodes, and a row of links each: {overview}");
    let matrix = overview.split_once("class=\"matrix\"").unwrap().1;
    assert_eq!(matrix.matches(" ms</td>").count() + matrix.matches(" µs</td>").count(), 6, "{matrix}");
    let trees = until(&nodes[1], "trees", &["shop", "desk-1", "desk-2"]).await;
    let (desk, _) = trees.split_once("desk-2").unwrap().1.split_once("</li>").unwrap();
    assert!(desk.contains("&lt;node-2."), "{desk}");
    let pid = desk.split_once("process?pid=").unwrap().1.split_once('"').unwrap().0;
    until(&nodes[1], &format!("process?pid={pid}"), &["Counter", "desks", "Started by", "Links"]).await;
    until(&nodes[0], "names", &["till", "On node-2"]).await;
    until(&nodes[0], "groups", &["desks", "node-1 1, node-2 1", "group?name=desks"]).await;
    until(&nodes[0], "group?name=desks", &["Members: 2", "&lt;node-1.", "&lt;node-2."]).await;
    until(&nodes[0], "node?name=node-1", &["node-0", "node-2", "Round trip", "counter"]).await;
    page(&nodes[0], "node?name=nobody").await.has(200, &["No node `nobody` is up"]);
    page(&nodes[0], "process?pid=nonsense").await.has(200, &["`nonsense` is no pid"]);
    page(&nodes[0], "nothing").await.has(404, &["/dashboard/"]);
    let moved = get(nodes[0].admin_address().unwrap(), "/dashboard").await;
    assert!(moved.status == 302 && moved.head.contains("location: dashboard/"), "{}", moved.head);
}

#[tokio::test]
async fn processes_are_sorted_filtered_and_in_pages_of_a_hundred() {
    let nodes = watched(2).await;
    let mut idle = Vec::new();
    for _ in 0..250 {
        let options = SpawnOptions::new().label("idler");
        let spawned = nodes[1].spawn_with(options, async |_: Context<()>| std::future::pending::<()>().await).unwrap();
        idle.push(spawned.address);
    }
    for _ in 0..3 {
        idle[200].send(()).await.unwrap();
    }
    let busy = idle[200].pid().unwrap().to_string().replace('<', "&lt;").replace('>', "&gt;");
    let first = until(&nodes[0], "processes?filter=idler", &["1–100 of 250", "rel=\"next\"", &busy]).await;
    let row = first.split_once("<tbody>").unwrap().1.split_once("</tr>").unwrap().0;
    assert!(row.contains(&busy) && row.contains("waits\">3<"), "the longest mailbox is first: {row}");
    assert_eq!(first.matches("scope=\"row\"").count(), 100);
    let last = until(&nodes[0], "processes?filter=idler&page=2", &["201–250 of 250", "rel=\"prev\""]).await;
    assert!(!last.contains("rel=\"next\"") && !last.contains(&busy));
    let reversed = until(&nodes[0], "processes?filter=idler&sort=mailbox&reverse=1&page=2", &["ascending"]).await;
    assert!(reversed.contains(&busy), "the other way round it is the last");
    let others = until(&nodes[0], "processes?node=node-0", &["option selected>node-0"]).await;
    assert!(others.contains("&lt;node-0.") && !others.contains("&lt;node-1."), "{others}");
}

#[tokio::test]
async fn charts_follow_what_the_node_does() {
    let nodes = watched(1).await;
    let echo = nodes[0].spawn(async |mut context: Context<ReplyTo<u64>>| {
        while let Some(reply) = context.message().await {
            reply.answer(1);
        }
    });
    let echo = echo.unwrap();
    let start = Instant::now();
    loop {
        for _ in 0..50 {
            echo.call(|reply| reply).await.unwrap();
        }
        let body = page(&nodes[0], "").await.body;
        let line = body.split_once("Calls in the last").unwrap().1.split_once("line-2\" d=\"").unwrap().1;
        // A point above the ground.
        let points = line.split_once('"').unwrap().0;
        if points.split(['M', 'L']).filter(|point| !point.is_empty()).any(|point| !point.ends_with(" 40.0")) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "no call is drawn: {points}");
    }
}

/// Nothing that is run or fetched within a page but what the program brings, and every page has what who does not see or point needs.
#[tokio::test]
async fn every_page_is_closed_to_what_is_not_its_own_and_open_to_everybody() {
    let nodes = watched(2).await;
    for path in PAGES {
        let answer = page(&nodes[0], path).await;
        answer.has(
            200,
            &["<html lang=\"en\">", "name=\"viewport\"", "class=\"skip\" href=\"#main\"", "<main id=\"main\"", "<h1>"],
        );
        let policy = answer.head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(answer.head.contains("x-content-type-options: nosniff") && answer.head.contains("no-store"));
        assert_eq!(answer.body.matches("<script").count(), 1, "{path}");
        for bad in [" style=", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!answer.body.contains(bad), "{path} has {bad}");
        }
        assert_eq!(answer.body.matches("<th ").count(), answer.body.matches("<th scope=").count(), "{path}");
        assert_eq!(answer.body.matches("aria-current").count(), 1, "{path}");
    }
    page(&nodes[0], "style.css").await.has(200, &["prefers-color-scheme: dark", "max-width: 44rem", ":focus-visible"]);
    page(&nodes[0], "script.js").await.has(200, &["DOMParser"]);
}

const HOSTILE: &str = "\"'><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";

/// A node whose labels and behaviours are no labels and behaviours, as a mad member could tell, and questions of whoever makes links.
async fn hostile() -> Vec<Node> {
    let nodes = mesh(2, |config| {
        config.admin = Some(AdminConfig::new(FREE_PORT));
        config.labels.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
    })
    .await;
    let options = SpawnOptions::new().label(HOSTILE);
    nodes[1].spawn_with(options, async |_: Context<()>| std::future::pending::<()>().await).unwrap();
    nodes
}

const ENCODED: &str = "%22%27%3E%3Cscript%3Edocument.title=%27taken%27%3C/script%3E";

fn hostile_pages() -> Vec<String> {
    let asked = [
        "node?name=",
        "processes?filter=",
        "processes?node=",
        "processes?sort=",
        "process?pid=",
        "names?filter=",
        "groups?filter=",
        "group?name=",
    ];
    let known = ["", "node?name=node-1", "processes", "processes?sort=behaviour", "trees"];
    asked.iter().map(|page| format!("{page}{ENCODED}")).chain(known.map(str::to_owned)).collect()
}

#[tokio::test]
async fn whatever_comes_from_elsewhere_stays_text() {
    let nodes = hostile().await;
    let mut seen = 0;
    for path in hostile_pages() {
        let answer = page(&nodes[0], &path).await;
        assert!(answer.status == 200 && !answer.body.contains("<script>") && !answer.body.contains("<img"), "{path}");
        assert!(!answer.body.contains("\"'>"), "{path}: {}", answer.body);
        seen += answer.body.matches("&lt;script&gt;").count();
    }
    assert!(seen >= 6, "what is hostile was not even shown: {seen}");
}

#[tokio::test]
async fn unless_told_it_is_for_this_machine_alone() {
    let mut config = node_config("here", &[]);
    config.admin = Some(AdminConfig::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))));
    let here = Node::start(config.clone()).await.unwrap();
    let port = here.admin_address().unwrap().port();
    let home = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    with(home, &format!("localhost:{port}"), "").await.has(200, &["<h1>"]);
    // A page from elsewhere whose name leads here.
    with(home, "evil.example", "").await.has(403, &["localhost", "port-forward"]);
    config.dashboard.reach = Reach::Off;
    let none = Node::start(config.clone()).await.unwrap();
    get(SocketAddr::from((Ipv4Addr::LOCALHOST, none.admin_address().unwrap().port())), "/dashboard/")
        .await
        .has(404, &[]);
    config.dashboard.reach = Reach::Everywhere;
    let open = Node::start(config).await.unwrap();
    // No packet leaves by it: it only says which address of this machine is not the loopback.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    let Some(own) = own.ok().filter(|ip| !ip.is_loopback()) else {
        std::io::stderr()
            .write_all(b"SKIPPED: the half about other machines: this one has the loopback alone\n")
            .unwrap();
        return;
    };
    with(SocketAddr::new(own, port), "localhost", "").await.has(403, &["port-forward"]);
    let open = SocketAddr::new(own, open.admin_address().unwrap().port());
    with(open, "shop.example", "").await.has(200, &["<h1>"]);
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_set() {
    let mut config = node_config("guarded", &[]);
    config.admin = Some(AdminConfig::new(FREE_PORT));
    config.dashboard = DashboardConfig { reach: Reach::Everywhere, token: Some("0123456789abcdef".parse().unwrap()) };
    let node = Node::start(config).await.unwrap();
    let admin = node.admin_address().unwrap();
    let refused = with(admin, "shop", "").await;
    assert!(refused.status == 401 && refused.head.contains("www-authenticate: Basic"), "{}", refused.head);
    assert_eq!(with(admin, "shop", "Authorization: Bearer 0123456789abcdeX\r\n").await.status, 401);
    with(admin, "shop", "Authorization: Bearer 0123456789abcdef\r\n").await.has(200, &["<h1>"]);
    // x:0123456789abcdef
    with(admin, "shop", "Authorization: Basic eDowMTIzNDU2Nzg5YWJjZGVm\r\n").await.has(200, &["<h1>"]);
    for path in ["style.css", "script.js", "processes"] {
        assert_eq!(page(&node, path).await.status, 401, "{path}");
    }
    get(admin, "/livez").await.has(200, &[]);
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_shown_as_what_it_is() {
    let certificates = Certificates::new("dashboard-silent");
    let patient = ["--down-after-ms", "60s", "--idle-timeout-ms", "90s", "--admin", "127.0.0.1:0"];
    let (one, first) = node(&certificates, "one", &patient).await;
    let (two, _) = node(&certificates, "two", &[&patient[..], &["--peers", &first]].concat()).await;
    eventually("the mesh has formed", || one.log().contains("node up")).await;
    let admin = admin_address(&one);
    two.signal("STOP");
    let start = Instant::now();
    loop {
        let body = get(admin, "/dashboard/").await.body;
        if body.contains("No answer from two") && body.contains("state bad\">suspect, silent") {
            assert!(body.contains("state good\">up") || body.contains("state bad\">suspect"), "{body}");
            break;
        }
        assert!(start.elapsed() < DEADLINE, "it is not shown: {body}");
    }
    two.signal("CONT");
}

fn admin_address(program: &Program) -> SocketAddr {
    let log = program.log();
    let (_, rest) = log.split_once("admin port open").unwrap();
    rest.split_once("address=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_program_reads_its_token_from_a_file_and_says_what_is_wrong_with_it() {
    let certificates = Certificates::new("dashboard-token");
    let (identity, file) = (certificates.node("one").display().to_string(), certificates.dir().join("token"));
    std::fs::write(&file, "short\n").unwrap();
    let file = file.display().to_string();
    let output =
        rookery_tests::program::run(&["start", "--name", "one", "--identity", &identity, "--dashboard-token", &file]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("the token has fewer than 16"), "{said}");
    let output =
        rookery_tests::program::run(&["start", "--name", "one", "--identity", &identity, "--dashboard", "maybe"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("local, on or off"), "{said}");
}

/// A browser without a window: what it has made of the page after some seconds of its own time, its script included.
fn browse(address: &str) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let dir = format!("--user-data-dir={}", profile.path().display());
    let arguments =
        ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", &dir, address];
    let output = Command::new("chromium").args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_shows_it_live_and_runs_nothing_that_came_from_elsewhere() {
    let nodes = hostile().await;
    let admin = nodes[0].admin_address().unwrap();
    for path in ["", "processes?sort=behaviour", "node?name=node-1", &format!("processes?filter={ENCODED}")] {
        let address = format!("http://{admin}/dashboard/{path}");
        let Some(dom) = tokio::task::spawn_blocking(move || browse(&address)).await.unwrap() else {
            let line =
                "SKIPPED: a_browser_shows_it_live: chromium is not installed (Debian: apt-get install -y chromium)\n";
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return;
        };
        assert!(
            dom.contains("role=\"status\" class=\"\">Live</span>") && dom.contains(">Pause</button>"),
            "{path}: {dom}"
        );
        assert!(dom.contains("Rookery</title>") && !dom.contains("<title>taken"), "{path}: {dom}");
    }
}
