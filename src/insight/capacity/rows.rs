//! What is printed: a row a resource and series, and the JSON that dashboards ask for.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use serde::Serialize;
use serde_json::{Value, json};

use super::advice::{Advice, Grounds, advice, hours};
use super::analyse::{Analysis, Level};
use super::cost::Costs;
use super::hpa::Autoscaler;
use super::replay::Rules;
use super::resource::Resource;
use super::schedule::Schedule;
use super::spec::CapacitySpec;
use super::tune::{TuneOptions, Tuned};
use super::usage::{Outlook, Usage};
use crate::model::Timestamp;
use crate::stats::six_digits;

/// A resource and one of its series, with all that is made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub resource: Resource,
    pub analysis: Analysis,
    /// After [`Planned::autoscaled`], where more replicas help.
    pub tuned: Option<Tuned>,
    pub costs: Option<Costs>,
    pub advice: Vec<Advice>,
    /// When the history ends.
    pub end: Timestamp,
    pub currency: String,
}

impl Planned {
    /// Without rules for an autoscaler. `None` where the series has no value.
    pub fn of(resource: &Resource, usage: &Usage<'_>, outlook: &Outlook<'_>, spec: &CapacitySpec) -> Option<Self> {
        let analysis = Analysis::of(resource, usage, outlook, spec)?;
        let (resource, end) = (resource.clone(), Timestamp::from_nanos(usage.end()));
        let currency = spec.currency.clone();
        Some(Planned { resource, analysis, tuned: None, costs: None, advice: vec![], end, currency }.advised())
    }

    /// With rules for an autoscaler where more replicas help: takes a tenth of a second of four weeks in steps of five
    /// minutes.
    #[must_use]
    pub fn autoscaled(mut self, spec: &CapacitySpec) -> Self {
        let startup = u32::try_from(spec.startup.as_secs()).unwrap_or(u32::MAX);
        let options = TuneOptions { startup, over_limit: spec.over_limit };
        if self.resource.autoscale.has_replicas() {
            self.tuned = Rules::tuned(&self.resource, &self.analysis, &options);
        }
        self.advised()
    }

    fn advised(mut self) -> Self {
        let Planned { resource, analysis, tuned, currency, .. } = &self;
        let tuned = tuned.as_ref();
        let costs = Costs::of(resource, analysis, tuned);
        let advice = advice(&Grounds { resource, analysis, costs: costs.as_ref(), tuned, currency });
        (self.costs, self.advice) = (costs, advice);
        self
    }

    fn to_limit(&self) -> [Option<String>; 3] {
        self.analysis.to_limit.map(|left| left.map(|left| self.end.plus(left).to_string()))
    }

    pub fn schedule(&self) -> Schedule {
        Schedule::of(&self.analysis.replicas_by_hour)
    }
}

/// One line of `plimsoll capacity`. Values are in `unit`, `used_*` and `headroom` in percent, costs a month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapacityRow {
    pub resource: String,
    pub series: String,
    pub status: &'static str,
    pub unit: String,
    pub current: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub peak: f64,
    pub used_p95: f64,
    pub limit: f64,
    pub headroom: f64,
    pub trend_a_day: Option<f64>,
    /// When the limit is met with a tenth, a half and nine tenths of the chance; RFC 3339.
    pub limit_p10: Option<String>,
    pub limit_p50: Option<String>,
    pub limit_p90: Option<String>,
    pub used_at_horizon_p50: f64,
    pub used_at_horizon_p90: f64,
    pub season: &'static str,
    pub peak_hours: String,
    pub quiet_hours: String,
    pub peak_to_mean: f64,
    pub size_now: f64,
    pub size_lower: f64,
    pub size_target: f64,
    pub size_upper: f64,
    pub size_recommended: f64,
    pub replicas_now: f64,
    pub replicas_recommended: u32,
    pub cost_now: Option<f64>,
    pub cost_recommended: Option<f64>,
    pub saving: Option<f64>,
    pub currency: String,
    /// The most urgent sentence; empty where nothing need be done.
    pub advice: String,
}

