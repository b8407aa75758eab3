//! Why a connection is not made, by a number for programs and a text for people.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    id::{Incarnation, NodeId},
    limits::MAX_REASON_BYTES,
    text,
};

/// Why a connection was not made. A retired number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
pub enum RefusalCode {
    /// The other cluster's name is not ours.
    WrongCluster,
    /// No protocol version is common to both.
    NoCommonVersion,
    /// The role that is claimed is not the certificate's.
    WrongRole,
    /// The certificate does not allow the name that is claimed.
    NameNotInCertificate,
    /// A node dialled itself.
    SelfDial,
    /// The two are connected already; the tie-break keeps the other connection.
    Duplicate,
    /// A newer incarnation of that name is known.
    OlderIncarnation,
    /// The node is about to leave.
    Draining,
    /// The node has as many clients or peers as it may.
    Busy,
    /// A field makes no sense.
    BadHello,
    /// The handshake took too long.
    TooSlow,
    /// A code of a newer version: what it refuses is still told by its text.
    Other(u8),
}

impl From<RefusalCode> for u8 {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::WrongCluster => 0,
            RefusalCode::NoCommonVersion => 1,
            RefusalCode::WrongRole => 2,
            RefusalCode::NameNotInCertificate => 3,
            RefusalCode::SelfDial => 4,
            RefusalCode::Duplicate => 5,
            RefusalCode::OlderIncarnation => 6,
            RefusalCode::Draining => 7,
            RefusalCode::Busy => 8,
            RefusalCode::BadHello => 9,
            RefusalCode::TooSlow => 10,
            RefusalCode::Other(number) => number,
        }
    }
}

impl From<u8> for RefusalCode {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::WrongCluster,
            1 => Self::NoCommonVersion,
            2 => Self::WrongRole,
            3 => Self::NameNotInCertificate,
            4 => Self::SelfDial,
            5 => Self::Duplicate,
            6 => Self::OlderIncarnation,
            7 => Self::Draining,
            8 => Self::Busy,
            9 => Self::BadHello,
            10 => Self::TooSlow,
            number => Self::Other(number),
        }
    }
}

impl RefusalCode {
    /// One word for a metric's label or a log's field.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongCluster => "wrong_cluster",
            Self::NoCommonVersion => "no_common_version",
            Self::WrongRole => "wrong_role",
            Self::NameNotInCertificate => "name_not_in_certificate",
            Self::SelfDial => "self_dial",
            Self::Duplicate => "duplicate",
            Self::OlderIncarnation => "older_incarnation",
            Self::Draining => "draining",
            Self::Busy => "busy",
            Self::BadHello => "bad_hello",
            Self::TooSlow => "too_slow",
            Self::Other(_) => "other",
        }
    }
}

/// What a node is told that is refused for [`RefusalCode::OlderIncarnation`]: a larger incarnation than this is not refused. On
/// the wire it is a frame of its own, before the refusal's, which older releases skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewerLife {
    /// The newest life of its name that the one who refuses has known.
    pub incarnation: Incarnation,
    /// Whether that one runs, as far as the one who refuses knows: it is connected with it, or is it.
    pub runs: bool,
}

/// A refusal: the code for programs, the text for people, and who refuses.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// What happened, to what, and what to do.
    pub text: String,
    /// The one who refuses, where it may be told.
    pub by: Option<NodeId>,
    /// What newer life there is, if that is why.
    #[serde(skip)]
    pub newer_life: Option<NewerLife>,
}

impl Refusal {
    /// With its text cut at [`MAX_REASON_BYTES`].
    #[must_use]
    pub fn cut(mut self) -> Self {
        text::cut_string(&mut self.text, MAX_REASON_BYTES);
        self
    }
}
