//! The server: routes, listening, stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{any, delete, get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::error::ApiError;
use super::flight::Flight;
use super::grpc::Grpc;
use super::own::own_metrics;
use super::postgres::Postgres;
use super::requests::Requests;
use super::state::{App, Limits, LineCaches, Meters, Reload, delta_room, mib, turns};
use super::{about, cache, count, influx, ops, otlp, push, remote_write, sql, write};
use crate::flow::{GovernorStats, Sources, StageStats};
use crate::ingest::otlp::Otlp;
use crate::ingest::{CollectorStats, Known, KnownRoom, ListenerStats, TellOwn};
use crate::model::Timestamp;
use crate::query::Engine;

/// Addresses and ports of what is wanted beside HTTP.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// OTLP over gRPC.
    pub otlp_grpc: Option<String>,
    /// PostgreSQL's protocol.
    pub pg: Option<String>,
    /// Arrow Flight SQL.
    pub flight: Option<String>,
}

/// What the server is made of.
pub struct ServerParts {
    /// The ways in.
    pub sources: Arc<dyn Sources>,
    pub engine: Arc<Engine>,
    pub limits: Limits,
    /// Beside HTTP.
    pub addresses: Addresses,
    pub now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What the stages did so far.
    pub stages: Arc<dyn Fn() -> Vec<StageStats> + Send + Sync>,
    /// How the sources that are asked are doing.
    pub collectors: Arc<dyn Fn() -> Vec<CollectorStats> + Send + Sync>,
    /// What the listeners did so far.
    pub listeners: Arc<dyn Fn() -> Vec<ListenerStats> + Send + Sync>,
    /// Reads the pipeline files again.
    pub reload: Reload,
    /// How much is in use, where somebody looks.
    pub governor: Arc<dyn Fn() -> Option<GovernorStats> + Send + Sync>,
}

/// Listens from [`Server::bind`] on.
pub struct Server {
    listener: TcpListener,
    router: Router,
    grpc: Option<Grpc>,
    postgres: Option<Postgres>,
    flight: Option<Flight>,
    own: TellOwn,
}

