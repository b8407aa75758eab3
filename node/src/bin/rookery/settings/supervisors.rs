//! The supervision trees that a node runs: the `[[supervisor]]` tables of the TOML file.
//!
//! ```toml
//! [[supervisor]]
//! name = "orders"
//! [[supervisor.children]]
//! id = "east"
//! behaviour = "counter"
//! placement = { label = { zone = "east" } }
//! [[supervisor.children]]
//! id = "books"                       # a supervisor, since it has children
//! strategy = "rest_for_one"
//! [[supervisor.children.children]]
//! id = "ledger"
//! behaviour = "kv"
//! ```
//! With `cluster = true` some node runs the tree, and another one when that is lost; each node's file says the same then.
//! What a table leaves out has the default of a supervisor that a program starts. Trees are judged here, and started by
//! `rookery start`, under `rookery:boot` or as the cluster's.

use std::collections::HashSet;
use std::time::Duration;

use figment::value::{Dict, Value};
use rookery_node::Group;
use rookery_node::json::Json;
use rookery_node::protocol::limits::MAX_GROUPS_PER_SPAWN;
use rookery_node::supervise::{
    AutoShutdown, ChildId, ChildSpecData, ChildType, Placement, Restart, Shutdown, Strategy, SupervisorData,
};

use super::STOCK_BEHAVIOURS;
use super::problem::{Origin, Problem, nearest};
use super::value::{self, Wrong};

/// Key of the list of tables.
pub(crate) const SUPERVISOR_KEY: &str = "supervisor";

/// Supervisors under supervisors; far more than anybody can keep in mind.
const DEPTH_MAX: usize = 16;

/// The behaviour of a child that has children.
const SUPERVISOR: &str = "supervisor";

const HOUR: Duration = Duration::from_secs(3_600);

const TREE_KEYS: [&str; 7] = ["name", "cluster", "strategy", "intensity", "period_ms", "auto_shutdown", "children"];
const SUPERVISOR_KEYS: [&str; 5] = ["strategy", "intensity", "period_ms", "auto_shutdown", "children"];
const CHILD_KEYS: [&str; 10] = [
    "id",
    "behaviour",
    "arguments",
    "name",
    "cluster_name",
    "groups",
    "restart",
    "shutdown",
    "placement",
    "significant",
];

const STRATEGIES: [(&str, Strategy); 4] = [
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
    ("simple_one_for_one", Strategy::SimpleOneForOne),
];
const AUTO_SHUTDOWNS: [(&str, AutoShutdown); 3] = [
    ("never", AutoShutdown::Never),
    ("any_significant", AutoShutdown::AnySignificant),
    ("all_significant", AutoShutdown::AllSignificant),
];
const RESTARTS: [(&str, Restart); 3] =
    [("permanent", Restart::Permanent), ("transient", Restart::Transient), ("temporary", Restart::Temporary)];

/// A tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The name of its supervisor.
    pub(crate) name: String,
    /// Whether it is the cluster's: some node runs it, under this name in the cluster.
    pub(crate) cluster: bool,
    /// What is in it.
    pub(crate) data: SupervisorData,
}

/// Reads the tables; every problem is added to `problems`.
pub(crate) fn read(value: &Value, origin: &Origin, problems: &mut Vec<Problem>) -> Vec<Tree> {
    let mut trees = Trees { origin, problems };
    let Value::Array(_, items) = value else {
        trees.wrong(SUPERVISOR_KEY, Some(value), "is no list of tables", "accepted: [[supervisor]] tables");
        return Vec::new();
    };
    let mut names = HashSet::new();
    let mut read = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{SUPERVISOR_KEY}[{index}]");
        let Some(table) = trees.table(path, item, &TREE_KEYS) else { continue };
        let name = trees.required(&table, "name", "a name such as orders", |value| {
            let name = value::text(value)?;
            name.parse::<rookery_node::ProcessName>().map_err(|error| error.to_string())?;
            Ok(name)
        });
        let cluster = trees.optional(&table, "cluster", "true or false", value::truth).unwrap_or_default();
        let data = trees.supervisor(&table, 1);
        let Some(name) = name else { continue };
        if names.insert(name.clone()) {
            read.push(Tree { name, cluster, data });
        } else {
            trees.wrong(
                &format!("{}.name", table.path),
                table.dict.get("name"),
                "is used twice",
                "accepted: one name each",
            );
        }
    }
    read
}

/// A table, and where it stands in the file.
struct Table<'a> {
    path: String,
    dict: &'a Dict,
}

/// Reads table after table, and notes what is wrong with their file and path. What is wrong is read as if it were not
/// there, so that the rest is read too.
struct Trees<'a> {
    origin: &'a Origin,
    problems: &'a mut Vec<Problem>,
}

