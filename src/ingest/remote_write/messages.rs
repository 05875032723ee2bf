//! The messages of both versions, as a sender makes them; for tests alone. After `prompb/types.proto`, `remote.proto` and
//! `io/prometheus/write/v2/types.proto` of Prometheus.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub metadata: Vec<FamilyMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub exemplars: Vec<Exemplar>,
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(double, tag = "2")]
    pub value: f64,
}

#[derive(Clone, PartialEq, Message)]
pub struct FamilyMetadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub metric_family_name: String,
    #[prost(string, tag = "4")]
    pub help: String,
    #[prost(string, tag = "5")]
    pub unit: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(uint64, tag = "1")]
    pub count_int: u64,
    #[prost(double, tag = "2")]
    pub count_float: f64,
    #[prost(double, tag = "3")]
    pub sum: f64,
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    pub zero_count_int: u64,
    #[prost(double, tag = "7")]
    pub zero_count_float: f64,
    #[prost(message, repeated, tag = "8")]
    pub negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<SymbolSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SymbolSeries {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<SymbolExemplar>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<SymbolMetadata>,
    #[prost(int64, tag = "6")]
    pub created_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct SymbolExemplar {
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    #[prost(double, tag = "2")]
    pub value: f64,
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct SymbolMetadata {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// The NaN by which Prometheus says that a series ended.
pub const STALE: f64 = f64::from_bits(0x7FF0_0000_0000_0002);

impl WriteRequest {
    /// One of a single series.
    pub fn of(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Self {
        WriteRequest { timeseries: vec![TimeSeries::of(labels, samples)], metadata: Vec::new() }
    }
}

impl TimeSeries {
    /// Samples with their milliseconds.
    pub fn of(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Self {
        let label = |&(name, value): &(&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        let sample = |&(value, timestamp): &(f64, i64)| Sample { value, timestamp };
        TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: samples.iter().map(sample).collect(),
            ..TimeSeries::default()
        }
    }
}

impl Request {
    /// The place of a text, which is put in where it is new.
    pub fn symbol(&mut self, text: &str) -> u32 {
        if self.symbols.is_empty() {
            self.symbols.push(String::new());
        }
        let known = self.symbols.iter().position(|symbol| symbol == text);
        let place = known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        });
        u32::try_from(place).unwrap()
    }

    /// Adds a series; the family's type, unit and help with it.
    pub fn add(
        &mut self,
        labels: &[(&str, &str)],
        samples: &[(f64, i64)],
        about: (i32, &str, &str),
    ) -> &mut SymbolSeries {
        let labels_refs =
            labels.iter().flat_map(|&(name, value)| [name, value]).map(|text| self.symbol(text)).collect();
        let (kind, unit, help) = about;
        let metadata = SymbolMetadata { kind, unit_ref: self.symbol(unit), help_ref: self.symbol(help) };
        let samples = samples.iter().map(|&(value, timestamp)| Sample { value, timestamp }).collect();
        let series = SymbolSeries { labels_refs, samples, metadata: Some(metadata), ..SymbolSeries::default() };
        self.timeseries.push(series);
        self.timeseries.last_mut().unwrap()
    }
}
