//! Requests as `prost` writes them come out as their samples, and damaged ones as faults.

use prost::Message as _;

use super::messages::{
    Exemplar, FamilyMetadata, Histogram, Request, STALE, Span, SymbolExemplar, TimeSeries, WriteRequest,
};
use super::*;
use crate::flow::Intake;
use crate::ingest::Faults;
use crate::ingest::gather::testing::{Noise, Recorder, all_times};
use crate::model::{Batch, Kind, Table};
use crate::stats::Sketch;

const MS: i64 = 1_790_000_000_123;
const UP: [(&str, &str); 2] = [("__name__", "up"), ("job", "node")];
const COUNTER: (i32, &str, &str) = (1, "seconds", "How long.");

type Labels<'t> = &'t [(&'t str, &'t str)];
/// Values with their milliseconds.
type Samples<'t> = &'t [(f64, i64)];
type Spoil = fn(&mut Histogram);

struct Outcome {
    recorder: Recorder,
    written: Written,
    faults: Faults,
}

impl Outcome {
    fn samples(&self) -> Vec<(String, i64, f64)> {
        self.recorder.samples().into_iter().map(|(series, nanos, value)| (series, nanos / 1_000_000, value)).collect()
    }

    /// Series and milliseconds of the rows of a table.
    fn rows(&self, table: Table) -> usize {
        let batches = self.recorder.batches.lock().unwrap();
        batches
            .iter()
            .flat_map(|batch| &batch.rows)
            .filter(|rows| rows.table == table)
            .map(|r| r.batch.num_rows())
            .sum()
    }

    fn first_fault(&self) -> &str {
        self.faults.first.first().map_or("", |fault| &fault.error)
    }
}

fn read_with(version: RemoteWrite, body: &[u8], known: &Known) -> Outcome {
    let recorder = Recorder::default();
    let mut gather = Gather::new(&recorder, all_times());
    let written = version.read(body, Timestamp::from_millis(MS), known, &mut gather).unwrap();
    gather.flush().unwrap();
    let faults = gather.faults;
    Outcome { recorder, written, faults }
}

fn read(version: RemoteWrite, body: &[u8]) -> Outcome {
    read_with(version, body, &Known::default())
}

/// The same series and samples in both versions.
fn both(series: &[(Labels<'_>, Samples<'_>)]) -> [(RemoteWrite, Vec<u8>); 2] {
    let (mut v1, mut v2) = (WriteRequest::default(), Request::default());
    for (labels, samples) in series {
        v1.timeseries.push(TimeSeries::of(labels, samples));
        v2.add(labels, samples, (0, "", ""));
    }
    [(RemoteWrite::V1, v1.encode_to_vec()), (RemoteWrite::V2, v2.encode_to_vec())]
}

