//! The thread that does the network of a client: a tokio runtime of one thread, apart from the one that runs the processes,
//! which is the program's. On a node both share threads (`scheduler`).
//!
//! Measured, a QUIC endpoint on a shared multi-thread runtime loses its batching: its driver runs before the other tasks
//! have written, and 64 streams run four times slower at seven times the CPU.

use std::{io, thread::JoinHandle};

use tokio::{runtime::Handle, sync::oneshot};

/// A running I/O thread. Dropping it ends the thread and all that runs on it.
#[derive(Debug)]
pub struct IoThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread, or no event queue.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Ends when the owner is dropped, or says so.
            drop(runtime.block_on(stopped));
            // Without waiting for what reads files: their disk may not answer.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to spawn what runs on the thread.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            drop(thread.join());
        }
    }
}
