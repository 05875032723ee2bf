//! The ledger of forecasts: what was foretold, held against what came.
//!
//! A forecast is scored as far as its time has come, step by step: what came is the mean of the samples in the step. Steps
//! without a sample are gaps, left out and counted. From the scores of many forecasts the accuracy of a model is made, for
//! each series and by how far ahead it looked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Foretold, Issued, SeriesId, Span, Timestamp};

/// What came of a series.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// In the order of time.
    pub samples: &'a [(Timestamp, f64)],
    /// All samples before this are there: steps that end later have not come.
    pub until: Timestamp,
}

/// One step foretold that has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepScore {
    pub time: Timestamp,
    /// From the forecast's issue to the end of the step.
    pub lead: Duration,
    pub actual: f64,
    /// What came less what was foretold: over 0 where it foretold too little.
    pub error: f64,
    /// |error| / scale; `None` without a scale over 0.
    pub scaled: Option<f64>,
    /// 2 |error| / (|actual| + |foretold|), 0 to 2; 0 where both are 0.
    pub relative: f64,
    /// Whether it lay between `lo` and `hi`, both included.
    pub is_covered: bool,
}

/// A forecast scored, as far as its time has come: `steps` and `gaps` together are those of `of` that have.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    pub series: SeriesId,
    pub model: Arc<str>,
    pub issued: Timestamp,
    pub level: f64,
    pub steps: Vec<StepScore>,
    /// Steps that have come, and without a sample; or whose forecast is no number.
    pub gaps: usize,
    /// Steps it has.
    pub of: usize,
}

/// One row of `forecast_accuracy`: a model on a series, at one lead.
#[derive(Clone, PartialEq, Debug)]
pub struct Accuracy {
    pub series: SeriesId,
    pub model: Arc<str>,
    /// Steps that end at most so long after the issue, and later than the lead before; [`Duration::MAX`] beyond the last.
    pub lead: Duration,
    /// Forecasts with a step here.
    pub forecasts: usize,
    /// Steps scored.
    pub steps: usize,
    /// Mean of |error|, in the unit of the series.
    pub mae: f64,
    /// Mean of the error: over 0 where it foretells too little.
    pub bias: f64,
    /// Mean of |error| / scale: below 1 it beats what was one season before. `None` where no forecast has a scale.
    pub mase: Option<f64>,
    /// Mean of the relative error, 0 to 2.
    pub smape: f64,
    /// Share of steps between `lo` and `hi`, and the share that was to be.
    pub coverage: f64,
    pub level: f64,
}

/// Mean absolute error, on a history, of the forecast that says what was one season before, or one step where there is none;
/// NaN is a gap. `None` where nothing can be told, or nothing ever changed.
pub fn season_error(values: &[f64], season: Option<usize>) -> Option<f64> {
    let back = season.unwrap_or(1).max(1);
    let errors = values.iter().zip(values.iter().skip(back)).map(|(before, now)| (now - before).abs());
    let (count, sum) =
        errors.filter(|error| error.is_finite()).fold((0_usize, 0.0), |(count, sum), error| (count + 1, sum + error));
    (sum > 0.0).then(|| sum / count as f64)
}