impl CapacityRow {
    pub fn of(planned: &Planned) -> Self {
        let Planned { resource, analysis, costs, .. } = planned;
        let (profile, size, values) = (&analysis.profile, &analysis.size, &analysis.values);
        let [limit_p10, limit_p50, limit_p90] = planned.to_limit();
        let cost = |of: fn(&Costs) -> f64| costs.as_ref().map(of).map(six_digits);
        CapacityRow {
            resource: resource.name.clone(),
            series: analysis.series.clone(),
            status: analysis.status.name(),
            unit: resource.unit.clone(),
            current: six_digits(values.current),
            mean: six_digits(values.mean),
            p50: six_digits(values.p50),
            p95: six_digits(values.p95),
            p99: six_digits(values.p99),
            peak: six_digits(values.peak),
            used_p95: six_digits(analysis.used.p95),
            limit: resource.limit,
            headroom: six_digits(analysis.headroom),
            trend_a_day: analysis.trend.map(six_digits),
            limit_p10,
            limit_p50,
            limit_p90,
            used_at_horizon_p50: six_digits(analysis.ahead[1]),
            used_at_horizon_p90: six_digits(analysis.ahead[2]),
            season: profile.season(),
            peak_hours: hours(&profile.peak_hours),
            quiet_hours: hours(&profile.quiet_hours),
            peak_to_mean: six_digits(profile.peak_to_mean),
            size_now: six_digits(size.now),
            size_lower: six_digits(size.lower),
            size_target: six_digits(size.target),
            size_upper: six_digits(size.upper),
            size_recommended: six_digits(size.recommended),
            replicas_now: size.replicas_now,
            replicas_recommended: size.replicas,
            cost_now: cost(|costs| costs.current),
            cost_recommended: cost(|costs| costs.recommended),
            saving: cost(|costs| costs.saving),
            currency: planned.currency.clone(),
            advice: planned.advice.first().map(|advice| advice.text.clone()).unwrap_or_default(),
        }
    }
}

const TEXTS: [&str; 11] = [
    "resource",
    "series",
    "status",
    "unit",
    "limit_p10",
    "limit_p50",
    "limit_p90",
    "season",
    "peak_hours",
    "quiet_hours",
    "currency",
];

fn schema() -> SchemaRef {
    let names = [
        "resource",
        "series",
        "status",
        "unit",
        "current",
        "mean",
        "p50",
        "p95",
        "p99",
        "peak",
        "used_p95",
        "limit",
        "headroom",
        "trend_a_day",
        "limit_p10",
        "limit_p50",
        "limit_p90",
        "used_at_horizon_p50",
        "used_at_horizon_p90",
        "season",
        "peak_hours",
        "quiet_hours",
        "peak_to_mean",
        "size_now",
        "size_lower",
        "size_target",
        "size_upper",
        "size_recommended",
        "replicas_now",
        "replicas_recommended",
        "cost_now",
        "cost_recommended",
        "saving",
        "currency",
        "advice",
    ];
    let is_text = |name: &str| TEXTS.contains(&name) || name == "advice";
    let field = |name: &str| Field::new(name, if is_text(name) { DataType::Utf8 } else { DataType::Float64 }, true);
    Arc::new(Schema::new(names.map(field).to_vec()))
}

/// The rows as columns, named as the fields are.
///
/// # Errors
/// None that can be thought of: the columns are those of the rows.
pub fn capacity_rows(rows: &[CapacityRow]) -> Result<RecordBatch, ArrowError> {
    let mut decoder = ReaderBuilder::new(schema()).build_decoder()?;
    decoder.serialize(rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema())))
}

fn level(level: &Level) -> Value {
    let Level { current, mean, p50, p95, p99, peak } = *level;
    json!({ "current": current, "average": mean, "p50": p50, "p95": p95, "p99": p99, "peak": peak })
}

fn limits([p10, p50, p90]: [Option<String>; 3]) -> Value {
    json!({ "p10": p10, "p50": p50, "p90": p90 })
}

/// One series of one resource.
fn of_series(planned: &Planned) -> Value {
    let Planned { resource, analysis, costs, .. } = planned;
    let (profile, size) = (&analysis.profile, &analysis.size);
    json!({
        "series": analysis.series,
        "unit": resource.unit,
        "status": analysis.status,
        "usage": level(&analysis.values),
        "utilization": level(&analysis.used),
        "trendPerDay": analysis.trend,
        "headroom": analysis.headroom,
        "timeToLimit": limits(planned.to_limit()),
        "utilizationAtHorizon": { "p10": analysis.ahead[0], "p50": analysis.ahead[1], "p90": analysis.ahead[2] },
        "seasonal": seasonal(planned),
        "sizing": size,
        "replicas": { "current": size.replicas_now, "recommended": size.replicas },
        "costs": costs,
        "missing": analysis.gaps,
        "peakToMean": profile.peak_to_mean,
    })
}

