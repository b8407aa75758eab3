//! The task that exports: takes spans from the queue, in batches, and posts them to the collector. A collector that is not there is tried
//! again, ever more seldom, with the same batch; meanwhile the queue fills up, and what finds no room there is dropped.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    config::{Endpoint, TraceConfig},
    otlp::{self, Rejected},
    span::Span,
    tracer::Counts,
};

/// Spans in one request.
const BATCH_SPANS: usize = 512;

/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// How long one request may take.
const POST_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait after a failure; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(500);

/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A failure that goes on is told again after this.
const TELL_EVERY: Duration = Duration::from_secs(300);

/// What is read of an answer: a head, and a body that says at most how many spans were not taken, and why.
const ANSWER_BYTES: usize = 16 * 1_024;

/// How long the rest of an answer is waited for whose first line is there. That line says what has become of the request.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// What the task is given.
pub(super) enum Job {
    /// Has ended.
    Span(Box<Span>),
    /// All before it are to be exported now.
    Flush(oneshot::Sender<()>),
}

/// Why a request came to nothing.
struct Failure {
    text: String,
    /// It may succeed the next time.
    passes: bool,
}

/// Exports until nobody is left who could record.
pub(super) async fn run(config: TraceConfig, mut jobs: mpsc::Receiver<Job>, counts: Arc<Counts>) {
    let TraceConfig { endpoint, service, instance, .. } = config;
    let resource = [("service.name", service.as_str()), ("service.instance.id", instance.as_str())];
    let (mut told, mut told_rejected) = (None, None);
    while let Some((spans, flushed)) = next_batch(&mut jobs).await {
        if !spans.is_empty() {
            let count = spans.len() as u64;
            let taken = deliver(&endpoint, otlp::request(&resource, &spans), &jobs, &mut told).await;
            let refused = taken.as_ref().map_or(count, |rejected| rejected.spans.min(count));
            counts.refused.fetch_add(refused, Relaxed);
            counts.exported.fetch_add(count - refused, Relaxed);
            if let Some(rejected) = taken {
                tell_rejected(&endpoint, &rejected, &mut told_rejected);
            }
        }
        if let Some(flushed) = flushed {
            // Who flushes may have given up.
            let _ = flushed.send(());
        }
    }
}

/// The next spans, and who waits for them. `None` when nobody is left who could record.
async fn next_batch(jobs: &mut mpsc::Receiver<Job>) -> Option<(Vec<Box<Span>>, Option<oneshot::Sender<()>>)> {
    let mut spans = Vec::new();
    let mut until = None;
    while spans.len() < BATCH_SPANS {
        let job = match until {
            None => Some(jobs.recv().await?),
            Some(until) => timeout_at(until, jobs.recv()).await.ok().flatten(),
        };
        match job {
            Some(Job::Span(span)) => spans.push(span),
            Some(Job::Flush(flushed)) => return Some((spans, Some(flushed))),
            None => break,
        }
        until.get_or_insert_with(|| Instant::now() + LINGER);
    }
    Some((spans, None))
}

/// Tells of what a collector has not taken of a batch, or has to say of it; once in a while.
fn tell_rejected(endpoint: &Endpoint, rejected: &Rejected, told: &mut Option<Instant>) {
    if *rejected != Rejected::default() && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
        *told = Some(Instant::now());
        let (spans, reason) = (rejected.spans, &rejected.reason);
        tracing::warn!(%endpoint, spans, reason, "the collector has not taken all spans");
    }
}

/// Posts one batch until it is taken, or refused for good. Gives what was not taken of it; `None`: nothing was.
async fn deliver(
    endpoint: &Endpoint,
    body: Vec<u8>,
    jobs: &mpsc::Receiver<Job>,
    told: &mut Option<Instant>,
) -> Option<Rejected> {
    let mut wait = RETRY_MIN;
    loop {
        let posted = timeout(POST_TIMEOUT, post(endpoint, &body)).await;
        let failure = match posted.unwrap_or_else(|_| Err(passing(format!("no answer within {POST_TIMEOUT:?}")))) {
            Ok(rejected) => {
                if told.take().is_some() {
                    tracing::info!(%endpoint, "traces are exported again");
                }
                return Some(rejected);
            }
            Err(failure) => failure,
        };
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            let reason = &failure.text;
            tracing::warn!(%endpoint, reason, "traces cannot be exported; what finds no room meanwhile is dropped");
        }
        // Nobody records any more, so nobody waits for it either.
        if !failure.passes || jobs.is_closed() {
            return None;
        }
        sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

fn passing(text: String) -> Failure {
    Failure { text, passes: true }
}

/// One request over a connection of its own: HTTP/1.1, as every collector takes it.
async fn post(endpoint: &Endpoint, body: &[u8]) -> Result<Rejected, Failure> {
    let failed = |error: std::io::Error| passing(error.to_string());
    let mut stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\nUser-Agent: rookery/{}\r\nConnection: close\r\n\r\n",
        endpoint.path,
        endpoint.authority(),
        body.len(),
        env!("CARGO_PKG_VERSION"),
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.map_err(failed)?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < ANSWER_BYTES {
        if stream.read_buf(&mut answer).await.map_err(failed)? == 0 {
            break;
        }
    }
    let first = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(first).into_owned();
    let status =
        line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)).and_then(|text| text.parse().ok());
    match status {
        Some(200..=299) => Ok(rest(&mut stream, answer).await),
        // Too much at once, or a gateway whose collector is not there (by OTLP's specification).
        Some(429 | 502 | 503 | 504) => Err(passing(format!("it answers `{line}`"))),
        Some(_) => Err(Failure { text: format!("it answers `{line}`"), passes: false }),
        None => Err(passing("what answers is no HTTP server".to_owned())),
    }
}

/// The rest of an answer of which this has come. What cannot be read, or is sent in chunks, as none so short is, says nothing.
async fn rest(stream: &mut TcpStream, mut answer: Vec<u8>) -> Rejected {
    let body = async {
        loop {
            if let Some((start, length)) = body_of(&answer)
                && let Some(body) = answer.get(start..start.saturating_add(length))
            {
                return Some(otlp::rejected(body));
            }
            let has_more = answer.len() < ANSWER_BYTES && stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0);
            if !has_more {
                return None;
            }
        }
    };
    timeout(REST_TIMEOUT, body).await.ok().flatten().unwrap_or_default()
}

/// Where the body of an answer begins, and how long it is, once its head is there.
fn body_of(answer: &[u8]) -> Option<(usize, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, length) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    Some((end + 4, length.trim().parse().ok()?))
}
