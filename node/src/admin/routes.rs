//! What the admin port answers, path by path.

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    Watched, dashboard,
    metrics::Format,
    probes::{self, Probe, Report},
};

/// What there is to ask, for whoever opens the port in a browser.
const INDEX: &str = "Rookery's admin port\n\n/livez     whether a process answers (?verbose)\n/readyz    whether this node is of use (?verbose)\n/startupz  whether it has started (?verbose)\n/metrics   for Prometheus\n/dashboard the cluster, in a browser\n";

const TEXT: &str = "text/plain; charset=utf-8";

/// The paths, over what they tell of.
pub(super) fn routes(watched: Arc<Watched>) -> Router {
    Router::new()
        .route("/", get(async || text(StatusCode::OK, INDEX.to_owned())))
        .route("/livez", get(probe::<LIVE>))
        .route("/readyz", get(probe::<READY>))
        .route("/startupz", get(probe::<STARTUP>))
        .route("/metrics", get(metrics))
        .merge(dashboard::routes())
        .fallback(async || text(StatusCode::NOT_FOUND, format!("There is no such page.\n\n{INDEX}")))
        .with_state(watched)
}

const LIVE: u8 = 0;
const READY: u8 = 1;
const STARTUP: u8 = 2;

async fn probe<const WHICH: u8>(State(watched): State<Arc<Watched>>, RawQuery(query): RawQuery) -> Response {
    let probe = match WHICH {
        LIVE => Probe::Live,
        READY => Probe::Ready,
        _ => Probe::Startup,
    };
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    let Report { passed, text: body } = probes::answer(probe, &watched.facts(probe).await, verbose);
    text(if passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

async fn metrics(State(watched): State<Arc<Watched>>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    let body = watched.metrics.write(&watched, format).await;
    ([(header::CONTENT_TYPE, format.content_type()), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")], body).into_response()
}
