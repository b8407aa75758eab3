//! The nodes of a run: the stock `rookery start`, each in its network namespace, with a disk of its own that its identity and its log
//! are on. They find each other by DNS. What they tell of each other is read from their logs.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use rookery_node::{
    NodeId,
    devdns::{DevDns, Fault},
};
use rookery_tests::program::{Certificates, Program, rookery};
use serde_json::Value;

use crate::network;

const SERVICE: &str = "rookery.chaos.svc.cluster.test";

/// How long an answer of DNS is waited for: it is on this machine.
const DNS_PATIENCE: Duration = Duration::from_secs(1);

/// How long a line of a log is waited for, and how often it is looked for.
const LOGGED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// All that a node may write.
const DISK: &str = "8m";

/// What clients may do.
const POLICY: &str =
    "[[client]]\nname = \"*\"\nsend = [\"*\"]\nspawn = [\"*\"]\nregister = [\"*\"]\njoin = [\"*\"]\nexit = true\n";

/// The name of the node with this index.
pub(crate) fn name_of(node: usize) -> String {
    format!("node-{node}")
}

/// The index of a node with such a name.
pub(crate) fn index_of(node: &NodeId) -> usize {
    node.name().as_str().rsplit('-').next().and_then(|index| index.parse().ok()).unwrap_or_default()
}

/// A node's clock, by `libfaketime`.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The library.
    library: PathBuf,
    /// Where the node reads by how much its clock is wrong.
    file: PathBuf,
}

/// One node.
struct Member {
    program: Option<Program>,
    /// How often it was started.
    lives: u32,
    log: Option<File>,
    /// The beginning of a line whose end is not there yet.
    part: String,
    /// Lines of lives before that nobody has asked for yet.
    kept: Vec<String>,
}

/// See the module.
pub(crate) struct Cluster {
    members: Vec<Member>,
    certificates: Certificates,
    dns: DevDns,
}

/// What a node has told: whom it has lost, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) by: usize,
    pub(crate) of: usize,
    pub(crate) reason: String,
}

