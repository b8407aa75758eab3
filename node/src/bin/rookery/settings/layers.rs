//! The layers of settings, put one over the other by figment: defaults, the TOML file, the environment, the flags.
//!
//! Data comes from the command line (`SettingsArgs`), from the environment handed in as `Surroundings` (so that
//! tests need not change the process's own), and from the file that `--config` or `ROOKERY_CONFIG` names. Each
//! value keeps the tag of its layer, from which `origin_of` tells an operator where it was set. Values are kept as
//! given; nothing is judged here but the file's syntax and its keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::args::SettingsArgs;
use super::clients::CLIENT_KEY;
use super::options::{DefaultValue, OPTIONS, option};
use super::problem::{Origin, Problem, nearest};
use super::supervisors::SUPERVISOR_KEY;

/// Prefix of every environment variable that is ours.
const VARIABLE_PREFIX: &str = "ROOKERY_";
/// Names the TOML file; it is no row of the table, as it cannot stand in the file itself.
pub(crate) const CONFIG_VARIABLE: &str = "ROOKERY_CONFIG";
/// The ecosystem's variable for log filters; it counts below our own flag and variable.
const RUST_LOG: &str = "RUST_LOG";

const DEFAULT_LAYER: &str = "default";
const VARIABLE_LAYER: &str = "variable";
const RUST_LOG_LAYER: &str = "RUST_LOG";
const FLAG_LAYER: &str = "flag";

/// What the settings take from the machine, gathered once so that the rest is a function of its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// The environment.
    pub(crate) variables: Vec<(String, String)>,
    /// The host name, if it is known.
    pub(crate) host_name: Option<String>,
    /// Cores that this process may use, by affinity and cgroup.
    pub(crate) cores: usize,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        // The kernel's name is right in every pod; HOSTNAME is what shells and other systems have.
        let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .or_else(|| variables.iter().find(|(name, _)| name == "HOSTNAME").map(|(_, value)| value.clone()));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { variables, host_name, cores }
    }

    /// A variable's value; an empty one counts as not set, as an unset value in a manifest is often empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}

/// The layers, one over the other.
#[derive(Debug)]
pub(crate) struct Layers {
    figment: Figment,
    /// What is wrong with the file as a file: missing, no TOML, unknown keys.
    pub(crate) problems: Vec<Problem>,
    /// What is worth a warning but no error.
    pub(crate) warnings: Vec<String>,
}

impl Layers {
    /// Puts the layers together. Reads the file that is named, if one is.
    pub(crate) fn gather(args: &SettingsArgs, surroundings: &Surroundings) -> Self {
        let mut problems = Vec::new();
        let mut figment = Figment::from(Layer::defaults());

        let named = match (&args.config, surroundings.variable(CONFIG_VARIABLE)) {
            (Some(path), _) => Some((path.clone(), Origin::Flag("--config".to_owned()))),
            (None, Some(path)) => Some((PathBuf::from(path), Origin::Variable(CONFIG_VARIABLE.to_owned()))),
            (None, None) => None,
        };
        if let Some((path, origin)) = &named {
            match read_file(path) {
                Ok(data) => {
                    problems.extend(unknown_keys(path, &data));
                    figment = figment.merge(FileLayer { path: path.clone(), data });
                }
                Err(what) => problems.push(Problem {
                    option: "config".to_owned(),
                    value: Some(path.display().to_string()),
                    origin: origin.clone(),
                    what,
                    accepted: "accepted: the path of a readable TOML file".to_owned(),
                }),
            }
        }

        if let Some(filter) = surroundings.variable(RUST_LOG) {
            figment = figment.merge(Layer::of(RUST_LOG_LAYER, [("log", filter.to_owned())]));
        }
        let given =
            OPTIONS.iter().filter_map(|spec| Some((spec.key, surroundings.variable(spec.variable)?.to_owned())));
        figment = figment.merge(Layer::of(VARIABLE_LAYER, given));
        let given = args.flags.iter().map(|(key, value)| (*key, value.clone()));
        figment = figment.merge(Layer::of(FLAG_LAYER, given));

        Self { figment, problems, warnings: misspelt_variables(surroundings) }
    }

