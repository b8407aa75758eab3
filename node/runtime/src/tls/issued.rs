//! What the development CA hands out: a certificate, its key and the CA, as PEM, and how that gets
//! into a directory from which [`super::Identity::from_dir`] loads it. The key is a secret: it is
//! neither logged nor readable by others.

use std::fmt;
use std::path::Path;

use super::files::{NewFile, Overwrite, Readers, WriteError, write_all};

/// A new certificate with its key, and the CA that both ends trust, each as PEM.
#[derive(Clone)]
pub struct IssuedPem {
    /// The CA's certificate.
    pub ca: String,
    /// The certificate.
    pub cert: String,
    /// Its key: a secret.
    pub key: String,
}

impl IssuedPem {
    /// Writes `ca.pem`, `cert.pem` and `key.pem` (0600) into the directory, which is made if need
    /// be (0700): [`super::Identity::from_dir`] loads them.
    ///
    /// # Errors
    /// [`WriteError::Exists`] if one of them is there and not to be overwritten, or what the system
    /// says.
    pub fn write_to(&self, dir: &Path, overwrite: Overwrite) -> Result<(), WriteError> {
        let files = [
            NewFile { name: "ca.pem", text: &self.ca, readers: Readers::Everyone },
            NewFile { name: "cert.pem", text: &self.cert, readers: Readers::Everyone },
            NewFile { name: "key.pem", text: &self.key, readers: Readers::Owner },
        ];
        write_all(dir, &files, overwrite)
    }
}

/// The certificate, never the key.
impl fmt::Debug for IssuedPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedPem").field("cert", &self.cert).finish_non_exhaustive()
    }
}
