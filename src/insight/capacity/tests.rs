//! From a series to what is said of it.

use super::resource::cpu;
use super::usage::{DAY, HOUR, SECOND};
use super::*;
use crate::model::Timestamp;
use crate::world::Chance;

/// 2026-01-05, a Monday.
const MONDAY: i64 = 1_767_571_200 * SECOND;

fn hourly(days: usize, of: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..days * 24).map(of).collect()
}

fn usage(values: &[f64]) -> Usage<'_> {
    Usage { series: "cpu{host=a}", start: MONDAY, step: HOUR, values, replicas: &[] }
}

fn planned(resource: &Resource, values: &[f64], outlook: &Outlook<'_>) -> Planned {
    Planned::of(resource, &usage(values), outlook, &CapacitySpec::default()).unwrap()
}

/// Between 20 and 60 % by the hour of the day.
fn day(hour: usize) -> f64 {
    40.0 + 20.0 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin()
}

fn ten() -> Resource {
    let price = Price { unit_hour: 0.05, units: 4.0, replica_hour: 0.0 };
    Resource { replicas: Replicas::Number(10), price, ..cpu() }
}

#[test]
fn a_trend_is_a_day_whatever_the_season() {
    let table: [(usize, f64, Option<f64>); 4] =
        [(2, 0.5, None), (3, 0.5, Some(0.5)), (60, 0.5, Some(0.5)), (60, -0.25, Some(-0.25))];
    for (days, slope, expected) in table {
        let values = hourly(days, |hour| day(hour) + slope * (hour / 24) as f64);
        let trend = planned(&cpu(), &values, &Outlook::default()).analysis.trend;
        assert_eq!(trend.is_some(), expected.is_some(), "{days}");
        assert!((trend.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-6, "{days} {slope}: {trend:?}");
    }
}

#[test]
fn status_goes_by_the_busy_part_of_days() {
    type Case = (&'static str, fn(usize) -> f64, Status);
    let table: [Case; 5] = [
        ("in between", day, Status::Ok),
        ("high at noon", |hour| if hour % 24 < 3 { 75.0 } else { 20.0 }, Status::ScaleUp),
        ("high once", |hour| if hour == 30 { 99.0 } else { 50.0 }, Status::Ok),
        ("low", |hour| day(hour) / 4.0, Status::ScaleDown),
        ("low but for the last hour", |hour| if hour == 27 * 24 + 23 { 80.0 } else { 10.0 }, Status::ScaleUp),
    ];
    for (name, of, expected) in table {
        assert_eq!(planned(&cpu(), &hourly(28, of), &Outlook::default()).analysis.status, expected, "{name}");
    }
}

#[test]
fn a_limit_ahead_is_told_with_what_to_do() {
    let disk = Resource { name: "disk".into(), autoscale: Autoscale::Never, scale_up: 80.0, ..cpu() };
    let values = hourly(30, |hour| 50.0 + hour as f64 / 24.0);
    let ahead: Vec<f64> = (0..30 * 24).map(|hour| 80.0 + f64::from(hour) / 24.0).collect();
    let outlook = Outlook {
        start: MONDAY + 30 * DAY,
        step: HOUR,
        p10: &ahead,
        p50: &ahead,
        p90: &ahead,
        to_limit: [Some(9 * DAY), Some(10 * DAY), None],
    };
    let planned = planned(&disk, &values, &outlook);
    assert_eq!(planned.analysis.status, Status::Watch);
    let wanted =
        "disk of cpu{host=a} reaches its limit of 90 % in 10 days (9 days at the earliest): make it 1.3 times as large";
    assert_eq!((planned.advice[0].priority, planned.advice[0].text.as_str()), (2, wanted));
    assert_eq!(CapacityRow::of(&planned).limit_p50.as_deref(), Some("2026-02-14T00:00:00Z"));
    let soon = Outlook { to_limit: [None, Some(DAY), None], ..outlook };
    let urgent = Planned::of(&disk, &usage(&values), &soon, &CapacitySpec::default()).unwrap();
    assert_eq!(urgent.advice[0].priority, 1);
    let told = forecast_of(&planned, &outlook, Timestamp::from_nanos(MONDAY));
    assert_eq!(told["forecast"].as_array().map(Vec::len), Some(720));
    assert_eq!((&told["limit"], &told["timeToLimit"]["p90"]), (&90.0.into(), &serde_json::Value::Null));
}

#[test]
fn costs_follow_the_size() {
    let found = planned(&ten(), &hourly(28, |hour| day(hour) / 2.0), &Outlook::default());
    let costs = found.costs.unwrap();
    // Ten replicas at 30 % are three at 100 %, five at 70 %: of 4 cores at 0.05 for 730 hours each.
    assert_eq!((found.analysis.size.replicas, costs.current, costs.recommended), (5, 1460.0, 730.0));
    assert_eq!((costs.saving, costs.at_horizon_p50, costs.autoscaled), (730.0, None, None));
    assert!(found.advice[0].text.ends_with("5 replicas instead of 10 would do, which saves 730.00 USD a month (50 %)"));
    let elastic = found.autoscaled(&CapacitySpec::default());
    assert!(elastic.costs.unwrap().autoscaled.unwrap() < 730.0, "{:?}", elastic.costs);
    let grown = [60.0; 48];
    let outlook = Outlook { step: HOUR, p10: &grown, p50: &grown, p90: &grown, ..Outlook::default() };
    let costs = planned(&ten(), &hourly(28, |_| 20.0), &outlook).costs.unwrap();
    assert_eq!(costs.at_horizon_p50, Some(9.0 * 146.0), "six at 100 %, nine at 70 %");
    assert_eq!(planned(&cpu(), &hourly(28, day), &Outlook::default()).costs, None, "no prices");
}

#[test]
fn replicas_of_a_metric_count_as_they_were() {
    let resource = Resource { replicas: Replicas::Metric("pods".into()), ..cpu() };
    let replicas = [f64::NAN, 2.0, f64::NAN, 4.0];
    let of = Usage { replicas: &replicas, ..usage(&[50.0; 4]) };
    let analysis = Analysis::of(&resource, &of, &Outlook::default(), &CapacitySpec::default()).unwrap();
    let loads: Vec<f64> = analysis.loads.iter().map(|&(_, load)| load).collect();
    assert_eq!((loads, analysis.replicas), (vec![0.5, 1.0, 1.0, 2.0], 4.0));
}

#[test]
fn rules_found_hold_the_limit_where_the_defaults_do_not() {
    // Leaps by half each hour, and new replicas take five minutes.
    let values: Vec<f64> = (0..14 * 288).map(|at| if at / 6 % 2 == 0 { 40.0 } else { 62.0 }).collect();
    let of = Usage { step: 300 * SECOND, ..usage(&values) };
    let spec = CapacitySpec { startup: std::time::Duration::from_secs(300), ..CapacitySpec::default() };
    let planned = Planned::of(&ten(), &of, &Outlook::default(), &spec).unwrap().autoscaled(&spec);
    let tuned = planned.tuned.unwrap();
    assert!(tuned.defaults.over_limit() > 5.0 && tuned.went.over_limit() <= 0.05, "{tuned:?}");
    assert!(tuned.rules.target <= 70.0 && tuned.went.replica_hours <= tuned.fixed, "{tuned:?}");
    let told = Resource { windows: (Some(30), Some(120)), ..ten() };
    let planned = Planned::of(&told, &of, &Outlook::default(), &spec).unwrap().autoscaled(&spec);
    let rules = planned.tuned.unwrap().rules;
    assert_eq!((rules.up.window, rules.down.window), (30, 120), "what is written is kept");
    let scaled = Scaled { resource: &planned.resource, rules, metric: "" };
    let manifest = Autoscaler::of(TargetRef::deployment("Web"), None, &[scaled]);
    let told = autoscaling_config(&planned, manifest.as_ref(), planned.end);
    assert_eq!(told["kubernetes"]["spec"]["scaleTargetRef"]["name"], "web");
    assert_eq!(told["config"]["scaleDown"]["cooldownSeconds"], 120);
}

#[test]
fn dashboards_have_resources_thresholds_costs_and_advice() {
    let all = [planned(&ten(), &hourly(28, day), &Outlook::default())];
    let told = dashboard(&all, &CapacitySpec::default(), Timestamp::from_nanos(MONDAY));
    let dashboard = &told["dashboard"];
    assert_eq!(dashboard["config"]["forecastWindow"], 2_592_000_000_u64);
    assert_eq!(dashboard["config"]["historicalWindow"], 7_776_000_000_u64);
    let thresholds = &dashboard["config"]["scalingThresholds"];
    for (name, up, down) in [("cpu", 70.0, 30.0), ("memory", 80.0, 40.0), ("requests", 80.0, 20.0)] {
        assert_eq!(
            (&thresholds[name]["scaleUp"], &thresholds[name]["scaleDown"]),
            (&up.into(), &down.into()),
            "{name}"
        );
    }
    let series = &dashboard["resources"]["cpu"][0];
    assert_eq!((&series["status"], &series["seasonal"]["pattern"]), (&"ok".into(), &"daily".into()));
    assert_eq!(series["utilizationAtHorizon"]["p50"], serde_json::Value::Null, "there is no forecast");
    assert_eq!(dashboard["costs"]["current"], 1460.0);
    let sentences = told["recommendations"].as_array().unwrap();
    assert!(sentences.iter().any(|text| text.as_str().is_some_and(|text| text.contains("is busiest from"))), "{told}");
}

#[test]
fn any_series_can_be_looked_at() {
    let nan = f64::NAN;
    let table: [&[f64]; 8] = [
        &[],
        &[nan, nan],
        &[nan, 5.0],
        &[0.0; 50],
        &[f64::INFINITY, 1.0],
        &[f64::MAX, f64::MIN, 0.0, 1.0],
        &[-5.0, -6.0, -7.0],
        &[1e-300; 30],
    ];
    let spec = CapacitySpec::default();
    for values in table {
        let has_value = values.iter().any(|value| value.is_finite());
        for resource in spec.resources() {
            let planned = Planned::of(&resource, &usage(values), &Outlook::default(), &spec);
            assert_eq!(planned.is_some(), has_value, "{values:?}");
            let Some(planned) = planned.map(|planned| planned.autoscaled(&spec)) else { continue };
            let rules = planned.tuned.map(|tuned| tuned.rules);
            assert!(rules.is_none_or(|rules| 1 <= rules.replicas_min && rules.replicas_min <= rules.replicas_max));
            assert!(serde_json::to_string(&CapacityRow::of(&planned)).is_ok(), "{values:?}");
        }
    }
    let odd = Usage { step: 0, ..usage(&[1.0, 2.0, 3.0]) };
    assert!(Planned::of(&cpu(), &odd, &Outlook::default(), &spec).is_some_and(|found| found.analysis.trend.is_none()));
}

#[test]
fn more_load_never_means_fewer_replicas_nor_less_money() {
    let chance = Chance::seeded(2_026);
    for round in 0..12 {
        let noise: Vec<f64> = (0..14 * 24).map(|_| chance.below(3000) as f64 / 100.0).collect();
        let more = 1.0 + chance.below(200) as f64 / 100.0;
        let (least, most) = (1 + chance.below(4) as u32, 5 + chance.below(30) as u32);
        let resource = Resource { replicas_min: least, replicas_max: most, ..ten() };
        let of = |times: f64| {
            let values: Vec<f64> = noise.iter().map(|value| value * times).collect();
            planned(&resource, &values, &Outlook::default())
        };
        let (low, high) = (of(1.0), of(more));
        assert!(low.analysis.size.replicas <= high.analysis.size.replicas, "round {round}: {more}");
        assert!(low.costs.unwrap().recommended <= high.costs.unwrap().recommended, "round {round}: {more}");
        let hours = low.analysis.replicas_by_hour.iter().zip(&high.analysis.replicas_by_hour);
        assert!(hours.clone().all(|(low, high)| low <= high), "round {round}: {more}");
        assert!(hours.into_iter().all(|(low, high)| least <= *low && *high <= most), "round {round}: {more}");
        // A short one is replayed: that takes longest.
        let short = planned(&resource, &noise[..48], &Outlook::default()).autoscaled(&CapacitySpec::default());
        let tuned = short.tuned.unwrap();
        assert!(least <= tuned.rules.replicas_min && tuned.went.replicas_peak <= most, "round {round}: {tuned:?}");
    }
}