impl Cluster {
    /// Starts so many nodes, on a network that stands.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn start(nodes: usize) -> Result<Self, String> {
        let certificates = Certificates::within(network::SCRATCH.as_ref(), "chaos");
        let dns = DevDns::start((network::HOME, 53).into()).await.map_err(|error| format!("DNS: {error}"))?;
        dns.set_ttl(Duration::from_secs(1));
        let pods = (0..nodes).map(|node| (name_of(node), network::address(node))).collect();
        dns.set(&format!("{SERVICE}."), pods).map_err(|error| format!("DNS: {error}"))?;
        let mut cluster = Self { members: Vec::new(), certificates, dns };
        for node in 0..nodes {
            cluster.members.push(Member { program: None, lives: 0, log: None, part: String::new(), kept: Vec::new() });
            let disk = cluster.disk(node);
            fs::create_dir_all(&disk).map_err(|error| error.to_string())?;
            network::mount(&disk, DISK)?;
            drop(cluster.certificates.node(&name_of(node)));
            fs::write(disk.join("rookery.toml"), POLICY).map_err(|error| error.to_string())?;
            cluster.start_node(node, None)?;
        }
        Ok(cluster)
    }

    /// The directory of a new identity for a client.
    pub(crate) fn client(&self, name: &str) -> PathBuf {
        self.certificates.client(name)
    }

    /// Its disk; its identity lies on it as well.
    fn disk(&self, node: usize) -> PathBuf {
        self.certificates.dir().join(name_of(node))
    }

    /// Starts a node that does not run, with its own clock or a wrong one.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn start_node(&mut self, node: usize, clock: Option<&Clock>) -> Result<(), String> {
        let (disk, namespace) = (self.disk(node), network::namespace(node));
        let own = disk.display().to_string();
        let config = disk.join("rookery.toml").display().to_string();
        let listen = network::address(node).to_string();
        let dns = self.dns.addr().to_string();
        let program = rookery().display().to_string();
        let (name, faked) = (name_of(node), clock.map(Clock::environment).unwrap_or_default());
        let faked: Vec<&str> = faked.iter().map(String::as_str).collect();
        let inside = ["netns", "exec", &namespace, "env"];
        let start = [&program, "start", "--name", &name, "--identity", &own, "--config", &config, "--listen", &listen];
        let find = ["--service", SERVICE, "--dns-server", &dns];
        let rest = ["--log-format", "json", "--boot", "echo,kv", "--admin", "none", "--worker-threads", "2"];
        let arguments = [&inside[..], &faked, &start, &find, &rest].concat();
        let member = self.members.get_mut(node).ok_or("no such node")?;
        member.lives += 1;
        let log = disk.join(format!("{}.log", member.lives));
        let ip =
            ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"].iter().find(|ip| fs::exists(ip).unwrap_or(false));
        let ip = ip.ok_or("`ip` of iproute2 is missing")?;
        member.program = Some(Program::start_of(ip.as_ref(), &log, &arguments));
        member.kept = member.news();
        (member.log, member.part) = (File::open(log).ok(), String::new());
        Ok(())
    }

    /// Which life of a node has begun last: as name and incarnation. Waits until it says so.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn begun(&self, node: usize) -> Result<NodeId, String> {
        let begun = self.line(node, "node started").await?;
        begun["node"].as_str().unwrap_or_default().parse().map_err(|error| format!("{}: {error}", name_of(node)))
    }

    /// A line that this life of the node has logged with that message. Waits until it is there.
    ///
    /// # Errors
    /// It is not there after a long time.
    pub(crate) async fn line(&self, node: usize, message: &str) -> Result<Value, String> {
        let program = self.members.get(node).and_then(|member| member.program.as_ref()).ok_or("it does not run")?;
        let since = Instant::now();
        loop {
            let log = program.log();
            let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["message"].as_str() == Some(message)) {
                return Ok(line);
            }
            if since.elapsed() > LOGGED_WITHIN {
                return Err(format!("{} has not said `{message}` within {LOGGED_WITHIN:?}", name_of(node)));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// SIGKILL. What it has logged so far is to be read before.
    pub(crate) fn kill(&mut self, node: usize) {
        if let Some(member) = self.members.get_mut(node) {
            member.program = None;
        }
    }

    /// SIGSTOP, or SIGCONT.
    pub(crate) fn signal(&self, node: usize, signal: &str) {
        if let Some(program) = self.members.get(node).and_then(|member| member.program.as_ref()) {
            program.signal(signal);
        }
    }

    /// The process of a node, as the operating system numbers it.
    pub(crate) fn os_pid(&self, node: usize) -> Option<u32> {
        Some(self.members.get(node)?.program.as_ref()?.os_pid())
    }

    /// Whether DNS answers.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn dns_answers(&self) -> io::Result<bool> {
        let socket = tokio::net::UdpSocket::bind((network::HOME, 0)).await?;
        // RFC 1035, 4.1: one question, for addresses of the Service.
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in SERVICE.split('.') {
            query.push(u8::try_from(label.len()).unwrap_or_default());
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        socket.send_to(&query, self.dns.addr()).await?;
        let mut answer = [0; 1_500];
        Ok(tokio::time::timeout(DNS_PATIENCE, socket.recv(&mut answer)).await.is_ok_and(|answered| answered.is_ok()))
    }

    /// Whether a process with that number runs, and whether it is stopped.
    pub(crate) fn state_of(pid: u32) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Its name, in brackets, may have anything in it.
        let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
        (state != 'Z').then_some(state)
    }

    /// Whether a node's disk has no room for a byte.
    ///
    /// # Errors
    /// It cannot be tried.
    pub(crate) fn disk_is_full(&self, node: usize) -> io::Result<bool> {
        let file = self.disk(node).join("probe");
        let written = File::create(&file).and_then(|mut file| file.write_all(b"x"));
        fs::remove_file(&file)?;
        match written {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(true),
            written => written.map(|()| false),
        }
    }

    /// DNS says nothing any more, or answers again.
    pub(crate) fn silence_dns(&self, silent: bool) {
        self.dns.set_fault(if silent { Fault::Silent } else { Fault::None });
    }

    /// Leaves a node not a byte to write.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn fill_disk(&self, node: usize) -> Result<(), String> {
        let mut filler = File::create(self.disk(node).join("filler")).map_err(|error| error.to_string())?;
        let zeros = vec![0; 64 * 1024];
        for part in [zeros.as_slice(), &zeros[..1]] {
            while let Ok(written) = filler.write(part) {
                if written == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives it back its room.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn empty_disk(&self, node: usize) -> Result<(), String> {
        fs::remove_file(self.disk(node).join("filler")).map_err(|error| error.to_string())
    }

    /// A clock for a node, if `libfaketime` is here.
    pub(crate) fn clock(&self, node: usize) -> Option<Clock> {
        let dirs = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"];
        let libraries = dirs.iter().map(|dir| PathBuf::from(dir).join("libfaketimeMT.so.1"));
        let library = libraries.into_iter().find(|library| library.exists())?;
        Some(Clock { library, file: self.disk(node).join("clock") })
    }

    /// Whom nodes have declared down since this was asked last.
    pub(crate) fn losses(&mut self) -> Vec<Loss> {
        let count = self.members.len();
        let mut losses = Vec::new();
        for (by, member) in self.members.iter_mut().enumerate() {
            for line in member.news() {
                let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
                let text = |key: &str| line[key].as_str().unwrap_or_default();
                // As name and incarnation.
                let name = text("node").split('.').next();
                let of = (0..count).find(|of| Some(name_of(*of).as_str()) == name);
                if let (Some(of), "node down") = (of, text("message")) {
                    losses.push(Loss { by, of, reason: text("reason").to_owned() });
                }
            }
        }
        losses
    }

    /// The first node that has ended by itself, and the last that it logged.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.members.iter_mut().enumerate().find_map(|(node, member)| {
            let program = member.program.as_mut()?;
            let status = program.ended()?;
            let log = program.log();
            let last: Vec<&str> = log.lines().rev().take(5).collect();
            Some(format!("{} has ended by itself, {status}: {}", name_of(node), last.join(" | ")))
        })
    }

    /// All that nodes have logged, for people.
    ///
    /// # Errors
    /// It cannot be kept there.
    pub(crate) fn keep_logs(&self, directory: &std::path::Path) -> io::Result<()> {
        for (node, member) in self.members.iter().enumerate() {
            for life in 1..=member.lives {
                let from = self.disk(node).join(format!("{life}.log"));
                fs::copy(from, directory.join(format!("{}.{life}.log", name_of(node))))?;
            }
        }
        Ok(())
    }
}

impl Member {
    /// Lines that it has logged since this was asked last.
    fn news(&mut self) -> Vec<String> {
        if let Some(log) = &mut self.log {
            // A log that cannot be read tells nothing new.
            drop(log.read_to_string(&mut self.part));
        }
        let end = self.part.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.part.split_off(end);
        let lines = std::mem::replace(&mut self.part, rest);
        let kept = std::mem::take(&mut self.kept);
        kept.into_iter().chain(lines.lines().map(str::to_owned)).collect()
    }
}

impl Clock {
    /// For a program whose clock is to be wrong: the time of day alone, not the time since the start of the machine.
    fn environment(&self) -> Vec<String> {
        vec![
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file.display()),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "FAKETIME_CACHE_DURATION=1".to_owned(),
        ]
    }

    /// Sets it to be ahead by so many seconds, or behind.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn set(&self, ahead_s: i64) -> Result<(), String> {
        fs::write(&self.file, format!("{ahead_s:+}s\n")).map_err(|error| format!("{}: {error}", self.file.display()))
    }
}
