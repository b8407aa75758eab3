//! Takes up an identity whose files change while it is in use: cert-manager renews certificates, and the kubelet swaps what is
//! mounted of a Secret by one symbolic link.
//!
//! ```text
//! files ─every 2 s─▶ Renewal ─▶ new: the checks of a start, then its owner's ─▶ taken: new handshakes show and trust it
//!                                                                └─▶ refused: told once, the old one stays
//! ```
//! The files are read rather than watched: a watch does not see through the links of a mounted Secret, nor on every file system. What
//! cannot be used is told when it was seen twice, since somebody may be writing it.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::time::MissedTickBehavior;

use super::config::ConfigError;
use super::identity::Identity;
use super::load::assemble;
use super::load_error::LoadError;
use super::source::{IdentityFiles, Texts};
use super::summary::{Fingerprint, rfc3339};

/// How often the files are read: a kubelet is a minute late, so this is soon enough, and costs a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who uses an identity, and takes another one in its place.
pub trait IdentityUser: Send + Sync + 'static {
    /// Whether it can take the place of the one that is in use.
    ///
    /// # Errors
    /// Why not, and what to do.
    fn check(&self, new: &Identity) -> Result<(), String>;

    /// From now on new handshakes show it, and trust its CAs.
    ///
    /// # Errors
    /// The TLS library refuses, which is a bug.
    fn take(&self, new: Identity) -> Result<(), ConfigError>;

    /// Whether the files hold something that cannot be used.
    fn refusing(&self, _is_so: bool) {}
}

/// Keeps the user of `identity` at what its files hold, until it is dropped. Ends at once if it is from no files.
pub async fn keep_renewed(user: Arc<impl IdentityUser>, identity: Identity) {
    let Some(mut renewal) = Renewal::of(&identity) else { return };
    drop(identity);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let judge = user.clone();
        // A disk that does not answer must not hold up who drives the network.
        let looked = tokio::task::spawn_blocking(move || {
            let look = renewal.look(&*judge);
            (renewal, look)
        });
        let (kept, look) = match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "the identity's files are looked at no more: a renewed one is taken up by a restart");
                return user.refusing(true);
            }
        };
        renewal = kept;
        let look = match look {
            Look::New(new, fingerprint) => match take(&*user, *new) {
                Ok(()) => renewal.has_taken(fingerprint),
                Err(error) => renewal.refuse(Some(fingerprint), error.to_string()),
            },
            look => look,
        };
        user.refusing(renewal.is_refusing());
        match look {
            Look::Same | Look::New(..) => {}
            Look::Refused(reason) => tracing::warn!(
                reason,
                "the identity's files have changed and cannot be used; the one that was loaded before stays, and they are read again"
            ),
        }
    }
}

fn take(user: &impl IdentityUser, new: Identity) -> Result<(), ConfigError> {
    let own = new.own().clone();
    let (until, ca_until) = (rfc3339(own.not_after), rfc3339(new.authorities_not_after()));
    user.take(new)?;
    tracing::info!(
        serial = own.serial,
        certificate = own.fingerprint.short(),
        until,
        ca_until,
        "the identity's files have changed; new connections use what they hold now"
    );
    Ok(())
}

/// What a look at the files has come to.
#[derive(Debug)]
enum Look {
    /// Nothing is new, or what is new was told, or will be if it stays.
    Same,
    /// They hold another identity, which is good, as it stands in the files.
    New(Box<Identity>, Fingerprint),
    /// They hold something that cannot be used, for this reason. Said once.
    Refused(String),
}

/// Remembers what is in use, and what was refused.
#[derive(Debug)]
struct Renewal {
    files: IdentityFiles,
    /// What is in use, as it stood in the files.
    taken: Fingerprint,
    /// What stands there now, if it cannot be used.
    trouble: Option<Trouble>,
}

/// What cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    /// None if it could not even be read.
    texts: Option<Fingerprint>,
    reason: String,
    /// It was seen twice, and told.
    told: bool,
}

impl Renewal {
    fn of(identity: &Identity) -> Option<Self> {
        let (files, taken) = identity.files()?;
        Some(Self { files: files.clone(), taken: *taken, trouble: None })
    }

