//! Requests of every kind, as messages and as JSON, into a [`Recorder`].

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use serde_json::json;

use super::labels::testing::{pair, text};
use super::*;
use crate::flow::{Budget, Intake};
use crate::ingest::gather::testing::{Noise, Recorder, all_times};
use crate::model::{Batch, Description, Kind, SeriesDef, SeriesId, Table};

const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;
/// Seconds after which all these tests take place.
const T0: u64 = 1_700_000_000;

fn nanos(seconds: u64) -> u64 {
    (T0 + seconds) * 1_000_000_000
}

fn now() -> Timestamp {
    Timestamp::from_nanos(nanos(1000).cast_signed())
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope { name: "lib".into(), ..InstrumentationScope::default() };
    let resource = Resource { attributes: vec![text("service.name", "shop")], ..Resource::default() };
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    let description = format!("about {name}");
    Metric { name: name.into(), unit: unit.into(), description, data: Some(data), ..Metric::default() }
}

fn double(seconds: u64, value: f64) -> NumberDataPoint {
    let (start_time_unix_nano, time_unix_nano) = (nanos(seconds - 10), nanos(seconds));
    NumberDataPoint { start_time_unix_nano, time_unix_nano, value: Some(Value::AsDouble(value)), ..Default::default() }
}

fn int(seconds: u64, value: i64) -> NumberDataPoint {
    NumberDataPoint { value: Some(Value::AsInt(value)), ..double(seconds, 0.0) }
}

fn gauge(points: Vec<NumberDataPoint>) -> Data {
    Data::Gauge(Gauge { data_points: points })
}

fn sum(aggregation_temporality: i32, is_monotonic: bool, points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum { data_points: points, aggregation_temporality, is_monotonic })
}

fn histogram(aggregation_temporality: i32, data_points: Vec<HistogramDataPoint>) -> Data {
    Data::Histogram(Histogram { data_points, aggregation_temporality })
}

fn explicit(seconds: u64, counts: &[u64]) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: nanos(seconds - 10),
        time_unix_nano: nanos(seconds),
        count: counts.iter().sum(),
        sum: Some(4.5),
        bucket_counts: counts.to_vec(),
        explicit_bounds: vec![1.0, 2.0],
        min: Some(0.5),
        max: Some(3.0),
        ..HistogramDataPoint::default()
    }
}

fn exponential(aggregation_temporality: i32, points: &[(u64, i32, i32, &[u64])]) -> Data {
    let point = |&(seconds, scale, offset, counts): &(u64, i32, i32, &[u64])| ExponentialHistogramDataPoint {
        start_time_unix_nano: nanos(seconds - 10),
        time_unix_nano: nanos(seconds),
        scale,
        count: counts.iter().sum::<u64>() + 3,
        sum: Some(10.0),
        zero_count: 2,
        positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
        negative: Some(Buckets { offset: 0, bucket_counts: vec![1] }),
        ..ExponentialHistogramDataPoint::default()
    };
    Data::ExponentialHistogram(ExponentialHistogram {
        data_points: points.iter().map(point).collect(),
        aggregation_temporality,
    })
}

struct Bed {
    otlp: Otlp,
    recorder: Recorder,
}

impl Bed {
    fn new() -> Self {
        Bed { otlp: Otlp::new(Arc::default(), 1 << 20), recorder: Recorder::default() }
    }

    fn take(&self, metrics: Vec<Metric>) -> Report {
        let mut gather = Gather::new(&self.recorder, all_times());
        let body = request(metrics).encode_to_vec();
        self.otlp.take(&body, OtlpEncoding::Protobuf, now(), &mut gather).unwrap()
    }

