//! The name of a process group: a scope and a name within it, as in Erlang's `pg`. Scopes keep apart what has nothing to do
//! with each other. Plain data, checked when it is made, printed and parsed back.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{error::ParseIdError, limits::MAX_NAME_BYTES};

/// The scope of a group that names none.
pub const DEFAULT_SCOPE: &str = "default";

const ACCEPTS: &str = "`name` or `scope#name`, each of letters, digits and `-_.:/`, 1 to 255 in all";

/// A group of processes: `rooms`, or in a scope of its own `chat#rooms`.
///
/// ```
/// use rookery_protocol::Group;
/// let group: Group = "chat#rooms".parse()?;
/// assert_eq!((group.scope(), group.name()), ("chat", "rooms"));
/// assert_eq!("default#rooms".parse::<Group>()?, Group::new("rooms")?);
/// # Ok::<(), rookery_protocol::ParseIdError>(())
/// ```
// The default scope is not written, so that one group has one text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(Arc<str>);

impl Group {
    /// Checks `text` and makes a group of it: `name` in the default scope, or `scope#name`.
    ///
    /// # Errors
    /// Says what is accepted.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ParseIdError> {
        let text = text.as_ref();
        let (scope, name) = text.split_once('#').unwrap_or((DEFAULT_SCOPE, text));
        let valid = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/'))
        };
        if text.len() > MAX_NAME_BYTES || !valid(scope) || !valid(name) {
            return Err(ParseIdError::new("group", text, ACCEPTS));
        }
        Ok(Self(Arc::from(if scope == DEFAULT_SCOPE { name } else { text })))
    }

    /// The group `name` of `scope`.
    ///
    /// # Errors
    /// Says what is accepted.
    pub fn scoped(scope: &str, name: &str) -> Result<Self, ParseIdError> {
        Self::new(format!("{scope}#{name}"))
    }

    /// Its scope.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.0.split_once('#').map_or(DEFAULT_SCOPE, |(scope, _)| scope)
    }

    /// Its name within the scope.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('#').map_or(&*self.0, |(_, name)| name)
    }

    /// Both, as it is printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Group {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Self::new(text)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    #[test]
    fn one_group_has_one_text() {
        assert_eq!(Group::new("default#a").unwrap(), Group::new("a").unwrap());
        assert_eq!(Group::scoped("s", "a").unwrap().to_string(), "s#a");
        assert_ne!(Group::scoped("s", "a").unwrap(), Group::new("a").unwrap());
    }

    #[test]
    fn what_is_no_group_is_refused_with_the_form() {
        let long = "x".repeat(256);
        for text in ["", "#", "a#", "#a", "a#b#c", "a b", "ä", long.as_str()] {
            assert!(Group::new(text).unwrap_err().to_string().contains("scope#name"), "{text}");
        }
    }
}
