//! Puppets: processes that do what a test tells them, inside themselves, and report all that they receive.
//!
//! A puppet looks at its mailbox before it takes the next job, so when a job is done, everything that lay in the mailbox
//! before has been reported: [`Puppet::quiet`] builds on it.

use std::{fmt, future::Future, pin::Pin};

use rookery_runtime::{Address, Context, Down, Event, ExitReason, Pid, Received, ReplyTo, Runtime};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::patience::within;

/// What puppets understand.
#[derive(Debug, Serialize, Deserialize)]
pub enum Note {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Many bytes.
    Bytes(Vec<u8>),
    /// A pid.
    Pid(Pid),
    /// A question.
    Ask(ReplyTo<u64>),
}

/// A future that borrows the context of its process.
pub type Job<'c, R> = Pin<Box<dyn Future<Output = R> + Send + 'c>>;

type AnyJob = Box<dyn for<'c> FnOnce(&'c mut Context<Note>) -> Job<'c, ()> + Send>;

enum Command {
    Run(AnyJob),
    End(ExitReason),
}

/// A process that a test moves.
pub struct Puppet {
    /// Its pid.
    pub pid: Pid,
    /// Its address, in its own runtime.
    pub address: Address<Note>,
    commands: mpsc::UnboundedSender<Command>,
    seen: mpsc::UnboundedReceiver<Received<Note>>,
}

impl Puppet {
    /// Starts one that does not trap exits.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        let (commands, mut orders) = mpsc::unbounded_channel();
        let (report, seen) = mpsc::unbounded_channel();
        let address = runtime
            .spawn(async move |mut context: Context<Note>| {
                loop {
                    let order = tokio::select! {
                        biased;
                        received = context.receive() => {
                            drop(report.send(received));
                            continue;
                        }
                        order = orders.recv() => order,
                    };
                    match order {
                        Some(Command::Run(job)) => job(&mut context).await,
                        Some(Command::End(reason)) => return reason,
                        // The test is over.
                        None => return ExitReason::Normal,
                    }
                }
            })
            .unwrap();
        Self { pid: address.pid().unwrap(), address, commands, seen }
    }

    /// Starts one that traps exits.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn trapping(runtime: &Runtime) -> Self {
        let puppet = Self::new(runtime);
        puppet.run(|context| context.trap_exits(true)).await;
        puppet
    }

    /// Does `job` inside the process, and waits until it is done.
    ///
    /// # Panics
    /// When the process ends instead.
    pub async fn run<R: Send + 'static>(&self, job: impl FnOnce(&mut Context<Note>) -> R + Send + 'static) -> R {
        self.run_async(move |context| Box::pin(async move { job(context) })).await
    }

    /// As [`run`](Self::run), for a job that waits.
    ///
    /// # Panics
    /// When the process ends instead.
    pub async fn run_async<R: Send + 'static>(
        &self,
        job: impl for<'c> FnOnce(&'c mut Context<Note>) -> Job<'c, R> + Send + 'static,
    ) -> R {
        within("a puppet's job", self.begin(job)).await.expect("the puppet has ended")
    }

    /// Gives the job to the process; the answer is an error if the process ends before it is done.
    pub fn begin<R: Send + 'static>(
        &self,
        job: impl for<'c> FnOnce(&'c mut Context<Note>) -> Job<'c, R> + Send + 'static,
    ) -> oneshot::Receiver<R> {
        let (done, result) = oneshot::channel();
        let job: AnyJob = Box::new(move |context| {
            Box::pin(async move {
                let value = job(context).await;
                drop(done.send(value));
            })
        });
        drop(self.commands.send(Command::Run(job)));
        result
    }

    /// Holds the process, so that it receives nothing until it is told to go; then it does `job`. Returns once it is held.
    ///
    /// # Panics
    /// When the process ends before.
    pub async fn hold<R: Send + 'static>(&self, job: impl FnOnce(&mut Context<Note>) -> R + Send + 'static) -> Held<R> {
        let (go, gate) = oneshot::channel::<()>();
        let (held, is_held) = oneshot::channel();
        let done = self.begin(move |context| {
            Box::pin(async move {
                held.send(()).unwrap();
                gate.await.unwrap();
                job(context)
            })
        });
        within("a puppet to be held", is_held).await.unwrap();
        Held { go, done }
    }

    /// Sends from inside the process.
    ///
    /// # Panics
    /// When the message cannot be sent.
    pub async fn send(&self, to: &Pid, note: Note) {
        let to = to.clone();
        self.run_async(move |context| {
            let to = context.runtime().address::<Note>(&to);
            Box::pin(async move { to.send(note).await.unwrap() })
        })
        .await;
    }

    /// Ends it with this reason, by its own will.
    pub fn end(&self, reason: ExitReason) {
        drop(self.commands.send(Command::End(reason)));
    }

    /// The next thing that it receives.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn next(&mut self) -> Received<Note> {
        within("something to be received", self.seen.recv()).await.expect("the puppet has ended")
    }

    /// The next thing that it receives, which must be a number.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn number(&mut self) -> u64 {
        match self.next().await {
            Received::Message(Note::Number(number)) => number,
            other => panic!("expected a number, got {other:?}"),
        }
    }

    /// The next thing that it has received, if there is one.
    pub fn try_next(&mut self) -> Option<Received<Note>> {
        self.seen.try_recv().ok()
    }

    /// The next thing that it has received, if there is one and it is a number.
    pub fn try_number(&mut self) -> Option<u64> {
        match self.seen.try_recv() {
            Ok(Received::Message(Note::Number(number))) => Some(number),
            _ => None,
        }
    }

    /// The next thing that it receives, which must be an exit: from whom, why, and whether over a link.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn exit(&mut self) -> (Pid, ExitReason, bool) {
        match self.next().await {
            Received::Event(Event::Exit { from, reason, linked }) => (from, reason, linked),
            other => panic!("expected an exit, got {other:?}"),
        }
    }

    /// The next thing that it receives, which must tell of a monitor.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn down(&mut self) -> Down {
        match self.next().await {
            Received::Event(Event::Down(down)) => down,
            other => panic!("expected a down, got {other:?}"),
        }
    }

    /// Says that nothing is left of what has arrived. What is still on its way is for a [`fence`](crate::fence()).
    ///
    /// # Panics
    /// When there is something.
    pub async fn quiet(&mut self) {
        self.run(|_| ()).await;
        if let Ok(received) = self.seen.try_recv() {
            panic!("nothing was to come, but {received:?} did");
        }
    }
}

