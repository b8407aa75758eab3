//! Whom a command means: `<orders-0.1f3a.42>`, `counter`, or `counter@orders-0`. A name alone is that of a process on the
//! node that is connected to, or else one of the cluster. With a `#` it is a group: `chat#rooms`, or `#rooms`.

use std::str::FromStr;

use rookery_node::{Destination, Group, NodeId, Pid, ProcessName, Recipient};

use super::connect::{CommandError, Session};

/// A process, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// By pid.
    Pid(Pid),
    /// By the name that it has on a node; none: on the node that is connected to, or in the cluster.
    Name(ProcessName, Option<String>),
    /// Every member of a group.
    Group(Group),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('<') {
            return text.parse().map(Self::Pid).map_err(|error| format!("{error}"));
        }
        if text.contains('#') {
            return text.strip_prefix('#').unwrap_or(text).parse().map(Self::Group).map_err(|error| format!("{error}"));
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
            Self::Group(group) => Destination { node: session.node(None).await?, to: Recipient::Group(group.clone()) },
            Self::Pid(pid) => pid.into(),
            Self::Name(name, Some(node)) => Destination::name(session.node(Some(node)).await?, name.clone()),
            Self::Name(name, None) => {
                let node = session.node(None).await?;
                let to = match find(name, &node, session).await? {
                    Some(Found::InCluster(_)) => Recipient::ClusterName(name.clone()),
                    _ => Recipient::Name(name.clone()),
                };
                Destination { node, to }
            }
        })
    }

    /// Its pid, if it lives.
    pub(crate) async fn pid(&self, session: &Session) -> Result<Pid, CommandError> {
        match self {
            Self::Group(group) => Err(no_one_process(group)),
            Self::Pid(pid) => Ok(pid.clone()),
            Self::Name(name, node) => {
                let at = session.node(node.as_deref()).await?;
                match find(name, &at, session).await? {
                    Some(Found::OnNode(pid)) => Ok(pid),
                    Some(Found::InCluster(pid)) if node.is_none() => Ok(pid),
                    _ => {
                        let or_cluster = if node.is_none() { " or in the cluster" } else { "" };
                        let text = format!("no process has the name `{name}` on {}{or_cluster}", at.name());
                        Err(CommandError::NotDone(text))
                    }
                }
            }
        }
    }
}

/// What is done to one process cannot be done to a group.
pub(crate) fn no_one_process(group: &Group) -> CommandError {
    CommandError::NotDone(format!(
        "group {group} is no one process: `send` reaches all its members, `groups` lists them"
    ))
}

/// Who has a name.
enum Found {
    OnNode(Pid),
    InCluster(Pid),
}

async fn find(name: &ProcessName, node: &NodeId, session: &Session) -> Result<Option<Found>, CommandError> {
    let not_done = |error| CommandError::NotDone(format!("{}: {error}", node.name()));
    if let Some(pid) = session.runtime.whereis_on(node, name).await.map_err(not_done)? {
        return Ok(Some(Found::OnNode(pid)));
    }
    let in_cluster = session.runtime.whereis_in_cluster(name).await.map_err(not_done)?;
    Ok(in_cluster.map(Found::InCluster))
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
        for (text, group) in [("#rooms", "rooms"), ("chat#rooms", "chat#rooms"), ("default#rooms", "rooms")] {
            let Target::Group(parsed) = text.parse().unwrap() else { unreachable!() };
            assert_eq!(parsed.as_str(), group);
        }
        assert!("#".parse::<Target>().unwrap_err().contains("scope#name"));
    }
}
