//! `filter`: samples whose series and value fit go on; the others are counted.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::choose::Choose;
use super::series::SeriesSpec;
use crate::model::{Pattern, Sample, SeriesDef};

/// `apply.filter`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSpec {
    /// Metrics that go on, as in `cpu_*`; all where there are none.
    pub metrics: Vec<Pattern>,
    /// Labels that a series must have, each with a value that fits: `host = "web-*"`.
    pub labels: BTreeMap<String, Pattern>,
    /// Series that `metrics` and `labels` do not fit go on instead.
    pub not: bool,
    /// The least value that goes on.
    pub above: Option<f64>,
    /// The greatest.
    pub below: Option<f64>,
}

impl FilterSpec {
    pub(super) fn fault(&self) -> Option<String> {
        if self.not && self.metrics.is_empty() && self.labels.is_empty() {
            return Some(
                "not = true without metrics or labels lets no series pass: name some, or leave not out".into(),
            );
        }
        for (key, bound) in [("above", self.above), ("below", self.below)] {
            if bound.is_some_and(f64::is_nan) {
                return Some(format!("{key} = nan cannot be: write a number, or leave it out"));
            }
        }
        match (self.above, self.below) {
            (Some(above), Some(below)) if above > below => Some(format!(
                "above = {above} is over below = {below}, so no value passes: write the lesser one as above"
            )),
            _ => None,
        }
    }

    /// As a condition.
    pub(super) fn condition(&self) -> Filter {
        let series = SeriesSpec { metrics: self.metrics.clone(), labels: self.labels.clone() };
        let (least, most) = (self.above.unwrap_or(f64::NEG_INFINITY), self.below.unwrap_or(f64::INFINITY));
        Filter { series, not: self.not, least, most, any: self.above.is_none() && self.below.is_none() }
    }
}

/// What fits.
pub(super) struct Filter {
    series: SeriesSpec,
    not: bool,
    least: f64,
    most: f64,
    /// Whether any value fits, be it no number.
    any: bool,
}

impl Choose for Filter {
    fn series(&self, def: &SeriesDef) -> u64 {
        u64::from(self.series.fits(def) != self.not)
    }

    #[inline]
    fn sample(&self, known: u64, sample: Sample) -> Result<(), &'static str> {
        if known == 0 {
            return Err("its series does not fit");
        }
        let fits = self.any || (sample.value >= self.least && sample.value <= self.most);
        if fits { Ok(()) } else { Err("its value does not fit") }
    }

    fn parts_series(&self) -> bool {
        !self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::bench::{Bench, spec};

    fn passed(text: &str) -> Vec<String> {
        let bench = Bench::new();
        let spec: FilterSpec = spec(text);
        assert_eq!(spec.fault(), None, "{text}");
        let mut run = bench.run(&crate::stages::Apply::Filter(spec), None);
        run.batch(&[
            ("cpu_user{host=web-1}", 1, 0.5),
            ("cpu_user{host=web-1}", 2, 1.0),
            ("cpu_user{host=db-1}", 2, 5.0),
            ("mem{host=web-2}", 2, 9.0),
            ("mem{}", 3, 9.5),
        ]);
        run.dropped().into_iter().map(|(reason, count)| format!("{count} {reason}")).chain(run.told()).collect()
    }

    #[test]
    fn series_and_values_that_fit_go_on() {
        let table: [(&str, &[&str]); 5] = [
            (
                "metrics = ['cpu_*']\nlabels = { host = 'web-*' }",
                &["3 its series does not fit", "batch cpu_user{host=web-1}@1=0.5 cpu_user{host=web-1}@2=1"],
            ),
            (
                "metrics = ['cpu_*']\nlabels = { host = 'web-*' }\nnot = true",
                &["2 its series does not fit", "batch cpu_user{host=db-1}@2=5 mem{host=web-2}@2=9 mem{}@3=9.5"],
            ),
            (
                "above = 1.0\nbelow = 9.0",
                &[
                    "2 its value does not fit",
                    "batch cpu_user{host=web-1}@2=1 cpu_user{host=db-1}@2=5 mem{host=web-2}@2=9",
                ],
            ),
            (
                "labels = { host = '*' }\nbelow = 0.7",
                &["1 its series does not fit", "3 its value does not fit", "batch cpu_user{host=web-1}@1=0.5"],
            ),
            ("metrics = ['none']", &["5 its series does not fit"]),
        ];
        for (text, wanted) in table {
            assert_eq!(passed(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_late_sample_is_in_time_where_those_after_it_were_left_out() {
        let bench = Bench::new();
        let mut run = bench.run(&crate::stages::Apply::Filter(spec("below = 9.0")), None);
        run.batch(&[("m{}", 1, 1.0), ("m{}", 5, 10.0)]);
        run.resume();
        run.late(&[("m{}", 3, 3.0), ("m{}", 2, 2.0), ("m{}", 4, 11.0)]);
        assert_eq!(run.told(), ["batch m{}@1=1", "batch m{}@3=3", "late m{}@2=2"]);
    }

    #[test]
    fn what_can_never_fit_is_a_fault() {
        for (text, told) in [
            ("above = 2.0\nbelow = 1.0", "above = 2 is over below = 1"),
            ("not = true", "not = true without"),
            ("above = nan", "above = nan cannot be"),
        ] {
            let fault = spec::<FilterSpec>(text).fault();
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(told)), "{fault:?}");
        }
        assert!(toml::from_str::<FilterSpec>("metric = ['a']").is_err());
    }
}
