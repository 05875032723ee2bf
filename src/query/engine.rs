//! The engine: a session for each statement, over a snapshot of its own, that can read and nothing else.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::SchemaProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;

use super::aggregate::AggregateTracks;
use super::forecast::ForecastFunction;
use super::growth;
use super::instant::InstantFunction;
use super::pace::{Elapsed, PaceJoins};
use super::queries::{End, Limits, Now, Queries, Running, number_to_kill};
use super::size::check_size;
use super::sketch_quantile::sketch_quantile;
use super::system::{MemoryShare, SystemTable, SystemTables, TellMemory};
use super::tables::{CATALOG, SCHEMA, Tables, session};
use crate::store::{Backup, HEAD_FULL, Snapshot, Store, StoreError, StoreStats, Verified, told_with_causes};

/// Bytes that an answer takes as text, for each of its columns in memory.
const TEXT_FACTOR: usize = 4;
/// Bytes a sort sets aside to merge what it spilled.
const SORT_RESERVATION: usize = 10 << 20;

/// Functions that make a value of any size out of two numbers, past every budget: there are none of these.
const UNBOUNDED: [&str; 8] =
    ["repeat", "lpad", "rpad", "array_repeat", "range", "generate_series", "array_resize", "array_pad"];

/// A statement that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is at fault.
    #[error("{0}")]
    Statement(String),
    /// The engine is.
    #[error("the query failed: {0}")]
    Failed(String),
    /// It was ended before its time.
    #[error("{0}")]
    Ended(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        use DataFusionError as E;
        let told = plain(&error.strip_backtrace());
        match error.find_root() {
            E::SQL(..) | E::Plan(_) | E::SchemaError(..) | E::NotImplemented(_) | E::Diagnostic(..) => {
                QueryError::Statement(told)
            }
            E::Execution(_) | E::ArrowError(..) => QueryError::Statement(told),
            E::ResourcesExhausted(_) => QueryError::Statement(
                "the statement needs more memory than queries may hold together, and cannot do with the disk: ask for a \
                 shorter span or fewer groups, or raise `memory`"
                    .to_owned(),
            ),
            _ => QueryError::Failed(told),
        }
    }
}

/// The sentence without the engine's names for kinds of errors.
fn plain(told: &str) -> String {
    let kinds = ["SQL error: ParserError(\"", "Execution error: ", "Error during planning: ", "Schema error: "];
    let kind = kinds.iter().find(|kind| told.starts_with(**kind));
    let rest = kind.map_or(told, |kind| &told[kind.len()..]);
    if told.starts_with(kinds[0]) { rest.trim_end_matches("\")").to_owned() } else { rest.to_owned() }
}

/// Whether a text is a statement, as far as can be told without tables.
pub fn parse(sql: &str) -> Result<(), QueryError> {
    check_size(sql)?;
    datafusion::sql::parser::DFParser::parse_sql(sql).map(|_| ()).map_err(QueryError::from)
}

/// Rows as they come. Dropping it ends the statement.
pub struct Answer {
    pub schema: SchemaRef,
    stream: SendableRecordBatchStream,
    running: Running,
}

impl Answer {
    /// The next rows; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        let next = match self.running.until_ended(self.stream.next()).await {
            Ok(next) => next.map(|batch| batch.map_err(QueryError::from)),
            Err(told) => return Some(Err(QueryError::Ended(told))),
        };
        match &next {
            None => self.running.ends(End::Done),
            Some(Ok(batch)) => self.running.count(batch.num_rows()),
            Some(Err(error)) => self.running.ends(End::Failed(error.to_string())),
        }
        next
    }

    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

/// Answers SQL over a store.
pub struct Engine {
    store: Arc<Store>,
    base: SessionState,
    system: Vec<SystemTable>,
    /// Bytes of the pool.
    memory: usize,
    pool: Arc<dyn MemoryPool>,
    /// Who else holds memory.
    holders: Arc<RwLock<Vec<TellMemory>>>,
    queries: Arc<Queries>,
}

/// An answer in memory, for as long as it is held.
pub struct Held {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    _reservation: MemoryReservation,
}

