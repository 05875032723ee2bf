//! Forecasts that were issued, as rows of the table `forecasts`: the ledger that actual values are held against later.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType, UInt32Type};

use super::{Rows, SeriesId, Span, Table, Timestamp};

/// One step foretold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foretold {
    /// Where the step begins; the next begins [`Issued::step`] later.
    pub time: Timestamp,
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
}

/// One forecast of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    pub series: SeriesId,
    /// When it was, or, of a job, was to be issued: with series and job this names it, and issued again it replaces the former.
    pub issued: Timestamp,
    /// The job that did; empty for who asked once.
    pub job: Arc<str>,
    pub model: Arc<str>,
    /// What it was learned from: the first and, not in it, the end of the last step.
    pub trained: Span,
    /// Share of the steps learned from that had no value, 0 to 1.
    pub share_imputed: f64,
    /// Nanoseconds of a step, over 0.
    pub step: i64,
    /// Mean absolute error, on what was learned from, of the forecast that says what was one season before, or one step
    /// (Hyndman and Koehler 2006); `None` where that is not known.
    pub scale: Option<f64>,
    /// Share of what comes that `lo` and `hi` are to hold, 0 to 1.
    pub level: f64,
    /// In the order of time.
    pub steps: Vec<Foretold>,
}

/// Forecasts as rows; `None` where they have no step.
pub fn forecast_rows(forecasts: &[Issued]) -> Option<Rows> {
    let steps = || forecasts.iter().flat_map(|issued| issued.steps.iter().map(move |step| (issued, step)));
    steps().next()?;
    let times = |of: &dyn Fn((&Issued, &Foretold)) -> Timestamp| -> ArrayRef {
        let times = steps().map(|step| of(step).nanos());
        Arc::new(TimestampNanosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let numbers = |of: &dyn Fn((&Issued, &Foretold)) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(steps().map(of)))
    };
    let texts = |of: fn(&Issued) -> &str| -> ArrayRef {
        Arc::new(steps().map(|(issued, _)| Some(of(issued))).collect::<StringArray>())
    };
    let columns = vec![
        Arc::new(UInt32Array::from_iter_values(steps().map(|(issued, _)| issued.series.0))) as ArrayRef,
        times(&|(issued, _)| issued.issued),
        texts(|issued| &issued.job),
        times(&|(_, step)| step.time),
        numbers(&|(_, step)| step.mean),
        numbers(&|(_, step)| step.lo),
        numbers(&|(_, step)| step.hi),
        numbers(&|(issued, _)| issued.level),
        texts(|issued| &issued.model),
        Arc::new(Int64Array::from_iter_values(steps().map(|(issued, _)| issued.step))),
        times(&|(issued, _)| issued.trained.start),
        times(&|(issued, _)| issued.trained.end),
        numbers(&|(issued, _)| issued.share_imputed),
        Arc::new(steps().map(|(issued, _)| issued.scale).collect::<Float64Array>()),
    ];
    let batch = RecordBatch::try_new(Table::Forecasts.schema(), columns).expect("columns are of the table's schema");
    Some(Rows { table: Table::Forecasts, batch })
}

/// The forecasts that rows of the table tell, in their order.
pub fn forecasts_of(rows: &RecordBatch) -> Vec<Issued> {
    let column = |name: &str| rows.column_by_name(name).expect("columns are of the table's schema");
    let time = |name: &str| column(name).as_primitive::<TimestampNanosecondType>().values();
    let number = |name: &str| column(name).as_primitive::<Float64Type>();
    let text = |name: &str| column(name).as_string::<i32>();
    let series = column("series").as_primitive::<UInt32Type>().values();
    let steps = column("step").as_primitive::<Int64Type>().values();
    let (issued, times, from, to) = (time("issued"), time("time"), time("trained_from"), time("trained_to"));
    let [mean, lo, hi, level, imputed, scale] = ["mean", "lo", "hi", "level", "share_imputed", "scale"].map(number);
    let (model, job) = (text("model"), text("job"));
    let mut forecasts: Vec<Issued> = Vec::new();
    for at in 0..rows.num_rows() {
        let (of, when) = (SeriesId(series[at]), Timestamp::from_nanos(issued[at]));
        if forecasts.last().is_none_or(|last| (last.series, last.issued, &*last.job) != (of, when, job.value(at))) {
            forecasts.push(Issued {
                series: of,
                issued: when,
                job: job.value(at).into(),
                model: model.value(at).into(),
                trained: Span::new(Timestamp::from_nanos(from[at]), Timestamp::from_nanos(to[at])),
                share_imputed: imputed.value(at),
                step: steps[at],
                scale: scale.is_valid(at).then(|| scale.value(at)),
                level: level.value(at),
                steps: Vec::new(),
            });
        }
        let foretold = Foretold {
            time: Timestamp::from_nanos(times[at]),
            mean: mean.value(at),
            lo: lo.value(at),
            hi: hi.value(at),
        };
        forecasts.last_mut().into_iter().for_each(|issued| issued.steps.push(foretold));
    }
    forecasts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_issued_is_read_again() {
        let at = Timestamp::from_nanos;
        let step = |time| Foretold { time: at(time), mean: 1.0, lo: 0.5, hi: 2.5 };
        let issued = |series, when, scale, steps: &[i64]| Issued {
            series: SeriesId(series),
            issued: at(when),
            job: "nightly".into(),
            model: "blend".into(),
            trained: Span::new(at(-100), at(when)),
            share_imputed: 0.25,
            step: 10,
            scale,
            level: 0.9,
            steps: steps.iter().map(|&time| step(time)).collect(),
        };
        let other = Issued { job: "hourly".into(), ..issued(1, 5, None, &[5, 15]) };
        let all =
            [issued(1, 0, Some(3.0), &[0, 10, 20]), other, issued(1, 5, None, &[5]), issued(2, 5, Some(1.0), &[5, 15])];
        let rows = forecast_rows(&all).unwrap();
        assert_eq!(forecasts_of(&rows.batch), all);
        assert_eq!(forecast_rows(&[issued(1, 0, None, &[])]), None);
    }
}
