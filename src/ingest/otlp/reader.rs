//! Walks a request: each point to its series, known ones by a key of bytes without making names or labels.

use std::cell::OnceCell;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, SummaryDataPoint,
};

use super::deltas::{Added, Interval};
use super::labels::{self, END, Level};
use super::name::{Shape, metric_name, unit_name};
use super::totals::Total;
use super::{Otlp, Report};
use crate::flow::Refusal;
use crate::ingest::distribution::{BUCKETS_MAX, number_text};
use crate::ingest::gather::{About, Gather};
use crate::ingest::known::NewField;
use crate::model::{Kind, Labels, Oversize, SERIES_BYTES_MAX, SeriesDef, SeriesId, Timestamp};

/// Begins a key of ours among others in [`crate::ingest::Known`]; begins no UTF-8 text.
const OURS: u8 = 0xFE;
/// Reasons that are told of those that [`crate::ingest::Faults`] keeps.
const TOLD: usize = 5;

pub(super) struct Reader<'r, 'g> {
    otlp: &'r Otlp,
    now: Timestamp,
    gather: &'r mut Gather<'g>,
    key: Vec<u8>,
    added: Added,
    /// Batches that were stored before.
    batches: u64,
    report: Report,
    /// Faults that were there before.
    faults: usize,
}

/// The number of a resource or scope; `None` where there is no room, a sentence where it is too large.
type Numbered = Result<Option<u64>, String>;

/// A resource and scope.
struct Context<'m> {
    resource: &'m ResourceMetrics,
    scope: &'m ScopeMetrics,
    number: Numbered,
    labels: OnceCell<[Level; 2]>,
}

/// A metric of it, named here when the first series of it is new.
struct Named<'m> {
    context: &'m Context<'m>,
    metric: &'m Metric,
    shape: Shape,
    kind: Kind,
    name: OnceCell<Option<String>>,
    unit: OnceCell<String>,
}

/// How the values of a metric's points add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adds {
    /// Not at all, or from a start on.
    Cumulative,
    Delta,
    Unsaid,
}

/// A histogram of either kind.
struct Histogram<'m> {
    attributes: &'m [KeyValue],
    start: u64,
    time: u64,
    flags: u32,
    min: Option<f64>,
    max: Option<f64>,
    bounds: &'m [f64],
    total: Result<Total, String>,
}

/// Why a point is not taken.
enum Trouble {
    Fault(String),
    Refusal(Refusal),
}

impl From<String> for Trouble {
    fn from(fault: String) -> Self {
        Trouble::Fault(fault)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Trouble::Refusal(refusal)
    }
}

impl Context<'_> {
    fn labels(&self) -> &[Level; 2] {
        self.labels.get_or_init(|| {
            let resource = self.resource.resource.as_ref().map(labels::of_resource);
            let scope = self.scope.scope.as_ref().map(labels::of_scope);
            [resource.unwrap_or_default(), scope.unwrap_or_default()]
        })
    }
}

impl Named<'_> {
    fn name(&self) -> Option<&str> {
        self.name.get_or_init(|| metric_name(&self.metric.name, &self.metric.unit, self.shape)).as_deref()
    }

    fn unit(&self) -> &str {
        self.unit.get_or_init(|| unit_name(&self.metric.unit, self.shape))
    }

    fn about(&self) -> About<'_> {
        About { kind: Some(self.kind), unit: self.unit(), help: &self.metric.description }
    }

    fn named(&self) -> Result<&str, Trouble> {
        let none = || Trouble::Fault("it has no name of letters or digits: give it one".to_owned());
        let name = self.name().ok_or_else(none)?;
        if name.len() > SERIES_BYTES_MAX {
            return Err(Trouble::Fault(format!("its name is {} letters long: send a shorter one", name.len())));
        }
        Ok(name)
    }

    /// What labels of the point lie over.
    fn below<'l>(&'l self, point: &'l Level) -> Result<Vec<(&'l str, &'l str)>, Trouble> {
        self.context.number.as_ref().map_err(|told| Trouble::Fault(told.clone()))?;
        let levels = self.context.labels().iter().chain([point]);
        let pairs: Vec<_> =
            levels.flat_map(|level| level.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect();
        let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
        Oversize::check(pairs.len(), bytes).map_err(|oversize| Trouble::Fault(oversize.to_string()))?;
        Ok(pairs)
    }
}

impl Adds {
    fn of(temporality: i32) -> Self {
        match AggregationTemporality::try_from(temporality) {
            Ok(AggregationTemporality::Cumulative) => Adds::Cumulative,
            Ok(AggregationTemporality::Delta) => Adds::Delta,
            _ => Adds::Unsaid,
        }
    }

