//! What clients may do: the `[[client]]` tables of the TOML file.
//!
//! The first table whose `name` fits the name in a client's certificate decides; where none fits, the default
//! policy does: send to anyone and monitor, nothing else. A table that leaves a verb out has the default for it.
//! Only the file can say this, as it is no one-line matter. Policies are judged here and enforced by the node.

use std::fmt;

use figment::value::{Dict, Value};

use super::problem::{Origin, Problem, nearest};
use super::value::{self, Wrong};

/// Key of the list of tables.
pub(crate) const CLIENT_KEY: &str = "client";

/// Longest pattern. Names of processes, behaviours and clients are shorter; a longer pattern is a mistake.
const PATTERN_MAX: usize = 255;

/// A pattern for names: `*` stands for any characters (none, too), `?` for exactly one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(String);

impl Glob {
    /// Reads a pattern.
    pub(crate) fn parse(pattern: &str) -> Result<Self, Wrong> {
        if pattern.is_empty() || pattern.len() > PATTERN_MAX {
            return Err(format!("is not 1 to {PATTERN_MAX} bytes long"));
        }
        if pattern.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("has white space or control characters".to_owned());
        }
        Ok(Self(pattern.to_owned()))
    }

    /// The pattern as it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the clients of one pattern of names may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientPolicy {
    /// Which clients, by the name in their certificate.
    pub(crate) name: Glob,
    /// Names and groups that they may send to and call; the pattern `*` includes processes known only by pid.
    pub(crate) send: Vec<Glob>,
    /// Behaviours that they may start.
    pub(crate) spawn: Vec<Glob>,
    /// Names that their processes may take, on their node and in the cluster.
    pub(crate) register: Vec<Glob>,
    /// Groups that their processes may join.
    pub(crate) join: Vec<Glob>,
    /// Whether their processes may monitor.
    pub(crate) monitor: bool,
    /// Whether their processes may link.
    pub(crate) link: bool,
    /// Whether they may send exit signals.
    pub(crate) exit: bool,
}

impl Default for ClientPolicy {
    /// For every client that no table names: send to anyone, monitor.
    fn default() -> Self {
        let any = || Glob("*".to_owned());
        Self {
            name: any(),
            send: vec![any()],
            spawn: Vec::new(),
            register: Vec::new(),
            join: Vec::new(),
            monitor: true,
            link: false,
            exit: false,
        }
    }
}

/// Reads the tables; every problem is added to `problems`.
pub(crate) fn read(value: &Value, origin: &Origin, problems: &mut Vec<Problem>) -> Vec<ClientPolicy> {
    let mut tables = Tables { origin, problems };
    let Value::Array(_, items) = value else {
        tables.wrong(CLIENT_KEY, Some(value), "is no list of tables", "accepted: [[client]] tables");
        return Vec::new();
    };
    items.iter().enumerate().filter_map(|(index, item)| tables.policy(index, item)).collect()
}

/// Reads table after table and notes what is wrong with their file and path.
struct Tables<'a> {
    origin: &'a Origin,
    problems: &'a mut Vec<Problem>,
}

impl Tables<'_> {
    fn policy(&mut self, index: usize, item: &Value) -> Option<ClientPolicy> {
        const KEYS: [&str; 8] = ["name", "send", "spawn", "register", "join", "monitor", "link", "exit"];
        let path = format!("{CLIENT_KEY}[{index}]");
        let Value::Dict(_, table) = item else {
            self.wrong(&path, Some(item), "is no table", "accepted: [[client]] tables");
            return None;
        };
        for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let hint = match nearest(key, KEYS) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("accepted: {}", KEYS.join(", ")),
            };
            self.wrong(&format!("{path}.{key}"), None, "is no option of a client", &hint);
        }
        let defaults = ClientPolicy::default();
        let name = match table.get("name") {
            Some(value) => self.read(&path, "name", value, |value| Glob::parse(&value::text(value)?)),
            None => {
                let hint = "give the clients' name in their certificates, or a pattern such as ops-*";
                self.wrong(&format!("{path}.name"), None, "is missing", hint);
                None
            }
        };
        Some(ClientPolicy {
            send: self.globs(&path, table, "send", defaults.send),
            spawn: self.globs(&path, table, "spawn", defaults.spawn),
            register: self.globs(&path, table, "register", defaults.register),
            join: self.globs(&path, table, "join", defaults.join),
            monitor: self.truth(&path, table, "monitor", defaults.monitor),
            link: self.truth(&path, table, "link", defaults.link),
            exit: self.truth(&path, table, "exit", defaults.exit),
            name: name?,
        })
    }

    fn globs(&mut self, path: &str, table: &Dict, key: &str, default: Vec<Glob>) -> Vec<Glob> {
        let Some(value) = table.get(key) else { return default };
        self.read(path, key, value, |value| value::list_of(value, Glob::parse)).unwrap_or(default)
    }

    fn truth(&mut self, path: &str, table: &Dict, key: &str, default: bool) -> bool {
        let Some(value) = table.get(key) else { return default };
        self.read(path, key, value, value::truth).unwrap_or(default)
    }

    fn read<T>(
        &mut self,
        path: &str,
        key: &str,
        value: &Value,
        parse: impl Fn(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let accepted = match key {
            "name" => "accepted: a pattern for client names such as ops-*",
            "monitor" | "link" | "exit" => "accepted: true or false",
            _ => "accepted: a list of patterns such as [\"orders-*\"]; [] for none",
        };
        parse(value).map_err(|wrong| self.wrong(&format!("{path}.{key}"), Some(value), &wrong, accepted)).ok()
    }

    fn wrong(&mut self, path: &str, value: Option<&Value>, what: &str, accepted: &str) {
        let origin = match self.origin {
            Origin::File { path: file, .. } => Origin::File { path: file.clone(), key: path.to_owned() },
            other => other.clone(),
        };
        self.problems.push(Problem {
            option: path.to_owned(),
            value: value.map(value::show),
            origin,
            what: what.to_owned(),
            accepted: accepted.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn globs_are_short_and_plain() {
        assert!(Glob::parse("").is_err() && Glob::parse("a b").is_err() && Glob::parse(&"a".repeat(256)).is_err());
    }
}
