//! Why the development CA could not be made, loaded or used, in words for whoever typed the
//! command: what is wrong, with which directory or name, and what to do. Made by `authority.rs`,
//! shown by the command line.

use std::path::PathBuf;

use super::files::WriteError;
use super::load_error::LoadError;
use super::name::NameError;

/// Why the authority could not be made, loaded or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// A client name or cluster name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A node name or DNS name that is none.
    #[error("{given:?} is not a DNS name that a node can have: {reason}")]
    DnsName {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificate would outlive its CA, or be valid for no time at all.
    #[error(
        "a certificate cannot be valid until {until}: its CA is valid until {ca_until}; ask for a shorter time, or make a \
             new CA with `rookery certs init`"
    )]
    Validity {
        /// Until when it was to be valid.
        until: String,
        /// Until when the CA is.
        ca_until: String,
    },
    /// The CA's files cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no CA in the directory.
    #[error("there is no CA in {}; make one with `rookery certs init`, or name its directory", dir.display())]
    NoAuthority {
        /// The directory.
        dir: PathBuf,
    },
    /// The CA's files are not such as [`super::Authority::save`] writes.
    #[error("{} is not a CA that `rookery certs init` made: {reason}", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Files cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The certificate library failed, which is our fault.
    #[error("cannot make a certificate: {reason}; this is a bug")]
    Library {
        /// What it said.
        reason: String,
    },
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Library { reason: error.to_string() }
    }
}
