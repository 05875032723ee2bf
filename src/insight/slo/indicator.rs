//! What is counted as good, out of what: the indicator of an SLO, checked.

use std::time::Duration;

use super::spec::{AvailabilitySpec, Bound, LatencySpec, SloSpec, ThresholdSpec, ThroughputSpec};

/// Ends of metrics' names that tell their unit, and how many of it a second has.
const UNITS: [(&str, f64); 10] = [
    ("seconds", 1.0),
    ("s", 1.0),
    ("milliseconds", 1e3),
    ("millis", 1e3),
    ("ms", 1e3),
    ("microseconds", 1e6),
    ("us", 1e6),
    ("nanoseconds", 1e9),
    ("nanos", 1e9),
    ("ns", 1e9),
];
/// How the counters of a histogram end.
const BUCKETS: &str = "_bucket";

/// A fault: the key, and what to write.
pub(super) type KeyFault = (&'static str, String);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Indicator {
    /// Samples, of which those are good that fulfil a condition.
    Samples { metric: String, good: String, quantile: Option<f64> },
    /// Observations of a histogram up to a bound.
    Histogram { metric: String, bound: f64, quantile: Option<f64> },
    /// Growth of counters.
    Counters { total: String, part: Part },
    /// Buckets of time in which a counter grew by so much a second.
    Throughput { metric: String, least: Option<f64>, most: Option<f64> },
    /// Buckets of time whose mean is within bounds, which are out of them.
    Mean { metric: String, below: Option<f64>, above: Option<f64> },
    /// A query of the user's.
    Sql(String),
}

/// A part of a counter, or beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Whether it counts what went wrong.
    pub(super) is_errors: bool,
    pub(super) metric: String,
    pub(super) condition: Option<String>,
}

