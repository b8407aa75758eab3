//! Reads option after option from the layers, and keeps for each its row (value and origin) and its problems.
//!
//! A reader never stops at a problem: it notes it and gives nothing for that option, so that one run tells all.
//! `settings.rs` says which options there are and what bounds they have; `value.rs` and `address.rs` say how their
//! texts are read. `finish` hands rows and problems over in the order of the table of options.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use rookery_node::{
    admin::dashboard::Reach,
    status::{Label, Labels, MAX_LABELS},
    trace::config::Endpoint,
};
use serde_json::{Value as Json, json};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::address;
use super::clients::{self, CLIENT_KEY, ClientPolicy};
use super::layers::{Layers, Surroundings};
#[cfg(test)]
use super::options::OPTIONS;
use super::options::{DefaultValue, option};
use super::problem::{Origin, Problem, nearest};
use super::supervisors::{self, SUPERVISOR_KEY, Tree};
use super::value::{self, Wrong};
use super::{AdminSetting, IdentitySource, LogColor, LogFormat, LogSettings, STOCK_BEHAVIOURS};

/// Most threads; far above any machine's cores, far below what a slip of the pen would start.
const WORKER_THREADS_MAX: u64 = 1_024;

/// One option as `config check` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Key of the option.
    pub(crate) option: &'static str,
    /// Its value; null if it has none.
    pub(crate) value: Json,
    /// The value for people.
    pub(crate) text: String,
    /// Where it came from.
    pub(crate) origin: Origin,
}

/// What a reader leaves behind.
pub(crate) struct Checked {
    /// One row for each option that is right.
    pub(crate) rows: Vec<Row>,
    /// Everything that is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Reads options and collects rows and problems.
pub(crate) struct Reader<'a> {
    layers: Layers,
    surroundings: &'a Surroundings,
    rows: Vec<Row>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader that begins with what is wrong with the file as such.
    pub(crate) fn new(mut layers: Layers, surroundings: &'a Surroundings) -> Self {
        let problems = std::mem::take(&mut layers.problems);
        Self { layers, surroundings, rows: Vec::new(), problems }
    }

    /// Rows and problems.
    pub(crate) fn finish(self) -> Checked {
        Checked { rows: self.rows, problems: self.problems }
    }