impl Server {
    pub async fn bind(address: &str, parts: ServerParts) -> std::io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let (room_mib, known) = (mib(parts.limits.bodies), KnownRoom::of(parts.limits.known));
        let of_others = Arc::new(Known::sharing(known.clone()));
        let app = Arc::new(App {
            sources: parts.sources,
            engine: parts.engine,
            otlp: Otlp::new(of_others.clone(), delta_room(&parts.limits)),
            limits: parts.limits,
            now: parts.now,
            stages: parts.stages,
            collectors: parts.collectors,
            listeners: parts.listeners,
            governor: parts.governor,
            reload: parts.reload,
            meters: Meters::default(),
            requests: Requests::default(),
            lines: LineCaches::sharing(known.clone()),
            known: of_others,
            remote_write: Known::sharing(known),
            room: Arc::new(Semaphore::new(room_mib as usize)),
            room_mib,
            turns: Arc::new(Semaphore::new(turns())),
            waiting: AtomicUsize::new(0),
        });
        let told = Arc::downgrade(&app);
        app.engine.tell_memory_of(Arc::new(move || told.upgrade().map_or_else(Vec::new, |app| app.memory_shares())));
        let Addresses { otlp_grpc, pg, flight } = &parts.addresses;
        let grpc = match otlp_grpc {
            Some(address) => Some(Grpc::bind(address, app.clone()).await?),
            None => None,
        };
        let postgres = match pg {
            Some(address) => Some(Postgres::bind(address, app.engine.clone()).await?),
            None => None,
        };
        let flight = match flight {
            Some(address) => Some(Flight::bind(address, app.engine.clone()).await?),
            None => None,
        };
        let told = Arc::downgrade(&app);
        let own: TellOwn = Arc::new(move || Some(own_metrics(&*told.upgrade()?)));
        let router = Router::new()
            .route("/write", post(write::lines))
            .route("/api/v2/write", post(write::lines_v2))
            .route("/api/v3/write_lp", post(write::lines_v3))
            .route("/ping", get(influx::ping))
            .route("/query", get(influx::query).post(influx::query))
            .route("/api/v1/write", post(remote_write::write))
            .route("/api/performance", post(write::performance))
            .route("/api/v1/events", post(write::performance))
            .route("/v1/metrics", post(otlp::metrics))
            .route("/v1/traces", any(otlp::not_kept))
            .route("/v1/logs", any(otlp::not_kept))
            .route("/api/v1/sql", any(sql::sql))
            .route("/api/v1/stats", get(about::stats))
            .route("/api/v1/verify", get(ops::verify))
            .route("/api/v1/snapshot", post(ops::snapshot).layer(DefaultBodyLimit::max(ops::BODY_MAX)))
            .route("/performance/cache/stats", get(cache::stats))
            .route("/performance/cache/invalidate", post(cache::invalidate).layer(DefaultBodyLimit::max(ops::BODY_MAX)))
            .route("/performance/cache/warmup", post(cache::warmup).layer(DefaultBodyLimit::max(ops::BODY_MAX)))
            .route("/api/v1/pins", get(ops::pins).post(ops::pin).layer(DefaultBodyLimit::max(ops::BODY_MAX)))
            .route("/api/v1/pins/{pin}", delete(ops::release))
            .route("/api/v1/pipelines/reload", post(ops::reload).layer(DefaultBodyLimit::max(ops::BODY_MAX)))
            .route("/api/performance/sources", get(about::sources))
            .route("/api/v1/import/prometheus", post(push::import))
            .route("/metrics/{*grouping}", post(push::gateway).put(push::gateway))
            .route("/collectd", post(push::collectd))
            .route("/metrics", get(about::metrics))
            .route("/health", get(about::health))
            .route("/ready", get(about::ready))
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            // Handlers bound bodies themselves, after decompression.
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(app.clone(), count::count))
            .with_state(app);
        Ok(Server { listener, router, grpc, postgres, flight, own })
    }

    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where OTLP over gRPC is taken.
    pub fn otlp_grpc(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(Grpc::address)
    }

    /// Where PostgreSQL's protocol is spoken.
    pub fn pg(&self) -> Option<SocketAddr> {
        self.postgres.as_ref().map(Postgres::address)
    }

    /// Where Arrow Flight SQL is spoken.
    pub fn flight(&self) -> Option<SocketAddr> {
        self.flight.as_ref().map(Flight::address)
    }

    /// Tells what `/metrics` tells.
    pub fn own(&self) -> TellOwn {
        self.own.clone()
    }

    /// Serves until `stop` is done, then finishes the requests under way.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        // Handlers ask who is there: each client has a budget.
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let (stopping, stopped) = watch::channel(());
        let mut others = JoinSet::new();
        if let Some(grpc) = self.grpc {
            others.spawn(grpc.run(stopped.clone()));
        }
        if let Some(flight) = self.flight {
            others.spawn(flight.run(stopped.clone()));
        }
        if let Some(postgres) = self.postgres {
            others.spawn(async move {
                postgres.run(stopped).await;
                Ok(())
            });
        }
        let stop = async move {
            stop.await;
            drop(stopping);
        };
        axum::serve(self.listener, service).with_graceful_shutdown(stop).await?;
        while let Some(ended) = others.join_next().await {
            ended.unwrap_or_else(|error| Err(std::io::Error::other(error)))?;
        }
        Ok(())
    }
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}: use POST to write, GET to ask", uri.path()),
    )
}

async fn unknown(uri: Uri) -> ApiError {
    let paths = "/write, /api/v2/write, /api/v3/write_lp, /api/v1/write, /api/performance, /api/performance/sources, /api/v1/events, /v1/metrics, /api/v1/sql, /api/v1/stats, /api/v1/verify, /api/v1/snapshot, /api/v1/pins, /performance/cache/stats, /performance/cache/invalidate, /performance/cache/warmup, /api/v1/pipelines/reload, /metrics, /health, /ready, /ping, /query, /api/v1/import/prometheus, /metrics/job/NAME, /collectd";
    ApiError::new(StatusCode::NOT_FOUND, format!("there is nothing at {}: there are {paths}", uri.path()))
}