    fn said(self) -> Result<Self, Trouble> {
        let told = "its temporality is neither cumulative nor delta: say which";
        if self == Adds::Unsaid { Err(Trouble::Fault(told.to_owned())) } else { Ok(self) }
    }
}

fn no_value(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

fn time_of(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

fn interval(start: u64, end: Timestamp) -> Interval {
    // Without a duration there is no start either.
    Interval { start: Some(time_of(start)).filter(|time| start > 0 && *time < end), end }
}

impl<'r, 'g> Reader<'r, 'g> {
    pub fn new(otlp: &'r Otlp, now: Timestamp, gather: &'r mut Gather<'g>) -> Self {
        let (faults, batches) = (gather.faults.first.len(), gather.batches());
        let (key, added, report) = (Vec::new(), Added::default(), Report::default());
        Reader { otlp, now, gather, key, added, batches, report, faults }
    }

    pub fn request(&mut self, request: &ExportMetricsServiceRequest) -> Result<(), Refusal> {
        for resource in &request.resource_metrics {
            let of_resource = self.number_of_resource(resource);
            for scope in &resource.scope_metrics {
                let number = self.number_of_scope(&of_resource, scope);
                let context = Context { resource, scope, number, labels: OnceCell::new() };
                scope.metrics.iter().try_for_each(|metric| self.metric(&context, metric))?;
            }
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), Refusal> {
        self.gather.flush()
    }

    /// What came of it, and how to take its deltas back.
    pub fn finish(mut self) -> (Report, Added) {
        if self.report.refused > 0 {
            let Report { points, refused, .. } = self.report;
            let new = self.gather.faults.first.get(self.faults..).unwrap_or(&[]);
            let reasons: Vec<&str> = new.iter().take(TOLD).map(|fault| fault.error.as_str()).collect();
            let first = reasons.join("; ");
            self.report.told =
                format!("{refused} of {points} data points were refused, the rest is stored; the first: {first}");
        }
        (self.report, self.added)
    }

    fn number_of_resource(&mut self, resource: &ResourceMetrics) -> Numbered {
        self.key.clear();
        labels::key_into(resource.resource.as_ref().map_or(&[], |resource| &resource.attributes), &mut self.key);
        self.otlp.contexts().number(&self.key)
    }

    /// Of a scope of that resource: of another's it is another.
    fn number_of_scope(&mut self, resource: &Numbered, scope: &ScopeMetrics) -> Numbered {
        let Some(number) = resource.clone()? else { return Ok(None) };
        self.key.clear();
        self.key.push(OURS);
        self.key.push(OURS);
        self.key.extend_from_slice(&number.to_le_bytes());
        if let Some(scope) = &scope.scope {
            for text in [&scope.name, &scope.version] {
                self.key.extend_from_slice(text.as_bytes());
                self.key.push(END);
            }
            labels::key_into(&scope.attributes, &mut self.key);
        }
        self.otlp.contexts().number(&self.key)
    }

    fn metric(&mut self, context: &Context<'_>, metric: &Metric) -> Result<(), Refusal> {
        let named = |shape, kind| {
            let (name, unit) = (OnceCell::new(), OnceCell::new());
            Named { context, metric, shape, kind, name, unit }
        };
        match &metric.data {
            None => Ok(()),
            Some(Data::Gauge(gauge)) => {
                let metric = named(Shape::Gauge, Kind::Gauge);
                gauge.data_points.iter().try_for_each(|point| self.number_point(&metric, point, Adds::Cumulative))
            }
            Some(Data::Sum(sum)) => {
                let (shape, kind) =
                    if sum.is_monotonic { (Shape::Counter, Kind::Counter) } else { (Shape::Other, Kind::Gauge) };
                let (metric, adds) = (named(shape, kind), Adds::of(sum.aggregation_temporality));
                sum.data_points.iter().try_for_each(|point| self.number_point(&metric, point, adds))
            }
            Some(Data::Histogram(histogram)) => {
                let metric = named(Shape::Other, Kind::Histogram);
                let adds = Adds::of(histogram.aggregation_temporality);
                histogram.data_points.iter().try_for_each(|point| {
                    let one = Histogram {
                        attributes: &point.attributes,
                        start: point.start_time_unix_nano,
                        time: point.time_unix_nano,
                        flags: point.flags,
                        min: point.min,
                        max: point.max,
                        bounds: &point.explicit_bounds,
                        total: Total::explicit(point),
                    };
                    self.point(&metric, point.exemplars.len(), |reader| reader.histogram(&metric, one, adds))
                })
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let metric = named(Shape::Other, Kind::Histogram);
                let adds = Adds::of(histogram.aggregation_temporality);
                histogram.data_points.iter().try_for_each(|point| {
                    let one = Histogram {
                        attributes: &point.attributes,
                        start: point.start_time_unix_nano,
                        time: point.time_unix_nano,
                        flags: point.flags,
                        min: point.min,
                        max: point.max,
                        bounds: &[],
                        total: Total::exponential(point),
                    };
                    self.point(&metric, point.exemplars.len(), |reader| reader.histogram(&metric, one, adds))
                })
            }
            Some(Data::Summary(summary)) => {
                let metric = named(Shape::Other, Kind::Summary);
                let mut points = summary.data_points.iter();
                points.try_for_each(|point| self.point(&metric, 0, |reader| reader.summary(&metric, point)))
            }
        }
    }

    fn number_point(&mut self, metric: &Named<'_>, point: &NumberDataPoint, adds: Adds) -> Result<(), Refusal> {
        self.point(metric, point.exemplars.len(), |reader| reader.number(metric, point, adds))
    }

    /// Counts a point, and what becomes of it.
    fn point(
        &mut self,
        metric: &Named<'_>,
        exemplars: usize,
        take: impl FnOnce(&mut Self) -> Result<(), Trouble>,
    ) -> Result<(), Refusal> {
        self.report.points += 1;
        self.report.exemplars += exemplars as u64;
        let before = self.gather.faults.count;
        match take(self) {
            Ok(()) => {}
            Err(Trouble::Refusal(refusal)) => return Err(refusal),
            Err(Trouble::Fault(fault)) => {
                let told = format_args!("metric `{}`: {fault}", metric.metric.name);
                self.gather.faults.add(self.report.points, told);
            }
        }
        self.report.refused += u64::from(self.gather.faults.count > before);
        if self.gather.batches() > self.batches {
            self.batches = self.gather.batches();
            self.added.keep();
        }
        Ok(())
    }

    fn number(&mut self, metric: &Named<'_>, point: &NumberDataPoint, adds: Adds) -> Result<(), Trouble> {
        let adds = adds.said()?;
        let value = match point.value {
            _ if no_value(point.flags) => 0.0,
            Some(Value::AsDouble(value)) => value,
            Some(Value::AsInt(value)) => value as f64,
            None => return Err(Trouble::Fault("a point without a value: send one, or flag it".to_owned())),
        };
        let time = self.time(metric, point.time_unix_nano, value)?;
        if no_value(point.flags) {
            let own = labels::of_point(&point.attributes);
            return Ok(self.gather.end(metric.named()?, &metric.below(&own)?, time)?);
        }
        let series = self.series(metric, &point.attributes)?;
        if adds == Adds::Cumulative {
            return Ok(self.gather.push(series, time, value)?);
        }
        if metric.kind == Kind::Counter && value < 0.0 {
            return Err(Trouble::Fault(format!("a delta of {value}, where it only grows: send what came since")));
        }
        let interval = interval(point.start_time_unix_nano, time);
        let sum = self.add(series, interval, Total::Number(value), Total::number)?;
        // A series that was a histogram before begins anew with the number, so there is one.
        Ok(self.gather.push(series, time, sum.unwrap_or(value))?)
    }

    fn histogram(&mut self, metric: &Named<'_>, point: Histogram<'_>, adds: Adds) -> Result<(), Trouble> {
        let adds = adds.said()?;
        let time = self.time(metric, point.time, 0.0)?;
        let own = labels::of_point(point.attributes);
        let (name, below) = (metric.named()?, metric.below(&own)?);
        if no_value(point.flags) {
            let bounds = point.bounds.iter().filter(|bound| bound.is_finite()).map(|&bound| number_text(bound));
            let bounds: Vec<String> = bounds.take(BUCKETS_MAX).chain(["+Inf".to_owned()]).collect();
            self.gather.end(name, &below, time)?;
            self.gather.end(&format!("{name}_min"), &below, time)?;
            self.gather.end(&format!("{name}_max"), &below, time)?;
            return self.end_parts(name, &below, time, ("le", &bounds), "_bucket");
        }
        let total = point.total?;
        let distribution = match adds {
            Adds::Delta => {
                let series = self.series(metric, point.attributes)?;
                self.add(series, interval(point.start, time), total, Total::distribution)?
            }
            _ => total.distribution(),
        };
        let Some(distribution) = distribution else { return Ok(()) };
        let (line, about) = (self.report.points, metric.about());
        distribution.gather(line, name, &below, About { kind: None, ..about }, time, self.gather)?;
        for (part, value) in [("min", point.min), ("max", point.max)] {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                let about = About { kind: Some(Kind::Gauge), ..about };
                self.gather.sample_about(line, &format!("{name}_{part}"), &below, about, time, value)?;
            }
        }
        Ok(())
    }

    fn summary(&mut self, metric: &Named<'_>, point: &SummaryDataPoint) -> Result<(), Trouble> {
        let time = self.time(metric, point.time_unix_nano, 0.0)?;
        let own = labels::of_point(&point.attributes);
        let (name, below) = (metric.named()?, metric.below(&own)?);
        let quantiles: Vec<String> = point.quantile_values.iter().map(|at| number_text(at.quantile)).collect();
        if no_value(point.flags) {
            return self.end_parts(name, &below, time, ("quantile", &quantiles), "");
        }
        let (line, about) = (self.report.points, metric.about());
        for (quantile, at) in quantiles.iter().zip(&point.quantile_values) {
            // Where nothing was observed there is no quantile.
            if at.value.is_finite() {
                let with = with(&below, ("quantile", quantile));
                self.gather.sample_about(line, name, &with, about, time, at.value)?;
            }
        }
        let counter = About { kind: Some(Kind::Counter), ..about };
        let count = About { unit: "", ..counter };
        self.gather.sample_about(line, &format!("{name}_count"), &below, count, time, point.count as f64)?;
        if point.sum.is_finite() {
            self.gather.sample_about(line, &format!("{name}_sum"), &below, counter, time, point.sum)?;
        }
        Ok(())
    }

    /// Ends the series of a histogram or summary: those of the label's values, the count and the sum.
    fn end_parts(
        &mut self,
        name: &str,
        below: &[(&str, &str)],
        time: Timestamp,
        (label, values): (&str, &[String]),
        suffix: &str,
    ) -> Result<(), Trouble> {
        let parts = format!("{name}{suffix}");
        for value in values {
            self.gather.end(&parts, &with(below, (label, value)), time)?;
        }
        self.gather.end(&format!("{name}_count"), below, time)?;
        Ok(self.gather.end(&format!("{name}_sum"), below, time)?)
    }

    /// Adds a delta up; what `of` makes of the sum.
    fn add<T>(
        &mut self,
        series: SeriesId,
        interval: Interval,
        delta: Total,
        of: impl FnOnce(&Total) -> T,
    ) -> Result<T, Trouble> {
        let mut deltas = self.otlp.deltas();
        Ok(of(deltas.add(series, interval, delta, self.now, &mut self.added)?))
    }

    /// The time of a point, if a sample of then is taken.
    fn time(&self, metric: &Named<'_>, nanos: u64, value: f64) -> Result<Timestamp, Trouble> {
        if nanos == 0 {
            return Err(Trouble::Fault("a point without a time: set `time_unix_nano`".to_owned()));
        }
        let time = time_of(nanos);
        let refused = self.gather.bounds().refuse(time, value);
        let refused = refused.or_else(|| self.gather.outlived(time, || metric.name().unwrap_or("").into()));
        refused.map_or(Ok(time), |reason| Err(Trouble::Fault(reason)))
    }

    /// The series of a point; of a histogram, that of its rows.
    fn series(&mut self, metric: &Named<'_>, attributes: &[KeyValue]) -> Result<SeriesId, Trouble> {
        let has_key = self.make_key(metric, attributes);
        if has_key {
            let known = self.otlp.known.read().get(&self.key).and_then(|found| Some((found.field(0)?.1, found.is_old)));
            if let Some((series, is_old)) = known {
                if is_old {
                    self.remember(series);
                }
                return Ok(series);
            }
        }
        let own = labels::of_point(attributes);
        let mut def = SeriesDef::new(metric.named()?, Labels::new(metric.below(&own)?));
        let about = metric.about();
        (def.kind, def.unit, def.help) = (metric.kind, about.unit.into(), about.help.into());
        let interned = def.check_size().map_err(Refusal::from).and_then(|()| self.gather.intake().intern(&def));
        let series = interned.map_err(|refusal| match refusal {
            Refusal::Budget(budget) => Trouble::Fault(format!("the series {def} is new: {budget}")),
            refusal => Trouble::Refusal(refusal),
        })?;
        if has_key {
            self.remember(series);
        }
        Ok(series)
    }

    /// All that a series' name and labels are made of, as bytes; `false` where there are too many.
    fn make_key(&mut self, metric: &Named<'_>, attributes: &[KeyValue]) -> bool {
        let Ok(Some(context)) = metric.context.number else { return false };
        self.key.clear();
        self.key.extend_from_slice(&[OURS, metric.shape as u8]);
        self.key.extend_from_slice(&context.to_le_bytes());
        for text in [&metric.metric.name, &metric.metric.unit] {
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(END);
        }
        labels::key_into(attributes, &mut self.key);
        true
    }

    fn remember(&self, series: SeriesId) {
        self.otlp.known.insert([(&self.key[..], &[NewField { name: [].into(), series }][..])]);
    }
}

/// Labels with one more.
fn with<'l>(labels: &[(&'l str, &'l str)], more: (&'l str, &'l str)) -> Vec<(&'l str, &'l str)> {
    labels.iter().copied().chain([more]).collect()
}
