//! What is wrong with the settings, in words that let an operator mend it without looking anything up.
//!
//! Each problem names the option, the value, where that came from (flag, variable, or file and key) and what is
//! accepted. All problems of one start are collected and told together: nobody mends a deployment one restart at
//! a time. Made by `settings.rs` and its parts, printed by `rookery start` and `rookery config check`.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from. The order is that of precedence: a later one wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The option's default.
    Default,
    /// Found out at start: the host name, the number of cores.
    Computed(&'static str),
    /// A key of the TOML file.
    File {
        /// The file.
        path: PathBuf,
        /// The key in it, such as `listen` or `client[2].send`.
        key: String,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line, with its dashes.
    Flag(String),
}

impl Origin {
    /// Rank of the layer alone, for rules such as "the higher layer wins".
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Default | Self::Computed(_) => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Flag(_) => 3,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Computed(what) => write!(f, "default ({what})"),
            Self::File { path, key } => write!(f, "file {}, key {key}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The option, by its key; for a client policy its path, such as `client[0].send`.
    pub(crate) option: String,
    /// The value as it was given, if the value is what is wrong.
    pub(crate) value: Option<String>,
    /// Where it came from.
    pub(crate) origin: Origin,
    /// What is wrong with it, as the rest of a sentence about the value or the option.
    pub(crate) what: String,
    /// What is accepted, or what to do.
    pub(crate) accepted: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.option)?;
        if let Some(value) = &self.value {
            write!(f, "`{value}` ")?;
        }
        write!(f, "(from {}) {}; {}", self.origin, self.what, self.accepted)
    }
}

/// All that is wrong with the settings: never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(problems))]
pub(crate) struct SettingsError {
    /// Every problem, in the order in which `config check` lists the options.
    pub(crate) problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let count = problems.len();
    let plural = if count == 1 { "problem" } else { "problems" };
    let mut text = format!("{count} {plural} in the settings:");
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}

/// The candidate that `given` was most likely meant to be, if any is near enough to be worth saying.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters wrong, and at least two, is a slip; more is another word.
    let limit = (given.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters, with `-` and `_` and the case taken as the same.
fn edit_distance(left: &str, right: &str) -> usize {
    let plain = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (left, right) = (plain(left), plain(right));
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = vec![before];
        for (r, above) in right.iter().zip(row.iter().skip(1)) {
            before = (diagonal + usize::from(l != r)).min(before + 1).min(above + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{edit_distance, nearest};

    #[test]
    fn nearest_key_is_suggested_only_when_near() {
        let keys = ["listen", "lanes", "log", "log_format", "key"];
        assert_eq!(nearest("listn", keys), Some("listen"));
        assert_eq!(nearest("log-format", keys), Some("log_format"));
        assert_eq!(nearest("lane", keys), Some("lanes"));
        assert_eq!(nearest("replicas", keys), None);
        assert_eq!(nearest("xyz", keys), None);
    }

    #[test]
    fn distance_counts_changes() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
