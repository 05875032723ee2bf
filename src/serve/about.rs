//! What the program says of itself: `/metrics`, `/health`, `/ready`, `/api/v1/stats`, `/api/performance/sources`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::influx;
use super::own::own_metrics;
use super::state::App;
use crate::flow::{Effects, GovernorStats, Zone};
use crate::ingest::{CollectorStats, Health, Priority, own_text};

/// The zone of what is in use, a warning from orange on; where it is critical the whole counts as degraded.
/// 503 only where the store takes no writes. Sources that fail are named; the whole counts as degraded where one of them
/// is of priority `critical`. To clients of InfluxDB the store's state in their words.
pub(super) async fn health(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    told(&app, &headers, influx::health)
}

pub(super) async fn ready(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    told(&app, &headers, influx::ready)
}

fn told(app: &App, headers: &HeaderMap, to_influx: fn(bool, &str) -> Response) -> Response {
    let (closed, mut reasons) = (app.engine.closed(), app.engine.degraded());
    if influx::is_client(headers) {
        let message = closed.clone().unwrap_or_else(|| reasons.join("; "));
        return to_influx(closed.is_none(), if message.is_empty() { "ready for writes" } else { &message });
    }
    let collectors = (app.collectors)();
    let failing: Vec<&CollectorStats> = collectors.iter().filter(|collector| fails(collector)).collect();
    let sources = failing.iter().map(|collector| told_of(collector)).collect();
    let critical = failing.iter().filter(|collector| collector.spec.priority == Priority::Critical);
    reasons.extend(critical.map(|collector| format!("the source `{}` fails", collector.spec.id)));
    let governor = (app.governor)();
    reasons.extend(governor.as_ref().and_then(at_the_limit));
    let (status, mut told) = match closed {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "unhealthy", "store": reason})),
        None if reasons.is_empty() => (StatusCode::OK, json!({"status": "healthy"})),
        None => (StatusCode::OK, json!({"status": "degraded", "reasons": reasons})),
    };
    if !failing.is_empty() {
        told["sources"] = Value::Array(sources);
    }
    if let Some(governor) = governor {
        told["resources"] = of_governor(&governor);
    }
    (status, Json(told)).into_response()
}

fn at_the_limit(governor: &GovernorStats) -> Option<String> {
    let (most, what) = governor.usage.most();
    (governor.zone == Zone::Critical).then(|| format!("resources are short: {what} at {:.0} %", 100.0 * most))
}

fn of_governor(governor: &GovernorStats) -> Value {
    let (most, what) = governor.usage.most();
    let mut told = json!({
        "zone": governor.zone.name(),
        "since": governor.since.to_string(),
        "utilization_percent": (1000.0 * most).round() / 10.0,
        "most": what,
    });
    if let Some(warning) = Effects::of(governor.zone).warning {
        told["warning"] = Value::from(warning);
    }
    told
}

fn fails(collector: &CollectorStats) -> bool {
    matches!(collector.health, Health::Degraded | Health::Failing)
}

fn told_of(collector: &CollectorStats) -> Value {
    json!({"id": collector.spec.id, "health": collector.health.name(), "error": collector.last_error})
}

/// The sources that are asked, and how they are doing.
pub(super) async fn sources(State(app): State<Arc<App>>) -> Response {
    let source = |collector: &CollectorStats| {
        let spec = &collector.spec;
        json!({
            "source": {
                "id": spec.id,
                "name": spec.name,
                "kind": spec.kind,
                "priority": spec.priority.name(),
                "enabled": spec.enabled,
                "intervalMs": millis(spec.interval),
            },
            "lastCollection": collector.last_pass.map(|time| time.nanos() / 1_000_000),
            "health": collector.health.name(),
            "failures": collector.failures,
            "lastError": collector.last_error,
        })
    };
    let all: Vec<Value> = (app.collectors)().iter().map(source).collect();
    Json(json!({"success": true, "sources": all, "timestamp": (app.now)().to_string()})).into_response()
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn stats(State(app): State<Arc<App>>) -> Response {
    Json(app.engine.stats()).into_response()
}

/// Prometheus text exposition.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let text = own_text(&own_metrics(&app));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
