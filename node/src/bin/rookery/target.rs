//! Whom a command means: `<orders-0.1f3a.42>`, `counter`, or `counter@orders-0`.

use std::str::FromStr;

use rookery_node::{Destination, Pid, ProcessName};

use super::connect::{CommandError, Session};

/// A process, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// By pid.
    Pid(Pid),
    /// By the name that it has on a node; none: on the node that is connected to.
    Name(ProcessName, Option<String>),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('<') {
            return text.parse().map(Self::Pid).map_err(|error| format!("{error}"));
        }
        let (name, node) = match text.split_once('@') {
            Some((_, "")) => {
                return Err(format!("`{text}` has no node behind the `@`: write name@node, or the name alone"));
            }
            Some((name, node)) => (name, Some(node.to_owned())),
            None => (text, None),
        };
        let name = name.parse().map_err(|error| format!("{error}; or give a pid, as '<orders-0.1f3a.42>'"))?;
        Ok(Self::Name(name, node))
    }
}

impl Target {
    /// Where to send to it.
    pub(crate) async fn destination(&self, session: &Session) -> Result<Destination, CommandError> {
        Ok(match self {
            Self::Pid(pid) => pid.into(),
            Self::Name(name, node) => Destination::name(session.node(node.as_deref()).await?, name.clone()),
        })
    }

    /// Its pid, if it lives.
    pub(crate) async fn pid(&self, session: &Session) -> Result<Pid, CommandError> {
        match self {
            Self::Pid(pid) => Ok(pid.clone()),
            Self::Name(name, node) => {
                let node = session.node(node.as_deref()).await?;
                let found = session.runtime.whereis_on(&node, name).await;
                let found = found.map_err(|error| CommandError::NotDone(format!("{}: {error}", node.name())))?;
                found.ok_or_else(|| {
                    CommandError::NotDone(format!("no process has the name `{name}` on {}", node.name()))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::Target;

    #[test]
    fn targets_are_pids_names_or_names_on_nodes() {
        assert!(matches!("<a.1.2>".parse().unwrap(), Target::Pid(_)));
        assert!(matches!("counter".parse().unwrap(), Target::Name(_, None)));
        let Target::Name(name, Some(node)) = "counter@orders-0".parse().unwrap() else { unreachable!() };
        assert_eq!((name.as_str(), node.as_str()), ("counter", "orders-0"));
        assert!("<a.1>".parse::<Target>().unwrap_err().contains("<orders-0.1f3a.42>"));
        assert!("counter@".parse::<Target>().unwrap_err().contains("no node behind"));
        assert!("no such".parse::<Target>().is_err());
    }
}