/// The leads that accuracy is told for: an hour, six, a day, a week, 30 days, and beyond.
pub const LEADS: [Duration; 6] = [
    Duration::from_secs(3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(86_400),
    Duration::from_secs(7 * 86_400),
    Duration::from_secs(30 * 86_400),
    Duration::MAX,
];

/// Scores a forecast against what has come of its series.
pub fn score(issued: &Issued, came: Came<'_>) -> Score {
    let has_come = |step: &&Foretold| step.time.plus(issued.step) <= came.until;
    let due: Vec<&Foretold> = issued.steps.iter().take_while(has_come).collect();
    let steps: Vec<StepScore> = due.iter().filter_map(|step| score_step(issued, step, came.samples)).collect();
    Score {
        series: issued.series,
        model: issued.model.clone(),
        issued: issued.issued,
        level: issued.level,
        gaps: due.len() - steps.len(),
        of: issued.steps.len(),
        steps,
    }
}

fn score_step(issued: &Issued, foretold: &Foretold, samples: &[(Timestamp, f64)]) -> Option<StepScore> {
    let end = foretold.time.plus(issued.step);
    let actual = mean_in(samples, Span::new(foretold.time, end))?;
    let error = actual - foretold.mean;
    let size = actual.abs() + foretold.mean.abs();
    let lead = u64::try_from(end.nanos().saturating_sub(issued.issued.nanos())).unwrap_or(0);
    error.is_finite().then(|| StepScore {
        time: foretold.time,
        lead: Duration::from_nanos(lead),
        actual,
        error,
        scaled: issued.scale.filter(|scale| *scale > 0.0).map(|scale| error.abs() / scale),
        relative: if size > 0.0 { 2.0 * error.abs() / size } else { 0.0 },
        is_covered: foretold.lo <= actual && actual <= foretold.hi,
    })
}

/// The mean of what is finite in `span`; `None` where nothing is.
fn mean_in(samples: &[(Timestamp, f64)], span: Span) -> Option<f64> {
    let first = samples.partition_point(|(time, _)| *time < span.start);
    let inside = samples[first..].iter().take_while(|(time, _)| *time < span.end);
    let (count, sum) = inside
        .filter(|(_, value)| value.is_finite())
        .fold((0_usize, 0.0), |(count, sum), (_, value)| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}

#[derive(Default)]
struct Sums {
    forecasts: usize,
    steps: usize,
    absolute: f64,
    signed: f64,
    relative: f64,
    covered: usize,
    level: f64,
    scaled: f64,
    scaled_steps: usize,
}

impl Sums {
    fn take(&mut self, step: &StepScore, level: f64) {
        self.steps += 1;
        self.absolute += step.error.abs();
        self.signed += step.error;
        self.relative += step.relative;
        self.covered += usize::from(step.is_covered);
        self.level += level;
        self.scaled += step.scaled.unwrap_or(0.0);
        self.scaled_steps += usize::from(step.scaled.is_some());
    }
}

/// How well each model foretold each series, by lead; rows in the order of series, model and lead.
pub fn accuracy(scores: &[Score]) -> Vec<Accuracy> {
    let mut groups: BTreeMap<(SeriesId, Arc<str>, Duration), Sums> = BTreeMap::new();
    for score in scores {
        let mut seen = None;
        for step in &score.steps {
            let lead = LEADS[LEADS.partition_point(|lead| *lead < step.lead)];
            let sums = groups.entry((score.series, score.model.clone(), lead)).or_default();
            sums.take(step, score.level);
            sums.forecasts += usize::from(seen.replace(lead) != Some(lead));
        }
    }
    groups.into_iter().map(|((series, model, lead), sums)| row(series, model, lead, &sums)).collect()
}

fn row(series: SeriesId, model: Arc<str>, lead: Duration, sums: &Sums) -> Accuracy {
    let count = sums.steps as f64;
    Accuracy {
        series,
        model,
        lead,
        forecasts: sums.forecasts,
        steps: sums.steps,
        mae: sums.absolute / count,
        bias: sums.signed / count,
        mase: (sums.scaled_steps > 0).then(|| sums.scaled / sums.scaled_steps as f64),
        smape: sums.relative / count,
        coverage: sums.covered as f64 / count,
        level: sums.level / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn at(hours: f64) -> Timestamp {
        Timestamp::from_nanos((hours * HOUR as f64) as i64)
    }

    /// A forecast issued at hour 0 of steps of an hour.
    fn issued(model: &str, scale: Option<f64>, means: &[f64]) -> Issued {
        let step = |(hour, mean): (i64, &f64)| Foretold {
            time: at(hour as f64),
            mean: *mean,
            lo: *mean - 1.0,
            hi: *mean + 1.0,
        };
        Issued {
            series: SeriesId(1),
            issued: at(0.0),
            job: "".into(),
            model: model.into(),
            trained: Span::new(at(-100.0), at(0.0)),
            share_imputed: 0.0,
            step: HOUR,
            level: 0.9,
            scale,
            steps: (0..).zip(means).map(step).collect(),
        }
    }

    fn scored(means: &[f64], samples: &[(f64, f64)], until: f64) -> Score {
        let samples: Vec<(Timestamp, f64)> = samples.iter().map(|(hour, value)| (at(*hour), *value)).collect();
        score(&issued("mstl", Some(2.0), means), Came { samples: &samples, until: at(until) })
    }

    #[test]
    fn a_step_is_held_against_the_mean_of_its_samples() {
        type Case = (f64, &'static [(f64, f64)], f64, f64, f64, bool);
        let table: [Case; 7] = [
            (10.0, &[(0.0, 12.0)], 2.0, 1.0, 4.0 / 22.0, false),
            (10.0, &[(0.0, 9.0), (0.5, 10.0)], -0.5, 0.25, 1.0 / 19.5, true),
            (10.0, &[(-0.1, 99.0), (0.0, 11.0), (1.0, 99.0)], 1.0, 0.5, 2.0 / 21.0, true),
            (10.0, &[(0.1, f64::NAN), (0.2, 10.0)], 0.0, 0.0, 0.0, true),
            (0.0, &[(0.1, 0.0)], 0.0, 0.0, 0.0, true),
            (0.0, &[(0.1, -5.0)], -5.0, 2.5, 2.0, false),
            (10.0, &[(0.1, 9.0)], -1.0, 0.5, 2.0 / 19.0, true),
        ];
        for (mean, samples, error, scaled, relative, is_covered) in table {
            let found = scored(&[mean], samples, 1.0).steps[0];
            assert!((found.error - error).abs() < 1e-12, "{mean} {samples:?}: {found:?}");
            assert!((found.relative - relative).abs() < 1e-12, "{mean} {samples:?}: {found:?}");
            assert_eq!((found.scaled, found.is_covered), (Some(scaled), is_covered), "{mean} {samples:?}");
            assert_eq!(found.lead, Duration::from_secs(3600));
        }
    }

    #[test]
    fn a_forecast_is_scored_as_far_as_its_time_has_come() {
        let means = [1.0; 5];
        // Until which hour; steps scored, gaps.
        type Case = (f64, &'static [(f64, f64)], usize, usize);
        let table: [Case; 6] = [
            (0.0, &[(0.5, 1.0)], 0, 0),
            (1.9, &[(0.5, 1.0), (1.5, 1.0)], 1, 0),
            (2.0, &[(0.5, 1.0), (1.5, 1.0)], 2, 0),
            (4.0, &[(0.5, 1.0), (3.5, 1.0)], 2, 2),
            (9.0, &[], 0, 5),
            (9.0, &[(0.5, f64::INFINITY), (4.99, 1.0), (5.0, 1.0)], 1, 4),
        ];
        for (until, samples, steps, gaps) in table {
            let found = scored(&means, samples, until);
            assert_eq!((found.steps.len(), found.gaps, found.of), (steps, gaps, 5), "{until} {samples:?}");
        }
        assert_eq!(scored(&[f64::NAN, 1.0], &[(0.5, 1.0), (1.5, 1.0)], 2.0).gaps, 1, "no number was foretold");
    }

    #[test]
    fn without_a_scale_there_is_no_mase() {
        let samples = [(at(0.5), 3.0)];
        for scale in [None, Some(0.0), Some(f64::NAN)] {
            let score = score(&issued("naive", scale, &[1.0]), Came { samples: &samples, until: at(1.0) });
            assert_eq!(score.steps[0].scaled, None);
            assert_eq!(accuracy(&[score])[0].mase, None);
        }
    }

    #[test]
    fn accuracy_is_told_by_series_model_and_lead() {
        let samples: Vec<(Timestamp, f64)> = (0..8).map(|hour| (at(f64::from(hour)), 4.0)).collect();
        let came = Came { samples: &samples, until: at(8.0) };
        let good = score(&issued("a", Some(2.0), &[4.0, 4.0, 4.5, 3.5, 4.0, 4.0, 4.0, 8.0]), came);
        let bad = score(&issued("b", None, &[6.0, 2.0]), came);
        let other = score(&Issued { series: SeriesId(0), ..issued("b", Some(1.0), &[3.0]) }, came);
        let twice = score(&issued("a", Some(4.0), &[2.0]), came);
        let rows = accuracy(&[good, bad, other, twice]);
        // Series, model, hours of lead, forecasts, steps, MAE, bias, MASE, coverage.
        let told = |row: &Accuracy| {
            let hours = row.lead.as_secs() / 3600;
            let counts = (row.forecasts, row.steps);
            (row.series.0, row.model.to_string(), hours, counts, row.mae, row.bias, row.mase, row.coverage)
        };
        let expected = [
            (0, "b".to_owned(), 1, (1, 1), 1.0, 1.0, Some(1.0), 1.0),
            (1, "a".to_owned(), 1, (2, 2), 1.0, 1.0, Some(0.25), 0.5),
            (1, "a".to_owned(), 6, (1, 5), 0.2, 0.0, Some(0.1), 1.0),
            (1, "a".to_owned(), 24, (1, 2), 2.0, -2.0, Some(1.0), 0.5),
            (1, "b".to_owned(), 1, (1, 1), 2.0, -2.0, None, 0.0),
            (1, "b".to_owned(), 6, (1, 1), 2.0, 2.0, None, 0.0),
        ];
        assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
        assert!(rows.iter().all(|row| (row.level - 0.9).abs() < 1e-12));
        assert_eq!(accuracy(&[]), []);
    }

    #[test]
    fn the_scale_is_the_error_of_the_season_before() {
        let nan = f64::NAN;
        let table: [(&[f64], Option<usize>, Option<f64>); 5] = [
            (&[1.0, 2.0, 4.0], None, Some(1.5)),
            (&[1.0, 5.0, 2.0, 6.0], Some(2), Some(1.0)),
            (&[1.0, nan, 4.0, 5.0], None, Some(1.0)),
            (&[3.0, 3.0, 3.0], None, None),
            (&[1.0, 2.0], Some(2), None),
        ];
        for (values, season, expected) in table {
            assert_eq!(season_error(values, season), expected, "{values:?} {season:?}");
        }
    }

    #[test]
    fn leads_end_where_they_say() {
        let lead = |seconds: u64| LEADS[LEADS.partition_point(|lead| *lead < Duration::from_secs(seconds))];
        for (seconds, expected) in [(0, 0), (3600, 0), (3601, 1), (86_400, 2), (86_401, 3), (2_592_001, 5)] {
            assert_eq!(lead(seconds), LEADS[expected], "{seconds}");
        }
    }
}
