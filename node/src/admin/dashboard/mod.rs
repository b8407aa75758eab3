//! The dashboard: the cluster as this node sees it, in a browser. Source: Erlang's observer, Phoenix LiveDashboard.
//!
//! ```text
//! browser ─▶ guard ─▶ cache ─▶ a page ──System, SupervisorMessage──▶ rookery:node of each node, supervisors
//!    ▲                           └─▶ history ◀─ once a second ─ what this node counts
//!    └── every two seconds, by script.js, which puts what has changed in its place
//! ```
//! The node makes whole pages, which need no script. It changes nothing: all that it asks others is what `rookery ps` and its like ask, each
//! question with a deadline. Style and script are part of the program, so nothing is fetched from elsewhere, and none may be (CSP).

mod cache;
mod chart;
mod config;
mod directory;
pub(super) mod guard;
mod history;
mod html;
mod layout;
mod nodes;
mod overview;
mod pages;
mod process;
mod processes;
mod query;
mod trees;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{Path, RawQuery, State},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{self, HeaderValue},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use rookery_runtime::{Message, MessageKind as Kind, MessageRoute as Route, NodeId, ReplyTo, Tally};
use tokio::time::{MissedTickBehavior, timeout};

use super::{Watched, locked};
use crate::{
    ask::{self, Answers},
    system::System,
};
use cache::Cache;
pub use config::{BadToken, DashboardConfig, MIN_TOKEN_LENGTH, Reach, Token};
use guard::{Ends, Verdict};
use history::{Counters, History, SAMPLE_EVERY};
use layout::Body;
use pages::Page;
use query::Query;

/// How long a node, or a supervisor, has to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a page may take in all.
const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// For so long after somebody has looked, the mailboxes are walked over for the chart.
const LOOKED_RECENTLY: Duration = Duration::from_secs(30);

/// Nodes that are asked for one page.
const MAX_NODES: usize = 50;

/// Rows of a list on one page.
const ROWS: u32 = 100;

/// Nothing is fetched from elsewhere, nothing within a page is run, and no page stands in another.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is kept between two questions.
pub(super) struct Dashboard {
    config: DashboardConfig,
    cache: Cache,
    history: Mutex<History>,
    /// When somebody looked last.
    looked: Mutex<Option<Instant>>,
}

impl Dashboard {
    pub(super) fn new(config: DashboardConfig) -> Self {
        Self { config, cache: Cache::new(), history: Mutex::default(), looked: Mutex::default() }
    }
}

/// Its paths.
pub(super) fn routes() -> Router<Arc<Watched>> {
    Router::new()
        .route("/dashboard", get(async || (StatusCode::FOUND, [(header::LOCATION, "dashboard/")])))
        .route("/dashboard/", get(async |state, ends, headers, query| serve(state, ends, headers, query, "").await))
        .route(
            "/dashboard/{page}",
            get(async |state, ends, headers, query, Path::<String>(page)| {
                serve(state, ends, headers, query, &page).await
            }),
        )
}

