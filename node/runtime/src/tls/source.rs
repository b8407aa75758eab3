//! Where the files of an identity are, and what is in them. They are read whole, at most a mebibyte each; whether what is in them
//! is good is judged by `load.rs`.

use std::path::{Path, PathBuf};

use super::limits::PEM_FILE_MAX_BYTES;
use super::load::{file_names_in, read_pem};
use super::load_error::{LoadError, Origin};
use super::summary::Fingerprint;

const _: () = assert!(PEM_FILE_MAX_BYTES < u32::MAX as u64, "a length of four bytes tells three texts apart");

/// Where the files of an identity are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IdentityFiles {
    /// In a directory, under the names that [`super::Identity::from_dir`] knows.
    Directory(PathBuf),
    /// Each by its own path.
    Each {
        /// The trusted CAs.
        ca: PathBuf,
        /// The own chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// A text and where it came from.
pub(super) type Text = (Origin, Vec<u8>);

/// The three texts of an identity.
pub(super) struct Texts {
    pub(super) ca: Text,
    pub(super) cert: Text,
    pub(super) key: Text,
}

impl IdentityFiles {
    /// Reads the files, which can wait for the disk.
    pub(super) fn read(&self) -> Result<Texts, LoadError> {
        match self {
            Self::Each { ca, cert, key } => read(ca, cert, key),
            Self::Directory(dir) if !dir.is_dir() => Err(LoadError::NoDirectory { dir: dir.clone() }),
            Self::Directory(dir) => {
                let [ca, cert, key] =
                    file_names_in(dir).ok_or_else(|| LoadError::NoCertificateIn { dir: dir.clone() })?;
                read(&dir.join(ca), &dir.join(cert), &dir.join(key))
            }
        }
    }
}

fn read(ca: &Path, cert: &Path, key: &Path) -> Result<Texts, LoadError> {
    let read = |path: &Path, wanted| read_pem(path, wanted).map(|text| (Origin::File(path.to_owned()), text));
    Ok(Texts {
        ca: read(ca, "the CA's certificate")?,
        cert: read(cert, "the own certificate")?,
        key: read(key, "the own key")?,
    })
}

impl Texts {
    /// Tells these three texts from others, without keeping the key.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut whole = Vec::new();
        for (_, text) in [&self.ca, &self.cert, &self.key] {
            whole.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            whole.extend_from_slice(text);
        }
        Fingerprint::of(&whole)
    }
}