#[test]
fn samples_come_out_as_they_went_in() {
    let down = [("__name__", "up"), ("instance", "é:1"), ("job", "node")];
    let turned = [("job", "node"), ("__name__", "up")];
    let empty = [("__name__", "up"), ("job", "node"), ("zone", "")];
    for (version, body) in both(&[
        (&UP, &[(1.0, MS), (0.0, MS + 1), (-0.0, MS + 2), (0.1 + 0.2, 5)]),
        (&down, &[(f64::MAX, 0)]),
        (&turned, &[(2.0, MS + 3)]),
        (&empty, &[(3.0, MS + 4)]),
        (&UP, &[]),
    ]) {
        let outcome = read(version, &body);
        let up = r#"up{job="node"}"#.to_owned();
        let wanted = [
            (up.clone(), MS, 1.0),
            (up.clone(), MS + 1, 0.0),
            (up.clone(), MS + 2, -0.0),
            (up.clone(), 5, 0.1 + 0.2),
            (r#"up{instance="é:1",job="node"}"#.to_owned(), 0, f64::MAX),
            (up.clone(), MS + 3, 2.0),
            (up, MS + 4, 3.0),
        ];
        assert_eq!(outcome.samples(), wanted, "{version:?}");
        assert_eq!((outcome.written.samples, outcome.faults.count), (7, 0), "{version:?} {}", outcome.first_fault());
    }
}

#[test]
fn a_series_is_asked_for_once() {
    struct Counting(Recorder, std::sync::atomic::AtomicU64);
    impl Intake for Counting {
        fn intern(&self, def: &SeriesDef) -> Result<crate::model::SeriesId, Refusal> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.0.intern(def)
        }
        fn describe(&self, metric: &str, about: &crate::model::Description) {
            self.0.describe(metric, about);
        }
        fn accept(&self, batch: Batch) -> Result<(), Refusal> {
            self.0.accept(batch)
        }
    }
    let names: Vec<String> = (0..700).map(|at| format!("m{at}")).collect();
    for version in [RemoteWrite::V1, RemoteWrite::V2] {
        let (known, intake) = (Known::default(), Counting(Recorder::default(), 0.into()));
        for round in 0..3 {
            let (mut v1, mut v2) = (WriteRequest::default(), Request::default());
            // Places of texts change from request to request.
            v2.symbol(&format!("round {round}"));
            for name in names.iter().chain(&names[..3]) {
                v1.timeseries.push(TimeSeries::of(&[("__name__", name)], &[(f64::from(round), MS)]));
                v2.add(&[("__name__", name)], &[(f64::from(round), MS)], COUNTER);
            }
            let body = if version == RemoteWrite::V1 { v1.encode_to_vec() } else { v2.encode_to_vec() };
            let mut gather = Gather::new(&intake, all_times());
            version.read(&body, Timestamp::from_millis(MS), &known, &mut gather).unwrap();
            gather.flush().unwrap();
            assert_eq!((gather.accepted(), gather.faults.count), (703, 0));
        }
        assert_eq!(intake.1.load(std::sync::atomic::Ordering::Relaxed), 700, "{version:?}");
        assert_eq!(intake.0.samples().last().unwrap().0, "m2");
    }
}

#[test]
fn what_is_no_number_ends_a_series_or_is_left_out() {
    for (version, body) in both(&[(&UP, &[(1.0, MS), (STALE, MS + 1), (f64::NAN, MS + 2), (f64::INFINITY, MS + 3)])]) {
        let outcome = read(version, &body);
        assert_eq!(outcome.samples().len(), 1);
        assert_eq!(outcome.rows(Table::Staleness), 1);
        let written = Written { samples: 2, nonfinite: 2, ..Written::default() };
        assert_eq!((outcome.written, outcome.faults.count), (written, 0), "{version:?}");
    }
}

