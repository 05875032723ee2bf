//! How many runs a benchmark makes: so many as were asked for, or until the median is sure enough.

use std::time::Duration;

use super::statistics::half_width;

/// When a benchmark ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BenchmarkPlan {
    /// Runs before those that count.
    pub warmup: usize,
    /// Exactly so many runs. `None`: until the median is sure enough.
    pub runs: Option<usize>,
    /// Fewest and most runs, where `runs` does not say.
    pub runs_min: usize,
    pub runs_max: usize,
    /// Half the width of the median's interval, as a share of the median, at which it is sure enough.
    pub precision: f64,
    /// No run begins after this, however sure the median is; but those of `runs_min` do.
    pub time_max: Duration,
}

impl Default for BenchmarkPlan {
    fn default() -> BenchmarkPlan {
        BenchmarkPlan {
            warmup: 1,
            runs: None,
            runs_min: 10,
            runs_max: 1000,
            precision: 0.01,
            time_max: Duration::from_secs(30),
        }
    }
}

/// A plan under which nothing would run, or without an end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlanError(String);

impl BenchmarkPlan {
    /// # Errors
    /// What cannot be, and what to write.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.runs == Some(0) || self.runs_max == 0 {
            return Err(PlanError("0 runs measure nothing: write 1 or more".to_owned()));
        }
        if self.runs_min > self.runs_max {
            return Err(PlanError(format!("at least {} and at most {} runs cannot be", self.runs_min, self.runs_max)));
        }
        if !(self.precision > 0.0 && self.precision.is_finite()) {
            return Err(PlanError(format!(
                "a precision of {} cannot be: write a share over 0, as in 1%",
                self.precision
            )));
        }
        Ok(())
    }

    /// Whether no further run is needed, given the values of those that were and the time since the first.
    pub fn is_done(&self, values: &[f64], elapsed: Duration) -> bool {
        if let Some(runs) = self.runs {
            return values.len() >= runs;
        }
        if values.len() < self.runs_min.max(1) {
            return false;
        }
        let is_sure = || half_width(values).is_some_and(|half| half <= self.precision);
        values.len() >= self.runs_max || elapsed >= self.time_max || is_sure()
    }
}
