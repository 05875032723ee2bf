//! Forecasts of many series at once, for who keeps them: some at a time, on all threads, until nobody wants more.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::error::Result;
use rayon::prelude::*;

use super::ahead::{Ahead, Made};
use crate::model::{Foretold, Issued, SeriesId, Timestamp};
use crate::query::picked::Picked;
use crate::store::Snapshot;

/// Series that are forecast before what was made is handed on: this many histories and forecasts are in memory.
pub(super) const TOGETHER: usize = 64;

/// What is forecast, and under which name it is kept.
#[derive(Clone, Debug)]
pub struct ForecastRequest {
    /// The metric; `%` in it stands for any letters.
    pub metric: String,
    /// Labels of the series, as in `host=a,region=eu`.
    pub labels: Option<String>,
    pub ahead: Ahead,
    /// When it is issued, or was to be.
    pub issued: Timestamp,
    pub job: Arc<str>,
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Series that were looked at, of how many.
    pub done: usize,
    pub of: usize,
}

impl ForecastRequest {
    /// Forecasts the series there are and hands on what was made, until that breaks it off. Series with too short a history
    /// have no part in it.
    pub(in crate::query) fn run(
        &self,
        snapshot: &Snapshot,
        mut each: impl FnMut(Vec<Issued>, Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let series = Picked::new(self.metric.clone(), self.labels.as_deref())?.series(snapshot)?;
        let mut done = 0;
        for some in series.chunks(TOGETHER) {
            let made = together(&self.ahead, snapshot, some)?;
            done += some.len();
            let issued = made.into_iter().map(|(id, made)| self.issued(id, made)).collect();
            if each(issued, Progress { done, of: series.len() }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn issued(&self, series: SeriesId, made: Made) -> Issued {
        let Made { forecast, first, step, trained, scale, .. } = made;
        let line = forecast.mean.iter().zip(&forecast.lower).zip(&forecast.upper).enumerate();
        let steps = line.map(|(at, ((&mean, &lo), &hi))| {
            let time = Timestamp::from_nanos(first + at as i64 * step);
            Foretold { time, mean, lo, hi }
        });
        Issued {
            series,
            issued: self.issued,
            job: self.job.clone(),
            model: forecast.model.into(),
            trained,
            share_imputed: forecast.share_imputed,
            step,
            scale,
            level: self.ahead.level,
            steps: steps.collect(),
        }
    }
}

/// Forecasts of some series, in their order.
pub(super) fn together(ahead: &Ahead, snapshot: &Snapshot, series: &[SeriesId]) -> Result<Vec<(SeriesId, Made)>> {
    let made = series.par_iter().map(|&id| Ok(ahead.of(snapshot, id)?.map(|made| (id, made))));
    Ok(made.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}
