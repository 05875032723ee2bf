//! `serve`: listeners, collectors, pipelines, HTTP, until it is told to stop.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::collect::{own_source, planned};
use super::global::Global;
use super::governor;
use super::node::{Node, settings};
use crate::ingest::Taken;
use crate::serve::{Limits, Server, ServerParts};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Address and port of HTTP; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDR")]
    listen: String,
    /// Address and port of OTLP over gRPC; without it, what the settings say
    #[arg(long, value_name = "ADDR")]
    otlp_grpc: Option<String>,
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
    run(Node::open_to_write(&global.data, settings)?, &args.listen)
}

/// Serves a node until the process is told to stop, then closes it.
pub(super) fn run(mut node: Node, listen: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("http").build()?;
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
    let parts = ServerParts {
        sources: node.doors.clone(),
        engine: node.engine.clone(),
        limits,
        otlp_grpc: node.settings.listen.otlp_grpc.clone(),
        now: Arc::new(move || clock.now()),
        stages: Arc::new(move || told.stats()),
        collectors: node.collectors.teller(),
        listeners: node.listeners.teller(),
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
        eprintln!("plimsoll listens on http://{} and keeps {}", server.address()?, node.store.dir().display());
        server.run(told_to_stop).await?;
        node.collectors.stop().await;
        anyhow::Ok(())
    })?;
    // What came is stored before the store is closed.
    node.listeners.stop();
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
    node.close()
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