impl Engine {
    /// `memory` bounds what the statements under way may take together; sorts, joins and aggregates spill beyond.
    pub fn new(store: Arc<Store>, system: Vec<SystemTable>, memory: usize) -> Result<Engine, QueryError> {
        // What each merge of spilled runs sets aside must leave room for the others.
        let set_aside = SORT_RESERVATION.min(memory / (4 * SessionConfig::new().target_partitions()));
        let config = SessionConfig::new()
            .with_sort_spill_reservation_bytes(set_aside)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true);
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc()?;
        // First, while an aggregate still stands right above its scan.
        let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(AggregateTracks)];
        rules.extend(PhysicalOptimizer::new().rules);
        rules.push(Arc::new(PaceJoins(elapsed(&store))));
        let mut base = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_physical_optimizer_rules(rules)
            .build();
        for function in growth::functions() {
            base.register_udaf(Arc::new(function))?;
        }
        let bin = datafusion::functions::datetime::date_bin();
        base.register_udf(Arc::new(ScalarUDF::clone(&bin).with_aliases(["time_bucket"])))?;
        for name in UNBOUNDED {
            base.deregister_udf(name)?;
        }
        let queries = Queries::new(now(&store), elapsed(&store), Limits::default());
        Ok(Engine { store, base, system, memory, pool, holders: Arc::default(), queries })
    }

    /// Runs one statement over the store as it is now; `KILL n` ends that of this number in `system.queries`.
    pub async fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        let mut running = self.queries.begin(sql);
        let begun = match running.until_ended(self.begin(sql)).await {
            Ok(begun) => begun,
            Err(told) => return Err(QueryError::Ended(told)),
        };
        match begun {
            Ok(stream) => Ok(Answer { schema: stream.schema(), stream, running }),
            Err(error) => {
                running.ends(End::Failed(error.to_string()));
                Err(error)
            }
        }
    }

    async fn begin(&self, sql: &str) -> Result<SendableRecordBatchStream, QueryError> {
        if let Some(number) = number_to_kill(sql) {
            return self.kill(number);
        }
        check_size(sql)?;
        let context = self.session(self.store.snapshot())?;
        let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = context.sql_with_options(sql, read_only).await?;
        Ok(frame.execute_stream().await?)
    }

    fn kill(&self, number: u64) -> Result<SendableRecordBatchStream, QueryError> {
        if !self.queries.kill(number) {
            let told = format!("no statement {number} is under way: `SELECT * FROM system.queries` lists them");
            return Err(QueryError::Statement(told));
        }
        let killed: ArrayRef = Arc::new(UInt64Array::from(vec![number]));
        let batch = RecordBatch::try_from_iter([("killed", killed)]).map_err(DataFusionError::from)?;
        Ok(Box::pin(MemoryStream::try_new(vec![batch.clone()], batch.schema(), None)?))
    }

    /// How long statements may take, and which are slow; for those that begin from here on.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Engine {
        Engine { queries: Queries::new(now(&self.store), elapsed(&self.store), limits), ..self }
    }

    /// The same, all rows at once.
    pub async fn collect(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
        let answer = self.query(sql).await?;
        let schema = answer.schema.clone();
        Ok((schema, answer.collect().await?))
    }

    /// All rows at once, and room for their text, as part of what queries may hold.
    ///
    /// # Errors
    /// As [`Engine::query`]; an answer that is larger.
    pub async fn collect_within(&self, sql: &str) -> Result<Held, QueryError> {
        let mut answer = self.query(sql).await?;
        let reservation = MemoryConsumer::new("answer").register(&self.pool);
        let mut held = Held { schema: answer.schema.clone(), batches: Vec::new(), _reservation: reservation };
        while let Some(batch) = answer.next().await {
            let batch = batch?;
            let bytes = batch.get_array_memory_size().saturating_mul(TEXT_FACTOR);
            if held._reservation.try_grow(bytes).is_err() {
                return Err(QueryError::Statement(self.too_large()));
            }
            held.batches.push(batch);
        }
        Ok(held)
    }

    fn too_large(&self) -> String {
        let memory = bytesize::ByteSize::b(self.memory as u64);
        format!(
            "the answer, or it and those under way, are larger than the {memory} that queries may hold: ask for fewer \
             rows or columns, add LIMIT, or raise `memory`; `plimsoll export` writes any number of rows to a file"
        )
    }

    /// Has `system.memory` tell the shares of somebody else, too.
    pub fn tell_memory_of(&self, holder: TellMemory) {
        self.holders.write().unwrap_or_else(PoisonError::into_inner).push(holder);
    }

    fn memory_shares(&self) -> TellMemory {
        let (store, pool, holders) = (Arc::downgrade(&self.store), self.pool.clone(), self.holders.clone());
        let memory = self.memory as u64;
        Arc::new(move || {
            let mut shares = store.upgrade().map_or_else(Vec::new, |store| store_shares(&store));
            let at_limit = "sorts, joins and aggregates spill to disk; a larger answer is refused";
            let bytes = pool.reserved() as u64;
            shares.push(MemoryShare { share: "queries", bytes, limit: Some(memory), at_limit });
            let holders = holders.read().unwrap_or_else(PoisonError::into_inner);
            shares.extend(holders.iter().flat_map(|holder| holder()));
            shares
        })
    }

    /// What the store holds.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Why the store takes no more writes, if so.
    pub fn closed(&self) -> Option<String> {
        self.store.closed()
    }

    /// Why not all that was acknowledged is served; empty where all is well.
    pub fn degraded(&self) -> Vec<String> {
        self.store.degraded()
    }

    /// Reads all that is at rest and holds it against the catalog. Takes as long as the disk does.
    pub fn verify(&self) -> Result<Verified, QueryError> {
        self.store.verify().map_err(|error| QueryError::Failed(told_with_causes(&error)))
    }

    /// Makes a snapshot of the store in a folder that is not there yet.
    pub fn snapshot_to(&self, dir: &Path) -> Result<Backup, QueryError> {
        self.store.snapshot_to(dir).map_err(|error| match error {
            StoreError::Occupied { .. } => QueryError::Statement(error.to_string()),
            _ => QueryError::Failed(told_with_causes(&error)),
        })
    }

    fn session(&self, snapshot: Snapshot) -> Result<SessionContext, QueryError> {
        let tables = Arc::new(Tables::new(snapshot.clone()));
        let (memory, mut others) = (self.memory_shares(), self.system.clone());
        let queries = self.queries.clone();
        let rows = move || queries.rows().expect("columns of one length");
        others.push(SystemTable { name: "queries", rows: Arc::new(rows) });
        let system = Arc::new(SystemTables::new(snapshot.clone(), Arc::downgrade(&self.store), memory, others));
        let schemas: [(&str, Arc<dyn SchemaProvider>); 2] = [(SCHEMA, tables), ("system", system)];
        let context = SessionContext::new_with_state(session(&self.base, schemas)?);
        context.register_udtf("forecast", Arc::new(ForecastFunction::forecast(snapshot.clone())));
        context.register_udtf("capacity_eta", Arc::new(ForecastFunction::capacity_eta(snapshot.clone())));
        context.register_udtf("instant", Arc::new(InstantFunction::new(snapshot)));
        context.register_udf(sketch_quantile());
        Ok(context)
    }
}