impl fmt::Debug for Puppet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Puppet({})", self.pid)
    }
}

/// A process that is held.
#[derive(Debug)]
pub struct Held<R> {
    go: oneshot::Sender<()>,
    done: oneshot::Receiver<R>,
}

impl<R> Held<R> {
    /// Lets it do its job, and go on.
    ///
    /// # Panics
    /// When the process has ended.
    pub async fn go(self) -> R {
        self.go.send(()).unwrap();
        within("a held puppet's job", self.done).await.unwrap()
    }
}

/// Learns why a process ends.
#[derive(Debug)]
pub struct Watch(oneshot::Receiver<ExitReason>);

impl Watch {
    /// Why it ended; waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn reason(self) -> ExitReason {
        within("a process to end", self.0).await.unwrap()
    }
}

/// Watches `pid` from a process of `runtime`. If that is the runtime where `pid` lives, nothing is missed from now on.
///
/// # Panics
/// When the watching process cannot be started.
pub async fn watch(runtime: &Runtime, pid: &Pid) -> Watch {
    let (tell, told) = oneshot::channel();
    let (ready, is_ready) = oneshot::channel();
    let pid = pid.clone();
    runtime
        .spawn(async move |mut context: Context<Note>| {
            context.monitor(&pid);
            ready.send(()).unwrap();
            if let Received::Event(Event::Down(down)) = context.receive().await {
                drop(tell.send(down.reason));
            }
        })
        .unwrap();
    within("a monitor", is_ready).await.unwrap();
    Watch(told)
}
