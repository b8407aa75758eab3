//! A Secret as the kubelet mounts it: files that are links into `..data`, which is a link to a directory with a time in its name.
//! What is in it changes by one rename.

use std::{
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rookery_node::tls::{Identity, IssuedPem};

/// A mounted Secret of type `kubernetes.io/tls`.
pub struct Mounted {
    dir: tempfile::TempDir,
    changes: AtomicU64,
}

impl Mounted {
    /// With this in it.
    ///
    /// # Panics
    /// When the disk refuses.
    #[must_use]
    pub fn new(content: &IssuedPem) -> Self {
        let mounted = Self { dir: tempfile::tempdir().unwrap(), changes: AtomicU64::new(0) };
        mounted.swap(content);
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(file), mounted.dir().join(file)).unwrap();
        }
        mounted
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Other content, all at once.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn swap(&self, content: &IssuedPem) {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let (name, data) = (format!("..2026_11_28_{number}"), self.dir().join("..data"));
        let former = std::fs::read_link(&data).ok();
        let new = self.dir().join(&name);
        std::fs::create_dir(&new).unwrap();
        for (file, text) in [("ca.crt", &content.ca), ("tls.crt", &content.cert), ("tls.key", &content.key)] {
            std::fs::write(new.join(file), text).unwrap();
        }
        let link = self.dir().join("..data_tmp");
        symlink(&name, &link).unwrap();
        std::fs::rename(&link, &data).unwrap();
        if let Some(former) = former {
            std::fs::remove_dir_all(self.dir().join(former)).unwrap();
        }
    }

    /// What is in it now.
    ///
    /// # Panics
    /// When that is no identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::from_dir(self.dir()).unwrap()
    }
}
