//! An OpenTelemetry collector, as far as traces by OTLP over HTTP go: a real server on a real socket, which decodes what it is sent with
//! OpenTelemetry's own definitions.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::eventually;

/// A span, and which instance it is of.
#[derive(Debug, Clone)]
pub struct Told {
    /// `service.instance.id`.
    pub instance: String,
    /// `service.name`.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Told {
    /// What is said of the span under this key.
    #[must_use]
    pub fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|pair| pair.key == key);
    match found.and_then(|pair| pair.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

#[derive(Default)]
struct Shared {
    told: Mutex<Vec<Told>>,
    /// What is answered instead of 200.
    status: AtomicU16,
    /// How many spans of each request are said not to be taken.
    rejected: AtomicI64,
    requests: AtomicU64,
}

/// The server; it ends with its owner.
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Collector {
    /// At a free port.
    pub async fn open() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    /// There.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::new(Shared::default()));
        let kept = shared.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, &kept).await;
            }
        });
        Self { address, shared, serving }
    }

    /// As `--otlp-endpoint` takes it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on all are answered with this status.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// From now on of each request so many spans are said not to be taken.
    pub fn reject(&self, spans: i64) {
        self.shared.rejected.store(spans, Ordering::Relaxed);
    }

    /// How many requests have come.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Every span that was taken.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.shared.told.lock().unwrap().clone()
    }

    /// Waits for so many spans, and gives them.
    pub async fn spans(&self, count: usize) -> Vec<Told> {
        eventually(&format!("{count} spans have come"), || self.told().len() >= count).await;
        self.told()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One request.
async fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut received = Vec::new();
    let (head, mut body) = loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = received.split_off(end + 4);
            break (String::from_utf8(received).unwrap(), body);
        }
        if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    assert_eq!(header("content-type"), "application/x-protobuf");
    let length: usize = header("content-length").parse().unwrap();
    while body.len() < length {
        if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
            return;
        }
    }
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let status = shared.status.load(Ordering::Relaxed);
    if status == 0 {
        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        let mut told = shared.told.lock().unwrap();
        for of_resource in request.resource_spans {
            let resource = of_resource.resource.unwrap_or_default().attributes;
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                let (instance, service) = (text(&resource, "service.instance.id"), text(&resource, "service.name"));
                told.push(Told { instance, service, span });
            }
        }
    }
    let status = if status == 0 { 200 } else { status };
    let mut response = ExportTraceServiceResponse::default();
    let rejected_spans = shared.rejected.load(Ordering::Relaxed);
    if rejected_spans > 0 {
        let error_message = "too many of them".to_owned();
        response.partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
    }
    let body = response.encode_to_vec();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
    // Apart, as a network may bring them.
    if stream.write_all(head.as_bytes()).await.is_ok() {
        tokio::task::yield_now().await;
        drop(stream.write_all(&body).await);
    }
}
