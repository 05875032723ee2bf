//! `serve`: listeners, collectors, pipelines, HTTP, until it is told to stop.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::collect::planned;
use super::global::Global;
use super::node::{Node, settings};
use crate::serve::{Limits, Server, ServerParts};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Address and port of HTTP; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDR")]
    listen: String,
    /// Address and port of OTLP over gRPC; without it, what the settings say
    #[arg(long, value_name = "ADDR")]
    otlp_grpc: Option<String>,
}

pub(super) fn serve(global: &Global, args: &ServeArgs) -> anyhow::Result<()> {
    let mut settings = settings(global)?;
    settings.listen.otlp_grpc = args.otlp_grpc.clone().or(settings.listen.otlp_grpc);
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
    let (clock, told) = (node.world.clock.clone(), node.pipelines.clone());
    let parts = ServerParts {
        sources: node.doors.clone(),
        engine: node.engine.clone(),
        limits,
        otlp_grpc: node.settings.listen.otlp_grpc.clone(),
        now: Arc::new(move || clock.now()),
        stages: Arc::new(move || told.stats()),
    };
    runtime.block_on(async {
        let server = Server::bind(listen, parts).await.with_context(|| format!("cannot listen on {listen}"))?;
        let sources = planned(&node.settings, &node.world);
        node.collectors.start(sources, &node.world, &*node.doors, future);
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
