//! How a cluster name is got: its arbiter is asked, one round trip, and then the process takes what it was granted.
//!
//! **Invariant:** a name is asked for once at a time for each process, and not for one that has it. So no answer is to a question of
//! before the process gave the name up.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rookery_protocol::{
    CallId, Destination, DirectoryUpdate, NodeId, Pid, ProcessName, Recipient, Serial, Signal, SignalBody,
    request::{RequestBody, RequestError, ResponseBody},
};
use tokio::time::Instant;

use crate::{
    handover::limits::KNOWN_PATIENCE,
    requests::{REQUEST_TIMEOUT, Ties},
    runtime::{RegisterError, Runtime},
    sync::write,
};

/// How soon a name is asked for again that its arbiter believes to be taken, while this node knows better, or the other way round: the
/// two have heard of the holder's end, or of its node's loss, at different moments.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// For how long. A holder whom one of the two still sees then is one that the other does not see.
const CONTRADICT_FOR: Duration = Duration::from_secs(1);

/// Names that one node asks for at a time in the name of its clients' processes: each is a task until the arbiter
/// answers.
const MAX_CLIENT_CLAIMS: usize = 4_096;

/// A name that an arbiter is asked for.
struct Claim<'a> {
    runtime: &'a Runtime,
    name: &'a ProcessName,
    pid: &'a Pid,
    /// Whom to tell that the name is not taken; `None` while or once there is nothing to give back. Whoever asked may be ended while
    /// it waits.
    arbiter: Option<NodeId>,
}

/// Why a name was not had.
struct Refused {
    error: RequestError,
    /// Whether the arbiter has granted it; then it is this node that knows of another holder.
    granted: bool,
}

/// What becomes of a wish for a name.
enum Begun<'a> {
    /// The process has it.
    Has,
    /// It is being asked for already.
    Asked,
    Ask(Claim<'a>),
}