    /// Series without the labels that all here have, seconds, value.
    fn samples(&self) -> Vec<(String, u64, f64)> {
        let plain = |series: &str| series.replace(r#"{job="shop",otel_scope_name="lib"}"#, "");
        let samples = self.recorder.samples().into_iter();
        samples
            .map(|(series, time, value)| (plain(&series), time.cast_unsigned() / 1_000_000_000 - T0, value))
            .collect()
    }

    fn def(&self, metric: &str) -> SeriesDef {
        let defs = self.recorder.defs.lock().unwrap();
        defs.iter().find(|def| &*def.metric == metric).unwrap_or_else(|| panic!("no {metric}: {defs:?}")).clone()
    }

    fn rows(&self, table: Table) -> usize {
        let batches = self.recorder.batches.lock().unwrap();
        batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .filter(|rows| rows.table == table)
            .map(|rows| rows.batch.num_rows())
            .sum()
    }
}

fn owned(samples: &[(&str, u64, f64)]) -> Vec<(String, u64, f64)> {
    samples.iter().map(|&(series, seconds, value)| (series.to_owned(), seconds, value)).collect()
}

#[test]
fn numbers_become_samples_with_kind_unit_and_help() {
    let bed = Bed::new();
    let mut labelled = int(20, 7);
    labelled.attributes = vec![text("http.method", "GET"), pair("ok", Any::BoolValue(true))];
    labelled.exemplars = vec![Exemplar::default(), Exemplar::default()];
    let report = bed.take(vec![
        metric("queue.length", "{jobs}", gauge(vec![double(10, 1.5), labelled])),
        metric("cache.hits", "1", gauge(vec![double(10, 0.25)])),
        metric("net.io", "By", sum(CUMULATIVE, true, vec![int(10, 100), int(20, 150)])),
        metric("active", "", sum(CUMULATIVE, false, vec![int(10, -3)])),
    ]);
    assert_eq!(report, Report { points: 6, exemplars: 2, ..Report::default() });
    let wanted = [
        ("queue_length", 10, 1.5),
        (r#"queue_length{http_method="GET",job="shop",ok="true",otel_scope_name="lib"}"#, 20, 7.0),
        ("cache_hits_ratio", 10, 0.25),
        ("net_io_bytes_total", 10, 100.0),
        ("net_io_bytes_total", 20, 150.0),
        ("active", 10, -3.0),
    ];
    assert_eq!(bed.samples(), owned(&wanted));
    let about = |metric: &str| {
        let def = bed.def(metric);
        (def.kind, def.unit.to_string(), def.help.to_string())
    };
    assert_eq!(about("net_io_bytes_total"), (Kind::Counter, "bytes".into(), "about net.io".into()));
    assert_eq!(about("cache_hits_ratio"), (Kind::Gauge, "ratio".into(), "about cache.hits".into()));
    assert_eq!(about("active"), (Kind::Gauge, String::new(), "about active".into()));
}

#[test]
fn points_win_over_the_scope_and_the_scope_over_the_resource() {
    let bed = Bed::new();
    let mut request = request(vec![metric("m", "", gauge(vec![double(10, 1.0)]))]);
    let resource = &mut request.resource_metrics[0];
    resource.resource.as_mut().unwrap().attributes.extend([
        text("otel.scope.name", "of the resource"),
        text("a", "resource"),
        text("b", "resource"),
        text("service.instance.id", "i1"),
    ]);
    let Some(Data::Gauge(points)) = &mut resource.scope_metrics[0].metrics[0].data else { unreachable!() };
    points.data_points[0].attributes = vec![text("b", "point"), text("instance", "mine")];
    let mut gather = Gather::new(&bed.recorder, all_times());
    bed.otlp.take(&request.encode_to_vec(), OtlpEncoding::Protobuf, now(), &mut gather).unwrap();
    let wanted = r#"m{a="resource",b="point",instance="mine",job="shop",otel_scope_name="lib"}"#;
    assert_eq!(bed.recorder.samples()[0].0, wanted);
}

#[test]
fn known_series_are_found_again_by_their_bytes() {
    let bed = Bed::new();
    for at in [10, 20, 30] {
        bed.take(vec![metric("m", "s", gauge(vec![double(at, 1.0)])), metric("m", "ms", gauge(vec![double(at, 2.0)]))]);
    }
    let names: Vec<String> = bed.recorder.defs.lock().unwrap().iter().map(|def| def.metric.to_string()).collect();
    assert_eq!(names, ["m_seconds", "m_milliseconds"]);
    let values: Vec<(String, f64)> = bed.samples().into_iter().map(|(series, _, value)| (series, value)).collect();
    let both = [("m_seconds".to_owned(), 1.0), ("m_milliseconds".to_owned(), 2.0)];
    assert_eq!(values, [both.clone(), both.clone(), both].concat());
}

#[test]
fn deltas_are_added_up() {
    let bed = Bed::new();
    let metrics = |points: Vec<NumberDataPoint>| {
        vec![metric("n", "", sum(DELTA, true, points.clone())), metric("up", "", sum(DELTA, false, points))]
    };
    bed.take(metrics(vec![int(10, 5), int(20, 2)]));
    bed.take(metrics(vec![double(30, 0.5)]));
    let again = bed.take(metrics(vec![double(30, 0.5)]));
    assert_eq!(again.refused, 0, "the same again is no fault");
    let late = bed.take(metrics(vec![int(20, 2)]));
    assert_eq!((late.points, late.refused), (2, 2));
    assert!(
        late.told
            .starts_with("2 of 2 data points were refused, the rest is stored; the first: metric `n`: a delta up to"),
        "{}",
        late.told
    );
    let fell = bed.take(vec![metric("n", "", sum(DELTA, true, vec![int(40, -1)]))]);
    assert!(fell.told.contains("a delta of -1, where it only grows"), "{}", fell.told);
    let of = |name: &str| -> Vec<(u64, f64)> {
        let samples = bed.samples().into_iter().filter(|(series, ..)| series == name);
        samples.map(|(_, seconds, value)| (seconds, value)).collect()
    };
    for name in ["n_total", "up"] {
        assert_eq!(of(name), [(10, 5.0), (20, 7.0), (30, 7.5), (30, 7.5)], "{name}");
    }
    assert_eq!((bed.def("n_total").kind, bed.def("up").kind), (Kind::Counter, Kind::Gauge));
}

#[test]
fn histograms_are_buckets_counts_sums_extremes_and_rows() {
    for (temporality, second) in [(CUMULATIVE, [2, 1, 1]), (DELTA, [1, 1, 0])] {
        let bed = Bed::new();
        let points = vec![explicit(10, &[1, 0, 1]), explicit(20, &second)];
        let report = bed.take(vec![metric("took", "s", histogram(temporality, points))]);
        assert_eq!((report.points, report.refused), (2, 0), "{}", report.told);
        let of = |name: &str| -> Vec<(u64, f64)> {
            let samples = bed.recorder.samples().into_iter();
            let samples = samples.filter(|(series, ..)| series == name);
            samples.map(|(_, time, value)| (time.cast_unsigned() / 1_000_000_000 - T0, value)).collect()
        };
        let bucket = |le: &str| of(&format!(r#"took_seconds_bucket{{job="shop",le="{le}",otel_scope_name="lib"}}"#));
        assert_eq!(bucket("1"), [(10, 1.0), (20, 2.0)], "temporality {temporality}");
        assert_eq!(bucket("2"), [(10, 1.0), (20, 3.0)]);
        assert_eq!(bucket("+Inf"), [(10, 2.0), (20, 4.0)]);
        let plain = |name: &str| of(&format!(r#"{name}{{job="shop",otel_scope_name="lib"}}"#));
        assert_eq!(plain("took_seconds_count"), [(10, 2.0), (20, 4.0)]);
        let second = if temporality == DELTA { 9.0 } else { 4.5 };
        assert_eq!(plain("took_seconds_sum"), [(10, 4.5), (20, second)]);
        assert_eq!(
            (plain("took_seconds_min"), plain("took_seconds_max")),
            (vec![(10, 0.5), (20, 0.5)], vec![(10, 3.0), (20, 3.0)])
        );
        assert_eq!(bed.rows(Table::Histograms), 2);
        let kinds =
            ["took_seconds", "took_seconds_bucket", "took_seconds_count", "took_seconds_sum", "took_seconds_min"];
        let told = kinds.map(|name| (bed.def(name).kind, bed.def(name).unit.to_string()));
        let unit = "seconds".to_owned();
        assert_eq!(
            told,
            [
                (Kind::Histogram, unit.clone()),
                (Kind::Counter, String::new()),
                (Kind::Counter, String::new()),
                (Kind::Counter, unit.clone()),
                (Kind::Gauge, unit),
            ]
        );
    }
}

#[test]
fn exponential_histograms_of_either_temporality() {
    // Scale 0: index 0 is above 1 up to 2, index 1 up to 4. One value in [-2, -1), two at zero.
    for (temporality, last) in [(CUMULATIVE, &[1, 3][..]), (DELTA, &[0, 2])] {
        let bed = Bed::new();
        let report =
            bed.take(vec![metric("e", "", exponential(temporality, &[(10, 0, 0, &[1, 1]), (20, 0, 0, last)]))]);
        assert_eq!(report.refused, 0, "{}", report.told);
        let times = if temporality == DELTA { 2.0 } else { 1.0 };
        let told: Vec<(String, f64)> = bed
            .samples()
            .into_iter()
            .filter(|sample| sample.1 == 20)
            .map(|(series, _, value)| (series, value))
            .collect();
        let bucket =
            |le: &str, value: f64| (format!(r#"e_bucket{{job="shop",le="{le}",otel_scope_name="lib"}}"#), value);
        let wanted = vec![
            bucket("-1", times),
            bucket("0", 3.0 * times),
            bucket("2", 3.0 * times + 1.0),
            bucket("4", 3.0 * times + 4.0),
            bucket("+Inf", 3.0 * times + 4.0),
            ("e_count".to_owned(), 3.0 * times + 4.0),
            ("e_sum".to_owned(), 10.0 * times),
        ];
        assert_eq!(told, wanted, "temporality {temporality}");
        assert_eq!(bed.rows(Table::Histograms), 2);
    }
}

#[test]
fn summaries_are_quantiles_counts_and_sums() {
    let bed = Bed::new();
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    let point = SummaryDataPoint {
        time_unix_nano: nanos(10),
        count: 4,
        sum: 10.0,
        quantile_values: vec![quantile(0.5, 2.0), quantile(0.99, 3.5), quantile(1.0, f64::NAN)],
        ..SummaryDataPoint::default()
    };
    let report = bed.take(vec![metric("rpc", "ms", Data::Summary(Summary { data_points: vec![point] }))]);
    assert_eq!((report.points, report.refused), (1, 0));
    let wanted = [
        (r#"rpc_milliseconds{job="shop",otel_scope_name="lib",quantile="0.5"}"#, 10, 2.0),
        (r#"rpc_milliseconds{job="shop",otel_scope_name="lib",quantile="0.99"}"#, 10, 3.5),
        ("rpc_milliseconds_count", 10, 4.0),
        ("rpc_milliseconds_sum", 10, 10.0),
    ];
    assert_eq!(bed.samples(), owned(&wanted));
    assert_eq!(
        (bed.def("rpc_milliseconds").kind, bed.def("rpc_milliseconds_sum").kind),
        (Kind::Summary, Kind::Counter)
    );
}

#[test]
fn no_recorded_value_ends_the_series() {
    let bed = Bed::new();
    let gone = NumberDataPoint { flags: 1, value: None, ..int(20, 0) };
    let ended = HistogramDataPoint { flags: 1, ..explicit(20, &[]) };
    let summary = SummaryDataPoint { time_unix_nano: nanos(20), flags: 1, ..SummaryDataPoint::default() };
    let report = bed.take(vec![
        metric("g", "", gauge(vec![int(10, 1), gone.clone()])),
        metric("c", "", sum(DELTA, true, vec![int(10, 1), gone])),
        metric("h", "", histogram(CUMULATIVE, vec![explicit(10, &[1, 1, 1]), ended])),
        metric("s", "", Data::Summary(Summary { data_points: vec![summary] })),
    ]);
    assert_eq!((report.points, report.refused), (7, 0), "{}", report.told);
    // g, c, h with three buckets, count, sum, min and max, the summary's count and sum.
    assert_eq!(bed.rows(Table::Staleness), 1 + 1 + 8 + 2);
    assert!(bed.samples().iter().all(|(_, seconds, _)| *seconds == 10));
    let bed = Bed { recorder: Recorder { is_new: true, ..Recorder::default() }, ..Bed::new() };
    let gone = NumberDataPoint { flags: 1, value: None, ..int(20, 0) };
    bed.take(vec![metric("g", "", gauge(vec![gone.clone()])), metric("c", "", sum(DELTA, true, vec![gone]))]);
    assert_eq!((bed.rows(Table::Staleness), bed.recorder.defs.lock().unwrap().len()), (0, 0), "none was seen before");
}

#[test]
fn points_that_cannot_be_are_refused_by_name_and_the_rest_is_taken() {
    let cases = [
        (gauge(vec![NumberDataPoint { time_unix_nano: 0, ..int(10, 1) }]), "metric `a.b`: a point without a time"),
        (gauge(vec![NumberDataPoint { time_unix_nano: u64::MAX, ..int(10, 1) }]), "is after 2100"),
        (gauge(vec![NumberDataPoint { value: None, ..int(10, 1) }]), "a point without a value"),
        (gauge(vec![double(10, f64::NAN)]), "is not a finite number"),
        (sum(0, true, vec![int(10, 1)]), "neither cumulative nor delta"),
        (histogram(9, vec![explicit(10, &[1, 1, 1])]), "neither cumulative nor delta"),
        (histogram(CUMULATIVE, vec![explicit(10, &[1, 1])]), "2 bounds and 2 buckets"),
        (exponential(3, &[(10, 0, 0, &[1])]), "neither cumulative nor delta"),
        (exponential(DELTA, &[(10, i32::MIN, 0, &[1; 500])]), "a scale of -2147483648: send -10 to 20"),
        (
            gauge(vec![NumberDataPoint { attributes: vec![text("a", &"x".repeat(70_000))], ..int(10, 1) }]),
            "send fewer or shorter labels",
        ),
        (
            histogram(
                CUMULATIVE,
                vec![HistogramDataPoint {
                    attributes: (0..1001).map(|at| text(&format!("a{at}"), "x")).collect(),
                    ..explicit(10, &[1, 1, 1])
                }],
            ),
            "send fewer or shorter labels",
        ),
    ];
    for (data, wanted) in cases {
        let bed = Bed::new();
        let report = bed.take(vec![metric("a.b", "", data), metric("good", "", gauge(vec![int(10, 1)]))]);
        assert_eq!((report.points, report.refused), (2, 1), "{wanted}");
        assert!(report.told.contains(wanted) && report.told.contains("metric `a.b`"), "{}", report.told);
        assert_eq!(bed.samples(), owned(&[("good", 10, 1.0)]));
    }
    let nameless = Bed::new().take(vec![metric("..", "", gauge(vec![int(10, 1)]))]);
    assert!(nameless.told.contains("no name of letters or digits"), "{}", nameless.told);
}

/// Refuses everything, in one way or the other.
struct Shut(Refusal);

impl Intake for Shut {
    fn intern(&self, _: &SeriesDef) -> Result<SeriesId, Refusal> {
        if matches!(self.0, Refusal::Budget(_)) { Err(self.0.clone()) } else { Ok(SeriesId(0)) }
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, _: Batch) -> Result<(), Refusal> {
        Err(self.0.clone())
    }
}

#[test]
fn what_is_refused_while_behind_counts_once_when_it_comes_again() {
    let bed = Bed::new();
    let body = request(vec![metric("n", "", sum(DELTA, true, vec![int(10, 5), int(20, 2)]))]).encode_to_vec();
    let shut = Shut(Refusal::Behind { what: "a test".into(), retry_after: std::time::Duration::from_secs(2) });
    let mut gather = Gather::new(&shut, all_times());
    let refused = bed.otlp.take(&body, OtlpEncoding::Protobuf, now(), &mut gather).unwrap_err();
    assert!(matches!(refused, OtlpError::Refused(Refusal::Behind { .. })), "{refused}");
    // The recorder gives the series the same number.
    let mut gather = Gather::new(&bed.recorder, all_times());
    bed.otlp.take(&body, OtlpEncoding::Protobuf, now(), &mut gather).unwrap();
    let values: Vec<f64> = bed.recorder.batches.lock().unwrap().iter().flat_map(|batch| batch.values.clone()).collect();
    assert_eq!(values, [5.0, 7.0]);
}

/// Takes so many batches, then none.
struct Few(Recorder, std::sync::atomic::AtomicU64);

impl Intake for Few {
    fn intern(&self, def: &SeriesDef) -> Result<SeriesId, Refusal> {
        self.0.intern(def)
    }

    fn describe(&self, _: &str, _: &Description) {}

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        use std::sync::atomic::Ordering::Relaxed;
        let left = self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let behind = Refusal::Behind { what: "a test".into(), retry_after: std::time::Duration::from_secs(2) };
        left.map_err(|_| behind)?;
        self.0.accept(batch)
    }
}

#[test]
fn what_was_stored_of_a_request_that_is_refused_then_stays_counted() {
    let otlp = Otlp::new(Arc::default(), 32 << 20);
    let few = Few(Recorder::default(), 1.into());
    let labelled = |at: usize| NumberDataPoint { attributes: vec![pair("n", Any::IntValue(at as i64))], ..int(10, 5) };
    // One point again and again fills a batch.
    let mut points: Vec<NumberDataPoint> = vec![labelled(0); 65_536];
    points.push(labelled(1));
    let body = request(vec![metric("n", "", sum(DELTA, true, points))]).encode_to_vec();
    let mut gather = Gather::new(&few, all_times());
    let refused = otlp.take(&body, OtlpEncoding::Protobuf, now(), &mut gather).unwrap_err();
    assert!(matches!(refused, OtlpError::Refused(Refusal::Behind { .. })), "{refused}");
    few.1.store(10, std::sync::atomic::Ordering::Relaxed);
    let next = |at: usize| NumberDataPoint { attributes: labelled(at).attributes, ..int(20, 1) };
    let body = request(vec![metric("n", "", sum(DELTA, true, vec![next(0), next(1)]))]).encode_to_vec();
    otlp.take(&body, OtlpEncoding::Protobuf, now(), &mut Gather::new(&few, all_times())).unwrap();
    let batches = few.0.batches.lock().unwrap();
    assert_eq!((batches[0].len(), &batches[1].values[..]), (65_536, &[6.0, 1.0][..]));
}

#[test]
fn two_points_that_are_one_series_and_time_are_told() {
    let bed = Bed::new();
    let of = |name: &str, value: i64| NumberDataPoint { attributes: vec![text(name, "x")], ..int(10, value) };
    let metrics =
        |values: [i64; 2]| vec![metric("n", "", sum(DELTA, true, vec![of("a.b", values[0]), of("a_b", values[1])]))];
    let report = bed.take(metrics([5, 7]));
    assert_eq!((report.points, report.refused), (2, 1));
    assert!(report.told.contains("another delta up to") && report.told.contains("an attribute"), "{}", report.told);
    let again = bed.take(metrics([5, 5]));
    assert_eq!(again.refused, 0, "{}", again.told);
}

#[test]
fn a_resource_too_large_refuses_its_points() {
    let bed = Bed::new();
    let mut request = request(vec![metric("m", "", gauge(vec![int(10, 1)]))]);
    let mut other = request.resource_metrics[0].clone();
    other.resource.as_mut().unwrap().attributes.push(text("a", &"x".repeat(70_000)));
    request.resource_metrics.push(other);
    let mut gather = Gather::new(&bed.recorder, all_times());
    let report = bed.otlp.take(&request.encode_to_vec(), OtlpEncoding::Protobuf, now(), &mut gather).unwrap();
    assert_eq!((report.points, report.refused), (2, 1));
    assert!(report.told.contains("its resource or scope takes 700"), "{}", report.told);
    assert_eq!(bed.samples(), owned(&[("m", 10, 1.0)]));
}

#[test]
fn bodies_that_grow_when_they_are_read_are_refused() {
    let refused = |body: &[u8], encoding| {
        let bed = Bed::new();
        let mut gather = Gather::new(&bed.recorder, all_times());
        bed.otlp.take(body, encoding, now(), &mut gather).unwrap_err().to_string()
    };
    let told = refused(&[0x0A, 0].repeat(1 << 20), OtlpEncoding::Protobuf);
    assert!(told.contains("its 2097152 bytes take over 16 times as many"), "{told}");
    let text = format!("{{\"resourceMetrics\":[{}{{}}]}}", "{},".repeat(1 << 20));
    assert!(refused(text.as_bytes(), OtlpEncoding::Json).contains("over 16 times as many"));
    let text = format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":\"{}\"}}]}}", "y".repeat(1 << 20));
    assert!(refused(text.as_bytes(), OtlpEncoding::Json).len() < 1200, "a fault is no echo");
}

#[test]
fn series_beyond_a_budget_are_points_refused() {
    let otlp = Otlp::new(Arc::default(), 1 << 20);
    let shut = Shut(Refusal::Budget(Budget::OfStore { series: 1 }));
    let metrics = vec![
        metric("n", "", sum(DELTA, true, vec![int(10, 5)])),
        metric("h", "", histogram(CUMULATIVE, vec![explicit(10, &[1, 1, 1])])),
    ];
    let mut gather = Gather::new(&shut, all_times());
    let report = otlp.take(&request(metrics).encode_to_vec(), OtlpEncoding::Protobuf, now(), &mut gather).unwrap();
    assert_eq!((report.points, report.refused), (2, 2));
    assert!(report.told.contains("n_total") && report.told.contains("ingest.series_max"), "{}", report.told);
    let answer = ExportMetricsServiceResponse::decode(&OtlpEncoding::Protobuf.answer(&report)[..]).unwrap();
    let part = answer.partial_success.unwrap();
    assert_eq!((part.rejected_data_points, part.error_message), (2, report.told.clone()));
    let answer: serde_json::Value = serde_json::from_slice(&OtlpEncoding::Json.answer(&report)).unwrap();
    assert_eq!(answer, json!({"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": report.told}}));
}

#[test]
fn json_says_what_protobuf_says() {
    let text = json!({
        "resourceMetrics": [{
            "resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "shop"}},
                {"key": "n", "value": {"intValue": "-7"}},
                {"key": "m", "value": {"intValue": 8}},
                {"key": "list", "value": {"arrayValue": {"values": [{"doubleValue": 1.5}, {"boolValue": true}]}}},
                {"key": "none", "value": {"arrayValue": {}}},
                {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}},
                {"key": "bytes", "value": {"bytesValue": "bGlnaHQgdw=="}},
                {"key": "odd", "value": {"futureValue": {"x": [1]}}},
                {"key": "null", "value": null},
            ], "droppedAttributesCount": 0},
            "future": {"a": 1},
            "scopeMetrics": [{
                "scope": {"name": "lib", "version": "1", "attributes": null},
                "metrics": [
                    {"name": "g", "future": [1, {"b": null}], "gauge": {"dataPoints": [
                        {"timeUnixNano": nanos(10).to_string(), "asDouble": 1.5, "flags": 0, "exemplars": [{"spanId": "EEE19B7EC3C1B174", "asInt": "3"}]},
                        {"timeUnixNano": nanos(20), "asInt": "9007199254740993"},
                        {"timeUnixNano": nanos(30), "asDouble": "3"},
                    ]}},
                    {"name": "c", "sum": {"aggregationTemporality": 2, "isMonotonic": true,
                        "dataPoints": [{"timeUnixNano": nanos(10).to_string(), "asInt": 4}]}},
                    {"name": "h", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
                        {"timeUnixNano": nanos(10).to_string(), "count": "3", "sum": 4.5, "bucketCounts": ["1", 2, "0"],
                            "explicitBounds": [1, 2.5], "min": 0.5, "max": null}]}},
                    {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
                        {"timeUnixNano": nanos(10).to_string(), "count": "2", "scale": -1, "zeroCount": "1",
                            "positive": {"offset": 1, "bucketCounts": ["1"]}}]}},
                    {"name": "s", "summary": {"dataPoints": [{"timeUnixNano": nanos(10).to_string(), "count": "2", "sum": 3,
                        "quantileValues": [{"quantile": 0.5, "value": 1.5}, {"quantile": 1, "value": "NaN"}]}]}},
                ],
            }],
        }],
    });
    let bed = Bed::new();
    let mut gather = Gather::new(&bed.recorder, all_times());
    let report = bed.otlp.take(text.to_string().as_bytes(), OtlpEncoding::Json, now(), &mut gather).unwrap();
    assert_eq!((report.points, report.refused, report.exemplars), (7, 0, 1), "{}", report.told);
    let labels = r#"bytes="bGlnaHQgdw==",job="shop",list="[1.5,true]",m="8",map="{\"k\":\"v\"}",n="-7",none="[]",otel_scope_name="lib",otel_scope_version="1""#;
    let samples = bed.recorder.samples();
    let told: Vec<(String, f64)> =
        samples.into_iter().map(|(series, _, value)| (series.replace(labels, "…"), value)).collect();
    let wanted = [("g{…}", 1.5), ("g{…}", 9_007_199_254_740_992.0), ("g{…}", 3.0), ("c_total{…}", 4.0)];
    assert_eq!(told[..4], wanted.map(|(series, value)| (series.to_owned(), value)));
    assert_eq!(bed.rows(Table::Histograms), 2);
    let value = |metric: &str| -> Vec<f64> {
        let of = |(series, value): &(String, f64)| series.starts_with(metric).then_some(*value);
        told.iter().filter_map(of).collect()
    };
    assert_eq!(value("h_seconds_bucket"), [1.0, 3.0, 3.0]);
    assert_eq!((value("h_seconds_min"), value("h_seconds_max")), (vec![0.5], vec![]));
    assert_eq!((value("s{"), value("s_count"), value("s_sum")), (vec![1.5], vec![2.0], vec![3.0]));
    // Scale -1: index 1 is above 4 up to 16.
    assert_eq!(value("e_bucket"), [1.0, 2.0, 2.0]);
}

