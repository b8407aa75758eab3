//! What a client may do, decided by the name in its certificate (C3). Pure.
//!
//! By default a client may send, call and monitor; it may not spawn, register, join, link, or send exit signals. What is not
//! allowed is answered `Refused`, and counted.

use rookery_protocol::{DirectoryUpdate, Pid, Recipient, SessionId, Signal, SignalBody, request::RequestBody};

/// A pattern for names: `*` stands for any characters (none, too), `?` for exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether `name` fits, in time proportional to the product of both lengths at worst.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut p, mut n) = (0, 0);
        // Where to go on when a character does not fit: behind the last star, one character further each time.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(character) = name.get(n) {
            match pattern.get(p) {
                Some('*') => {
                    retry = Some((p + 1, n));
                    p += 1;
                }
                Some(wanted) if *wanted == '?' || wanted == character => {
                    p += 1;
                    n += 1;
                }
                _ => match retry {
                    Some((behind_star, from)) => {
                        retry = Some((behind_star, from + 1));
                        p = behind_star;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
    }

    fn is_any(&self) -> bool {
        self.0 == "*"
    }
}

/// What the clients with matching names may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Which clients, by the name in their certificates.
    pub clients: Pattern,
    /// Names and groups that they may send to and call; `*` includes pids.
    pub send: Vec<Pattern>,
    /// Behaviours that they may start.
    pub spawn: Vec<Pattern>,
    /// Names that they may take, on their node and in the cluster.
    pub register: Vec<Pattern>,
    /// Groups that they may join.
    pub join: Vec<Pattern>,
    /// Whether they may monitor.
    pub monitor: bool,
    /// Whether they may link.
    pub link: bool,
    /// Whether they may send exit signals.
    pub exit: bool,
}

impl Policy {
    /// The default: send, call and monitor.
    #[must_use]
    pub fn new(clients: &str) -> Self {
        Self {
            clients: Pattern::new(clients),
            send: vec![Pattern::new("*")],
            spawn: Vec::new(),
            register: Vec::new(),
            join: Vec::new(),
            monitor: true,
            link: false,
            exit: false,
        }
    }

    /// Everything.
    #[must_use]
    pub fn all(clients: &str) -> Self {
        let any = || vec![Pattern::new("*")];
        Self { spawn: any(), register: any(), join: any(), link: true, exit: true, ..Self::new(clients) }
    }