impl<'a> Claim<'a> {
    fn begin(runtime: &'a Runtime, name: &'a ProcessName, pid: &'a Pid) -> Begun<'a> {
        let asked = (name.clone(), pid.clone());
        // Whoever waits for another one that asks leaves the lock to others.
        if runtime.directory().read().asked.contains(&asked) {
            return Begun::Asked;
        }
        let mut state = write(&runtime.directory().0);
        if state.names.has(name, pid) {
            return Begun::Has;
        }
        if !state.asked.insert(asked) {
            return Begun::Asked;
        }
        Begun::Ask(Self { runtime, name, pid, arbiter: None })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(arbiter) = self.arbiter.take() {
            // Behind the request, on the same lane; before the next request.
            let to = Destination { node: arbiter, to: Recipient::Serial(Serial::NODE) };
            let body = SignalBody::Directory(DirectoryUpdate::Release { name: self.name.clone() });
            self.runtime.signal(Signal { from: self.pid.clone(), to, body });
        }
        write(&self.runtime.directory().0).asked.remove(&(self.name.clone(), self.pid.clone()));
    }
}

/// Names.
impl Runtime {
    /// Gives `pid`, a process of this runtime, a name in the cluster (N2). Asks the name's arbiter: a round trip to one
    /// node, which is this one for some names. As `global:register_name/2`, without a lock across the cluster.
    ///
    /// # Errors
    /// Another process has it, who is told; the client may not have it; no answer came within 10 s, or 20 s where it was being asked for
    /// already for this process, and it may or may not have been done.
    pub async fn register_in_cluster(&self, name: &ProcessName, pid: &Pid) -> Result<(), RegisterError> {
        if self.session().is_some() {
            self.enter_directory_of_node(pid)?;
            let request = RequestBody::RegisterInCluster { name: name.clone(), pid: pid.clone() };
            return Ok(self.request_done(&self.node().clone(), request).await?);
        }
        let asked = Instant::now();
        loop {
            match Claim::begin(self, name, pid) {
                Begun::Has => return Ok(()),
                // Whoever asks as well has an answer soon.
                Begun::Asked if asked.elapsed() < REQUEST_TIMEOUT => {}
                Begun::Asked => return Err(RequestError::Timeout.into()),
                Begun::Ask(claim) => match self.claim(claim).await {
                    Ok(()) => return Ok(()),
                    Err(refused) if self.may_ask_again(name, &refused, asked.elapsed()) => {}
                    Err(refused) => return Err(refused.error.into()),
                },
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Whether a name may be had at another try.
    fn may_ask_again(&self, name: &ProcessName, refused: &Refused, asked_for: Duration) -> bool {
        match &refused.error {
            RequestError::NameTaken { holder, .. } => {
                let contradicted = refused.granted || self.holder(name).as_ref() != Some(holder);
                contradicted && asked_for < CONTRADICT_FOR
            }
            // The arbiter is lost; another one takes its place.
            RequestError::NoConnection => asked_for < REQUEST_TIMEOUT,
            _ => false,
        }
    }

    /// `pid`, a process of this node, takes a name of `of`, whose place it takes; waits until all nodes know, so that each
    /// has a holder when `of` gives it up. A name that `of` does not have is asked for as any other.
    pub(crate) async fn succeed_in_cluster(
        &self,
        name: &ProcessName,
        pid: &Pid,
        of: &Pid,
    ) -> Result<(), RegisterError> {
        if self.session().is_some() || !self.take_name_behind(name, pid, of)? {
            return self.register_in_cluster(name, pid).await;
        }
        let own = self.node();
        let asking: Vec<_> = self.directory_members().into_iter().filter(|node| node != own).collect();
        let asking: Vec<_> = asking
            .into_iter()
            .map(|node| {
                let (runtime, pid, names) = (self.clone(), pid.clone(), vec![name.clone()]);
                // Behind the update, on the same lane: what is answered has been heard.
                self.tokio().spawn(async move {
                    let request = RequestBody::WhereInCluster { names };
                    drop(runtime.request_as(&pid, &node, request, Ties::default()).await);
                })
            })
            .collect();
        let all = async {
            for one in asking {
                drop(one.await);
            }
        };
        if tokio::time::timeout(KNOWN_PATIENCE, all).await.is_err() {
            tracing::warn!(%name, %pid, "not all nodes have said that they know the new holder of a name");
        }
        Ok(())
    }

    async fn claim(&self, mut claim: Claim<'_>) -> Result<(), Refused> {
        let (name, pid) = (claim.name, claim.pid);
        let arbiter = self.directory().read().arbiter(name, self.node());
        if arbiter == *self.node() {
            let taken = |holder| RequestError::NameTaken { name: name.clone(), holder };
            self.grant_name(name, pid).map_err(|holder| Refused { error: taken(holder), granted: false })?;
        } else {
            claim.arbiter = Some(arbiter.clone());
            let request = RequestBody::Claim { name: name.clone(), pid: pid.clone() };
            // An answer to a client's process would be passed on to the client. The lane is that of `pid` all the same.
            let asker = if pid.serial().session().is_some() { self.own_pid() } else { pid.clone() };
            let answer = self.request_as(&asker, &arbiter, request, Ties::default()).await;
            if let Err(RequestError::NameTaken { .. } | RequestError::NoConnection) = answer {
                claim.arbiter = None;
            }
            answer.map_err(|error| Refused { error, granted: false })?;
        }
        self.take_name(name, pid).map_err(|error| Refused { error, granted: true })?;
        claim.arbiter = None;
        Ok(())
    }

    /// Asks a name's arbiter in the name of a client's process, and answers when it has.
    pub(super) fn register_for_client(
        &self,
        from: &Pid,
        call: CallId,
        name: ProcessName,
        pid: Pid,
    ) -> Option<Result<ResponseBody, RequestError>> {
        let Some(slot) = ClaimSlot::take(self) else {
            let text = format!("{MAX_CLIENT_CLAIMS} names are being registered for clients already; try again later");
            return Some(Err(RequestError::Refused(text)));
        };
        if !self.claim_begins(&pid, &name) {
            let text = format!("`{name}` is being registered for {pid} already; wait for the answer to that");
            return Some(Err(RequestError::Refused(text)));
        }
        let (runtime, from) = (self.clone(), from.clone());
        // Ends with the arbiter's answer, its loss, or the time limit.
        self.tokio().spawn(async move {
            let _slot = slot;
            let registered = runtime.register_in_cluster(&name, &pid).await;
            runtime.claim_ends(&pid, &name);
            let response = match registered {
                Ok(()) => ResponseBody::Done,
                Err(error) => ResponseBody::Failed(error.0),
            };
            runtime.respond(&runtime.own_pid(), &from, call, response);
        });
        None
    }
}

/// One of the claims that a node makes for its clients at a time.
struct ClaimSlot(Runtime);

impl ClaimSlot {
    fn take(runtime: &Runtime) -> Option<Self> {
        let claims: &AtomicUsize = runtime.client_claims();
        let taken = claims.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < MAX_CLIENT_CLAIMS).then_some(count + 1)
        });
        taken.is_ok().then(|| Self(runtime.clone()))
    }
}

impl Drop for ClaimSlot {
    fn drop(&mut self) {
        self.0.client_claims().fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;
    use crate::RuntimeConfig;

    fn runtime() -> Runtime {
        Runtime::new(RuntimeConfig::new("a.1".parse().unwrap())).unwrap()
    }

    #[tokio::test]
    async fn n2_a_name_is_asked_for_once_at_a_time_and_not_by_who_has_it() {
        let runtime = runtime();
        let waits = async |_: crate::Context<()>| std::future::pending::<()>().await;
        let (pid, name) = (runtime.spawn(waits).unwrap().pid().unwrap(), "till".parse().unwrap());
        let Begun::Ask(claim) = Claim::begin(&runtime, &name, &pid) else { unreachable!("nobody has asked") };
        assert!(matches!(Claim::begin(&runtime, &name, &pid), Begun::Asked));
        assert_eq!(runtime.unregister_in_cluster(&name, &pid).await, Err(RequestError::NoProc(pid.clone()).into()));
        drop(claim);
        let Begun::Ask(claim) = Claim::begin(&runtime, &name, &pid) else { unreachable!("nobody asks any more") };
        assert!(runtime.claim(claim).await.is_ok());
        assert!(matches!(Claim::begin(&runtime, &name, &pid), Begun::Has));
    }

    #[tokio::test]
    async fn n2_a_name_is_asked_for_again_while_arbiter_and_node_know_of_different_holders() {
        let (runtime, name): (_, ProcessName) = (runtime(), "till".parse().unwrap());
        let taken = |granted| {
            let holder = "<b.1.1>".parse().unwrap();
            Refused { error: RequestError::NameTaken { name: "till".parse().unwrap(), holder }, granted }
        };
        assert!(runtime.may_ask_again(&name, &taken(false), Duration::ZERO), "this node knows of nobody");
        write(&runtime.directory().0).names.hold(&name, &"<b.1.1>".parse().unwrap(), rookery_protocol::Stamp(1));
        assert!(!runtime.may_ask_again(&name, &taken(false), Duration::ZERO), "both know of one");
        assert!(runtime.may_ask_again(&name, &taken(true), Duration::ZERO), "the arbiter knows of nobody");
        assert!(!runtime.may_ask_again(&name, &taken(true), CONTRADICT_FOR), "not for ever");
    }
}
