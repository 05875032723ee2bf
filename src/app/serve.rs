//! `serve`: listeners, collectors, pipelines, HTTP, until it is told to stop.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::collect::{own_source, planned};
use super::global::Global;
use super::governor;
use super::jobs;
use super::node::{Node, settings};
use crate::config::Settings;
use crate::ingest::Taken;
use crate::query::STATEMENT_STACK;
use crate::serve::{Addresses, Limits, Reload, Server, ServerParts};
use crate::stages::Reloaded;

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Address and port of HTTP; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDR")]
    listen: String,
    /// Address and port of OTLP over gRPC; without it, what the settings say
    #[arg(long, value_name = "ADDR")]
    otlp_grpc: Option<String>,
    /// Address and port of PostgreSQL's protocol, as in 127.0.0.1:5433, for psql, drivers and dashboards
    #[arg(long, value_name = "ADDR")]
    pg: Option<String>,
    /// Address and port of Arrow Flight SQL, as in 127.0.0.1:9466, for ADBC and JDBC
    #[arg(long, value_name = "ADDR")]
    flight: Option<String>,
    /// Address and port of StatsD and DogStatsD, UDP and TCP, as in 127.0.0.1:8125; nothing listens without it
    #[arg(long, value_name = "ADDR")]
    statsd: Option<String>,
    /// Address and port of Graphite's plaintext, UDP and TCP, as in 127.0.0.1:2003; nothing listens without it
    #[arg(long, value_name = "ADDR")]
    graphite: Option<String>,
}

pub(super) fn serve(global: &Global, args: &ServeArgs) -> anyhow::Result<()> {
    let mut settings = settings(global)?;
    let listen = &mut settings.listen;
    listen.statsd = args.statsd.clone().or(listen.statsd.take());
    listen.graphite = args.graphite.clone().or(listen.graphite.take());
    listen.otlp_grpc = args.otlp_grpc.clone().or(listen.otlp_grpc.take());
    listen.pg = args.pg.clone().or(listen.pg.take());
    listen.flight = args.flight.clone().or(listen.flight.take());
    let written = {
        let global = global.clone();
        move || super::node::settings(&global)
    };
    run(Node::open_to_write(&global.data, settings)?, &args.listen, written)
}

/// Serves a node until the process is told to stop, then closes it. `written` gives the settings as they are written now.
pub(super) fn run(
    mut node: Node,
    listen: &str,
    written: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("http")
        .thread_stack_size(STATEMENT_STACK)
        .build()?;
    let ingest = &node.settings.ingest;
    let plan = node.settings.memory_plan();
    let future = ingest.future_max;
    let limits = Limits {
        body: usize::try_from(ingest.body_max.as_u64()).map_or(plan.bodies(), |body| body.min(plan.bodies())),
        bodies: plan.bodies(),
        known: plan.known(),
        future,
        retention: node.settings.store.retention().into(),
    };
    let taken = Taken { future, retention: limits.retention.clone() };
    let (clock, told) = (node.world.clock.clone(), node.pipelines.clone());
    let reload = reloading(&node, written);
    let parts = ServerParts {
        sources: node.doors.clone(),
        engine: node.engine.clone(),
        limits,
        addresses: Addresses {
            otlp_grpc: node.settings.listen.otlp_grpc.clone(),
            pg: node.settings.listen.pg.clone(),
            flight: node.settings.listen.flight.clone(),
        },
        now: Arc::new(move || clock.now()),
        stages: Arc::new(move || told.stats()),
        collectors: node.collectors.teller(),
        listeners: node.listeners.teller(),
        reload: reload.clone(),
        governor: node.governor.teller(),
    };
    governor::start(&mut node).context("cannot start the governor")?;
    runtime.block_on(async {
        let server = Server::bind(listen, parts).await.with_context(|| format!("cannot listen on {listen}"))?;
        let mut sources = planned(&node.settings, &node.world);
        sources.extend(own_source(&node.settings, server.own()));
        node.collectors.start(sources, &node.world, &*node.doors, future);
        node.listeners.start(&node.settings.listen, &node.world, &*node.doors, &taken)?;
        for (listener, address) in node.listeners.addresses() {
            eprintln!("plimsoll takes {listener} on {address}, UDP and TCP");
        }
        // Before the address is told: whoever reads it may tell the server to stop.
        let told_to_stop = told_to_stop()?;
        if let Some(address) = server.otlp_grpc() {
            eprintln!("plimsoll takes OTLP over gRPC on {address}");
        }
        if let Some(address) = server.pg() {
            eprintln!("plimsoll answers PostgreSQL's protocol on {address}");
        }
        if let Some(address) = server.flight() {
            eprintln!("plimsoll answers Arrow Flight SQL on {address}");
        }
        eprintln!("plimsoll listens on http://{} and keeps {}", server.address()?, node.store.dir().display());
        tokio::spawn(reload_when_told(reload));
        let jobs = jobs::start(&node, runtime.handle())?;
        server.run(told_to_stop).await?;
        tokio::task::spawn_blocking(move || drop(jobs)).await?;
        node.collectors.stop().await;
        anyhow::Ok(())
    })?;
    // What came is stored before the store is closed.
    node.listeners.stop();
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    node.close()
}

/// Reads the settings and the pipeline files again; with a fault in them all goes on as it was.
fn reloading(node: &Node, written: impl Fn() -> anyhow::Result<Settings> + Send + Sync + 'static) -> Reload {
    let pipelines = node.pipelines.clone();
    Arc::new(move || {
        let specs = written().and_then(|settings| super::node::pipelines(&settings)).map_err(told)?;
        let reloaded = pipelines.reload(&specs).map_err(|error| told(error.into()))?;
        let Reloaded { started, changed, stopped, kept } = reloaded;
        tracing::info!(?started, ?changed, ?stopped, ?kept, "pipelines were read again");
        Ok(json!({"started": started, "changed": changed, "stopped": stopped, "kept": kept}))
    })
}

fn told(error: anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// At SIGHUP, as services are told to read their files again.
async fn reload_when_told(reload: Reload) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        let reload = reload.clone();
        match tokio::task::spawn_blocking(move || reload()).await {
            Ok(Ok(_)) => {}
            Ok(Err(told)) => tracing::error!("pipelines go on as they were: {told}"),
            Err(error) => tracing::error!(%error, "pipelines were not read again"),
        }
    }
}

/// Is done at Ctrl-C or SIGTERM; they are caught from this call on.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
