//! What the program says of itself: `/metrics`, `/health`, `/ready`, `/api/v1/stats`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::state::App;

pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    match app.engine.closed() {
        None => {
            let degraded = app.engine.degraded();
            let told = if degraded.is_empty() {
                json!({"status": "healthy"})
            } else {
                json!({"status": "degraded", "reasons": degraded})
            };
            Json(told).into_response()
        }
        Some(reason) => {
            let told = json!({"status": "unhealthy", "store": reason});
            (StatusCode::SERVICE_UNAVAILABLE, Json(told)).into_response()
        }
    }
}

pub(super) async fn stats(State(app): State<Arc<App>>) -> Response {
    Json(app.engine.stats()).into_response()
}

/// Prometheus text exposition.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, rows: &[(String, f64)]| {
        let _ = writeln!(text, "# HELP plimsoll_{name} {help}\n# TYPE plimsoll_{name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(text, "plimsoll_{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    let meter = |meter: &std::sync::atomic::AtomicU64| one(meter.load(Ordering::Relaxed) as f64);
    let meters = &app.meters;
    metric("ingest_samples_total", "counter", "Samples acknowledged.", &meter(&meters.samples));
    metric("ingest_lines_total", "counter", "Lines of line protocol read.", &meter(&meters.lines));
    metric("ingest_refused_lines_total", "counter", "Lines refused.", &meter(&meters.refused_lines));
    metric("ingest_text_fields_total", "counter", "Text fields, which are not stored.", &meter(&meters.text_fields));
    metric("ingest_exemplars_total", "counter", "Exemplars, which are not stored.", &meter(&meters.exemplars));
    let told = "Requests told to come later since others waited.";
    metric("ingest_turned_away_total", "counter", told, &meter(&meters.turned_away));
    let stats = app.engine.stats();
    metric("series", "gauge", "Series known.", &one(stats.series as f64));
    metric("head_samples", "gauge", "Samples in memory.", &one(stats.samples_in_memory as f64));
    metric("head_bytes", "gauge", "Memory of samples that no segment holds yet.", &one(stats.head_bytes as f64));
    metric("rows_bytes", "gauge", "Memory of derived rows that no file holds yet.", &one(stats.rows_bytes as f64));
    metric("index_bytes", "gauge", "Memory of the segments' indexes.", &one(stats.index_bytes as f64));
    metric("series_bytes", "gauge", "Memory of the series and their labels.", &one(stats.series_bytes as f64));
    metric("ingest_known_bytes", "gauge", "Memory of names as clients write them.", &one(app.known_bytes() as f64));
    metric("wal_bytes", "gauge", "Size of the log being written.", &one(stats.wal_bytes as f64));
    metric("losses", "gauge", "Rows of system.losses.", &one(stats.losses as f64));
    let tables = |of: fn(&crate::query::TableStats) -> u64| -> Vec<(String, f64)> {
        let row = |(name, table): (&String, _)| (format!("{{table=\"{name}\"}}"), of(table) as f64);
        stats.tables.iter().map(row).collect()
    };
    metric("table_rows", "gauge", "Rows at rest.", &tables(|table| table.rows));
    metric("table_files", "gauge", "Files at rest.", &tables(|table| table.files));
    metric("table_bytes", "gauge", "Bytes at rest.", &tables(|table| table.bytes));
    let sources = app.sources.stats();
    let of_source = |of: fn(&crate::flow::SourceStats) -> u64| -> Vec<(String, f64)> {
        sources.iter().map(|source| (format!("{{source=\"{}\"}}", source.source), of(source) as f64)).collect()
    };
    metric("source_samples_total", "counter", "Samples acknowledged.", &of_source(|source| source.samples));
    metric("source_series_total", "counter", "Series that came first from it.", &of_source(|source| source.series));
    metric("source_series_day", "gauge", "Those of 24 hours.", &of_source(|source| source.series_of_day));
    metric("source_series_budget", "gauge", "Series it may bring in 24 hours.", &of_source(|source| source.budget));
    let refused = of_source(|source| source.refused_samples);
    metric("source_refused_samples_total", "counter", "Samples of new series beyond a budget.", &refused);
    let refused = of_source(|source| source.refused_series);
    metric("source_refused_series", "gauge", "Different series they were of, estimated.", &refused);
    let stages = (app.stages)();
    let of_stage = |of: fn(&crate::flow::StageStats) -> f64| -> Vec<(String, f64)> {
        let labels = |stage: &crate::flow::StageStats| {
            format!("{{pipeline=\"{}\",stage=\"{}\",shard=\"{}\"}}", stage.pipeline, stage.stage, stage.shard)
        };
        stages.iter().map(|stage| (labels(stage), of(stage))).collect()
    };
    metric("stage_samples_total", "counter", "Samples a stage took.", &of_stage(|stage| stage.samples as f64));
    metric("stage_busy_seconds_total", "counter", "Time a stage worked.", &of_stage(|stage| stage.busy_seconds));
    metric("stage_queued_batches", "gauge", "Events that wait before a stage.", &of_stage(|stage| stage.queued as f64));
    metric("stage_failed", "gauge", "1 for a stage that failed.", &of_stage(|stage| f64::from(u8::from(stage.failed))));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