impl Trees<'_> {
    fn table<'v>(&mut self, path: String, value: &'v Value, keys: &[&str]) -> Option<Table<'v>> {
        let Value::Dict(_, dict) = value else {
            self.wrong(&path, Some(value), "is no table", &format!("accepted: tables with {}", keys.join(", ")));
            return None;
        };
        for key in dict.keys().filter(|key| !keys.contains(&key.as_str())) {
            let hint = match nearest(key, keys.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("accepted: {}", keys.join(", ")),
            };
            self.wrong(&format!("{path}.{key}"), None, "is no option here", &hint);
        }
        Some(Table { path, dict })
    }

    /// What a supervisor's table says, of a tree or of a child.
    fn supervisor(&mut self, table: &Table<'_>, depth: usize) -> SupervisorData {
        let strategy = self.choice(table, "strategy", &STRATEGIES).unwrap_or_default();
        let auto_shutdown = self.choice(table, "auto_shutdown", &AUTO_SHUTDOWNS);
        let intensity = self.optional(table, "intensity", "a whole number from 0 to 1000000", |value| {
            value::whole(value, 0, 1_000_000)
        });
        let times = "milliseconds or a time such as 500ms, 5s or 1m, from 1ms to 1h";
        let period =
            self.optional(table, "period_ms", times, |value| value::time(value, Duration::from_millis(1), HOUR));
        let never = !Self::is_wrong(table, "auto_shutdown", auto_shutdown.as_ref())
            && auto_shutdown.unwrap_or_default() == AutoShutdown::Never;
        let mut children: Vec<ChildSpecData> = Vec::new();
        let path = format!("{}.children", table.path);
        match table.dict.get("children") {
            None => {}
            Some(Value::Array(_, items)) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let Some(child) = self.child(path.clone(), item, never, depth) else { continue };
                    if children.iter().any(|other| other.id == child.id) {
                        self.wrong(
                            &format!("{path}.id"),
                            None,
                            "is used twice",
                            "accepted: an id of its own for each child",
                        );
                    }
                    children.push(child);
                }
            }
            Some(other) => self.wrong(&path, Some(other), "is no list of tables", "accepted: a table for each child"),
        }
        if strategy == Strategy::SimpleOneForOne && children.len() != 1 {
            self.wrong(&path, None, "is not one child", "accepted: one, the template of dynamic children");
        }
        SupervisorData {
            strategy,
            intensity: intensity.and_then(|intensity| u32::try_from(intensity).ok()),
            period_ms: period.and_then(|period| u64::try_from(period.as_millis()).ok()),
            auto_shutdown: auto_shutdown.unwrap_or_default(),
            children,
        }
    }

    fn child(&mut self, path: String, value: &Value, never: bool, depth: usize) -> Option<ChildSpecData> {
        // Whoever has children is a supervisor, and says what one says.
        let is_tree = matches!(value, Value::Dict(_, dict) if dict.contains_key("children"));
        let keys: Vec<&str> = match is_tree {
            true => CHILD_KEYS
                .into_iter()
                .filter(|key| !["behaviour", "arguments"].contains(key))
                .chain(SUPERVISOR_KEYS)
                .collect(),
            false => CHILD_KEYS.to_vec(),
        };
        let table = self.table(path, value, &keys)?;
        let id = self.required(&table, "id", "1 to 255 bytes without control characters", |value| {
            ChildId::new(value::text(value)?).map_err(|_| "is no child id".to_owned())
        });
        let restart = self.choice(&table, "restart", &RESTARTS);
        let permanent =
            !Self::is_wrong(&table, "restart", restart.as_ref()) && restart.unwrap_or_default() == Restart::Permanent;
        let accepted = "kill, forever, or a time such as 500ms or 5s, up to 1h";
        let shutdown = self.optional(&table, "shutdown", accepted, shutdown);
        let accepted = "here, any, spread, least_loaded, { node = \"a\" }, { any_of = [\"a\", \"b\"] } or { label = { zone = \"a\" } }";
        let placement = self.optional(&table, "placement", accepted, placement).unwrap_or_default();
        let name = self.optional(&table, "name", "a name such as orders", |value| {
            value::text(value)?.parse().map_err(|error: rookery_node::protocol::ParseIdError| error.to_string())
        });
        let cluster_name = self.optional(&table, "cluster_name", "a name such as orders", |value| {
            value::text(value)?.parse().map_err(|error: rookery_node::protocol::ParseIdError| error.to_string())
        });
        let accepted = "a list of at most 16 groups such as [\"rooms\", \"chat#rooms\"]";
        let groups = self.optional(&table, "groups", accepted, groups).unwrap_or_default();
        let significant = self.optional(&table, "significant", "true or false", value::truth).unwrap_or_default();
        if significant && (permanent || never) {
            let path = format!("{}.significant", table.path);
            let what = "needs a transient or temporary child, and a supervisor with auto_shutdown";
            self.wrong(&path, table.dict.get("significant"), what, "accepted: false, or these two");
        }
        let (behaviour, arguments) = match is_tree {
            true if depth >= DEPTH_MAX => {
                let what = format!("is a supervisor under {DEPTH_MAX} others");
                self.wrong(&table.path, None, &what, "accepted: a flatter tree");
                (None, Json::default())
            }
            true => {
                let data = self.supervisor(&table, depth + 1);
                (SUPERVISOR.parse().ok(), Json(serde_json::to_value(data).unwrap_or_default()))
            }
            false => {
                let arguments = table.dict.get("arguments").and_then(|value| serde_json::to_value(value).ok());
                (self.behaviour(&table, &placement), Json(arguments.unwrap_or_default()))
            }
        };
        let mut child = ChildSpecData::new(id?, behaviour?);
        child.kind = is_tree.then_some(ChildType::Supervisor);
        let restart = restart.unwrap_or_default();
        Some(ChildSpecData {
            arguments,
            name,
            cluster_name,
            groups,
            restart,
            shutdown,
            placement,
            significant,
            ..child
        })
    }

    /// A behaviour's name. What this program can start is known; what others can is not.
    fn behaviour(&mut self, table: &Table<'_>, placement: &Placement) -> Option<rookery_node::BehaviourName> {
        let accepted = format!("a behaviour: {}; or children, for a supervisor", STOCK_BEHAVIOURS.join(", "));
        self.required(table, "behaviour", &accepted, |value| {
            let name = value::text(value)?;
            if *placement == Placement::Here && !STOCK_BEHAVIOURS.contains(&name.as_str()) {
                let hint = nearest(&name, STOCK_BEHAVIOURS).map(|near| format!(" (did you mean {near}?)"));
                return Err(format!("is no behaviour of this node{}", hint.unwrap_or_default()));
            }
            name.parse().map_err(|error: rookery_node::protocol::ParseIdError| error.to_string())
        })
    }

    fn choice<T: Copy>(&mut self, table: &Table<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.optional(table, key, &words.join(", "), |value| value::choice(value, choices))
    }

    fn required<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        accepted: &str,
        parse: impl Fn(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !table.dict.contains_key(key) {
            self.wrong(&format!("{}.{key}", table.path), None, "is missing", &format!("accepted: {accepted}"));
        }
        self.optional(table, key, accepted, parse)
    }

    fn optional<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        accepted: &str,
        parse: impl Fn(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let value = table.dict.get(key)?;
        let path = format!("{}.{key}", table.path);
        parse(value).map_err(|what| self.wrong(&path, Some(value), &what, &format!("accepted: {accepted}"))).ok()
    }

    /// Whether something has been said of `key`, and that was wrong.
    fn is_wrong<T>(table: &Table<'_>, key: &str, read: Option<&T>) -> bool {
        read.is_none() && table.dict.contains_key(key)
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

fn shutdown(value: &Value) -> Result<Shutdown, Wrong> {
    match value.as_str() {
        Some("kill") => Ok(Shutdown::Kill),
        Some("forever") => Ok(Shutdown::Forever),
        _ => value::time(value, Duration::ZERO, HOUR).map(Shutdown::Within),
    }
}

fn groups(value: &Value) -> Result<Vec<Group>, Wrong> {
    let groups = value::list_of(value, |text| text.parse().map_err(|_| "is no group".to_owned()))?;
    if groups.len() > MAX_GROUPS_PER_SPAWN { Err("has too many groups".to_owned()) } else { Ok(groups) }
}

fn placement(value: &Value) -> Result<Placement, Wrong> {
    const WORDS: [(&str, Placement); 4] = [
        ("here", Placement::Here),
        ("any", Placement::Any),
        ("spread", Placement::Spread),
        ("least_loaded", Placement::LeastLoaded),
    ];
    let Value::Dict(_, table) = value else {
        let word = value::text(value)?;
        let known = WORDS.into_iter().find(|(known, _)| *known == word);
        return known.map(|(_, placement)| placement).ok_or_else(|| "is none of the choices".to_owned());
    };
    let node = |name: &str| value::dns_name(name)?.parse().map_err(|_| "is no node's name".to_owned());
    match table.iter().collect::<Vec<_>>()[..] {
        [(key, value)] if key == "node" => node(&value::text(value)?).map(Placement::Node),
        [(key, value)] if key == "any_of" => value::list_of(value, node).map(Placement::AnyOf),
        [(key, Value::Dict(_, labels))] if key == "label" && !labels.is_empty() => {
            let label = |(name, value): (&String, &Value)| Ok((name.clone(), value::text(value)?));
            labels.iter().map(label).collect::<Result<_, Wrong>>().map(Placement::Label)
        }
        _ => Err("is none of the choices".to_owned()),
    }
}
