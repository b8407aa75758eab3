//! Many nodes as an operator runs them: `rookery start`, a process of the operating system each, on the loopback. What they
//! tell of each other is read from their logs as they write it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::ExitStatus,
    time::{Duration, Instant},
};

use rookery_node::NodeId;
use serde_json::Value;

use crate::program::{Certificates, Program};

/// A node that does not start, or a mesh that does not form, within this has failed. Fifty nodes of a debug build on two
/// cores take a part of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often logs are looked at for something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a node has logged of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A connection with it stands.
    Up,
    /// It is lost, for this reason.
    Down(String),
    /// It has been silent for so many milliseconds.
    Suspected(String),
    /// It is heard again.
    Heard,
}

/// A line of news, with who says it of whom, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it was logged, as the log says it.
    pub at: String,
    /// The name of the node whose log it is.
    pub by: String,
    /// Whom it is about.
    pub of: String,
    /// What it is.
    pub news: News,
}

/// One node.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its name and incarnation, once it has said so.
    pub id: Option<NodeId>,
    program: Program,
    log: File,
    /// The beginning of a line whose end is not there yet.
    part: String,
}

/// See the module.
pub struct Fleet {
    /// The nodes, in the order of their start.
    pub members: Vec<Member>,
    certificates: Certificates,
    /// Of each pair (by, of), whether the first has told that the second is up.
    up: BTreeMap<(String, String), bool>,
}

impl Fleet {
    /// Makes identities for so many nodes, and starts none.
    #[must_use]
    pub fn prepare(count: usize) -> Self {
        let certificates = Certificates::new("fleet");
        for number in 0..count {
            drop(certificates.node(&name_of(number)));
        }
        Self { members: Vec::new(), certificates, up: BTreeMap::new() }
    }

    /// The directory of a new identity for a client.
    #[must_use]
    pub fn client(&self, name: &str) -> PathBuf {
        self.certificates.client(name)
    }

    /// Starts so many nodes, which know the first one's address and nothing else.
    ///
    /// # Errors
    /// There are not so many free ports.
    pub fn start(&mut self, count: usize) -> io::Result<()> {
        // Taken and given back at once, for the nodes to take.
        let sockets = (0..count).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<io::Result<Vec<_>>>()?;
        let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
        drop(sockets);
        let first = addresses.first().map(ToString::to_string).unwrap_or_default();
        for (number, address) in addresses.into_iter().enumerate() {
            let name = name_of(number);
            let log = self.certificates.dir().join(format!("{name}.log"));
            let identity = self.certificates.dir().join(&name).display().to_string();
            let listen = address.to_string();
            let own = ["start", "--name", &name, "--identity", &identity, "--listen", &listen, "--log-format", "json"];
            let peers = ["--peers", &first];
            let program = Program::start(&log, &[&own[..], &peers[..if number == 0 { 0 } else { 2 }]].concat());
            let log = File::open(log)?;
            self.members.push(Member { name, address, id: None, program, log, part: String::new() });
        }
        Ok(())
    }

    /// Waits until each node has said that each other one is up. Gives how long it took, and all that they said meanwhile.
    ///
    /// # Errors
    /// They have not in time, or one has ended; in words.
    pub async fn meshed(&mut self) -> Result<(Duration, Vec<Told>), String> {
        let (since, mut told) = (Instant::now(), Vec::new());
        let pairs = self.members.len() * self.members.len().saturating_sub(1);
        loop {
            told.extend(self.news());
            if self.up.values().filter(|up| **up).count() == pairs {
                return Ok((since.elapsed(), told));
            }
            if let Some((name, status, last)) = self.ended() {
                return Err(format!("{name} has ended: {status}: {last}"));
            }
            if since.elapsed() > PATIENCE {
                let up = self.up.values().filter(|up| **up).count();
                return Err(format!("{up} of {pairs} connections after {PATIENCE:?}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// What the nodes have told of each other since this was asked last.
    pub fn news(&mut self) -> Vec<Told> {
        let mut all = Vec::new();
        for member in &mut self.members {
            all.extend(member.news());
        }
        for told in &all {
            match told.news {
                News::Up => drop(self.up.insert((told.by.clone(), told.of.clone()), true)),
                News::Down(_) => drop(self.up.insert((told.by.clone(), told.of.clone()), false)),
                News::Suspected(_) | News::Heard => {}
            }
        }
        all
    }

    /// The first node that has ended by itself, how, and the last that it logged.
    pub fn ended(&mut self) -> Option<(String, ExitStatus, String)> {
        self.members.iter_mut().find_map(|member| {
            let status = member.program.ended()?;
            let last = member.program.log().lines().last().unwrap_or_default().to_owned();
            Some((member.name.clone(), status, last))
        })
    }

    /// The processes of the nodes, as the operating system numbers them.
    #[must_use]
    pub fn os_pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.program.os_pid()).collect()
    }
}

impl Member {
    fn news(&mut self) -> Vec<Told> {
        // A log that cannot be read tells nothing new.
        drop(self.log.read_to_string(&mut self.part));
        let end = self.part.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.part.split_off(end);
        let lines = std::mem::replace(&mut self.part, rest);
        lines.lines().filter_map(|line| self.read(line)).collect()
    }

    fn read(&mut self, line: &str) -> Option<Told> {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let news = match line["message"].as_str()? {
            "node up" => News::Up,
            "node down" => News::Down(text("reason")),
            "node suspected" => News::Suspected(text("silent_ms")),
            "node heard again" => News::Heard,
            "node started" => {
                self.id = text("node").parse().ok();
                return None;
            }
            _ => return None,
        };
        Some(Told { at: text("timestamp"), by: self.name.clone(), of: text("node"), news })
    }
}

fn name_of(number: usize) -> String {
    format!("node-{number:02}")
}