    /// An option that has one value, its default if nobody gives one; `show` makes the row's text.
    pub(crate) fn one<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Wrong>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let parsed = self.optional(key, parse, |value| Json::from(show(value)))?;
        if parsed.is_none() {
            self.wrong(key, "is missing");
        }
        parsed
    }

    /// An option that may be left out. The outer none is a problem, the inner one an option without a value.
    fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Wrong>,
        show: impl Fn(&T) -> Json,
    ) -> Option<Option<T>> {
        let Some((value, origin)) = self.layers.value(key) else {
            let text = match option(key).map(|spec| spec.default) {
                Some(DefaultValue::Unset(meaning)) => format!("({meaning})"),
                _ => String::new(),
            };
            self.rows.push(Row { option: key, value: Json::Null, text, origin: Origin::Default });
            return Some(None);
        };
        match parse(&value) {
            Ok(parsed) => {
                self.row(key, show(&parsed), origin);
                Some(Some(parsed))
            }
            Err(wrong) => {
                self.problem(key, Some(value::show(&value)), origin, &wrong);
                None
            }
        }
    }

    /// A list; nothing given is an empty one.
    pub(crate) fn list<T: Display>(
        &mut self,
        key: &'static str,
        item: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let show = |items: &Vec<T>| items.iter().map(ToString::to_string).collect::<Vec<_>>().into();
        Some(self.optional(key, |value| value::list_of(value, &item), show)?.unwrap_or_default())
    }

    /// A time in bounds.
    pub(crate) fn time(&mut self, key: &'static str, least: Duration, most: Duration) -> Option<Duration> {
        let show = |time: &Duration| json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.optional(key, |value| value::time(value, least, most), show)?
    }

    /// A size in bounds.
    pub(crate) fn size(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        self.optional(key, |value| value::size(value, least, most), |bytes| json!(bytes))?
    }

    /// A whole number in bounds.
    pub(crate) fn whole(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        self.optional(key, |value| value::whole(value, least, most), |number| json!(number))?
    }

    /// A DNS name that may be left out.
    pub(crate) fn dns_name(&mut self, key: &'static str) -> Option<Option<String>> {
        self.optional(key, |value| value::dns_name(&value::text(value)?), |name| json!(name))
    }

    /// The cluster's name: one label, as it stands where a URI has its host.
    pub(crate) fn cluster(&mut self) -> Option<Option<String>> {
        let parse = |value: &Value| match value::dns_name(&value::text(value)?)? {
            name if name.contains('.') => Err("has a `.`".to_owned()),
            name => Ok(name),
        };
        self.optional("cluster", parse, |name| json!(name))
    }

    /// The node's name: as given, or the host name.
    pub(crate) fn name(&mut self) -> Option<String> {
        const KEY: &str = "name";
        if self.layers.value(KEY).is_some() {
            return self.dns_name(KEY)?;
        }
        let origin = Origin::Computed("the host name");
        let Some(host_name) = self.surroundings.host_name.clone() else {
            self.problem(KEY, None, origin, "is not given, and this machine has no host name");
            return None;
        };
        match value::dns_name(&host_name) {
            Ok(name) => {
                self.row(KEY, json!(name), origin);
                Some(name)
            }
            Err(wrong) => {
                self.problem(KEY, Some(host_name), origin, &wrong);
                None
            }
        }
    }

    /// The headless Service's name; what people write in front of it by mistake is told.
    pub(crate) fn service(&mut self) -> Option<Option<String>> {
        let parse = |value: &Value| {
            let text = value::text(value)?;
            if text.starts_with('_') {
                return Err("begins with the name of a record, which is added by itself".to_owned());
            }
            value::dns_name(&text)
        };
        self.optional("service", parse, |name| json!(name))
    }

    /// The admin port, or `none`; the row says `none` as well.
    pub(crate) fn admin(&mut self) -> Option<Option<AdminSetting>> {
        const KEY: &str = "admin";
        let is_given = self.layers.value(KEY).is_some_and(|(_, origin)| origin.rank() > Origin::Default.rank());
        let parse = |value: &Value| match value::text(value)? {
            none if none == "none" => Ok(None),
            text => address::listen_address(&text).map(Some),
        };
        let show = |address: &Option<SocketAddr>| json!(address.map_or("none".to_owned(), |at| at.to_string()));
        let address = self.optional(KEY, parse, show)?.flatten();
        Some(address.map(|address| AdminSetting { address, is_given }))
    }

    /// To whom the dashboard is shown.
    pub(crate) fn dashboard(&mut self) -> Option<Reach> {
        const CHOICES: [(&str, Reach); 3] = [("local", Reach::Local), ("on", Reach::Everywhere), ("off", Reach::Off)];
        self.one("dashboard", |value| value::choice(value, &CHOICES), |reach| name_of(*reach, &CHOICES))
    }

    /// A file that may be left out.
    pub(crate) fn file(&mut self, key: &'static str) -> Option<Option<PathBuf>> {
        self.optional(key, value::path, |path| json!(path))
    }

    /// The behaviours to start, each once; `none` for none.
    pub(crate) fn boot(&mut self) -> Option<Vec<String>> {
        let parse = |value: &Value| {
            let names = value::list(value)?;
            if names == ["none"] {
                return Ok(Vec::new());
            }
            for (index, name) in names.iter().enumerate() {
                if !STOCK_BEHAVIOURS.contains(&name.as_str()) {
                    let hint = nearest(name, STOCK_BEHAVIOURS)
                        .map(|near| format!(" (did you mean {near}?)"))
                        .unwrap_or_default();
                    return Err(format!("has an item, `{name}`, that is no stock behaviour{hint}"));
                }
                if names.iter().take(index).any(|earlier| earlier == name) {
                    return Err(format!("has the item `{name}` twice"));
                }
            }
            Ok(names)
        };
        Some(self.optional("boot", parse, |names| json!(names))?.unwrap_or_default())
    }

    /// The node's labels, each name once.
    pub(crate) fn labels(&mut self) -> Option<Labels> {
        let parse = |value: &Value| {
            let labels = value::list_of(value, |text| text.parse::<Label>().map_err(|error| error.to_string()))?;
            if labels.len() > MAX_LABELS {
                return Err(format!("has more than {MAX_LABELS} labels"));
            }
            let mut read = Labels::new();
            match labels.into_iter().find_map(|label| read.insert(label.name.clone(), label.value).map(|_| label.name))
            {
                Some(twice) => Err(format!("has the label `{twice}` twice")),
                None => Ok(read),
            }
        };
        let show =
            |labels: &Labels| labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().into();
        Some(self.optional("label", parse, show)?.unwrap_or_default())
    }

    /// The threads that run processes: as given, or the cores.
    pub(crate) fn worker_threads(&mut self) -> Option<u64> {
        const KEY: &str = "worker_threads";
        if self.layers.value(KEY).is_some() {
            return self.whole(KEY, 1, WORKER_THREADS_MAX);
        }
        let cores = u64::try_from(self.surroundings.cores).unwrap_or(1).clamp(1, WORKER_THREADS_MAX);
        self.row(KEY, json!(cores), Origin::Computed("the cores this node may use"));
        Some(cores)
    }

    /// A directory, or three files. The higher layer wins; both in one layer is a contradiction.
    pub(crate) fn identity(&mut self) -> Option<IdentitySource> {
        let rank = |layers: &Layers, key| layers.value(key).map(|(_, origin)| origin.rank());
        let directory_rank = rank(&self.layers, "identity").unwrap_or_default();
        let files_rank = ["ca", "cert", "key"].into_iter().filter_map(|key| rank(&self.layers, key)).max();
        let show = |path: &PathBuf| json!(path);
        let directory = self.optional("identity", value::path, show);
        let files = ["ca", "cert", "key"].map(|key| (key, self.optional(key, value::path, show)));

        match files_rank {
            Some(files_rank) if files_rank == directory_rank => {
                self.wrong(
                    "identity",
                    "contradicts ca, cert and key, which are set in the same place: give one or the other",
                );
                return None;
            }
            Some(files_rank) if files_rank > directory_rank => {}
            _ => return directory?.map(IdentitySource::Directory),
        }
        for (key, file) in &files {
            if matches!(file, Some(None)) {
                self.wrong(key, "is missing: ca, cert and key go together");
            }
        }
        let [ca, cert, key] = files.map(|(_, file)| file.flatten());
        Some(IdentitySource::Files { ca: ca?, cert: cert?, key: key? })
    }

    /// How to log.
    pub(crate) fn log(&mut self) -> Option<LogSettings> {
        let parse = |value: &Value| {
            let filter = value::text(value)?;
            EnvFilter::try_new(&filter).map_err(|error| format!("is no filter ({error})"))?;
            // To the parser, a misspelt level is the name of a target, and nothing but that target would be logged.
            let is_word = filter.bytes().all(|b| b.is_ascii_alphanumeric());
            if is_word && filter.parse::<LevelFilter>().is_err() {
                return Err("is no level".into());
            }
            Ok(filter)
        };
        let filter = self.one("log", parse, Clone::clone);
        let word = |choice: &LogFormat| name_of(*choice, &LogFormat::CHOICES);
        let format = self.one("log_format", |value| value::choice(value, &LogFormat::CHOICES), word);
        let word = |choice: &LogColor| name_of(*choice, &LogColor::CHOICES);
        let color = self.one("log_color", |value| value::choice(value, &LogColor::CHOICES), word);
        Some(LogSettings { filter: filter?, format: format?, color: color? })
    }

    /// The collector of traces.
    pub(crate) fn otlp_endpoint(&mut self) -> Option<Option<Endpoint>> {
        self.optional("otlp_endpoint", value::endpoint, |endpoint| json!(endpoint.to_string()))
    }

    /// The policies of clients.
    pub(crate) fn clients(&mut self) -> Vec<ClientPolicy> {
        let read = self.layers.value(CLIENT_KEY);
        let (policies, origin) = match read {
            Some((value, origin)) => (clients::read(&value, &origin, &mut self.problems), origin),
            None => (Vec::new(), Origin::Default),
        };
        let shown: Vec<Json> = policies.iter().chain([&ClientPolicy::default()]).map(policy_json).collect();
        let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
        let text = if names.is_empty() { "(default policy)".to_owned() } else { names.join(", ") };
        self.rows.push(Row { option: CLIENT_KEY, value: Json::Array(shown), text, origin });
        policies
    }

    /// The supervision trees.
    pub(crate) fn trees(&mut self) -> Vec<Tree> {
        let (trees, origin) = match self.layers.value(SUPERVISOR_KEY) {
            Some((value, origin)) => (supervisors::read(&value, &origin, &mut self.problems), origin),
            None => (Vec::new(), Origin::Default),
        };
        let shown =
            trees.iter().map(|tree| json!({ "name": tree.name, "cluster": tree.cluster, "tree": tree.data })).collect();
        let names: Vec<&str> = trees.iter().map(|tree| tree.name.as_str()).collect();
        let text = if names.is_empty() { "(none)".to_owned() } else { names.join(", ") };
        self.rows.push(Row { option: SUPERVISOR_KEY, value: Json::Array(shown), text, origin });
        trees
    }

    /// Notes that the option's value, right by itself, is wrong.
    pub(crate) fn wrong(&mut self, key: &'static str, what: &str) {
        let (value, origin) = match self.layers.value(key) {
            Some((value, origin)) => (Some(value::show(&value)), origin),
            None => (None, Origin::Default),
        };
        self.problem(key, value, origin, what);
    }

    fn problem(&mut self, key: &'static str, value: Option<String>, origin: Origin, what: &str) {
        let accepts = option(key).map_or("", |spec| spec.accepts);
        let accepted = format!("accepted: {accepts}");
        self.problems.push(Problem { option: key.to_owned(), value, origin, what: what.to_owned(), accepted });
    }

    fn row(&mut self, key: &'static str, value: Json, origin: Origin) {
        let text = match &value {
            Json::String(text) => text.clone(),
            Json::Array(items) if items.is_empty() => "(none)".to_owned(),
            Json::Array(items) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
            Json::Number(bytes) if key.ends_with("_bytes") => bytes.as_u64().map(value::show_size).unwrap_or_default(),
            other => other.to_string(),
        };
        self.rows.push(Row { option: key, value, text, origin });
    }
}

/// The keys in the order in which rows come: that of the table, the clients' and the supervisors' last.
#[cfg(test)]
pub(crate) fn keys_in_order() -> Vec<&'static str> {
    OPTIONS.iter().map(|spec| spec.key).chain([CLIENT_KEY, SUPERVISOR_KEY]).collect()
}

fn name_of<T: PartialEq>(choice: T, choices: &[(&'static str, T)]) -> String {
    choices.iter().find(|(_, known)| *known == choice).map_or("", |(word, _)| word).to_owned()
}

fn policy_json(policy: &ClientPolicy) -> Json {
    fn globs(globs: &[clients::Glob]) -> Vec<&str> {
        globs.iter().map(clients::Glob::as_str).collect()
    }
    json!({
        "name": policy.name.as_str(),
        "send": globs(&policy.send),
        "spawn": globs(&policy.spawn),
        "register": globs(&policy.register),
        "join": globs(&policy.join),
        "monitor": policy.monitor,
        "link": policy.link,
        "exit": policy.exit,
    })
}