    /// Whether a client of this policy may send this signal.
    ///
    /// # Errors
    /// What is refused, and by which rule.
    pub fn check(&self, client: &str, session: SessionId, signal: &Signal) -> Result<(), String> {
        let may = |allowed: bool, verb: &str, what: &str| {
            if allowed { Ok(()) } else { Err(format!("the policy of client `{client}` does not let it {verb} {what}")) }
        };
        // Names of clients' processes are kept by the node of their session, which frees them when it ends; by no other.
        let own = |pid: &Pid| {
            pid.serial().session() == Some(session) && pid.node() == signal.from.node() && pid.node() == &signal.to.node
        };
        match &signal.body {
            SignalBody::Message { .. } => match &signal.to.to {
                Recipient::Name(name) | Recipient::ClusterName(name) => {
                    may(any_matches(&self.send, name.as_str()), "send to", name.as_str())
                }
                Recipient::Group(group) => {
                    may(any_matches(&self.send, group.as_str()), "send to", &format!("group {group}"))
                }
                Recipient::Serial(_) => may(self.send.iter().any(Pattern::is_any), "send to", &signal.to.to_string()),
            },
            SignalBody::Link => may(self.link, "link to", &signal.to.to_string()),
            SignalBody::Exit { linked: false, .. } => may(self.exit, "send an exit signal to", &signal.to.to_string()),
            SignalBody::Monitor(_) => may(self.monitor, "monitor", &signal.to.to_string()),
            SignalBody::Request { body, .. } => match &**body {
                RequestBody::Spawn(spawn) | RequestBody::SpawnInCluster { spawn, .. } => {
                    may(any_matches(&self.spawn, spawn.behaviour.as_str()), "spawn", spawn.behaviour.as_str())?;
                    may(!spawn.link || self.link, "link to", "what it spawns")?;
                    may(spawn.monitor.is_none() || self.monitor, "monitor", "what it spawns")?;
                    let (cluster_name, groups) = match &**body {
                        RequestBody::SpawnInCluster { name, groups, .. } => (name.as_ref(), groups.as_slice()),
                        _ => (None, &[][..]),
                    };
                    for name in spawn.name.iter().chain(cluster_name) {
                        may(any_matches(&self.register, name.as_str()), "register", name.as_str())?;
                    }
                    groups.iter().try_for_each(|group| {
                        may(any_matches(&self.join, group.as_str()), "join", &format!("group {group}"))
                    })
                }
                RequestBody::Register { name, pid } | RequestBody::RegisterInCluster { name, pid } => {
                    may(own(pid) && any_matches(&self.register, name.as_str()), "register", name.as_str())
                }
                RequestBody::Unregister { name, pid } | RequestBody::UnregisterInCluster { name, pid } => {
                    may(own(pid), "unregister", name.as_str())
                }
                RequestBody::Join { group, pid } => {
                    may(own(pid) && any_matches(&self.join, group.as_str()), "join", &format!("group {group}"))
                }
                RequestBody::Leave { group, pid } => may(own(pid), "leave", &format!("group {group}")),
                RequestBody::Watch { group, pid, .. } => {
                    may(own(pid) && self.monitor, "watch", &format!("group {group}"))
                }
                RequestBody::WhereIs { .. } | RequestBody::WhereInCluster { .. } | RequestBody::Members { .. } => {
                    Ok(())
                }
                RequestBody::Claim { .. } => may(false, "speak as", "a node"),
            },
            SignalBody::Directory(DirectoryUpdate::Gone) => Ok(()),
            // An exit over a link that it may have, and answers.
            SignalBody::Exit { linked: true, .. }
            | SignalBody::Unlink(_)
            | SignalBody::UnlinkAck(_)
            | SignalBody::Demonitor(_)
            | SignalBody::Down { .. }
            | SignalBody::Credit { .. }
            | SignalBody::Reply { .. } => Ok(()),
            SignalBody::Response { .. }
            | SignalBody::NodeUp(_)
            | SignalBody::NodeDown { .. }
            | SignalBody::Refused { .. }
            | SignalBody::Directory(_)
            | SignalBody::GroupChange(_)
            | SignalBody::NameConflict { .. } => may(false, "speak as", "a node"),
        }
    }
}

/// The policy of a client: the first that names it, or the default.
#[must_use]
pub fn policy_of<'a>(policies: &'a [Policy], default: &'a Policy, client: &str) -> &'a Policy {
    policies.iter().find(|policy| policy.clients.matches(client)).unwrap_or(default)
}

fn any_matches(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_protocol::{CallId, Destination, ProcessName, Serial};

    use super::*;

    #[test]
    fn a_client_names_its_own_processes_at_its_own_node() {
        let session = SessionId::new(7).unwrap();
        let process = |node: &str| Pid::new(node.parse().unwrap(), Serial::of_client(session, 1));
        let name = ProcessName::new("orders").unwrap();
        let check = |at: &str, pid: Pid| {
            let body = Box::new(RequestBody::Register { name: name.clone(), pid });
            let to = Destination { node: at.parse().unwrap(), to: Recipient::Serial(Serial::NODE) };
            let body = SignalBody::Request { call: CallId(1), body };
            Policy::all("*").check("eve", session, &Signal { from: process("a.1"), to, body })
        };
        assert_eq!(check("a.1", process("a.1")), Ok(()));
        assert!(check("b.1", process("a.1")).is_err(), "no other node would free the name");
        assert!(check("a.1", process("b.1")).is_err(), "another node's client of the same number");
    }

    #[test]
    fn patterns_match_all_of_the_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("orders", "orders", true),
            ("orders", "orders-1", false),
            ("ops-*", "ops-eve", true),
            ("ops-*", "xops-eve", false),
            ("*-ro", "metrics-ro", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aa*aa", "aaa", false),
            ("node-?", "node-1", true),
            ("node-?", "node-12", false),
            ("*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }
}