#[test]
fn bodies_that_are_no_requests_are_told() {
    let bed = Bed::new();
    let told = |body: &[u8], encoding| {
        let mut gather = Gather::new(&bed.recorder, all_times());
        bed.otlp.take(body, encoding, now(), &mut gather).map_err(|error| error.to_string())
    };
    let wrong = [
        (&b"not a request"[..], OtlpEncoding::Protobuf, "no ExportMetricsServiceRequest in protobuf: "),
        (b"{\"resourceMetrics\": 1}", OtlpEncoding::Json, "in JSON: invalid type: integer `1`, expected a sequence at line 1 column"),
        (b"{\"resourceMetrics\": [", OtlpEncoding::Json, "in JSON: EOF"),
        (
            b"{\"resourceMetrics\": [{\"scopeMetrics\": [{\"metrics\": [{\"gauge\": {\"dataPoints\": [{\"timeUnixNano\": \"soon\"}]}}]}]}]}",
            OtlpEncoding::Json,
            "invalid value: string \"soon\", expected a whole number of 64 bits without a sign, or its text at line 1",
        ),
    ];
    for (body, encoding, wanted) in wrong {
        let told = told(body, encoding).unwrap_err();
        assert!(told.contains(wanted), "{told}");
    }
    assert_eq!(told(b"", OtlpEncoding::Protobuf), Ok(Report::default()));
    assert_eq!(told(b"{}", OtlpEncoding::Json), Ok(Report::default()));
}

