//! The admin port as HTTP: accepts, and serves each connection within its limits. Whoever is slow, silent or many is closed; see
//! `limits.rs` and `doors.rs`.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    dashboard::guard::Ends,
    doors::{Door, Doors},
    limits::{ACCEPT_PAUSE, CONNECTION_LIFETIME, HEAD_TIMEOUT, MAX_CONNECTIONS, MAX_HEAD_BYTES, MAX_HEADERS},
    locked,
};

/// Serves `routes` until it is dropped.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    let open = Open { doors: Mutex::new(Doors::new(MAX_CONNECTIONS)), tasks: Mutex::default() };
    let open = Arc::new(open);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (door, evicted) = locked(&open.doors).handle_come(from.ip().to_canonical());
                if let Some(task) = evicted.and_then(|door| locked(&open.tasks).remove(&door)) {
                    task.abort();
                }
                let (routes, guard) = (routes.clone(), Guard { door, open: open.clone() });
                // Held, so that the task cannot be done before it is noted.
                let mut tasks = locked(&open.tasks);
                let task = tokio::spawn(async move {
                    let _guard = guard;
                    if let Err(error) = serve_one(stream, routes).await {
                        tracing::debug!(%from, %error, "admin connection ended");
                    }
                });
                tasks.insert(door, task.abort_handle());
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open.
struct Open {
    doors: Mutex<Doors>,
    tasks: Mutex<HashMap<Door, AbortHandle>>,
}

/// Takes a connection out of them when it ends, however it does.
struct Guard {
    door: Door,
    open: Arc<Open>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        locked(&self.open.doors).handle_gone(self.door);
        locked(&self.open.tasks).remove(&self.door);
    }
}

async fn serve_one(stream: TcpStream, routes: Router) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let routes = TowerToHyperService::new(routes);
    let ends = Ends { to: stream.local_addr()?, from: stream.peer_addr()? };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ends);
        routes.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES);
    Ok(timeout(CONNECTION_LIFETIME, http.serve_connection(TokioIo::new(stream), service)).await??)
}

/// Whether accepting failed for the sake of the one who came: it has gone again.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
