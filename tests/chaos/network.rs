//! A network for the nodes of a run: each in a network namespace of its own with an address of its own, all at one bridge, where the
//! clients and the DNS server are. Faults are rules of each node's own firewall, and queues of its own link.
//!
//! It is made within the namespaces that `rookery_tests::isolation` enters, so it ends with the run, whatever ends that: the names of the
//! namespaces lie in a directory in memory that nobody else sees.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use rookery_tests::isolation;

/// Where the clients and the DNS server are.
pub(crate) const HOME: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Where the nodes' disks are, in memory. Nobody else sees it.
pub(crate) const SCRATCH: &str = "/mnt";

/// Where `ip` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// The port of every node.
const PORT: u16 = 4370;

/// What a slow link carries: it is enough for the load, and bodies take most of a second.
const SLOW_RATE: &str = "1mbit";

/// What waits before a slow link is at most so old.
const SLOW_QUEUE: &str = "300ms";

/// Where the node with this index listens.
pub(crate) fn address(node: usize) -> SocketAddr {
    SocketAddr::from((ip_of(node), PORT))
}

fn ip_of(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, u8::try_from(node + 1).unwrap_or(u8::MAX))
}

/// The name of its namespace.
pub(crate) fn namespace(node: usize) -> String {
    format!("chaos-{node}")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    ask(program, arguments).map(drop)
}

/// Runs it, and gives what it prints.
fn ask(program: &str, arguments: &[&str]) -> Result<String, String> {
    // Debian has these where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// Makes the network for so many nodes.
///
/// # Errors
/// It cannot be made here; in words.
pub(crate) fn make(nodes: usize) -> Result<(), String> {
    isolation::loopback_up()?;
    std::fs::create_dir_all(NAMES).map_err(|error| format!("{NAMES}: {error}"))?;
    mount(Path::new(NAMES), "1m")?;
    mount(Path::new(SCRATCH), "64m")?;
    run("ip", &["link", "add", "bridge", "type", "bridge"])?;
    run("ip", &["address", "add", &format!("{HOME}/16"), "dev", "bridge"])?;
    run("ip", &["link", "set", "bridge", "up"])?;
    for node in 0..nodes {
        let (inside, outside) = (namespace(node), format!("link-{node}"));
        run("ip", &["netns", "add", &inside])?;
        let pair = ["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &inside];
        run("ip", &pair)?;
        run("ip", &["link", "set", &outside, "master", "bridge", "up"])?;
        run("ip", &["-n", &inside, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &inside, "address", "add", &format!("{}/16", ip_of(node)), "dev", "eth0"])?;
        run("ip", &["-n", &inside, "link", "set", "eth0", "up"])?;
    }
    // What a fault will need is tried before anything depends on it.
    (0..nodes.min(1)).try_for_each(|node| deafen(node, &[node]).and_then(|()| hear(node)))
}

/// Puts a file system of so much memory there. It ends with the run.
///
/// # Errors
/// It cannot be done here; in words.
pub(crate) fn mount(directory: &Path, size: &str) -> Result<(), String> {
    let directory = directory.display().to_string();
    run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=755"), "none", &directory])
}

fn firewall(node: usize, arguments: &[&str]) -> Result<(), String> {
    run("ip", &[&["netns", "exec", &namespace(node), "iptables", "-w"][..], arguments].concat())
}

/// The node hears nothing of these others any more. Nobody is told of what is dropped where it arrives.
///
/// # Errors
/// In words.
pub(crate) fn deafen(node: usize, to: &[usize]) -> Result<(), String> {
    let from: Vec<String> = to.iter().map(|other| ip_of(*other).to_string()).collect();
    if from.is_empty() {
        return Ok(());
    }
    firewall(node, &["-A", "INPUT", "-s", &from.join(","), "-j", "DROP"])
}

/// The node loses this part of all UDP datagrams that reach it, each by chance.
///
/// # Errors
/// In words.
pub(crate) fn lose(node: usize, part: f64) -> Result<(), String> {
    let part = part.to_string();
    let chance = ["-m", "statistic", "--mode", "random", "--probability", &part, "-j", "DROP"];
    firewall(node, &[&["-A", "INPUT", "-p", "udp"][..], &chance].concat())
}

/// The node hears everything again.
///
/// # Errors
/// In words.
pub(crate) fn hear(node: usize) -> Result<(), String> {
    firewall(node, &["-F", "INPUT"])
}

/// How many datagrams the node has dropped by each of its rules so far, and whose; `0.0.0.0/0`: of all.
///
/// # Errors
/// In words.
pub(crate) fn dropped(node: usize) -> Result<Vec<(String, u64)>, String> {
    let arguments = ["netns", "exec", &namespace(node), "iptables", "-w", "-nvxL", "INPUT"];
    let listed = ask("ip", &arguments)?;
    // pkts bytes target prot opt in out source destination
    let rules = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let drops = rules.filter(|rule| rule.get(2) == Some(&"DROP"));
    Ok(drops.filter_map(|rule| Some(((*rule.get(7)?).to_owned(), rule.first()?.parse().ok()?))).collect())
}

/// How many datagrams of that node this one has dropped since it was deafened to it.
///
/// # Errors
/// In words.
pub(crate) fn dropped_of(node: usize, other: usize) -> Result<u64, String> {
    let from = ip_of(other).to_string();
    Ok(dropped(node)?.into_iter().filter(|(source, _)| *source == from).map(|(_, count)| count).sum())
}

/// How often something had to wait for the node's slow link, or found no room there.
///
/// # Errors
/// In words.
pub(crate) fn held_up(node: usize) -> Result<u64, String> {
    let told = ask("tc", &["-n", &namespace(node), "-s", "qdisc", "show", "dev", "eth0", "root"])?;
    let words: Vec<&str> = told.split(|c: char| c.is_whitespace() || "(),".contains(c)).collect();
    let count = |what: &str| words.windows(2).find(|two| two[0] == what).and_then(|two| two[1].parse::<u64>().ok());
    Ok(count("overlimits").unwrap_or_default() + count("dropped").unwrap_or_default())
}

/// What leaves the node goes over a slow link.
///
/// # Errors
/// In words.
pub(crate) fn slow(node: usize) -> Result<(), String> {
    let link = ["-n", &namespace(node), "qdisc", "add", "dev", "eth0", "root", "tbf"];
    run("tc", &[&link[..], &["rate", SLOW_RATE, "burst", "16kb", "latency", SLOW_QUEUE]].concat())
}

/// It is as fast as ever.
///
/// # Errors
/// In words.
pub(crate) fn quicken(node: usize) -> Result<(), String> {
    run("tc", &["-n", &namespace(node), "qdisc", "del", "dev", "eth0", "root"])
}