#[test]
fn no_bytes_make_it_panic() {
    let whole = request(vec![
        metric("g", "By/s", gauge(vec![double(10, 1.0)])),
        metric("c", "1", sum(DELTA, true, vec![int(10, 1), int(20, 2)])),
        metric("h", "s", histogram(DELTA, vec![explicit(10, &[1, 2, 3]), explicit(20, &[1, 2, 3])])),
        metric("e", "", exponential(DELTA, &[(10, 3, -5, &[1, 2, 3]), (20, -2, 70_000, &[1, 2])])),
    ]);
    let bytes = whole.encode_to_vec();
    let text = br#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","sum":{"aggregationTemporality":1,"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"3","attributes":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":1}]}}}]}]}}]}]}]}"#;
    let bed = Bed::new();
    let mut noise = Noise(7);
    for round in 0..20_000 {
        let (body, encoding) = match round % 4 {
            0 => (noise.bytes(&bytes), OtlpEncoding::Protobuf),
            1 => (noise.bytes(b"{}[]\",:resourceMetrics019.e-"), OtlpEncoding::Json),
            2 => (noise.bend(text), OtlpEncoding::Json),
            _ => (noise.bend(&bytes), OtlpEncoding::Protobuf),
        };
        let mut gather = Gather::new(&bed.recorder, all_times());
        let _ = bed.otlp.take(&body, encoding, now(), &mut gather);
    }
    // What was bent least is taken in part: the test has met the reader too.
    assert!(!bed.recorder.batches.lock().unwrap().is_empty());
}

#[test]
fn attributes_of_one_point_in_any_order_are_one_series() {
    let bed = Bed::new();
    let pairs: [KeyValue; 2] = [text("a", "1"), text("b", "2")];
    let turned: Vec<KeyValue> = pairs.iter().rev().cloned().collect();
    let point = |attributes: &[KeyValue]| NumberDataPoint { attributes: attributes.to_vec(), ..int(10, 1) };
    bed.take(vec![metric("m", "", sum(DELTA, true, vec![point(&pairs)]))]);
    let report = bed.take(vec![metric(
        "m",
        "",
        sum(
            DELTA,
            true,
            vec![NumberDataPoint { time_unix_nano: nanos(20), start_time_unix_nano: nanos(10), ..point(&turned) }],
        ),
    )]);
    assert_eq!(report.refused, 0, "{}", report.told);
    let values: Vec<f64> = bed.samples().into_iter().map(|sample| sample.2).collect();
    assert_eq!((values, bed.recorder.defs.lock().unwrap().len()), (vec![1.0, 2.0], 1));
}
