//! The list of what the program says of itself: store, ways in, stages, sources, and how it is doing on the whole.
//!
//! The names from `coordinator_` on are those of the dashboards of the systems that this program takes the place of.

use std::sync::atomic::{AtomicU64, Ordering};

use super::listeners::of_listeners;
use super::state::App;
use crate::flow::{GovernorStats, SourceStats, StageStats};
use crate::ingest::{CollectorStats, Health, OwnMetric};
use crate::query::{StoreStats, TableStats};

type Labels = Vec<(&'static str, String)>;

/// All of it, as it is now.
pub(super) fn own_metrics(app: &App) -> Vec<OwnMetric> {
    let (stats, collectors) = (app.engine.stats(), (app.collectors)());
    let mut all = of_ingest(app);
    all.extend(of_store(&stats));
    all.push(OwnMetric::one("ingest_known_bytes", "Memory of names as clients write them.", app.known_bytes() as f64));
    all.extend(of_sources(&app.sources.stats()));
    all.extend(of_stages(&(app.stages)()));
    all.extend(of_listeners(&(app.listeners)()));
    all.extend(of_collectors(&collectors, app));
    all.extend(app.requests.own_metrics((app.now)()));
    all.extend((app.governor)().iter().flat_map(of_governor));
    all.extend(on_the_whole(&collectors, app));
    all
}

fn of_ingest(app: &App) -> Vec<OwnMetric> {
    let meter = |name, help, meter: &AtomicU64| OwnMetric::one(name, help, meter.load(Ordering::Relaxed) as f64);
    let meters = &app.meters;
    vec![
        meter("ingest_samples_total", "Samples acknowledged.", &meters.samples),
        meter("ingest_lines_total", "Lines of line protocol read.", &meters.lines),
        meter("ingest_refused_lines_total", "Lines refused.", &meters.refused_lines),
        meter("ingest_text_fields_total", "Text fields, which are not stored.", &meters.text_fields),
        meter(
            "ingest_nonfinite_samples_total",
            "Samples left out for a value that is NaN or infinite.",
            &meters.nonfinite,
        ),
        meter("ingest_exemplars_total", "Exemplars, which are not stored.", &meters.exemplars),
        meter("ingest_turned_away_total", "Requests told to come later since others waited.", &meters.turned_away),
    ]
}

fn of_store(stats: &StoreStats) -> Vec<OwnMetric> {
    let one = |name, help, value: u64| OwnMetric::one(name, help, value as f64);
    let tables = |name, help, of: fn(&TableStats) -> u64| {
        OwnMetric::each(name, help, &stats.tables, |(table, stats)| (vec![("table", table.clone())], of(stats) as f64))
    };
    vec![
        one("series", "Series known.", stats.series),
        one("head_samples", "Samples in memory.", stats.samples_in_memory),
        one("head_bytes", "Memory of samples that no segment holds yet.", stats.head_bytes),
        one("rows_bytes", "Memory of derived rows that no file holds yet.", stats.rows_bytes),
        one("index_bytes", "Memory of the segments' indexes.", stats.index_bytes),
        one("series_bytes", "Memory of the series and their labels.", stats.series_bytes),
        one("wal_bytes", "Size of the log being written.", stats.wal_bytes),
        one("losses", "Rows of system.losses.", stats.losses),
        tables("table_rows", "Rows at rest.", |table| table.rows),
        tables("table_files", "Files at rest.", |table| table.files),
        tables("table_bytes", "Bytes at rest.", |table| table.bytes),
    ]
}

fn of_sources(sources: &[SourceStats]) -> Vec<OwnMetric> {
    let each = |name, help, of: fn(&SourceStats) -> u64| {
        OwnMetric::each(name, help, sources, |source| (vec![("source", source.source.clone())], of(source) as f64))
    };
    let refused = "Samples of new series beyond a budget.";
    vec![
        each("source_samples_total", "Samples acknowledged.", |source| source.samples),
        each("source_series_total", "Series that came first from it.", |source| source.series),
        each("source_series_day", "Those of 24 hours.", |source| source.series_of_day),
        each("source_series_budget", "Series it may bring in 24 hours.", |source| source.budget),
        each("source_refused_samples_total", refused, |source| source.refused_samples),
        each("source_refused_series", "Different series they were of, estimated.", |source| source.refused_series),
    ]
}

fn of_stages(stages: &[StageStats]) -> Vec<OwnMetric> {
    let labels = |stage: &StageStats| -> Labels {
        let of = [("pipeline", &stage.pipeline), ("stage", &stage.stage)];
        let shard = ("shard", stage.shard.to_string());
        of.into_iter().map(|(label, value)| (label, value.clone())).chain([shard]).collect()
    };
    let each = |name, help, of: fn(&StageStats) -> f64| {
        OwnMetric::each(name, help, stages, |stage| (labels(stage), of(stage)))
    };
    let dropped = stages.iter().flat_map(|stage| {
        let labels = labels(stage);
        let of = move |(reason, count): (&&'static str, &u64)| {
            let reason = ("reason", (*reason).to_owned());
            (labels.iter().cloned().chain([reason]).collect::<Labels>(), *count as f64)
        };
        stage.dropped.iter().map(of).collect::<Vec<_>>()
    });
    vec![
        each("stage_samples_total", "Samples a stage took.", |stage| stage.samples as f64),
        each("stage_busy_seconds_total", "Time a stage worked.", |stage| stage.busy_seconds),
        each("stage_late_total", "Samples that came too late to be told in order.", |stage| stage.late as f64),
        each("stage_rows_total", "Rows a stage gave.", |stage| stage.rows as f64),
        each("stage_queued_batches", "Steps that wait before a stage.", |stage| stage.queued as f64),
        each("stage_lag_seconds", "How long ago what a stage works on came in.", |stage| stage.lag_seconds),
        each("stage_put_off", "Windows that a stage has still to compute anew.", |stage| stage.put_off as f64),
        each("stage_failed", "1 where the pipeline has failed.", |stage| yes(stage.failure.is_some())),
        OwnMetric::each("stage_dropped_total", "Samples a stage did not hand on, by reason.", dropped, |row| row),
    ]
}

fn of_collectors(collectors: &[CollectorStats], app: &App) -> Vec<OwnMetric> {
    let asked = || collectors.iter().filter(|collector| collector.spec.enabled);
    let source = |collector: &CollectorStats| ("source", collector.spec.id.clone());
    let labels = |collector: &CollectorStats| -> Labels {
        let (kind, priority) = (collector.spec.kind.to_owned(), collector.spec.priority.name().to_owned());
        vec![source(collector), ("kind", kind), ("priority", priority)]
    };
    let each = |name, help, of: fn(&CollectorStats) -> f64| {
        OwnMetric::each(name, help, asked(), |collector| (vec![source(collector)], of(collector)))
    };
    let now = (app.now)();
    let since = asked().filter_map(|collector| {
        let success = collector.last_success?;
        Some((vec![source(collector)], now.nanos().saturating_sub(success.nanos()).max(0) as f64 / 1e9))
    });
    let is_up = |collector: &&CollectorStats| collector.passes > 0;
    vec![
        OwnMetric::each("collector_up", "1 where the last pass went well.", asked().filter(is_up), |collector| {
            (labels(collector), yes(collector.failures == 0))
        }),
        each("collector_passes_total", "Passes.", |collector| collector.passes as f64),
        each("collector_failures_total", "Passes that failed.", |collector| collector.failed_passes as f64),
        each("collector_refused_total", "Samples refused.", |collector| collector.refused as f64),
        each("collector_pass_duration_seconds", "How long the last pass took.", |collector| {
            collector.took.as_secs_f64()
        }),
        OwnMetric::each("collector_last_success_age_seconds", "Since the last pass that went well.", since, |row| row),
    ]
}

fn of_governor(stats: &GovernorStats) -> Vec<OwnMetric> {
    let usage = stats.usage;
    let each = [("cpu", usage.cpu), ("memory", usage.memory), ("queue", usage.queue)];
    vec![
        OwnMetric::each("resource_utilization", "Share of it in use, averaged.", each, |(resource, share)| {
            (vec![("resource", resource.to_owned())], share)
        }),
        OwnMetric::one(
            "resource_zone",
            "0 where it is green, 1 yellow, 2 orange, 3 red, 4 critical.",
            stats.zone.level() as f64,
        ),
        OwnMetric::one("resource_zone_changes_total", "Changes of the zone.", stats.changes as f64),
        OwnMetric::one("resource_zone_changes_lost_total", "Those that no row tells of.", stats.lost as f64),
        OwnMetric::one("coordinator_resource_utilization", "What is in use most, in percent.", 100.0 * usage.most().0),
    ]
}

fn on_the_whole(collectors: &[CollectorStats], app: &App) -> Vec<OwnMetric> {
    let asked: Vec<&CollectorStats> = collectors.iter().filter(|collector| collector.spec.enabled).collect();
    let passes: u64 = asked.iter().map(|collector| collector.passes).sum();
    let samples: u64 = asked.iter().map(|collector| collector.samples).sum();
    let took: f64 = asked.iter().map(|collector| collector.took.as_secs_f64()).sum();
    let score = sources_score(&asked);
    let system = if app.engine.closed().is_some() {
        0.0
    } else if app.engine.degraded().is_empty() {
        score
    } else {
        score / 2.0
    };
    let brought = app.sources.stats();
    // Who is not asked sends by itself.
    let category = |source: &SourceStats| {
        let asked = collectors.iter().find(|collector| collector.spec.id == source.source);
        asked.map_or("push", |collector| collector.spec.kind).to_owned()
    };
    vec![
        OwnMetric::each("coordinator_source_metrics_total", "Samples that sources brought.", &asked, |collector| {
            let (id, priority) = (collector.spec.id.clone(), collector.spec.priority.name().to_owned());
            (vec![("source", id), ("priority", priority)], collector.samples as f64)
        }),
        OwnMetric::one(
            "coordinator_batch_size",
            "Samples that a pass of a source brought, on average.",
            samples as f64 / passes.max(1) as f64,
        ),
        OwnMetric::one("coordinator_processing_time_seconds", "The last passes of all sources together.", took),
        OwnMetric::one("coordinator_health_score", "Share of the sources that are well, 0 to 100.", score),
        OwnMetric::each("performance_metrics_total", "Samples acknowledged, by how they came.", &brought, |source| {
            (vec![("category", category(source)), ("source", source.source.clone())], source.samples as f64)
        }),
        OwnMetric::one("system_health_score", "Store and sources together, 0 to 100.", system),
    ]
}

/// 100 where all are well; one that has failed lately counts half.
fn sources_score(asked: &[&CollectorStats]) -> f64 {
    let of = |collector: &&CollectorStats| match collector.health {
        Health::Starting | Health::Healthy | Health::Paused | Health::Disabled => 1.0,
        Health::Degraded => 0.5,
        Health::Failing => 0.0,
    };
    match asked.len() {
        0 => 100.0,
        all => 100.0 * asked.iter().map(of).sum::<f64>() / all as f64,
    }
}

fn yes(is: bool) -> f64 {
    f64::from(u8::from(is))
}
