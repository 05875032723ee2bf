//! How long things are kept: samples by their metric, rows of derived tables by their table, rollups by the length of
//! their window. What is older than its rule keeps is shown no more, and goes from the disk in time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{Table, Timestamp};

/// For how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    #[default]
    Forever,
    For(Duration),
}

/// A metric's name, or the names of several: `*` stands for any letters, none among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

/// How long samples of the metrics that a pattern fits are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetricRule {
    pub metric: Pattern,
    pub keep: Keep,
}

/// What is kept how long. By default everything, for ever.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Samples of metrics that no rule is for.
    pub samples: Keep,
    /// The first rule whose pattern fits a metric counts.
    pub metrics: Vec<MetricRule>,
    /// Rows of derived tables that none of the following is for.
    pub rows: Keep,
    pub tables: BTreeMap<Table, Keep>,
    /// Rollups, by the length of their window in nanoseconds.
    pub rollups: BTreeMap<i64, Keep>,
}

impl Keep {
    /// The oldest time that is kept at `now`.
    pub fn oldest(self, now: Timestamp) -> Timestamp {
        match self {
            Keep::Forever => Timestamp::MIN,
            Keep::For(length) => now.plus(i64::try_from(length.as_nanos()).map_or(i64::MIN, |nanos| -nanos)),
        }
    }

    pub fn shorter(self, other: Keep) -> Keep {
        match (self, other) {
            (Keep::For(one), Keep::For(other)) => Keep::For(one.min(other)),
            (Keep::Forever, finite) | (finite, Keep::Forever) => finite,
        }
    }

    pub fn longer(self, other: Keep) -> Keep {
        match (self, other) {
            (Keep::For(one), Keep::For(other)) => Keep::For(one.max(other)),
            _ => Keep::Forever,
        }
    }

    /// `None` for ever.
    pub fn length(self) -> Option<Duration> {
        match self {
            Keep::Forever => None,
            Keep::For(length) => Some(length),
        }
    }
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Keep::Forever);
        }
        match humantime::parse_duration(text) {
            Ok(length) if length > Duration::ZERO => Ok(Keep::For(length)),
            _ => Err(format!("`{text}` is no time to keep things: write one as in \"90d\", or \"forever\"")),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Pattern {
    pub fn fits(&self, metric: &str) -> bool {
        let Some((start, rest)) = self.0.split_once('*') else { return self.0 == metric };
        let Some(mut left) = metric.strip_prefix(start) else { return false };
        let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middle.split('*') {
            match left.find(part) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(end)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "an empty pattern fits no metric: write a name, or a part of it and `*`, as in \"debug_*\"".into()
            );
        }
        Ok(Pattern(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Retention {
    /// All samples and rows alike.
    pub fn of_all(keep: Keep) -> Self {
        Retention { samples: keep, rows: keep, ..Retention::default() }
    }

    /// The place of the rule for a metric's samples; behind all rules where none fits.
    pub fn rule_of(&self, metric: &str) -> usize {
        self.metrics.iter().position(|rule| rule.metric.fits(metric)).unwrap_or(self.metrics.len())
    }

    /// What a rule keeps; what is kept of metrics without one, behind all rules.
    pub fn of_rule(&self, rule: usize) -> Keep {
        self.metrics.get(rule).map_or(self.samples, |rule| rule.keep)
    }

    /// The longest that any sample is kept.
    pub fn longest_of_samples(&self) -> Keep {
        self.metrics.iter().fold(self.samples, |longest, rule| longest.longer(rule.keep))
    }

    /// For how long samples are kept of whatever metric.
    pub fn shortest_of_samples(&self) -> Keep {
        self.metrics.iter().fold(self.samples, |shortest, rule| shortest.shorter(rule.keep))
    }

    /// How long a row of a derived table is kept; `every` is the length of its window in nanoseconds, if it has one.
    pub fn of_row(&self, table: Table, every: Option<i64>) -> Keep {
        let of_window = every.filter(|_| table == Table::Rollups).and_then(|every| self.rollups.get(&every));
        of_window.or_else(|| self.tables.get(&table)).copied().unwrap_or(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_a_reader_thinks() {
        let cases = [
            ("debug_*", "debug_", true),
            ("debug_*", "debug_a_b", true),
            ("debug_*", "my_debug_a", false),
            ("*_bucket", "http_bucket", true),
            ("*_bucket", "http_buckets", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("ab*ba", "abba", true),
            ("*x*", "axb", true),
            ("*", "", true),
            ("cpu", "cpu", true),
            ("cpu", "cpu_idle", false),
            ("**", "x", true),
            ("*é*", "caféine", true),
        ];
        for (pattern, metric, fits) in cases {
            assert_eq!(pattern.parse::<Pattern>().unwrap().fits(metric), fits, "{pattern} {metric}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let keep = |text: &str| text.parse::<Keep>().unwrap();
        let rule = |metric: &str, text| MetricRule { metric: metric.parse().unwrap(), keep: keep(text) };
        let metrics = vec![rule("debug_slow", "forever"), rule("debug_*", "7d"), rule("*", "1y")];
        let retention = Retention { metrics, ..Retention::of_all(keep("90d")) };
        for (metric, text) in [("debug_slow", "forever"), ("debug_fast", "7d"), ("cpu", "1y")] {
            assert_eq!(retention.of_rule(retention.rule_of(metric)), keep(text), "{metric}");
        }
        assert_eq!((retention.longest_of_samples(), retention.shortest_of_samples()), (Keep::Forever, keep("7d")));
        let retention = Retention { metrics: vec![rule("a", "7d")], ..Retention::of_all(keep("90d")) };
        assert_eq!(retention.of_rule(retention.rule_of("b")), keep("90d"));
        assert_eq!(retention.longest_of_samples(), keep("90d"));
    }

    #[test]
    fn rows_go_by_window_then_table_then_the_rest() {
        let keep = |days: u64| Keep::For(Duration::from_secs(days * 86_400));
        let retention = Retention {
            tables: BTreeMap::from([(Table::Rollups, keep(2)), (Table::Anomalies, keep(3))]),
            rollups: BTreeMap::from([(60, keep(1))]),
            ..Retention::of_all(keep(4))
        };
        assert_eq!(retention.of_row(Table::Rollups, Some(60)), keep(1));
        assert_eq!(retention.of_row(Table::Rollups, Some(61)), keep(2));
        assert_eq!(retention.of_row(Table::Anomalies, None), keep(3));
        assert_eq!(retention.of_row(Table::Correlations, None), keep(4));
    }

    #[test]
    fn times_to_keep_are_more_than_none() {
        assert_eq!("forever".parse(), Ok(Keep::Forever));
        assert_eq!("1h 30m".parse(), Ok(Keep::For(Duration::from_secs(5400))));
        for text in ["0s", "", "7", "7 parsecs"] {
            let told = text.parse::<Keep>().unwrap_err();
            assert!(told.contains("write one as in \"90d\""), "{told}");
        }
        let old = Keep::For(Duration::MAX).oldest(Timestamp::from_nanos(5));
        assert!(old < Timestamp::from_nanos(-i64::MAX / 2), "{old:?}");
    }
}
