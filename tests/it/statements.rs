//! Statements and the rows that they give, as files of `tests/sql/`: over samples in memory, in segments as they are flushed, and
//! merged, where files have summaries.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use plimsoll::model::{Batch, Kind, Labels, SeriesDef, Timestamp};
use plimsoll::query::{Engine, OtherTables, QueryError, QueryLimits};
use plimsoll::store::{Store, StoreSpec};
use plimsoll::world::World;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner};
use tempfile::{TempDir, tempdir};

/// 2026-01-31T12:00:00Z.
const START: i64 = 1_769_860_800_000_000_000;
const TICK: i64 = 10_000_000_000;

/// Where the samples lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    Memory,
    /// A part of them was flushed, and then another.
    Segments,
    Merged,
}

struct Asked {
    engine: Engine,
    runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

impl Asked {
    fn over(rest: Rest) -> Asked {
        let folder = tempdir().unwrap();
        let store = Arc::new(Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap());
        for part in [0..70, 70..180] {
            put(&store, part);
            if rest != Rest::Memory {
                store.flush().unwrap();
            }
        }
        if rest == Rest::Merged {
            store.compact().unwrap();
        }
        let engine = Engine::new(store, OtherTables::default(), 64 << 20, QueryLimits::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Asked { engine, runtime, _folder: folder }
    }
}

fn put(store: &Store, ticks: std::ops::Range<i64>) {
    let mut batch = Batch::default();
    for tick in ticks {
        let time = Timestamp::from_nanos(START + tick * TICK);
        for (number, (host, zone)) in [("a", "east"), ("b", "east"), ("c", "west")].into_iter().enumerate() {
            let user = (tick % 60) as f64 + 100.0 * number as f64;
            let fields = [Some(("cpu_user", user)), (tick % 3 == 0).then_some(("cpu_idle", -user / 4.0))];
            for (metric, value) in fields.into_iter().flatten() {
                let mut def = SeriesDef::new(metric.to_owned(), Labels::new([("host", host), ("zone", zone)]));
                def.measurement_len = 3;
                batch.push(store.registry().intern(def), time, value);
            }
        }
        let mut def = SeriesDef::new("requests_total".to_owned(), Labels::new([("instance", "i")]));
        def.kind = Kind::Counter;
        batch.push(store.registry().intern(def), time, (tick % 90) as f64 * 3.0);
    }
    store.append(batch).unwrap();
}

impl DB for Asked {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let (schema, batches) = self.runtime.block_on(self.engine.collect(sql))?;
        let types = vec![DefaultColumnType::Any; schema.fields().len()];
        Ok(DBOutput::Rows { types, rows: batches.iter().flat_map(texts).collect() })
    }

    fn engine_name(&self) -> &str {
        "plimsoll"
    }
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap());
    let columns: Vec<ArrayFormatter<'_>> = columns.collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn statements_give_the_rows_of_their_files() {
    for rest in [Rest::Memory, Rest::Segments, Rest::Merged] {
        let files = files();
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            let mut runner = Runner::new(|| async move { Ok(Asked::over(rest)) });
            runner.run_file(&file).unwrap_or_else(|error| panic!("{rest:?}: {}", error.display(false)));
        }
    }
}
