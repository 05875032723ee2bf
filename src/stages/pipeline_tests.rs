//! Pipelines over a store: what stages make of what comes in, seen and kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{PipelineSpec, Pipelines};
use crate::model::{Batch, Labels, SeriesDef, SeriesId, Span, Timestamp};
use crate::store::{Store, StoreSpec};
use crate::world::World;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_767_225_600 * SECOND;

struct Node {
    store: Arc<Store>,
    pipelines: Arc<Pipelines>,
}

impl Node {
    fn open(dir: &Path, pipeline: &str) -> Node {
        let spec: PipelineSpec = toml::from_str(pipeline).unwrap();
        assert_eq!(spec.faults(), []);
        let store = Arc::new(Store::open(World::real(), dir, StoreSpec::default()).unwrap());
        let pipelines = Pipelines::attach(&store, vec![spec]).unwrap();
        Node { store, pipelines }
    }

    fn put(&self, samples: &[(&str, &str, i64, f64)]) {
        let mut batch = Batch { source: "a".into(), ..Batch::default() };
        for &(metric, host, second, value) in samples {
            let def = SeriesDef::new(metric, Labels::new([("host", host)]));
            let time = Timestamp::from_nanos(START + second * SECOND);
            batch.push(self.store.registry().intern(def), time, value);
        }
        self.store.append(batch).unwrap();
    }

    /// All samples by series and second.
    fn all(&self) -> BTreeMap<String, Vec<(i64, f64)>> {
        let snapshot = self.store.snapshot();
        let ids = (0..snapshot.series_count() as u32).map(SeriesId).collect();
        let runs = snapshot.scan(ids, Span::ALL).map(|run| run.unwrap());
        let second = |time: Timestamp| (time.nanos() - START) / SECOND;
        runs.filter(|run| !run.samples.is_empty())
            .map(|run| {
                let samples = run.samples.iter().map(|sample| (second(sample.time), sample.value)).collect();
                (self.store.registry().def(run.series).to_string(), samples)
            })
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.pipelines.stop();
    }
}

const RATES: &str = "name = 'p'
    shards = 2
    lateness = '10s'
    [[stages]]
    name = 'kind'
    apply.route = { routes = { web = { metrics = ['http_*'] }, db = { metrics = ['sql_*'] } } }
    [[stages]]
    name = 'hosts'
    inputs = ['kind.web', 'kind.db']
    apply.relabel = { rules = [{ action = 'replace', source_labels = ['host'], target_label = 'node' }] }
    [[stages]]
    name = 'rates'
    inputs = ['hosts']
    apply.rate = {}";

fn rates(node: &Node) -> BTreeMap<String, Vec<(i64, f64)>> {
    node.all().into_iter().filter(|(name, _)| name.contains(":rate")).collect()
}

#[test]
fn what_the_last_stage_makes_is_stored_and_made_again_from_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = |last: &[(i64, f64)]| {
        let all = [&[(10, 2.0), (20, 3.0)], last].concat();
        BTreeMap::from([
            ("http_total:rate{host=\"a\",node=\"a\"}".to_owned(), all),
            ("sql_total:rate{host=\"b\",node=\"b\"}".to_owned(), vec![(30, 1.0)]),
        ])
    };
    let node = Node::open(folder.path(), RATES);
    node.put(&[("http_total", "a", 0, 0.0), ("http_total", "a", 10, 20.0), ("sql_total", "b", 0, 0.0)]);
    node.put(&[("other_total", "c", 0, 0.0), ("other_total", "c", 30, 9.0), ("http_total", "a", 20, 50.0)]);
    node.put(&[("sql_total", "b", 30, 30.0), ("http_total", "a", 30, 60.0)]);
    // What could still be overtaken is told at a flush, too.
    node.store.flush().unwrap();
    assert_eq!(rates(&node), wanted(&[(30, 1.0)]));
    assert_eq!(node.all().len(), 5, "{:?}", node.all().keys());
    // What is not flushed comes again from the log.
    node.put(&[("http_total", "a", 40, 100.0), ("http_total", "a", 50, 100.0), ("http_total", "a", 60, 100.0)]);
    drop(node);
    let node = Node::open(folder.path(), RATES);
    node.pipelines.end();
    node.store.flush().unwrap();
    let last = [(30, 1.0), (40, 4.0), (50, 0.0), (60, 0.0)];
    assert_eq!(rates(&node), wanted(&last));
    // One that comes late puts its own rate and the next right.
    node.put(&[("http_total", "a", 35, 70.0), ("http_total", "a", 200, 100.0)]);
    node.store.flush().unwrap();
    let last = [(30, 1.0), (35, 2.0), (40, 6.0), (50, 0.0), (60, 0.0), (200, 0.0)];
    assert_eq!(rates(&node), wanted(&last));
    drop(node);
    assert_eq!(rates(&Node::open(folder.path(), RATES)), wanted(&last));
}

#[test]
fn a_pipeline_is_told_what_its_inputs_may_be() {
    let faults = |text: &str| -> Vec<String> {
        let spec: PipelineSpec = toml::from_str(text).unwrap();
        spec.faults().into_iter().map(|fault| fault.error).collect()
    };
    let of = |inputs: &str| {
        format!(
            "name = 'p'\n[[stages]]\nname = 'r'\napply.route = {{ routes = {{ web = {{}} }} }}\n\
             [[stages]]\nname = 's'\ninputs = ['{inputs}']\napply.throttle = {{ samples_per_second = 1 }}"
        )
    };
    assert_eq!(faults(&of("r.web")), [] as [&str; 0]);
    assert_eq!(faults(&of("r.rest")), [] as [&str; 0]);
    assert_eq!(faults(&of("r")), ["stage `s` takes `r`, which parts its samples: write one or more of r.web, r.rest"]);
    assert_eq!(
        faults(&of("r.db")),
        ["stage `s` takes `r.db`, which is no source or stage before it: write one of live, r.web, r.rest"]
    );
}

#[test]
fn samples_that_pass_unchanged_are_not_stored_twice() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name = 'p'\n[[stages]]\nname = 'rates'\napply.rate = {}";
    let node = Node::open(folder.path(), text);
    node.put(&[("gauge", "a", 0, 1.0), ("gauge", "a", 100, 2.0)]);
    node.put(&[("gauge", "a", 200, 3.0), ("c_total", "a", 200, 3.0)]);
    node.store.flush().unwrap();
    assert_eq!(node.store.stats().samples_at_rest, 4);
}

#[test]
fn ends_wait_for_no_throttle() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name = 'p'\n[[stages]]\nname = 'slow'\napply.throttle = { samples_per_second = 1 }";
    let node = Node::open(folder.path(), text);
    let samples: Vec<(&str, &str, i64, f64)> = (0..100_000).map(|second| ("m", "a", second, 1.0)).collect();
    node.put(&samples);
    node.put(&samples);
    // It would take more than a day.
    node.pipelines.end();
    node.store.flush().unwrap();
}
