//! OTLP/JSON: the request as JSON has it, made into the protobuf message.
//!
//! Names are lowerCamelCase; what is not known is passed over; whole numbers of 64 bits are texts or numbers, doubles
//! also `"NaN"`, `"Infinity"`, `"-Infinity"`; what is missing or `null` is as by default. Ids in exemplars are not read.

use std::fmt;
use std::marker::PhantomData;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as WireBuckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::resource::v1 as resource;
use serde::de::{Error, IgnoredAny, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// The request without its exemplars, and how many there were.
///
/// # Errors
/// A sentence with line and column, where the text is no such request.
pub(super) fn request(text: &[u8]) -> Result<(ExportMetricsServiceRequest, u64), String> {
    let request: Request = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let exemplars = request.exemplars();
    Ok((ExportMetricsServiceRequest { resource_metrics: all(request.resource_metrics) }, exemplars))
}

type List<T> = Option<Vec<T>>;

fn all<T, W: From<T>>(list: List<T>) -> Vec<W> {
    list.unwrap_or_default().into_iter().map(W::from).collect()
}

fn plain<T: Default>(number: Option<Number<T>>) -> T {
    number.map(|number| number.0).unwrap_or_default()
}

fn numbers<T>(list: List<Number<T>>) -> Vec<T> {
    list.unwrap_or_default().into_iter().map(|number| number.0).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    resource_metrics: List<ResourceMetrics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    resource: Option<Resource>,
    scope_metrics: List<ScopeMetrics>,
}

#[derive(Deserialize)]
struct Resource {
    attributes: List<KeyValue>,
}

#[derive(Deserialize)]
struct ScopeMetrics {
    scope: Option<Scope>,
    metrics: List<Metric>,
}

#[derive(Deserialize)]
struct Scope {
    name: Option<String>,
    version: Option<String>,
    attributes: List<KeyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric {
    name: Option<String>,
    description: Option<String>,
    unit: Option<String>,
    gauge: Option<Points<NumberPoint>>,
    sum: Option<Points<NumberPoint>>,
    histogram: Option<Points<HistogramPoint>>,
    exponential_histogram: Option<Points<ExponentialPoint>>,
    summary: Option<Points<SummaryPoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Points<P> {
    data_points: List<P>,
    aggregation_temporality: Option<Number<i32>>,
    is_monotonic: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NumberPoint {
    attributes: List<KeyValue>,
    start_time_unix_nano: Option<Number<u64>>,
    time_unix_nano: Option<Number<u64>>,
    exemplars: List<IgnoredAny>,
    flags: Option<Number<u32>>,
    as_double: Option<Number<f64>>,
    as_int: Option<Number<i64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistogramPoint {
    attributes: List<KeyValue>,
    start_time_unix_nano: Option<Number<u64>>,
    time_unix_nano: Option<Number<u64>>,
    count: Option<Number<u64>>,
    sum: Option<Number<f64>>,
    bucket_counts: List<Number<u64>>,
    explicit_bounds: List<Number<f64>>,
    exemplars: List<IgnoredAny>,
    flags: Option<Number<u32>>,
    min: Option<Number<f64>>,
    max: Option<Number<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExponentialPoint {
    attributes: List<KeyValue>,
    start_time_unix_nano: Option<Number<u64>>,
    time_unix_nano: Option<Number<u64>>,
    count: Option<Number<u64>>,
    sum: Option<Number<f64>>,
    scale: Option<Number<i32>>,
    zero_count: Option<Number<u64>>,
    positive: Option<Buckets>,
    negative: Option<Buckets>,
    flags: Option<Number<u32>>,
    exemplars: List<IgnoredAny>,
    min: Option<Number<f64>>,
    max: Option<Number<f64>>,
    zero_threshold: Option<Number<f64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Buckets {
    offset: Option<Number<i32>>,
    bucket_counts: List<Number<u64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryPoint {
    attributes: List<KeyValue>,
    start_time_unix_nano: Option<Number<u64>>,
    time_unix_nano: Option<Number<u64>>,
    count: Option<Number<u64>>,
    sum: Option<Number<f64>>,
    quantile_values: List<Quantile>,
    flags: Option<Number<u32>>,
}

#[derive(Deserialize)]
struct Quantile {
    quantile: Option<Number<f64>>,
    value: Option<Number<f64>>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: Option<String>,
    value: Option<AnyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Number<i64>>,
    double_value: Option<Number<f64>>,
    array_value: Option<Values<AnyValue>>,
    kvlist_value: Option<Values<KeyValue>>,
    bytes_value: Option<String>,
}

#[derive(Deserialize)]
struct Values<T> {
    values: List<T>,
}

impl Request {
    fn exemplars(&self) -> u64 {
        let scopes =
            self.resource_metrics.iter().flatten().flat_map(|resource| resource.scope_metrics.iter().flatten());
        scopes.flat_map(|scope| scope.metrics.iter().flatten()).map(Metric::exemplars).sum()
    }
}

impl Metric {
    fn exemplars(&self) -> u64 {
        let numbers = self.gauge.iter().chain(&self.sum).map(|points| points.exemplars(|point| &point.exemplars));
        let histograms = self.histogram.iter().map(|points| points.exemplars(|point| &point.exemplars));
        let exponential = self.exponential_histogram.iter().map(|points| points.exemplars(|point| &point.exemplars));
        numbers.chain(histograms).chain(exponential).sum()
    }
}

impl<P> Points<P> {
    fn exemplars(&self, of: impl Fn(&P) -> &List<IgnoredAny>) -> u64 {
        self.data_points.iter().flatten().map(|point| of(point).as_ref().map_or(0, Vec::len) as u64).sum()
    }
}

impl From<ResourceMetrics> for metrics::ResourceMetrics {
    fn from(from: ResourceMetrics) -> Self {
        let resource = from.resource.map(|resource| resource::Resource {
            attributes: all(resource.attributes),
            ..resource::Resource::default()
        });
        metrics::ResourceMetrics { resource, scope_metrics: all(from.scope_metrics), ..Self::default() }
    }
}

impl From<ScopeMetrics> for metrics::ScopeMetrics {
    fn from(from: ScopeMetrics) -> Self {
        let scope = from.scope.map(|scope| common::InstrumentationScope {
            name: scope.name.unwrap_or_default(),
            version: scope.version.unwrap_or_default(),
            attributes: all(scope.attributes),
            ..common::InstrumentationScope::default()
        });
        metrics::ScopeMetrics { scope, metrics: all(from.metrics), ..Self::default() }
    }
}

impl From<Metric> for metrics::Metric {
    fn from(from: Metric) -> Self {
        let gauge = from.gauge.map(|points| Data::Gauge(metrics::Gauge { data_points: all(points.data_points) }));
        let sum = from.sum.map(|points| {
            Data::Sum(metrics::Sum {
                aggregation_temporality: plain(points.aggregation_temporality),
                is_monotonic: points.is_monotonic.unwrap_or_default(),
                data_points: all(points.data_points),
            })
        });
        let histogram = from.histogram.map(|points| {
            Data::Histogram(metrics::Histogram {
                aggregation_temporality: plain(points.aggregation_temporality),
                data_points: all(points.data_points),
            })
        });
        let exponential = from.exponential_histogram.map(|points| {
            Data::ExponentialHistogram(metrics::ExponentialHistogram {
                aggregation_temporality: plain(points.aggregation_temporality),
                data_points: all(points.data_points),
            })
        });
        let summary =
            from.summary.map(|points| Data::Summary(metrics::Summary { data_points: all(points.data_points) }));
        metrics::Metric {
            name: from.name.unwrap_or_default(),
            description: from.description.unwrap_or_default(),
            unit: from.unit.unwrap_or_default(),
            data: gauge.or(sum).or(histogram).or(exponential).or(summary),
            ..Self::default()
        }
    }
}

impl From<NumberPoint> for metrics::NumberDataPoint {
    fn from(from: NumberPoint) -> Self {
        let double = from.as_double.map(|number| number_data_point::Value::AsDouble(number.0));
        metrics::NumberDataPoint {
            attributes: all(from.attributes),
            start_time_unix_nano: plain(from.start_time_unix_nano),
            time_unix_nano: plain(from.time_unix_nano),
            exemplars: Vec::new(),
            flags: plain(from.flags),
            value: double.or(from.as_int.map(|number| number_data_point::Value::AsInt(number.0))),
        }
    }
}

impl From<HistogramPoint> for metrics::HistogramDataPoint {
    fn from(from: HistogramPoint) -> Self {
        metrics::HistogramDataPoint {
            attributes: all(from.attributes),
            start_time_unix_nano: plain(from.start_time_unix_nano),
            time_unix_nano: plain(from.time_unix_nano),
            count: plain(from.count),
            sum: from.sum.map(|number| number.0),
            bucket_counts: numbers(from.bucket_counts),
            explicit_bounds: numbers(from.explicit_bounds),
            exemplars: Vec::new(),
            flags: plain(from.flags),
            min: from.min.map(|number| number.0),
            max: from.max.map(|number| number.0),
        }
    }
}

impl From<ExponentialPoint> for metrics::ExponentialHistogramDataPoint {
    fn from(from: ExponentialPoint) -> Self {
        metrics::ExponentialHistogramDataPoint {
            attributes: all(from.attributes),
            start_time_unix_nano: plain(from.start_time_unix_nano),
            time_unix_nano: plain(from.time_unix_nano),
            count: plain(from.count),
            sum: from.sum.map(|number| number.0),
            scale: plain(from.scale),
            zero_count: plain(from.zero_count),
            positive: from.positive.map(WireBuckets::from),
            negative: from.negative.map(WireBuckets::from),
            flags: plain(from.flags),
            exemplars: Vec::new(),
            min: from.min.map(|number| number.0),
            max: from.max.map(|number| number.0),
            zero_threshold: plain(from.zero_threshold),
        }
    }
}

impl From<Buckets> for WireBuckets {
    fn from(from: Buckets) -> Self {
        WireBuckets { offset: plain(from.offset), bucket_counts: numbers(from.bucket_counts) }
    }
}

impl From<SummaryPoint> for metrics::SummaryDataPoint {
    fn from(from: SummaryPoint) -> Self {
        metrics::SummaryDataPoint {
            attributes: all(from.attributes),
            start_time_unix_nano: plain(from.start_time_unix_nano),
            time_unix_nano: plain(from.time_unix_nano),
            count: plain(from.count),
            sum: plain(from.sum),
            quantile_values: all(from.quantile_values),
            flags: plain(from.flags),
        }
    }
}

impl From<Quantile> for ValueAtQuantile {
    fn from(from: Quantile) -> Self {
        ValueAtQuantile { quantile: plain(from.quantile), value: plain(from.value) }
    }
}

impl From<KeyValue> for common::KeyValue {
    fn from(from: KeyValue) -> Self {
        common::KeyValue {
            key: from.key.unwrap_or_default(),
            value: from.value.map(common::AnyValue::from),
            ..Self::default()
        }
    }
}

impl From<AnyValue> for common::AnyValue {
    fn from(from: AnyValue) -> Self {
        let list = from.array_value.map(|list| Value::ArrayValue(common::ArrayValue { values: all(list.values) }));
        let map = from.kvlist_value.map(|map| Value::KvlistValue(common::KeyValueList { values: all(map.values) }));
        // Bytes are base64 here, and so is the text they become.
        let text = from.string_value.or(from.bytes_value).map(Value::StringValue);
        let value = text
            .or(from.bool_value.map(Value::BoolValue))
            .or(from.int_value.map(|number| Value::IntValue(number.0)))
            .or(from.double_value.map(|number| Value::DoubleValue(number.0)));
        common::AnyValue { value: value.or(list).or(map) }
    }
}

/// A number, as itself or as text.
struct Number<T>(T);

/// What can be in a [`Number`].
trait Numeral: std::str::FromStr {
    const WHAT: &'static str;
    fn of_whole(number: i128) -> Option<Self>;
    fn of_double(number: f64) -> Option<Self>;
}

macro_rules! whole {
    ($($kind:ty: $what:literal),*) => {$(
        impl Numeral for $kind {
            const WHAT: &'static str = $what;
            fn of_whole(number: i128) -> Option<Self> {
                Self::try_from(number).ok()
            }
            fn of_double(number: f64) -> Option<Self> {
                (number.fract() == 0.0).then(|| Self::of_whole(number as i128)).flatten()
            }
        }
    )*};
}
whole!(u64: "a whole number of 64 bits without a sign, or its text", i64: "a whole number of 64 bits, or its text",
    u32: "a whole number of 32 bits without a sign", i32: "a whole number of 32 bits");

impl Numeral for f64 {
    const WHAT: &'static str = "a number, or \"NaN\", \"Infinity\" or \"-Infinity\"";
    fn of_whole(number: i128) -> Option<Self> {
        Some(number as f64)
    }
    fn of_double(number: f64) -> Option<Self> {
        Some(number)
    }
}

impl<'de, T: Numeral> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfNumber(PhantomData))
    }
}

struct OfNumber<T>(PhantomData<T>);

impl<T: Numeral> Visitor<'_> for OfNumber<T> {
    type Value = Number<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        T::of_whole(number.into()).map(Number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        T::of_whole(number.into()).map(Number).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        T::of_double(number).map(Number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        text.trim().parse().map(Number).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