async fn serve(
    State(watched): State<Arc<Watched>>,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    address: &str,
) -> Response {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let dashboard = &watched.dashboard;
    let mut response = match guard::judge(&dashboard.config, ends, text(header::HOST), text(header::AUTHORIZATION)) {
        Verdict::Welcome => match (fixed(address), Page::find(address, query.as_deref())) {
            (Some((kind, text)), _) => {
                ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
            }
            (None, Some((page, query))) => show(&watched, page, query).await,
            (None, None) => {
                (StatusCode::NOT_FOUND, "There is no such page. The dashboard begins at /dashboard/\n").into_response()
            }
        },
        Verdict::Off => {
            (StatusCode::NOT_FOUND, "There is no dashboard here: `dashboard` in the node's settings says so.\n")
                .into_response()
        }
        Verdict::Elsewhere => (StatusCode::FORBIDDEN, ELSEWHERE).into_response(),
        Verdict::TokenNeeded => (
            StatusCode::UNAUTHORIZED,
            [(
                header::WWW_AUTHENTICATE,
                "Basic realm=\"Rookery: any user, the dashboard's token as password\", charset=\"UTF-8\"",
            )],
            "The dashboard wants its token, as the password of any user, or as a Bearer's.\n",
        )
            .into_response(),
    };
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    response.headers_mut().extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

const ELSEWHERE: &str = "The dashboard answers on the node's own machine alone, at localhost: `kubectl port-forward` leads there. \
     `dashboard = \"on\"` in the node's settings opens it to whoever reaches this port, and `dashboard_token` asks them for a token.\n";

/// What is the same on every node.
fn fixed(address: &str) -> Option<(&'static str, &'static str)> {
    match address {
        "style.css" => Some(("text/css; charset=utf-8", include_str!("style.css"))),
        "script.js" => Some(("text/javascript; charset=utf-8", include_str!("script.js"))),
        "icon.svg" => Some(("image/svg+xml", include_str!("icon.svg"))),
        _ => None,
    }
}

async fn show(watched: &Watched, page: Page, query: Query) -> Response {
    *locked(&watched.dashboard.looked) = Some(Instant::now());
    let address = query.link(page.address()).to_string();
    let make = async {
        let viewer = Viewer { watched, query };
        let body = timeout(PAGE_PATIENCE, page.body(&viewer)).await.unwrap_or_else(|_| Body {
            notes: vec![format!("The nodes did not answer within {} s.", PAGE_PATIENCE.as_secs())],
            ..Body::new("No answer")
        });
        layout::whole(page, &watched.cluster, watched.runtime.node().name(), &body)
    };
    let html = watched.dashboard.cache.get(address, make).await;
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")], html.to_string())
        .into_response()
}

/// Who asks for one page.
struct Viewer<'w> {
    watched: &'w Watched,
    query: Query,
}

impl Viewer<'_> {
    /// The nodes that are up, in the order of their names.
    fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = self.watched.runtime.nodes();
        nodes.sort();
        nodes
    }

    /// The nodes that are asked, and what is to be said of those that are not: all are too many for one page.
    fn asked(&self) -> (Vec<NodeId>, Option<String>) {
        let mut nodes = self.nodes();
        let all = nodes.len();
        nodes.truncate(MAX_NODES);
        let note = format!("The cluster has {all} nodes; here are the first {MAX_NODES} by name.");
        (nodes, (all > MAX_NODES).then_some(note))
    }

    /// The node of that name, if it is up.
    fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes().into_iter().find(|node| node.name().as_str() == name)
    }

    async fn ask<T: Message>(
        &self,
        nodes: &[NodeId],
        ask: impl Fn(ReplyTo<T>) -> System + Clone + Send + 'static,
    ) -> Answers<T> {
        ask::each(&self.watched.runtime, nodes, PATIENCE, ask).await
    }
}

/// What is said of nodes that did not answer.
fn silent(silent: Vec<String>) -> impl Iterator<Item = String> {
    silent.into_iter().map(|why| format!("No answer from {why}"))
}

/// Keeps the history, for as long as there is a dashboard.
pub(super) async fn keep_history(watched: Arc<Watched>) {
    let dashboard = &watched.dashboard;
    if dashboard.config.reach == Reach::Off {
        return;
    }
    // Between two beats, whose message would be seen in its mailbox.
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SAMPLE_EVERY / 2, SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let is_looked_at = locked(&dashboard.looked).is_some_and(|looked| looked.elapsed() < LOOKED_RECENTLY);
        let waiting = match is_looked_at {
            true => Some(watched.metrics.census(&watched.runtime).await.0.queued),
            false => None,
        };
        let counters = counters(&watched.runtime.tally(), watched.runtime.load().busy_us);
        let mut rtts: Vec<u64> = watched.peers.infos().iter().map(|peer| peer.rtt_us).collect();
        locked(&dashboard.history).handle_tick(Instant::now(), counters, waiting, &mut rtts);
    }
}

fn counters(tally: &Tally, busy_us: u64) -> Counters {
    let mut counters = Counters { busy_us, ..Counters::default() };
    for (route, kind, count) in &tally.messages {
        let at = Route::ALL.iter().position(|known| known == route).unwrap_or_default();
        if let (Kind::Message | Kind::Call | Kind::Reply, Some(messages)) = (kind, counters.messages.get_mut(at)) {
            *messages += count;
        }
        if let (Kind::Call, Some(calls)) = (kind, counters.calls.get_mut(at)) {
            *calls += count;
        }
    }
    counters
}
