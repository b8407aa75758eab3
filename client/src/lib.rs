//! Rookery's Rust client: processes outside the mesh that take part in it.
//!
//! A [`Client`] connects to any node, with a client certificate, and keeps connected: when its node is lost it goes on
//! to another. Its processes live in a **session**, as a node's processes live in a node. They have pids, and send, call,
//! link, monitor and are monitored like any other, as far as the certificate's policy allows. When the session is lost
//! they end with `NoConnection`, and everybody tied to them is told; the next session is a new one. A client whose node is about to
//! leave in good order goes to another one before, and loses no call.
//!
//! ```no_run
//! use rookery_client::{Client, ClientConfig, ReplyTo, tls::Identity};
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # enum Counter { Add(i64), Get(ReplyTo<i64>) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::from_dir("certs/eve".as_ref())?;
//! let client = Client::connect(ClientConfig::new(identity, ["127.0.0.1:4370".parse()?])).await?;
//! let counter = client.runtime().named::<Counter>("counter".parse()?);
//! counter.send(Counter::Add(5)).await?;
//! println!("{}", counter.call(Counter::Get).await?);
//! client.close().await;
//! # Ok(()) }
//! ```

mod client;
mod credentials;
mod endpoint;
mod error;
mod moving;
mod renewing;
mod resolve;
mod served;
mod session;

pub use client::{Client, ClientConfig, ClientState};
pub use endpoint::{ParseServerError, Server};
pub use error::ConnectError;
pub use rookery_runtime::*;