impl Indicator {
    /// The one that is written.
    pub(super) fn of(spec: &SloSpec) -> Result<Indicator, Vec<KeyFault>> {
        let SloSpec { latency, availability, throughput, threshold, sql, .. } = spec;
        let mut written: Vec<Result<Indicator, Vec<KeyFault>>> = Vec::new();
        written.extend(latency.as_ref().map(of_latency));
        written.extend(availability.as_ref().map(of_availability));
        written.extend(throughput.as_ref().map(of_throughput));
        written.extend(threshold.as_ref().map(of_threshold));
        written.extend(sql.as_ref().map(|text| of_sql(text, spec.r#where.is_some())));
        match written.pop() {
            Some(only) if written.is_empty() => only,
            _ => {
                let told = "write one of latency, availability, throughput, threshold and sql, and no more: another \
                            indicator is another [[slo]]";
                Err(vec![("slo", told.to_owned())])
            }
        }
    }
}

fn of_latency(spec: &LatencySpec) -> Result<Indicator, Vec<KeyFault>> {
    let mut faults = no_metric(&spec.metric);
    if !spec.quantile.is_none_or(|share| share > 0.0 && share < 1.0) {
        faults.push(("quantile", "write a share between 0 and 1, as in quantile = 0.95".to_owned()));
    }
    match (bound_of(spec), faults.is_empty()) {
        (Ok(bound), true) => Ok(latency(spec, bound)),
        (Ok(_), false) => Err(faults),
        (Err(fault), _) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

fn latency(spec: &LatencySpec, bound: f64) -> Indicator {
    let (metric, quantile) = (spec.metric.clone(), spec.quantile);
    if metric.ends_with(BUCKETS) {
        Indicator::Histogram { metric, bound, quantile }
    } else {
        Indicator::Samples { metric, good: format!("value <= {bound:?}"), quantile }
    }
}

/// In the metric's unit.
fn bound_of(spec: &LatencySpec) -> Result<f64, KeyFault> {
    let bound = match spec.below {
        Some(Bound::Number(number)) => number,
        Some(Bound::Time(time)) => in_unit(spec, time)?,
        None => return Err(("below", "write the bound, as in below = \"200ms\"".to_owned())),
    };
    if bound.is_finite() { Ok(bound) } else { Err(("below", "write a number, as in below = 0.2".to_owned())) }
}

fn in_unit(spec: &LatencySpec, time: Duration) -> Result<f64, KeyFault> {
    let of = |unit: &str| UNITS.into_iter().find(|(name, _)| *name == unit).map(|(_, a_second)| a_second);
    let name = spec.metric.strip_suffix(BUCKETS).unwrap_or(&spec.metric);
    let of_name = name.rsplit_once('_').and_then(|(_, end)| of(end));
    let a_second = match &spec.unit {
        Some(unit) => of(unit).ok_or_else(|| ("unit", format!("`{unit}` is none: write s, ms, us or ns")))?,
        None => of_name.ok_or_else(|| {
            let told = "does not tell its unit: write unit = \"ms\" (or s, us, ns), or below as a number";
            ("below", format!("the name `{}` {told}", spec.metric))
        })?,
    };
    // Whole nanoseconds first: 0.2 is nearer to what was written than 200 times 0.001.
    Ok(time.as_nanos() as f64 * a_second / 1e9)
}

fn of_availability(spec: &AvailabilitySpec) -> Result<Indicator, Vec<KeyFault>> {
    let AvailabilitySpec { total, good, good_where, errors, errors_where, up, metric, ok } = spec;
    let is_good = good.is_some() || good_where.is_some();
    let is_errors = errors.is_some() || errors_where.is_some();
    let told = "write total with good, good_where, errors or errors_where; or up alone; or metric with ok";
    let fault = || vec![("availability", told.to_owned())];
    match (total, up, metric, ok) {
        (Some(total), None, None, None) if is_good != is_errors => {
            let (part, condition) = if is_errors { (errors, errors_where) } else { (good, good_where) };
            let metric = part.clone().unwrap_or_else(|| total.clone());
            let part = Part { is_errors, metric, condition: condition.clone() };
            let faults: Vec<KeyFault> = [total, &part.metric].into_iter().flat_map(|name| no_metric(name)).collect();
            let key = if is_errors { "errors_where" } else { "good_where" };
            checked(
                faults,
                condition.as_deref().map(|text| (key, text)),
                Indicator::Counters { total: total.clone(), part },
            )
        }
        (None, Some(up), None, None) if !is_good && !is_errors => checked(
            no_metric(up),
            None,
            Indicator::Samples { metric: up.clone(), good: "value > 0".to_owned(), quantile: None },
        ),
        (None, None, Some(metric), Some(ok)) if !is_good && !is_errors => {
            let samples = Indicator::Samples { metric: metric.clone(), good: ok.clone(), quantile: None };
            checked(no_metric(metric), Some(("ok", ok)), samples)
        }
        _ => Err(fault()),
    }
}

fn checked(
    mut faults: Vec<KeyFault>,
    condition: Option<(&'static str, &str)>,
    indicator: Indicator,
) -> Result<Indicator, Vec<KeyFault>> {
    faults.extend(condition.and_then(|(key, text)| Some((key, condition_fault(text)?))));
    if faults.is_empty() { Ok(indicator) } else { Err(faults) }
}

fn of_throughput(spec: &ThroughputSpec) -> Result<Indicator, Vec<KeyFault>> {
    let &ThroughputSpec { ref metric, at_least: least, at_most: most } = spec;
    let mut faults = no_metric(metric);
    faults.extend(no_range(least, most, ["at_least", "at_most"]));
    checked(faults, None, Indicator::Throughput { metric: metric.clone(), least, most })
}

fn of_threshold(spec: &ThresholdSpec) -> Result<Indicator, Vec<KeyFault>> {
    let &ThresholdSpec { ref metric, below, above } = spec;
    let mut faults = no_metric(metric);
    faults.extend(no_range(above, below, ["above", "below"]));
    checked(faults, None, Indicator::Mean { metric: metric.clone(), below, above })
}

fn of_sql(text: &str, has_where: bool) -> Result<Indicator, Vec<KeyFault>> {
    let mut faults = Vec::new();
    if has_where {
        faults.push(("where", "sql has its own: write the condition there".to_owned()));
    }
    let text = text.trim().trim_end_matches(';').trim_end();
    checked(faults, Some(("sql", text)), Indicator::Sql(text.to_owned()))
}

fn no_metric(name: &str) -> Vec<KeyFault> {
    let told = || ("metric", "write the name of a metric, as in metric = \"http_requests_total\"".to_owned());
    name.trim().is_empty().then(told).into_iter().collect()
}

fn no_range(least: Option<f64>, most: Option<f64>, [low, high]: [&'static str; 2]) -> Option<KeyFault> {
    let finite = [least, most].into_iter().flatten().all(f64::is_finite);
    let told = match (least, most) {
        (None, None) => format!("write {low} or {high}, or both"),
        _ if !finite => "write a number".to_owned(),
        (Some(least), Some(most)) if least > most => {
            format!("nothing is from {least} to {most}: write the lower one as {low}")
        }
        _ => return None,
    };
    Some((low, told))
}

/// Why a text cannot stand in parentheses within a statement: it would end them, or never.
pub(super) fn condition_fault(text: &str) -> Option<String> {
    let (mut open, mut quote, mut before) = (0_i32, None, ' ');
    for letter in text.chars() {
        match (quote, letter) {
            (Some(mark), _) if mark == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(') => open += 1,
            (None, ')') if open == 0 => return Some("a ) has no (: write them in pairs".to_owned()),
            (None, ')') => open -= 1,
            (None, ';') => return Some("there is a ; in it: write one condition or query".to_owned()),
            (None, '-') if before == '-' => return Some("there is a comment in it: leave it out".to_owned()),
            (None, '*') if before == '/' => return Some("there is a comment in it: leave it out".to_owned()),
            _ => {}
        }
        before = letter;
    }
    match (quote, open) {
        (Some(mark), _) => Some(format!("a {mark} is not closed")),
        (None, 1..) => Some("a ( is not closed".to_owned()),
        _ if text.trim().is_empty() => Some("it is empty: write an SQL condition or query".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_of_the_metric() {
        let table = [
            ("http_request_duration_seconds_bucket", None, "200ms", Some(0.2)),
            ("took_ms", None, "1s 500ms", Some(1500.0)),
            ("took_us", None, "1ms", Some(1000.0)),
            ("response_time", Some("ms"), "50ms", Some(50.0)),
            ("took_seconds", Some("ns"), "1us", Some(1000.0)),
            ("response_time", None, "50ms", None),
            ("response_time", Some("weeks"), "50ms", None),
        ];
        for (metric, unit, below, expected) in table {
            let below = Some(Bound::Time(humantime::parse_duration(below).unwrap()));
            let spec = LatencySpec { metric: metric.to_owned(), below, unit: unit.map(str::to_owned), quantile: None };
            assert_eq!(bound_of(&spec).ok(), expected, "{metric} {unit:?}");
        }
    }

    #[test]
    fn conditions_stay_within_their_parentheses() {
        let table = [
            ("status < '500'", true),
            ("(a = 'x;--)' OR b = 'it''s') AND \"odd(\" > 1", true),
            ("a = 1)", false),
            ("1 = 1) OR (1 = 1", false),
            ("(a = 1", false),
            ("a = 'x", false),
            ("a = 1; DROP", false),
            ("a = 1 -- all", false),
            ("a = 1 /* all", false),
            (" ", false),
        ];
        for (text, is_well) in table {
            assert_eq!(condition_fault(text).is_none(), is_well, "{text}");
        }
    }
}
