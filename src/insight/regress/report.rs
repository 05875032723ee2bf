//! Results of now against a baseline, metric by metric.

use serde::Serialize;

use super::words::sentence;
use super::{Baseline, Measured, Results};
use crate::stats::compare::{Basis, Better, CompareOptions, Comparison, Verdict, compare, compare_stated, holm};

/// How results are compared.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct RegressOptions {
    /// Of each comparison, but that `better` and `centre` are the metric's own.
    pub compare: CompareOptions,
    /// Which way all metrics ought to go, whatever they say themselves.
    pub better: Option<Better>,
}

/// One metric, compared. Its fields, in this order, are the columns of a table.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    pub metric: String,
    pub unit: String,
    /// Centres, in `unit`.
    pub baseline: f64,
    pub now: f64,
    /// `now` / `baseline`, where both are above 0.
    pub ratio: Option<f64>,
    /// Share of the baseline, and its bounds: 0.1 is a tenth more.
    pub change: Option<f64>,
    pub change_low: Option<f64>,
    pub change_high: Option<f64>,
    /// Two-sided, adjusted for the number of metrics.
    pub p_value: Option<f64>,
    /// Cliff's delta, -1 to 1.
    pub delta: Option<f64>,
    /// By Hodges and Lehmann, in `unit`.
    pub shift: Option<f64>,
    pub baseline_runs: usize,
    pub now_runs: usize,
    pub basis: Basis,
    pub better: Better,
    pub verdict: Verdict,
    pub sentence: String,
}

/// All metrics that both have: regressions first, then improvements, the largest change before the others.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Metrics of the baseline that were not measured now.
    pub missing: Vec<String>,
    /// Metrics that the baseline does not have.
    pub added: Vec<String>,
}

/// Compares results with a baseline. P-values are Holm's over all metrics that have one: the chance of any false alarm is as
/// large as that of one.
pub fn report(baseline: &Baseline, now: &Results, options: &RegressOptions) -> Report {
    let both: Vec<(&String, &Measured, &Measured)> =
        baseline.metrics.iter().filter_map(|(name, before)| Some((name, before, now.metrics.get(name)?))).collect();
    let options: Vec<CompareOptions> = both.iter().map(|(_, before, _)| options.of(before)).collect();
    let mut found: Vec<Comparison> =
        both.iter().zip(&options).map(|((_, before, now), options)| of_both(before, now, options)).collect();
    adjust(&mut found, &options);
    let compared = both.iter().zip(&found).zip(&options);
    let mut rows: Vec<Row> =
        compared.map(|(((name, before, _), found), options)| Row::of(name, &before.unit, found, options)).collect();
    rows.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
    let without = |some: &mut dyn Iterator<Item = &String>, others: &dyn Fn(&str) -> bool| {
        some.filter(|name| !others(name)).cloned().collect()
    };
    Report {
        rows,
        missing: without(&mut baseline.metrics.keys(), &|name| now.metrics.contains_key(name)),
        added: without(&mut now.metrics.keys(), &|name| baseline.metrics.contains_key(name)),
    }
}

impl RegressOptions {
    fn of(&self, before: &Measured) -> CompareOptions {
        CompareOptions { better: self.better.unwrap_or(before.better), centre: before.centre, ..self.compare }
    }
}

impl Report {
    pub fn regressions(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Regression)
    }

    /// What a gate asks.
    pub fn has_regression(&self) -> bool {
        self.regressions().next().is_some()
    }
}

impl Row {
    fn of(name: &str, unit: &str, found: &Comparison, options: &CompareOptions) -> Row {
        Row {
            metric: name.to_owned(),
            unit: unit.to_owned(),
            baseline: found.before,
            now: found.now,
            ratio: found.ratio(),
            change: found.change,
            change_low: found.interval.map(|(low, _)| low),
            change_high: found.interval.map(|(_, high)| high),
            p_value: found.p_value,
            delta: found.delta,
            shift: found.shift,
            baseline_runs: found.counts.0,
            now_runs: found.counts.1,
            basis: found.basis,
            better: options.better,
            verdict: found.verdict,
            sentence: sentence(name, unit, found, options),
        }
    }

    /// Its place in a report: lower comes first.
    fn rank(&self) -> f64 {
        let size = self.change.map_or(1.0, |change| change.abs() / (1.0 + change.abs()));
        let verdict = match self.verdict {
            Verdict::Regression => 0.0,
            Verdict::Improvement => 2.0,
            Verdict::Same => 4.0,
            Verdict::TooFew => 6.0,
        };
        verdict - size
    }
}

/// By samples, where both have some.
fn of_both(before: &Measured, now: &Measured, options: &CompareOptions) -> Comparison {
    if !before.samples.is_empty() && !now.samples.is_empty() {
        return compare(&before.samples, &now.samples, options);
    }
    match (before.stated(), now.stated()) {
        (Some(before), Some(now)) => compare_stated(&before, &now, options),
        _ => compare(&[], &[], options),
    }
}

fn adjust(found: &mut [Comparison], options: &[CompareOptions]) {
    let tested = found.iter_mut().zip(options).filter(|(found, _)| found.verdict != Verdict::TooFew);
    let tested: Vec<(&mut Comparison, &CompareOptions)> = tested.filter(|(found, _)| found.p_value.is_some()).collect();
    let adjusted = holm(&tested.iter().filter_map(|(found, _)| found.p_value).collect::<Vec<f64>>());
    tested.into_iter().zip(adjusted).for_each(|((found, options), p_value)| found.adjust(p_value, options));
}