#[test]
fn what_is_wrong_with_a_series_names_it_and_leaves_the_others() {
    let late = 4_200_000_000_000;
    let table: [(Labels<'_>, i64, &str); 6] = [
        (&UP, late, "time series 2, up{job=\"node\"}: time 2103-02-04T02:40:00Z is after"),
        (&UP, -1, "is before"),
        (&UP, i64::MAX, "does not fit"),
        (&[("job", "a")], MS, "no metric's name: send the label `__name__` beside {job=\"a\"}"),
        (&[("__name__", "up"), ("a", "1"), ("a", "2")], MS, "the label `a` is there twice"),
        (&[("", "1"), ("__name__", "up")], MS, "a label has no name"),
    ];
    for (labels, ms, reason) in table {
        for (version, body) in both(&[(&UP, &[(1.0, MS)]), (labels, &[(2.0, ms)]), (&UP, &[(3.0, MS + 5)])]) {
            let outcome = read(version, &body);
            let values: Vec<f64> = outcome.samples().iter().map(|(.., value)| *value).collect();
            assert_eq!((values, outcome.faults.count), (vec![1.0, 3.0], 1), "{version:?} {reason}");
            assert!(outcome.first_fault().contains(reason), "{} / {reason}", outcome.first_fault());
            assert_eq!(outcome.faults.first[0].line, 2);
        }
    }
}

#[test]
fn references_must_lead_to_texts() {
    let with = |refs: &[u32]| {
        let mut request = Request::default();
        request.add(&UP, &[(1.0, MS)], COUNTER).labels_refs = refs.to_vec();
        request.encode_to_vec()
    };
    let table: [(&[u32], &str); 3] = [
        (&[1, 2, 3], "a label without a value"),
        (&[1, 99], "there is no symbol 99: there are 7"),
        (&[], "no metric's name"),
    ];
    for (refs, reason) in table {
        let outcome = read(RemoteWrite::V2, &with(refs));
        assert!(outcome.first_fault().contains(reason), "{} / {reason}", outcome.first_fault());
        assert_eq!(outcome.samples().len(), 0);
    }
}

#[test]
fn places_of_texts_come_first() {
    let mut request = Request::default();
    request.add(&UP, &[(1.0, MS)], COUNTER);
    let mut body = Request { timeseries: vec![], ..request.clone() }.encode_to_vec();
    let mut series = request.timeseries[0].encode_to_vec();
    series.extend([0x0A, 2, 1, 2]);
    body.extend([0x2A, u8::try_from(series.len()).unwrap()]);
    body.extend(series);
    let outcome = read(RemoteWrite::V2, &body);
    assert!(outcome.first_fault().contains("`labels_refs` after other fields"), "{}", outcome.first_fault());
}

#[test]
fn series_too_large_are_faults_and_cost_little() {
    let long = "x".repeat(60_000);
    let names: Vec<String> = (0..1000).map(|at| format!("l{at}")).collect();
    let mut many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    many.push(("__name__", "up"));
    let fits = both(&[(&many, &[(1.0, MS)]), (&[("__name__", "up"), ("a", &long)], &[(2.0, MS)])]);
    many.push(("one_more", "v"));
    let longer = long.repeat(2);
    let over = both(&[(&many, &[(1.0, MS)]), (&[("__name__", "up"), ("a", &longer)], &[(2.0, MS)])]);
    for ((version, fits), (_, over)) in fits.into_iter().zip(over) {
        let outcome = read(version, &fits);
        assert_eq!((outcome.faults.count, outcome.samples().len()), (0, 2), "{}", outcome.first_fault());
        let outcome = read(version, &over);
        assert_eq!((outcome.faults.count, outcome.samples().len()), (2, 0), "{version:?}");
        assert!(outcome.first_fault().contains("send fewer or shorter labels"), "{}", outcome.first_fault());
    }
    // Eight billion bytes, were each place the text itself.
    let mut request = Request::default();
    let series = request.add(&[("__name__", &"y".repeat(4 << 20))], &[(1.0, MS)], (0, "", ""));
    series.labels_refs = [2, 1].repeat(1000);
    let outcome = read(RemoteWrite::V2, &request.encode_to_vec());
    assert!(outcome.first_fault().contains("send fewer or shorter labels"), "{}", outcome.first_fault());
    assert!(outcome.first_fault().len() < 1100);
    let labels = [("__name__", "up"), ("a", &*long)];
    let [(version, body), _] = both(&[(&labels, &[(1.0, -1)])]);
    let told = read(version, &body);
    assert!(told.first_fault().contains('…') && told.first_fault().len() < 600, "{}", told.first_fault());
}

#[test]
fn exemplars_are_counted() {
    let mut v1 = WriteRequest::of(&UP, &[(1.0, MS)]);
    v1.timeseries[0].exemplars = vec![Exemplar::default(); 2];
    let mut v2 = Request::default();
    v2.add(&UP, &[(1.0, MS)], COUNTER).exemplars = vec![SymbolExemplar::default(); 2];
    for (version, body) in [(RemoteWrite::V1, v1.encode_to_vec()), (RemoteWrite::V2, v2.encode_to_vec())] {
        let outcome = read(version, &body);
        assert_eq!((outcome.written.exemplars, outcome.samples().len(), outcome.faults.count), (2, 1, 0));
    }
}

fn family(kind: i32, name: &str, unit: &str) -> FamilyMetadata {
    FamilyMetadata { kind, metric_family_name: name.to_owned(), help: "Help.".to_owned(), unit: unit.to_owned() }
}

#[test]
fn families_describe_their_parts() {
    let metadata = vec![
        family(1, "a_total", ""),
        family(1, "b", "bytes"),
        family(2, "c", "bytes"),
        family(3, "d", "seconds"),
        family(5, "e", "seconds"),
        family(4, "f", "seconds"),
        family(0, "g", ""),
        family(0, "g_total", ""),
        family(99, "h", ""),
        family(1, "", ""),
    ];
    let outcome = read(RemoteWrite::V1, &WriteRequest { timeseries: vec![], metadata }.encode_to_vec());
    assert_eq!(outcome.faults.count, 0, "{}", outcome.first_fault());
    let described = outcome.recorder.described.into_inner().unwrap();
    assert!(described.values().all(|about| &*about.help == "Help."));
    let told: Vec<(&str, Kind, &str)> =
        described.iter().map(|(metric, about)| (metric.as_str(), about.kind, &*about.unit)).collect();
    let wanted = [
        ("a_total", Kind::Counter, ""),
        ("a_total_created", Kind::Gauge, ""),
        ("b", Kind::Counter, "bytes"),
        ("b_created", Kind::Gauge, ""),
        ("b_total", Kind::Counter, "bytes"),
        ("c", Kind::Gauge, "bytes"),
        ("d", Kind::Histogram, "seconds"),
        ("d_bucket", Kind::Counter, ""),
        ("d_count", Kind::Counter, ""),
        ("d_created", Kind::Gauge, ""),
        ("d_sum", Kind::Counter, "seconds"),
        ("e", Kind::Summary, "seconds"),
        ("e_count", Kind::Counter, ""),
        ("e_created", Kind::Gauge, ""),
        ("e_sum", Kind::Counter, "seconds"),
        ("f", Kind::Gauge, "seconds"),
        ("f_bucket", Kind::Gauge, ""),
        ("f_gcount", Kind::Gauge, ""),
        ("f_gsum", Kind::Gauge, "seconds"),
        ("g", Kind::Gauge, ""),
        ("g_total", Kind::Counter, ""),
        ("h", Kind::Gauge, ""),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn a_series_says_what_its_metric_is() {
    let mut request = Request::default();
    for name in ["d_bucket", "d_count", "d_sum", "d"] {
        request.add(&[("__name__", name), ("host", "a")], &[(1.0, MS)], (3, "seconds", "How long."));
    }
    request.add(&[("__name__", "jobs_count")], &[(1.0, MS)], (1, "", "Jobs."));
    request.add(&[("__name__", "silent")], &[(1.0, MS)], (0, "", ""));
    let known = Known::default();
    let outcome = read_with(RemoteWrite::V2, &request.encode_to_vec(), &known);
    let told =
        |metric: &str| {
            let defs = outcome.recorder.defs.lock().unwrap();
            let def = defs.iter().find(|def| &*def.metric == metric).unwrap();
            let described = outcome.recorder.described.lock().unwrap().get(metric).cloned();
            assert!(described.is_none_or(
                |about| (about.kind, about.unit, about.help) == (def.kind, def.unit.clone(), def.help.clone())
            ));
            (def.kind, def.unit.to_string(), def.help.to_string())
        };
    let is = |kind, unit: &str, help: &str| (kind, unit.to_owned(), help.to_owned());
    assert_eq!(told("d_bucket"), is(Kind::Counter, "", "How long."));
    assert_eq!(told("d_count"), is(Kind::Counter, "", "How long."));
    assert_eq!(told("d_sum"), is(Kind::Counter, "seconds", "How long."));
    assert_eq!(told("d"), is(Kind::Histogram, "seconds", "How long."));
    assert_eq!(told("jobs_count"), is(Kind::Counter, "", "Jobs."));
    assert_eq!(told("silent"), is(Kind::Gauge, "", ""));
    assert_eq!(outcome.recorder.described.lock().unwrap().len(), 5, "who says nothing describes nothing");
    // The same again is known; another help is told.
    let again = read_with(RemoteWrite::V2, &request.encode_to_vec(), &known);
    assert_eq!(again.recorder.described.lock().unwrap().len(), 0);
    let mut other = Request::default();
    other.add(&[("__name__", "d"), ("host", "a")], &[(1.0, MS)], (3, "seconds", "How long it takes."));
    let told = read_with(RemoteWrite::V2, &other.encode_to_vec(), &known).recorder.described.into_inner().unwrap();
    assert_eq!(&*told["d"].help, "How long it takes.");
}

fn histograms_in_both(histogram: &Histogram) -> [(RemoteWrite, Vec<u8>); 2] {
    let labels = [("__name__", "m"), ("host", "a")];
    let mut v1 = WriteRequest::of(&labels, &[]);
    v1.timeseries[0].histograms.push(histogram.clone());
    let mut v2 = Request::default();
    v2.add(&labels, &[], (3, "seconds", "How long.")).histograms.push(histogram.clone());
    [(RemoteWrite::V1, v1.encode_to_vec()), (RemoteWrite::V2, v2.encode_to_vec())]
}

fn span(offset: i32, length: u32) -> Span {
    Span { offset, length }
}

/// Schema 0: (0.5, 1] 1, (1, 2] 3, (8, 16] 2; [-2, -1) 1; zero 4.
fn whole() -> Histogram {
    Histogram {
        count_int: 11,
        sum: 30.5,
        schema: 0,
        zero_threshold: 1e-128,
        zero_count_int: 4,
        negative_spans: vec![span(1, 1)],
        negative_deltas: vec![1],
        positive_spans: vec![span(0, 2), span(2, 1)],
        positive_deltas: vec![1, 2, -1],
        timestamp: MS,
        ..Histogram::default()
    }
}

fn in_parts(whole: &Histogram) -> Histogram {
    Histogram {
        count_int: 0,
        count_float: 11.0,
        zero_count_int: 0,
        zero_count_float: 4.0,
        negative_deltas: vec![],
        negative_counts: vec![1.0],
        positive_deltas: vec![],
        positive_counts: vec![1.0, 3.0, 2.0],
        ..whole.clone()
    }
}

#[test]
fn native_histograms_are_bucket_series_and_a_row() {
    let buckets = [("-1", 1.0), ("1e-128", 5.0), ("1", 6.0), ("2", 9.0), ("16", 11.0), ("+Inf", 11.0)];
    for histogram in [whole(), in_parts(&whole())] {
        for (version, body) in histograms_in_both(&histogram) {
            let outcome = read(version, &body);
            assert_eq!(outcome.faults.count, 0, "{}", outcome.first_fault());
            assert_eq!(outcome.written, Written { histograms: 1, ..Written::default() });
            let samples = outcome.samples();
            for (bound, count) in buckets {
                let series = format!(r#"m_bucket{{host="a",le="{bound}"}}"#);
                let found = samples.iter().find(|sample| sample.0 == series).map(|sample| (sample.1, sample.2));
                assert_eq!(found, Some((MS, count)), "{version:?} {series}: {samples:?}");
            }
            let of = |name: &str| samples.iter().find(|sample| sample.0 == name).map(|sample| sample.2);
            assert_eq!(of(r#"m_count{host="a"}"#), Some(11.0));
            assert_eq!(of(r#"m_sum{host="a"}"#), Some(30.5));
            assert_eq!(outcome.rows(Table::Histograms), 1);
        }
    }
}

/// The sketch of the only row.
fn sketch(outcome: &Outcome) -> Sketch {
    use arrow::array::AsArray;
    let batches = outcome.recorder.batches.lock().unwrap();
    let rows = batches.iter().flat_map(|batch| &batch.rows).next().expect("a row");
    Sketch::decode(rows.batch.column_by_name("sketch").unwrap().as_binary::<i32>().value(0)).unwrap()
}

#[test]
fn quantiles_of_every_schema_lie_in_their_bucket() {
    for schema in -4..=8_i32 {
        let base = 2_f64.powf(2_f64.powi(-schema));
        for index in [-3, 0, 1, 5] {
            let histogram = Histogram {
                count_int: 100,
                schema,
                positive_spans: vec![span(index, 1)],
                positive_deltas: vec![100],
                timestamp: MS,
                ..Histogram::default()
            };
            let [(version, body), _] = histograms_in_both(&histogram);
            let outcome = read(version, &body);
            let median = sketch(&outcome).quantile(0.5).unwrap();
            let (low, high) = (base.powi(index - 1), base.powi(index));
            assert!((low * 0.98..=high * 1.02).contains(&median), "{schema} {index}: {median} in {low} to {high}");
        }
    }
}

#[test]
fn custom_bounds_are_kept() {
    let histogram = Histogram {
        count_int: 9,
        sum: 3.5,
        schema: -53,
        custom_values: vec![0.1, 0.5, 1.0],
        positive_spans: vec![span(0, 1), span(1, 2)],
        positive_deltas: vec![4, -1, -1],
        timestamp: MS,
        ..Histogram::default()
    };
    for (version, body) in histograms_in_both(&histogram) {
        let outcome = read(version, &body);
        assert_eq!(outcome.faults.count, 0, "{}", outcome.first_fault());
        let samples: Vec<(String, f64)> =
            outcome.samples().into_iter().map(|(series, _, value)| (series, value)).collect();
        let wanted = [
            (r#"m_bucket{host="a",le="0.1"}"#, 4.0),
            (r#"m_bucket{host="a",le="0.5"}"#, 4.0),
            (r#"m_bucket{host="a",le="1"}"#, 7.0),
            (r#"m_bucket{host="a",le="+Inf"}"#, 9.0),
            (r#"m_count{host="a"}"#, 9.0),
            (r#"m_sum{host="a"}"#, 3.5),
        ];
        assert_eq!(samples, wanted.map(|(series, value)| (series.to_owned(), value)));
    }
}

#[test]
fn a_stale_histogram_ends_its_series() {
    let stale = Histogram { sum: STALE, timestamp: MS, ..Histogram::default() };
    for (version, body) in histograms_in_both(&stale) {
        let outcome = read(version, &body);
        assert_eq!((outcome.rows(Table::Staleness), outcome.samples().len()), (4, 0), "{version:?}");
    }
}

#[test]
fn histograms_that_do_not_fit_together_are_faults() {
    let table: [(&str, Spoil); 15] = [
        ("counts 3 values, its buckets 11", |histogram| histogram.count_int = 3),
        ("count is below zero", |histogram| histogram.count_float = -1.0),
        ("count is below zero", |histogram| {
            histogram.zero_count_int = 0;
            histogram.zero_count_float = -4.0;
        }),
        ("a zero threshold of -1: send 0 or more", |histogram| histogram.zero_threshold = -1.0),
        ("a zero threshold of NaN", |histogram| histogram.zero_threshold = f64::NAN),
        ("over 2000 buckets", |histogram| {
            histogram.positive_spans = vec![span(0, 2001)];
            histogram.positive_deltas = vec![0; 2001];
        }),
        ("over 2000 buckets", |histogram| {
            histogram.schema = -53;
            histogram.custom_values = (0..2001).map(f64::from).collect();
        }),
        ("a histogram of schema 9", |histogram| histogram.schema = 9),
        ("spans are longer", |histogram| histogram.positive_spans[0].length = u32::MAX),
        ("more counts than its spans", |histogram| histogram.positive_spans.truncate(1)),
        ("less than nothing", |histogram| histogram.positive_deltas[1] = -5),
        ("out of range", |histogram| {
            histogram.positive_spans = vec![span(i32::MIN, 3)];
        }),
        ("not a finite number", |histogram| histogram.count_float = f64::INFINITY),
        ("no finite number of values", |histogram| {
            histogram.positive_deltas.clear();
            histogram.positive_counts = vec![1.0, f64::NAN, 1.0];
        }),
        ("no bound for its bucket 4", |histogram| {
            histogram.schema = -53;
            histogram.custom_values = vec![1.0];
        }),
    ];
    for (reason, spoil) in table {
        let mut histogram = whole();
        spoil(&mut histogram);
        for (version, body) in histograms_in_both(&histogram) {
            let outcome = read(version, &body);
            assert_eq!((outcome.faults.count, outcome.samples().len()), (1, 0), "{version:?} {reason}");
            assert_eq!(outcome.written.histograms, 0, "{version:?} {reason}");
            assert!(outcome.first_fault().contains(reason), "{} / {reason}", outcome.first_fault());
            assert!(outcome.first_fault().contains("m{host=\"a\"}"), "{}", outcome.first_fault());
        }
    }
}

#[test]
fn a_histogram_whose_parts_are_refused_is_not_written() {
    // With `le` there is a label too many.
    let names: Vec<String> = (0..1000).map(|at| format!("l{at}")).collect();
    let mut labels: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    labels.push(("__name__", "m"));
    let mut request = Request::default();
    request.add(&labels, &[], (3, "", "")).histograms.push(whole());
    let outcome = read(RemoteWrite::V2, &request.encode_to_vec());
    assert!(outcome.first_fault().contains("send fewer or shorter labels"), "{}", outcome.first_fault());
    assert_eq!(outcome.written, Written::default());
}

#[test]
fn a_request_of_the_other_version_is_told() {
    let [(_, v1), (_, v2)] = both(&[(&UP, &[(1.0, MS)])]);
    let outcome = read(RemoteWrite::V1, &v2);
    assert!(outcome.first_fault().contains("version 2.0: send it with `Content-Type"), "{}", outcome.first_fault());
    let outcome = read(RemoteWrite::V2, &v1);
    assert!(outcome.first_fault().contains("version 1.0"), "{}", outcome.first_fault());
    for version in [RemoteWrite::V1, RemoteWrite::V2] {
        assert_eq!(read(version, b"").faults.count, 0, "nothing is nothing");
        let foreign = read(version, &[0x78, 0x01]);
        assert!(foreign.first_fault().contains("send the protobuf message"), "{}", foreign.first_fault());
    }
}

#[test]
fn versions_are_told_by_content_type() {
    let table = [
        ("", Some(RemoteWrite::V1)),
        ("application/x-protobuf", Some(RemoteWrite::V1)),
        ("application/x-protobuf;proto=prometheus.WriteRequest", Some(RemoteWrite::V1)),
        ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(RemoteWrite::V2)),
        ("application/x-protobuf;charset=x;proto=\"io.prometheus.write.v2.Request\"", Some(RemoteWrite::V2)),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
        ("Application/X-Protobuf; Proto=IO.prometheus.write.v2.Request", Some(RemoteWrite::V2)),
        ("application/json", None),
    ];
    for (text, version) in table {
        assert_eq!(RemoteWrite::of_content_type(text), version, "{text}");
    }
}

#[test]
fn damaged_requests_are_faults_and_never_panic() {
    let mut bodies =
        both(&[(&UP, &[(1.0, MS), (2.0, MS + 1)]), (&[("__name__", "m"), ("a", "b")], &[(3.0, MS)])]).to_vec();
    bodies.extend(histograms_in_both(&whole()));
    bodies.extend(histograms_in_both(&in_parts(&whole())));
    let metadata = WriteRequest { timeseries: vec![], metadata: vec![family(3, "d", "seconds")] };
    bodies.push((RemoteWrite::V1, metadata.encode_to_vec()));
    let mut noise = Noise(9);
    for (version, body) in &bodies {
        for cut in 1..body.len() {
            let outcome = read(*version, &body[..cut]);
            assert!(outcome.written.samples <= 3, "{version:?} cut to {cut}");
        }
        for _ in 0..2000 {
            read(*version, &noise.bend(body));
            read(*version, &noise.bytes(body));
        }
        let cut = read(*version, &body[..body.len() - 1]);
        assert_eq!(cut.faults.count, 1, "{version:?}: {}", cut.first_fault());
        assert!(cut.first_fault().contains("breaks off or is no protobuf from byte"), "{}", cut.first_fault());
    }
}
