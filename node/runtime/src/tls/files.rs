//! Writes certificates and keys so that nobody else reads the key, nobody reads half a file, and
//! nothing is overwritten by accident. Texts come from the authority and go to a directory that is
//! 0700 if it is made here; keys are 0600.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// May files that are there be replaced?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// No: then nothing is written at all.
    Refuse,
    /// Yes, each at once: a reader sees the old or the new file.
    Force,
}

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A file is there already. Nothing was written.
    #[error("{} is there already; nothing was written", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// The owner alone (0600).
    Owner,
    /// Everyone that may enter the directory (0644).
    Everyone,
}

/// One file to write.
pub(super) struct NewFile<'a> {
    pub(super) name: &'static str,
    pub(super) text: &'a str,
    pub(super) readers: Readers,
}

/// Writes the files into the directory, each by way of a temporary file and a rename. Two writers
/// at once are not kept apart.
pub(super) fn write_all(dir: &Path, files: &[NewFile<'_>], overwrite: Overwrite) -> Result<(), WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| WriteError::Io { path, source }
    };
    if overwrite == Overwrite::Refuse {
        let there = files.iter().map(|file| dir.join(file.name)).find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = there {
            return Err(WriteError::Exists { path });
        }
    }
    make_private_dir(dir).map_err(failed(dir))?;
    for file in files {
        let path = dir.join(file.name);
        let temporary = dir.join(format!(".{}.{}.tmp", file.name, std::process::id()));
        let written = write_new(&temporary, file).and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            // What failed is told; a left-over temporary file is the lesser evil.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(failed(&path))?;
    }
    Ok(())
}

fn write_new(path: &Path, file: &NewFile<'_>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(match file.readers {
            Readers::Owner => 0o600,
            Readers::Everyone => 0o644,
        });
    }
    let mut handle = match options.open(path) {
        // Left by a writer of the same process id that was killed: it is nobody's.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)?
        }
        other => other?,
    };
    handle.write_all(file.text.as_bytes())?;
    handle.sync_all()
}

/// Makes the directory with 0700. One that is there keeps its mode: it is somebody's choice.
fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(dir)
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn two<'a>(a: &'a str, b: &'a str) -> [NewFile<'a>; 2] {
        [
            NewFile { name: "a", text: a, readers: Readers::Everyone },
            NewFile { name: "b", text: b, readers: Readers::Owner },
        ]
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_readable_by_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("x/y");
        write_all(&dir, &two("1", "2"), Overwrite::Refuse).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join("b"))), (0o700, 0o600));
        // A key that others could read becomes private when it is replaced.
        fs::set_permissions(dir.join("b"), fs::Permissions::from_mode(0o666)).unwrap();
        write_all(&dir, &two("1", "3"), Overwrite::Force).unwrap();
        assert_eq!(mode(&dir.join("b")), 0o600);
        assert_eq!(fs::read_to_string(dir.join("b")).unwrap(), "3");
    }

    #[test]
    fn nothing_is_written_if_one_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "precious").unwrap();
        let error = write_all(dir.path(), &two("1", "2"), Overwrite::Refuse).unwrap_err();
        assert!(matches!(error, WriteError::Exists { path } if path.ends_with("b")));
        assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no other file, no temporary one");
    }

    #[test]
    fn a_symbolic_link_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("b")).unwrap();
        assert!(write_all(dir.path(), &two("1", "2"), Overwrite::Refuse).is_err());
        write_all(dir.path(), &two("1", "2"), Overwrite::Force).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
    }
}
