//! quinn without us, between two processes: what QUIC gives on this machine, for the other cases to be held against.
//!
//! ```text
//! this process, one thread ── one connection, one stream at a time ──▶ `rookery bench-quinn`, one thread
//! ```
//! Sockets, TLS and transport settings are those of nodes; there are no frames, no lanes and no processes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use quinn::{Connection, EndpointConfig, RecvStream, SendStream};
use rookery_node::{
    ConnectionSettings,
    net::{io_thread::IoThread, socket},
    tls::{Authority, ClusterName, Identity, Overwrite, SERVER_NAME},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use super::{BenchError, Plan, report::Samples, stage::DAY};

/// The first byte of a stream: whether its other end echoes what comes, or counts it.
const ECHO: u8 = b'e';
const COUNT: u8 = b'c';

/// What goes back and forth, as in case `rtt`.
const BALL_BYTES: usize = 16;

/// What is written at a time where much is: what one lane of a node hands over in a batch.
const PIECE_BYTES: usize = 64 * 1024;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// After this, the other end has failed to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// The hidden command that the other end is.
#[derive(Debug, Args)]
pub(crate) struct BenchQuinnArgs {
    #[arg(long)]
    identity: PathBuf,
}

/// Runs the other end, until whoever started it closes its standard input.
pub(super) async fn serve(args: BenchQuinnArgs) -> Result<(), BenchError> {
    let transport = ConnectionSettings::default().transport();
    let config = Identity::from_dir(&args.identity)?.quinn_server_config(transport)?;
    let endpoint = socket::endpoint(LOOPBACK, EndpointConfig::default(), Some(config))?;
    super::super::out::line(&format!("ready {}", endpoint.local_addr()?))?;
    let served = async {
        let incoming = endpoint.accept().await.ok_or_else(|| BenchError::from("nobody connected"))?;
        let connection = incoming.await?;
        // Until it is closed.
        while let Ok((send, receive)) = connection.accept_bi().await {
            answer(send, receive).await?;
        }
        Ok(())
    };
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = served => ended,
        _ = stdin.read_u8() => Ok(()),
    }
}

async fn answer(mut send: SendStream, mut receive: RecvStream) -> Result<(), BenchError> {
    let mut kind = [0];
    receive.read_exact(&mut kind).await?;
    if kind == [ECHO] {
        let mut ball = [0; BALL_BYTES];
        while receive.read_exact(&mut ball).await.is_ok() {
            send.write_all(&ball).await?;
        }
    } else {
        let mut count = 0;
        while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
            count += chunk.bytes.len() as u64;
        }
        send.write_all(&count.to_be_bytes()).await?;
    }
    Ok(send.finish()?)
}

/// A round trip of 16 bytes, and as many bytes as one stream takes.
pub(super) async fn bare_quinn(plan: &Plan, samples: &mut Samples) -> Result<(), BenchError> {
    let authority = Authority::create(&ClusterName::try_from("bench")?)?;
    let dir = tempfile::Builder::new().prefix("rookery-bench-").tempdir()?;
    authority.issue_node("bench-1", &[], DAY)?.write_to(dir.path(), Overwrite::Force)?;
    let (_other_end, address) = start(dir.path()).await?;
    let pem = authority.issue_node("bench-0", &[], DAY)?;
    let identity = Identity::from_pem(&pem.ca, &pem.cert, &pem.key)?;
    let config = identity.quinn_client_config(ConnectionSettings::default().transport())?;
    let io = IoThread::start("bench-quinn")?;
    let connecting = io.handle().spawn(async move {
        let endpoint = socket::endpoint(LOOPBACK, EndpointConfig::default(), None)?;
        Ok::<_, BenchError>(endpoint.connect_with(config, address, SERVER_NAME)?.await?)
    });
    let connection = connecting.await??;
    plan.say("round trips");
    for run in 0..=plan.runs {
        let seconds = if run == 0 { plan.warm_up() } else { plan.seconds };
        let mut rounds = io.handle().spawn(play(connection.clone(), seconds)).await??;
        if run > 0 {
            samples.add("round_trips_per_s", "/s", rounds.len() as f64 / seconds);
            samples.latencies("rtt", "", &mut rounds);
        }
    }
    plan.say("bytes");
    for run in 0..=plan.runs {
        let seconds = if run == 0 { plan.warm_up() } else { plan.seconds };
        let mb_per_s = io.handle().spawn(pour(connection.clone(), seconds)).await??;
        if run > 0 {
            samples.add("mb_per_s", "MB/s", mb_per_s);
        }
    }
    Ok(())
}

/// Starts the other end, which goes with what this gives; gives where it listens, too.
async fn start(identity: &Path) -> Result<(Child, SocketAddr), BenchError> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("bench-quinn")
        .arg("--identity")
        .arg(identity)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| BenchError::from("the other end has no output"))?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await??.unwrap_or_default();
    let address = line.strip_prefix("ready ").ok_or_else(|| BenchError::from("the other end does not start"))?;
    Ok((child, address.parse()?))
}

/// The nanoseconds of each round trip.
async fn play(connection: Connection, seconds: f64) -> Result<Vec<u64>, BenchError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[ECHO]).await?;
    let (mut ball, mut rounds) = ([7; BALL_BYTES], Vec::new());
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < until {
        let since = Instant::now();
        send.write_all(&ball).await?;
        receive.read_exact(&mut ball).await?;
        rounds.push(since.elapsed().as_nanos() as u64);
    }
    send.finish()?;
    // The other end has ended its half as well: there is room for the next stream.
    receive.read_to_end(0).await?;
    Ok(rounds)
}

/// Megabytes a second, from the first byte to the word that all have arrived.
async fn pour(connection: Connection, seconds: f64) -> Result<f64, BenchError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[COUNT]).await?;
    let piece = Bytes::from(vec![7; PIECE_BYTES]);
    let since = Instant::now();
    while since.elapsed().as_secs_f64() < seconds {
        send.write_chunk(piece.clone()).await?;
    }
    send.finish()?;
    let mut count = [0; 8];
    receive.read_exact(&mut count).await?;
    let took = since.elapsed().as_secs_f64();
    receive.read_to_end(0).await?;
    Ok(u64::from_be_bytes(count) as f64 / 1e6 / took)
}
