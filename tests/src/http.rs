//! As much of HTTP as a kubelet or Prometheus speaks with the admin port: one request a connection, over a real socket.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::within;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, as 200.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Whether the status says that all is well, and the body has all of `texts`; told if not.
    ///
    /// # Panics
    /// When one is missing.
    pub fn has(&self, status: u16, texts: &[&str]) {
        assert_eq!(self.status, status, "{}", self.body);
        for text in texts {
            assert!(self.body.contains(text), "`{text}` is not in: {}", self.body);
        }
    }
}

/// Asks for `path`.
///
/// # Panics
/// When no answer comes.
pub async fn get(from: SocketAddr, path: &str) -> Answer {
    request(from, &format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n")).await
}

/// Sends `text` as it is, and takes all that comes until the other end closes.
///
/// # Panics
/// When no answer comes.
pub async fn request(to: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    within("an answer by HTTP", stream.read_to_end(&mut came)).await.unwrap();
    let came = String::from_utf8(came).unwrap();
    let (head, body) = came.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: `{came}`"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}
