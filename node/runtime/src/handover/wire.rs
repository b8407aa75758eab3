//! What nodes say to each other about handing over. None of it is a frame of its own: questions are messages to the
//! process `rookery:handover`, and a successor is an ordinary start whose arguments are a [`Succession`]. A node of a
//! release that knows neither answers `NoProc`, or that its behaviour takes no such arguments.
//!
//! Numbers are the variants' order, so new ones are added at the end; a shape never changes.

use rookery_protocol::{Codec, Group, Payload, Pid, ProcessName, Tag, codec};
use serde::{Deserialize, Serialize};

use crate::{
    Blob,
    reply::{CallError, ReplyTo},
    tag_of,
};

/// What a successor is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "rookery.Succession")]
pub(crate) struct Succession {
    /// Whose place it takes.
    pub(crate) of: Pid,
    /// What it is started with if no state is handed over; and beside it.
    pub(crate) arguments: Payload,
    /// The name in the cluster that it takes, of its predecessor if that has it.
    pub(crate) cluster_name: Option<ProcessName>,
    /// The groups that it joins.
    pub(crate) groups: Vec<Group>,
}

impl Succession {
    /// As the arguments of a start.
    pub(crate) fn payload(&self) -> Result<Payload, String> {
        let mut body = Vec::new();
        codec::append(self, &mut body)?;
        Ok(Payload { tag: Tag::from_static(tag_of::<Self>()), codec: Codec::Bincode, body: body.into() })
    }

    /// Whether these are the arguments of a successor.
    pub(crate) fn is(payload: &Payload) -> bool {
        payload.tag.as_str() == tag_of::<Self>()
    }

    pub(crate) fn of_payload(payload: &Payload) -> Result<Self, String> {
        codec::decode_payload(&payload.body)
    }
}

/// What `rookery:handover` is asked, of members alone. Each question names the process of its node that it is about.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "rookery.Handover")]
pub(crate) enum Asked {
    /// The first process offers its state to the second one, and handles nothing from then on.
    Offer(Pid, Pid, ReplyTo<Offer>),
    /// A further part of that state, from this byte on.
    Part(Pid, Pid, u64, ReplyTo<Part>),
    /// The second one has all that it needs: the first one lets go of its names, and passes on what comes.
    Commit(Pid, Pid, ReplyTo<()>),
    /// The process has another supervisor from now on, whom it obeys.
    Adopt(Adoption),
    /// As `Commit`, for a process of another node, which the second one does not reach: to be asked from here.
    Relay(Pid, Pid, ReplyTo<Relayed>),
}

/// Who is the supervisor of whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adoption {
    pub(crate) child: Pid,
    pub(crate) parent: Pid,
}

/// What is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Offer {
    /// A state.
    State {
        /// Of its shape.
        version: u32,
        /// How many bytes it has.
        bytes: u64,
        /// The first of them.
        first: Blob,
    },
    /// None: the process hands over its names, and what comes for it.
    Nothing,
}

/// What came of a commit that was passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Relayed {
    /// It is done.
    Committed,
    /// The process goes on; why.
    Refused(String),
    /// There is no such process any more, or its node is out of reach from here as well.
    Lost,
    /// It does not answer.
    Silent,
}

impl Relayed {
    /// Of the answer that came.
    pub(crate) fn of(answer: Result<(), CallError>) -> Self {
        match answer {
            Ok(()) => Self::Committed,
            Err(CallError::Timeout) => Self::Silent,
            Err(CallError::Refused(why)) => Self::Refused(why),
            Err(_) => Self::Lost,
        }
    }

    /// As the answer to whoever had it passed on.
    pub(crate) fn answer(self) -> Result<(), CallError> {
        match self {
            Self::Committed => Ok(()),
            Self::Refused(why) => Err(CallError::Refused(why)),
            Self::Lost => Err(CallError::NoProc),
            Self::Silent => Err(CallError::Timeout),
        }
    }
}

/// Some of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part(pub(crate) Blob);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn bytes<T: Serialize>(value: &T) -> String {
        let mut bytes = Vec::new();
        codec::append(value, &mut bytes).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nodes of two releases tell each other these: they stay as they are for ever.
    #[test]
    fn golden_bytes() {
        let succession = Succession {
            of: "<a.1f.7>".parse().unwrap(),
            arguments: Payload::json("null"),
            cluster_name: Some("prices".parse().unwrap()),
            groups: vec!["tills".parse().unwrap()],
        };
        let payload = succession.payload().unwrap();
        assert_eq!(payload.tag.as_str(), "rookery.Succession");
        assert_eq!(bytes(&succession), "01611f070002046e756c6c0106707269636573010574696c6c73");
        assert_eq!(Succession::of_payload(&payload), Ok(succession));
        assert!(Succession::is(&payload) && !Succession::is(&Payload::json("null")));
        let offer = Offer::State { version: 2, bytes: 300, first: Blob::from(vec![1, 2]) };
        assert_eq!((bytes(&offer), bytes(&Offer::Nothing)), ("0002fb2c01020102".to_owned(), "01".to_owned()));
        let adoption = Adoption { child: "<a.1f.7>".parse().unwrap(), parent: "<b.2.9>".parse().unwrap() };
        assert_eq!(bytes(&Asked::Adopt(adoption)), "0301611f07016202".to_owned() + "09");
        let relayed = [Relayed::Committed, Relayed::Refused("no".to_owned()), Relayed::Lost, Relayed::Silent];
        assert_eq!(relayed.map(|relayed| bytes(&relayed)), ["00", "01026e6f", "02", "03"]);
        assert_eq!(bytes(&Part(Blob::from(vec![9]))), "0109");
        assert_eq!(tag_of::<Asked>(), "rookery.Handover");
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let succession = Succession {
            of: "<a.1f.7>".parse().unwrap(),
            arguments: Payload::json("null"),
            cluster_name: None,
            groups: Vec::new(),
        };
        let mut payload = succession.payload().unwrap();
        for len in 0..payload.body.len() {
            let cut = Payload { body: payload.body.slice(..len), ..payload.clone() };
            assert!(Succession::of_payload(&cut).is_err(), "{len}");
        }
        payload.body = [&payload.body[..], &[0]].concat().into();
        assert!(Succession::of_payload(&payload).is_err(), "bytes are left over");
    }
}