fn elapsed(store: &Store) -> Elapsed {
    let clock = store.world().clock.clone();
    Arc::new(move || clock.elapsed())
}

fn now(store: &Store) -> Now {
    let clock = store.world().clock.clone();
    Arc::new(move || clock.now())
}

fn store_shares(store: &Store) -> Vec<MemoryShare> {
    let (stats, spec) = (store.stats(), store.spec());
    let head = spec.head_bytes as u64;
    let share = |share, bytes, limit, at_limit| MemoryShare { share, bytes, limit, at_limit };
    let flushed = "flushed at a third of it; at it senders wait, then are told to come later";
    vec![
        share("samples", stats.head_bytes, Some(head * HEAD_FULL as u64), flushed),
        share("rows of pipelines", stats.rows_bytes, Some(head), "flushed at half of it; at it senders wait"),
        share("series and labels", stats.series_bytes, Some(spec.series_bytes as u64), "no new series are taken"),
        share("indexes of segments", stats.index_bytes, None, "merges make them fewer"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Labels, SeriesDef, Timestamp};
    use crate::store::StoreSpec;
    use crate::world::{Disk, RealDisk, World};

    fn put(store: &Store, minute: i64) {
        let mut batch = Batch::default();
        for field in ["user", "idle"] {
            let mut def = SeriesDef::new(format!("cpu_{field}"), Labels::new([("host", "a")]));
            def.measurement_len = 3;
            let time = Timestamp::from_nanos(1_767_225_600_000_000_000 + minute * 60_000_000_000);
            batch.push(store.registry().intern(def), time, minute as f64);
        }
        store.append(batch).unwrap();
        store.flush().unwrap();
    }

    #[test]
    fn what_was_answered_holds_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap());
        let engine = Engine::new(store.clone(), Vec::new(), 64 << 20).unwrap();
        put(&store, 0);
        put(&store, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let statements = [
            "SELECT count(*) FROM metrics WHERE value >= 0",
            "SELECT * FROM cpu ORDER BY time",
            "SELECT * FROM cpu_user",
            "SELECT * FROM system.memory",
            "SELECT * FROM system.segments",
            "SELECT count(*) FROM rollups",
            "SELECT count(*) FROM forecast('cpu_user', '1h')",
        ];
        for statement in statements {
            runtime.block_on(engine.collect(statement)).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        store.compact().unwrap();
        let files = RealDisk.list(&folder.path().join("samples/2026-01")).unwrap();
        assert_eq!(files.len(), 1, "those that were merged are gone: {files:?}");
    }
}