    fn is_refusing(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.told)
    }

    fn look(&mut self, user: &impl IdentityUser) -> Look {
        let texts = self.files.read();
        self.judge(texts, UnixTime::now(), user)
    }

    fn judge(&mut self, texts: Result<Texts, LoadError>, now: UnixTime, user: &impl IdentityUser) -> Look {
        let texts = match texts {
            Ok(texts) => texts,
            Err(error) => return self.refuse(None, error.to_string()),
        };
        let fingerprint = texts.fingerprint();
        if fingerprint == self.taken {
            self.trouble = None;
            return Look::Same;
        }
        let loaded = assemble(texts, Some(self.files.clone()), now).map_err(|error| error.to_string());
        match loaded.and_then(|new| user.check(&new).map(|()| new)) {
            Ok(new) => Look::New(Box::new(new), fingerprint),
            Err(reason) => self.refuse(Some(fingerprint), reason),
        }
    }

    fn has_taken(&mut self, fingerprint: Fingerprint) -> Look {
        self.taken = fingerprint;
        self.trouble = None;
        Look::Same
    }

    fn refuse(&mut self, texts: Option<Fingerprint>, reason: String) -> Look {
        match &mut self.trouble {
            Some(trouble) if trouble.texts == texts && trouble.reason == reason => {
                if std::mem::replace(&mut trouble.told, true) {
                    return Look::Same;
                }
                Look::Refused(reason)
            }
            _ => {
                self.trouble = Some(Trouble { texts, reason, told: false });
                Look::Same
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::tls::{Authority, ClusterName, Overwrite};

    const DAY: Duration = Duration::from_secs(86_400);

    /// Takes what is of cluster `prod`.
    struct Picky;

    impl IdentityUser for Picky {
        fn check(&self, new: &Identity) -> Result<(), String> {
            match new.own().cluster.as_str() {
                "prod" => Ok(()),
                other => Err(format!("it is of {other}")),
            }
        }

        fn take(&self, _: Identity) -> Result<(), ConfigError> {
            Ok(())
        }
    }

    fn authority(cluster: &str) -> Authority {
        Authority::create(&ClusterName::try_from(cluster).unwrap()).unwrap()
    }

    fn issue(authority: &Authority, dir: &Path) {
        authority.issue_node("a", &[], DAY).unwrap().write_to(dir, Overwrite::Force).unwrap();
    }

    fn refusal(look: Look) -> String {
        match look {
            Look::Refused(reason) => reason,
            other => format!("not refused: {other:?}"),
        }
    }

    #[test]
    fn what_changes_is_taken_once() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), authority("prod"));
        issue(&authority, dir.path());
        let first = Identity::from_dir(dir.path()).unwrap();
        let mut renewal = Renewal::of(&first).unwrap();
        assert!(matches!(renewal.look(&Picky), Look::Same));
        issue(&authority, dir.path());
        let Look::New(second, fingerprint) = renewal.look(&Picky) else { unreachable!("it is new") };
        assert!(matches!(renewal.look(&Picky), Look::New(..)), "until it is in use");
        renewal.has_taken(fingerprint);
        assert_ne!(first.own().serial, second.own().serial);
        assert!(matches!(renewal.look(&Picky), Look::Same));
        // Who goes on with the new one knows that it has it.
        assert!(matches!(Renewal::of(&second).unwrap().look(&Picky), Look::Same));
    }

    #[test]
    fn what_cannot_be_used_is_told_once_when_it_stays() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), authority("prod"));
        issue(&authority, dir.path());
        let mut renewal = Renewal::of(&Identity::from_dir(dir.path()).unwrap()).unwrap();
        let key = dir.path().join("key.pem");
        let good = fs::read(&key).unwrap();
        fs::write(&key, "half").unwrap();
        // Somebody may be writing it.
        assert!(matches!(renewal.look(&Picky), Look::Same));
        assert!(!renewal.is_refusing());
        assert!(refusal(renewal.look(&Picky)).contains("key.pem"));
        assert!(renewal.is_refusing());
        assert!(matches!(renewal.look(&Picky), Look::Same));
        fs::write(&key, "other half").unwrap();
        assert!(matches!(renewal.look(&Picky), Look::Same));
        assert!(refusal(renewal.look(&Picky)).contains("key.pem"));
        fs::remove_file(&key).unwrap();
        assert!(matches!(renewal.look(&Picky), Look::Same));
        assert!(refusal(renewal.look(&Picky)).contains("cannot read"));
        // What is in use is there again: nothing is to be done.
        fs::write(&key, good).unwrap();
        assert!(matches!(renewal.look(&Picky), Look::Same));
        assert!(!renewal.is_refusing());
    }

    #[test]
    fn its_user_has_a_say() {
        let dir = tempfile::tempdir().unwrap();
        issue(&authority("prod"), dir.path());
        let mut renewal = Renewal::of(&Identity::from_dir(dir.path()).unwrap()).unwrap();
        issue(&authority("test"), dir.path());
        assert!(matches!(renewal.look(&Picky), Look::Same));
        assert_eq!(refusal(renewal.look(&Picky)), "it is of test");
    }

    #[test]
    fn what_is_of_tomorrow_is_taken_tomorrow() {
        let (dir, authority) = (tempfile::tempdir().unwrap(), authority("prod"));
        issue(&authority, dir.path());
        let mut renewal = Renewal::of(&Identity::from_dir(dir.path()).unwrap()).unwrap();
        issue(&authority, dir.path());
        let read = |renewal: &Renewal| renewal.files.read();
        let yesterday = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) - DAY);
        let texts = read(&renewal);
        assert!(matches!(renewal.judge(texts, yesterday, &Picky), Look::Same));
        let texts = read(&renewal);
        assert!(refusal(renewal.judge(texts, yesterday, &Picky)).contains("not valid before"));
        assert!(matches!(renewal.look(&Picky), Look::New(..)));
    }

    #[test]
    fn an_identity_that_is_from_no_files_has_none_to_look_at() {
        let issued = authority("prod").issue_node("a", &[], DAY).unwrap();
        assert!(Renewal::of(&Identity::from_pem(&issued.ca, &issued.cert, &issued.key).unwrap()).is_none());
    }
}