    /// The value of `key` and where it came from; none if no layer has one.
    pub(crate) fn value(&self, key: &str) -> Option<(Value, Origin)> {
        let value = self.figment.find_value(key).ok()?;
        let origin = self.origin_of(&value, key);
        Some((value, origin))
    }

    fn origin_of(&self, value: &Value, key: &str) -> Origin {
        let Some(metadata) = self.figment.get_metadata(value.tag()) else { return Origin::Default };
        if let Some(path) = metadata.source.as_ref().and_then(figment::Source::file_path) {
            return Origin::File { path: path.to_owned(), key: key.to_owned() };
        }
        match (metadata.name.as_ref(), option(key)) {
            (FLAG_LAYER, Some(spec)) => Origin::Flag(format!("--{}", spec.flag)),
            (VARIABLE_LAYER, Some(spec)) => Origin::Variable(spec.variable.to_owned()),
            (RUST_LOG_LAYER, _) => Origin::Variable(RUST_LOG.to_owned()),
            _ => Origin::Default,
        }
    }
}

/// A layer of plain texts: the defaults, the variables or the flags.
struct Layer {
    name: &'static str,
    values: BTreeMap<&'static str, String>,
}

impl Layer {
    fn of(name: &'static str, values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { name, values: values.into_iter().collect() }
    }

    fn defaults() -> Self {
        let texts = OPTIONS.iter().filter_map(|spec| match spec.default {
            DefaultValue::Text(text) => Some((spec.key, text.to_owned())),
            DefaultValue::Computed(_) | DefaultValue::Unset(_) => None,
        });
        Self::of(DEFAULT_LAYER, texts)
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let dict: Dict = self.values.iter().map(|(key, text)| ((*key).to_owned(), Value::from(text.clone()))).collect();
        Ok(Profile::Default.collect(dict))
    }
}

/// The TOML file, read before so that its syntax errors can be told in our words.
struct FileLayer {
    path: PathBuf,
    data: Dict,
}

impl Provider for FileLayer {
    fn metadata(&self) -> Metadata {
        Metadata::from("TOML file", self.path.as_path())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

fn read_file(path: &Path) -> Result<Dict, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read ({error})"))?;
    Toml::from_str::<Dict>(&text).map_err(|error| {
        // The parser draws the place over several lines; its first line and its reason are enough for one of ours.
        let drawn = error.to_string();
        let mut lines = drawn.lines().filter(|line| !line.contains('|'));
        let place = lines.next().unwrap_or_default().trim().to_owned();
        let reason = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        format!("is no TOML file ({place}: {reason})")
    })
}

fn unknown_keys(path: &Path, data: &Dict) -> Vec<Problem> {
    let known = || OPTIONS.iter().map(|spec| spec.key).chain([CLIENT_KEY, SUPERVISOR_KEY]);
    data.keys()
        .filter(|key| !known().any(|name| name == key.as_str()))
        .map(|key| Problem {
            option: key.clone(),
            value: None,
            origin: Origin::File { path: path.to_owned(), key: key.clone() },
            what: "is no option".to_owned(),
            accepted: match nearest(key, known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("accepted: {}", known().collect::<Vec<_>>().join(", ")),
            },
        })
        .collect()
}

/// Variables that look like ours misspelt. Only a warning: Kubernetes makes `ROOKERY_…` variables of its own for a
/// Service of that name, and the client commands have theirs.
fn misspelt_variables(surroundings: &Surroundings) -> Vec<String> {
    let known = || OPTIONS.iter().map(|spec| spec.variable).chain([CONFIG_VARIABLE]);
    surroundings
        .variables
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !known().any(|variable| variable == *name))
        .filter_map(|name| {
            let bare = name.strip_prefix(VARIABLE_PREFIX)?;
            let near = nearest(bare, known().filter_map(|variable| variable.strip_prefix(VARIABLE_PREFIX)))?;
            Some(format!("{name} is no option's variable and has no effect; did you mean {VARIABLE_PREFIX}{near}?"))
        })
        .collect()
}