fn seasonal(planned: &Planned) -> Value {
    let profile = &planned.analysis.profile;
    json!({
        "pattern": profile.season(),
        "dailyShare": profile.daily_share,
        "weeklyShare": profile.weekly_share,
        "peakHours": profile.peak_hours,
        "quietHours": profile.quiet_hours,
        "byHour": profile.by_hour,
        "byWeekday": profile.by_weekday,
        "replicasByHourOfWeek": planned.analysis.replicas_by_hour,
    })
}

/// Answer of `capacity/dashboard`: resources by name with their series, thresholds, costs and advice. Windows are in
/// milliseconds, thresholds as the settings write them.
pub fn dashboard(all: &[Planned], spec: &CapacitySpec, at: Timestamp) -> Value {
    let mut resources = serde_json::Map::new();
    let mut thresholds = serde_json::Map::new();
    for resource in spec.resources().iter().chain(all.iter().map(|planned| &planned.resource)) {
        let of = json!({ "scaleUp": resource.scale_up, "scaleDown": resource.scale_down, "limit": resource.limit });
        thresholds.insert(resource.name.clone(), of);
    }
    for planned in all {
        let series = resources.entry(planned.resource.name.clone()).or_insert_with(|| json!([]));
        series.as_array_mut().map(|series| series.push(of_series(planned))).unwrap_or_default();
    }
    let sum = |of: fn(&Costs) -> f64| all.iter().filter_map(|planned| planned.costs.as_ref()).map(of).sum::<f64>();
    let mut advice: Vec<&Advice> = all.iter().flat_map(|planned| &planned.advice).collect();
    advice.sort_by_key(|advice| advice.priority);
    let sentences: Vec<&str> = advice.iter().map(|advice| advice.text.as_str()).collect();
    json!({
        "success": true,
        "dashboard": {
            "resources": resources,
            "config": {
                "forecastWindow": spec.horizon.as_millis() as u64,
                "historicalWindow": spec.history.as_millis() as u64,
                "scalingThresholds": thresholds,
            },
            "costs": {
                "currency": spec.currency,
                "current": sum(|costs| costs.current),
                "recommended": sum(|costs| costs.recommended),
                "saving": sum(|costs| costs.saving),
            },
            "optimizations": advice,
        },
        "recommendations": sentences,
        "timestamp": at.to_string(),
    })
}

/// Answer of `capacity/forecast/:resource` for one series.
pub fn forecast_of(planned: &Planned, outlook: &Outlook<'_>, at: Timestamp) -> Value {
    let point = |step: usize| {
        let time = Timestamp::from_nanos(outlook.start).plus(outlook.step.saturating_mul(step as i64));
        let of = |line: &[f64]| line.get(step).copied();
        json!({ "timestamp": time.to_string(), "p10": of(outlook.p10), "p50": of(outlook.p50), "p90": of(outlook.p90) })
    };
    let limit = planned.resource.at(planned.resource.limit, planned.analysis.replicas);
    json!({
        "success": true,
        "resource": planned.resource.name,
        "series": planned.analysis.series,
        "unit": planned.resource.unit,
        "current": planned.analysis.values.current,
        "limit": limit,
        "trendPerDay": planned.analysis.trend,
        "forecast": (0..outlook.p50.len()).map(point).collect::<Vec<Value>>(),
        "timeToLimit": limits(planned.to_limit()),
        "seasonal": seasonal(planned),
        "recommendations": planned.advice.iter().map(|advice| &advice.text).collect::<Vec<&String>>(),
        "timestamp": at.to_string(),
    })
}

/// Answer of `capacity/autoscaling-config`: the rules, how they would have done over the history beside the defaults of
/// Kubernetes, the manifest, and replicas by the hour.
pub fn autoscaling_config(planned: &Planned, manifest: Option<&Autoscaler>, at: Timestamp) -> Value {
    let resource = &planned.resource;
    let config = planned.tuned.as_ref().map(|Tuned { rules, went, defaults, .. }| {
        json!({
            "minReplicas": rules.replicas_min,
            "maxReplicas": rules.replicas_max,
            "targetUtilization": rules.target,
            "scaleUp": { "threshold": resource.scale_up, "cooldownSeconds": rules.up.window, "pace": rules.up },
            "scaleDown": { "threshold": resource.scale_down, "cooldownSeconds": rules.down.window, "pace": rules.down },
            "replayed": went,
            "replayedDefaults": defaults,
        })
    });
    json!({
        "success": config.is_some(),
        "resource": resource.name,
        "config": config,
        "kubernetes": manifest.map(Autoscaler::json),
        "schedule": planned.schedule(),
        "timestamp": at.to_string(),
    })
}
